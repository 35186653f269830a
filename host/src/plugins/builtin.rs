//! The plugins that are part of the binary.
//!
//! They are core modules, as a plugin author's `cargo build` leaves them, and are loaded the same way.

use super::Kind;

/// A plugin that is part of the binary.
#[derive(Debug)]
pub struct Builtin {
    /// As configuration names it.
    pub name: &'static str,
    pub kind: Kind,
    /// What a file of a plugin would hold.
    pub component: &'static [u8],
}

macro_rules! embedded {
    ($name:literal) => {
        include_bytes!(concat!(env!("STAUNCH_PLUGINS"), "/", $name, ".wasm"))
    };
}

/// All of them.
pub const BUILTINS: &[Builtin] = &[
    Builtin { name: "round-robin", kind: Kind::Balancer, component: embedded!("round-robin") },
    Builtin { name: "standard", kind: Kind::Retry, component: embedded!("standard") },
    Builtin { name: "set-headers", kind: Kind::Rewriter, component: embedded!("set-headers") },
];

/// The built-in plugin of this name.
pub fn find(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|builtin| builtin.name == name)
}
