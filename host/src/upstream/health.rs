//! Which endpoints may have traffic, as all workers see it.
//!
//! Failures, probes, active checks and connection limits change it, on any thread. A worker keeps a view of its
//! own and looks here only when the generation has moved or a probe has become due: two atomic loads a request.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::{self, InitialState};
use crate::upstream::endpoint::{Endpoint, EndpointId};
use crate::upstream::passive::{Policy, Record, penalty};

/// The state of every endpoint of one upstream.
#[derive(Debug)]
pub(crate) struct Health {
    policy: Policy,
    slots: Box<[Slot]>,
    generation: Arc<AtomicU64>,
    /// The second at which an endpoint that is out may be probed; `u64::MAX` when none is out.
    next_probe: AtomicU64,
}

/// What the configuration says of an endpoint, with what it has come to.
#[derive(Debug)]
struct Slot {
    down: bool,
    weight: u32,
    max_connections: Option<u32>,
    state: Arc<EndpointState>,
}

/// What an endpoint has come to. Outlives configurations: it belongs to an address within an upstream's name.
#[derive(Debug)]
pub(crate) struct EndpointState {
    /// Requests in flight; counted only where there is a limit.
    connections: AtomicU32,
    /// `max_connections` as it is configured now, for who leaves.
    limit: AtomicU32,
    /// A copy of `record.fails`, so that the path without failures takes no lock.
    fails: AtomicU32,
    /// Locked only by the path with failures, for a few instructions.
    record: Mutex<Record>,
    /// What the active check says.
    checked_up: AtomicBool,
    /// When failures or checks last changed its state, in seconds of Unix time; 0: never.
    since: AtomicU64,
    /// The upstream's: changes whenever readiness may have changed.
    generation: Arc<AtomicU64>,
}

/// Moments of records are seconds since this one.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What an endpoint's state is, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Up,
    /// Configured never to have traffic.
    Down,
    /// The active check failed.
    Unhealthy,
    /// Too many failures in live traffic.
    Failed,
    /// It has as many requests as it may.
    Full,
}

impl Health {
    /// `limits` are the endpoints' `max_connections`. Failures of a lone endpoint do not take it out (nginx).
    /// `before`: the same upstream as it was configured before, with its endpoints; what those have come to is taken
    /// over by address.
    pub(crate) fn new(
        endpoints: &[Endpoint],
        limits: &[Option<u32>],
        config: &config::Upstream,
        before: Option<(&[Endpoint], &Self)>,
    ) -> Self {
        let max_fails = if endpoints.len() == 1 { 0 } else { config.passive.max_fails };
        let generation = before.map_or_else(|| Arc::new(AtomicU64::new(1)), |(_, health)| health.generation.clone());
        let slot = |(endpoint, limit): (&Endpoint, &Option<u32>)| {
            let known = before.and_then(|(endpoints, health)| {
                let at = endpoints.iter().position(|known| known.address == endpoint.address)?;
                Some(health.slots[at].state.clone())
            });
            let state = known.unwrap_or_else(|| {
                let state = EndpointState::new(generation.clone());
                state.checked(config.health.as_ref().is_none_or(|check| check.initial == InitialState::Up));
                Arc::new(state)
            });
            if config.health.is_none() {
                // Nobody would ever find out that it is well again.
                state.checked(true);
            }
            state.limit.store(limit.unwrap_or(u32::MAX), Relaxed);
            Slot { down: endpoint.down, weight: endpoint.weight, max_connections: *limit, state }
        };
        Self {
            policy: Policy { max_fails, fail_timeout: config.passive.fail_timeout.as_secs() },
            slots: endpoints.iter().zip(limits).map(slot).collect(),
            generation,
            // Looked for when somebody looks here first.
            next_probe: AtomicU64::new(0),
        }
    }

    /// What an endpoint has come to.
    pub(crate) fn state(&self, id: EndpointId) -> Option<&Arc<EndpointState>> {
        self.slots.get(id as usize).map(|slot| &slot.state)
    }

    /// Changes whenever readiness may have changed.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Whether a view taken at generation `seen` may be out of date.
    pub(crate) fn is_stale(&self, seen: u64, now: Instant) -> bool {
        self.generation() != seen || {
            let probe = self.next_probe.load(Relaxed);
            probe != u64::MAX && second(now) >= probe
        }
    }

    /// Looks for the next probe that will be due, after one has become due.
    pub(crate) fn reschedule(&self, now: Instant) {
        let second = second(now);
        if second < self.next_probe.load(Relaxed) {
            return;
        }
        let next = self.slots.iter().filter_map(|slot| {
            let record = *slot.state.record.lock();
            let out = record.is_suspect(self.policy) && !record.is_available(self.policy, second);
            out.then(|| record.probe_at(self.policy))
        });
        self.next_probe.store(next.min().unwrap_or(u64::MAX), Relaxed);
        self.changed();
    }

    pub(crate) fn is_ready(&self, id: EndpointId, now: Instant) -> bool {
        self.standing(id, now) == Standing::Up
    }

    pub(crate) fn standing(&self, id: EndpointId, now: Instant) -> Standing {
        let Some(Slot { down, max_connections, state, .. }) = self.slots.get(id as usize) else {
            return Standing::Down;
        };
        if *down {
            Standing::Down
        } else if !state.checked_up.load(Relaxed) {
            Standing::Unhealthy
        } else if state.fails.load(Relaxed) > 0 && !state.record.lock().is_available(self.policy, second(now)) {
            Standing::Failed
        } else if max_connections.is_some_and(|max| state.connections.load(Relaxed) >= max) {
            Standing::Full
        } else {
            Standing::Up
        }
    }

    /// Counts a request in, unless the endpoint has as many as it may. `Some(true)`: it took a place, which
    /// [`EndpointState::leave`] gives back.
    pub(crate) fn enter(&self, id: EndpointId) -> Option<bool> {
        let Slot { max_connections, state, .. } = self.slots.get(id as usize)?;
        let Some(max) = *max_connections else { return Some(false) };
        let entered = state.connections.fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1)).ok()?;
        if entered + 1 >= max {
            self.changed();
        }
        Some(true)
    }

    /// A request goes to the endpoint: if it was out, this is its probe.
    pub(crate) fn picked(&self, id: EndpointId, now: Instant) {
        let Some(state) = self.failing(id) else { return };
        let mut record = state.record.lock();
        let before = *record;
        record.picked(self.policy, second(now));
        if record.is_suspect(self.policy) && *record != before {
            self.next_probe.fetch_min(record.probe_at(self.policy), Relaxed);
            self.changed();
        }
    }

    /// An attempt failed. Answers what it takes from the endpoint's weight, and whether it took the endpoint out.
    pub(crate) fn failed(&self, id: EndpointId, now: Instant) -> (u32, bool) {
        let Some(Slot { weight, state, .. }) = self.slots.get(id as usize) else { return (0, false) };
        if self.policy.max_fails == 0 {
            return (0, false);
        }
        let mut record = state.record.lock();
        record.failed(second(now));
        state.fails.store(record.fails, Relaxed);
        let out = record.is_suspect(self.policy);
        if out {
            self.next_probe.fetch_min(record.probe_at(self.policy), Relaxed);
            self.changed();
        }
        let ejected = out && record.fails == self.policy.max_fails;
        if ejected {
            state.turned();
        }
        (penalty(self.policy, *weight), ejected)
    }

    /// An attempt brought a response.
    pub(crate) fn succeeded(&self, id: EndpointId) {
        let Some(state) = self.failing(id) else { return };
        let mut record = state.record.lock();
        record.succeeded();
        if record.fails == 0 {
            state.fails.store(0, Relaxed);
            state.turned();
            self.changed();
        }
    }

    /// When its state last changed, if it ever did.
    pub(crate) fn since(&self, id: EndpointId) -> Option<SystemTime> {
        let seconds = self.state(id)?.since.load(Relaxed);
        (seconds > 0).then(|| UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// Failures counted so far.
    pub(crate) fn fails(&self, id: EndpointId) -> u32 {
        self.state(id).map_or(0, |state| state.fails.load(Relaxed))
    }

    fn failing(&self, id: EndpointId) -> Option<&EndpointState> {
        self.state(id).map(|state| &**state).filter(|state| state.fails.load(Relaxed) > 0)
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Relaxed);
    }
}

/// Seconds since the start; far enough from 0 that a fresh record is long out of date.
fn second(now: Instant) -> u64 {
    now.saturating_duration_since(*START).as_secs() + 1_000_000
}

impl EndpointState {
    fn new(generation: Arc<AtomicU64>) -> Self {
        Self {
            connections: AtomicU32::new(0),
            limit: AtomicU32::new(u32::MAX),
            fails: AtomicU32::new(0),
            record: Mutex::new(Record::default()),
            checked_up: AtomicBool::new(true),
            since: AtomicU64::new(0),
            generation,
        }
    }

    /// Gives a place back.
    pub(crate) fn leave(&self) {
        if self.connections.fetch_sub(1, Relaxed) == self.limit.load(Relaxed) {
            self.changed();
        }
    }

    /// The active check has come to another verdict.
    pub(crate) fn checked(&self, up: bool) {
        if self.checked_up.swap(up, Relaxed) != up {
            self.turned();
            self.changed();
        }
    }

    fn turned(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.since.store(now.as_secs(), Relaxed);
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Relaxed);
    }
}

/// Of an upstream of its own.
impl Default for EndpointState {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(count: u32, limit: Option<u32>) -> Health {
        let endpoint = |id| Endpoint {
            id,
            address: "".into(),
            weight: 4,
            priority: 0,
            zone: None,
            labels: Vec::new(),
            down: false,
        };
        let endpoints: Vec<_> = (0..count).map(endpoint).collect();
        Health::new(&endpoints, &vec![limit; count as usize], &config::Upstream::new("u"), None)
    }

    #[test]
    fn a_failed_endpoint_comes_back_for_one_probe() {
        let health = health(2, None);
        let now = Instant::now();

        assert_eq!(health.failed(0, now), (4, true));
        assert_eq!(health.standing(0, now), Standing::Failed);
        let seen = health.generation();
        let later = now + Duration::from_secs(12);
        assert!(health.is_stale(seen, later));
        health.reschedule(later);
        assert!(health.is_ready(0, later));
        health.picked(0, later);

        assert!(!health.is_ready(0, later));
        health.succeeded(0);
        assert!(health.is_ready(0, later));
    }

    #[test]
    fn a_lone_endpoint_is_never_taken_out() {
        let health = health(1, None);
        let now = Instant::now();

        health.failed(0, now);

        assert!(health.is_ready(0, now));
    }

    #[test]
    fn a_full_endpoint_is_not_ready_until_a_request_leaves() {
        let health = health(2, Some(2));
        let now = Instant::now();

        assert_eq!([0; 3].map(|id| health.enter(id)), [Some(true), Some(true), None]);
        assert_eq!(health.standing(0, now), Standing::Full);
        let seen = health.generation();
        health.state(0).unwrap().leave();

        assert!(health.is_stale(seen, now));
        assert!(health.is_ready(0, now));
    }

    #[test]
    fn an_active_check_decides_over_live_traffic() {
        let health = health(2, None);
        let now = Instant::now();

        health.state(1).unwrap().checked(false);

        assert_eq!(health.standing(1, now), Standing::Unhealthy);
    }
}
