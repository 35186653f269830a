//! A client's HTTP/2 connection: many requests at a time, each a task of its own.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use http::Request;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::config::Http2;
use crate::http::connection;
use crate::http::h2::accepted::AcceptedStream;
use crate::http::h2::watch::{Watched, Wrong};
use crate::http::head::Version;
use crate::http::heads;
use crate::http::streams::{Active, Streams};
use crate::http::worker::{Seat, Worker};
use crate::net::{Deadline, Peer, Stream};
use crate::telemetry::metrics::{Timeout, WorkerMetrics};

/// Bytes of one stream's response that wait to be sent, at most.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that were reset by the client and that the library still remembers, and those it accepts only to see them reset.
const RESETS: usize = 50;
/// How long a connection that is being left may take to end without a request on it.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves a connection until it ends.
pub(crate) async fn serve(worker: &Rc<Worker>, stream: Stream, peer: &Peer, seat: &Seat<'_>, metrics: &WorkerMetrics) {
    let site = worker.site();
    let (io, wrong) = Watched::new(stream);
    let handshake = builder(&site.server.http2, site.limits.max_head).handshake(io);
    let patience = site.server.client_header_timeout;
    drop(site);
    let connection = match timeout(patience, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            debug!(client = ?peer.address, %error, "an HTTP/2 connection did not begin");
            return;
        }
        Err(_) => {
            metrics.timed_out(Timeout::ClientHeader);
            return;
        }
    };
    let served = Served {
        worker,
        connection,
        wrong,
        peer: Rc::new(peer.clone()),
        seat,
        metrics,
        streams: Rc::default(),
        idle_since: Some(Instant::now()),
        idle: Deadline::default(),
        is_leaving: false,
        is_stopped: false,
    };
    served.run().await;
}

fn builder(config: &Http2, max_head: usize) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(config.max_concurrent_streams)
        .initial_window_size(config.window)
        // Room for every stream's window: one that nobody reads does not hold up the others.
        .initial_connection_window_size(config.connection_window())
        .max_header_list_size(u32::try_from(max_head).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(RESETS)
        .max_pending_accept_reset_streams(RESETS)
        .enable_connect_protocol();
    builder
}

/// A connection that is being served.
struct Served<'c> {
    worker: &'c Rc<Worker>,
    connection: Connection<Watched, Bytes>,
    wrong: Rc<Cell<Option<Wrong>>>,
    peer: Rc<Peer>,
    seat: &'c Seat<'c>,
    metrics: &'c WorkerMetrics,
    streams: Rc<Streams>,
    /// Since when there has been no request on it.
    idle_since: Option<Instant>,
    idle: Deadline,
    /// It takes no further requests.
    is_leaving: bool,
    /// It takes nothing at all.
    is_stopped: bool,
}

impl Served<'_> {
    async fn run(mut self) {
        self.seat.rest();
        let ended = poll_fn(|cx| self.poll(cx)).await;
        if let Err(error) = ended {
            debug!(client = ?self.peer.address, %error, "an HTTP/2 connection broke");
        }
        let Self { connection, streams, .. } = self;
        // Requests whose client is gone notice that now, and end in their own way.
        drop(connection);
        poll_fn(|cx| streams.poll_idle(cx)).await;
    }

    /// Ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            if self.worker.is_draining() {
                self.leave();
            }
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.start(request, respond);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => {}
            }
            if let Some(wrong) = self.wrong.get()
                && !self.is_stopped
            {
                if wrong.is_flood() {
                    warn!(client = ?self.peer.address, cause = %wrong, "closed an HTTP/2 connection");
                    self.metrics.http2_floods.increment();
                } else {
                    debug!(client = ?self.peer.address, cause = %wrong, "closed an HTTP/2 connection");
                }
                self.connection.abrupt_shutdown(wrong.reason());
                (self.is_leaving, self.is_stopped) = (true, true);
                continue;
            }
            if self.streams.poll_idle(cx).is_pending() {
                return Poll::Pending;
            }
            ready!(self.poll_rest(cx));
            if self.is_leaving {
                return Poll::Ready(Ok(()));
            }
            self.leave();
            self.idle_since = None;
        }
    }

    /// Waits for a request; ready when none came in time.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.idle_since.is_none() {
            self.seat.rest();
        }
        let since = *self.idle_since.get_or_insert_with(Instant::now);
        let wait = match self.is_leaving {
            true => FAREWELL,
            false if self.seat.is_to_leave() => return Poll::Ready(()),
            false => self.worker.site().server.client_keepalive_timeout,
        };
        ready!(self.idle.poll(cx, since + wait));
        if !self.is_leaving {
            self.metrics.timed_out(Timeout::ClientKeepalive);
        }
        Poll::Ready(())
    }

    /// Takes no further requests. Those that are under way end, and so does the connection then.
    fn leave(&mut self) {
        if !self.is_leaving {
            self.is_leaving = true;
            self.connection.graceful_shutdown();
        }
    }

    fn start(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        if self.idle_since.take().is_some() {
            self.seat.wake();
        }
        let active = self.streams.enter();
        let (worker, peer) = (self.worker.clone(), self.peer.clone());
        // Boxed: the runtime moves what it is given several times.
        tokio::task::spawn_local(Box::pin(exchange(worker, peer, request, respond, active)));
    }
}

/// Serves one request.
async fn exchange(
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    _active: Active,
) {
    let (mut parts, body) = request.into_parts();
    let protocol = parts.extensions.remove::<h2::ext::Protocol>().map(|protocol| protocol.as_ref().to_vec());
    let (connects, ended) = (protocol.is_some(), body.is_end_stream());
    let request = Request::from_parts(parts, ());
    let message = Box::new(AcceptedStream::new(body, respond, connects));
    connection::serve_message(&worker, message, &peer, ended || connects, |limits, head| {
        heads::read_request(&request, protocol, Version::Http2, limits, head)?;
        heads::request_body(head, ended || connects)
    })
    .await;
}
