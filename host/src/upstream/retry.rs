//! The seam of retry: who decides whether an attempt is followed by another.
//!
//! A [`RetryPolicy`] proposes; the host asks it only when attempts, budget, deadline, idempotency and the
//! request's body allow another attempt, and holds to them whatever the answer is.

use std::time::Duration;

use crate::http::facts::Exchange;
use crate::http::head::ResponseHead;
use crate::telemetry::metrics::AttemptEnd;
use crate::upstream::endpoint::EndpointId;

/// Decides whether an attempt is followed by another. One lives on each worker for each upstream.
///
/// Called on the request path, so no method may wait or block. A policy that fails answers `None`.
pub trait RetryPolicy {
    /// What the policy asked for when it was configured. Does not change over its life.
    fn needs(&self) -> &RetryNeeds;

    /// Decides about one ended attempt. `None` gives up.
    fn decide(&self, exchange: &mut Exchange, attempt: EndedAttempt) -> Option<RetryPlan>;

    /// What it has learned, for the one that is about to take its place. Called once, if at all.
    fn save(&self) -> Option<Vec<u8>> {
        None
    }
}

/// What a retry policy asked for when it was configured.
#[derive(Clone, Debug, Default)]
pub struct RetryNeeds {
    /// Ranges of statuses it wants to decide about, both ends included.
    pub statuses: Vec<(u16, u16)>,
    /// Names of fields: it wants to decide about any response that has one of them.
    pub fields: Vec<String>,
    /// Whether requests whose method is not idempotent may be offered after they were sent.
    pub non_idempotent: bool,
}

impl RetryNeeds {
    /// Whether a status was asked for, and so is a failure.
    pub fn wants(&self, status: u16) -> bool {
        self.statuses.iter().any(|&(first, last)| (first..=last).contains(&status))
    }

    /// Whether the policy is to be asked about a response.
    pub fn concern(&self, response: &ResponseHead) -> bool {
        self.wants(response.status) || self.fields.iter().any(|name| response.fields.get(name.as_bytes()).is_some())
    }
}

/// What a decision is told.
#[derive(Clone, Copy, Debug)]
pub struct EndedAttempt {
    pub outcome: Outcome,
    pub endpoint: EndpointId,
    /// 0 for the first attempt.
    pub attempt: u32,
    pub method: MethodKind,
    /// Whether any byte of the request was sent.
    pub sent: bool,
    /// Time since the first attempt began.
    pub elapsed: Duration,
    /// Time left until the request's deadline.
    pub remaining: Option<Duration>,
    /// Whole retries left in the budget now.
    pub budget: u32,
    pub retry_after: Option<Duration>,
    pub random: u64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    Failed(Failure),
}

/// Why an attempt brought no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    Connect,
    ConnectTimeout,
    Tls,
    Reset,
    /// It took no more of the request.
    SendTimeout,
    ResponseTimeout,
    Protocol,
    Overload,
}

impl From<Outcome> for AttemptEnd {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Status(status) => Self::Status(status),
            Outcome::Failed(Failure::Connect) => Self::Connect,
            Outcome::Failed(Failure::ConnectTimeout) => Self::ConnectTimeout,
            Outcome::Failed(Failure::Tls) => Self::Tls,
            Outcome::Failed(Failure::Reset) => Self::Reset,
            Outcome::Failed(Failure::SendTimeout) => Self::SendTimeout,
            Outcome::Failed(Failure::ResponseTimeout) => Self::ResponseTimeout,
            Outcome::Failed(Failure::Protocol) => Self::Protocol,
            Outcome::Failed(Failure::Overload) => Self::Overload,
        }
    }
}

/// What a method promises (RFC 9110 section 9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodKind {
    /// GET, HEAD, OPTIONS, TRACE.
    Safe,
    /// PUT, DELETE.
    Idempotent,
    Other,
}

impl MethodKind {
    pub fn of(method: &str) -> Self {
        match method {
            "GET" | "HEAD" | "OPTIONS" | "TRACE" => Self::Safe,
            "PUT" | "DELETE" => Self::Idempotent,
            _ => Self::Other,
        }
    }

    pub fn is_idempotent(self) -> bool {
        self != Self::Other
    }
}

/// A further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPlan {
    /// How long to wait first.
    pub delay: Duration,
    /// Whether endpoints tried so far must be avoided even when no other is ready.
    pub elsewhere: bool,
}
