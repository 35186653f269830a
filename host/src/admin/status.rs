//! What is told of upstreams and plugins: as JSON, and as samples of metrics.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use crate::telemetry::exposition::{Exposition, Kind};

/// An upstream as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamStatus {
    pub name: String,
    /// The name of its balancer.
    pub balance: String,
    pub endpoints: Vec<EndpointStatus>,
}

/// An endpoint as it stands, over all workers.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointStatus {
    /// As configured; unique in its upstream.
    pub address: String,
    pub state: EndpointState,
    /// Why it is in this state, for a reader.
    pub reason: Option<String>,
    /// Since when it is in this state.
    #[serde(serialize_with = "as_rfc3339")]
    pub since: Option<SystemTime>,
    pub weight: u32,
    pub backup: bool,
    pub down: bool,
    pub zone: Option<String>,
    /// Requests in flight.
    pub active: u32,
    pub max_connections: Option<u32>,
    /// Failures that passive health has counted in a row, and how many take the endpoint out (0: never).
    pub failures: u32,
    pub max_fails: u32,
}

/// Whether an endpoint has traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    Up,
    /// Configured to have none.
    Down,
    /// Taken out by passive health.
    Unavailable,
    /// Taken out by its active check.
    Unhealthy,
    /// Finishes what it has.
    Draining,
}

impl EndpointState {
    /// As JSON tells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unavailable => "unavailable",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
        }
    }
}

/// A plugin in one place where it is used, over all workers.
#[derive(Clone, Debug, Serialize)]
pub struct PluginStatus {
    pub plugin: String,
    /// The place: `upstreams.api.balance`, `routes.shop.rewrite.0`. Unique.
    #[serde(rename = "use")]
    pub used_in: String,
    pub kind: PluginKind,
    /// `sha256:` and hexadecimal digits.
    pub digest: String,
    /// `built-in`, or the file.
    pub source: String,
    pub calls: u64,
    pub faults: PluginFaults,
    /// What went wrong last, for a reader.
    pub last_fault: Option<String>,
    /// Calls that the policy of the use answered in the plugin's place.
    pub fallbacks: u64,
    /// Whether faults came so fast that the plugin is not asked for a while.
    pub tripped: bool,
    /// The mean over recent calls; `null` when none was measured.
    pub ns_per_call: Option<u64>,
}

/// What a plugin decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginKind {
    Balancer,
    Retry,
    Rewriter,
}

impl PluginKind {
    /// As JSON tells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Balancer => "balancer",
            Self::Retry => "retry",
            Self::Rewriter => "rewriter",
        }
    }
}

/// Calls that failed, by their cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PluginFaults {
    pub trap: u64,
    /// It took too much CPU time.
    pub deadline: u64,
    /// It wanted more memory than it may have.
    pub memory: u64,
    /// It answered what it must not.
    pub answer: u64,
}

/// Writes what is known of endpoints as metrics.
pub(super) fn write_upstreams(upstreams: &[UpstreamStatus], out: &mut Exposition) {
    type Value = fn(&EndpointStatus) -> u32;
    let families: [(_, _, Value); 3] = [
        ("staunch_upstream_endpoint_up", "1 for an endpoint that may have traffic.", |endpoint| {
            (endpoint.state == EndpointState::Up).into()
        }),
        ("staunch_upstream_endpoint_active_requests", "Requests in flight.", |endpoint| endpoint.active),
        ("staunch_upstream_endpoint_weight", "The configured weight.", |endpoint| endpoint.weight),
    ];
    for (name, help, value) in families {
        out.family(name, Kind::Gauge, help);
        for upstream in upstreams {
            for endpoint in &upstream.endpoints {
                out.sample(&[("upstream", &upstream.name), ("endpoint", &endpoint.address)], value(endpoint));
            }
        }
    }
}

/// Writes what is known of plugins as metrics.
pub(super) fn write_plugins(plugins: &[PluginStatus], out: &mut Exposition) {
    type Value = fn(&PluginStatus) -> u64;
    let families: [(_, _, _, Value); 3] = [
        ("staunch_plugins_calls_total", Kind::Counter, "Calls of plugins.", |plugin| plugin.calls),
        ("staunch_plugins_fallbacks_total", Kind::Counter, "Calls answered in a plugin's place.", |plugin| {
            plugin.fallbacks
        }),
        ("staunch_plugins_tripped", Kind::Gauge, "1 for a use whose plugin is not asked for a while.", |plugin| {
            plugin.tripped.into()
        }),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, help);
        for plugin in plugins {
            out.sample(&labels(plugin), value(plugin));
        }
    }
    out.family("staunch_plugins_faults_total", Kind::Counter, "Calls that failed, by cause.");
    for plugin in plugins {
        let PluginFaults { trap, deadline, memory, answer } = plugin.faults;
        for (cause, faults) in [("trap", trap), ("deadline", deadline), ("memory", memory), ("answer", answer)] {
            let [plugin, used_in, kind] = labels(plugin);
            out.sample(&[plugin, used_in, kind, ("cause", cause)], faults);
        }
    }
}

fn labels(plugin: &PluginStatus) -> [(&str, &str); 3] {
    [("plugin", &plugin.plugin), ("use", &plugin.used_in), ("kind", plugin.kind.name())]
}

fn as_rfc3339<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(&humantime::format_rfc3339_seconds((*time).max(UNIX_EPOCH))),
        None => serializer.serialize_none(),
    }
}
