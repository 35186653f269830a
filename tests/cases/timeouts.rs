//! Everything that waits for a peer ends in time. What comes of it is asserted here, not when.

use std::time::{Duration, Instant};

use crate::harness::{ADMIN, Client, End, Log, Proxy, Upstream, api, eventually, ok, pattern};

fn server(setting: &str, endpoint: &Upstream) -> Proxy {
    Proxy::with(&format!("[server]\n{setting}\n{ADMIN}{}", api([endpoint])))
}

fn timeout(name: &str) -> String {
    format!("staunch_http_timeouts_total{{timeout=\"{name}\"}}")
}

#[test]
fn a_head_that_does_not_come_to_its_end_is_a_408() {
    let origin = Upstream::replying("hi");
    let proxy = server("client_header_timeout = \"200ms\"", &origin);
    for part in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n"] {
        let mut client = Client::to(&proxy);
        assert_eq!(client.get("/").text(), "hi");

        client.send(part);

        let response = client.response();
        assert_eq!((response.status, response.field("connection")), (408, Some("close")), "for {part:?}");
        client.finish();
        client.assert_closed();
    }
    proxy.assert_counted(&timeout("client_header"), 3.0);
    assert_eq!(origin.requests(), 3);
}

#[test]
fn a_head_that_comes_ever_so_slowly_is_not_waited_for() {
    // The limit is for the whole head, not between two reads.
    let proxy = server("client_header_timeout = \"300ms\"", &Upstream::replying("hi"));
    let mut client = Client::to(&proxy);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n");

    let mut dripping = Client::to(&proxy);
    dripping.send("GET / HTTP/1.1\r\nHost: a\r\n");
    eventually(|| {
        dripping.send("X: y\r\n");
        proxy.metric(&timeout("client_header")) == 2.0
    });
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let proxy = server("client_header_timeout = \"200ms\"", &Upstream::replying("hi"));

    Client::to(&proxy).assert_closed();
}

#[test]
fn an_idle_connection_is_closed() {
    let proxy = server("client_keepalive_timeout = \"200ms\"", &Upstream::replying("hi"));
    let mut client = Client::to(&proxy);
    assert_eq!(client.get("/").text(), "hi");

    client.assert_closed();

    proxy.assert_counted(&timeout("client_keepalive"), 1.0);
}

#[test]
fn a_body_that_stops_coming_is_a_408() {
    let origin = Upstream::echo();
    let proxy = server("client_body_timeout = \"200ms\"", &origin);

    for (head, part) in [("Content-Length: 10", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n")] {
        let mut client = Client::to(&proxy);
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{part}"));

        let response = client.response();
        assert_eq!((response.status, response.field("connection")), (408, Some("close")), "for {head}");
    }
    eventually(|| origin.open_connections() == 0);
    assert!(origin.received().iter().all(|request| !request.is_whole));
    proxy.assert_counted(&timeout("client_body"), 2.0);
}

#[test]
fn a_client_that_takes_nothing_is_given_up() {
    let origin = Upstream::saying(ok(pattern(64 << 20)));
    let proxy = server("client_send_timeout = \"300ms\"", &origin);
    let mut client = Client::with_small_window(&proxy);

    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");

    proxy.assert_counted(&timeout("client_send"), 1.0);
    eventually(|| origin.open_connections() == 0);
    let broken = client.try_response().expect_err("it cannot be whole");
    assert_eq!(broken.end, End::Reset);
}

#[test]
fn an_endpoint_that_does_not_accept_is_a_504() {
    let settings = "connect_timeout = \"200ms\"\n[upstreams.api.retry]\nattempts = 1\n";
    let proxy = Proxy::with(&format!("{ADMIN}{}{settings}", api([&Upstream::unreachable()])));

    assert_eq!(proxy.get("/").status, 504);
    proxy.assert_counted(&timeout("upstream_connect"), 1.0);
}

#[test]
fn an_endpoint_that_does_not_accept_is_left_for_another() {
    let good = Upstream::replying("good");
    let proxy = Proxy::with(&format!("{}connect_timeout = \"200ms\"\n", api([&Upstream::unreachable(), &good])));

    // A POST too: nothing of it was sent.
    assert_eq!(Client::to(&proxy).post("/", "x").text(), "good");
}

#[test]
fn an_endpoint_that_does_not_answer_is_a_504() {
    let settings = "read_timeout = \"200ms\"\n[upstreams.api.retry]\nattempts = 1\n";
    let origin = Upstream::stalling();
    let proxy = Proxy::with(&format!("{ADMIN}{}{settings}", api([&origin])));
    let mut client = Client::to(&proxy);

    assert_eq!(client.get("/").status, 504);
    eventually(|| origin.open_connections() == 0);
    assert_eq!(client.get("/").status, 504, "the client's connection is in order");
    proxy.assert_counted(&timeout("upstream_response"), 2.0);
}

#[test]
fn an_endpoint_may_be_slow_as_long_as_it_goes_on() {
    // Like nginx's, the limit is between two reads: the whole takes much longer than it.
    let origin = Upstream::dripping("a body that comes a byte at a time, all of it", Duration::from_millis(40));
    let proxy = Proxy::with(&format!("{}read_timeout = \"1s\"\n", api([&origin])));

    assert_eq!(proxy.get("/").text(), "a body that comes a byte at a time, all of it");
}

#[test]
fn an_endpoint_that_takes_no_body_is_a_504() {
    let origin = Upstream::raw(|talk| {
        talk.head();
        talk.wait_for(|| false);
    });
    let settings = "send_timeout = \"300ms\"\n[upstreams.api.retry]\nattempts = 1\n";
    let proxy = Proxy::with(&format!("{}{settings}", api([&origin])));
    let mut client = Client::to(&proxy);

    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 64 << 20));
    client.send_until_blocked(&pattern(64 << 20), Duration::from_millis(200));

    assert_eq!(client.response().status, 504);
}

#[test]
fn a_request_may_take_longer_to_come_than_an_endpoint_to_answer() {
    // As in nginx, the time for an answer begins when the request has been sent.
    let settings = "read_timeout = \"300ms\"\n[upstreams.api.retry]\nattempts = 1\n";
    let proxy = Proxy::with(&format!("{}{settings}", api([&Upstream::echo()])));
    let mut client = Client::to(&proxy);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");

    let later = Instant::now() + Duration::from_millis(600);
    eventually(|| Instant::now() > later);
    client.send("world");

    let response = client.response();
    assert_eq!((response.status, response.text()), (200, "helloworld"));
}

#[test]
fn a_routes_timeout_is_for_all_attempts() {
    let origins = [Upstream::stalling(), Upstream::stalling()];
    let proxy = Proxy::with(&format!(
        "{ADMIN}{}[[routes]]\nupstream = \"api\"\ntimeout = \"300ms\"\n",
        api([&origins[0], &origins[1]])
    ));

    assert_eq!(proxy.get("/").status, 504);

    assert_eq!(origins[0].requests() + origins[1].requests(), 1, "no time was left for another");
    proxy.assert_counted(&timeout("route"), 1.0);
}

#[test]
fn a_routes_timeout_holds_for_the_body_too() {
    let origin = Upstream::dripping("never all of this, which takes some seconds to come", Duration::from_millis(50));
    let proxy = Proxy::with(&format!("{}[[routes]]\nupstream = \"api\"\ntimeout = \"2s\"\n", api([&origin])));
    let mut client = Client::to(&proxy);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");

    let broken = client.try_response().expect_err("it cannot be whole");

    assert_ne!(broken.end, End::Silent);
    assert!(broken.part.is_none_or(|part| part.body.len() < 50 && part.status == 200));
}

#[test]
fn a_route_may_have_no_timeout() {
    let origin = Upstream::dripping("x", Duration::from_millis(2));
    let proxy = Proxy::with(&format!("{}[[routes]]\nupstream = \"api\"\ntimeout = false\n", api([&origin])));

    assert_eq!(proxy.get("/").text(), "x");
}

#[test]
fn an_idle_connection_to_an_endpoint_is_closed() {
    let origin = Upstream::replying("hi");
    let proxy = Proxy::with(&format!("{}keepalive_timeout = \"200ms\"\n", api([&origin])));
    assert_eq!(proxy.get("/").text(), "hi");

    eventually(|| origin.open_connections() == 0);

    assert_eq!(proxy.get("/").text(), "hi");
    assert_eq!(origin.connections(), 2);
}

/// One attempt at this endpoint, with this setting of the upstream.
fn upstream(setting: &str, endpoint: &Upstream) -> String {
    format!("{}{setting}\n[upstreams.api.retry]\nattempts = 1\n", api([endpoint]))
}

/// Sends a request with as much of a long body as is taken.
fn send_long_body(client: &mut Client) {
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 64 << 20));
    client.send_until_blocked(&pattern(64 << 20), Duration::from_millis(200));
}

#[test]
fn every_timeout_has_its_name_in_the_log_and_its_count() {
    type Case = (&'static str, u16, String, Box<dyn Fn(&mut Client)>);
    fn get(client: &mut Client) {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let hi = Upstream::replying("hi");
    let stuck = Upstream::raw(|talk| {
        talk.request();
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc");
        talk.stall();
    });
    let deaf = Upstream::raw(|talk| {
        talk.head();
        talk.wait_for(|| false);
    });
    let long = Upstream::saying(ok(pattern(64 << 20)));
    let switching = Upstream::raw(|talk| {
        talk.head();
        talk.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        talk.stall();
    });
    let rows: Vec<Case> = vec![
        (
            "client_header_timeout",
            408,
            format!("[server]\nclient_header_timeout = \"200ms\"\n{}", api([&hi])),
            Box::new(|client| client.send("GET / HTTP/1.1\r\n")),
        ),
        (
            "client_body_timeout",
            408,
            format!("[server]\nclient_body_timeout = \"200ms\"\n{}", api([&Upstream::echo()])),
            Box::new(|client| client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")),
        ),
        (
            "client_send_timeout",
            200,
            format!("[server]\nclient_send_timeout = \"300ms\"\n{}", api([&long])),
            Box::new(get),
        ),
        (
            "upstream_connect_timeout",
            504,
            upstream("connect_timeout = \"200ms\"", &Upstream::unreachable()),
            Box::new(get),
        ),
        ("upstream_send_timeout", 504, upstream("send_timeout = \"300ms\"", &deaf), Box::new(send_long_body)),
        (
            "upstream_response_timeout",
            504,
            upstream("response_timeout = \"200ms\"", &Upstream::stalling()),
            Box::new(get),
        ),
        ("upstream_read_timeout", 200, upstream("read_timeout = \"200ms\"", &stuck), Box::new(get)),
        (
            "route_timeout",
            504,
            format!("{}[[routes]]\nupstream = \"api\"\ntimeout = \"200ms\"\n", api([&Upstream::stalling()])),
            Box::new(get),
        ),
        (
            "tunnel_timeout",
            101,
            format!("[server]\ntunnel_timeout = \"200ms\"\n{}", api([&switching])),
            Box::new(|client| client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")),
        ),
    ];
    for (name, status, settings, send) in rows {
        let log = Log::new();
        let proxy = Proxy::with(&format!("{}{ADMIN}{settings}", log.settings()));
        let mut client = match name {
            "client_send_timeout" => Client::with_small_window(&proxy),
            _ => Client::to(&proxy),
        };

        send(&mut client);

        let line = log.line();
        assert_eq!((&line["error"], &line["status"]), (&name.into(), &status.into()), "{line}");
        let label = name.strip_suffix("_timeout").expect("a timeout");
        proxy.assert_counted(&timeout(label), 1.0);
        if status >= 400 {
            assert_eq!(client.response().status, status, "{name}");
        }
    }
}

#[test]
fn an_endpoint_may_think_for_longer_than_it_may_pause() {
    let origin = Upstream::raw(|talk| {
        while talk.request().is_some() {
            talk.pause(Duration::from_millis(700));
            talk.send(ok("thought"));
        }
    });
    let settings = "response_timeout = \"20s\"\nread_timeout = \"200ms\"";

    assert_eq!(Proxy::with(&upstream(settings, &origin)).get("/").text(), "thought");
}

#[test]
fn a_head_that_comes_ever_so_slowly_is_no_response() {
    // The limit is for the whole head, as for a client's.
    let origin = Upstream::raw(|talk| {
        talk.request();
        talk.send("HTTP/1.1 200 OK\r\n");
        while talk.send("X: y\r\n") {
            talk.pause(Duration::from_millis(20));
        }
    });
    let log = Log::new();
    let proxy = Proxy::with(&format!("{}{}", log.settings(), upstream("response_timeout = \"500ms\"", &origin)));

    assert_eq!(proxy.get("/").status, 504);
    assert_eq!(log.line()["error"], "upstream_response_timeout");
}

#[test]
fn an_endpoint_that_says_it_is_working_is_given_more_time() {
    let origin = Upstream::raw(|talk| {
        talk.request();
        for _ in 0..4 {
            talk.pause(Duration::from_millis(300));
            talk.send("HTTP/1.1 102 Processing\r\n\r\n");
        }
        talk.send(ok("done"));
        talk.stall();
    });
    let proxy = Proxy::with(&upstream("response_timeout = \"1s\"", &origin));
    let mut client = Client::to(&proxy);
    client.send("GET / HTTP/1.0\r\n\r\n");

    assert_eq!(client.response().text(), "done");
}
