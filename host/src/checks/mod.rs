//! Active health checks: endpoints are asked, on the control thread, whether they are well.
//!
//! # Why not a check for each upstream?
//!
//! Many upstreams may name one server, and a proxy is not the only one that asks it. So what runs is one check for each
//! distinct question (which address, what, how often), and whoever wants its answer subscribes. A new configuration
//! is adopted: checks that are still wanted go on as if nothing had happened, with what they know and with the moment
//! of their next run.
//!
//! What is asked is in [`question`] and a file for each kind; what answers mean is decided in [`verdict`].

mod exchange;
mod grpc;
mod http;
mod outcome;
mod question;
mod subscriber;
mod tally;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

pub(crate) use outcome::{CheckResult, LastCheck};
pub(crate) use question::connector;

use crate::telemetry::exposition::Exposition;
use crate::upstream::{Shared, Target};
use outcome::Failure;
use question::Question;
use subscriber::{News, Subscriber};
use tally::Tally;
use verdict::{State, Timing, Verdict};

/// All checks of a proxy. They run on the thread, in the `LocalSet`, where they were adopted, until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    running: Mutex<HashMap<Target, Vec<Running>>>,
    /// By the names of upstreams.
    subscribed: Mutex<HashMap<Arc<str>, ByEndpoint>>,
    common: Arc<Common>,
}

/// An upstream's checks, by the addresses of its endpoints.
type ByEndpoint = HashMap<Arc<str>, Arc<Check>>;

/// What an upstream's check says of one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    /// `None`: the first check has not ended yet.
    pub(crate) last: Option<LastCheck>,
    /// For a reader, where the check keeps traffic away.
    pub(crate) reason: Option<String>,
}

/// What all checks share.
#[derive(Debug)]
struct Common {
    tally: Tally,
    /// How many may run at a time.
    turns: Mutex<Turns>,
}

#[derive(Debug)]
struct Turns {
    most: usize,
    semaphore: Arc<Semaphore>,
}

impl Default for Common {
    fn default() -> Self {
        Self { tally: Tally::default(), turns: Mutex::new(Turns { most: 0, semaphore: Arc::new(Semaphore::new(0)) }) }
    }
}

/// One check under way. Its task ends with this.
#[derive(Debug)]
struct Running {
    check: Arc<Check>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
struct Check {
    question: Question,
    timing: Timing,
    live: Mutex<Live>,
}

#[derive(Debug)]
struct Live {
    verdict: Verdict,
    last: Option<LastCheck>,
    subscribers: Vec<Subscriber>,
}

/// A check that is wanted, and by whom.
struct Wanted {
    question: Question,
    timing: Timing,
    subscriber: Subscriber,
}

impl Checks {
    /// Checks the endpoints of these upstreams, and no others, from now on; at most so many at a time.
    ///
    /// Each endpoint's health is told at once what is known of it: also that there is no check of it any more.
    pub(crate) fn adopt(&self, upstreams: &[Arc<Shared>], max_checks: usize) {
        let mut wanted = Vec::new();
        for shared in upstreams {
            let Some(config) = &shared.config.health else {
                // An older check may have ended with another verdict.
                shared
                    .endpoints
                    .iter()
                    .filter_map(|endpoint| shared.health.state(endpoint.id))
                    .for_each(|state| state.checked(true));
                continue;
            };
            let endpoints = shared.endpoints.iter().zip(&shared.config.endpoints).zip(&shared.targets);
            wanted.extend(endpoints.map(|((endpoint, configured), target)| Wanted {
                question: Question::new(config, shared.check_tls.as_ref(), configured, target, &shared.config),
                timing: config.into(),
                subscriber: Subscriber::new(shared, endpoint.id),
            }));
        }
        self.take(wanted, max_checks);
    }

    /// What is known of an endpoint; `None` for one that is not checked.
    pub(crate) fn status(&self, upstream: &str, endpoint: &str) -> Option<Checked> {
        let check = self.subscribed.lock().get(upstream)?.get(endpoint)?.clone();
        let live = check.live.lock();
        Some(Checked { last: live.last.clone(), reason: live.reason() })
    }

    pub(crate) fn write_metrics(&self, out: &mut Exposition) {
        self.common.tally.write(out);
    }

    fn take(&self, wanted: Vec<Wanted>, max_checks: usize) {
        self.common.allow(max_checks);
        let mut running = self.running.lock();
        let mut before = std::mem::take(&mut *running);
        let mut subscribed = HashMap::<Arc<str>, ByEndpoint>::new();
        for Wanted { question, timing, subscriber } in wanted {
            let now = running.entry(question.target.clone()).or_default();
            let old = before.entry(question.target.clone()).or_default();
            let is_it = |running: &Running| running.check.timing == timing && running.check.question == question;
            let check = if let Some(running) = now.iter().find(|running| is_it(running)) {
                running.check.clone()
            } else if let Some(at) = old.iter().position(is_it) {
                let kept = old.swap_remove(at);
                kept.check.live.lock().subscribers.clear();
                let check = kept.check.clone();
                now.push(kept);
                check
            } else {
                let known = old.iter().chain(&*now).find(|running| running.check.knows(&question));
                let check = Arc::new(match known {
                    Some(known) => known.check.under(question, timing),
                    None => Check::new(question, timing),
                });
                now.push(self.common.start(check.clone()));
                check
            };
            let own = subscribed.entry(subscriber.upstream.clone()).or_default();
            own.insert(subscriber.endpoint.clone(), check.clone());
            check.live.lock().subscribe(subscriber);
        }
        self.common.tally.retain(|upstream| subscribed.contains_key(upstream));
        *self.subscribed.lock() = subscribed;
    }
}

impl Common {
    /// Bounds how many checks run at a time. Those that run while the bound changes are not counted against the new one.
    fn allow(&self, most: usize) {
        let mut turns = self.turns.lock();
        if turns.most != most {
            *turns = Turns { most, semaphore: Arc::new(Semaphore::new(most)) };
        }
    }

    fn start(self: &Arc<Self>, check: Arc<Check>) -> Running {
        let task = tokio::task::spawn_local(self.clone().run(check.clone())).abort_handle();
        Running { check, task }
    }

    /// Asks again and again.
    async fn run(self: Arc<Self>, check: Arc<Check>) {
        let mut wait = check.live.lock().verdict.first_wait(fastrand::f64());
        loop {
            sleep(wait).await;
            wait = if check.matters() {
                let (answer, took) = self.ask(&check).await;
                self.conclude(&check, answer, took)
            } else {
                check.live.lock().verdict.wait(fastrand::f64())
            };
        }
    }

    /// Asks once it is this check's turn, which its timeout does not count.
    async fn ask(&self, check: &Check) -> (Result<String, Failure>, Duration) {
        let waiting = self.tally.waits();
        let semaphore = self.turns.lock().semaphore.clone();
        // It is never closed.
        let _turn = semaphore.acquire().await;
        drop(waiting);
        let _running = self.tally.runs();
        let began = Instant::now();
        let answer = check.question.ask(check.timing.timeout).await;
        (answer, began.elapsed())
    }

    /// Tells whom it concerns what a check came to. Answers how long to wait for the next.
    fn conclude(&self, check: &Check, answer: Result<String, Failure>, took: Duration) -> Duration {
        let result = CheckResult::of(&answer);
        let said = answer.unwrap_or_else(|failure| failure.to_string());
        let live = &mut *check.live.lock();
        let before = live.news();
        live.verdict.observe(result == CheckResult::Passed);
        let news = live.news();
        let is_same = |last: &&LastCheck| (last.result == CheckResult::Passed) == (result == CheckResult::Passed);
        let in_a_row = live.last.as_ref().filter(is_same).map_or(0, |last| last.in_a_row) + 1;
        live.last = Some(LastCheck { at: SystemTime::now(), took, result, said: said.clone(), in_a_row });
        for Subscriber { upstream, endpoint, interest } in &live.subscribers {
            self.tally.checked(upstream, endpoint, result, &said);
            if news != before {
                self.tally.turned(upstream, endpoint, news == News::Up, &said);
                interest.tell(news);
            }
            if result == CheckResult::Passed {
                interest.passed();
            }
        }
        live.verdict.wait(fastrand::f64())
    }
}

impl Check {
    fn new(question: Question, timing: Timing) -> Self {
        let live = Live { verdict: Verdict::new(timing), last: None, subscribers: Vec::new() };
        Self { question, timing, live: Mutex::new(live) }
    }

    /// The same question with other numbers; what is known so far is kept.
    fn under(&self, question: Question, timing: Timing) -> Self {
        let known = self.live.lock();
        let live = Live { verdict: known.verdict.under(timing), last: known.last.clone(), subscribers: Vec::new() };
        Self { question, timing, live: Mutex::new(live) }
    }

    /// Whether it has been told something about this.
    fn knows(&self, question: &Question) -> bool {
        self.question == *question && self.live.lock().last.is_some()
    }

    /// Whether anybody would do anything about what it comes to.
    fn matters(&self) -> bool {
        !self.live.lock().subscribers.iter().all(|subscriber| subscriber.interest.is_shut())
    }
}

impl Live {
    fn subscribe(&mut self, subscriber: Subscriber) {
        subscriber.interest.tell(self.news());
        self.subscribers.push(subscriber);
    }

    fn news(&self) -> News {
        match self.verdict.is_up() {
            true => News::Up,
            false if self.verdict.is_awaited() => News::Awaited,
            false => News::Down,
        }
    }

    /// Why the endpoint has no traffic, where it has none.
    fn reason(&self) -> Option<String> {
        let (against, needed) = self.verdict.contradiction();
        match (self.verdict.state(), &self.last) {
            (State::Up, _) => None,
            (State::Checking, _) | (_, None) => Some("it waits for its first check".to_owned()),
            (State::Down, Some(_)) if against > 0 => Some(format!("its check passed {against} of {needed} times")),
            (State::Down, Some(last)) => Some(format!("its check fails: {}", last.said)),
        }
    }
}
