//! One balancer with a membership, loads and a clock of our making: it hears of everything as a proxy would tell it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::author::people;
use crate::author::subject::Subject;
use crate::http::facts::{Exchange, Facts};
use crate::plugins::{Cause, Cost, Kind, Member, PluginError, ReadyBalancer, Simulation, Use};
use crate::upstream::balancer::{BalancerNeeds, EndpointChange, FeedbackKind, Pick, PickContext, Sample};
use crate::upstream::endpoint::{Endpoint, EndpointId, Loads};

/// How long after the epoch a simulation begins, for who looks at the wall: a day in 2025.
pub(super) const EPOCH: Duration = Duration::from_secs(1_750_000_000);

pub(super) struct Rig {
    pub(super) simulation: Arc<Simulation>,
    pub(super) members: Vec<Member>,
    pub(super) loads: Arc<Loads>,
    used: Use,
    ready: ReadyBalancer,
    pub(super) exchange: Exchange,
}

/// A call that ended badly, and whose.
#[derive(Clone, Debug)]
pub(super) struct Broke {
    pub(super) cause: Cause,
    pub(super) message: String,
}

/// What a request asks of a balancer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    /// Who asks: the same person has the same key.
    pub(super) who: u64,
    pub(super) random: u64,
    /// Where this request has been sent to.
    pub(super) tried: &'a [EndpointId],
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) latency: Duration,
    /// 0 when no response came.
    pub(super) status: u16,
}

impl End {
    pub(super) const WELL: Self = Self { latency: Duration::from_millis(1), status: 200 };
    pub(super) const FAILED: Self = Self { latency: Duration::from_millis(1), status: 0 };
}

/// A world that begins now.
pub(super) fn world(seed: u64) -> Arc<Simulation> {
    Arc::new(Simulation::new(Instant::now(), EPOCH, seed))
}

/// Endpoints with these weights, in slots from 0 on, ready.
pub(super) fn members(weights: &[u32]) -> Vec<Member> {
    (0..).zip(weights).map(|(id, &weight)| member(id, weight)).collect()
}

pub(super) fn member(id: EndpointId, weight: u32) -> Member {
    let endpoint = Endpoint {
        id,
        address: format!("10.{}.{}.{}:80", id >> 16 & 255, id >> 8 & 255, id & 255).into(),
        weight,
        priority: 0,
        zone: None,
        labels: Vec::new(),
        down: false,
    };
    Member { endpoint, ready: true }
}

impl Rig {
    /// A fresh use of the subject. There are loads for `slots` endpoints of this worker, and of another.
    pub(super) fn new(
        subject: &Subject,
        simulation: &Arc<Simulation>,
        members: Vec<Member>,
        slots: usize,
    ) -> Result<Self, Broke> {
        let used = subject.simulate(Kind::Balancer, simulation.clone()).map_err(Broke::from)?;
        let loads = Arc::new(Loads::new(2, slots));
        let ready = used.balancer(0, members.clone().into(), loads.clone()).map_err(Broke::from)?;
        let exchange = Exchange::new(Facts::new(None, false));
        Ok(Self { simulation: simulation.clone(), members, loads, used, ready, exchange })
    }

    /// Endpoints of these weights, and a world of their own.
    pub(super) fn of(subject: &Subject, seed: u64, weights: &[u32]) -> Result<Self, Broke> {
        Self::new(subject, &world(seed), members(weights), weights.len())
    }

    pub(super) fn needs(&self) -> &BalancerNeeds {
        self.ready.needs()
    }

    pub(super) fn cost(&self) -> Cost {
        self.simulation.cost()
    }

    pub(super) fn pick(&mut self, ask: Ask<'_>) -> Result<Pick, Broke> {
        people::ask(&mut self.exchange, ask.who, &self.ready.needs().key);
        self.exchange.tried.extend_from_slice(ask.tried);
        self.pick_here(ask.random)
    }

    /// A pick for the request that stands in the exchange.
    pub(super) fn pick_here(&mut self, random: u64) -> Result<Pick, Broke> {
        self.exchange.appended.clear();
        let context = PickContext {
            key: people::read_key(&mut self.exchange, &self.ready.needs().key),
            random,
            now: self.simulation.now(),
            attempt: self.exchange.tried.len() as u32,
            previous: self.exchange.tried.last().copied(),
        };
        match self.ready.as_balancer().pick(&mut self.exchange, context) {
            Pick::Abstain => Err(self.broke()),
            pick => Ok(pick),
        }
    }

    /// Tells of weights and readiness.
    pub(super) fn change(&mut self, changes: &[EndpointChange]) -> Result<(), Broke> {
        for change in changes {
            if let Some(member) = self.members.iter_mut().find(|member| member.endpoint.id == change.id) {
                (member.endpoint.weight, member.ready) = (change.weight, change.ready);
            }
        }
        self.ready.as_balancer().change(changes);
        self.check()
    }

    pub(super) fn set_ready(&mut self, id: EndpointId, ready: bool) -> Result<(), Broke> {
        let weight = self.members.iter().find(|m| m.endpoint.id == id).map_or(1, |m| m.endpoint.weight);
        self.change(&[EndpointChange { id, weight, ready }])
    }

    /// Hands another membership to the same instance.
    pub(super) fn update(&mut self, members: Vec<Member>) -> Result<(), Broke> {
        self.members = members;
        self.ready.update(self.members.clone().into()).map_err(Broke::from)
    }

    /// Hands another membership to a fresh instance of the same use, which takes over, what was learned included: what
    /// a proxy does.
    pub(super) fn swap(&mut self, members: Vec<Member>) -> Result<(), Broke> {
        let learned = self.ready.as_balancer().save();
        self.check()?;
        let mut fresh = self.used.balancer(0, members.clone().into(), self.loads.clone())?;
        if let Some(learned) = learned {
            fresh.restore(&learned)?;
        }
        (self.ready, self.members) = (fresh, members);
        Ok(())
    }

    /// An attempt goes out.
    pub(super) fn enter(&self, id: EndpointId) {
        self.loads.enter(0, id);
    }

    /// An attempt has ended, and who asked for it hears of it.
    pub(super) fn leave(&mut self, id: EndpointId, end: End) -> Result<(), Broke> {
        self.loads.leave(0, id);
        let weight = self.members.iter().find(|m| m.endpoint.id == id).map_or(1, |m| m.endpoint.weight);
        self.observe(id, end, if end.status == 0 { weight } else { 0 });
        Ok(())
    }

    /// How an attempt ended, and what passive health takes from the endpoint's weight for it.
    pub(super) fn observe(&mut self, id: EndpointId, end: End, penalty: u32) {
        let needs = self.ready.needs();
        if needs.latency && end.status > 0 {
            self.loads.observe_latency(0, id, end.latency);
        }
        let failed = end.status == 0 || penalty > 0;
        let wanted = match needs.feedback {
            Some(FeedbackKind::EveryAttempt) => true,
            Some(FeedbackKind::Failures) => failed,
            None => false,
        };
        if wanted {
            let (latency, status) = (end.latency, end.status);
            let sample = Sample { endpoint: id, latency, status, failed, penalty };
            self.ready.as_balancer().observe(sample);
        }
    }

    pub(super) fn wait(&mut self, time: Duration) -> Result<(), Broke> {
        self.simulation.advance(time);
        if time >= Duration::from_millis(100) {
            self.ready.as_balancer().tick(self.simulation.now());
            return self.check();
        }
        Ok(())
    }

    /// Whether there was no fault so far.
    fn check(&self) -> Result<(), Broke> {
        fault_of(&self.used).map_or(Ok(()), Err)
    }

    /// The fault there was.
    fn broke(&self) -> Broke {
        let none = || Broke { cause: Cause::Answer, message: "it gave no answer".to_owned() };
        fault_of(&self.used).unwrap_or_else(none)
    }
}

/// The first fault of a use, if there was one.
pub(super) fn fault_of(used: &Use) -> Option<Broke> {
    let status = used.status();
    let (cause, _) = status.faults.iter().find(|(_, count)| *count > 0)?;
    Some(Broke { cause: *cause, message: status.last_fault.unwrap_or_default() })
}

impl From<PluginError> for Broke {
    fn from(error: PluginError) -> Self {
        match error {
            PluginError::Failed { during, fault, .. } => {
                Self { cause: fault.cause, message: format!("in `{during}`: {}", fault.message) }
            }
            other => Self { cause: Cause::Refused, message: other.to_string() },
        }
    }
}
