//! Which endpoints may have traffic, as all workers see it.
//!
//! Failures, probes, active checks and connection limits change it, on any thread. A worker keeps a view of its
//! own and looks here only when the generation has moved or a probe has become due: two atomic loads a request.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::upstream::endpoint::{Endpoint, EndpointId};
use crate::upstream::passive::nginx::{Policy, Record, penalty};

/// The state of every endpoint of one upstream.
#[derive(Debug)]
pub(crate) struct Health {
    policy: Policy,
    start: Instant,
    states: Box<[State]>,
    generation: AtomicU64,
    /// The second at which an endpoint that is out may be probed; `u64::MAX` when none is out.
    next_probe: AtomicU64,
}

#[derive(Debug)]
struct State {
    down: bool,
    weight: u32,
    max_connections: Option<u32>,
    /// Requests in flight; counted only where there is a limit.
    connections: AtomicU32,
    /// A copy of `record.fails`, so that the path without failures takes no lock.
    fails: AtomicU32,
    /// Locked only by the path with failures, for a few instructions.
    record: Mutex<Record>,
    /// What the active check says.
    checked_up: AtomicBool,
    /// When failures or checks last changed its state, in seconds of Unix time; 0: never.
    since: AtomicU64,
}

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
    pub(crate) fn new(endpoints: &[Endpoint], limits: &[Option<u32>], max_fails: u32, fail_timeout: Duration) -> Self {
        let max_fails = if endpoints.len() == 1 { 0 } else { max_fails };
        let state = |(endpoint, limit): (&Endpoint, &Option<u32>)| State {
            down: endpoint.down,
            weight: endpoint.weight,
            max_connections: *limit,
            connections: AtomicU32::new(0),
            fails: AtomicU32::new(0),
            record: Mutex::new(Record::default()),
            checked_up: AtomicBool::new(true),
            since: AtomicU64::new(0),
        };
        Self {
            policy: Policy { max_fails, fail_timeout: fail_timeout.as_secs() },
            start: Instant::now(),
            states: endpoints.iter().zip(limits).map(state).collect(),
            generation: AtomicU64::new(1),
            next_probe: AtomicU64::new(u64::MAX),
        }
    }

    /// Changes whenever readiness may have changed.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Whether a view taken at generation `seen` may be out of date.
    pub(crate) fn is_stale(&self, seen: u64, now: Instant) -> bool {
        self.generation() != seen || {
            let probe = self.next_probe.load(Relaxed);
            probe != u64::MAX && self.second(now) >= probe
        }
    }

    /// Looks for the next probe that will be due, after one has become due.
    pub(crate) fn reschedule(&self, now: Instant) {
        let second = self.second(now);
        if second < self.next_probe.load(Relaxed) {
            return;
        }
        let next = self.states.iter().filter_map(|state| {
            let record = *state.record.lock();
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
        let Some(state) = self.state(id) else { return Standing::Down };
        if state.down {
            Standing::Down
        } else if !state.checked_up.load(Relaxed) {
            Standing::Unhealthy
        } else if state.fails.load(Relaxed) > 0 && !state.record.lock().is_available(self.policy, self.second(now)) {
            Standing::Failed
        } else if state.max_connections.is_some_and(|max| state.connections.load(Relaxed) >= max) {
            Standing::Full
        } else {
            Standing::Up
        }
    }

    /// Counts a request in, unless the endpoint has as many as it may.
    pub(crate) fn enter(&self, id: EndpointId) -> bool {
        let Some((state, max)) = self.limited(id) else { return true };
        let entered = state.connections.fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1));
        if entered.is_ok_and(|before| before + 1 == max) {
            self.changed();
        }
        entered.is_ok()
    }

    /// Counts a request out.
    pub(crate) fn leave(&self, id: EndpointId) {
        let Some((state, max)) = self.limited(id) else { return };
        if state.connections.fetch_sub(1, Relaxed) == max {
            self.changed();
        }
    }

    /// A request goes to the endpoint: if it was out, this is its probe.
    pub(crate) fn picked(&self, id: EndpointId, now: Instant) {
        let Some(state) = self.failing(id) else { return };
        let mut record = state.record.lock();
        let before = *record;
        record.picked(self.policy, self.second(now));
        if record.is_suspect(self.policy) && *record != before {
            self.next_probe.fetch_min(record.probe_at(self.policy), Relaxed);
            self.changed();
        }
    }

    /// An attempt failed. Answers what it takes from the endpoint's weight, and whether it took the endpoint out.
    pub(crate) fn failed(&self, id: EndpointId, now: Instant) -> (u32, bool) {
        let Some(state) = self.state(id) else { return (0, false) };
        if self.policy.max_fails == 0 {
            return (0, false);
        }
        let mut record = state.record.lock();
        record.failed(self.second(now));
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
        (penalty(self.policy, state.weight), ejected)
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

    /// The active check has come to another verdict.
    pub(crate) fn checked(&self, id: EndpointId, up: bool) {
        if let Some(state) = self.state(id)
            && state.checked_up.swap(up, Relaxed) != up
        {
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

    fn state(&self, id: EndpointId) -> Option<&State> {
        self.states.get(id as usize)
    }

    fn failing(&self, id: EndpointId) -> Option<&State> {
        self.state(id).filter(|state| state.fails.load(Relaxed) > 0)
    }

    fn limited(&self, id: EndpointId) -> Option<(&State, u32)> {
        let state = self.state(id)?;
        Some((state, state.max_connections?))
    }

    /// Seconds since the start; far enough from 0 that a fresh record is long out of date.
    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() + 1_000_000
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Relaxed);
    }
}

impl State {
    fn turned(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.since.store(now.as_secs(), Relaxed);
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
        Health::new(&endpoints, &vec![limit; count as usize], 1, Duration::from_secs(10))
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

        assert!(health.enter(0) && health.enter(0));
        assert!(!health.enter(0));
        assert_eq!(health.standing(0, now), Standing::Full);
        let seen = health.generation();
        health.leave(0);

        assert!(health.is_stale(seen, now));
        assert!(health.is_ready(0, now));
    }

    #[test]
    fn an_active_check_decides_over_live_traffic() {
        let health = health(2, None);
        let now = Instant::now();

        health.checked(1, false);

        assert_eq!(health.standing(1, now), Standing::Unhealthy);
    }
}
