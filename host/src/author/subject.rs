//! A plugin with its settings, as it is to be tried.

use std::sync::Arc;

use crate::config::Settings;
use crate::plugins::{Kind, Plugin, PluginError, Simulation, Use, builtin, digest};

/// A plugin with its settings.
pub struct Subject {
    plugin: Plugin,
    settings: Settings,
    builtin: Option<&'static str>,
}

impl Subject {
    pub fn new(plugin: Plugin, settings: Settings) -> Self {
        let same = |builtin: &&builtin::Builtin| digest(builtin.component) == plugin.digest();
        let builtin = builtin::BUILTINS.iter().find(same).map(|builtin| builtin.name);
        Self { plugin, settings, builtin }
    }

    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The name of the built-in plugin that this is.
    pub fn builtin(&self) -> Option<&'static str> {
        self.builtin
    }

    /// Whether it imports this interface of the contract.
    pub fn imports(&self, interface: &str) -> bool {
        let name = |import: &str| import.split(['/', '@']).nth(1) == Some(interface);
        self.plugin.imports().iter().any(|import| name(import))
    }

    pub(super) fn simulate(&self, kind: Kind, simulation: Arc<Simulation>) -> Result<Use, PluginError> {
        self.plugin.simulate(kind, "its trial", &self.settings, simulation)
    }
}
