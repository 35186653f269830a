//! An upstream that fails too often is left alone for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};

use serde_json::Value;

use crate::harness::{ADMIN, Client, Proxy, Upstream, api, eventually};

/// An origin with a status that changes.
fn origin(status: u16) -> (Upstream, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(status));
    let now = status.clone();
    let answer = move |_: &_| format!("HTTP/1.1 {} Said\r\ncontent-length: 0\r\n\r\n", now.load(SeqCst)).into_bytes();
    (Upstream::answering(answer), status)
}

fn proxy(origin: &Upstream, breaker: &str, rest: &str) -> Proxy {
    let passive = "[upstreams.api.passive]\nmax_fails = 0\n";
    Proxy::with(&format!(
        "{ADMIN}{}{passive}[upstreams.api.breaker]\nmin_requests = 4\nwindow = \"1h\"\n{breaker}\n{rest}",
        api([origin])
    ))
}

/// What is told of the breaker.
fn told(proxy: &Proxy) -> Value {
    let upstreams: Value = serde_json::from_str(proxy.admin("/api/upstreams", "").text()).expect("JSON");
    upstreams[0]["breaker"].clone()
}

#[test]
fn it_opens_on_the_share_of_failures_and_says_when_to_come_back() {
    let (origin, status) = origin(200);
    let proxy = proxy(&origin, "open_time = \"1h\"", "");
    let mut client = Client::to(&proxy);
    assert_eq!([client.get("/").status, client.get("/").status], [200, 200]);
    assert_eq!(told(&proxy)["state"], "closed");
    status.store(500, SeqCst);
    assert_eq!([client.get("/").status, client.get("/").status], [500, 500]);

    let refused = client.get("/");

    assert_eq!((refused.status, origin.requests()), (503, 4));
    let wait: u32 = refused.field("retry-after").and_then(|wait| wait.parse().ok()).expect("a number of seconds");
    assert!((3000..=3600).contains(&wait), "{wait}");
    let told = told(&proxy);
    assert_eq!((&told["state"], &told["opened"], &told["failures"]), (&"open".into(), &1.into(), &2.into()));
    assert!(told["since"].is_string() && told["reason"].is_string(), "{told}");
    proxy.assert_counted("staunch_upstream_requests_total{upstream=\"api\",outcome=\"breaker_open\"}", 1.0);
    proxy.assert_counted("staunch_upstream_breaker_state{upstream=\"api\"}", 2.0);
}

#[test]
fn it_closes_again_when_its_probes_succeed() {
    let (origin, status) = origin(503);
    let proxy = proxy(&origin, "open_time = \"100ms\"\nprobes = 2", "");
    for _ in 0..4 {
        assert_eq!(proxy.get("/").status, 503);
    }
    assert_ne!(told(&proxy)["state"], "closed");
    status.store(200, SeqCst);

    eventually(|| proxy.get("/").status == 200);
    eventually(|| {
        proxy.get("/");
        told(&proxy)["state"] == "closed"
    });

    assert_eq!((told(&proxy)["opened"].clone(), proxy.get("/").status), (1.into(), 200));
}

#[test]
fn a_probe_that_fails_opens_it_again() {
    let (origin, _) = origin(500);
    let proxy = proxy(&origin, "open_time = \"100ms\"\nprobes = 1", "");
    for _ in 0..4 {
        proxy.get("/");
    }

    eventually(|| {
        proxy.get("/");
        told(&proxy)["opened"].as_u64() >= Some(3)
    });

    let opened = told(&proxy)["opened"].as_u64().expect("a number") as usize;
    assert!((opened + 3..=opened + 4).contains(&origin.requests()), "a probe each time: {}", origin.requests());
}

#[test]
fn endpoints_that_do_not_answer_open_it_and_statuses_say_what_else_does() {
    let cases = [
        (Upstream::refusing(), "", 502, true),
        (Upstream::raw(|talk| drop(talk.request())), "", 502, true),
        (Upstream::status(429), "", 429, false),
        (Upstream::status(429), "statuses = [\"429\", \"5xx\"]", 429, true),
        (Upstream::status(500), "statuses = [\"502-504\"]", 500, false),
    ];
    for (origin, statuses, status, opens) in cases {
        let proxy = proxy(&origin, &format!("open_time = \"1h\"\n{statuses}"), "");
        for _ in 0..4 {
            assert_eq!(proxy.get("/").status, status);
        }

        assert_eq!(told(&proxy)["state"] == "open", opens, "{status} with {statuses}");
    }
}

#[test]
fn what_is_tried_again_with_success_is_no_failure() {
    let (bad, good) = (Upstream::refusing(), Upstream::replying("good"));
    let proxy = Proxy::with(&format!(
        "{ADMIN}{}[upstreams.api.passive]\nmax_fails = 0\n[upstreams.api.breaker]\nmin_requests = 2\nfailures = \"1%\"\n",
        api([&bad, &good])
    ));

    for _ in 0..10 {
        assert_eq!(proxy.get("/").text(), "good");
    }

    assert_eq!(told(&proxy)["state"], "closed");
}

#[test]
fn all_workers_see_the_same_breaker() {
    let (origin, _) = origin(500);
    let proxy = proxy(&origin, "open_time = \"1h\"", "[server]\nworkers = 4\n");

    for _ in 0..40 {
        proxy.get("/");
    }

    assert_eq!((origin.requests(), told(&proxy)["state"].clone()), (4, "open".into()));
}
