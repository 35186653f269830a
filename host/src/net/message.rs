//! One message stream of a connection that carries many (HTTP/2, HTTP/3), seen as a connection of its own.
//!
//! Its bytes are those of one body in each direction, without any framing, so that a [`Transport`](crate::net::Transport)
//! and all that moves bodies need not know what carries them. Heads and trailers stand beside: they wait here until what
//! was written before them has left, so that a head and the first bytes of a body, or the end of one, can leave together.
//!
//! Dropping a message whose both ends were not reached resets it.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use crate::http::head::{Fields, RequestHead, ResponseHead};

/// The first `length` bytes of what is to be written, in one piece.
pub(crate) fn gather(parts: &[IoSlice<'_>], length: usize) -> Bytes {
    let mut data = BytesMut::with_capacity(length);
    for part in parts {
        let taken = part.len().min(length - data.len());
        data.extend_from_slice(&part[..taken]);
    }
    data.freeze()
}

/// What both sides of an exchange have in common.
pub(crate) trait Message {
    /// Reads once into `space`; 0 is the end of the body, for good.
    fn poll_read(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Whether the end of the body has been received, perhaps with nothing of the body before it.
    fn is_at_end(&self) -> bool;

    /// The trailers that followed the body, once its end was read.
    fn take_trailers(&mut self) -> Option<Fields>;

    /// Sends the head that waits, if one does, and as much of the body as the peer takes.
    fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Whether a head or an end waits to be sent.
    fn is_waiting(&self) -> bool;

    /// Sends the head and the end that wait. Answers whether anything was sent.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>>;

    /// Has the body end here, with these trailers behind it. Sent by the next flush.
    fn end(&mut self, trailers: Option<&Fields>);

    /// Ready when the peer has given the exchange up.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error>;

    /// Has what was sent not look complete.
    fn abort(&mut self);
}

/// A request that a client has sent, on its way to a response.
pub(crate) trait Accepted: Message {
    /// Has this head be sent before anything else. `date`: for one that has none. `length`: of the body, where it is known
    /// and is to be said.
    fn respond(&mut self, head: &ResponseHead, date: &[u8; 29], length: Option<u64>);

    /// Takes a head back that has not been sent.
    fn take_back(&mut self);

    /// Sends an interim response; if that cannot be, nothing happens.
    fn inform(&mut self, head: &ResponseHead);
}

/// A request that goes to an endpoint.
pub(crate) trait Opened: Message {
    /// Has this head be sent before anything else. `fallback_host`: for a head that names none. `length`: of the body,
    /// where it is known and not empty. `upgrade`: the protocol that the client wants to change to.
    fn request(
        &mut self,
        head: &RequestHead,
        fallback_host: &str,
        length: Option<u64>,
        upgrade: Option<&[u8]>,
    ) -> io::Result<()>;

    /// Reads the head of the next response, interim or final.
    fn poll_response(&mut self, cx: &mut Context<'_>, head: &mut ResponseHead) -> Poll<io::Result<()>>;

    /// Whether the endpoint has said that it has not looked at the request.
    fn is_refused(&self) -> bool;
}
