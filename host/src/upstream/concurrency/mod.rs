//! Adaptive concurrency: so many requests at a time as an upstream answers without delay.
//!
//! What is in flight is counted over all workers; times are noted by each worker for itself, and gathered by whichever
//! of them finds that an interval is over. What follows from them is [`gradient`], which knows nothing of threads.

mod gradient;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config;
use gradient::{Due, Gradient};

/// Times that a worker keeps of an interval: the latest.
const KEPT: usize = 1024;

/// The adaptive limit of one upstream, shared by all workers.
#[derive(Debug)]
pub(crate) struct Concurrency {
    config: config::Concurrency,
    start: Instant,
    in_flight: AtomicU32,
    /// Copies of what the gradient says, for the request path.
    limit: AtomicU32,
    measuring: AtomicBool,
    /// Times of requests that were sent earlier are of no use, in nanoseconds since the start.
    epoch: AtomicU64,
    /// Requests measured since.
    measured: AtomicU32,
    /// By worker; locked by another one only when it gathers.
    times: Box<[Mutex<Times>]>,
    gradient: Mutex<Gradient>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Times {
    latest: Vec<Duration>,
    /// Where the next one goes once there are [`KEPT`].
    at: usize,
}

/// One request in flight, until this is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    concurrency: Arc<Concurrency>,
    sent: Instant,
}

/// What somebody is told of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) limit: u32,
    pub(crate) in_flight: u32,
    /// What an answer takes when nobody waits for another.
    pub(crate) min_rtt: Option<Duration>,
    pub(crate) is_measuring: bool,
}

impl Concurrency {
    pub(crate) fn new(config: config::Concurrency, workers: usize, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            start: now,
            in_flight: AtomicU32::new(0),
            limit: AtomicU32::new(config.min_limit),
            measuring: AtomicBool::new(true),
            epoch: AtomicU64::new(0),
            measured: AtomicU32::new(0),
            times: (0..workers).map(|_| Mutex::default()).collect(),
            gradient: Mutex::new(Gradient::new(&config)),
            config,
        })
    }

    pub(crate) fn config(&self) -> &config::Concurrency {
        &self.config
    }

    /// A request is about to be sent; `None` when there are as many as may be.
    pub(crate) fn enter(self: &Arc<Self>, now: Instant) -> Option<InFlight> {
        let limit = self.limit.load(Relaxed);
        self.in_flight.fetch_update(AcqRel, Relaxed, |n| (n < limit).then_some(n + 1)).ok()?;
        Some(InFlight { concurrency: self.clone(), sent: now })
    }

    /// Moves the limit when it is time. Called a few times a second by every worker.
    pub(crate) fn tick(&self, now: Instant) {
        // Who does not get it need not do it.
        let Some(mut gradient) = self.gradient.try_lock() else { return };
        match gradient.due(now) {
            Due::Nothing => return,
            Due::Measure => gradient.measure(&self.config),
            Due::Follow => gradient.follow(self.gather(), &self.config, now),
        }
        if gradient.is_measuring() {
            self.epoch.store(self.nanos(now), Relaxed);
            self.measured.store(0, Relaxed);
            self.gather();
        }
        self.publish(&gradient);
    }

    pub(crate) fn standing(&self) -> Standing {
        let gradient = self.gradient.lock();
        Standing {
            limit: gradient.limit(),
            in_flight: self.in_flight.load(Relaxed),
            min_rtt: gradient.least(),
            is_measuring: gradient.is_measuring(),
        }
    }

    /// Ends the measuring once there are enough times.
    fn finish(&self, now: Instant) {
        let mut gradient = self.gradient.lock();
        if gradient.is_measuring()
            && self.measured.load(Relaxed) >= self.config.min_rtt_requests
            && let Some(least) = self.gather()
        {
            gradient.measured(least, &self.config, fastrand::f64(), now);
            self.publish(&gradient);
        }
    }

    fn publish(&self, gradient: &Gradient) {
        self.limit.store(gradient.limit(), Relaxed);
        self.measuring.store(gradient.is_measuring(), Relaxed);
    }

    /// The percentile of all times that were noted, which are forgotten.
    fn gather(&self) -> Option<Duration> {
        let mut all = Vec::new();
        for times in &self.times {
            let mut times = times.lock();
            all.append(&mut times.latest);
            times.at = 0;
        }
        let rank = (self.config.percentile * all.len() as f64).ceil() as usize;
        let rank = rank.clamp(1, all.len().max(1)) - 1;
        (rank < all.len()).then(|| *all.select_nth_unstable(rank).1)
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl InFlight {
    /// The response's head came to `worker`.
    pub(crate) fn answered(&self, worker: usize, now: Instant) {
        let concurrency = &*self.concurrency;
        if concurrency.nanos(self.sent) < concurrency.epoch.load(Relaxed) {
            return;
        }
        let Some(times) = concurrency.times.get(worker) else { return };
        times.lock().note(now.saturating_duration_since(self.sent));
        if concurrency.measuring.load(Relaxed)
            && concurrency.measured.fetch_add(1, Relaxed) + 1 >= concurrency.config.min_rtt_requests
        {
            concurrency.finish(now);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.concurrency.in_flight.fetch_sub(1, AcqRel);
    }
}

impl Times {
    fn note(&mut self, time: Duration) {
        if self.latest.len() < KEPT {
            self.latest.push(time);
        } else {
            self.latest[self.at] = time;
            self.at = (self.at + 1) % KEPT;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// `n` requests, one after the other, that take so long.
    fn ask(concurrency: &Arc<Concurrency>, n: u32, now: Instant, time: Duration) {
        for _ in 0..n {
            concurrency.enter(now).expect("there is room").answered(1, now + time);
        }
    }

    #[test]
    fn it_begins_with_the_least_and_grows_while_answers_are_as_fast_as_at_rest() {
        let start = Instant::now();
        let concurrency = Concurrency::new(config::Concurrency::default(), 2, start);
        let held = [(); 3].map(|()| concurrency.enter(start));
        assert!(held.iter().all(Option::is_some) && concurrency.enter(start).is_none());
        drop(held);

        ask(&concurrency, 49, start, MS(10));
        assert!(concurrency.standing().is_measuring);
        ask(&concurrency, 1, start, MS(10));
        let mut now = start + MS(10);
        for _ in 0..5 {
            now += MS(100);
            ask(&concurrency, 10, now, MS(10));
            concurrency.tick(now);
            concurrency.tick(now);
        }

        let standing = concurrency.standing();
        assert_eq!((standing.limit, standing.min_rtt, standing.in_flight), (30, Some(MS(10)), 0));
    }

    #[test]
    fn requests_that_were_sent_before_the_measuring_began_tell_nothing() {
        let start = Instant::now();
        let concurrency = Concurrency::new(config::Concurrency::default(), 2, start);
        ask(&concurrency, 50, start, MS(10));
        let slow = concurrency.enter(start).expect("there is room");
        let minutes = start + Duration::from_secs(120);
        concurrency.tick(minutes);

        slow.answered(1, minutes);
        ask(&concurrency, 50, minutes, MS(20));

        assert_eq!(concurrency.standing().min_rtt, Some(MS(20)));
    }

    #[test]
    fn the_percentile_is_of_all_workers_times() {
        let start = Instant::now();
        let concurrency = Concurrency::new(config::Concurrency::default(), 2, start);
        for (worker, time) in [(0, 1), (0, 2), (1, 30), (1, 40)] {
            concurrency.times[worker].lock().note(MS(time));
        }

        assert_eq!(concurrency.gather(), Some(MS(2)));
        assert_eq!(concurrency.gather(), None);
    }

    #[test]
    fn only_the_latest_times_are_kept() {
        let mut times = Times::default();
        for n in 0..KEPT as u64 + 2 {
            times.note(MS(n));
        }

        assert_eq!((times.latest.len(), times.latest[1], times.latest[2]), (KEPT, MS(KEPT as u64 + 1), MS(2)));
    }
}
