//! Write plugins for the staunch proxy.
//!
//! A plugin is a WebAssembly component that takes one kind of decision for the proxy:
//!
//! | kind | trait | decides |
//! |---|---|---|
//! | balancer | [`Balancer`], and [`Feedback`] if it learns | which endpoint an attempt goes to |
//! | retry policy | [`Retry`] | whether a failed attempt is followed by another |
//! | rewriter | [`Rewriter`] with [`RequestRewriter`], [`ResponseRewriter`] or both | how heads are changed |
//! | | and [`RequestBodyRewriter`], [`ResponseBodyRewriter`] | how bodies are changed |
//!
//! A plugin of any kind may hand what it learned to its successor: [`Handover`].
//!
//! Implement the trait on a type of yours, name the type in [`export!`], build with
//! `cargo build --release --target wasm32-unknown-unknown`. What you build loads as it is:
//! `[plugins.NAME] path = "…/name.wasm"`.
//!
//! # A balancer
//!
//! The ready endpoint with the fewest requests in flight, and among equals by chance, whole:
//!
//! ```
//! use staunch_plugin::{
//!     Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Invalid, PickContext, PickError, loads,
//!     random,
//! };
//!
//! struct LeastBusy(Endpoints);
//!
//! impl Balancer for LeastBusy {
//!     fn configure(_: &Config, _: &mut BalancerNeeds) -> Result<Self, Invalid> {
//!         Ok(Self(Endpoints::default()))
//!     }
//!
//!     fn update(&mut self, endpoints: Endpoints) {
//!         self.0 = endpoints;
//!     }
//!
//!     fn change(&mut self, changes: &[EndpointChange]) {
//!         self.0.apply(changes);
//!     }
//!
//!     fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
//!         let candidates = self.0.candidates(cx).map(|endpoint| endpoint.id);
//!         let idlest = candidates.min_by_key(|&id| (loads::active(id), random::mix(cx.random, id)));
//!         idlest.ok_or(PickError::Unavailable)
//!     }
//! }
//!
//! staunch_plugin::export!(balancer: LeastBusy);
//!
//! // What follows is a test: outside a proxy, [`testing::Host`] answers in place of one.
//! use staunch_plugin::testing::{self, Host};
//!
//! let host = Host::new();
//! host.set_active(0, 7);
//! let mut balancer = host.balancer::<LeastBusy>().unwrap();
//! balancer.update(testing::endpoints(2));
//!
//! assert_eq!(balancer.pick(&testing::pick_context()), Ok(1));
//! ```
//!
//! # A retry policy
//!
//! Tries once more, elsewhere, when an endpoint says that it is overloaded:
//!
//! ```
//! use std::time::Duration;
//!
//! use staunch_plugin::{AttemptContext, Config, Invalid, Outcome, Retry, RetryNeeds, RetryPlan};
//!
//! struct Elsewhere {
//!     delay: Duration,
//! }
//!
//! impl Retry for Elsewhere {
//!     fn configure(config: &Config, needs: &mut RetryNeeds) -> Result<Self, Invalid> {
//!         needs.want_status(503, 503);
//!         Ok(Self { delay: config.get_or("delay", Duration::from_millis(50)) })
//!     }
//!
//!     fn decide(&mut self, cx: &AttemptContext) -> Option<RetryPlan> {
//!         let overloaded = cx.outcome == Outcome::Status(503) && cx.attempt == 0;
//!         overloaded.then_some(RetryPlan { delay: self.delay, elsewhere: true })
//!     }
//! }
//!
//! staunch_plugin::export!(retry: Elsewhere);
//!
//! use staunch_plugin::testing::{self, Host};
//!
//! let host = Host::new();
//! host.set("delay", "5ms");
//! let mut policy = host.retry::<Elsewhere>().unwrap();
//!
//! let plan = policy.decide(&testing::attempt_context(Outcome::Status(503)));
//! assert_eq!(plan, Some(RetryPlan { delay: Duration::from_millis(5), elsewhere: true }));
//! ```
//!
//! # A rewriter
//!
//! Takes a prefix off the path and tells the endpoint about it:
//!
//! ```
//! use staunch_plugin::{
//!     Config, FieldEdit, Invalid, RequestAction, RequestRewriter, Rewriter, RewriterNeeds, TargetEdit, Wanted, request,
//! };
//!
//! struct StripPrefix {
//!     prefix: String,
//! }
//!
//! impl Rewriter for StripPrefix {
//!     fn configure(config: &Config, _: &mut RewriterNeeds) -> Result<Self, Invalid> {
//!         Ok(Self { prefix: config.required("prefix")? })
//!     }
//! }
//!
//! impl RequestRewriter for StripPrefix {
//!     fn on_request(&mut self, _: &Wanted) -> RequestAction {
//!         let target = request::path_and_query();
//!         match target.strip_prefix(&self.prefix) {
//!             Some(rest) if rest.starts_with('/') => RequestAction::Rewrite(
//!                 vec![TargetEdit::PathAndQuery(rest.to_owned())],
//!                 vec![FieldEdit::set("x-forwarded-prefix", &*self.prefix)],
//!             ),
//!             _ => RequestAction::Proceed,
//!         }
//!     }
//! }
//!
//! staunch_plugin::export!(rewriter: StripPrefix + request);
//!
//! use staunch_plugin::testing::{Host, Request};
//!
//! let host = Host::new();
//! let missing = host.rewriter::<StripPrefix>().err().unwrap();
//! assert_eq!(missing[0].path, "prefix");
//!
//! host.set("prefix", "/api");
//! let mut rewriter = host.rewriter::<StripPrefix>().unwrap();
//! host.set_request(Request { path_and_query: "/apix".into(), ..Request::default() });
//! assert_eq!(rewriter.on_request(&host.wanted_of_request()), RequestAction::Proceed);
//! ```
//!
//! # What else there is
//!
//! Whole examples too: a balancer that learns is at [`Feedback`], one that leaves a part of the decision to another at
//! [`delegate`], a rewriter of bodies at [`RequestBodyRewriter`], and state that outlives its version at [`Handover`].
//!
//! # What the host promises, and what it asks
//!
//! There is an instance of a plugin for each use (an upstream, a route's step) and worker, so nothing here is
//! shared or locked: `&mut self` is all of it. What must be seen by every worker, or outlive an instance, goes to
//! [`shared`]. A call cannot wait. A plugin that panics, runs too long or answers nonsense loses its instance and
//! the host's own fallback answers that one call; [`log::panics`] says where it happened.
//!
//! For settings there are [`Config`] with durations, lists and tables, [`FieldName`] for headers that a plugin changes,
//! and [`template`] for text with variables such as `$remote_addr`.
//!
//! A component imports only what its code calls, and the host computes only what is imported or asked for in
//! `configure`: a balancer that never reads [`loads`] costs nobody a measurement.

#![warn(missing_docs)]

pub mod algorithms;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod bindings;
pub mod clock;
pub mod delegate;
#[doc(hidden)]
pub mod export;
pub mod loads;
pub mod log;
pub mod metrics;
pub mod pace;
pub mod random;
pub mod request;
pub mod response;
pub mod routing;
pub mod selection;
pub mod shared;
pub mod template;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[cfg(any(test, all(target_arch = "wasm32", feature = "allocator", not(target_feature = "atomics"))))]
mod allocator;
mod balancer;
mod config;
mod endpoints;
mod field_name;
mod handover;
mod host;
mod retry;
mod rewriter;
mod spelling;

pub use balancer::{Balancer, BalancerNeeds, Feedback, FeedbackKind, KeySource, PickContext, PickError, Sample};
pub use clock::Instant;
pub use config::{Config, Invalid, Issue, Issues, Setting, choose};
pub use endpoints::{Endpoint, EndpointChange, EndpointId, Endpoints};
pub use field_name::FieldName;
pub use handover::Handover;
pub use retry::{AttemptContext, Failure, MethodKind, Outcome, Retry, RetryNeeds, RetryPlan};
pub use rewriter::{
    FieldEdit, LocalResponse, RequestAction, RequestBodyRewriter, RequestRewriter, ResponseAction,
    ResponseBodyRewriter, ResponseRewriter, Rewriter, RewriterNeeds, TargetEdit, Wanted, WantedField,
};
pub use spelling::nearest;

// A plugin that is told of threads by its target has to bring an allocator that can do with them.
#[cfg(all(target_arch = "wasm32", feature = "allocator", not(target_feature = "atomics")))]
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator::new();

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The page for newcomers, whose source has to compile.
#[cfg(doctest)]
#[doc = include_str!("../../examples/plugins/README.md")]
struct Newcomers;
