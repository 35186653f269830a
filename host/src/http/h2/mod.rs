//! HTTP/2 (RFC 9113), on both sides. The library `h2` speaks the protocol; what is here makes one of its streams look
//! like a connection of its own, with a head that was read and a body to come.

mod accepted;
mod error;
pub(crate) mod flood;
mod incoming;
mod opened;
mod outgoing;
pub(crate) mod server;
mod websocket;

pub(crate) use opened::{Link, connect};
pub(crate) use server::serve;
pub(crate) use websocket::ensure_key;

/// What a client sends first on a connection of this version (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
