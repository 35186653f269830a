//! Why an exchange did not bring the response it was meant to.

use std::io;

use crate::http::h1::BadRequest;
use crate::http::pump::PumpError;
use crate::http::upload::ClientFault;
use crate::telemetry::metrics::Timeout;
use crate::upstream::UpstreamError;
use crate::upstream::retry::Failure;

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
    #[error("the tunnel was silent for too long")]
    TunnelIdle,
}

impl ExchangeError {
    /// The status to answer with, if anybody is there to be answered.
    pub(crate) fn status(&self) -> Option<u16> {
        Some(match self {
            Self::BadRequest(bad) => bad.status,
            Self::NoRoute => 404,
            Self::HeadTimeout => 408,
            Self::FilterFailed | Self::Upstream(UpstreamError::Rewriter(_)) => 500,
            Self::Deadline | Self::Upstream(UpstreamError::Deadline) => 504,
            Self::Upstream(UpstreamError::NoEndpoint(_) | UpstreamError::Overloaded(_)) => 503,
            Self::Upstream(UpstreamError::Failed { failure, .. }) => match failure {
                Failure::ConnectTimeout | Failure::ResponseTimeout => 504,
                Failure::Overload => 503,
                Failure::Connect | Failure::Tls | Failure::Reset | Failure::Protocol => 502,
            },
            Self::BadResponse(_) => 502,
            Self::Client(fault) | Self::Upstream(UpstreamError::Client(fault)) => match fault {
                ClientFault::Gone => return None,
                ClientFault::Slow => 408,
                ClientFault::Body(_) => 400,
                ClientFault::TooLarge => 413,
            },
            Self::Download(_) | Self::TunnelIdle => return None,
        })
    }

    /// A name for the access log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::NoRoute => "no_route",
            Self::HeadTimeout => "client_header_timeout",
            Self::FilterFailed
            | Self::Upstream(UpstreamError::Rewriter(_))
            | Self::Download(PumpError::Rewriter(_)) => "rewriter_failed",
            Self::Deadline | Self::Upstream(UpstreamError::Deadline) => "route_timeout",
            Self::Upstream(UpstreamError::NoEndpoint(_)) => "no_endpoint",
            Self::Upstream(UpstreamError::Overloaded(_)) => "balancer_overloaded",
            Self::Upstream(UpstreamError::Failed { failure, .. }) => match failure {
                Failure::Connect => "upstream_connect",
                Failure::ConnectTimeout => "upstream_connect_timeout",
                Failure::Tls => "upstream_tls",
                Failure::Reset => "upstream_reset",
                Failure::ResponseTimeout => "upstream_response_timeout",
                Failure::Protocol => "upstream_protocol",
                Failure::Overload => "upstream_overload",
            },
            Self::BadResponse(_) => "upstream_protocol",
            Self::Client(fault) | Self::Upstream(UpstreamError::Client(fault)) => match fault {
                ClientFault::Gone => "client_closed",
                ClientFault::Slow => "client_timeout",
                ClientFault::Body(_) => "client_bad_body",
                ClientFault::TooLarge => "client_body_too_large",
            },
            Self::Download(PumpError::Source(error)) if error.kind() == io::ErrorKind::TimedOut => {
                "upstream_read_timeout"
            }
            Self::Download(PumpError::Source(_) | PumpError::Body(_) | PumpError::TooLarge) => "upstream_truncated",
            Self::Download(PumpError::Sink(error)) if error.kind() == io::ErrorKind::TimedOut => "client_send_timeout",
            Self::Download(PumpError::Sink(_)) => "client_closed",
            Self::TunnelIdle => "tunnel_timeout",
        }
    }

    /// Whether an upstream is to blame.
    pub(crate) fn is_upstreams(&self) -> bool {
        self.name().starts_with("upstream_")
    }

    /// The timeout that passed, if one did.
    pub(crate) fn timeout(&self) -> Option<Timeout> {
        Some(match self.name() {
            "client_header_timeout" => Timeout::ClientHeader,
            "route_timeout" => Timeout::Route,
            "upstream_connect_timeout" => Timeout::Connect,
            "upstream_response_timeout" | "upstream_read_timeout" => Timeout::UpstreamRead,
            "client_timeout" => Timeout::ClientBody,
            "client_send_timeout" => Timeout::ClientSend,
            "tunnel_timeout" => Timeout::Tunnel,
            _ => return None,
        })
    }
}
