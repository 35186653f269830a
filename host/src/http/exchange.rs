//! One request with its response, from the head that was read to the line in the access log.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::admission::KeyedInFlight;
use crate::config::ErrorPage;
use crate::filters::{BodyChain, LocalResponse};
use crate::http::error::ExchangeError;
use crate::http::facts::Exchange;
use crate::http::fallback::{Forwarded, forward};
use crate::http::h1::{self, BodyDecoder, BodyEncoder, BodyKind, ConnectionOption, Encoding, ResponseOptions};
use crate::http::head::{Known, Version};
use crate::http::pages::Pages;
use crate::http::pump::{Passage, Pump};
use crate::http::site::{self, Route, Site};
use crate::http::upload::{Upload, UploadError};
use crate::http::worker::Worker;
use crate::http::{forwarded, front, grpc, pages, respond, send_head};
use crate::net::{Transport, TunnelEnd, tunnel};
use crate::upstream::{Response, UpstreamError, watch};

/// The client's side of an exchange.
pub(crate) struct Client<'c> {
    pub(crate) transport: &'c mut Transport,
    pub(crate) worker: &'c Worker,
    /// Whether the client wants to send further requests, and may.
    pub(crate) keeps_alive: bool,
}

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It can carry the next request.
    Keep,
    /// It can carry the next request behind what is left of the present one's body.
    Discard,
    /// It is over.
    Close,
    /// It is over; what the client still sends is read for a moment, so that it sees the response.
    Linger,
    /// It is over, and whatever was sent must not look complete.
    Abort,
}

/// How much of a response has gone to the client.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Body bytes.
    pub(crate) body: u64,
    /// What becomes of the connection; `None` while nothing of a final response was sent.
    after: Option<After>,
}

/// What an exchange has come to without an error.
enum Served {
    Answered,
    /// Both sides have left HTTP. What counts it stays with it.
    Upgraded(Box<Response>, Option<KeyedInFlight>),
}

/// Serves one request. The whole life of a request is this function.
pub(crate) async fn serve(
    site: Rc<Site>,
    client: &mut Client<'_>,
    exchange: &mut Exchange,
    upload: &mut Upload,
) -> After {
    let mut sent = Sent::default();
    recognise(&site, exchange);
    let redirect = front::redirect(exchange);
    let route = site.route(exchange).filter(|_| redirect.is_none()).cloned();
    if let Some(route) = &route {
        exchange.route.learn(&route.name);
    }
    let served = match (redirect, site.closed(route.as_deref(), exchange), &route) {
        (Some(Ok(answer)), ..) => {
            local(client, exchange, upload, &answer, None, &mut sent).await.map(|()| Served::Answered)
        }
        (Some(Err(error)), ..) => Err(error),
        (None, Some(refusal), _) => Err(ExchangeError::Maintenance(refusal)),
        (None, None, Some(route)) => answer(&site, route, client, exchange, upload, &mut sent).await,
        (None, None, None) => Err(ExchangeError::NoRoute),
    };
    let (after, error) = match served {
        Ok(Served::Answered) => (sent.after, None),
        Ok(Served::Upgraded(response, _counted)) => {
            let idle = site.server.tunnel_timeout;
            let (ledger, metrics) = (site.ledger.clone(), route.as_ref().map(|route| route.metrics.clone()));
            // A tunnel may stay for days, and needs nothing of what is configured meanwhile.
            drop((site, route));
            let error = Box::pin(pass(client, response, idle)).await.err();
            ledger.enter(metrics.as_deref(), exchange, upload.received(), sent.body, error.as_ref());
            return sent.after.unwrap_or(After::Abort);
        }
        // Nothing was sent yet: there is still an answer to give.
        Err(error) if sent.after.is_none() => {
            let pages = site.pages(route.as_deref());
            (Some(fail(pages, client, exchange, upload, &error, &mut sent).await), Some(error))
        }
        Err(error) => (None, Some(error)),
    };
    let metrics = route.as_ref().map(|route| &*route.metrics);
    site.ledger.enter(metrics, exchange, upload.received(), sent.body, error.as_ref());
    after.unwrap_or(After::Abort)
}

/// Finds out who asks and in whose words an answer is, before anything is decided about the request.
pub(crate) fn recognise(site: &Site, exchange: &mut Exchange) {
    forwarded::identify(&site.server, exchange);
    exchange.is_grpc = grpc::is_call(&exchange.request);
}

async fn answer(
    site: &Site,
    route: &Route,
    client: &mut Client<'_>,
    exchange: &mut Exchange,
    upload: &mut Upload,
    sent: &mut Sent,
) -> Result<Served, ExchangeError> {
    if client.worker.admission.memory.is_short() {
        return Err(ExchangeError::MemoryLimit);
    }
    let counted = route.count(exchange)?;
    let pages = site.pages(Some(route));
    let target = route.target(exchange);
    if let Ok(upstream) = &target {
        exchange.upstream.learn(upstream.name());
    }
    forwarded::describe(&site.server, exchange);
    front::describe_client(exchange);
    let deadline = route.deadline(exchange);
    for filter in route.filters.iter().map(|filter| filter.get()).filter(|filter| filter.sides().request) {
        if let Some(answer) = site::flow(filter.on_request(exchange))? {
            let page = pages.of(answer.status);
            return local(client, exchange, upload, &answer, page, sent).await.map(|()| Served::Answered);
        }
        if let Some(delay) = exchange.delay.take() {
            Box::pin(hold(client, upload, delay, deadline)).await?;
        }
    }
    if upload.has_body() {
        let chain = route.request_bodies(exchange)?;
        if !chain.is_empty() {
            upload.rewrite(chain);
        }
    }
    let mut upstream = match target {
        Ok(upstream) => upstream,
        Err(answer) => {
            let page = pages.of(answer.status).filter(|_| answer.body.is_empty());
            return local(client, exchange, upload, &answer, page, sent).await.map(|()| Served::Answered);
        }
    };
    if let Some(chosen) = exchange.send_to.as_deref().and_then(|chosen| site.upstream(chosen)) {
        upstream = chosen;
    }
    let response = match forward(site, route, client.transport, exchange, upload, upstream, deadline).await? {
        Forwarded::Response(response) => response,
        Forwarded::Answer(answer) => {
            let page = pages.of(answer.status).filter(|_| answer.body.is_empty());
            return local(client, exchange, upload, answer, page, sent).await.map(|()| Served::Answered);
        }
    };
    if exchange.is_grpc {
        exchange.grpc_status = grpc::code(&exchange.response.fields);
    } else if let Some(page) = pages.intercepting(exchange.response.status) {
        let answer = pages::stripped(exchange);
        response.discard(exchange, upload);
        return local(client, exchange, upload, &answer, Some(page), sent).await.map(|()| Served::Answered);
    }
    let mut response = response;
    let kind = response.body(exchange).map_err(|error| ExchangeError::BadResponse(std::io::Error::other(error)))?;
    let reusable = h1::response_keeps_alive(&exchange.response) && kind != BodyKind::UntilClose;
    if exchange.response.status == 101 {
        upgrade(client, exchange, sent)?;
        return Ok(Served::Upgraded(Box::new(response), counted));
    }
    if let Some(answer) = route.rewrite_response(exchange)? {
        drop(response);
        let page = pages.of(answer.status);
        return local(client, exchange, upload, &answer, page, sent).await.map(|()| Served::Answered);
    }
    front::announce(exchange);
    let chain = match kind {
        BodyKind::None if !exchange.request.has_method("HEAD") => BodyChain::default(),
        _ => route.response_bodies(exchange)?,
    };
    download(client, exchange, upload, response, kind, chain, reusable, sent).await.map(|()| Served::Answered)
}

/// Holds a request back while its client is there.
async fn hold(
    client: &mut Client<'_>,
    upload: &Upload,
    delay: Duration,
    deadline: Option<Instant>,
) -> Result<(), ExchangeError> {
    let until = Instant::now() + delay;
    let late = deadline.is_some_and(|deadline| deadline <= until);
    let until = deadline.map_or(until, |deadline| deadline.min(until));
    let mut waiting = pin!(tokio::time::sleep_until(until));
    poll_fn(|cx| {
        if upload.is_received() {
            watch(cx, client.transport)?;
        }
        waiting.as_mut().poll(cx).map(Ok)
    })
    .await
    .map_err(ExchangeError::Client)?;
    if late { Err(ExchangeError::Deadline) } else { Ok(()) }
}

/// Streams the response to the client, and what is left of the request to the endpoint.
#[expect(clippy::too_many_arguments, reason = "all of them are facts about the one response")]
async fn download(
    client: &mut Client<'_>,
    exchange: &mut Exchange,
    upload: &mut Upload,
    mut response: Response,
    kind: BodyKind,
    mut chain: BodyChain,
    reusable: bool,
    sent: &mut Sent,
) -> Result<(), ExchangeError> {
    let encoding = match (chain.is_empty(), kind) {
        (true, _) => Encoding::for_response(&exchange.response, kind, exchange.request.version),
        // Nobody knows how long it would be.
        (false, BodyKind::None) => Encoding::None,
        (false, _) => Encoding::for_response(&exchange.response, BodyKind::Chunked, exchange.request.version),
    };
    let rewritten = !chain.is_empty() && kind != BodyKind::None;
    let keep =
        client.keeps_alive && !client.worker.is_draining() && upload.is_received() && encoding != Encoding::UntilClose;
    let connection = match (keep, exchange.request.version) {
        (false, _) => ConnectionOption::Close,
        (true, Version::Http10) => ConnectionOption::KeepAlive,
        (true, _) => ConnectionOption::Implied,
    };
    let options = ResponseOptions { date: &client.worker.date(), connection };
    let client = &mut *client.transport;
    let (before, unsent) = (client.bytes_written, client.output.len());
    send_head::response(client, &exchange.response, encoding, options);

    // From here on the client has a part of the response: an error can only break it off.
    sent.after = Some(After::Abort);
    let endpoint = &mut response.connection.transport;
    let mut decoder = decoder(endpoint, kind);
    let mut pump = Pump::new(BodyEncoder::new(encoding));
    let pumped = poll_fn(|cx| {
        if !upload.is_over()
            && let Poll::Ready(Err(error)) = upload.poll(cx, client, endpoint)
        {
            match error {
                UploadError::Client(fault) => return Poll::Ready(Err(ExchangeError::Client(fault))),
                UploadError::Rewriter(broken) => return Poll::Ready(Err(ExchangeError::Download(broken.into()))),
                UploadError::Endpoint(_) => {}
            }
        }
        let mut passage = Passage { chain: rewritten.then_some(&mut chain), ..Passage::default() };
        let pumped = pump.poll(cx, &mut decoder, endpoint, client, &mut passage);
        if pumped.is_pending() && (upload.is_over() || upload.is_received()) {
            watch(cx, client).map_err(ExchangeError::Client)?;
        }
        pumped.map_err(ExchangeError::Download)
    })
    .await;
    sent.body = pump.moved;
    if exchange.is_grpc {
        exchange.grpc_status = exchange.grpc_status.or(pump.grpc_status);
    }
    if let Err(error) = pumped {
        if client.bytes_written == before && error.status().is_some() {
            // Nothing of it has left: there can still be an answer that says what happened.
            send_head::take_back(client, unsent);
            (sent.after, sent.body) = (None, 0);
        }
        let late = endpoint.latest.is_some_and(|latest| Instant::now() >= latest);
        return Err(if late { ExchangeError::Deadline } else { error });
    }
    let quiet = endpoint.input.is_empty() && !endpoint.has_output() && upload.is_sent();
    let ended = Instant::now();
    exchange.ended = Some(ended);
    if reusable && quiet {
        response.finish(ended);
    }
    sent.after = Some(if keep { After::Keep } else { over(client, upload) });
    Ok(())
}

/// What reads a response's body. One of a stream that ends by itself is read to that end, whatever length it has.
fn decoder(endpoint: &mut Transport, kind: BodyKind) -> BodyDecoder {
    match endpoint.stream().message() {
        Some(message) if message.is_at_end() => BodyDecoder::new(BodyKind::None),
        Some(_) => BodyDecoder::new(BodyKind::UntilClose),
        None => BodyDecoder::of_response(kind),
    }
}

/// Passes an agreed change of protocols on.
fn upgrade(client: &mut Client<'_>, exchange: &Exchange, sent: &mut Sent) -> Result<(), ExchangeError> {
    let Some(protocols) = exchange.response.fields.known(Known::Upgrade).filter(|value| !value.is_empty()) else {
        let cause = std::io::Error::new(std::io::ErrorKind::InvalidData, "a 101 that names no protocol");
        return Err(ExchangeError::BadResponse(cause));
    };
    let options = ResponseOptions { date: &client.worker.date(), connection: ConnectionOption::Upgrade(protocols) };
    send_head::response(client.transport, &exchange.response, Encoding::None, options);
    sent.after = Some(After::Abort);
    Ok(())
}

/// Passes bytes between two sides that have left HTTP.
async fn pass(client: &mut Client<'_>, mut response: Box<Response>, idle: Duration) -> Result<(), ExchangeError> {
    match tunnel(client.transport, &mut response.connection.transport, idle).await {
        TunnelEnd::Idle => Err(ExchangeError::TunnelIdle),
        TunnelEnd::Closed | TunnelEnd::Broken => Ok(()),
    }
}

/// Sends an answer of the proxy's own, with a page in place of its body.
async fn local(
    client: &mut Client<'_>,
    exchange: &mut Exchange,
    upload: &mut Upload,
    answer: &LocalResponse,
    page: Option<&ErrorPage>,
    sent: &mut Sent,
) -> Result<(), ExchangeError> {
    sent.after = Some(After::Abort);
    upload.discard_received(client.transport);
    let keep = client.keeps_alive && !client.worker.is_draining() && upload.is_discardable();
    sent.body = Box::pin(respond::send(client, exchange, answer, page, keep)).await?;
    sent.after = Some(behind(keep, client.transport, upload));
    Ok(())
}

/// Answers a failed exchange, if there is anybody to answer.
pub(crate) async fn fail(
    pages: Pages<'_>,
    client: &mut Client<'_>,
    exchange: &mut Exchange,
    upload: &mut Upload,
    error: &ExchangeError,
    sent: &mut Sent,
) -> After {
    let Some(mut answer) = respond::failure(error) else {
        exchange.response.clear();
        return After::Abort;
    };
    let page = pages.of(answer.status).filter(|_| answer.body.is_empty());
    if exchange.is_grpc {
        answer = grpc::failure(error, &answer);
    } else if page.is_none() && answer.body.is_empty() {
        respond::say(&mut answer);
    }
    upload.discard_received(client.transport);
    // What the client sends next cannot be told from what is left of its request.
    let theirs = matches!(
        error,
        ExchangeError::BadRequest(_)
            | ExchangeError::HeadTimeout
            | ExchangeError::Client(_)
            | ExchangeError::Upstream(UpstreamError::Client(_))
    );
    let keep = client.keeps_alive && !theirs && !client.worker.is_draining() && upload.is_discardable();
    match Box::pin(respond::send(client, exchange, &answer, page, keep)).await {
        Ok(body) => {
            sent.body = body;
            behind(keep, client.transport, upload)
        }
        Err(_) => After::Abort,
    }
}

/// What becomes of a connection behind a whole response that may not have waited for the request's body.
fn behind(keep: bool, client: &mut Transport, upload: &Upload) -> After {
    match (keep, upload.is_received()) {
        (true, true) => After::Keep,
        (true, false) => After::Discard,
        (false, _) => over(client, upload),
    }
}

/// How to close after a whole response: at once if the client has nothing more to say.
fn over(client: &mut Transport, upload: &Upload) -> After {
    if upload.is_received() && client.is_quiet() { After::Close } else { After::Linger }
}
