//! What concerns one connection goes no further, and what an endpoint must know about the client is added.

use crate::harness::{Client, Proxy, Upstream, ok};

#[test]
fn a_requests_fields_for_its_connection_go_no_further() {
    // RFC 9110 section 7.6.1, with the fields that older servers still treat so.
    let origin = Upstream::replying("");
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    client.ask(
        "GET",
        "/",
        "Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nx-secret: 2\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\nProxy-Authorization: Basic eDp5\r\n\
         connection: x-other\r\nX-Other: 3\r\nX-Kept: 4\r\n",
    );

    let request = origin.only_request();
    for name in
        ["connection", "x-secret", "keep-alive", "proxy-connection", "te", "upgrade", "proxy-authorization", "x-other"]
    {
        assert_eq!(request.field(name), None, "{name}");
    }
    assert_eq!(request.field("x-kept"), Some("4"));
}

#[test]
fn a_responses_fields_for_its_connection_go_no_further() {
    let origin = Upstream::saying(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\nX-Kept: 4\r\nContent-Length: 0\r\n\r\n",
    );
    let proxy = Proxy::to([&origin]);

    let response = proxy.get("/");

    for name in ["connection", "x-secret", "keep-alive", "proxy-connection", "upgrade", "proxy-authenticate"] {
        assert_eq!(response.field(name), None, "{name}");
    }
    assert_eq!(response.field("x-kept"), Some("4"));
}

#[test]
fn an_origin_that_closes_does_not_close_the_client() {
    let origin = Upstream::raw(|talk| {
        talk.request();
        talk.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
    });
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!((response.text(), response.field("connection")), ("hi", None));
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn a_connection_option_cannot_remove_what_the_proxy_adds() {
    let origin = Upstream::replying("");
    let proxy = Proxy::to([&origin]);

    Client::to(&proxy).ask("GET", "/", "Connection: close, x-forwarded-for, host, x-forwarded-proto\r\n");

    let request = origin.only_request();
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!((request.field("x-forwarded-proto"), request.field("host")), (Some("http"), Some("test")));
}

#[test]
fn an_endpoint_learns_who_asked_and_for_what() {
    let origin = Upstream::replying("");
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    for (lines, chain) in [
        ("", "127.0.0.1"),
        ("X-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9, 127.0.0.1"),
        ("x-forwarded-for: 198.51.100.1\r\nX-Forwarded-For: 203.0.113.9\r\n", "198.51.100.1, 203.0.113.9, 127.0.0.1"),
    ] {
        client.ask("GET", "/", &format!("{lines}X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n"));

        let request = origin.received().pop().expect("a request");
        assert_eq!(request.head.all("x-forwarded-for"), [chain], "for {lines:?}");
        // What a client claims of the connection to us is not believed.
        assert_eq!(request.head.all("x-forwarded-proto"), ["http"]);
        assert_eq!(request.head.all("x-forwarded-host"), ["test"]);
        assert_eq!(request.head.all("host"), ["test"]);
    }
}

#[test]
fn a_request_without_a_host_gets_the_endpoints() {
    // HTTP/1.0 may leave it out; the HTTP/1.1 that is spoken to endpoints may not (RFC 9112 section 3.2).
    let origin = Upstream::replying("");
    let proxy = Proxy::to([&origin]);
    let mut client = Client::to(&proxy);

    client.send("GET / HTTP/1.0\r\n\r\n");
    client.response();

    let request = origin.only_request();
    assert_eq!((request.head.all("host"), request.field("x-forwarded-host")), (vec![&*origin.to_string()], None));
}

#[test]
fn a_response_without_a_date_gets_one() {
    // RFC 9110 section 6.6.1.
    let proxy = Proxy::to([&Upstream::answering(|request| match request.target() {
        "/dated" => b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => ok(""),
    })]);

    assert_eq!(proxy.get("/dated").head.all("date"), ["Sun, 06 Nov 1994 08:49:37 GMT"]);
    let date = proxy.get("/").field("date").map(str::to_owned).expect("a date");
    // Like `Sun, 06 Nov 1994 08:49:37 GMT`.
    assert!(date.len() == 29 && date.ends_with(" GMT") && date.as_bytes()[3] == b',', "{date}");
}

#[test]
fn a_response_of_the_proxys_own_is_a_whole_one() {
    let proxy = Proxy::to([&Upstream::refusing()]);
    let mut client = Client::to(&proxy);

    let response = client.get("/");

    assert_eq!((response.status, response.text()), (502, "502 Bad Gateway\n"));
    assert_eq!(response.field("content-length"), Some("16"));
    assert!(response.field("date").is_some() && response.field("content-type").is_some());
    let head = client.ask("HEAD", "/", "");
    assert_eq!((head.status, head.field("content-length")), (502, Some("16")));
    assert_eq!(client.get("/").status, 502, "an endpoint's fault does not cost the client its connection");
}
