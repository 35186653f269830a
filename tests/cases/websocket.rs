//! Connections that leave HTTP by agreement (RFC 9110 section 7.8) are tunnels, for WebSockets (RFC 6455) and others.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{ADMIN, Client, End, Proxy, Upstream, api, eventually, ok, pattern};

const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Agrees, and sends back what comes, in pieces of so many bytes.
fn echo(length: usize) -> Upstream {
    Upstream::raw(move |talk| {
        talk.head();
        talk.send(AGREED);
        while let Some(piece) = talk.take(length) {
            talk.send(piece);
        }
    })
}

#[test]
fn an_upgrade_that_both_sides_want_makes_a_tunnel() {
    let origin = echo(5);
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    client.send(HANDSHAKE);

    let response = client.response_head();
    assert_eq!(response.status, 101);
    assert_eq!(response.field("upgrade"), Some("websocket"));
    assert!(response.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
    assert_eq!(response.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!((response.field("content-length"), response.field("transfer-encoding")), (None, None));
    for _ in 0..3 {
        client.send("12345");
        assert_eq!(client.take(5), b"12345");
    }
    let request = origin.received().remove(0);
    assert_eq!(request.field("upgrade"), Some("websocket"));
    assert!(request.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
    assert_eq!(request.field("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
}

#[test]
fn bytes_that_come_right_behind_a_handshake_are_not_lost() {
    let origin = Upstream::raw(|talk| {
        talk.head();
        talk.send([AGREED, "hello"].concat());
        while let Some(piece) = talk.take(5) {
            talk.send(piece);
        }
    });
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    client.send([HANDSHAKE, "early"].concat());

    assert_eq!(client.response_head().status, 101);
    assert_eq!(client.take(10), b"helloearly");
}

#[test]
fn much_passes_both_ways_at_once() {
    let proxy = Proxy::to([&echo(10_000)]);
    let mut client = Client::to(&proxy);
    client.send(HANDSHAKE);
    client.response_head();
    let bytes = pattern(200_000);

    for piece in bytes.chunks(50_000) {
        client.send(piece);
        assert!(client.take(piece.len()) == piece);
    }
}

#[test]
fn a_side_that_has_finished_may_still_listen() {
    // The client finishes first, and then the origin says its last.
    let origin = Upstream::raw(|talk| {
        talk.head();
        talk.send(AGREED);
        let said = talk.take(3);
        talk.stall();
        talk.send(said.unwrap_or_default());
        talk.send(" and goodbye");
    });
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);
    client.send(HANDSHAKE);
    client.response_head();

    client.send("bye");
    client.finish();

    assert_eq!(client.drain(), (b"bye and goodbye".to_vec(), End::Closed));
}

#[test]
fn an_origin_that_has_finished_may_still_listen() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let origin = Upstream::raw(move |talk| {
        talk.head();
        talk.send([AGREED, "over"].concat());
        talk.finish();
        let said = talk.take(5);
        sender.lock().expect("one connection").send(said).expect("the test waits");
    });
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);
    client.send(HANDSHAKE);
    client.response_head();
    assert_eq!(client.take(4), b"over");

    client.send("still");

    assert_eq!(receiver.recv_timeout(crate::harness::PATIENCE), Ok(Some(b"still".to_vec())));
}

#[test]
fn when_one_side_goes_the_other_goes_too() {
    let origin = echo(5);
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);
    client.send(HANDSHAKE);
    client.response_head();
    client.reset();
    eventually(|| origin.connections() == 1 && origin.open_connections() == 0);

    let mut client = Client::to(&proxy);
    client.send(HANDSHAKE);
    client.response_head();
    origin.close_connections();
    let (rest, end) = client.drain();
    assert!(rest.is_empty() && end != End::Silent, "{end:?}");
}

#[test]
fn an_origin_may_decline() {
    let origin = Upstream::answering(|request| match request.field("upgrade") {
        Some(_) => b"HTTP/1.1 426 No\r\nContent-Length: 2\r\n\r\nno".to_vec(),
        None => ok("plain"),
    });
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    client.send(HANDSHAKE);

    let response = client.response();
    assert_eq!((response.status, response.text()), (426, "no"));
    assert_eq!(client.get("/").text(), "plain", "the connection still speaks HTTP");
}

#[test]
fn an_upgrade_is_passed_on_only_if_it_was_asked_for_in_order() {
    let origin = Upstream::replying("plain");
    let proxy = Proxy::to([&origin]);

    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        // Whoever speaks HTTP/2 to the endpoint is past every rule of the proxy.
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    ] {
        let mut client = Client::to(&proxy);
        client.send(request);
        assert_eq!(client.response().text(), "plain", "for {request:?}");

        let received = origin.received().pop().expect("a request");
        assert_eq!((received.field("upgrade"), received.field("connection")), (None, None), "for {request:?}");
    }
}

#[test]
fn a_tunnel_in_which_nothing_passes_is_closed() {
    let origin = echo(5);
    let proxy = Proxy::with(&format!("[server]\ntunnel_timeout = \"300ms\"\n{ADMIN}{}", api([&origin])));
    let mut client = Client::to(&proxy);
    client.send(HANDSHAKE);
    client.response_head();
    client.send("12345");
    assert_eq!(client.take(5), b"12345");

    let (rest, end) = client.drain();

    assert!(rest.is_empty() && end != End::Silent, "{end:?}");
    eventually(|| origin.open_connections() == 0);
    proxy.assert_counted("staunch_http_timeouts_total{timeout=\"tunnel\"}", 1.0);
}

#[test]
fn a_client_library_talks_through_the_proxy() {
    talk("websocket.py", "websockets");
}

#[test]
fn frames_that_a_server_answers_are_answered_the_same_through_the_proxy() {
    talk("websocket_cases.py", "websockets, h2");
}

/// Runs a program that is both sides, with the proxy between them, if the modules it needs are there.
#[track_caller]
fn talk(script: &str, modules: &str) {
    let python = std::env::var("STAUNCH_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", &format!("import {modules}")]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        println!("skipped: {python} has not all of {modules} (pip install; STAUNCH_TEST_PYTHON names another)");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests").join(script);
    let mut child = Command::new(&python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python");
    // It names the port of its server, and is told the proxy's.
    let mut said = BufReader::new(child.stdout.take().expect("piped"));
    let mut port = String::new();
    said.read_line(&mut port).expect("a line");
    let proxy = Proxy::with(&format!("[upstreams.api]\nendpoints = [\"127.0.0.1:{}\"]\n", port.trim()));
    writeln!(child.stdin.take().expect("piped"), "{}", proxy.address()).expect("it reads");

    let ended = child.wait_with_output().expect("a child");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}
