//! Who is at the other end of a connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::config::Demands;

/// What is known of who connected, from the first byte on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// Where it came from, as itself or a trusted proxy in front says; `None` on a unix socket.
    pub(crate) address: Option<SocketAddr>,
    /// Where it connected to, as far as anybody asks for it.
    pub(crate) destination: Option<SocketAddr>,
    /// How it proved itself and agreed on secrecy; `None` without TLS.
    pub(crate) security: Option<Arc<Security>>,
    /// What the listener it came to wants of its requests; `None`: nothing.
    pub(crate) demands: Option<Arc<Demands>>,
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

impl Security {
    /// What rewriters know it by: the notes `tls-version`, `tls-cipher`, `tls-server-name` and, where the client has shown
    /// a certificate, `tls-client-subject`, `-issuer`, `-serial` and `-fingerprint`.
    pub fn note(&self, name: &str) -> Option<&str> {
        let client = || self.client.as_ref();
        Some(match name.strip_prefix("tls-")? {
            "version" => self.version,
            "cipher" => self.cipher,
            "server-name" => self.server_name.as_deref()?,
            "client-subject" => &client()?.subject,
            "client-issuer" => &client()?.issuer,
            "client-serial" => &client()?.serial,
            "client-fingerprint" => &client()?.fingerprint,
            _ => return None,
        })
    }
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
