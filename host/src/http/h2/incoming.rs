//! The body that comes in on a stream.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::RecvStream;

use crate::http::h2::error;
use crate::http::head::Fields;
use crate::http::heads;

/// What of a body has been received, and what stands behind it.
pub(super) struct Incoming {
    stream: RecvStream,
    /// Received, not yet read.
    chunk: Bytes,
    trailers: Option<Fields>,
    at_end: bool,
}

impl Incoming {
    pub(super) fn new(stream: RecvStream) -> Self {
        let at_end = stream.is_end_stream();
        Self { stream, chunk: Bytes::new(), trailers: None, at_end }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at_end
    }

    pub(super) fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }

    /// What is read makes room for as much to be sent: the peer is never ahead by more than the stream's window.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        while self.chunk.is_empty() && !self.at_end {
            match ready!(self.stream.poll_data(cx)) {
                Some(data) => self.chunk = data.map_err(error::io)?,
                None => {
                    let trailers = ready!(self.stream.poll_trailers(cx)).map_err(error::io)?;
                    self.trailers = trailers.map(|trailers| heads::read_trailers(&trailers));
                    self.at_end = true;
                }
            }
        }
        let length = self.chunk.len().min(space.len());
        self.chunk.copy_to_slice(&mut space[..length]);
        // A stream that has been reset has no window any more.
        let _ = self.stream.flow_control().release_capacity(length);
        Poll::Ready(Ok(length))
    }
}
