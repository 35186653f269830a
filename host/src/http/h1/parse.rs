//! Reads the heads of requests and responses (RFC 9112 sections 2 to 5).
//!
//! A head is searched for its end, copied once into the head it is read into, and then read line by line. Nothing is
//! allocated once that has grown to the usual size. A head that is refused is not looked at again: the connection
//! it came on is out of step and has to be closed.

use crate::http::h1::section::{BARE_LINE_FEED, BadFields, is_text_byte, is_token_byte};
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

impl From<BadFields> for BadRequest {
    fn from(bad: BadFields) -> Self {
        match bad {
            BadFields::TooMany => Self::new(431, "too many fields"),
            BadFields::Malformed(reason) => Self::malformed(reason),
        }
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

impl From<BadFields> for BadResponse {
    fn from(bad: BadFields) -> Self {
        match bad {
            BadFields::TooMany => Self::new("too many fields"),
            BadFields::Malformed(reason) => Self::new(reason),
        }
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
    read_request(&input[..length], limits, head)?;
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
    read_response(&input[..length], limits, head)?;
    Ok(Some(length))
}

/// Bytes a head may have.
fn room(limits: &Limits) -> usize {
    // Spans count in 32 bits, and what is changed later is stored behind what was received.
    const MOST: usize = 1 << 30;
    limits.max_head.min(MOST)
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
    RequestLine::read(line, limits).map(|_| ())
}

struct RequestLine<'a> {
    method: &'a [u8],
    target: target::Target<'a>,
    version: Version,
}

impl<'a> RequestLine<'a> {
    /// Reads a line with its CRLF (RFC 9112 section 3).
    fn read(line: &'a [u8], limits: &Limits) -> Result<Self, BadRequest> {
        const MALFORMED: BadRequest = BadRequest { status: 400, reason: "a malformed request line" };
        let line = line.strip_suffix(b"\r\n").ok_or(BadRequest::malformed(BARE_LINE_FEED))?;
        let length = line.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(line.len());
        let (method, rest) = line.split_at(length);
        if method.len() > MAX_METHOD {
            return Err(BadRequest::new(501, "the method is too long"));
        }
        let Some((b' ', rest)) = rest.split_first() else { return Err(MALFORMED) };
        if rest.len() > limits.max_target.saturating_add(REQUEST_LINE_REST) {
            return Err(BadRequest::new(414, "the request line is too long"));
        }
        let (target, version) = rest.split_at(memchr::memchr(b' ', rest).ok_or(MALFORMED)?);
        if method.is_empty() || target.is_empty() {
            return Err(MALFORMED);
        }
        let version = match version {
            b" HTTP/1.1" => Version::Http11,
            b" HTTP/1.0" => Version::Http10,
            [b' ', b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                return Err(BadRequest::new(505, "a version other than HTTP/1.0 and HTTP/1.1"));
            }
            _ => return Err(BadRequest::malformed("a malformed HTTP version")),
        };
        if target.len() > limits.max_target {
            return Err(BadRequest::new(414, "the target is too long"));
        }
        if method == b"CONNECT" {
            return Err(BadRequest::new(501, "CONNECT is for forward proxies"));
        }
        let target = target::read(method, target).map_err(BadRequest::malformed)?;
        Ok(Self { method, target, version })
    }
}

/// Reads a request that ends with the first empty line of `whole`, as its last.
fn read_request(whole: &[u8], limits: &Limits, head: &mut RequestHead) -> Result<(), BadRequest> {
    let line = section::first_line(whole).unwrap_or(whole);
    let RequestLine { method, target, version } = RequestLine::read(line, limits)?;
    let locate = |part: &[u8]| Span::locate(whole, part);

    head.version = version;
    head.fields.load(whole);
    head.place_method(locate(method));
    match target.path_and_query {
        PathAndQuery::Given(path) => head.place_path_and_query(locate(path.as_bytes())),
        PathAndQuery::QueryOnly(query) => head.set_path_and_query(&format!("/{query}")),
        PathAndQuery::Root => head.set_path_and_query("/"),
        PathAndQuery::Asterisk => head.set_path_and_query("*"),
    }
    section::read_fields(&mut head.fields, whole, line.len(), limits.max_fields)?;
    check_host(&head.fields, version)?;
    check_expectation(&head.fields, version)?;
    connection::remove_nominated(&mut head.fields).map_err(BadRequest::malformed)?;

    if let Some(authority) = target.authority {
        // RFC 9112 section 3.2.2: whatever `host` said is to be ignored and replaced.
        head.fields.set_loaded(Known::Host, b"host", locate(authority.as_bytes()));
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

/// Reads a response that ends with the first empty line of `whole`, as its last.
fn read_response(whole: &[u8], limits: &Limits, head: &mut ResponseHead) -> Result<(), BadResponse> {
    const MALFORMED: BadResponse = BadResponse { reason: "a malformed status line" };
    let line = section::first_line(whole).unwrap_or(whole);
    let status_line = line.strip_suffix(b"\r\n").ok_or(BadResponse::new(BARE_LINE_FEED))?;
    // RFC 9112 section 4. Many servers leave out the space in front of an empty reason.
    let (version, status, reason) = match status_line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ (b'0' | b'1'), b' ', a, b, c, rest @ ..]
            if [a, b, c].iter().all(|digit| digit.is_ascii_digit()) =>
        {
            let status = [a, b, c].iter().fold(0, |status, &&digit| 10 * status + u16::from(digit - b'0'));
            let version = if *minor == b'0' { Version::Http10 } else { Version::Http11 };
            match rest {
                [] => (version, status, rest),
                [b' ', reason @ ..] => (version, status, reason),
                _ => return Err(MALFORMED),
            }
        }
        _ => return Err(MALFORMED),
    };
    if status < 100 {
        return Err(BadResponse::new("a status below 100"));
    }
    if !reason.iter().all(|&byte| is_text_byte(byte)) {
        return Err(MALFORMED);
    }
    (head.version, head.status) = (version, status);
    head.fields.load(whole);
    head.place_reason(Span::locate(whole, reason));
    section::read_fields(&mut head.fields, whole, line.len(), limits.max_fields)?;
    connection::remove_nominated(&mut head.fields).map_err(BadResponse::new)
}
