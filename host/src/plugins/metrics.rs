//! The metrics plugins keep: named once per use, counted on each worker without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// Metrics one use may have.
pub(super) const MAX_METRICS: usize = 64;
/// Bytes a metric's name may have.
const MAX_NAME: usize = 64;
/// Buckets a histogram may have.
const MAX_BOUNDS: usize = 64;
/// The handle that records nothing.
pub(super) const NOTHING: u32 = u32::MAX;

/// What a metric is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Counter,
    Gauge,
    /// With its upper bucket bounds, in rising order.
    Histogram(Arc<[f64]>),
}

/// A metric of a plugin, as it stands, over all workers.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginMetric {
    /// As the plugin names it: letters, digits and underscores.
    pub name: String,
    pub value: MetricValue,
}

#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    Counter(u64),
    /// The value set last on any worker.
    Gauge(f64),
    Histogram {
        bounds: Arc<[f64]>,
        /// For each bound, and beyond the last: values up to it and above the one before. Not cumulative.
        counts: Vec<u64>,
        sum: f64,
    },
}

/// The metrics of one use.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    defined: Mutex<Vec<Metric>>,
}

#[derive(Debug)]
struct Metric {
    name: String,
    shape: Shape,
    /// A gauge's only one, else one for each worker that uses it.
    cells: Vec<(usize, Arc<Cells>)>,
}

/// The numbers of one metric on one worker. Written by that worker's thread alone, but for gauges.
#[derive(Debug)]
pub(super) struct Cells {
    shape: Shape,
    /// A count, a gauge's bits, or the counts of a histogram's buckets.
    numbers: Box<[AtomicU64]>,
    /// Of a histogram: bits of the sum.
    sum: AtomicU64,
}

impl Metrics {
    /// Names a metric for a worker. `None` when the name cannot be one, means another metric, or is past the quota.
    pub(super) fn define(&self, worker: usize, name: &str, shape: Shape) -> Option<(u32, Arc<Cells>)> {
        if !is_metric_name(name) || !is_possible(&shape) {
            return None;
        }
        let mut defined = self.defined.lock();
        let id = match defined.iter().position(|metric| metric.name == name) {
            Some(id) if defined[id].shape == shape => id,
            Some(_) => return None,
            None if defined.len() >= MAX_METRICS => return None,
            None => {
                defined.push(Metric { name: name.to_owned(), shape, cells: Vec::new() });
                defined.len() - 1
            }
        };
        let metric = &mut defined[id];
        let owner = if metric.shape == Shape::Gauge { 0 } else { worker };
        let cells = match metric.cells.iter().find(|(w, _)| *w == owner) {
            Some((_, cells)) => cells.clone(),
            None => {
                let cells = Arc::new(Cells::new(metric.shape.clone()));
                metric.cells.push((owner, cells.clone()));
                cells
            }
        };
        Some((id as u32, cells))
    }

    pub(super) fn read(&self) -> Vec<PluginMetric> {
        self.defined.lock().iter().map(Metric::read).collect()
    }
}

impl Metric {
    fn read(&self) -> PluginMetric {
        let sum_of = |i: usize| self.cells.iter().map(|(_, cells)| cells.numbers[i].load(Relaxed)).sum();
        let value = match &self.shape {
            Shape::Counter => MetricValue::Counter(sum_of(0)),
            Shape::Gauge => MetricValue::Gauge(
                self.cells.first().map_or(0.0, |(_, cells)| f64::from_bits(cells.numbers[0].load(Relaxed))),
            ),
            Shape::Histogram(bounds) => MetricValue::Histogram {
                bounds: bounds.clone(),
                counts: (0..=bounds.len()).map(sum_of).collect(),
                sum: self.cells.iter().map(|(_, cells)| f64::from_bits(cells.sum.load(Relaxed))).sum(),
            },
        };
        PluginMetric { name: self.name.clone(), value }
    }
}

impl Cells {
    fn new(shape: Shape) -> Self {
        let numbers = match &shape {
            Shape::Histogram(bounds) => bounds.len() + 1,
            Shape::Counter | Shape::Gauge => 1,
        };
        Self { shape, numbers: (0..numbers).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    pub(super) fn add(&self, amount: u64) {
        if self.shape == Shape::Counter {
            bump(&self.numbers[0], amount);
        }
    }

    pub(super) fn set(&self, value: f64) {
        if self.shape == Shape::Gauge {
            self.numbers[0].store(value.to_bits(), Relaxed);
        }
    }

    /// Takes a value into a histogram. One that is no number is left out.
    pub(super) fn record(&self, value: f64) {
        if let Shape::Histogram(bounds) = &self.shape
            && !value.is_nan()
        {
            bump(&self.numbers[bounds.partition_point(|&bound| bound < value)], 1);
            let sum = f64::from_bits(self.sum.load(Relaxed)) + value;
            self.sum.store(sum.to_bits(), Relaxed);
        }
    }
}

/// Adds to a number that one thread writes.
#[inline]
pub(super) fn bump(number: &AtomicU64, amount: u64) {
    number.store(number.load(Relaxed).wrapping_add(amount), Relaxed);
}

fn is_metric_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.len() <= MAX_NAME
}

fn is_possible(shape: &Shape) -> bool {
    let Shape::Histogram(bounds) = shape else { return true };
    bounds.len() <= MAX_BOUNDS && bounds.iter().all(|b| b.is_finite()) && bounds.is_sorted_by(|a, b| a < b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_added_over_the_workers() {
        let metrics = Metrics::default();
        let (id, first) = metrics.define(0, "hits", Shape::Counter).expect("a counter");
        let (same, second) = metrics.define(1, "hits", Shape::Counter).expect("the same counter");

        first.add(2);
        second.add(3);

        assert_eq!(id, same);
        assert_eq!(metrics.read(), [PluginMetric { name: "hits".into(), value: MetricValue::Counter(5) }]);
    }

    #[test]
    fn a_value_falls_into_the_first_bucket_that_holds_it() {
        let metrics = Metrics::default();
        let (_, cells) = metrics.define(0, "h", Shape::Histogram([1.0, 2.0].into())).expect("a histogram");

        for value in [0.5, 1.0, 1.5, 9.0, f64::NAN] {
            cells.record(value);
        }

        let MetricValue::Histogram { counts, sum, .. } = &metrics.read()[0].value else { panic!("a histogram") };
        assert_eq!((&counts[..], *sum), (&[2, 1, 1][..], 12.0));
    }

    #[test]
    fn names_that_cannot_be_and_names_past_the_quota_record_nothing() {
        let metrics = Metrics::default();
        metrics.define(0, "taken", Shape::Gauge).expect("a gauge");

        for name in ["", "1a", "a-b", "é", "taken", &"x".repeat(65)] {
            assert!(metrics.define(0, name, Shape::Counter).is_none(), "{name}");
        }
        assert!(metrics.define(0, "h", Shape::Histogram([2.0, 1.0].into())).is_none());
        for i in 1..MAX_METRICS {
            assert!(metrics.define(0, &format!("m{i}"), Shape::Counter).is_some());
        }
        assert!(metrics.define(0, "one_more", Shape::Counter).is_none());
    }
}
