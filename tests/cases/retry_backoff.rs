//! The built-in retry policies that are not the default one.

use std::time::{Duration, Instant};

use crate::harness::{Client, Proxy, Upstream, api, ok};

fn retrying<const N: usize>(endpoints: [&Upstream; N], retry: &str) -> Proxy {
    Proxy::with(&format!(
        "{}read_timeout = \"200ms\"\n[upstreams.api.passive]\nmax_fails = 0\n[upstreams.api.retry]\n\
         budget = {{ percent = 100, min = 1000 }}\n{retry}\n",
        api(endpoints)
    ))
}

#[test]
fn never_tries_nothing_again() {
    for (bad, status) in [(Upstream::refusing(), 502), (Upstream::status(503), 503), (Upstream::stalling(), 504)] {
        let good = Upstream::replying("good");
        let proxy = retrying([&bad, &good], "plugin = \"never\"");

        assert_eq!(proxy.get("/").status, status);
        assert_eq!(good.requests(), 0);
    }
}

#[test]
fn backoff_tries_what_its_conditions_say() {
    let rows = [
        ("5xx", Upstream::status(500)),
        ("5xx", Upstream::refusing()),
        ("gateway-error", Upstream::status(502)),
        ("gateway-error", Upstream::raw(|talk| drop(talk.request()))),
        ("reset", Upstream::stalling()),
        ("connect-failure", Upstream::refusing()),
        ("retriable-4xx", Upstream::status(409)),
        ("retriable-headers", Upstream::saying("HTTP/1.1 200 OK\r\nX-Again: please\r\nContent-Length: 3\r\n\r\nbad")),
    ];
    for (condition, bad) in &rows {
        let headers = if *condition == "retriable-headers" { ", headers = \"x-again\"" } else { "" };
        let good = Upstream::replying("good");
        let retry = format!("plugin = \"backoff\"\nconfig = {{ on = \"{condition}\"{headers} }}");

        assert_eq!(retrying([bad, &good], &retry).get("/").text(), "good", "for {condition}");
    }
    for (condition, bad, status) in [
        ("gateway-error", Upstream::status(500), 500),
        ("connect-failure", Upstream::stalling(), 504),
        ("reset", Upstream::status(503), 503),
    ] {
        let retry = format!("plugin = \"backoff\"\nconfig = {{ on = \"{condition}\" }}");
        let proxy = retrying([&bad, &Upstream::replying("good")], &retry);

        assert_eq!(proxy.get("/").status, status, "for {condition}");
    }
}

#[test]
fn a_call_that_ended_with_unavailable_goes_to_another_endpoint() {
    let bad = Upstream::saying(
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\nGrpc-Status: 14\r\nContent-Length: 0\r\n\r\n",
    );
    let good = Upstream::replying("message");
    let retry = "plugin = \"backoff\"\nconfig = { on = [\"unavailable\"], non_idempotent = true }";
    let proxy = retrying([&bad, &good], retry);
    let mut client = Client::to(&proxy);

    for _ in 0..4 {
        assert_eq!(client.post("/service/Method", "call").text(), "message");
    }
    assert_eq!(bad.requests(), 2, "it is asked in its turn, for a header is no failure");
}

#[test]
fn a_response_that_is_asked_for_by_a_header_is_no_failure_of_its_endpoint() {
    let busy: [Upstream; 2] = std::array::from_fn(|_| {
        Upstream::saying("HTTP/1.1 200 OK\r\nGrpc-Status: 14\r\nContent-Length: 4\r\n\r\nbusy")
    });
    // Were it one, the endpoints would be out for an hour.
    let proxy = Proxy::with(&format!(
        "{}[upstreams.api.passive]\nmax_fails = 1\nfail_timeout = \"1h\"\n[upstreams.api.retry]\nplugin = \"backoff\"\n\
         config = {{ on = [\"unavailable\"], non_idempotent = true, elsewhere = true }}\n",
        api([&busy[0], &busy[1]])
    ));

    for _ in 0..3 {
        assert_eq!(proxy.get("/").text(), "busy");
    }
}

#[test]
fn an_endpoint_that_asks_for_a_second_gets_it() {
    let asking =
        |seconds| Upstream::saying(format!("HTTP/1.1 503 Busy\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\n\r\n"));
    let proxy = retrying([&asking(1), &Upstream::saying(ok("good"))], "plugin = \"backoff\"");
    let began = Instant::now();
    assert_eq!(proxy.get("/").text(), "good");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());

    let good = Upstream::replying("good");
    let proxy = retrying([&asking(60), &good], "plugin = \"backoff\"");
    let response = proxy.get("/");
    assert_eq!((response.status, response.field("retry-after")), (503, Some("60")), "that is for the client to wait");
    assert_eq!(good.requests(), 0);
}
