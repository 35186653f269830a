//! Keeps a log from drowning in what happens a thousand times a second.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

/// Lets one event pass a second, whichever thread it comes from, and counts the others.
#[derive(Debug, Default)]
pub struct Seldom {
    /// The second of the last that passed, from 1.
    passed: AtomicU64,
    kept_back: AtomicU64,
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Seldom {
    pub const fn new() -> Self {
        Self { passed: AtomicU64::new(0), kept_back: AtomicU64::new(0) }
    }

    /// Whether this event passes: with how many were kept back since the last that did.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        let second = now.saturating_duration_since(*START).as_secs() + 1;
        if self.passed.fetch_max(second, Relaxed) < second {
            return Some(self.kept_back.swap(0, Relaxed));
        }
        self.kept_back.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_passes_a_second_and_tells_of_the_others() {
        let seldom = Seldom::default();
        let now = Instant::now();
        // The first second may have begun after `now`.
        let later = now + Duration::from_secs(2);

        assert_eq!([now, now, now, later, later].map(|at| seldom.pass(at)), [Some(0), None, None, Some(2), None]);
    }
}
