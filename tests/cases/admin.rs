//! The operator's window.

use std::collections::HashSet;

use serde_json::Value;

use crate::harness::{ADMIN, Client, Proxy, Upstream, api};

fn watched<const N: usize>(endpoints: [&Upstream; N]) -> Proxy {
    Proxy::with(&format!("{ADMIN}{}", api(endpoints)))
}

fn json(proxy: &Proxy, path: &str) -> Value {
    let response = proxy.admin(path, "");
    assert_eq!((response.status, response.field("content-type")), (200, Some("application/json")));
    serde_json::from_slice(&response.body).expect("JSON")
}

#[test]
fn it_tells_that_it_lives_and_is_ready() {
    let proxy = watched([&Upstream::replying("")]);

    for path in ["/healthz", "/readyz"] {
        assert_eq!(proxy.admin(path, "").status, 200, "for {path}");
    }
}

#[test]
fn what_is_not_there_is_an_error_in_json() {
    let proxy = watched([&Upstream::replying("")]);
    let ask = |method, path| Client::connect(proxy.admin_address()).ask(method, path, "");

    for (method, path, status) in [("GET", "/nothing", 404), ("DELETE", "/api/upstreams", 405)] {
        let response = ask(method, path);
        assert_eq!(response.status, status, "for {method} {path}");
        let body: Value = serde_json::from_slice(&response.body).expect("JSON");
        assert!(body["error"].is_string(), "{body}");
    }
}

#[test]
fn the_dashboard_is_a_page() {
    let origin = Upstream::replying("");
    let proxy = watched([&origin]);

    let response = proxy.admin("/", "");

    assert!(response.field("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    assert!(response.text().contains(&origin.to_string()), "{}", response.text());
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let proxy = watched([&Upstream::replying("hello"), &Upstream::refusing()]);
    for _ in 0..10 {
        assert_eq!(proxy.get("/").status, 200);
    }

    let response = proxy.admin("/metrics", "");

    assert_eq!(response.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut families: Vec<&str> = Vec::new();
    let mut samples = HashSet::new();
    for line in response.text().lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a kind");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(!families.contains(&name), "{name} twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            families.push(name);
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').expect("a sample");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(samples.insert(sample), "{sample} twice");
            let family = families.last().expect("a family before its samples");
            let name = sample.split('{').next().expect("a name");
            let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{name} under {family}"));
            assert!(["", "_bucket", "_sum", "_count"].contains(&suffix), "{line}");
        }
    }
    proxy.assert_counted("staunch_http_requests_total{route=\"/\",status=\"2xx\"}", 10.0);
    proxy.assert_counted("staunch_http_sent_bytes_total{route=\"/\"}", 50.0);
    proxy.assert_counted("staunch_upstream_requests_total{upstream=\"api\",outcome=\"answered\"}", 10.0);
    proxy.assert_counted("staunch_upstream_attempts_total{upstream=\"api\",outcome=\"connect\"}", 1.0);
    proxy.assert_counted("staunch_upstream_retries_total{upstream=\"api\",answer=\"granted\"}", 1.0);
}

#[test]
fn upstreams_are_told_with_their_endpoints() {
    let (good, bad, down) = (Upstream::replying(""), Upstream::refusing(), Upstream::replying(""));
    let proxy = Proxy::with(&format!(
        "{ADMIN}[upstreams.api]\nendpoints = [{{ address = \"{good}\", weight = 5, zone = \"b\" }}, \"{bad}\", \
         {{ address = \"{down}\", down = true }}]\n"
    ));
    for _ in 0..10 {
        assert_eq!(proxy.get("/").status, 200);
    }

    let upstreams = json(&proxy, "/api/upstreams");

    let api = &upstreams[0];
    assert_eq!((&api["name"], &api["balance"]), (&"api".into(), &"round-robin".into()));
    let state = |n: usize| api["endpoints"][n]["state"].as_str().expect("a state");
    assert_eq!([state(0), state(1), state(2)], ["up", "unavailable", "down"]);
    let first = &api["endpoints"][0];
    assert_eq!(first["address"], good.to_string());
    assert_eq!((&first["weight"], &first["zone"], &first["active"]), (&5.into(), &"b".into(), &0.into()));
    assert!(api["endpoints"][1]["reason"].is_string() && api["endpoints"][1]["failures"] == 1);
}

#[test]
fn plugins_are_told_with_their_uses() {
    let proxy = watched([&Upstream::replying(""), &Upstream::replying("")]);
    for _ in 0..10 {
        proxy.get("/");
    }

    let plugins = json(&proxy, "/api/plugins");

    let plugins = plugins.as_array().expect("a list");
    let of = |kind: &str| plugins.iter().find(|plugin| plugin["kind"] == kind).expect("one of this kind");
    let balancer = of("balancer");
    assert_eq!((&balancer["plugin"], &balancer["source"]), (&"round-robin".into(), &"built-in".into()));
    assert_eq!((&balancer["calls"], &balancer["fallbacks"]), (&10.into(), &0.into()));
    assert!(balancer["digest"].as_str().is_some_and(|digest| digest.len() >= 64));
    assert!(balancer["use"].as_str().is_some_and(|used| used.contains("api")));
    assert_eq!((&of("retry")["plugin"], &of("retry")["calls"]), (&"standard".into(), &0.into()));
}

#[test]
fn a_token_is_asked_for_where_one_is_configured() {
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"sesame\"\n";
    let proxy = Proxy::with(&format!("{admin}{}", api([&Upstream::replying("")])));

    for (path, lines, status) in [
        ("/metrics", "", 401),
        ("/metrics", "Authorization: Bearer wrong\r\n", 401),
        ("/metrics", "Authorization: Basic sesame\r\n", 401),
        ("/metrics", "Authorization: Bearer sesame\r\n", 200),
        ("/api/upstreams", "authorization: bearer sesame\r\n", 200),
        ("/api/plugins", "", 401),
        ("/", "", 401),
        ("/nothing", "", 401),
        ("/healthz", "", 200),
        ("/readyz", "", 200),
    ] {
        assert_eq!(proxy.admin(path, lines).status, status, "for {path} with {lines:?}");
    }
}

#[test]
fn there_is_no_window_where_none_is_configured() {
    let proxy = Proxy::to([&Upstream::replying("origin")]);

    assert_eq!(proxy.get("/metrics").text(), "origin");
}
