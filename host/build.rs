//! Finds the built-in plugins, which `plugins/build` leaves in `plugins/` of the target directory, and writes the list
//! of them for `host/src/plugins/builtin.rs`; and lists the files that `staunch plugin new` gives to a project.

use std::path::{Path, PathBuf};
use std::{env, fs};

include!("builtins.rs");

fn main() {
    embed("sdk", "../guest-sdk", &["src", "README.md"]);
    embed("go_package", "../examples/plugins/allowance/staunch", &["."]);
    println!("cargo::rerun-if-env-changed=STAUNCH_PLUGINS");
    let places = places();
    let Some(found) = places.iter().find(|place| BUILTINS.iter().all(|(name, _)| file(place, name).is_file())) else {
        println!("cargo::error=the built-in plugins are not built yet: run `make build`, which gets what that needs");
        // Looks again at the next build, also when nothing else changed.
        places.iter().for_each(|place| println!("cargo::rerun-if-changed={}", place.display()));
        return;
    };
    let mut list = String::from("&[\n");
    let mut kinds = String::from("&[\n");
    for (name, kind) in BUILTINS {
        let file = file(found, name);
        println!("cargo::rerun-if-changed={}", file.display());
        kinds += &format!("({name:?}, PluginKind::{kind}),\n");
        list += &format!("Builtin {{ name: {name:?}, kind: Kind::{kind}, component: include_bytes!({file:?}) }},\n");
    }
    list += "]\n";
    kinds += "]\n";
    println!("cargo::rerun-if-changed=builtins.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for (file, text) in [("builtins.rs", list), ("builtin_kinds.rs", kinds)] {
        fs::write(out.join(file), text).expect("cargo's own directory can be written");
    }
}

/// Where the plugins may be: where somebody says, in the target directory of this build wherever that is, or beside
/// this file, where a packaged crate has them.
fn places() -> Vec<PathBuf> {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let mut places: Vec<PathBuf> = env::var_os("STAUNCH_PLUGINS").map(PathBuf::from).into_iter().collect();
    // OUT_DIR is TARGET/[TRIPLE/]PROFILE/build/staunch-HASH/out.
    places.extend(out.ancestors().skip(4).take(2).map(|target| target.join("plugins")));
    places.push(here.join("../target/plugins"));
    places.push(here.join("plugins"));
    places
}

fn file(place: &Path, name: &str) -> PathBuf {
    place.join(name).with_extension("wasm")
}

/// Writes a list of the files in some places under `root`, each with its path from there and its text.
fn embed(list: &str, root: &str, places: &[&str]) {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = here.join(root);
    let mut files = Vec::new();
    for place in places {
        collect(&root.join(place), &mut files);
    }
    files.sort();
    let mut text = String::from("&[\n");
    for file in &files {
        let name = file.strip_prefix(&root).expect("it is under the root");
        let name: Vec<_> = name.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        let name = name.join("/").trim_start_matches("./").to_owned();
        text += &format!("({name:?}, include_str!({file:?})),\n");
        println!("cargo::rerun-if-changed={}", file.display());
    }
    text += "]\n";
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join(list).with_extension("rs"), text).expect("cargo's own directory can be written");
}

fn collect(place: &Path, files: &mut Vec<PathBuf>) {
    println!("cargo::rerun-if-changed={}", place.display());
    let Ok(entries) = fs::read_dir(place) else {
        files.push(place.to_owned());
        return;
    };
    for entry in entries.flatten() {
        collect(&entry.path(), files);
    }
}
