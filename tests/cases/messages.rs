//! Requests and responses pass as they are, whatever their framing and their size.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::harness::{Client, Framing, Proxy, Upstream, api, eventually, ok, pattern};

/// More than all socket buffers on the way hold.
const LARGE: usize = 64 << 20;
/// More than that much under way means that somebody keeps it in memory.
const UNDER_WAY: usize = 40 << 20;
/// A pause that only a peer makes which takes no more.
const BLOCKED: Duration = Duration::from_millis(500);

#[test]
fn a_request_arrives_as_it_was_sent() {
    let origin = Upstream::replying("");
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    client.send(
        b"PROPFIND /a%20b//c/../d?x=%7e&y HTTP/1.1\r\nHost: shop.example:81\r\nX-B: 2\r\nX-A:1\r\nx-b: \t3 \r\n\
          X-Obs: caf\xe9\r\nX-Empty:\r\nContent-Length: 5\r\nx-b: 4\r\n\r\nhello",
    );
    assert_eq!(client.response().status, 200);

    let request = origin.only_request();
    assert_eq!(request.line(), "PROPFIND /a%20b//c/../d?x=%7e&y HTTP/1.1");
    assert_eq!(request.head.all("host"), ["shop.example:81"]);
    let own: Vec<_> =
        request.head.fields.iter().filter(|(name, _)| name.to_ascii_lowercase().starts_with("x-")).collect();
    let own: Vec<_> = own.iter().filter(|(name, _)| !name.to_ascii_lowercase().starts_with("x-forwarded")).collect();
    let own: Vec<_> = own.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let sent = [("X-B", "2"), ("X-A", "1"), ("x-b", "3"), ("X-Obs", "caf\u{e9}"), ("X-Empty", ""), ("x-b", "4")];
    assert_eq!(own, sent);
    assert_eq!((request.framing, &request.body[..]), (Framing::Length(5), &b"hello"[..]));
}

#[test]
fn a_response_arrives_as_it_was_sent() {
    let origin = Upstream::saying(
        b"HTTP/1.1 299 Quite \xe9 Fine\r\nX-B: 2\r\nSet-Cookie: a=1\r\nx-a: \xff\r\nSet-Cookie: b=2\r\n\
          Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\nServer: origin\r\n\r\nhi",
    );
    let proxy = Proxy::to([&origin]);

    let response = proxy.get("/");

    assert_eq!(response.head.line, "HTTP/1.1 299 Quite \u{e9} Fine");
    let fields: Vec<_> = response.head.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let sent = [
        ("X-B", "2"),
        ("Set-Cookie", "a=1"),
        ("x-a", "\u{ff}"),
        ("Set-Cookie", "b=2"),
        ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("Server", "origin"),
        ("content-length", "2"),
    ];
    assert_eq!(fields, sent);
    assert_eq!(response.text(), "hi");
}

#[test]
fn every_method_but_connect_is_passed_on() {
    let origin = Upstream::replying("");
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "M-SEARCH", "get", "QUERY"];
    for method in methods {
        assert_eq!(client.ask(method, "/", "").status, 200, "for {method}");
    }

    let lines: Vec<_> = origin.received().iter().map(|request| request.line().to_owned()).collect();
    assert_eq!(lines, methods.map(|method| format!("{method} / HTTP/1.1")));
}

#[test]
fn a_request_says_of_its_body_what_the_client_said() {
    // A POST with a length of 0 is not a POST without one (RFC 9110 section 8.6).
    let origin = Upstream::replying("");
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    for (method, lines, framing) in [
        ("GET", "", Framing::None),
        ("POST", "", Framing::None),
        ("POST", "Content-Length: 0\r\n", Framing::Length(0)),
        ("GET", "Content-Length: 0\r\n", Framing::Length(0)),
    ] {
        client.ask(method, "/", lines);
        let request = origin.received().pop().expect("a request");
        assert_eq!(request.framing, framing, "for {method} with {lines:?}");
    }
}

#[test]
fn a_chunked_request_stays_chunked_with_its_trailers() {
    // RFC 9112 section 7.1.2; extensions concern one connection only (section 7.1.1).
    let origin = Upstream::echo();
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
         5;name=\"v\"\r\nhello\r\n00006\r\n, worl\r\n1\r\nd\r\n0\r\nX-Sum: 12\r\nx-more: yes\r\n\r\n",
    );

    assert_eq!(client.response().text(), "hello, world");
    let request = origin.only_request();
    assert_eq!((request.framing, request.field("trailer")), (Framing::Chunked, Some("x-sum")));
    let trailers: Vec<_> = request.trailers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(trailers, [("X-Sum", "12"), ("x-more", "yes")]);
    assert_eq!(client.get("/").status, 200, "the connection goes on");
}

#[test]
fn a_chunked_response_stays_chunked_with_its_trailers() {
    let origin = Upstream::saying(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
         5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-Sum: 15\r\nContent-Length: 3\r\n\r\n",
    );
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    for _ in 0..2 {
        let response = client.get("/");

        assert_eq!((response.framing, response.text()), (Framing::Chunked, "hello0123456789"));
        assert_eq!(response.field("trailer"), Some("x-sum"));
        // A length is not allowed there (RFC 9110 section 6.5.1).
        assert_eq!(response.trailers, [("X-Sum".to_owned(), "15".to_owned())]);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_chunk_is_passed_on_before_the_next_one_comes() {
    let (origin, go_on) =
        waiting_between("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", "0\r\n\r\n");
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.response_head();
    assert_eq!(client.take(10), b"5\r\nfirst\r\n");
    go_on.store(true, SeqCst);

    assert_eq!(client.response_body(head).body, b"");
}

/// Sends one part of its response at once and the other when it is told to.
fn waiting_between(first: &'static str, second: &'static str) -> (Upstream, Arc<AtomicBool>) {
    let go_on = Arc::new(AtomicBool::new(false));
    let told = go_on.clone();
    let origin = Upstream::raw(move |talk| {
        talk.request();
        talk.send(first);
        talk.wait_for(|| told.load(SeqCst));
        talk.send(second);
    });
    (origin, go_on)
}

#[test]
fn a_response_without_a_body_ends_with_its_head() {
    // RFC 9112 section 6.3: to a HEAD, with 204 and with 304, whatever its fields say.
    for (method, response, length) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Some("5")),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", None),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("HEAD", "HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\n", Some("9")),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
        ("DELETE", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", None),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n", Some("5")),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n", None),
    ] {
        let origin = Upstream::saying(response);
        let proxy = Proxy::to([&origin]);
        let mut client = Client::to(&proxy);

        let (first, second) = (client.ask(method, "/", ""), client.ask(method, "/", ""));

        assert_eq!(first.field("content-length"), length, "for {method}, {response:?}");
        assert_eq!(
            (first.status, first.field("transfer-encoding")),
            (second.status, None),
            "for {method}, {response:?}"
        );
        assert_eq!(origin.connections(), 1, "for {method}, {response:?}");
    }
}

#[test]
fn a_body_that_ends_with_its_connection_is_sent_chunked() {
    let origin = Upstream::raw(|talk| {
        talk.request();
        talk.send("HTTP/1.1 200 OK\r\nServer: old\r\n\r\nuntil the end");
    });
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!((response.framing, response.text()), (Framing::Chunked, "until the end"));
    }
    assert_eq!(origin.connections(), 2);
}

#[test]
fn an_origin_that_speaks_http_1_0_is_understood() {
    let origin = Upstream::raw(|talk| {
        talk.request();
        talk.send("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold");
    });
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!((response.head.line.as_str(), response.text()), ("HTTP/1.1 200 OK", "old"));
    }
}

#[test]
fn a_client_that_speaks_http_1_0_gets_what_it_understands() {
    // RFC 9112 section 9.3 and 7.1: no chunks, and the connection stays open only if the client asks for it.
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-t: 1\r\n\r\n";
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    for (response, lines, connection, framing) in [
        (length, "", "close", Framing::Length(2)),
        (length, "Connection: keep-alive\r\n", "keep-alive", Framing::Length(2)),
        (length, "Connection: keep-alive, close\r\n", "close", Framing::Length(2)),
        (chunked, "", "close", Framing::UntilClose),
        (chunked, "Connection: keep-alive\r\n", "close", Framing::UntilClose),
    ] {
        let origin = Upstream::saying(response);
        let proxy = Proxy::to([&origin]);
        let mut client = Client::to(&proxy);

        client.send(format!("GET / HTTP/1.0\r\n{lines}\r\n"));
        let response = client.response();

        assert_eq!((response.text(), response.framing), ("hi", framing), "for {lines:?}");
        assert_eq!(response.field("connection"), Some(connection), "for {lines:?}");
        assert_eq!(response.field("transfer-encoding"), None, "for {lines:?}");
        if connection == "keep-alive" {
            client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
            assert_eq!(client.response().text(), "hi");
        } else {
            client.assert_closed();
        }
        assert!(origin.received()[0].line().ends_with(" HTTP/1.1"), "the proxy speaks its own version");
    }
}

#[test]
fn a_client_that_says_close_gets_one_response_and_the_end() {
    let proxy = Proxy::to([&Upstream::replying("last")]);
    let mut client = Client::to(&proxy);

    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /more HTTP/1.1\r\nHost: a\r\n\r\n");

    let response = client.response();
    assert_eq!((response.text(), response.field("connection")), ("last", Some("close")));
    client.assert_closed();
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let origin = Upstream::answering(|request| ok(format!("{} {}", request.target(), request.body.len())));
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
         POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n\
         \r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
    );

    for expected in ["/1 0", "/2 5", "/3 2", "/4 0"] {
        assert_eq!(client.response().text(), expected);
    }
}

#[test]
fn a_request_may_come_a_byte_at_a_time() {
    let origin = Upstream::echo();
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    for byte in b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" {
        client.send([*byte]);
    }

    assert_eq!(client.response().text(), "abcde");
}

#[test]
fn bodies_of_every_size_arrive_whole_both_ways() {
    let origin = Upstream::echo();
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    for size in [0, 1, 2, 4095, 4096, 4097, 16_383, 16_384, 65_535, 65_536, 65_537, 1 << 20, 5_000_001] {
        let body = pattern(size);
        assert!(client.post("/", &body).body == body, "{size} bytes");
    }
}

#[test]
fn a_large_response_waits_for_a_slow_client_and_is_held_nowhere() {
    for chunked in [false, true] {
        let body = Arc::new(pattern(LARGE));
        let blocked_at = Arc::new(AtomicUsize::new(0));
        let (sent, seen) = (body.clone(), blocked_at.clone());
        let origin = Upstream::raw(move |talk| {
            talk.request();
            let head = if chunked { "Transfer-Encoding: chunked".into() } else { format!("Content-Length: {LARGE}") };
            talk.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
            if chunked {
                talk.send(format!("{LARGE:x}\r\n"));
            }
            let blocked = talk.send_until_blocked(&sent, BLOCKED);
            seen.store(blocked, SeqCst);
            talk.send(&sent[blocked..]);
            if chunked {
                talk.send("\r\n0\r\n\r\n");
            }
            talk.stall();
        });
        let proxy = Proxy::to([&origin]);
        let mut client = Client::with_small_window(&proxy);

        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.response_head();
        eventually(|| blocked_at.load(SeqCst) > 0);

        let under_way = blocked_at.load(SeqCst);
        assert!(under_way < UNDER_WAY, "{under_way} bytes were taken from the origin");
        assert!(client.response_body(head).body == *body, "the checksum differs");
    }
}

#[test]
fn a_large_request_waits_for_a_slow_origin_and_is_held_nowhere() {
    let go_on = Arc::new(AtomicBool::new(false));
    let told = go_on.clone();
    let origin = Upstream::raw(move |talk| {
        let Some(mut request) = talk.head() else { return };
        talk.wait_for(|| told.load(SeqCst));
        if talk.body(&mut request) {
            talk.send(ok(if request.body == pattern(LARGE) { "same" } else { "another" }));
        }
        talk.stall();
    });
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);
    let body = pattern(LARGE);

    client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n"));
    let under_way = client.send_until_blocked(&body, BLOCKED);
    assert!(under_way < UNDER_WAY, "{under_way} bytes were taken from the client");
    go_on.store(true, SeqCst);
    client.send(&body[under_way..]);

    assert_eq!(client.response().text(), "same");
}

#[test]
fn a_client_that_expects_to_continue_is_told_so() {
    // RFC 9110 section 10.1.1. The expectation is answered here and goes no further.
    let origin = Upstream::echo();
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.response_head().status, 100);
        client.send("hello");

        let response = client.response();
        assert_eq!((response.status, response.text()), (200, "hello"));
    }
    assert!(origin.received().iter().all(|request| request.field("expect").is_none()));
}

#[test]
fn a_client_that_does_not_wait_is_not_told_to_continue() {
    let proxy = Proxy::to([&Upstream::echo()]);
    let mut client = Client::to(&proxy);

    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello");

    assert_eq!(client.response().text(), "hello");
}

#[test]
fn a_body_that_nobody_wants_is_not_asked_for() {
    let proxy = Proxy::with(&format!("{}[[routes]]\npath = \"/api/\"\nupstream = \"api\"\n", api([&Upstream::echo()])));
    let mut client = Client::to(&proxy);

    client.send("POST /other HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");

    let response = client.response();
    assert_eq!((response.status, response.field("connection")), (404, Some("close")));
    client.assert_closed();
}

#[test]
fn a_response_passes_the_request_whose_body_is_still_coming() {
    // RFC 9112 section 9.5: a server may answer early, and a client should hear it.
    let origin = Upstream::raw(|talk| {
        talk.head();
        talk.send("HTTP/1.1 413 Too Much\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!");
        talk.stall();
    });
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\nonly the beginning"));

    let response = client.response();
    assert_eq!((response.status, response.text(), response.field("connection")), (413, "no!", Some("close")));
}

#[test]
fn both_bodies_may_be_under_way_at_once() {
    let origin = Upstream::raw(|talk| {
        talk.head();
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
        for _ in 0..2 {
            let Some(part) = talk.take(5) else { return };
            talk.send(part);
        }
        talk.stall();
    });
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    client.response_head();
    assert_eq!(client.take(5), b"hello");
    client.send("world");

    assert_eq!(client.take(5), b"world");
}

#[test]
fn an_absolute_target_names_the_host() {
    // RFC 9112 section 3.2.2: it wins over `host`, which is written anew.
    let origin = Upstream::replying("");
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    for (target, path, host) in [
        ("http://other.example/x?y", "/x?y", "other.example"),
        ("http://other.example:8080", "/", "other.example:8080"),
        ("http://other.example?q", "/?q", "other.example"),
    ] {
        client.ask("GET", target, "");
        let request = origin.received().pop().expect("a request");
        assert_eq!((request.target(), request.head.all("host")), (path, vec![host]), "for {target}");
    }
}

#[test]
fn options_may_ask_about_the_server_itself() {
    // RFC 9112 section 3.2.4.
    let origin = Upstream::replying("");
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    for target in ["*", "http://other.example"] {
        assert_eq!(client.ask("OPTIONS", target, "").status, 200);
        assert_eq!(origin.received().pop().expect("a request").line(), "OPTIONS * HTTP/1.1", "for {target}");
    }
}

#[test]
fn early_hints_are_passed_on_and_a_continue_is_not() {
    // RFC 9110 section 15.2: a proxy forwards interim responses, but for a 100 that it asked for itself.
    let origin = Upstream::saying(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    );
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");

    for link in ["</a.css>", "</b.css>"] {
        let hints = client.response_head();
        assert_eq!((hints.status, hints.field("link"), hints.field("x-hop")), (103, Some(link), None));
        assert_eq!(hints.field("content-length"), None);
    }
    assert_eq!(client.response().text(), "hi");

    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().text(), "hi", "HTTP/1.0 has no interim responses");
}

#[test]
fn a_reason_phrase_may_be_missing() {
    let proxy = Proxy::to([&Upstream::saying("HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n")]);

    assert_eq!(proxy.get("/").head.line, "HTTP/1.1 404 Not Found");
}

#[test]
fn what_a_client_sends_after_it_went_away_harms_nobody() {
    let origin = Upstream::echo();
    let proxy = Proxy::to([&origin]);

    for request in ["", "GET", "GET / HTTP/1.1\r\nHost", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"] {
        let mut client = Client::to(&proxy);
        client.send(request);
        client.reset();
    }

    assert_eq!(proxy.get("/").status, 200);
    assert!(origin.received().iter().all(|request| request.is_whole != request.head.line.starts_with("POST")));
}

#[test]
fn a_short_body_that_nobody_wanted_costs_no_connection() {
    // Answered before the body came: what is left of it is read, and the next request stands behind it.
    let proxy = Proxy::with(&format!(
        "[[routes]]\npath = \"/closed\"\nrespond = {{ status = 403 }}\n[[routes]]\npath = \"/api\"\nupstream = \"api\"\n{}",
        api([&Upstream::refusing()])
    ));
    for (path, status) in [("/closed", 403), ("/api", 502), ("/nowhere", 404)] {
        let mut client = Client::to(&proxy);
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nab"));
        let response = client.response();
        assert_eq!((response.status, response.field("connection")), (status, None), "for {path}");

        client.send(pattern(99_998));
        assert_eq!(client.get("/closed").status, 403, "behind {path}");
    }
}

#[test]
fn a_body_of_which_much_or_anything_may_come_costs_the_connection() {
    let proxy = Proxy::with("[[routes]]\nrespond = { status = 403 }\n");
    for head in ["Content-Length: 1000000", "Transfer-Encoding: chunked", "Content-Length: 5\r\nExpect: 100-continue"] {
        let mut client = Client::to(&proxy);
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n"));

        let response = client.response();

        assert_eq!((response.status, response.field("connection")), (403, Some("close")), "for {head}");
        client.finish();
        client.assert_closed();
    }
}
