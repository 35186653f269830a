//! The balancer behind this one, which the configuration names in `then`: for a balancer that takes one part of the
//! decision, such as a zone or a cookie, and leaves the rest to another.

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
