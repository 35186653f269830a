//! What the author of a plugin has: the judge, recorded cases, a first project, the stopwatch.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::harness::staunch;

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
fn every_built_in_plugin_keeps_what_it_is_judged_by() {
    for (name, config) in [
        ("round-robin", ""),
        ("random", ""),
        ("random-two", ""),
        ("least-connections", ""),
        ("least-time", ""),
        ("peak-ewma", ""),
        ("first", ""),
        ("ip-hash", ""),
        ("hash", "key = 'path'"),
        ("hash", "key = 'path'\nconsistent = true\nhash_balance_factor = 150"),
        ("maglev", "key = 'path'"),
        ("rendezvous", "key = 'path'"),
        ("standard", ""),
        (
            "set-headers",
            "request = { set = { x-a = \"$host\" }, remove = [\"x-b\"] }\nresponse = { append = { via = \"1.1 a\" } }",
        ),
    ] {
        let output = staunch(&["plugin", "check", name, "--config", config]);

        assert!(output.status.success(), "{name}:\n{}", said(&output));
    }
}

#[test]
fn settings_that_are_refused_end_a_check() {
    let output = staunch(&["plugin", "check", "standard", "--config", "on = [\"eror\"]"]);

    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("did you mean `error`?"), "{}", said(&output));
}
