//! What is tried again, where, and how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::harness::{ADMIN, Client, Proxy, Upstream, api, eventually, ok};

/// A proxy with this retry policy for these endpoints, none of which is ever taken out.
fn retrying<const N: usize>(endpoints: [&Upstream; N], retry: &str) -> Proxy {
    let passive = "[upstreams.api.passive]\nmax_fails = 0\n";
    Proxy::with(&format!(
        "{ADMIN}{}read_timeout = \"200ms\"\n{passive}[upstreams.api.retry]\n{retry}\n",
        api(endpoints)
    ))
}

/// A budget that never ends.
const FREE: &str = "budget = { percent = 100, min = 1000 }\n";

#[test]
fn a_refused_connection_is_tried_again_elsewhere() {
    let alive = Upstream::replying("hello");
    let proxy = Proxy::to([&Upstream::refusing(), &alive]);

    assert_eq!(proxy.get("/").text(), "hello");
    assert_eq!(alive.requests(), 1);
}

#[test]
fn errors_and_timeouts_are_tried_again_and_answers_are_not() {
    let rows = [
        ("refused", Upstream::refusing(), 200),
        ("closed", Upstream::raw(|talk| drop(talk.request())), 200),
        ("silent", Upstream::stalling(), 200),
        ("garbage", Upstream::garbling(), 502),
        ("a 500", Upstream::status(500), 500),
        ("a 502", Upstream::status(502), 502),
        ("a 503", Upstream::status(503), 503),
        ("a 504", Upstream::status(504), 504),
        ("a 429", Upstream::status(429), 429),
        ("a 404", Upstream::status(404), 404),
    ];
    for (name, bad, status) in &rows {
        let proxy = retrying([bad, &Upstream::replying("")], FREE);

        assert_eq!(proxy.get("/").status, *status, "{name}");
    }
}

#[test]
fn conditions_say_what_is_tried_again() {
    let rows = [
        ("invalid_header", Upstream::garbling()),
        (
            // RFC 9112 section 6.3: two lengths, and no telling where it ends.
            "invalid_header",
            Upstream::saying("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        ("http_500", Upstream::status(500)),
        ("http_502", Upstream::status(502)),
        ("http_503", Upstream::status(503)),
        ("http_504", Upstream::status(504)),
        ("http_403", Upstream::status(403)),
        ("http_404", Upstream::status(404)),
        ("http_429", Upstream::status(429)),
        ("error", Upstream::refusing()),
        ("timeout", Upstream::stalling()),
    ];
    for (condition, bad) in &rows {
        let good = Upstream::replying("good");
        let proxy = retrying([bad, &good], &format!("{FREE}config = {{ on = [\"{condition}\"] }}"));
        assert_eq!(proxy.get("/").text(), "good", "with {condition}");

        let proxy = retrying([bad, &good], &format!("{FREE}config = {{ on = [\"off\"] }}"));
        assert_ne!(proxy.get("/").status, 200, "with off, not {condition}");
    }
}

#[test]
fn a_connection_that_waits_for_the_rest_of_a_request_is_not_used_again() {
    // It would take the next request for that rest (RFC 9112 section 9.3).
    let saying =
        |response: &'static str| Upstream::raw(move |talk| while talk.head().is_some() && talk.send(response) {});
    let early = saying("HTTP/1.1 503 Early\r\nContent-Length: 0\r\n\r\n");
    let other = saying("HTTP/1.1 200 Early\r\nContent-Length: 0\r\n\r\n");
    let proxy = retrying([&early, &other], &format!("{FREE}config = {{ on = [\"http_503\"] }}"));
    let mut client = Client::to(&proxy);
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf");
    assert_eq!(client.response().status, 200);

    while early.requests() < 2 {
        assert_eq!(proxy.get("/").status, 200);
    }

    assert_eq!(early.connections(), 2);
}

#[test]
fn the_last_answer_is_the_clients() {
    let origins = [Upstream::status(503), Upstream::status(503)];
    let proxy = retrying([&origins[0], &origins[1]], &format!("{FREE}config = {{ on = [\"http_503\"] }}"));

    let response = proxy.get("/");

    assert_eq!(response.head.line, "HTTP/1.1 503 Said");
}

#[test]
fn attempts_are_counted_with_the_first() {
    for (attempts, expected) in [(1, 1), (2, 2), (3, 3), (5, 4)] {
        let origins: [Upstream; 4] = std::array::from_fn(|_| Upstream::status(503));
        let retry = format!("{FREE}attempts = {attempts}\nconfig = {{ on = [\"http_503\"] }}");
        let proxy = retrying([&origins[0], &origins[1], &origins[2], &origins[3]], &retry);

        assert_eq!(proxy.get("/").status, 503);

        eventually(|| origins.iter().map(Upstream::requests).sum::<usize>() >= expected);
        let asked: Vec<_> = origins.iter().map(Upstream::requests).collect();
        assert_eq!(asked.iter().filter(|&&asked| asked > 0).count(), expected, "{attempts} attempts: {asked:?}");
        assert_eq!(asked.iter().sum::<usize>(), expected, "none is asked twice: {asked:?}");
    }
}

#[test]
fn an_endpoint_that_was_tried_is_not_asked_again_while_another_is_ready() {
    let origins: [Upstream; 3] = std::array::from_fn(|_| Upstream::status(503));
    let retry = format!("{FREE}attempts = 3\nconfig = {{ on = [\"http_503\"] }}");
    let proxy = Proxy::with(&format!(
        "[upstreams.api]\nendpoints = [{{ address = \"{}\", weight = 100 }}, \"{}\", \"{}\"]\n\
         [upstreams.api.passive]\nmax_fails = 0\n[upstreams.api.retry]\n{retry}\n",
        origins[0], origins[1], origins[2]
    ));

    for n in 1..=20 {
        proxy.get("/");
        assert_eq!(origins.each_ref().map(Upstream::requests), [n, n, n]);
    }
}

#[test]
fn no_attempt_starts_after_the_timeout() {
    let origins = [Upstream::stalling(), Upstream::stalling(), Upstream::stalling()];
    // Each attempt takes 200 ms.
    let proxy = retrying([&origins[0], &origins[1], &origins[2]], &format!("{FREE}attempts = 9\ntimeout = \"300ms\""));

    assert_eq!(proxy.get("/").status, 504);

    assert_eq!(origins.iter().map(Upstream::requests).sum::<usize>(), 2);
}

#[test]
fn a_post_is_tried_again_only_if_nothing_of_it_was_sent() {
    let rows = [
        ("refused", Upstream::refusing(), "", 200),
        ("closed", Upstream::raw(|talk| drop(talk.request())), "", 502),
        ("silent", Upstream::stalling(), "", 504),
        ("a 503", Upstream::status(503), "\"http_503\"", 503),
        ("closed, non_idempotent", Upstream::raw(|talk| drop(talk.request())), "\"non_idempotent\"", 200),
        ("a 503, non_idempotent", Upstream::status(503), "\"http_503\", \"non_idempotent\"", 200),
    ];
    for (name, bad, on, status) in &rows {
        for method in ["POST", "PATCH", "LOCK"] {
            let good = Upstream::echo();
            let retry = format!("{FREE}config = {{ on = [\"error\", \"timeout\", {on}] }}");
            let proxy = retrying([bad, &good], &retry);
            let mut client = Client::to(&proxy);

            client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\norder"));
            let response = client.response();

            assert_eq!(response.status, *status, "{name}, {method}");
            assert_eq!(good.requests(), usize::from(*status == 200), "{name}, {method}");
        }
    }
}

#[test]
fn the_operator_may_forbid_a_policy_to_send_a_post_again() {
    let (bad, good) = (Upstream::status(503), Upstream::echo());
    let retry = format!("{FREE}non_idempotent = false\nconfig = {{ on = [\"http_503\", \"non_idempotent\"] }}");
    let proxy = retrying([&bad, &good], &retry);

    assert_eq!(Client::to(&proxy).post("/", "order").status, 503);
    assert_eq!(good.requests(), 0);
}

#[test]
fn a_put_is_tried_again_with_its_whole_body() {
    let (bad, good) = (Upstream::status(503), Upstream::echo());
    let proxy = retrying([&bad, &good], &format!("{FREE}config = {{ on = [\"http_503\"] }}"));

    for (head, body) in
        [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")]
    {
        // Round robin: every other request begins at the good one.
        for _ in 0..2 {
            let mut client = Client::to(&proxy);
            client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{body}"));
            assert_eq!(client.response().text(), "hello", "for {head}");
        }
    }
    assert!(bad.requests() >= 2);
    assert!(bad.received().iter().all(|request| request.body == b"hello"));
}

#[test]
fn a_body_larger_than_the_replay_buffer_is_sent_once() {
    for (size, status) in [(1024, 200), (1025, 503)] {
        let (bad, good) = (Upstream::status(503), Upstream::echo());
        let retry = format!("{FREE}replay_buffer = \"1KiB\"\nconfig = {{ on = [\"http_503\"] }}");
        let proxy = retrying([&bad, &good], &retry);
        let mut client = Client::to(&proxy);

        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{}", "x".repeat(size)));

        assert_eq!(client.response().status, status, "{size} bytes");
        assert_eq!(bad.requests(), 1, "{size} bytes");
    }
}

#[test]
fn a_body_that_nobody_has_asked_for_yet_survives_any_number_of_refusals() {
    let good = Upstream::echo();
    let proxy = Proxy::to([&Upstream::refusing(), &Upstream::refusing(), &good]);
    let body = crate::harness::pattern(1 << 20);

    let response = Client::to(&proxy).post("/", &body);

    assert!(response.status == 200 && response.body == body);
}

#[test]
fn retries_are_bounded_by_the_budget() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counting = requests.clone();
    let origins: [Upstream; 2] = std::array::from_fn(|_| {
        let counting = counting.clone();
        Upstream::answering(move |_| {
            counting.fetch_add(1, SeqCst);
            b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec()
        })
    });
    let retry = "budget = { percent = 10, min = 0 }\nconfig = { on = [\"http_503\"] }";
    let proxy = retrying([&origins[0], &origins[1]], retry);
    let mut client = Client::to(&proxy);

    for _ in 0..200 {
        assert_eq!(client.get("/").status, 503);
    }

    // Every second may have a tenth of its requests again, and a request beside the boundary counts in two of them.
    let retries = requests.load(SeqCst) - 200;
    assert!((1..=25).contains(&retries), "{retries} retries of 200 requests");
    let refused = proxy.metric("staunch_upstream_retries_total{upstream=\"api\",answer=\"refused_by_budget\"}");
    assert!(refused > 0.0);
}

#[test]
fn a_retry_costs_the_client_nothing_of_the_first_answer() {
    // Neither its body nor its fields, whether or not its connection can be kept.
    for bad in [
        "HTTP/1.1 503 Busy\r\nX-First: 1\r\nSet-Cookie: a=1\r\nContent-Length: 5\r\n\r\nfirst",
        "HTTP/1.1 503 Busy\r\nX-First: 1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n",
        "HTTP/1.1 503 Busy\r\nX-First: 1\r\nConnection: close\r\nContent-Length: 5\r\n\r\nfirst",
        "HTTP/1.1 503 Busy\r\nX-First: 1\r\nContent-Length: 5000000\r\n\r\nfirst",
    ] {
        let proxy = retrying(
            [&Upstream::saying(bad), &Upstream::saying(ok("second"))],
            &format!("{FREE}config = {{ on = [\"http_503\"] }}"),
        );
        let mut client = Client::to(&proxy);

        for _ in 0..4 {
            let response = client.get("/");
            assert_eq!((response.status, response.text(), response.field("x-first")), (200, "second", None));
        }
    }
}
