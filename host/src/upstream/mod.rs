//! A request becomes a response: balancer → pool → endpoint, with retries.

pub mod balancer;
pub mod endpoint;
pub mod retry;
