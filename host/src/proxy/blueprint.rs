//! What one worker turns into its own copy of everything: what it keeps of what it serves, and plugin instances,
//! configured and ready to be called, for the rest.

use std::sync::Arc;

use crate::plugins::{Kind, PluginError, ReadyBalancer, ReadyRetry, ReadyRewriter};

pub(crate) struct Blueprint {
    /// In the order of the configuration.
    pub(crate) upstreams: Vec<UpstreamPlan>,
    /// By route, and then in the order of its rewriters.
    pub(crate) rewriters: Vec<Vec<Part<ReadyRewriter>>>,
}

pub(crate) struct UpstreamPlan {
    /// Whether all but the plugins is as it was.
    pub(crate) keep: bool,
    pub(crate) balancer: Part<ReadyBalancer>,
    pub(crate) retry: Part<ReadyRetry>,
}

/// A plugin in its place.
pub(crate) enum Part<T> {
    /// The one that serves there.
    Keep,
    New(T),
}

/// A place where a plugin decides, by the names that upstreams and routes have in every configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Seat {
    Balancer(Arc<str>),
    Retry(Arc<str>),
    Rewriter { route: Arc<str>, step: usize },
}

/// A plugin on its way to its place on a worker.
pub(crate) enum Ready {
    Balancer(ReadyBalancer),
    Retry(ReadyRetry),
    Rewriter(ReadyRewriter),
}

impl Seat {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Balancer(_) => Kind::Balancer,
            Self::Retry(_) => Kind::Retry,
            Self::Rewriter { .. } => Kind::Rewriter,
        }
    }
}

impl Ready {
    /// Hands it what the one before it has learned.
    pub(crate) fn restore(&mut self, state: &[u8]) -> Result<(), PluginError> {
        match self {
            Self::Balancer(balancer) => balancer.restore(state),
            Self::Retry(retry) => retry.restore(state),
            Self::Rewriter(rewriter) => rewriter.restore(state),
        }
    }
}
