//! A plugin as a worker's balancer.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::Store;
use wasmtime::component::Instance as Linked;

use crate::http::facts::Exchange;
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
    inner: RefCell<Inner>,
}

struct Inner {
    slot: Slot<Guest>,
    clock: Clock,
    deadline: Duration,
    table: Table,
    /// What changed since the latest recipe was written.
    unheard: Vec<wit::EndpointChange>,
    feedback: Option<Feedback>,
    samples: Vec<feedback::Sample>,
    /// When the oldest sample was taken, or a little earlier.
    oldest: u64,
    /// The latest moment this balancer was told.
    now: u64,
}

/// The functions of a balancer.
struct Guest {
    balancer: wit::Guest,
    feedback: Option<feedback::Guest>,
}

/// The membership as a fresh instance has to learn it.
#[derive(Clone)]
struct Table {
    /// Rises with every membership of the use.
    version: u64,
    members: Arc<[Member]>,
    /// Weight and readiness now, by position in `members`.
    states: Vec<(u32, bool)>,
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
        let instance = build(&core, worker, &table)?;
        let feedback =
            instance.guest().feedback.as_ref().map(|_| instance.asked().feedback.unwrap_or(DEFAULT_FEEDBACK));
        let needs = BalancerNeeds {
            key: instance.asked().key.clone(),
            feedback: feedback.map(|feedback| feedback.kind),
            latency: core.plugin.reads_latency(),
        };
        let clock = core.plugin.host().clock;
        let inner = Inner {
            clock,
            deadline: core.deadline(),
            slot: Slot::new(core, worker, instance),
            table,
            unheard: Vec::new(),
            feedback,
            samples: Vec::with_capacity(feedback.map_or(0, |feedback| feedback.batch)),
            oldest: 0,
            now: clock.now(),
        };
        Ok(Self(WasmBalancer { needs, inner: RefCell::new(inner) }))
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
        self.0.inner.borrow_mut().update(members)
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
        self.inner.borrow_mut().pick(exchange, context)
    }

    fn reject(&self, endpoint: EndpointId, why: BadPick) {
        let what = match why {
            BadPick::Unknown => "does not exist",
            BadPick::NotReady => "may have no traffic",
        };
        let inner = &mut *self.inner.borrow_mut();
        inner.fault(&Fault::answer(format!("it picked endpoint {endpoint}, which {what}")));
        inner.slot.share.fall_back();
    }

    fn change(&self, changes: &[EndpointChange]) {
        self.inner.borrow_mut().change(changes);
    }

    fn observe(&self, sample: Sample) {
        self.inner.borrow_mut().observe(sample);
    }

    fn tick(&self, now: Instant) {
        let inner = &mut *self.inner.borrow_mut();
        inner.now = inner.clock.at(now);
        if inner.ready() && inner.is_feedback_due() {
            inner.flush();
        }
    }
}

impl Inner {
    fn pick(&mut self, exchange: &mut Exchange, context: PickContext) -> Pick {
        self.now = self.clock.at(context.now);
        let began = self.slot.share.begin();
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
        let (version, endpoints) = (self.table.version, self.table.endpoints());
        let Some(instance) = self.slot.live() else { return Ok(()) };
        instance
            .call(Phase::Other, SETUP_DEADLINE, |guest, store| guest.balancer.call_update(store, version, &endpoints))
            .map_err(|fault| core.failed("update", fault))
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        for change in changes {
            let Some(at) = self.table.members.iter().position(|m| m.endpoint.id == change.id) else { continue };
            let ready = change.ready && !self.table.members[at].endpoint.down;
            self.table.states[at] = (change.weight, ready);
            self.unheard.retain(|earlier| earlier.id != change.id);
            self.unheard.push(wit::EndpointChange { id: change.id, weight: change.weight, ready });
        }
        self.tell();
    }

    /// Tells the instance what changed, if there is one. Whether there still is one.
    fn tell(&mut self) -> bool {
        let Some(instance) = self.slot.live() else { return false };
        if self.unheard.is_empty() {
            return true;
        }
        let told =
            instance.call(Phase::Other, self.deadline, |guest, store| guest.balancer.call_change(store, &self.unheard));
        self.unheard.clear();
        told.map_err(|fault| self.fault(&fault)).is_ok()
    }

    fn observe(&mut self, sample: Sample) {
        if self.feedback.is_none() {
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
    let endpoints = table.endpoints();
    instance
        .call(Phase::Other, SETUP_DEADLINE, |guest, store| guest.balancer.call_update(store, table.version, &endpoints))
        .map_err(|fault| core.failed("update", fault))?;
    Ok(instance)
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
        Self { version, members, states, loads }
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
