//! A client's HTTP/3 connection: many requests at a time, each a task of its own.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h3::error::{Code, ConnectionError};
use h3::server::{Connection, RequestResolver};
use quinn::VarInt;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::admission::Place;
use crate::config::Demands;
use crate::http::h3::carrier::{Carrier, Shared};
use crate::http::h3::flood::Meter;
use crate::http::h3::request::exchange;
use crate::http::streams::{self, Streams};
use crate::http::worker::{Seat, Worker};
use crate::net::peer::Security;
use crate::net::{Deadline, Peer};
use crate::telemetry::metrics::{Timeout, WorkerMetrics};

/// Requests that may still come after a client was told to make no more: all there are. Those that it made before it
/// heard of that are served.
const STILL_COMING: usize = usize::MAX;
/// A QUIC connection whose client is known.
pub(crate) struct Visitor {
    pub(crate) connection: quinn::Connection,
    pub(crate) security: Arc<Security>,
    pub(crate) demands: Option<Arc<Demands>>,
    /// Its listener ends.
    pub(crate) leave: CancellationToken,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(worker: Rc<Worker>, visitor: Visitor, _place: Place) {
    let site = worker.site();
    let metrics = site.ledger.metrics.clone();
    let _open = metrics.connection_opened();
    let (max_head, patience) = (site.limits.max_head, site.server.client_header_timeout);
    drop(site);
    let seat = worker.sit(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
    let (carrier, shared) = Carrier::new(visitor.connection.clone());
    let mut builder = h3::server::builder();
    // Frames without a meaning are an exercise for clients, not for a proxy.
    builder.max_field_section_size(max_head as u64).send_grease(false);
    let built = {
        let mut building = pin!(builder.build(carrier));
        let build = poll_fn(|cx| {
            let polled = building.as_mut().poll(cx);
            shared.push(cx);
            polled
        });
        timeout(patience, build).await
    };
    let connection = match built {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            debug!(client = %visitor.connection.remote_address(), %error, "an HTTP/3 connection did not begin");
            return;
        }
        Err(_) => {
            metrics.timed_out(Timeout::ClientHeader);
            return;
        }
    };
    let served = Served {
        worker: &worker,
        quic: visitor.connection,
        connection,
        shared,
        origin: Rc::new(Origin { security: visitor.security, demands: visitor.demands }),
        seat: &seat,
        metrics: &metrics,
        requests: Rc::new(Requests::new()),
        idle_since: Some(Instant::now()),
        idle: Deadline::default(),
        leave: Box::pin(visitor.leave.cancelled_owned()),
        is_leaving: false,
    };
    served.run().await;
}

/// What all requests of a connection have in common.
struct Origin {
    security: Arc<Security>,
    demands: Option<Arc<Demands>>,
}

/// A connection that is being served.
struct Served<'c> {
    worker: &'c Rc<Worker>,
    quic: quinn::Connection,
    connection: Connection<Carrier, Bytes>,
    shared: Rc<Shared>,
    origin: Rc<Origin>,
    seat: &'c Seat<'c>,
    metrics: &'c WorkerMetrics,
    requests: Rc<Requests>,
    /// Since when there has been no request on it.
    idle_since: Option<Instant>,
    idle: Deadline,
    leave: Pin<Box<dyn Future<Output = ()>>>,
    /// It takes no further requests.
    is_leaving: bool,
}

/// The requests of a connection, and whether its client takes too many of them back.
struct Requests {
    streams: Rc<Streams>,
    meter: RefCell<Meter>,
    is_flood: Cell<bool>,
}

/// One of them, until this is dropped.
pub(super) struct Active {
    requests: Rc<Requests>,
    _counted: streams::Active,
}

impl Requests {
    fn new() -> Self {
        let meter = RefCell::new(Meter::new(Instant::now()));
        Self { streams: Rc::default(), meter, is_flood: Cell::new(false) }
    }

    fn enter(self: &Rc<Self>) -> Active {
        self.meter.borrow_mut().begin(Instant::now());
        Active { _counted: self.streams.enter(), requests: self.clone() }
    }
}

impl Active {
    /// The client has taken the request back.
    pub(super) fn take_back(&self) {
        if self.requests.meter.borrow_mut().take_back() {
            self.requests.is_flood.set(true);
            self.requests.streams.wake();
        }
    }
}

impl Served<'_> {
    async fn run(mut self) {
        self.seat.rest();
        let ended = poll_fn(|cx| self.poll(cx)).await;
        let Self { connection, requests, quic, .. } = self;
        if let Err(error) = ended
            && !error.is_h3_no_error()
        {
            debug!(client = %quic.remote_address(), %error, "an HTTP/3 connection broke");
        }
        // Closes it. Requests whose client is gone notice that now, and end in their own way.
        drop(connection);
        poll_fn(|cx| requests.streams.poll_idle(cx)).await;
    }

    /// Ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        loop {
            if !self.is_leaving && (self.worker.is_draining() || self.leave.as_mut().poll(cx).is_ready()) {
                self.leave(STILL_COMING);
            }
            let accepted = pin!(self.connection.accept()).poll(cx);
            self.shared.push(cx);
            match accepted {
                Poll::Ready(Ok(Some(resolver))) => {
                    self.start(resolver);
                    continue;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                // The client makes no further requests.
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(())),
                Poll::Pending => {}
            }
            if self.requests.is_flood.get() {
                warn!(client = %self.quic.remote_address(), "closed an HTTP/3 connection: too many requests that were taken back");
                self.metrics.http3_floods.increment();
                let code = VarInt::from_u64(Code::H3_EXCESSIVE_LOAD.value()).unwrap_or(VarInt::MAX);
                self.quic.close(code, b"too many requests that were taken back");
                return Poll::Ready(Ok(()));
            }
            if self.requests.streams.poll_idle(cx).is_pending() {
                return Poll::Pending;
            }
            ready!(self.poll_rest(cx));
            if self.is_leaving {
                // What has not come by now is turned away, and can be sent again elsewhere.
                self.shared.close();
                self.leave(1);
                self.shared.push(cx);
                return Poll::Ready(Ok(()));
            }
            self.leave(STILL_COMING);
            self.idle_since = None;
        }
    }

    /// Waits for a request; ready when none came in time.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.idle_since.is_none() {
            self.seat.rest();
        }
        let since = *self.idle_since.get_or_insert_with(Instant::now);
        let server = &self.worker.site().server;
        let wait = match self.is_leaving {
            true => server.client_keepalive_min_timeout,
            false if self.seat.is_to_leave() => return Poll::Ready(()),
            false => server.client_keepalive_timeout,
        };
        ready!(self.idle.poll(cx, since + wait));
        if !self.is_leaving {
            self.metrics.timed_out(Timeout::ClientKeepalive);
        }
        Poll::Ready(())
    }

    /// Has the client make no further requests, but for `more` that it may have made already.
    fn leave(&mut self, more: usize) {
        self.is_leaving = true;
        if self.shared.is_unused() {
            // The library says so to the client then, whatever `more` is.
            self.shared.close();
        }
        // It is written into a queue, which takes no time. What is wrong with the connection is told by `accept`.
        let _ = pin!(self.connection.shutdown(more)).poll(&mut Context::from_waker(Waker::noop()));
    }

    fn start(&mut self, resolver: RequestResolver<Carrier, Bytes>) {
        let Some(link) = self.shared.take_latest() else { return };
        if self.idle_since.take().is_some() {
            self.seat.wake();
        }
        // It may come from another address than the one before (RFC 9000 section 9).
        let peer = Peer {
            address: Some(self.quic.remote_address()),
            destination: None,
            security: Some(self.origin.security.clone()),
            demands: self.origin.demands.clone(),
        };
        let active = self.requests.enter();
        // Boxed: the runtime moves what it is given several times.
        tokio::task::spawn_local(Box::pin(exchange(self.worker.clone(), peer, resolver, link, active)));
    }
}

/// How many requests a client may have at a time, and how much of each may come before somebody takes it.
pub(crate) fn transport(config: &crate::config::Http2) -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(config.max_concurrent_streams.into())
        .max_concurrent_uni_streams(ASIDE)
        .stream_receive_window(config.window.into())
        // Room for every stream's window: one that nobody reads does not hold up the others.
        .receive_window(config.connection_window().into())
        .send_window(SEND_WINDOW)
        .max_idle_timeout(Some(VarInt::from_u32(SILENCE_MILLISECONDS).into()))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .datagram_receive_buffer_size(None);
    transport
}

/// Streams of a client that carry no request: three for the protocol (RFC 9114 section 6.2), and some that mean nothing.
const ASIDE: VarInt = VarInt::from_u32(8);
/// Bytes of a connection's responses that are on the way or wait to be, at most: 160 Mbit/s over 100 ms.
const SEND_WINDOW: u64 = 2 * 1024 * 1024;
/// A client that has not been heard of for so long is gone.
const SILENCE_MILLISECONDS: u32 = 30_000;
/// How often a silent client is asked whether it is there, so that an answer that takes long still finds it.
const KEEP_ALIVE: Duration = Duration::from_secs(12);
