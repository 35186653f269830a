//! A client's request, as the stream that it came on.

use std::io::{self, ErrorKind, IoSlice};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::Response;

use crate::http::h2::incoming::Incoming;
use crate::http::h2::outgoing::{Outgoing, poll_reset};
use crate::http::h2::{error, websocket};
use crate::http::head::{Fields, ResponseHead};
use crate::http::heads;
use crate::net::message::{Accepted, Message};

pub(super) struct AcceptedStream {
    incoming: Incoming,
    respond: SendResponse<Bytes>,
    /// The head that waits to be sent; or why there can be none.
    head: Option<io::Result<Response<()>>>,
    /// Once the head was sent.
    stream: Option<SendStream<Bytes>>,
    outgoing: Outgoing,
    /// Whether it asks for another protocol (RFC 8441).
    connects: bool,
}

impl AcceptedStream {
    pub(super) fn new(body: RecvStream, respond: SendResponse<Bytes>, connects: bool) -> Self {
        let (incoming, outgoing) = (Incoming::new(body), Outgoing::default());
        Self { incoming, respond, head: None, stream: None, outgoing, connects }
    }

    /// Sends the head that waits, and the end with it if that follows. Answers whether there was one.
    fn send_head(&mut self, body_follows: bool) -> io::Result<bool> {
        let Some(head) = self.head.take() else { return Ok(false) };
        let ends = !body_follows && self.outgoing.is_only_end();
        self.stream = Some(self.respond.send_response(head?, ends).map_err(error::io)?);
        if ends {
            self.outgoing.was_ended();
        }
        Ok(true)
    }
}

impl Message for AcceptedStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        self.incoming.poll_read(cx, space)
    }

    fn is_at_end(&self) -> bool {
        self.incoming.is_at_end()
    }

    fn take_trailers(&mut self) -> Option<Fields> {
        self.incoming.take_trailers()
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.send_head(true)?;
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(ErrorKind::NotConnected.into())) };
        // Of a stream that was reset, no capacity comes.
        if let Poll::Ready(why) = poll_reset(stream.poll_reset(cx)) {
            return Poll::Ready(Err(why));
        }
        self.outgoing.poll_write(cx, stream, parts)
    }

    fn is_waiting(&self) -> bool {
        self.head.is_some() || self.stream.is_some() && self.outgoing.is_waiting()
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let sent = self.send_head(false)?;
        match &mut self.stream {
            Some(stream) => Poll::Ready(Ok(self.outgoing.flush(stream)? || sent)),
            None => Poll::Ready(Ok(sent)),
        }
    }

    fn end(&mut self, trailers: Option<&Fields>) {
        if self.outgoing.end(trailers).is_err() {
            self.abort();
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match &mut self.stream {
            Some(stream) => poll_reset(stream.poll_reset(cx)),
            None => poll_reset(self.respond.poll_reset(cx)),
        }
    }

    fn abort(&mut self) {
        match &mut self.stream {
            Some(stream) => stream.send_reset(Reason::INTERNAL_ERROR),
            None => self.respond.send_reset(Reason::INTERNAL_ERROR),
        }
    }
}

impl Accepted for AcceptedStream {
    fn respond(&mut self, head: &ResponseHead, date: &[u8; 29], length: Option<u64>) {
        self.head = Some(match self.connects && head.status == 101 {
            true => websocket::accept(head, date),
            false => heads::write_response(head, date, length),
        });
    }

    fn take_back(&mut self) {
        self.outgoing = Outgoing::default();
        self.head = None;
    }

    fn inform(&mut self, head: &ResponseHead) {
        if let Ok(mut response) = heads::write_response(head, b"", None) {
            response.headers_mut().remove(http::header::DATE);
            // What is for information only may be lost.
            let _ = self.respond.send_informational(response);
        }
    }
}
