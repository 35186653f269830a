//! TLS (RFC 8446, RFC 5246): connections are made secure, as their client or their server.
//!
//! Everything that can be wrong with files is told when a [`Connector`] or an [`Acceptor`] is built; what is left for a connection is what
//! only its peer decides.

mod chooser;
mod client;
mod files;
mod name;
mod named;
mod ocsp;
mod server;
mod tickets;

use crate::net::Stream;

pub(crate) use client::Connector;
#[cfg(feature = "http3")]
pub(crate) use server::security_of_quic;
pub(crate) use server::{Acceptor, security};
pub(crate) use tickets::Tickets;

/// A connection that TLS runs over, as its client or its server.
pub(crate) type Secured = tokio_rustls::TlsStream<Stream>;

/// Application protocols by their names in ALPN (RFC 7301).
pub(crate) const HTTP1: &[u8] = b"http/1.1";
pub(crate) const HTTP2: &[u8] = b"h2";

/// Why files and settings do not make TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadTls {
    #[error("{file}: {why}")]
    File { file: String, why: String },
    #[error("the system has no certificates to trust; name a `ca`, or `verify = false`")]
    NoRoots,
    #[error("{0}")]
    Unfit(String),
}
