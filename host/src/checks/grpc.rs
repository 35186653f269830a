//! A check by gRPC's health protocol, version 1: `grpc.health.v1.Health/Check` over HTTP/2.
//!
//! Its two messages have one field each, so they are written and read here, without a compiler for protocols. See
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md> and the same folder's `PROTOCOL-HTTP2.md`.

use std::future::ready;
use std::pin::pin;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, Uri};

use super::outcome::Failure;
use super::question::Channel;
use crate::config::GrpcCheck;

/// Bytes of an answer that are read; a true one has seven.
const LONGEST: usize = 4096;

/// The request as it is sent.
#[derive(Debug, PartialEq)]
pub(super) struct GrpcQuestion {
    uri: String,
    headers: Vec<(String, String)>,
    message: Bytes,
}

impl GrpcQuestion {
    /// `authority` is asked for where the configuration names no other.
    pub(super) fn new(check: &GrpcCheck, authority: &str, is_secure: bool) -> Self {
        let scheme = if is_secure { "https" } else { "http" };
        let authority = check.host.as_deref().unwrap_or(authority);
        Self {
            uri: format!("{scheme}://{authority}/grpc.health.v1.Health/Check"),
            headers: check.headers.clone(),
            message: request(&check.service),
        }
    }
}

/// Asks over a new connection, which `limit` is said for. Answers `SERVING`.
pub(super) async fn ask(channel: impl Channel, question: &GrpcQuestion, limit: Duration) -> Result<String, Failure> {
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false).max_header_list_size(16 * 1024);
    let (sender, connection) = builder.handshake::<_, Bytes>(channel).await.map_err(failure)?;
    let mut connection = pin!(connection);
    let mut answer = pin!(call(sender, question, limit));
    let ended = tokio::select! {
        biased;
        answer = &mut answer => return answer,
        ended = &mut connection => ended,
    };
    // What came before the end can be read, and nothing more will come.
    tokio::select! {
        biased;
        answer = &mut answer => match answer {
            Err(Failure::Broken(_)) => Err(ended.err().map_or(Failure::Closed, failure)),
            answer => answer,
        },
        () = ready(()) => Err(ended.err().map_or(Failure::Closed, failure)),
    }
}

async fn call(sender: SendRequest<Bytes>, question: &GrpcQuestion, limit: Duration) -> Result<String, Failure> {
    let odd = |why: String| Failure::Protocol { protocol: "gRPC", why };
    let uri: Uri = question.uri.parse().map_err(|error| odd(format!("{error}")))?;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        // At most eight digits.
        .header("grpc-timeout", format!("{}m", limit.as_millis().clamp(1, 99_999_999)));
    if !question.headers.iter().any(|(name, _)| name == "user-agent") {
        request = request.header("user-agent", "staunch");
    }
    for (name, value) in &question.headers {
        request = request.header(name, value);
    }
    let request = request.body(()).map_err(|error| odd(error.to_string()))?;

    let mut sender = sender.ready().await.map_err(failure)?;
    let (response, mut stream) = sender.send_request(request, false).map_err(failure)?;
    stream.send_data(question.message.clone(), true).map_err(failure)?;
    let (head, mut body) = response.await.map_err(failure)?.into_parts();
    if head.status != 200 {
        return Err(Failure::Answer(format!("it answered {}", head.status.as_u16())));
    }
    let mut message = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(failure)?;
        // The peer may send on, whatever becomes of this.
        let _ = body.flow_control().release_capacity(data.len());
        message.extend_from_slice(&data);
        if message.len() > LONGEST {
            return Err(odd("the message is too long".to_owned()));
        }
    }
    let trailers = body.trailers().await.map_err(failure)?;
    // An answer without a message has its status in the head.
    judge(trailers.as_ref().unwrap_or(&head.headers), &message)
}

fn judge(trailers: &HeaderMap, message: &[u8]) -> Result<String, Failure> {
    let odd = |why: &str| Failure::Protocol { protocol: "gRPC", why: why.to_owned() };
    let status = trailers.get("grpc-status").ok_or_else(|| odd("there is no grpc-status"))?;
    match status.as_bytes() {
        b"0" => {}
        b"5" => return Err(Failure::Answer("it does not know the service (NOT_FOUND)".to_owned())),
        b"12" => return Err(Failure::Answer("it has no grpc.health.v1.Health (UNIMPLEMENTED)".to_owned())),
        other => return Err(Failure::Answer(format!("grpc-status {}", other.escape_ascii()))),
    }
    match serving_status(message) {
        Some(1) => Ok("SERVING".to_owned()),
        Some(0) => Err(Failure::Answer("it answered UNKNOWN".to_owned())),
        Some(2) => Err(Failure::Answer("it answered NOT_SERVING".to_owned())),
        Some(3) => Err(Failure::Answer("it answered SERVICE_UNKNOWN".to_owned())),
        Some(other) => Err(Failure::Answer(format!("it answered the status {other}"))),
        None => Err(odd("not a HealthCheckResponse")),
    }
}

/// A whole `HealthCheckRequest { service }` with its prefix.
fn request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        // Field 1, a length and its bytes.
        message.put_u8(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut whole = BytesMut::new();
    // Not compressed.
    whole.put_u8(0);
    whole.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    whole.put_slice(&message);
    whole.freeze()
}

/// The `status` of a whole `HealthCheckResponse` with its prefix; `None` when it is none.
fn serving_status(whole: &[u8]) -> Option<u64> {
    let (prefix, mut message) = whole.split_first_chunk::<5>()?;
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 || u32::from_be_bytes(length) as usize != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        // By the kind of the field: a number, eight bytes, a length and so many bytes, four bytes.
        match tag & 7 {
            0 => {
                let value = take_varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn take_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn failure(error: h2::Error) -> Failure {
    if error.is_io() {
        return error.into_io().map_or(Failure::Closed, Failure::Broken);
    }
    Failure::Protocol { protocol: "HTTP/2", why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_names_its_service() {
        assert_eq!(&request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&request("a.B")[..], b"\0\0\0\0\x05\x0a\x03a.B");
        assert_eq!(request(&"x".repeat(300)).len(), 5 + 3 + 300);
    }

    #[test]
    fn a_status_is_read_whatever_else_stands_beside_it() {
        for (message, status) in [
            (&b"\0\0\0\0\x02\x08\x01"[..], Some(1)),
            (b"\0\0\0\0\0", Some(0)),
            (b"\0\0\0\0\x02\x08\x02", Some(2)),
            (b"\0\0\0\0\x06\x12\x02ab\x08\x01", Some(1)),
            (b"\x01\0\0\0\x02\x08\x01", None),
            (b"\0\0\0\0\x03\x08\x01", None),
            (b"\0\0\0\0\x02\x08\x81", None),
            (b"\0\0\0\0\x02\x12\x09", None),
            (b"\0\0\0", None),
        ] {
            assert_eq!(serving_status(message), status, "for {}", message.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_message_is_read_to_its_end(message in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut whole = (message.len() as u32).to_be_bytes().to_vec();
            whole.insert(0, 0);
            whole.extend_from_slice(&message);
            serving_status(&whole);
            serving_status(&message);
        }
    }
}
