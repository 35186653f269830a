//! A client's request, as the stream that it came on.

use std::future::Future;
use std::io::{self, Error, ErrorKind, IoSlice};
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use h3::error::{Code, StreamError};
use h3::server::RequestStream;
use http::{HeaderMap, Response};

use crate::http::h3::carrier::Both;
use crate::http::h3::link::Link;
use crate::http::head::{Fields, ResponseHead};
use crate::http::heads;
use crate::net::message::{Accepted, Message, gather};

/// Bytes that one write hands over at most.
const MAX_WRITE: usize = 32 * 1024;

pub(super) struct AcceptedStream {
    stream: RequestStream<Both, Bytes>,
    link: Link,
    /// Bytes of a frame that are gathered until it is whole, at most.
    max_gathered: usize,
    /// Received, not yet read.
    chunk: Bytes,
    /// Bytes of the body that were announced and have not come.
    announced: Option<u64>,
    /// All of the body has come, and perhaps trailers behind it.
    is_behind: bool,
    trailers: Option<Fields>,
    at_end: bool,
    /// What is wrong with the body, for who reads it.
    broken: Option<Error>,
    /// The head that waits to be sent; or why there can be none.
    head: Option<io::Result<Response<()>>>,
    has_begun: bool,
    end: Option<Option<HeaderMap>>,
    /// A head or an end was sent and nobody has been told yet.
    has_news: bool,
    has_all: bool,
}

impl AcceptedStream {
    /// `announced`: how long the body is, where that was said.
    pub(super) fn new(
        stream: RequestStream<Both, Bytes>,
        link: Link,
        announced: Option<u64>,
        max_gathered: usize,
    ) -> Self {
        link.receiving.borrow_mut().made_use();
        Self {
            stream,
            link,
            max_gathered,
            chunk: Bytes::new(),
            announced,
            is_behind: false,
            trailers: None,
            at_end: false,
            broken: None,
            head: None,
            has_begun: false,
            end: None,
            has_news: false,
            has_all: false,
        }
    }

    /// Looks what is there behind the head already. Answers whether that is the end.
    pub(super) fn is_empty(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.poll_is_empty(&mut cx) == Poll::Ready(true)
    }

    /// Ready when it is known whether anything stands behind the head.
    pub(super) fn poll_is_empty(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match ready!(self.poll_chunk(cx)) {
            Ok(()) => Poll::Ready(self.is_at_end() && self.trailers.is_none()),
            Err(error) => {
                self.broken = Some(error);
                Poll::Ready(false)
            }
        }
    }

    /// Ready when there is a chunk, or there will be none.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        while self.chunk.is_empty() && !self.at_end {
            if self.poll_piece(cx)?.is_ready() {
                self.link.receiving.borrow_mut().made_use();
                continue;
            }
            let mut receiving = self.link.receiving.borrow_mut();
            if receiving.gathered() > self.max_gathered {
                receiving.stop(Code::H3_EXCESSIVE_LOAD);
                return Poll::Ready(Err(Error::new(ErrorKind::InvalidData, "a frame that is too long")));
            }
            ready!(receiving.poll_fetch(cx));
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what follows out of what was fetched; pending when that is not enough.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        if self.is_behind {
            let Poll::Ready(trailers) = self.stream.poll_recv_trailers(cx) else { return Ok(Poll::Pending) };
            self.trailers = trailers.map_err(error)?.map(|trailers| heads::read_trailers(&trailers));
            self.at_end = true;
            return Ok(Poll::Ready(()));
        }
        let data = match self.stream.poll_recv_data(cx) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(data) => data.map_err(error)?.map(|mut data| data.copy_to_bytes(data.remaining())),
        };
        let length = data.as_ref().map_or(0, Bytes::len) as u64;
        // RFC 9114 section 4.1.2.
        self.announced = match self.announced.map(|left| left.checked_sub(length)) {
            Some(None) => return Err(self.malformed("a body that is longer than its content-length")),
            Some(Some(1..)) if data.is_none() => {
                return Err(self.malformed("a body that is shorter than its content-length"));
            }
            left => left.flatten(),
        };
        match data {
            Some(data) => self.chunk = data,
            None => self.is_behind = true,
        }
        Ok(Poll::Ready(()))
    }

    fn malformed(&self, why: &'static str) -> Error {
        self.link.receiving.borrow_mut().stop(Code::H3_MESSAGE_ERROR);
        self.link.sending.borrow_mut().reset(Code::H3_MESSAGE_ERROR);
        Error::new(ErrorKind::InvalidData, why)
    }

    /// Has the head sent that waits.
    fn begin(&mut self) -> io::Result<()> {
        if let Some(head) = self.head.take() {
            at_once(self.stream.send_response(head?))?;
            (self.has_begun, self.has_news) = (true, true);
        }
        Ok(())
    }

    fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.sending.borrow_mut().poll_drain(cx).map_err(|error| Error::new(ErrorKind::ConnectionReset, error))
    }
}

impl Message for AcceptedStream {
    /// What is read makes room for as much to be sent: the client is never ahead by more than the stream's window.
    fn poll_read(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_chunk(cx))?;
        let length = self.chunk.len().min(space.len());
        self.chunk.copy_to_slice(&mut space[..length]);
        Poll::Ready(Ok(length))
    }

    fn is_at_end(&self) -> bool {
        self.at_end && self.chunk.is_empty()
    }

    fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.begin()?;
        if !self.has_begun {
            return Poll::Ready(Err(ErrorKind::NotConnected.into()));
        }
        ready!(self.poll_drain(cx))?;
        let wanted: usize = parts.iter().map(|part| part.len()).sum();
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        let length = wanted.min(MAX_WRITE);
        at_once(self.stream.send_data(gather(parts, length)))?;
        // What is not taken at once waits, and nothing more is written then.
        if let Poll::Ready(drained) = self.poll_drain(cx) {
            drained?;
        }
        Poll::Ready(Ok(length))
    }

    fn is_waiting(&self) -> bool {
        self.head.is_some() || self.end.is_some() || self.link.sending.borrow().has_waiting()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.begin()?;
        if self.has_begun
            && let Some(trailers) = self.end.take()
        {
            if let Some(trailers) = trailers {
                at_once(self.stream.send_trailers(trailers))?;
            }
            at_once(self.stream.finish())?;
            (self.has_all, self.has_news) = (true, true);
        }
        ready!(self.poll_drain(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.has_news)))
    }

    fn end(&mut self, trailers: Option<&Fields>) {
        if self.has_all || self.end.is_some() {
            return;
        }
        match trailers.map(heads::write_trailers).transpose() {
            Ok(trailers) => self.end = Some(trailers.filter(|trailers| !trailers.is_empty())),
            Err(_) => self.abort(),
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        match ready!(self.link.sending.borrow_mut().poll_stopped(cx)) {
            // It has all of it.
            Ok(None) => Poll::Pending,
            Ok(Some(code)) => Poll::Ready(Error::new(ErrorKind::ConnectionReset, format!("stopped with {code}"))),
            Err(error) => Poll::Ready(Error::new(ErrorKind::ConnectionReset, error)),
        }
    }

    fn abort(&mut self) {
        self.link.sending.borrow_mut().reset(Code::H3_INTERNAL_ERROR);
    }
}

impl Accepted for AcceptedStream {
    fn respond(&mut self, head: &ResponseHead, date: &[u8; 29], length: Option<u64>) {
        self.head = Some(heads::write_response(head, date, length));
    }

    fn take_back(&mut self) {
        (self.head, self.end) = (None, None);
    }

    fn inform(&mut self, head: &ResponseHead) {
        // What is for information only may be lost, and must not pile up.
        if self.link.sending.borrow().has_waiting() {
            return;
        }
        if let Ok(mut response) = heads::write_response(head, b"", None) {
            response.headers_mut().remove(http::header::DATE);
            let _ = at_once(self.stream.send_response(response));
            let _ = self.poll_drain(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl Drop for AcceptedStream {
    fn drop(&mut self) {
        self.link.sending.borrow_mut().reset(Code::H3_REQUEST_CANCELLED);
        if !self.at_end {
            // RFC 9114 section 4.1: the response did not need the rest.
            self.link.receiving.borrow_mut().stop(Code::H3_NO_ERROR);
        }
    }
}

/// What the library writes goes into a queue, which it need not wait for.
fn at_once<T>(writing: impl Future<Output = Result<T, StreamError>>) -> io::Result<T> {
    match pin!(writing).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(written) => written.map_err(error),
        Poll::Pending => Err(Error::other("the library waits where there is nothing to wait for")),
    }
}

fn error(error: StreamError) -> Error {
    let kind = match &error {
        StreamError::StreamError { .. } | StreamError::HeaderTooBig { .. } => ErrorKind::InvalidData,
        _ => ErrorKind::ConnectionReset,
    };
    Error::new(kind, error)
}
