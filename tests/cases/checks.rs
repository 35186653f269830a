//! Active health checks of every kind, through real sockets.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{ADMIN, AsyncOrigin, Authority, Channel, Client, Proxy, Upstream, api, eventually, ok, quoted};

/// Checks that begin at once: one that is repeated soon, and one that is not.
const SOON: &str = "initial = \"checking\"\ninterval = \"20ms\"\n";
const ONCE: &str = "initial = \"checking\"\ninterval = \"1h\"\n";

/// That an endpoint has no traffic, even if no other has any.
const CALM: &str = "panic_threshold = 0\n";

/// A proxy with one endpoint in `api`, checked like this; with patience, unless something else is said.
fn checked(endpoint: impl std::fmt::Display, check: &str) -> Proxy {
    let patience = if check.contains("timeout = ") { "" } else { "timeout = \"9s\"\n" };
    Proxy::with(&format!(
        "{ADMIN}[upstreams.api]\nendpoints = [\"{endpoint}\"]\n{CALM}[upstreams.api.health]\n{patience}{check}"
    ))
}

/// What is told of the first endpoint of an upstream.
fn endpoint(proxy: &Proxy, upstream: usize) -> Value {
    let told: Value = serde_json::from_slice(&proxy.admin("/api/upstreams", "").body).expect("JSON");
    let upstreams = told.as_array().cloned().unwrap_or_else(|| told["upstreams"].as_array().expect("a list").clone());
    upstreams[upstream]["endpoints"][0].clone()
}

/// Waits until the endpoint was checked, and answers what the check came to and said.
#[track_caller]
fn last_check(proxy: &Proxy) -> (String, String) {
    let mut told = Value::Null;
    eventually(|| {
        told = endpoint(proxy, 0);
        !told["last_check"].is_null()
    });
    let last = &told["last_check"];
    let passed = last["passed"].as_bool().expect("whether it passed");
    assert_eq!(passed, last["result"] == "passed", "{last}");
    assert_eq!(told["state"], if passed { "up" } else { "unhealthy" }, "the first check decides: {told}");
    let text = |key: &str| last[key].as_str().expect("a text").to_owned();
    (text("result"), text("said"))
}

#[track_caller]
fn assert_result(endpoint: impl std::fmt::Display, check: &str, result: &str, said: &str) {
    let proxy = checked(&endpoint, &format!("{ONCE}{check}"));
    let (came_to, what) = last_check(&proxy);
    assert_eq!((came_to.as_str(), what.contains(said)), (result, true), "{what} to\n{check}");
    let sample = format!("staunch_health_checks_total{{upstream=\"api\",result=\"{result}\"}}");
    proxy.assert_counted(&sample, 1.0);
}

#[test]
fn a_tcp_check_passes_where_a_connection_can_be_made() {
    assert_result(Upstream::stalling(), "type = \"tcp\"\n", "passed", "connected");
    assert_result(Upstream::refusing(), "type = \"tcp\"\n", "connect", "refused");
    let short = "type = \"tcp\"\ntimeout = \"200ms\"\n";
    assert_result(Upstream::unreachable(), short, "connect", "no connection within 200ms");
}

#[test]
fn an_http_check_passes_by_its_status() {
    for (status, expect, result) in [
        (200, "", "passed"),
        (302, "", "passed"),
        (404, "", "answer"),
        (503, "", "answer"),
        (404, "expect = [\"404\"]\n", "passed"),
        (200, "expect = [\"201-299\", \"5xx\"]\n", "answer"),
    ] {
        assert_result(Upstream::status(status), expect, result, &status.to_string());
    }
}

#[test]
fn an_http_check_asks_what_it_is_told() {
    let origin = Upstream::replying("");
    let check = "method = \"POST\"\npath = \"/status?deep=1\"\nhost = \"status.internal\"\n\
                 headers = { x-probe = [\"1\", \"2\"], user-agent = \"probe\" }\n";
    assert_result(&origin, check, "passed", "200");

    let asked = origin.only_request();
    assert_eq!(asked.line(), "POST /status?deep=1 HTTP/1.1");
    let fields: Vec<_> = asked.head.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [
        ("host", "status.internal"),
        ("connection", "close"),
        ("content-length", "0"),
        ("x-probe", "1"),
        ("x-probe", "2"),
        ("user-agent", "probe"),
    ];
    assert_eq!(fields, expected);
}

#[test]
fn an_http_check_names_where_it_asks() {
    let origin = Upstream::replying("");
    assert_result(&origin, "", "passed", "200");
    assert_eq!(origin.only_request().field("host"), Some(origin.to_string().as_str()));
}

#[test]
fn an_http_check_may_want_something_in_the_body() {
    let body = "body = \"(?i)status: *ready\"\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\nstatus:\r\n6\r\n Ready\r\n0\r\n\r\n";
    let far = format!("{}STATUS:ready", "x".repeat(200 * 1024));
    let too_far = format!("{}STATUS:ready", "x".repeat(256 * 1024));
    for (origin, result) in [
        (Upstream::replying("status: ready"), "passed"),
        (Upstream::saying(chunked), "passed"),
        (Upstream::replying(far), "passed"),
        (Upstream::replying("status: busy"), "answer"),
        (Upstream::replying(too_far), "answer"),
        (Upstream::saying("HTTP/1.1 204 No Content\r\n\r\n"), "answer"),
        (Upstream::truncating(), "closed"),
        // Until the connection closes.
        (
            Upstream::raw(|talk| {
                talk.request();
                talk.send("HTTP/1.0 200 OK\r\n\r\nstatus:ready");
            }),
            "passed",
        ),
    ] {
        assert_result(origin, body, result, "");
    }
}

#[test]
fn what_is_not_http_fails_an_http_check() {
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    for (origin, result, said) in [
        (Upstream::saying(interim), "passed", "200"),
        (Upstream::garbling(), "protocol", "not HTTP/1"),
        (Upstream::saying(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(40_000))), "protocol", "too long"),
        (Upstream::raw(|talk| drop(talk.request())), "closed", "before it had answered"),
        (Upstream::refusing(), "connect", "refused"),
    ] {
        assert_result(origin, "", result, said);
    }
    assert_result(Upstream::stalling(), "timeout = \"100ms\"\n", "timeout", "no whole answer within 100ms");
}

#[test]
fn an_exchange_sends_its_bytes_as_they_are() {
    // The seed's `check_http_send`.
    let origin = Upstream::raw(|talk| {
        let expected = b"HEAD /status HTTP/1.0\r\n\r\n";
        if talk.take(expected.len()).is_some_and(|sent| sent == expected) {
            talk.send("HTTP/1.0 200 OK\r\n\r\n");
        }
    });
    let send = "type = \"exchange\"\nsend = \"HEAD /status HTTP/1.0\\r\\n\\r\\n\"\n";

    assert_result(&origin, &format!("{send}expect_regex = \"^HTTP/1\\\\.[01] [23]\"\n"), "passed", "HTTP/1.0 200 OK");
    assert_result(&origin, &format!("{send}expect_regex = \"^HTTP/1\\\\.[01] 5\"\n"), "answer", "HTTP/1.0 200 OK");
}

#[test]
fn an_exchange_finds_what_it_expects_wherever_it_stands() {
    let redis = || {
        Upstream::raw(|talk| {
            while talk.take(6).is_some_and(|command| command == b"PING\r\n") {
                // In pieces, and the connection stays open.
                talk.send("+PO");
                talk.send("NG\r\n");
            }
        })
    };
    let ping = "type = \"exchange\"\nsend = \"PING\\r\\n\"\n";
    for (expect, result) in [
        ("expect = \"+PONG\\r\\n\"\n", "passed"),
        ("expect = \"NG\"\n", "passed"),
        ("expect_hex = \"2b 50 4f 4e 47\"\n", "passed"),
        ("expect_regex = '^\\+PONG'\n", "passed"),
        ("", "passed"),
        ("expect = \"+OK\"\ntimeout = \"100ms\"\n", "timeout"),
    ] {
        let proxy = checked(redis(), &format!("{ONCE}{ping}{expect}"));
        assert_eq!(last_check(&proxy).0, result, "for {expect}");
    }
}

#[test]
fn an_exchange_without_anything_to_send_waits_for_a_banner() {
    let smtp = Upstream::raw(|talk| {
        talk.send("220 mail.example ESMTP\r\n");
        talk.stall();
    });
    let goodbye = Upstream::raw(|talk| {
        talk.send("554 no\r\n");
    });
    let banner = "type = \"exchange\"\nexpect_regex = \"^220 \"\n";

    assert_result(&smtp, banner, "passed", "220 mail.example ESMTP");
    assert_result(goodbye, banner, "answer", "554 no");
    assert_result(Upstream::raw(|_| {}), banner, "closed", "before it had answered");
}

#[test]
fn an_exchange_carries_any_byte() {
    let binary = Upstream::raw(|talk| {
        if talk.take(3).is_some_and(|sent| sent == [0x00, 0xff, 0x80]) {
            talk.send([0xde, 0xad, 0xbe, 0xef]);
        }
    });
    let check = "type = \"exchange\"\nsend_hex = \"00 ff 80\"\n";

    assert_result(&binary, &format!("{check}expect_hex = \"adbe\"\n"), "passed", "");
    assert_result(&binary, &format!("{check}expect_regex = '(?-u)\\xbe\\xef$'\n"), "passed", "");
    assert_result(&binary, &format!("{check}expect_hex = \"adbf\"\n"), "answer", "");
}

#[test]
fn an_exchange_searches_the_first_16_kib() {
    let long = |before: usize| {
        Upstream::raw(move |talk| {
            talk.send(format!("{}ready", "x".repeat(before)));
            talk.stall();
        })
    };
    let check = "type = \"exchange\"\nexpect = \"ready\"\n";

    assert_result(long(16 * 1024 - 5), check, "passed", "xxx");
    assert_result(long(16 * 1024), check, "answer", "xxx");
}

/// What a gRPC server answers to `grpc.health.v1.Health/Check`.
#[derive(Clone, Copy)]
enum Health {
    /// For the service `shop.Cart`, which it knows; any other is NOT_FOUND.
    Status(u8),
    Unimplemented,
    /// The head of a response, and then nothing more.
    Silent,
    Http(u16),
}

/// A gRPC server.
fn grpc(health: Health) -> impl Fn(Box<dyn Channel>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    move |stream| {
        Box::pin(async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                tokio::spawn(async move {
                    let (head, mut body) = request.into_parts();
                    let mut message = Vec::new();
                    while let Some(Ok(data)) = body.data().await {
                        message.extend_from_slice(&data);
                    }
                    let is_right = head.method == "POST"
                        && head.uri.path() == "/grpc.health.v1.Health/Check"
                        && head.headers["content-type"] == "application/grpc"
                        && head.headers["te"] == "trailers";
                    let with_status = |status: &'static str| {
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", HeaderValue::from_static(status));
                        trailers
                    };
                    let response = Response::builder().header("content-type", "application/grpc");
                    match health {
                        _ if !is_right => drop(respond.send_response(refusal("3"), true)),
                        Health::Unimplemented => drop(respond.send_response(refusal("12"), true)),
                        Health::Http(status) => {
                            let response = Response::builder().status(status).body(()).expect("a response");
                            drop(respond.send_response(response, true));
                        }
                        Health::Silent => {
                            let stream = respond.send_response(response.body(()).expect("a response"), false);
                            std::future::pending::<()>().await;
                            drop(stream);
                        }
                        // A message of eleven bytes: field 1 with the service's name.
                        Health::Status(_) if message != b"\0\0\0\0\x0b\x0a\x09shop.Cart" => {
                            drop(respond.send_response(refusal("5"), true));
                        }
                        Health::Status(status) => {
                            let response = response.body(()).expect("a response");
                            let Ok(mut stream) = respond.send_response(response, false) else { return };
                            let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
                            let _ = stream.send_data(message, false);
                            let _ = stream.send_trailers(with_status("0"));
                        }
                    }
                });
            }
        })
    }
}

/// A response without a message.
fn refusal(status: &'static str) -> Response<()> {
    let response = Response::builder().header("content-type", "application/grpc").header("grpc-status", status);
    response.body(()).expect("a response")
}

#[test]
fn a_grpc_check_wants_the_service_to_be_serving() {
    let check = "type = \"grpc\"\nservice = \"shop.Cart\"\n";
    for (health, result, said) in [
        (Health::Status(1), "passed", "SERVING"),
        (Health::Status(2), "answer", "NOT_SERVING"),
        (Health::Status(0), "answer", "UNKNOWN"),
        (Health::Unimplemented, "answer", "UNIMPLEMENTED"),
        (Health::Http(503), "answer", "503"),
    ] {
        assert_result(AsyncOrigin::start(None, grpc(health)), check, result, said);
    }
    let other = "type = \"grpc\"\nservice = \"shop.Other\"\n";
    assert_result(AsyncOrigin::start(None, grpc(Health::Status(1))), other, "answer", "NOT_FOUND");
    assert_result(Upstream::replying("HTTP/1"), check, "protocol", "");
    assert_result(Upstream::raw(|_| {}), check, "closed", "");
    assert_result(Upstream::refusing(), check, "connect", "refused");
    let silent = AsyncOrigin::start(None, grpc(Health::Silent));
    assert_result(&silent, &format!("{check}timeout = \"200ms\"\n"), "timeout", "no whole answer within 200ms");
}

/// Answers HTTP/1 requests without looking at them.
fn http(stream: Box<dyn Channel>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let mut stream = stream;
        let mut head = [0; 1024];
        // A client that only shook hands says nothing.
        if stream.read(&mut head).await.is_ok_and(|length| length > 0) {
            let _ = stream.write_all(&ok("secure")).await;
            let _ = stream.shutdown().await;
        }
    })
}

#[test]
fn a_check_over_tls_trusts_whom_it_is_told_to() {
    let (authority, other) = (Authority::new(), Authority::new());
    let by_address = authority.issue("127.0.0.1");
    let by_name = authority.issue("api.internal");
    let ca = |authority: &Authority| quoted(&authority.ca());
    let origin = |identity| AsyncOrigin::start(Some(authority.server(identity, &["http/1.1"], false)), http);

    let (address, named) = (origin(&by_address), origin(&by_name));
    let name = "server_name = \"api.internal\"";
    for (origin, tls, result, said) in [
        (&address, format!("{{ ca = {} }}", ca(&authority)), "passed", "200"),
        (&address, format!("{{ ca = {} }}", ca(&other)), "tls", "invalid peer certificate"),
        (&address, "true".to_owned(), "tls", "invalid peer certificate"),
        (&named, format!("{{ ca = {} }}", ca(&authority)), "tls", "not valid for"),
        (&named, format!("{{ ca = {}, {name} }}", ca(&authority)), "passed", "200"),
        (&named, "{ verify = false }".to_owned(), "passed", "200"),
    ] {
        assert_result(origin, &format!("body = \"secure\"\ntls = {tls}\n"), result, said);
    }
    assert_result(Upstream::replying(""), "tls = { verify = false }\n", "tls", "");
    let short = "tls = { verify = false }\ntimeout = \"100ms\"\n";
    assert_result(Upstream::stalling(), short, "tls", "no TLS handshake within 100ms");
}

#[test]
fn every_kind_of_check_runs_over_tls() {
    let authority = Authority::new();
    let identity = authority.issue("127.0.0.1");
    let tls = format!("tls = {{ ca = {} }}\n", quoted(&authority.ca()));
    let secure = |protocols: &[&str]| Some(authority.server(&identity, protocols, false));

    assert_result(AsyncOrigin::start(secure(&[]), http), &format!("type = \"tcp\"\n{tls}"), "passed", "connected");
    let exchange = "type = \"exchange\"\nsend = \"x\"\nexpect = \"secure\"\n";
    assert_result(AsyncOrigin::start(secure(&[]), http), &format!("{exchange}{tls}"), "passed", "");
    let check = format!("type = \"grpc\"\nservice = \"shop.Cart\"\n{tls}");
    assert_result(AsyncOrigin::start(secure(&["h2"]), grpc(Health::Status(1))), &check, "passed", "SERVING");
    assert_result(AsyncOrigin::start(secure(&["http/1.1"]), grpc(Health::Status(1))), &check, "tls", "");
}

#[test]
fn a_check_may_show_a_certificate() {
    let authority = Authority::new();
    let (server, client) = (authority.issue("127.0.0.1"), authority.issue("staunch.internal"));
    let origin = || AsyncOrigin::start(Some(authority.server(&server, &[], true)), http);
    let ca = quoted(&authority.ca());
    let own = format!("cert = {}, key = {}", quoted(&client.cert), quoted(&client.key));

    assert_result(origin(), &format!("tls = {{ ca = {ca}, {own} }}\n"), "passed", "200");
    assert_result(origin(), &format!("tls = {{ ca = {ca} }}\n"), "closed", "CertificateRequired");
}

#[test]
fn files_for_tls_that_are_not_good_keep_the_proxy_from_starting() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing").expect("a file");
    let (a, b) = (Authority::new().issue("a"), Authority::new());
    let b = b.issue("b");
    for (tls, why) in [
        ("{ ca = \"/nowhere/ca.pem\" }".to_owned(), "/nowhere/ca.pem: "),
        (format!("{{ ca = {} }}", quoted(&empty)), "there is no certificate in it"),
        (format!("{{ verify = false, cert = {}, key = {} }}", quoted(&b.cert), quoted(&empty)), "empty.pem"),
        (format!("{{ verify = false, cert = {}, key = {} }}", quoted(&a.cert), quoted(&b.key)), "a.pem"),
    ] {
        let text = format!("[upstreams.api]\nendpoints = [\"127.0.0.1:1\"]\n[upstreams.api.health]\ntls = {tls}\n");
        let faults = Proxy::start(&text, None).expect_err("it must not start");
        assert!(faults.contains("the health check of upstream `api`: ") && faults.contains(why), "{faults}");
    }
}

#[test]
fn a_check_may_ask_at_another_port() {
    let (serving, status) = (Upstream::replying("served"), Upstream::replying("well"));
    let port = status.to_string().rsplit(':').next().expect("a port").to_owned();
    let proxy = checked(&serving, &format!("{ONCE}port = {port}\n"));

    assert_eq!(last_check(&proxy).0, "passed");
    assert_eq!(status.only_request().field("host"), Some(status.to_string().as_str()));
    assert_eq!(serving.connections(), 0);
    assert_eq!(proxy.get("/").text(), "served");
}

#[test]
fn a_unix_socket_is_checked_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("origin");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut head = [0; 1024];
        let length = std::io::Read::read(&mut stream, &mut head).expect("a request");
        std::io::Write::write_all(&mut stream, &ok("")).expect("a response");
        String::from_utf8_lossy(&head[..length]).into_owned()
    });

    let proxy = checked(format!("unix:{}", path.display()), ONCE);

    assert_eq!(last_check(&proxy).0, "passed");
    assert!(served.join().expect("it was asked").contains("host: localhost\r\n"));
}

#[test]
fn an_endpoint_of_several_upstreams_is_asked_once() {
    let origin = Upstream::replying("well");
    let check = format!("[upstreams.NAME]\nendpoints = [\"{origin}\"]\n[upstreams.NAME.health]\n{ONCE}");
    let proxy = Proxy::with(&format!("{ADMIN}{}{}", check.replace("NAME", "api"), check.replace("NAME", "other")));

    eventually(|| (0..2).all(|upstream| endpoint(&proxy, upstream)["state"] == "up"));

    assert_eq!(origin.connections(), 1);
    for upstream in ["api", "other"] {
        proxy.assert_counted(&format!("staunch_health_checks_total{{upstream=\"{upstream}\",result=\"passed\"}}"), 1.0);
    }
}

#[test]
fn at_most_so_many_checks_run_at_a_time_as_may() {
    let goes_on = Arc::new(AtomicBool::new(false));
    let origins: Vec<_> = (0..5)
        .map(|_| {
            let goes_on = goes_on.clone();
            Upstream::raw(move |talk| {
                talk.request();
                talk.wait_for(|| goes_on.load(SeqCst));
                talk.send(ok(""));
            })
        })
        .collect();
    let endpoints: Vec<_> = origins.iter().map(|origin| format!("\"{origin}\"")).collect();
    let proxy = Proxy::with(&format!(
        "[server]\nworkers = 1\nmax_checks = 2\n{ADMIN}[upstreams.api]\nendpoints = [{}]\n[upstreams.api.health]\n{ONCE}",
        endpoints.join(", ")
    ));
    let asked = || origins.iter().filter(|origin| origin.connections() > 0).count();

    proxy.assert_counted("staunch_health_checks_waiting", 3.0);
    proxy.assert_counted("staunch_health_checks_running", 2.0);
    eventually(|| asked() == 2);
    goes_on.store(true, SeqCst);

    eventually(|| asked() == 5);
    proxy.assert_counted("staunch_health_checks_total{upstream=\"api\",result=\"passed\"}", 5.0);
    proxy.assert_counted("staunch_health_checks_running", 0.0);
}

/// Fails and passes its checks as the test says, and serves everything else.
fn moody() -> (Upstream, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(true));
    let told = is_well.clone();
    let origin = Upstream::answering(move |request| match request.target() {
        "/status" if !told.load(SeqCst) => b"HTTP/1.1 500 Ill\r\ncontent-length: 0\r\n\r\n".to_vec(),
        _ => ok("served"),
    });
    (origin, is_well)
}

#[test]
fn an_endpoint_that_is_up_at_first_has_traffic_until_checks_fail() {
    let (origin, _) = moody();
    // The first check comes within the hour.
    let proxy = checked(&origin, "path = \"/status\"\ninterval = \"1h\"\n");

    assert_eq!(proxy.get("/").text(), "served");
    let told = endpoint(&proxy, 0);
    assert_eq!((&told["state"], &told["last_check"]), (&Value::from("up"), &Value::Null));
}

#[test]
fn an_endpoint_that_is_down_at_first_has_no_traffic_until_checks_pass() {
    let goes_on = Arc::new(AtomicBool::new(false));
    let told = goes_on.clone();
    let origin = Upstream::raw(move |talk| {
        // It answers the first and the second check, and the third when it is told to.
        while let Some(request) = talk.request() {
            let is_check = request.target() == "/status";
            if is_check && talk.number >= 2 {
                talk.wait_for(|| told.load(SeqCst));
            }
            talk.send(ok("served"));
        }
    });
    let check = "path = \"/status\"\ninterval = \"1h\"\nfast_interval = \"5ms\"\ntimeout = \"1m\"\n";
    let proxy = checked(&origin, &format!("{check}initial = \"down\"\nrise = 3\n"));

    eventually(|| endpoint(&proxy, 0)["reason"] == "its check passed 2 of 3 times");
    assert_eq!(proxy.get("/").status, 503);
    goes_on.store(true, SeqCst);

    eventually(|| endpoint(&proxy, 0)["state"] == "up");
    assert_eq!(origin.connections(), 3, "in an hour again");
    assert_eq!(proxy.get("/").text(), "served");
    proxy.assert_counted("staunch_health_transitions_total{upstream=\"api\",state=\"up\"}", 1.0);
}

#[test]
fn an_endpoint_that_is_being_checked_has_no_traffic_before() {
    let goes_on = Arc::new(AtomicBool::new(false));
    let told = goes_on.clone();
    let origin = Upstream::raw(move |talk| {
        while let Some(request) = talk.request() {
            if request.target() == "/status" {
                talk.wait_for(|| told.load(SeqCst));
            }
            talk.send(ok("served"));
        }
    });
    let proxy = checked(&origin, &format!("{ONCE}path = \"/status\"\nrise = 9\n"));

    assert_eq!(proxy.get("/").status, 503);
    let told = endpoint(&proxy, 0);
    assert_eq!((&told["state"], &told["reason"]), (&"checking".into(), &"it waits for its first check".into()));
    goes_on.store(true, SeqCst);

    eventually(|| proxy.get("/").status == 200);
}

#[test]
fn panic_does_not_send_anybody_to_an_endpoint_that_was_not_checked_yet() {
    let (stalling, ill) = (Upstream::stalling(), Upstream::status(500));
    let check = "[upstreams.api.health]\ninitial = \"checking\"\ninterval = \"1h\"\ntimeout = \"1m\"\n";
    let proxy = Proxy::with(&format!("{ADMIN}{}{check}", api([&stalling, &ill])));

    // The one that is known to be ill is better than nobody.
    eventually(|| proxy.get("/").status == 500);

    assert_eq!(endpoint(&proxy, 0)["state"], "checking");
    assert!(stalling.requests() <= 1, "only its check");
}

#[test]
fn an_endpoint_goes_and_comes_by_results_in_a_row() {
    let (origin, is_well) = moody();
    let check = format!("{SOON}path = \"/status\"\nfall = 3\nrise = 4\n");
    let proxy = checked(&origin, &check);
    eventually(|| endpoint(&proxy, 0)["state"] == "up");
    let checks = || origin.received().iter().filter(|request| request.target() == "/status").count();

    is_well.store(false, SeqCst);
    eventually(|| endpoint(&proxy, 0)["state"] == "unhealthy");
    let told = endpoint(&proxy, 0);
    assert!(told["last_check"]["in_a_row"].as_u64() >= Some(3), "{told}");
    is_well.store(true, SeqCst);

    let before = checks();
    eventually(|| endpoint(&proxy, 0)["state"] == "up");
    assert!(checks() >= before + 3, "rise is 4, and one may have been under way");
}

#[test]
fn an_endpoint_that_is_down_is_asked_by_the_down_interval() {
    // While it is up it is asked again and again, and not within the hour once it is down.
    let origin = Upstream::raw(|talk| {
        if talk.number < 3 {
            while talk.request().is_some() {
                talk.send(ok(""));
            }
        }
    });
    let check = "interval = \"5ms\"\ndown_interval = \"1h\"\nfall = 2\n";
    let (other, _) = moody();
    let proxy = Proxy::with(&format!(
        "{ADMIN}{}[upstreams.api.health]\n{check}initial = \"checking\"\n",
        api([&origin, &other])
    ));
    eventually(|| {
        let told = endpoint(&proxy, 0);
        told["state"] == "unhealthy" && told["last_check"]["in_a_row"] == 2
    });

    assert_eq!(origin.connections(), 5, "three passed and two failed");
    let others = other.connections();
    eventually(|| other.connections() > others + 20);
    assert_eq!(origin.connections(), 5);
    assert_eq!(Client::to(&proxy).get("/").text(), "served");
}

#[test]
fn an_endpoint_that_an_operator_has_taken_down_is_not_asked() {
    let (down, other) = (moody().0, moody().0);
    let text = format!(
        "{ADMIN}[upstreams.api]\nendpoints = [{{ address = \"{down}\", down = true }}, \"{other}\"]\n\
         [upstreams.api.health]\n{SOON}"
    );
    let proxy = Proxy::with(&text);
    eventually(|| other.connections() > 5);
    assert_eq!((down.connections(), &endpoint(&proxy, 0)["state"]), (0, &Value::from("down")));

    let body = "{\"down\": false}";
    let lines = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    let mut operator = Client::connect(proxy.admin_address());
    let path = format!("/api/upstreams/api/endpoints/{down}");
    operator.send(format!("PATCH {path} HTTP/1.1\r\nhost: a\r\n{lines}\r\n{body}"));
    assert_eq!(operator.response().status, 200);

    eventually(|| endpoint(&proxy, 0)["state"] == "up");
    assert!(down.connections() > 0);
}

/// A proxy whose configuration stands in a file.
fn filed(text: &str) -> (tempfile::TempDir, PathBuf, Proxy) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let proxy = Proxy::start(text, Some(&file)).unwrap_or_else(|faults| panic!("{faults}"));
    (folder, file, proxy)
}

#[test]
fn what_checks_know_is_kept_over_a_reload() {
    let ill = Upstream::status(500);
    let text = |name: &str, keys: &str| {
        format!("[upstreams.{name}]\nendpoints = [\"{ill}\"]\n{CALM}{keys}[upstreams.{name}.health]\n{ONCE}")
    };
    let (_folder, file, proxy) = filed(&format!("{ADMIN}{}", text("api", "")));
    assert_eq!(last_check(&proxy).0, "answer");
    let known = endpoint(&proxy, 0)["last_check"].clone();

    for (next, upstreams) in [
        // Another upstream of the same name, with the same endpoint.
        (text("api", "keepalive = 7\n"), 1),
        // One that asks the same, and is told at once.
        (format!("{}{}", text("api", "keepalive = 7\n"), text("other", "")), 2),
    ] {
        proxy.reload(&file, &format!("{ADMIN}{next}"));
        for upstream in 0..upstreams {
            eventually(|| endpoint(&proxy, upstream)["last_check"] == known);
            assert_eq!(endpoint(&proxy, upstream)["state"], "unhealthy");
        }
        assert_eq!(proxy.get("/").status, 503);
        assert_eq!(ill.connections(), 1, "nobody asked again");
    }
}

#[test]
fn an_endpoint_whose_check_is_given_up_has_traffic() {
    let (origin, is_well) = moody();
    is_well.store(false, SeqCst);
    let upstream = format!("{ADMIN}{}{CALM}", api([&origin]));
    let check = format!("{upstream}[upstreams.api.health]\n{SOON}path = \"/status\"\n");
    let (_folder, file, proxy) = filed(&check);
    assert_eq!(last_check(&proxy).0, "answer");
    assert_eq!(proxy.get("/").status, 503);

    proxy.reload(&file, &upstream);

    assert_eq!(proxy.get("/").text(), "served");
    eventually(|| endpoint(&proxy, 0)["last_check"].is_null());
    assert!(!proxy.admin("/metrics", "").text().contains("staunch_health_checks_total{"));
    assert_eq!(proxy.get("/").text(), "served");
}

#[test]
fn a_reload_reads_certificates_again() {
    let (good, other) = (Authority::new(), Authority::new());
    let identity = good.issue("127.0.0.1");
    let origin = AsyncOrigin::start(Some(good.server(&identity, &[], false)), http);
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::copy(other.ca(), &ca).expect("a file");
    let text = format!(
        "{ADMIN}[upstreams.api]\nendpoints = [\"{origin}\"]\n{CALM}[upstreams.api.health]\n{ONCE}tls = {{ ca = {} }}\n",
        quoted(&ca)
    );
    let (_folder, file, proxy) = filed(&text);
    assert_eq!(last_check(&proxy).0, "tls");

    std::fs::copy(good.ca(), &ca).expect("a file");
    proxy.reload(&file, &text);

    eventually(|| endpoint(&proxy, 0)["state"] == "up");
}
