//! Metrics under the plugin's own name, in the proxy's `/metrics`.
//!
//! Name them once, in `configure`. A plugin may have 64; a further name records nothing.

use crate::host;

/// Counts up.
#[derive(Clone, Copy, Debug)]
pub struct Counter(u32);

impl Counter {
    /// Names a counter; the same name is the same counter.
    pub fn new(name: &str) -> Self {
        Self(host::metrics::counter(name))
    }

    /// Adds to it.
    pub fn add(self, amount: u64) {
        host::metrics::add(self.0, amount);
    }
}

/// Has a value.
#[derive(Clone, Copy, Debug)]
pub struct Gauge(u32);

impl Gauge {
    /// Names a gauge; the same name is the same gauge.
    pub fn new(name: &str) -> Self {
        Self(host::metrics::gauge(name))
    }

    /// Sets it.
    pub fn set(self, value: f64) {
        host::metrics::set(self.0, value);
    }
}

/// Counts values by size.
#[derive(Clone, Copy, Debug)]
pub struct Histogram(u32);

impl Histogram {
    /// Names a histogram with these upper bounds of its buckets, in rising order.
    pub fn new(name: &str, bounds: &[f64]) -> Self {
        Self(host::metrics::histogram(name, bounds))
    }

    /// Takes a value in.
    pub fn record(self, value: f64) {
        host::metrics::record_value(self.0, value);
    }
}
