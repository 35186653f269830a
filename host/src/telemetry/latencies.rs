//! How long something took, finely enough to compare: eight buckets for each doubling, 16 µs to a minute.

use std::time::Duration;

use super::counter::Counter;

/// The first bucket holds what is shorter than two to this power of nanoseconds (16 µs).
const FIRST: u32 = 14;
/// The last bucket holds what is not shorter than two to this power of nanoseconds (68 s).
const LAST: u32 = 36;
/// Two to this power are the buckets for each doubling.
const FINE: u32 = 3;

const BUCKETS: usize = ((LAST - FIRST) << FINE) as usize + 2;

/// Times as one thread counts them.
#[derive(Debug)]
pub struct Latencies([Counter; BUCKETS]);

/// Times of several threads, added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times(Box<[u64]>);

impl Default for Latencies {
    fn default() -> Self {
        Self([const { Counter::zero() }; BUCKETS])
    }
}

impl Latencies {
    pub fn observe(&self, time: Duration) {
        self.0[bucket(time)].increment();
    }
}

impl Default for Times {
    fn default() -> Self {
        Self([0; BUCKETS].into())
    }
}

impl Times {
    pub fn add(&mut self, latencies: &Latencies) {
        for (sum, counter) in self.0.iter_mut().zip(&latencies.0) {
            *sum += counter.value();
        }
    }

    /// Adds one time.
    pub fn observe(&mut self, time: Duration) {
        self.0[bucket(time)] += 1;
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self(self.0.iter().zip(&earlier.0).map(|(now, then)| now.saturating_sub(*then)).collect())
    }

    /// The sum of both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a + b).collect())
    }

    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// A time that `share` of all are shorter than: at most an eighth too long. `None` when there are none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        let rank = (share * count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let at = self.0.iter().position(|bucket| {
            seen += bucket;
            seen >= rank
        })?;
        Some(bound(at))
    }

    /// How many took about as long as `time`, or longer.
    pub fn from(&self, time: Duration) -> u64 {
        self.0[bucket(time)..].iter().sum()
    }
}

fn bucket(time: Duration) -> usize {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    if nanos >> FIRST == 0 {
        return 0;
    }
    let power = nanos.ilog2();
    if power >= LAST {
        return BUCKETS - 1;
    }
    let fine = (nanos >> (power - FINE)) & ((1 << FINE) - 1);
    1 + (((power - FIRST) << FINE) as usize) + fine as usize
}

/// What all times of a bucket are shorter than; of the last one, what none is shorter than.
fn bound(bucket: usize) -> Duration {
    let (power, fine) = (bucket as u32 >> FINE, bucket as u64 & ((1 << FINE) - 1));
    let power = (power + FIRST).min(LAST);
    let fine = if power == LAST { 0 } else { fine };
    Duration::from_nanos((1 << power) + (fine << (power - FINE)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quantile_is_found_within_an_eighth() {
        let mut times = Times::default();
        for millis in 1..=1000 {
            times.observe(Duration::from_millis(millis));
        }

        for (share, exact) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = times.quantile(share).expect("there are times").as_secs_f64() * 1000.0;
            assert!((exact..=exact * 1.13).contains(&found), "{found} for {share}");
        }
        assert_eq!(Times::default().quantile(0.5), None);
    }

    #[test]
    fn what_workers_counted_is_added_and_taken_apart_again() {
        let (a, b) = (Latencies::default(), Latencies::default());
        a.observe(Duration::ZERO);
        let mut before = Times::default();
        before.add(&a);
        a.observe(Duration::MAX);
        b.observe(Duration::from_millis(1));
        let mut after = Times::default();
        after.add(&a);
        after.add(&b);

        let between = after.since(&before);

        assert_eq!((before.count(), after.count(), between.count()), (1, 3, 2));
        assert_eq!(between.from(Duration::from_secs(1)), 1);
        assert_eq!(before.and(&between), after);
    }

    proptest! {
        #[test]
        fn a_time_is_below_its_bound_and_not_far(nanos in 1u64 << FIRST..1 << LAST) {
            let time = Duration::from_nanos(nanos);
            let above = bound(bucket(time));
            prop_assert!(above > time && above <= time + time / 8 + Duration::from_nanos(1));
            prop_assert!(bucket(above) == bucket(time) + 1);
        }
    }
}
