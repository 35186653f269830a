//! What a plugin may call: the host's side of every interface it can import.
//!
//! No function here waits for anything, and none panics on what a plugin passes.

mod copied;
mod delegate;
mod environment;
mod exchange;
mod log;
mod metrics;
mod registration;
mod shared;

use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};

use crate::plugins::bindings::Everything;
use crate::plugins::instance::State;

/// All that is granted, and nothing else.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    Everything::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}
