//! What is told of an upstream's guards.

use tokio::time::Instant;

use crate::admin::{BreakerState, BreakerStatus, ConcurrencyStatus, QueueStatus};
use crate::upstream::{Shared, breaker};

pub(super) fn queue(shared: &Shared) -> Option<QueueStatus> {
    let config = &shared.config.queue;
    shared.guards.gate.as_ref().map(|gate| QueueStatus {
        requests: gate.inside(),
        max_requests: config.max_requests,
        pending: gate.pending(),
        max_pending: config.max_pending,
    })
}

pub(super) fn breaker(shared: &Shared, now: Instant) -> Option<BreakerStatus> {
    let standing = shared.guards.breaker.as_ref()?.standing(now);
    let (state, reason) = match standing.state {
        breaker::State::Closed => (BreakerState::Closed, None),
        breaker::State::HalfOpen => (BreakerState::HalfOpen, Some("a few requests try whether it is well again")),
        breaker::State::Open => (BreakerState::Open, Some("too many of its requests failed; it rests for open_time")),
    };
    Some(BreakerStatus {
        state,
        reason: reason.map(str::to_owned),
        since: standing.since,
        opened: standing.opened,
        requests: standing.requests,
        failures: standing.failures,
    })
}

pub(super) fn concurrency(shared: &Shared) -> Option<ConcurrencyStatus> {
    let standing = shared.guards.concurrency.as_ref()?.standing();
    Some(ConcurrencyStatus {
        limit: standing.limit,
        requests: standing.in_flight,
        min_rtt: standing.min_rtt.map(|time| time.as_secs_f64()),
        measuring: standing.is_measuring,
    })
}
