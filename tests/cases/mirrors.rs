//! What the examples give to plugins in C, Zig, Go and TypeScript says the same as `wit/`.
//!
//! Skipped where `STAUNCH_EXAMPLES` is not set; `tests/languages/build` builds what is tested.

use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{ADMIN, Client, End, Proxy, Response, Upstream, eventually};

/// What the mirrors are written in; `tests/languages/README.md` says what they do.
const MIRRORS: [&str; 4] = ["c", "zig", "go", "ts"];

fn file(language: &str) -> Option<PathBuf> {
    let Some(examples) = std::env::var_os("STAUNCH_EXAMPLES").map(PathBuf::from) else {
        println!("skipped: STAUNCH_EXAMPLES is not set (tests/languages/build)");
        return None;
    };
    Some(examples.join("../../tests/languages/target").join(format!("{language}.wasm")))
}

/// A proxy with a mirror in every place, and its two origins; none where they are not built.
fn mirror(language: &str, settings: &str) -> Option<Result<(Proxy, [Upstream; 2]), String>> {
    let plugin = file(language)?;
    let origins = ["A", "B"].map(|name| {
        Upstream::answering(move |request| {
            let target = request.head.line.split(' ').nth(1).unwrap_or_default();
            match target {
                "/plain/retry" if name == "A" => {
                    "HTTP/1.1 503 Busy\r\nretry-after: 0\r\nx-try: 1\r\ncontent-length: 0\r\n\r\n".into()
                }
                _ => {
                    let asked = request.head.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-ask"));
                    let (status, line) = match asked.map(|(_, asked)| asked.as_str()) {
                        Some("404") => ("404 No", ""),
                        Some("plain") => ("200 OK", "x-plain: 1\r\n"),
                        _ => ("200 OK", ""),
                    };
                    let head = format!("HTTP/1.1 {status}\r\nx-b: v\r\n{line}content-length: 8\r\n\r\n");
                    format!("{head}origin {name}").into_bytes()
                }
            }
        })
    });
    let text = format!(
        "{ADMIN}[plugins.mirror]\npath = \"{}\"\ndeadline = \"500ms\"\n\
         [upstreams.api]\nbalance = {{ plugin = \"mirror\", then = \"round-robin\", config = {{ {settings} }} }}\n\
         endpoints = [{{ address = \"{}\", zone = \"z1\", weight = 3, labels = {{ name = \"alpha\" }} }}, \
         {{ address = \"{}\", labels = {{ name = \"beta\" }} }}]\n\
         [upstreams.api.passive]\nmax_fails = 0\n[upstreams.api.retry]\nplugin = \"mirror\"\n\
         [[routes]]\nname = \"main\"\nupstream = \"api\"\nrewrite = [\"mirror\"]\n\
         [[routes]]\npath = \"/plain\"\nupstream = \"api\"\n\
         [[routes]]\npath = \"/skipped\"\nupstream = \"api\"\n\
         rewrite = [{{ plugin = \"mirror\", config = {{ skip = 1 }} }}]\n",
        plugin.display(),
        origins[0],
        origins[1]
    );
    Some(Proxy::start(&text, None).map(|proxy| (proxy, origins)))
}

/// The low bits of what the host makes of a key.
fn hashed(key: &str) -> u64 {
    xxhash_rust::xxh64::xxh64(key.as_bytes(), 0) & 0xff
}

#[test]
fn every_language_says_of_balancing_and_retrying_what_the_contract_says() {
    for language in MIRRORS {
        let Some(started) = mirror(language, "list = [\"a\", \"b\"]") else { return };
        let (proxy, [a, b]) = started.expect(language);
        let mut client = Client::to(&proxy);

        let first = client.ask("GET", "/plain", "X-Key: bet\r\n");
        assert_eq!((first.text(), first.field("x-name")), ("origin B", Some("beta - 1")), "{language}");
        let seen = format!("bet {} 0 0 2 2 0 0", hashed("bet"));
        assert_eq!(first.field("x-seen"), Some(&*seen), "{language}");
        let second = client.ask("GET", "/plain", "X-Key: alpha z\r\n");
        assert_eq!((second.text(), second.field("x-name")), ("origin A", Some("alpha z1 3")), "{language}");
        let seen = format!("alpha z {} 0 0 2 2 0 200", hashed("alpha z"));
        assert_eq!(second.field("x-seen"), Some(&*seen), "{language}: it heard of the first");
        let other = client.get("/plain");
        let seen = format!("127.0.0.1 {} 0 0 2 2 0 200", hashed("127.0.0.1"));
        assert_eq!((other.status, other.field("x-seen")), (200, Some(&*seen)), "{language}: by the one behind");
        assert_eq!(client.ask("GET", "/plain", "X-Key: busy\r\n").status, 503, "{language}");

        let before = a.requests();
        let retried = client.ask("POST", "/plain/retry", "X-Key: alpha\r\nContent-Length: 0\r\n");
        assert_eq!((retried.text(), a.requests()), ("origin B", before + 1), "{language}");
        let seen = format!("alpha {} 1 0 2 2 1 503", hashed("alpha"));
        assert_eq!(retried.field("x-seen"), Some(&*seen), "{language}");
        let safe = client.ask("GET", "/plain/retry", "X-Key: alpha\r\n");
        assert_eq!(safe.status, 503, "{language}: only requests of other methods");

        assert!(b.requests() >= 2, "{language}");
        let picks = proxy.metric("staunch_plugin_mirror_picks_total{use=\"upstream api: balance\"}");
        assert_eq!(picks, 7.0, "{language}");
        assert_faultless(&proxy, language);
    }
}

#[test]
fn every_language_says_of_rewriting_what_the_contract_says() {
    for language in MIRRORS {
        let Some(started) = mirror(language, "") else { return };
        let (proxy, [a, _]) = started.expect(language);
        let mut client = Client::to(&proxy);
        let ask = |client: &mut Client, lines: &str, body: &str| {
            let length = body.len();
            client.send(format!(
                "POST /x?y HTTP/1.1\r\nHost: test\r\nX-Key: alpha\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
            ));
            client.response()
        };

        let response = ask(&mut client, "X-A: 1\r\nX-D: p\r\nX-D: q\r\n", "hello");
        assert_eq!((response.status, response.text()), (203, "ORIGIN A!"), "{language}");
        assert_eq!(response.field("x-response"), Some("v 1 /x?y 1 1"), "{language}");
        let request = a.only_request();
        assert_eq!(request.head.line, "PATCH /mirrored HTTP/1.1", "{language}");
        assert_eq!(request.body, b"HELLO!", "{language}");
        let all = |name: &str| -> Vec<&str> {
            let fields = request.head.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
            fields.map(|(_, value)| value.as_str()).collect()
        };
        assert_eq!(all("host"), ["mirror.test"], "{language}");
        assert_eq!(all("x-request"), ["POST http test 127.0.0.1 main api three"], "{language}");
        assert_eq!(all("x-counts"), ["32 1 1 1 2 0"], "{language}");
        assert_eq!((all("x-a"), all("x-d")), (vec!["1", "1"], vec![]), "{language}");

        let plain = ask(&mut client, "X-Ask: plain\r\n", "");
        assert_eq!(plain.text(), "origin A", "{language}");
        let gone = ask(&mut client, "X-Ask: 404\r\n", "");
        assert_eq!((gone.status, gone.text()), (410, "gone"), "{language}");
        let made = client.get("/respond");
        assert_eq!((made.status, made.field("x-made"), made.text()), (418, Some("here"), "made"), "{language}");
        let skipped = client.ask("GET", "/skipped", "X-Key: alpha\r\n");
        assert_eq!((skipped.status, skipped.field("x-response")), (200, None), "{language}");
        let many = "x".repeat(300_000);
        assert_eq!(ask(&mut client, "", &many).status, 203, "{language}");
        let received = a.received().pop().expect("a request").body;
        assert!(received.len() == 300_001 && received.starts_with(b"XXX") && received.ends_with(b"X!"), "{language}");
        assert_faultless(&proxy, language);
    }
}

#[test]
fn every_language_hands_over_what_it_learned() {
    for language in MIRRORS {
        let Some(started) = mirror(language, "") else { return };
        let (proxy, _origins) = started.expect(language);
        let mut client = Client::to(&proxy);
        let mut observed = || {
            let seen = client.ask("GET", "/plain", "X-Key: alpha\r\n");
            seen.field("x-seen").and_then(|seen| seen.rsplit(' ').next().map(str::to_owned)).expect("it was picked")
        };
        assert_eq!(observed(), "0", "{language}");
        eventually(|| observed() == "200");

        // Another version: the same with a custom section at its end.
        let mut next = std::fs::read(file(language).expect("built")).expect("it is there");
        next.extend(b"\0\x02\x01v");
        let mut admin = Client::connect(proxy.admin_address());
        let head = format!("PUT /api/plugins/mirror HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", next.len());
        admin.send([head.as_bytes(), &next].concat());
        let answer = patient_response(&mut admin);

        assert_eq!(answer.status, 200, "{language}: {}", answer.text());
        assert_eq!(observed(), "3", "{language}: the length of what was saved, 200");
    }
}

#[test]
fn every_language_refuses_settings_with_words_of_its_own() {
    for language in MIRRORS {
        let Some(refused) = mirror(language, "refuse = \"not so — never\"") else { return };
        let error = refused.map(|_| ()).expect_err(language);
        assert!(error.contains("`refuse`: not so — never"), "{language}: {error}");
        let error = mirror(language, "list = [\"a\", \"c\"]").expect("built").map(|_| ()).expect_err(language);
        assert!(error.contains("`list`: not b"), "{language}: {error}");
    }
}

/// The response to what takes longer than anything else may: on a busy machine a runtime is compiled for many seconds.
#[track_caller]
fn patient_response(client: &mut Client) -> Response {
    for _ in 0..12 {
        match client.try_response() {
            Ok(response) => return response,
            Err(broken) => assert!(broken.part.is_none() && broken.end == End::Silent, "{broken:?}"),
        }
    }
    panic!("nothing came");
}

#[track_caller]
fn assert_faultless(proxy: &Proxy, language: &str) {
    let plugins: Vec<Value> = serde_json::from_slice(&proxy.admin("/api/plugins", "").body).expect("JSON");
    for plugin in &plugins {
        assert_eq!(plugin["fallbacks"], 0, "{language}: {plugin}");
    }
}
