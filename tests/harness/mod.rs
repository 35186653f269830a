//! Three nouns for tests: an [`Upstream`] that behaves as it is told, a [`Proxy`] before it, and a [`Client`].
//!
//! Everything blocks, in threads, and nothing waits longer than [`PATIENCE`]: a test that hangs fails.

mod client;
#[cfg(feature = "http3")]
mod http3;
mod log;
pub(crate) mod peer;
mod program;
mod proxy;
mod secure;
mod service;
mod upstream;
mod wait;
mod wire;

pub(crate) use client::Client;
#[cfg(feature = "http3")]
pub(crate) use http3::{Exchange, Http3, answer, code};
pub(crate) use log::Log;
pub(crate) use program::{Program, binary, staunch};
pub(crate) use proxy::{ADMIN, Proxy, api};
pub(crate) use secure::{AsyncOrigin, Authority, Caller, Channel, Identity, quoted};
pub(crate) use service::Service;
pub(crate) use upstream::{Talk, Upstream, ok};
pub(crate) use wait::{PATIENCE, eventually};
pub(crate) use wire::{End, Framing, Head, Request, Response};

/// `length` bytes in which no two places nearby look alike.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    // A prime number of bytes, so that no power of two is a period.
    let block: Vec<u8> = (0u32..65_521).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut bytes = block.repeat(length.div_ceil(block.len()));
    bytes.truncate(length);
    bytes
}
