//! How much of a worker's time a use may take: a state machine without a clock.

/// Nanoseconds over which time is added up.
const WINDOW: u64 = 1_000_000_000;
/// Parts the window moves on by.
const SLOTS: u64 = 10;
const SLOT: u64 = WINDOW / SLOTS;

/// The time one use took on one worker in the last second, against what it may take. Moments are nanoseconds since
/// the host began.
#[derive(Debug)]
pub(super) struct CpuBudget {
    /// Nanoseconds a window may hold.
    limit: u64,
    /// Time taken by slot; the slot of a moment is `moment / SLOT % SLOTS`.
    slots: [u64; SLOTS as usize],
    sum: u64,
    /// The latest slot that was written, counted from the beginning.
    latest: u64,
    /// All time that was ever reported.
    reported: u64,
}

impl CpuBudget {
    /// `share`: of a worker's time, from 0 to 1. `reported`: the time taken before.
    pub(super) fn new(share: f64, reported: u64) -> Self {
        let limit = (share.clamp(0.0, 1.0) * WINDOW as f64) as u64;
        Self { limit, slots: [0; SLOTS as usize], sum: 0, latest: 0, reported }
    }

    /// Learns that all calls until `now` have taken `total` nanoseconds; answers whether the last second holds more
    /// than it may.
    pub(super) fn is_over(&mut self, now: u64, total: u64) -> bool {
        self.move_on(now / SLOT);
        let more = total.saturating_sub(self.reported);
        self.reported = total;
        self.slots[(self.latest % SLOTS) as usize] += more;
        self.sum += more;
        self.sum > self.limit
    }

    /// Forgets what is older than a window.
    fn move_on(&mut self, slot: u64) {
        if slot.saturating_sub(self.latest) >= SLOTS {
            self.slots = [0; SLOTS as usize];
            self.sum = 0;
            self.latest = slot;
        }
        while self.latest < slot {
            self.latest += 1;
            self.sum -= std::mem::take(&mut self.slots[(self.latest % SLOTS) as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MILLI: u64 = 1_000_000;

    #[test]
    fn a_use_is_over_until_its_time_has_left_the_window() {
        let mut budget = CpuBudget::new(0.05, 0);

        assert!(!budget.is_over(0, 50 * MILLI), "exactly its share");
        assert!(budget.is_over(10 * MILLI, 51 * MILLI));
        assert!(budget.is_over(999 * MILLI, 51 * MILLI));
        assert!(!budget.is_over(1000 * MILLI, 51 * MILLI), "the first slot is out of the window");
        assert!(!budget.is_over(1900 * MILLI, 101 * MILLI));
    }

    #[test]
    fn time_from_before_it_began_does_not_count() {
        let mut budget = CpuBudget::new(0.01, 500 * MILLI);

        assert!(!budget.is_over(0, 509 * MILLI));
        assert!(budget.is_over(0, 511 * MILLI));
    }

    #[test]
    fn a_long_pause_forgets_everything() {
        let mut budget = CpuBudget::new(0.01, 0);
        assert!(budget.is_over(5 * WINDOW, 900 * MILLI));

        assert!(!budget.is_over(1000 * WINDOW, 900 * MILLI));
    }

    proptest! {
        #[test]
        fn no_more_than_the_share_and_one_call_is_taken_in_any_window(
            calls in prop::collection::vec((0u64..60, 1u64..30), 1..300), percent in 1u64..100,
        ) {
            let share = percent as f64 / 100.0;
            let mut budget = CpuBudget::new(share, 0);
            let (mut now, mut total, mut taken) = (0, 0, Vec::new());
            for (pause, length) in calls {
                now += pause * MILLI;
                if !budget.is_over(now, total) {
                    total += length * MILLI;
                    taken.push((now, length * MILLI));
                }
            }
            for (i, &(begin, _)) in taken.iter().enumerate() {
                let inside = taken[i..].iter().take_while(|(at, _)| at - begin <= WINDOW - SLOT);
                let sum: u64 = inside.clone().map(|(_, length)| length).sum();
                let last = inside.last().map_or(0, |(_, length)| *length);
                prop_assert!(sum - last <= (share * WINDOW as f64) as u64, "{sum} ns from {begin}");
            }
        }
    }
}
