//! A request of ours to an endpoint, as a stream of a connection that requests share.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, SendStream};
use http::Request;
use tokio::time::Instant;

use crate::http::h2::incoming::Incoming;
use crate::http::h2::outgoing::{Outgoing, poll_reset};
use crate::http::h2::{error, websocket};
use crate::http::head::{Fields, RequestHead, ResponseHead};
use crate::http::heads;
use crate::net::Stream;
use crate::net::message::{Message, Opened};

/// Bytes of one response that may come before somebody reads them.
const WINDOW: u32 = 256 * 1024;
/// The same for all responses of a connection: enough that one which nobody reads does not hold up the others.
const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;
/// Requests that an endpoint takes at a time, as long as it has not said how many. No endpoint says just this.
const UNTOLD: usize = (1 << 31) + 1;
/// Bytes of one request that wait to be sent, at most.
const SEND_BUFFER: usize = 64 * 1024;

/// A connection to an endpoint that one worker's requests share.
pub(crate) struct Link {
    send: SendRequest<Bytes>,
    pings: RefCell<Option<PingPong>>,
    is_secure: bool,
    active: Rc<Cell<usize>>,
    requests: Cell<u64>,
    used: Cell<Instant>,
    is_over: Rc<Cell<bool>>,
    /// The endpoint has said how many requests it takes.
    is_settled: Rc<Cell<bool>>,
}

/// One request's place on a [`Link`], until this is dropped.
struct Place(Rc<Cell<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Begins HTTP/2 on a connection. `counted` lives as long as the connection does. `settled` is called once it is known
/// how many requests the endpoint takes, or that it takes none.
///
/// # Errors
///
/// When the endpoint closes it. What it says is read later.
pub(crate) async fn connect<C: 'static>(
    stream: Stream,
    is_secure: bool,
    max_head: usize,
    counted: C,
    settled: impl FnOnce() + 'static,
) -> io::Result<Rc<Link>> {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(max_head).unwrap_or(u32::MAX))
        .initial_max_send_streams(UNTOLD)
        .max_send_buffer_size(SEND_BUFFER);
    let (send, mut connection) = builder.handshake(stream).await.map_err(error::io)?;
    let pings = RefCell::new(connection.ping_pong());
    let is_over = Rc::new(Cell::new(false));
    let is_settled = Rc::new(Cell::new(false));
    let (over, is_told) = (is_over.clone(), is_settled.clone());
    tokio::task::spawn_local(async move {
        let _counted = counted;
        let mut settled = Some(settled);
        poll_fn(|cx| {
            // Its requests hear of it if it breaks.
            let ended = Pin::new(&mut connection).poll(cx).map(drop);
            over.set(ended.is_ready());
            if (ended.is_ready() || connection.max_concurrent_send_streams() != UNTOLD)
                && let Some(settled) = settled.take()
            {
                is_told.set(true);
                settled();
            }
            ended
        })
        .await;
    });
    let (active, requests, used) = (Rc::default(), Cell::new(0), Cell::new(Instant::now()));
    Ok(Rc::new(Link { send, pings, is_secure, active, requests, used, is_over, is_settled }))
}

impl Link {
    /// Whether it takes further requests at some time.
    pub(crate) fn is_usable(&self, max_requests: u64) -> bool {
        // An error here also says that the endpoint has said goodbye.
        let mut cx = Context::from_waker(Waker::noop());
        let is_refusing = matches!(self.send.clone().poll_ready(&mut cx), Poll::Ready(Err(_)));
        !self.is_over.get() && !is_refusing && self.requests.get() < max_requests
    }

    /// Whether it takes one more now. Before the endpoint has said how many it takes, that is the one it was opened for.
    pub(crate) fn has_room(&self) -> bool {
        let limit = if self.is_settled() { self.send.current_max_send_streams() } else { 1 };
        self.active.get() < limit
    }

    /// Whether it is known how many requests it takes.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled.get()
    }

    /// Whether it has had no request for so long.
    pub(crate) fn is_idle_for(&self, timeout: Duration, now: Instant) -> bool {
        self.active.get() == 0 && now.saturating_duration_since(self.used.get()) >= timeout
    }

    /// Whether no request before has used it.
    pub(crate) fn is_fresh(&self) -> bool {
        self.requests.get() == 0
    }

    /// A stream for a request.
    pub(crate) fn open(&self) -> Stream {
        self.requests.set(self.requests.get() + 1);
        self.active.set(self.active.get() + 1);
        self.used.set(Instant::now());
        Stream::Opened(Box::new(OpenedStream {
            send: self.send.clone(),
            is_secure: self.is_secure,
            head: None,
            response: None,
            stream: None,
            incoming: None,
            outgoing: Outgoing::default(),
            asked: None,
            is_refused: false,
            _place: Place(self.active.clone()),
        }))
    }

    /// Waits until the endpoint has said what it can do. Answers whether it takes a CONNECT with a protocol (RFC 8441
    /// section 3).
    pub(crate) async fn takes_connect(&self) -> bool {
        // Its settings come before its answer to anything else.
        let pings = self.pings.borrow_mut().take();
        if let Some(mut pings) = pings {
            let _ = pings.ping(Ping::opaque()).await;
            self.pings.replace(Some(pings));
        }
        self.send.is_extended_connect_protocol_enabled()
    }
}

struct OpenedStream {
    send: SendRequest<Bytes>,
    is_secure: bool,
    /// The head that waits to be sent.
    head: Option<Request<()>>,
    response: Option<ResponseFuture>,
    stream: Option<SendStream<Bytes>>,
    /// Once there is a final response.
    incoming: Option<Incoming>,
    outgoing: Outgoing,
    /// The change of protocol that has been asked for and not answered yet.
    asked: Option<Asked>,
    is_refused: bool,
    _place: Place,
}

struct Asked {
    protocol: Vec<u8>,
    key: Option<Vec<u8>>,
}

impl OpenedStream {
    /// Sends the head that waits, and the end with it if that follows. Answers whether there was one.
    fn poll_head(&mut self, cx: &mut Context<'_>, body_follows: bool) -> Poll<io::Result<bool>> {
        if self.head.is_none() {
            return Poll::Ready(Ok(false));
        }
        if let Err(error) = ready!(self.send.poll_ready(cx)) {
            self.is_refused = true;
            return Poll::Ready(Err(error::io(error)));
        }
        let Some(head) = self.head.take() else { return Poll::Ready(Ok(false)) };
        let ends = !body_follows && self.asked.is_none() && self.outgoing.is_only_end();
        let sent = self.send.send_request(head, ends);
        let (response, stream) = sent.map_err(|error| self.failed(error))?;
        if ends {
            self.outgoing.was_ended();
        }
        (self.response, self.stream) = (Some(response), Some(stream));
        Poll::Ready(Ok(true))
    }

    fn failed(&mut self, error: h2::Error) -> io::Error {
        self.is_refused |= error::is_refusal(&error);
        error::io(error)
    }
}

impl Message for OpenedStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut self.incoming {
            Some(incoming) => incoming.poll_read(cx, space),
            None => Poll::Ready(Err(ErrorKind::NotConnected.into())),
        }
    }

    fn is_at_end(&self) -> bool {
        self.incoming.as_ref().is_some_and(Incoming::is_at_end)
    }

    fn take_trailers(&mut self) -> Option<Fields> {
        self.incoming.as_mut()?.take_trailers()
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_head(cx, true))?;
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(ErrorKind::NotConnected.into())) };
        let reset = stream.poll_reset(cx);
        self.is_refused |= error::refuses(&reset);
        if let Poll::Ready(why) = poll_reset(reset) {
            return Poll::Ready(Err(why));
        }
        self.outgoing.poll_write(cx, stream, parts)
    }

    fn is_waiting(&self) -> bool {
        self.head.is_some() || self.stream.is_some() && self.outgoing.is_waiting() && self.asked.is_none()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let sent = ready!(self.poll_head(cx, false))?;
        match &mut self.stream {
            Some(stream) if self.asked.is_none() => Poll::Ready(Ok(self.outgoing.flush(stream)? || sent)),
            _ => Poll::Ready(Ok(sent)),
        }
    }

    fn end(&mut self, trailers: Option<&Fields>) {
        // While it is not known whether the protocol changes, only the request ends and not what follows it.
        if self.asked.is_none() && self.outgoing.end(trailers).is_err() {
            self.abort();
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match &mut self.stream {
            Some(stream) => poll_reset(stream.poll_reset(cx)),
            None => Poll::Pending,
        }
    }

    fn abort(&mut self) {
        self.head = None;
        if let Some(stream) = &mut self.stream {
            stream.send_reset(Reason::CANCEL);
        }
    }
}

impl Opened for OpenedStream {
    fn request(
        &mut self,
        head: &RequestHead,
        fallback_host: &str,
        length: Option<u64>,
        upgrade: Option<&[u8]>,
    ) -> io::Result<()> {
        let mut request = heads::write_request(head, self.is_secure, fallback_host, length)?;
        if let Some(protocol) = upgrade {
            request = websocket::connect(request, protocol)?;
            self.asked = Some(Asked { protocol: protocol.to_vec(), key: websocket::key(head) });
        }
        self.head = Some(request);
        Ok(())
    }

    fn poll_response(&mut self, cx: &mut Context<'_>, head: &mut ResponseHead) -> Poll<io::Result<()>> {
        let Some(response) = &mut self.response else { return Poll::Pending };
        if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
            let interim = interim.map_err(|error| self.failed(error))?;
            heads::read_response(&interim, head);
            return Poll::Ready(Ok(()));
        }
        let response = ready!(Pin::new(response).poll(cx)).map_err(|error| self.failed(error))?;
        self.response = None;
        heads::read_response(&response, head);
        self.incoming = Some(Incoming::new(response.into_body()));
        if let Some(Asked { protocol, key }) = self.asked.take() {
            if (200..300).contains(&head.status) {
                websocket::agree(head, &protocol, key.as_deref());
            } else {
                self.outgoing.end(None)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn is_refused(&self) -> bool {
        self.is_refused
    }
}
