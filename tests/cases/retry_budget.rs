//! Whatever a policy says, retrying adds no more load than its budget.

use std::thread;
use std::time::Instant;

use crate::cases::plugins::{Folder, Guest};
use crate::harness::{ADMIN, Client, Proxy, Upstream, api};

/// A policy that says "again" whatever happened, after so many nanoseconds.
fn always_again(delay: u64) -> Folder {
    let decide = format!("(call $again (i64.const {delay}) (i32.const 0))");
    let guest = Guest::retry(&decide)
        .import("registration", "want-status", "(param i32 i32)")
        .import("registration", "want-non-idempotent", "")
        .configure("(call $want-status (i32.const 100) (i32.const 599)) (call $want-non-idempotent) (i32.const 0)");
    Folder::with(guest.wat())
}

fn proxy(folder: &Folder, origins: [&Upstream; 2], workers: usize, retry: &str) -> Proxy {
    Proxy::with(&format!(
        "{ADMIN}[server]\nworkers = {workers}\n{}{}[upstreams.api.passive]\nmax_fails = 0\n\
         [upstreams.api.retry]\nplugin = \"own\"\n{retry}\n",
        folder.plugin(""),
        api(origins)
    ))
}

#[test]
fn a_policy_that_always_says_again_adds_a_fifth_to_an_upstream_that_always_answers_503() {
    for delay in [0, 50_000_000] {
        let folder = always_again(delay);
        let origins = [Upstream::status(503), Upstream::status(503)];
        let proxy = proxy(&folder, origins.each_ref(), 4, "attempts = 100");
        let began = Instant::now();

        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut client = Client::to(&proxy);
                    for _ in 0..100 {
                        assert_eq!(client.get("/").status, 503);
                    }
                });
            }
        });

        let load: usize = origins.iter().map(Upstream::requests).sum();
        let least = 3 * (began.elapsed().as_secs() as usize + 1);
        assert!((801..=800 + 160 + least).contains(&load), "{load} for 800 requests, with a delay of {delay} ns");
        let granted = "staunch_upstream_retries_total{upstream=\"api\",answer=\"granted\"}";
        proxy.assert_counted(granted, (load - 800) as f64);
        assert!(proxy.metric("staunch_upstream_retries_total{upstream=\"api\",answer=\"refused_by_budget\"}") > 0.0);
    }
}

#[test]
fn the_least_is_there_for_a_single_request_whichever_worker_has_it() {
    let folder = always_again(0);
    let origins = [Upstream::status(503), Upstream::status(503)];
    let proxy = proxy(&folder, origins.each_ref(), 8, "attempts = 100");

    assert_eq!(proxy.get("/").status, 503);

    assert_eq!(origins.iter().map(Upstream::requests).sum::<usize>(), 4, "three more");
}

#[test]
fn attempts_that_reached_no_server_are_free() {
    let folder = always_again(0);
    let (bad, good) = (Upstream::refusing(), Upstream::replying("good"));
    let proxy = proxy(&folder, [&bad, &good], 1, "attempts = 2\nbudget = { percent = 0, min = 0 }");

    let texts: Vec<_> = (0..20).map(|_| proxy.get("/")).filter(|response| response.status == 200).collect();

    assert_eq!(texts.len(), 20);
}

#[test]
fn a_client_that_goes_away_while_its_retry_is_held_back_costs_nothing() {
    let folder = always_again(3_600_000_000_000);
    let origins = [Upstream::status(503), Upstream::status(503)];
    let proxy = proxy(&folder, origins.each_ref(), 1, "attempts = 2\ntimeout = \"2h\"");
    let refused = "staunch_upstream_retries_total{upstream=\"api\",answer=\"refused_by_budget\"}";
    let granted = "staunch_upstream_retries_total{upstream=\"api\",answer=\"granted\"}";
    let mut held = Vec::new();
    for n in 1..=3 {
        let mut client = Client::to(&proxy);
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        held.push(client);
        proxy.assert_counted(granted, n.into());
    }
    assert_eq!(proxy.get("/").status, 503);
    assert_eq!(proxy.metric(refused), 1.0, "all three are held back");

    drop(held);
    proxy.assert_counted("staunch_upstream_requests_total{upstream=\"api\",outcome=\"client_closed\"}", 3.0);
    let mut client = Client::to(&proxy);
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");

    proxy.assert_counted(granted, 4.0);
}
