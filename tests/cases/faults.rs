//! Every way an origin can fail, by method, on a fresh and on a kept connection, in every framing: judged by what the
//! client got and by what the origins were asked.
//!
//! What could not be answered is asked again elsewhere if that cannot do anything twice; a POST that may have been worked
//! on is not. What was begun and not finished never looks whole.

use std::time::Duration;

use crate::harness::{Client, End, Proxy, Talk, Upstream, api, eventually, ok, pattern};

/// What an origin does instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// It closes its connection before it has read anything; a kept one while it is idle.
    Close,
    Reset,
    /// It reads the request and closes.
    CloseBehind,
    ResetBehind,
    CloseInHead,
    ResetInHead,
    /// It promises an answer with an interim response and closes.
    CloseBehindInterim,
    Silence,
    SilenceInHead,
    Garbage,
    EndlessHead,
    TwoLengths,
    BadChunk,
}

const BEFORE: [Before; 13] = [
    Before::Close,
    Before::Reset,
    Before::CloseBehind,
    Before::ResetBehind,
    Before::CloseInHead,
    Before::ResetInHead,
    Before::CloseBehindInterim,
    Before::Silence,
    Before::SilenceInHead,
    Before::Garbage,
    Before::EndlessHead,
    Before::TwoLengths,
    Before::BadChunk,
];

/// What an origin does in the middle of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    Close,
    Reset,
    Silence,
    /// The body is longer than it was said to be.
    Longer,
}

/// How the body of a response is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Length,
    Chunked,
    UntilClose,
}

impl Before {
    /// Does it; the connection ends with it.
    fn commit(self, talk: &mut Talk) {
        match self {
            Self::Close | Self::CloseBehind => {}
            Self::Reset | Self::ResetBehind => talk.reset(),
            Self::CloseInHead => {
                talk.send("HTTP/1.1 200 OK\r\nContent-Le");
            }
            Self::ResetInHead => {
                talk.send("HTTP/1.1 200 OK\r\nContent-Le");
                read_before_reset(talk);
            }
            Self::CloseBehindInterim => {
                talk.send("HTTP/1.1 103 Early Hints\r\n\r\n");
            }
            Self::Silence => talk.stall(),
            Self::SilenceInHead => {
                talk.send("HTTP/1.1 200 OK\r\nContent-Le");
                talk.stall();
            }
            Self::Garbage => {
                talk.send("\x16\x03\x01 not HTTP\r\n\r\n");
            }
            Self::EndlessHead => {
                talk.send("HTTP/1.1 200 OK\r\n");
                while talk.send("X-Again: and again\r\n".repeat(100)) {}
            }
            Self::TwoLengths => {
                talk.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab");
            }
            Self::BadChunk => {
                talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n");
            }
        }
    }

    fn is_silence(self) -> bool {
        matches!(self, Self::Silence | Self::SilenceInHead)
    }
}

/// A reset overtakes what it follows: gives the proxy the time to read that.
fn read_before_reset(talk: &mut Talk) {
    talk.pause(Duration::from_millis(50));
    talk.reset();
}

/// A proxy that asks again whatever the fault was, before these two.
fn before(faulty: &Upstream, good: &Upstream) -> Proxy {
    Proxy::with(&format!(
        "{}read_timeout = \"300ms\"\npassive = {{ max_fails = 0 }}\n\
         retry = {{ config = {{ on = [\"error\", \"timeout\", \"invalid_header\"] }} }}\n",
        api([faulty, good])
    ))
}

/// Has both origins keep a connection, so that the next request goes to the first one over it.
fn warm(proxy: &Proxy, client: &mut Client) {
    for _ in 0..2 {
        assert_eq!(client.get("/warm").text(), "warm");
    }
    let _ = proxy;
}

fn send(client: &mut Client, method: &str) {
    let body = if method == "GET" { "" } else { "hello" };
    let length = if method == "GET" { "" } else { "Content-Length: 5\r\n" };
    client.send(format!("{method} /case HTTP/1.1\r\nHost: a\r\n{length}\r\n{body}"));
}

/// Requests for `/case` that origins have got.
fn asked(origins: [&Upstream; 2]) -> usize {
    let received = origins.map(|origin| origin.received());
    received.iter().flatten().filter(|request| request.target() == "/case").count()
}

#[test]
fn a_fault_before_the_answer_is_made_good_elsewhere_unless_that_could_do_something_twice() {
    for fault in BEFORE {
        for method in ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"] {
            for kept in [false, true] {
                let case = format!("{fault:?}, {method}, kept: {kept}");
                let faulty = Upstream::raw(move |talk| {
                    if kept && talk.number == 0 {
                        talk.request();
                        talk.send(ok("warm"));
                    }
                    if !matches!(fault, Before::Close | Before::Reset) {
                        talk.request();
                    }
                    fault.commit(talk);
                });
                let good = Upstream::answering(|request| ok(if request.target() == "/warm" { "warm" } else { "good" }));
                let proxy = before(&faulty, &good);
                let mut client = Client::to(&proxy);
                if kept {
                    warm(&proxy, &mut client);
                }

                send(&mut client, method);

                let mut answer = client.try_response_to(method);
                while answer.as_ref().is_ok_and(|answer| answer.status == 103) {
                    answer = client.try_response_to(method);
                }
                let answer = answer.unwrap_or_else(|broken| panic!("{case}: {broken:?}"));
                let unread = matches!(fault, Before::Close | Before::Reset);
                if unread && answer.text() == "good" {
                    // The close was there to see before anything was sent.
                    assert_eq!(asked([&faulty, &good]), 1, "{case}");
                } else if matches!(method, "POST" | "PATCH") {
                    let status = if fault.is_silence() { 504 } else { 502 };
                    assert_eq!(answer.status, status, "{case}");
                    assert!(asked([&faulty, &good]) <= 1, "{case}: asked twice");
                    assert!(good.received().iter().all(|request| request.target() != "/case"), "{case}");
                } else {
                    assert_eq!(answer.status, 200, "{case}");
                    assert_eq!(answer.text(), if method == "HEAD" { "" } else { "good" }, "{case}");
                }
                assert!(faulty.connections() > 0, "{case}: never tried");
                // What comes next has nothing to do with it.
                let next = (0..2).map(|_| proxy.get("/warm")).find(|next| next.text() == "warm");
                assert!(next.is_some(), "{case}");
            }
        }
    }
}

#[test]
fn what_never_reached_an_origin_is_asked_elsewhere_whatever_it_is() {
    for unreachable in [Upstream::refusing as fn() -> Upstream, Upstream::unreachable] {
        for method in ["GET", "POST"] {
            let (gone, good) = (unreachable(), Upstream::replying("good"));
            let proxy = Proxy::with(&format!("{}connect_timeout = \"200ms\"\n", api([&gone, &good])));
            let mut client = Client::to(&proxy);

            send(&mut client, method);

            assert_eq!(client.response().text(), "good", "{method}");
            assert_eq!(good.requests(), 1, "{method}");
        }
    }
}

#[test]
fn a_fault_within_the_answer_breaks_it_off_and_asks_nobody_again() {
    for fault in [Within::Close, Within::Reset, Within::Silence, Within::Longer] {
        for form in [Form::Length, Form::Chunked, Form::UntilClose] {
            for method in ["GET", "POST"] {
                for kept in [false, true] {
                    within(fault, form, method, kept);
                }
            }
        }
    }
}

fn within(fault: Within, form: Form, method: &str, kept: bool) {
    let case = format!("{fault:?}, {form:?}, {method}, kept: {kept}");
    let faulty = Upstream::raw(move |talk| {
        if kept {
            talk.request();
            talk.send(ok("warm"));
        }
        talk.request();
        let head = match form {
            Form::Length => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
            Form::Chunked => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Form::UntilClose => "HTTP/1.1 200 OK\r\n\r\n",
        };
        talk.send(head);
        match (fault, form) {
            (Within::Longer, Form::Length) => talk.send("0123456789evil"),
            (Within::Longer, Form::Chunked) => talk.send("a\r\n0123456789\r\n0\r\n\r\nevil"),
            (_, Form::Chunked) => talk.send("5\r\n01234\r\n"),
            (_, _) => talk.send("01234"),
        };
        match fault {
            Within::Close => {}
            Within::Reset => read_before_reset(talk),
            Within::Silence => talk.stall(),
            // Until it is closed, it can be of any length.
            Within::Longer if form == Form::UntilClose => {
                talk.send("56789");
            }
            Within::Longer => talk.stall(),
        }
    });
    let good = Upstream::replying("warm");
    let proxy = before(&faulty, &good);
    let mut client = Client::to(&proxy);
    if kept {
        warm(&proxy, &mut client);
    }

    send(&mut client, method);

    let whole = match (fault, form) {
        (Within::Longer, _) => Some("0123456789"),
        (Within::Close, Form::UntilClose) => Some("01234"),
        _ => None,
    };
    match (client.try_response(), whole) {
        (Ok(answer), Some(whole)) => assert_eq!((answer.status, answer.text()), (200, whole), "{case}"),
        (Err(broken), None) => {
            assert_ne!(broken.end, End::Silent, "{case}");
            if let Some(part) = broken.part {
                assert!(b"01234".starts_with(&part.body[..]), "{case}: {part:?}");
            }
        }
        (answer, _) => panic!("{case}: {answer:?}"),
    }
    assert_eq!(asked([&faulty, &good]), 1, "{case}: asked once");
    for _ in 0..4 {
        let mut client = Client::to(&proxy);
        client.send("GET /warm HTTP/1.1\r\nHost: a\r\n\r\n");
        let body = client
            .try_response()
            .map_or_else(|broken| broken.part.map(|part| part.body).unwrap_or_default(), |next| next.body);
        assert!(!body.windows(4).any(|window| window == b"evil"), "{case}");
    }
}

#[test]
fn an_answer_that_comes_before_the_request_has_gone_is_the_answer() {
    // RFC 9112 section 9.5: what follows depends on what the origin does with the rest.
    let large = pattern(4 << 20);
    for (name, ending) in [("reads on", 0), ("closes", 1), ("ends its side and reads on", 2)] {
        for head in [format!("Content-Length: {}", large.len()), "Transfer-Encoding: chunked".to_owned()] {
            let origin = Upstream::raw(move |talk| {
                talk.head();
                talk.send("HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly");
                match ending {
                    0 => talk.stall(),
                    1 => {}
                    _ => {
                        talk.finish();
                        talk.stall();
                    }
                }
            });
            let proxy = Proxy::to([&origin]);
            let mut client = Client::to(&proxy);

            client.send(format!("POST /case HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n"));
            let chunked = head.contains("chunked");
            if chunked {
                client.send(format!("{:x}\r\n", large.len()));
            }
            client.send(&large);
            if chunked {
                client.send("\r\n0\r\n\r\n");
            }

            match client.try_response() {
                Ok(answer) => assert!(
                    (answer.status, answer.text()) == (413, "early") || (ending == 1 && answer.status == 502),
                    "{name}, {head}: {answer:?}"
                ),
                Err(broken) => panic!("{name}, {head}: {broken:?}"),
            }
            assert_eq!(origin.requests(), 1, "{name}, {head}");
        }
    }
}

#[test]
fn kept_connections_that_close_at_random_cost_nobody_anything() {
    // After each answer an origin waits for a moment of its own choosing, and closes or does not.
    let origin = || {
        Upstream::raw(|talk| {
            let mut random = fastrand::Rng::with_seed(talk.number as u64);
            while let Some(request) = talk.request() {
                talk.send(ok(request.target()));
                if random.u8(..3) == 0 {
                    talk.pause(Duration::from_micros(random.u64(..3000)));
                    return;
                }
            }
        })
    };
    let origins = [origin(), origin()];
    let proxy = Proxy::with(&format!("{}passive = {{ max_fails = 0 }}\n", api([&origins[0], &origins[1]])));
    let mut client = Client::to(&proxy);

    for number in 0..1000 {
        let path = format!("/{number}");
        assert_eq!(client.get(&path).text(), path);
    }
    let mut posts = 0;
    for number in 0..300 {
        let path = format!("/post/{number}");
        let answer = client.post(&path, "x");
        // One that met a close may have been read before it.
        assert!(answer.status == 502 || answer.text() == path, "{answer:?}");
        posts += usize::from(answer.status == 200);
        if answer.field("connection") == Some("close") {
            client = Client::to(&proxy);
        }
    }
    assert!(posts > 200, "{posts} of 300 posts");
    let received = origins.iter().flat_map(Upstream::received);
    let mut targets: Vec<_> = received.map(|request| request.target().to_owned()).collect();
    targets.retain(|target| target.starts_with("/post/"));
    let count = targets.len();
    targets.sort_unstable();
    targets.dedup();
    assert_eq!(targets.len(), count, "a POST came twice");
    drop(client);
    eventually(|| proxy.get("/last").status == 200);
}
