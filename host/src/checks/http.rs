//! A check over HTTP/1.1: one request, and a status and perhaps a body that pass.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::outcome::{Failure, shown};
use super::question::Channel;
use crate::config::{HttpCheck, Pattern};
use crate::http::h1::{self, BodyDecoder, Limits};
use crate::http::head::ResponseHead;

/// What is read of a response's head.
const LIMITS: Limits = Limits { max_head: 32 * 1024, max_fields: 128, max_target: 0 };

/// Bytes of a body that are searched (nginx Plus's `match`).
const SEARCHED: usize = 256 * 1024;

/// The request as it is sent, and what passes.
#[derive(Debug, PartialEq)]
pub(super) struct HttpQuestion {
    method: String,
    request: Vec<u8>,
    expect: Vec<(u16, u16)>,
    body: Option<Pattern>,
}

impl HttpQuestion {
    /// `authority` is the `host` field where the configuration has none.
    pub(super) fn new(check: &HttpCheck, authority: &str) -> Self {
        let HttpCheck { method, path, host, headers, expect, body } = check;
        let host = host.as_deref().unwrap_or(authority);
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| name == "user-agent") {
            request += "user-agent: staunch\r\n";
        }
        // RFC 9110 section 8.6: methods that have content say that there is none.
        if matches!(method.as_str(), "POST" | "PUT" | "PATCH") {
            request += "content-length: 0\r\n";
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        Self { method: method.clone(), request: request.into_bytes(), expect: expect.clone(), body: body.clone() }
    }
}

/// Sends the request and judges the response. Answers its status.
pub(super) async fn ask(channel: &mut impl Channel, question: &HttpQuestion) -> Result<String, Failure> {
    channel.write_all(&question.request).await.map_err(Failure::Broken)?;
    channel.flush().await.map_err(Failure::Broken)?;
    let mut input = Vec::with_capacity(8 * 1024);
    let head = read_head(channel, &mut input).await?;
    if !question.expect.iter().any(|&(first, last)| (first..=last).contains(&head.status)) {
        return Err(Failure::Answer(format!("it answered {}", head.status)));
    }
    if let Some(Pattern(pattern)) = &question.body {
        let kind = h1::response_body(&head, &question.method)?;
        let body = read_body(channel, input, kind).await?;
        if !pattern.is_match(&body) {
            let message = format!("it answered {}, and its body has no match: {}", head.status, shown(&body));
            return Err(Failure::Answer(message));
        }
    }
    Ok(head.status.to_string())
}

/// The head of the final response. What came behind it stays in `input`.
async fn read_head(channel: &mut impl Channel, input: &mut Vec<u8>) -> Result<ResponseHead, Failure> {
    let mut head = ResponseHead::default();
    loop {
        match h1::parse_response(input, &LIMITS, &mut head)? {
            Some(length) => {
                input.drain(..length);
                if head.status >= 200 {
                    return Ok(head);
                }
            }
            None => {
                if channel.read_buf(input).await.map_err(Failure::Broken)? == 0 {
                    return Err(Failure::Closed);
                }
            }
        }
    }
}

/// The beginning of a body; `input` is what came of it with the head.
async fn read_body(channel: &mut impl Channel, mut input: Vec<u8>, kind: h1::BodyKind) -> Result<Vec<u8>, Failure> {
    let mut decoder = BodyDecoder::new(kind);
    let mut body = Vec::new();
    while !decoder.is_done() && body.len() < SEARCHED {
        let mut used = 0;
        loop {
            let bad = |bad: h1::BadBody| Failure::Protocol { protocol: "HTTP/1", why: bad.to_string() };
            let decoded = decoder.decode(&input[used..]).map_err(bad)?;
            if decoded.consumed == 0 {
                break;
            }
            let rest = &input[used..];
            body.extend_from_slice(rest.get(decoded.data).unwrap_or_default());
            used += decoded.consumed;
        }
        input.drain(..used);
        if decoder.is_done() || body.len() >= SEARCHED {
            break;
        }
        if channel.read_buf(&mut input).await.map_err(Failure::Broken)? == 0 {
            decoder.end_of_input().map_err(|_| Failure::Closed)?;
            break;
        }
    }
    body.truncate(SEARCHED);
    Ok(body)
}
