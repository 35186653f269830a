//! Algorithms that more than one balancer is made of, free of any host.

mod bounded;
mod groups;
mod smooth;

pub use bounded::{BoundedLoad, Room};
pub use groups::{Eligible, Groups};
pub use smooth::Smooth;
