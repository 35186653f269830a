//! What the author of a plugin has before any proxy runs: a judge, recorded cases, a stopwatch, a first project.
//!
//! All of it calls the component through the same host as a proxy does, in a [`Simulation`]: clocks, chance, loads
//! and membership are made up here, so a seed repeats everything.
//!
//! [`Simulation`]: crate::plugins::Simulation

pub mod cases;
pub mod check;
mod people;
mod rig;
pub mod scaffold;
mod subject;
pub mod toolchain;

pub use subject::Subject;
