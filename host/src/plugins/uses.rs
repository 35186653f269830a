//! One place where a plugin decides: what its instances on all workers share, count and are judged by.
//!
//! # What outlives a version?
//!
//! A [`Use`] has one version of its plugin. Its [`successor`](Use::successor) has another and is the same use: the
//! shared state, the plugin's metrics and all counts are common to both. What was held against the old version, its
//! faults of late and its back-off, is not held against the new one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::warn;

use crate::config::{OnFailure, Settings};
use crate::plugins::Kind;
use crate::plugins::balancer::{Member, ReadyBalancer};
use crate::plugins::clock::nanos;
use crate::plugins::error::{ConfigIssue, Fault, PluginError};
use crate::plugins::faults::{Breaker, Cause};
use crate::plugins::host::Plugin;
use crate::plugins::metrics::{Metrics, PluginMetric, bump};
use crate::plugins::names::UpstreamNames;
use crate::plugins::retry::ReadyRetry;
use crate::plugins::rewriter::ReadyRewriter;
use crate::plugins::shared::Shared;
use crate::plugins::simulation::Simulation;
use crate::plugins::tally::Tally;
use crate::upstream::endpoint::Loads;

/// Log lines of one use on one worker in a second.
const MAX_LINES: u32 = 10;
/// Nanoseconds between two log lines about faults of one use.
const LOG_EVERY: u64 = 1_000_000_000;
/// One call of so many is timed.
const SAMPLED: u64 = 1024;

/// A place where a version of a plugin decides, shared by all workers; clones are the same one.
#[derive(Clone)]
pub struct Use(Arc<UseCore>);

pub(super) struct UseCore {
    pub(super) plugin: Plugin,
    pub(super) kind: Kind,
    pub(super) name: Arc<str>,
    pub(super) settings: Settings,
    /// The use of the balancer behind this one.
    pub(super) behind: Option<Use>,
    pub(super) upstreams: Arc<UpstreamNames>,
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) simulation: Option<Arc<Simulation>>,
    /// From 1; a version that takes over has the next number.
    pub(super) generation: u64,
    lasting: Arc<Lasting>,
    /// On the host's clock; 0 when the use is not tripped. Read for every call, written when a use trips.
    tripped_until: AtomicU64,
    breaker: Mutex<Breaker>,
    /// Faults of this version.
    faulted: AtomicU64,
}

/// What all versions of a use have in common, beside what the plugin itself keeps.
#[derive(Default)]
struct Lasting {
    workers: Mutex<Vec<Arc<WorkerShare>>>,
    memberships: AtomicU64,
    /// The highest number of a version that has served.
    generation: AtomicU64,
    faults: Mutex<FaultBook>,
    tally: Arc<Tally>,
    /// When a use was said to be over its CPU budget, on the host's clock.
    throttled: AtomicU64,
}

#[derive(Default)]
struct FaultBook {
    counts: [u64; Cause::ALL.len()],
    trips: u64,
    last: Option<String>,
    /// On the host's clock.
    logged: Option<u64>,
    unlogged: u64,
}

/// One worker's part of a use: its counts, which that worker alone writes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct WorkerShare {
    pub(super) worker: usize,
    calls: AtomicU64,
    fallbacks: AtomicU64,
    /// Calls that the CPU budget kept from the plugin.
    throttled: AtomicU64,
    /// Nanoseconds of all calls, where each one is timed.
    busy: AtomicU64,
    samples: AtomicU64,
    sampled: AtomicU64,
    log_second: AtomicU64,
    log_lines: AtomicU32,
}

/// What a use may reach beside its own settings.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// For a balancer: the use of the one behind it.
    pub behind: Option<Use>,
    /// For a rewriter: the names of the upstreams there are.
    pub upstreams: Arc<UpstreamNames>,
    /// A world of the caller's making. Faults in it are counted and not logged.
    pub simulation: Option<Arc<Simulation>>,
}

/// How a use stands.
#[derive(Clone, Debug, PartialEq)]
pub struct UseStatus {
    pub plugin: String,
    /// The use's name.
    pub name: String,
    /// The SHA-256 of the plugin's file.
    pub digest: String,
    /// Which version of the plugin this is, from 1.
    pub generation: u64,
    pub kind: Kind,
    /// Requests that came to this use.
    pub calls: u64,
    /// Those of them that its policy answered in the plugin's stead.
    pub fallbacks: u64,
    /// How many faults there were, for each cause.
    pub faults: Vec<(Cause, u64)>,
    /// What went wrong last.
    pub last_fault: Option<String>,
    /// How often it was left out.
    pub trips: u64,
    /// How much longer it is left out.
    pub tripped_for: Option<Duration>,
    /// The mean time of a call, over one in 1024.
    pub mean_call: Option<Duration>,
    /// Calls that the CPU budget kept from the plugin; its policy answered them.
    pub throttled: u64,
    /// Time of all calls: exact where a CPU budget is set, else the mean over the timed ones times their number.
    pub cpu_time: Duration,
    /// Live instances, with those of versions that may come back.
    pub instances: u64,
    /// Bytes of memory and tables of the live instances, now and at most.
    pub memory: u64,
    pub memory_peak: u64,
    /// What the plugin itself counts.
    pub metrics: Vec<PluginMetric>,
}

impl Use {
    pub(super) fn new(plugin: Plugin, kind: Kind, name: &str, settings: Settings, around: Surroundings) -> Self {
        let shared = Shared::new(plugin.limits().shared);
        Self(Arc::new(UseCore {
            plugin,
            kind,
            name: name.into(),
            settings,
            behind: around.behind,
            upstreams: around.upstreams,
            shared: Arc::new(shared),
            metrics: Arc::default(),
            simulation: around.simulation,
            generation: 1,
            lasting: Arc::default(),
            tripped_until: AtomicU64::new(0),
            breaker: Mutex::default(),
            faulted: AtomicU64::new(0),
        }))
    }

    /// The same use with another version of its plugin, which does not serve before [`take_over`](Self::take_over).
    ///
    /// # Errors
    /// When the plugin is of another kind.
    pub fn successor(&self, plugin: &Plugin, behind: Option<Self>) -> Result<Self, PluginError> {
        plugin.check_kind(self.0.kind)?;
        let UseCore { kind, name, settings, upstreams, shared, metrics, simulation, generation, lasting, .. } =
            &*self.0;
        Ok(Self(Arc::new(UseCore {
            plugin: plugin.clone(),
            kind: *kind,
            name: name.clone(),
            settings: settings.clone(),
            behind,
            upstreams: upstreams.clone(),
            shared: shared.clone(),
            metrics: metrics.clone(),
            simulation: simulation.clone(),
            generation: lasting.generation.load(Relaxed).max(*generation) + 1,
            lasting: lasting.clone(),
            tripped_until: AtomicU64::new(0),
            breaker: Mutex::default(),
            faulted: AtomicU64::new(0),
        })))
    }

    /// The use of the balancer behind this one.
    pub fn behind(&self) -> Option<&Self> {
        self.0.behind.as_ref()
    }

    /// This use and those behind it.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |used| used.behind())
    }

    /// Notes that this version serves.
    pub fn take_over(&self) {
        self.0.lasting.generation.fetch_max(self.0.generation, Relaxed);
    }

    /// Which version of the plugin this is, from 1.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// How often this version failed.
    pub fn faulted(&self) -> u64 {
        self.0.faulted.load(Relaxed)
    }

    /// What went wrong last, in any version.
    pub fn last_fault(&self) -> Option<String> {
        self.0.lasting.faults.lock().last.clone()
    }

    /// Builds `worker`'s balancer here and now: instantiates, configures, hands over the membership. The result
    /// goes to the worker.
    ///
    /// # Errors
    /// When the plugin refuses its settings or fails.
    pub fn balancer(
        &self,
        worker: usize,
        members: Arc<[Member]>,
        loads: Arc<Loads>,
    ) -> Result<ReadyBalancer, PluginError> {
        ReadyBalancer::build(self.0.clone(), worker, members, loads)
    }

    /// Builds `worker`'s retry policy here and now.
    ///
    /// # Errors
    /// When the plugin refuses its settings or fails.
    pub fn retry(&self, worker: usize) -> Result<ReadyRetry, PluginError> {
        ReadyRetry::build(self.0.clone(), worker)
    }

    /// Builds `worker`'s rewriter here and now.
    ///
    /// # Errors
    /// When the plugin refuses its settings or fails.
    pub fn rewriter(&self, worker: usize) -> Result<ReadyRewriter, PluginError> {
        ReadyRewriter::build(self.0.clone(), worker)
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn core(&self) -> &Arc<UseCore> {
        &self.0
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub fn plugin(&self) -> &Plugin {
        &self.0.plugin
    }

    pub fn status(&self) -> UseStatus {
        self.0.status()
    }
}

impl UseCore {
    /// Whether the use is left out now. One look at an atomic while it is not.
    #[inline]
    pub(super) fn is_tripped(&self) -> bool {
        let until = self.tripped_until.load(Relaxed);
        until != 0 && self.is_still_tripped(until)
    }

    #[cold]
    fn is_still_tripped(&self, until: u64) -> bool {
        if self.plugin.host().clock.now() < until {
            return true;
        }
        // Unless it tripped again meanwhile.
        let _ = self.tripped_until.compare_exchange(until, 0, Relaxed, Relaxed);
        false
    }

    /// Counts a fault, logs it and trips the use if it is one too many.
    pub(super) fn fault(&self, fault: &Fault) {
        let now = self.plugin.host().clock.now();
        self.faulted.fetch_add(1, Relaxed);
        let until = self.breaker.lock().fault(Duration::from_nanos(now), fastrand::u64(..));
        let mut book = self.lasting.faults.lock();
        if let Some(at) = Cause::ALL.iter().position(|&cause| cause == fault.cause) {
            book.counts[at] += 1;
        }
        book.last = Some(format!("{}: {}", fault.cause.name(), fault.message));
        if let Some(until) = until {
            book.trips += 1;
            self.tripped_until.store(nanos(until).max(1), Relaxed);
        }
        if self.simulation.is_some() {
            return;
        }
        if book.logged.is_some_and(|logged| now < logged + LOG_EVERY) {
            book.unlogged += 1;
            return;
        }
        let more = std::mem::take(&mut book.unlogged);
        book.logged = Some(now);
        drop(book);
        let (plugin, r#use, cause) = (self.plugin.name(), &*self.name, fault.cause.name());
        let (digest, generation) = (self.plugin.short_digest(), self.generation);
        let left_out_for = until.map(|until| until.saturating_sub(Duration::from_nanos(now)));
        warn!(plugin, r#use, digest, generation, cause, more, ?left_out_for, "plugin fault: {}", fault.message);
    }

    /// Logs, once a second at most, that the use has taken more of a worker's time than it may.
    #[cold]
    pub(super) fn throttled(&self, now: u64, worker: usize) {
        let logged = self.lasting.throttled.load(Relaxed);
        if logged != 0 && now < logged + LOG_EVERY {
            return;
        }
        self.lasting.throttled.store(now.max(1), Relaxed);
        let (plugin, r#use) = (self.plugin.name(), &*self.name);
        let (digest, generation) = (self.plugin.short_digest(), self.generation);
        warn!(
            plugin,
            r#use, digest, generation, worker, "over its CPU budget: its policy answers until it is under it"
        );
    }

    pub(super) fn tally(&self) -> Arc<Tally> {
        self.lasting.tally.clone()
    }

    pub(super) fn share_of(&self, worker: usize) -> Arc<WorkerShare> {
        let mut workers = self.lasting.workers.lock();
        if let Some(share) = workers.iter().find(|share| share.worker == worker) {
            return share.clone();
        }
        let share = Arc::new(WorkerShare { worker, ..WorkerShare::default() });
        workers.push(share.clone());
        share
    }

    /// The clock of plugins.
    pub(super) fn now(&self) -> u64 {
        let clock = self.plugin.host().clock;
        match &self.simulation {
            Some(simulation) => clock.at(simulation.now()),
            None => clock.now(),
        }
    }

    /// A number for a new membership.
    pub(super) fn next_version(&self) -> u64 {
        self.lasting.memberships.fetch_add(1, Relaxed) + 1
    }

    /// CPU time of one call.
    pub(super) fn deadline(&self) -> Duration {
        let default = match self.kind {
            Kind::Balancer | Kind::Retry => Duration::from_millis(10),
            Kind::Rewriter => Duration::from_millis(20),
        };
        let deadline = self.plugin.limits().deadline.unwrap_or(default);
        // To count instructions takes time too.
        if self.plugin.host().metered { deadline * 3 / 2 } else { deadline }
    }

    /// Whether a message passes as it is when a rewriter fails.
    pub(super) fn skips_failures(&self) -> bool {
        self.plugin.limits().on_failure == Some(OnFailure::Skip)
    }

    pub(super) fn failed(&self, during: &'static str, fault: Fault) -> PluginError {
        let (plugin, use_name) = (self.plugin.name().to_owned(), self.name.to_string());
        PluginError::Failed { plugin, use_name, during, fault }
    }

    pub(super) fn refused(&self, issues: Vec<ConfigIssue>) -> PluginError {
        PluginError::Refused { plugin: self.plugin.name().to_owned(), use_name: self.name.to_string(), issues }
    }

    fn status(&self) -> UseStatus {
        let now = self.plugin.host().clock.now();
        let sum = |of: fn(&WorkerShare) -> &AtomicU64| -> u64 {
            self.lasting.workers.lock().iter().map(|share| of(share).load(Relaxed)).sum()
        };
        let until = self.tripped_until.load(Relaxed);
        let (faults, trips, last_fault) = {
            let book = self.lasting.faults.lock();
            (Cause::ALL.into_iter().zip(book.counts).collect(), book.trips, book.last.clone())
        };
        let (calls, busy) = (sum(|share| &share.calls), sum(|share| &share.busy));
        let mean_call = sum(|share| &share.sampled).checked_div(sum(|share| &share.samples));
        let cpu_time =
            if self.plugin.limits().cpu.is_some() { busy } else { mean_call.unwrap_or(0).saturating_mul(calls) };
        let tally = &self.lasting.tally;
        UseStatus {
            plugin: self.plugin.name().to_owned(),
            name: self.name.to_string(),
            digest: self.plugin.digest().to_owned(),
            generation: self.generation,
            kind: self.kind,
            calls,
            fallbacks: sum(|share| &share.fallbacks),
            faults,
            last_fault,
            trips,
            tripped_for: until.checked_sub(now).filter(|&left| left > 0).map(Duration::from_nanos),
            mean_call: mean_call.map(Duration::from_nanos),
            throttled: sum(|share| &share.throttled),
            cpu_time: Duration::from_nanos(cpu_time),
            instances: tally.instances(),
            memory: tally.memory(),
            memory_peak: tally.peak(),
            metrics: self.metrics.read(),
        }
    }
}

impl WorkerShare {
    /// Counts a call in. Answers when it began, if it is to be timed.
    #[inline]
    pub(super) fn begin(&self) -> Option<Instant> {
        let calls = self.calls.load(Relaxed);
        self.calls.store(calls.wrapping_add(1), Relaxed);
        calls.is_multiple_of(SAMPLED).then(Instant::now)
    }

    /// Takes the time of a call that began at `began`.
    #[inline]
    pub(super) fn end(&self, began: Option<Instant>) {
        if let Some(began) = began {
            bump(&self.samples, 1);
            bump(&self.sampled, nanos(began.elapsed()));
        }
    }

    /// Counts a call that the policy answers.
    pub(super) fn fall_back(&self) {
        bump(&self.fallbacks, 1);
    }

    /// Counts a call that the CPU budget keeps from the plugin.
    pub(super) fn throttle(&self) {
        bump(&self.throttled, 1);
    }

    /// Takes the time of a call, where each one is timed.
    pub(super) fn charge(&self, time: Duration) {
        bump(&self.busy, nanos(time));
    }

    /// Nanoseconds of all calls, where each one is timed.
    pub(super) fn busy(&self) -> u64 {
        self.busy.load(Relaxed)
    }

    /// Whether a plugin may log one more line in this second of the host's clock.
    pub(super) fn may_log(&self, now: u64) -> bool {
        let second = now / 1_000_000_000;
        if self.log_second.swap(second, Relaxed) != second {
            self.log_lines.store(0, Relaxed);
        }
        self.log_lines.fetch_add(1, Relaxed) < MAX_LINES
    }
}

impl fmt::Debug for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Use").field("name", &self.0.name).field("plugin", &self.0.plugin).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second_are_kept() {
        let share = WorkerShare::default();
        let second = 1_000_000_000;

        let kept = |now| (0..50).filter(|_| share.may_log(now)).count();

        assert_eq!(kept(0), 10);
        assert_eq!(kept(second - 1), 0);
        assert_eq!(kept(second), 10);
    }
}
