//! Algorithms that more than one balancer is made of, free of any host.

pub mod carried;

mod draw;
mod least;
mod levels;
mod smooth;

pub use draw::Draw;
pub use levels::Levels;
pub use smooth::Smooth;
