//! The contract's past and future: what was built for it once still loads, and what was built for another is told so.

use std::fs;
use std::path::Path;

use crate::harness::{ADMIN, Client, Proxy, Upstream};

/// The example `least-busy` as it was first built for 0.1.0; `fixtures/README.md` tells how.
const FIRST_BUILDS: [&str; 2] = ["least-busy-0.1.0.module.wasm", "least-busy-0.1.0.component.wasm"];

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)).expect("a fixture")
}

/// The same for another version with as many characters.
fn rebuilt_for(version: &str, plugin: &[u8]) -> Vec<u8> {
    let mut rebuilt = plugin.to_vec();
    for at in 0..rebuilt.len() {
        if rebuilt[at..].starts_with(b"@0.1.0") {
            rebuilt[at + 1..at + 6].copy_from_slice(version.as_bytes());
        }
    }
    rebuilt
}

/// A proxy whose balancer is this plugin, and the folder that holds it.
fn serve(plugin: &[u8], endpoints: &[&Upstream]) -> Result<(Proxy, tempfile::TempDir), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("own.wasm");
    fs::write(&file, plugin).expect("a file");
    let endpoints: Vec<_> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    let text = format!(
        "{ADMIN}[plugins.own]\npath = \"{}\"\n[upstreams.api]\nbalance = \"own\"\nendpoints = [{}]\n",
        file.display(),
        endpoints.join(", ")
    );
    Ok((Proxy::start(&text, None)?, folder))
}

#[track_caller]
fn assert_picks_the_idlest(what: &str, plugin: &[u8]) {
    let (busy, idle) = (Upstream::stalling(), Upstream::replying("idle"));
    let (proxy, _folder) = serve(plugin, &[&busy, &idle]).expect(what);
    // Of two idle endpoints one is picked by chance: until it is the busy one, which then has a request in flight.
    let mut waiting = Vec::new();
    while busy.requests() == 0 {
        let mut client = Client::to(&proxy);
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        crate::harness::eventually(|| busy.requests() + idle.requests() > waiting.len());
        waiting.push(client);
    }

    for _ in 0..20 {
        assert_eq!(proxy.get("/").text(), "idle", "{what}");
    }

    let plugins = proxy.admin("/api/plugins", "");
    let plugins: Vec<serde_json::Value> = serde_json::from_slice(&plugins.body).expect("JSON");
    let own = plugins.iter().find(|plugin| plugin["plugin"] == "own").expect("it is used");
    assert_eq!(own["fallbacks"], 0, "{what}: {own}");
}

#[test]
fn a_plugin_built_for_the_first_contract_still_picks() {
    for name in FIRST_BUILDS {
        assert_picks_the_idlest(name, &fixture(name));
    }
}

#[test]
fn a_plugin_built_for_a_later_patch_picks_as_long_as_it_uses_what_is_here() {
    for name in FIRST_BUILDS {
        assert_picks_the_idlest(name, &rebuilt_for("0.1.7", &fixture(name)));
    }
    let by_hand = super::plugins::FIRST_ENDPOINT.replace("@0.1.0", "@0.1.7");
    let (a, b) = (Upstream::replying("A"), Upstream::replying("B"));
    let (proxy, _folder) = serve(by_hand.as_bytes(), &[&a, &b]).expect("it fits");
    assert_eq!(proxy.get("/").text(), "A");
}

#[test]
fn a_plugin_built_for_another_contract_is_refused_with_both_versions() {
    let by_hand = super::plugins::FIRST_ENDPOINT.replace("@0.1.0", "@0.3.0");
    let exports_only = "(component (instance $i) (export \"staunch:plugin/lifecycle@0.3.0\" (instance $i))
        (export \"staunch:plugin/balancer@0.3.0\" (instance $i)))";
    let unknown_only = "(component (instance $i) (export \"staunch:plugin/lifecycle@0.3.0\" (instance $i))
        (export \"staunch:plugin/placement@0.3.0\" (instance $i)))";
    for (what, plugin) in [
        ("a module with metadata", rebuilt_for("0.3.0", &fixture(FIRST_BUILDS[0]))),
        ("a component", rebuilt_for("0.3.0", &fixture(FIRST_BUILDS[1]))),
        ("a module without metadata", by_hand.into()),
        ("a component that imports nothing", exports_only.into()),
        ("a component of a kind that is new", unknown_only.into()),
    ] {
        let error = serve(&plugin, &[&Upstream::refusing()]).map(|_| ()).expect_err(what);

        assert!(
            error.contains("plugin `own` was built for staunch:plugin 0.3.0, this proxy serves 0.1:"),
            "{what}: {error}"
        );
    }
}

#[test]
fn an_interface_that_a_later_patch_has_added_is_named() {
    let export = "(component (instance $i) (export \"staunch:plugin/lifecycle@0.1.4\" (instance $i))
        (export \"staunch:plugin/balancer@0.1.4\" (instance $i))
        (export \"staunch:plugin/forecast@0.1.4\" (instance $i)))";
    let import = "(component (import \"staunch:plugin/forecast@0.1.4\" (instance)))";
    for (what, plugin) in [("exported", export), ("imported", import)] {
        let error = serve(plugin.as_bytes(), &[&Upstream::refusing()]).map(|_| ()).expect_err(what);

        let words = "was built for staunch:plugin 0.1.4 (for its interface `forecast`), this proxy serves 0.1";
        assert!(error.contains(words), "{what}: {error}");
    }
}
