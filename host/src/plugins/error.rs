//! Why a plugin cannot be used, in words for the operator: whose fault it is and what to do.

use crate::plugins::Kind;
use crate::plugins::faults::Cause;

/// The contract this proxy serves.
pub const CONTRACT: &str = "0.1";

/// Why a plugin cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PluginError {
    /// Ours, or the machine's.
    #[error("the plugin engine could not start: {message}")]
    Engine { message: String },

    #[error(
        "plugin `{plugin}` is not WebAssembly: the file must be a component, a core module or WAT text, and begins with {begins}"
    )]
    NotWasm { plugin: String, begins: String },

    #[error("plugin `{plugin}` is WAT text with a mistake: {message}")]
    Text { plugin: String, message: String },

    #[error("plugin `{plugin}` is damaged or uses WebAssembly features this proxy has not: {message}")]
    Invalid { plugin: String, message: String },

    #[error(
        "plugin `{plugin}` is a core module that does not follow the contract staunch:plugin@{CONTRACT}, so no component can be made of it: {message}"
    )]
    Encode { plugin: String, message: String },

    #[error(
        "plugin `{plugin}` exports nothing this proxy knows; it must export staunch:plugin/lifecycle and one of balancer, retry, request-rewriter, response-rewriter (@{CONTRACT}), and {}",
        exported(.exports)
    )]
    NothingKnown { plugin: String, exports: Vec<String> },

    #[error("plugin `{plugin}` does not export staunch:plugin/lifecycle@{CONTRACT}, which every plugin must")]
    NoLifecycle { plugin: String },

    #[error(
        "plugin `{plugin}` was built for staunch:plugin {built_for}, this proxy serves {CONTRACT}: build it with the SDK or the WIT of {CONTRACT}, or run a proxy that serves what it was built for"
    )]
    Version { plugin: String, built_for: String },

    #[error(
        "plugin `{plugin}` imports `{import}`, which no proxy grants: a plugin may import interfaces of staunch:plugin@{CONTRACT} only"
    )]
    Import { plugin: String, import: String },

    #[error(
        "plugin `{plugin}` imports WASI (`{import}`), and plugins have no system access here: build Rust for wasm32-unknown-unknown; give C, Go and Zig as the core module their compiler makes (wasip1, not made into a component with a WASI adapter); build JavaScript and Python with --stub-wasi"
    )]
    Wasi { plugin: String, import: String },

    #[error(
        "plugin `{plugin}` does not fit the contract staunch:plugin@{CONTRACT} as this proxy has it (built with a newer patch of it, or with changed WIT files?): {message}"
    )]
    Shape { plugin: String, message: String },

    #[error("plugin `{plugin}` is no {wanted}: it is {offers}")]
    Kind { plugin: String, wanted: Kind, offers: String },

    #[error(
        "plugin `{plugin}` is another file than the configuration means: its sha256 is {found}, expected was {expected}"
    )]
    Digest { plugin: String, expected: String, found: String },

    /// The plugin does not accept its settings. The caller maps the paths to places.
    #[error("plugin `{plugin}` refuses the configuration of {use_name}: {}", listed(.issues))]
    Refused { plugin: String, use_name: String, issues: Vec<ConfigIssue> },

    #[error("plugin `{plugin}` failed in `{during}` for {use_name}: {fault}; this is a fault of the plugin")]
    Failed { plugin: String, use_name: String, during: &'static str, fault: Fault },
}

/// One mistake that a plugin found in its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigIssue {
    /// The path of the setting, names and positions joined by dots; empty for all of it.
    pub path: String,
    pub message: String,
}

/// A call that brought nothing usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub cause: Cause,
    pub message: String,
}

impl Fault {
    pub(super) fn answer(message: impl Into<String>) -> Self {
        Self { cause: Cause::Answer, message: message.into() }
    }
}

fn exported(exports: &[String]) -> String {
    match exports {
        [] => "it exports nothing".into(),
        some => format!("it exports {}", some.join(", ")),
    }
}

fn listed(issues: &[ConfigIssue]) -> String {
    let lines: Vec<_> = issues
        .iter()
        .map(|issue| match issue.path.as_str() {
            "" => issue.message.clone(),
            path => format!("{path}: {}", issue.message),
        })
        .collect();
    if lines.is_empty() { "it does not say why".into() } else { lines.join("; ") }
}
