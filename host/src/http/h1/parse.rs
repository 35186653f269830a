//! Reads the heads of requests and responses (RFC 9112 sections 2 to 5).
//!
//! A head is searched for its end, parsed, checked and copied once into the head it is read into. Nothing is
//! allocated once that has grown to the usual size. A head that is refused is not looked at again: the connection
//! it came on is out of step and has to be closed.

use std::mem::MaybeUninit;

use crate::http::h1::section::BARE_LINE_FEED;
use crate::http::h1::target::{self, PathAndQuery, is_authority};
use crate::http::h1::{Limits, connection, section};
use crate::http::head::{Fields, Known, RequestHead, ResponseHead, Span, Version, tokens};

/// Empty lines before a request that are skipped (RFC 9112 section 2.2 asks for one at least: old clients send
/// one after a body).
const MAX_EMPTY_LINES: usize = 4;

/// Bytes of a method. The longest registered one, `UPDATEREDIRECTREF`, has 17.
pub(crate) const MAX_METHOD: usize = 32;

/// Bytes of ` HTTP/1.1` and CRLF, with the space after the method.
const REQUEST_LINE_REST: usize = 12;

/// Fields that are parsed without an allocation.
const USUAL_FIELDS: usize = 128;

/// Why a client's request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadRequest {
    /// 400, 414, 417, 431, 501 or 505.
    pub status: u16,
    /// For the log.
    pub reason: &'static str,
}

impl BadRequest {
    pub(crate) fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason }
    }

    /// A 400.
    pub(crate) fn malformed(reason: &'static str) -> Self {
        Self::new(400, reason)
    }
}

/// Why an endpoint's response is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadResponse {
    /// For the log.
    pub reason: &'static str,
}

impl BadResponse {
    pub(super) fn new(reason: &'static str) -> Self {
        Self { reason }
    }
}

/// Reads a request's head. `Some(n)`: a whole one stands in the first `n` bytes of `buffer` (with empty lines before
/// it, which are skipped), and `head` now holds it and nothing else. `None`: more bytes are needed.
///
/// An absolute target's authority has replaced the `host` field, and fields that `connection` names are gone. The
/// body's framing is checked by [`super::request_body`].
///
/// # Errors
///
/// As soon as it is certain that no more bytes can make the head good, and at the latest when `buffer` has
/// [`Limits::max_head`] bytes without an end.
pub fn parse_request(buffer: &[u8], limits: &Limits, head: &mut RequestHead) -> Result<Option<usize>, BadRequest> {
    head.clear();
    let Some(skipped) = skip_empty_lines(buffer)? else { return Ok(None) };
    let room = room(limits).saturating_sub(skipped);
    let input = &buffer[skipped..][..room.min(buffer.len() - skipped)];

    let Some(length) = section::length(input) else {
        check_unfinished(input, room, limits)?;
        return if input.len() < room { Ok(None) } else { Err(BadRequest::new(431, "the head is too long")) };
    };
    let whole = &input[..length];
    with_space(limits.max_fields, whole, |space| {
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(whole, space) {
            Ok(httparse::Status::Complete(end)) if end == length => Some(read_request(&request, whole, limits, head)),
            Ok(_) => Some(Err(BadRequest::malformed(BARE_LINE_FEED))),
            Err(httparse::Error::TooManyHeaders) => None,
            Err(error) => Some(Err(explain(error, section::first_line(whole).unwrap_or(whole), limits))),
        }
    })
    .unwrap_or(Err(BadRequest::new(431, "too many fields")))?;
    Ok(Some(skipped + length))
}

/// Reads a response's head. `Some(n)`: a whole one stands in the first `n` bytes of `buffer`, and `head` now holds it and
/// nothing else. `None`: more bytes are needed.
///
/// Fields that `connection` names are gone. The body's framing is checked by [`super::response_body`].
///
/// # Errors
///
/// As soon as it is certain that no more bytes can make the head good, and at the latest when `buffer` has
/// [`Limits::max_head`] bytes without an end.
pub fn parse_response(buffer: &[u8], limits: &Limits, head: &mut ResponseHead) -> Result<Option<usize>, BadResponse> {
    const START: &[u8] = b"HTTP/1.";
    head.clear();
    if !START.starts_with(&buffer[..buffer.len().min(START.len())]) {
        return Err(BadResponse::new("not a status line of HTTP/1"));
    }
    let room = room(limits);
    let input = &buffer[..room.min(buffer.len())];

    let Some(length) = section::length(input) else {
        return match input.len() < room {
            _ if section::has_bare_line_feed(input) => Err(BadResponse::new(BARE_LINE_FEED)),
            true => Ok(None),
            false => Err(BadResponse::new("the head is too long")),
        };
    };
    let whole = &input[..length];
    with_space(limits.max_fields, whole, |space| {
        let mut response = httparse::Response::new(&mut []);
        match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, whole, space) {
            Ok(httparse::Status::Complete(end)) if end == length => Some(read_response(&response, whole, head)),
            Ok(_) => Some(Err(BadResponse::new(BARE_LINE_FEED))),
            Err(httparse::Error::TooManyHeaders) => None,
            Err(error) => Some(Err(BadResponse::new(describe(error)))),
        }
    })
    .unwrap_or(Err(BadResponse::new("too many fields")))?;
    Ok(Some(length))
}

/// Bytes a head may have.
fn room(limits: &Limits) -> usize {
    // Spans count in 32 bits, and what is changed later is stored behind what was received.
    const MOST: usize = 1 << 30;
    limits.max_head.min(MOST)
}

/// Parses `whole` with space for as many fields as it may have. `parse` answers `None` when it has more.
fn with_space<'b, T>(
    max_fields: usize,
    whole: &'b [u8],
    mut parse: impl for<'h> FnMut(&'h mut [MaybeUninit<httparse::Header<'b>>]) -> Option<T>,
) -> Option<T> {
    let parsed = parse(&mut [const { MaybeUninit::uninit() }; USUAL_FIELDS][..max_fields.min(USUAL_FIELDS)]);
    if parsed.is_some() || max_fields <= USUAL_FIELDS {
        return parsed;
    }
    let mut space = Vec::new();
    // The shortest field has four bytes.
    space.resize_with(max_fields.min(whole.len() / 4), MaybeUninit::uninit);
    parse(&mut space)
}

/// Bytes before a request line; `None` when nothing else is there yet.
fn skip_empty_lines(buffer: &[u8]) -> Result<Option<usize>, BadRequest> {
    let mut rest = buffer;
    for _ in 0..=MAX_EMPTY_LINES {
        match rest {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', behind @ ..] => rest = behind,
            [b'\r' | b'\n', ..] => return Err(BadRequest::malformed(BARE_LINE_FEED)),
            _ => return Ok(Some(buffer.len() - rest.len())),
        }
    }
    Err(BadRequest::malformed("too many empty lines before a request"))
}

/// Refuses early what cannot become a good head, so that who speaks another protocol or an older HTTP is told now and
/// not when the time for a head is up.
fn check_unfinished(input: &[u8], room: usize, limits: &Limits) -> Result<(), BadRequest> {
    if section::has_bare_line_feed(input) {
        return Err(BadRequest::malformed(BARE_LINE_FEED));
    }
    if let Some(line) = section::first_line(input) {
        return check_request_line(line, limits);
    }
    let method = input.iter().take(MAX_METHOD + 1).take_while(|&&b| is_token_byte(b)).count();
    if method > MAX_METHOD {
        return Err(BadRequest::new(501, "the method is too long"));
    }
    if input.get(method).is_some_and(|&b| b != b' ') || method == 0 {
        return Err(BadRequest::malformed("a method that is not a token"));
    }
    let longest = method.saturating_add(limits.max_target).saturating_add(REQUEST_LINE_REST);
    if input.len() > longest || input.len() >= room {
        return Err(BadRequest::new(414, "the request line is too long"));
    }
    Ok(())
}

fn check_request_line(line: &[u8], limits: &Limits) -> Result<(), BadRequest> {
    let mut request = httparse::Request::new(&mut []);
    request.parse(line).map_err(|error| explain(error, line, limits))?;
    read_request_line(&request, limits).map(|_| ())
}

/// Puts a parser's complaint about a request in our words, after looking for faults that have a status of their own.
fn explain(error: httparse::Error, line: &[u8], limits: &Limits) -> BadRequest {
    let line = line.strip_suffix(b"\r\n").unwrap_or(line);
    let mut parts = line.splitn(2, |&b| b == b' ');
    let (method, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if method.len() > MAX_METHOD && method.iter().all(|&b| is_token_byte(b)) {
        return BadRequest::new(501, "the method is too long");
    }
    if rest.len() > limits.max_target.saturating_add(REQUEST_LINE_REST) {
        return BadRequest::new(414, "the request line is too long");
    }
    let version = rest.iter().position(|&b| b == b' ').map(|space| &rest[space + 1..]);
    match (error, version) {
        (httparse::Error::Version, Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]))
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            BadRequest::new(505, "a version other than HTTP/1.0 and HTTP/1.1")
        }
        _ => BadRequest::malformed(describe(error)),
    }
}

fn describe(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a malformed field name",
        httparse::Error::HeaderValue => "a malformed field value",
        httparse::Error::NewLine => BARE_LINE_FEED,
        httparse::Error::Status => "a malformed status line",
        httparse::Error::Token => "a malformed request line",
        httparse::Error::TooManyHeaders => "too many fields",
        httparse::Error::Version => "a malformed HTTP version",
    }
}

struct RequestLine<'a> {
    method: &'a str,
    target: target::Target<'a>,
    version: Version,
}

fn read_request_line<'a>(request: &httparse::Request<'_, 'a>, limits: &Limits) -> Result<RequestLine<'a>, BadRequest> {
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(BadRequest::malformed("a malformed request line"));
    };
    if method.len() > MAX_METHOD {
        return Err(BadRequest::new(501, "the method is too long"));
    }
    if target.len() > limits.max_target {
        return Err(BadRequest::new(414, "the target is too long"));
    }
    if method == "CONNECT" {
        return Err(BadRequest::new(501, "CONNECT is for forward proxies"));
    }
    let target = target::read(method, target).map_err(BadRequest::malformed)?;
    Ok(RequestLine { method, target, version: version_of(version) })
}

/// Checks a parsed request and copies it, all of it a slice of `whole`, into `head`.
fn read_request(
    request: &httparse::Request<'_, '_>,
    whole: &[u8],
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<(), BadRequest> {
    let RequestLine { method, target, version } = read_request_line(request, limits)?;
    let locate = |part: &str| Span::locate(whole, part.as_bytes());

    head.version = version;
    head.fields.load(whole);
    head.place_method(locate(method));
    match target.path_and_query {
        PathAndQuery::Given(path) => head.place_path_and_query(locate(path)),
        PathAndQuery::QueryOnly(query) => head.set_path_and_query(&format!("/{query}")),
        PathAndQuery::Root => head.set_path_and_query("/"),
        PathAndQuery::Asterisk => head.set_path_and_query("*"),
    }
    section::load_fields(&mut head.fields, whole, request.headers).map_err(BadRequest::malformed)?;
    check_host(&head.fields, version)?;
    check_expectation(&head.fields, version)?;
    connection::remove_nominated(&mut head.fields).map_err(BadRequest::malformed)?;

    if let Some(authority) = target.authority {
        // RFC 9112 section 3.2.2: whatever `host` said is to be ignored and replaced.
        head.fields.set_loaded(Known::Host, b"host", locate(authority));
    }
    head.place_authority(head.fields.span(Known::Host).unwrap_or_default());
    Ok(())
}

/// RFC 9112 section 3.2: exactly one valid `host`, which only HTTP/1.0 may leave out.
fn check_host(fields: &Fields, version: Version) -> Result<(), BadRequest> {
    let mut hosts = fields.all_known(Known::Host);
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::Http10 => Ok(()),
        (None, _) => Err(BadRequest::malformed("no host")),
        (Some(_), Some(_)) => Err(BadRequest::malformed("more than one host")),
        (Some(host), None) if is_authority(host) => Ok(()),
        (Some(_), None) => Err(BadRequest::malformed("an invalid host")),
    }
}

/// RFC 9110 section 10.1.1: the one expectation there is, and none in HTTP/1.0.
pub(crate) fn check_expectation(fields: &Fields, version: Version) -> Result<(), BadRequest> {
    let known = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
    if version != Version::Http10 && !fields.all_known(Known::Expect).flat_map(tokens).all(known) {
        return Err(BadRequest::new(417, "an unknown expectation"));
    }
    Ok(())
}

/// Checks a parsed response and copies it, all of it a slice of `whole`, into `head`.
fn read_response(
    response: &httparse::Response<'_, '_>,
    whole: &[u8],
    head: &mut ResponseHead,
) -> Result<(), BadResponse> {
    let (Some(status), Some(version)) = (response.code, response.version) else {
        return Err(BadResponse::new("a malformed status line"));
    };
    if status < 100 {
        return Err(BadResponse::new("a status below 100"));
    }
    head.version = version_of(version);
    head.status = status;
    head.fields.load(whole);
    section::load_fields(&mut head.fields, whole, response.headers).map_err(BadResponse::new)?;
    connection::remove_nominated(&mut head.fields).map_err(BadResponse::new)?;

    // The parser hands out no reason phrase that is not ASCII, though it lets one pass.
    let line = section::first_line(whole).and_then(|line| line.strip_suffix(b"\r\n")).unwrap_or_default();
    head.place_reason(Span::locate(whole, line.get(b"HTTP/1.1 200 ".len()..).unwrap_or_default()));
    Ok(())
}

fn version_of(minor: u8) -> Version {
    if minor == 0 { Version::Http10 } else { Version::Http11 }
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
