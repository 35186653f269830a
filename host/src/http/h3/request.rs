//! One request of a connection, from its head to the moment its client has all of the response.

use std::future::{Future, poll_fn};
use std::io::{Error, ErrorKind};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use bytes::Bytes;
use h3::error::{Code, StreamError};
use h3::server::{RequestResolver, RequestStream};
use http::{HeaderMap, HeaderName, Method, Request, header};
use tokio::time::timeout;
use tracing::debug;

use crate::http::connection;
use crate::http::h3::accepted::AcceptedStream;
use crate::http::h3::carrier::{Both, Carrier};
use crate::http::h3::link::Link;
use crate::http::h3::server::Active;
use crate::http::head::Version;
use crate::http::heads;
use crate::http::worker::Worker;
use crate::net::Peer;
use crate::telemetry::metrics::Timeout;

/// Bytes of a frame that are gathered beyond the longest head there may be: what one read brings, and more.
const GATHERED: usize = 128 * 1024;

/// Serves one request.
pub(super) async fn exchange(
    worker: Rc<Worker>,
    peer: Peer,
    resolver: RequestResolver<Carrier, Bytes>,
    link: Link,
    active: Active,
) {
    let site = worker.site();
    let max_gathered = site.limits.max_head.saturating_mul(2).saturating_add(GATHERED);
    let (patience, send_timeout) = (site.server.client_header_timeout, site.server.client_send_timeout);
    let metrics = site.ledger.metrics.clone();
    drop(site);
    let (request, stream) = match timeout(patience, resolve(resolver, &link, max_gathered)).await {
        Ok(Ok(resolved)) => resolved,
        Ok(Err(error)) => {
            debug!(client = ?peer.address, %error, "an HTTP/3 request did not begin");
            active.take_back();
            // The library may have answered it.
            let ended = poll_fn(|cx| link.sending.borrow_mut().poll_drain(cx));
            let _ = timeout(send_timeout, ended).await;
            link.receiving.borrow_mut().stop(Code::H3_NO_ERROR);
            return;
        }
        Err(_) => {
            metrics.timed_out(Timeout::ClientHeader);
            link.sending.borrow_mut().reset(Code::H3_REQUEST_INCOMPLETE);
            link.receiving.borrow_mut().stop(Code::H3_REQUEST_INCOMPLETE);
            return;
        }
    };
    if is_of_connection(request.headers()) {
        debug!(client = ?peer.address, "an HTTP/3 request was malformed: a field that concerns the connection");
        link.sending.borrow_mut().reset(Code::H3_MESSAGE_ERROR);
        link.receiving.borrow_mut().stop(Code::H3_MESSAGE_ERROR);
        return;
    }
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    let mut message = Box::new(AcceptedStream::new(stream, link.clone(), announced, max_gathered));
    // A stream's end may come in a packet of its own, behind the head. Who most likely sends nothing more is waited for, so
    // that an endpoint is not told of a body that is none.
    let ended = message.is_empty()
        || (announced.is_none()
            && has_rarely_content(request.method())
            && timeout(patience, poll_fn(|cx| message.poll_is_empty(cx))).await == Ok(true));
    connection::serve_message(&worker, message, &peer, ended, |limits, head| {
        heads::read_request(&request, None, Version::Http3, limits, head)?;
        heads::request_body(head, ended)
    })
    .await;
    // The connection is not closed before the client has all of the response.
    let stopped = poll_fn(|cx| link.sending.borrow_mut().poll_stopped(cx));
    // Who has not taken it by then is left to the timeouts of the connection.
    let _ = timeout(send_timeout, stopped).await;
    if link.sending.borrow().was_stopped() {
        active.take_back();
    }
}

/// Whether content has no meaning of its own in a request of this method (RFC 9110 section 9.3).
fn has_rarely_content(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::DELETE].contains(method)
}

/// Whether a message has what none may have in this version (RFC 9114 section 4.2), which the library does not look at.
fn is_of_connection(fields: &HeaderMap) -> bool {
    const OTHERS: [HeaderName; 5] = [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    OTHERS.iter().any(|name| fields.contains_key(name))
        || fields.get_all(header::TE).iter().any(|te| !te.as_bytes().eq_ignore_ascii_case(b"trailers"))
}

/// Waits for a request's head.
async fn resolve(
    resolver: RequestResolver<Carrier, Bytes>,
    link: &Link,
    max_gathered: usize,
) -> Result<(Request<()>, RequestStream<Both, Bytes>), Error> {
    let mut resolving = pin!(resolver.resolve_request());
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(resolved) = resolving.as_mut().poll(cx) {
                return Poll::Ready(resolved.map_err(|error: StreamError| Error::other(error)));
            }
            let mut receiving = link.receiving.borrow_mut();
            if receiving.gathered() > max_gathered {
                link.sending.borrow_mut().reset(Code::H3_EXCESSIVE_LOAD);
                receiving.stop(Code::H3_EXCESSIVE_LOAD);
                return Poll::Ready(Err(Error::new(ErrorKind::InvalidData, "a frame that is too long")));
            }
            ready!(receiving.poll_fetch(cx));
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_concerns_one_connection_has_no_place_in_a_message() {
        for (name, value, is_wrong) in [
            ("connection", "close", true),
            ("keep-alive", "1", true),
            ("proxy-connection", "close", true),
            ("transfer-encoding", "chunked", true),
            ("upgrade", "websocket", true),
            ("te", "gzip", true),
            ("te", "Trailers", false),
            ("trailer", "x", false),
        ] {
            let fields = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);

            assert_eq!(is_of_connection(&fields), is_wrong, "{name}: {value}");
        }
    }
}
