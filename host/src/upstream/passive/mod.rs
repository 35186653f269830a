//! Passive health: live traffic tells which endpoints to leave out for a while.
//!
//! # Why passive as well as active checks?
//!
//! A check asks one question on its own path; live requests ask all of them. An endpoint that answers `/healthz` and
//! fails every order is found here and nowhere else. Three policies, of which an upstream has one: [`nginx`]'s
//! `max_fails` and `fail_timeout`, a sliding [`window`] with probes, and Envoy's [`outlier`] detection. Each is a
//! state machine that is told the time and the outcome of the dice. Moments are times since any fixed start.

mod counts;
pub(crate) mod nginx;
pub(crate) mod outlier;
pub(crate) mod window;
