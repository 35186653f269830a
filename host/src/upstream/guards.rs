//! What keeps an upstream from being given more than it can take, and others from suffering for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::config;
use crate::telemetry::metrics::RequestEnd;
use crate::telemetry::seldom::Seldom;
use crate::upstream::breaker::Breaker;
use crate::upstream::budget::Budget;
use crate::upstream::concurrency::{self, Concurrency};
use crate::upstream::gate::{Gate, Pass};

/// The guards of one upstream, shared by all workers. They belong to its name and outlive configurations.
#[derive(Debug)]
pub(crate) struct Guards {
    pub(crate) budget: Budget,
    pub(crate) gate: Option<Arc<Gate>>,
    pub(crate) breaker: Option<Arc<Breaker>>,
    pub(crate) concurrency: Option<Arc<Concurrency>>,
    /// When refusals were logged last, by [`Refusal::index`].
    told: [Seldom; Refusal::CAUSES],
}

/// What a request holds while it is in flight.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) pass: Option<Pass>,
    pub(crate) concurrency: Option<concurrency::InFlight>,
}

/// Why an upstream is sent no request for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it has max_requests requests, and none may wait")]
    MaxRequests,
    #[error("max_pending requests wait already")]
    QueueFull,
    #[error("the request waited for queue_timeout")]
    QueueTimeout,
    #[error("its circuit breaker is open")]
    BreakerOpen { retry_after: Duration },
    #[error("it has as many requests as it answers without delay")]
    ConcurrencyLimit,
}

impl Guards {
    /// `before`: those of the same upstream as it was configured before. What is configured as it was goes on; of the
    /// rest, what has been counted so far.
    pub(crate) fn new(config: &config::Upstream, workers: usize, before: Option<&Self>, now: Instant) -> Self {
        let known = before.and_then(|before| before.breaker.as_ref());
        let breaker = config.breaker.as_ref().map(|config| match known {
            Some(known) if known.config() == config => known.clone(),
            _ => Arc::new(Breaker::new(config.clone(), workers, now)),
        });
        let known = before.and_then(|before| before.concurrency.as_ref());
        let concurrency = config.concurrency.as_ref().map(|config| match known {
            Some(known) if known.config() == config => known.clone(),
            _ => Concurrency::new(config.clone(), workers, now),
        });
        let gate = config.queue.is_some().then(|| {
            let known = before.and_then(|before| before.gate.clone());
            known.unwrap_or_else(|| Gate::new(&config.queue))
        });
        let share = config.retry.budget;
        let budget = before.map_or_else(|| Budget::new(share, workers, now), |before| before.budget.with(share));
        Self { budget, gate, breaker, concurrency, told: Default::default() }
    }

    /// Their configuration serves from now on.
    pub(crate) fn turn(&self, config: &config::Upstream) {
        if let Some(gate) = &self.gate {
            gate.set_limits(&config.queue);
        }
    }

    /// Why a request that finds no room is refused.
    pub(crate) fn full(&self, config: &config::Upstream) -> Refusal {
        if config.queue.max_pending == 0 { Refusal::MaxRequests } else { Refusal::QueueFull }
    }

    /// Logs a refusal, at most one a second for each cause.
    pub(crate) fn refused(&self, upstream: &str, refusal: Refusal, now: Instant) {
        // That a breaker opened was told when it did.
        if matches!(refusal, Refusal::BreakerOpen { .. }) {
            return;
        }
        if let Some(others) = self.told[refusal.index()].pass(now) {
            let pending = self.gate.as_ref().map_or(0, |gate| gate.pending());
            warn!(target: "staunch::upstream", %upstream, cause = refusal.name(), pending, others, "refused a request: {refusal}");
        }
    }
}

impl From<Refusal> for RequestEnd {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::MaxRequests => Self::MaxRequests,
            Refusal::QueueFull => Self::QueueFull,
            Refusal::QueueTimeout => Self::QueueTimeout,
            Refusal::BreakerOpen { .. } => Self::BreakerOpen,
            Refusal::ConcurrencyLimit => Self::ConcurrencyLimit,
        }
    }
}

impl Refusal {
    const CAUSES: usize = 5;

    fn index(self) -> usize {
        match self {
            Self::MaxRequests => 0,
            Self::QueueFull => 1,
            Self::QueueTimeout => 2,
            Self::BreakerOpen { .. } => 3,
            Self::ConcurrencyLimit => 4,
        }
    }

    /// A name for the access log and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MaxRequests => "max_requests",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::BreakerOpen { .. } => "breaker_open",
            Self::ConcurrencyLimit => "concurrency_limit",
        }
    }

    /// When a client may come again, if anybody knows.
    pub(crate) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::BreakerOpen { retry_after } => Some(retry_after),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_configuration_takes_over_what_it_leaves_as_it_was() {
        let now = Instant::now();
        let mut config = config::Upstream::new("u");
        config.queue.max_requests = Some(1);
        config.breaker = Some(config::Breaker::default());
        config.concurrency = Some(config::Concurrency::default());
        let before = Guards::new(&config, 1, None, now);

        config.breaker = Some(config::Breaker { probes: 1, ..config::Breaker::default() });
        let after = Guards::new(&config, 1, Some(&before), now);

        let same = |one: &Option<Arc<Gate>>, other: &Option<Arc<Gate>>| {
            one.as_ref().zip(other.as_ref()).is_some_and(|(one, other)| Arc::ptr_eq(one, other))
        };
        assert!(same(&before.gate, &after.gate));
        let (one, other) = (before.concurrency.as_ref(), after.concurrency.as_ref());
        assert!(one.zip(other).is_some_and(|(one, other)| Arc::ptr_eq(one, other)));
        assert_eq!(after.breaker.as_ref().map(|breaker| breaker.config().probes), Some(1));
    }
}
