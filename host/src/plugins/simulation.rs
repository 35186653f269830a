//! Clocks and chance of the caller's making, and what a call costs: for the commands of a plugin's author.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::plugins::clock::nanos;

/// A world that repeats itself. A use in a simulation reads its clocks and random numbers here, and leaves here what
/// its latest call has cost.
#[derive(Debug)]
pub struct Simulation {
    base: Instant,
    /// Nanoseconds since `base`.
    elapsed: AtomicU64,
    /// Nanoseconds since the Unix epoch, at `base`.
    epoch: u64,
    /// Where the random numbers of a pick come from, and those of every other call.
    chance: [AtomicU64; 2],
    instructions: AtomicU64,
    memory: AtomicUsize,
    copied: AtomicU64,
}

/// What the latest call has cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// What the call executed. Counted by a [metered](crate::plugins::PluginHost::metered) host alone.
    pub instructions: u64,
    /// Bytes of memory and tables the instance has.
    pub memory: usize,
    /// Bytes that host functions have answered with since the simulation began.
    pub copied: u64,
}

impl Simulation {
    /// `base` is when it begins, on the clock of picks; `epoch` is that moment for who looks at the wall.
    pub fn new(base: Instant, epoch: Duration, seed: u64) -> Self {
        Self {
            base,
            elapsed: AtomicU64::new(0),
            epoch: nanos(epoch),
            chance: [AtomicU64::new(seed), AtomicU64::new(!seed)],
            instructions: AtomicU64::new(0),
            memory: AtomicUsize::new(0),
            copied: AtomicU64::new(0),
        }
    }

    /// Chooses other random numbers for the calls of one kind: those in which a balancer picks, or all others.
    pub fn reseed(&self, picks: bool, seed: u64) {
        self.chance[usize::from(!picks)].store(seed, Relaxed);
    }

    pub fn advance(&self, by: Duration) {
        self.elapsed.fetch_add(nanos(by), Relaxed);
    }

    pub fn began(&self) -> Instant {
        self.base
    }

    pub fn now(&self) -> Instant {
        self.base + Duration::from_nanos(self.elapsed.load(Relaxed))
    }

    pub fn cost(&self) -> Cost {
        Cost {
            instructions: self.instructions.load(Relaxed),
            memory: self.memory.load(Relaxed),
            copied: self.copied.load(Relaxed),
        }
    }

    pub(super) fn wall(&self) -> u64 {
        self.epoch.wrapping_add(self.elapsed.load(Relaxed))
    }

    /// SplitMix64.
    pub(super) fn random(&self, picking: bool) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let z = self.chance[usize::from(!picking)].fetch_add(STEP, Relaxed).wrapping_add(STEP);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn called(&self, instructions: u64, memory: usize) {
        self.instructions.store(instructions, Relaxed);
        self.memory.store(memory, Relaxed);
    }

    pub(super) fn copied(&self, bytes: usize) {
        self.copied.fetch_add(bytes as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_numbers_and_time_moves_when_it_is_told_to() {
        let base = Instant::now();
        let [one, other] = [(), ()].map(|()| Simulation::new(base, Duration::from_secs(5), 7));

        assert_eq!([(); 3].map(|()| one.random(true)), [(); 3].map(|()| other.random(true)));
        assert_ne!(one.random(true), other.random(false));
        one.advance(Duration::from_millis(3));
        assert_eq!(one.now(), base + Duration::from_millis(3));
        assert_eq!((one.wall(), other.wall()), (5_003_000_000, 5_000_000_000));
    }
}
