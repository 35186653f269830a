//! Closing on purpose, and opening again.

use serde_json::{Value, json};

use crate::harness::{ADMIN, Client, Log, Proxy, Response, Upstream, api};

const ROUTES: &str = "[[routes]]\nname = \"shop\"\npath = \"/shop\"\nupstream = \"api\"\n\
     [[routes]]\nname = \"rest\"\nupstream = \"api\"\n";

fn put(proxy: &Proxy, body: &str, lines: &str) -> Response {
    let mut client = Client::connect(proxy.admin_address());
    let head = format!("PUT /api/maintenance HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: {}\r\n\r\n", body.len());
    client.send(head + body);
    client.response()
}

/// Switches, and answers how everything stands then.
#[track_caller]
fn switch(proxy: &Proxy, body: &Value) -> Value {
    let response = put(proxy, &body.to_string(), "");
    assert_eq!(response.status, 200, "{}", response.text());
    serde_json::from_slice(&response.body).expect("JSON")
}

fn statuses(proxy: &Proxy) -> [u16; 3] {
    ["/shop", "/", "/nowhere"].map(|path| proxy.get(path).status)
}

#[test]
fn a_route_is_closed_and_opened_while_the_proxy_runs() {
    let (log, origin) = (Log::new(), Upstream::replying("open"));
    let proxy = Proxy::with(&format!("{}{ADMIN}{ROUTES}{}", log.settings(), api([&origin])));
    let mut client = Client::to(&proxy);
    assert_eq!(client.get("/shop").text(), "open");

    let standing = switch(&proxy, &json!({ "on": true, "route": "shop", "retry_after": "5m" }));

    let closed = standing["routes"].as_array().expect("routes").iter().find(|route| route["route"] == "shop");
    let closed = closed.expect("the route");
    assert_eq!((&closed["on"], &closed["by"], &closed["retry_after"]), (&true.into(), &"admin".into(), &300.into()));
    assert!(closed["since"].is_string(), "{closed}");
    let response = client.get("/shop");
    assert_eq!((response.status, response.text()), (503, "503 Service Unavailable\n"));
    assert_eq!((response.field("retry-after"), response.field("connection")), (Some("300"), None));
    assert_eq!(client.get("/").text(), "open", "the connection and the other route go on");
    assert_eq!(origin.requests(), 2);
    let lines = log.lines(3);
    assert_eq!((&lines[1]["error"], &lines[1]["route"]), (&"maintenance".into(), &"shop".into()));
    assert_eq!(proxy.metric("staunch_http_maintenance{route=\"shop\"}"), 1.0);

    switch(&proxy, &json!({ "on": false, "route": "shop" }));
    assert_eq!(client.get("/shop").text(), "open");
    assert_eq!(proxy.metric("staunch_http_maintenance{route=\"shop\"}"), 0.0);
}

#[test]
fn everything_is_closed_at_once() {
    let proxy = Proxy::with(&format!(
        "{ADMIN}{}{}",
        ROUTES.replace("\"rest\"", "\"rest\"\npath = \"/\""),
        api([&Upstream::replying("")])
    ));

    assert_eq!(switch(&proxy, &json!({ "on": true, "retry_after": 7 }))["on"], true);
    assert_eq!(statuses(&proxy), [503; 3]);
    assert_eq!(proxy.get("/").field("retry-after"), Some("7"));
    assert_eq!(proxy.metric("staunch_http_maintenance{route=\"\"}"), 1.0);

    assert_eq!(switch(&proxy, &json!({ "on": false }))["on"], false);
    assert_eq!(statuses(&proxy), [200; 3]);
}

#[test]
fn what_is_configured_holds_until_somebody_says_otherwise() {
    let routes = ROUTES.replacen("upstream", "maintenance = true\nupstream", 1);
    let proxy = Proxy::with(&format!("{ADMIN}{routes}{}", api([&Upstream::replying("")])));
    assert_eq!(statuses(&proxy), [503, 200, 200]);
    assert_eq!(proxy.get("/shop").field("retry-after"), Some("60"));

    switch(&proxy, &json!({ "on": false, "route": "shop" }));
    assert_eq!(statuses(&proxy), [200; 3]);

    let standing = switch(&proxy, &json!({ "on": null, "route": "shop" }));
    assert_eq!(standing["routes"][1]["by"], "configuration", "{standing}");
    assert_eq!(statuses(&proxy), [503, 200, 200]);
}

#[test]
fn what_is_answered_can_be_configured() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("closed.html");
    std::fs::write(&page, "<h1>Back soon</h1>").expect("a file");
    for (maintenance, status, body, retry_after) in [
        ("true".to_owned(), 503, "page for 503", Some("60")),
        ("{ retry_after = \"2m\" }".to_owned(), 503, "page for 503", Some("120")),
        ("{ respond = { status = 200, body = \"later\" }, retry_after = false }".to_owned(), 200, "later", None),
        (format!("{{ file = \"{}\" }}", page.display()), 503, "<h1>Back soon</h1>", Some("60")),
    ] {
        let server = format!(
            "[server]\nmaintenance = {maintenance}\nerror_pages = {{ \"503\" = {{ body = \"page for 503\" }} }}\n"
        );
        let proxy = Proxy::with(&format!("{server}{}", api([&Upstream::replying("")])));

        let response = proxy.get("/");

        assert_eq!((response.status, response.text()), (status, body), "with {maintenance}");
        assert_eq!(response.field("retry-after"), retry_after, "with {maintenance}");
    }
}

#[test]
fn some_clients_get_through() {
    for (allow, status) in [("127.0.0.0/8", 200), ("10.0.0.0/8", 503)] {
        let routes = format!("[[routes]]\nupstream = \"api\"\nmaintenance = {{ allow = [\"{allow}\"] }}\n");
        let proxy = Proxy::with(&format!("{routes}{}", api([&Upstream::replying("")])));

        assert_eq!(proxy.get("/").status, status, "with {allow}");
    }
}

#[test]
fn a_switch_that_is_not_there_or_not_understood_switches_nothing() {
    let proxy = Proxy::with(&format!("{ADMIN}{ROUTES}{}", api([&Upstream::replying("")])));

    for (body, lines, status) in [
        ("{\"on\":true,\"route\":\"nowhere\"}", "", 404),
        ("{\"on\":true}", "Origin: http://a\r\n", 403),
        ("{}", "", 400),
        ("{\"on\":1}", "", 400),
        ("{\"on\":true,\"rout\":\"shop\"}", "", 400),
        ("{\"on\":true,\"retry_after\":\"soon\"}", "", 400),
        ("{\"on\":true,\"retry_after\":-1}", "", 400),
        ("{\"on\":true,\"retry_after\":99999999999}", "", 400),
        ("", "", 400),
    ] {
        let response = put(&proxy, body, lines);
        assert_eq!(response.status, status, "for {body}");
        let told: Value = serde_json::from_slice(&response.body).expect("JSON");
        assert!(told["error"].is_string(), "{told}");
    }
    assert_eq!(statuses(&proxy), [200; 3]);
    let standing: Value = serde_json::from_slice(&proxy.admin("/api/maintenance", "").body).expect("JSON");
    let routes = standing["routes"].as_array().expect("routes");
    assert_eq!((standing["on"] == false, routes.len()), (true, 2));
    assert!(routes.iter().all(|route| route["on"] == false && route["since"].is_null()), "{standing}");
}

#[test]
fn a_token_guards_the_switch() {
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"sesame\"\n";
    let proxy = Proxy::with(&format!("{admin}{ROUTES}{}", api([&Upstream::replying("")])));

    assert_eq!(put(&proxy, "{\"on\":true}", "").status, 401);
    assert_eq!(statuses(&proxy), [200; 3]);
    assert_eq!(put(&proxy, "{\"on\":true}", "Authorization: Bearer sesame\r\n").status, 200);
    assert_eq!(statuses(&proxy), [503; 3]);
}

#[test]
fn what_was_switched_stays_so_over_a_reload() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let origin = Upstream::replying("open");
    let text = format!("{ADMIN}{ROUTES}{}", api([&origin]));
    let proxy = Proxy::start(&text, Some(&file)).expect("it starts");
    switch(&proxy, &json!({ "on": true, "route": "shop" }));
    assert_eq!(statuses(&proxy), [503, 200, 200]);

    let more = "[[routes]]\nname = \"new\"\npath = \"/nowhere\"\nmaintenance = true\nupstream = \"api\"\n";
    proxy.reload(&file, &format!("{text}{more}"));
    assert_eq!(statuses(&proxy), [503, 200, 503]);

    // By hand, whatever is configured.
    switch(&proxy, &json!({ "on": false, "route": "shop" }));
    proxy.reload(&file, &text.replacen("upstream", "maintenance = true\nupstream", 1));
    assert_eq!(statuses(&proxy), [200; 3]);
    switch(&proxy, &json!({ "on": null, "route": "shop" }));
    assert_eq!(statuses(&proxy), [503, 200, 200]);
    proxy.reload(&file, &text);
    assert_eq!(statuses(&proxy), [200; 3]);
}
