//! Logs and metrics, their names in one place.
//!
//! Nothing here makes a worker wait: it counts into memory of its own ([`metrics`]), and hands lines to a thread that
//! writes them ([`access_log`]).

pub mod access_log;
pub mod clock;
pub mod exposition;
pub mod latencies;
pub mod log;
pub mod metrics;
pub mod relays;
pub mod seldom;

mod counter;

pub use counter::{Counter, Gauge, Histogram};
