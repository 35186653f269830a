//! What one endpoint has come to.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::operator::{EndpointOrder, Sayings};
use crate::upstream::passive::nginx::Record;
use crate::upstream::passive::outlier::Monitor;
use crate::upstream::passive::window::{Circuit, Ticket};

/// What an endpoint has come to. Outlives configurations: it belongs to an address within an upstream's name.
#[derive(Debug)]
pub(crate) struct EndpointState {
    /// Requests in flight; counted only where there is a limit.
    pub(super) connections: AtomicU32,
    /// `max_connections` as it is configured now, for who leaves.
    pub(super) limit: AtomicU32,
    /// A copy of `record.fails`, so that the path without failures takes no lock.
    pub(super) fails: AtomicU32,
    /// Locked only by the path with failures, for a few instructions.
    pub(super) record: Mutex<Record>,
    /// Locked for each attempt under the policy that has it, as the next one.
    pub(super) circuit: Mutex<Circuit>,
    pub(super) monitor: Mutex<Monitor>,
    /// What the active check says.
    pub(super) checked_up: AtomicBool,
    /// Whether the active check has not come to a verdict yet, without which it has no traffic.
    pub(super) awaits_check: AtomicBool,
    /// Whether it was there when the upstream was, and no check has failed since: when its first one passes, it does
    /// not come back, it begins.
    pristine: AtomicBool,
    /// What an operator has said.
    pub(super) sayings: Mutex<Sayings>,
    /// Whether that is anything, so that the path without it takes no lock.
    has_sayings: AtomicBool,
    /// When it last came into service, in milliseconds after the start, plus one; 0: it always was.
    arrived: AtomicU64,
    /// When failures or checks last changed its state, in seconds of Unix time; 0: never.
    since: AtomicU64,
    /// The upstream's: changes whenever readiness may have changed.
    generation: Arc<AtomicU64>,
}

/// Moments of states are times since this one.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Time since the start.
pub(super) fn moment(now: Instant) -> Duration {
    now.saturating_duration_since(*START)
}

/// What [`second`] begins with; far enough from 0 that a fresh record is long out of date.
const FIRST_SECOND: u64 = 1_000_000;

/// Seconds since the start, as records of nginx's policy count them.
pub(super) fn second(now: Instant) -> u64 {
    moment(now).as_secs() + FIRST_SECOND
}

/// The time since the start at which a second begins.
pub(super) fn begin_of(second: u64) -> Duration {
    Duration::from_secs(second.saturating_sub(FIRST_SECOND))
}

impl EndpointState {
    /// `is_up`: whether it has traffic before a check has come to a verdict.
    pub(super) fn new(generation: Arc<AtomicU64>, is_up: bool) -> Self {
        Self {
            connections: AtomicU32::new(0),
            limit: AtomicU32::new(u32::MAX),
            fails: AtomicU32::new(0),
            record: Mutex::default(),
            circuit: Mutex::default(),
            monitor: Mutex::default(),
            checked_up: AtomicBool::new(is_up),
            awaits_check: AtomicBool::new(!is_up),
            pristine: AtomicBool::new(true),
            sayings: Mutex::default(),
            has_sayings: AtomicBool::new(false),
            arrived: AtomicU64::new(0),
            since: AtomicU64::new(0),
            generation,
        }
    }

    /// One that joins others which serve already.
    pub(super) fn joining(generation: Arc<AtomicU64>, is_up: bool, now: Instant) -> Self {
        let state = Self::new(generation, is_up);
        state.pristine.store(false, Relaxed);
        state.arrive(now);
        state
    }

    /// Gives a place back.
    pub(crate) fn leave(&self) {
        if self.connections.fetch_sub(1, Relaxed) == self.limit.load(Relaxed) {
            self.changed();
        }
    }

    /// Nobody will learn how a request ended that was sent under this ticket.
    pub(crate) fn abandoned(&self, ticket: Ticket) {
        if self.circuit.lock().abandoned(ticket).is_some() {
            self.changed();
        }
    }

    /// It has no traffic until the active check has come to a verdict.
    pub(crate) fn await_check(&self) {
        self.awaits_check.store(true, Relaxed);
        if self.checked_up.swap(false, Relaxed) {
            self.turned();
        }
    }

    /// The active check has come to a verdict.
    pub(crate) fn checked(&self, up: bool) {
        let begins = up && self.pristine.load(Relaxed);
        if !up {
            self.pristine.store(false, Relaxed);
        }
        let was_awaited = self.awaits_check.swap(false, Relaxed);
        let is_news = self.checked_up.swap(up, Relaxed) != up;
        if is_news && up && !begins {
            self.arrive(Instant::now());
        }
        if is_news || was_awaited {
            self.turned();
        }
    }

    /// An operator has a say.
    pub(super) fn say(&self, order: EndpointOrder) {
        self.sayings.lock().take(order, SystemTime::now());
        self.has_sayings.store(true, Relaxed);
    }

    /// What an operator has said of something.
    pub(super) fn said<T>(&self, of: impl FnOnce(&Sayings) -> Option<T>) -> Option<T> {
        if self.has_sayings.load(Relaxed) { of(&self.sayings.lock()) } else { None }
    }

    /// It comes into service, and begins small where there is a slow start.
    pub(super) fn arrive(&self, now: Instant) {
        let millis = u64::try_from(moment(now).as_millis()).unwrap_or(u64::MAX);
        self.arrived.store(millis.saturating_add(1), Relaxed);
    }

    /// How long ago it came into service; `None` when it always was.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        let arrived = Duration::from_millis(self.arrived.load(Relaxed).checked_sub(1)?);
        Some(moment(now).saturating_sub(arrived))
    }

    /// Its state has changed, now.
    pub(super) fn turned(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.since.store(now.as_secs(), Relaxed);
        self.changed();
    }

    /// When its state last changed, if it ever did.
    pub(super) fn since(&self) -> Option<SystemTime> {
        let seconds = self.since.load(Relaxed);
        (seconds > 0).then(|| UNIX_EPOCH + Duration::from_secs(seconds))
    }

    pub(super) fn changed(&self) {
        self.generation.fetch_add(1, Relaxed);
    }
}

/// Of an upstream of its own.
impl Default for EndpointState {
    fn default() -> Self {
        Self::new(Arc::default(), true)
    }
}
