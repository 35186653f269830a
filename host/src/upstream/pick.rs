//! Which endpoint a request goes to: the balancer names one, the host sees to it that it may.

use tokio::time::Instant;

use crate::http::facts::Exchange;
use crate::upstream::Upstream;
use crate::upstream::balancer::{BadPick, EndpointChange, Pick, PickContext};
use crate::upstream::endpoint::{Endpoint, EndpointId};
use crate::upstream::health::Standing;
use crate::upstream::key;
use crate::upstream::lane::InFlight;

/// How often a balancer is asked again that names what was tried before.
const ASKS: usize = 3;

/// One endpoint as this worker sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) standing: Standing,
    /// As balancers are told of it.
    pub(super) weight: u32,
}

/// Why no endpoint was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotPicked {
    NoEndpoint,
    /// One would do if it had not as many requests as it may.
    Full,
    /// The balancer wanted none to have it.
    Overloaded,
}

impl Upstream {
    /// Names an endpoint that is ready, and untried if there is one.
    pub(super) fn pick(
        &self,
        exchange: &mut Exchange,
        attempt: u32,
        now: Instant,
    ) -> Result<(EndpointId, InFlight), NotPicked> {
        let no_endpoint = || if self.is_full() { NotPicked::Full } else { NotPicked::NoEndpoint };
        let key = exchange.key.as_deref().map(key::hash);
        let balancer = self.balancer.get();
        if attempt > 0 && self.has_better(exchange) {
            // A panic spreads requests over all endpoints; who failed by it goes to one that is well.
            if let Some(picked) = self.fall_back(exchange, now, Standing::is_well) {
                return Ok(picked);
            }
        }
        for _ in 0..ASKS {
            self.refresh(now);
            if !self.has_ready() {
                return Err(no_endpoint());
            }
            exchange.appended.clear();
            let previous = exchange.tried.last().copied();
            let context = PickContext { key, random: fastrand::u64(..), now, attempt, previous };
            let id = match balancer.pick(exchange, context) {
                Pick::Endpoint(id) => id,
                Pick::Unavailable => return Err(no_endpoint()),
                Pick::Overloaded => return Err(NotPicked::Overloaded),
                Pick::Abstain => break,
            };
            match self.is_ready(id) {
                Some(true) => {}
                Some(false) => {
                    balancer.reject(id, BadPick::NotReady);
                    break;
                }
                None => {
                    balancer.reject(id, BadPick::Unknown);
                    break;
                }
            }
            if exchange.tried.contains(&id) && self.has_untried(exchange) {
                continue;
            }
            if let Some(in_flight) = self.enter(id, now) {
                return Ok((id, in_flight));
            }
        }
        self.fall_back(exchange, now, Standing::is_ready).ok_or_else(no_endpoint)
    }

    /// The host's own choice of those that will do: among what was not tried, then among what was.
    fn fall_back(
        &self,
        exchange: &Exchange,
        now: Instant,
        will_do: impl Fn(Standing) -> bool,
    ) -> Option<(EndpointId, InFlight)> {
        for _ in 0..ASKS {
            self.refresh(now);
            let views = self.views.borrow();
            let is_ready = |id: EndpointId| views.get(id as usize).is_some_and(|view| will_do(view.standing));
            let weight = |endpoint: &Endpoint| views.get(endpoint.id as usize).map_or(1, |view| view.weight);
            let mut fallback = self.fallback.borrow_mut();
            let endpoints = &self.shared.endpoints;
            let id = fallback
                .pick_weighted(endpoints, weight, |id| is_ready(id) && !exchange.tried.contains(&id))
                .or_else(|| fallback.pick_weighted(endpoints, weight, is_ready))?;
            drop((views, fallback));
            if let Some(in_flight) = self.enter(id, now) {
                return Some((id, in_flight));
            }
        }
        None
    }

    /// Counts a request in; `None` when the endpoint has become full, or its probe has been sent already.
    fn enter(&self, id: EndpointId, now: Instant) -> Option<InFlight> {
        let entered = self.shared.health.enter(id, self.panics(id), now)?;
        Some(self.lanes[id as usize].enter(entered))
    }

    /// Brings this worker's view up to date if something has happened, and the balancer's with it.
    pub(crate) fn refresh(&self, now: Instant) {
        if self.shared.health.is_stale(self.seen.get(), now) {
            self.look(now);
        }
    }

    /// Brings this worker's view up to date, and the balancer's with it.
    pub(super) fn look(&self, now: Instant) {
        let health = &self.shared.health;
        health.reschedule(now);
        self.seen.set(health.generation());
        let standings = health.standings(now);
        let mut grows = false;
        let mut changes = Vec::new();
        for ((id, view), &standing) in (0..).zip(self.views.borrow_mut().iter_mut()).zip(&standings) {
            let (weight, still_grows) = match self.plain_weights {
                true => (health.own_weight(id), false),
                false => health.weight(id, now),
            };
            grows |= still_grows;
            let known = std::mem::replace(view, View { standing, weight });
            if known.change(id) != view.change(id) {
                changes.push(view.change(id));
            }
            if known.standing.is_shut() != standing.is_shut() {
                self.lanes[id as usize].keep_idle(!standing.is_shut());
            }
        }
        self.grows.set(grows);
        if !changes.is_empty() {
            self.balancer.get().change(&changes);
        }
        let panicking = standings.iter().filter(|standing| **standing == Standing::Panic).count();
        if health.notes_panic(panicking > 0) {
            self.metrics.panicked(panicking, standings.len());
        }
    }

    fn is_ready(&self, id: EndpointId) -> Option<bool> {
        self.views.borrow().get(id as usize).map(|view| view.standing.is_ready())
    }

    /// Whether an endpoint has traffic only because too few are well.
    pub(super) fn panics(&self, id: EndpointId) -> bool {
        self.views.borrow().get(id as usize).is_some_and(|view| view.standing == Standing::Panic)
    }

    /// Whether there is a panic, and an endpoint that is well and untried all the same.
    pub(super) fn has_better(&self, exchange: &Exchange) -> bool {
        let views = self.views.borrow();
        views.iter().any(|view| view.standing == Standing::Panic)
            && (0..).zip(&*views).any(|(id, view)| view.standing.is_well() && !exchange.tried.contains(&id))
    }

    pub(super) fn has_ready(&self) -> bool {
        self.views.borrow().iter().any(|view| view.standing.is_ready())
    }

    pub(super) fn has_untried(&self, exchange: &Exchange) -> bool {
        let views = self.views.borrow();
        (0..).zip(&*views).any(|(id, view)| view.standing.is_ready() && !exchange.tried.contains(&id))
    }
}

impl View {
    pub(super) fn change(self, id: EndpointId) -> EndpointChange {
        EndpointChange { id, weight: self.weight, ready: self.standing.is_ready() }
    }
}
