//! Who is at the other end of a connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What is known of who connected, from the first byte on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// Where it came from, as itself or a trusted proxy in front says; `None` on a unix socket.
    pub(crate) address: Option<SocketAddr>,
    /// Where it connected to, as far as anybody asks for it.
    pub(crate) destination: Option<SocketAddr>,
    /// How it proved itself and agreed on secrecy; `None` without TLS.
    pub(crate) security: Option<Arc<Security>>,
}

/// What a TLS handshake came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// As in `TLSv1.3`.
    pub version: &'static str,
    /// By its name in the registry of IANA.
    pub cipher: &'static str,
    /// The name the client asked for.
    pub server_name: Option<String>,
    /// What the client showed of itself, if it did and that was verified.
    pub client: Option<ClientCertificate>,
}

/// A client's own certificate, verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The distinguished name of its subject (RFC 4514).
    pub subject: String,
    /// The distinguished name of its issuer.
    pub issuer: String,
    /// Its serial number in hexadecimal.
    pub serial: String,
    /// SHA-256 of its DER in lower-case hexadecimal.
    pub fingerprint: String,
}

impl Peer {
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address: Some(address), ..Self::default() }
    }

    /// Its address without the port, IPv4 as such.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip().to_canonical())
    }
}
