//! Writes heads and bodies for the other side (RFC 9112).
//!
//! Fields keep their names, order and bytes. What concerned the connection that a message came on, and what framed
//! it there, is left out; what concerns the connection that it goes to is written as the caller says.

use crate::http::h1::body::may_trail;
use crate::http::h1::framing::named_length;
use crate::http::h1::{BodyKind, CRLF};
use crate::http::head::{Fields, Known, RequestHead, ResponseHead, Version};

/// What tells a client that waits for it to send its body (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Bytes that a head takes with a short body behind it.
const USUAL: usize = 1024;

/// How the body of a message that is sent is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// There is none, and nothing is said of a length.
    None,
    /// There is none, but the head names the length it would have: the answer to a HEAD, or a 304.
    Described(u64),
    Length(u64),
    Chunked,
    /// It ends when the connection is closed. Only for responses, and written with `connection: close`.
    UntilClose,
    /// It ends as the stream says that carries it: HTTP/2 and HTTP/3 frame by themselves.
    Streamed,
}

impl Encoding {
    /// How a request's body, received as `kind`, is sent on.
    pub fn for_request(kind: BodyKind) -> Self {
        match kind {
            BodyKind::None => Self::None,
            BodyKind::Length(length) => Self::Length(length),
            BodyKind::Chunked | BodyKind::UntilClose => Self::Chunked,
        }
    }

    /// How a response's body, received as `kind`, is sent on to a client that speaks `client`.
    pub fn for_response(head: &ResponseHead, kind: BodyKind, client: Version) -> Self {
        match kind {
            BodyKind::None if is_bodiless(head.status) => Self::None,
            BodyKind::None => named_length(&head.fields).map_or(Self::None, Self::Described),
            BodyKind::Length(length) => Self::Length(length),
            BodyKind::Chunked | BodyKind::UntilClose if client == Version::Http10 => Self::UntilClose,
            BodyKind::Chunked | BodyKind::UntilClose if client > Version::Http11 => Self::Streamed,
            BodyKind::Chunked | BodyKind::UntilClose => Self::Chunked,
        }
    }

    /// The length that is said, where one is.
    pub fn length(self) -> Option<u64> {
        match self {
            Self::Length(length) | Self::Described(length) => Some(length),
            Self::None | Self::Chunked | Self::UntilClose | Self::Streamed => None,
        }
    }
}

/// What a head says about the connection it is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionOption<'a> {
    /// Nothing: it persists if the version says so, as HTTP/1.1 does.
    Implied,
    /// It persists, said for a client that speaks HTTP/1.0.
    KeepAlive,
    Close,
    /// It changes to these protocols, or is asked to.
    Upgrade(&'a [u8]),
}

/// What [`encode_request`] cannot know from the head.
#[derive(Clone, Copy, Debug)]
pub struct RequestOptions<'a> {
    /// The `host` of a request that names none, as HTTP/1.0 allows.
    pub fallback_host: &'a str,
    pub connection: ConnectionOption<'a>,
}

/// What [`encode_response`] cannot know from the head.
#[derive(Clone, Copy, Debug)]
pub struct ResponseOptions<'a> {
    /// The `date` of a final response that has none, as RFC 9110 section 5.6.7 writes it.
    pub date: &'a [u8; 29],
    pub connection: ConnectionOption<'a>,
}

/// Writes a request's head for an endpoint: origin form, HTTP/1.1, `host` first.
///
/// `expect` is not written: who sends the request to us is told to continue by us.
pub fn encode_request(out: &mut Vec<u8>, head: &RequestHead, encoding: Encoding, options: RequestOptions<'_>) {
    out.reserve((head.fields.size_hint() + 128).max(USUAL));
    let target = Some(head.target_bytes()).filter(|target| !target.is_empty()).unwrap_or(b"/");
    put(out, [head.method_bytes(), b" ", target, b" HTTP/1.1\r\n"]);

    let own_host = head.fields.known(Known::Host).filter(|host| !host.is_empty());
    let authority = Some(head.authority_bytes()).filter(|authority| !authority.is_empty());
    let host = own_host.or(authority).unwrap_or(options.fallback_host.as_bytes());
    put(out, [b"host: ", host, CRLF, b""]);

    put_fields(out, &head.fields, encoding, |known| !matches!(known, Known::Host | Known::Expect));
    put_framing(out, encoding);
    put_connection(out, options.connection);
    out.extend_from_slice(CRLF);
}

/// Writes a response's head, as HTTP/1.1 whatever the client speaks (RFC 9110 section 6.2).
///
/// An empty reason phrase becomes the usual one. A response whose status allows no body says nothing of a length, and
/// one whose body ends with the connection says so, whatever the options are.
pub fn encode_response(out: &mut Vec<u8>, head: &ResponseHead, encoding: Encoding, options: ResponseOptions<'_>) {
    out.reserve((head.fields.size_hint() + 160).max(USUAL));
    let reason = Some(head.reason()).filter(|reason| !reason.is_empty());
    out.extend_from_slice(b"HTTP/1.1 ");
    put_decimal(out, u64::from(head.status));
    put(out, [b" ", reason.unwrap_or_else(|| reason_phrase(head.status).as_bytes()), CRLF, b""]);

    put_fields(out, &head.fields, encoding, |_| true);
    if head.status >= 200 && head.fields.known(Known::Date).is_none() {
        put(out, [b"date: ", options.date, CRLF, b""]);
    }
    if !is_bodiless(head.status) {
        put_framing(out, encoding);
    }
    put_connection(out, if encoding == Encoding::UntilClose { ConnectionOption::Close } else { options.connection });
    out.extend_from_slice(CRLF);
}

/// Frames one body.
#[derive(Debug)]
pub struct BodyEncoder {
    state: State,
}

#[derive(Debug)]
enum State {
    /// Bytes that are still to come.
    Length(u64),
    Chunked,
    UntilClose,
}

/// A body that is not as long as its head says. Its connection is out of step and must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongLength {
    #[error("the body is longer than its head says")]
    TooLong,
    #[error("the body is shorter than its head says")]
    TooShort,
}

impl BodyEncoder {
    pub fn new(encoding: Encoding) -> Self {
        let state = match encoding {
            Encoding::None | Encoding::Described(_) => State::Length(0),
            Encoding::Length(length) => State::Length(length),
            Encoding::Chunked => State::Chunked,
            Encoding::UntilClose | Encoding::Streamed => State::UntilClose,
        };
        Self { state }
    }

    /// Writes what goes before a run of `length` body bytes, and answers what goes behind them, so that the bytes
    /// themselves need not be copied. An empty run is nothing at all.
    ///
    /// # Errors
    ///
    /// [`WrongLength::TooLong`]; nothing was written.
    pub fn chunk(&mut self, out: &mut Vec<u8>, length: usize) -> Result<&'static [u8], WrongLength> {
        match &mut self.state {
            State::Length(left) => {
                *left = left.checked_sub(length as u64).ok_or(WrongLength::TooLong)?;
                Ok(b"")
            }
            State::Chunked if length > 0 => {
                put_hexadecimal(out, length as u64);
                out.extend_from_slice(CRLF);
                Ok(CRLF)
            }
            State::Chunked | State::UntilClose => Ok(b""),
        }
    }

    /// Whether the body's bytes are all that is sent of it.
    pub fn is_unframed(&self) -> bool {
        !matches!(self.state, State::Chunked)
    }

    /// Writes a run of body bytes with its framing.
    ///
    /// # Errors
    ///
    /// [`WrongLength::TooLong`]; nothing was written.
    pub fn data(&mut self, out: &mut Vec<u8>, data: &[u8]) -> Result<(), WrongLength> {
        let behind = self.chunk(out, data.len())?;
        put(out, [data, behind, b"", b""]);
        Ok(())
    }

    /// Writes what ends the body. Trailers are for chunked bodies only and left out elsewhere, as are those that
    /// only a head may have.
    ///
    /// # Errors
    ///
    /// [`WrongLength::TooShort`]; nothing was written.
    pub fn end(&mut self, out: &mut Vec<u8>, trailers: Option<&Fields>) -> Result<(), WrongLength> {
        match self.state {
            State::Length(0) | State::UntilClose => Ok(()),
            State::Length(_) => Err(WrongLength::TooShort),
            State::Chunked => {
                out.extend_from_slice(b"0\r\n");
                for field in trailers.into_iter().flat_map(Fields::iter).filter(|field| may_trail(*field)) {
                    put(out, [field.name, b": ", field.value, CRLF]);
                }
                out.extend_from_slice(CRLF);
                Ok(())
            }
        }
    }
}

/// The usual reason phrase of a status; empty for one that is not registered.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        511 => "Network Authentication Required",
        _ => "",
    }
}

/// Whether a response with this status has neither a body nor anything to say of one (RFC 9110 section 8.6).
fn is_bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204)
}

fn put_fields(out: &mut Vec<u8>, fields: &Fields, encoding: Encoding, keep: impl Fn(Known) -> bool) {
    fields.write_lines(out, |known| {
        let announces_nothing = known == Known::Trailer && encoding != Encoding::Chunked;
        !known.is_hop_by_hop() && !announces_nothing && keep(known)
    });
}

fn put_framing(out: &mut Vec<u8>, encoding: Encoding) {
    match encoding {
        Encoding::None | Encoding::UntilClose | Encoding::Streamed => {}
        Encoding::Length(length) | Encoding::Described(length) => {
            out.extend_from_slice(b"content-length: ");
            put_decimal(out, length);
            out.extend_from_slice(CRLF);
        }
        Encoding::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
}

fn put_connection(out: &mut Vec<u8>, connection: ConnectionOption<'_>) {
    match connection {
        ConnectionOption::Implied => {}
        ConnectionOption::KeepAlive => out.extend_from_slice(b"connection: keep-alive\r\n"),
        ConnectionOption::Close => out.extend_from_slice(b"connection: close\r\n"),
        ConnectionOption::Upgrade(protocols) => {
            put(out, [b"connection: upgrade\r\nupgrade: ", protocols, CRLF, b""]);
        }
    }
}

/// Writes up to four parts with one check of the space.
fn put(out: &mut Vec<u8>, parts: [&[u8]; 4]) {
    out.reserve(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
}

pub(in crate::http) fn put_decimal(out: &mut Vec<u8>, number: u64) {
    let digit = |of: u64| b'0' + (of % 10) as u8;
    match number {
        // Statuses, and the parts of addresses.
        0..10 => out.push(digit(number)),
        10..100 => out.extend_from_slice(&[digit(number / 10), digit(number)]),
        100..1000 => out.extend_from_slice(&[digit(number / 100), digit(number / 10), digit(number)]),
        _ => put_digits::<10>(out, number),
    }
}

fn put_hexadecimal(out: &mut Vec<u8>, number: u64) {
    put_digits::<16>(out, number);
}

fn put_digits<const BASE: u64>(out: &mut Vec<u8>, mut number: u64) {
    // 2^64 has 20 decimal digits.
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b"0123456789abcdef"[(number % BASE) as usize];
        number /= BASE;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    fn request(authority: &str, lines: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        head.set_method("GET");
        head.set_path_and_query("/a?b");
        head.set_authority(authority);
        for (name, value) in lines {
            head.fields.append(name.as_bytes(), value.as_bytes());
        }
        head
    }

    fn written(head: &RequestHead, encoding: Encoding, connection: ConnectionOption<'_>) -> String {
        let mut out = Vec::new();
        encode_request(&mut out, head, encoding, RequestOptions { fallback_host: "fallback", connection });
        String::from_utf8(out).expect("ASCII")
    }

    fn answered(status: u16, lines: &[(&str, &str)], encoding: Encoding, connection: ConnectionOption<'_>) -> String {
        let mut head = ResponseHead::default();
        head.status = status;
        for (name, value) in lines {
            head.fields.append(name.as_bytes(), value.as_bytes());
        }
        let mut out = Vec::new();
        encode_response(&mut out, &head, encoding, ResponseOptions { date: DATE, connection });
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_request_keeps_its_end_to_end_fields_in_their_order_and_case() {
        let head = request(
            "a",
            &[
                ("X-One", "1"),
                ("Host", "a"),
                ("Connection", "keep-alive"),
                ("Keep-Alive", "timeout=5"),
                ("Content-Length", "999"),
                ("accept", "x, y"),
                ("TE", "trailers"),
                ("Trailer", "x-sum"),
                ("Upgrade", "h2c"),
                ("Proxy-Connection", "close"),
                ("Transfer-Encoding", "gzip"),
                ("Expect", "100-continue"),
                ("Accept", ""),
            ],
        );

        assert_eq!(
            written(&head, Encoding::Length(0), ConnectionOption::Implied),
            "GET /a?b HTTP/1.1\r\nhost: a\r\nX-One: 1\r\naccept: x, y\r\nAccept: \r\ncontent-length: 0\r\n\r\n"
        );
        assert!(
            written(&head, Encoding::Chunked, ConnectionOption::Close)
                .ends_with("Trailer: x-sum\r\nAccept: \r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")
        );
    }

    #[test]
    fn a_request_has_one_host_whatever_its_head_holds() {
        for (authority, lines, host) in [
            ("a:80", &[("host", "a:80")][..], "a:80"),
            ("a", &[("host", "b")], "b"),
            ("a", &[("host", "b"), ("Host", "c")], "b"),
            ("a", &[], "a"),
            ("a", &[("host", "")], "a"),
            ("", &[], "fallback"),
        ] {
            let expected = format!("GET /a?b HTTP/1.1\r\nhost: {host}\r\n\r\n");
            assert_eq!(written(&request(authority, lines), Encoding::None, ConnectionOption::Implied), expected);
        }
    }

    #[test]
    fn an_upgrade_is_asked_for_when_the_caller_says_so() {
        let head = request("a", &[("connection", "upgrade"), ("upgrade", "other")]);

        assert_eq!(
            written(&head, Encoding::None, ConnectionOption::Upgrade(b"websocket")),
            "GET /a?b HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        );
    }

    #[test]
    fn a_final_response_has_one_date() {
        let own = "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 5\r\n\r\n";
        let theirs = "HTTP/1.1 200 OK\r\nDate: then\r\ncontent-length: 5\r\n\r\n";

        assert_eq!(answered(200, &[], Encoding::Length(5), ConnectionOption::Implied), own);
        assert_eq!(answered(200, &[("Date", "then")], Encoding::Length(5), ConnectionOption::Implied), theirs);
        assert_eq!(answered(103, &[], Encoding::None, ConnectionOption::Implied), "HTTP/1.1 103 Early Hints\r\n\r\n");
    }

    #[test]
    fn a_response_says_what_becomes_of_its_connection() {
        for (status, encoding, connection, end) in [
            (200, Encoding::None, ConnectionOption::KeepAlive, "connection: keep-alive\r\n\r\n"),
            (200, Encoding::None, ConnectionOption::Close, "connection: close\r\n\r\n"),
            (200, Encoding::UntilClose, ConnectionOption::KeepAlive, "GMT\r\nconnection: close\r\n\r\n"),
            (101, Encoding::None, ConnectionOption::Upgrade(b"x"), "connection: upgrade\r\nupgrade: x\r\n\r\n"),
        ] {
            let text = answered(status, &[("connection", "a"), ("upgrade", "b")], encoding, connection);
            assert!(text.ends_with(end), "for {status} {encoding:?}: {text}");
        }
    }

    #[test]
    fn a_response_without_a_body_may_still_name_a_length() {
        for (status, encoding, named) in [
            (200, Encoding::Described(5), true),
            (304, Encoding::Described(5), true),
            (204, Encoding::Length(0), false),
            (204, Encoding::Chunked, false),
            (304, Encoding::None, false),
        ] {
            let text = answered(status, &[], encoding, ConnectionOption::Implied);
            assert_eq!(text.contains("content-length: 5\r\n"), named, "for {status}: {text}");
            assert!(!text.contains("transfer-encoding"));
        }
    }

    #[test]
    fn a_forwarded_reason_is_kept_and_an_empty_one_filled_in() {
        for (status, reason, line) in [
            (200, &b"Fine"[..], &b"HTTP/1.1 200 Fine\r\n"[..]),
            (404, b"Nicht gef\xfcnden", b"HTTP/1.1 404 Nicht gef\xfcnden\r\n"),
            (404, b"", b"HTTP/1.1 404 Not Found\r\n"),
            (799, b"", b"HTTP/1.1 799 \r\n"),
        ] {
            let mut head = ResponseHead::default();
            head.status = status;
            head.set_reason(reason);
            let mut out = Vec::new();
            let options = ResponseOptions { date: DATE, connection: ConnectionOption::Implied };
            encode_response(&mut out, &head, Encoding::None, options);
            assert!(out.starts_with(line), "{}", out.escape_ascii());
        }
    }

    #[test]
    fn a_response_is_framed_for_the_client_that_gets_it() {
        use Version::{Http10, Http11};
        let with_length = |status| {
            let mut head = ResponseHead::default();
            head.status = status;
            head.fields.append(b"content-length", b"7");
            head
        };
        for (status, kind, client, encoding) in [
            (200, BodyKind::Length(7), Http10, Encoding::Length(7)),
            (200, BodyKind::Chunked, Http11, Encoding::Chunked),
            (200, BodyKind::Chunked, Http10, Encoding::UntilClose),
            (200, BodyKind::UntilClose, Http11, Encoding::Chunked),
            (200, BodyKind::UntilClose, Http10, Encoding::UntilClose),
            (200, BodyKind::None, Http11, Encoding::Described(7)),
            (304, BodyKind::None, Http11, Encoding::Described(7)),
            (204, BodyKind::None, Http11, Encoding::None),
        ] {
            assert_eq!(Encoding::for_response(&with_length(status), kind, client), encoding, "for {status} {kind:?}");
        }
    }

    #[test]
    fn a_body_with_a_length_is_neither_longer_nor_shorter() {
        let mut out = Vec::new();
        let mut body = BodyEncoder::new(Encoding::Length(3));

        assert_eq!(body.data(&mut out, b"ab"), Ok(()));
        assert_eq!(body.end(&mut out, None), Err(WrongLength::TooShort));
        assert_eq!(body.data(&mut out, b"cd"), Err(WrongLength::TooLong));
        assert_eq!(body.data(&mut out, b"c"), Ok(()));
        assert_eq!(body.end(&mut out, None), Ok(()));
        assert_eq!(out, b"abc");

        assert_eq!(BodyEncoder::new(Encoding::Described(3)).chunk(&mut out, 1), Err(WrongLength::TooLong));
    }

    #[test]
    fn chunks_are_framed_and_an_empty_one_is_not_written() {
        let mut trailers = Fields::default();
        for (name, value) in [("X-Sum", "1"), ("content-length", "5"), ("Connection", "close")] {
            trailers.append(name.as_bytes(), value.as_bytes());
        }
        let mut out = Vec::new();
        let mut body = BodyEncoder::new(Encoding::Chunked);

        body.data(&mut out, b"hello").expect("any length");
        body.data(&mut out, b"").expect("any length");
        body.data(&mut out, &[b'x'; 26]).expect("any length");
        body.end(&mut out, Some(&trailers)).expect("any length");

        assert_eq!(out, b"5\r\nhello\r\n1a\r\nxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n0\r\nX-Sum: 1\r\n\r\n");
    }

    #[test]
    fn numbers_of_every_length_are_written() {
        for number in [0, 1, 9, 10, 15, 16, 255, 256, 65_535, u64::MAX] {
            let (mut decimal, mut hexadecimal) = (Vec::new(), Vec::new());
            put_decimal(&mut decimal, number);
            put_hexadecimal(&mut hexadecimal, number);
            assert_eq!(decimal, number.to_string().into_bytes());
            assert_eq!(hexadecimal, format!("{number:x}").into_bytes());
        }
    }
}
