//! Algorithms that more than one balancer is made of, free of any host.

mod smooth;

pub use smooth::Smooth;
