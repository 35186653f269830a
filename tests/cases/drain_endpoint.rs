//! Operators shut endpoints off: `drain`, `down` and weights, by configuration and at run time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::harness::{ADMIN, Client, Proxy, Upstream, api, eventually, ok};

fn watched<const N: usize>(endpoints: [&Upstream; N]) -> Proxy {
    Proxy::with(&format!("{ADMIN}{}", api(endpoints)))
}

#[test]
fn a_drained_endpoint_finishes_what_it_has_and_gets_nothing_new() {
    let go = Arc::new(AtomicBool::new(false));
    let gate = go.clone();
    let draining = Upstream::raw(move |talk| {
        while let Some(request) = talk.request() {
            if request.target() != "/download" {
                talk.send(ok("draining"));
                continue;
            }
            talk.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfini");
            talk.wait_for(|| gate.load(SeqCst));
            talk.send("shed");
        }
    });
    let other = Upstream::replying("other");
    let proxy = watched([&draining, &other]);
    let (mut client, mut busy) = (Client::to(&proxy), Client::to(&proxy));
    let answers: Vec<_> = (0..2).map(|_| client.get("/").text().to_owned()).collect();
    assert_eq!(answers, ["draining", "other"]);
    busy.send("GET /download HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = busy.response_head();
    client.get("/");
    let mut idle = Client::to(&proxy);
    assert_eq!(idle.get("/").text(), "draining", "on a connection beside the one that is busy");
    assert_eq!(draining.open_connections(), 2);

    let status = proxy.order(&draining, "{\"drain\": true, \"reason\": \"new disks\"}");

    assert_eq!(status.status, 200);
    eventually(|| draining.open_connections() == 1);
    let told = proxy.endpoint(&draining);
    assert_eq!((&told["state"], &told["reason"]), (&"draining".into(), &"new disks".into()));
    assert!(told["since"].is_string() && told["drain"] == true && told["active"] == 1, "{told}");
    for _ in 0..6 {
        assert_eq!(client.get("/").text(), "other");
    }
    go.store(true, SeqCst);
    assert_eq!(busy.response_body(head).text(), "finished");
    eventually(|| draining.open_connections() == 0);

    proxy.order(&draining, "{\"drain\": null}");
    eventually(|| client.get("/").text() == "draining");
    assert_eq!(proxy.endpoint(&draining)["state"], "up");
}

#[test]
fn an_endpoint_may_be_configured_to_drain() {
    let [draining, other] = ["draining", "other"].map(Upstream::replying);
    let endpoints = format!("[{{ address = \"{draining}\", drain = true }}, \"{other}\"]");
    let proxy = Proxy::with(&format!("{ADMIN}[upstreams.api]\nendpoints = {endpoints}\n"));

    for _ in 0..5 {
        assert_eq!(proxy.get("/").text(), "other");
    }

    let told = proxy.endpoint(&draining);
    assert_eq!((&told["state"], &told["reason"]), (&"draining".into(), &"configured to drain".into()));
    assert!(told["since"].is_string(), "{told}");
    assert_eq!(draining.connections(), 0);
}

#[test]
fn one_that_is_configured_down_can_be_brought_up() {
    let [down, other] = ["down", "other"].map(Upstream::replying);
    let endpoints = format!("[{{ address = \"{down}\", down = true }}, \"{other}\"]");
    let proxy = Proxy::with(&format!("{ADMIN}[upstreams.api]\nendpoints = {endpoints}\n"));
    assert_eq!(proxy.endpoint(&down)["reason"], "configured down");

    proxy.order(&down, "{\"down\": false}");

    let mut client = Client::to(&proxy);
    eventually(|| client.get("/").text() == "down");
    proxy.order(&down, "{\"down\": true}");
    eventually(|| client.get("/").text() == "other" && client.get("/").text() == "other");
    assert_eq!(proxy.endpoint(&down)["reason"], "an operator ordered `down`");
}

#[test]
fn one_that_is_down_is_not_checked_and_one_that_drains_is() {
    let [down, draining, other] = ["down", "draining", "other"].map(Upstream::replying);
    let check = "[upstreams.api.health]\ninterval = \"20ms\"\n";
    let proxy = Proxy::with(&format!("{ADMIN}{}{check}", api([&down, &draining, &other])));
    eventually(|| down.requests() > 2);

    proxy.order(&down, "{\"down\": true}");
    proxy.order(&draining, "{\"drain\": true}");

    let asked = down.requests();
    let wait_for_checks = |origin: &Upstream| {
        let before = origin.requests();
        eventually(|| origin.requests() > before + 5);
    };
    wait_for_checks(&other);
    wait_for_checks(&draining);
    assert!(down.requests() <= asked + 1, "one may have been under way");
    proxy.order(&down, "{\"down\": false}");
    wait_for_checks(&down);
}

#[test]
fn a_weight_is_changed_at_once() {
    let [heavy, light] = ["heavy", "light"].map(Upstream::replying);
    let proxy = watched([&heavy, &light]);
    let mut client = Client::to(&proxy);

    assert_eq!(proxy.order(&heavy, "{\"weight\": 3}").status, 200);

    eventually(|| {
        let answers: Vec<_> = (0..8).map(|_| client.get("/").text().to_owned()).collect();
        answers.iter().filter(|&answer| answer == "heavy").count() == 6
    });
    assert_eq!(proxy.endpoint(&heavy)["weight"], 3);
}

#[test]
fn what_an_operator_said_outlives_a_reload() {
    let [drained, other] = ["drained", "other"].map(Upstream::replying);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let text = |keepalive: u32| format!("{ADMIN}{}keepalive = {keepalive}\n", api([&drained, &other]));
    let proxy = Proxy::start(&text(3), Some(&file)).unwrap_or_else(|error| panic!("{error}"));
    proxy.order(&drained, "{\"drain\": true}");

    proxy.reload(&file, &text(4));

    assert_eq!(proxy.endpoint(&drained)["state"], "draining");
    for _ in 0..5 {
        assert_eq!(proxy.get("/").text(), "other");
    }
}

#[test]
fn a_change_that_cannot_be_made_says_why() {
    let (origin, stranger) = (Upstream::replying(""), Upstream::replying(""));
    let proxy = watched([&origin]);

    for (endpoint, said, status, words) in [
        (&origin, "{\"drian\": true}", 400, "unknown field `drian`"),
        (&origin, "{}", 400, "changes nothing"),
        (&origin, "{\"weight\": 0}", 400, "at least 1"),
        (&stranger, "{\"drain\": true}", 404, "there is no endpoint"),
    ] {
        let refused = proxy.order(endpoint, said);
        assert_eq!(refused.status, status, "for {said}");
        assert!(refused.text().contains(words), "{}", refused.text());
    }
    let path = format!("/api/upstreams/api/endpoints/{origin}");
    let ask = |lines: &str| Client::connect(proxy.admin_address()).patch(&path, lines, "{\"down\": true}").status;
    assert_eq!(ask("Origin: https://evil.example\r\n"), 403, "no web page may do that");
    assert_eq!(proxy.endpoint(&origin)["state"], "up");
}

#[test]
fn a_token_is_asked_for_where_there_is_one() {
    let origin = Upstream::replying("");
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"a-secret-of-some-length\"\n";
    let proxy = Proxy::with(&format!("{admin}{}", api([&origin])));
    let path = format!("/api/upstreams/api/endpoints/{origin}");
    let ask = |lines: &str| Client::connect(proxy.admin_address()).patch(&path, lines, "{\"weight\": 2}").status;

    assert_eq!(ask(""), 401);
    assert_eq!(ask("Authorization: Bearer a-secret-of-some-length\r\n"), 200);
}
