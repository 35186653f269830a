//! How fast a peer has to be, over a whole body and not only from one byte to the next.
//!
//! A time limit between two reads is kept by whoever sends a byte just before it passes, and so holds a request, and the
//! endpoint's connection with it, for as long as it likes. What counts here is the time spent waiting for the peer, and for
//! nobody else: it may be as long as a grace period and what the bytes that came needed at the least rate.

use std::time::Duration;

use tokio::time::Instant;

/// One direction of a connection, during one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Bytes a second.
    rate: u64,
    moved: u64,
    waited: Duration,
    /// Since when the peer is waited for.
    since: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), moved: 0, waited: Duration::ZERO, since: None }
    }

    /// So many bytes have passed. `now` is asked for only after a wait.
    pub(crate) fn moved(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        self.moved = self.moved.saturating_add(bytes as u64);
        if let Some(since) = self.since.take() {
            self.waited = self.waited.saturating_add(now().saturating_duration_since(since));
        }
    }

    /// Nothing passes now. Answers when the peer will have been too slow.
    pub(crate) fn waits(&mut self, grace: Duration, now: Instant) -> Instant {
        let since = *self.since.get_or_insert(now);
        // In parts, as the product of bytes and nanoseconds is beyond 64 bits.
        let earned = Duration::from_secs(self.moved / self.rate)
            + Duration::from_nanos(((self.moved % self.rate) as u128 * 1_000_000_000 / self.rate as u128) as u64);
        let left = grace.saturating_add(earned).saturating_sub(self.waited);
        // A moment beyond the clock never comes.
        since.checked_add(left).unwrap_or(since + Duration::from_secs(u32::MAX.into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    #[test]
    fn a_peer_that_sends_a_byte_before_every_timeout_is_too_slow_after_the_grace() {
        let mut pace = Pace::new(1000);
        let mut now = Instant::now();
        let began = now;

        while pace.waits(GRACE, now) > now + Duration::from_secs(1) {
            now += Duration::from_secs(1);
            pace.moved(1, || now);
        }

        assert_eq!((now - began).as_secs(), 59);
    }

    #[test]
    fn a_peer_that_keeps_the_rate_is_never_too_slow() {
        let mut pace = Pace::new(1000);
        let mut now = Instant::now();
        for _ in 0..100_000 {
            assert!(pace.waits(GRACE, now) >= now + GRACE);
            now += Duration::from_secs(1);
            pace.moved(1000, || now);
        }
    }

    #[test]
    fn time_in_which_nobody_waits_for_the_peer_does_not_count() {
        let mut pace = Pace::new(1000);
        let began = Instant::now();
        assert_eq!(pace.waits(GRACE, began), began + GRACE);
        pace.moved(500, || began + Duration::from_secs(20));

        // The endpoint took its time.
        let later = began + Duration::from_secs(3600);

        assert_eq!(pace.waits(GRACE, later), later + Duration::from_millis(40_500));
        assert_eq!(pace.waits(GRACE, later + Duration::from_secs(1)), later + Duration::from_millis(40_500));
    }

    proptest! {
        #[test]
        fn no_numbers_are_too_large(rate in any::<u64>(), bytes in any::<usize>(), grace in any::<u64>()) {
            let mut pace = Pace::new(rate);
            let now = Instant::now();
            pace.moved(bytes, || now);
            pace.moved(bytes, || now);
            prop_assert!(pace.waits(Duration::from_secs(grace), now) >= now);
        }
    }
}
