//! Which endpoints may have traffic, as all workers see it.
//!
//! Failures, probes, active checks, operators and connection limits change it, on any thread. A worker keeps a view of
//! its own and looks here only when the generation has moved or something has become due: two atomic loads a request.
//! nginx's policy takes a lock only where failures are known; the others take an endpoint's own for each attempt.

mod operator;
mod standing;
mod state;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::{self, InitialState, OutlierDetection, Passive, SlowStart, WindowPassive};
use crate::upstream::endpoint::{Endpoint, EndpointId, positions};
use crate::upstream::passive::nginx;
use crate::upstream::passive::outlier::{Cause, Ended};
use crate::upstream::passive::window::{Change, Ticket};
use crate::upstream::retry::{Failure, Outcome};
use crate::upstream::{panic, slow_start};

pub(crate) use operator::{EndpointOrder, Said};
pub(crate) use standing::Standing;
pub(crate) use state::EndpointState;
use state::{begin_of, moment, second};

/// The state of every endpoint of one upstream.
#[derive(Debug)]
pub(crate) struct Health {
    policy: Policy,
    slow_start: Option<SlowStart>,
    /// What weights are multiplied with.
    scale: u32,
    /// The percentage of healthy endpoints below which health is overlooked; 0: never.
    panic_threshold: u32,
    slots: Box<[Slot]>,
    generation: Arc<AtomicU64>,
    common: Arc<Common>,
    /// Milliseconds after the start: when an endpoint that is out may be probed; `u64::MAX` when none is out.
    next_due: AtomicU64,
}

/// Who is left out for what live traffic shows.
#[derive(Debug)]
enum Policy {
    Nginx(nginx::Policy),
    Window(WindowPassive),
    Outlier(OutlierDetection),
}

/// What the configuration says of an endpoint, with what it has come to.
#[derive(Debug)]
struct Slot {
    down: bool,
    drain: bool,
    /// Since when the configuration says so.
    configured: SystemTime,
    weight: u32,
    priority: u32,
    max_connections: Option<u32>,
    state: Arc<EndpointState>,
}

/// What an upstream has come to as a whole. Outlives configurations.
#[derive(Debug, Default)]
struct Common {
    panics: AtomicBool,
    /// Since when it does or does not, in seconds of Unix time.
    panics_since: AtomicU64,
    /// When outliers are looked for next, in milliseconds after the start.
    next_interval: AtomicU64,
    /// One ejection at a time, so that together they keep to their maximum.
    ejecting: Mutex<()>,
}

/// What passive health makes of an attempt.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) failed: bool,
    /// What it takes from the endpoint's weight.
    pub(crate) penalty: u32,
    pub(crate) notice: Option<Notice>,
}

/// What happened to an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Notice {
    Ejected { endpoint: EndpointId, why: String, length: Duration },
    Returned { endpoint: EndpointId },
}

/// A request that may go to an endpoint.
#[derive(Debug)]
pub(crate) struct Entered {
    /// It took one of the endpoint's places, which [`EndpointState::leave`] gives back.
    pub(crate) placed: bool,
    /// What its outcome belongs to, or else [`EndpointState::abandoned`].
    pub(crate) ticket: Option<Ticket>,
}

impl Health {
    /// Failures of a lone endpoint do not take it out (nginx). `before`: the same upstream as it was configured before,
    /// with its endpoints; what those have come to is taken over by address.
    pub(crate) fn new(endpoints: &[Endpoint], config: &config::Upstream, before: Option<(&[Endpoint], &Self)>) -> Self {
        let generation = before.map_or_else(|| Arc::new(AtomicU64::new(1)), |(_, health)| health.generation.clone());
        let known = before.map(|(endpoints, health)| (positions(endpoints), health));
        let slot = |(endpoint, configured): (&Endpoint, &config::Endpoint)| {
            let known = known.as_ref().and_then(|(at, health)| Some(&health.slots[*at.get(&endpoint.address)?]));
            let begins_up = config.health.as_ref().is_none_or(|check| check.initial == InitialState::Up);
            let state = match (known, before) {
                (Some(slot), _) => slot.state.clone(),
                (None, Some(_)) => Arc::new(EndpointState::joining(generation.clone(), begins_up, Instant::now())),
                (None, None) => Arc::new(EndpointState::new(generation.clone(), begins_up)),
            };
            if config.health.is_none() {
                // Nobody would ever find out that it is well again.
                state.checked(true);
            }
            state.limit.store(configured.max_connections.unwrap_or(u32::MAX), Relaxed);
            let config::Endpoint { down, drain, .. } = *configured;
            let unchanged = known.filter(|slot| (slot.down, slot.drain) == (down, drain));
            Slot {
                down,
                drain,
                configured: unchanged.map_or_else(SystemTime::now, |slot| slot.configured),
                weight: endpoint.weight,
                priority: endpoint.priority,
                max_connections: configured.max_connections,
                state,
            }
        };
        let slow_start = config.slow_start.filter(|_| !config::HASHES.contains(&config.balance.plugin.as_str()));
        Self {
            policy: Policy::new(config),
            slow_start,
            scale: slow_start.map_or(1, |slow_start| slow_start.scale(endpoints.iter().map(|e| e.weight))),
            panic_threshold: config.panic_threshold(),
            slots: endpoints.iter().zip(&config.endpoints).map(slot).collect(),
            generation,
            common: before.map_or_else(Arc::default, |(_, health)| health.common.clone()),
            // Looked for when somebody looks here first.
            next_due: AtomicU64::new(0),
        }
    }

    /// What an endpoint has come to.
    pub(crate) fn state(&self, id: EndpointId) -> Option<&Arc<EndpointState>> {
        self.slot(id).map(|slot| &slot.state)
    }

    /// Changes whenever readiness may have changed.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Whether a view taken at generation `seen` may be out of date.
    pub(crate) fn is_stale(&self, seen: u64, now: Instant) -> bool {
        self.generation() != seen || {
            let due = self.next_due.load(Relaxed);
            due != u64::MAX && millis(moment(now)) >= due
        }
    }

    /// Looks for the next probe that will be due. Whoever looks at endpoints does so first: something may have become
    /// due, or happened under another configuration of the same endpoints.
    pub(crate) fn reschedule(&self, now: Instant) {
        let moment = moment(now);
        let next = self.slots.iter().filter_map(|slot| match &self.policy {
            Policy::Nginx(_) if slot.state.fails.load(Relaxed) == 0 => None,
            Policy::Nginx(policy) => {
                let record = *slot.state.record.lock();
                let out = record.is_suspect(*policy) && !record.is_available(*policy, second(now));
                out.then(|| begin_of(record.probe_at(*policy)))
            }
            Policy::Window(_) => slot.state.circuit.lock().probed_at().filter(|at| *at > moment),
            Policy::Outlier(_) => None,
        });
        let due = self.next_due.swap(next.map(whole_millis).min().unwrap_or(u64::MAX), Relaxed);
        if millis(moment) >= due {
            self.changed();
        }
    }

    /// What every endpoint's state is.
    pub(crate) fn standings(&self, now: Instant) -> Vec<Standing> {
        let mut standings: Vec<_> = self.slots.iter().map(|slot| self.standing(slot, now)).collect();
        if self.panic_threshold == 0 || !standings.iter().any(|standing| standing.is_ill()) {
            return standings;
        }
        // Those that are not known to be anything yet are as good as absent (Envoy's
        // `ignore_new_hosts_until_first_hc`).
        let is_absent = |standing: Standing| standing.is_shut() || standing == Standing::Checking;
        let serving = self.slots.iter().zip(&standings).filter(|(_, standing)| !is_absent(**standing));
        let groups = panic::groups(serving.map(|(slot, standing)| (slot.priority, !self.is_ill(slot, *standing))));
        for (slot, standing) in self.slots.iter().zip(&mut standings).filter(|(_, standing)| standing.is_ill()) {
            let Some(group) = groups.iter().find(|group| group.priority == slot.priority) else { continue };
            if panic::panics(group, &groups, self.panic_threshold) {
                *standing = if slot.is_full() { Standing::Full } else { Standing::Panic };
            }
        }
        standings
    }

    /// Takes note of whether the upstream panics; answers whether that is new.
    pub(crate) fn notes_panic(&self, panics: bool) -> bool {
        // Read first: the line is not fought for.
        let is_new = self.common.panics.load(Relaxed) != panics && self.common.panics.swap(panics, Relaxed) != panics;
        if is_new {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.common.panics_since.store(now.as_secs(), Relaxed);
        }
        is_new
    }

    /// The weight that balancers are told of, and whether it still grows.
    pub(crate) fn weight(&self, id: EndpointId, now: Instant) -> (u32, bool) {
        let Some(slot) = self.slot(id) else { return (1, false) };
        let age = slot.state.age(now);
        let share = self.slow_start.zip(age).map_or(1.0, |(slow_start, age)| slow_start.share(age));
        (slow_start::weight(slot.own_weight(), self.scale, share), share < 1.0)
    }

    /// Its weight without scale and slow start.
    pub(crate) fn own_weight(&self, id: EndpointId) -> u32 {
        self.slot(id).map_or(1, Slot::own_weight)
    }

    /// The share of its weight that an endpoint has while it starts slowly.
    pub(crate) fn starting_share(&self, id: EndpointId, now: Instant) -> Option<f64> {
        let share = self.slow_start?.share(self.slot(id)?.state.age(now)?);
        (share < 1.0).then_some(share)
    }

    /// Counts a request in that is to go to an endpoint, as its probe if it was out. `None`: it may not, because the
    /// endpoint has become full, or because another request is the probe; `overlook` ignores the latter.
    pub(crate) fn enter(&self, id: EndpointId, overlook: bool, now: Instant) -> Option<Entered> {
        let slot = self.slot(id)?;
        let placed = self.place(slot)?;
        let state = &*slot.state;
        let passed = match &self.policy {
            Policy::Nginx(policy) => self.probe(*policy, state, now).then_some(None),
            Policy::Window(policy) => {
                let mut circuit = state.circuit.lock();
                let was_half_open = circuit.is_half_open();
                let ticket = circuit.enter(policy, moment(now));
                if was_half_open || circuit.is_half_open() {
                    self.changed();
                }
                ticket.map(Some)
            }
            Policy::Outlier(_) => Some(None),
        };
        match passed {
            Some(ticket) => Some(Entered { placed, ticket }),
            None if overlook => Some(Entered { placed, ticket: None }),
            None => {
                if placed {
                    state.leave();
                }
                None
            }
        }
    }

    /// Takes one of the endpoint's places, if they are counted.
    fn place(&self, slot: &Slot) -> Option<bool> {
        let Some(max) = slot.max_connections else { return Some(false) };
        let entered = slot.state.connections.fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1)).ok()?;
        if entered + 1 >= max {
            self.changed();
        }
        Some(true)
    }

    /// Sends a request under nginx's policy: if the endpoint was out, this is its probe.
    fn probe(&self, policy: nginx::Policy, state: &EndpointState, now: Instant) -> bool {
        if state.fails.load(Relaxed) == 0 {
            return true;
        }
        let mut record = state.record.lock();
        if !record.is_available(policy, second(now)) {
            return false;
        }
        let before = *record;
        record.picked(policy, second(now));
        if record.is_suspect(policy) && *record != before {
            self.due(begin_of(record.probe_at(policy)));
        }
        true
    }

    /// Judges an attempt that has ended. `wanted`: whether the retry policy decides about such a status, which makes it
    /// a failure under nginx's policy. `weight`: what the balancer was told.
    pub(crate) fn ended(
        &self,
        id: EndpointId,
        ticket: Option<Ticket>,
        outcome: Outcome,
        wanted: bool,
        weight: u32,
        now: Instant,
    ) -> Judged {
        let Some(Slot { state, .. }) = self.slot(id) else { return Judged::default() };
        match &self.policy {
            Policy::Nginx(policy) => {
                let failed = match outcome {
                    Outcome::Failed(_) => true,
                    Outcome::Status(status) => wanted && !matches!(status, 403 | 404),
                };
                let notice =
                    if failed { self.failed(*policy, id, state, now) } else { self.succeeded(*policy, id, state, now) };
                let penalty = if failed { nginx::penalty(*policy, weight) } else { 0 };
                Judged { failed, penalty, notice }
            }
            Policy::Window(policy) => {
                let failed = match outcome {
                    Outcome::Failed(_) => true,
                    Outcome::Status(status) => {
                        policy.statuses.iter().any(|&(first, last)| (first..=last).contains(&status))
                    }
                };
                let notice = ticket.and_then(|ticket| self.counted(policy, id, state, ticket, failed, now));
                Judged { failed, penalty: 0, notice }
            }
            Policy::Outlier(policy) => {
                let ended = match outcome {
                    Outcome::Status(status) => Ended::Status(status),
                    Outcome::Failed(Failure::ConnectTimeout | Failure::ResponseTimeout) => Ended::TimedOut,
                    Outcome::Failed(_) => Ended::Failed,
                };
                let noticed = state.monitor.lock().ended(policy, ended);
                // Each of them begins anew, whichever ejects.
                let notice = noticed.fold(None, |notice, cause| notice.or(self.noticed(policy, id, cause, now)));
                Judged { failed: ended.is_failure(), penalty: 0, notice }
            }
        }
    }

    fn failed(&self, policy: nginx::Policy, id: EndpointId, state: &EndpointState, now: Instant) -> Option<Notice> {
        if policy.max_fails == 0 {
            return None;
        }
        let mut record = state.record.lock();
        record.failed(second(now));
        state.fails.store(record.fails, Relaxed);
        if !record.is_suspect(policy) {
            return None;
        }
        self.due(begin_of(record.probe_at(policy)));
        if record.fails != policy.max_fails {
            return None;
        }
        state.turned();
        let length = Duration::from_secs(policy.fail_timeout);
        Some(Notice::Ejected { endpoint: id, why: failures(record.fails), length })
    }

    fn succeeded(&self, policy: nginx::Policy, id: EndpointId, state: &EndpointState, now: Instant) -> Option<Notice> {
        if state.fails.load(Relaxed) == 0 {
            return None;
        }
        let mut record = state.record.lock();
        let was_out = record.is_suspect(policy);
        record.succeeded();
        if record.fails > 0 {
            return None;
        }
        state.fails.store(0, Relaxed);
        if was_out {
            state.arrive(now);
        }
        state.turned();
        was_out.then_some(Notice::Returned { endpoint: id })
    }

    fn counted(
        &self,
        policy: &WindowPassive,
        id: EndpointId,
        state: &EndpointState,
        ticket: Ticket,
        failed: bool,
        now: Instant,
    ) -> Option<Notice> {
        let mut circuit = state.circuit.lock();
        if self.slots.len() == 1 {
            return None;
        }
        match circuit.ended(policy, ticket, failed, moment(now), fastrand::u64(..))? {
            Change::Ejected(length) => {
                self.due(moment(now) + length);
                state.turned();
                let why = circuit.cause().map(|cause| cause.to_string()).unwrap_or_default();
                Some(Notice::Ejected { endpoint: id, why, length })
            }
            Change::Closed => {
                state.arrive(now);
                state.turned();
                Some(Notice::Returned { endpoint: id })
            }
            Change::Probed => {
                self.changed();
                None
            }
        }
    }

    /// A detector has noticed an endpoint, which is ejected if that is enforced and so many may be out.
    fn noticed(&self, policy: &OutlierDetection, id: EndpointId, cause: Cause, now: Instant) -> Option<Notice> {
        let state = self.state(id)?;
        let _turn = self.common.ejecting.lock();
        {
            let mut monitor = state.monitor.lock();
            if monitor.is_ejected() {
                return None;
            }
            monitor.noticed(&cause);
        }
        let serving = || self.slots.iter().filter(|slot| !slot.is_shut());
        let ejected = serving().filter(|slot| slot.state.monitor.lock().is_ejected()).count();
        let enforced = fastrand::u32(0..100) < policy.enforcing(&cause);
        if self.slots.len() == 1 || !enforced || !policy.has_room(ejected, serving().count()) {
            return None;
        }
        let length = state.monitor.lock().eject(policy, cause, moment(now), fastrand::u64(..));
        state.turned();
        Some(Notice::Ejected { endpoint: id, why: cause.to_string(), length })
    }

    /// Does what is due without traffic: compares the endpoints' success rates and ends ejections, on whichever worker
    /// comes first.
    pub(crate) fn tick(&self, now: Instant) -> Vec<Notice> {
        let Policy::Outlier(policy) = &self.policy else { return Vec::new() };
        let at = moment(now);
        let due = self.common.next_interval.load(Relaxed);
        let next = millis(at.saturating_add(policy.interval));
        if millis(at) < due || self.common.next_interval.compare_exchange(due, next, Relaxed, Relaxed).is_err() {
            return Vec::new();
        }
        if due == 0 {
            // The first interval begins now.
            return Vec::new();
        }
        let mut notices = Vec::new();
        let mut interval = Vec::with_capacity(self.slots.len());
        for (endpoint, slot) in (0..).zip(&self.slots) {
            let (tallies, returned) = slot.state.monitor.lock().interval(policy, at);
            if returned {
                slot.state.arrive(now);
                slot.state.turned();
                notices.push(Notice::Returned { endpoint });
            }
            let is_judged = !slot.is_shut() && !slot.state.monitor.lock().is_ejected();
            interval.push(is_judged.then_some(tallies));
        }
        let outliers = policy.outliers(&interval);
        notices.extend(
            outliers
                .into_iter()
                .filter_map(|(at, cause)| self.noticed(policy, EndpointId::try_from(at).ok()?, cause, now)),
        );
        notices
    }

    /// An active check has passed. Answers whether that has ended an ejection.
    pub(crate) fn check_passed(&self, id: EndpointId, now: Instant) -> bool {
        let (Policy::Outlier(policy), Some(state)) = (&self.policy, self.state(id)) else { return false };
        // One that has not passed often enough yet ends nothing.
        let counts = policy.successful_active_health_check_uneject_host && state.checked_up.load(Relaxed);
        let returned = counts && state.monitor.lock().recover();
        if returned {
            state.arrive(now);
            state.turned();
        }
        returned
    }

    /// An operator changes an endpoint.
    pub(crate) fn order(&self, id: EndpointId, order: EndpointOrder) {
        let Some(slot) = self.slot(id) else { return };
        let was_shut = slot.is_shut();
        slot.state.say(order);
        if was_shut && !slot.is_shut() {
            slot.state.arrive(Instant::now());
        }
        slot.state.turned();
    }

    /// Whether an operator or the configuration gives an endpoint no traffic and no checks.
    pub(crate) fn is_down(&self, id: EndpointId) -> bool {
        self.slot(id).is_none_or(Slot::is_down)
    }

    /// Whether an operator or the configuration gives an endpoint no new requests.
    pub(crate) fn is_draining(&self, id: EndpointId) -> bool {
        self.slot(id).is_some_and(Slot::is_draining)
    }

    /// Why an endpoint is in this state, for a reader; `None` where the state says it all.
    pub(crate) fn reason(&self, id: EndpointId, standing: Standing, now: Instant) -> Option<String> {
        let slot = self.slot(id)?;
        let state = &slot.state;
        match standing {
            Standing::Up => {
                let share = self.starting_share(id, now)?;
                Some(format!("slow start: it has {:.0} % of its weight", share * 100.0))
            }
            Standing::Down => {
                let sayings = state.sayings.lock();
                let said = sayings.down.as_ref().filter(|said| said.value);
                Some(said.map_or_else(|| "configured down".to_owned(), |said| ordered("down", &said.reason)))
            }
            Standing::Draining => {
                let sayings = state.sayings.lock();
                let said = sayings.drain.as_ref().filter(|said| said.value);
                Some(said.map_or_else(|| "configured to drain".to_owned(), |said| ordered("drain", &said.reason)))
            }
            Standing::Full => Some("it has max_connections requests".to_owned()),
            Standing::Panic => {
                let threshold = self.panic_threshold;
                let own = self.reason(id, self.standing(slot, now), now).unwrap_or_default();
                Some(format!("offered although: {own}; fewer than {threshold} % of the endpoints are healthy"))
            }
            Standing::Checking => Some("it waits for its first check".to_owned()),
            Standing::Unhealthy => Some("its active check fails".to_owned()),
            Standing::Failed => {
                let Policy::Nginx(policy) = &self.policy else { return None };
                let failures = failures(state.fails.load(Relaxed));
                Some(format!("{failures}; it is probed {} s after the last", policy.fail_timeout))
            }
            Standing::Ejected => match &self.policy {
                Policy::Outlier(_) => state.monitor.lock().cause().map(|cause| cause.to_string()),
                _ => state.circuit.lock().cause().map(|cause| cause.to_string()),
            },
            Standing::Probing { .. } => {
                let cause = state.circuit.lock().cause()?;
                Some(format!("half open after: {cause}; a few requests decide"))
            }
        }
    }

    /// Since when an endpoint has been in this state, if it ever was in another.
    pub(crate) fn since(&self, id: EndpointId, standing: Standing) -> Option<SystemTime> {
        let slot = self.slot(id)?;
        let sayings = slot.state.sayings.lock();
        match standing {
            Standing::Down => Some(sayings.down.as_ref().map_or(slot.configured, |said| said.since)),
            Standing::Draining => Some(sayings.drain.as_ref().map_or(slot.configured, |said| said.since)),
            Standing::Panic => {
                let seconds = self.common.panics_since.load(Relaxed);
                Some(UNIX_EPOCH + Duration::from_secs(seconds)).filter(|_| seconds > 0)
            }
            _ => slot.state.since(),
        }
    }

    /// Failures in a row that passive health has counted.
    pub(crate) fn fails(&self, id: EndpointId) -> u32 {
        self.state(id).map_or(0, |state| match &self.policy {
            Policy::Outlier(_) => state.monitor.lock().failures(),
            _ => state.fails.load(Relaxed),
        })
    }

    /// The state that an endpoint has by itself.
    fn standing(&self, slot: &Slot, now: Instant) -> Standing {
        let state = &*slot.state;
        let own = if slot.is_down() {
            Standing::Down
        } else if slot.is_draining() {
            Standing::Draining
        } else if !state.checked_up.load(Relaxed) {
            if state.awaits_check.load(Relaxed) { Standing::Checking } else { Standing::Unhealthy }
        } else {
            match &self.policy {
                Policy::Nginx(policy) => {
                    let fails = state.fails.load(Relaxed);
                    let is_out = fails > 0 && !state.record.lock().is_available(*policy, second(now));
                    if is_out { Standing::Failed } else { Standing::Up }
                }
                Policy::Window(policy) => {
                    let circuit = state.circuit.lock();
                    let ready = circuit.is_available(policy, moment(now));
                    match circuit.is_out() {
                        false => Standing::Up,
                        true if ready || circuit.is_half_open() => Standing::Probing { ready },
                        true => Standing::Ejected,
                    }
                }
                Policy::Outlier(_) if state.monitor.lock().is_ejected() => Standing::Ejected,
                Policy::Outlier(_) => Standing::Up,
            }
        };
        if own.is_ready() && slot.is_full() { Standing::Full } else { own }
    }

    /// Whether it counts as ill for the panic threshold. One that awaits its probe does.
    fn is_ill(&self, slot: &Slot, standing: Standing) -> bool {
        standing.is_ill()
            || match &self.policy {
                Policy::Nginx(policy) => slot.state.record.lock().is_suspect(*policy),
                Policy::Window(_) => slot.state.circuit.lock().is_out(),
                Policy::Outlier(_) => false,
            }
    }

    fn slot(&self, id: EndpointId) -> Option<&Slot> {
        self.slots.get(id as usize)
    }

    /// Somebody has to look here at this moment.
    fn due(&self, at: Duration) {
        self.next_due.fetch_min(whole_millis(at), Relaxed);
        self.changed();
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Relaxed);
    }
}

fn millis(moment: Duration) -> u64 {
    u64::try_from(moment.as_millis()).unwrap_or(u64::MAX)
}

/// The first whole millisecond that is not before a moment.
fn whole_millis(moment: Duration) -> u64 {
    u64::try_from(moment.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn failures(count: u32) -> String {
    if count == 1 { "1 failure".to_owned() } else { format!("{count} failures") }
}

fn ordered(what: &str, reason: &Option<String>) -> String {
    reason.clone().unwrap_or_else(|| format!("an operator ordered `{what}`"))
}

impl Policy {
    fn new(config: &config::Upstream) -> Self {
        match &config.passive {
            Passive::Nginx { max_fails, fail_timeout } => Self::Nginx(nginx::Policy {
                max_fails: if config.endpoints.len() == 1 { 0 } else { *max_fails },
                fail_timeout: fail_timeout.as_secs(),
            }),
            Passive::Window(policy) => Self::Window(policy.clone()),
            Passive::Outlier(policy) => Self::Outlier(policy.clone()),
        }
    }
}

impl Slot {
    fn is_down(&self) -> bool {
        self.state.said(|sayings| sayings.down.as_ref().map(|said| said.value)).unwrap_or(self.down)
    }

    fn is_draining(&self) -> bool {
        self.state.said(|sayings| sayings.drain.as_ref().map(|said| said.value)).unwrap_or(self.drain)
    }

    fn is_shut(&self) -> bool {
        self.is_down() || self.is_draining()
    }

    fn is_full(&self) -> bool {
        self.max_connections.is_some_and(|max| self.state.connections.load(Relaxed) >= max)
    }

    fn own_weight(&self) -> u32 {
        self.state.said(|sayings| sayings.weight.as_ref().map(|said| said.value)).unwrap_or(self.weight)
    }
}

#[cfg(test)]
mod tests;
