//! Plugins of a user's own: those that behave decide, and those that do not harm nobody.
//!
//! Guests are written in WAT by hand, as in the unit tests of the plugin host.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;

use crate::harness::{ADMIN, Client, Proxy, Upstream, eventually};

#[path = "../../host/src/plugins/guests.rs"]
#[expect(dead_code, reason = "the unit tests of the plugin host use all of it")]
mod guests;

pub(super) use guests::Guest;

/// A balancer that always picks the endpoint with id 0.
pub(super) static FIRST_ENDPOINT: LazyLock<String> =
    LazyLock::new(|| Guest::balancer("(call $endpoint (i32.const 0))").wat());

/// A folder with the plugin `own`.
pub(super) struct Folder {
    folder: tempfile::TempDir,
    file: PathBuf,
}

impl Folder {
    pub(super) fn with(plugin: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("own.wat");
        std::fs::write(&file, plugin).expect("a file");
        Self { folder, file }
    }

    /// The configuration of the plugin, with these settings.
    pub(super) fn plugin(&self, settings: &str) -> String {
        format!("[plugins.own]\npath = \"{}\"\n{settings}\n", self.file.display())
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// A plain route beside one for each kind of use of the plugin `own`.
fn proxy(folder: &Folder, settings: &str, own: &str, endpoints: &[&Upstream]) -> Proxy {
    Proxy::with(&text(folder, settings, own, endpoints))
}

fn text(folder: &Folder, settings: &str, own: &str, endpoints: &[&Upstream]) -> String {
    let list: Vec<_> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    let (balance, retry, rewrite) = match own {
        "balance" => ("balance = \"own\"", "", ""),
        "retry" => ("", "[upstreams.api.retry]\nplugin = \"own\"", ""),
        _ => ("", "", "rewrite = [\"own\"]"),
    };
    let list = list.join(", ");
    format!(
        "{ADMIN}{}[upstreams.api]\nendpoints = [{list}]\n{balance}\n[upstreams.api.passive]\nmax_fails = 0\n{retry}\n\
         [upstreams.plain]\nendpoints = [{list}]\n\
         [[routes]]\nupstream = \"api\"\n{rewrite}\n[[routes]]\npath = \"/plain\"\nupstream = \"plain\"\n",
        folder.plugin(settings)
    )
}

/// What `/api/plugins` says of the plugin `own`.
fn own(proxy: &Proxy) -> Value {
    let plugins: Vec<Value> = serde_json::from_slice(&proxy.admin("/api/plugins", "").body).expect("JSON");
    plugins.into_iter().find(|plugin| plugin["plugin"] == "own").expect("it is used")
}

/// Checks that the faults of the plugin `own` are there to see.
#[track_caller]
fn assert_visible(proxy: &Proxy, name: &str, kind: &str, cause: &str) {
    let status = own(proxy);
    assert!(status["fallbacks"].as_u64() > Some(0) && status["faults"][cause].as_u64() > Some(0), "{name}: {status}");
    assert!(status["last_fault"].is_string(), "{name}: {status}");
    let used = status["use"].as_str().expect("a use");
    let labels = format!("plugin=\"own\",use=\"{used}\",kind=\"{kind}\"");
    assert!(proxy.metric(&format!("staunch_plugins_fallbacks_total{{{labels}}}")) > 0.0, "{name}");
    assert!(proxy.metric(&format!("staunch_plugins_faults_total{{{labels},cause=\"{cause}\"}}")) > 0.0, "{name}");
}

#[test]
fn a_balancer_of_ones_own_picks() {
    let folder = Folder::with(&*FIRST_ENDPOINT);
    let (a, b) = (Upstream::replying("A"), Upstream::replying("B"));
    let proxy = proxy(&folder, "", "balance", &[&a, &b]);

    for _ in 0..10 {
        assert_eq!(proxy.get("/").text(), "A");
    }

    let status = own(&proxy);
    assert_eq!((&status["calls"], &status["fallbacks"]), (&10.into(), &0.into()));
    assert_eq!(status["source"], folder.file.display().to_string());
    assert_eq!(b.requests(), 0);
}

#[test]
fn a_path_begins_in_the_folder_of_its_configuration() {
    let folder = Folder::with(&*FIRST_ENDPOINT);
    let origin = Upstream::replying("A");
    let text =
        format!("[plugins.own]\npath = \"own.wat\"\n[upstreams.api]\nbalance = \"own\"\nendpoints = [\"{origin}\"]\n");

    let proxy = Proxy::start(&text, Some(&folder.path().join("staunch.toml"))).expect("it starts");

    assert_eq!(proxy.get("/").text(), "A");
}

#[test]
fn a_balancer_that_misbehaves_costs_nobody_an_answer() {
    let grow = "(loop $ever (drop (memory.grow (i32.const 16))) (br $ever))";
    for (name, pick, cause) in [
        ("traps", "unreachable", "trap"),
        ("recurses without end", "(call $deeper)", "trap"),
        ("loops for ever", "(loop $ever (br $ever)) unreachable", "deadline"),
        ("allocates without end", &format!("{grow} unreachable"), "memory"),
        ("picks an endpoint that does not exist", "(call $endpoint (i32.const 99))", "answer"),
        ("answers outside its memory", "(i32.const 70000)", "answer"),
    ] {
        let guest = Guest::balancer(pick).function("(func $deeper (result i32) (call $deeper) (drop) (call $deeper))");
        let folder = Folder::with(guest.wat());
        let (a, b) = (Upstream::replying("A"), Upstream::replying("B"));
        let proxy = proxy(&folder, "deadline = \"5ms\"\nmemory = \"1MiB\"", "balance", &[&a, &b]);
        let mut client = Client::to(&proxy);

        for _ in 0..20 {
            assert_eq!(client.get("/").status, 200, "{name}");
            assert_eq!(client.get("/plain").status, 200, "{name}: another route feels nothing");
        }

        assert!(a.requests() >= 19 && b.requests() >= 19, "{name}: the host's round robin");
        assert_visible(&proxy, name, "balancer", cause);
        eventually(|| own(&proxy)["trips"].as_u64() > Some(0) || client.get("/").status != 200);
    }
}

#[test]
fn a_balancer_may_say_that_there_is_nobody() {
    let folder = Folder::with(Guest::balancer("(call $unavailable)").wat());
    let origin = Upstream::replying("A");
    let proxy = proxy(&folder, "", "balance", &[&origin]);

    assert_eq!((proxy.get("/").status, proxy.get("/plain").status), (503, 200));
    assert_eq!(own(&proxy)["fallbacks"], 0, "that is an answer");
}

#[test]
fn a_balancer_cannot_pick_an_endpoint_that_is_out() {
    let folder = Folder::with(&*FIRST_ENDPOINT);
    let (down, good) = (Upstream::replying("down"), Upstream::replying("good"));
    let proxy = Proxy::with(&format!(
        "{ADMIN}{}[upstreams.api]\nbalance = \"own\"\nendpoints = [{{ address = \"{down}\", down = true }}, \"{good}\"]\n",
        folder.plugin("")
    ));

    for _ in 0..10 {
        assert_eq!(proxy.get("/").text(), "good");
    }

    assert_eq!(down.connections(), 0);
    assert_visible(&proxy, "down", "balancer", "answer");
}

#[test]
fn a_retry_policy_that_misbehaves_gives_up() {
    for (name, decide, cause) in [
        ("traps", "unreachable", "trap"),
        ("loops for ever", "(loop $ever (br $ever)) unreachable", "deadline"),
        ("answers outside its memory", "(i32.const 70000)", "answer"),
    ] {
        let folder = Folder::with(Guest::retry(decide).wat());
        let (bad, good) = (Upstream::refusing(), Upstream::replying("good"));
        let proxy = proxy(&folder, "deadline = \"5ms\"", "retry", &[&bad, &good]);
        let mut client = Client::to(&proxy);

        // Every other request begins at the bad one, and is not tried again.
        let mut statuses = [client.get("/").status, client.get("/").status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 502], "{name}");
        assert_eq!([client.get("/plain").status, client.get("/plain").status], [200, 200], "{name}");
        assert_visible(&proxy, name, "retry", cause);
    }
}

#[test]
fn a_retry_policy_that_never_gives_up_is_held_to_the_hosts_limits() {
    let guest = Guest::retry("(call $again (i64.const 0) (i32.const 0))")
        .import("registration", "want-status", "(param i32 i32)")
        .import("registration", "want-non-idempotent", "")
        .configure("(call $want-status (i32.const 100) (i32.const 599)) (call $want-non-idempotent) (i32.const 0)");
    let folder = Folder::with(guest.wat());
    let origin = Upstream::replying("A");
    let proxy = proxy(&folder, "", "retry", &[&origin]);

    assert_eq!(proxy.get("/").text(), "A");

    assert_eq!(origin.requests(), 3, "attempts is 3 by default");
}

/// Rewriters of requests that answer what they must not.
fn bad_rewriters() -> Vec<(&'static str, Guest, &'static str)> {
    let header = |data: &str| {
        Guest::request_rewriter(
            "(call $set (i32.const 100) (i32.const 4) (i32.const 110) (i32.const 3)) (call $fields)",
        )
        .function(data)
    };
    let million = "(i32.store (i32.const 0) (i32.const 1)) (i32.store (i32.const 4) (i32.const 65536))
         (i32.store (i32.const 8) (i32.const 1000000)) (i32.const 0)";
    vec![
        ("traps", Guest::request_rewriter("unreachable"), "trap"),
        ("loops for ever", Guest::request_rewriter("(loop $ever (br $ever)) unreachable"), "deadline"),
        ("a million headers", Guest::request_rewriter(million).pages(400), "answer"),
        (
            "a line break in a value",
            header("(data (i32.const 100) \"x-ab\") (data (i32.const 110) \"a\\r\\n\")"),
            "answer",
        ),
        ("NUL in a value", header("(data (i32.const 100) \"x-ab\") (data (i32.const 110) \"a\\00b\")"), "answer"),
        ("a space in a name", header("(data (i32.const 100) \"x ab\") (data (i32.const 110) \"abc\")"), "answer"),
        (
            "a name that is not UTF-8",
            header("(data (i32.const 100) \"x-\\ff\\fe\") (data (i32.const 110) \"abc\")"),
            "answer",
        ),
        (
            "a length of its own",
            Guest::request_rewriter(
                "(call $set (i32.const 100) (i32.const 14) (i32.const 120) (i32.const 1)) (call $fields)",
            )
            .function("(data (i32.const 100) \"content-length\") (data (i32.const 120) \"9\")"),
            "answer",
        ),
    ]
}

#[test]
fn a_rewriter_that_misbehaves_is_denied_or_skipped() {
    for (name, guest, cause) in bad_rewriters() {
        for (policy, status) in [("", 500), ("on_failure = \"deny\"", 500), ("on_failure = \"skip\"", 200)] {
            let folder = Folder::with(guest.clone().wat());
            let origin = Upstream::replying("A");
            let proxy = proxy(&folder, &format!("deadline = \"5ms\"\n{policy}"), "rewrite", &[&origin]);
            let mut client = Client::to(&proxy);

            for _ in 0..5 {
                assert_eq!(client.get("/").status, status, "{name} with {policy:?}");
                assert_eq!(client.get("/plain").status, 200, "{name}: another route feels nothing");
            }

            assert!(
                origin.received().iter().all(|request| request.head.fields.len() == 4),
                "{name}: nothing was applied"
            );
            assert_visible(&proxy, name, "rewriter", cause);
        }
    }
}

#[test]
fn a_rewriter_of_responses_that_misbehaves_is_denied_or_skipped() {
    let no_content = "(i32.store (i32.const 0) (i32.const 2)) (i32.store16 (i32.const 4) (i32.const 204))
         (i32.store (i32.const 8) (i32.const 0)) (i32.store (i32.const 12) (i32.const 0)) (i32.const 0)";
    for (name, body, cause) in [("traps", "unreachable", "trap"), ("takes the body away", no_content, "answer")] {
        for (policy, status) in [("", 500), ("on_failure = \"skip\"", 200)] {
            let folder = Folder::with(Guest::response_rewriter(body).wat());
            let origin = Upstream::replying("A");
            let proxy = proxy(&folder, policy, "rewrite", &[&origin]);
            let mut client = Client::to(&proxy);

            for _ in 0..5 {
                assert_eq!(client.get("/").status, status, "{name} with {policy:?}");
                assert_eq!(client.get("/plain").text(), "A", "{name}");
            }
            assert_visible(&proxy, name, "rewriter", cause);
        }
    }
}

#[test]
fn a_rewriter_may_answer_in_the_origins_place() {
    let body = "(i32.store (i32.const 0) (i32.const 3)) (i32.store16 (i32.const 4) (i32.const 403))
         (i32.store (i32.const 8) (i32.const 0)) (i32.store (i32.const 12) (i32.const 0))
         (i32.store (i32.const 16) (i32.const 100)) (i32.store (i32.const 20) (i32.const 2)) (i32.const 0)";
    let folder = Folder::with(Guest::request_rewriter(body).function("(data (i32.const 100) \"no\")").wat());
    let origin = Upstream::replying("A");
    let proxy = proxy(&folder, "", "rewrite", &[&origin]);

    let response = Client::to(&proxy).post("/", "a body that nobody reads");

    assert_eq!((response.status, response.text(), origin.requests()), (403, "no", 0));
}

#[test]
fn what_cannot_be_a_plugin_is_refused_in_words_before_anything_starts() {
    let unknown = Guest::balancer("(call $endpoint (i32.const 0))").import_from("env", "abort", "(param i32)");
    let wasi = "(component (import \"wasi:cli/environment@0.2.6\" (instance)))".to_owned();
    let never = Guest::balancer("(call $endpoint (i32.const 0))").configure("(loop $ever (br $ever)) (i32.const 0)");
    let trapping = Guest::balancer("(call $endpoint (i32.const 0))").configure("unreachable");
    let large = Guest::balancer("(call $endpoint (i32.const 0))").pages(2000);
    for (name, plugin, words) in [
        ("not wasm", b"\x7fELF\x02\x01\x01\0".to_vec(), "is not WebAssembly"),
        ("empty", Vec::new(), "is not WebAssembly"),
        ("damaged", b"\0asm\x01\0\0\0\xff\xff".to_vec(), "damaged"),
        ("WAT with a mistake", b"(module (func".to_vec(), "WAT text with a mistake"),
        ("exports nothing", b"(module)".to_vec(), "it exports nothing"),
        ("imports what nobody grants", unknown.wat().into(), "imports `env.abort`, which no proxy grants"),
        ("imports WASI", wasi.into(), "plugins have no system access here"),
        ("another kind", Guest::retry("(call $give_up)").wat().into(), "is no balancer: it is a retry policy"),
        ("traps when configured", trapping.wat().into(), "failed in `configure`"),
        ("never configured", never.wat().into(), "failed in `configure`"),
        ("too large", large.wat().into(), "it asked for 131072000 bytes of memory"),
    ] {
        let folder = Folder::with(plugin);

        let error = Proxy::start(&text(&folder, "", "balance", &[&Upstream::refusing()]), None).map(|_| ());

        let error = error.expect_err(name);
        assert!(error.contains(words), "{name}: {error}");
    }
}

#[test]
fn a_plugin_that_is_not_there_or_another_than_meant_is_refused() {
    let folder = Folder::with(&*FIRST_ENDPOINT);
    let start = |plugin: &str| {
        let text = format!("{plugin}[upstreams.api]\nbalance = \"own\"\nendpoints = [\"127.0.0.1:1\"]\n");
        Proxy::start(&text, None).map(|_| ()).expect_err("refused")
    };

    let absent = start("[plugins.own]\npath = \"/nowhere/own.wasm\"\n");
    assert!(absent.contains("/nowhere/own.wasm"), "{absent}");
    let other = start(&folder.plugin(&format!("sha256 = \"{}\"", "0".repeat(64))));
    assert!(other.contains("is another file than the configuration means"), "{other}");
}

#[test]
fn a_plugins_faults_are_told_with_those_of_all_others() {
    let folder = Folder::with("(module)");
    let other = folder.path().join("other.wasm");
    std::fs::write(&other, "plain text").expect("a file");
    let text = format!(
        "{}[plugins.other]\npath = \"{}\"\n[upstreams.api]\nbalance = \"own\"\nendpoints = [\"127.0.0.1:1\"]\n\
         [upstreams.api.retry]\nplugin = \"other\"\n",
        folder.plugin(""),
        other.display()
    );

    let error = Proxy::start(&text, None).map(|_| ()).expect_err("refused");

    assert!(error.contains("`own` exports nothing") && error.contains("`other` is not WebAssembly"), "{error}");
}
