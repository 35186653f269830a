//! The retry budget: how much retrying may add to an upstream's load.
//!
//! # Why a share of the last second, and not of what is in flight?
//!
//! When an endpoint dies, everything in flight to it needs another attempt at the same moment: a share of what is
//! in flight would fail most of it (Envoy's `budget_percent`). A share of the last second's requests takes such a
//! burst, and still bounds what a policy that always says "again" adds in any second (Finagle's `RetryBudget`,
//! with a window of one second). Attempts that never reached a server cost nobody anything and are free.
//!
//! # What is promised?
//!
//! Retries that begin within any second are no more than `min`, or than `percent` of the requests that came within
//! the second before the last of them was decided on: over all workers, whatever delays a policy asks for. A retry
//! is counted from the decision on, while it is held back, and for a second after it has begun.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config;
use crate::upstream::window::Window;

/// Buckets of requests: at most a second, so that no more is granted than a second's requests allow.
const REQUESTS: u64 = 10;
/// Buckets of retries: at least a second, so that none is forgotten within it.
const RETRIES: usize = 11;
const BUCKET: Duration = Duration::from_millis(100);

/// The budget of one upstream. Clones draw on the same one.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    share: config::Budget,
    books: Arc<Books>,
}

#[derive(Debug)]
struct Books {
    requests: Window<1>,
    start: Instant,
    /// Locked when a retry is considered, for a few instructions.
    retries: Mutex<Retries>,
}

/// A retry that was granted and has not begun. Dropped before, it costs nothing.
#[derive(Debug)]
pub(crate) struct Grant(Option<Arc<Books>>);

impl Budget {
    pub(crate) fn new(share: config::Budget, workers: usize, now: Instant) -> Self {
        let books = Books {
            requests: Window::new(workers, REQUESTS as usize, BUCKET, now),
            start: now,
            retries: Mutex::default(),
        };
        Self { share, books: Arc::new(books) }
    }

    /// The same books with another share.
    pub(crate) fn with(&self, share: config::Budget) -> Self {
        Self { share, books: self.books.clone() }
    }

    /// Counts a request's first attempt. Only `worker` itself may call this for its number.
    pub(crate) fn request(&self, worker: usize, now: Instant) {
        self.books.requests.count(worker, 0, now);
    }

    /// Whole retries left now.
    pub(crate) fn left(&self, now: Instant) -> u32 {
        let counted = self.books.retries.lock().counted(self.books.number(now));
        u32::try_from(self.allowed(now).saturating_sub(counted)).unwrap_or(u32::MAX)
    }

    /// Takes a retry out, from the moment it is decided on; `None` when none is left.
    pub(crate) fn withdraw(&self, now: Instant) -> Option<Grant> {
        let allowed = self.allowed(now);
        let granted = self.books.retries.lock().grant(allowed, self.books.number(now));
        granted.then(|| Grant(Some(self.books.clone())))
    }

    fn allowed(&self, now: Instant) -> u64 {
        let requests = self.books.requests.sum(0, REQUESTS, None, now);
        (requests * u64::from(self.share.percent) / 100).max(self.share.min.into())
    }
}

impl Grant {
    /// The retry begins.
    pub(crate) fn begin(mut self, now: Instant) {
        if let Some(books) = self.0.take() {
            books.retries.lock().begin(books.number(now));
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(books) = self.0.take() {
            books.retries.lock().cancel();
        }
    }
}

impl Books {
    fn number(&self, now: Instant) -> u64 {
        (now.saturating_duration_since(self.start).as_nanos() / BUCKET.as_nanos()) as u64
    }
}

/// Retries of the last second, and those to come. Moments are numbers of buckets.
#[derive(Debug, Default)]
struct Retries {
    /// Granted, not begun.
    held: u64,
    begun: [u64; RETRIES],
    /// The bucket that runs.
    current: u64,
}

impl Retries {
    fn counted(&mut self, bucket: u64) -> u64 {
        self.advance(bucket);
        self.held + self.begun.iter().sum::<u64>()
    }

    fn grant(&mut self, allowed: u64, bucket: u64) -> bool {
        let granted = self.counted(bucket) < allowed;
        self.held += u64::from(granted);
        granted
    }

    fn begin(&mut self, bucket: u64) {
        self.advance(bucket);
        self.cancel();
        self.begun[self.current as usize % RETRIES] += 1;
    }

    fn cancel(&mut self) {
        self.held = self.held.saturating_sub(1);
    }

    /// Another worker may have come with a moment that is a little later: then that one holds.
    fn advance(&mut self, bucket: u64) {
        let passed = bucket.saturating_sub(self.current).min(RETRIES as u64);
        for back in 0..passed {
            self.begun[(bucket - back) as usize % RETRIES] = 0;
        }
        self.current = self.current.max(bucket);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHARE: config::Budget = config::Budget { percent: 20, min: 3 };

    fn retries(budget: &Budget, now: Instant) -> usize {
        let withdraw = || budget.withdraw(now).map(|grant| grant.begin(now));
        std::iter::from_fn(withdraw).take(1000).count()
    }

    #[test]
    fn a_fifth_of_the_last_second_may_be_retried() {
        let start = Instant::now();
        let budget = Budget::new(SHARE, 2, start);
        for i in 0..100 {
            budget.request(i as usize % 2, start + Duration::from_millis(i * 5));
        }

        assert_eq!(retries(&budget, start + Duration::from_millis(500)), 20);
        assert_eq!(budget.left(start + Duration::from_secs(2)), 3);
    }

    #[test]
    fn the_least_is_not_split_over_the_workers() {
        let start = Instant::now();
        let budget = Budget::new(SHARE, 64, start);
        budget.request(0, start);

        assert_eq!(retries(&budget, start), 3);
        assert_eq!(retries(&budget, start + Duration::from_millis(1001)), 0, "one of them was within a second");
        assert_eq!(retries(&budget, start + Duration::from_millis(1100)), 3);
    }

    #[test]
    fn a_retry_counts_while_it_is_held_back_and_not_when_it_never_begins() {
        let start = Instant::now();
        let budget = Budget::new(SHARE, 1, start);

        let held: Vec<_> = std::iter::from_fn(|| budget.withdraw(start)).collect();

        let later = start + Duration::from_secs(60);
        assert_eq!((held.len(), budget.left(later)), (3, 0));
        drop(held);
        assert_eq!(budget.left(later), 3);
    }

    #[test]
    fn another_share_draws_on_the_same_books() {
        let start = Instant::now();
        let budget = Budget::new(SHARE, 1, start);
        retries(&budget, start);

        let changed = budget.with(config::Budget { percent: 20, min: 5 });

        assert_eq!(changed.left(start), 2);
    }

    /// One request, and what becomes of a retry of it.
    #[derive(Clone, Debug)]
    struct Step {
        gap: u64,
        requests: usize,
        delay: u64,
        gives_up: bool,
    }

    fn step() -> impl Strategy<Value = Step> {
        (0u64..400, 0usize..20, prop_oneof![Just(0), 0u64..3000], prop::bool::weighted(0.1))
            .prop_map(|(gap, requests, delay, gives_up)| Step { gap, requests, delay, gives_up })
    }

    proptest! {
        #[test]
        fn no_second_has_more_retries_than_its_share(steps in prop::collection::vec(step(), 1..200)) {
            let start = Instant::now();
            let budget = Budget::new(SHARE, 3, start);
            let ms = Duration::from_millis;
            let mut now = 0;
            let mut requests: Vec<u64> = Vec::new();
            // When each retry was decided on and when it began.
            let mut begun: Vec<(u64, u64)> = Vec::new();
            let mut held: Vec<(u64, u64, Grant, bool)> = Vec::new();
            for step in steps.into_iter().chain([Step { gap: 10_000, requests: 0, delay: 0, gives_up: true }]) {
                now += step.gap;
                held.sort_by_key(|(_, at, ..)| *at);
                let due = held.iter().take_while(|(_, at, ..)| *at <= now).count();
                for (decided, at, grant, gives_up) in held.drain(..due) {
                    if !gives_up {
                        grant.begin(start + ms(at));
                        begun.push((decided, at));
                    }
                }
                for n in 0..step.requests {
                    budget.request(n % 3, start + ms(now));
                    requests.push(now);
                }
                // A policy that always says "again".
                for n in 0..step.requests.max(1) {
                    let at = now + step.delay * (n as u64 + 1) / step.requests.max(1) as u64;
                    held.extend(budget.withdraw(start + ms(now)).map(|grant| (now, at, grant, step.gives_up)));
                }
            }
            for &(_, end) in &begun {
                let within: Vec<_> = begun.iter().filter(|(_, at)| *at <= end && at + 1000 > end).collect();
                let decided = within.iter().map(|(decided, _)| *decided).max().unwrap_or(end);
                let asked = requests.iter().filter(|&&at| at <= decided && at + 1000 > decided).count();
                prop_assert!(within.len() <= (asked / 5).max(3), "{} retries for {asked} requests", within.len());
            }
        }
    }
}
