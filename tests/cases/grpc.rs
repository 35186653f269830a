//! gRPC: calls pass as they are, and what the proxy says itself it says in gRPC's words.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{
    ADMIN, AsyncOrigin, Authority, Client, Identity, Log, Proxy, Response, Upstream, api, eventually, ok, quoted,
};

/// Makes a call of an empty message, with these further lines.
fn call(proxy: &Proxy, path: &str, lines: &str) -> Response {
    let mut client = Client::to(proxy);
    client.send(format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/grpc\r\nTE: trailers\r\n{lines}\
         Content-Length: 5\r\n\r\n\0\0\0\0\0"
    ));
    client.response()
}

/// What a call came to, if that was said in the head.
fn outcome(response: &Response) -> (u16, Option<&str>, Option<&str>, usize) {
    let (code, message) = (response.field("grpc-status"), response.field("grpc-message"));
    (response.status, code, message, response.body.len())
}

/// An endpoint whose calls end at once with this code.
fn ending(code: u32) -> Upstream {
    Upstream::saying(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: {code}\r\ncontent-length: 0\r\n\r\n"
    ))
}

#[test]
fn a_failure_is_told_in_grpcs_words() {
    let settings = "response_timeout = \"200ms\"\n[upstreams.api.retry]\nattempts = 1\n";
    for (name, endpoint, code, message) in [
        ("refused", Upstream::refusing(), "14", "Bad Gateway"),
        ("reset", Upstream::raw(|talk| drop(talk.request())), "14", "Bad Gateway"),
        ("garbage", Upstream::garbling(), "14", "Bad Gateway"),
        ("silent", Upstream::stalling(), "4", "Gateway Timeout"),
    ] {
        let log = Log::new();
        let pages = "[server]\nerror_pages = { \"5xx\" = { body = \"a page\" } }\n";
        let proxy = Proxy::with(&format!("{pages}{}{}{settings}", log.settings(), api([&endpoint])));

        let response = call(&proxy, "/", "");

        assert_eq!(outcome(&response), (200, Some(code), Some(message), 0), "{name}");
        assert_eq!(response.field("content-type"), Some("application/grpc"), "{name}");
        let line = log.line();
        let number: u32 = code.parse().expect("a number");
        assert_eq!((&line["status"], &line["grpc_status"]), (&200.into(), &number.into()), "{line}");
        assert!(line["error"].is_string(), "{line}");
    }
}

#[test]
fn whatever_the_proxy_answers_itself_is_told_in_grpcs_words() {
    let down = "[upstreams.api]\nendpoints = [{ address = \"127.0.0.1:9\", down = true }]\n";
    let routes = "[[routes]]\npath = \"/down\"\nupstream = \"api\"\n\
         [[routes]]\npath = \"/closed\"\nmaintenance = { respond = { status = 503, body = \"back at 5% to\" } }\nupstream = \"api\"\n\
         [[routes]]\npath = \"/said\"\nrespond = { status = 403, body = \"no\" }\n\
         [[routes]]\npath = \"/secret\"\nrewrite = [{ plugin = \"basic-auth\", config = { users = \"alice:$2b$10$pnR8XyvoK1GXJMiRK0X7d.5ED/2fR5nAKWypmVBLhEYFUImHwXR96\" } }]\nupstream = \"api\"\n\
         [[routes]]\npath = \"/limited\"\nrate_limit = { rate = \"1r/m\" }\nrespond = { status = 404 }\n\
         [[routes]]\npath = \"/back\"\nupstream = \"api\"\nfallback = [{ respond = { status = 503, body = \"fallen\" } }]\n\
         [[routes]]\npath = \"/own\"\nrespond = { status = 200, headers = { content-type = \"application/grpc\", grpc-status = \"5\" } }\n";
    let proxy = Proxy::with(&format!("[server]\nmax_body_size = \"5B\"\n{down}{routes}"));

    for (path, code, message) in [
        ("/none", "12", Some("Not Found")),
        ("/down", "14", Some("Service Unavailable")),
        ("/closed", "14", Some("back at 5%25 to")),
        ("/said", "7", Some("no")),
        ("/limited", "12", Some("Not Found")),
        ("/limited", "14", Some("too many requests")),
        ("/back", "14", Some("fallen")),
        ("/own", "5", None),
    ] {
        assert_eq!(outcome(&call(&proxy, path, "")), (200, Some(code), message, 0), "{path}");
    }
    assert_eq!(call(&proxy, "/closed", "").field("retry-after"), Some("60"));
    assert_eq!(call(&proxy, "/secret", "").field("grpc-status"), Some("16"));

    let mut client = Client::to(&proxy);
    client.send("POST /said HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 6\r\n\r\n");
    assert_eq!(client.response().field("grpc-status"), Some("8"), "a message that is too large");

    // Whoever does not speak gRPC is answered as ever.
    for content_type in ["application/grpc-web", "application/json"] {
        let mut client = Client::to(&proxy);
        client.send(format!(
            "POST /said HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nContent-Length: 0\r\n\r\n"
        ));
        let response = client.response();
        assert_eq!((response.status, response.text(), response.field("grpc-status")), (403, "no", None));
    }
}

#[test]
fn a_call_ends_when_its_client_stops_waiting() {
    let log = Log::new();
    let route = "[[routes]]\nupstream = \"api\"\ntimeout = \"60s\"\n";
    let origin = Upstream::stalling();
    let proxy = Proxy::with(&format!("{}{}{route}", log.settings(), api([&origin])));

    let response = call(&proxy, "/", "grpc-timeout: 100m\r\n");

    assert_eq!(outcome(&response), (200, Some("4"), Some("Gateway Timeout"), 0));
    assert_eq!(origin.only_request().field("grpc-timeout"), Some("100m"));
    assert_eq!(log.line()["grpc_status"], 4);
}

#[test]
fn a_routes_timeout_ends_a_call_whose_client_would_wait_longer() {
    let route = "[[routes]]\nupstream = \"api\"\ntimeout = \"100ms\"\n";
    for lines in ["", "grpc-timeout: 99999999H\r\n", "grpc-timeout: 1x\r\n"] {
        let proxy = Proxy::with(&format!("{}{route}", api([&Upstream::stalling()])));

        assert_eq!(call(&proxy, "/", lines).field("grpc-status"), Some("4"), "with {lines:?}");
    }
    // A field of this name means nothing elsewhere.
    let proxy = Proxy::to([&Upstream::raw(|talk| {
        while talk.request().is_some() {
            talk.pause(std::time::Duration::from_millis(50));
            talk.send(ok("slow"));
        }
    })]);
    assert_eq!(Client::to(&proxy).ask("GET", "/", "grpc-timeout: 1n\r\n").text(), "slow");
}

#[test]
fn an_endpoints_answer_stays_as_it_is() {
    let log = Log::new();
    let pages = "[server]\nerror_pages = { intercept = true, \"5xx\" = { body = \"a page\" } }\n";
    let endpoint = Upstream::saying("HTTP/1.1 502 Bad\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\noops");
    let proxy = Proxy::with(&format!("{pages}{}{}", log.settings(), api([&endpoint])));

    let response = call(&proxy, "/", "");

    assert_eq!((response.status, response.text(), response.field("grpc-status")), (502, "oops", None));
    let line = log.line();
    assert_eq!((&line["status"], line.get("grpc_status")), (&502.into(), None), "{line}");
}

#[test]
fn how_a_call_ended_is_in_the_access_log() {
    let trailing = Upstream::saying(
        "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\ntrailer: grpc-status\r\n\r\n\
         5\r\n\0\0\0\0\0\r\n0\r\ngrpc-status: 5\r\ngrpc-message: none\r\n\r\n",
    );
    for (endpoint, code) in [(ending(0), 0), (ending(16), 16), (trailing, 5)] {
        let log = Log::new();
        let proxy = Proxy::with(&format!("{}{}", log.settings(), api([&endpoint])));

        let response = call(&proxy, "/", "");

        assert_eq!(response.status, 200);
        let line = log.line();
        assert_eq!((&line["status"], &line["grpc_status"]), (&200.into(), &code.into()), "{line}");
    }
    let log = Log::new();
    let proxy = Proxy::with(&format!("{}{}", log.settings(), api([&ending(14)])));
    proxy.get("/");
    assert_eq!(log.line().get("grpc_status"), None, "not a call");
}

#[test]
fn a_call_is_tried_again_for_the_codes_that_are_named() {
    for (policy, code, again) in [
        ("plugin = \"standard\"\nconfig = { on = [\"grpc_unavailable\", \"non_idempotent\"] }", 14, true),
        ("plugin = \"standard\"\nconfig = { on = [\"grpc_unavailable\", \"non_idempotent\"] }", 13, false),
        ("plugin = \"standard\"", 14, false),
        ("plugin = \"backoff\"\nconfig = { on = [\"unavailable\", \"cancelled\"], non_idempotent = true }", 1, true),
        ("plugin = \"backoff\"\nconfig = { on = [\"unavailable\", \"cancelled\"], non_idempotent = true }", 8, false),
    ] {
        let (bad, good) = (ending(code), ending(0));
        let proxy = Proxy::with(&format!("{}[upstreams.api.retry]\n{policy}\n", api([&bad, &good])));

        let codes = [(); 2].map(|()| call(&proxy, "/", "").field("grpc-status").map(str::to_owned));

        let bad = (!again).then(|| code.to_string());
        assert_eq!(codes.iter().flatten().find(|code| **code != "0"), bad.as_ref(), "{policy}, {code}");
    }
}

#[test]
fn an_endpoint_whose_calls_fail_is_ejected() {
    for (code, is_ejected) in [(14, true), (13, true), (5, false), (8, false)] {
        let (bad, good) = (ending(code), ending(0));
        let proxy =
            Proxy::with(&format!("{ADMIN}{}[upstreams.api.passive]\npolicy = \"outlier\"\n", api([&bad, &good])));

        for _ in 0..20 {
            call(&proxy, "/", "");
        }

        let state = if is_ejected { "ejected" } else { "up" };
        assert_eq!(proxy.endpoint(&bad)["state"], state, "with {code}");
        assert_eq!(proxy.endpoint(&good)["state"], "up");
    }
}

#[test]
fn a_breaker_opens_for_calls_that_fail() {
    let breaker = "breaker = { failures = \"50%\" }\n";
    let origin = ending(14);
    let proxy = Proxy::with(&format!("{ADMIN}{}{breaker}", api([&origin])));

    eventually(|| {
        call(&proxy, "/", "");
        proxy.metric("staunch_upstream_requests_total{upstream=\"api\",outcome=\"breaker_open\"}") > 0.0
    });
}

/// An endpoint of HTTP/2 that reads calls to their end and ends them with this code.
fn ending_over_http2(code: &'static str) -> AsyncOrigin {
    AsyncOrigin::start(None, move |stream| async move {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                let mut body = request.into_body();
                let mut length = 0;
                while let Some(Ok(data)) = body.data().await {
                    length += data.len();
                }
                let response = http::Response::builder()
                    .header("content-type", "application/grpc")
                    .header("grpc-status", code)
                    .header("x-length", length)
                    .body(())
                    .expect("a response");
                // Whoever asked may be gone.
                let _ = respond.send_response(response, true);
            });
        }
    })
}

#[test]
fn a_call_is_sent_whole_on_a_second_connection() {
    // All of it is there when that connection is not ready yet.
    let (bad, good) = (ending_over_http2("14"), ending_over_http2("0"));
    let policy = "config = { on = [\"grpc_unavailable\", \"non_idempotent\"] }";
    let proxy = Proxy::with(&format!(
        "[upstreams.api]\nendpoints = [\"{bad}\", \"{good}\"]\nprotocol = \"http2\"\n[upstreams.api.retry]\n{policy}\n"
    ));

    let response = call(&proxy, "/", "");

    assert_eq!((response.field("grpc-status"), response.field("x-length")), (Some("0"), Some("5")));
}

/// Runs a scenario of gRPC's own library, with servers and clients on both sides of a proxy of this configuration, in which
/// `SERVERS` stands for the endpoints.
fn scenario(name: &str, settings: &str, identity: Option<(&Authority, &Identity)>) {
    let python = std::env::var("STAUNCH_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", "import grpc, grpc_health.v1.health"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        println!("skipped: {python} has no `grpcio-health-checking` (pip install; STAUNCH_TEST_PYTHON names another)");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/grpc_calls.py");
    let mut command = Command::new(&python);
    command.arg(script).arg(name).stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some((authority, identity)) = identity {
        command.arg(authority.ca()).arg(&identity.cert).arg(&identity.key);
    }
    let mut child = command.spawn().expect("python");
    // It names the ports of its servers, and is told the proxy's.
    let mut said = BufReader::new(child.stdout.take().expect("piped"));
    let mut ports = String::new();
    said.read_line(&mut ports).expect("a line");
    let servers: Vec<_> = ports.split_whitespace().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    let proxy = Proxy::with(&settings.replace("SERVERS", &servers.join(", ")));
    writeln!(child.stdin.take().expect("piped"), "{}", proxy.address()).expect("it reads");

    assert!(child.wait().expect("a child").success(), "{name}");
}

const PLAIN: &str = "[upstreams.api]\nendpoints = [SERVERS]\nprotocol = \"http2\"\n";

#[test]
fn calls_of_every_kind_pass_with_their_metadata_and_trailers() {
    scenario("calls", PLAIN, None);
}

#[test]
fn calls_of_every_kind_pass_over_tls() {
    let authority = Authority::new();
    let identity = authority.issue("127.0.0.1");
    let (cert, key, ca) = (quoted(&identity.cert), quoted(&identity.key), quoted(&authority.ca()));
    let listener = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = {{ certificates = [{{ cert = {cert}, key = {key} }}] }}\n"
    );
    let settings = format!("{listener}{PLAIN}tls = {{ ca = {ca} }}\n");
    for name in ["calls", "outcomes"] {
        scenario(name, &settings, Some((&authority, &identity)));
    }
}

#[test]
fn messages_of_16_mib_and_many_at_a_time_arrive_whole() {
    scenario("large", PLAIN, None);
}

#[test]
fn what_a_server_says_of_a_calls_end_its_client_hears() {
    scenario("outcomes", PLAIN, None);
}

#[test]
fn a_clients_deadline_reaches_the_server() {
    scenario("deadline", PLAIN, None);
}

#[test]
fn a_routes_deadline_is_told_as_one() {
    scenario("route_timeout", &format!("{PLAIN}[[routes]]\nupstream = \"api\"\ntimeout = \"500ms\"\n"), None);
}

#[test]
fn a_call_that_its_client_gives_up_is_over_for_the_server() {
    scenario("cancellation", PLAIN, None);
}

#[test]
fn a_server_that_is_not_there_is_unavailable_to_a_client() {
    let upstream = format!("[upstreams.api]\nendpoints = [\"{}\"]\nprotocol = \"http2\"\n", Upstream::refusing());
    scenario("refused", &format!("{upstream}[[routes]]\npath = \"/test.Calls\"\nupstream = \"api\"\n"), None);
}

#[test]
fn a_call_that_one_server_cannot_take_is_answered_by_another() {
    let policy = "[upstreams.api.retry]\nconfig = { on = [\"grpc_unavailable\", \"non_idempotent\"] }\n\
         budget = { min = 100 }\n";
    scenario("retry", &format!("{PLAIN}{policy}"), None);
}

#[test]
fn a_server_that_says_it_does_not_serve_gets_no_calls() {
    let check = "[upstreams.api.health]\ntype = \"grpc\"\ninterval = \"50ms\"\n";
    scenario("checked", &format!("{PLAIN}{check}"), None);
}

#[test]
fn calls_survive_the_restart_of_their_server() {
    scenario("restart", &format!("{PLAIN}[upstreams.api.passive]\nmax_fails = 0\n"), None);
}

#[test]
fn the_example_for_grpc_serves() {
    let example = include_str!("../../examples/grpc.toml");
    let settings = example.replace("\"127.0.0.1:50051\", \"127.0.0.1:50052\"", "SERVERS");
    let settings =
        settings.replace("\"127.0.0.1:8080\"", "\"127.0.0.1:0\"").replace("\"127.0.0.1:9900\"", "\"127.0.0.1:0\"");
    assert!(settings.contains("SERVERS"));

    scenario("retry", &settings, None);
}
