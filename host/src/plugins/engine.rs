//! The one wasmtime engine of a process, and the thread that ticks its epochs.
//!
//! # Why epochs, and why a tick that is not the deadline?
//!
//! An epoch check costs guest code next to nothing, but an epoch is wall time: a call that the kernel put aside
//! would look late. So two ticks only make the store look at the CPU time of its thread (see
//! [`super::instance`]), and that decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Config, Engine, OptLevel};

use crate::plugins::error::PluginError;

/// Time between two epochs.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// The most ticks a store may put between two looks at its CPU time. Less than [`CALM_TICKS`], so that the ticker
/// never rests under a call that still runs.
pub(super) const MAX_TICKS_BETWEEN_LOOKS: u64 = 50;

/// Ticks without any call after which the ticker rests.
const CALM_TICKS: u32 = 200;

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
    state: Arc<AtomicU8>,
    thread: Thread,
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
        let state = Arc::new(AtomicU8::new(CALM));
        let (engine, shared) = (engine.clone(), state.clone());
        let handle = thread::Builder::new()
            .name("plugin-ticker".into())
            .spawn(move || tick(&engine, &shared))
            .map_err(|error| PluginError::Engine { message: format!("no thread for the plugin clock: {error}") })?;
        Ok(Self { state, thread: handle.thread().clone() })
    }

    /// Keeps the epochs coming for the next [`CALM_TICKS`]. To be called after an epoch deadline was set: a ticker
    /// that rests before is woken, one that rests later has ticked past the deadline.
    #[inline]
    pub(super) fn touch(&self) {
        if self.state.load(Relaxed) != TOUCHED {
            self.wake();
        }
    }

    #[cfg(test)]
    pub(super) fn is_resting(&self) -> bool {
        self.state.load(SeqCst) == RESTING
    }

    /// Ends the thread. Deadlines of calls that still run no longer hold.
    pub(super) fn stop(&self) {
        self.state.store(STOPPED, SeqCst);
        self.thread.unpark();
    }

    #[cold]
    fn wake(&self) {
        if self.state.swap(TOUCHED, SeqCst) == RESTING {
            self.thread.unpark();
        }
    }
}

fn tick(engine: &Engine, state: &AtomicU8) {
    let mut calm = 0;
    loop {
        thread::sleep(TICK);
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
