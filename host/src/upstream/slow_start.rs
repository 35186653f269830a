//! Slow start: an endpoint that has just joined or come back has a small weight first, which grows to its own.
//!
//! Envoy's formula: the weight is multiplied by `max(min_weight_percent / 100, (age / window)^(1 / aggression))`.
//! With the aggression 1 it grows evenly; a larger one gives more of the traffic early.

use std::time::Duration;

use crate::config::SlowStart;

/// The smallest steps in which a lightest endpoint's weight grows, as parts of it.
const STEPS: u32 = 20;

impl SlowStart {
    /// The share of its weight that an endpoint of this age has; 1 once the window has passed.
    pub(crate) fn share(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let passed = age.max(Duration::from_millis(1)).as_secs_f64() / self.window.as_secs_f64();
        passed.powf(1.0 / self.aggression).clamp(f64::from(self.min_weight_percent) / 100.0, 1.0)
    }

    /// What all weights of an upstream are multiplied with, so that the lightest can grow in steps although weights
    /// are whole numbers. It is the same for as long as the endpoints are, ramps or not: a balancer that has counted
    /// in one measure must not go on in another.
    pub(crate) fn scale(&self, weights: impl Iterator<Item = u32>) -> u32 {
        let least = weights.min().unwrap_or(1).max(1);
        STEPS.max(100u32.div_ceil(self.min_weight_percent.max(1))).div_ceil(least)
    }
}

/// The weight of an endpoint that has a share of it, at least 1.
pub(crate) fn weight(weight: u32, scale: u32, share: f64) -> u32 {
    let whole = weight.saturating_mul(scale);
    ((f64::from(whole) * share).round() as u32).clamp(1, whole.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVEN: SlowStart = SlowStart { window: Duration::from_secs(60), aggression: 1.0, min_weight_percent: 10 };

    #[test]
    fn shares_are_those_of_envoy() {
        for (aggression, seconds, expected) in [
            (1.0, 0, 0.1),
            (1.0, 3, 0.1),
            (1.0, 15, 0.25),
            (1.0, 30, 0.5),
            (1.0, 60, 1.0),
            (1.0, 600, 1.0),
            (2.0, 15, 0.5),
            (2.0, 6, 0.316_227_766),
            (0.5, 30, 0.25),
            (1.5, 15, 0.396_850_263),
        ] {
            let share = SlowStart { aggression, ..EVEN }.share(Duration::from_secs(seconds));
            assert!((share - expected).abs() < 1e-9, "{share} after {seconds} s with aggression {aggression}");
        }
    }

    #[test]
    fn a_weight_of_one_grows_in_steps() {
        let scale = EVEN.scale([1, 1].into_iter());
        assert_eq!(scale, 20);

        let grown: Vec<_> =
            (0..=60).step_by(12).map(|second| weight(1, scale, EVEN.share(Duration::from_secs(second)))).collect();

        assert_eq!(grown, [2, 4, 8, 12, 16, 20]);
    }

    #[test]
    fn heavy_weights_need_no_scale() {
        assert_eq!(EVEN.scale([100, 200].into_iter()), 1);
        assert_eq!(EVEN.scale([5, 65535].into_iter()), 4);
        assert_eq!(SlowStart { min_weight_percent: 1, ..EVEN }.scale([1].into_iter()), 100);
    }

    proptest! {
        #[test]
        fn a_share_only_grows_and_stays_within_its_bounds(
            aggression in 0.1f64..10.0, min_weight_percent in 1u32..=100, ages in prop::collection::vec(0u64..90_000, 2..20)
        ) {
            let slow_start = SlowStart { aggression, min_weight_percent, ..EVEN };
            let mut ages = ages;
            ages.sort_unstable();
            let shares: Vec<_> = ages.iter().map(|&age| slow_start.share(Duration::from_millis(age))).collect();

            prop_assert!(shares.is_sorted());
            prop_assert!(shares.iter().all(|share| (f64::from(min_weight_percent) / 100.0..=1.0).contains(share)));
        }

        #[test]
        fn weights_keep_their_proportions_when_nobody_ramps(weights in prop::collection::vec(1u32..=65535, 1..20)) {
            let scale = EVEN.scale(weights.iter().copied());
            for &own in &weights {
                prop_assert_eq!(weight(own, scale, 1.0), own * scale);
            }
        }
    }
}
