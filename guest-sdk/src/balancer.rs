//! Balancers: which endpoint an attempt goes to.

use std::time::Duration;

use crate::{Config, EndpointChange, EndpointId, Endpoints, Instant, Invalid, host};

/// Picks an endpoint for each attempt. Exported with `export!(balancer: MyType)`.
///
/// The host calls `configure`, then `update` before the first `pick`. Membership that changes comes to a new
/// instance, so `update` is the place for tables that are dear to build.
pub trait Balancer: Sized + 'static {
    /// Reads the configuration and asks for what later calls need. Has 2 s of CPU time.
    ///
    /// # Errors
    ///
    /// A wrong setting keeps the configuration that ran before in force, or the proxy from starting. Every issue
    /// that `config` noticed is reported, whether this answers `Ok` or not.
    fn configure(config: &Config, needs: &mut BalancerNeeds) -> Result<Self, Invalid>;

    /// Takes the membership. Has 2 s of CPU time and never delays a request.
    fn update(&mut self, endpoints: Endpoints);

    /// Takes changes of weight and readiness, between two picks. Must be quick; [`Endpoints::apply`] does it for
    /// who keeps nothing else.
    fn change(&mut self, changes: &[EndpointChange]);

    /// Picks an endpoint. Has 10 ms of CPU time, and is on the path of every request.
    ///
    /// To answer an endpoint that is unknown or not ready is a fault of the plugin. An endpoint that this request
    /// has tried is a fair answer only when no other is ready; [`Endpoints::candidates`] knows.
    ///
    /// # Errors
    ///
    /// The client gets 503.
    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError>;
}

/// A balancer that learns how attempts ended. Exported with `export!(balancer: MyType + feedback)`.
pub trait Feedback: Balancer {
    /// Takes the attempts of this worker that finished since the last call; how many at a time and which, says
    /// [`BalancerNeeds::want_feedback`].
    fn observe(&mut self, samples: &[Sample]);
}

/// What a balancer may ask for while it is configured.
#[derive(Debug)]
pub struct BalancerNeeds(());

impl BalancerNeeds {
    pub(crate) fn new() -> Self {
        Self(())
    }

    /// Adds a source of the balancing key. The first source that is present in a request gives
    /// [`PickContext::key`], and its bytes are to be had from [`crate::selection::key`].
    pub fn want_key(&mut self, source: KeySource) {
        host::registration::want_key(&source);
    }

    /// For a balancer with [`Feedback`]: `observe` comes before the first pick after `batch` attempts of this kind
    /// have finished or the oldest is `max_age` old, or soon after `max_age` when there is no pick. Without this
    /// call: every attempt, 64, 100 ms.
    pub fn want_feedback(&mut self, kind: FeedbackKind, batch: u32, max_age: Duration) {
        host::registration::want_feedback(kind, batch, max_age);
    }
}

/// Where the balancing key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The client's address, without its port.
    ClientAddress,
    /// The host the request is for, in lower case, without its port.
    Host,
    /// The path of the request without its query.
    Path,
    /// The path with its query, as it was sent.
    PathAndQuery,
    /// The first value of this header.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
    /// The value of this query parameter, not decoded.
    Query(String),
}

/// Which attempts a balancer hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedbackKind {
    /// All of them.
    EveryAttempt,
    /// Those that the host's passive health check counts as failures.
    Failures,
}

/// What [`Balancer::pick`] is told. More is read lazily, through [`crate::selection`], [`crate::request`] and
/// [`crate::loads`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PickContext {
    /// The hash of the balancing key, when one was asked for and is present: the low 53 bits of xxHash64 with
    /// seed 0.
    pub key: Option<u64>,
    /// 64 fresh random bits.
    pub random: u64,
    /// When the proxy last looked at its clock for this request.
    pub now: Instant,
    /// 0 for the first attempt.
    pub attempt: u32,
    /// The endpoint of the attempt before.
    pub previous: Option<EndpointId>,
}

/// Why no endpoint was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PickError {
    /// No endpoint may have traffic.
    Unavailable,
    /// Some may, but none should have this request now.
    Overloaded,
}

/// One finished attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where it went.
    pub endpoint: EndpointId,
    /// The time to the response head, or to the failure.
    pub latency: Duration,
    /// The status, unless the attempt brought no response.
    pub status: Option<u16>,
    /// What the host's passive health check takes from the endpoint's weight for this failure (nginx:
    /// `weight / max_fails`); 0 when it is none.
    pub penalty: u32,
}
