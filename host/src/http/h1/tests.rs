//! Whole messages: what must be refused, what must be understood, and what must hold for any bytes at all.

use proptest::prelude::*;

use super::*;
use crate::http::head::{Fields, Known, RequestHead, ResponseHead, Version};

const LIMITS: Limits = Limits { max_head: 1024, max_fields: 16, max_target: 128 };

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

/// What a proxy makes of the first request in a buffer.
fn request(input: &[u8]) -> Result<Option<(usize, RequestHead, BodyKind)>, BadRequest> {
    let mut head = RequestHead::default();
    let Some(length) = parse_request(input, &LIMITS, &mut head)? else { return Ok(None) };
    let kind = request_body(&head)?;
    Ok(Some((length, head, kind)))
}

/// What a proxy makes of the response to a GET.
fn response(input: &[u8]) -> Result<Option<(usize, ResponseHead, BodyKind)>, BadResponse> {
    let mut head = ResponseHead::default();
    let Some(length) = parse_response(input, &LIMITS, &mut head)? else { return Ok(None) };
    let kind = response_body(&head, "GET")?;
    Ok(Some((length, head, kind)))
}

fn accepted(input: &[u8]) -> (usize, RequestHead, BodyKind) {
    request(input)
        .unwrap_or_else(|why| panic!("{}: {why}", input.escape_ascii()))
        .unwrap_or_else(|| panic!("{}: incomplete", input.escape_ascii()))
}

fn listed(fields: &Fields) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    fields.iter().map(|field| (text(field.name), text(field.value))).collect()
}

/// Requests, the status each must get, and why.
const BAD_REQUESTS: &[(&str, u16, &[u8])] = &[
    // The request line.
    ("9112 3: no method", 400, b" / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3: two spaces after the method", 400, b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3: two spaces after the target", 400, b"GET /  HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3: a tab for a space", 400, b"GET\t/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3: a space at the end", 400, b"GET / HTTP/1.1 \r\nhost: a\r\n\r\n"),
    ("9112 3: no target", 400, b"GET HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3: a space in the target", 400, b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3: no version (HTTP/0.9)", 400, b"GET /\r\n\r\n"),
    ("9112 3: no version (HTTP/0.9), told at once", 400, b"GET /\r\n"),
    ("9112 3.1: a method that is not a token", 400, b"G(T / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3.1: a NUL in the method", 400, b"G\0T / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3.1: a method in Latin-1", 400, b"G\xc4T / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3: a method longer than any", 501, b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3: an endless method, told at once", 501, b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    ("9110 9.3.6: CONNECT", 501, b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n"),
    ("9110 9.3.6: CONNECT with another target", 501, b"CONNECT / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("8446 5.1: TLS, told at once", 400, b"\x16\x03\x01\x02\x00"),
    // The version.
    ("9112 2.3: an older version", 505, b"GET / HTTP/0.9\r\nhost: a\r\n\r\n"),
    ("9112 2.3: a newer minor version", 505, b"GET / HTTP/1.2\r\nhost: a\r\n\r\n"),
    ("9112 2.3: a newer major version", 505, b"GET / HTTP/3.0\r\nhost: a\r\n\r\n"),
    ("9113 3.4: the preface of HTTP/2", 505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("9112 2.3: lower case", 400, b"GET / http/1.1\r\nhost: a\r\n\r\n"),
    ("9112 2.3: two digits", 400, b"GET / HTTP/1.10\r\nhost: a\r\n\r\n"),
    ("9112 2.3: no minor version", 400, b"GET / HTTP/1\r\nhost: a\r\n\r\n"),
    ("9112 2.3: another protocol", 400, b"GET / RTSP/1.0\r\nhost: a\r\n\r\n"),
    ("9112 2.3: a comma for a dot", 400, b"GET / HTTP/1,1\r\nhost: a\r\n\r\n"),
    // The target.
    ("9112 3.2: no known form", 400, b"GET a HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3.2: a relative path", 400, b"GET ../a HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3.2: only a query", 400, b"GET ?a HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3.2.1: a fragment", 400, b"GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3.2.1: a NUL", 400, b"GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3.2.1: a tab", 400, b"GET /\t HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3.2.1: DEL", 400, b"GET /\x7f HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3.2.1: UTF-8 as it is", 400, b"GET /\xc3\xa4 HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3.2.1: Latin-1 as it is", 400, b"GET /\xe4 HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3.2.2: an unknown scheme", 400, b"GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9110 4.2.1: an empty authority", 400, b"GET http:///a HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9110 4.2.4: a user in the target", 400, b"GET http://u@a/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3.2.2: a fragment behind an authority", 400, b"GET http://a#b HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3.2.2: a backslash for a slash", 400, b"GET http://a\\b HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3.2.2: no host beside an absolute target", 400, b"GET http://a/ HTTP/1.1\r\n\r\n"),
    ("9112 3.2.2: a bad host beside an absolute target", 400, b"GET http://a/ HTTP/1.1\r\nhost: a b\r\n\r\n"),
    ("9112 3.2.3: an authority without CONNECT", 400, b"GET a:80 HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3.2.4: an asterisk without OPTIONS", 400, b"GET * HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 3.2.4: more than an asterisk", 400, b"OPTIONS ** HTTP/1.1\r\nhost: a\r\n\r\n"),
    // The host.
    ("9112 3.2: no host", 400, b"GET / HTTP/1.1\r\n\r\n"),
    ("9112 3.2: two hosts", 400, b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
    ("9112 3.2: the same host twice", 400, b"GET / HTTP/1.1\r\nhost: a\r\nHost: a\r\n\r\n"),
    ("9112 3.2: two hosts in HTTP/1.0", 400, b"GET / HTTP/1.0\r\nhost: a\r\nhost: a\r\n\r\n"),
    ("9110 4.2.1: an empty host", 400, b"GET / HTTP/1.1\r\nhost:\r\n\r\n"),
    ("9112 3.2: a list of hosts", 400, b"GET / HTTP/1.1\r\nhost: a, b\r\n\r\n"),
    ("9112 3.2: two hosts joined", 400, b"GET / HTTP/1.1\r\nhost: a,b\r\n\r\n"),
    ("9112 3.2: a user", 400, b"GET / HTTP/1.1\r\nhost: u@a\r\n\r\n"),
    ("9112 3.2: a path", 400, b"GET / HTTP/1.1\r\nhost: a/b\r\n\r\n"),
    ("9112 3.2: a scheme", 400, b"GET / HTTP/1.1\r\nhost: http://a\r\n\r\n"),
    ("9112 3.2: a space", 400, b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n"),
    ("9112 3.2: a port that is no number", 400, b"GET / HTTP/1.1\r\nhost: a:http\r\n\r\n"),
    ("9112 3.2: a port out of range", 400, b"GET / HTTP/1.1\r\nhost: a:65536\r\n\r\n"),
    ("9112 3.2: an IPv6 address without brackets", 400, b"GET / HTTP/1.1\r\nhost: ::1\r\n\r\n"),
    ("9112 3.2: a host in UTF-8", 400, b"GET / HTTP/1.1\r\nhost: \xc3\xa4\r\n\r\n"),
    // Lines.
    ("9112 2.2: bare LF after the request line", 400, b"GET / HTTP/1.1\nhost: a\r\n\r\n"),
    ("9112 2.2: bare LF after a field", 400, b"GET / HTTP/1.1\r\nhost: a\n\r\n"),
    ("9112 2.2: bare LF at the end", 400, b"GET / HTTP/1.1\r\nhost: a\r\n\n"),
    ("9112 2.2: bare LF everywhere, told at once", 400, b"GET / HTTP/1.1\n"),
    ("9112 2.2: bare LF before the request", 400, b"\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 2.2: bare CR before the request", 400, b"\rGET / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 2.2: bare CR in the request line", 400, b"GET /\r HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("9112 2.2: bare CR after the request line", 400, b"GET / HTTP/1.1\rhost: a\r\n\r\n"),
    ("9112 2.2: bare CR in a value", 400, b"GET / HTTP/1.1\r\nhost: a\r\nb: c\rd: e\r\n\r\n"),
    ("9112 2.2: bare CR before CRLF", 400, b"GET / HTTP/1.1\r\nhost: a\r\nb: c\r\r\n\r\n"),
    ("9112 2.2: a line of CR CRLF", 400, b"GET / HTTP/1.1\r\nhost: a\r\n\r\r\n\r\n"),
    ("9112 2.2: white space before the first field", 400, b"GET / HTTP/1.1\r\n host: a\r\n\r\n"),
    ("9112 2.2: more empty lines than anyone sends", 400, b"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"),
    // Fields.
    ("9112 5.1: a space before the colon", 400, b"GET / HTTP/1.1\r\nhost : a\r\n\r\n"),
    ("9112 5.1: a tab before the colon", 400, b"GET / HTTP/1.1\r\nhost: a\r\nb\t: c\r\n\r\n"),
    ("9112 5.1: a space before the colon of a length", 400, b"GET / HTTP/1.1\r\nhost: a\r\nContent-Length : 5\r\n\r\n"),
    ("9112 5.1: no name", 400, b"GET / HTTP/1.1\r\nhost: a\r\n: b\r\n\r\n"),
    ("9112 5.1: no colon", 400, b"GET / HTTP/1.1\r\nhost: a\r\nb\r\n\r\n"),
    ("9110 5.1: a name with a space", 400, b"GET / HTTP/1.1\r\nhost: a\r\nb c: d\r\n\r\n"),
    ("9110 5.1: a name with a bracket", 400, b"GET / HTTP/1.1\r\nhost: a\r\nb[0]: d\r\n\r\n"),
    ("9110 5.1: a name with a NUL", 400, b"GET / HTTP/1.1\r\nhost: a\r\nb\0: d\r\n\r\n"),
    ("9110 5.1: a name in Latin-1", 400, b"GET / HTTP/1.1\r\nhost: a\r\n\xe4: d\r\n\r\n"),
    ("9112 5.2: a folded line", 400, b"GET / HTTP/1.1\r\nhost: a\r\nb: c\r\n d\r\n\r\n"),
    ("9112 5.2: a line folded with a tab", 400, b"GET / HTTP/1.1\r\nhost: a\r\nb: c\r\n\td\r\n\r\n"),
    ("9112 5.2: a folded coding", 400, b"GET / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n"),
    ("9110 5.5: a NUL", 400, b"GET / HTTP/1.1\r\nhost: a\r\nb: c\0d\r\n\r\n"),
    ("9110 5.5: a control byte", 400, b"GET / HTTP/1.1\r\nhost: a\r\nb: c\x01d\r\n\r\n"),
    ("9110 5.5: a vertical tab", 400, b"GET / HTTP/1.1\r\nhost: a\r\nb:\x0bc\r\n\r\n"),
    ("9110 5.5: DEL", 400, b"GET / HTTP/1.1\r\nhost: a\r\nb: c\x7f\r\n\r\n"),
    // The length.
    ("9110 8.6: a plus", 400, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\n"),
    ("9110 8.6: a minus", 400, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n"),
    ("9110 8.6: a list", 400, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5,5\r\n\r\n"),
    ("9110 8.6: two lengths", 400, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n"),
    (
        "9112 6.3: one length twice",
        400,
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nContent-Length: 5\r\n\r\n",
    ),
    ("9110 8.6: a space within", 400, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5 5\r\n\r\n"),
    ("9110 8.6: empty", 400, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\n"),
    ("9110 8.6: hexadecimal", 400, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x5\r\n\r\n"),
    ("9110 8.6: a fraction", 400, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5.0\r\n\r\n"),
    ("9110 8.6: quoted", 400, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \"5\"\r\n\r\n"),
    ("9110 8.6: 2^64", 400, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551616\r\n\r\n"),
    ("9110 8.6: Arabic digits", 400, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \xd9\xa5\r\n\r\n"),
    // The coding.
    (
        "9112 6.1: with a length",
        400,
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
    ),
    (
        "9112 6.1: before a length",
        400,
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
    ),
    (
        "9112 6.1: unknown, with a length",
        400,
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: x\r\n\r\n",
    ),
    ("9112 6.1: in HTTP/1.0", 400, b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"),
    ("9112 7.1: chunked twice", 400, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n"),
    (
        "9112 6.3: on two lines",
        400,
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n",
    ),
    ("9112 6.3: chunked not last", 400, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n"),
    ("9112 6.3: no chunked", 400, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n"),
    ("9112 7: identity", 400, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n"),
    (
        "9112 7: identity before chunked",
        400,
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity, chunked\r\n\r\n",
    ),
    ("9112 7: empty", 400, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n\r\n"),
    ("9112 7: almost chunked", 400, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n"),
    ("9112 7: chunked in quotes", 400, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \"chunked\"\r\n\r\n"),
    ("9112 7: a parameter", 400, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked;q=1\r\n\r\n"),
    ("9112 7: a comma first", 400, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: ,chunked\r\n\r\n"),
    ("9112 7: a comma last", 400, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked,\r\n\r\n"),
    ("9112 7: a space for a comma", 400, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip chunked\r\n\r\n"),
    ("9112 7: a tab before", 400, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\tchunked\r\n\r\n"),
    ("9112 7: a tab behind", 400, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\t\r\n\r\n"),
    ("9112 7: a vertical tab", 400, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n"),
    ("9112 7: a byte beyond ASCII", 400, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\xa0\r\n\r\n"),
    ("9112 7: a colon too many", 400, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:: chunked\r\n\r\n"),
    (
        "9112 6.1: a coding we do not know",
        501,
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
    ),
    // The rest.
    ("9110 10.1.1: an unknown expectation", 417, b"POST / HTTP/1.1\r\nhost: a\r\nexpect: tea\r\n\r\n"),
    ("9110 10.1.1: one known, one not", 417, b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue, tea\r\n\r\n"),
    (
        "9110 10.1.1: on a second line",
        417,
        b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nexpect: tea\r\n\r\n",
    ),
];

#[test]
fn bad_requests_are_refused_with_their_status() {
    assert!(BAD_REQUESTS.len() >= 80);
    for (rule, status, input) in BAD_REQUESTS {
        match request(input) {
            Err(why) => assert_eq!(why.status, *status, "RFC {rule}: {why}"),
            Ok(read) => panic!("RFC {rule}: not refused: {read:?}"),
        }
    }
}

#[test]
fn a_bad_request_is_never_understood_however_much_of_it_has_come() {
    for (rule, _, input) in BAD_REQUESTS {
        for end in 0..input.len() {
            assert!(!matches!(request(&input[..end]), Ok(Some(_))), "RFC {rule}, {end} bytes");
        }
    }
}

#[test]
fn bad_responses_are_refused() {
    let cases: &[(&str, &[u8])] = &[
        ("9112 4: another protocol, told at once", b"SSH-2.0-x"),
        ("9112 4: an empty line first", b"\r\nHTTP/1.1 200 OK\r\n\r\n"),
        ("9112 4: HTTP/0.9", b"<html>"),
        ("9112 4: HTTP/2", b"HTTP/2.0 200 OK\r\n\r\n"),
        ("9112 2.3: a newer minor version", b"HTTP/1.2 200 OK\r\n\r\n"),
        ("9112 2.3: two digits", b"HTTP/1.10 200 OK\r\n\r\n"),
        ("9112 4: two digits", b"HTTP/1.1 20 OK\r\n\r\n"),
        ("9112 4: four digits", b"HTTP/1.1 2000 OK\r\n\r\n"),
        ("9112 4: letters", b"HTTP/1.1 2xx OK\r\n\r\n"),
        ("9110 15: below 100", b"HTTP/1.1 099 OK\r\n\r\n"),
        ("9112 4: a plus", b"HTTP/1.1 +20 OK\r\n\r\n"),
        ("9112 4: no status", b"HTTP/1.1\r\n\r\n"),
        ("9112 4: two spaces", b"HTTP/1.1  200 OK\r\n\r\n"),
        ("9112 4: a NUL in the reason", b"HTTP/1.1 200 O\0K\r\n\r\n"),
        ("9112 4: a bare CR in the reason", b"HTTP/1.1 200 O\rK\r\n\r\n"),
        ("9112 2.2: bare LF", b"HTTP/1.1 200 OK\n\n"),
        ("9112 2.2: bare LF after a field", b"HTTP/1.1 200 OK\r\na: b\n\r\n"),
        ("9112 2.2: bare CR in a value", b"HTTP/1.1 200 OK\r\na: b\rc\r\n\r\n"),
        ("9112 5.2: a folded line", b"HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n"),
        ("9112 5.1: a space before the colon", b"HTTP/1.1 200 OK\r\na : b\r\n\r\n"),
        ("9112 5.1: no name", b"HTTP/1.1 200 OK\r\n: b\r\n\r\n"),
        ("9112 5.1: no colon", b"HTTP/1.1 200 OK\r\na\r\n\r\n"),
        ("9112 2.2: white space before the first field", b"HTTP/1.1 200 OK\r\n a: b\r\n\r\n"),
        ("9110 5.5: a NUL", b"HTTP/1.1 200 OK\r\na: \0\r\n\r\n"),
        ("9110 5.5: DEL", b"HTTP/1.1 200 OK\r\na: \x7f\r\n\r\n"),
        ("9112 6.3: two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n"),
        ("9112 6.3: one length twice", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n"),
        ("9112 6.3: a list of lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n"),
        ("9110 8.6: no number", b"HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\n"),
        ("9110 8.6: a bad length in a 304", b"HTTP/1.1 304 Not Modified\r\ncontent-length: -1\r\n\r\n"),
        ("9112 6.3: length and coding", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("9112 6.1: a coding in HTTP/1.0", b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("9112 7: a coding we did not ask for", b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n"),
        ("9112 7: no chunked", b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n"),
        ("9112 7: identity", b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n"),
        ("9112 7.1: chunked twice", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n"),
        ("9112 7: almost chunked", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked1\r\n\r\n"),
    ];
    for (rule, input) in cases {
        assert!(response(input).is_err(), "RFC {rule}");
        for end in 0..input.len() {
            assert!(!matches!(response(&input[..end]), Ok(Some(_))), "RFC {rule}, {end} bytes");
        }
    }
}

#[test]
fn a_head_beyond_its_limits_is_refused_even_while_unfinished() {
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(length - 1));
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "a: b\r\n".repeat(count - 1));
    let head = |length: usize| {
        let start = "GET / HTTP/1.1\r\nhost: a\r\nb: ";
        format!("{start}{}\r\n\r\n", "c".repeat(length - start.len() - 4))
    };
    let no_end = |start: &str, length: usize| format!("{start}{}", "a".repeat(length - start.len()));
    for (input, status) in [
        (target(LIMITS.max_target), None),
        (target(LIMITS.max_target + 1), Some(414)),
        (target(10 * LIMITS.max_head), Some(414)),
        (fields(LIMITS.max_fields), None),
        (fields(LIMITS.max_fields + 1), Some(431)),
        (head(LIMITS.max_head), None),
        (head(LIMITS.max_head + 1), Some(431)),
        (head(LIMITS.max_head + 1) + "a body\nof lines\n", Some(431)),
        (no_end("GET /", LIMITS.max_target), None),
        (no_end("GET /", LIMITS.max_target + 20), Some(414)),
        (no_end("GET / HTTP/1.1\r\nhost: ", LIMITS.max_head - 1), None),
        (no_end("GET / HTTP/1.1\r\nhost: ", LIMITS.max_head), Some(431)),
        (no_end("\r\n\r\nGET / HTTP/1.1\r\nhost: ", LIMITS.max_head), Some(431)),
    ] {
        assert_eq!(request(input.as_bytes()).err().map(|why| why.status), status, "for {input}");
    }

    let response_of = |length: usize| format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(length - 24));
    assert!(response(response_of(LIMITS.max_head).as_bytes()).is_ok());
    assert!(response(response_of(LIMITS.max_head + 1).as_bytes()).is_err());
    assert!(response(&response_of(LIMITS.max_head + 1).as_bytes()[..LIMITS.max_head]).is_err());
    assert!(response(format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(17)).as_bytes()).is_err());
}

#[test]
fn more_fields_than_usual_are_read_where_the_limits_allow_them() {
    let limits = Limits { max_head: 1 << 20, max_fields: 2000, max_target: 128 };
    let input = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "a: b\r\n".repeat(1999));
    let mut head = RequestHead::default();

    assert_eq!(parse_request(input.as_bytes(), &limits, &mut head), Ok(Some(input.len())));
    assert_eq!(head.fields.len(), 2000);
}

#[test]
fn a_request_is_read_whole() {
    let input = b"PATCH /a/b?c=d HTTP/1.1\r\nHost: Shop.example:8080\r\nX-Empty:\r\nX-Space: \t a\tb \t\r\n\
        x-latin: \xe4\r\nContent-Length: 3\r\n\r\nabcGET";

    let (length, head, kind) = accepted(input);

    assert_eq!(&input[length..], b"abcGET");
    assert_eq!((head.method(), head.path(), head.query()), ("PATCH", "/a/b", Some("c=d")));
    assert_eq!((head.authority(), head.host(), head.version), ("Shop.example:8080", "Shop.example", Version::Http11));
    assert_eq!(kind, BodyKind::Length(3));
    let expected = [
        ("Host", "Shop.example:8080"),
        ("X-Empty", ""),
        ("X-Space", "a\\tb"),
        ("x-latin", "\\xe4"),
        ("Content-Length", "3"),
    ];
    assert_eq!(listed(&head.fields), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn requests_that_are_unusual_but_right_are_read() {
    for (input, method, path, authority) in [
        (&b"GET / HTTP/1.0\r\n\r\n"[..], "GET", "/", ""),
        (b"GET / HTTP/1.0\r\nexpect: tea\r\n\r\n", "GET", "/", ""),
        (b"\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", "GET", "/", "a"),
        (b"\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", "GET", "/", "a"),
        (b"get / HTTP/1.1\r\nhost: a\r\n\r\n", "get", "/", "a"),
        (b"M-SEARCH / HTTP/1.1\r\nhost: a\r\n\r\n", "M-SEARCH", "/", "a"),
        (b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", "OPTIONS", "*", "a"),
        (b"OPTIONS http://b HTTP/1.1\r\nhost: a\r\n\r\n", "OPTIONS", "*", "b"),
        (b"GET http://b HTTP/1.1\r\nhost: a\r\n\r\n", "GET", "/", "b"),
        (b"GET http://b?c HTTP/1.1\r\nhost: a\r\n\r\n", "GET", "/?c", "b"),
        (b"GET HTTPS://b:1/c?d HTTP/1.1\r\nhost: a\r\n\r\n", "GET", "/c?d", "b:1"),
        (b"GET http://b/ HTTP/1.0\r\n\r\n", "GET", "/", "b"),
        (b"GET / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n", "GET", "/", "[::1]:80"),
        (b"GET //a/../%2e?b=|\" HTTP/1.1\r\nhost: a\r\n\r\n", "GET", "//a/../%2e?b=|\"", "a"),
        (b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-Continue\r\n\r\n", "POST", "/", "a"),
        (b"GET / HTTP/1.1\r\nhost:a\r\n\r\n", "GET", "/", "a"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nb_c: d\r\n!#$%&'*+-.^_`|~: e\r\n\r\n", "GET", "/", "a"),
    ] {
        let (length, head, _) = accepted(input);
        assert_eq!(length, input.len());
        assert_eq!((head.method(), head.path_and_query(), head.authority()), (method, path, authority));
        let hosts: Vec<_> = head.fields.all_known(Known::Host).collect();
        assert_eq!(hosts.concat(), authority.as_bytes());
    }
}

#[test]
fn a_request_that_ends_early_needs_more_bytes() {
    let input = b"\r\nPOST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n";
    for end in 0..input.len() {
        assert!(matches!(request(&input[..end]), Ok(None)), "after {end} bytes");
    }
    assert!(matches!(request(input), Ok(Some((length, ..))) if length == input.len()));
}

#[test]
fn a_head_that_is_used_again_holds_nothing_of_the_last_message() {
    let mut head = RequestHead::default();
    parse_request(b"PUT http://b?x HTTP/1.0\r\na: b\r\nc: d\r\n\r\n", &LIMITS, &mut head).expect("a request");
    parse_request(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", &LIMITS, &mut head).expect("a request");

    assert_eq!((head.method(), head.path_and_query(), head.authority()), ("GET", "/", "a"));
    assert_eq!(listed(&head.fields), [("host".to_owned(), "a".to_owned())]);

    assert_eq!(parse_request(b"GE", &LIMITS, &mut head), Ok(None));
    assert_eq!((head.method(), head.fields.len()), ("", 0));
}

#[test]
fn a_response_is_read_whole() {
    for (input, status, reason, version, fields, kind) in [
        (
            &b"HTTP/1.1 200 All right\r\nA: b\r\nContent-Length: 3\r\n\r\nabc"[..],
            200,
            &b"All right"[..],
            Version::Http11,
            2,
            BodyKind::Length(3),
        ),
        (
            b"HTTP/1.0 404 Nicht gef\xfcnden\r\n\r\nabc",
            404,
            b"Nicht gef\xfcnden",
            Version::Http10,
            0,
            BodyKind::UntilClose,
        ),
        (b"HTTP/1.1 204 \r\n\r\nabc", 204, b"", Version::Http11, 0, BodyKind::None),
        (b"HTTP/1.1 304\r\n\r\nabc", 304, b"", Version::Http11, 0, BodyKind::None),
        (b"HTTP/1.1 999 \r\ntransfer-encoding: CHUNKED\r\n\r\nabc", 999, b"", Version::Http11, 1, BodyKind::Chunked),
        (b"HTTP/1.1 100 Continue\r\n\r\nabc", 100, b"Continue", Version::Http11, 0, BodyKind::None),
    ] {
        let (length, head, framing) = response(input).expect("a good response").expect("a whole one");
        assert_eq!(&input[length..], b"abc");
        assert_eq!((head.status, head.reason(), head.version), (status, reason, version));
        assert_eq!((head.fields.len(), framing), (fields, kind));
    }
}

#[test]
fn nominated_fields_do_not_pass_but_what_is_added_later_does() {
    let input = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close, x-forwarded-for, x-user, host\r\nx-user: evil\r\n\
        x-forwarded-for: evil\r\nx-other: b\r\n\r\n";
    let (_, mut head, _) = accepted(input);
    head.fields.append(b"x-user", b"ours");
    head.fields.set(b"x-forwarded-for", b"1.2.3.4");

    let mut out = Vec::new();
    let options = RequestOptions { fallback_host: "", connection: ConnectionOption::Implied };
    encode_request(&mut out, &head, Encoding::None, options);

    let expected = "GET / HTTP/1.1\r\nhost: a\r\nx-other: b\r\nx-user: ours\r\nx-forwarded-for: 1.2.3.4\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&out), expected);
}

/// A valid request and what stands in it.
#[derive(Clone, Debug)]
struct Sent {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
}

impl Sent {
    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nHost: example.com\r\n", self.method, self.target);
        for (name, value) in &self.fields {
            text += &format!("{name}: {value}\r\n");
        }
        (text + "\r\n").into_bytes()
    }
}

prop_compose! {
    fn sent()(
        method in "[A-Z]{1,12}",
        target in "/[a-zA-Z0-9/%._~?=&|-]{0,40}",
        fields in prop::collection::vec(("x-[a-zA-Z0-9!#$%&'*+.^_`|~-]{0,12}", "([!-~]([ -~\t]{0,20}[!-~])?)?"), 0..12),
    ) -> Sent {
        // CONNECT is refused as such.
        Sent { method: method.replace("CONNECT", "DISCONNECT"), target, fields }
    }
}

/// A body in chunks, each with what stands behind its size.
fn chunks() -> impl Strategy<Value = Vec<(Vec<u8>, String)>> {
    prop::collection::vec(
        (prop::collection::vec(any::<u8>(), 1..40), "( {0,3};[a-z]{1,5}(=(\"[a-z ;]{0,9}\"|[a-z]{1,9}))?)?"),
        0..6,
    )
}

/// Decodes what comes in pieces that end at `cuts`: the body, its trailers, and how many bytes were used.
fn decode(kind: BodyKind, input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Option<Fields>, usize), BadBody> {
    let mut decoder = BodyDecoder::new(kind);
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (input.len() + 1)).chain([input.len()]).collect();
    cuts.sort_unstable();
    let (mut body, mut start) = (Vec::new(), 0);
    for end in cuts {
        loop {
            let decoded = decoder.decode(&input[start..end])?;
            assert!(decoded.data.start <= decoded.data.end && decoded.data.end <= decoded.consumed);
            assert!(decoded.consumed > 0 || start == end || decoder.is_done(), "no progress");
            body.extend_from_slice(&input[start..end][decoded.data]);
            start += decoded.consumed;
            if decoded.consumed == 0 {
                break;
            }
        }
    }
    decoder.end_of_input()?;
    Ok((body, decoder.take_trailers(), start))
}

proptest! {
    #[test]
    fn a_valid_request_is_read_as_httparse_reads_it(sent in sent()) {
        let bytes = sent.bytes();
        let mut space = [httparse::EMPTY_HEADER; 64];
        let mut plain = httparse::Request::new(&mut space);
        prop_assert_eq!(plain.parse(&bytes), Ok(httparse::Status::Complete(bytes.len())));

        let mut head = RequestHead::default();
        let limits = Limits { max_head: 1 << 16, max_fields: 64, max_target: 128 };
        prop_assert_eq!(parse_request(&bytes, &limits, &mut head), Ok(Some(bytes.len())));

        prop_assert_eq!(Some(head.method()), plain.method);
        prop_assert_eq!(Some(head.path_and_query()), plain.path);
        let ours: Vec<_> = head.fields.iter().map(|field| (field.name, field.value)).collect();
        let theirs: Vec<_> = plain.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn a_valid_request_survives_being_written_and_read_again(sent in sent(), length in any::<u64>()) {
        let limits = Limits { max_head: 1 << 16, max_fields: 64, max_target: 128 };
        let (mut head, mut again, mut out) = (RequestHead::default(), RequestHead::default(), Vec::new());
        parse_request(&sent.bytes(), &limits, &mut head).expect("a valid request");

        let options = RequestOptions { fallback_host: "", connection: ConnectionOption::Implied };
        encode_request(&mut out, &head, Encoding::Length(length), options);

        prop_assert_eq!(parse_request(&out, &limits, &mut again), Ok(Some(out.len())));
        prop_assert_eq!(again.method(), head.method());
        prop_assert_eq!(again.path_and_query(), head.path_and_query());
        prop_assert_eq!(again.authority(), head.authority());
        prop_assert_eq!(request_body(&again), Ok(BodyKind::Length(length)));
        again.fields.remove(b"content-length");
        let pairs = |fields: &Fields| {
            listed(fields).into_iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host")).collect::<Vec<_>>()
        };
        prop_assert_eq!(pairs(&again.fields), pairs(&head.fields));
    }

    #[test]
    fn what_is_accepted_is_written_so_that_a_second_reader_agrees(
        start in 0..BAD_REQUESTS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = BAD_REQUESTS[start].2.to_vec();
        for (place, byte) in edits {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(Some((_, head, kind))) = request(&bytes) {
            let mut out = Vec::new();
            let options = RequestOptions { fallback_host: "fallback", connection: ConnectionOption::Implied };
            encode_request(&mut out, &head, Encoding::for_request(kind), options);
            let (length, again, kind_again) = accepted(&out);
            prop_assert_eq!((length, kind_again), (out.len(), kind));
            prop_assert_eq!(again.method(), head.method());
            prop_assert_eq!(again.path_and_query(), head.path_and_query());
        }
    }

    #[test]
    fn garbage_never_panics(input in prop::collection::vec(any::<u8>(), 0..300), cuts in prop::collection::vec(0usize..300, 0..5)) {
        let _ = request(&input);
        let _ = response(&input);
        let _ = request(&[b"GET / HTTP/1.1\r\n", &input[..], b"\r\n\r\n"].concat());
        let _ = response(&[b"HTTP/1.1 200 OK\r\n", &input[..], b"\r\n\r\n"].concat());
        for kind in [BodyKind::None, BodyKind::Length(100), BodyKind::Chunked, BodyKind::UntilClose] {
            let _ = decode(kind, &input, &cuts);
        }
    }

    #[test]
    fn chunked_garbage_never_panics_and_is_judged_alike_in_any_pieces(
        input in "(0{0,3}[0-5g]?(;a?)? ?\r?\n|[a-z: ]{0,5}\r\n){0,8}",
        cuts in prop::collection::vec(0usize..80, 0..5),
    ) {
        let text = |read: Result<(Vec<u8>, Option<Fields>, usize), BadBody>| format!("{read:?}");
        let whole = decode(BodyKind::Chunked, input.as_bytes(), &[]);
        let pieces = decode(BodyKind::Chunked, input.as_bytes(), &cuts);
        prop_assert_eq!(text(whole), text(pieces));
    }

    #[test]
    fn a_chunked_body_is_the_same_in_any_pieces(
        chunks in chunks(),
        trailers in prop::collection::vec(("x-[a-z]{1,5}", "[a-z]{0,5}"), 0..4),
        cuts in prop::collection::vec(0usize..400, 0..8),
    ) {
        let (mut input, mut body) = (Vec::new(), Vec::new());
        for (data, extension) in &chunks {
            input.extend_from_slice(format!("{:X}{extension}\r\n", data.len()).as_bytes());
            input.extend_from_slice(data);
            input.extend_from_slice(b"\r\n");
            body.extend_from_slice(data);
        }
        input.extend_from_slice(b"0\r\n");
        for (name, value) in &trailers {
            input.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        input.extend_from_slice(b"\r\n");

        let (read, fields, used) = decode(BodyKind::Chunked, &input, &cuts).expect("a valid body");

        prop_assert_eq!((read, used), (body, input.len()));
        prop_assert_eq!(fields.map(|fields| listed(&fields)).unwrap_or_default(), trailers);
    }

    #[test]
    fn every_split_in_two_gives_the_same_body(chunks in chunks()) {
        let mut input = Vec::new();
        for (data, extension) in &chunks {
            input.extend_from_slice(format!("{:x}{extension}\r\n", data.len()).as_bytes());
            input.extend_from_slice(data);
            input.extend_from_slice(b"\r\n");
        }
        input.extend_from_slice(b"0\r\nx: y\r\n\r\n");
        let whole = format!("{:?}", decode(BodyKind::Chunked, &input, &[]).expect("a valid body"));
        for cut in 0..input.len() {
            prop_assert_eq!(&whole, &format!("{:?}", decode(BodyKind::Chunked, &input, &[cut]).expect("a valid body")));
        }
    }

    #[test]
    fn an_encoded_body_is_decoded_again(
        runs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..6),
        cuts in prop::collection::vec(0usize..400, 0..8),
    ) {
        let body = runs.concat();
        for (encoding, kind) in [
            (Encoding::Chunked, BodyKind::Chunked),
            (Encoding::Length(body.len() as u64), BodyKind::Length(body.len() as u64)),
            (Encoding::UntilClose, BodyKind::UntilClose),
        ] {
            let mut out = Vec::new();
            let mut encoder = BodyEncoder::new(encoding);
            for run in &runs {
                encoder.data(&mut out, run).expect("the right length");
            }
            encoder.end(&mut out, None).expect("the right length");

            let (read, trailers, used) = decode(kind, &out, &cuts).expect("a valid body");
            prop_assert_eq!((&read, used), (&body, out.len()));
            prop_assert!(trailers.is_none());
        }
    }
}

#[test]
fn a_response_survives_being_written_and_read_again() {
    let input =
        b"HTTP/1.0 200 Fine\r\nServer: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nConnection: x-gone\r\nX-Gone: c\r\n\r\n";
    let (_, head, kind) = response(input).expect("a good response").expect("a whole one");
    let mut out = Vec::new();
    let encoding = Encoding::for_response(&head, kind, Version::Http11);
    let options = ResponseOptions { date: DATE, connection: ConnectionOption::Implied };
    encode_response(&mut out, &head, encoding, options);

    let expected = "HTTP/1.1 200 Fine\r\nServer: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\
        date: Sun, 06 Nov 1994 08:49:37 GMT\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&out), expected);
    assert!(matches!(response(&out), Ok(Some((_, _, BodyKind::Chunked)))));
}
