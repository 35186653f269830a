//! Envoy's gradient: how many requests an upstream takes, told by how much longer they take than at rest.
//!
//! # How?
//!
//! From time to time the limit is pinned to `min_limit` until `min_rtt_requests` have been answered: the percentile of
//! their times is what an answer takes when nobody waits for another, the *least time*. Then, every `interval`:
//!
//! ```text
//! gradient = (least time + buffer) / percentile of the interval's times     from 0.5 to 2
//! limit    = gradient × limit + √(gradient × limit)                         from min_limit to max_limit
//! ```
//!
//! The root is headroom: without it nobody would ever find out that there is more room. A limit that has been at its
//! minimum for five intervals in a row casts doubt on the least time, which is measured again then.
//!
//! Source: Envoy's `gradient_controller.cc`. One thing is different: a time ends with the response's head, so that
//! clients who read slowly do not make a server look slow.

use std::time::Duration;

use tokio::time::Instant;

use crate::config;

/// Intervals at the minimum after which the least time is measured again.
const DOUBTFUL: u32 = 5;

/// The state machine: it is told the time, what was sampled, and chance.
#[derive(Debug)]
pub(super) struct Gradient {
    limit: u32,
    least: Option<Duration>,
    phase: Phase,
    /// Intervals in a row at the minimum.
    at_minimum: u32,
}

#[derive(Debug)]
enum Phase {
    /// The least time is being measured; the limit before holds again afterwards.
    Measuring { before: u32 },
    Following {
        /// When the limit is looked at next.
        next: Instant,
        /// When the least time is measured next.
        measure: Instant,
    },
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// [`Gradient::measure`]
    Measure,
    /// [`Gradient::follow`], with what was sampled since the last time.
    Follow,
}

impl Gradient {
    /// It begins by measuring.
    pub(super) fn new(config: &config::Concurrency) -> Self {
        let limit = config.min_limit;
        Self { limit, least: None, phase: Phase::Measuring { before: limit }, at_minimum: 0 }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// The least time, once it is known.
    pub(super) fn least(&self) -> Option<Duration> {
        self.least
    }

    pub(super) fn is_measuring(&self) -> bool {
        matches!(self.phase, Phase::Measuring { .. })
    }

    pub(super) fn due(&self, now: Instant) -> Due {
        match self.phase {
            Phase::Following { measure, .. } if now >= measure => Due::Measure,
            Phase::Following { next, .. } if now >= next => Due::Follow,
            Phase::Following { .. } | Phase::Measuring { .. } => Due::Nothing,
        }
    }

    /// Begins to measure the least time.
    pub(super) fn measure(&mut self, config: &config::Concurrency) {
        if !self.is_measuring() {
            self.phase = Phase::Measuring { before: self.limit };
            self.set(config.min_limit, config);
        }
    }

    /// Enough requests were measured. `random` is from 0 to 1.
    pub(super) fn measured(&mut self, least: Duration, config: &config::Concurrency, random: f64, now: Instant) {
        let Phase::Measuring { before } = self.phase else { return };
        self.least = Some(least);
        self.set(before, config);
        let jitter = config.min_rtt_interval.mul_f64(config.jitter * random);
        self.phase = Phase::Following { next: now + config.interval, measure: now + config.min_rtt_interval + jitter };
    }

    /// An interval is over; `sample` is the percentile of its times, if there were any.
    pub(super) fn follow(&mut self, sample: Option<Duration>, config: &config::Concurrency, now: Instant) {
        let (Phase::Following { next, .. }, Some(least)) = (&mut self.phase, self.least) else { return };
        *next = now + config.interval;
        let Some(sample) = sample else { return };
        let buffered = least.as_secs_f64() * (1.0 + config.buffer);
        // Without a clamp, one strange interval would turn everything over.
        let gradient = (buffered / sample.as_secs_f64().max(f64::MIN_POSITIVE)).clamp(0.5, 2.0);
        let limit = f64::from(self.limit) * gradient;
        self.set((limit + limit.sqrt()) as u32, config);
        if self.at_minimum >= DOUBTFUL {
            self.measure(config);
        }
    }

    fn set(&mut self, limit: u32, config: &config::Concurrency) {
        let limit = limit.clamp(config.min_limit, config.max_limit.max(config.min_limit));
        let stays = !self.is_measuring() && limit == config.min_limit && self.limit == config.min_limit;
        self.at_minimum = if stays { self.at_minimum + 1 } else { 0 };
        self.limit = limit;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn config() -> config::Concurrency {
        config::Concurrency::default()
    }

    /// One that has measured a least time of 10 ms.
    fn measured(now: Instant) -> Gradient {
        let mut gradient = Gradient::new(&config());
        gradient.measured(MS(10), &config(), 0.0, now);
        gradient
    }

    /// The limits after intervals with these times.
    fn limits(gradient: &mut Gradient, now: Instant, times: &[u64]) -> Vec<u32> {
        let follow = |time: &u64| {
            gradient.follow(Some(MS(*time)), &config(), now);
            gradient.limit()
        };
        times.iter().map(follow).collect()
    }

    #[test]
    fn the_limit_follows_the_formula() {
        let now = Instant::now();
        let mut gradient = measured(now);

        // 3 × 1.25 = 3.75, and its root 1.9; 5 × 1.25 = 6.25 and 2.5; 8 × 1.25 = 10 and 3.2; …
        assert_eq!(limits(&mut gradient, now, &[10, 10, 10, 10]), [5, 8, 13, 20]);
        // Close to 12.5 ms the gradient is 1: hardly more than headroom is added.
        assert_eq!(limits(&mut gradient, now, &[12]), [25]);
        // Twice as slow, and slower: never less than a half at a time.
        assert_eq!(limits(&mut gradient, now, &[25, 1000]), [16, 10]);
        // And never more than twice.
        assert_eq!(limits(&mut gradient, now, &[1]), [24]);
    }

    #[test]
    fn an_upstream_at_rest_is_given_up_to_the_most() {
        let now = Instant::now();
        let mut gradient = measured(now);

        assert_eq!(limits(&mut gradient, now, &[10; 40]).last(), Some(&1000));
    }

    #[test]
    fn the_limit_is_pinned_while_the_least_time_is_measured_and_comes_back() {
        let now = Instant::now();
        let mut gradient = measured(now);
        limits(&mut gradient, now, &[10, 10, 10]);
        assert_eq!(gradient.due(now + MS(100)), Due::Follow);
        let minute = now + Duration::from_secs(60);
        assert_eq!(gradient.due(minute), Due::Measure);

        gradient.measure(&config());
        assert_eq!((gradient.limit(), gradient.due(minute + MS(500))), (3, Due::Nothing));
        gradient.follow(Some(MS(1)), &config(), minute);
        assert_eq!(gradient.limit(), 3);
        gradient.measured(MS(20), &config(), 1.0, minute);

        assert_eq!((gradient.limit(), gradient.least()), (13, Some(MS(20))));
        let jittered = minute + Duration::from_secs(69);
        assert_eq!([gradient.due(jittered - MS(1)), gradient.due(jittered)], [Due::Follow, Due::Measure]);
    }

    #[test]
    fn five_intervals_at_the_minimum_have_the_least_time_measured_again() {
        let now = Instant::now();
        let mut gradient = measured(now);
        // 3 halved and its root make 2.7.
        limits(&mut gradient, now, &[100; 4]);
        assert!(!gradient.is_measuring());

        limits(&mut gradient, now, &[100]);

        assert!(gradient.is_measuring());
        assert_eq!(gradient.limit(), 3);
    }

    #[test]
    fn an_interval_without_requests_changes_nothing() {
        let now = Instant::now();
        let mut gradient = measured(now);

        gradient.follow(None, &config(), now);

        assert_eq!((gradient.limit(), gradient.due(now), gradient.due(now + MS(100))), (3, Due::Nothing, Due::Follow));
    }

    proptest! {
        #[test]
        fn the_limit_stays_within_its_bounds(times in prop::collection::vec(0u64..5_000_000, 1..200)) {
            let now = Instant::now();
            let mut gradient = measured(now);
            for time in times {
                let before = gradient.limit();
                gradient.follow(Some(Duration::from_micros(time)), &config(), now);
                let limit = f64::from(gradient.limit());
                prop_assert!((3.0..=1000.0).contains(&limit));
                let most = 2.0 * f64::from(before);
                prop_assert!(limit <= most + most.sqrt() && (limit + 1.0 >= f64::from(before) / 2.0));
                if gradient.is_measuring() {
                    gradient.measured(MS(10), &config(), 0.5, now);
                }
            }
        }
    }
}
