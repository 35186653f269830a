//! The whole proxy from outside, over real sockets: what clients and endpoints see of it.

mod cases;
mod harness;
