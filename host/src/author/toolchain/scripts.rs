//! JavaScript, TypeScript and Python: a component with the interpreter inside.

use std::fs;
use std::path::Path;

use super::BuildError;
use super::tools::{self, Tool, run};

/// With QuickJS. TypeScript, and modules of the author's own, are bundled first.
pub(super) fn javascript(folder: &Path, out: &Path, say: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
    let need = |name: &'static str, what: &'static str| {
        tools::find(folder, &[name])
            .ok_or_else(|| BuildError::Missing { what, fix: "run `npm install` in the project".to_owned() })
    };
    let package = folder.join("package.json");
    let world = world(&package, |text| {
        let json: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Ok(json["staunch"]["world"].as_str().map(str::to_owned))
    })?;
    let componentize = need("componentize-qjs", "`componentize-qjs`")?;
    let esbuild = need("esbuild", "`esbuild`")?;
    let typed = folder.join("plugin.ts").is_file();
    if typed && let Some(tsc) = tools::find(folder, &["tsc"]) {
        run(&tsc, folder, say)?;
    }
    let scratch = Scratch::of(out, "mjs");
    let bundle = esbuild
        .with([if typed { "plugin.ts" } else { "plugin.js" }])
        .with(["--bundle", "--format=esm", "--external:staunch:*", "--log-level=warning"])
        .with([&format!("--outfile={}", scratch.0.display())]);
    run(&bundle, folder, say)?;
    let component = componentize
        .with(["-w", "wit", "-n", &world, "-j"])
        .with([&scratch.0])
        .with(["--stub-wasi", "--sync", "-o"])
        .with([out]);
    run(&component, folder, say)
}

pub(super) fn python(folder: &Path, out: &Path, say: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
    let world = world(&folder.join("pyproject.toml"), |text| {
        let table: toml::Table = toml::from_str(text).map_err(|error| error.to_string())?;
        let world = || table.get("tool")?.get("staunch")?.get("world")?.as_str().map(str::to_owned);
        Ok(world())
    })?;
    let module = || {
        let python = tools::find(folder, &["python3", "python"])?.with(["-m", "componentize_py"]);
        python.answers(&["--version"]).then_some(python)
    };
    let componentize: Tool =
        tools::find(folder, &["componentize-py"]).or_else(module).ok_or_else(|| BuildError::Missing {
            what: "`componentize-py`",
            fix: "`python3 -m venv .venv && .venv/bin/pip install componentize-py==0.25.1` in the project".to_owned(),
        })?;
    let tool =
        componentize.with(["-q", "-d", "wit", "-w", &world, "componentize", "--stub-wasi", "plugin", "-o"]).with([out]);
    run(&tool, folder, say)
}

/// The world of the contract that a project's own manifest names.
fn world(manifest: &Path, read: impl Fn(&str) -> Result<Option<String>, String>) -> Result<String, BuildError> {
    let told = |message: String| BuildError::File { path: manifest.to_owned(), message };
    let text = fs::read_to_string(manifest).map_err(|error| told(error.to_string()))?;
    let absent = || told("it does not say which world of `wit/` the plugin is for: `staunch` has a `world`".to_owned());
    read(&text).map_err(told)?.ok_or_else(absent)
}

/// A file that is there for one build.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn of(out: &Path, extension: &str) -> Self {
        Self(out.with_extension(extension))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have been written.
        let _ = fs::remove_file(&self.0);
    }
}
