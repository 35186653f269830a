//! TLS towards endpoints: whom the proxy trusts, what it shows of itself, and what becomes of a request otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use rustls::HandshakeKind;

use crate::harness::{ADMIN, Authority, End, Identity, Proxy, Upstream, eventually, ok, quoted};

/// An upstream of these endpoints with this for `tls`, and further keys.
fn secure<const N: usize>(endpoints: [&Upstream; N], tls: &str, more: &str) -> String {
    let endpoints = crate::harness::api(endpoints);
    format!("{ADMIN}{endpoints}tls = {tls}\n{more}")
}

fn origin(authority: &Authority, identity: &Identity, protocols: &[&str]) -> Upstream {
    Upstream::secure(authority.server(identity, protocols, false), |talk| {
        while talk.request().is_some() {
            talk.send(ok("secret"));
        }
    })
}

#[test]
fn an_endpoint_is_trusted_by_its_certificate_and_its_name() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (by_address, by_name) = (authority.issue("127.0.0.1"), authority.issue("api.internal"));
    let ca = |authority: &Authority| quoted(&authority.ca());
    let (address, named) = (origin(&authority, &by_address, &[]), origin(&authority, &by_name, &[]));

    for (origin, tls, status) in [
        (&address, format!("{{ ca = {} }}", ca(&authority)), 200),
        (&address, format!("{{ ca = {} }}", ca(&other)), 502),
        (&address, "true".to_owned(), 502),
        (&named, format!("{{ ca = {} }}", ca(&authority)), 502),
        (&named, format!("{{ ca = {}, server_name = \"api.internal\" }}", ca(&authority)), 200),
        (&named, format!("{{ ca = {}, server_name = \"other.internal\" }}", ca(&authority)), 502),
        (&named, "{ verify = false }".to_owned(), 200),
    ] {
        let proxy = Proxy::with(&secure([origin], &tls, ""));
        assert_eq!(proxy.get("/").status, status, "for {tls}");
        let failed = f64::from(u8::from(status == 502));
        proxy.assert_counted("staunch_upstream_attempts_total{upstream=\"api\",outcome=\"tls\"}", failed);
    }
    assert!(address.received().iter().chain(&named.received()).all(|request| request.field("host") == Some("test")));
}

#[test]
fn a_certificate_that_nobody_signed_is_trusted_where_it_is_named_itself() {
    let authority = Authority::new();
    let by_itself = authority.by_itself("127.0.0.1", |_| ());
    let named = origin(&authority, &by_itself, &[]);
    let elsewhere = authority.by_itself("api.internal", |_| ());
    let other = origin(&authority, &elsewhere, &[]);
    let old = authority.by_itself("[::1]", |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    let expired = origin(&authority, &old, &[]);

    for (origin, trusted, more, status) in [
        (&named, &by_itself.cert, "", 200),
        (&named, &elsewhere.cert, "", 502),
        (&named, &authority.ca(), "", 502),
        (&other, &elsewhere.cert, "", 502),
        (&other, &elsewhere.cert, ", server_name = \"api.internal\"", 200),
        (&expired, &old.cert, ", server_name = \"::1\"", 502),
    ] {
        let proxy = Proxy::with(&secure([origin], &format!("{{ ca = {}{more} }}", quoted(trusted)), ""));
        assert_eq!(proxy.get("/").status, status, "for {trusted:?}{more}");
    }
}

#[test]
fn an_endpoint_that_is_not_trusted_costs_no_request_and_another_answers_even_a_post() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = origin(&authority, &authority.issue("127.0.0.1"), &[]);
    let bad = origin(&other, &other.issue("127.0.0.1"), &[]);
    let plain = Upstream::replying("not secure");
    let tls = format!("{{ ca = {} }}", quoted(&authority.ca()));
    let proxy = Proxy::with(&secure([&bad, &plain, &good], &tls, ""));

    let answer = crate::harness::Client::to(&proxy).post("/", "x");

    assert_eq!((answer.status, answer.text()), (200, "secret"));
    assert_eq!((bad.requests(), plain.requests(), good.requests()), (0, 0, 1));
}

#[test]
fn the_proxy_shows_its_certificate_where_one_is_asked_for() {
    let authority = Authority::new();
    let (server, client) = (authority.issue("127.0.0.1"), authority.issue("staunch.internal"));
    let origin = Upstream::secure(authority.server(&server, &[], true), |talk| {
        let shown = talk.session().and_then(|session| session.peer_certificates()).map_or(0, <[_]>::len);
        while talk.request().is_some() {
            talk.send(ok(shown.to_string()));
        }
    });
    let ca = quoted(&authority.ca());
    let own = format!("cert = {}, key = {}", quoted(&client.cert), quoted(&client.key));

    let with = Proxy::with(&secure([&origin], &format!("{{ ca = {ca}, {own} }}"), ""));
    assert_eq!(with.get("/").text(), "1");
    let without = Proxy::with(&secure([&origin], &format!("{{ ca = {ca} }}"), ""));
    assert_eq!(without.get("/").status, 502);
}

#[test]
fn sessions_with_an_endpoint_are_resumed() {
    let authority = Authority::new();
    let resumed = Arc::new(AtomicUsize::new(0));
    let count = resumed.clone();
    let origin = Upstream::secure(authority.server(&authority.issue("127.0.0.1"), &[], false), move |talk| {
        while talk.request().is_some() {
            if talk.session().and_then(|session| session.handshake_kind()) == Some(HandshakeKind::Resumed) {
                count.fetch_add(1, SeqCst);
            }
            talk.send(ok("x"));
        }
    });
    let tls = format!("{{ ca = {} }}", quoted(&authority.ca()));
    let proxy = Proxy::with(&secure([&origin], &tls, "keepalive = 0\n"));

    for _ in 0..5 {
        assert_eq!(proxy.get("/").status, 200);
    }

    assert_eq!((origin.connections(), resumed.load(SeqCst)), (5, 4));
}

#[test]
fn a_secure_connection_is_kept_and_used_again() {
    let authority = Authority::new();
    let origin = origin(&authority, &authority.issue("127.0.0.1"), &["http/1.1"]);
    let tls = format!("{{ ca = {} }}", quoted(&authority.ca()));
    let proxy = Proxy::with(&secure([&origin], &tls, ""));

    for _ in 0..10 {
        assert_eq!(proxy.get("/").text(), "secret");
    }

    assert_eq!((origin.requests(), origin.connections()), (10, 1));
}

#[test]
fn an_endpoint_hears_that_an_idle_connection_ends() {
    let authority = Authority::new();
    let ends = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = ends.clone();
    let origin = Upstream::secure(authority.server(&authority.issue("127.0.0.1"), &[], false), move |talk| {
        while talk.request().is_some() {
            talk.send(ok("x"));
        }
        seen.lock().expect("nobody panics").push(talk.end());
    });
    let tls = format!("{{ ca = {} }}", quoted(&authority.ca()));
    let proxy = Proxy::with(&secure([&origin], &tls, "keepalive_timeout = \"1ms\"\n"));

    assert_eq!(proxy.get("/").status, 200);

    eventually(|| *ends.lock().expect("nobody panics") == [End::Closed]);
}

#[test]
fn an_endpoint_is_offered_what_the_upstream_speaks() {
    let authority = Authority::new();
    let identity = authority.issue("127.0.0.1");
    let tls = format!("{{ ca = {} }}", quoted(&authority.ca()));
    for (speaks, protocol, status) in [
        (&["http/1.1"][..], "http1", 200),
        (&[], "http1", 200),
        (&["h2"], "http1", 502),
        (&["http/1.1"], "http2", 502),
        (&[], "http2", 502),
        (&["http/1.1"], "auto", 200),
        (&[], "auto", 200),
    ] {
        let origin = origin(&authority, &identity, speaks);
        let proxy = Proxy::with(&secure([&origin], &tls, &format!("protocol = \"{protocol}\"\n")));
        assert_eq!(proxy.get("/").status, status, "{protocol} with one that speaks {speaks:?}");
        let failed = f64::from(u8::from(status == 502));
        proxy.assert_counted("staunch_upstream_attempts_total{upstream=\"api\",outcome=\"tls\"}", failed);
    }
}

#[test]
fn a_handshake_takes_no_longer_than_a_connection_may() {
    let silent = Upstream::stalling();
    let proxy = Proxy::with(&secure([&silent], "{ verify = false }", "connect_timeout = \"50ms\"\n"));

    assert_eq!(proxy.get("/").status, 504);
    proxy.assert_counted("staunch_upstream_attempts_total{upstream=\"api\",outcome=\"connect_timeout\"}", 1.0);
}

#[test]
fn a_body_until_the_close_is_whole_only_if_the_end_was_said() {
    let authority = Authority::new();
    let origin = Upstream::secure(authority.server(&authority.issue("127.0.0.1"), &[], false), |talk| {
        let Some(request) = talk.request() else { return };
        talk.send("HTTP/1.1 200 OK\r\n\r\npart");
        if request.target() == "/whole" {
            talk.finish();
        }
    });
    let tls = format!("{{ ca = {} }}", quoted(&authority.ca()));
    let proxy = Proxy::with(&secure([&origin], &tls, ""));

    assert_eq!(proxy.get("/whole").text(), "part");
    let mut client = crate::harness::Client::to(&proxy);
    client.send("GET /cut HTTP/1.1\r\nHost: test\r\n\r\n");
    client.try_response().expect_err("what was cut off must not look whole");
}

#[test]
fn other_files_for_tls_take_over_with_a_reload() {
    let (authority, other) = (Authority::new(), Authority::new());
    let origin = origin(&other, &other.issue("127.0.0.1"), &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let (file, ca) = (folder.path().join("staunch.toml"), folder.path().join("ca.pem"));
    std::fs::copy(authority.ca(), &ca).expect("a file");
    let text = secure([&origin], "{ ca = \"ca.pem\" }", "");
    let proxy = Proxy::start(&text, Some(&file)).expect("it is fine");
    assert_eq!(proxy.get("/").status, 502);

    std::fs::copy(other.ca(), &ca).expect("a file");
    proxy.reload(&file, &text);

    assert_eq!(proxy.get("/").text(), "secret");
}

#[test]
fn no_connection_outlives_what_it_was_made_with() {
    let authority = Authority::new();
    let other = Authority::new();
    let origin = origin(&authority, &authority.issue("127.0.0.1"), &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let trusting = |authority: &Authority| secure([&origin], &format!("{{ ca = {} }}", quoted(&authority.ca())), "");
    let proxy = Proxy::start(&trusting(&authority), Some(&file)).expect("it is fine");
    assert_eq!(proxy.get("/").status, 200);

    proxy.reload(&file, &trusting(&other));

    assert_eq!(proxy.get("/").status, 502, "the idle connection is to one that is trusted no more");
}

#[test]
fn files_for_tls_that_are_not_good_are_told() {
    let authority = Authority::new();
    let (one, two) = (authority.issue("one"), authority.issue("two"));
    let nowhere = "\"/nowhere/ca.pem\"";
    for (tls, why) in [
        (format!("{{ ca = {nowhere} }}"), "/nowhere/ca.pem: No such file"),
        (format!("{{ ca = {} }}", quoted(&one.key)), "one.key: there is no certificate in it"),
        (
            format!("{{ verify = false, cert = {}, key = {} }}", quoted(&one.cert), quoted(&two.key)),
            "two.key: this is not the key of the certificate in ",
        ),
    ] {
        let faults = Proxy::start(&secure([&Upstream::refusing()], &tls, ""), None).expect_err("it must not start");
        assert!(faults.contains("tls of upstream `api`: ") && faults.contains(why), "{faults}");
    }
}
