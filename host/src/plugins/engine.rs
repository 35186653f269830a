//! The one wasmtime engine of a process, and the thread that ticks its epochs.
//!
//! # Why epochs, and why a tick that is not the deadline?
//!
//! An epoch check costs guest code next to nothing, but an epoch is wall time: a call that the kernel put aside
//! would look late. So a tick only makes the store look at the CPU time of its thread (see
//! [`super::instance`]), and that decides. Nearly every call is over before a tick: ticks are far apart until one is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Config, Engine, OptLevel};

use crate::plugins::error::PluginError;

/// Time between two epochs while every call is short: hardly one is looked at, and the tick costs a busy core next to nothing.
pub(super) const CALM_TICK: Duration = Duration::from_millis(8);
/// Time between two epochs while a call is looked at.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// The most ticks a store may put between two looks at its CPU time.
pub(super) const MAX_TICKS_BETWEEN_LOOKS: u64 = 10;

/// Ticks that are short once a call was looked at. More than until the next look.
const SHORT_TICKS: u32 = 12;

/// Ticks without any call after which the ticker rests.
const CALM_TICKS: u32 = 25;

/// Guest stack. Deep recursion in a plugin traps long before it meets the worker's own stack.
const MAX_STACK: usize = 256 * 1024;

/// Builds the engine every plugin is compiled for. A metered one counts instructions.
pub(super) fn engine(metered: bool) -> Result<Engine, PluginError> {
    let mut config = Config::new();
    config
        // Calls are synchronous; to have them otherwise costs three times the call.
        .concurrency_support(false)
        .epoch_interruption(true)
        .consume_fuel(metered)
        .max_wasm_stack(MAX_STACK)
        .cranelift_opt_level(OptLevel::Speed);
    Engine::new(&config).map_err(|error| PluginError::Engine { message: format!("{error:#}") })
}

/// Advances an engine's epoch while calls are made, and rests when none are. Clones are the same ticker.
#[derive(Clone)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    state: AtomicU8,
    /// Ticks to come that are short.
    short: AtomicU32,
}

/// No call since the ticker looked.
const CALM: u8 = 0;
/// There was a call.
const TOUCHED: u8 = 1;
/// The thread sleeps until somebody touches it.
const RESTING: u8 = 2;
/// The engine is gone.
const STOPPED: u8 = 3;

impl Ticker {
    pub(super) fn start(engine: &Engine) -> Result<Self, PluginError> {
        let shared = Arc::new(Shared::default());
        let (engine, ticking) = (engine.clone(), shared.clone());
        let handle = thread::Builder::new()
            .name("plugin-ticker".into())
            .spawn(move || tick(&engine, &ticking))
            .map_err(|error| PluginError::Engine { message: format!("no thread for the plugin clock: {error}") })?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// Keeps the epochs coming for the next [`CALM_TICKS`]. To be called after an epoch deadline was set: a ticker
    /// that rests before is woken, one that rests later has ticked past the deadline.
    #[inline]
    pub(super) fn touch(&self) {
        if self.shared.state.load(Relaxed) != TOUCHED {
            self.wake();
        }
    }

    /// A call is being looked at, which may have to end soon.
    pub(super) fn hurry(&self) {
        self.touch();
        if self.shared.short.swap(SHORT_TICKS, SeqCst) == 0 {
            self.thread.unpark();
        }
    }

    #[cfg(test)]
    pub(super) fn is_resting(&self) -> bool {
        self.shared.state.load(SeqCst) == RESTING
    }

    /// Ends the thread. Deadlines of calls that still run no longer hold.
    pub(super) fn stop(&self) {
        self.shared.state.store(STOPPED, SeqCst);
        self.thread.unpark();
    }

    #[cold]
    fn wake(&self) {
        if self.shared.state.swap(TOUCHED, SeqCst) == RESTING {
            self.thread.unpark();
        }
    }
}

fn tick(engine: &Engine, Shared { state, short }: &Shared) {
    let mut calm = 0;
    loop {
        let is_short = short.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        thread::park_timeout(if is_short { TICK } else { CALM_TICK });
        engine.increment_epoch();
        match state.compare_exchange(TOUCHED, CALM, SeqCst, SeqCst) {
            Ok(_) => calm = 0,
            Err(STOPPED) => return,
            Err(_) => calm += 1,
        }
        if calm >= CALM_TICKS && state.compare_exchange(CALM, RESTING, SeqCst, SeqCst).is_ok() {
            while state.load(SeqCst) == RESTING {
                thread::park();
            }
            calm = 0;
        }
    }
}
