//! What one check came to.

use std::io;
use std::time::{Duration, SystemTime};

use crate::http::h1;

/// Why a check did not pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("it cannot be reached: {0}")]
    Connect(io::Error),
    #[error("no secure connection: {0}")]
    Tls(io::Error),
    #[error("{stage} within {limit:?}")]
    Timeout { stage: Stage, limit: Duration },
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("it closed the connection before it had answered")]
    Closed,
    #[error("it answered what is not {protocol}: {why}")]
    Protocol { protocol: &'static str, why: String },
    /// It understood, and its answer is another than the one expected.
    #[error("{0}")]
    Answer(String),
}

/// What did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connection,
    Handshake,
    Answer,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connection => "no connection",
            Self::Handshake => "no TLS handshake",
            Self::Answer => "no whole answer",
        })
    }
}

impl From<h1::BadResponse> for Failure {
    fn from(bad: h1::BadResponse) -> Self {
        Self::Protocol { protocol: "HTTP/1", why: bad.to_string() }
    }
}

/// How checks are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckResult {
    Passed,
    Connect,
    Tls,
    Timeout,
    Closed,
    Protocol,
    Answer,
}

impl CheckResult {
    pub(super) const ALL: [Self; 7] =
        [Self::Passed, Self::Connect, Self::Tls, Self::Timeout, Self::Closed, Self::Protocol, Self::Answer];

    pub(super) fn of(answer: &Result<String, Failure>) -> Self {
        match answer {
            Ok(_) => Self::Passed,
            Err(Failure::Connect(_) | Failure::Timeout { stage: Stage::Connection, .. }) => Self::Connect,
            Err(Failure::Tls(_) | Failure::Timeout { stage: Stage::Handshake, .. }) => Self::Tls,
            Err(Failure::Timeout { stage: Stage::Answer, .. }) => Self::Timeout,
            Err(Failure::Broken(_) | Failure::Closed) => Self::Closed,
            Err(Failure::Protocol { .. }) => Self::Protocol,
            Err(Failure::Answer(_)) => Self::Answer,
        }
    }

    /// As it stands in metrics and in the admin API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
            Self::Answer => "answer",
        }
    }
}

/// The last check of an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct LastCheck {
    /// When it ended.
    pub(crate) at: SystemTime,
    pub(crate) took: Duration,
    pub(crate) result: CheckResult,
    /// What the endpoint answered, or why it did not pass.
    pub(crate) said: String,
    /// Checks in a row that passed as this one did, or failed as this one did.
    pub(crate) in_a_row: u64,
}

/// Bytes of a stranger on one short line.
pub(super) fn shown(bytes: &[u8]) -> String {
    /// The most bytes that are shown.
    const SHOWN: usize = 60;
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let mut text: String = String::from_utf8_lossy(&line[..line.len().min(SHOWN)])
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] })
        .collect();
    if line.len() > SHOWN {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_says_is_shown_on_one_short_line() {
        assert_eq!(shown(b"220 mail\r\n250 ok"), "220 mail");
        assert_eq!(shown(b"\x1b[2J"), "\\u{1b}[2J");
        assert_eq!(shown(&[b'x'; 61]), format!("{}…", "x".repeat(60)));
        assert_eq!(shown(b"\xff\0"), "\u{fffd}\\0");
    }
}
