//! Where to accept.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::fault::{BadValue, Fault};
use super::proxy_protocol::ProxyProtocol;
use super::reader::Reader;
use super::relay::{TcpRelay, UdpRelay};
use super::settings::Place;
use super::socket::ListenOptions;
use super::value;

/// An address to accept on, displayed as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// Port 0 lets the system choose.
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// One address, and what becomes of those who connect to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    pub address: ListenAddress,
    /// ("http")
    pub protocol: Protocol,
    /// Whose connections begin with a PROXY header (nobody's).
    pub proxy_protocol: Option<ProxyProtocol>,
    pub options: ListenOptions,
}

/// What is spoken at a listener.
#[derive(Clone, Debug, PartialEq)]
pub enum Protocol {
    Http,
    Tcp(TcpRelay),
    Udp(UdpRelay),
}

/// What carries the bytes. The same address may be listened on for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// TCP, or a unix socket's connections.
    Streams,
    /// UDP.
    Datagrams,
}

impl Listener {
    /// A listener for HTTP with all defaults.
    pub fn new(address: ListenAddress) -> Self {
        Self { address, protocol: Protocol::Http, proxy_protocol: None, options: ListenOptions::default() }
    }

    pub fn carrier(&self) -> Carrier {
        match self.protocol {
            Protocol::Http | Protocol::Tcp(_) => Carrier::Streams,
            Protocol::Udp(_) => Carrier::Datagrams,
        }
    }

    /// The upstreams it leads to without a route, by their positions.
    pub fn upstreams(&self) -> impl Iterator<Item = usize> {
        let (one, named) = match &self.protocol {
            Protocol::Http => (None, &[][..]),
            Protocol::Tcp(relay) => (relay.upstream, &relay.sni[..]),
            Protocol::Udp(relay) => (Some(relay.upstream), &[][..]),
        };
        named.iter().map(|route| route.upstream).chain(one)
    }

    pub(super) fn read_all(reader: &mut Reader<'_>) -> Vec<Self> {
        let mut read: Vec<(Self, Place)> = Vec::new();
        for mut entry in reader.tables("listeners") {
            let place = entry.place_of("address");
            let Some(listener) = Self::read(&mut entry) else { continue };
            if let Some((_, first)) = read.iter().find(|(other, _)| other.collides_with(&listener)) {
                let message = format!("`{}` is listened on already at {first}", listener.address);
                reader.scope.fault(Fault::new(place, message));
            }
            read.push((listener, place));
        }
        if reader.lacks("listeners") {
            reader.scope.absence(
                Fault::new(reader.place_of("listeners"), "no listener")
                    .with_hint("add `[[listeners]]` with `address = \"127.0.0.1:8080\"`".to_owned()),
            );
        }
        read.into_iter().map(|(listener, _)| listener).collect()
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let words = [("http", Some("http")), ("tcp", Some("tcp")), ("udp", Some("udp"))];
        let word = match reader.value("protocol") {
            None => Some("http"),
            Some(_) => reader.word("protocol", &words),
        };
        reader.later(&["tls"]);
        let address = ListenAddress::read(reader);
        let protocol = match word {
            Some("tcp") => Some(Protocol::Tcp(TcpRelay::read(reader))),
            Some("udp") => UdpRelay::read(reader).map(Protocol::Udp),
            Some(_) => {
                let why = "belongs to listeners with `protocol = \"tcp\"` or `\"udp\"`";
                reader.misplaced(&["upstream", "sni", "idle_timeout", "responses", "max_sessions"], why);
                Some(Protocol::Http)
            }
            None => {
                reader.ignore(&["upstream", "sni", "idle_timeout", "responses", "max_sessions"]);
                None
            }
        };
        let streams = word != Some("udp");
        let proxy_protocol = if streams { ProxyProtocol::read_key(reader) } else { None };
        let options = ListenOptions::read(reader, streams);
        let (address, protocol) = (address?, protocol?);
        if let (ListenAddress::Unix(_), Protocol::Udp(_)) = (&address, &protocol) {
            let fault = Fault::new(reader.place_of("address"), "UDP has no unix sockets");
            reader.scope.fault(fault.with_hint("write an IP address and a port".to_owned()));
        }
        Some(Self { address, protocol, proxy_protocol, options })
    }

    /// Whether both cannot be listened on at once.
    fn collides_with(&self, other: &Self) -> bool {
        self.carrier() == other.carrier() && self.address.collides_with(&other.address)
    }
}

impl ListenAddress {
    /// Reads the key `address`.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let place = reader.place_of("address");
        match reader.required_parse("address", str::parse)? {
            Self::Unix(path) => {
                let path = reader.scope.resolve(path);
                reader.scope.accept(place, value::socket_path(path)).map(Self::Unix)
            }
            tcp => Some(tcp),
        }
    }

    /// Whether connections to one address would come to the other.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(other)) => {
                let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
                let is_same = one.ip() == other.ip() || is_any && one.is_ipv4() == other.is_ipv4();
                is_same && one.port() == other.port() && one.port() != 0
            }
            _ => self == other,
        }
    }

    /// Whether both cannot be listened on at once.
    fn collides_with(&self, other: &Self) -> bool {
        self == other && !matches!(self, Self::Tcp(address) if address.port() == 0)
    }
}

/// Reads `127.0.0.1:8080`, `[::1]:8080`, `unix:/path`, or `:8080` for every IPv4 address of the machine.
impl FromStr for ListenAddress {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if let Some(path) = text.strip_prefix("unix:") {
            return value::unix_path(path).map(Self::Unix);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Tcp(address));
        }
        if let Some(port) = text.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()) {
            return Ok(Self::Tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))));
        }
        Err(BadValue::new(format!("`{}` is not an address to listen on", value::shown(text))).with_hint(hint(text)))
    }
}

/// What somebody who wrote `text` may have meant.
fn hint(text: &str) -> String {
    let general = "write an IP address and a port like `127.0.0.1:8080` or `[::1]:8080`, or `unix:/path`";
    if let Some((_, rest)) = text.split_once("://") {
        return format!("did you mean `{}`?", value::shown(rest.trim_end_matches('/')));
    }
    if text.parse::<u16>().is_ok() {
        return format!("did you mean `:{text}`?");
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return format!("did you mean `{address}:8080`?");
    }
    if let Some(hint) = value::in_brackets(text) {
        return hint;
    }
    match text.rsplit_once(':') {
        Some(("localhost", port)) => format!("did you mean `127.0.0.1:{port}`?"),
        Some(("*", port)) => format!("did you mean `0.0.0.0:{port}`?"),
        _ if text.starts_with('/') => format!("did you mean `unix:{}`?", value::shown(text)),
        _ => general.to_owned(),
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_displayed_as_it_can_be_read() {
        for (text, shown) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:80", "[::1]:80"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            (":8080", "0.0.0.0:8080"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("unix:/run/s.sock", "unix:/run/s.sock"),
        ] {
            let address: ListenAddress = text.parse().expect("it can be read");
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }
}
