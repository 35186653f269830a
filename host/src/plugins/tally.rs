//! Live instances of one use and the memory they have, over all workers and versions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What is alive of one use.
#[derive(Debug, Default)]
pub(super) struct Tally {
    instances: AtomicU64,
    memory: AtomicU64,
    peak: AtomicU64,
}

/// One instance's part of a tally, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    tally: Arc<Tally>,
    memory: u64,
}

impl Tally {
    pub(super) fn instances(&self) -> u64 {
        self.instances.load(Relaxed)
    }

    /// Bytes of memory and tables now.
    pub(super) fn memory(&self) -> u64 {
        self.memory.load(Relaxed)
    }

    /// The most bytes there ever were at once.
    pub(super) fn peak(&self) -> u64 {
        self.peak.load(Relaxed)
    }
}

impl Counted {
    pub(super) fn new(tally: Arc<Tally>) -> Self {
        tally.instances.fetch_add(1, Relaxed);
        Self { tally, memory: 0 }
    }

    /// Bytes this instance has.
    pub(super) fn memory(&self) -> usize {
        usize::try_from(self.memory).unwrap_or(usize::MAX)
    }

    pub(super) fn grow(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.memory += bytes;
        let now = self.tally.memory.fetch_add(bytes, Relaxed) + bytes;
        self.tally.peak.fetch_max(now, Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.tally.instances.fetch_sub(1, Relaxed);
        self.tally.memory.fetch_sub(self.memory, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_given_back_and_the_peak_stays() {
        let tally = Arc::<Tally>::default();
        let (mut first, mut second) = (Counted::new(tally.clone()), Counted::new(tally.clone()));
        first.grow(10);
        second.grow(5);
        assert_eq!((tally.instances(), tally.memory(), tally.peak()), (2, 15, 15));

        drop(first);
        second.grow(1);

        assert_eq!((tally.instances(), tally.memory(), tally.peak()), (1, 6, 15));
    }
}
