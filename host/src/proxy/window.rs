//! The control thread: active health checks and the admin server, and what that tells of the running proxy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::admin::{
    self, Accepted, Accepting, AdminListener, AdminState, CheckStatus, ClosedBy, Closing, ConfigStatus, EndpointPatch,
    EndpointState, EndpointStatus, MaintenanceStatus, NotAccepted, PluginFaults, PluginKind, PluginMetric,
    PluginMetricValue, PluginStatus, Replacing, RouteClosing, Upgrading, UpstreamStatus, Window,
};
use crate::admission::{Admission, MEMORY_INTERVAL};
use crate::checks::{CheckResult, Checks, LastCheck};
use crate::config::{self, Passive};
use crate::http::maintenance;
use crate::listener::{self, Bound, Listener};
use crate::plugins::{self, Cause, Kind, Use, UseStatus};
use crate::proxy::crew::Crew;
use crate::proxy::guards;
use crate::proxy::operation::Operation;
use crate::proxy::parts::{Parts, Placed};
use crate::proxy::upgrade::{self, Upgrade};
use crate::telemetry::exposition::{self, Exposition};
use crate::upstream::Shared;
use crate::upstream::endpoint::EndpointId;
use crate::upstream::health::{EndpointOrder, Said, Standing};

/// What the control thread is started with.
pub(super) struct Control {
    pub(super) operation: Arc<Operation>,
    /// Tells when the configuration and the files of plugins are to be read again.
    pub(super) reread: Arc<Notify>,
    pub(super) upgrade: Arc<Upgrade>,
    /// Tells when a new process is to take over.
    pub(super) asked_to_upgrade: Arc<Notify>,
    pub(super) admin: Option<Arc<Bound>>,
    pub(super) crew: Arc<Crew>,
    /// Tells of workers that have fallen.
    pub(super) falls: UnboundedReceiver<usize>,
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
        let Self { operation, reread, upgrade, asked_to_upgrade, admin, crew, falls, ended } = self;
        let running = operation.running.clone();
        // They end with the thread.
        tokio::task::spawn_local(operation.clone().run(reread));
        tokio::task::spawn_local(watch_memory(running.admission.clone()));
        tokio::task::spawn_local(upgrade::run(upgrade.clone(), asked_to_upgrade));
        tokio::task::spawn_local(crew.tend(falls));
        tokio::task::spawn_local(upgrade::tell_end(upgrade.clone()));
        let checks = Arc::new(Checks::default());
        let mut server = Server::new(Reach { operation, checks: checks.clone(), upgrade: upgrade.clone() });
        server.serve(&running.parts(), admin);
        let mut changes = running.watch();
        loop {
            let parts = changes.borrow_and_update().clone();
            checks.adopt(&parts.upstreams, parts.config.server.max_checks);
            server.adopt(&parts);
            tokio::select! {
                _ = changes.changed() => {}
                () = upgrade.done.cancelled() => break,
                () = ended.cancelled() => break,
            }
        }
        // Another process answers operators now, or nobody: this one only ends what it has begun.
        server.end().await;
        ended.cancelled().await;
    }
}

/// The admin server, wherever it is to be now.
struct Server {
    reach: Reach,
    serving: Option<Serving>,
}

struct Serving {
    config: config::Admin,
    bound: Arc<Bound>,
    stop: CancellationToken,
    /// One for each socket.
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Server {
    fn new(reach: Reach) -> Self {
        Self { reach, serving: None }
    }

    /// Moves to where a configuration wants it. Where it cannot be, it stays.
    fn adopt(&mut self, parts: &Parts) {
        let serving = self.serving.as_ref();
        if serving.map(|serving| &serving.config) == parts.config.admin.as_ref() {
            return;
        }
        let same =
            serving.filter(|now| parts.config.admin.as_ref().is_some_and(|new| new.address == now.config.address));
        let bound = match (&parts.config.admin, same) {
            (Some(_), Some(now)) => Some(now.bound.clone()),
            (Some(admin), None) => match listener::bind((&admin.address).into(), 1, false) {
                Ok(bound) => Some(Arc::new(bound)),
                Err(error) => {
                    return tracing::error!(address = %admin.address, %error, "the admin server stays where it is");
                }
            },
            (None, _) => None,
        };
        if let Some(old) = self.serving.take() {
            old.stop.cancel();
            if bound.as_ref().is_none_or(|bound| !Arc::ptr_eq(bound, &old.bound)) {
                old.bound.unlink();
            }
        }
        self.serve(parts, bound);
    }

    fn serve(&mut self, parts: &Parts, bound: Option<Arc<Bound>>) {
        *self.reach.upgrade.admin.lock() = bound.clone();
        let Some((bound, config)) = bound.zip(parts.config.admin.clone()) else { return };
        let listeners = match bound.listeners(0, 1) {
            Ok(listeners) => listeners,
            Err(error) => return tracing::error!(%error, "there is no admin server"),
        };
        let glass = Glass { reach: self.reach.clone(), begun: Instant::now(), shares: Mutex::default() };
        let state = Arc::new(AdminState::new(Arc::new(glass), config.token.as_deref()));
        let stop = CancellationToken::new();
        let listeners = listeners.into_iter().filter_map(|listener| match listener {
            Listener::Tcp(listener) => Some(AdminListener::Tcp(listener)),
            Listener::Unix(listener) => Some(AdminListener::Unix(listener)),
            Listener::Udp(_) => None,
        });
        let tasks = listeners.map(|listener| {
            let (state, stop) = (state.clone(), stop.clone());
            tokio::task::spawn_local(async move {
                if let Err(error) = admin::serve(listener, state, stop).await {
                    tracing::error!(%error, "the admin server ended");
                }
            })
        });
        let tasks = tasks.collect();
        self.serving = Some(Serving { config, bound, stop, tasks });
    }

    /// Ends once what is being answered has been answered.
    async fn end(&mut self) {
        let Some(serving) = self.serving.take() else { return };
        serving.stop.cancel();
        serving.bound.unlink();
        for task in serving.tasks {
            // A server that panicked has ended too.
            let _ = task.await;
        }
    }
}

/// What the operator reaches through the window.
#[derive(Clone)]
struct Reach {
    operation: Arc<Operation>,
    checks: Arc<Checks>,
    upgrade: Arc<Upgrade>,
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
    reach: Reach,
    begun: Instant,
    /// By use: the CPU time it had taken when somebody looked, and its share until then.
    shares: Mutex<HashMap<String, CpuShare>>,
}

struct CpuShare {
    at: Instant,
    taken: Duration,
    share: f64,
}

impl Window for Glass {
    fn ready(&self) -> bool {
        !self.reach.operation.running.drain.is_cancelled()
    }

    fn write_metrics(&self, out: &mut Exposition) {
        let running = &self.reach.operation.running;
        running.metrics.write(out);
        self.reach.checks.write_metrics(out);
        running.parts().maintenance.write_metrics(out);
        running.admission.write_metrics(out);
        let help = "The number of the configuration that serves.";
        out.family("staunch_config_generation", exposition::Kind::Gauge, help);
        out.sample(&[], running.generation());
        let generations = &self.reach.operation.generations;
        let help = "Configurations that came, were faulty, and changed nothing.";
        out.family("staunch_config_refused_total", exposition::Kind::Counter, help);
        out.sample(&[], generations.refused());
        let help = "Configurations that were not confirmed, or did worse, and were taken back.";
        out.family("staunch_config_taken_back_total", exposition::Kind::Counter, help);
        out.sample(&[], generations.taken_back());
        let help = "1 while a configuration waits for its confirmation.";
        out.family("staunch_config_pending", exposition::Kind::Gauge, help);
        out.sample(&[], u64::from(generations.is_pending()));
        if let Some(log) = running.access_log() {
            log.write_metrics(out);
        }
    }

    fn upstreams(&self) -> Vec<UpstreamStatus> {
        let now = Instant::now();
        let parts = self.reach.operation.running.parts();
        let status =
            |(shared, config): (&Arc<Shared>, &config::Upstream)| upstream(shared, config, &self.reach.checks, now);
        parts.upstreams.iter().zip(&parts.config.upstreams).map(status).collect()
    }

    fn change_endpoint(&self, upstream: &str, address: &str, patch: EndpointPatch) -> Option<EndpointStatus> {
        let parts = self.reach.operation.running.parts();
        let shared = parts.upstreams.iter().find(|shared| &*shared.name == upstream)?;
        let id = shared.endpoints.iter().find(|endpoint| &*endpoint.address == address)?.id;
        let EndpointPatch { down, drain, weight, reason } = patch;
        info!(%upstream, endpoint = %address, ?down, ?drain, ?weight, ?reason, "an operator changed an endpoint");
        let order = EndpointOrder { down: said(down), drain: said(drain), weight: said(weight), reason };
        shared.health.order(id, order);
        let now = Instant::now();
        let standing = *shared.health.standings(now).get(id as usize)?;
        endpoint(shared, id, standing, &self.reach.checks, now)
    }

    fn plugins(&self) -> Vec<PluginStatus> {
        let parts = self.reach.operation.running.parts();
        let placed = parts.placed.lock().clone();
        placed.iter().flat_map(Placed::uses).map(|used| self.plugin(&parts, used)).collect()
    }

    fn maintenance(&self) -> MaintenanceStatus {
        let status = |standing: maintenance::Standing| Closing {
            on: standing.is_closed(),
            by: if standing.by_hand.is_some() { ClosedBy::Admin } else { ClosedBy::Configuration },
            since: standing.since,
            retry_after: standing.retry_after,
        };
        let (server, routes) = self.reach.operation.running.parts().maintenance.standings();
        let routes = routes.into_iter().map(|(route, standing)| RouteClosing { route, closing: status(standing) });
        MaintenanceStatus { server: status(server), routes: routes.collect() }
    }

    fn close(&self, route: Option<&str>, on: Option<bool>, retry_after: Option<u32>) -> Result<(), String> {
        let switched =
            self.reach.operation.running.parts().maintenance.switch(route, on, retry_after, SystemTime::now());
        switched.map_err(|unknown| unknown.to_string())
    }

    fn replace(&self, plugin: &str, file: Vec<u8>, force: bool) -> Replacing<'_> {
        let plugin = plugin.to_owned();
        Box::pin(async move { self.reach.operation.turnover.replace(&plugin, file, force).await })
    }

    fn config(&self, generation: Option<u64>) -> Result<ConfigStatus, NotAccepted> {
        self.reach.operation.generations.status(generation)
    }

    fn apply(&self, text: String, confirm: Option<Duration>) -> Accepting<'_> {
        Box::pin(self.reach.operation.generations.accept(text, confirm))
    }

    fn confirm(&self) -> Result<Accepted, NotAccepted> {
        self.reach.operation.generations.confirm()
    }

    fn roll_back(&self, to: Option<u64>) -> Accepting<'_> {
        Box::pin(self.reach.operation.generations.roll_back(to))
    }

    fn reload(&self) -> Accepting<'_> {
        Box::pin(self.reach.operation.generations.reload())
    }

    fn upgrade(&self) -> Upgrading<'_> {
        Box::pin(self.reach.upgrade.begin())
    }

    fn drain(&self) {
        self.reach.operation.running.drain.cancel();
    }
}

impl Glass {
    fn plugin(&self, parts: &Parts, used: &Use) -> PluginStatus {
        let status = used.status();
        let own = parts.config.plugins.iter().find(|plugin| plugin.name == status.plugin);
        let source = own.and_then(|plugin| plugin.path.as_deref());
        let source = source.map_or_else(|| "built-in".to_owned(), |path| path.display().to_string());
        PluginStatus {
            source,
            code: used.plugin().origin().name(),
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
            cpu_share: self.cpu_share(&status, parts.workers),
            instances: status.instances,
            memory_bytes: status.memory,
            memory_peak_bytes: status.memory_peak,
            standing: self.reach.operation.turnover.standing(&status.plugin),
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
    fn cpu_share(&self, status: &UseStatus, workers: usize) -> f64 {
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
            let share = taken.as_secs_f64() / (passed.as_secs_f64() * workers.max(1) as f64);
            *known = CpuShare { at: now, taken: status.cpu_time, share };
        }
        known.share
    }
}

fn upstream(shared: &Shared, config: &config::Upstream, checks: &Checks, now: Instant) -> UpstreamStatus {
    let standings = shared.health.standings(now);
    let endpoints = (0..).zip(standings).filter_map(|(id, standing)| endpoint(shared, id, standing, checks, now));
    let endpoints: Vec<_> = endpoints.collect();
    UpstreamStatus {
        name: shared.name.to_string(),
        balance: config.balance.plugin.clone(),
        panic: endpoints.iter().any(|endpoint| endpoint.state == EndpointState::Panic),
        panic_threshold: config.panic_threshold(),
        endpoints,
        queue: guards::queue(shared),
        breaker: guards::breaker(shared, now),
        concurrency: guards::concurrency(shared),
    }
}

fn last_check(last: LastCheck) -> CheckStatus {
    CheckStatus {
        at: last.at,
        passed: last.result == CheckResult::Passed,
        result: last.result.name(),
        said: last.said,
        took_ms: last.took.as_secs_f64() * 1000.0,
        in_a_row: last.in_a_row,
    }
}

fn endpoint(
    shared: &Shared,
    id: EndpointId,
    standing: Standing,
    checks: &Checks,
    now: Instant,
) -> Option<EndpointStatus> {
    let Shared { health, config, .. } = shared;
    let (endpoint, configured) = (shared.endpoints.get(id as usize)?, config.endpoints.get(id as usize)?);
    let check = checks.status(&shared.name, &endpoint.address);
    // A check can tell better what it misses.
    let is_checks = matches!(standing, Standing::Checking | Standing::Unhealthy);
    let missed = check.as_ref().and_then(|check| check.reason.clone()).filter(|_| is_checks);
    Some(EndpointStatus {
        address: endpoint.address.to_string(),
        state: match standing {
            Standing::Up => EndpointState::Up,
            Standing::Down => EndpointState::Down,
            Standing::Draining => EndpointState::Draining,
            Standing::Checking => EndpointState::Checking,
            Standing::Unhealthy => EndpointState::Unhealthy,
            Standing::Failed => EndpointState::Unavailable,
            Standing::Ejected => EndpointState::Ejected,
            Standing::Probing { .. } => EndpointState::Probing,
            Standing::Full => EndpointState::Full,
            Standing::Panic => EndpointState::Panic,
        },
        reason: missed.or_else(|| health.reason(id, standing, now)),
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
        last_check: check.and_then(|check| check.last).map(last_check),
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
