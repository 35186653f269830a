//! What a request says about its connection: how long it lasts, what is for the proxy alone, and what may follow.

use super::Outcome::{Last, Passed, Refused};
use super::run;
use crate::harness::{Client, Proxy, Upstream, eventually, ok};

const LINE: &str = "GET / HTTP/1.1";

#[test]
fn a_connection_lasts_as_long_as_both_sides_want() {
    run(&[
        ("9112 9.3: HTTP/1.1", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Passed(LINE, b"")),
        ("9112 9.3: close", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", Last(LINE, b"")),
        ("9110 7.6.1: other letters", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: CLOSE\r\n\r\n", Last(LINE, b"")),
        ("9110 7.6.1: in a list", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, close ,y\r\n\r\n", Last(LINE, b"")),
        (
            "9110 7.6.1: on a second line",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
            Last(LINE, b""),
        ),
        ("9110 7.6.1: not close", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", Passed(LINE, b"")),
        ("9110 7.6.1: empty", b"GET / HTTP/1.1\r\nHost: a\r\nConnection:\r\n\r\n", Passed(LINE, b"")),
        ("9110 7.6.1: commas", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: ,,,\r\n\r\n", Passed(LINE, b"")),
        ("9112 9.3: HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", Last(LINE, b"")),
        (
            "9112 9.3: HTTP/1.0 that lasts",
            b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
            Passed(LINE, b""),
        ),
        (
            "9112 C.2.2: HTTP/1.0 that asks a proxy",
            b"GET / HTTP/1.0\r\nHost: a\r\nProxy-Connection: keep-alive\r\n\r\n",
            Last(LINE, b""),
        ),
        (
            "9112 9.6: a body before the end",
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
            Last("POST / HTTP/1.1", b"hello"),
        ),
    ]);
}

#[test]
fn what_is_for_the_proxy_goes_no_further() {
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n\r\n", "x, ".repeat(100));
    run(&[
        ("9110 10.1.4: te", b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n", Passed(LINE, b"")),
        ("9110 7.8: an upgrade alone", b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n", Passed(LINE, b"")),
        (
            "9113 3.1: h2c",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
              HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
            Passed(LINE, b""),
        ),
        (
            "9113 3.1: h2c without its settings named",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
            Passed(LINE, b""),
        ),
        (
            "9110 7.8: h2c among others",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
            Passed(LINE, b""),
        ),
        (
            "9110 7.8: an upgrade in HTTP/1.0",
            b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            Last(LINE, b""),
        ),
        (
            "9110 10.1.1: an expectation",
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
            Passed("POST / HTTP/1.1", b"hello"),
        ),
        (
            "9110 10.1.1: an expectation without a body",
            b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
            Passed(LINE, b""),
        ),
        (
            "9110 10.1.1: one in HTTP/1.0 is ignored",
            b"GET / HTTP/1.0\r\nHost: a\r\nExpect: tea\r\n\r\n",
            Last(LINE, b""),
        ),
        ("9110 10.1.1: one unknown", b"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", Refused(417)),
        (
            "9110 10.1.1: one known and one not",
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, tea\r\nContent-Length: 5\r\n\r\nhello",
            Refused(417),
        ),
        ("9110 7.6.1: options without end", many.as_bytes(), Refused(400)),
    ]);
}

#[test]
fn a_body_that_breaks_off_is_never_a_request() {
    // RFC 9112 section 8.
    for part in [
        "Content-Length: 10\r\n\r\nhello",
        "Content-Length: 1\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n",
    ] {
        let origin = Upstream::echo();
        let proxy = Proxy::to([&origin]);
        let mut client = Client::to(&proxy);

        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{part}"));
        client.finish();

        let _ = client.drain();
        eventually(|| origin.open_connections() == 0);
        assert!(origin.received().iter().all(|request| !request.is_whole), "for {part:?}");
    }
}

#[test]
fn a_head_that_breaks_off_is_never_a_request() {
    let origin = Upstream::echo();
    let proxy = Proxy::to([&origin]);
    let head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    for end in 0..head.len() {
        let mut client = Client::to(&proxy);
        client.send(&head[..end]);
        client.finish();
        let _ = client.drain();
    }

    assert_eq!(origin.requests(), 0);
}

#[test]
fn a_refused_request_takes_with_it_what_follows_and_not_what_came_before() {
    let origin = Upstream::answering(|request| ok(request.target()));
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
    );

    assert_eq!((client.response().text(), client.response().text()), ("/1", "/2"));
    assert_eq!(client.response().status, 400);
    client.finish();
    client.assert_closed();
    let targets: Vec<_> = origin.received().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(targets, ["/1", "/2"]);
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    // RFC 9110 section 15.5.14.
    let origin = Upstream::echo();
    let proxy = Proxy::with(&format!("[server]\nmax_body_size = \"10B\"\n{}", crate::harness::api([&origin])));

    for (lines, body) in [
        ("Content-Length: 11", "hello world"),
        ("Transfer-Encoding: chunked", "6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "ffffffffffffffff\r\nhello world"),
        ("Content-Length: 18446744073709551615", "hello world"),
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
