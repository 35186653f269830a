//! Finds the built-in plugins, which `plugins/build` leaves in `plugins/` of the target directory, for
//! `host/src/plugins/builtin.rs` to embed.

use std::env;
use std::path::{Path, PathBuf};

const NAMES: [&str; 3] = ["round-robin", "set-headers", "standard"];

fn main() {
    println!("cargo::rerun-if-env-changed=STAUNCH_PLUGINS");
    let places = places();
    let Some(found) = places.iter().find(|place| NAMES.iter().all(|name| file(place, name).is_file())) else {
        println!("cargo::error=the built-in plugins are not built yet: run `make build`, which gets what that needs");
        // Looks again at the next build, also when nothing else changed.
        places.iter().for_each(|place| println!("cargo::rerun-if-changed={}", place.display()));
        return;
    };
    for name in NAMES {
        println!("cargo::rerun-if-changed={}", file(found, name).display());
    }
    println!("cargo::rustc-env=STAUNCH_PLUGINS={}", found.display());
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
