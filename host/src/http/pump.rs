//! Moves one body from one connection to another: out of one framing, into the other.
//!
//! What is received is sent from where it was received; only small pieces are copied, so that a head, a chunk's
//! size and a short body leave in one write. Of a long body that stays as it is, the rest passes from socket to socket
//! through a pipe. Nothing more is read while something waits to be sent: that is all the back-pressure there is.

use std::io;
use std::task::{Context, Poll, ready};

use crate::filters::{BodyBroken, BodyChain};
use crate::http::grpc;
use crate::http::h1::{BadBody, BodyDecoder, BodyEncoder, WrongLength};
use crate::net::{LARGE, Pipe, ROOM, SMALL, Transport};

/// Bodies' pieces up to this size are copied behind what is to be sent already: cheaper than a second buffer in
/// the same system call.
pub(super) const COPIED: usize = 4 * 1024;
/// Output that gathers before it is sent.
const GATHERED: usize = 16 * 1024;

/// Bytes of a body that have to be left, or to have passed where nobody knows its length, for a pipe to be worth it.
const LONG: u64 = 32 * 1024;

/// Bytes that one body may move before everybody else on the worker has had a turn: a fast transfer would otherwise hold
/// it for megabytes at a time, which every short exchange beside it would have to wait for.
const TURN: u64 = 256 * 1024;

/// One body on its way.
pub(crate) struct Pump {
    encoder: BodyEncoder,
    /// Body bytes at the front of the source's input that are still to be sent.
    pending: usize,
    /// Bytes of framing after them.
    framing: usize,
    /// What the sink's framing wants behind them.
    behind: &'static [u8],
    pipe: Through,
    /// Body bytes moved so far.
    pub(crate) moved: u64,
    /// How a gRPC call ended, if trailers told so.
    pub(crate) grpc_status: Option<grpc::Code>,
    /// Whether the sink has been told of the end.
    ended: bool,
    /// Whether that has left.
    done: bool,
}

/// What a long body passes through.
enum Through {
    /// Nothing yet.
    Buffer,
    Pipe(Pipe),
    /// There was no pipe to be had.
    BufferOnly,
}

/// Why a body did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PumpError {
    /// The side it comes from failed.
    #[error("could not read the body")]
    Source(#[source] io::Error),
    /// The side it comes from closed or sent nonsense.
    #[error("the body is malformed")]
    Body(#[source] BadBody),
    /// It is longer than it may be.
    #[error("the body is too large")]
    TooLarge,
    /// The side it goes to failed.
    #[error("could not send the body")]
    Sink(#[source] io::Error),
    #[error(transparent)]
    Rewriter(#[from] BodyBroken),
}

/// What happens to a body between its two sides.
#[derive(Default)]
pub(crate) struct Passage<'a> {
    /// Bytes that came so far, and the most there may be.
    pub(crate) received: u64,
    pub(crate) max_size: Option<u64>,
    /// What rewrites it.
    pub(crate) chain: Option<&'a mut BodyChain>,
    /// What is sent is kept here.
    pub(crate) replay: Option<&'a mut Replay>,
}

/// What is kept of a body for another attempt to send it.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) bytes: Vec<u8>,
    pub(crate) limit: usize,
    /// Whether nothing of what was sent is missing.
    pub(crate) is_whole: bool,
}

impl Passage<'_> {
    fn receive(&mut self, length: usize) -> Result<(), PumpError> {
        self.received += length as u64;
        if self.max_size.is_some_and(|max| self.received > max) { Err(PumpError::TooLarge) } else { Ok(()) }
    }

    fn keep(&mut self, data: &[u8]) {
        if let Some(replay) = &mut self.replay {
            replay.keep(data);
        }
    }

    /// Whether somebody has to see the bytes.
    fn is_looked_at(&self) -> bool {
        self.chain.is_some() || self.replay.as_ref().is_some_and(|replay| replay.is_whole)
    }
}

impl Replay {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), limit: 0, is_whole: true }
    }

    fn keep(&mut self, data: &[u8]) {
        if self.is_whole && self.bytes.len() + data.len() <= self.limit {
            self.bytes.extend_from_slice(data);
        } else if !data.is_empty() {
            self.is_whole = false;
            self.bytes = Vec::new();
        }
    }
}

impl Pump {
    pub(crate) fn new(encoder: BodyEncoder) -> Self {
        Self {
            encoder,
            pending: 0,
            framing: 0,
            behind: b"",
            pipe: Through::Buffer,
            moved: 0,
            grpc_status: None,
            ended: false,
            done: false,
        }
    }

    /// Sends body bytes that do not come from the source: what was kept of an earlier attempt.
    pub(crate) fn prepend(&mut self, bytes: &[u8], to: &mut Transport) -> Result<(), PumpError> {
        self.encoder.data(&mut to.output, bytes).map_err(wrong_length)
    }

    /// Drops what was decoded and not sent, for good.
    pub(crate) fn abandon(&mut self, from: &mut Transport) {
        from.input.consume(self.pending + self.framing);
        (self.pending, self.framing) = (0, 0);
    }

    /// Whether all of the body and its end have left for the other side.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Moves the body as far as both sides allow; ready when its end was sent.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut BodyDecoder,
        from: &mut Transport,
        to: &mut Transport,
        passage: &mut Passage<'_>,
    ) -> Poll<Result<(), PumpError>> {
        let turn = self.moved.saturating_add(TURN);
        loop {
            if self.moved > turn {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.pending > 0 {
                ready!(self.poll_pending(cx, from, to))?;
                continue;
            }
            if let Through::Pipe(pipe) = &mut self.pipe
                && pipe.held() > 0
            {
                ready!(to.poll_drain_pipe(cx, pipe)).map_err(PumpError::Sink)?;
                continue;
            }
            if decoder.is_done() {
                if !self.ended {
                    if let Some(chain) = &mut passage.chain {
                        self.pass(chain.end()?, passage.replay.as_deref_mut(), to)?;
                    }
                    let trailers = match from.stream().message() {
                        Some(message) => message.take_trailers(),
                        None => decoder.take_trailers(),
                    };
                    self.grpc_status = trailers.as_ref().and_then(grpc::code);
                    self.encoder.end(&mut to.output, trailers.as_ref()).map_err(wrong_length)?;
                    if let Some(message) = to.stream().message() {
                        message.end(trailers.as_ref());
                    }
                    self.ended = true;
                }
                ready!(to.poll_flush(cx)).map_err(PumpError::Sink)?;
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            if !passage.is_looked_at()
                && let Some(most) = self.unframed(decoder, from, to)
            {
                ready!(to.poll_flush(cx)).map_err(PumpError::Sink)?;
                if let Some(pipe) = self.pipe() {
                    let taken = ready!(from.poll_fill_pipe(cx, pipe, most)).map_err(PumpError::Source)?;
                    if taken == 0 {
                        decoder.end_of_input().map_err(PumpError::Body)?;
                    }
                    decoder.advance(taken as u64);
                    passage.receive(taken)?;
                    self.moved += taken as u64;
                    self.encoder.chunk(&mut to.output, taken).map_err(wrong_length)?;
                    continue;
                }
            }
            if passage.chain.is_some() && to.output.len() >= GATHERED {
                ready!(to.poll_flush(cx)).map_err(PumpError::Sink)?;
            }
            let decoded = decoder.decode(from.input.bytes()).map_err(PumpError::Body)?;
            if decoded.consumed == 0 {
                // Everything received has been used up: send what has gathered, then wait for more.
                ready!(to.poll_flush(cx)).map_err(PumpError::Sink)?;
                ready!(self.poll_fill(cx, decoder, from))?;
                continue;
            }
            let data = &from.input.bytes()[decoded.data.clone()];
            passage.receive(data.len())?;
            if let Some(chain) = &mut passage.chain {
                self.pass(chain.rewrite(data)?, passage.replay.as_deref_mut(), to)?;
                from.input.consume(decoded.consumed);
                continue;
            }
            passage.keep(data);
            self.moved += data.len() as u64;
            self.behind = self.encoder.chunk(&mut to.output, data.len()).map_err(wrong_length)?;
            from.input.consume(decoded.data.start);
            self.pending = decoded.data.len();
            self.framing = decoded.consumed - decoded.data.end;
            if self.pending == 0 {
                self.abandon(from);
            }
        }
    }

    /// How many of the bytes that come next can pass without being looked at, if that is worth it.
    fn unframed(&self, decoder: &BodyDecoder, from: &mut Transport, to: &mut Transport) -> Option<usize> {
        let left = decoder.unframed()?;
        let is_long = match &self.pipe {
            Through::Buffer => decoder.remaining().unwrap_or(self.moved) >= LONG,
            Through::Pipe(_) => true,
            Through::BufferOnly => false,
        };
        let is_bare = self.encoder.is_unframed() && from.stream().is_bare() && to.stream().is_bare();
        (is_long && is_bare && from.input.is_empty()).then(|| left.min(ROOM as u64) as usize)
    }

    fn pipe(&mut self) -> Option<&mut Pipe> {
        if let Through::Buffer = self.pipe {
            self.pipe = Pipe::take().map_or(Through::BufferOnly, Through::Pipe);
        }
        match &mut self.pipe {
            Through::Pipe(pipe) => Some(pipe),
            Through::Buffer | Through::BufferOnly => None,
        }
    }

    /// Sends what a part of the body became.
    fn pass(&mut self, data: &[u8], replay: Option<&mut Replay>, to: &mut Transport) -> Result<(), PumpError> {
        self.moved += data.len() as u64;
        if let Some(replay) = replay {
            replay.keep(data);
        }
        self.encoder.data(&mut to.output, data).map_err(wrong_length)
    }

    /// Sends what was decoded, or copies it if it is small.
    fn poll_pending(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Transport,
        to: &mut Transport,
    ) -> Poll<Result<(), PumpError>> {
        let data = &from.input.bytes()[..self.pending];
        let sent = if data.len() <= COPIED && to.output.len() < GATHERED {
            to.output.extend_from_slice(data);
            data.len()
        } else {
            ready!(to.poll_send(cx, data)).map_err(PumpError::Sink)?
        };
        from.input.consume(sent);
        self.pending -= sent;
        if self.pending == 0 {
            self.abandon(from);
            to.output.extend_from_slice(std::mem::take(&mut self.behind));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut BodyDecoder,
        from: &mut Transport,
    ) -> Poll<Result<(), PumpError>> {
        let long = decoder.remaining().unwrap_or(self.moved) > SMALL as u64;
        if long {
            from.input.grow(LARGE);
        }
        if ready!(from.poll_fill(cx)).map_err(PumpError::Source)? == 0 {
            decoder.end_of_input().map_err(PumpError::Body)?;
        }
        Poll::Ready(Ok(()))
    }
}

/// A decoder and an encoder of one length cannot disagree; if they did, the sink must not take it for complete.
fn wrong_length(error: WrongLength) -> PumpError {
    PumpError::Sink(io::Error::other(error))
}
