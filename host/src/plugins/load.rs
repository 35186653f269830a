//! A plugin file becomes a component: WAT text, a core module or a component already.
//!
//! # Why take core modules?
//!
//! It is what compilers make. So an author needs a compiler only: `cargo build --target wasm32-unknown-unknown`
//! gives a file that works here as it is.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;
use std::sync::OnceLock;

use wasmparser::{Encoding, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{Resolve, SourceMap};

use crate::plugins::error::PluginError;
use crate::plugins::inspect;

/// The version that the files of `wit/` carry.
const WRITTEN: &str = "0.1.0";

/// What modules for wasm32-wasip1 import.
const PREVIEW1: &str = "wasi_snapshot_preview1";

/// Makes a component of a file's bytes.
pub(super) fn component<'a>(plugin: &str, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, PluginError> {
    let binary = binary(plugin, bytes)?;
    if Parser::is_core_wasm(&binary) { Ok(adapt(plugin, &binary)?.into()) } else { Ok(binary) }
}

/// Assembles WAT text, leaves binaries as they are.
fn binary<'a>(plugin: &str, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, PluginError> {
    if bytes.starts_with(b"\0asm") {
        return Ok(bytes.into());
    }
    let text = std::str::from_utf8(bytes).ok().filter(|text| looks_like_wat(text));
    let Some(text) = text else {
        let begins = match bytes.get(..8).unwrap_or(bytes) {
            [] => "nothing: it is empty".into(),
            start => format!("`{}`", start.escape_ascii()),
        };
        return Err(PluginError::NotWasm { plugin: plugin.to_owned(), begins });
    };
    let assembled = wat::parse_str(text)
        .map_err(|error| PluginError::Text { plugin: plugin.to_owned(), message: error.to_string() })?;
    Ok(assembled.into())
}

/// Whether the first thing after comments and white space is a parenthesis.
fn looks_like_wat(text: &str) -> bool {
    let mut rest = text.trim_start();
    while let Some(comment) = rest.strip_prefix(";;") {
        rest = comment.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
    }
    rest.starts_with('(')
}

/// Makes a component of a core module.
fn adapt(plugin: &str, module: &[u8]) -> Result<Vec<u8>, PluginError> {
    let found = Outline::of(module)
        .map_err(|error| PluginError::Invalid { plugin: plugin.to_owned(), message: error.to_string() })?;
    for import in found.imports.iter().filter(|import| import.module != PREVIEW1) {
        match inspect::contract_name(import.module) {
            Some(_) => inspect::check_import(plugin, import.module)?,
            None => inspect::check_import(plugin, &format!("{}.{}", import.module, import.name))?,
        }
    }
    let interfaces = found.exports.iter().map(|name| name.split_once('#').map_or(*name, |(interface, _)| interface));
    inspect::offered(plugin, interfaces.clone())?;

    let refused =
        |error: anyhow::Error| PluginError::Encode { plugin: plugin.to_owned(), message: format!("{error:#}") };
    let mut module = Cow::Borrowed(module);
    if !found.has_metadata {
        embed_contract(module.to_mut(), interfaces).map_err(refused)?;
    }
    let mut encoder = ComponentEncoder::default().module(&module).map_err(refused)?;
    if found.imports.iter().any(|import| import.module == PREVIEW1) {
        // The adapter must not call the guest's allocator before the guest's runtime is up (Go).
        encoder = encoder.realloc_via_memory_grow(true).adapter(PREVIEW1, null_adapter()).map_err(refused)?;
    }
    encoder.encode().map_err(refused)
}

/// What matters of a core module's contents.
#[derive(Default)]
struct Outline<'a> {
    imports: Vec<Import<'a>>,
    exports: Vec<&'a str>,
    /// Whether it says itself which world it is for, as wit-bindgen makes its modules do.
    has_metadata: bool,
}

struct Import<'a> {
    module: &'a str,
    name: &'a str,
}

impl<'a> Outline<'a> {
    fn of(module: &'a [u8]) -> wasmparser::Result<Self> {
        let mut outline = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::Version { encoding: Encoding::Component, .. } => break,
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        outline.imports.push(Import { module: import.module, name: import.name });
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        outline.exports.push(export?.name);
                    }
                }
                Payload::CustomSection(section) if section.name().starts_with("component-type") => {
                    outline.has_metadata = true;
                }
                _ => {}
            }
        }
        Ok(outline)
    }
}

/// Writes into a module that it is for a world which imports all that is granted and exports what it has.
fn embed_contract<'a>(module: &mut Vec<u8>, interfaces: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
    let mut exports: Vec<_> = interfaces.filter(|name| inspect::contract_name(name).is_some()).collect();
    exports.sort_unstable();
    exports.dedup();
    // A module that was built for a later patch names that one throughout, and means the same interfaces.
    let version = exports.iter().find_map(|name| Some(inspect::contract_name(name)?.1)).unwrap_or(WRITTEN);
    let of_version = |text: &str| text.replacen(&format!("plugin@{WRITTEN};"), &format!("plugin@{version};"), 1);
    let mut world = format!(
        "package staunch:synthesised;\nworld plugin {{\n\
         include staunch:plugin/host-imports@{version};\n\
         import staunch:plugin/loads@{version};\n\
         import staunch:plugin/selection@{version};\n\
         import staunch:plugin/delegate@{version};\n\
         import staunch:plugin/pace@{version};\n\
         import staunch:plugin/routing@{version};\n\
         import staunch:plugin/response@{version};\n"
    );
    for export in exports {
        writeln!(world, "export {export};")?;
    }
    world.push('}');

    let mut resolve = Resolve::default();
    let mut sources = SourceMap::default();
    for (name, text) in [
        ("types.wit", include_str!("../../../wit/types.wit")),
        ("host.wit", include_str!("../../../wit/host.wit")),
        ("plugin.wit", include_str!("../../../wit/plugin.wit")),
        ("worlds.wit", include_str!("../../../wit/worlds.wit")),
    ] {
        sources.push(Path::new(name), of_version(text));
    }
    let contract = sources.parse().map_err(|(_, error)| error)?;
    resolve.push_group(contract)?;
    let package = resolve.push_str("synthesised.wit", &world)?;
    let world = resolve.select_world(&[package], Some("plugin"))?;
    wit_component::embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)
}

/// `wasi_snapshot_preview1` with nothing behind it.
fn null_adapter() -> &'static [u8] {
    static ASSEMBLED: OnceLock<Vec<u8>> = OnceLock::new();
    ASSEMBLED.get_or_init(|| wat::parse_str(include_str!("null_adapter.wat")).expect("the adapter is valid WAT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_null_adapter_is_valid() {
        assert!(Parser::is_core_wasm(null_adapter()));
    }

    #[test]
    fn text_is_told_from_other_files() {
        for (text, wat) in [
            ("(module)", true),
            ("  ;; a comment\n;; another\n(component)", true),
            ("(; a comment ;) (module)", true),
            ("#!/bin/sh", false),
            (";; only a comment", false),
            ("", false),
        ] {
            assert_eq!(looks_like_wat(text), wat, "{text}");
        }
    }
}
