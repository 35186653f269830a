//! When a use of a plugin is left out for a while: a state machine without a clock.

use std::time::Duration;

/// Faults within [`WINDOW`] that trip a use.
const LIMIT: usize = 3;
const WINDOW: Duration = Duration::from_secs(10);
/// The first back-off; each further one doubles it.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Time without a fault, after a back-off has passed, that makes the next one the first again.
const CALM: Duration = Duration::from_secs(60);

/// Why a call brought nothing usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The plugin trapped.
    Trap,
    /// It used more CPU time than a call may.
    Deadline,
    /// It asked for more memory than it may have.
    Memory,
    /// Its answer cannot be used: an unknown endpoint, a forbidden header, bytes that break the contract.
    Answer,
    /// A fresh instance refused the configuration that an earlier one accepted.
    Refused,
}

impl Cause {
    pub const ALL: [Self; 5] = [Self::Trap, Self::Deadline, Self::Memory, Self::Answer, Self::Refused];

    /// As a metric's label says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Answer => "answer",
            Self::Refused => "refused",
        }
    }
}

/// Trips after [`LIMIT`] faults within [`WINDOW`]. Moments are times since the host began.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// The latest faults, oldest first.
    recent: Vec<Duration>,
    /// Back-offs in a row.
    level: u32,
    until: Option<Duration>,
}

impl Breaker {
    /// Takes a fault in. Answers until when the use is tripped, if this fault did it. `random` spreads the back-offs
    /// of many uses by a quarter to either side.
    pub(super) fn fault(&mut self, now: Duration, random: u64) -> Option<Duration> {
        if self.is_tripped(now) {
            return None;
        }
        if self.until.is_some_and(|until| now >= until + CALM) {
            self.level = 0;
            self.until = None;
        }
        self.recent.retain(|&at| at + WINDOW > now);
        self.recent.push(now);
        if self.recent.len() < LIMIT {
            return None;
        }
        // The faults are kept: one more soon after the back-off trips again.
        self.recent.remove(0);
        let base = FIRST.saturating_mul(1 << self.level.min(6)).min(LONGEST);
        self.level = self.level.saturating_add(1);
        let jitter = 750 + u32::try_from(random % 501).unwrap_or(0);
        let until = now + base * jitter / 1000;
        self.until = Some(until);
        Some(until)
    }

    pub(super) fn is_tripped(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIDDLE: u64 = 250;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn three_faults_within_ten_seconds_trip() {
        let mut breaker = Breaker::default();

        assert_eq!(breaker.fault(seconds(0), MIDDLE), None);
        assert_eq!(breaker.fault(seconds(5), MIDDLE), None);
        assert_eq!(breaker.fault(seconds(9), MIDDLE), Some(seconds(10)));
        assert!(breaker.is_tripped(seconds(9)));
        assert!(!breaker.is_tripped(seconds(10)));
    }

    #[test]
    fn faults_further_apart_do_not_trip() {
        let mut breaker = Breaker::default();

        for i in 0..20 {
            assert_eq!(breaker.fault(seconds(i * 5), MIDDLE), None, "fault {i}");
        }
    }

    #[test]
    fn the_back_off_doubles_to_a_minute() {
        let mut breaker = Breaker::default();
        let mut now = seconds(0);
        let mut lengths = Vec::new();

        while lengths.len() < 9 {
            if let Some(until) = breaker.fault(now, MIDDLE) {
                lengths.push((until - now).as_secs());
                now = until;
            }
        }

        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_calm_minute_makes_the_next_back_off_the_first() {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            breaker.fault(seconds(0), MIDDLE);
        }
        assert_eq!(breaker.fault(seconds(1), MIDDLE), Some(seconds(3)), "one more fault at once doubles");

        let calm = seconds(3) + CALM;
        assert_eq!(breaker.fault(calm, MIDDLE), None);
        breaker.fault(calm, MIDDLE);

        assert_eq!(breaker.fault(calm, MIDDLE), Some(calm + FIRST));
    }

    #[test]
    fn jitter_stays_within_a_quarter() {
        for random in [0, 1, 249, 500, 501, u64::MAX] {
            let mut breaker = Breaker::default();
            breaker.fault(seconds(0), random);
            breaker.fault(seconds(0), random);
            let until = breaker.fault(seconds(0), random).expect("the third fault trips");
            assert!((750..=1250).contains(&until.as_millis()), "{until:?} for {random}");
        }
    }

    #[test]
    fn faults_of_calls_that_were_under_way_do_not_lengthen_a_back_off() {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            breaker.fault(seconds(0), MIDDLE);
        }

        assert_eq!(breaker.fault(Duration::from_millis(500), MIDDLE), None);
        assert!(!breaker.is_tripped(seconds(1)));
    }

    proptest! {
        #[test]
        fn no_back_off_is_unearned_or_without_end(pauses in prop::collection::vec(0u64..20_000, 1..200), random: u64) {
            let mut breaker = Breaker::default();
            let (mut now, mut counted) = (Duration::ZERO, Vec::new());
            for pause in pauses {
                now += Duration::from_millis(pause);
                if breaker.is_tripped(now) {
                    prop_assert_eq!(breaker.fault(now, random), None);
                    continue;
                }
                counted.push(now);
                if let Some(until) = breaker.fault(now, random) {
                    let recent = counted.iter().filter(|&&at| at + WINDOW > now).count();
                    prop_assert!(recent >= LIMIT);
                    prop_assert!(until > now && until <= now + LONGEST * 5 / 4);
                }
            }
        }
    }
}
