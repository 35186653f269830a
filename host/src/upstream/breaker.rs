//! The circuit breaker of one upstream: too large a share of failures, and nothing is sent for a while.
//!
//! # Closed, open, half-open
//!
//! Closed, every request passes. A request that fails looks at the sliding window: if `min_requests` have ended in it
//! and the share of failures is reached, the breaker opens. Open, requests are refused at once. After `open_time` it is
//! half-open: `probes` requests pass, and no more; when all of them have succeeded it closes, with nothing held against
//! the upstream, and when one has failed it opens again (Nygard, "Release It!"; resilience4j's names).
//!
//! # What does it cost?
//!
//! While closed, an atomic load when a request comes and a count of the worker's own when it ends. Only a failure adds
//! the workers' counts up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config;
use crate::upstream::window::Window;

/// The window is cut into so many buckets.
const BUCKETS: u64 = 10;
const ENDED: usize = 0;
const FAILED: usize = 1;

/// The breaker of one upstream, shared by all workers.
#[derive(Debug)]
pub(crate) struct Breaker {
    config: config::Breaker,
    window: Window<2>,
    /// A copy of the circuit's state, so that a closed one costs no lock.
    closed: AtomicBool,
    circuit: Mutex<Circuit>,
    opened: AtomicU64,
}

/// One request that a breaker let through. Dropped without an end, it says nothing of the upstream.
#[derive(Debug)]
pub(crate) struct Trial<'b> {
    breaker: &'b Breaker,
    /// Whether it is one of the few that a half-open breaker lets through: when it was opened.
    probe: Option<u64>,
}

/// A request is refused; so long until another may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) retry_after: Duration,
}

/// What somebody is told of a breaker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) state: State,
    pub(crate) since: SystemTime,
    /// How often it has opened.
    pub(crate) opened: u64,
    /// Requests that have ended within the window, and those of them that have failed.
    pub(crate) requests: u64,
    pub(crate) failures: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Closed,
    Open,
    HalfOpen,
}

impl Breaker {
    pub(crate) fn new(config: config::Breaker, workers: usize, now: Instant) -> Self {
        let bucket = (config.window / BUCKETS as u32).max(Duration::from_millis(1));
        Self {
            window: Window::new(workers, BUCKETS as usize, bucket, now),
            closed: AtomicBool::new(true),
            circuit: Mutex::new(Circuit::new(now)),
            opened: AtomicU64::new(0),
            config,
        }
    }

    pub(crate) fn config(&self) -> &config::Breaker {
        &self.config
    }

    /// Whether requests are refused now; takes nothing.
    pub(crate) fn refuses(&self, now: Instant) -> Option<Open> {
        if self.closed.load(Relaxed) {
            return None;
        }
        self.circuit.lock().refuses(&self.config, now)
    }

    /// A request is about to be sent.
    pub(crate) fn enter(&self, now: Instant) -> Result<Trial<'_>, Open> {
        let probe = if self.closed.load(Relaxed) { None } else { self.circuit.lock().enter(&self.config, now)? };
        Ok(Trial { breaker: self, probe })
    }

    pub(crate) fn standing(&self, now: Instant) -> Standing {
        let circuit = self.circuit.lock();
        let since = SystemTime::now() - now.saturating_duration_since(circuit.since());
        let count = |kind| self.window.sum(kind, BUCKETS, Some(circuit.counts_from), now);
        let (requests, failures) = (count(ENDED), count(FAILED));
        Standing { state: circuit.state(now), since, opened: self.opened.load(Relaxed), requests, failures }
    }

    /// Whether a status is a failure of the upstream.
    pub(crate) fn is_failure(&self, status: u16) -> bool {
        self.config.statuses.iter().any(|&(first, last)| (first..=last).contains(&status))
    }
}

impl Trial<'_> {
    /// The request has ended on `worker`: with a response that is no failure, or not. Answers what that changes.
    pub(crate) fn end(self, worker: usize, failed: bool, now: Instant) -> Option<Change> {
        let Breaker { config, window, closed, circuit, opened } = self.breaker;
        if self.probe.is_none() {
            window.count(worker, ENDED, now);
            if !failed {
                return None;
            }
            window.count(worker, FAILED, now);
        }
        let mut circuit = circuit.lock();
        let change = match self.probe {
            Some(number) => circuit.probe_ended(config, number, failed, now),
            None => {
                let count = |kind| window.sum(kind, BUCKETS, Some(circuit.counts_from), now);
                let (ended, failures) = (count(ENDED), count(FAILED));
                circuit.failed(config, ended, failures, now)
            }
        };
        match change {
            Some(Change::Opened { .. }) => {
                opened.fetch_add(1, Relaxed);
                closed.store(false, Relaxed);
            }
            Some(Change::Closed) => closed.store(true, Relaxed),
            None => {}
        }
        change
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.probe {
            self.breaker.circuit.lock().probe_left(number);
        }
    }
}

/// What the end of a request does to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// So many of so many had failed; 1 of 1 when it was a probe.
    Opened {
        failures: u64,
        requests: u64,
    },
    Closed,
}

/// The state machine alone: it is told the time and the counts.
#[derive(Debug)]
struct Circuit {
    phase: Phase,
    /// Requests before this moment are not held against the upstream.
    counts_from: Instant,
    /// How often it has opened: an outcome of a probe of an earlier time means nothing.
    times: u64,
}

#[derive(Debug)]
enum Phase {
    Closed {
        since: Instant,
    },
    /// And half-open from `until` on.
    Open {
        since: Instant,
        until: Instant,
        /// Probes under way.
        probing: u32,
        succeeded: u32,
    },
}

impl Circuit {
    fn new(now: Instant) -> Self {
        Self { phase: Phase::Closed { since: now }, counts_from: now, times: 0 }
    }

    fn state(&self, now: Instant) -> State {
        match &self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until, .. } if now < *until => State::Open,
            Phase::Open { .. } => State::HalfOpen,
        }
    }

    fn since(&self) -> Instant {
        match self.phase {
            Phase::Closed { since } | Phase::Open { since, .. } => since,
        }
    }

    fn refuses(&self, config: &config::Breaker, now: Instant) -> Option<Open> {
        let Phase::Open { until, probing, succeeded, .. } = &self.phase else { return None };
        let has_room = now >= *until && probing + succeeded < config.probes;
        // Half-open, the next moment may tell.
        (!has_room).then(|| Open { retry_after: until.saturating_duration_since(now) })
    }

    /// Lets a request through; `Some` when it is a probe.
    fn enter(&mut self, config: &config::Breaker, now: Instant) -> Result<Option<u64>, Open> {
        if let Some(open) = self.refuses(config, now) {
            return Err(open);
        }
        let Phase::Open { probing, .. } = &mut self.phase else { return Ok(None) };
        *probing += 1;
        Ok(Some(self.times))
    }

    /// A request has failed that passed while it was closed.
    fn failed(&mut self, config: &config::Breaker, ended: u64, failures: u64, now: Instant) -> Option<Change> {
        let Phase::Closed { .. } = self.phase else { return None };
        let enough = ended >= config.min_requests.into() && failures as f64 >= config.failures * ended as f64;
        enough.then(|| self.open(config, failures, ended, now))
    }

    /// A probe has ended, which passed when the breaker had opened so many times.
    fn probe_ended(&mut self, config: &config::Breaker, number: u64, failed: bool, now: Instant) -> Option<Change> {
        let Phase::Open { succeeded, .. } = &mut self.phase else { return None };
        if number != self.times {
            return None;
        }
        if failed {
            return Some(self.open(config, 1, 1, now));
        }
        *succeeded += 1;
        (*succeeded >= config.probes).then(|| {
            (self.phase, self.counts_from) = (Phase::Closed { since: now }, now);
            Change::Closed
        })
    }

    /// A probe is not under way any more.
    fn probe_left(&mut self, number: u64) {
        if let Phase::Open { probing, .. } = &mut self.phase
            && number == self.times
        {
            *probing = probing.saturating_sub(1);
        }
    }

    fn open(&mut self, config: &config::Breaker, failures: u64, requests: u64, now: Instant) -> Change {
        self.phase = Phase::Open { since: now, until: now + config.open_time, probing: 0, succeeded: 0 };
        self.times += 1;
        Change::Opened { failures, requests }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config() -> config::Breaker {
        config::Breaker { min_requests: 10, probes: 2, ..config::Breaker::default() }
    }

    fn breaker(now: Instant) -> Breaker {
        Breaker::new(config(), 2, now)
    }

    /// One request that ends at once.
    fn request(breaker: &Breaker, failed: bool, now: Instant) -> Option<Change> {
        breaker.enter(now).expect("it is let through").end(0, failed, now)
    }

    fn opened(now: Instant) -> Breaker {
        let breaker = breaker(now);
        let changes = (0..10).filter_map(|_| request(&breaker, true, now)).count();
        assert_eq!((changes, breaker.standing(now).state), (1, State::Open));
        breaker
    }

    #[test]
    fn it_opens_when_the_share_is_reached_by_enough_requests() {
        let now = Instant::now();
        let breaker = breaker(now);

        for n in 0..9 {
            assert_eq!(request(&breaker, n % 2 == 0, now), None, "too few have ended");
        }
        assert_eq!(request(&breaker, false, now), None, "a success opens nothing");
        assert_eq!(request(&breaker, true, now), Some(Change::Opened { failures: 6, requests: 11 }));

        let refused = breaker.enter(now + Duration::from_secs(4)).expect_err("it is open");
        assert_eq!(refused.retry_after, Duration::from_secs(6));
    }

    #[test]
    fn failures_long_ago_do_not_count() {
        let now = Instant::now();
        let breaker = breaker(now);
        for _ in 0..9 {
            request(&breaker, true, now);
        }

        let later = now + Duration::from_secs(10);

        assert!((0..9).all(|_| request(&breaker, true, later).is_none()));
    }

    #[test]
    fn half_open_it_lets_a_few_through_and_closes_when_all_succeed() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + config().open_time;
        assert_eq!(breaker.standing(later).state, State::HalfOpen);

        let probes = [(); 2].map(|()| breaker.enter(later).expect("a probe"));
        assert!(breaker.enter(later).is_err() && breaker.refuses(later).is_some());
        let [first, second] = probes.map(|probe| probe.end(1, false, later));

        assert_eq!([first, second], [None, Some(Change::Closed)]);
        assert_eq!(breaker.refuses(later), None);
        let after = later + Duration::from_secs(1);
        assert_eq!(request(&breaker, true, after), None, "what was before is forgotten");
    }

    #[test]
    fn a_probe_that_fails_opens_it_again_for_as_long() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + config().open_time;
        let [first, second] = [(); 2].map(|()| breaker.enter(later).expect("a probe"));

        assert_eq!(first.end(0, true, later), Some(Change::Opened { failures: 1, requests: 1 }));

        assert_eq!(second.end(0, false, later), None, "it belongs to another time");
        assert_eq!(breaker.refuses(later), Some(Open { retry_after: config().open_time }));
        assert_eq!(breaker.standing(later).opened, 2);
    }

    #[test]
    fn a_probe_without_an_end_makes_room_for_another() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + config().open_time;
        let probes = [(); 2].map(|()| breaker.enter(later).expect("a probe"));

        drop(probes);

        assert_eq!(breaker.refuses(later), None);
    }

    #[test]
    fn what_passed_while_it_was_closed_says_nothing_of_a_half_open_one() {
        let now = Instant::now();
        let breaker = breaker(now);
        let old = [(); 3].map(|()| breaker.enter(now).expect("closed"));
        for _ in 0..10 {
            request(&breaker, true, now);
        }
        let later = now + config().open_time;

        assert!(old.map(|trial| trial.end(0, true, later)).iter().all(Option::is_none));

        assert_eq!(breaker.standing(later).state, State::HalfOpen);
    }

    proptest! {
        #[test]
        fn open_it_lets_nothing_through_and_half_open_no_more_than_its_probes(
            steps in prop::collection::vec((0u64..3000, any::<bool>(), any::<bool>()), 1..300)
        ) {
            let config = config();
            let mut now = Instant::now();
            let breaker = breaker(now);
            let mut under_way: Vec<Trial<'_>> = Vec::new();
            let mut opened_at = None;
            for (gap, failed, ends) in steps {
                now += Duration::from_millis(gap);
                let state = breaker.standing(now).state;
                match breaker.enter(now) {
                    Ok(trial) => {
                        prop_assert_ne!(state, State::Open);
                        under_way.push(trial);
                        if state == State::HalfOpen {
                            let probes = under_way.iter().filter(|trial| trial.probe == opened_at.map(|(times, _)| times));
                            prop_assert!(probes.count() <= config.probes as usize);
                        }
                    }
                    Err(open) => {
                        let (_, at) = opened_at.expect("it was opened");
                        prop_assert!(open.retry_after <= config.open_time);
                        prop_assert!(state == State::HalfOpen || now < at + config.open_time);
                    }
                }
                if ends && !under_way.is_empty() {
                    let trial = under_way.remove(0);
                    match trial.end(0, failed, now) {
                        Some(Change::Opened { failures, requests }) => {
                            prop_assert!(failed && failures <= requests);
                            opened_at = Some((breaker.standing(now).opened, now));
                        }
                        Some(Change::Closed) => prop_assert!(!failed && state != State::Closed),
                        None => {}
                    }
                }
            }
        }
    }
}
