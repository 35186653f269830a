//! What is told of upstreams and plugins: as JSON, and as samples of metrics.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use super::guards::{BreakerStatus, ConcurrencyStatus, QueueStatus};
use super::turnover::Standing;
use crate::telemetry::exposition::{Exposition, Kind};

/// An upstream as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamStatus {
    pub name: String,
    /// The name of its balancer.
    pub balance: String,
    /// Whether so few endpoints are healthy that health is overlooked.
    pub panic: bool,
    /// The percentage of healthy endpoints below which it is; 0: never.
    pub panic_threshold: u32,
    pub endpoints: Vec<EndpointStatus>,
    /// `null` without limits, as are the others.
    pub queue: Option<QueueStatus>,
    pub breaker: Option<BreakerStatus>,
    pub concurrency: Option<ConcurrencyStatus>,
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
    #[serde(serialize_with = "optional_rfc3339")]
    pub since: Option<SystemTime>,
    /// As an operator or the configuration says.
    pub weight: u32,
    /// The share of it that it has while it starts slowly.
    pub starting: Option<f64>,
    pub backup: bool,
    /// Whether an operator or the configuration gives it no traffic, or no new requests.
    pub down: bool,
    pub drain: bool,
    pub zone: Option<String>,
    /// Requests in flight.
    pub active: u32,
    pub max_connections: Option<u32>,
    /// Failures that passive health has counted in a row, and how many take the endpoint out (0: never; `null`: under
    /// its policy other things do).
    pub failures: u32,
    pub max_fails: Option<u32>,
    /// `null`: no active check of it has ended yet.
    pub last_check: Option<CheckStatus>,
}

/// What the last active check of an endpoint came to.
#[derive(Clone, Debug, Serialize)]
pub struct CheckStatus {
    /// When it ended.
    #[serde(serialize_with = "rfc3339")]
    pub at: SystemTime,
    pub passed: bool,
    /// `passed`, or why it did not: `connect`, `tls`, `timeout`, `closed`, `protocol`, `answer`.
    pub result: &'static str,
    /// What the endpoint answered, or what went wrong, for a reader.
    pub said: String,
    /// Milliseconds.
    pub took_ms: f64,
    /// Checks in a row that passed, or failed, as this one did.
    pub in_a_row: u64,
}

/// Whether an endpoint has traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    Up,
    /// An operator or the configuration gives it none.
    Down,
    /// An operator or the configuration gives it no new requests; it finishes what it has.
    Draining,
    /// Its active check has not come to a verdict yet, and it has no traffic without one.
    Checking,
    /// Taken out by its active check.
    Unhealthy,
    /// Taken out by `max_fails`.
    Unavailable,
    /// Taken out by another passive policy.
    Ejected,
    /// It was ejected, and a few requests decide whether it comes back.
    Probing,
    /// It has as many requests as it may.
    Full,
    /// It is not healthy, and has traffic all the same because too few are.
    Panic,
}

impl EndpointState {
    pub const ALL: [Self; 10] = [
        Self::Up,
        Self::Down,
        Self::Draining,
        Self::Checking,
        Self::Unhealthy,
        Self::Unavailable,
        Self::Ejected,
        Self::Probing,
        Self::Full,
        Self::Panic,
    ];

    /// As JSON and metrics tell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Checking => "checking",
            Self::Unhealthy => "unhealthy",
            Self::Unavailable => "unavailable",
            Self::Ejected => "ejected",
            Self::Probing => "probing",
            Self::Full => "full",
            Self::Panic => "panic",
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
    /// Which version since the start, from 1.
    pub generation: u64,
    /// `built-in`, or the file.
    pub source: String,
    /// Where this process has its code from: `compiled`, or `cached` by an earlier process.
    pub code: &'static str,
    pub calls: u64,
    pub faults: PluginFaults,
    /// What went wrong last, for a reader.
    pub last_fault: Option<String>,
    /// Calls that the policy of the use answered in the plugin's place.
    pub fallbacks: u64,
    /// How often faults came so fast that the plugin was left out for a while.
    pub trips: u64,
    /// Whether it is left out now.
    pub tripped: bool,
    /// The mean over the calls that were measured; `null` when none was.
    pub ns_per_call: Option<u64>,
    /// Calls that its CPU budget kept from the plugin; the policy answered them.
    pub throttled: u64,
    /// Time of all calls: exact where a CPU budget is set, else from the calls that were measured.
    pub cpu_seconds: f64,
    /// The share of the workers' time that it took of late.
    pub cpu_share: f64,
    /// Live instances over all workers, with those of a version that may come back.
    pub instances: u64,
    /// Memory and tables of the live instances, now and at most.
    pub memory_bytes: u64,
    pub memory_peak_bytes: u64,
    #[serde(flatten)]
    pub standing: Standing,
    /// What the plugin itself counts.
    pub metrics: Vec<PluginMetric>,
}

/// A metric of a plugin's own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PluginMetric {
    /// Letters, digits and underscores; unique in its use.
    pub name: String,
    #[serde(flatten)]
    pub value: PluginMetricValue,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginMetricValue {
    Counter(u64),
    Gauge(f64),
    Histogram {
        /// In rising order.
        bounds: Vec<f64>,
        /// For each bound and beyond the last; not cumulative.
        counts: Vec<u64>,
        sum: f64,
    },
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
    /// A fresh instance did not accept its settings.
    pub refused: u64,
}

impl PluginFaults {
    pub fn total(&self) -> u64 {
        self.by_cause().iter().map(|(_, faults)| faults).sum()
    }

    fn by_cause(&self) -> [(&'static str, u64); 5] {
        let Self { trap, deadline, memory, answer, refused } = *self;
        [("trap", trap), ("deadline", deadline), ("memory", memory), ("answer", answer), ("refused", refused)]
    }
}

/// Writes what is known of endpoints as metrics.
pub(super) fn write_upstreams(upstreams: &[UpstreamStatus], out: &mut Exposition) {
    type Value = fn(&EndpointStatus) -> u32;
    let families: [(_, _, Value); 3] = [
        ("staunch_upstream_endpoint_up", "1 for an endpoint whose state is `up`.", |endpoint| {
            (endpoint.state == EndpointState::Up).into()
        }),
        ("staunch_upstream_endpoint_active_requests", "Requests in flight.", |endpoint| endpoint.active),
        ("staunch_upstream_endpoint_weight", "Its weight, as an operator or the configuration says.", |endpoint| {
            endpoint.weight
        }),
    ];
    for (name, help, value) in families {
        out.family(name, Kind::Gauge, help);
        for upstream in upstreams {
            for endpoint in &upstream.endpoints {
                out.sample(&[("upstream", &upstream.name), ("endpoint", &endpoint.address)], value(endpoint));
            }
        }
    }
    write_states(upstreams, out);
}

/// Writes which upstreams panic, and what keeps traffic from endpoints.
fn write_states(upstreams: &[UpstreamStatus], out: &mut Exposition) {
    out.family("staunch_upstream_panic", Kind::Gauge, "1 while endpoints' health is overlooked.");
    for upstream in upstreams {
        out.sample(&[("upstream", &upstream.name)], u8::from(upstream.panic));
    }
    out.family("staunch_upstream_endpoints", Kind::Gauge, "Endpoints by their state.");
    for upstream in upstreams {
        for state in EndpointState::ALL {
            let count = upstream.endpoints.iter().filter(|endpoint| endpoint.state == state).count();
            out.sample(&[("upstream", &upstream.name), ("state", state.name())], count);
        }
    }
}

/// Writes what is known of plugins as metrics.
pub(super) fn write_plugins(plugins: &[PluginStatus], out: &mut Exposition) {
    type Value = fn(&PluginStatus) -> u64;
    let families: [(_, _, _, Value); 9] = [
        ("staunch_plugins_calls_total", Kind::Counter, "Calls of plugins.", |plugin| plugin.calls),
        ("staunch_plugins_fallbacks_total", Kind::Counter, "Calls answered in a plugin's place.", |plugin| {
            plugin.fallbacks
        }),
        ("staunch_plugins_trips_total", Kind::Counter, "Times a plugin was left out for a while.", |plugin| {
            plugin.trips
        }),
        ("staunch_plugins_tripped", Kind::Gauge, "1 for a use whose plugin is left out now.", |plugin| {
            plugin.tripped.into()
        }),
        ("staunch_plugins_throttled_total", Kind::Counter, "Calls that a CPU budget kept from a plugin.", |plugin| {
            plugin.throttled
        }),
        ("staunch_plugins_instances", Kind::Gauge, "Live instances of plugins.", |plugin| plugin.instances),
        ("staunch_plugins_memory_bytes", Kind::Gauge, "Memory and tables of live instances.", |plugin| {
            plugin.memory_bytes
        }),
        ("staunch_plugins_memory_peak_bytes", Kind::Gauge, "The most memory there ever was at once.", |plugin| {
            plugin.memory_peak_bytes
        }),
        ("staunch_plugins_generation", Kind::Gauge, "Which version of the plugin serves, from 1.", |plugin| {
            plugin.generation
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
        for (cause, faults) in plugin.faults.by_cause() {
            let [plugin, used_in, kind] = labels(plugin);
            out.sample(&[plugin, used_in, kind, ("cause", cause)], faults);
        }
    }
    write_versions(plugins, out);
    write_own_metrics(plugins, out);
}

/// Writes which versions serve, and what became of others.
fn write_versions(plugins: &[PluginStatus], out: &mut Exposition) {
    out.family("staunch_plugins_version_info", Kind::Gauge, "Always 1; the labels tell which version serves.");
    for status in plugins {
        let [plugin, used_in, kind] = labels(status);
        let generation = status.generation.to_string();
        out.sample(&[plugin, used_in, kind, ("digest", &status.digest), ("generation", &generation)], 1);
    }
    out.family("staunch_plugins_cpu_seconds_total", Kind::Counter, "Time of calls, extrapolated from measured ones.");
    for plugin in plugins {
        out.sample(&labels(plugin), plugin.cpu_seconds);
    }
    out.family("staunch_plugins_probation", Kind::Gauge, "1 for a plugin whose new version is on probation.");
    let mut by_name: Vec<_> = plugins.iter().collect();
    by_name.sort_by_key(|plugin| &plugin.plugin);
    by_name.dedup_by_key(|plugin| &plugin.plugin);
    for plugin in &by_name {
        out.sample(&[("plugin", &plugin.plugin)], u8::from(plugin.standing.probation.is_some()));
    }
    out.family("staunch_plugins_swaps_total", Kind::Counter, "New versions of plugins, by what became of them.");
    for plugin in &by_name {
        for (kind, count) in &plugin.standing.counts {
            out.sample(&[("plugin", &plugin.plugin), ("outcome", kind.name())], count);
        }
    }
}

/// Writes what plugins count themselves, as `staunch_plugin_<plugin>_<name>`.
fn write_own_metrics(plugins: &[PluginStatus], out: &mut Exposition) {
    // A family is written once, with all uses of its plugin together.
    let mut families = BTreeMap::<String, Vec<(&PluginStatus, &PluginMetricValue)>>::new();
    for plugin in plugins {
        for PluginMetric { name, value } in &plugin.metrics {
            let owner = plugin.plugin.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
            let suffix = if value.kind() == Kind::Counter && !name.ends_with("_total") { "_total" } else { "" };
            families.entry(format!("staunch_plugin_{owner}_{name}{suffix}")).or_default().push((plugin, value));
        }
    }
    for (name, samples) in families {
        let kind = samples[0].1.kind();
        out.family(&name, kind, "Of the plugin's own.");
        // Two uses may name different things alike; a family has one kind only.
        for (plugin, value) in samples.into_iter().filter(|(_, value)| value.kind() == kind) {
            let [_, used_in, _] = labels(plugin);
            match value {
                PluginMetricValue::Counter(count) => out.sample(&[used_in], count),
                PluginMetricValue::Gauge(value) => out.sample(&[used_in], value),
                PluginMetricValue::Histogram { bounds, counts, sum } => out.histogram(&[used_in], bounds, counts, *sum),
            }
        }
    }
}

impl PluginMetricValue {
    fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Gauge(_) => Kind::Gauge,
            Self::Histogram { .. } => Kind::Histogram,
        }
    }
}

fn labels(plugin: &PluginStatus) -> [(&str, &str); 3] {
    [("plugin", &plugin.plugin), ("use", &plugin.used_in), ("kind", plugin.kind.name())]
}

pub(super) fn optional_rfc3339<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339(time, serializer),
        None => serializer.serialize_none(),
    }
}

pub(super) fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_seconds((*time).max(UNIX_EPOCH)))
}
