//! A plugin as a worker's retry policy.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::Store;
use wasmtime::component::Instance as Linked;

use crate::http::facts::Exchange;
use crate::plugins::bindings::exports::staunch::plugin::retry as wit;
use crate::plugins::bindings::staunch::plugin::types;
use crate::plugins::clock::nanos;
use crate::plugins::error::PluginError;
use crate::plugins::instance::{Instance, Phase, State};
use crate::plugins::rebuild::{Readiness, Slot};
use crate::plugins::uses::UseCore;
use crate::upstream::retry::{EndedAttempt, Failure, MethodKind, Outcome, RetryNeeds, RetryPlan, RetryPolicy};

/// A retry policy on its way to its worker.
pub struct ReadyRetry(WasmRetry);

struct WasmRetry {
    needs: RetryNeeds,
    deadline: Duration,
    slot: RefCell<Slot<wit::Guest>>,
}

impl ReadyRetry {
    pub(super) fn build(core: Arc<UseCore>, worker: usize) -> Result<Self, PluginError> {
        let instance = build(&core, worker)?;
        let asked = instance.asked();
        let needs = RetryNeeds {
            statuses: asked.statuses.clone(),
            fields: asked.response_fields.clone(),
            non_idempotent: asked.non_idempotent,
        };
        let deadline = core.deadline();
        Ok(Self(WasmRetry { needs, deadline, slot: RefCell::new(Slot::new(core, worker, instance)) }))
    }

    /// What the plugin asked for when it was configured.
    pub fn needs(&self) -> &RetryNeeds {
        &self.0.needs
    }

    /// Hands it what the policy before it has learned.
    ///
    /// # Errors
    /// When the plugin fails.
    pub fn restore(&mut self, state: &[u8]) -> Result<(), PluginError> {
        self.0.slot.get_mut().restore(state)
    }

    /// Called on the worker's thread.
    pub fn into_policy(self) -> Rc<dyn RetryPolicy> {
        Rc::new(self.0)
    }
}

impl RetryPolicy for WasmRetry {
    fn needs(&self) -> &RetryNeeds {
        &self.needs
    }

    fn decide(&self, exchange: &mut Exchange, attempt: EndedAttempt) -> Option<RetryPlan> {
        let slot = &mut *self.slot.borrow_mut();
        let began = slot.share.begin();
        let decided = self.ask(slot, exchange, attempt_context(attempt));
        match decided {
            Some(_) => slot.share.end(began),
            None => slot.share.fall_back(),
        }
        let plan = decided??;
        Some(RetryPlan { delay: Duration::from_nanos(plan.delay), elsewhere: plan.elsewhere })
    }

    fn save(&self) -> Option<Vec<u8>> {
        self.slot.borrow_mut().save()
    }
}

impl WasmRetry {
    /// The plugin's decision; `None` when it has none.
    fn ask(
        &self,
        slot: &mut Slot<wit::Guest>,
        exchange: &mut Exchange,
        context: wit::AttemptContext,
    ) -> Option<Option<wit::RetryPlan>> {
        let readiness = slot.ready(|core, worker| {
            let core = core.clone();
            Box::new(move || build(&core, worker))
        });
        if readiness == Readiness::Absent {
            return None;
        }
        let decided = slot
            .live()?
            .call_with(exchange, Phase::Decide, self.deadline, |guest, store| guest.call_decide(store, context));
        decided.map_err(|fault| slot.fault(&fault)).ok()
    }
}

fn build(core: &Arc<UseCore>, worker: usize) -> Result<Instance<wit::Guest>, PluginError> {
    Instance::build(core, worker, None, bind)
}

fn bind(core: &UseCore, store: &mut Store<State>, linked: &Linked) -> wasmtime::Result<wit::Guest> {
    wit::GuestIndices::new(core.plugin.pre())?.load(store, linked)
}

fn attempt_context(attempt: EndedAttempt) -> wit::AttemptContext {
    wit::AttemptContext {
        outcome: match attempt.outcome {
            Outcome::Status(status) => types::Outcome::Status(status),
            Outcome::Failed(failure) => types::Outcome::Failed(match failure {
                Failure::Connect => types::Failure::Connect,
                Failure::ConnectTimeout => types::Failure::ConnectTimeout,
                Failure::Tls => types::Failure::Tls,
                Failure::Reset => types::Failure::Reset,
                Failure::SendTimeout | Failure::ResponseTimeout => types::Failure::ResponseTimeout,
                Failure::Protocol => types::Failure::Protocol,
                Failure::Overload => types::Failure::Overload,
            }),
        },
        endpoint: attempt.endpoint,
        attempt: attempt.attempt,
        method: match attempt.method {
            MethodKind::Safe => wit::MethodKind::Safe,
            MethodKind::Idempotent => wit::MethodKind::Idempotent,
            MethodKind::Other => wit::MethodKind::Other,
        },
        sent: attempt.sent,
        elapsed: nanos(attempt.elapsed),
        remaining: attempt.remaining.map(nanos),
        budget: attempt.budget,
        retry_after: attempt.retry_after.map(nanos),
        random: attempt.random,
    }
}
