//! Bodies that a rewriter changes on their way: piece by piece, framed anew, and broken off when it fails.

use std::time::Duration;

use crate::harness::{Client, Framing, Proxy, Upstream};

use super::plugins::{Folder, Guest};

/// Puts `!` behind the end of each body of this side, leaves a body alone whose message has the field `x-plain`, and
/// traps on a piece that begins with `X`.
fn exclaiming(side: &str) -> Guest {
    let interface = format!("{side}-body-rewriter");
    let guest = match side {
        "request" => Guest::request_rewriter("(call $proceed)"),
        _ => Guest::response_rewriter("(call $proceed)"),
    };
    guest
        .import(side, "field", "(param i32 i32 i32)")
        .function("(data (i32.const 100) \"x-plain\") (data (i32.const 512) \"!\")")
        .export(
            &interface,
            "begin",
            "(param $body i32) (result i32)",
            "(call $field (i32.const 100) (i32.const 7) (i32.const 128)) (i32.eqz (i32.load8_u (i32.const 128)))",
        )
        .export(
            &interface,
            "rewrite",
            "(param $body i32) (param $piece i32) (param $length i32) (param $last i32) (result i32)",
            "(if (i32.eqz (local.get $length)) (then (local.set $piece (i32.const 512)))
               (else (if (i32.eq (i32.load8_u (local.get $piece)) (i32.const 88)) (then unreachable))))
             (if (local.get $last)
               (then (i32.store8 (i32.add (local.get $piece) (local.get $length)) (i32.const 33))))
             (i32.store (i32.const 0) (local.get $piece))
             (i32.store (i32.const 4) (i32.add (local.get $length) (local.get $last)))
             (i32.const 0)",
        )
        .export(&interface, "abandon", "(param $body i32)", "")
}

fn proxy(folder: &Folder, endpoints: &[&Upstream]) -> Proxy {
    let list: Vec<_> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    Proxy::with(&format!(
        "{}[upstreams.api]\nendpoints = [{}]\n[[routes]]\nupstream = \"api\"\nrewrite = [\"own\"]\n",
        folder.plugin(""),
        list.join(", ")
    ))
}

#[test]
fn a_response_body_is_rewritten_and_framed_anew() {
    let folder = Folder::with(exclaiming("response").wat());
    for (name, origin, body) in [
        ("a length", Upstream::replying("hello"), "hello!"),
        ("an empty body", Upstream::replying(""), "!"),
        (
            "chunks",
            Upstream::saying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n2\r\ney\r\n0\r\n\r\n"),
            "hey!",
        ),
        (
            "until close",
            Upstream::raw(|talk| {
                talk.request();
                talk.send("HTTP/1.1 200 OK\r\n\r\nhello");
            }),
            "hello!",
        ),
        ("pieces that come slowly", Upstream::dripping("abc", Duration::from_millis(20)), "abc!"),
        (
            "a field says so",
            Upstream::saying("HTTP/1.1 200 OK\r\nX-Plain: 1\r\nContent-Length: 5\r\n\r\nhello"),
            "hello",
        ),
    ] {
        let proxy = proxy(&folder, &[&origin]);
        let mut client = Client::to(&proxy);

        for _ in 0..2 {
            let response = client.get("/");

            assert_eq!((response.status, response.text()), (200, body), "{name}");
            let plain = response.field("x-plain").is_some();
            assert_eq!(response.framing == Framing::Chunked, !plain, "{name}");
            assert_eq!(response.field("content-length").is_some(), plain, "{name}");
        }
    }
}

#[test]
fn a_response_without_a_body_says_nothing_of_its_length() {
    let folder = Folder::with(exclaiming("response").wat());
    let origin = Upstream::replying("hello");
    let proxy = proxy(&folder, &[&origin]);

    let response = Client::to(&proxy).ask("HEAD", "/", "");

    assert_eq!((response.status, response.field("content-length")), (200, None));
}

#[test]
fn a_response_body_breaks_off_when_its_rewriter_fails() {
    let folder = Folder::with(exclaiming("response").wat());
    let origin = Upstream::answering(|request| {
        let body = if request.target() == "/bad" { "2\r\nab\r\n2\r\nXc\r\n" } else { "2\r\nab\r\n" };
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n").into_bytes()
    });
    let proxy = proxy(&folder, &[&origin]);

    let mut client = Client::to(&proxy);
    client.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
    match client.try_response() {
        Ok(response) => assert_eq!(response.status, 500, "it must not look complete: {response:?}"),
        Err(broken) => assert!(broken.part.is_none_or(|part| part.status == 200)),
    }

    crate::harness::eventually(|| {
        let response = proxy.get("/");
        response.status == 200 && response.text() == "ab!"
    });
}

#[test]
fn a_request_body_is_rewritten_and_sent_again_as_it_was_sent() {
    let folder = Folder::with(exclaiming("request").wat());
    let closing = Upstream::raw(|talk| {
        talk.request();
    });
    let echo = Upstream::echo();
    let proxy = proxy(&folder, &[&closing, &echo]);

    for body in ["hello", "h"] {
        let mut client = Client::to(&proxy);
        let length = body.len();
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"));
        let response = client.response();

        assert_eq!((response.status, response.text()), (200, &*format!("{body}!")));
    }
    assert!(echo.received().iter().all(|request| request.framing == Framing::Chunked));
}

#[test]
fn a_request_whose_body_cannot_be_rewritten_is_answered_with_500() {
    let folder = Folder::with(exclaiming("request").wat());
    let echo = Upstream::echo();
    let proxy = proxy(&folder, &[&echo]);

    assert_eq!(Client::to(&proxy).post("/", "Xello").status, 500);

    crate::harness::eventually(|| Client::to(&proxy).post("/", "hello").text() == "hello!");
    let plain = "POST / HTTP/1.1\r\nHost: a\r\nX-Plain: 1\r\nContent-Length: 5\r\n\r\nhello";
    let mut client = Client::to(&proxy);
    client.send(plain);
    assert_eq!(client.response().text(), "hello");
}
