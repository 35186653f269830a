//! What is counted and logged of checks.
//!
//! Only the control thread counts here. Labels are names of upstreams, which the configuration bounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use super::outcome::CheckResult;
use crate::telemetry::exposition::{Exposition, Kind};

#[derive(Debug, Default)]
pub(super) struct Tally {
    upstreams: Mutex<BTreeMap<Arc<str>, Counts>>,
    running: AtomicUsize,
    waiting: AtomicUsize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    results: [u64; CheckResult::ALL.len()],
    turned_up: u64,
    turned_down: u64,
}

/// One more of something, until this is dropped.
pub(super) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Tally {
    /// A check waits for its turn.
    pub(super) fn waits(&self) -> Counted<'_> {
        Counted::new(&self.waiting)
    }

    /// A check runs.
    pub(super) fn runs(&self) -> Counted<'_> {
        Counted::new(&self.running)
    }

    /// A check of one of this upstream's endpoints has ended.
    pub(super) fn checked(&self, upstream: &Arc<str>, endpoint: &str, result: CheckResult, said: &str) {
        self.upstreams.lock().entry(upstream.clone()).or_default().results[result as usize] += 1;
        tracing::debug!(%upstream, %endpoint, result = result.name(), said, "checked");
    }

    /// Checks have come to another verdict about an endpoint; `said` is what the last of them did.
    pub(super) fn turned(&self, upstream: &Arc<str>, endpoint: &str, is_up: bool, said: &str) {
        let mut upstreams = self.upstreams.lock();
        let counts = upstreams.entry(upstream.clone()).or_default();
        if is_up {
            counts.turned_up += 1;
            tracing::info!(%upstream, %endpoint, said, "its check passes: it has traffic");
        } else {
            counts.turned_down += 1;
            tracing::warn!(%upstream, %endpoint, said, "its check fails: it has no traffic until it passes");
        }
    }

    /// Forgets the upstreams that are not checked any more.
    pub(super) fn retain(&self, is_checked: impl Fn(&Arc<str>) -> bool) {
        self.upstreams.lock().retain(|name, _| is_checked(name));
    }

    pub(super) fn write(&self, out: &mut Exposition) {
        let upstreams = self.upstreams.lock();
        let help = "Health checks by what they came to. One that several upstreams share counts for each of them.";
        out.family("staunch_health_checks_total", Kind::Counter, help);
        for (name, counts) in &*upstreams {
            for (result, count) in CheckResult::ALL.into_iter().zip(counts.results) {
                out.sample(&[("upstream", name), ("result", result.name())], count);
            }
        }
        let help = "Times that health checks changed what they say of an endpoint, by what they say since.";
        out.family("staunch_health_transitions_total", Kind::Counter, help);
        for (name, counts) in &*upstreams {
            for (state, count) in [("up", counts.turned_up), ("down", counts.turned_down)] {
                out.sample(&[("upstream", name), ("state", state)], count);
            }
        }
        out.family("staunch_health_checks_running", Kind::Gauge, "Health checks that run now.");
        out.sample(&[], self.running.load(Relaxed));
        out.family("staunch_health_checks_waiting", Kind::Gauge, "Health checks that wait because max_checks run.");
        out.sample(&[], self.waiting.load(Relaxed));
    }
}
