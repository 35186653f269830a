//! What a route lets a client have: so many requests in a time, and so many at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use crate::harness::{ADMIN, Client, Proxy, Upstream, api, eventually, ok};

fn limited(origin: &Upstream, head: &str, limit: &str) -> Proxy {
    Proxy::with(&format!("{ADMIN}{head}{}[[routes]]\nupstream = \"api\"\n{limit}\n", api([origin])))
}

/// An origin that answers when it is let go.
fn holding() -> (Upstream, Arc<AtomicBool>) {
    let go = Arc::new(AtomicBool::new(false));
    let gate = go.clone();
    let origin = Upstream::raw(move |talk| {
        while talk.request().is_some() {
            talk.wait_for(|| gate.load(SeqCst));
            talk.send(ok("answered"));
        }
    });
    (origin, go)
}

fn asking(proxy: &Proxy, line: &str) -> Client {
    let mut client = Client::to(proxy);
    client.send(format!("GET / HTTP/1.1\r\nHost: test\r\n{line}\r\n"));
    client
}

#[test]
fn a_rate_is_a_setting_of_a_route_and_comes_before_its_rewriters() {
    let origin = Upstream::replying("");
    let proxy = limited(
        &origin,
        "",
        "rate_limit = { rate = \"1r/m\", burst = 1, nodelay = true, key = \"$http_x_key\" }\n\
         rewrite = [{ plugin = \"set-headers\", config = { request = { set = { x-key = \"same\" } } } }]",
    );
    let mut client = Client::to(&proxy);
    let mut statuses = |key: &str| [(); 3].map(|()| client.ask("GET", "/", &format!("X-Key: {key}\r\n")).status);

    assert_eq!([statuses("a"), statuses("b")], [[200, 200, 429]; 2]);
    assert_eq!(origin.requests(), 4);
}

#[test]
fn requests_at_a_time_are_limited_by_client() {
    let (origin, go) = holding();
    let proxy = limited(&origin, "", "concurrency_limit = { max = 2 }");
    let mut busy = [asking(&proxy, ""), asking(&proxy, "")];
    eventually(|| origin.requests() == 2);

    assert_eq!(proxy.get("/").status, 503);

    proxy.assert_counted("staunch_http_concurrency_limited_total{route=\"/\"}", 1.0);
    go.store(true, SeqCst);
    assert!(busy.iter_mut().all(|client| client.response().status == 200));
    eventually(|| proxy.get("/").status == 200);
}

#[test]
fn each_key_has_a_limit_of_its_own_and_who_has_none_is_not_limited() {
    let (origin, go) = holding();
    let limit = "concurrency_limit = { key = [\"header:x-key\", \"query:key\"], max = 1, status = 429 }";
    let proxy = limited(&origin, "", limit);
    let mut busy =
        [asking(&proxy, "X-Key: a\r\n"), asking(&proxy, "X-Key: b\r\n"), asking(&proxy, ""), asking(&proxy, "")];
    eventually(|| origin.requests() == 4);

    let mut client = Client::to(&proxy);
    assert_eq!(client.ask("GET", "/", "X-Key: a\r\n").status, 429);
    assert_eq!(client.ask("GET", "/?key=b", "").status, 429);

    go.store(true, SeqCst);
    assert!(busy.iter_mut().all(|client| client.response().status == 200));
    eventually(|| client.ask("GET", "/", "X-Key: a\r\n").status == 200);
}

#[test]
fn all_workers_count_the_same_requests() {
    let (origin, go) = holding();
    let proxy = limited(&origin, "[server]\nworkers = 4\n", "concurrency_limit = { max = 5 }");

    let statuses: Vec<u16> = thread::scope(|scope| {
        let clients: Vec<_> = (0..20).map(|_| scope.spawn(|| asking(&proxy, "").response().status)).collect();
        eventually(|| clients.iter().filter(|client| client.is_finished()).count() == 15);
        go.store(true, SeqCst);
        clients.into_iter().map(|client| client.join().expect("it asks")).collect()
    });

    let count = |status| statuses.iter().filter(|&&got| got == status).count();
    assert_eq!((count(200), count(503), origin.requests()), (5, 15, 5));
}

#[test]
fn what_is_counted_outlives_a_reload() {
    let (origin, go) = holding();
    let config = |name: &str| {
        format!(
            "{ADMIN}{}[[routes]]\nupstream = \"api\"\nconcurrency_limit = {{ max = 1 }}\n\
             [[routes]]\npath = \"/{name}\"\nrespond = {{}}\n",
            api([&origin])
        )
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let proxy = Proxy::start(&config("a"), Some(&file)).expect("it starts");
    let mut busy = asking(&proxy, "");
    eventually(|| origin.requests() == 1);

    proxy.reload(&file, &config("b"));

    assert_eq!(proxy.get("/").status, 503);
    go.store(true, SeqCst);
    assert_eq!(busy.response().status, 200);
    eventually(|| proxy.get("/").status == 200);
}
