//! What answers in an upstream's place.

use crate::harness::{ADMIN, Client, Log, Proxy, Upstream, api, ok};

/// One attempt, a short wait, and no endpoint ever taken out.
const SETTINGS: &str = "response_timeout = \"300ms\"\nconnect_timeout = \"300ms\"\n\
     [upstreams.api.passive]\nmax_fails = 0\n[upstreams.api.retry]\nattempts = 1\n";

/// The upstream `standby` with this endpoint.
fn standby(endpoint: &Upstream) -> String {
    format!("[upstreams.standby]\nendpoints = [\"{endpoint}\"]\n")
}

/// A proxy whose one route goes to `api` and falls back like this.
fn falling_back(endpoint: &Upstream, behind: &Upstream, fallback: &str, more: &str) -> Proxy {
    let upstreams = format!("{}{SETTINGS}{}", api([endpoint]), standby(behind));
    Proxy::with(&format!("{more}{ADMIN}[[routes]]\nupstream = \"api\"\nfallback = [{fallback}]\n{upstreams}"))
}

fn counted(on: &str) -> String {
    format!("staunch_http_fallbacks_total{{route=\"/\",on=\"{on}\"}}")
}

#[test]
fn another_upstream_answers_whatever_keeps_the_first_from_it() {
    let down = |text: &str| {
        text.replace("endpoints = [\"", "endpoints = [{ down = true, address = \"").replacen("\"]", "\" }]", 1)
    };
    for (name, endpoint, error, on) in [
        ("refused", Upstream::refusing(), "upstream_connect", "error"),
        ("closed", Upstream::raw(|talk| drop(talk.request())), "upstream_reset", "error"),
        ("garbage", Upstream::garbling(), "upstream_protocol", "error"),
        ("silent", Upstream::stalling(), "upstream_response_timeout", "timeout"),
        ("unreachable", Upstream::unreachable(), "upstream_connect_timeout", "timeout"),
        ("down", Upstream::replying("not me"), "no_endpoint", "no_endpoint"),
    ] {
        let (log, behind) = (Log::new(), Upstream::replying("standby"));
        let first = if name == "down" { down(&api([&endpoint])) } else { api([&endpoint]) };
        let proxy = Proxy::with(&format!(
            "{}{ADMIN}[[routes]]\nupstream = \"api\"\nfallback = [{{ upstream = \"standby\" }}]\n{first}{SETTINGS}{}",
            log.settings(),
            standby(&behind)
        ));

        let response = proxy.get("/a?b");

        assert_eq!((response.status, response.text()), (200, "standby"), "{name}");
        assert_eq!(behind.only_request().line(), "GET /a?b HTTP/1.1");
        let line = log.line();
        assert_eq!((&line["upstream"], &line["endpoint"]), (&"standby".into(), &behind.to_string().into()), "{name}");
        assert_eq!((&line["fallback"], &line["fallback_to"]), (&error.into(), &"upstream".into()), "{name}");
        assert_eq!((&line["status"], &line["error"]), (&200.into(), &serde_json::Value::Null), "{name}");
        let attempts = if name == "down" { 1 } else { 2 };
        assert_eq!(line["attempts"], attempts, "{name}");
        proxy.assert_counted(&counted(on), 1.0);
        if let Some(timeout) = error.strip_suffix("_timeout") {
            proxy.assert_counted(&format!("staunch_http_timeouts_total{{timeout=\"{timeout}\"}}"), 1.0);
        }
    }
}

#[test]
fn a_step_is_taken_for_what_it_names_only() {
    let rows = [
        ("error", Upstream::refusing(), 502),
        ("timeout", Upstream::stalling(), 504),
        ("502", Upstream::status(502), 502),
        ("5xx", Upstream::status(500), 500),
        ("404", Upstream::status(404), 404),
        ("500-503", Upstream::status(503), 503),
    ];
    let behind = Upstream::replying("");
    for (on, endpoint, status) in &rows {
        let answer = format!("{{ respond = {{ status = 203, body = \"sorry\" }}, on = [\"{on}\"] }}");
        let proxy = falling_back(endpoint, &behind, &answer, "");
        assert_eq!(proxy.get("/").text(), "sorry", "on {on}");

        let others = ["no_endpoint", "breaker_open", "overload", "429"];
        let answer = format!("{{ respond = {{ status = 203 }}, on = {others:?} }}");
        let proxy = falling_back(endpoint, &behind, &answer, "");
        assert_eq!(proxy.get("/").status, *status, "not on {on}");
    }
}

#[test]
fn an_endpoints_answer_is_its_own_affair_unless_its_status_is_named() {
    for status in [404, 500, 502, 503, 504] {
        let proxy =
            falling_back(&Upstream::status(status), &Upstream::replying("standby"), "{ upstream = \"standby\" }", "");

        assert_eq!(proxy.get("/").status, status);
    }
}

#[test]
fn a_status_that_is_named_is_the_proxys_too() {
    let fallback = "{ respond = { status = 200, body = \"sorry\" }, on = [\"502\"] }";
    let proxy = falling_back(&Upstream::refusing(), &Upstream::replying(""), fallback, "");

    assert_eq!(proxy.get("/").text(), "sorry");
}

#[test]
fn steps_are_tried_one_after_the_other() {
    let (log, folder) = (Log::new(), tempfile::tempdir().expect("a folder"));
    let page = folder.path().join("sorry.html");
    std::fs::write(&page, "<h1>Sorry</h1>").expect("a file");
    let fallback = format!("{{ upstream = \"standby\" }}, {{ file = \"{}\" }}", page.display());
    let proxy = falling_back(&Upstream::refusing(), &Upstream::garbling(), &fallback, &log.settings());
    let mut client = Client::to(&proxy);

    let response = client.get("/");

    assert_eq!((response.status, response.text()), (503, "<h1>Sorry</h1>"));
    assert_eq!(response.field("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(client.ask("HEAD", "/", "").field("content-length"), Some("14"));
    let line = &log.lines(2)[0];
    assert_eq!((&line["fallback"], &line["fallback_to"]), (&"upstream_protocol".into(), &"file".into()));
    assert_eq!((&line["attempts"], &line["upstream"]), (&2.into(), &"standby".into()));
    proxy.assert_counted(&counted("error"), 4.0);
}

#[test]
fn an_answer_has_the_status_the_fields_and_the_body_that_are_written() {
    let fallback = "{ respond = { status = 503, body = '{\"closed\":true}', \
         headers = { content-type = \"application/json\", retry-after = \"30\" } } }";
    let proxy = falling_back(&Upstream::refusing(), &Upstream::replying(""), fallback, "");
    let mut client = Client::to(&proxy);

    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!((response.status, response.text()), (503, "{\"closed\":true}"));
        assert_eq!(response.field("content-type"), Some("application/json"));
        assert_eq!(response.field("retry-after"), Some("30"));
    }
}

#[test]
fn a_request_that_may_have_been_processed_is_not_sent_to_another_upstream() {
    let rows = [
        ("closed", Upstream::raw(|talk| drop(talk.request()))),
        ("silent", Upstream::stalling()),
        ("a 503", Upstream::status(503)),
    ];
    for (name, endpoint) in &rows {
        let behind = Upstream::replying("standby");
        let fallback = "{ upstream = \"standby\", on = [\"error\", \"timeout\", \"503\"] }, \
             { respond = { status = 500, body = \"sorry\" }, on = [\"error\", \"timeout\", \"503\"] }";
        let proxy = falling_back(endpoint, &behind, fallback, "");
        let mut client = Client::to(&proxy);

        assert_eq!(client.post("/", "order").text(), "sorry", "{name}");

        assert_eq!((endpoint.requests(), behind.requests()), (1, 0), "{name}");
        assert_eq!(client.ask("PUT", "/", "Content-Length: 0\r\n").text(), "standby", "{name}: idempotent");
    }
}

#[test]
fn a_request_that_reached_nobody_goes_on_with_its_body() {
    let behind = Upstream::echo();
    let proxy = falling_back(&Upstream::refusing(), &behind, "{ upstream = \"standby\" }", "");
    let mut client = Client::to(&proxy);

    assert_eq!(client.post("/", "order").text(), "order");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nord\r\n2\r\ner\r\n0\r\n\r\n");
    assert_eq!(client.response().text(), "order");
}

#[test]
fn a_body_that_is_not_kept_is_not_sent_again() {
    let behind = Upstream::echo();
    let settings = "replay_buffer = \"4B\"\n";
    let upstreams = format!("{}{SETTINGS}{settings}{}", api([&Upstream::status(503)]), standby(&behind));
    let fallback = "{ upstream = \"standby\", on = [\"503\"] }, { respond = { status = 500 }, on = [\"503\"] }";
    let proxy = Proxy::with(&format!("[[routes]]\nupstream = \"api\"\nfallback = [{fallback}]\n{upstreams}"));
    let mut client = Client::to(&proxy);

    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nfour");
    assert_eq!(client.response().text(), "four");
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfives");
    assert_eq!(client.response().status, 500);
}

#[test]
fn no_other_upstream_is_asked_once_the_routes_time_is_up() {
    let behind = Upstream::replying("standby");
    let upstreams = format!("{}{}", api([&Upstream::stalling()]), standby(&behind));
    let proxy = Proxy::with(&format!(
        "{ADMIN}[[routes]]\nupstream = \"api\"\ntimeout = \"300ms\"\n\
         fallback = [{{ upstream = \"standby\" }}, {{ respond = {{ status = 500, body = \"late\" }} }}]\n{upstreams}"
    ));

    assert_eq!(proxy.get("/").text(), "late");

    assert_eq!(behind.requests(), 0);
    proxy.assert_counted("staunch_http_timeouts_total{timeout=\"route\"}", 1.0);
}

#[test]
fn retries_come_first() {
    let (one, two, behind) = (Upstream::refusing(), Upstream::replying("two"), Upstream::replying("standby"));
    let upstreams = format!("{}{}", api([&one, &two]), standby(&behind));
    let proxy =
        Proxy::with(&format!("[[routes]]\nupstream = \"api\"\nfallback = [{{ upstream = \"standby\" }}]\n{upstreams}"));

    for _ in 0..4 {
        assert_eq!(proxy.get("/").text(), "two");
    }
    assert_eq!(behind.requests(), 0);
}

#[test]
fn the_connection_of_an_answer_that_is_replaced_is_used_again() {
    let endpoint = Upstream::saying("HTTP/1.1 502 Bad\r\nContent-Length: 6\r\n\r\nbroken");
    let fallback = "{ respond = { status = 500 }, on = [\"502\"] }";
    let proxy = falling_back(&endpoint, &Upstream::replying(""), fallback, "");

    for _ in 0..3 {
        assert_eq!(proxy.get("/").status, 500);
    }

    assert_eq!((endpoint.requests(), endpoint.connections()), (3, 1));
}

/// Answers 503 as soon as it has a request's head, and reads on.
fn answering_early() -> Upstream {
    Upstream::raw(|talk| {
        while talk.head().is_some() {
            if !talk.send("HTTP/1.1 503 Early\r\nContent-Length: 0\r\n\r\n") {
                return;
            }
        }
    })
}

#[test]
fn a_connection_with_half_a_request_on_it_is_not_used_again() {
    // The endpoint would take the next request for the rest of the body (RFC 9112 section 9.3).
    let endpoint = answering_early();
    let fallback = "{ respond = { status = 500 }, on = [\"503\"] }";
    let proxy = falling_back(&endpoint, &Upstream::replying(""), fallback, "");
    let mut client = Client::to(&proxy);
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf");
    assert_eq!(client.response().status, 500);

    assert_eq!(proxy.get("/").status, 500);

    assert_eq!(endpoint.connections(), 2);
}

#[test]
fn a_response_that_turns_out_broken_at_once_is_no_response() {
    let endpoint = Upstream::saying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n");
    let proxy = falling_back(&endpoint, &Upstream::replying("standby"), "{ upstream = \"standby\" }", "");

    assert_eq!(proxy.get("/").text(), "standby");
}

#[test]
fn shares_of_a_split_fall_back_too_and_responses_are_rewritten() {
    let behind = Upstream::replying("standby");
    let upstreams = format!("{}{SETTINGS}{}", api([&Upstream::refusing()]), standby(&behind));
    let proxy = Proxy::with(&format!(
        "[[routes]]\nsplit = [{{ upstream = \"api\" }}]\nfallback = [{{ upstream = \"standby\" }}]\n\
         rewrite = [{{ plugin = \"set-headers\", config = {{ response = {{ set = {{ x-seen = \"yes\" }} }} }} }}]\n{upstreams}"
    ));

    let response = proxy.get("/");

    assert_eq!((response.text(), response.field("x-seen")), ("standby", Some("yes")));
}

#[test]
fn a_client_that_went_away_is_nobodys_failure() {
    let (endpoint, behind) = (Upstream::stalling(), Upstream::replying("standby"));
    let proxy = falling_back(&endpoint, &behind, "{ upstream = \"standby\" }", "");
    let mut client = Client::to(&proxy);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    crate::harness::eventually(|| endpoint.requests() == 1);
    drop(client);

    crate::harness::eventually(|| endpoint.open_connections() == 0);
    assert_eq!(behind.requests(), 0);
    assert_eq!(Client::to(&Proxy::to([&Upstream::saying(ok("up"))])).get("/").text(), "up");
}
