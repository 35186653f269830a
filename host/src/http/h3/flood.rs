//! Notices a client that makes requests only to take them back (CVE-2023-44487, which HTTP/3 has in common with HTTP/2).
//!
//! What it costs to carry streams is bounded by the library: there are as many at a time as a client may have, and each is
//! replaced only when it has ended on both sides. This is a bound on the requests that are begun for nothing.

use std::time::Duration;

use tokio::time::Instant;

/// How long what happened counts.
const WINDOW: Duration = Duration::from_secs(10);
/// Requests that may be taken back within a window; further ones while they are less than half of all.
const TAKEN_BACK: u64 = 200;

/// Counts the requests of one connection.
pub(super) struct Meter {
    since: Instant,
    begun: u64,
    taken_back: u64,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, begun: 0, taken_back: 0 }
    }

    /// A request has begun.
    pub(super) fn begin(&mut self, now: Instant) {
        if now.duration_since(self.since) >= WINDOW {
            *self = Self::new(now);
        }
        self.begun += 1;
    }

    /// One was taken back. Answers whether that is too much.
    pub(super) fn take_back(&mut self) -> bool {
        self.taken_back += 1;
        self.taken_back > TAKEN_BACK && self.taken_back * 2 > self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_most_requests_back_does_too_much() {
        let now = Instant::now();
        let mut meter = Meter::new(now);
        let mut is_flood = false;
        for _ in 0..=TAKEN_BACK {
            assert!(!is_flood);
            meter.begin(now);
            is_flood = meter.take_back();
        }

        assert!(is_flood);
        meter.begin(now + WINDOW);
        assert!(!meter.take_back());
    }

    #[test]
    fn who_takes_a_few_of_many_back_may() {
        let now = Instant::now();
        let mut meter = Meter::new(now);
        for _ in 0..10 * TAKEN_BACK {
            meter.begin(now);
            meter.begin(now);
            meter.begin(now);

            assert!(!meter.take_back());
        }
    }
}
