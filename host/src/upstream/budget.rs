//! The retry budget: how much retrying may add to an upstream's load.
//!
//! # Why a share of the last second, and not of what is in flight?
//!
//! When an endpoint dies, everything in flight to it needs another attempt at the same moment: a share of what is
//! in flight would fail most of it (Envoy's `budget_percent`). A share of the last second's requests takes such a
//! burst, and still bounds what a policy that always says "again" adds in any second (Finagle's `RetryBudget`,
//! with a window of one second). Attempts that never reached a server cost nobody anything and are free.

use std::time::Duration;

use tokio::time::Instant;

const BUCKETS: usize = 10;
const BUCKET: Duration = Duration::from_millis(100);

/// Requests and retries of the last second.
#[derive(Debug)]
pub(crate) struct Budget {
    percent: u64,
    min: u64,
    buckets: [Bucket; BUCKETS],
    /// The number of the bucket in use, counted from `start`.
    current: u64,
    start: Instant,
    requests: u64,
    retries: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    requests: u32,
    retries: u32,
}

impl Budget {
    /// Grants `percent` retries for a hundred requests, and `min` a second in any case.
    pub(crate) fn new(percent: u32, min: u32, now: Instant) -> Self {
        Self {
            percent: percent.into(),
            min: min.into(),
            buckets: [Bucket::default(); BUCKETS],
            current: 0,
            start: now,
            requests: 0,
            retries: 0,
        }
    }

    /// Counts a request's first attempt.
    pub(crate) fn request(&mut self, now: Instant) {
        self.advance(now);
        self.bucket().requests += 1;
        self.requests += 1;
    }

    /// Whole retries left now.
    pub(crate) fn left(&mut self, now: Instant) -> u32 {
        self.advance(now);
        let allowed = (self.requests * self.percent / 100).max(self.min);
        u32::try_from(allowed.saturating_sub(self.retries)).unwrap_or(u32::MAX)
    }

    /// Takes a retry out, from the moment it is decided on; `false` when none is left.
    pub(crate) fn withdraw(&mut self, now: Instant) -> bool {
        let granted = self.left(now) > 0;
        if granted {
            self.bucket().retries += 1;
            self.retries += 1;
        }
        granted
    }

    fn bucket(&mut self) -> &mut Bucket {
        &mut self.buckets[self.current as usize % BUCKETS]
    }

    fn advance(&mut self, now: Instant) {
        let number = (now.saturating_duration_since(self.start).as_nanos() / BUCKET.as_nanos()) as u64;
        let passed = number.saturating_sub(self.current).min(BUCKETS as u64);
        if passed == 0 {
            return;
        }
        self.current = number;
        for back in 0..passed {
            let slot = &mut self.buckets[((number - back) % BUCKETS as u64) as usize];
            let old = std::mem::take(slot);
            self.requests -= u64::from(old.requests);
            self.retries -= u64::from(old.retries);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fifth_of_the_last_second_may_be_retried() {
        let start = Instant::now();
        let mut budget = Budget::new(20, 3, start);
        for i in 0..100 {
            budget.request(start + Duration::from_millis(i * 5));
        }
        let now = start + Duration::from_millis(500);

        let granted = (0..100).filter(|_| budget.withdraw(now)).count();

        assert_eq!(granted, 20);
        assert_eq!(budget.left(now + Duration::from_secs(2)), 3);
    }

    proptest! {
        #[test]
        fn no_second_has_more_retries_than_its_share(gaps in prop::collection::vec(0u64..300, 1..300)) {
            let mut now = Instant::now();
            let mut budget = Budget::new(20, 3, now);
            let mut granted: Vec<(Instant, bool)> = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                budget.request(now);
                let retried = budget.withdraw(now);
                granted.push((now, retried));
                // What the window holds at most is what the last 1000 ms held.
                let window: Vec<_> = granted.iter().filter(|(at, _)| now - *at < Duration::from_millis(1000)).collect();
                let retries = granted
                    .iter()
                    .filter(|(at, retried)| *retried && now - *at < Duration::from_millis(900))
                    .count();
                prop_assert!(retries <= (window.len() / 5).max(3), "{retries} of {}", window.len());
            }
        }
    }
}
