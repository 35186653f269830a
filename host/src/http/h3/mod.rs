//! HTTP/3 (RFC 9114) in front. The libraries `quinn` and `h3` speak the protocol; what is here makes one of its streams
//! look like a connection of its own, with a head that was read and a body to come.
//!
//! Not spoken: a change of the protocol by CONNECT (RFC 9220), as `h3` knows none that the proxy could pass on. Such a
//! request is malformed for a server that has not offered it, and clients of WebSocket use another version.

mod accepted;
mod carrier;
mod flood;
mod link;
mod request;
mod server;

pub(crate) use server::{Visitor, serve, transport};
