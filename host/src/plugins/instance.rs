//! One live copy of a plugin: its store, its limits, and the one way to call it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::Instance as Linked;
use wasmtime::{ResourceLimiter, Store, Trap, UpdateDeadline, WasmBacktrace};

use crate::http::facts::{Exchange, Facts};
use crate::plugins::behind::Behind;
use crate::plugins::bindings::exports::staunch::plugin::{handover, lifecycle};
use crate::plugins::clock::thread_cpu_time;
use crate::plugins::engine::{CALM_TICK, MAX_TICKS_BETWEEN_LOOKS, Ticker};
use crate::plugins::error::{ConfigIssue, Fault, PluginError};
use crate::plugins::faults::Cause;
use crate::plugins::metrics::Cells;
use crate::plugins::shared::OwnCells;
use crate::plugins::simulation::Simulation;
use crate::plugins::tally::Counted;
use crate::plugins::uses::{UseCore, WorkerShare};
use crate::upstream::balancer::{FeedbackKind, KeySource};
use crate::upstream::endpoint::Loads;

/// CPU time of a `configure` or an `update`.
pub(super) const SETUP_DEADLINE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 2000 });

/// CPU time of a `save`.
pub(super) const SAVE_DEADLINE: Duration = Duration::from_millis(10);

/// Ticks before a call is looked at for the first time: the next one, wherever in a call it falls.
const FIRST_LOOK: u64 = 1;
/// The longest a call runs before that.
const UNSEEN: Duration = CALM_TICK;

/// Bytes the host copies from a guest in one call, arguments and results alike: a response body of 1 MiB and all the
/// edits there may be.
const HOSTCALL_BYTES: usize = 2 * 1024 * 1024;

/// Core instances, and tables, of one component. Python's have dozens.
const MAX_PARTS: usize = 128;

/// Bytes of one table element.
const ELEMENT: usize = 16;

/// Issues kept of a refusal, and bytes of each text in them.
const MAX_ISSUES: usize = 64;
const MAX_ISSUE_TEXT: usize = 1024;

/// A live copy of a plugin with the functions `G` of its kind. A fault leaves it unusable: drop it.
pub(super) struct Instance<G> {
    store: Store<State>,
    guest: G,
    pub(super) handover: Option<handover::Guest>,
    ticker: Ticker,
    simulation: Option<Arc<Simulation>>,
    /// Whether each call is timed and charged to the worker's share.
    metered: bool,
}

/// What host functions read and write: the data of a store.
pub(super) struct State {
    pub(super) core: Arc<UseCore>,
    pub(super) share: Arc<WorkerShare>,
    /// Which call is under way.
    pub(super) phase: Phase,
    /// The exchange that is lent for the call.
    pub(super) facts: Option<Box<Facts>>,
    pub(super) loads: Option<Arc<Loads>>,
    pub(super) asked: Asked,
    /// By handle.
    pub(super) metrics: Vec<Option<Arc<Cells>>>,
    pub(super) own_cells: OwnCells,
    /// The balancers behind this one.
    pub(super) behind: Behind,
    limiter: Limiter,
    budget: Budget,
}

/// What a plugin is doing. Some host functions answer only in their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No call, or one that has no exchange.
    Other,
    Configure,
    Update,
    Pick,
    Decide,
    OnRequest,
    OnResponse,
}

/// What a plugin asked for in `configure`.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) key: Vec<KeySource>,
    pub(super) feedback: Option<Feedback>,
    pub(super) statuses: Vec<(u16, u16)>,
    pub(super) non_idempotent: bool,
    pub(super) request_fields: Vec<String>,
    pub(super) response_fields: Vec<String>,
    pub(super) skips_requests: bool,
    pub(super) skips_responses: bool,
}

/// How a balancer wants to hear of outcomes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feedback {
    pub(super) kind: FeedbackKind,
    pub(super) batch: usize,
    /// Nanoseconds.
    pub(super) max_age: u64,
}

/// The CPU time of a call.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    limit: Duration,
    /// The thread's CPU time when the call was first looked at.
    since: Option<Duration>,
}

/// A registration outside `configure`, and the like.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Forbidden(pub(super) &'static str);

impl<G> Instance<G> {
    /// Instantiates and configures. `bind` finds the functions of the kind.
    pub(super) fn build(
        core: &Arc<UseCore>,
        worker: usize,
        loads: Option<Arc<Loads>>,
        bind: impl FnOnce(&UseCore, &mut Store<State>, &Linked) -> wasmtime::Result<G>,
    ) -> Result<Self, PluginError> {
        let mut store = store(core, worker, loads);
        let host = core.plugin.host();
        store.data_mut().budget = Budget { limit: SETUP_DEADLINE, since: None };
        store.set_epoch_deadline(FIRST_LOOK);
        host.ticker.touch();
        let linked = core.plugin.pre().instantiate(&mut store);
        let linked = linked.map_err(|error| core.failed("start-up", fault_of(&error, store.data())))?;
        let shape = |error: wasmtime::Error| PluginError::Shape {
            plugin: core.plugin.name().to_owned(),
            message: format!("{error:#}"),
        };
        let lifecycle = lifecycle::GuestIndices::new(core.plugin.pre())
            .and_then(|indices| indices.load(&mut store, &linked))
            .map_err(shape)?;
        let guest = bind(core, &mut store, &linked).map_err(shape)?;
        let handover = match core.plugin.exports().handover {
            true => Some(
                handover::GuestIndices::new(core.plugin.pre())
                    .and_then(|indices| indices.load(&mut store, &linked))
                    .map_err(shape)?,
            ),
            false => None,
        };
        let (ticker, simulation) = (host.ticker.clone(), core.simulation.clone());
        let mut instance = Self { store, guest, handover, ticker, simulation, metered: false };
        let configured = instance
            .call(Phase::Configure, SETUP_DEADLINE, |_, store| lifecycle.call_configure(store))
            .map_err(|fault| core.failed("configure", fault))?;
        configured.map_err(|issues| core.refused(issues.into_iter().take(MAX_ISSUES).map(issue).collect()))?;
        Ok(instance)
    }

    /// Calls into the plugin. A fault makes this instance unusable.
    #[inline]
    pub(super) fn call<R>(
        &mut self,
        phase: Phase,
        limit: Duration,
        body: impl FnOnce(&G, &mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        let state = self.store.data_mut();
        state.phase = phase;
        state.budget = Budget { limit, since: None };
        self.store.set_epoch_deadline(FIRST_LOOK);
        self.ticker.touch();
        let began = self.metered.then(Instant::now);
        let answer = body(&self.guest, &mut self.store);
        if let Some(began) = began {
            self.charge(began);
        }
        self.store.data_mut().phase = Phase::Other;
        if let Some(simulation) = &self.simulation {
            measure(simulation, &mut self.store);
        }
        answer.map_err(|error| fault_of(&error, self.store.data()))
    }

    /// Calls into the plugin, which may look at `exchange`.
    #[inline]
    pub(super) fn call_with<R>(
        &mut self,
        exchange: &mut Exchange,
        phase: Phase,
        limit: Duration,
        body: impl FnOnce(&G, &mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        self.store.data_mut().facts = Some(exchange.lend());
        let answer = self.call(phase, limit, body);
        let facts = self.store.data_mut().facts.take();
        exchange.give_back(facts.expect("host functions leave the facts where they are"));
        answer
    }

    /// Has each call from now on timed and charged. For an instance that its worker calls.
    pub(super) fn meter(&mut self) {
        self.metered = true;
    }

    /// Charges a call. A short one has taken the time that has passed; of a long one the CPU time is known, but for
    /// its first ticks.
    fn charge(&self, began: Instant) {
        let passed = began.elapsed();
        let state = self.store.data();
        let used = match state.budget.since {
            Some(since) => passed.min(UNSEEN + thread_cpu_time().saturating_sub(since)),
            None => passed,
        };
        state.share.charge(used);
    }

    pub(super) fn asked(&self) -> &Asked {
        &self.store.data().asked
    }

    /// The balancers behind this one.
    pub(super) fn behind(&mut self) -> &mut Behind {
        &mut self.store.data_mut().behind
    }

    pub(super) fn guest(&self) -> &G {
        &self.guest
    }
}

/// Notes what a call has cost.
#[cold]
fn measure(simulation: &Simulation, store: &mut Store<State>) {
    let left = if store.data().core.plugin.host().metered { store.get_fuel().unwrap_or(u64::MAX) } else { u64::MAX };
    simulation.called(u64::MAX - left, store.data().limiter.used.memory());
    fill_up(store);
}

/// Gives the next call of a metered plugin all it can use.
fn fill_up(store: &mut Store<State>) {
    if store.data().core.plugin.host().metered {
        // It is known to have a meter.
        let _ = store.set_fuel(u64::MAX);
    }
}

/// A store with its limits.
fn store(core: &Arc<UseCore>, worker: usize, loads: Option<Arc<Loads>>) -> Store<State> {
    let state = State {
        core: core.clone(),
        share: core.share_of(worker),
        phase: Phase::Other,
        facts: None,
        loads,
        asked: Asked::default(),
        metrics: Vec::new(),
        own_cells: OwnCells::default(),
        behind: Behind::default(),
        limiter: Limiter { limit: core.plugin.limits().memory, used: Counted::new(core.tally()) },
        budget: Budget::default(),
    };
    let mut store = Store::new(core.plugin.pre().engine(), state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(HOSTCALL_BYTES);
    fill_up(&mut store);
    let ticker = core.plugin.host().ticker.clone();
    store.epoch_deadline_callback(move |mut store| {
        let used = thread_cpu_time();
        let budget = &mut store.data_mut().budget;
        let since = *budget.since.get_or_insert(used);
        let left = (since + budget.limit).saturating_sub(used);
        if left.is_zero() {
            return Ok(UpdateDeadline::Interrupt);
        }
        ticker.hurry();
        let ticks = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        Ok(UpdateDeadline::Continue(ticks.clamp(1, MAX_TICKS_BETWEEN_LOOKS)))
    });
    store
}

/// What went wrong in a call.
#[cold]
fn fault_of(error: &wasmtime::Error, state: &State) -> Fault {
    if let Some(limit) = error.downcast_ref::<MemoryLimit>() {
        return Fault { cause: Cause::Memory, message: limit.to_string() };
    }
    let (cause, mut message) = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => {
            (Cause::Deadline, format!("it used more than {:?} of CPU time in one call", state.budget.limit))
        }
        Some(trap) => (Cause::Trap, format!("it trapped: {trap}")),
        None if error.is::<Forbidden>() => (Cause::Trap, error.root_cause().to_string()),
        None => (Cause::Answer, format!("it broke the contract: {}", error.root_cause())),
    };
    let functions: Vec<_> = error
        .downcast_ref::<WasmBacktrace>()
        .map(|trace| trace.frames().iter().filter_map(|frame| frame.func_name()).take(3).collect())
        .unwrap_or_default();
    if !functions.is_empty() {
        message += &format!(" (in {})", functions.join(", called by "));
    }
    Fault { cause, message }
}

fn issue(issue: lifecycle::ConfigIssue) -> ConfigIssue {
    let cut = |mut text: String| {
        text.truncate(text.floor_char_boundary(MAX_ISSUE_TEXT));
        text
    };
    ConfigIssue { path: cut(issue.path), message: cut(issue.message) }
}

/// Counts the memories and tables of a store against its limit.
#[derive(Debug)]
struct Limiter {
    limit: usize,
    used: Counted,
}

#[derive(Debug, thiserror::Error)]
#[error("it asked for {wanted} bytes of memory and may have {limit}")]
struct MemoryLimit {
    wanted: usize,
    limit: usize,
}

impl Limiter {
    fn grow(&mut self, bytes: usize) -> wasmtime::Result<bool> {
        let wanted = self.used.memory().saturating_add(bytes);
        if wanted > self.limit {
            return Err(wasmtime::Error::new(MemoryLimit { wanted, limit: self.limit }));
        }
        self.used.grow(bytes);
        Ok(true)
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.grow(desired.saturating_sub(current))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.grow(desired.saturating_sub(current).saturating_mul(ELEMENT))
    }

    fn instances(&self) -> usize {
        MAX_PARTS
    }

    fn tables(&self) -> usize {
        MAX_PARTS
    }

    fn memories(&self) -> usize {
        MAX_PARTS
    }
}
