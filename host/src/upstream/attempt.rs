//! One try: send the request to one endpoint and wait for the head of its response.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Priority;
use crate::filters::BodyBroken;
use crate::http::facts::Exchange;
use crate::http::h1::{self, BadResponse, BodyDecoder, BodyKind, Limits};
use crate::http::head::{ResponseHead, Version};
use crate::http::send_head;
use crate::http::upload::{ClientFault, Upload, UploadError};
use crate::net::Transport;
use crate::upstream::lane::Connection;
use crate::upstream::retry::Failure;

/// Interim responses an endpoint may send before its final one.
const MAX_INTERIM: u32 = 64;

/// Why an attempt brought no response.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// The endpoint's fault.
    Failed { failure: Failure, sent: bool, cause: io::Error },
    /// The client's: there is nobody left to answer, or nothing whole to send.
    Client(ClientFault),
    /// Ours: the request's body could not be rewritten.
    Rewriter(BodyBroken),
}

/// What an exchange lends to its attempts.
pub(crate) struct Sending<'a> {
    pub(crate) exchange: &'a mut Exchange,
    pub(crate) client: &'a mut Transport,
    pub(crate) upload: &'a mut Upload,
    pub(crate) limits: &'a Limits,
    /// Whether the client asks to change protocols, and the endpoint may agree.
    pub(crate) upgrade: bool,
    /// Whether all that is wanted is a connection, whose client speaks for itself. It may have finished speaking.
    pub(crate) opens: bool,
    /// Among the requests that wait for the same upstream.
    pub(crate) priority: Priority,
    /// A moment after which nobody waits for an answer any more.
    pub(crate) deadline: Option<Instant>,
}

impl Sending<'_> {
    /// Whether nobody waits for an answer any more.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    /// Sends the request on `connection` and reads the response's head into the exchange. The request's body may
    /// still be on its way when the head is there.
    pub(crate) async fn attempt(
        &mut self,
        connection: &mut Connection,
        response_timeout: Duration,
    ) -> Result<(), AttemptError> {
        let endpoint = &mut connection.transport;
        let read_timeout = std::mem::replace(&mut endpoint.read_timeout, response_timeout);
        endpoint.latest = self.deadline;
        self.client.latest = self.deadline;
        let written_before = endpoint.bytes_written;
        let failed = |endpoint: &mut Transport, failure, cause| {
            let is_refused = endpoint.stream().opened().is_some_and(|message| message.is_refused());
            AttemptError::Failed { failure, sent: endpoint.bytes_written > written_before && !is_refused, cause }
        };

        let facts = &**self.exchange;
        let upgrade = if self.upgrade { h1::requested_upgrade(&facts.request) } else { None };
        let written = send_head::request(endpoint, &facts.request, self.upload.encoding(), &facts.endpoint, upgrade);
        written.map_err(|cause| failed(endpoint, Failure::Protocol, cause))?;
        match self.upload.begin(self.client, endpoint) {
            Ok(()) => {}
            Err(UploadError::Client(fault)) => return Err(AttemptError::Client(fault)),
            Err(UploadError::Rewriter(broken)) => return Err(AttemptError::Rewriter(broken)),
            Err(UploadError::Endpoint(cause)) => return Err(failed(endpoint, Failure::Reset, cause)),
        }

        let mut interim = 0;
        let mut unsent: Option<io::Error> = None;
        poll_fn(|cx| {
            self.poll_upload(cx, endpoint, &mut unsent)?;
            loop {
                // What was said before a write failed may be the answer (RFC 9112 section 9.5), so reading goes on.
                let head = match self.poll_head(cx, endpoint) {
                    Poll::Pending if unsent.is_none() => {
                        if self.upload.is_received() {
                            watch(cx, self.client).map_err(AttemptError::Client)?;
                        }
                        return Poll::Pending;
                    }
                    Poll::Pending => Err(not_sent(unsent.take())),
                    Poll::Ready(head) => head,
                };
                if let Err((failure, cause)) = head {
                    return Poll::Ready(Err(failed(endpoint, failure, cause)));
                }
                endpoint.latest = self.deadline;
                let response = &self.exchange.response;
                if !is_interim(response, self.upgrade) {
                    endpoint.read_timeout = read_timeout;
                    // A response of which nobody can tell where it ends is none.
                    let framed = response_body(endpoint, self.exchange)
                        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
                        .and_then(|kind| check_beginning(kind, endpoint.input.bytes()));
                    return Poll::Ready(framed.map_err(|cause| failed(endpoint, Failure::Protocol, cause)));
                }
                interim += 1;
                if interim > MAX_INTERIM || response.status == 101 {
                    let cause = io::Error::new(ErrorKind::InvalidData, "an interim response that nobody asked for");
                    return Poll::Ready(Err(failed(endpoint, Failure::Protocol, cause)));
                }
                self.forward_interim(cx);
            }
        })
        .await
    }

    /// Moves the request's body on.
    fn poll_upload(
        &mut self,
        cx: &mut Context<'_>,
        endpoint: &mut Transport,
        unsent: &mut Option<io::Error>,
    ) -> Result<(), AttemptError> {
        if !self.upload.is_over() {
            match self.upload.poll(cx, self.client, endpoint) {
                Poll::Pending | Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(UploadError::Client(fault))) => return Err(AttemptError::Client(fault)),
                Poll::Ready(Err(UploadError::Rewriter(broken))) => return Err(AttemptError::Rewriter(broken)),
                Poll::Ready(Err(UploadError::Endpoint(error))) => *unsent = Some(error),
            }
        }
        Ok(())
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, endpoint: &mut Transport) -> Poll<Result<(), (Failure, io::Error)>> {
        if let Some(message) = endpoint.stream().opened() {
            return match message.poll_response(cx, &mut self.exchange.response) {
                Poll::Ready(read) => Poll::Ready(read.map_err(|error| match error.kind() {
                    ErrorKind::InvalidData => (Failure::Protocol, error),
                    _ => (Failure::Reset, error),
                })),
                Poll::Pending if self.upload.is_over() => {
                    let late = endpoint.poll_read_due(cx);
                    endpoint.hold_to_read_due();
                    late.map(|error| Err((Failure::ResponseTimeout, error)))
                }
                Poll::Pending => Poll::Pending,
            };
        }
        loop {
            if !endpoint.input.is_empty() {
                match h1::parse_response(endpoint.input.bytes(), self.limits, &mut self.exchange.response) {
                    Ok(Some(length)) => {
                        endpoint.input.consume(length);
                        return Poll::Ready(Ok(()));
                    }
                    Ok(None) if endpoint.input.len() == endpoint.input.capacity() => {
                        endpoint.input.grow(self.limits.max_head.max(2 * endpoint.input.capacity()));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        return Poll::Ready(Err((Failure::Protocol, io::Error::new(ErrorKind::InvalidData, error))));
                    }
                }
            }
            // The time for an answer begins when the request has been sent (as in nginx).
            let filled = if self.upload.is_over() { endpoint.poll_fill(cx) } else { endpoint.poll_watch(cx) };
            if filled.is_pending() {
                // The first wait's end is the end for the whole head, in however small pieces it comes.
                endpoint.hold_to_read_due();
            }
            match ready!(filled) {
                Ok(0) => return Poll::Ready(Err((Failure::Reset, ErrorKind::UnexpectedEof.into()))),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    return Poll::Ready(Err((Failure::ResponseTimeout, error)));
                }
                Err(error) => return Poll::Ready(Err((Failure::Reset, error))),
            }
        }
    }

    /// Passes `103 Early Hints` and the like on; `100 Continue` the client has had from us.
    fn forward_interim(&mut self, cx: &mut Context<'_>) {
        let response = &self.exchange.response;
        if response.status != 100 && self.exchange.request.version >= Version::Http11 {
            send_head::interim(self.client, response);
            // If the client does not take it now, it leaves with what comes next.
            let _ = self.client.poll_flush(cx);
        }
    }
}

/// How a response's body is framed where that is needed.
///
/// # Errors
///
/// When two readers could differ about it.
pub(super) fn response_body(endpoint: &mut Transport, exchange: &Exchange) -> Result<BodyKind, BadResponse> {
    let kind = h1::response_body(&exchange.response, exchange.request.method())?;
    let ended = endpoint.stream().message().is_some_and(|message| message.is_at_end());
    Ok(if ended && kind == BodyKind::UntilClose { BodyKind::Length(0) } else { kind })
}

/// Looks at what of a body came with its head. A fault there is one of the whole response, of which nothing was passed
/// on; later ones can only break it off.
fn check_beginning(kind: BodyKind, mut received: &[u8]) -> io::Result<()> {
    if kind != BodyKind::Chunked {
        return Ok(());
    }
    let mut decoder = BodyDecoder::of_response(kind);
    loop {
        match decoder.decode(received) {
            Ok(decoded) if decoded.consumed == 0 => return Ok(()),
            Ok(decoded) => received = &received[decoded.consumed..],
            Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
        }
    }
}

/// What it means that the request could not be written and that nothing was heard of it.
fn not_sent(cause: Option<io::Error>) -> (Failure, io::Error) {
    let cause = cause.unwrap_or_else(|| ErrorKind::BrokenPipe.into());
    let failure = if cause.kind() == ErrorKind::TimedOut { Failure::SendTimeout } else { Failure::Reset };
    (failure, cause)
}

/// Whether a client that waits for a connection has gone away. That it has nothing more to say does not mean so.
pub(crate) fn watch_half(cx: &mut Context<'_>, client: &mut Transport) -> Result<(), ClientFault> {
    match client.poll_watch(cx) {
        // No more than once: what else there is stays with the system, which stops the client then.
        Poll::Pending | Poll::Ready(Ok(_)) => Ok(()),
        Poll::Ready(Err(error)) => Err(ClientFault::of_receiving(&error)),
    }
}

/// Whether the client has gone away, while it has nothing to say.
pub(crate) fn watch(cx: &mut Context<'_>, client: &mut Transport) -> Result<(), ClientFault> {
    loop {
        match client.poll_watch(cx) {
            Poll::Pending => return Ok(()),
            // A stream of a connection that carries many may end in one direction only.
            Poll::Ready(Ok(0)) => {
                let is_there = client.stream().message().is_some_and(|message| message.poll_gone(cx).is_pending());
                return if is_there { Ok(()) } else { Err(ClientFault::Gone) };
            }
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Err(ClientFault::of_receiving(&error)),
        }
    }
}

/// Whether another head follows.
fn is_interim(response: &ResponseHead, upgrade: bool) -> bool {
    (100..200).contains(&response.status) && !(response.status == 101 && upgrade)
}
