//! A plugin with its settings, as it is to be tried.

use std::sync::Arc;

use crate::author::rig;
use crate::config::Settings;
use crate::plugins::{
    Kind, Limits, Plugin, PluginError, PluginHost, Simulation, Surroundings, UpstreamNames, Use, builtin, digest,
};
use crate::upstream::endpoint::Loads;

/// What stands behind a balancer that leaves a part of the decision to another: what a configuration has by default.
const BEHIND: &str = "round-robin";

/// A plugin with its settings.
pub struct Subject {
    plugin: Plugin,
    settings: Settings,
    builtin: Option<&'static str>,
    behind: Plugin,
    upstreams: Arc<UpstreamNames>,
}

impl Subject {
    /// # Errors
    /// When a balancer to stand behind it cannot be loaded.
    pub fn new(host: &PluginHost, plugin: Plugin, settings: Settings) -> Result<Self, PluginError> {
        Self::with_behind(host, plugin, settings, BEHIND)
    }

    /// The same with a built-in balancer of the caller's choice behind it, where there is one at all.
    ///
    /// # Errors
    /// When that balancer cannot be loaded.
    pub fn with_behind(
        host: &PluginHost,
        plugin: Plugin,
        settings: Settings,
        behind: &str,
    ) -> Result<Self, PluginError> {
        let same = |builtin: &&builtin::Builtin| digest(builtin.component) == plugin.digest();
        let builtin = builtin::BUILTINS.iter().find(same).map(|builtin| builtin.name);
        let behind = match builtin::find(behind) {
            Some(behind) if plugin.delegates() => host.load(behind.name, behind.component, Limits::default())?,
            _ => plugin.clone(),
        };
        Ok(Self { plugin, settings, builtin, behind, upstreams: Arc::default() })
    }

    /// Says which upstreams a rewriter may send requests to.
    #[must_use]
    pub fn with_upstreams(mut self, names: &[String]) -> Self {
        self.upstreams = Arc::new(UpstreamNames::new(names.iter().map(|name| name.as_str().into())));
        self
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

    /// Whether it starts as a plugin of a kind with its settings, three endpoints where it wants any.
    ///
    /// # Errors
    /// When it refuses its settings or fails.
    pub fn try_out(&self, kind: Kind) -> Result<(), PluginError> {
        let used = self.simulate(kind, rig::world(1))?;
        match kind {
            Kind::Balancer => used.balancer(0, rig::members(&[1, 1, 1]).into(), Arc::new(Loads::new(1, 3))).map(|_| ()),
            Kind::Retry => used.retry(0).map(|_| ()),
            Kind::Rewriter => used.rewriter(0).map(|_| ()),
        }
    }

    pub(super) fn simulate(&self, kind: Kind, simulation: Arc<Simulation>) -> Result<Use, PluginError> {
        let behind = match (kind, self.plugin.delegates()) {
            (Kind::Balancer, true) => Some(self.behind(&simulation)?),
            _ => None,
        };
        let around = Surroundings { behind, upstreams: self.upstreams.clone(), simulation: Some(simulation) };
        self.plugin.use_in(kind, "its trial", &self.settings, around)
    }

    /// The balancer that stands behind a plugin that leaves a part of the decision to another.
    fn behind(&self, simulation: &Arc<Simulation>) -> Result<Use, PluginError> {
        let around = Surroundings { simulation: Some(simulation.clone()), ..Surroundings::default() };
        self.behind.use_in(Kind::Balancer, "the balancer behind it", &Settings::default(), around)
    }
}
