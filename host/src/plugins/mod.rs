//! WebAssembly components behind the seams of `upstream` and `filters`.
//!
//! A file becomes a [`Plugin`] when it is loaded: made a component, compiled, its imports and exports looked at. A
//! [`Use`] is one place where it is used, with its settings: it is shared by all workers and keeps what must outlive
//! an instance. Each worker has one long-lived instance for each use, in a store of its own, behind [`Balancer`],
//! [`RetryPolicy`] or [`Filter`].
//!
//! # What does a fault cost?
//!
//! One call. The instance and its store are thrown away, the policy of the use answers the call, and a fresh
//! instance is built on a thread of its own and taken up by a later call. Three faults in ten seconds leave the use
//! out for a while (`faults.rs`). No system interface is linked, so a plugin can do nothing but what `wit/` names.
//!
//! [`Balancer`]: crate::upstream::balancer::Balancer
//! [`RetryPolicy`]: crate::upstream::retry::RetryPolicy
//! [`Filter`]: crate::filters::Filter

mod balancer;
mod behind;
#[allow(unsafe_code, unreachable_pub, unused_qualifications, dead_code, clippy::all, reason = "generated code")]
mod bindings;
mod body;
mod budget;
pub mod builtin;
mod cache;
mod clock;
mod compiler;
mod engine;
mod error;
mod faults;
#[cfg(test)]
mod golden;
mod handover;
mod host;
mod imports;
mod inspect;
mod instance;
mod load;
mod metrics;
mod names;
mod rebuild;
mod reexport;
mod retry;
mod rewriter;
mod shared;
mod simulation;
mod tally;
mod uses;
mod values;

#[cfg(test)]
mod guests;
#[cfg(test)]
mod tests;

use std::fmt;

pub use balancer::{Member, ReadyBalancer};
pub use cache::{CodeCache, usual_folder};
pub(crate) use clock::thread_cpu_time;
pub use compiler::{Origin, digest};
pub use error::{CONTRACT, ConfigIssue, Fault, PluginError};
pub use faults::Cause;
pub use host::{Limits, Plugin, PluginHost, verify_digest};
pub use inspect::Exports;
pub use metrics::{MetricValue, PluginMetric};
pub use names::UpstreamNames;
pub use retry::ReadyRetry;
pub use rewriter::ReadyRewriter;
pub use simulation::{Cost, Simulation};
pub use uses::{Surroundings, Use, UseStatus};

/// What a plugin decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Balancer,
    Retry,
    Rewriter,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Balancer => "balancer",
            Self::Retry => "retry",
            Self::Rewriter => "rewriter",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Balancer => "balancer",
            Self::Retry => "retry policy",
            Self::Rewriter => "rewriter",
        })
    }
}
