//! Counts of a sliding time, which each worker keeps for itself and anybody may add up.
//!
//! # Why not one counter for all?
//!
//! Every request is counted, and hardly one asks for the sum: a retry that wants to be paid for, a failure that may
//! open a breaker. So counting is a load and a store on memory of the worker's own, and only who asks reads them all.
//!
//! The time is cut into buckets that begin at the same moments on every worker. A bucket's number stands in the same
//! word as its count, so that no reader takes an old count for a new one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// `KINDS` things counted in each of the last buckets of every worker.
#[derive(Debug)]
pub(crate) struct Window<const KINDS: usize> {
    workers: Box<[Ring<KINDS>]>,
    /// Nanoseconds.
    bucket: u64,
    start: Instant,
}

/// One worker's counts, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Ring<const KINDS: usize>(Box<[Bucket<KINDS>]>);

/// By kind: the number of the bucket in the upper half, the count in the lower one.
type Bucket<const KINDS: usize> = [AtomicU64; KINDS];

const COUNT: u64 = u32::MAX as u64;

impl<const KINDS: usize> Window<KINDS> {
    /// Remembers `buckets` lengths of time, the one that runs among them.
    pub(crate) fn new(workers: usize, buckets: usize, bucket: Duration, now: Instant) -> Self {
        let ring = || Ring((0..buckets).map(|_| [const { AtomicU64::new(0) }; KINDS]).collect());
        let bucket = u64::try_from(bucket.as_nanos()).unwrap_or(u64::MAX).max(1);
        Self { workers: (0..workers).map(|_| ring()).collect(), bucket, start: now }
    }

    /// Counts one. Only `worker` itself may call this for its number.
    pub(crate) fn count(&self, worker: usize, kind: usize, now: Instant) {
        let number = self.number(now);
        let Some(Ring(buckets)) = self.workers.get(worker) else { return };
        let Some(count) = buckets[number as usize % buckets.len()].get(kind) else { return };
        let known = count.load(Relaxed);
        let known = if known >> 32 == number { known } else { number << 32 };
        count.store(if known & COUNT == COUNT { known } else { known + 1 }, Relaxed);
    }

    /// What all workers counted in the bucket that runs and in those before it, `buckets` together; nothing from
    /// before the bucket in which `since` lies.
    pub(crate) fn sum(&self, kind: usize, buckets: u64, since: Option<Instant>, now: Instant) -> u64 {
        let last = self.number(now);
        let first = (last + 1).saturating_sub(buckets).max(since.map_or(0, |since| self.number(since)));
        let of_ring = |Ring(ring): &Ring<KINDS>| -> u64 {
            let counts = ring.iter().filter_map(|bucket| bucket.get(kind)).map(|count| count.load(Relaxed));
            counts.filter(|count| (first..=last).contains(&(count >> 32))).map(|count| count & COUNT).sum()
        };
        self.workers.iter().map(of_ring).sum()
    }

    /// The bucket of a moment. Far enough from 0 that a bucket never used belongs to none.
    fn number(&self, now: Instant) -> u64 {
        // Centuries fit.
        let passed = now.saturating_duration_since(self.start).as_nanos() as u64 / self.bucket;
        (passed + 1) & COUNT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKET: Duration = Duration::from_millis(100);

    #[test]
    fn workers_are_added_up_and_old_buckets_forgotten() {
        let start = Instant::now();
        let window = Window::<2>::new(2, 10, BUCKET, start);

        window.count(0, 0, start);
        window.count(1, 0, start + BUCKET);
        window.count(1, 0, start + BUCKET);
        window.count(1, 1, start + BUCKET);

        let sum = |kind, at: u32| window.sum(kind, 10, None, start + BUCKET * at);
        assert_eq!([sum(0, 1), sum(1, 1), sum(0, 9), sum(0, 10), sum(0, 11)], [3, 1, 3, 2, 0]);
        assert_eq!(window.sum(0, 1, None, start + BUCKET), 2, "the bucket that runs");
        assert_eq!(window.sum(0, 10, Some(start + BUCKET), start + BUCKET), 2, "from a moment on");
    }

    #[test]
    fn a_bucket_is_used_again_from_nothing() {
        let start = Instant::now();
        let window = Window::<1>::new(1, 10, BUCKET, start);
        window.count(0, 0, start);

        window.count(0, 0, start + BUCKET * 10);

        assert_eq!(window.sum(0, 10, None, start + BUCKET * 10), 1);
    }

    #[test]
    fn a_worker_that_does_not_exist_counts_nothing() {
        let start = Instant::now();
        let window = Window::<1>::new(1, 10, BUCKET, start);

        window.count(7, 0, start);

        assert_eq!(window.sum(0, 10, None, start), 0);
    }
}
