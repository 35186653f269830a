//! What a client sees when an endpoint fails: a status that says so, or a response that is plainly broken off. Never
//! half a response that looks like a whole one.

use crate::harness::{Client, End, Framing, Proxy, Talk, Upstream, api, eventually, ok};

/// A proxy that tries once only.
fn once(endpoint: &Upstream) -> Proxy {
    Proxy::with(&format!("{}read_timeout = \"1s\"\n[upstreams.api.retry]\nattempts = 1\n", api([endpoint])))
}

/// Answers a request with these bytes and closes.
fn then_closing(bytes: &'static [u8]) -> Upstream {
    Upstream::raw(move |talk| {
        talk.request();
        talk.send(bytes);
    })
}

/// Answers a request with these bytes and resets the connection once they are read.
fn then_resetting(bytes: &'static [u8]) -> Upstream {
    Upstream::raw(move |talk| {
        talk.request();
        talk.send(bytes);
        // A reset overtakes what it follows: give the proxy the time to read that.
        talk.pause(std::time::Duration::from_millis(50));
        talk.reset();
    })
}

#[test]
fn a_fault_before_a_whole_head_is_told_with_a_status() {
    let rows: Vec<(&str, Upstream, u16)> = vec![
        ("refused", Upstream::refusing(), 502),
        ("closed before the request", Upstream::raw(|_| {}), 502),
        ("reset before the request", Upstream::raw(|talk| talk.reset()), 502),
        ("closed without an answer", then_closing(b""), 502),
        ("reset without an answer", then_resetting(b""), 502),
        ("closed within the head", then_closing(b"HTTP/1.1 200 OK\r\nContent-Le"), 502),
        ("closed before the empty line", then_closing(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"), 502),
        ("reset within the head", then_resetting(b"HTTP/1.1 200 OK\r\n"), 502),
        ("closed after an interim response", then_closing(b"HTTP/1.1 100 Continue\r\n\r\n"), 502),
        ("garbage", Upstream::garbling(), 502),
        ("HTTP/0.9", then_closing(b"<html>hello</html>"), 502),
        ("HTTP/2", Upstream::saying("HTTP/2 200\r\n\r\n"), 502),
        ("another protocol", Upstream::saying("SSH-2.0-OpenSSH_9.2\r\n"), 502),
        ("a bare LF", Upstream::saying("HTTP/1.1 200 OK\nContent-Length: 0\n\n"), 502),
        ("a status with two digits", Upstream::saying("HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"), 502),
        ("a status below 100", Upstream::saying("HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"), 502),
        ("a folded line", Upstream::saying("HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"), 502),
        ("a space before the colon", Upstream::saying("HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n"), 502),
        ("NUL in a value", Upstream::saying("HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"), 502),
        ("two lengths", Upstream::saying("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), 502),
        ("a bad length", Upstream::saying("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nab"), 502),
        (
            "both framings",
            Upstream::saying("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            502,
        ),
        ("an unknown coding", Upstream::saying("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"), 502),
        ("an upgrade nobody asked for", Upstream::saying("HTTP/1.1 101 Hi\r\nUpgrade: x\r\n\r\n"), 502),
        ("interim responses without end", Upstream::saying("HTTP/1.1 103 Hi\r\n\r\n".repeat(200)), 502),
        ("an endless head", endless_head(), 502),
        (
            "a head with many fields",
            Upstream::saying(format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(300))),
            502,
        ),
        ("silence", Upstream::stalling(), 504),
        (
            "silence within the head",
            Upstream::raw(|talk| {
                talk.request();
                talk.send("HTTP/1.1 200 OK\r\nContent-");
                talk.stall();
            }),
            504,
        ),
    ];
    for (name, endpoint, status) in rows {
        let proxy = once(&endpoint);
        let mut client = Client::to(&proxy);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");

        let mut response = client.response_head();
        while response.status == 103 {
            response = client.response_head();
        }
        let response = client.response_body(response);

        assert_eq!(response.status, status, "{name}");
        assert!(response.text().starts_with(&status.to_string()), "{name}: {}", response.text());
        assert_eq!(response.field("x"), None, "{name}: nothing of the bad head is passed on");
        assert!(endpoint.requests() <= 1, "{name}: tried once");
    }
}

fn endless_head() -> Upstream {
    Upstream::raw(|talk| {
        talk.request();
        talk.send("HTTP/1.1 200 OK\r\n");
        while talk.send("X-Again: and again\r\n".repeat(100)) {}
    })
}

#[test]
fn a_fault_within_the_body_breaks_the_response_off() {
    fn stalling(bytes: &'static str) -> Upstream {
        Upstream::raw(move |talk: &mut Talk| {
            talk.request();
            talk.send(bytes);
            talk.stall();
        })
    }
    let rows = [
        ("a short body", Upstream::truncating(), "0123456789"),
        ("no body", then_closing(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), ""),
        ("a reset", then_resetting(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"), "abc"),
        ("a reset in a body until the end", then_resetting(b"HTTP/1.1 200 OK\r\n\r\nabc"), "abc"),
        ("a chunk cut", then_closing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"), "abc"),
        ("no last chunk", then_closing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), "abc"),
        ("no end", then_closing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"), "abc"),
        ("a bad size", then_closing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n"), "abc"),
        (
            "a chunk too long",
            then_closing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"),
            "abc",
        ),
        ("silence", stalling("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"), "abc"),
        ("silence in chunks", stalling("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), "abc"),
        ("silence in a body until the end", stalling("HTTP/1.1 200 OK\r\n\r\nabc"), "abc"),
    ];
    for (name, endpoint, part) in &rows {
        for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
            let proxy = once(endpoint);
            let mut client = Client::to(&proxy);
            client.send(request);

            match client.try_response() {
                Ok(response) if response.status == 502 => assert!(!response.text().contains("abc"), "{name}"),
                Ok(response) => panic!("{name}: {response:?} looks whole"),
                Err(broken) => {
                    assert_ne!(broken.end, End::Silent, "{name}: the client waits in vain");
                    // A fault that comes with the head may be noticed before anything was sent.
                    let Some(response) = broken.part else { continue };
                    assert!(part.as_bytes().starts_with(&response.body), "{name}: {:?}", response.body);
                    if response.framing == Framing::UntilClose {
                        assert_eq!(broken.end, End::Reset, "{name}: an end in order would complete it");
                    }
                }
            }
        }
    }
}

#[test]
fn a_body_that_is_broken_before_any_of_it_was_sent_on_is_told_with_a_status() {
    for body in [
        "x\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc\r\n3\r\nabc\r\nx\r\n",
        "3\r\nabc\r\n0\r\nbad trailer\r\n\r\n",
    ] {
        let endpoint = Upstream::saying(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
        let proxy = once(&endpoint);
        let mut client = Client::to(&proxy);

        let response = client.get("/");

        assert_eq!((response.status, response.text()), (502, "502 Bad Gateway\n"), "for {body:?}");
        assert_eq!(client.get("/").status, 502, "the client's connection is in order");
    }
}

#[test]
fn bytes_behind_a_response_belong_to_nobody() {
    // RFC 9112 section 9.3.2 would make them the answer to the next request.
    let origin = Upstream::raw(|talk| {
        while talk.request().is_some() {
            talk.send([ok("right"), ok("poison")].concat());
        }
    });
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "right");
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn a_response_that_comes_before_its_request_is_not_its_answer() {
    let origin = Upstream::raw(|talk| {
        talk.request();
        talk.send(ok("first"));
        talk.send(ok("early"));
        while talk.request().is_some() {
            talk.send(ok("late"));
        }
    });
    let proxy = Proxy::to([&origin]);

    assert_eq!(proxy.get("/").text(), "first");
    eventually(|| origin.open_connections() == 0 || proxy.get("/").text() == "first");
    assert_eq!(proxy.get("/").text(), "first");
}

#[test]
fn a_client_that_goes_away_ends_the_request_upstream() {
    let origin = Upstream::stalling();
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(|| origin.requests() == 1);

    drop(client);

    eventually(|| origin.open_connections() == 0);
    assert_eq!(origin.requests(), 1, "nobody is left to try again for");
}

#[test]
fn a_client_that_goes_away_within_its_body_does_not_complete_it() {
    let origin = Upstream::echo();
    let proxy = Proxy::to([&origin]);

    for (head, part) in [("Content-Length: 10", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n")] {
        let before = origin.requests();
        let mut client = Client::to(&proxy);
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{part}"));
        eventually(|| origin.requests() == before + 1);
        drop(client);

        eventually(|| origin.open_connections() == 0);
        assert!(origin.received().iter().all(|request| !request.is_whole), "for {head}");
    }
}
