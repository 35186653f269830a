//! The whole proxy from outside, over real sockets: what clients and endpoints see of it.

#![warn(clippy::disallowed_methods)]
#![expect(clippy::result_large_err, reason = "a test that fails may be slow about it")]

mod cases;
mod harness;
