//! What it costs to send a request to an endpoint (linkerd's and Finagle's peak EWMA).
//!
//! A mean of latencies that a peak lifts at once and that comes down slowly, times the requests there would be in
//! flight. So an endpoint that stalls once is avoided from then on, and is trusted again as time passes.

use std::time::Duration;

use staunch_plugin::Instant;

/// The latency of one endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    /// In nanoseconds, as of `updated`.
    estimate: f64,
    updated: Instant,
}

impl Latency {
    /// What is assumed before anything is known.
    pub(crate) fn new(default: Duration, now: Instant) -> Self {
        Self { estimate: nanos(default), updated: now }
    }

    /// Takes in a latency: a peak as it is, less with the weight of the time since the last one.
    pub(crate) fn observe(&mut self, latency: Duration, now: Instant, decay: Duration) {
        let latency = nanos(latency);
        self.estimate = if latency > self.estimate {
            latency
        } else {
            let kept = self.kept(now, decay);
            self.estimate * kept + latency * (1.0 - kept)
        };
        self.updated = now;
    }

    /// Takes in the time of a failure, which counts only if it was long: failing quickly is not being quick.
    pub(crate) fn observe_failure(&mut self, latency: Duration, now: Instant, decay: Duration) {
        if nanos(latency) > self.now(now, decay) {
            self.observe(latency, now, decay);
        }
    }

    /// What is known, for [`recall`](Self::recall).
    pub(crate) fn known(&self) -> [u64; 2] {
        [self.estimate.to_bits(), self.updated.as_nanos()]
    }

    /// Takes over what another instance knew.
    pub(crate) fn recall(&mut self, [estimate, updated]: [u64; 2]) {
        let estimate = f64::from_bits(estimate);
        if estimate.is_finite() && estimate >= 0.0 {
            *self = Self { estimate, updated: Instant::from_nanos(updated) };
        }
    }

    /// What a request costs that comes to so many.
    pub(crate) fn cost(&self, active: u32, now: Instant, decay: Duration) -> f64 {
        self.now(now, decay) * (f64::from(active) + 1.0)
    }

    /// Comes down to nothing while nothing is heard.
    fn now(&self, now: Instant, decay: Duration) -> f64 {
        self.estimate * self.kept(now, decay)
    }

    fn kept(&self, now: Instant, decay: Duration) -> f64 {
        (-nanos(now.since(self.updated)) / nanos(decay).max(1.0)).exp()
    }
}

fn nanos(length: Duration) -> f64 {
    length.as_nanos() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(7);
    const DECAY: Duration = Duration::from_secs(10);

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn assert_cost(latency: &Latency, active: u32, at: u64, millis_expected: f64) {
        let cost = latency.cost(active, START + millis(at), DECAY) / 1e6;
        assert!((cost - millis_expected).abs() < 0.001, "{cost} in place of {millis_expected}, at {at} ms");
    }

    #[test]
    fn a_peak_counts_at_once_and_comes_down_with_time() {
        let mut latency = Latency::new(millis(30), START);
        assert_cost(&latency, 0, 0, 30.0);

        latency.observe(millis(100), START, DECAY);
        assert_cost(&latency, 0, 0, 100.0);

        // By hand: 100 / e^0.5 and 100 / e.
        assert_cost(&latency, 0, 5_000, 60.6531);
        assert_cost(&latency, 0, 10_000, 36.7879);
    }

    #[test]
    fn less_than_the_peak_counts_by_the_time_since() {
        let mut latency = Latency::new(millis(100), START);

        latency.observe(millis(20), START, DECAY);
        assert_cost(&latency, 0, 0, 100.0);

        // By hand: 100 / e + 20 × (1 - 1/e) = 36.7879 + 12.6424.
        latency.observe(millis(20), START + millis(10_000), DECAY);
        assert_cost(&latency, 0, 10_000, 49.4304);
        // And 49.4304 / e^0.1 + 10 × (1 - e^-0.1) = 44.7265 + 0.9516.
        latency.observe(millis(10), START + millis(11_000), DECAY);
        assert_cost(&latency, 0, 11_000, 45.6781);
    }

    #[test]
    fn requests_in_flight_multiply_it() {
        let latency = Latency::new(millis(30), START);

        assert_cost(&latency, 1, 0, 60.0);
        assert_cost(&latency, 9, 0, 300.0);
    }

    #[test]
    fn only_a_long_failure_counts() {
        let mut latency = Latency::new(millis(30), START);

        latency.observe_failure(millis(1), START + millis(10_000), DECAY);
        assert_cost(&latency, 0, 0, 30.0);

        latency.observe_failure(millis(5_000), START, DECAY);
        assert_cost(&latency, 0, 0, 5_000.0);
    }

    #[test]
    fn another_takes_over_what_is_known_unless_it_is_no_number() {
        let mut before = Latency::new(millis(30), START);
        before.observe(millis(100), START, DECAY);

        let mut after = Latency::new(millis(30), START + millis(5_000));
        after.recall(before.known());
        for wrong in [f64::NAN, f64::INFINITY, -1.0] {
            after.recall([wrong.to_bits(), 7]);
        }

        assert_cost(&after, 0, 5_000, 60.6531);
    }

    #[test]
    fn no_length_of_time_makes_it_no_number() {
        let mut latency = Latency::new(Duration::MAX, START);
        latency.observe(Duration::MAX, Instant::from_nanos(0), Duration::ZERO);

        for decay in [Duration::ZERO, Duration::MAX] {
            for now in [0, 7, u64::MAX] {
                assert!(latency.cost(u32::MAX, Instant::from_nanos(now), decay).is_finite());
            }
        }
    }
}
