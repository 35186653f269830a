//! What the process takes on at all: connections and memory. And what an upstream answers without delay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::Value;

use crate::harness::{ADMIN, Client, End, Proxy, Upstream, api, eventually, ok};

/// An origin that holds `/held` back until it is let go.
fn holding() -> (Upstream, Arc<AtomicBool>) {
    let go = Arc::new(AtomicBool::new(false));
    let gate = go.clone();
    let origin = Upstream::raw(move |talk| {
        while let Some(request) = talk.request() {
            if request.target() == "/held" {
                talk.wait_for(|| gate.load(SeqCst));
            }
            talk.send(ok("answered"));
        }
    });
    (origin, go)
}

fn limited(origin: &Upstream, server: &str) -> Proxy {
    Proxy::with(&format!("{ADMIN}[server]\n{server}\n{}", api([origin])))
}

fn asking(proxy: &Proxy, path: &str) -> Client {
    let mut client = Client::to(proxy);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    client
}

#[test]
fn a_connection_too_many_waits_until_one_ends() {
    let (origin, go) = holding();
    let proxy = limited(&origin, "max_connections = 2");
    let mut busy = [asking(&proxy, "/held"), asking(&proxy, "/held")];
    eventually(|| origin.requests() == 2);

    let mut third = asking(&proxy, "/");
    proxy.assert_counted("staunch_listener_connections_waiting", 1.0);
    assert_eq!(proxy.metric("staunch_listener_connections_active"), 2.0);
    assert_eq!(origin.requests(), 2);

    go.store(true, SeqCst);
    assert_eq!(third.response().text(), "answered");
    assert!(busy.iter_mut().any(|client| client.response().status == 200));
}

#[test]
fn who_has_been_idle_for_longest_makes_room() {
    let origin = Upstream::replying("answered");
    let proxy = limited(&origin, "max_connections = 3");
    let mut clients: Vec<_> = (0..3).map(|_| Client::to(&proxy)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    // The first is now the last that was idle.
    assert_eq!(clients[0].get("/").status, 200);

    let mut fourth = Client::to(&proxy);
    assert_eq!(fourth.get("/").text(), "answered");

    clients[1].assert_closed();
    assert_eq!([clients[0].get("/").status, clients[2].get("/").status, fourth.get("/").status], [200; 3]);
}

#[test]
fn connections_that_never_say_anything_do_not_keep_others_out() {
    let origin = Upstream::replying("answered");
    let proxy = limited(&origin, "max_connections = 10");
    let silent: Vec<_> = (0..30).map(|_| Client::to(&proxy)).collect();

    for _ in 0..20 {
        assert_eq!(proxy.get("/").text(), "answered");
    }

    assert!(proxy.metric("staunch_listener_connections_active") <= 10.0);
    drop(silent);
}

#[test]
fn a_client_with_too_many_connections_is_closed_at_once() {
    let origin = Upstream::replying("answered");
    let proxy = limited(&origin, "max_connections_per_client = 2");
    let mut clients = [Client::to(&proxy), Client::to(&proxy)];
    assert!(clients.iter_mut().all(|client| client.get("/").status == 200));

    let (said, end) = asking(&proxy, "/").drain();

    assert!(said.is_empty() && matches!(end, End::Closed | End::Reset), "{end:?}");
    proxy.assert_counted("staunch_listener_connections_refused_total", 1.0);
    let [first, _second] = clients;
    drop(first);
    eventually(|| asking(&proxy, "/").try_response().is_ok());
}

#[test]
fn a_reload_changes_how_many_connections_there_may_be() {
    let (origin, _go) = holding();
    let config = |max: u32| format!("{ADMIN}[server]\nmax_connections = {max}\n{}", api([&origin]));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let proxy = Proxy::start(&config(1), Some(&file)).expect("it starts");
    let _busy = asking(&proxy, "/held");
    eventually(|| origin.requests() == 1);
    let mut second = asking(&proxy, "/");
    proxy.assert_counted("staunch_listener_connections_waiting", 1.0);

    proxy.reload(&file, &config(2));

    assert_eq!(second.response().text(), "answered");
}

#[test]
fn a_drain_answers_who_waits_for_a_place() {
    let (origin, go) = holding();
    let proxy = limited(&origin, "max_connections = 1");
    let mut busy = asking(&proxy, "/held");
    eventually(|| origin.requests() == 1);
    let mut second = asking(&proxy, "/");
    proxy.assert_counted("staunch_listener_connections_waiting", 1.0);

    proxy.drain();

    assert_eq!(second.response().text(), "answered");
    go.store(true, SeqCst);
    assert_eq!(busy.response().text(), "answered");
    assert!(proxy.wait());
}

#[test]
fn short_of_memory_new_requests_are_refused_and_others_go_on() {
    let (origin, go) = holding();
    let config = |limit: &str| format!("{ADMIN}[server]\n{limit}\n{}", api([&origin]));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let proxy = Proxy::start(&config(""), Some(&file)).expect("it starts");
    let (mut busy, mut idle) = (asking(&proxy, "/held"), Client::to(&proxy));
    assert_eq!(idle.get("/").status, 200);
    eventually(|| origin.requests() == 2);

    // The tests' process has more than that.
    proxy.reload(&file, &config("memory_limit = \"16MiB\""));

    let refused = idle.get("/");
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    let mut new = asking(&proxy, "/");
    proxy.assert_counted("staunch_listener_connections_waiting", 1.0);
    proxy.assert_counted("staunch_process_memory_short", 1.0);
    go.store(true, SeqCst);
    assert_eq!(busy.response().text(), "answered");

    proxy.reload(&file, &config("memory_limit = \"1024GiB\""));

    assert_eq!(new.response().text(), "answered");
    assert_eq!(idle.get("/").text(), "answered");
}

#[test]
fn an_adaptive_limit_refuses_what_would_have_to_wait() {
    let (origin, go) = holding();
    let concurrency = "[upstreams.api.concurrency]\nmin_limit = 2\nmax_limit = 2\nmin_rtt_requests = 5\n";
    let proxy = Proxy::with(&format!("{ADMIN}{}{concurrency}", api([&origin])));
    let mut busy = [asking(&proxy, "/held"), asking(&proxy, "/held")];
    eventually(|| origin.requests() == 2);

    assert_eq!(proxy.get("/").status, 503);

    proxy.assert_counted("staunch_upstream_requests_total{upstream=\"api\",outcome=\"concurrency_limit\"}", 1.0);
    go.store(true, SeqCst);
    assert!(busy.iter_mut().all(|client| client.response().status == 200));
    // Now there are enough to know what an answer takes.
    let mut client = Client::to(&proxy);
    for _ in 0..10 {
        assert_eq!(client.get("/").status, 200);
    }
    let upstreams: Value = serde_json::from_str(proxy.admin("/api/upstreams", "").text()).expect("JSON");
    let told = &upstreams[0]["concurrency"];
    assert_eq!((&told["limit"], &told["measuring"]), (&2.into(), &false.into()));
    assert!(told["min_rtt"].as_f64() > Some(0.0), "{told}");
}

#[test]
fn an_adaptive_limit_grows_while_answers_are_fast() {
    let origin = Upstream::replying("answered");
    let concurrency = "[upstreams.api.concurrency]\nmin_rtt_requests = 10\nbuffer = \"100%\"\n";
    let proxy = Proxy::with(&format!("{ADMIN}{}{concurrency}", api([&origin])));
    let mut client = Client::to(&proxy);

    eventually(|| {
        assert_eq!(client.get("/").status, 200);
        proxy.metric("staunch_upstream_concurrency_limit{upstream=\"api\"}") > 5.0
    });
}
