//! The streams of a QUIC connection, in the form that the library `h3` takes them in.
//!
//! # Why not the crate `h3-quinn`?
//!
//! It keeps the streams to itself. Whoever serves a request has to notice that its client has stopped to wait, before
//! there is anything to send; has to end a response that broke off by a reset, where `quinn` ends a stream that is
//! dropped as if it were complete; and must not gather a frame of any length in memory, which is what `h3` does with all
//! that it gets. So each stream here has two ends: one in the hands of `h3`, and a [`Link`] in those of who serves the
//! request. `h3` writes into a queue that the link empties, and reads what the link has fetched for it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::ConnectionError;

use crate::http::h3::link::{Link, Receiving, Sending, number};

/// What a client may send on streams that carry no request: at first, and for each request. Chrome and Firefox say of
/// each how urgent it is (RFC 9218), in some twenty bytes.
const ASIDE: usize = 64 * 1024;
const ASIDE_EACH: usize = 256;

type Opening<T> = Pin<Box<dyn Future<Output = Result<T, ConnectionError>>>>;

/// A QUIC connection for `h3`.
pub(super) struct Carrier {
    connection: quinn::Connection,
    accepting: Option<Opening<(quinn::SendStream, quinn::RecvStream)>>,
    accepting_aside: Option<Opening<quinn::RecvStream>>,
    opening: Option<Opening<quinn::SendStream>>,
    shared: Rc<Shared>,
}

/// What who serves a connection has of it, beside what `h3` has.
#[derive(Default)]
pub(super) struct Shared {
    /// The request that was accepted last.
    latest: RefCell<Option<Link>>,
    /// Streams of ours that carry no request.
    aside: RefCell<Vec<Rc<RefCell<Sending>>>>,
    /// Bytes that may still come on those of the client.
    allowance: Cell<usize>,
    /// Requests from this identifier on are turned away unseen.
    closed_from: Cell<Option<u64>>,
    next: Cell<u64>,
}

impl Carrier {
    pub(super) fn new(connection: quinn::Connection) -> (Self, Rc<Shared>) {
        let shared = Rc::new(Shared::default());
        shared.allowance.set(ASIDE);
        let (accepting, accepting_aside, opening) = (None, None, None);
        (Self { connection, accepting, accepting_aside, opening, shared: shared.clone() }, shared)
    }
}

impl Shared {
    /// The stream of the request that was accepted just now.
    pub(super) fn take_latest(&self) -> Option<Link> {
        self.latest.take()
    }

    /// Whether no request has come.
    pub(super) fn is_unused(&self) -> bool {
        self.next.get() == 0
    }

    /// Turns requests away that have not come yet, so that their clients know that nobody has looked at them.
    pub(super) fn close(&self) {
        if self.closed_from.get().is_none() {
            self.closed_from.set(Some(self.next.get()));
        }
    }

    /// Hands on what was written to streams that carry no request.
    pub(super) fn push(&self, cx: &mut Context<'_>) {
        for stream in &*self.aside.borrow() {
            // What is wrong with them is wrong with the connection, which tells it.
            let _ = stream.borrow_mut().poll_drain(cx);
        }
    }
}

impl quic::Connection<Bytes> for Carrier {
    type RecvStream = Aside;
    type OpenStreams = Self;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Aside, ConnectionErrorIncoming>> {
        let accepting = self.accepting_aside.get_or_insert_with(|| {
            let connection = self.connection.clone();
            Box::pin(async move { connection.accept_uni().await })
        });
        let accepted = ready!(accepting.as_mut().poll(cx));
        self.accepting_aside = None;
        let stream = Receiving::new(accepted.map_err(connection_lost)?);
        Poll::Ready(Ok(Aside { stream, shared: self.shared.clone() }))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Both, ConnectionErrorIncoming>> {
        loop {
            let accepting = self.accepting.get_or_insert_with(|| {
                let connection = self.connection.clone();
                Box::pin(async move { connection.accept_bi().await })
            });
            let accepted = ready!(accepting.as_mut().poll(cx));
            self.accepting = None;
            let (sending, receiving) = accepted.map_err(connection_lost)?;
            let id = u64::from(sending.id());
            let link = Link { sending: Sending::new(sending), receiving: Receiving::new(receiving) };
            if self.shared.closed_from.get().is_some_and(|closed| id >= closed) {
                // RFC 9114 section 4.1.1: it can be sent again elsewhere.
                link.sending.borrow_mut().reset(Code::H3_REQUEST_REJECTED);
                link.receiving.borrow_mut().stop(Code::H3_REQUEST_REJECTED);
                continue;
            }
            // The identifiers of a client's requests go up by 4 (RFC 9000 section 2.1).
            self.shared.next.set(id + 4);
            self.shared.allowance.set(self.shared.allowance.get().saturating_add(ASIDE_EACH));
            self.shared.latest.replace(Some(link.clone()));
            return Poll::Ready(Ok(Both(link)));
        }
    }

    fn opener(&self) -> Self {
        let (accepting, accepting_aside, opening) = (None, None, None);
        Self { connection: self.connection.clone(), accepting, accepting_aside, opening, shared: self.shared.clone() }
    }
}

impl quic::OpenStreams<Bytes> for Carrier {
    type BidiStream = Both;
    type SendStream = Out;

    /// A server opens none.
    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Both, StreamErrorIncoming>> {
        Poll::Ready(Err(StreamErrorIncoming::Unknown("a server makes no requests".into())))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Out, StreamErrorIncoming>> {
        let opening = self.opening.get_or_insert_with(|| {
            let connection = self.connection.clone();
            Box::pin(async move { connection.open_uni().await })
        });
        let opened = ready!(opening.as_mut().poll(cx));
        self.opening = None;
        let stream = opened.map_err(|error| StreamErrorIncoming::ConnectionErrorIncoming {
            connection_error: connection_lost(error),
        })?;
        let stream = Sending::new(stream);
        self.shared.aside.borrow_mut().push(stream.clone());
        Poll::Ready(Ok(Out(stream)))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(number(code), reason);
    }
}

/// A stream of ours, for `h3`.
pub(super) struct Out(Rc<RefCell<Sending>>);

impl quic::SendStream<Bytes> for Out {
    /// What waits is handed on by who holds the link, and no more is written before that.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.0.borrow_mut().push(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.0.borrow_mut().end();
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self, code: u64) {
        self.0.borrow_mut().reset(code.into());
    }

    fn send_id(&self) -> StreamId {
        self.0.borrow().id()
    }
}

/// A stream of the client's that carries no request, for `h3`.
pub(super) struct Aside {
    stream: Rc<RefCell<Receiving>>,
    shared: Rc<Shared>,
}

impl quic::RecvStream for Aside {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let mut stream = self.stream.borrow_mut();
        ready!(stream.poll_fetch(cx));
        let piece = stream.take()?;
        let left = self.shared.allowance.get().checked_sub(piece.as_ref().map_or(0, Bytes::len));
        let Some(left) = left else {
            let connection_error =
                ConnectionErrorIncoming::InternalError("too much that belongs to no request".to_owned());
            return Poll::Ready(Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error }));
        };
        self.shared.allowance.set(left);
        Poll::Ready(Ok(piece))
    }

    fn stop_sending(&mut self, code: u64) {
        self.stream.borrow_mut().stop(code.into());
    }

    fn recv_id(&self) -> StreamId {
        self.stream.borrow().id()
    }
}

/// A request's stream, for `h3`.
pub(super) struct Both(Link);

impl quic::SendStream<Bytes> for Both {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        Out(self.0.sending.clone()).send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        Out(self.0.sending.clone()).poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        Out(self.0.sending.clone()).reset(code);
    }

    fn send_id(&self) -> StreamId {
        Out(self.0.sending.clone()).send_id()
    }
}

impl quic::RecvStream for Both {
    type Buf = Bytes;

    /// Only what was fetched; who holds the link waits for more.
    fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let mut stream = self.0.receiving.borrow_mut();
        if stream.has_fetched() { Poll::Ready(stream.take()) } else { Poll::Pending }
    }

    fn stop_sending(&mut self, code: u64) {
        self.0.receiving.borrow_mut().stop(code.into());
    }

    fn recv_id(&self) -> StreamId {
        self.0.receiving.borrow().id()
    }
}

pub(super) fn connection_lost(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}
