//! Numbers that one thread writes and any thread reads.
//!
//! With one writer a count is a plain load and store: no locked instruction, and no cache line that travels between
//! cores unless someone scrapes. A second writer would lose counts and do no other harm.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(super) const fn zero() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn increment(&self) {
        self.add(1);
    }

    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How many there are of something now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn increment(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }

    pub fn decrement(&self) {
        self.0.store(self.0.load(Relaxed).saturating_sub(1), Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Where a [`Histogram`] is cut, in nanoseconds: from what a proxy itself takes to what no user waits for.
pub(super) const BUCKETS: [u64; 16] = [
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    60_000_000_000,
];

/// How long something took, counted in fixed buckets from 250 µs to a minute.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Not cumulative; the last one holds what is longer than every bucket.
    counts: [Counter; BUCKETS.len() + 1],
    nanoseconds: Counter,
}

impl Histogram {
    pub fn observe(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[BUCKETS.partition_point(|&limit| limit < nanoseconds)].increment();
        self.nanoseconds.add(nanoseconds);
    }
}

/// The sum of several workers' histograms.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Distribution {
    /// As in [`Histogram`], not cumulative.
    pub(super) counts: [u64; BUCKETS.len() + 1],
    pub(super) nanoseconds: u64,
}

impl Distribution {
    pub(super) fn add(&mut self, histogram: &Histogram) {
        for (sum, counter) in self.counts.iter_mut().zip(&histogram.counts) {
            *sum += counter.value();
        }
        self.nanoseconds = self.nanoseconds.wrapping_add(histogram.nanoseconds.value());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_is_not_shorter() {
        let histogram = Histogram::default();
        for micros in [0, 250, 251, 60_000_000, 60_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        histogram.observe(Duration::MAX);

        let mut sum = Distribution::default();
        sum.add(&histogram);
        sum.add(&Histogram::default());

        assert_eq!([sum.counts[0], sum.counts[1], sum.counts[15], sum.counts[16]], [2, 1, 1, 2]);
        assert_eq!(sum.counts.iter().sum::<u64>(), 6);
    }

    #[test]
    fn a_gauge_does_not_fall_below_nothing() {
        let gauge = Gauge::default();

        gauge.decrement();
        gauge.increment();

        assert_eq!(gauge.value(), 1);
    }
}
