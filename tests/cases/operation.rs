//! Versions of plugins: replaced under load, taken back when they do worse, held to their CPU budget.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::plugins::Guest;
use crate::harness::{ADMIN, Client, Program, Proxy, Response, Upstream, eventually, ok};

/// A balancer that always picks this endpoint. No two `versions` of it have the same digest.
fn picking(endpoint: u32, version: usize) -> String {
    Guest::balancer(&format!("(call $endpoint (i32.const {endpoint}))")).wat() + &format!(";; version {version}")
}

/// The plugin `own` in a file of its own.
struct Own {
    folder: tempfile::TempDir,
}

impl Own {
    fn of(plugin: impl AsRef<[u8]>) -> Self {
        let own = Self { folder: tempfile::tempdir().expect("a folder") };
        own.write(plugin);
        own
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("own.wat")
    }

    /// Replaces the file as a deployment does: by renaming.
    fn write(&self, plugin: impl AsRef<[u8]>) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, plugin).expect("a file");
        std::fs::rename(new, self.file()).expect("a file");
    }

    /// A configuration whose upstream `api` is balanced by the plugin, and whose upstream `plain` is not.
    fn config(&self, settings: &str, endpoints: &[Upstream]) -> String {
        let list: Vec<_> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
        let list = list.join(", ");
        format!(
            "[plugins.own]\npath = \"{}\"\n{settings}\n\
             [upstreams.api]\nbalance = \"own\"\nendpoints = [{list}]\n[upstreams.api.passive]\nmax_fails = 0\n\
             [upstreams.plain]\nendpoints = [{list}]\n\
             [[routes]]\nupstream = \"api\"\n[[routes]]\npath = \"/plain\"\nupstream = \"plain\"\n",
            self.file().display()
        )
    }

    fn proxy(&self, settings: &str, endpoints: &[Upstream]) -> Proxy {
        Proxy::with(&format!("{ADMIN}{}", self.config(settings, endpoints)))
    }
}

/// Origins that say their own number.
fn numbered(count: usize) -> Vec<Upstream> {
    (0..count).map(|number| Upstream::replying(number.to_string())).collect()
}

fn put_to(client: &mut Client, query: &str, plugin: impl AsRef<[u8]>) -> Response {
    let plugin = plugin.as_ref();
    let head = format!("PUT /api/plugins/own{query} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", plugin.len());
    client.send([head.as_bytes(), plugin].concat());
    client.response()
}

fn put(proxy: &Proxy, plugin: impl AsRef<[u8]>) -> Response {
    put_to(&mut Client::connect(proxy.admin_address()), "", plugin)
}

/// What `/api/plugins` says of the plugin `own`.
fn own(proxy: &Proxy) -> Value {
    let plugins: Vec<Value> = serde_json::from_slice(&proxy.admin("/api/plugins", "").body).expect("JSON");
    plugins.into_iter().find(|plugin| plugin["plugin"] == "own").expect("it is used")
}

fn json(response: &Response) -> Value {
    serde_json::from_slice(&response.body).expect("JSON")
}

/// Asks without a pause on three connections until `done` has returned; every answer has to be whole and good.
fn under_load<T>(proxy: &Proxy, done: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = Client::to(proxy);
                while !over.load(Relaxed) {
                    assert_eq!(client.get("/").status, 200);
                }
            });
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(done));
        over.store(true, Relaxed);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn twenty_swaps_under_load_lose_no_request_and_take_effect_at_once() {
    let own_file = Own::of(picking(0, 0));
    let origins = numbered(2);
    let proxy =
        Proxy::with(&format!("[server]\nworkers = 2\n{ADMIN}{}", own_file.config("probation = false", &origins)));
    let instances = || own(&proxy)["instances"].as_u64();
    let before = instances();

    under_load(&proxy, || {
        for version in 1..=20 {
            let replaced = put(&proxy, picking(version % 2, version as usize));

            assert_eq!(replaced.status, 200, "{}", replaced.text());
            let replaced = json(&replaced);
            assert_eq!(replaced["generation"], version + 1, "{replaced}");
            assert_eq!(own(&proxy)["digest"], replaced["digest"]);
            for _ in 0..10 {
                assert_eq!(proxy.get("/").text(), (version % 2).to_string(), "version {version}");
            }
        }
    });

    let status = own(&proxy);
    assert_eq!((&status["fallbacks"], &status["last_fault"]), (&0.into(), &Value::Null), "{status}");
    eventually(|| instances() == before);
    let labels = "plugin=\"own\",outcome=\"replaced\"";
    assert_eq!(proxy.metric(&format!("staunch_plugins_swaps_total{{{labels}}}")), 20.0);
}

#[test]
fn five_hundred_swaps_leave_memory_as_it_was() {
    let own_file = Own::of(picking(0, 0));
    let socket = own_file.folder.path().join("admin");
    let program = Program::run(&format!(
        "[admin]\naddress = \"unix:{}\"\n{}",
        socket.display(),
        own_file.config("probation = false", &numbered(1))
    ));
    let versions = [picking(0, 1), picking(0, 2)];
    eventually(|| Client::over(&socket).is_ok());
    let mut admin = Client::over(&socket).expect("an admin server");
    let mut swap = |times| {
        for turn in 0..times {
            assert_eq!(put_to(&mut admin, "", &versions[turn % 2]).status, 200);
            assert_eq!(program.client().expect("it listens").get("/").text(), "0");
        }
    };
    swap(100);
    let resident = program.resident_memory();

    swap(400);

    let grown = program.resident_memory().saturating_sub(resident);
    assert!(grown < 4 << 20, "{grown} bytes more");
    let mut admin = Client::over(&socket).expect("an admin server");
    let gauge = "staunch_plugins_instances{plugin=\"own\",use=\"upstream api: balance\",kind=\"balancer\"} 1\n";
    eventually(|| admin.get("/metrics").text().contains(gauge));
}

#[test]
fn a_version_that_cannot_serve_changes_nothing_and_says_why() {
    let own_file = Own::of(picking(0, 0));
    let proxy = own_file.proxy("", &numbered(2));
    // A list of one issue at 64: its path at 100, its message at 110.
    let refuses = "(i32.store (i32.const 0) (i32.const 1)) (i32.store (i32.const 4) (i32.const 64))
         (i32.store (i32.const 8) (i32.const 1)) (i32.store (i32.const 64) (i32.const 100))
         (i32.store (i32.const 68) (i32.const 3)) (i32.store (i32.const 72) (i32.const 110))
         (i32.store (i32.const 76) (i32.const 7)) (i32.const 0)";
    let refusing = Guest::balancer("(call $endpoint (i32.const 1))")
        .configure(refuses)
        .function("(data (i32.const 100) \"a.b\") (data (i32.const 110) \"too big\")");
    let second = "(call $endpoint (i32.const 1))";
    for (plugin, words) in [
        (b"\x7fELF".to_vec(), "is not WebAssembly"),
        (b"\0asm\x01\0\0\0\xff\xff".to_vec(), "damaged"),
        (Guest::retry("(call $give_up)").wat().into(), "is no balancer"),
        (refusing.wat().into(), "`a.b`: too big"),
        (Guest::balancer(second).configure("unreachable").wat().into(), "failed in `configure`"),
        (Guest::new().with_balancer("unreachable", "", second).wat().into(), "failed in `update`"),
        (Guest::new().with_balancer("(loop $ever (br $ever))", "", second).wat().into(), "failed in `update`"),
    ] {
        let answer = put(&proxy, &plugin);

        assert_eq!(answer.status, 422, "{words}");
        let error = json(&answer)["error"].as_str().expect("words").to_owned();
        assert!(error.contains(words), "{error}");
        let status = own(&proxy);
        assert_eq!((&status["generation"], &status["last_change"]["outcome"]), (&1.into(), &"failed".into()));
        assert_eq!(status["last_change"]["why"], error);
        assert_eq!(proxy.get("/").text(), "0", "the old version serves on");
    }
    assert_eq!(own(&proxy)["instances"], 1);
}

#[test]
fn a_file_of_another_digest_than_configured_is_refused() {
    let own_file = Own::of(picking(0, 0));
    let digest = own(&own_file.proxy("", &numbered(1)))["digest"].as_str().expect("a digest")[7..].to_owned();
    let proxy = own_file.proxy(&format!("sha256 = \"{digest}\""), &numbered(2));

    let answer = put(&proxy, picking(1, 1));

    assert_eq!((answer.status, proxy.get("/").text()), (422, "0"));
    assert!(answer.text().contains("SHA-256") || answer.text().contains("sha256"), "{}", answer.text());
}

#[test]
fn what_is_not_used_or_the_same_is_not_replaced() {
    let own_file = Own::of(picking(0, 0));
    let proxy = own_file.proxy("", &numbered(1));
    let ask = |path: &str| {
        let file = picking(0, 0);
        let mut client = Client::connect(proxy.admin_address());
        client.send(format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{file}", file.len()));
        client.response()
    };

    let same = ask("/api/plugins/own");

    assert_eq!((same.status, &json(&same)["changed"]), (200, &false.into()));
    assert_eq!(own(&proxy)["generation"], 1);
    for (path, words) in [("nothing", "there is no plugin"), ("set-headers", "is used nowhere")] {
        let answer = ask(&format!("/api/plugins/{path}"));
        assert_eq!(answer.status, 404, "for {path}");
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    assert_eq!(ask("/api/plugins/own?force=true").status, 200);
    assert_eq!(own(&proxy)["generation"], 2, "the same file was asked for again");
}

#[test]
fn a_built_in_plugin_can_be_replaced_until_the_next_start() {
    let origins = numbered(2);
    let proxy = Proxy::with(&format!("{ADMIN}[upstreams.api]\nendpoints = [\"{}\", \"{}\"]\n", origins[0], origins[1]));
    let file = picking(1, 0);

    let mut client = Client::connect(proxy.admin_address());
    client.send(format!(
        "PUT /api/plugins/round-robin HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{file}",
        file.len()
    ));
    let answer = client.response();

    assert_eq!(answer.status, 200, "{}", answer.text());
    for _ in 0..4 {
        assert_eq!(proxy.get("/").text(), "1");
    }
}

#[test]
fn retry_policies_and_rewriters_are_replaced_alike() {
    let naming = |value: &str| {
        Guest::request_rewriter(
            "(call $set (i32.const 100) (i32.const 9) (i32.const 110) (i32.const 1)) (call $fields)",
        )
        .function(&format!("(data (i32.const 100) \"x-version\") (data (i32.const 110) \"{value}\")"))
        .wat()
    };
    let own_file = Own::of(naming("1"));
    let origin = Upstream::replying("");
    let proxy = Proxy::with(&format!(
        "{ADMIN}[plugins.own]\npath = \"{}\"\n[upstreams.api]\nendpoints = [\"{origin}\"]\n\
         [[routes]]\nupstream = \"api\"\nrewrite = [\"own\"]\n",
        own_file.file().display()
    ));
    let mut client = Client::to(&proxy);
    client.get("/");
    assert_eq!(put(&proxy, naming("2")).status, 200);
    client.get("/");
    let versions: Vec<_> =
        origin.received().iter().map(|request| request.field("x-version").map(str::to_owned)).collect();
    assert_eq!(versions, [Some("1".to_owned()), Some("2".to_owned())]);

    let own_file = Own::of(Guest::retry("(call $give_up)").wat());
    let endpoints = [Upstream::refusing(), Upstream::replying("good")];
    let proxy = Proxy::with(&format!(
        "{ADMIN}[plugins.own]\npath = \"{}\"\n[upstreams.api]\nendpoints = [\"{}\", \"{}\"]\n\
         [upstreams.api.passive]\nmax_fails = 0\n[upstreams.api.retry]\nplugin = \"own\"\n",
        own_file.file().display(),
        endpoints[0],
        endpoints[1]
    ));
    let mut statuses = [proxy.get("/").status, proxy.get("/").status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502]);
    assert_eq!(put(&proxy, Guest::retry("(call $again (i64.const 0) (i32.const 1))").wat()).status, 200);
    assert_eq!([proxy.get("/").status, proxy.get("/").status], [200, 200]);
}

#[test]
fn a_balancer_behind_another_is_replaced_where_it_stands() {
    let own_file = Own::of(picking(0, 0));
    let config = own_file
        .config("", &numbered(2))
        .replace("balance = \"own\"", "balance = { plugin = \"sticky\", then = \"own\" }");
    let proxy = Proxy::with(&format!("{ADMIN}{config}"));
    assert_eq!(proxy.get("/").text(), "0");

    let replaced = put(&proxy, picking(1, 1));

    assert_eq!(replaced.status, 200, "{}", replaced.text());
    assert_eq!(proxy.get("/").text(), "1");
    let status = own(&proxy);
    assert_eq!((&status["generation"], &status["fallbacks"]), (&2.into(), &0.into()), "{status}");
    let looping = Guest::balancer("unreachable").wat();
    let digest = status["digest"].clone();
    assert_eq!(put(&proxy, looping).status, 200);
    eventually(|| {
        assert_eq!(proxy.get("/").status, 200);
        own(&proxy)["last_change"]["outcome"] == "taken_back"
    });
    assert_ne!(own(&proxy)["digest"], digest, "the second was on probation itself: the first serves again");
    assert_eq!(proxy.get("/").text(), "0");
}

#[test]
fn a_watched_file_takes_over_when_it_changes() {
    let own_file = Own::of(picking(0, 0));
    let proxy = own_file.proxy("watch = true", &numbered(2));
    assert_eq!(proxy.get("/").text(), "0");

    own_file.write(picking(1, 1));
    eventually(|| proxy.get("/").text() == "1");

    std::fs::write(own_file.file(), b"half a fi").expect("a file");
    eventually(|| own(&proxy)["last_change"]["outcome"] == "failed");
    assert_eq!(proxy.get("/").text(), "1");
    std::fs::write(own_file.file(), picking(0, 2)).expect("a file");
    eventually(|| proxy.get("/").text() == "0");
    assert_eq!(own(&proxy)["generation"], 3);
}

#[test]
fn a_hang_up_reads_the_files_again() {
    let own_file = Own::of(picking(0, 0));
    let program = Program::run(&own_file.config("", &numbered(2)));
    let body = || program.client().expect("it listens").get("/").text().to_owned();
    assert_eq!(body(), "0");

    own_file.write(picking(1, 1));
    assert_eq!(body(), "0", "nobody watches");
    program.signal("HUP");

    eventually(|| body() == "1");
}

/// Counts its picks, and picks by their number; `handover` tells how it takes and leaves its count.
fn counting(version: usize, restore: &str) -> String {
    Guest::balancer(
        "(global.set $picks (i32.add (global.get $picks) (i32.const 1)))
         (call $endpoint (i32.rem_u (i32.sub (global.get $picks) (i32.const 1)) (i32.const 4)))",
    )
    .function("(global $picks (mut i32) (i32.const 0))")
    .export(
        "handover",
        "save",
        "(result i32)",
        "(i32.store (i32.const 128) (global.get $picks)) (i32.store (i32.const 64) (i32.const 128))
         (i32.store (i32.const 68) (i32.const 4)) (i32.const 64)",
    )
    .export("handover", "restore", "(param $at i32) (param $length i32)", restore)
    .wat()
        + &format!(";; version {version}")
}

#[test]
fn what_a_version_has_learned_goes_to_the_next() {
    let take = "(global.set $picks (i32.load (local.get $at)))";
    let own_file = Own::of(counting(0, take));
    let proxy = own_file.proxy("", &numbered(4));
    let body = || proxy.get("/").text().to_owned();
    assert_eq!([body(), body()], ["0", "1"]);

    assert_eq!(put(&proxy, counting(1, take)).status, 200);
    assert_eq!([body(), body()], ["2", "3"]);

    let failing = put(&proxy, counting(2, "unreachable"));
    assert_eq!(failing.status, 422);
    assert!(failing.text().contains("failed in `restore`"), "{}", failing.text());
    assert_eq!(body(), "0", "the old version goes on as if nothing had been");

    assert_eq!(put(&proxy, counting(3, "")).status, 200);
    assert_eq!(body(), "0", "this one does not care what was");
}

#[test]
fn what_instances_share_and_count_stays_over_a_swap() {
    let counting = |version: usize| {
        Guest::balancer(
            "(drop (call $fetch-add (global.get $cell) (i64.const 1))) (call $add (global.get $metric) (i64.const 1))
             (call $endpoint (i32.wrap_i64 (i64.sub (call $load (global.get $cell)) (i64.const 1))))",
        )
        .import("shared", "cell", "(param i32 i32) (result i32)")
        .import("shared", "load", "(param i32) (result i64)")
        .import("shared", "fetch-add", "(param i32 i64) (result i64)")
        .import("metrics", "counter", "(param i32 i32) (result i32)")
        .import("metrics", "add", "(param i32 i64)")
        .function(
            "(global $cell (mut i32) (i32.const 0)) (global $metric (mut i32) (i32.const 0))
             (data (i32.const 100) \"picked\")",
        )
        .configure(
            "(global.set $cell (call $cell (i32.const 100) (i32.const 6)))
             (global.set $metric (call $counter (i32.const 100) (i32.const 6))) (i32.const 0)",
        )
        .wat()
            + &format!(";; version {version}")
    };
    let own_file = Own::of(counting(0));
    let proxy = own_file.proxy("", &numbered(4));
    assert_eq!(proxy.get("/").text(), "0");

    for version in 1..4 {
        let replaced = put(&proxy, counting(version));
        assert_eq!(replaced.status, 200, "{}", replaced.text());
        assert_eq!(proxy.get("/").text(), version.to_string());
    }

    assert_eq!(proxy.metric("staunch_plugin_own_picked_total{use=\"upstream api: balance\"}"), 4.0);
    assert_eq!(own(&proxy)["calls"], 4);
}

/// Picks the second endpoint while it is ready, and the first otherwise. The records of `update` have 44 bytes with
/// the readiness at 32, those of `change` 12 with it at 8.
fn knowing(update: &str) -> String {
    Guest::new()
        .with_balancer(
            &format!("(global.set $ready (i32.load8_u offset=76 (local.get $list))) {update}"),
            "(if (i32.eq (i32.load (local.get $list)) (i32.const 1))
               (then (global.set $ready (i32.load8_u offset=8 (local.get $list)))))",
            "(call $endpoint (global.get $ready))",
        )
        .function("(global $ready (mut i32) (i32.const 1))")
        .wat()
}

#[test]
fn what_happens_to_endpoints_during_a_swap_is_not_lost() {
    let own_file = Own::of(knowing(""));
    let failing = Arc::new(AtomicBool::new(false));
    let fails = failing.clone();
    let second = Upstream::raw(move |talk| {
        while talk.request().is_some() && !fails.load(Relaxed) {
            talk.send(ok("1"));
        }
    });
    let origins = [Upstream::replying("0"), second];
    let config = own_file.config("", &origins).replace("max_fails = 0", "max_fails = 1\nfail_timeout = \"60s\"");
    let proxy = Proxy::with(&format!("{ADMIN}{config}"));
    assert_eq!(proxy.get("/").text(), "1");
    // A table that takes its time: some tenths of a second.
    let slow = knowing(
        "(loop $on (global.set $left (i32.sub (global.get $left) (i32.const 1))) (br_if $on (global.get $left)))",
    )
    .replacen("(global $ready", "(global $left (mut i32) (i32.const 200000000)) (global $ready", 1);

    thread::scope(|scope| {
        let swap = scope.spawn(|| put(&proxy, &slow));
        eventually(|| own(&proxy)["instances"] == 2);
        failing.store(true, Relaxed);
        assert_eq!(proxy.get("/").text(), "0", "tried again");
        assert_eq!(own(&proxy)["generation"], 1, "the new version is not there yet");
        assert_eq!(swap.join().expect("an answer").status, 200);
    });

    assert_eq!(proxy.get("/").text(), "0");
    let status = own(&proxy);
    assert_eq!((&status["generation"], &status["fallbacks"]), (&2.into(), &0.into()), "{status}");
}

#[test]
fn a_version_that_takes_over_knows_who_is_out() {
    let origins = [Upstream::replying("0"), Upstream::refusing()];
    let list = format!("endpoints = [\"{}\", \"{}\"]", origins[0], origins[1]);
    let proxy = Proxy::with(&format!("{ADMIN}[upstreams.api]\n{list}\n"));
    let status = || {
        let plugins: Vec<Value> = serde_json::from_slice(&proxy.admin("/api/plugins", "").body).expect("JSON");
        plugins.into_iter().find(|plugin| plugin["plugin"] == "round-robin").expect("it is used")
    };
    for _ in 0..3 {
        assert_eq!(proxy.get("/").text(), "0");
    }
    let knowing = knowing("");

    let mut client = Client::connect(proxy.admin_address());
    let length = knowing.len();
    client
        .send(format!("PUT /api/plugins/round-robin HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{knowing}"));
    let answer = client.response();

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(proxy.get("/").text(), "0");
    assert_eq!(status()["fallbacks"], 0, "{}", status());
}

/// Waits until the first version serves again, and answers why the other was taken back.
fn taken_back(proxy: &Proxy, digest: &Value) -> String {
    let mut status = own(proxy);
    eventually(|| {
        status = own(proxy);
        status["last_change"]["outcome"] == "taken_back"
    });
    assert_eq!((&status["digest"], &status["generation"]), (digest, &1.into()), "{status}");
    assert_eq!(status["probation"], Value::Null);
    status["refused"][0]["why"].as_str().expect("words").to_owned()
}

#[test]
fn a_version_that_traps_now_and_then_is_taken_back_and_remembered() {
    let own_file = Own::of(picking(0, 0));
    let proxy = own_file.proxy("probation = \"60s\"", &numbered(2));
    let digest = own(&proxy)["digest"].clone();
    let trapping = Guest::balancer(
        "(global.set $picks (i32.add (global.get $picks) (i32.const 1)))
         (if (i32.eq (global.get $picks) (i32.const 1000)) (then unreachable))
         (call $endpoint (i32.const 1))",
    )
    .function("(global $picks (mut i32) (i32.const 0))")
    .wat();

    let why = under_load(&proxy, || {
        let replaced = put(&proxy, &trapping);
        assert_eq!(replaced.status, 200, "{}", replaced.text());
        assert_eq!(own(&proxy)["probation"]["previous"], digest);
        taken_back(&proxy, &digest)
    });

    assert!(why.contains("failed 3 times") && why.contains("trap"), "{why}");
    assert_eq!(proxy.get("/").text(), "0");
    let again = put(&proxy, &trapping);
    assert_eq!(again.status, 409);
    assert!(again.text().contains("failed 3 times") && again.text().contains("force=true"), "{}", again.text());
    assert_eq!(put(&proxy, picking(1, 1)).status, 200, "another digest is welcome");
    let mut admin = Client::connect(proxy.admin_address());
    assert_eq!(put_to(&mut admin, "?force=true", &trapping).status, 200);
    assert_eq!(own(&proxy)["refused"], Value::Array(Vec::new()));
}

#[test]
fn a_version_that_loops_is_taken_back() {
    let own_file = Own::of(picking(0, 0));
    let proxy = own_file.proxy("deadline = \"5ms\"", &numbered(2));
    let digest = own(&proxy)["digest"].clone();
    let looping = Guest::balancer("(loop $ever (br $ever)) unreachable").wat();

    let why = under_load(&proxy, || {
        assert_eq!(put(&proxy, looping).status, 200);
        taken_back(&proxy, &digest)
    });

    assert!(why.contains("failed 3 times") && why.contains("deadline"), "{why}");
    assert_eq!(proxy.get("/").text(), "0");
    eventually(|| own(&proxy)["instances"] == 1);
}

#[test]
fn a_version_that_always_picks_the_slowest_of_eight_is_taken_back() {
    let turning = Guest::balancer(
        "(global.set $picks (i32.add (global.get $picks) (i32.const 1)))
         (call $endpoint (i32.and (global.get $picks) (i32.const 7)))",
    )
    .function("(global $picks (mut i32) (i32.const 0))")
    .wat();
    let own_file = Own::of(turning);
    let origins: Vec<_> = (0..8)
        .map(|number| {
            Upstream::raw(move |talk| {
                while talk.request().is_some() {
                    if number == 7 {
                        talk.pause(Duration::from_millis(15));
                    }
                    talk.send(ok(number.to_string()));
                }
            })
        })
        .collect();
    let proxy = own_file.proxy("", &origins);
    let digest = own(&proxy)["digest"].clone();

    let why = under_load(&proxy, || {
        eventually(|| own(&proxy)["calls"].as_u64() > Some(1000));
        assert_eq!(put(&proxy, picking(7, 0)).status, 200);
        taken_back(&proxy, &digest)
    });

    assert!(why.contains("of its upstream's answers is"), "{why}");
}

#[test]
fn a_version_that_does_well_passes_its_probation() {
    let own_file = Own::of(picking(0, 0));
    let proxy = own_file.proxy("probation = \"400ms\"", &numbered(2));

    under_load(&proxy, || {
        assert_eq!(put(&proxy, picking(1, 1)).status, 200);
        assert_eq!(own(&proxy)["instances"], 2, "the old one is kept");
        eventually(|| own(&proxy)["probation"] == Value::Null && own(&proxy)["instances"] == 1);
    });

    assert_eq!((own(&proxy)["generation"].as_u64(), proxy.get("/").text()), (Some(2), "1"));
}

#[test]
fn a_balancer_over_its_cpu_budget_is_left_out_until_it_is_under_it_again() {
    // Some milliseconds for each pick.
    let slow = Guest::balancer(
        "(local $left i32) (local.set $left (i32.const 3000000))
         (loop $on (local.set $left (i32.sub (local.get $left) (i32.const 1))) (br_if $on (local.get $left)))
         (call $endpoint (i32.const 1))",
    );
    let own_file = Own::of(slow.wat());
    let proxy = own_file.proxy("cpu = \"2%\"\ndeadline = \"1s\"\n", &numbered(2));
    let mut client = Client::to(&proxy);
    let picked = |client: &mut Client| (0..100).filter(|_| client.get("/").text() == "1").count();

    let first = picked(&mut client);

    let status = own(&proxy);
    assert!(status["throttled"].as_u64() > Some(0), "{status}");
    assert!(status["fallbacks"].as_u64() > Some(0) && status["faults"]["deadline"] == 0, "{status}");
    // The host's own round robin picks this one too, every other time.
    assert!((1..=75).contains(&first), "{first}");
    let calls =
        |status: &Value| status["calls"].as_u64().expect("a number") - status["fallbacks"].as_u64().expect("a number");
    let answered = calls(&status);
    eventually(|| {
        client.get("/");
        calls(&own(&proxy)) > answered
    });
    let used = "plugin=\"own\",use=\"upstream api: balance\",kind=\"balancer\"";
    assert!(proxy.metric(&format!("staunch_plugins_throttled_total{{{used}}}")) > 0.0);
    assert!(proxy.metric(&format!("staunch_plugins_cpu_seconds_total{{{used}}}")) > 0.0);
}

#[test]
fn every_use_has_its_identity_and_its_bill() {
    let own_file = Own::of(picking(0, 0));
    let proxy = own_file.proxy("", &numbered(1));
    assert_eq!(put(&proxy, picking(0, 1)).status, 200);
    proxy.get("/");

    let status = own(&proxy);
    let digest = status["digest"].as_str().expect("a digest");
    assert_eq!((status["generation"].as_u64(), status["use"].as_str()), (Some(2), Some("upstream api: balance")));
    assert_eq!((status["memory_bytes"].as_u64(), status["instances"].as_u64()), (Some(2 * 65536), Some(2)));
    assert!(status["memory_peak_bytes"].as_u64() >= Some(2 * 65536), "{status}");
    assert!(status["cpu_seconds"].is_f64() && status["cpu_share"].is_f64(), "{status}");
    let labels = "plugin=\"own\",use=\"upstream api: balance\",kind=\"balancer\"";
    let info = format!("staunch_plugins_version_info{{{labels},digest=\"{digest}\",generation=\"2\"}}");
    assert_eq!(proxy.metric(&info), 1.0);
    assert_eq!(proxy.metric(&format!("staunch_plugins_generation{{{labels}}}")), 2.0);
}
