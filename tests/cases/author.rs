//! What the author of a plugin has: the judge, recorded cases, a first project, the stopwatch.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::harness::{binary, staunch};

/// The folder that the components of `tests/mutants` are in, built once.
fn mutants() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = target().join("mutants");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let output = Command::new(root.join("plugins/build"))
            .arg("--project")
            .arg(root.join("tests/mutants"))
            .env("CARGO_TARGET_DIR", &target)
            .output()
            .expect("plugins/build");
        assert!(output.status.success(), "{}", said(&output));
        target.join("wasm32-unknown-unknown/release")
    })
}

/// The target directory of this build.
fn target() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_staunch"));
    binary.ancestors().nth(2).expect("a profile's folder in a target directory").to_owned()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Judges a mutant, by one property or by all; answers what it says, and the properties that do not hold.
fn judge(mutant: &str, bug: &str, only: Option<&str>) -> (String, Vec<String>) {
    let file = mutants().join(format!("mutant_{mutant}.wasm"));
    let config = format!("bug = {bug:?}");
    let mut arguments = vec!["plugin", "check", file.to_str().expect("UTF-8"), "--config", &config];
    arguments.extend(only.iter().flat_map(|property| ["--only", property]));
    let output = staunch(&arguments);
    let text = said(&output);
    let broken: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("BROKEN "))
        .map(|line| line.split_whitespace().next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(output.status.code(), Some(i32::from(!broken.is_empty())), "{text}");
    (text, broken)
}

#[track_caller]
fn each_is_rejected<const N: usize>(mutant: &str, bugs: [(&str, &str); N]) {
    let (text, broken) = judge(mutant, "", None);
    assert!(broken.is_empty(), "without a bug, {mutant} is sound:\n{text}");
    for (bug, property) in bugs {
        let (text, broken) = judge(mutant, bug, Some(property));
        assert!(broken.iter().any(|name| name == property), "{mutant} with {bug}:\n{text}");
    }
}

#[test]
fn turns_that_forget_their_endpoints_are_rejected() {
    each_is_rejected(
        "turns",
        [
            ("ignores-readiness", "readiness"),
            ("misses-readiness-changes", "readiness"),
            ("unknown-after-churn", "known"),
            ("position-for-id", "known"),
            ("remembers-across", "known"),
            ("traps-on-empty", "empty-set"),
            ("picks-tried", "tried"),
            ("uses-backups", "backups"),
            ("gives-up", "availability"),
            ("overloaded", "availability"),
            ("forgets-to-come-back", "return"),
        ],
    );
}

#[test]
fn turns_that_are_not_fair_or_cost_too_much_are_rejected() {
    each_is_rejected(
        "turns",
        [
            ("skips-last", "spread"),
            ("ignores-weights", "fairness"),
            ("bursts", "fairness"),
            ("ignores-weight-changes", "weights"),
            ("wall-clock", "determinism"),
            ("clock", "determinism"),
            ("reads-clock", "determinism"),
            ("draws", "determinism"),
            ("quadratic-pick", "growth"),
            ("quadratic-update", "growth"),
            ("never-ends", "deadline"),
            ("leaks-memory", "memory"),
        ],
    );
}

#[test]
fn rings_that_do_not_hold_their_keys_are_rejected() {
    each_is_rejected(
        "ring",
        [
            ("off-by-one", "survival"),
            ("drops-last", "spread"),
            ("by-position", "consistency"),
            ("by-size", "consistency"),
            ("modulo", "consistency"),
            ("forgets-the-key", "affinity"),
            ("unwraps-the-key", "survival"),
            ("mixes-in-chance", "affinity"),
            ("ignores-readiness", "readiness"),
            ("ignores-weight-changes", "weights"),
        ],
    );
}

#[test]
fn counts_that_leak_or_lie_are_rejected() {
    each_is_rejected(
        "least",
        [
            ("counts-leak", "recovery"),
            ("counts-abandoned", "recovery"),
            ("counts-never-given-back", "loads"),
            ("stale-loads", "loads"),
            ("prefers-the-busy", "loads"),
            ("weighs-backwards", "loads"),
            ("counts-while-ready", "return"),
            ("counts-below-nothing", "recovery"),
        ],
    );
}

#[test]
fn chance_that_is_not_even_is_rejected() {
    each_is_rejected(
        "chance",
        [
            ("skips-last", "spread"),
            ("ignores-weights", "fairness"),
            ("draws-itself", "determinism"),
            ("cycles", "spread"),
            ("overruns", "known"),
            ("rounds-up", "known"),
        ],
    );
}

#[test]
fn a_broken_property_comes_with_the_shortest_walk_that_shows_it() {
    let (text, _) = judge("turns", "traps-on-empty", None);

    let expected = "BROKEN  empty-set     no endpoint at all, or none ready, is answered with `unavailable`\n          \
                    trap: it trapped: ";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("  1. client "), "one step is enough:\n{text}");
    assert!(!text.contains("  3. "), "two steps are too many:\n{text}");
}

#[test]
fn what_a_plugin_is_not_meant_to_be_is_not_asked_of_it() {
    let file = mutants().join("mutant_ring.wasm");
    let file = file.to_str().expect("UTF-8");

    let output =
        staunch(&["plugin", "check", file, "--config", "bug = 'modulo'", "--no-claim", "consistency", "--seed", "5"]);

    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("-       consistency   not claimed: nobody wants it to be"), "{text}");
}

#[test]
fn every_built_in_balancer_keeps_what_it_is_judged_by() {
    for (name, config) in [
        ("first", ""),
        ("hash", "key = 'path'"),
        ("hash", "key = 'client-address'\nconsistent = true\nhash_balance_factor = 150"),
        ("ip-hash", ""),
        ("least-connections", ""),
        ("least-time", ""),
        ("maglev", "key = 'path'"),
        ("peak-ewma", ""),
        ("prefix-affinity", "key = 'path'"),
        ("priority", ""),
        ("random", ""),
        ("random-two", ""),
        ("rendezvous", "key = 'path'"),
        ("round-robin", ""),
        ("sticky", ""),
        ("zone", "zone = 'a'"),
    ] {
        fine(&["plugin", "check", name, "--config", config]);
    }
}

#[test]
fn every_other_built_in_plugin_does_too() {
    for (name, config) in [
        ("backoff", ""),
        ("never", ""),
        ("standard", ""),
        ("canary", "to = 'next'\npercent = 10"),
        ("cors", "allow_origins = ['https://other.test']"),
        ("rate-limit", "rate = '10r/s'"),
        ("redirect", "https = true"),
        ("request-id", ""),
        ("rewrite-path", "prefix = '/api'"),
        ("security-headers", ""),
        (
            "set-headers",
            "request = { set = { x-a = '$host' }, remove = ['x-b'] }\nresponse = { append = { via = 'a' } }",
        ),
        ("substitute", "replace = [{ from = 'aba', to = 'x' }, { from = 'secret', to = '******' }]"),
    ] {
        fine(&["plugin", "check", name, "--config", config, "--upstream", "next"]);
    }
}

/// Runs the binary, which must end well.
#[track_caller]
fn fine(arguments: &[&str]) -> String {
    let output = staunch(arguments);
    let text = said(&output);
    assert!(output.status.success(), "{arguments:?}:\n{text}");
    text
}

#[test]
fn settings_that_are_refused_end_a_check() {
    let output = staunch(&["plugin", "check", "standard", "--config", "on = [\"eror\"]"]);

    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("did you mean `error`?"), "{}", said(&output));
}

/// Runs a file of cases; answers the exit code and what was said, with the file's own name in it.
fn cases(text: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cases.toml");
    fs::write(&file, text).expect("a file");
    let output = staunch(&["plugin", "test", folder.path().to_str().expect("UTF-8")]);
    (output.status.code(), said(&output).replace(file.to_str().expect("UTF-8"), "cases.toml"))
}

#[test]
fn recorded_cases_run_against_the_component() {
    let (code, text) = cases(
        r#"
        plugin = "round-robin"
        endpoints = [{ address = "a:80", weight = 5 }, "b:80", "c:80"]

        [[cases]]
        name = "weights are spread smoothly"
        steps = [{ picks = ["a:80", "a:80", "b:80", "a:80", "c:80", "a:80", "a:80"] }]

        [[cases]]
        name = "what is not ready, or tried, is passed by"
        steps = [
          { change = { endpoint = "a:80", ready = false } },
          { picks = ["b:80", "c:80"] },
          { pick = "c:80", tried = ["b:80"] },
          { endpoints = ["d:80"] },
          { pick = "d:80" },
        ]

        [[cases]]
        name = "there may be nothing to pick"
        endpoints = [{ address = "a:80", down = true }]
        steps = [{ pick = "unavailable" }]
        "#,
    );

    assert_eq!(code, Some(0), "{text}");
    assert!(text.ends_with("ok      there may be nothing to pick\n3 passed\n"), "{text}");
}

#[test]
fn a_case_that_fails_is_told_with_its_line_and_what_came() {
    let (code, text) = cases(
        "plugin = \"round-robin\"\nendpoints = [\"a:80\", \"b:80\"]\n\n\
         [[cases]]\nname = \"turns\"\nsteps = [\n  { wait = \"1s\" },\n  { picks = [\"a:80\", \"a:80\"] },\n]\n",
    );

    assert_eq!(code, Some(1));
    let expected = "FAILED  turns\n          cases.toml:8:\n          expected: a:80 a:80\n          \
                    got:      a:80 b:80\n0 passed, 1 failed\n";
    assert_eq!(text, expected);
}

#[test]
fn decisions_of_a_retry_policy_can_be_recorded() {
    let (code, text) = cases(
        r#"
        plugin = "backoff"

        [[cases]]
        name = "a wait grows, and has an end"
        config = { on = ["5xx"] }
        steps = [
          { decide = { status = 503 }, expect = { delay = ["0s", "25ms"] } },
          { decide = { status = 503, attempt = 10 }, expect = { delay = ["0s", "250ms"] } },
          { decide = { status = 404 }, expect = "give-up" },
        ]

        [[cases]]
        name = "settings are checked"
        config = { on = ["5xy"] }
        refused = "did you mean `5xx`?"
        "#,
    );

    assert_eq!((code, text.lines().last()), (Some(0), Some("2 passed")), "{text}");
}

#[test]
fn messages_of_a_rewriter_can_be_recorded() {
    let (code, text) = cases(
        r#"
        plugin = "rewrite-path"
        config = { prefix = "/api" }

        [[cases]]
        name = "a prefix is taken off"
        steps = [
          { request = { target = "/api/users?id=1", headers = { x-a = ["1", "2"] } }, expect = { target = "/users?id=1", headers = { x-a = ["1", "2"], x-b = false } } },
          { request = { target = "/apix" }, expect = { target = "/apix" } },
        ]

        [[cases]]
        name = "wrongly expected"
        steps = [{ request = { target = "/api/a" }, expect = { target = "/b" } }]
        "#,
    );

    assert_eq!(code, Some(1));
    assert!(text.contains("ok      a prefix is taken off"), "{text}");
    assert!(text.contains("the target\n          expected: /b\n          got:      /a\n"), "{text}");
}

#[test]
fn bodies_can_be_recorded_piece_by_piece() {
    let (code, text) = cases(
        r#"
        plugin = "substitute"
        config = { replace = [{ from = "origin.test", to = "shop.test" }] }

        [[cases]]
        name = "what is cut is found"
        steps = [{ response = { headers = { content-type = "text/html" }, body = ["<a href='//orig", "in.test/'>"] }, expect = { body = "<a href='//shop.test/'>" } }]

        [[cases]]
        name = "what is expected wrongly is told"
        steps = [{ response = { headers = { content-type = "text/html" }, body = ["a"] }, expect = { body = "b" } }]
        "#,
    );

    assert_eq!(code, Some(1));
    assert!(text.contains("ok      what is cut is found"), "{text}");
    assert!(text.contains("the body\n          expected: b\n          got:      a\n"), "{text}");
}

#[test]
fn mistakes_in_a_file_of_cases_are_told() {
    for (text, expected) in [
        ("plugin = \"round-robin\"\ncases = [{ name = \"a\", stepps = [] }]\n", "unknown field `stepps`"),
        ("plugin = \"absent.wasm\"\ncases = []\n", "absent.wasm: No such file"),
        ("plugin = \"round-robin\"\nkind = \"retry\"\ncases = []\n", "`kind` must be `balancer`"),
        (
            "plugin = \"round-robin\"\ncases = [{ name = \"a\", steps = [{ wait = \"1 parsec\" }] }]\n",
            "`1 parsec` is no duration",
        ),
        (
            "plugin = \"round-robin\"\ncases = [{ name = \"a\", steps = [{ decide = { status = 500 } }] }]\n",
            "this is no step for a balancer",
        ),
        (
            "plugin = \"round-robin\"\ncases = [{ name = \"a\", steps = [{ pick = \"a:80\", tried = [\"x\"] }] }]\n",
            "there is no endpoint `x`",
        ),
    ] {
        let (code, said) = cases(text);

        assert_eq!(code, Some(1), "{text}");
        assert!(said.contains(expected), "{text}\n{said}");
    }
}

#[test]
fn a_bench_tells_what_calls_cost() {
    let text = fine(&["plugin", "bench", "round-robin"]);

    for row in [
        "3 endpoints    100 endpoints   1000 endpoints",
        "pick, median",
        "pick, p99",
        "pick, instructions",
        "pick, bytes in",
        "update, instructions",
        "memory",
        "the host's own round robin, median",
    ] {
        assert!(text.contains(row), "{row} in\n{text}");
    }
    assert!(fine(&["plugin", "bench", "standard"]).contains("decide, median"));
    assert!(fine(&["plugin", "bench", "security-headers"]).contains("on-response, median"));
}

/// A project that was made just now: built, tested, loaded by its own configuration, and judged if that is wanted.
fn project(language: &str, kind: &str, judged: bool) {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("mine");
    // What `examples/plugins/build` has installed.
    let tools = target().join("toolchains");
    let places = [tools.join("bin"), tools.join("node/node_modules/.bin")].into_iter();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(places.chain(std::env::split_paths(&path))).expect("a path");
    let run = |at: &Path, arguments: &[&str]| {
        let mut command = binary();
        // Projects share what they compile of the SDK.
        command.args(arguments).current_dir(at).env("PATH", &path).env("CARGO_TARGET_DIR", target().join("projects"));
        let output = command.output().expect("the binary");
        assert!(output.status.success(), "{language} {kind} {arguments:?}:\n{}", said(&output));
        said(&output)
    };

    run(place.path(), &["plugin", "new", "mine", "--kind", kind, "--lang", language]);
    let built = run(&folder, &["plugin", "build"]);
    assert!(built.contains("mine.wasm: a "), "{built}");
    let tested = run(&folder, &["plugin", "test"]);
    assert!(tested.trim_end().ends_with(" passed"), "{tested}");
    if language != "python" {
        // It takes its time to compile.
        run(&folder, &["check"]);
    }
    if judged {
        run(&folder, &["plugin", "check", "mine.wasm"]);
    }
}

#[test]
fn a_first_project_in_rust_builds_and_passes() {
    for kind in ["balancer", "retry", "rewriter"] {
        project("rust", kind, true);
    }
}

/// Where the toolchains are: `STAUNCH_EXAMPLES` is set once `examples/plugins/build` has got them.
#[test]
fn a_first_project_in_every_other_language_builds_and_passes() {
    if std::env::var_os("STAUNCH_EXAMPLES").is_none() {
        println!("skipped: STAUNCH_EXAMPLES does not say that the toolchains are there (examples/plugins/build)");
        return;
    }
    for language in ["c", "zig", "go", "js", "ts", "python"] {
        for kind in ["balancer", "retry", "rewriter"] {
            let judged = kind == "balancer" && ["c", "go"].contains(&language);
            project(language, kind, judged);
        }
    }
}

#[test]
fn a_project_whose_toolchain_is_missing_is_told_what_to_install() {
    let place = tempfile::tempdir().expect("a folder");
    for (language, fix) in [
        ("rust", "rustup target add wasm32-unknown-unknown"),
        ("c", "pip install ziglang"),
        ("zig", "pip install ziglang"),
        ("go", "https://go.dev/dl"),
        ("js", "npm install"),
        ("python", "pip install componentize-py"),
    ] {
        let name = format!("in-{language}");
        let run = |arguments: &[&str]| {
            let mut command = binary();
            command.args(arguments).current_dir(place.path()).env("PATH", "").env_remove("WASI_SDK_PATH");
            command.output().expect("the binary")
        };
        assert!(run(&["plugin", "new", &name, "--kind", "balancer", "--lang", language]).status.success());

        let output = run(&["plugin", "build", &name]);

        // Debian's own Rust and clang are found where they always are.
        let elsewhere = match language {
            "rust" => Path::new("/usr/bin/rustc").exists(),
            _ => false,
        };
        assert!(elsewhere || said(&output).contains(fix), "{language}: {}", said(&output));
        assert!(elsewhere || output.status.code() == Some(1), "{language}");
    }
}

#[test]
fn every_property_and_every_step_is_explained() {
    let properties = fine(&["plugin", "check", "--help"]);
    let named = properties.split("[possible values: ").nth(3).and_then(|rest| rest.split(']').next());
    for property in named.expect("the values of `--only`").split(", ") {
        assert!(properties.contains(&format!("\n  {property} ")), "{property} in\n{properties}");
    }
    assert!(fine(&["plugin", "test", "--help"]).contains("{ decide = { failed = \"reset\" }, expect = "));
}

#[test]
fn what_cannot_be_made_is_refused() {
    for (arguments, code, expected) in [
        (
            &["new", "a", "--kind", "balancer", "--lang", "cobol"][..],
            2,
            "[possible values: rust, c, zig, go, js, ts, python]",
        ),
        (&["new", "a", "--kind", "cache", "--lang", "c"], 2, "[possible values: balancer, retry, rewriter]"),
        (&["new", "hash", "--kind", "balancer", "--lang", "c"], 1, "`hash` is the name of a built-in plugin"),
        (&["new", "a b", "--kind", "balancer", "--lang", "c"], 1, "letters, digits and `-` only"),
        (&["build"], 1, "is no plugin project"),
        (&["check", "absent.wasm"], 1, "absent.wasm: No such file"),
        (&["check", "hash", "--only", "beauty"], 2, "possible values"),
        (&["check", "hash", "--config", "a = = b"], 1, "1:"),
    ] {
        let output = staunch(&[&["plugin"], arguments].concat());

        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(expected), "{arguments:?}: {}", said(&output));
    }
}
