//! What becomes of requests for which their upstream has no room: they wait, in order, or hear of it at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use serde_json::Value;

use crate::harness::{ADMIN, Client, Proxy, Upstream, api, eventually, ok};

/// An origin that answers as many requests as it is allowed, each with its own target.
struct Held {
    origin: Upstream,
    allowed: Arc<AtomicUsize>,
}

impl Held {
    fn new() -> Self {
        let allowed = Arc::new(AtomicUsize::new(0));
        let left = allowed.clone();
        let origin = Upstream::raw(move |talk| {
            while let Some(request) = talk.request() {
                talk.wait_for(|| left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok());
                talk.send(ok(request.target()));
            }
        });
        Self { origin, allowed }
    }

    fn answer(&self, requests: usize) {
        self.allowed.fetch_add(requests, SeqCst);
    }
}

/// Everybody's requests go to the origin, which has one at a time.
fn one_at_a_time(held: &Held, limits: &str, rest: &str) -> Proxy {
    Proxy::with(&format!("{ADMIN}{}max_requests = 1\n{limits}\n{rest}", api([&held.origin])))
}

/// A client whose request is on its way.
fn asking(proxy: &Proxy, path: &str) -> Client {
    let mut client = Client::to(proxy);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    client
}

/// A client whose request is the `n`th that waits.
#[track_caller]
fn waiting(proxy: &Proxy, path: &str, n: u32) -> Client {
    let client = asking(proxy, path);
    proxy.assert_counted("staunch_upstream_requests_pending{upstream=\"api\"}", n.into());
    client
}

/// A client whose request the origin has.
#[track_caller]
fn served(proxy: &Proxy, held: &Held, path: &str) -> Client {
    let client = asking(proxy, path);
    eventually(|| held.origin.received().iter().any(|request| request.target() == path));
    client
}

#[track_caller]
fn assert_ended(proxy: &Proxy, outcome: &str, requests: u32) {
    let sample = format!("staunch_upstream_requests_total{{upstream=\"api\",outcome=\"{outcome}\"}}");
    proxy.assert_counted(&sample, requests.into());
}

#[test]
fn requests_wait_their_turn_and_are_served_in_order() {
    let held = Held::new();
    let proxy = one_at_a_time(&held, "max_pending = 3\nqueue_timeout = \"1h\"", "");
    let mut clients = vec![served(&proxy, &held, "/0")];
    for (n, path) in ["/1", "/2", "/3"].iter().enumerate() {
        clients.push(waiting(&proxy, path, n as u32 + 1));
    }

    assert_eq!((held.origin.requests(), held.origin.connections()), (1, 1), "who waits has no connection");
    assert_eq!(proxy.get("/4").status, 503, "the queue is full");
    assert_ended(&proxy, "queue_full", 1);

    held.answer(4);
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.response().text(), format!("/{n}"));
    }
    let targets: Vec<_> = held.origin.received().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(targets, ["/0", "/1", "/2", "/3"]);
}

#[test]
fn without_a_queue_a_request_too_many_is_refused_at_once() {
    let held = Held::new();
    let proxy = one_at_a_time(&held, "", "");
    let mut first = served(&proxy, &held, "/0");

    assert_eq!(proxy.get("/1").status, 503);

    assert_ended(&proxy, "max_requests", 1);
    held.answer(2);
    assert_eq!(first.response().status, 200);
    assert_eq!(proxy.get("/2").status, 200);
}

#[test]
fn who_waited_too_long_gets_a_503_and_the_log_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.log");
    let held = Held::new();
    let log = format!("[access_log]\npath = \"{}\"\n", file.display());
    let proxy = one_at_a_time(&held, "max_pending = 1\nqueue_timeout = \"100ms\"", &log);
    let _first = served(&proxy, &held, "/0");

    assert_eq!(proxy.get("/late").status, 503);

    assert_ended(&proxy, "queue_timeout", 1);
    assert_eq!(held.origin.requests(), 1);
    let line = line(&file, "/late");
    assert_eq!((&line["error"], &line["attempts"]), (&"queue_timeout".into(), &0.into()));
    assert!(line["queue_time"].as_f64() >= Some(0.1), "{line}");
}

/// The line of a log for a target.
fn line(file: &Path, target: &str) -> Value {
    let find = || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().find(|line| line["target"] == target)
    };
    eventually(|| find().is_some());
    find().expect("it was there")
}

#[test]
fn the_queue_waits_as_long_as_a_connection_may_take_unless_it_is_told_otherwise() {
    let held = Held::new();
    let proxy = one_at_a_time(&held, "max_pending = 1\nconnect_timeout = \"100ms\"", "");
    let _first = served(&proxy, &held, "/0");

    assert_eq!(proxy.get("/late").status, 503);

    assert_ended(&proxy, "queue_timeout", 1);
}

#[test]
fn a_routes_timeout_ends_the_wait_too() {
    let held = Held::new();
    let routes =
        "[[routes]]\nupstream = \"api\"\n[[routes]]\npath = \"/hurry\"\nupstream = \"api\"\ntimeout = \"100ms\"\n";
    let proxy = one_at_a_time(&held, "max_pending = 1\nqueue_timeout = \"1h\"", routes);
    let _first = served(&proxy, &held, "/0");

    assert_eq!(proxy.get("/hurry").status, 504);

    assert_ended(&proxy, "timeout", 1);
}

#[test]
fn a_client_that_goes_away_leaves_the_queue() {
    let held = Held::new();
    let proxy = one_at_a_time(&held, "max_pending = 1\nqueue_timeout = \"1h\"", "");
    let mut first = served(&proxy, &held, "/0");
    // Also one who has not sent all of its body.
    let mut posting = Client::to(&proxy);
    posting.send("POST /gone HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf");
    proxy.assert_counted("staunch_upstream_requests_pending{upstream=\"api\"}", 1.0);

    drop(posting);
    proxy.assert_counted("staunch_upstream_requests_pending{upstream=\"api\"}", 0.0);

    let mut second = waiting(&proxy, "/second", 1);
    held.answer(2);
    assert_eq!((first.response().text(), second.response().text()), ("/0", "/second"));
    assert_eq!(held.origin.requests(), 2);
}

#[test]
fn a_body_that_comes_while_its_request_waits_is_not_lost() {
    let origin = Upstream::raw(|talk| {
        while let Some(request) = talk.request() {
            if request.target() == "/first" {
                talk.stall();
            }
            talk.send(ok(&request.body));
        }
    });
    let proxy =
        Proxy::with(&format!("{ADMIN}{}max_requests = 1\nmax_pending = 1\nqueue_timeout = \"1h\"\n", api([&origin])));
    let first = asking(&proxy, "/first");
    eventually(|| origin.requests() == 1);
    let body = crate::harness::pattern(300_000);
    let mut posting = Client::to(&proxy);
    posting.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    posting.send(&body[..1000]);
    proxy.assert_counted("staunch_upstream_requests_pending{upstream=\"api\"}", 1.0);

    drop(first);
    posting.send(&body[1000..]);

    assert_eq!(posting.response().body, body);
}

const ROUTES: &str =
    "[[routes]]\nupstream = \"api\"\n[[routes]]\npath = \"/high\"\nupstream = \"api\"\npriority = \"high\"\n";

#[test]
fn the_higher_class_is_served_first() {
    let held = Held::new();
    let proxy = one_at_a_time(&held, "max_pending = 9\nqueue_timeout = \"1h\"", ROUTES);
    let mut clients = vec![served(&proxy, &held, "/0")];
    for (n, path) in ["/normal/1", "/high/1", "/normal/2", "/high/2"].iter().enumerate() {
        clients.push(waiting(&proxy, path, n as u32 + 1));
    }

    held.answer(5);

    assert!(clients.iter_mut().all(|client| client.response().status == 200));
    let targets: Vec<_> = held.origin.received().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(targets, ["/0", "/high/1", "/high/2", "/normal/1", "/normal/2"]);
}

#[test]
fn the_higher_class_takes_the_place_of_the_youngest_of_the_lower_one() {
    let held = Held::new();
    let proxy = one_at_a_time(&held, "max_pending = 2\nqueue_timeout = \"1h\"", ROUTES);
    let mut first = served(&proxy, &held, "/0");
    let mut old = waiting(&proxy, "/normal/old", 1);
    let mut young = waiting(&proxy, "/normal/young", 2);

    let mut high = asking(&proxy, "/high/1");

    assert_eq!(young.response().status, 503);
    assert_ended(&proxy, "queue_full", 1);
    assert_eq!(proxy.get("/normal/3").status, 503);
    held.answer(3);
    assert_eq!([first.response().status, high.response().status, old.response().status], [200; 3]);
}

#[test]
fn requests_wait_for_an_endpoint_with_room() {
    let held = Held::new();
    let proxy = Proxy::with(&format!(
        "{ADMIN}[upstreams.api]\nendpoints = [{{ address = \"{}\", max_connections = 1 }}]\nmax_pending = 2\n\
         queue_timeout = \"1h\"\n",
        held.origin
    ));
    let mut clients = vec![served(&proxy, &held, "/0")];
    clients.push(waiting(&proxy, "/1", 1));
    clients.push(waiting(&proxy, "/2", 2));
    assert_eq!(proxy.get("/3").status, 503);
    assert_eq!(held.origin.connections(), 1);

    held.answer(3);

    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.response().text(), format!("/{n}"));
    }
    proxy.assert_counted("staunch_upstream_requests_pending{upstream=\"api\"}", 0.0);
    proxy.assert_counted("staunch_upstream_requests_active{upstream=\"api\"}", 0.0);
}

#[test]
fn who_waits_for_an_endpoint_is_served_by_one_that_comes_back() {
    let (held, other) = (Held::new(), Upstream::replying("other"));
    let config = |down: bool| {
        format!(
            "{ADMIN}[upstreams.api]\nmax_pending = 2\nqueue_timeout = \"1h\"\n\
             endpoints = [{{ address = \"{}\", max_connections = 1 }}, {{ address = \"{other}\", down = {down} }}]\n",
            held.origin
        )
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let proxy = Proxy::start(&config(true), Some(&file)).expect("it starts");
    let mut first = served(&proxy, &held, "/0");
    let mut second = waiting(&proxy, "/1", 1);

    // The one that waits knows the old configuration only; what it waits for is free for both.
    proxy.reload(&file, &config(false));
    assert_eq!(Client::to(&proxy).get("/new").text(), "other");
    held.answer(2);

    assert_eq!((first.response().text(), second.response().text()), ("/0", "/1"));
}

#[test]
fn all_workers_share_one_limit_and_one_queue() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inside, peak) = (now.clone(), most.clone());
    let origin = Upstream::raw(move |talk| {
        while talk.request().is_some() {
            peak.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
            thread::yield_now();
            inside.fetch_sub(1, SeqCst);
            talk.send(ok("served"));
        }
    });
    let proxy = Proxy::with(&format!(
        "{ADMIN}[server]\nworkers = 4\n{}max_requests = 2\nmax_pending = 100\nqueue_timeout = \"1h\"\n",
        api([&origin])
    ));

    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = Client::to(&proxy);
                for _ in 0..20 {
                    assert_eq!(client.get("/").text(), "served");
                }
            });
        }
    });

    assert!(most.load(SeqCst) <= 2, "{} at a time", most.load(SeqCst));
    assert_eq!(origin.requests(), 320);
    proxy.assert_counted("staunch_upstream_requests_pending{upstream=\"api\"}", 0.0);
    proxy.assert_counted("staunch_upstream_requests_active{upstream=\"api\"}", 0.0);
}

#[test]
fn a_reload_that_allows_more_lets_those_in_who_wait() {
    let held = Held::new();
    let config = |max: u32| {
        format!("{ADMIN}{}max_requests = {max}\nmax_pending = 5\nqueue_timeout = \"1h\"\n", api([&held.origin]))
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let proxy = Proxy::start(&config(1), Some(&file)).expect("it starts");
    let mut clients = [served(&proxy, &held, "/0"), waiting(&proxy, "/1", 1)];

    proxy.reload(&file, &config(2));

    eventually(|| held.origin.requests() == 2);
    assert_eq!(proxy.metric("staunch_upstream_requests_active{upstream=\"api\"}"), 2.0);
    held.answer(2);
    assert!(clients.iter_mut().all(|client| client.response().status == 200));
}

#[test]
fn a_stalled_upstream_takes_nothing_from_another() {
    let (stalled, well) = (Upstream::stalling(), Upstream::replying("well"));
    let proxy = Proxy::with(&format!(
        "{ADMIN}[upstreams.stalled]\nendpoints = [\"{stalled}\"]\nmax_requests = 5\nmax_pending = 5\n\
         queue_timeout = \"1h\"\nread_timeout = \"1h\"\n{}\
         [[routes]]\nupstream = \"api\"\n[[routes]]\npath = \"/stalled\"\nupstream = \"stalled\"\n",
        api([&well])
    ));
    let _stuck: Vec<_> = (0..10).map(|_| asking(&proxy, "/stalled")).collect();
    proxy.assert_counted("staunch_upstream_requests_pending{upstream=\"stalled\"}", 5.0);

    let mut client = Client::to(&proxy);
    for _ in 0..200 {
        assert_eq!(client.get("/").text(), "well");
        assert_eq!(proxy.get("/stalled").status, 503, "more of it is refused at once");
    }

    assert_eq!((stalled.requests(), stalled.connections()), (5, 5));
}
