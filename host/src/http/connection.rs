//! A client's connection: one request of HTTP/1 after the other, and nothing held between them; or HTTP/2.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;
use tracing::error;

use crate::admission::Place;
use crate::http::error::ExchangeError;
use crate::http::exchange::{self, After, Client, Sent};
use crate::http::facts::Exchange;
use crate::http::h1::{self, BadRequest, BodyKind, Limits};
use crate::http::h2;
use crate::http::head::RequestHead;
use crate::http::site::Site;
use crate::http::upload::{ClientFault, Upload};
use crate::http::worker::Worker;
use crate::net::message::Accepted;
use crate::net::tls::HTTP2;
use crate::net::{Peer, Stream, Transport, Wake};
use crate::telemetry::metrics::{Timeout, WorkerMetrics};

/// How long what a client still sends is read after its last response, between two reads and in all (nginx's
/// `lingering_timeout` and `lingering_time`).
const LINGER_IDLE: Duration = Duration::from_secs(5);
const LINGER: Duration = Duration::from_secs(30);

/// What follows a run of requests.
enum Next {
    /// Wait for another request, since the last one's response was sent.
    Rest(Instant),
    End(After),
}

/// Serves a connection until it ends.
pub(crate) async fn serve(worker: Rc<Worker>, stream: Stream, peer: Peer, _place: Place) {
    let site = worker.site();
    let metrics = site.ledger.metrics.clone();
    let _open = metrics.connection_opened();
    let _watch = Watch { metrics: &metrics, peer: &peer };
    let mut client = Transport::new(stream, site.server.client_body_timeout, site.server.client_send_timeout);
    let seat = worker.sit(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
    let mut wait = site.server.client_header_timeout;
    let mut is_first = true;
    drop(site);
    let mut since = Instant::now();
    if client.stream().negotiated() == Some(HTTP2) {
        // Boxed, as it is larger than what idle connections of HTTP/1 need.
        return Box::pin(h2::serve(&worker, client.into_stream(), &peer, &seat, &metrics)).await;
    }
    loop {
        // An idle connection is this wait: a socket, a timer and a waker.
        seat.rest();
        let woken = poll_fn(|cx| {
            if !worker.is_draining() {
                return match client.poll_wake(cx, since + wait) {
                    Poll::Pending if seat.is_to_leave() => Poll::Ready(Wake::Ended),
                    polled => polled,
                };
            }
            // To close at once would meet a request that is on its way already.
            let wait = wait.min(worker.site().server.client_keepalive_min_timeout);
            client.poll_wake(cx, since + wait).map(|wake| if wake == Wake::Late { Wake::Ended } else { wake })
        });
        match woken.await {
            Wake::Received => seat.wake(),
            Wake::Ended => break,
            Wake::Late => {
                metrics.timed_out(Timeout::ClientKeepalive);
                break;
            }
        }
        if std::mem::take(&mut is_first) && begins_http2(&mut client, wait).await {
            return Box::pin(h2::serve(&worker, client.into_stream(), &peer, &seat, &metrics)).await;
        }
        // The larger part of a connection's state exists only while requests are served.
        match Box::pin(requests(&worker, &mut client, &peer)).await {
            Next::Rest(ended) => {
                since = ended;
                client.rest();
                wait = worker.site().server.client_keepalive_timeout;
            }
            Next::End(After::Linger) => {
                linger(&mut client).await;
                break;
            }
            Next::End(After::Keep | After::Discard | After::Close) => break,
            Next::End(After::Abort) => {
                client.abort();
                return;
            }
        }
    }
    // What has ended in order says so where that can be told from what was cut off.
    if client.has_farewell() {
        let _ = poll_fn(|cx| client.poll_shutdown(cx)).await;
    }
}

/// Whether the client speaks HTTP/2 without having been asked (RFC 9113 section 3.3). Reads no more of a request of
/// HTTP/1 than shows that.
async fn begins_http2(client: &mut Transport, wait: Duration) -> bool {
    client.latest = Some(Instant::now() + wait);
    loop {
        let received = client.input.bytes();
        let compared = received.len().min(h2::PREFACE.len());
        if received[..compared] != h2::PREFACE[..compared] {
            break;
        }
        if compared == h2::PREFACE.len() {
            return true;
        }
        if !matches!(client.fill().await, Ok(1..)) {
            break;
        }
    }
    client.latest = None;
    false
}

/// Notes when a connection ends by a panic.
pub(crate) struct Watch<'m> {
    pub(crate) metrics: &'m WorkerMetrics,
    pub(crate) peer: &'m Peer,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.metrics.panics.increment();
            error!(client = ?self.peer.address, "serving a connection panicked, which cost that connection: a bug of the proxy");
        }
    }
}

/// Serves requests as long as their bytes are there.
async fn requests(worker: &Worker, transport: &mut Transport, peer: &Peer) -> Next {
    loop {
        let mut exchange = worker.take_exchange(peer);
        let after = request(worker, transport, &mut exchange).await;
        let ended = exchange.ended;
        worker.give_exchange(exchange);
        match after {
            Some(After::Keep) if transport.input.is_empty() => return Next::Rest(ended.unwrap_or_else(Instant::now)),
            Some(After::Keep) => {}
            Some(after) => return Next::End(after),
            None => return Next::End(After::Close),
        }
    }
}

/// Reads one request and serves it. `None` when the client closed instead.
async fn request(worker: &Worker, transport: &mut Transport, exchange: &mut Exchange) -> Option<After> {
    let head = read_head(&worker.site(), transport, exchange).await;
    // A request is served by what is configured when its head is there.
    let site = worker.site();
    (transport.read_timeout, transport.write_timeout) =
        (site.server.client_body_timeout, site.server.client_send_timeout);
    transport.expect_rate(site.server.client_min_rate);
    let mut client = Client { transport, worker, keeps_alive: false };
    let refused = match head {
        Ok(false) => return None,
        Ok(true) => match h1::request_body(&exchange.request) {
            Ok(kind) => {
                client.keeps_alive = h1::request_keeps_alive(&exchange.request);
                let upload = Upload::new(kind, h1::expects_continue(&exchange.request), site.server.max_body_size);
                return Some(admit(site, &mut client, exchange, upload, kind).await);
            }
            Err(bad) => ExchangeError::BadRequest(bad),
        },
        Err(error) => error,
    };
    let mut upload = Upload::new(BodyKind::None, false, None);
    Some(refuse(&site, &mut client, exchange, &mut upload, refused).await)
}

/// Serves one request of a connection that carries many. `ended`: nothing follows its head.
pub(crate) async fn serve_message(
    worker: &Worker,
    message: Box<dyn Accepted>,
    peer: &Peer,
    ended: bool,
    read: impl FnOnce(&Limits, &mut RequestHead) -> Result<BodyKind, BadRequest>,
) {
    let site = worker.site();
    let metrics = site.ledger.metrics.clone();
    let _watch = Watch { metrics: &metrics, peer };
    let (body_timeout, send_timeout) = (site.server.client_body_timeout, site.server.client_send_timeout);
    let mut transport = Transport::new(Stream::Accepted(message), body_timeout, send_timeout);
    transport.expect_rate(site.server.client_min_rate);
    let mut exchange = worker.take_exchange(peer);
    let read = read(&site.limits, &mut exchange.request);
    exchange.started = Instant::now();
    exchange.request.mark_received();
    let mut client = Client { transport: &mut transport, worker, keeps_alive: true };
    let after = match read {
        Ok(kind) => {
            let expects_continue = h1::expects_continue(&exchange.request) && !ended;
            let upload = Upload::of_message(kind, ended, expects_continue, site.server.max_body_size);
            admit(site, &mut client, &mut exchange, upload, kind).await
        }
        Err(bad) => {
            let mut upload = Upload::new(BodyKind::None, false, None);
            refuse(&site, &mut client, &mut exchange, &mut upload, ExchangeError::BadRequest(bad)).await
        }
    };
    if after == After::Abort {
        transport.abort();
    }
    worker.give_exchange(exchange);
}

/// Answers a request that goes nowhere. Nothing is known of what follows it on the connection, so that is closed.
async fn refuse(
    site: &Site,
    client: &mut Client<'_>,
    exchange: &mut Exchange,
    upload: &mut Upload,
    error: ExchangeError,
) -> After {
    client.keeps_alive = false;
    let mut sent = Sent::default();
    let after = exchange::fail(site.pages(None), client, exchange, upload, &error, &mut sent).await;
    site.ledger.enter(None, exchange, 0, sent.body, Some(&error));
    if after == After::Close { After::Linger } else { after }
}

async fn admit(
    site: Rc<Site>,
    client: &mut Client<'_>,
    exchange: &mut Exchange,
    mut upload: Upload,
    kind: BodyKind,
) -> After {
    if let (BodyKind::Length(length), Some(max)) = (kind, site.server.max_body_size)
        && length > max
    {
        exchange::recognise(&site, exchange);
        return refuse(&site, client, exchange, &mut upload, ClientFault::TooLarge.into()).await;
    }
    match exchange::serve(site, client, exchange, &mut upload).await {
        // Where requests have streams of their own, nothing stands behind this one.
        After::Discard if client.transport.stream().message().is_none() => {
            Box::pin(discard(client.transport, &mut upload)).await
        }
        after => after,
    }
}

/// Reads the rest of a short body whose request has been answered, so that the next request can be read behind it.
async fn discard(client: &mut Transport, upload: &mut Upload) -> After {
    let patience = std::mem::replace(&mut client.read_timeout, LINGER_IDLE);
    client.latest = Some(Instant::now() + LINGER);
    let came = upload.discard(client).await;
    (client.read_timeout, client.latest) = (patience, None);
    if came { After::Keep } else { After::Close }
}

/// Reads a request's head; `false` when the client closed before it began one.
async fn read_head(site: &Site, transport: &mut Transport, exchange: &mut Exchange) -> Result<bool, ExchangeError> {
    transport.latest = None;
    // For a head there is a time limit as a whole.
    transport.expect_rate(None);
    loop {
        if !transport.input.is_empty() {
            match h1::parse_request(transport.input.bytes(), &site.limits, &mut exchange.request) {
                Ok(Some(length)) => {
                    transport.input.consume(length);
                    transport.latest = None;
                    exchange.started = Instant::now();
                    exchange.request.mark_received();
                    return Ok(true);
                }
                Ok(None) => {}
                Err(bad) => {
                    exchange.started = Instant::now();
                    return Err(ExchangeError::BadRequest(bad));
                }
            }
            if transport.input.len() == transport.input.capacity() {
                transport.input.grow(2 * transport.input.capacity());
            }
            if transport.latest.is_none() {
                // Until all of it is there, a request has begun with its first bytes.
                exchange.started = Instant::now();
                transport.latest = Some(exchange.started + site.server.client_header_timeout);
            }
        }
        match transport.fill().await {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::TimedOut => return Err(ExchangeError::HeadTimeout),
            Err(_) => return Ok(false),
        }
    }
}

/// Closes in a way that lets the client read the response it was sent while it was still sending itself.
async fn linger(client: &mut Transport) {
    if poll_fn(|cx| client.poll_shutdown(cx)).await.is_err() {
        return;
    }
    client.read_timeout = LINGER_IDLE;
    client.latest = Some(Instant::now() + LINGER);
    loop {
        let received = client.input.len();
        client.input.consume(received);
        if !matches!(client.fill().await, Ok(1..)) {
            return;
        }
    }
}
