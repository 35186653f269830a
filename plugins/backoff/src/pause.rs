//! How long to wait before another attempt.

use std::time::Duration;

use staunch_plugin::Config;

/// Envoy's intervals.
const BASE: Duration = Duration::from_millis(25);
/// The longest interval is this many times the first.
const MAX_FACTOR: u32 = 10;
/// Longer than this no client's request is held; the answer says how long the client should wait.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Pauses that grow with each attempt, drawn anew each time so that clients that failed together do not come back
/// together.
#[derive(Debug)]
pub(crate) struct Pause {
    base: Duration,
    max: Duration,
    /// The longest `retry-after` that is waited for; `None` when nobody looks at it.
    max_retry_after: Option<Duration>,
}

impl Pause {
    /// Reads the settings, and notes what is wrong with them.
    pub(crate) fn read(config: &Config) -> Self {
        let base = config.get_or("base", BASE);
        let max = config.get_or("max", base.saturating_mul(MAX_FACTOR));
        if max < base {
            config.issue("max", "must not be less than `base`");
        }
        let longest = config.get_or("max_retry_after", MAX_RETRY_AFTER);
        let max_retry_after = config.get_or("retry_after", true).then_some(longest);
        Self { base, max, max_retry_after }
    }

    /// The pause after attempt number `attempt`, counted from 0. `asked` is what the endpoint wants; none when that
    /// is too long to be waited for.
    pub(crate) fn before_retry(&self, attempt: u32, asked: Option<Duration>, random: u64) -> Option<Duration> {
        match (asked, self.max_retry_after) {
            (Some(asked), Some(max)) if asked > max => None,
            // Never earlier than asked, and not all at the same moment.
            (Some(asked), Some(_)) if asked > Duration::ZERO => Some(asked + share(asked / 2, random)),
            _ => Some(share(self.interval(attempt), random)),
        }
    }

    /// The n-th retry waits for less than (2^n - 1) times the base, and never for longer than the maximum.
    fn interval(&self, attempt: u32) -> Duration {
        let factor = 2u32.checked_pow(attempt.saturating_add(1)).map_or(u32::MAX, |power| power - 1);
        self.base.saturating_mul(factor).min(self.max)
    }
}

/// An even share of a length of time, as chance has it.
fn share(length: Duration, random: u64) -> Duration {
    let share = (length.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAUSE: Pause = Pause { base: BASE, max: Duration::from_millis(250), max_retry_after: Some(MAX_RETRY_AFTER) };

    #[test]
    fn the_bounds_are_envoys() {
        let bounds: Vec<u128> = (0..6).map(|attempt| PAUSE.interval(attempt).as_millis()).collect();

        assert_eq!(bounds, [25, 75, 175, 250, 250, 250]);
        assert_eq!(PAUSE.interval(u32::MAX), PAUSE.max);
    }

    #[test]
    fn chance_uses_the_whole_of_an_interval() {
        assert_eq!(PAUSE.before_retry(1, None, 0), Some(Duration::ZERO));
        assert_eq!(PAUSE.before_retry(1, None, u64::MAX / 2 + 1), Some(Duration::from_micros(37_500)));
        assert_eq!(PAUSE.before_retry(1, None, u64::MAX), Some(Duration::from_millis(75) - Duration::from_nanos(1)));
    }

    proptest! {
        #[test]
        fn a_pause_is_within_its_bounds(attempt: u32, random: u64, asked in 0u64..6000) {
            let pause = PAUSE.before_retry(attempt, None, random).expect("nothing was asked for");
            prop_assert!(pause < PAUSE.max);

            let asked = Duration::from_millis(asked);
            match PAUSE.before_retry(attempt, Some(asked), random) {
                Some(pause) => prop_assert!(
                    asked <= MAX_RETRY_AFTER && (pause < PAUSE.max || (asked..asked * 3 / 2).contains(&pause))
                ),
                None => prop_assert!(asked > MAX_RETRY_AFTER),
            }
        }
    }
}
