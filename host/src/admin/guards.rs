//! What is told of an upstream's guards: its queue, its breaker and its adaptive limit.

use std::time::SystemTime;

use serde::Serialize;

use super::status::{UpstreamStatus, rfc3339};
use crate::telemetry::exposition::{Exposition, Kind};

/// Requests to an upstream, over all workers.
#[derive(Clone, Debug, Serialize)]
pub struct QueueStatus {
    /// Requests in flight; counted only where there is a limit or a queue.
    pub requests: u32,
    pub max_requests: Option<u32>,
    /// Requests that wait.
    pub pending: u32,
    pub max_pending: u32,
}

/// A breaker as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct BreakerStatus {
    pub state: BreakerState,
    /// Why it is in this state, for a reader.
    pub reason: Option<String>,
    #[serde(serialize_with = "rfc3339")]
    pub since: SystemTime,
    /// How often it has opened.
    pub opened: u64,
    /// Requests that ended within its window while it was closed, and those of them that failed.
    pub requests: u64,
    pub failures: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    Closed,
    /// Some requests are let through.
    HalfOpen,
    Open,
}

impl BreakerState {
    /// As JSON tells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// An adaptive limit as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct ConcurrencyStatus {
    pub limit: u32,
    /// Requests in flight, those that wait among them.
    pub requests: u32,
    /// What a response takes when no request waits for another, in seconds; `null` before it was measured.
    pub min_rtt: Option<f64>,
    /// Whether that is being measured now.
    pub measuring: bool,
}

/// Writes what is known of guards as metrics.
pub(super) fn write(upstreams: &[UpstreamStatus], out: &mut Exposition) {
    type Value = fn(&UpstreamStatus) -> Option<f64>;
    let families: [(_, _, _, Value); 7] = [
        ("staunch_upstream_requests_active", Kind::Gauge, "Requests in flight, where they are limited.", |upstream| {
            upstream.queue.as_ref().map(|queue| queue.requests.into())
        }),
        ("staunch_upstream_requests_pending", Kind::Gauge, "Requests that wait for their upstream.", |upstream| {
            upstream.queue.as_ref().map(|queue| queue.pending.into())
        }),
        ("staunch_upstream_breaker_state", Kind::Gauge, "0: closed, 1: half-open, 2: open.", |upstream| {
            upstream.breaker.as_ref().map(|breaker| f64::from(breaker.state as u8))
        }),
        ("staunch_upstream_breaker_opened_total", Kind::Counter, "How often a breaker has opened.", |upstream| {
            upstream.breaker.as_ref().map(|breaker| breaker.opened as f64)
        }),
        ("staunch_upstream_concurrency_limit", Kind::Gauge, "The adaptive limit of requests in flight.", |upstream| {
            upstream.concurrency.as_ref().map(|concurrency| concurrency.limit.into())
        }),
        (
            "staunch_upstream_concurrency_requests",
            Kind::Gauge,
            "Requests in flight that the adaptive limit counts.",
            |upstream| upstream.concurrency.as_ref().map(|concurrency| concurrency.requests.into()),
        ),
        (
            "staunch_upstream_concurrency_min_rtt_seconds",
            Kind::Gauge,
            "What a response takes when no request waits for another.",
            |upstream| upstream.concurrency.as_ref().and_then(|concurrency| concurrency.min_rtt),
        ),
    ];
    for (name, kind, help, value) in families {
        let mut samples = upstreams.iter().filter_map(|upstream| Some((upstream, value(upstream)?))).peekable();
        if samples.peek().is_some() {
            out.family(name, kind, help);
        }
        for (upstream, value) in samples {
            out.sample(&[("upstream", &upstream.name)], value);
        }
    }
}
