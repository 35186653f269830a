//! Requests and failures within a sliding window.

use std::time::Duration;

/// Pieces of a window. The oldest leaves whole, so that a window holds between nine and ten tenths of its length.
const PIECES: usize = 10;

/// Requests and failures of the latest while.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// The length of one piece.
    length: Duration,
    /// The number of the latest piece that was counted in.
    latest: u64,
    /// By the pieces' numbers, modulo how many there are.
    pieces: [Count; PIECES],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) requests: u32,
    pub(crate) failures: u32,
}

impl Counts {
    /// Counts one request that ended, and answers what the window holds with it. Another length than before starts a
    /// new window.
    pub(crate) fn add(&mut self, window: Duration, failed: bool, now: Duration) -> Count {
        let length = (window / PIECES as u32).max(Duration::from_nanos(1));
        if length != self.length {
            *self = Self { length, ..Self::default() };
        }
        let piece = u64::try_from(now.as_nanos() / length.as_nanos()).unwrap_or(u64::MAX);
        // A moment before the latest one counts as the latest: clocks are read on several threads.
        let passed = piece.saturating_sub(self.latest);
        for gone in 1..=passed.min(PIECES as u64) {
            *self.piece(self.latest.saturating_add(gone)) = Count::default();
        }
        self.latest = self.latest.max(piece);
        let count = self.piece(self.latest);
        count.requests = count.requests.saturating_add(1);
        count.failures = count.failures.saturating_add(failed.into());
        self.pieces.iter().fold(Count::default(), |sum, piece| Count {
            requests: sum.requests.saturating_add(piece.requests),
            failures: sum.failures.saturating_add(piece.failures),
        })
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn piece(&mut self, number: u64) -> &mut Count {
        &mut self.pieces[(number % PIECES as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut counts = Counts::default();
        counts.add(WINDOW, true, at(100));
        counts.add(WINDOW, true, at(105));

        assert_eq!(counts.add(WINDOW, false, at(109)), Count { requests: 3, failures: 2 });
        assert_eq!(counts.add(WINDOW, false, at(110)), Count { requests: 3, failures: 1 });
        assert_eq!(counts.add(WINDOW, false, at(1000)), Count { requests: 1, failures: 0 });
    }

    #[test]
    fn another_length_starts_a_new_window() {
        let mut counts = Counts::default();
        counts.add(WINDOW, true, at(100));

        assert_eq!(counts.add(WINDOW * 2, false, at(100)), Count { requests: 1, failures: 0 });
    }

    proptest! {
        #[test]
        fn a_window_holds_what_ended_within_nine_tenths_and_nothing_beyond_its_length(
            gaps in prop::collection::vec((0u64..4000, any::<bool>()), 1..60)
        ) {
            let mut counts = Counts::default();
            let mut moment = Duration::from_secs(50);
            let mut ended = Vec::new();
            for (gap, failed) in gaps {
                moment += Duration::from_millis(gap);
                ended.push((moment, failed));
                let count = counts.add(WINDOW, failed, moment);
                let within = |length: Duration| {
                    let young = ended.iter().filter(|(at, _)| moment - *at <= length);
                    (young.clone().count() as u32, young.filter(|(_, failed)| *failed).count() as u32)
                };
                let (least, most) = (within(WINDOW * 9 / 10), within(WINDOW));
                prop_assert!((least.0..=most.0).contains(&count.requests));
                prop_assert!((least.1..=most.1).contains(&count.failures));
            }
        }
    }
}
