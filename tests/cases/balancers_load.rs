//! The built-in balancers that look at loads, and those that leave a part of the decision to another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{ADMIN, Client, Proxy, Response, Upstream, eventually, ok};

/// A proxy with one worker that balances these endpoints so.
fn balanced<const N: usize>(balance: &str, endpoints: [&str; N]) -> Proxy {
    Proxy::with(&text(balance, endpoints))
}

fn text<const N: usize>(balance: &str, endpoints: [&str; N]) -> String {
    format!(
        "{ADMIN}[upstreams.api]\nbalance = {balance}\nendpoints = [{}]\n\
         [upstreams.api.passive]\nfail_timeout = \"60s\"\n",
        endpoints.join(", ")
    )
}

/// An endpoint of a configuration, with further keys.
fn endpoint(upstream: &Upstream, keys: &str) -> String {
    format!("{{ address = \"{upstream}\", {keys} }}")
}

fn plain(upstream: &Upstream) -> String {
    format!("\"{upstream}\"")
}

/// Answers with its name, but for requests to `/hold`, which stay.
fn holding(name: &'static str) -> Upstream {
    Upstream::raw(move |talk| {
        while let Some(request) = talk.request() {
            if request.target() == "/hold" {
                return talk.stall();
            }
            talk.send(ok(name));
        }
    })
}

/// Takes its time for each answer.
fn slow(name: &'static str, time: Duration) -> Upstream {
    Upstream::raw(move |talk| {
        while talk.request().is_some() {
            talk.pause(time);
            talk.send(ok(name));
        }
    })
}

/// Sends a request that stays, and waits until it has come to this endpoint.
fn hold(proxy: &Proxy, at: &Upstream) -> Client {
    let before = at.requests();
    let mut client = Client::to(proxy);
    client.send("GET /hold HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually(|| at.requests() > before);
    client
}

/// The answers to so many requests on one connection.
fn answers(proxy: &Proxy, count: usize) -> String {
    let mut client = Client::to(proxy);
    (0..count).map(|_| client.get("/").text().to_owned()).collect()
}

/// Checks that plugins answered every call themselves.
#[track_caller]
fn assert_no_fallback(proxy: &Proxy) {
    let plugins: Vec<Value> = serde_json::from_slice(&proxy.admin("/api/plugins", "").body).expect("JSON");
    for plugin in plugins {
        assert_eq!(plugin["fallbacks"], 0, "{plugin}");
    }
}

#[test]
fn random_gives_each_endpoint_the_share_of_its_weight() {
    let [a, b] = ["A", "B"].map(Upstream::replying);
    let proxy = balanced("\"random\"", [&endpoint(&a, "weight = 3"), &plain(&b)]);

    let order = answers(&proxy, 400);

    // Seven standard deviations.
    assert!((240..=360).contains(&a.requests()), "{order}");
    assert!(order.contains("AAAA") && order.contains("BB"), "no turns are kept: {order}");
    assert_no_fallback(&proxy);
}

#[test]
fn a_request_that_stays_makes_least_connections_choose_the_other() {
    let [a, b] = ["A", "B"].map(holding);
    let proxy = balanced("\"least-connections\"", [&plain(&a), &plain(&b)]);
    assert_eq!(answers(&proxy, 4), "ABAB", "among idle ones it goes in turn");

    let held = hold(&proxy, &a);
    assert_eq!(answers(&proxy, 10), "BBBBBBBBBB");

    drop(held);
    eventually(|| answers(&proxy, 1) == "A");
    assert_no_fallback(&proxy);
}

#[test]
fn least_connections_counts_the_requests_of_every_worker() {
    let [a, b] = ["A", "B"].map(holding);
    let endpoints = [&*plain(&a), &*endpoint(&b, "weight = 20")];
    let proxy = Proxy::with(&format!("[server]\nworkers = 2\n{}", text("\"least-connections\"", endpoints)));
    // The heavy one first, and then the other, for 0 / 1 is less than 1 / 20.
    let _held = [hold(&proxy, &b), hold(&proxy, &a)];

    for _ in 0..20 {
        assert_eq!(proxy.get("/").text(), "B", "on whichever worker");
    }
    assert_no_fallback(&proxy);
}

#[test]
fn random_two_avoids_the_busier_of_two() {
    let [a, b] = ["A", "B"].map(holding);
    let proxy = balanced("\"random-two\"", [&plain(&a), &plain(&b)]);
    let mut client = Client::to(&proxy);
    client.send("GET /hold HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually(|| a.requests() + b.requests() == 1);
    let idle = if a.requests() == 1 { "B" } else { "A" };

    assert_eq!(answers(&proxy, 20), idle.repeat(20));
    assert_no_fallback(&proxy);
}

#[test]
fn least_time_leaves_the_slow_one_alone_for_a_while() {
    let (fast, slow) = (Upstream::replying("F"), slow("S", Duration::from_millis(200)));
    let balance = "{ plugin = \"least-time\", config = { halving = \"700ms\" } }";
    let proxy = balanced(balance, [&plain(&slow), &plain(&fast)]);
    // Nothing is known of either, so they take turns until the slow answer has been heard of.
    eventually(|| answers(&proxy, 1) == "S");
    eventually(|| answers(&proxy, 1) == "F" && answers(&proxy, 1) == "F");

    assert_eq!(answers(&proxy, 10), "F".repeat(10));

    let before = slow.requests();
    eventually(|| {
        answers(&proxy, 1);
        slow.requests() > before
    });
    assert_no_fallback(&proxy);
}

#[test]
fn peak_ewma_remembers_a_peak() {
    let (fast, slow) = (["A", "B"].map(Upstream::replying), slow("S", Duration::from_millis(300)));
    let proxy = balanced("\"peak-ewma\"", [&plain(&fast[0]), &plain(&fast[1]), &plain(&slow)]);

    let order = answers(&proxy, 60);

    // A third without a memory. What is picked before the first answer has been heard of may be slow too.
    assert!((1..=4).contains(&slow.requests()), "{order}");
    assert!(fast.iter().all(|fast| fast.requests() > 0), "{order}");
    assert_no_fallback(&proxy);
}

#[test]
fn first_fills_one_endpoint_after_the_other() {
    let [a, b, c] = ["A", "B", "C"].map(holding);
    let balance = "{ plugin = \"first\", config = { max = 1, when_full = \"refuse\" } }";
    let proxy = balanced(balance, [&plain(&a), &endpoint(&b, "labels = { max = \"2\" }"), &plain(&c)]);
    assert_eq!(answers(&proxy, 3), "AAA");

    let first = hold(&proxy, &a);
    assert_eq!(answers(&proxy, 3), "BBB");
    let mut held = vec![hold(&proxy, &b), hold(&proxy, &b)];
    assert_eq!(answers(&proxy, 3), "CCC");
    held.push(hold(&proxy, &c));
    assert_eq!(proxy.get("/").status, 503);

    drop(first);
    eventually(|| proxy.get("/").text() == "A");
    assert_no_fallback(&proxy);
}

#[test]
fn first_takes_the_next_when_max_connections_are_there() {
    let [a, b] = ["A", "B"].map(holding);
    let proxy = balanced("\"first\"", [&endpoint(&a, "max_connections = 1"), &plain(&b)]);
    assert_eq!(answers(&proxy, 3), "AAA");

    let _held = hold(&proxy, &a);

    assert_eq!(answers(&proxy, 3), "BBB");
    assert_no_fallback(&proxy);
}

/// The cookie that a response sets, as a client sends it back.
#[track_caller]
fn cookie(response: &Response) -> String {
    let set = response.head.all("set-cookie");
    assert_eq!(set.len(), 1, "one cookie: {:?}", response.head);
    let pair = set[0].split(';').next().expect("a pair");
    format!("Cookie: {pair}\r\n")
}

/// What a client with this cookie gets.
fn ask(proxy: &Proxy, cookie: &str) -> Response {
    Client::to(proxy).ask("GET", "/", cookie)
}

#[test]
fn a_cookie_brings_the_client_back() {
    let [a, b, c] = ["A", "B", "C"].map(Upstream::replying);
    let text = text("\"sticky\"", [&plain(&a), &plain(&b), &plain(&c)]);
    let proxy = Proxy::with(&text);

    let cookies: Vec<_> = ["A", "B", "C"]
        .into_iter()
        .map(|expected| {
            let response = proxy.get("/");
            assert_eq!(response.text(), expected, "new clients are spread by round robin");
            cookie(&response)
        })
        .collect();

    let another = Proxy::with(&format!("[server]\nworkers = 2\n{text}"));
    for proxy in [&proxy, &another] {
        for (cookie, expected) in cookies.iter().zip(["A", "B", "C"]).cycle().take(12) {
            let response = ask(proxy, cookie);
            assert_eq!((response.text(), response.field("set-cookie")), (expected, None));
        }
        assert_no_fallback(proxy);
    }
}

#[test]
fn the_cookie_is_as_it_was_configured_and_does_not_tell_the_address() {
    let origin = Upstream::replying("A");
    let config = "{ name = \"id\", path = \"/shop\", domain = \"example.com\", max_age = \"1h\", secure = true, \
                  http_only = false, same_site = \"strict\", secret = \"s\" }";
    let proxy =
        balanced(&format!("{{ plugin = \"sticky\", config = {config}, then = \"random\" }}"), [&plain(&origin)]);

    let response = proxy.get("/");

    let set = response.field("set-cookie").expect("a cookie");
    let (value, attributes) = set.strip_prefix("id=").and_then(|rest| rest.split_once("; ")).expect("a value");
    assert_eq!(attributes, "Path=/shop; Domain=example.com; Max-Age=3600; Secure; SameSite=Strict");
    assert!(value.len() == 16 && value.bytes().all(|byte| byte.is_ascii_hexdigit()), "{value}");
}

#[test]
fn a_client_survives_the_death_of_its_endpoint() {
    let dead = Arc::new(AtomicBool::new(false));
    let dies = dead.clone();
    let a = Upstream::raw(move |talk| {
        while talk.request().is_some() && !dies.load(SeqCst) {
            talk.send(ok("A"));
        }
    });
    let b = Upstream::replying("B");
    let proxy = balanced("\"sticky\"", [&plain(&a), &plain(&b)]);
    let old = cookie(&proxy.get("/"));
    assert_eq!(ask(&proxy, &old).text(), "A");

    dead.store(true, SeqCst);
    let moved = ask(&proxy, &old);

    assert_eq!(moved.text(), "B", "tried again without anybody noticing");
    let new = cookie(&moved);
    assert_ne!(new, old);
    for _ in 0..5 {
        let response = ask(&proxy, &new);
        assert_eq!((response.text(), response.field("set-cookie")), ("B", None));
    }
    let late = ask(&proxy, &old);
    assert_eq!((late.text(), cookie(&late)), ("B", new), "who did not hear of it gets the same cookie");
    assert_no_fallback(&proxy);
}

#[test]
fn the_balancer_behind_a_cookie_picks_by_its_own_rule() {
    let [a, b] = ["A", "B"].map(holding);
    let proxy = balanced("{ plugin = \"sticky\", then = \"least-connections\" }", [&plain(&a), &plain(&b)]);
    let _held = hold(&proxy, &a);

    for _ in 0..5 {
        assert_eq!(proxy.get("/").text(), "B");
    }
    assert_no_fallback(&proxy);
}

#[test]
fn a_wrong_setting_keeps_the_proxy_from_starting() {
    let origin = Upstream::replying("A");
    for (balance, expected) in [
        ("{ plugin = \"sticky\", config = { same_site = \"none\" } }", "can be `none` only with `secure = true`"),
        ("{ plugin = \"zone\" }", "is required: the zone this proxy is in"),
        ("{ plugin = \"priority\", config = { levels = [[\"a:1\"], [\"a:1\"]] } }", "names a:1, which is on a level"),
        ("{ plugin = \"first\", config = { max = 0 } }", "must be a whole number from 1"),
        ("{ plugin = \"random\", then = \"first\" }", "leaves nothing to a balancer behind it"),
    ] {
        let faults = Proxy::start(&text(balance, [&plain(&origin)]), None).expect_err("it is wrong");
        assert!(faults.contains(expected), "{faults}");
    }
}

#[test]
fn priority_spills_over_as_far_as_the_first_level_is_too_weak() {
    let [a, b, c] = ["A", "B", "C"].map(Upstream::replying);
    let dead = Upstream::refusing();
    let endpoints = [&*plain(&a), &*plain(&dead), &*endpoint(&b, "backup = true"), &*endpoint(&c, "backup = true")];
    let proxy = balanced("\"priority\"", endpoints);
    // Round robin within the level comes to the dead one in two requests, which takes it out.
    assert_eq!(answers(&proxy, 2).len(), 2);

    let order = answers(&proxy, 400);

    // Half of the level with the factor 1.4 is 70 %; six standard deviations.
    let own = order.bytes().filter(|&answer| answer == b'A').count();
    assert!((225..=335).contains(&own), "{own} of 400: {order}");
    assert_no_fallback(&proxy);
}

#[test]
fn a_healthy_first_level_has_all_the_traffic() {
    let [a, b, c] = ["A", "B", "C"].map(Upstream::replying);
    for (balance, endpoints) in [
        ("\"priority\"".to_owned(), [plain(&a), endpoint(&b, "backup = true"), endpoint(&c, "backup = true")]),
        (
            "{ plugin = \"priority\", then = \"random\" }".to_owned(),
            [plain(&a), endpoint(&b, "labels = { priority = \"7\" }"), endpoint(&c, "labels = { priority = \"9\" }")],
        ),
        (
            format!("{{ plugin = \"priority\", config = {{ levels = [[\"{a}\"], [\"{c}\"]] }} }}"),
            [plain(&b), plain(&a), plain(&c)],
        ),
    ] {
        let proxy = balanced(&balance, [&endpoints[0], &endpoints[1], &endpoints[2]]);
        assert_eq!(answers(&proxy, 20), "A".repeat(20), "with {balance}");
        assert_no_fallback(&proxy);
    }
}

#[test]
fn levels_spill_over_by_load_when_the_balancer_behind_refuses() {
    let [a, b] = ["A", "B"].map(holding);
    let behind = "{ plugin = \"first\", config = { max = 1, when_full = \"refuse\" } }";
    let balance = format!("{{ plugin = \"priority\", then = {behind} }}");
    let proxy = balanced(&balance, [&plain(&a), &endpoint(&b, "backup = true")]);
    assert_eq!(answers(&proxy, 3), "AAA");

    let _a = hold(&proxy, &a);
    assert_eq!(answers(&proxy, 3), "BBB");
    let _b = hold(&proxy, &b);

    assert_eq!(proxy.get("/").status, 503);
    assert_no_fallback(&proxy);
}

#[test]
fn zone_stays_at_home_while_enough_of_it_is_ready() {
    let [a, b, c] = ["A", "B", "C"].map(Upstream::replying);
    let dead = Upstream::refusing();
    let home = |upstream: &Upstream| endpoint(upstream, "zone = \"home\"");
    let away = endpoint(&c, "zone = \"away\"");
    let balance = "{ plugin = \"zone\", config = { zone = \"home\" } }";

    let whole = balanced(balance, [&home(&a), &away, &home(&b)]);
    assert_eq!(answers(&whole, 20), "AB".repeat(10));
    assert_no_fallback(&whole);

    let half = balanced(balance, [&home(&a), &away, &home(&dead)]);
    assert_eq!(answers(&half, 2).len(), 2);
    let order = answers(&half, 400);
    // Half of it for a threshold of 0.7 is 71 %; six standard deviations.
    let own = order.bytes().filter(|&answer| answer == b'A').count();
    assert!((231..=340).contains(&own), "{own} of 400: {order}");
    assert_no_fallback(&half);

    let gone = balanced(balance, [&away, &home(&dead)]);
    assert_eq!(answers(&gone, 20), "C".repeat(20));
    assert_no_fallback(&gone);
}

#[test]
fn balancers_may_stand_behind_one_another() {
    let [a, b, c] = ["A", "B", "C"].map(holding);
    let balance = "{ plugin = \"sticky\", then = { plugin = \"zone\", config = { zone = \"home\" }, \
                   then = { plugin = \"priority\", then = \"least-connections\" } } }";
    let home = |upstream: &Upstream| endpoint(upstream, "zone = \"home\"");
    let proxy = balanced(balance, [&endpoint(&c, "zone = \"away\""), &home(&a), &home(&b)]);

    let _held = hold(&proxy, &a);
    let response = proxy.get("/");

    assert_eq!(response.text(), "B", "at home, and the idle one");
    let cookie = cookie(&response);
    let _also_held = hold(&proxy, &b);
    for _ in 0..5 {
        assert_eq!(ask(&proxy, &cookie).text(), "B", "whatever its load");
    }
    assert_no_fallback(&proxy);
}
