//! Retry policies: whether an ended attempt is followed by another.

use std::time::Duration;

use crate::{Config, EndpointId, Invalid, host};

/// Decides about retries. Exported with `export!(retry: MyType)`.
///
/// The host asks only when another attempt is possible at all: its own limits on attempts, budget and deadline
/// allow one, nothing of a response was sent, and the request can be sent again. They hold whatever the answer is.
pub trait Retry: Sized + 'static {
    /// Reads the configuration and asks for what is to be decided about. Has 2 s of CPU time.
    ///
    /// # Errors
    ///
    /// A wrong setting keeps the configuration that ran before in force, or the proxy from starting. Every issue
    /// that `config` noticed is reported, whether this answers `Ok` or not.
    fn configure(config: &Config, needs: &mut RetryNeeds) -> Result<Self, Invalid>;

    /// Decides; `None` gives up, and the client gets what the last attempt brought. Has 10 ms of CPU time.
    fn decide(&mut self, cx: &AttemptContext) -> Option<RetryPlan>;
}

/// What a retry policy may ask for while it is configured. Attempts that brought no response are always decided
/// about.
#[derive(Debug)]
pub struct RetryNeeds(());

impl RetryNeeds {
    pub(crate) fn new() -> Self {
        Self(())
    }

    /// Asks to decide about responses with a status from `first` to `last`, both included. May be called
    /// repeatedly. Such a response counts as a failure of its endpoint, but for 403 and 404.
    pub fn want_status(&mut self, first: u16, last: u16) {
        host::registration::want_status(first, last);
    }

    /// Asks to decide about responses that have this header, whatever their status; it is read with
    /// [`crate::response::field`]. A response that is asked for only so is no failure of its endpoint.
    pub fn want_response_field(&mut self, name: &str) {
        host::registration::want_response_field(name);
    }

    /// Asks to decide about requests with a method that is not idempotent even after they were sent. An endpoint
    /// may then do the same work twice. Without this call such requests are never sent again.
    pub fn want_non_idempotent(&mut self) {
        host::registration::want_non_idempotent();
    }
}

/// What [`Retry::decide`] is told. More is read lazily, through [`crate::request`] and, when one came,
/// [`crate::response`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptContext {
    /// How the attempt ended.
    pub outcome: Outcome,
    /// The endpoint it went to.
    pub endpoint: EndpointId,
    /// 0 for the first attempt.
    pub attempt: u32,
    /// What the method promises.
    pub method: MethodKind,
    /// Whether any byte of the request was sent.
    pub sent: bool,
    /// Time since the first attempt began.
    pub elapsed: Duration,
    /// Time left until the request's deadline.
    pub remaining: Option<Duration>,
    /// Whole retries left in the budget of the upstream on this worker.
    pub budget: u32,
    /// What `retry-after` asked for, when it was given in seconds.
    pub retry_after: Option<Duration>,
    /// 64 fresh random bits, for jitter.
    pub random: u64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A response head came, with this status.
    Status(u16),
    /// No response head came.
    Failed(Failure),
}

/// Why an attempt brought no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The connection was refused, or no way to the endpoint was found.
    Connect,
    /// The connection was not made in time.
    ConnectTimeout,
    /// The TLS handshake failed.
    Tls,
    /// The connection closed before a whole response head came.
    Reset,
    /// No response head came in time.
    ResponseTimeout,
    /// What came was not an HTTP response.
    Protocol,
    /// A limit of the proxy's own stopped the attempt.
    Overload,
}

/// What a method promises (RFC 9110 section 9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MethodKind {
    /// GET, HEAD, OPTIONS, TRACE.
    Safe,
    /// PUT, DELETE.
    Idempotent,
    /// Any other.
    Other,
}

/// A further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPlan {
    /// How long to wait first.
    pub delay: Duration,
    /// Whether the endpoints tried so far must be avoided even when no other is ready: then the request fails.
    pub elsewhere: bool,
}

impl RetryPlan {
    /// Another attempt without delay, preferably on another endpoint.
    pub const AT_ONCE: Self = Self { delay: Duration::ZERO, elsewhere: false };
}
