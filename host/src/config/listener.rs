//! Where to accept.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::demands::RedirectHttps;
use super::fault::{BadValue, Fault};
use super::proxy_protocol::ProxyProtocol;
use super::reader::Reader;
use super::relay::{TcpRelay, UdpRelay};
use super::server_tls::{ServerTls, TlsVersion};
use super::settings::Place;
use super::socket::ListenOptions;
use super::tree::Kind;
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
    /// TLS of which the proxy is the server; absent: none.
    pub tls: Option<ServerTls>,
    /// Whether requests are sent to where there is TLS; absent: they are served.
    pub redirect_https: Option<RedirectHttps>,
    /// Whether HTTP/3 is served too, on the same port of UDP (false).
    pub http3: bool,
    /// What clients of other versions are told of HTTP/3 (where it is, for a day).
    pub alt_svc: AltSvc,
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

/// The field `alt-svc` of responses (RFC 7838).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AltSvc {
    /// That HTTP/3 is on the port of the listener.
    #[default]
    Own,
    /// Something else, as where clients see another port.
    Text(String),
    Absent,
}

impl Listener {
    /// A listener for HTTP with all defaults.
    pub fn new(address: ListenAddress) -> Self {
        Self {
            address,
            protocol: Protocol::Http,
            tls: None,
            redirect_https: None,
            http3: false,
            alt_svc: AltSvc::default(),
            proxy_protocol: None,
            options: ListenOptions::default(),
        }
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
        let is_http = word == Some("http");
        if word.is_some() && !is_http {
            let why = "belongs to listeners with `protocol = \"http\"`";
            reader.misplaced(&["redirect_https", "http3", "alt_svc"], why);
        }
        if !streams {
            reader.misplaced(&["tls"], "is for connections, and UDP has none");
        }
        let tls = if streams { ServerTls::read(reader, "tls") } else { None };
        if let (Some(Protocol::Tcp(relay)), Some(_)) = (&protocol, &tls)
            && !relay.sni.is_empty()
        {
            let message = "with `tls` the TLS of clients ends here, and `sni` is for TLS that is passed on as it is";
            reader.scope.fault(Fault::new(reader.place_of("sni"), message));
        }
        let redirect_https = if is_http { RedirectHttps::read(reader, "redirect_https") } else { None };
        if tls.is_some() && redirect_https.is_some() {
            let message = "who comes here has TLS already, so that `redirect_https` would go round in a circle";
            reader.scope.fault(Fault::new(reader.place_of("redirect_https"), message));
        }
        let http3 = is_http && reader.optional("http3").unwrap_or_default();
        let alt_svc = if is_http { AltSvc::read(reader, "alt_svc") } else { AltSvc::default() };
        if is_http && !http3 && reader.value("alt_svc").is_some() && alt_svc != AltSvc::Absent {
            let fault = Fault::new(reader.place_of("alt_svc"), "`alt_svc` has no meaning without `http3`");
            reader.scope.fault(fault.with_hint("add `http3 = true`".to_owned()));
        }
        let proxy_protocol = if streams { ProxyProtocol::read_key(reader) } else { None };
        let options = ListenOptions::read(reader, streams);
        let (address, protocol) = (address?, protocol?);
        if http3 && let Some(message) = no_http3(&address, tls.as_ref()) {
            reader.scope.fault(Fault::new(reader.place_of("http3"), message));
        }
        if let (ListenAddress::Unix(_), Protocol::Udp(_)) = (&address, &protocol) {
            let fault = Fault::new(reader.place_of("address"), "UDP has no unix sockets");
            reader.scope.fault(fault.with_hint("write an IP address and a port".to_owned()));
        }
        Some(Self { address, protocol, tls, redirect_https, http3, alt_svc, proxy_protocol, options })
    }

    /// Whether both cannot be listened on at once. HTTP/3 is on a port of UDP as well.
    fn collides_with(&self, other: &Self) -> bool {
        let datagrams = |listener: &Self| listener.http3 || listener.carrier() == Carrier::Datagrams;
        let is_same = self.carrier() == other.carrier() || datagrams(self) && datagrams(other);
        is_same && self.address.collides_with(&other.address)
    }

    /// What clients are told of HTTP/3. `address`: with the port that was given.
    pub(super) fn alt_svc(&self, address: &ListenAddress) -> Option<String> {
        match (&self.alt_svc, address) {
            _ if !self.http3 => None,
            (AltSvc::Text(text), _) => Some(text.clone()),
            // A day, for which most clients hold on to it.
            (AltSvc::Own, ListenAddress::Tcp(address)) => Some(format!("h3=\":{}\"; ma=86400", address.port())),
            _ => None,
        }
    }
}

/// Why HTTP/3 cannot be served there.
fn no_http3(address: &ListenAddress, tls: Option<&ServerTls>) -> Option<&'static str> {
    match (address, tls) {
        _ if !cfg!(feature = "http3") => Some("this program was built without HTTP/3"),
        (ListenAddress::Unix(_), _) => Some("HTTP/3 needs a port, which a unix socket has not"),
        (_, None) => Some("HTTP/3 is always secure, and needs `tls`"),
        (_, Some(tls)) if tls.max_version < TlsVersion::Tls13 => Some("HTTP/3 needs TLS 1.3"),
        _ => None,
    }
}

impl AltSvc {
    /// Reads `true`, `false` or what the field is to say.
    fn read(reader: &mut Reader<'_>, key: &'static str) -> Self {
        let Some(value) = reader.value(key) else { return Self::default() };
        match &value.kind {
            Kind::Boolean(true) => Self::Own,
            Kind::Boolean(false) => Self::Absent,
            Kind::String(text) => match text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
                true if !text.trim().is_empty() => Self::Text(text.trim().to_owned()),
                _ => {
                    let fault = Fault::new(value.place, format!("`{}` cannot be sent", value::shown(text)));
                    reader.scope.fault(fault.with_hint("write something like `h3=\":443\"; ma=86400`".to_owned()));
                    Self::default()
                }
            },
            _ => {
                reader.scope.mismatch(value, "true, false or a text");
                Self::default()
            }
        }
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
