//! Rust: the target's own std where it is installed, else Debian's compiler with the source of its std.

use std::fs;
use std::path::{Path, PathBuf};

use super::BuildError;
use super::tools::{self, Tool, run};

const TARGET: &str = "wasm32-unknown-unknown";
/// The oldest compiler the SDK is made for.
const OLDEST: (u32, u32) = (1, 95);

pub(super) fn build(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<PathBuf, BuildError> {
    let manifest = folder.join("Cargo.toml");
    let library = library(&manifest)?;
    let cargo = find(folder).ok_or_else(|| BuildError::Missing {
        what: "Rust for WebAssembly",
        fix: format!(
            "run `rustup target add {TARGET}`, or, on Debian as root, `apt-get install rustc-web cargo-web \
             rust-web-src lld-19`"
        ),
    })?;
    run(&cargo.with(["build", "--release", "--target", TARGET]), folder, say)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| folder.join("target"), |dir| folder.join(dir));
    let built = target.join(TARGET).join("release").join(format!("{}.wasm", library.replace('-', "_")));
    let out = folder.join(format!("{library}.wasm"));
    let copied = fs::copy(&built, &out);
    copied.map(|_| out).map_err(|error| BuildError::File {
        path: built,
        message: format!("{error}; a plugin has `crate-type = [\"cdylib\"]` under `[lib]`"),
    })
}

/// The name of the package, which is the library's too unless it has one of its own.
fn library(manifest: &Path) -> Result<String, BuildError> {
    let told = |message: String| BuildError::File { path: manifest.to_owned(), message };
    let text = fs::read_to_string(manifest).map_err(|error| told(error.to_string()))?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| told(error.to_string()))?;
    let name = |section: &str| Some(table.get(section)?.get("name")?.as_str()?.to_owned());
    name("lib").or_else(|| name("package")).ok_or_else(|| told("it names no package".to_owned()))
}

/// A cargo that can build for the target.
fn find(folder: &Path) -> Option<Tool> {
    with_target(folder).or_else(with_std_source)
}

fn with_target(folder: &Path) -> Option<Tool> {
    let (rustc, cargo) = (tools::find(folder, &["rustc"])?, tools::find(folder, &["cargo"])?);
    let library = rustc.asked(&["--print", "target-libdir", "--target", TARGET])?;
    let has_std = fs::read_dir(library).ok()?.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("libstd-")
    });
    has_std.then_some(cargo)
}

/// Debian's rustc with the source of its std, which cargo then builds along. Only a source of the same release works.
fn with_std_source() -> Option<Tool> {
    let (rustc, cargo) = (Path::new("/usr/bin/rustc"), Path::new("/usr/bin/cargo"));
    if !rustc.is_file() || !cargo.is_file() {
        return None;
    }
    let compiler = Tool::at(rustc);
    let version = compiler.asked(&["-V"])?;
    let mut numbers = version.split(' ').nth(1)?.split('.').map(str::parse::<u32>);
    let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let sysroot = PathBuf::from(compiler.asked(&["--print", "sysroot"])?);
    if (major, minor) < OLDEST || !sysroot.join("lib/rustlib/src/rust/library/std").is_dir() {
        return None;
    }
    let linker = linker(&sysroot)?;
    let cargo = Tool::at(cargo)
        .with(["-Zbuild-std=std,panic_abort"])
        .set("RUSTC_BOOTSTRAP", "1")
        .set("RUSTC", rustc)
        .set("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    Some(cargo)
}

fn linker(sysroot: &Path) -> Option<PathBuf> {
    let own = fs::read_dir(sysroot.join("lib/rustlib")).ok()?.flatten();
    let own = own.map(|entry| entry.path().join("bin/rust-lld"));
    let versions = (14..30).rev().map(|version| PathBuf::from(format!("/usr/bin/wasm-ld-{version}")));
    own.chain([PathBuf::from("/usr/bin/wasm-ld")]).chain(versions).find(|file| file.is_file())
}
