//! Requests that two servers could read differently are refused, and nothing of them reaches an origin.
//!
//! RFC 9112 section 11.2; the reasons of single rows are named with them.

use crate::harness::{Client, Proxy, Upstream};

/// Sends bytes, and behind them a request that must never be taken for one.
fn refused(proxy: &Proxy, bytes: &[u8]) -> u16 {
    let mut client = Client::to(proxy);
    client.send(bytes);
    client.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.response();
    assert_eq!(response.field("connection"), Some("close"), "for {}", bytes.escape_ascii());
    client.finish();
    client.assert_closed();
    response.status
}

/// Checks that each of these is refused with its status and that no part of it is passed on.
fn assert_refused(rows: &[(&str, &[u8], u16)]) {
    let origin = Upstream::echo();
    let proxy = Proxy::to([&origin]);
    for (name, bytes, status) in rows {
        assert_eq!(refused(&proxy, bytes), *status, "{name}");
        let whole: Vec<_> = origin.received().into_iter().filter(|request| request.is_whole).collect();
        assert!(whole.is_empty(), "{name}: the origin got {whole:?}");
    }
}

#[test]
fn lengths_that_do_not_agree_are_refused() {
    // RFC 9112 section 6.3.
    assert_refused(&[
        (
            "both framings",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "both the other way",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("two lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        ("a length twice", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\nhello", 400),
        ("a list of lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", 400),
        ("a negative length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello", 400),
        ("a length with a sign", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400),
        ("a hexadecimal length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", 400),
        ("a length with a space in it", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 0\r\n\r\nhello", 400),
        ("an empty length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello", 400),
        (
            "a length beyond 64 bits",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
            400,
        ),
        (
            "a length that `connection` names",
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: x\r\n\r\n",
            400,
        ),
    ]);
}

#[test]
fn codings_that_hide_a_length_are_refused() {
    // RFC 9112 section 6.1.
    assert_refused(&[
        ("an unknown coding", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("no chunked at the end", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (
            "chunked before another",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("chunked twice", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
        (
            "two fields",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("identity", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 400),
        ("xchunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        ("in quotes", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400),
        ("with a tab", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n", 400),
        ("with a vertical tab", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
        ("an empty coding", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", 400),
        ("in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ]);
}

#[test]
fn lines_that_are_not_lines_are_refused() {
    // RFC 9112 sections 2.2 and 5.
    assert_refused(&[
        ("a bare LF after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        ("a bare LF after a field", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        ("bare LFs only", b"GET / HTTP/1.1\nHost: a\n\n", 400),
        ("a bare LF at the end", b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
        ("a bare CR in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        ("a bare CR before a field", b"GET / HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n", 400),
        ("NUL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        ("NUL in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", 400),
        ("DEL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", 400),
        ("a space before the colon", b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400),
        (
            "a space before the colon of a coding",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("a line without a colon", b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
        ("an empty name", b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
        ("a name that is no token", b"GET / HTTP/1.1\r\nHost: a\r\nX(y): b\r\n\r\n", 400),
        ("a name beyond ASCII", b"GET / HTTP/1.1\r\nHost: a\r\nX\xe9: b\r\n\r\n", 400),
        ("a folded line", b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400),
        ("a folded line with a tab", b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\tc\r\n\r\n", 400),
        ("a fold of the first line", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    ]);
}

#[test]
fn request_lines_that_are_not_are_refused() {
    // RFC 9112 sections 2.3 and 3.
    assert_refused(&[
        ("no version", b"GET /\r\nHost: a\r\n\r\n", 400),
        ("HTTP/0.9", b"GET /\r\n\r\n", 400),
        ("HTTP/2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        ("HTTP/0.9 said", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
        ("a version in small letters", b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        ("a version with more digits", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
        ("a leading space", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("two spaces", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("a tab for a space", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("a space in the target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("a space at the end", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        ("a method that is no token", b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("a target without a slash", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("a fragment", b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("a control byte in the target", b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("bytes beyond ASCII in the target", b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("an asterisk with GET", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("another scheme", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("a user in the target", b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("an empty host in the target", b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ]);
}

#[test]
fn a_request_has_exactly_one_valid_host() {
    // RFC 9112 section 3.2.
    assert_refused(&[
        ("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
        ("two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("a host twice", b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400),
        ("two hosts in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("an empty host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("a list of hosts", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("a path in the host", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("a user in the host", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        ("a port that is none", b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
        ("a space in the host", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("no host beside an absolute target", b"GET http://a/ HTTP/1.1\r\n\r\n", 400),
    ]);
}

#[test]
fn what_is_too_long_is_refused() {
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9000));
    let endless = format!("GET /{}", "a".repeat(9000));
    let field = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(40_000));
    let fields = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: a\r\n".repeat(200));
    let method = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(100));
    let empty_lines = format!("{}GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n".repeat(20));
    assert_refused(&[
        ("a long target", target.as_bytes(), 414),
        ("a target without an end", endless.as_bytes(), 414),
        ("a long field", field.as_bytes(), 431),
        ("many fields", fields.as_bytes(), 431),
        ("a long method", method.as_bytes(), 501),
        ("many empty lines", empty_lines.as_bytes(), 400),
    ]);
}

#[test]
fn chunks_that_are_none_are_refused() {
    // RFC 9112 section 7.1. The origin may have got the beginning of the request, but never its end.
    let sizes = [
        ("no size", &b"\r\n"[..]),
        ("a size that is no number", b"x\r\n"),
        ("a size with a sign", b"+5\r\nhello\r\n0\r\n\r\n"),
        ("a size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
        ("a size with an underscore", b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
        ("a size beyond 64 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("a leading space", b" 5\r\nhello\r\n0\r\n\r\n"),
        ("a bare LF after the size", b"5\nhello\r\n0\r\n\r\n"),
        ("a bare CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("a bare LF in an extension", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("data that is too long", b"5\r\nhello!\r\n0\r\n\r\n"),
        ("data without its CRLF", b"5\r\nhello0\r\n\r\n"),
        ("a bare LF after the data", b"5\r\nhello\n0\r\n\r\n"),
        ("a bare LF after the last chunk", b"5\r\nhello\r\n0\n\n"),
        ("a bare LF at the end", b"5\r\nhello\r\n0\r\n\n"),
        ("a trailer that is none", b"5\r\nhello\r\n0\r\nx y\r\n\r\n"),
        ("a folded trailer", b"5\r\nhello\r\n0\r\nx: a\r\n b\r\n\r\n"),
    ];
    for (name, body) in sizes {
        let request = [b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", body].concat();
        assert_refused(&[(name, &request, 400)]);
    }
}

#[test]
fn what_follows_a_request_is_the_next_one_and_no_part_of_it() {
    let origin = Upstream::echo();
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    client.send("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((client.response().text(), client.response().status), ("GET ", 200));

    let targets: Vec<_> = origin.received().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(targets, ["/", "/second"]);
}

#[test]
fn an_expectation_that_nobody_knows_is_refused() {
    // RFC 9110 section 10.1.1.
    assert_refused(&[("expect", b"GET / HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\n\r\n", 417)]);
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let origin = Upstream::echo();
    let proxy = Proxy::with(&format!("[server]\nmax_body_size = \"10B\"\n{}", crate::harness::api([&origin])));

    for (lines, body) in [
        ("Content-Length: 11", "hello world"),
        ("Transfer-Encoding: chunked", "6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n"),
        ("Content-Length: 11\r\nExpect: 100-continue", ""),
    ] {
        let mut client = Client::to(&proxy);
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{body}"));
        assert_eq!(client.response().status, 413, "for {lines}");
        client.finish();
        client.assert_closed();
    }
    assert!(origin.received().iter().all(|request| !request.is_whole));
    assert_eq!(Client::to(&proxy).post("/", "0123456789").text(), "0123456789");
}
