//! Why an exchange did not bring the response it was meant to.

use std::io;
use std::time::Duration;

use crate::config::Condition;
use crate::filters::LocalResponse;
use crate::http::h1::BadRequest;
use crate::http::pump::PumpError;
use crate::http::upload::ClientFault;
use crate::telemetry::metrics::Timeout;
use crate::upstream::retry::Failure;
use crate::upstream::{Refusal, UpstreamError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error("malformed request: {}", .0.reason)]
    BadRequest(BadRequest),
    #[error("no route matches")]
    NoRoute,
    #[error("the request's head did not come in time")]
    HeadTimeout,
    #[error("a rewriter failed")]
    FilterFailed,
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The response had begun.
    #[error("the response broke off")]
    Download(#[source] PumpError),
    #[error("the client took too long to read the response, or went away")]
    Client(#[from] ClientFault),
    #[error("the endpoint's response is malformed")]
    BadResponse(#[source] io::Error),
    #[error("the exchange took too long")]
    Deadline,
    #[error("there is more memory in use than memory_limit")]
    MemoryLimit,
    /// With the status the route gives it.
    #[error("there are as many requests with this key as concurrency_limit allows")]
    ConcurrencyLimit(u16),
    #[error("the tunnel was silent for too long")]
    TunnelIdle,
    #[error("closed for maintenance")]
    Maintenance(Box<LocalResponse>),
}

/// What an error is called.
enum Cause {
    Timeout(Timeout),
    Other(&'static str),
}

impl From<Timeout> for Cause {
    fn from(timeout: Timeout) -> Self {
        Self::Timeout(timeout)
    }
}

impl ExchangeError {
    /// The status to answer with, if anybody is there to be answered.
    pub(crate) fn status(&self) -> Option<u16> {
        Some(match self {
            Self::BadRequest(bad) => bad.status,
            Self::Maintenance(answer) => answer.status,
            Self::NoRoute => 404,
            Self::HeadTimeout => 408,
            Self::MemoryLimit => 503,
            Self::ConcurrencyLimit(status) => *status,
            Self::FilterFailed
            | Self::Upstream(UpstreamError::Rewriter(_))
            | Self::Download(PumpError::Rewriter(_)) => 500,
            Self::Deadline | Self::Upstream(UpstreamError::Deadline) => 504,
            Self::Upstream(
                UpstreamError::NoEndpoint(_) | UpstreamError::Overloaded(_) | UpstreamError::Refused { .. },
            ) => 503,
            Self::Upstream(UpstreamError::Failed { failure, .. }) => match failure {
                Failure::ConnectTimeout | Failure::ResponseTimeout | Failure::SendTimeout => 504,
                Failure::Overload => 503,
                Failure::Connect | Failure::Tls | Failure::Reset | Failure::Protocol => 502,
            },
            Self::Download(PumpError::Source(error)) if error.kind() == io::ErrorKind::TimedOut => 504,
            Self::BadResponse(_) | Self::Download(PumpError::Source(_) | PumpError::Body(_) | PumpError::TooLarge) => {
                502
            }
            Self::Client(fault) | Self::Upstream(UpstreamError::Client(fault)) => match fault {
                ClientFault::Gone | ClientFault::SendTimeout => return None,
                ClientFault::BodyTimeout => 408,
                ClientFault::Body(_) => 400,
                ClientFault::TooLarge => 413,
            },
            Self::Download(PumpError::Sink(_)) | Self::TunnelIdle => return None,
        })
    }

    /// A name for the access log.
    pub(crate) fn name(&self) -> &'static str {
        match self.cause() {
            Cause::Timeout(timeout) => timeout.error(),
            Cause::Other(name) => name,
        }
    }

    /// The timeout that passed, if one did.
    pub(crate) fn timeout(&self) -> Option<Timeout> {
        match self.cause() {
            Cause::Timeout(timeout) => Some(timeout),
            Cause::Other(_) => None,
        }
    }

    fn cause(&self) -> Cause {
        let is_late = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
        Cause::Other(match self {
            Self::BadRequest(_) => "bad_request",
            Self::NoRoute => "no_route",
            Self::HeadTimeout => return Timeout::ClientHeader.into(),
            Self::MemoryLimit => "memory_limit",
            Self::ConcurrencyLimit(_) => "route_concurrency_limit",
            Self::FilterFailed
            | Self::Upstream(UpstreamError::Rewriter(_))
            | Self::Download(PumpError::Rewriter(_)) => "rewriter_failed",
            Self::Deadline | Self::Upstream(UpstreamError::Deadline) => return Timeout::Route.into(),
            Self::Upstream(UpstreamError::NoEndpoint(_)) => "no_endpoint",
            Self::Upstream(UpstreamError::Overloaded(_)) => "balancer_overloaded",
            Self::Upstream(UpstreamError::Refused { refusal, .. }) => refusal.name(),
            Self::Upstream(UpstreamError::Failed { failure, .. }) => match failure {
                Failure::Connect => "upstream_connect",
                Failure::ConnectTimeout => return Timeout::UpstreamConnect.into(),
                Failure::Tls => "upstream_tls",
                Failure::Reset => "upstream_reset",
                Failure::SendTimeout => return Timeout::UpstreamSend.into(),
                Failure::ResponseTimeout => return Timeout::UpstreamResponse.into(),
                Failure::Protocol => "upstream_protocol",
                Failure::Overload => "upstream_overload",
            },
            Self::BadResponse(_) => "upstream_protocol",
            Self::Client(fault) | Self::Upstream(UpstreamError::Client(fault)) => match fault {
                ClientFault::Gone => "client_closed",
                ClientFault::BodyTimeout => return Timeout::ClientBody.into(),
                ClientFault::SendTimeout => return Timeout::ClientSend.into(),
                ClientFault::Body(_) => "client_bad_body",
                ClientFault::TooLarge => "client_body_too_large",
            },
            Self::Download(PumpError::Source(error)) if is_late(error) => return Timeout::UpstreamRead.into(),
            Self::Download(PumpError::Source(_) | PumpError::Body(_) | PumpError::TooLarge) => "upstream_truncated",
            Self::Download(PumpError::Sink(error)) if is_late(error) => return Timeout::ClientSend.into(),
            Self::Download(PumpError::Sink(_)) => "client_closed",
            Self::TunnelIdle => return Timeout::Tunnel.into(),
            Self::Maintenance(_) => "maintenance",
        })
    }

    /// When the client may come again, if anybody knows.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::MemoryLimit => Some(Duration::from_secs(1)),
            Self::Upstream(UpstreamError::Refused { refusal, .. }) => refusal.retry_after(),
            _ => None,
        }
    }

    /// What it means for the upstream that was asked; nothing when the upstream is not to blame.
    pub(crate) fn condition(&self) -> Option<Condition> {
        let error = match self {
            Self::Deadline => return Some(Condition::Timeout),
            Self::BadResponse(_) => return Some(Condition::Error),
            Self::Upstream(error) => error,
            _ => return None,
        };
        match error {
            UpstreamError::Deadline => Some(Condition::Timeout),
            UpstreamError::NoEndpoint(_) => Some(Condition::NoEndpoint),
            UpstreamError::Overloaded(_) => Some(Condition::Overload),
            UpstreamError::Refused { refusal: Refusal::BreakerOpen { .. }, .. } => Some(Condition::BreakerOpen),
            UpstreamError::Refused { .. } => Some(Condition::Overload),
            UpstreamError::Failed { failure, .. } => Some(match failure {
                Failure::ConnectTimeout | Failure::SendTimeout | Failure::ResponseTimeout => Condition::Timeout,
                Failure::Overload => Condition::Overload,
                Failure::Connect | Failure::Tls | Failure::Reset | Failure::Protocol => Condition::Error,
            }),
            UpstreamError::Client(_) | UpstreamError::Rewriter(_) => None,
        }
    }
}
