//! Who says who connected: the PROXY protocol, as it is accepted and as it is sent.

use std::net::IpAddr;
use std::time::Duration;

use super::network::Network;
use super::reader::{Read, Reader, Scope};
use super::tree::{Kind, Value};

/// Whose connections begin with a PROXY header.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyProtocol {
    /// Absent: everybody's, those over a unix socket included.
    pub from: Option<Vec<Network>>,
    /// For the whole header ("5s").
    pub timeout: Duration,
}

/// How a connection to an endpoint begins that says who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl Default for ProxyProtocol {
    fn default() -> Self {
        Self { from: None, timeout: Duration::from_secs(5) }
    }
}

impl ProxyProtocol {
    pub(super) fn read_key(reader: &mut Reader<'_>) -> Option<Self> {
        reader.optional::<Accepted>("proxy_protocol").and_then(|accepted| accepted.0)
    }

    /// Whether a connection from there begins with a header. `None`: one over a unix socket.
    pub(crate) fn is_from(&self, peer: Option<IpAddr>) -> bool {
        match (&self.from, peer) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(networks), Some(peer)) => networks.iter().any(|network| network.contains(peer)),
        }
    }
}

impl ProxyVersion {
    pub(super) fn read_key(reader: &mut Reader<'_>) -> Option<Self> {
        reader.word("send_proxy_protocol", &[("v1", Some(Self::V1)), ("v2", Some(Self::V2))])
    }
}

/// `true`, `false` or a table.
struct Accepted(Option<ProxyProtocol>);

impl Read for Accepted {
    fn read(value: &Value, scope: &Scope<'_>) -> Option<Self> {
        match &value.kind {
            Kind::Boolean(on) => Some(Self(on.then(ProxyProtocol::default))),
            Kind::Table(table) => {
                let mut reader = Reader::new(table, scope);
                let from = reader.array("from").map(|values| {
                    let network = |value: &Value| scope.accept(value.place, scope.text(value)?.parse());
                    values.iter().filter_map(network).collect()
                });
                let mut accepted = ProxyProtocol { from, ..ProxyProtocol::default() };
                reader.set("timeout", &mut accepted.timeout);
                Some(Self(Some(accepted)))
            }
            _ => {
                scope.mismatch(value, "true, false or a table");
                None
            }
        }
    }
}
