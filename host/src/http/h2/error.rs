//! What an error of the library means for who reads or writes a stream.

use std::io::{Error, ErrorKind};
use std::task::Poll;

use h2::Reason;

/// As an error of a connection.
pub(super) fn io(error: h2::Error) -> Error {
    if error.is_io() {
        let shown = error.to_string();
        return error.into_io().unwrap_or_else(|| Error::other(shown));
    }
    let kind = match error.reason() {
        Some(Reason::PROTOCOL_ERROR | Reason::FRAME_SIZE_ERROR | Reason::COMPRESSION_ERROR) if !error.is_remote() => {
            ErrorKind::InvalidData
        }
        _ => ErrorKind::ConnectionReset,
    };
    Error::new(kind, error)
}

/// Whether it says that the request was not looked at: the stream was refused, or the connection was left before it (RFC
/// 9113 section 8.7).
pub(super) fn is_refusal(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}

/// The same of a stream that was reset.
pub(super) fn refuses(reset: &Poll<Result<Reason, h2::Error>>) -> bool {
    match reset {
        Poll::Ready(Ok(reason)) => *reason == Reason::REFUSED_STREAM,
        Poll::Ready(Err(error)) => is_refusal(error),
        Poll::Pending => false,
    }
}
