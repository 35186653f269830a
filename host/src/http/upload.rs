//! A request's body on its way from the client to whichever endpoint the request goes to.
//!
//! It is read once and may have to be sent several times: as long as it fits the replay buffer, what was read is
//! kept, and a further attempt begins with it.

use std::io::{self, ErrorKind};
use std::task::{Context, Poll, ready};

use crate::filters::{BodyBroken, BodyChain};
use crate::http::h1::{BadBody, BodyDecoder, BodyEncoder, BodyKind, Encoding};
use crate::http::pump::{Passage, Pump, PumpError, Replay};
use crate::http::send_head;
use crate::net::Transport;

/// The longest rest of a body that is read only to keep a connection: more costs more than a new connection (Go's
/// `net/http` draws the line here too).
const MAX_DISCARDED: u64 = 256 * 1024;

/// The body of one request.
pub(crate) struct Upload {
    kind: BodyKind,
    decoder: BodyDecoder,
    pump: Option<Pump>,
    /// The client waits to be told to go on (RFC 9110 section 10.1.1).
    expects_continue: bool,
    /// `100 Continue` is being written.
    telling: bool,
    replay: Replay,
    chain: Option<BodyChain>,
    received: u64,
    max_size: Option<u64>,
    /// The endpoint stopped taking it.
    stopped: bool,
}

/// Why a request's body did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error(transparent)]
    Client(#[from] ClientFault),
    #[error("the endpoint took no more of the request")]
    Endpoint(#[source] io::Error),
    #[error(transparent)]
    Rewriter(#[from] BodyBroken),
}

/// What a client did to end its exchange.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientFault {
    /// It closed or reset its connection.
    #[error("the client went away")]
    Gone,
    /// No byte of its request's body came within the time allowed.
    #[error("the client took too long to send the request's body")]
    BodyTimeout,
    /// It took no byte of its response within the time allowed.
    #[error("the client took too long to read the response")]
    SendTimeout,
    #[error("the request's body is malformed")]
    Body(#[source] BadBody),
    #[error("the request's body is too large")]
    TooLarge,
}

impl ClientFault {
    /// What a failed read from a client means.
    pub(crate) fn of_receiving(error: &io::Error) -> Self {
        if error.kind() == ErrorKind::TimedOut { Self::BodyTimeout } else { Self::Gone }
    }

    /// What a failed write to a client means.
    pub(crate) fn of_sending(error: &io::Error) -> Self {
        if error.kind() == ErrorKind::TimedOut { Self::SendTimeout } else { Self::Gone }
    }
}

impl Upload {
    pub(crate) fn new(kind: BodyKind, expects_continue: bool, max_size: Option<u64>) -> Self {
        Self::read_by(BodyDecoder::new(kind), kind, expects_continue, max_size)
    }

    /// One that ends as its stream says. `kind`: how it is framed where that is needed; `ended`: nothing of it comes.
    pub(crate) fn of_message(kind: BodyKind, ended: bool, expects_continue: bool, max_size: Option<u64>) -> Self {
        let read_as = if ended { BodyKind::None } else { BodyKind::UntilClose };
        Self::read_by(BodyDecoder::new(read_as), kind, expects_continue, max_size)
    }

    fn read_by(decoder: BodyDecoder, kind: BodyKind, expects_continue: bool, max_size: Option<u64>) -> Self {
        Self {
            kind,
            decoder,
            pump: None,
            expects_continue,
            telling: false,
            replay: Replay::new(),
            chain: None,
            received: 0,
            max_size,
            stopped: false,
        }
    }

    /// How the body is framed towards an endpoint.
    pub(crate) fn encoding(&self) -> Encoding {
        if self.chain.is_some() { Encoding::Chunked } else { Encoding::for_request(self.kind) }
    }

    /// Whether the request has a body.
    pub(crate) fn has_body(&self) -> bool {
        self.kind != BodyKind::None
    }

    /// Has the body rewritten on its way.
    pub(crate) fn rewrite(&mut self, chain: BodyChain) {
        self.chain = Some(chain);
    }

    /// Keeps up to `limit` bytes for further attempts.
    pub(crate) fn keep(&mut self, limit: usize) {
        self.replay.limit = limit;
    }

    /// Whether a further attempt could send the whole body.
    pub(crate) fn can_replay(&self) -> bool {
        self.replay.is_whole
    }

    /// Body bytes received.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whether the client has sent all of it.
    pub(crate) fn is_received(&self) -> bool {
        self.decoder.is_done()
    }

    /// Whether there is nothing left to do: all of it was sent, or the endpoint wants no more.
    pub(crate) fn is_over(&self) -> bool {
        self.stopped || self.is_sent()
    }

    /// Whether the endpoint was sent all of it.
    pub(crate) fn is_sent(&self) -> bool {
        self.pump.as_ref().is_some_and(Pump::is_done) && !self.stopped
    }

    /// Starts an attempt, with what earlier ones have read. The request's head stands in `to.output`.
    pub(crate) fn begin(&mut self, client: &mut Transport, to: &mut Transport) -> Result<(), UploadError> {
        if let Some(mut earlier) = self.pump.take() {
            earlier.abandon(client);
        }
        self.stopped = false;
        let encoding = match (self.encoding(), to.stream().message()) {
            (Encoding::Chunked, Some(_)) => Encoding::Streamed,
            (encoding, _) => encoding,
        };
        let mut pump = Pump::new(BodyEncoder::new(encoding));
        pump.prepend(&self.replay.bytes, to).map_err(fault)?;
        self.pump = Some(pump);
        Ok(())
    }

    /// Uses up what has come of the body already, for an answer that does not need it.
    pub(crate) fn discard_received(&mut self, client: &mut Transport) {
        if let Some(mut pump) = self.pump.take() {
            pump.abandon(client);
        }
        while !self.decoder.is_done() {
            match self.decoder.decode(client.input.bytes()) {
                Ok(decoded) if decoded.consumed > 0 => client.input.consume(decoded.consumed),
                _ => return,
            }
        }
    }

    /// Whether the client's connection can go on behind a response that did not wait for the body: all of that has
    /// come, or so little is to come for certain that [`Self::discard`] reads it.
    pub(crate) fn is_discardable(&self) -> bool {
        // Who was not told to go on may never send it, and then nobody knows what comes.
        self.is_received()
            || !self.expects_continue && self.decoder.remaining().is_some_and(|left| left <= MAX_DISCARDED)
    }

    /// Reads what is left of the body for nothing; `false` when it does not come.
    pub(crate) async fn discard(&mut self, client: &mut Transport) -> bool {
        loop {
            self.discard_received(client);
            if self.is_received() {
                return true;
            }
            if !matches!(client.fill().await, Ok(1..)) {
                return false;
            }
        }
    }

    /// Sends the head and as much of the body as both sides allow; ready when all was sent.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Transport,
        to: &mut Transport,
    ) -> Poll<Result<(), UploadError>> {
        let Some(pump) = &mut self.pump else { return Poll::Ready(Ok(())) };
        if self.expects_continue && !self.decoder.is_done() {
            // The endpoint is connected: now the body is wanted, unless it comes already.
            if client.input.is_empty() {
                self.telling = send_head::go_on(client);
            }
            self.expects_continue = false;
        }
        if self.telling {
            ready!(client.poll_flush(cx)).map_err(|e| ClientFault::of_sending(&e))?;
            self.telling = false;
        }
        let Self { decoder, replay, received, max_size, chain, .. } = self;
        let mut passage =
            Passage { received: *received, max_size: *max_size, chain: chain.as_mut(), replay: Some(replay) };
        let polled = pump.poll(cx, decoder, client, to, &mut passage);
        *received = passage.received;
        polled.map_err(|error| {
            let error = fault(error);
            self.stopped |= matches!(error, UploadError::Endpoint(_));
            error
        })
    }
}

fn fault(error: PumpError) -> UploadError {
    match error {
        PumpError::Sink(error) => UploadError::Endpoint(error),
        PumpError::Source(error) => ClientFault::of_receiving(&error).into(),
        PumpError::Body(BadBody::Truncated) => ClientFault::Gone.into(),
        PumpError::Body(error) => ClientFault::Body(error).into(),
        PumpError::TooLarge => ClientFault::TooLarge.into(),
        PumpError::Rewriter(broken) => broken.into(),
    }
}
