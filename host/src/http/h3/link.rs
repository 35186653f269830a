//! One stream of QUIC, for who serves the request on it: what goes out, what comes in, and how either is broken off.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::quic::{StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ReadError, StoppedError, VarInt, WriteError};

use crate::http::h3::carrier::connection_lost;

/// Bytes that are taken off a stream at once, at most.
const PIECE: usize = 64 * 1024;

type Stopping = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>>>>;

/// One request's stream, for who serves it.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) sending: Rc<RefCell<Sending>>,
    pub(super) receiving: Rc<RefCell<Receiving>>,
}

/// What goes out on a stream.
pub(super) struct Sending {
    stream: quinn::SendStream,
    /// Written by `h3`, and not handed on.
    waiting: VecDeque<WriteBuf<Bytes>>,
    ends: bool,
    is_over: bool,
    was_stopped: bool,
    stopped: Option<Stopping>,
}

/// What comes in on a stream.
pub(super) struct Receiving {
    stream: quinn::RecvStream,
    /// Fetched, and not read by `h3`.
    next: Option<Result<Option<Bytes>, ReadError>>,
    /// Bytes that were fetched and of which nothing has come of yet.
    gathered: usize,
    is_over: bool,
}

impl Sending {
    pub(super) fn new(stream: quinn::SendStream) -> Rc<RefCell<Self>> {
        let (waiting, stopped) = (VecDeque::new(), None);
        Rc::new(RefCell::new(Self { stream, waiting, ends: false, is_over: false, was_stopped: false, stopped }))
    }

    pub(super) fn id(&self) -> StreamId {
        id(self.stream.id())
    }

    /// Has this sent behind what waits.
    pub(super) fn push(&mut self, frame: WriteBuf<Bytes>) {
        self.waiting.push_back(frame);
    }

    /// Has it end behind what waits.
    pub(super) fn end(&mut self) {
        self.ends = true;
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the client was seen to want no more of it.
    pub(super) fn was_stopped(&self) -> bool {
        self.was_stopped
    }

    /// Hands on what was written, and the end. Ready when all of it was.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        while let Some(first) = self.waiting.front_mut() {
            while first.has_remaining() {
                let written = ready!(Pin::new(&mut self.stream).poll_write(cx, first.chunk()))?;
                first.advance(written);
            }
            self.waiting.pop_front();
        }
        if self.ends && !self.is_over {
            self.is_over = true;
            // One that the client has stopped meanwhile is over as well.
            let _ = self.stream.finish();
        }
        Poll::Ready(Ok(()))
    }

    /// Has what was sent not look complete.
    pub(super) fn reset(&mut self, code: Code) {
        if !self.is_over {
            self.is_over = true;
            self.waiting.clear();
            let _ = self.stream.reset(number(code));
        }
    }

    /// Ready when the client wants no more of it, when it has all of it, or when the connection is gone.
    pub(super) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<VarInt>, StoppedError>> {
        self.stopped.get_or_insert_with(|| Box::pin(self.stream.stopped())).as_mut().poll(cx).map(|ended| {
            self.stopped = None;
            self.was_stopped |= matches!(ended, Ok(Some(_)));
            ended
        })
    }
}

impl Receiving {
    pub(super) fn new(stream: quinn::RecvStream) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { stream, next: None, gathered: 0, is_over: false }))
    }

    pub(super) fn id(&self) -> StreamId {
        id(self.stream.id())
    }

    /// Whether there is something to [`take`](Self::take).
    pub(super) fn has_fetched(&self) -> bool {
        self.next.is_some()
    }

    /// What was fetched; nothing is the end.
    pub(super) fn take(&mut self) -> Result<Option<Bytes>, StreamErrorIncoming> {
        self.next.take().unwrap_or(Ok(None)).map_err(|error| match error {
            ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
            ReadError::ConnectionLost(error) => {
                StreamErrorIncoming::ConnectionErrorIncoming { connection_error: connection_lost(error) }
            }
            other => StreamErrorIncoming::Unknown(Box::new(other)),
        })
    }

    /// Fetches one more piece for `h3`. To be called only when it could do nothing with what it has.
    pub(super) fn poll_fetch(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.next.is_none() {
            // It keeps no state that would be lost with it.
            let piece = ready!(pin!(self.stream.read_chunk(PIECE, true)).poll(cx));
            let piece = piece.map(|piece| piece.map(|piece| piece.bytes));
            self.gathered += piece.as_ref().ok().and_then(Option::as_ref).map_or(0, Bytes::len);
            self.is_over |= !matches!(piece, Ok(Some(_)));
            self.next = Some(piece);
        }
        Poll::Ready(())
    }

    /// Bytes that were fetched since something came of them.
    pub(super) fn gathered(&self) -> usize {
        self.gathered
    }

    pub(super) fn made_use(&mut self) {
        self.gathered = 0;
    }

    /// Tells the client that no more of it is wanted.
    pub(super) fn stop(&mut self, code: Code) {
        if !self.is_over {
            self.is_over = true;
            let _ = self.stream.stop(number(code));
        }
    }
}

/// Streams of QUIC have identifiers of 62 bits, and those of HTTP/3 are the same.
fn id(id: quinn::StreamId) -> StreamId {
    StreamId::try_from(u64::from(id)).expect("62 bits")
}

pub(super) fn number(code: Code) -> VarInt {
    VarInt::from_u64(code.value()).unwrap_or(VarInt::MAX)
}
