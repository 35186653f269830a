//! A request goes where its most specific route says.

use crate::harness::{Client, Proxy, Upstream, api};

/// Routes that answer with their own number, from 1.
fn numbered(routes: &[&str]) -> Proxy {
    let route = |(n, route): (usize, &&str)| format!("[[routes]]\n{route}\nrespond = {{ body = \"{}\" }}\n", n + 1);
    Proxy::with(&routes.iter().enumerate().map(route).collect::<String>())
}

#[track_caller]
fn assert_routes(proxy: &Proxy, rows: &[(&str, &str, &str, &str)]) {
    let mut client = Client::to(proxy);
    for (method, host, path, route) in rows {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let response = client.response();
        let found = if response.status == 404 { "404" } else { response.text() };
        assert_eq!(found, *route, "for {method} {host}{path}");
    }
}

#[test]
fn the_longest_prefix_wins_at_the_boundary_of_a_segment() {
    let proxy = numbered(&["path = \"/\"", "path = \"/api\"", "path = \"/api/v2/\"", "path_exact = \"/api/v2/x\""]);

    assert_routes(
        &proxy,
        &[
            ("GET", "a", "/", "1"),
            ("GET", "a", "/apix", "1"),
            ("GET", "a", "/api", "2"),
            ("GET", "a", "/api?x=/v2", "2"),
            ("GET", "a", "/api/", "2"),
            ("GET", "a", "/api/v2", "3"),
            ("GET", "a", "/api/v2/y/z", "3"),
            ("GET", "a", "/api/v2/x", "4"),
            ("GET", "a", "/api/v2/x?q", "4"),
            ("GET", "a", "/api/v2/x/", "3"),
            // Nothing is decoded or resolved: the endpoint gets these very bytes.
            ("GET", "a", "/%61pi", "1"),
            ("GET", "a", "//api", "1"),
            ("GET", "a", "/API", "1"),
        ],
    );
}

#[test]
fn a_host_comes_before_a_path() {
    let proxy = numbered(&[
        "path = \"/long/path\"",
        "hosts = [\"shop.example.com\"]",
        "hosts = [\"*.example.com\"]\npath = \"/a\"",
        "hosts = [\"*.eu.example.com\", \"other.test\"]",
    ]);

    assert_routes(
        &proxy,
        &[
            ("GET", "shop.example.com", "/long/path", "2"),
            ("GET", "SHOP.Example.com:8080", "/", "2"),
            ("GET", "shop.example.com.", "/", "2"),
            ("GET", "x.example.com", "/a", "3"),
            ("GET", "x.y.example.com", "/a", "3"),
            ("GET", "example.com", "/a", "404"),
            ("GET", "x.eu.example.com", "/a", "4"),
            ("GET", "other.test", "/", "4"),
            ("GET", "x.example.com", "/long/path", "1"),
            ("GET", "another.test", "/", "404"),
            ("GET", "[::1]:80", "/long/path/x", "1"),
        ],
    );
}

#[test]
fn methods_and_headers_make_a_route_more_specific() {
    let proxy = numbered(&[
        "path = \"/\"",
        "path = \"/\"\nmethods = [\"POST\", \"PUT\"]",
        "path = \"/\"\nheaders = { x-beta = \"1\" }",
        "path = \"/\"\nmethods = [\"POST\"]\nheaders = { x-beta = \"1\" }",
    ]);
    let mut client = Client::to(&proxy);

    for (method, lines, route) in [
        ("GET", "", "1"),
        ("PUT", "", "2"),
        ("GET", "X-Beta: 1\r\n", "3"),
        ("GET", "X-Beta: 2\r\n", "1"),
        ("POST", "X-Beta: 1\r\n", "4"),
        ("POST", "X-Beta: 2\r\nX-Beta: 1\r\n", "4"),
    ] {
        assert_eq!(client.ask(method, "/", lines).text(), route, "for {method} {lines:?}");
    }
}

#[test]
fn a_route_may_be_a_regular_expression() {
    let proxy = numbered(&["path = \"/v1/\"", "path_regex = \"^/v[0-9]+/\"", "path_exact = \"/v1/exact\""]);

    assert_routes(
        &proxy,
        &[
            ("GET", "a", "/v1/x", "2"),
            ("GET", "a", "/v22/", "2"),
            ("GET", "a", "/v1/exact", "3"),
            ("GET", "a", "/v1", "1"),
        ],
    );
}

#[test]
fn a_request_that_no_route_wants_gets_a_404() {
    let origin = Upstream::replying("");
    let proxy = Proxy::with(&format!("{}[[routes]]\npath = \"/api/\"\nupstream = \"api\"\n", api([&origin])));
    let mut client = Client::to(&proxy);

    assert_eq!(client.get("/other").status, 404);
    assert_eq!(client.get("/api/").status, 200, "on the same connection");
    assert_eq!(client.post("/other", "body").status, 404);
    assert_eq!(client.get("/api/").status, 200);
    assert_eq!(origin.requests(), 2);
}

#[test]
fn a_route_may_answer_itself() {
    let proxy = Proxy::with(
        "[[routes]]\nrespond = { status = 503, body = \"closed\", headers = { retry-after = \"60\", x-two = [\"1\", \"2\"] } }\n",
    );
    let mut client = Client::to(&proxy);

    let response = client.get("/");
    assert_eq!((response.status, response.text(), response.field("retry-after")), (503, "closed", Some("60")));
    assert_eq!(response.head.all("x-two"), ["1", "2"]);
    let head = client.ask("HEAD", "/", "");
    assert_eq!((head.status, head.field("content-length"), head.body.len()), (503, Some("6"), 0));
    assert_eq!(client.post("/", "a body that nobody reads").status, 503);
    assert_eq!(client.get("/").status, 503);
}

#[test]
fn a_route_may_redirect() {
    let proxy = Proxy::with(
        "[[routes]]\nredirect = { to = \"https://$host$request_uri\" }\n\
         [[routes]]\npath = \"/old\"\nredirect = { to = \"/new?$query\", status = 302 }\n",
    );
    let mut client = Client::to(&proxy);

    for (path, status, location) in
        [("/a/b?c=d", 308, "https://test/a/b?c=d"), ("/old?x=1", 302, "/new?x=1"), ("/", 308, "https://test/")]
    {
        let response = client.get(path);
        assert_eq!((response.status, response.field("location")), (status, Some(location)), "for {path}");
    }
}

#[test]
fn a_split_sends_each_upstream_its_share() {
    let [old, new, none] = ["old", "new", "none"].map(Upstream::replying);
    let proxy = Proxy::with(&format!(
        "[upstreams.old]\nendpoints = [\"{old}\"]\n[upstreams.new]\nendpoints = [\"{new}\"]\n\
         [upstreams.none]\nendpoints = [\"{none}\"]\n[[routes]]\nsplit = [{{ upstream = \"old\", weight = 70 }}, \
         {{ upstream = \"new\", weight = 30 }}, {{ upstream = \"none\", weight = 0 }}]\n"
    ));
    let mut client = Client::to(&proxy);

    for _ in 0..400 {
        client.get("/");
    }

    // 120 are expected, with a deviation of 9: six of those is beyond all chance.
    assert!((66..=174).contains(&new.requests()), "{} of 400", new.requests());
    assert_eq!((old.requests() + new.requests(), none.requests()), (400, 0));
}
