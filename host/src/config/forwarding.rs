//! Whose word on the client is believed, and in which fields it is passed on.

use std::net::IpAddr;

use super::fault::BadValue;
use super::network::Network;
use super::reader::Reader;

/// The proxies in front of this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    pub networks: Vec<Network>,
    /// Whether whoever connects to a unix socket is one.
    pub unix: bool,
}

/// The field that trusted proxies tell of the client with. Others may come from the client itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrustedHeader {
    /// X-Forwarded-For or, where there is none, Forwarded.
    #[default]
    Either,
    XForwardedFor,
    Forwarded,
}

/// How endpoints are told of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarded {
    /// By X-Forwarded-For, -Proto and -Host.
    #[default]
    XForwarded,
    /// By Forwarded (RFC 7239).
    Rfc7239,
    Both,
    None,
}

/// One entry of the list of trusted proxies.
enum Trusted {
    Network(Network),
    Unix,
}

impl TrustedProxies {
    /// Whether somebody at this address is one; `None` is a unix socket.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            Some(address) => self.networks.iter().any(|network| network.contains(address)),
            None => self.unix,
        }
    }

    /// Reads the key `trusted_proxies`.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let scope = reader.scope;
        let mut read = Self::default();
        for value in reader.array("trusted_proxies")? {
            match scope.text(value).and_then(|text| scope.accept(value.place, trusted(text))) {
                Some(Trusted::Network(network)) => read.networks.push(network),
                Some(Trusted::Unix) => read.unix = true,
                None => {}
            }
        }
        Some(read)
    }
}

impl TrustedHeader {
    pub(super) const WORDS: [(&'static str, Option<Self>); 2] =
        [("x-forwarded-for", Some(Self::XForwardedFor)), ("forwarded", Some(Self::Forwarded))];
}

impl Forwarded {
    pub(super) const WORDS: [(&'static str, Option<Self>); 4] = [
        ("x-forwarded", Some(Self::XForwarded)),
        ("rfc7239", Some(Self::Rfc7239)),
        ("both", Some(Self::Both)),
        ("none", Some(Self::None)),
    ];
}

fn trusted(text: &str) -> Result<Trusted, BadValue> {
    match text.strip_prefix("unix:") {
        Some("") => Ok(Trusted::Unix),
        Some(_) => Err(BadValue::new("who connects to a unix socket has no path")
            .with_hint("write \"unix:\" to trust all that connect to unix sockets".to_owned())),
        None => text.parse().map(Trusted::Network),
    }
}
