//! A worker's place for an instance, and the thread that fills it again after a fault.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;

use tracing::error;

use crate::plugins::budget::CpuBudget;
use crate::plugins::error::{Fault, PluginError};
use crate::plugins::faults::Cause;
use crate::plugins::instance::Instance;
use crate::plugins::uses::{UseCore, WorkerShare};

/// Makes an instance, configured and up to date. Runs off the request path.
pub(super) type Recipe<G> = Box<dyn FnOnce() -> Result<Instance<G>, PluginError> + Send>;

type Job = Box<dyn FnOnce() + Send>;

/// The thread that builds instances, and drops the ones that failed, one after the other. It ends with its host.
pub(super) struct Builder(Sender<Job>);

impl Builder {
    pub(super) fn start() -> Result<Self, PluginError> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let run = move || {
            for job in jobs {
                // A job that is lost leaves its slot to ask again.
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    error!("building a plugin instance panicked: this is a bug of the proxy");
                }
            }
        };
        thread::Builder::new()
            .name("plugin-builder".into())
            .spawn(run)
            .map_err(|error| PluginError::Engine { message: format!("no thread for plugins: {error}") })?;
        Ok(Self(sender))
    }

    fn submit(&self, job: impl FnOnce() + Send + 'static) {
        // The thread lives as long as this sender.
        let _ = self.0.send(Box::new(job));
    }
}

/// A worker's place for an instance of a use.
pub(super) struct Slot<G: Send + 'static> {
    pub(super) core: Arc<UseCore>,
    pub(super) share: Arc<WorkerShare>,
    budget: Option<CpuBudget>,
    live: Option<Instance<G>>,
    coming: Option<Receiver<Instance<G>>>,
    /// Which instance this is.
    generation: u64,
}

/// Whether there is an instance to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Live,
    /// There is one from now on. It does not know what changed since its recipe was written.
    Fresh,
    /// There is none, or it is left out: the policy of the use answers.
    Absent,
}

impl<G: Send + 'static> Slot<G> {
    pub(super) fn new(core: Arc<UseCore>, worker: usize, live: Instance<G>) -> Self {
        let share = core.share_of(worker);
        let budget = core.plugin.limits().cpu.map(|cpu| CpuBudget::new(cpu, share.busy()));
        Self { core, share, budget, live: Some(live), coming: None, generation: 0 }
    }

    /// Whether there is an instance to call. When there is none and none is being built, `recipe` is asked for one.
    #[inline]
    pub(super) fn ready(&mut self, recipe: impl FnOnce(&Arc<UseCore>, usize) -> Recipe<G>) -> Readiness {
        if self.core.is_tripped() || self.is_over_budget() {
            return Readiness::Absent;
        }
        if self.live.is_some() { Readiness::Live } else { self.revive(recipe) }
    }

    #[inline]
    fn is_over_budget(&mut self) -> bool {
        let Some(budget) = &mut self.budget else { return false };
        let now = self.core.plugin.host().clock.now();
        let is_over = budget.is_over(now, self.share.busy());
        if let Some(instance) = &mut self.live {
            instance.meter();
        }
        if is_over {
            self.share.throttle();
            self.core.throttled(now, self.share.worker);
        }
        is_over
    }

    /// The instance, if there is one.
    pub(super) fn live(&mut self) -> Option<&mut Instance<G>> {
        self.live.as_mut()
    }

    /// The instance, if it is still this one.
    pub(super) fn still(&mut self, generation: u64) -> Option<&mut Instance<G>> {
        self.live.as_mut().filter(|_| self.generation == generation)
    }

    /// Which instance there is: another number for every one.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Throws the instance away and counts the fault.
    #[cold]
    pub(super) fn fault(&mut self, fault: &Fault) {
        self.discard();
        self.core.fault(fault);
    }

    /// Drops the instance elsewhere: to unmap its memory takes a while.
    fn discard(&mut self) {
        if let Some(dead) = self.live.take() {
            self.core.plugin.host().builder.submit(move || drop(dead));
        }
    }

    #[cold]
    fn revive(&mut self, recipe: impl FnOnce(&Arc<UseCore>, usize) -> Recipe<G>) -> Readiness {
        match self.coming.as_ref().map(Receiver::try_recv) {
            Some(Ok(instance)) => {
                self.live = Some(instance);
                self.coming = None;
                self.generation += 1;
                return Readiness::Fresh;
            }
            Some(Err(TryRecvError::Empty)) => return Readiness::Absent,
            // The build failed, which was counted as a fault.
            Some(Err(TryRecvError::Disconnected)) | None => {}
        }
        let (sender, coming) = mpsc::sync_channel(1);
        self.coming = Some(coming);
        let (core, recipe) = (self.core.clone(), recipe(&self.core, self.share.worker));
        self.core.plugin.host().builder.submit(move || match recipe() {
            // Nobody may be waiting any more.
            Ok(instance) => drop(sender.send(instance)),
            Err(error) => core.fault(&rebuild_fault(error)),
        });
        Readiness::Absent
    }
}

impl<G: Send + 'static> Drop for Slot<G> {
    fn drop(&mut self) {
        self.discard();
    }
}

fn rebuild_fault(error: PluginError) -> Fault {
    match error {
        PluginError::Failed { during, fault, .. } => {
            Fault { cause: fault.cause, message: format!("in `{during}` of a fresh instance: {}", fault.message) }
        }
        other => Fault { cause: Cause::Refused, message: other.to_string() },
    }
}
