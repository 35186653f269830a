//! The seam of selection: who names an endpoint for each attempt.
//!
//! A [`Balancer`] proposes, the upstream disposes: it checks that the endpoint is known, ready and
//! untried, asks again if it is not, and falls back on a round robin of its own when the balancer has nothing valid to say.

use std::time::Duration;

use tokio::time::Instant;

use crate::http::facts::Exchange;
use crate::upstream::endpoint::EndpointId;

/// Names an endpoint for each attempt. One lives on each worker for each upstream.
///
/// Called on the request path, so no method may wait or block. A balancer that fails answers
/// [`Pick::Abstain`]: the host's own round robin then picks, and nobody but the metrics notices.
pub trait Balancer {
    /// What the balancer asked for when it was configured. Does not change over its life.
    fn needs(&self) -> &BalancerNeeds;

    /// Names an endpoint for an attempt. Called once for an attempt, and again (a few times at most) when the
    /// answer was tried before while another endpoint is ready.
    fn pick(&self, exchange: &mut Exchange, context: PickContext) -> Pick;

    /// Hears that its latest pick could not be used. To name an endpoint that does not exist or is not ready is
    /// a fault and counts against it.
    fn reject(&self, endpoint: EndpointId, why: BadPick);

    /// Learns of weights and readiness that changed, between picks.
    fn change(&self, changes: &[EndpointChange]);

    /// Learns how an attempt ended. Called only when [`BalancerNeeds::feedback`] asks for such an attempt.
    fn observe(&self, sample: Sample);

    /// Called every 100 ms or so while the worker lives: a moment for batches that are due.
    fn tick(&self, now: Instant);

    /// What it has learned, for the one that is about to take its place. Called once, if at all.
    fn save(&self) -> Option<Vec<u8>> {
        None
    }
}

/// What a balancer asked for when it was configured.
#[derive(Clone, Debug, Default)]
pub struct BalancerNeeds {
    /// Sources of the balancing key; the first that is present is used. Empty: no key is computed.
    pub key: Vec<KeySource>,
    /// Which outcomes it wants to hear of.
    pub feedback: Option<FeedbackKind>,
    /// Whether it reads the means of the time to a response head, which then have to be kept.
    pub latency: bool,
}

/// Where a balancing key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    ClientAddress,
    Host,
    Path,
    PathAndQuery,
    /// The first value of a header, named in lower case.
    Header(String),
    Cookie(String),
    Query(String),
}

/// Which attempts a balancer hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedbackKind {
    EveryAttempt,
    /// Those that passive health counts as failures.
    Failures,
}

impl FeedbackKind {
    /// What serves a listener of either kind.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == other { self } else { Self::EveryAttempt }
    }

    /// Whether an attempt is of this kind.
    pub fn includes(self, sample: &Sample) -> bool {
        self == Self::EveryAttempt || sample.failed
    }
}

/// What a pick is told. The key's bytes and the endpoints tried stand in the exchange.
#[derive(Clone, Copy, Debug)]
pub struct PickContext {
    /// The low 53 bits of xxHash64 (seed 0) of the balancing key.
    pub key: Option<u64>,
    pub random: u64,
    pub now: Instant,
    /// 0 for the first attempt.
    pub attempt: u32,
    pub previous: Option<EndpointId>,
}

/// A balancer's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    Endpoint(EndpointId),
    /// No endpoint may have traffic.
    Unavailable,
    /// Some may, but none should have this request.
    Overloaded,
    /// The balancer could not answer.
    Abstain,
}

/// Why a pick could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPick {
    Unknown,
    NotReady,
}

/// A change of one endpoint that leaves the membership as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointChange {
    pub id: EndpointId,
    pub weight: u32,
    pub ready: bool,
}

/// One finished attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub endpoint: EndpointId,
    /// Time to the response head, or to the failure.
    pub latency: Duration,
    /// 0 when no response came.
    pub status: u16,
    /// Whether passive health counts it as a failure.
    pub failed: bool,
    /// What passive health takes from the endpoint's weight; 0 when it was no failure.
    pub penalty: u32,
}
