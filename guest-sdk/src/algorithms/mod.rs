//! Algorithms that more than one balancer is made of, free of any host.

pub mod carried;

mod bounded;
mod draw;
mod groups;
mod ladder;
mod least;
mod levels;
mod smooth;

pub use bounded::{BoundedLoad, Room};
pub use draw::Draw;
pub use groups::{Eligible, Groups};
pub use levels::Levels;
pub use smooth::Smooth;
