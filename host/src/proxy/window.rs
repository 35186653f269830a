//! The control thread: active health checks and the admin server, and what that tells of the running proxy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::admin::{
    self, AdminListener, AdminState, BreakerState, BreakerStatus, ConcurrencyStatus, EndpointState, EndpointStatus,
    PluginFaults, PluginKind, PluginMetric, PluginMetricValue, PluginStatus, QueueStatus, Replacing, UpstreamStatus,
    Window,
};
use crate::admission::{Admission, MEMORY_INTERVAL};
use crate::listener::{Bound, Listener};
use crate::plugins::{self, Cause, Kind, PluginHost, Use, UseStatus};
use crate::proxy::operation;
use crate::proxy::orders::Order;
use crate::proxy::parts::{Parts, Placed};
use crate::proxy::turnover::Turnover;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::exposition::Exposition;
use crate::telemetry::metrics::Metrics;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::health::Standing;
use crate::upstream::{Shared, breaker, check};

/// What the control thread is started with.
pub(super) struct Control {
    pub(super) parts: Arc<Parts>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) access_log: Option<Arc<AccessLog>>,
    pub(super) admission: Arc<Admission>,
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
        let Self { parts, metrics, access_log, admission, host, orders, reread, admin, drain, ended } = self;
        // They end with the thread.
        for shared in &parts.upstreams {
            for endpoint in shared.endpoints.iter().filter(|endpoint| !endpoint.down) {
                tokio::task::spawn_local(check::run(shared.clone(), endpoint.id));
            }
        }
        tokio::task::spawn_local(watch_memory(admission.clone()));
        let turnover = Arc::new(Turnover::new(parts.clone(), host, metrics.clone(), orders));
        tokio::task::spawn_local(operation::run(parts.clone(), turnover.clone(), reread));
        let token = parts.config.admin.as_ref().and_then(|admin| admin.token.clone());
        let glass = Glass {
            parts,
            metrics,
            turnover,
            begun: Instant::now(),
            shares: Mutex::default(),
            access_log,
            admission,
            drain,
        };
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

/// Measures this process's memory for as long as the thread lives.
async fn watch_memory(admission: Arc<Admission>) {
    let mut ticks = tokio::time::interval(MEMORY_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if admission.memory.measure() {
            admission.wake();
        }
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
    admission: Arc<Admission>,
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
        self.admission.write_metrics(out);
        if let Some(log) = &self.access_log {
            log.write_metrics(out);
        }
    }

    fn upstreams(&self) -> Vec<UpstreamStatus> {
        let now = Instant::now();
        self.parts.upstreams.iter().map(|shared| upstream(shared, now)).collect()
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
    let status = |(endpoint, config): (&Endpoint, &crate::config::Endpoint)| {
        let standing = shared.health.standing(endpoint.id, now);
        let (state, reason) = match standing {
            Standing::Up => (EndpointState::Up, None),
            Standing::Down => (EndpointState::Down, Some("configured down")),
            Standing::Unhealthy => (EndpointState::Unhealthy, Some("its active check fails")),
            Standing::Failed => {
                (EndpointState::Unavailable, Some("it failed max_fails times; it is probed after fail_timeout"))
            }
            Standing::Full => (EndpointState::Full, Some("it has max_connections requests")),
        };
        EndpointStatus {
            address: endpoint.address.to_string(),
            state,
            reason: reason.map(str::to_owned),
            since: shared.health.since(endpoint.id),
            weight: endpoint.weight,
            backup: endpoint.priority > 0,
            down: endpoint.down,
            zone: endpoint.zone.clone(),
            active: shared.loads.active(endpoint.id),
            max_connections: config.max_connections,
            failures: shared.health.fails(endpoint.id),
            max_fails: shared.config.passive.max_fails,
        }
    };
    let guards = &shared.guards;
    UpstreamStatus {
        name: shared.name.to_string(),
        balance: shared.config.balance.plugin.clone(),
        endpoints: shared.endpoints.iter().zip(&shared.config.endpoints).map(status).collect(),
        queue: guards.gate.as_ref().map(|gate| QueueStatus {
            requests: gate.inside(),
            max_requests: shared.config.queue.max_requests,
            pending: gate.pending(),
            max_pending: shared.config.queue.max_pending,
        }),
        breaker: guards.breaker.as_ref().map(|guard| breaker(&guard.standing(now))),
        concurrency: guards.concurrency.as_ref().map(|guard| {
            let standing = guard.standing();
            ConcurrencyStatus {
                limit: standing.limit,
                requests: standing.in_flight,
                min_rtt: standing.min_rtt.map(|time| time.as_secs_f64()),
                measuring: standing.is_measuring,
            }
        }),
    }
}

fn breaker(standing: &breaker::Standing) -> BreakerStatus {
    let (state, reason) = match standing.state {
        breaker::State::Closed => (BreakerState::Closed, None),
        breaker::State::HalfOpen => (BreakerState::HalfOpen, Some("a few requests try whether it is well again")),
        breaker::State::Open => (BreakerState::Open, Some("too many of its requests failed; it rests for open_time")),
    };
    BreakerStatus {
        state,
        reason: reason.map(str::to_owned),
        since: standing.since,
        opened: standing.opened,
        requests: standing.requests,
        failures: standing.failures,
    }
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
