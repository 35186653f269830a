//! The control thread: active health checks and the admin server, and what that tells of the running proxy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::LocalSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::admin::{
    self, AdminListener, AdminState, EndpointPatch, EndpointState, EndpointStatus, PluginFaults, PluginKind,
    PluginMetric, PluginMetricValue, PluginStatus, Replacing, UpstreamStatus, Window,
};
use crate::config::Passive;
use crate::listener::{Bound, Listener};
use crate::plugins::{self, Cause, Kind, PluginHost, Use, UseStatus};
use crate::proxy::operation;
use crate::proxy::orders::Order;
use crate::proxy::parts::{Parts, Placed};
use crate::proxy::turnover::Turnover;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::exposition::Exposition;
use crate::telemetry::metrics::Metrics;
use crate::upstream::endpoint::EndpointId;
use crate::upstream::health::{EndpointOrder, Said, Standing};
use crate::upstream::{Shared, check};

/// What the control thread is started with.
pub(super) struct Control {
    pub(super) parts: Arc<Parts>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) access_log: Option<Arc<AccessLog>>,
    /// Kept alive for the plugins' instances.
    pub(super) host: PluginHost,
    /// To each worker.
    pub(super) orders: Vec<UnboundedSender<Order>>,
    /// Tells when the files of plugins are to be read again.
    pub(super) reread: Arc<Notify>,
    pub(super) admin: Option<Bound>,
    pub(super) drain: CancellationToken,
    pub(super) ended: CancellationToken,
}

impl Control {
    /// Runs until every worker has ended.
    pub(super) fn run(self) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "there is no control thread"),
        };
        LocalSet::new().block_on(&runtime, self.serve());
    }

    async fn serve(self) {
        let Self { parts, metrics, access_log, host, orders, reread, admin, drain, ended } = self;
        // They end with the thread.
        for shared in &parts.upstreams {
            for endpoint in &shared.endpoints {
                tokio::task::spawn_local(check::run(shared.clone(), endpoint.id));
            }
        }
        let turnover = Arc::new(Turnover::new(parts.clone(), host, metrics.clone(), orders));
        tokio::task::spawn_local(operation::run(parts.clone(), turnover.clone(), reread));
        let token = parts.config.admin.as_ref().and_then(|admin| admin.token.clone());
        let glass =
            Glass { parts, metrics, turnover, begun: Instant::now(), shares: Mutex::default(), access_log, drain };
        let state = Arc::new(AdminState::new(Arc::new(glass), token.as_deref()));
        match admin.map(|bound| bound.listener(0)) {
            Some(Ok(listener)) => {
                let listener = match listener {
                    Listener::Tcp(listener) => AdminListener::Tcp(listener),
                    Listener::Unix(listener) => AdminListener::Unix(listener),
                };
                if let Err(error) = admin::serve(listener, state, ended.clone()).await {
                    tracing::error!(%error, "the admin server ended");
                }
            }
            Some(Err(error)) => tracing::error!(%error, "there is no admin server"),
            None => {}
        }
        ended.cancelled().await;
    }
}

/// What can be seen of the proxy.
struct Glass {
    parts: Arc<Parts>,
    metrics: Arc<Metrics>,
    turnover: Arc<Turnover>,
    begun: Instant,
    /// By use: the CPU time it had taken when somebody looked, and its share until then.
    shares: Mutex<HashMap<String, CpuShare>>,
    access_log: Option<Arc<AccessLog>>,
    drain: CancellationToken,
}

struct CpuShare {
    at: Instant,
    taken: Duration,
    share: f64,
}

impl Window for Glass {
    fn ready(&self) -> bool {
        !self.drain.is_cancelled()
    }

    fn write_metrics(&self, out: &mut Exposition) {
        self.metrics.write(out);
        if let Some(log) = &self.access_log {
            log.write_metrics(out);
        }
    }

    fn upstreams(&self) -> Vec<UpstreamStatus> {
        let now = Instant::now();
        self.parts.upstreams.iter().map(|shared| upstream(shared, now)).collect()
    }

    fn change_endpoint(&self, upstream: &str, address: &str, patch: EndpointPatch) -> Option<EndpointStatus> {
        let shared = self.parts.upstreams.iter().find(|shared| &*shared.name == upstream)?;
        let id = shared.endpoints.iter().find(|endpoint| &*endpoint.address == address)?.id;
        let EndpointPatch { down, drain, weight, reason } = patch;
        info!(%upstream, endpoint = %address, ?down, ?drain, ?weight, ?reason, "an operator changed an endpoint");
        let order = EndpointOrder { down: said(down), drain: said(drain), weight: said(weight), reason };
        shared.health.order(id, order);
        let now = Instant::now();
        let standing = *shared.health.standings(now).get(id as usize)?;
        endpoint(shared, id, standing, now)
    }

    fn plugins(&self) -> Vec<PluginStatus> {
        let placed = self.parts.placed.lock().clone();
        placed.iter().flat_map(Placed::uses).map(|used| self.plugin(used)).collect()
    }

    fn replace(&self, plugin: &str, file: Vec<u8>, force: bool) -> Replacing<'_> {
        let plugin = plugin.to_owned();
        Box::pin(async move { self.turnover.replace(&plugin, file, force).await })
    }
}

impl Glass {
    fn plugin(&self, used: &Use) -> PluginStatus {
        let status = used.status();
        let own = self.parts.config.plugins.iter().find(|plugin| plugin.name == status.plugin);
        let source = own.and_then(|plugin| plugin.path.as_deref());
        let source = source.map_or_else(|| "built-in".to_owned(), |path| path.display().to_string());
        PluginStatus {
            source,
            used_in: status.name.clone(),
            kind: match status.kind {
                Kind::Balancer => PluginKind::Balancer,
                Kind::Retry => PluginKind::Retry,
                Kind::Rewriter => PluginKind::Rewriter,
            },
            digest: format!("sha256:{}", status.digest),
            generation: status.generation,
            throttled: status.throttled,
            cpu_seconds: status.cpu_time.as_secs_f64(),
            cpu_share: self.cpu_share(&status),
            instances: status.instances,
            memory_bytes: status.memory,
            memory_peak_bytes: status.memory_peak,
            standing: self.turnover.standing(&status.plugin),
            calls: status.calls,
            faults: faults(&status),
            last_fault: status.last_fault,
            fallbacks: status.fallbacks,
            trips: status.trips,
            metrics: status.metrics.into_iter().map(metric).collect(),
            tripped: status.tripped_for.is_some_and(|left| left > Duration::ZERO),
            ns_per_call: status.mean_call.map(|mean| u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX)),
            plugin: status.plugin,
        }
    }

    /// The share of all workers' time that a use took since somebody looked, over a second at least.
    fn cpu_share(&self, status: &UseStatus) -> f64 {
        let now = Instant::now();
        let mut shares = self.shares.lock();
        let known = shares.entry(status.name.clone()).or_insert_with(|| CpuShare {
            at: self.begun,
            taken: Duration::ZERO,
            share: 0.0,
        });
        let passed = now - known.at;
        if passed >= Duration::from_secs(1) {
            let taken = status.cpu_time.saturating_sub(known.taken);
            let share = taken.as_secs_f64() / (passed.as_secs_f64() * self.parts.workers.max(1) as f64);
            *known = CpuShare { at: now, taken: status.cpu_time, share };
        }
        known.share
    }
}

fn upstream(shared: &Shared, now: Instant) -> UpstreamStatus {
    let standings = shared.health.standings(now);
    let endpoints = (0..).zip(standings).filter_map(|(id, standing)| endpoint(shared, id, standing, now));
    let endpoints: Vec<_> = endpoints.collect();
    UpstreamStatus {
        name: shared.name.to_string(),
        balance: shared.config.balance.plugin.clone(),
        panic: endpoints.iter().any(|endpoint| endpoint.state == EndpointState::Panic),
        panic_threshold: shared.config.panic_threshold(),
        endpoints,
    }
}

fn endpoint(shared: &Shared, id: EndpointId, standing: Standing, now: Instant) -> Option<EndpointStatus> {
    let Shared { health, config, .. } = shared;
    let (endpoint, configured) = (shared.endpoints.get(id as usize)?, config.endpoints.get(id as usize)?);
    Some(EndpointStatus {
        address: endpoint.address.to_string(),
        state: match standing {
            Standing::Up => EndpointState::Up,
            Standing::Down => EndpointState::Down,
            Standing::Draining => EndpointState::Draining,
            Standing::Unhealthy => EndpointState::Unhealthy,
            Standing::Failed => EndpointState::Unavailable,
            Standing::Ejected => EndpointState::Ejected,
            Standing::Probing { .. } => EndpointState::Probing,
            Standing::Full => EndpointState::Full,
            Standing::Panic => EndpointState::Panic,
        },
        reason: health.reason(id, standing, now),
        since: health.since(id, standing),
        weight: health.own_weight(id),
        starting: health.starting_share(id, now),
        backup: endpoint.priority > 0,
        down: health.is_down(id),
        drain: health.is_draining(id),
        zone: endpoint.zone.clone(),
        active: shared.loads.active(id),
        max_connections: configured.max_connections,
        failures: health.fails(id),
        max_fails: match config.passive {
            Passive::Nginx { max_fails, .. } => Some(max_fails),
            Passive::Window(_) | Passive::Outlier(_) => None,
        },
    })
}

/// A value in place of the configuration's; `null` takes it back.
fn said<T>(value: Option<Option<T>>) -> Option<Said<T>> {
    value.map(|value| value.map_or(Said::AsConfigured, Said::This))
}

fn faults(status: &UseStatus) -> PluginFaults {
    let count = |cause: Cause| status.faults.iter().find(|(c, _)| *c == cause).map_or(0, |(_, count)| *count);
    PluginFaults {
        trap: count(Cause::Trap),
        deadline: count(Cause::Deadline),
        memory: count(Cause::Memory),
        answer: count(Cause::Answer),
        refused: count(Cause::Refused),
    }
}

fn metric(metric: plugins::PluginMetric) -> PluginMetric {
    let value = match metric.value {
        plugins::MetricValue::Counter(count) => PluginMetricValue::Counter(count),
        plugins::MetricValue::Gauge(value) => PluginMetricValue::Gauge(value),
        plugins::MetricValue::Histogram { bounds, counts, sum } => {
            PluginMetricValue::Histogram { bounds: bounds.to_vec(), counts, sum }
        }
    };
    PluginMetric { name: metric.name, value }
}
