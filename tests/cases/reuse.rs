//! Connections to endpoints are kept for the next request, and one that went stale is nobody's problem.

use crate::harness::{ADMIN, Client, Proxy, Upstream, api, eventually, ok};

#[test]
fn connections_to_endpoints_are_counted_while_they_are_open() {
    let origin = Upstream::replying("hello");
    let proxy = Proxy::with(&format!("{ADMIN}{}", api([&origin])));
    let open = "staunch_upstream_connections_active{upstream=\"api\"}";
    proxy.get("/");
    proxy.assert_counted(open, 1.0);

    origin.close_connections();

    proxy.assert_counted(open, 0.0);
}

#[test]
fn connections_are_used_again_whichever_client_asks() {
    let origin = Upstream::replying("hi");
    let proxy = Proxy::to([&origin]);

    for _ in 0..10 {
        assert_eq!(proxy.get("/").text(), "hi");
    }

    assert_eq!((origin.requests(), origin.connections()), (10, 1));
}

#[test]
fn connections_are_used_again_after_bodies_of_every_framing() {
    let origin = Upstream::answering(|request| match request.target() {
        "/chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n".to_vec(),
        "/none" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/old" => b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi".to_vec(),
        _ => ok(&request.body),
    });
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    for path in ["/chunked", "/none", "/old", "/length"] {
        client.get(path);
        assert_eq!(client.post("/", "body").text(), "body");
    }

    assert_eq!((origin.requests(), origin.connections()), (8, 1));
}

#[test]
fn a_connection_the_origin_closed_while_idle_is_not_used() {
    let origin = Upstream::replying("hi");
    let proxy = Proxy::to([&origin]);
    assert_eq!(proxy.get("/").text(), "hi");

    origin.close_connections();
    eventually(|| origin.open_connections() == 0);

    // Even a POST finds a fresh one: the close was there to see.
    assert_eq!(Client::to(&proxy).post("/", "x").text(), "hi");
    assert_eq!((origin.requests(), origin.connections()), (2, 2));
}

/// Closes its first connection when a second request has come on it.
fn stale() -> Upstream {
    Upstream::raw(|talk| {
        talk.request();
        talk.send(ok("hi"));
        if talk.number == 0 {
            talk.request();
            return;
        }
        while talk.request().is_some() {
            talk.send(ok("hi"));
        }
    })
}

#[test]
fn a_get_that_meets_a_stale_connection_is_answered_all_the_same() {
    // RFC 9112 section 9.3.1.
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        let origin = stale();
        let proxy = Proxy::with(&format!("{ADMIN}{}[upstreams.api.retry]\nattempts = 1\n", api([&origin])));
        let mut client = Client::to(&proxy);
        assert_eq!(client.get("/").text(), "hi");

        assert_eq!(client.ask(method, "/", "").status, 200, "for {method}");

        assert_eq!((origin.requests(), origin.connections()), (3, 2), "for {method}");
        proxy.assert_counted("staunch_upstream_connections_stale_total{upstream=\"api\"}", 1.0);
        proxy.assert_counted("staunch_upstream_passive_failures_total{upstream=\"api\"}", 0.0);
    }
}

#[test]
fn a_put_that_meets_a_stale_connection_is_sent_again_with_its_body() {
    let origin = stale();
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);
    client.get("/");

    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");

    assert_eq!(client.response().status, 200);
    let bodies: Vec<_> = origin.received().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [&b""[..], b"hello", b"hello"]);
}

#[test]
fn a_post_that_met_a_stale_connection_is_not_sent_twice() {
    // The origin may have done what it asks for before it closed (RFC 9110 section 9.2.2).
    let origin = stale();
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);
    client.get("/");

    assert_eq!(client.post("/", "order").status, 502);

    let posts = origin.received().iter().filter(|request| request.line().starts_with("POST")).count();
    assert_eq!(posts, 1);
}

#[test]
fn an_origin_that_closes_after_each_response_is_no_problem() {
    for n in 1..4 {
        let origin = Upstream::closing_after(n);
        let proxy = Proxy::to([&origin]);
        let mut client = Client::to(&proxy);

        for _ in 0..12 {
            assert_eq!(client.get("/").text(), "closing");
        }
        assert_eq!(origin.requests(), 12);
    }
}

#[test]
fn a_connection_with_a_request_still_on_it_is_not_used_again() {
    // The origin answered before it had read everything: what it reads next is still the old body.
    let origin = Upstream::raw(|talk| {
        talk.head();
        talk.send(ok("early"));
        talk.stall();
    });
    let proxy = Proxy::to([&origin]);

    for n in 1..4 {
        let mut client = Client::to(&proxy);
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\npart");
        assert_eq!(client.response().text(), "early");
        assert_eq!(origin.connections(), n);
    }
}

#[test]
fn no_more_connections_are_kept_than_configured() {
    for (setting, connections) in [("keepalive = 0", 3), ("keepalive_requests = 1", 3), ("keepalive_requests = 2", 2)] {
        let origin = Upstream::replying("hi");
        let proxy = Proxy::with(&format!("{}{setting}\n", api([&origin])));

        for _ in 0..3 {
            proxy.get("/");
        }

        assert_eq!(origin.connections(), connections, "for {setting}");
    }
}

#[test]
fn requests_at_the_same_time_have_connections_of_their_own() {
    let origin = Upstream::raw(|talk| {
        while let Some(request) = talk.request() {
            talk.send(ok(format!("{}", request.connection)));
        }
    });
    let proxy = Proxy::with(&format!("{}keepalive = 2\n", api([&origin])));

    // Heads without their bodies hold a connection each.
    let mut clients: Vec<_> = (0..4).map(|_| Client::to(&proxy)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
        eventually(|| origin.requests() == n + 1);
    }
    for client in &mut clients {
        client.send("lo");
        client.response();
    }

    assert_eq!(origin.connections(), 4);
    eventually(|| origin.open_connections() == 2);
}
