//! A plugin as a worker's balancer.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::Store;
use wasmtime::component::Instance as Linked;

use crate::http::facts::Exchange;
use crate::plugins::behind::probe;
use crate::plugins::bindings::exports::staunch::plugin::balancer as wit;
use crate::plugins::bindings::exports::staunch::plugin::feedback;
use crate::plugins::clock::{Clock, nanos};
use crate::plugins::error::{Fault, PluginError};
use crate::plugins::instance::{Feedback, Instance, Phase, SETUP_DEADLINE, State};
use crate::plugins::rebuild::{Readiness, Slot};
use crate::plugins::uses::UseCore;
use crate::upstream::balancer::{
    BadPick, Balancer, BalancerNeeds, EndpointChange, FeedbackKind, Pick, PickContext, Sample,
};
use crate::upstream::endpoint::{Endpoint, EndpointId, Loads};

/// How outcomes are handed over when a plugin does not say.
const DEFAULT_FEEDBACK: Feedback = Feedback { kind: FeedbackKind::EveryAttempt, batch: 64, max_age: 100_000_000 };

/// Samples kept while nobody takes them: the use is left out, or a fresh instance is being built.
const MOST_SAMPLES: usize = 4096;

/// An endpoint with what may change of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub endpoint: Endpoint,
    /// Whether it may have traffic now. Without effect on an endpoint that is down.
    pub ready: bool,
}

/// A balancer on its way to its worker.
pub struct ReadyBalancer(WasmBalancer);

struct WasmBalancer {
    needs: BalancerNeeds,
    live: RefCell<Live>,
}

/// A balancer's instance with what has to be told to it.
pub(super) struct Live {
    needs: BalancerNeeds,
    slot: Slot<Guest>,
    clock: Clock,
    deadline: Duration,
    table: Table,
    /// Positions in the table of what changed since the latest recipe was written.
    unheard: Vec<u32>,
    /// How the plugin itself wants to hear of outcomes.
    feedback: Option<Feedback>,
    samples: Vec<feedback::Sample>,
    /// When the oldest sample was taken, or a little earlier.
    oldest: u64,
    /// The latest moment this balancer was told.
    now: u64,
}

/// The functions of a balancer.
pub(super) struct Guest {
    balancer: wit::Guest,
    feedback: Option<feedback::Guest>,
}

/// The membership as a fresh instance has to learn it.
#[derive(Clone)]
pub(super) struct Table {
    /// Rises with every membership of the use.
    version: u64,
    pub(super) members: Arc<[Member]>,
    /// Weight and readiness now, by position in `members`.
    states: Vec<(u32, bool)>,
    /// Positions in `members`, by slot.
    positions: Arc<[Option<u32>]>,
    loads: Arc<Loads>,
}

impl ReadyBalancer {
    pub(super) fn build(
        core: Arc<UseCore>,
        worker: usize,
        members: Arc<[Member]>,
        loads: Arc<Loads>,
    ) -> Result<Self, PluginError> {
        let table = Table::new(core.next_version(), members, loads);
        probe(&core, worker, &table)?;
        let live = Live::build(core, worker, table)?;
        Ok(Self(WasmBalancer { needs: live.needs.clone(), live: RefCell::new(live) }))
    }

    /// What the plugin asked for when it was configured.
    pub fn needs(&self) -> &BalancerNeeds {
        &self.0.needs
    }

    /// The balancer, called where it stands. For who has no worker.
    pub fn as_balancer(&self) -> &dyn Balancer {
        &self.0
    }

    /// Hands another membership to the live instance, which a proxy never does: it takes a new instance.
    ///
    /// # Errors
    /// When the plugin fails.
    pub fn update(&self, members: Arc<[Member]>) -> Result<(), PluginError> {
        self.0.live.borrow_mut().update(members)
    }

    /// Hands it what the balancer before it has learned.
    ///
    /// # Errors
    /// When the plugin fails.
    pub fn restore(&mut self, state: &[u8]) -> Result<(), PluginError> {
        self.0.live.get_mut().slot.restore(state)
    }

    /// Called on the worker's thread.
    pub fn into_balancer(self) -> Rc<dyn Balancer> {
        Rc::new(self.0)
    }
}

impl Balancer for WasmBalancer {
    fn needs(&self) -> &BalancerNeeds {
        &self.needs
    }

    fn pick(&self, exchange: &mut Exchange, context: PickContext) -> Pick {
        self.live.borrow_mut().pick(exchange, context)
    }

    fn reject(&self, endpoint: EndpointId, why: BadPick) {
        self.live.borrow_mut().reject(endpoint, why);
    }

    fn change(&self, changes: &[EndpointChange]) {
        self.live.borrow_mut().change(changes);
    }

    fn observe(&self, sample: Sample) {
        self.live.borrow_mut().observe(sample);
    }

    fn save(&self) -> Option<Vec<u8>> {
        let live = &mut *self.live.borrow_mut();
        if !live.samples.is_empty() {
            live.flush();
        }
        live.slot.save()
    }

    fn tick(&self, now: Instant) {
        let live = &mut *self.live.borrow_mut();
        let now = live.clock.at(now);
        live.tick(now);
    }
}

impl Live {
    pub(super) fn build(core: Arc<UseCore>, worker: usize, table: Table) -> Result<Self, PluginError> {
        let mut instance = build(&core, worker, &table)?;
        let feedback =
            instance.guest().feedback.as_ref().map(|_| instance.asked().feedback.unwrap_or(DEFAULT_FEEDBACK));
        let own = feedback.map(|feedback| feedback.kind);
        let behind = instance.behind();
        let needs = BalancerNeeds {
            feedback: own.into_iter().chain(behind.feedback()).reduce(FeedbackKind::or),
            latency: core.plugin.reads_latency() || behind.reads_latency(),
            key: instance.asked().key.clone(),
        };
        Ok(Self {
            needs,
            clock: core.plugin.host().clock,
            now: core.now(),
            deadline: core.deadline(),
            slot: Slot::new(core, worker, instance),
            table,
            unheard: Vec::new(),
            feedback,
            samples: Vec::with_capacity(feedback.map_or(0, |feedback| feedback.batch)),
            oldest: 0,
        })
    }

    /// What the plugin asked for when it was configured.
    pub(super) fn needs(&self) -> &BalancerNeeds {
        &self.needs
    }

    pub(super) fn knows(&self, endpoint: EndpointId) -> bool {
        self.table.position(endpoint).is_some()
    }

    /// Whether an endpoint may have traffic; `None` when there is no such endpoint.
    pub(super) fn is_ready(&self, endpoint: EndpointId) -> Option<bool> {
        self.table.position(endpoint).map(|at| self.table.states[at].1)
    }

    /// Counts a pick that could not be used.
    pub(super) fn reject(&mut self, endpoint: EndpointId, why: BadPick) {
        let what = match why {
            BadPick::Unknown => "does not exist",
            BadPick::NotReady => "may have no traffic",
        };
        self.fault(&Fault::answer(format!("it picked endpoint {endpoint}, which {what}")));
        self.slot.share.fall_back();
    }

    pub(super) fn tick(&mut self, now: u64) {
        self.now = now;
        if self.ready() && self.is_feedback_due() {
            self.flush();
        }
        if let Some(instance) = self.slot.live() {
            instance.behind().tick(now);
        }
    }

    pub(super) fn pick(&mut self, exchange: &mut Exchange, context: PickContext) -> Pick {
        self.now = self.clock.at(context.now);
        let began = self.slot.share.begin();
        if let Some(instance) = self.slot.live() {
            instance.behind().begin(context);
        }
        let context = wit::PickContext {
            key: context.key,
            random: context.random,
            now: self.now,
            attempt: context.attempt,
            previous: context.previous,
        };
        match self.answer(exchange, context) {
            Some(Ok(id)) => {
                self.slot.share.end(began);
                Pick::Endpoint(id)
            }
            Some(Err(wit::PickError::Unavailable)) => Pick::Unavailable,
            Some(Err(wit::PickError::Overloaded)) => Pick::Overloaded,
            None => {
                self.slot.share.fall_back();
                Pick::Abstain
            }
        }
    }

    fn answer(
        &mut self,
        exchange: &mut Exchange,
        context: wit::PickContext,
    ) -> Option<Result<EndpointId, wit::PickError>> {
        if !self.ready() {
            return None;
        }
        if self.is_feedback_due() {
            self.flush();
        }
        let picked = self
            .slot
            .live()?
            .call_with(exchange, Phase::Pick, self.deadline, |guest, store| guest.balancer.call_pick(store, context));
        picked.map_err(|fault| self.fault(&fault)).ok()
    }

    /// Whether there is an instance to call. Takes up a fresh one, and tells it what changed meanwhile.
    #[inline]
    fn ready(&mut self) -> bool {
        let Self { slot, table, unheard, .. } = self;
        let readiness = slot.ready(|core, worker| {
            unheard.clear();
            let (core, table) = (core.clone(), table.clone());
            Box::new(move || build(&core, worker, &table))
        });
        match readiness {
            Readiness::Live => true,
            Readiness::Fresh => self.tell(),
            Readiness::Absent => false,
        }
    }

    fn update(&mut self, members: Arc<[Member]>) -> Result<(), PluginError> {
        let core = self.slot.core.clone();
        self.table = Table::new(core.next_version(), members, self.table.loads.clone());
        self.unheard.clear();
        self.slot.live().map_or(Ok(()), |instance| update(&core, instance, &self.table))
    }

    pub(super) fn change(&mut self, changes: &[EndpointChange]) {
        for change in changes {
            let Some(at) = self.table.position(change.id) else { continue };
            if self.table.states[at] == (change.weight, change.ready) {
                continue;
            }
            self.table.states[at] = (change.weight, change.ready);
            self.unheard.push(at as u32);
        }
        if self.unheard.len() > 2 * self.table.members.len() {
            self.unheard.sort_unstable();
            self.unheard.dedup();
        }
        if !self.unheard.is_empty() {
            self.tell();
        }
    }

    /// Tells the instance what changed, if there is one. Whether there still is one.
    fn tell(&mut self) -> bool {
        let Some(instance) = self.slot.live() else { return false };
        if self.unheard.is_empty() {
            return true;
        }
        self.unheard.sort_unstable();
        self.unheard.dedup();
        let changes: Vec<_> = self.unheard.drain(..).map(|at| self.table.now(at as usize)).collect();
        instance.behind().change(&changes);
        let changes: Vec<_> = changes
            .into_iter()
            .map(|EndpointChange { id, weight, ready }| wit::EndpointChange { id, weight, ready })
            .collect();
        let told =
            instance.call(Phase::Other, self.deadline, |guest, store| guest.balancer.call_change(store, &changes));
        told.map_err(|fault| self.fault(&fault)).is_ok()
    }

    pub(super) fn observe(&mut self, sample: Sample) {
        if let Some(instance) = self.slot.live() {
            instance.behind().observe(sample);
        }
        if !self.feedback.is_some_and(|feedback| feedback.kind.includes(&sample)) {
            return;
        }
        if self.samples.is_empty() {
            self.oldest = self.now;
        }
        self.samples.push(feedback::Sample {
            latency: nanos(sample.latency),
            endpoint: sample.endpoint,
            status: u32::from(sample.status),
            penalty: sample.penalty,
        });
        if self.samples.len() >= MOST_SAMPLES {
            self.samples.clear();
        }
    }

    #[inline]
    fn is_feedback_due(&self) -> bool {
        !self.samples.is_empty()
            && self.feedback.is_some_and(|feedback| {
                self.samples.len() >= feedback.batch || self.now.saturating_sub(self.oldest) >= feedback.max_age
            })
    }

    /// Hands the samples over.
    fn flush(&mut self) {
        if let Some(instance) = self.slot.live() {
            let handed = instance.call(Phase::Other, self.deadline, |guest, store| match &guest.feedback {
                Some(feedback) => feedback.call_observe(store, &self.samples),
                None => Ok(()),
            });
            if let Err(fault) = handed {
                self.fault(&fault);
            }
        }
        self.samples.clear();
    }

    fn fault(&mut self, fault: &Fault) {
        self.slot.fault(fault);
    }
}

/// A configured instance that knows the membership.
fn build(core: &Arc<UseCore>, worker: usize, table: &Table) -> Result<Instance<Guest>, PluginError> {
    let mut instance = Instance::build(core, worker, Some(table.loads.clone()), bind)?;
    update(core, &mut instance, table)?;
    Ok(instance)
}

fn update(core: &UseCore, instance: &mut Instance<Guest>, table: &Table) -> Result<(), PluginError> {
    let endpoints = table.endpoints();
    if core.behind.is_some() {
        instance.behind().expect(table);
    }
    instance
        .call(Phase::Update, SETUP_DEADLINE, |guest, store| {
            guest.balancer.call_update(store, table.version, &endpoints)
        })
        .map_err(|fault| core.failed("update", fault))
}

fn bind(core: &UseCore, store: &mut Store<State>, linked: &Linked) -> wasmtime::Result<Guest> {
    let pre = core.plugin.pre();
    let balancer = wit::GuestIndices::new(pre)?.load(&mut *store, linked)?;
    let feedback = match core.plugin.exports().feedback {
        true => Some(feedback::GuestIndices::new(pre)?.load(&mut *store, linked)?),
        false => None,
    };
    Ok(Guest { balancer, feedback })
}

impl Table {
    fn new(version: u64, members: Arc<[Member]>, loads: Arc<Loads>) -> Self {
        let states = members.iter().map(|m| (m.endpoint.weight, m.ready && !m.endpoint.down)).collect();
        let positions = positions(&members);
        Self { version, members, states, positions, loads }
    }

    /// The part of the membership that has these slots.
    pub(super) fn part(&self, slots: &[EndpointId]) -> Self {
        let mut at: Vec<_> = slots.iter().filter_map(|&slot| self.position(slot)).collect();
        at.sort_unstable();
        at.dedup();
        let members: Arc<[Member]> = at.iter().map(|&at| self.members[at].clone()).collect();
        let states = at.iter().map(|&at| self.states[at]).collect();
        let positions = positions(&members);
        Self { version: self.version, members, states, positions, loads: self.loads.clone() }
    }

    /// How the member at a position stands now.
    fn now(&self, at: usize) -> EndpointChange {
        let (weight, ready) = self.states[at];
        EndpointChange { id: self.members[at].endpoint.id, weight, ready }
    }

    fn position(&self, slot: EndpointId) -> Option<usize> {
        self.positions.get(slot as usize)?.map(|at| at as usize)
    }

    fn endpoints(&self) -> Vec<wit::Endpoint> {
        let each = self.members.iter().zip(&self.states);
        each.map(|(Member { endpoint, .. }, &(weight, ready))| wit::Endpoint {
            id: endpoint.id,
            address: endpoint.address.as_ref().to_owned(),
            weight,
            priority: endpoint.priority,
            zone: endpoint.zone.clone(),
            ready,
            labels: endpoint.labels.clone(),
        })
        .collect()
    }
}

/// Where the member of each slot stands.
fn positions(members: &[Member]) -> Arc<[Option<u32>]> {
    let slots = members.iter().map(|member| member.endpoint.id as usize + 1).max().unwrap_or(0);
    let mut positions = vec![None; slots];
    for (at, member) in (0..).zip(members) {
        positions[member.endpoint.id as usize] = Some(at);
    }
    positions.into()
}
