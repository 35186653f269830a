//! The balancer behind this one, which the configuration names in `then`: for a balancer that takes one part of the
//! decision, such as a zone or a cookie, and leaves the rest to another.
//!
//! Requests of testers go to the endpoints that are labelled so, all others to the rest; which one of them, is decided
//! by the balancer behind (`balance = { plugin = "testers", then = "least-connections" }`):
//!
//! ```
//! use staunch_plugin::delegate::Group;
//! use staunch_plugin::{
//!     Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Invalid, PickContext, PickError, request,
//! };
//!
//! #[derive(Default)]
//! struct Testers {
//!     next: Option<Group>,
//!     stable: Option<Group>,
//! }
//!
//! impl Balancer for Testers {
//!     fn configure(_: &Config, _: &mut BalancerNeeds) -> Result<Self, Invalid> {
//!         Ok(Self::default())
//!     }
//!
//!     fn update(&mut self, endpoints: Endpoints) {
//!         let (next, stable): (Vec<_>, Vec<_>) =
//!             endpoints.iter().partition(|endpoint| endpoint.labels.contains(&("track".into(), "next".into())));
//!         let group = |of: Vec<&staunch_plugin::Endpoint>| {
//!             let ids: Vec<_> = of.iter().map(|endpoint| endpoint.id).collect();
//!             (!ids.is_empty()).then(|| Group::new(&ids))
//!         };
//!         (self.next, self.stable) = (group(next), group(stable));
//!     }
//!
//!     // The balancers behind this one hear of changes from the host.
//!     fn change(&mut self, _: &[EndpointChange]) {}
//!
//!     fn pick(&mut self, _: &PickContext) -> Result<EndpointId, PickError> {
//!         let is_tester = request::field("x-tester").is_some();
//!         let (first, second) = if is_tester { (self.next, self.stable) } else { (self.stable, self.next) };
//!         match first.map(Group::pick) {
//!             Some(Ok(endpoint)) => Ok(endpoint),
//!             _ => second.ok_or(PickError::Unavailable)?.pick(),
//!         }
//!     }
//! }
//!
//! staunch_plugin::export!(balancer: Testers);
//!
//! use staunch_plugin::testing::{self, Host, Request};
//!
//! let host = Host::new();
//! let mut balancer = host.balancer::<Testers>().unwrap();
//! let mut newest = testing::endpoint(1);
//! newest.labels = vec![("track".into(), "next".into())];
//! balancer.update(vec![testing::endpoint(0), newest].into());
//!
//! assert_eq!(host.groups(), [vec![1], vec![0]]);
//! assert_eq!(balancer.pick(&testing::pick_context()), Ok(0));
//! host.set_request(Request::default().field("x-tester", "yes"));
//! assert_eq!(balancer.pick(&testing::pick_context()), Ok(1));
//! ```

use crate::{EndpointId, PickError, host};

/// Some endpoints of the membership, with an instance of the balancer behind this one that knows of these alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group(u32);

impl Group {
    /// Makes a group. For use within [`crate::Balancer::update`], where the groups made before are gone; elsewhere
    /// the group has no endpoints. At most 64.
    pub fn new(endpoints: &[EndpointId]) -> Self {
        Self(host::delegate::group(endpoints))
    }

    /// Has one of the group's endpoints picked, with the context of the pick under way. For use within
    /// [`crate::Balancer::pick`].
    ///
    /// # Errors
    ///
    /// No endpoint of the group may have traffic, or the balancer behind this one refuses the request.
    pub fn pick(self) -> Result<EndpointId, PickError> {
        host::delegate::pick(self.0)
    }
}

/// Has an endpoint picked of the first of these groups that has one to offer.
///
/// # Errors
///
/// None has: overloaded, if the balancer behind this one says so of any.
pub fn pick_of(groups: impl IntoIterator<Item = Group>) -> Result<EndpointId, PickError> {
    let mut refused = PickError::Unavailable;
    for group in groups {
        match group.pick() {
            Err(PickError::Overloaded) => refused = PickError::Overloaded,
            Err(PickError::Unavailable) => {}
            picked => return picked,
        }
    }
    Err(refused)
}
