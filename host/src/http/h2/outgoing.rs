//! The body that goes out on a stream, and what ends it.
//!
//! What was written last is held back until something follows it or it is flushed, so that a short body and the end of
//! its stream leave in one frame.

use std::io::{self, ErrorKind, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;

use crate::http::h2::error;
use crate::http::head::Fields;
use crate::http::heads;
use crate::net::message::gather;

/// Bytes that one write hands over at most.
const MAX_WRITE: usize = 32 * 1024;

/// What a stream still has to send after its head.
#[derive(Default)]
pub(super) struct Outgoing {
    held: Bytes,
    end: Option<Option<HeaderMap>>,
    ended: bool,
}

impl Outgoing {
    pub(super) fn is_waiting(&self) -> bool {
        !self.held.is_empty() || self.end.is_some()
    }

    /// Whether the end waits and nothing goes before it.
    pub(super) fn is_only_end(&self) -> bool {
        self.held.is_empty() && matches!(self.end, Some(None))
    }

    /// The end has left with the head.
    pub(super) fn was_ended(&mut self) {
        (self.end, self.ended) = (None, true);
    }

    /// Has the body end behind what was written. Trailers that cannot be sent are a reason to break off.
    pub(super) fn end(&mut self, trailers: Option<&Fields>) -> io::Result<()> {
        if !self.ended && self.end.is_none() {
            let trailers = trailers.map(heads::write_trailers).transpose()?.filter(|trailers| !trailers.is_empty());
            self.end = Some(trailers);
        }
        Ok(())
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut SendStream<Bytes>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.send_held(stream)?;
        let wanted: usize = parts.iter().map(|part| part.len()).sum();
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        stream.reserve_capacity(wanted.min(MAX_WRITE));
        while stream.capacity() == 0 {
            match ready!(stream.poll_capacity(cx)) {
                Some(capacity) => capacity.map_err(error::io)?,
                None => return Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
            };
        }
        let length = wanted.min(MAX_WRITE).min(stream.capacity());
        self.held = gather(parts, length);
        Poll::Ready(Ok(length))
    }

    /// Sends what is held and the end, if it has come to that.
    pub(super) fn flush(&mut self, stream: &mut SendStream<Bytes>) -> io::Result<bool> {
        match self.end.take() {
            None => self.send_held(stream).map(|()| false),
            Some(None) => {
                let last = std::mem::take(&mut self.held);
                self.ended = true;
                stream.send_data(last, true).map_err(error::io).map(|()| true)
            }
            Some(Some(trailers)) => {
                self.send_held(stream)?;
                self.ended = true;
                stream.send_trailers(trailers).map_err(error::io).map(|()| true)
            }
        }
    }

    fn send_held(&mut self, stream: &mut SendStream<Bytes>) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        // There is room for it: it was taken only then.
        stream.send_data(std::mem::take(&mut self.held), false).map_err(error::io)
    }
}

/// Ready when the peer has reset the stream, or the connection is gone.
pub(super) fn poll_reset(polled: Poll<Result<Reason, h2::Error>>) -> Poll<io::Error> {
    polled.map(|result| match result {
        Ok(reason) => io::Error::new(ErrorKind::ConnectionReset, reason.description()),
        Err(error) => error::io(error),
    })
}
