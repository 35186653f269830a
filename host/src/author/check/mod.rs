//! Judges a plugin by properties that every plugin of its kind has, with no proxy around it.

mod balancer;
mod cost;
mod determinism;
mod keyed;
mod loads;
mod parts;
mod report;
mod retry;
mod rewriter;
mod walk;

pub use balancer::{Claim, Claims};
pub use report::{Property, Report, Verdict};

use crate::author::Subject;
use crate::plugins::Kind;

/// What each property says, for a person.
pub const PROPERTIES: &str = include_str!("properties.md");

/// Judges the subject as a plugin of one kind. The same seed makes the same findings.
pub fn check(subject: &Subject, kind: Kind, seed: u64, claims: &Claims) -> Report {
    match kind {
        Kind::Balancer => balancer::judge(subject, seed, claims),
        Kind::Retry => retry::judge(subject, seed, claims),
        Kind::Rewriter => rewriter::judge(subject, seed, claims),
    }
}
