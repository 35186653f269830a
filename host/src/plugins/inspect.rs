//! What a component asks for and offers, by the names of its imports and exports.

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::plugins::Kind;
use crate::plugins::error::{CONTRACT, PluginError};

/// The package of the contract.
const PACKAGE: &str = "staunch:plugin/";

/// What the host grants.
const GRANTED: [&str; 16] = [
    "types",
    "edits",
    "registration",
    "config",
    "log",
    "metrics",
    "shared",
    "clock",
    "random",
    "loads",
    "selection",
    "delegate",
    "pace",
    "routing",
    "request",
    "response",
];

/// The decisions a plugin offers to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exports {
    pub balancer: bool,
    /// Whether the balancer hears of outcomes.
    pub feedback: bool,
    pub retry: bool,
    pub request_rewriter: bool,
    pub response_rewriter: bool,
    pub request_body_rewriter: bool,
    pub response_body_rewriter: bool,
    /// Whether it hands its state to the version that replaces it.
    pub handover: bool,
}

impl Exports {
    pub fn offers(&self, kind: Kind) -> bool {
        match kind {
            Kind::Balancer => self.balancer,
            Kind::Retry => self.retry,
            Kind::Rewriter => self.request_rewriter || self.response_rewriter,
        }
    }

    /// Every kind of plugin this is.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        [Kind::Balancer, Kind::Retry, Kind::Rewriter].into_iter().filter(|&kind| self.offers(kind))
    }
}

/// What is known of a component before it runs.
#[derive(Clone, Debug)]
pub(super) struct Inspected {
    pub(super) exports: Exports,
    /// Interfaces it imports, sorted.
    pub(super) imports: Vec<String>,
    /// Whether it reads the times to a response head, which then have to be kept.
    pub(super) reads_latency: bool,
    /// Whether it leaves a part of the decision to a balancer behind it.
    pub(super) delegates: bool,
    /// The newest version of the contract it names ("0.1.0").
    pub(super) contract: String,
}

/// Looks at a compiled component, and refuses what this proxy cannot serve.
pub(super) fn component(plugin: &str, component: &Component) -> Result<Inspected, PluginError> {
    let (engine, of) = (component.engine(), component.component_type());
    let mut imports: Vec<_> = of.imports(engine).map(|(name, _)| name.to_owned()).collect();
    let exports: Vec<_> = of.exports(engine).map(|(name, _)| name.to_owned()).collect();
    imports.sort();
    for import in &imports {
        check_import(plugin, import)?;
    }
    let reads_latency = of.imports(engine).any(|(name, import)| match import.ty {
        ComponentItem::ComponentInstance(interface) => {
            contract_name(name).is_some_and(|(name, _)| name == "loads")
                && interface.exports(engine).any(|(function, _)| function.starts_with("latency"))
        }
        _ => false,
    });
    let delegates = imports.iter().filter_map(|name| contract_name(name)).any(|(name, _)| name == "delegate");
    let known = offered(plugin, exports.iter().map(String::as_str))?;
    let contract = imports.iter().chain(&exports).filter_map(|name| Some(contract_name(name)?.1)).max_by_key(|v| {
        // 0.1.10 is newer than 0.1.9.
        (v.len(), v.to_string())
    });
    Ok(Inspected {
        exports: known,
        contract: contract.unwrap_or_default().to_owned(),
        imports,
        reads_latency,
        delegates,
    })
}

/// Refuses an import that is not granted.
pub(super) fn check_import(plugin: &str, import: &str) -> Result<(), PluginError> {
    match contract_name(import) {
        Some((interface, version)) => {
            check_version(plugin, version)?;
            if GRANTED.contains(&interface) { Ok(()) } else { Err(newer(plugin, interface, version)) }
        }
        None if import.starts_with("wasi:") || import.starts_with("wasi_") => {
            Err(PluginError::Wasi { plugin: plugin.to_owned(), import: import.to_owned() })
        }
        None => Err(PluginError::Import { plugin: plugin.to_owned(), import: import.to_owned() }),
    }
}

fn check_version(plugin: &str, version: &str) -> Result<(), PluginError> {
    if is_served(version) {
        return Ok(());
    }
    Err(PluginError::Version { plugin: plugin.to_owned(), built_for: version.to_owned() })
}

/// The refusal of an interface that a later patch of the contract has added.
fn newer(plugin: &str, interface: &str, version: &str) -> PluginError {
    PluginError::Version {
        plugin: plugin.to_owned(),
        built_for: format!("{version} (for its interface `{interface}`)"),
    }
}

/// Sorts out which exported interfaces are known. One that is not means a newer contract: nobody would call it, and a
/// plugin whose author relies on it is better refused than served by half.
pub(super) fn offered<'a>(plugin: &str, names: impl Iterator<Item = &'a str> + Clone) -> Result<Exports, PluginError> {
    let mut known = Exports::default();
    let mut lifecycle = false;
    for (interface, version) in names.clone().filter_map(contract_name) {
        check_version(plugin, version)?;
        let place = match interface {
            "lifecycle" => &mut lifecycle,
            "balancer" => &mut known.balancer,
            "feedback" => &mut known.feedback,
            "retry" => &mut known.retry,
            "request-rewriter" => &mut known.request_rewriter,
            "response-rewriter" => &mut known.response_rewriter,
            "request-body-rewriter" => &mut known.request_body_rewriter,
            "response-body-rewriter" => &mut known.response_body_rewriter,
            "handover" => &mut known.handover,
            _ if GRANTED.contains(&interface) => continue,
            _ => return Err(newer(plugin, interface, version)),
        };
        *place = true;
    }
    if known.kinds().next().is_none() {
        let mut exports: Vec<_> = names.map(str::to_owned).collect();
        exports.dedup();
        exports.truncate(20);
        return Err(PluginError::NothingKnown { plugin: plugin.to_owned(), exports });
    }
    for (body, head, side) in [
        (known.request_body_rewriter, known.request_rewriter, "request"),
        (known.response_body_rewriter, known.response_rewriter, "response"),
    ] {
        if body && !head {
            return Err(PluginError::Shape {
                plugin: plugin.to_owned(),
                message: format!("it exports `{side}-body-rewriter` without `{side}-rewriter`"),
            });
        }
    }
    if !lifecycle {
        return Err(PluginError::NoLifecycle { plugin: plugin.to_owned() });
    }
    Ok(known)
}

/// The interface and version in a name such as `staunch:plugin/balancer@0.1.0`.
pub(super) fn contract_name(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix(PACKAGE)?;
    Some(rest.split_once('@').unwrap_or((rest, "without a version")))
}

/// Whether a version is one of the contract this proxy serves: 0.1 and whatever follows.
fn is_served(version: &str) -> bool {
    version
        .strip_prefix(CONTRACT)
        .and_then(|rest| rest.strip_prefix('.'))
        .is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_of_the_served_contract_are_served() {
        for (version, served) in [
            ("0.1.0", true),
            ("0.1.17", true),
            ("0.1", false),
            ("0.10.0", false),
            ("0.2.0", false),
            ("1.1.0", false),
            ("0.1.0-rc1", false),
        ] {
            assert_eq!(is_served(version), served, "{version}");
        }
    }

    #[test]
    fn an_interface_of_a_newer_patch_is_a_question_of_version() {
        let Err(PluginError::Version { built_for, .. }) = check_import("p", "staunch:plugin/lookup@0.1.4") else {
            panic!("a version");
        };
        assert_eq!(built_for, "0.1.4 (for its interface `lookup`)");
    }
}
