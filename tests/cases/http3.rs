//! HTTP/3 in front: the same messages, routes and plugins as by any other version.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use bytes::{Buf, Bytes};
use h3::error::{Code, StreamError};
use http::{HeaderMap, HeaderValue};

use super::tls_front::tls;
use crate::harness::{
    ADMIN, Authority, Caller, Exchange, Http3, Proxy, Upstream, answer, api, code, eventually, ok, pattern,
};

/// A proxy that serves HTTP/3 for `localhost`, with who trusts it.
pub(super) struct Front {
    pub(super) proxy: Proxy,
    pub(super) authority: Authority,
    pub(super) caller: Caller,
}

impl Front {
    pub(super) fn to(origin: &Upstream) -> Self {
        Self::with("", "", &api([origin]))
    }

    /// `listener`: further keys of it; `server`: keys of the table; `rest`: the other tables.
    pub(super) fn with(listener: &str, server: &str, rest: &str) -> Self {
        let authority = Authority::new();
        // OpenSSL takes a certificate for one of its own authority whose subject is the same.
        let identity = authority.issue_for(&["localhost"], |params| {
            params.distinguished_name.push(rcgen::DnType::CommonName, "localhost");
        });
        let written = tls(&[&identity], "");
        let proxy = Proxy::with(&format!(
            "[server]\n{server}\n[[listeners]]\naddress = \"127.0.0.1:0\"\nhttp3 = true\n{written}{listener}\n{ADMIN}{rest}"
        ));
        let caller = Caller::to("localhost", &authority).offering(&["h3"]);
        Self { proxy, authority, caller }
    }

    pub(super) fn connect(&self) -> Http3 {
        Http3::connect(&self.caller, self.proxy.address())
    }
}

/// The next bytes of a response's body, at least one, or the end.
async fn some(stream: &mut Exchange) -> Result<Option<Vec<u8>>, StreamError> {
    Ok(stream.recv_data().await?.map(|mut data| data.copy_to_bytes(data.remaining()).to_vec()))
}

#[test]
fn a_request_is_the_same_to_endpoints_whatever_version_brings_it() {
    let origin = Upstream::replying("hello");
    let front = Front::to(&origin);
    let client = front.connect();

    let answer = client.ask("GET", "/a/b?c=d", &[("x-one", "1"), ("cookie", "a=b"), ("cookie", "c=d")], b"");

    assert_eq!((answer.status, answer.text(), answer.field("content-length")), (200, "hello", Some("5")));
    assert!(answer.field("date").is_some());
    let request = origin.only_request();
    assert_eq!(request.line(), "GET /a/b?c=d HTTP/1.1");
    let authority = format!("localhost:{}", front.proxy.address().port());
    for (name, value) in [
        ("host", &authority[..]),
        ("x-one", "1"),
        ("cookie", "a=b; c=d"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(request.field(name), Some(value), "{name}");
    }
    assert_eq!(request.field("transfer-encoding"), None, "there is no body");
}

#[test]
fn a_stream_that_ends_behind_its_head_brings_no_body() {
    let origin = Upstream::replying("hello");
    let front = Front::to(&origin);
    let client = front.connect();
    let begun = client.begin("GET", "/first", &[]);
    let mut stream = client.wait(begun).expect("a stream");

    // Comes behind on the same connection, and passes it.
    assert_eq!(client.ask("GET", "/second", &[], b"").status, 200);
    assert_eq!(origin.only_request().line(), "GET /second HTTP/1.1");
    client.wait(async {
        stream.finish().await.expect("an end");
        assert_eq!(stream.recv_response().await.expect("a response").status(), 200);
    });

    let requests = origin.received();
    assert_eq!(requests[1].line(), "GET /first HTTP/1.1");
    assert_eq!(requests[1].field("transfer-encoding"), None);
}

#[test]
fn an_answer_to_head_has_the_length_and_no_body() {
    let front = Front::to(&Upstream::saying("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"));

    let answer = front.connect().ask("HEAD", "/", &[], b"");

    assert_eq!((answer.status, answer.field("content-length"), answer.body.len()), (200, Some("5"), 0));
}

#[test]
fn large_bodies_pass_in_both_directions_unchanged() {
    let front = Front::to(&Upstream::echo());
    let body = pattern(16 << 20);

    let answer = front.connect().ask("POST", "/", &[], &body);

    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "{} bytes came back of {}", answer.body.len(), body.len());
}

#[test]
fn bodies_stream_in_both_directions_at_a_time() {
    let origin = Upstream::raw(|talk| {
        talk.head();
        talk.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            // A chunk of one byte.
            let Some(chunk) = talk.take(6) else { return };
            talk.send(format!("2\r\n{}!\r\n", char::from(chunk[3])));
        }
        talk.take(5);
        talk.send("0\r\n\r\n");
    });
    let front = Front::to(&origin);
    let client = front.connect();
    let begun = client.begin("POST", "/", &[]);

    client.wait(async move {
        let mut stream = begun.await.expect("a stream");
        stream.send_data(Bytes::from_static(b"a")).await.expect("room");
        assert_eq!(stream.recv_response().await.expect("a response").status(), 200);
        assert_eq!(some(&mut stream).await.expect("data").as_deref(), Some(&b"a!"[..]));
        for (asked, answered) in [("b", "b!"), ("c", "c!")] {
            stream.send_data(Bytes::from_static(asked.as_bytes())).await.expect("room");
            assert_eq!(some(&mut stream).await.expect("data").as_deref(), Some(answered.as_bytes()));
        }
        stream.finish().await.expect("an end");
        assert_eq!(some(&mut stream).await.expect("the end"), None);
    });
}

#[test]
fn trailers_pass_in_both_directions() {
    let origin = Upstream::answering(|_| {
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n"
            .to_vec()
    });
    let front = Front::to(&origin);
    let client = front.connect();
    let begun = client.begin("POST", "/", &[("trailer", "x-mark")]);

    let answer = client.wait(async move {
        let mut stream = begun.await.expect("a stream");
        stream.send_data(Bytes::from_static(b"body")).await.expect("room");
        let trailers = HeaderMap::from_iter([("x-mark".parse().expect("a name"), HeaderValue::from_static("9"))]);
        stream.send_trailers(trailers).await.expect("room");
        stream.finish().await.expect("an end");
        answer(&mut stream).await.expect("an answer")
    });

    assert_eq!(answer.text(), "hi");
    assert_eq!(answer.trailers.expect("trailers").get("x-sum").map(HeaderValue::as_bytes), Some(&b"7"[..]));
    let request = origin.only_request();
    assert_eq!(request.body, b"body");
    assert!(request.trailers.iter().any(|(name, value)| name == "x-mark" && value == "9"), "{:?}", request.trailers);
}

#[test]
fn interim_responses_are_passed_on() {
    let front = Front::to(&Upstream::saying(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    ));
    let client = front.connect();
    let begun = client.begin("GET", "/", &[]);

    client.wait(async move {
        let mut stream = begun.await.expect("a stream");
        stream.finish().await.expect("an end");
        let hints = stream.recv_response().await.expect("hints");
        assert_eq!((hints.status().as_u16(), &hints.headers()["link"]), (103, &HeaderValue::from_static("</a>")));
        assert_eq!(answer(&mut stream).await.expect("an answer").text(), "hi");
    });
}

#[test]
fn an_endpoint_is_left_when_the_client_gives_up() {
    let origin = Upstream::stalling();
    let front = Front::to(&origin);
    let client = front.connect();
    let begun = client.begin("GET", "/", &[]);
    let mut stream = client.wait(async move {
        let mut stream = begun.await.expect("a stream");
        stream.finish().await.expect("an end");
        stream
    });
    eventually(|| origin.requests() == 1);
    assert_eq!(origin.open_connections(), 1);

    stream.stop_sending(Code::H3_REQUEST_CANCELLED);

    eventually(|| origin.open_connections() == 0);
}

#[test]
fn an_endpoint_is_left_when_the_client_breaks_its_body_off() {
    let origin = Upstream::stalling();
    let front = Front::to(&origin);
    let client = front.connect();
    let begun = client.begin("POST", "/", &[]);
    let mut stream = client.wait(async move {
        let mut stream = begun.await.expect("a stream");
        stream.send_data(Bytes::from_static(b"begun")).await.expect("room");
        stream
    });
    eventually(|| !origin.received().is_empty());

    stream.stop_stream(Code::H3_REQUEST_CANCELLED);

    eventually(|| origin.open_connections() == 0);
    assert!(!origin.received()[0].is_whole, "what broke off must not look complete");
}

#[test]
fn an_endpoint_that_is_not_there_is_a_502() {
    let front = Front::to(&Upstream::refusing());
    let client = front.connect();

    assert_eq!(client.get("/").status, 502);
    assert_eq!(client.get("/").status, 502, "the connection goes on");
}

#[test]
fn a_body_that_breaks_off_does_not_look_complete() {
    // Of the second nobody knows how long it is to be.
    let unframed = Upstream::raw(|talk| {
        talk.request();
        talk.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
        talk.wait_for(|| false);
    });
    for origin in [Upstream::truncating(), unframed] {
        let front = Front::to(&origin);
        let client = front.connect();
        let begun = client.begin("GET", "/", &[]);

        let broken = client.wait(async move {
            let mut stream = begun.await.expect("a stream");
            stream.finish().await.expect("an end");
            // A reset may overtake what was sent before it.
            if let Err(error) = stream.recv_response().await {
                return error;
            }
            loop {
                match some(&mut stream).await {
                    Ok(Some(_)) => origin.close_connections(),
                    Ok(None) => panic!("it looks complete"),
                    Err(error) => return error,
                }
            }
        });

        assert_eq!(code(&broken), Some(Code::H3_INTERNAL_ERROR), "{broken:?}");
    }
}

#[test]
fn a_hundred_requests_share_a_connection() {
    let origin = Upstream::answering(|request| ok(request.target()));
    let front = Front::to(&origin);
    let client = front.connect();

    let asked: Vec<_> = (0..100)
        .map(|number| {
            let begun = client.begin("GET", &format!("/{number}"), &[]);
            client.spawn(async move {
                let mut stream = begun.await?;
                stream.finish().await?;
                answer(&mut stream).await
            })
        })
        .collect();

    for (number, asked) in asked.into_iter().enumerate() {
        let answer = client.wait(asked).expect("no panic").expect("an answer");
        assert_eq!(answer.text(), format!("/{number}"));
    }
    assert_eq!(front.proxy.metric("staunch_listener_connections_accepted_total"), 1.0);
}

#[test]
fn routes_and_plugins_are_those_of_every_version() {
    let origin = Upstream::replying("api");
    let routes = "[[routes]]\nmethods = [\"PUT\"]\nrespond = { status = 405, body = \"never\" }\n\
                  [[routes]]\npath = \"/api/\"\nupstream = \"api\"\nrewrite = [{ plugin = \"request-id\" }]\n";
    let front = Front::with("", "", &format!("{}{routes}", api([&origin])));
    let client = front.connect();

    let routed = client.get("/api/x");

    assert_eq!(routed.text(), "api");
    assert!(routed.field("x-request-id").is_some());
    let refused = client.ask("PUT", "/", &[], b"a body");
    assert_eq!((refused.status, refused.text()), (405, "never"));
    assert_eq!(client.get("/other").status, 404);
}

#[test]
fn the_access_log_names_the_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.log");
    let log = format!("[access_log]\npath = \"{}\"\nformat = \"combined\"\n", file.display());
    let front = Front::with("", "", &format!("{log}{}", api([&Upstream::replying("")])));

    front.connect().get("/logged");

    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    eventually(|| read().contains("\"GET /logged HTTP/3.0\" 200"));
}

#[test]
fn other_versions_are_told_of_it() {
    let own = Upstream::answering(|request| match request.target() == "/own" {
        true => b"HTTP/1.1 200 OK\r\nalt-svc: clear\r\ncontent-length: 0\r\n\r\n".to_vec(),
        false => ok(""),
    });
    for (key, told) in
        [("", None), ("alt_svc = false", Some(None)), ("alt_svc = 'h3=\":443\"'", Some(Some("h3=\":443\"")))]
    {
        let front = Front::with(key, "", &api([&own]));
        let port = front.proxy.address().port();
        let expected = told.map_or(Some(format!("h3=\":{port}\"; ma=86400")), |told| told.map(str::to_owned));
        let mut client = Caller::to("localhost", &front.authority).connect(front.proxy.address()).expect("a client");

        assert_eq!(client.get("/").field("alt-svc"), expected.as_deref(), "with {key}");
        assert_eq!(client.get("/own").field("alt-svc"), Some("clear"), "with {key}");
        assert_eq!(front.connect().get("/").field("alt-svc"), None, "who speaks it knows");
    }
}

#[test]
fn a_body_has_the_length_that_was_announced_or_is_malformed() {
    for (announced, body) in [("3", "four"), ("5", "four")] {
        let origin = Upstream::echo();
        let front = Front::to(&origin);

        let refused = front.connect().try_ask("POST", "/", &[("content-length", announced)], body.as_bytes());

        let refused = refused.expect_err("a reset");
        assert_eq!(code(&refused), Some(Code::H3_MESSAGE_ERROR), "{refused:?}");
        assert!(origin.received().iter().all(|request| !request.is_whole), "{announced} for {body}");
    }
}

#[test]
fn what_is_too_long_or_malformed_gets_the_answer_it_deserves() {
    let origin = Upstream::replying("");
    let front = Front::with(
        "",
        "max_header_size = \"4KiB\"\nmax_target_size = \"1KiB\"\nmax_body_size = \"10B\"\nmax_headers = 8",
        &api([&origin]),
    );
    let client = front.connect();
    let long = "a".repeat(2000);

    assert_eq!(client.get(&format!("/{long}")).status, 414);
    assert_eq!(client.ask("POST", "/", &[], &[b'a'; 11]).status, 413);
    let many: Vec<_> = (0..9).map(|_| ("x-one", "1")).collect();
    assert_eq!(client.ask("GET", "/", &many, b"").status, 431);
    assert_eq!(client.ask("GET", "/", &[("expect", "miracles")], b"").status, 417);
    assert_eq!(client.get("/").status, 200, "the connection goes on");
    assert_eq!(origin.requests(), 2, "but for the body that was too long, nothing of it has gone further");
}

#[test]
fn a_slow_reader_holds_its_own_response_up_and_no_other() {
    let wrote_all = Arc::new(AtomicBool::new(false));
    let wrote = wrote_all.clone();
    let origin = Upstream::raw(move |talk| {
        while let Some(request) = talk.request() {
            let is_large = request.target() == "/large";
            talk.send(ok(pattern(if is_large { 64 << 20 } else { 5 })));
            wrote.fetch_or(is_large, SeqCst);
        }
    });
    let front = Front::to(&origin);
    let client = front.connect();
    let begun = client.begin("GET", "/large", &[]);
    let mut stream = client.wait(async move {
        let mut stream = begun.await.expect("a stream");
        stream.finish().await.expect("an end");
        stream.recv_response().await.expect("a response");
        stream
    });

    assert_eq!(client.get("/small").body.len(), 5);

    assert!(!wrote_all.load(SeqCst), "the whole response waits in the proxy");
    let read = client.wait(async move {
        let mut read = 0;
        while let Some(data) = some(&mut stream).await.expect("data") {
            read += data.len();
        }
        read
    });
    assert_eq!(read, 64 << 20);
}

#[test]
fn another_library_talks_to_it() {
    let python = std::env::var("STAUNCH_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", "import aioquic"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        println!("skipped: {python} has no `aioquic` (pip install aioquic; STAUNCH_TEST_PYTHON names another)");
        return;
    }
    let origin = Upstream::answering(|request| {
        let method = request.line().split(' ').next().unwrap_or_default();
        let length = if method == "HEAD" { 0 } else { request.body.len() };
        let head = format!("HTTP/1.1 200 OK\r\nx-method: {method}\r\ncontent-length: {length}\r\n\r\n");
        [head.as_bytes(), &request.body[..length]].concat()
    });
    let front = Front::with("", "workers = 2", &api([&origin]));

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/http3.py");
    let port = front.proxy.address().port().to_string();
    let run = Command::new(&python).arg(script).arg(port).arg(front.authority.ca()).output().expect("python");

    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn the_example_serves_it() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("tls")).expect("a folder");
    let identity = authority.issue("localhost");
    for (from, to) in [(&identity.cert, "tls/default.pem"), (&identity.key, "tls/default.key")] {
        std::fs::copy(from, folder.path().join(to)).expect("a file");
    }
    let text = include_str!("../../examples/http3.toml")
        .replace("127.0.0.1:8443", "127.0.0.1:0")
        .replace("127.0.0.1:9000", &Upstream::replying("hi").to_string());
    let proxy = Proxy::start(&text, Some(&folder.path().join("staunch.toml"))).expect("it is fine");
    let caller = Caller::to("localhost", &authority);

    assert_eq!(Http3::connect(&caller.clone().offering(&["h3"]), proxy.address()).get("/").text(), "hi");
    let mut other = caller.connect(proxy.address()).expect("a client");
    assert_eq!(other.get("/").field("alt-svc"), Some("h3=\":443\"; ma=3600"));
}
