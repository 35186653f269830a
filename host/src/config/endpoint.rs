//! One address in an upstream.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::fault::{BadValue, Fault};
use super::reader::{Read, Reader, Scope};
use super::tree::{Kind, Value};
use super::value;

#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    pub address: EndpointAddress,
    /// As it is written.
    pub text: String,
    /// 1 to 65535 (1).
    pub weight: u32,
    pub backup: bool,
    /// No traffic, and no checks.
    pub down: bool,
    /// No new requests; those in flight finish, and checks go on.
    pub drain: bool,
    /// Requests in flight at most, over all workers; absent: no limit.
    pub max_connections: Option<u32>,
    pub zone: Option<String>,
    pub labels: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// An address, or a name that is looked up when the proxy starts.
    Tcp {
        /// A name in lower case, or an address without brackets.
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

impl EndpointAddress {
    /// The name or address of the machine, without brackets; a unix socket is on this one.
    pub fn host(&self) -> &str {
        match self {
            Self::Tcp { host, .. } => host,
            Self::Unix(_) => "localhost",
        }
    }
}

impl Endpoint {
    /// An endpoint with all defaults. `text` is its address as it is written.
    pub fn new(address: EndpointAddress, text: impl Into<String>) -> Self {
        Self {
            address,
            text: text.into(),
            weight: 1,
            backup: false,
            down: false,
            drain: false,
            max_connections: None,
            zone: None,
            labels: Vec::new(),
        }
    }

    fn read_table(reader: &mut Reader<'_>) -> Option<Self> {
        let mut labels = Vec::new();
        for (key, value) in reader.entries("labels") {
            let name = reader.scope.accept(key.place, value::name(&key.name));
            labels.extend(name.zip(reader.scope.text(value).map(str::to_owned)));
        }
        let (mut weight, mut backup, mut down, mut drain) = (1, false, false, false);
        if let Some(Kind::Integer(0)) = reader.value("weight").map(|value| &value.kind) {
            let fault = Fault::new(reader.place_of("weight"), "a weight is at least 1");
            reader.scope.fault(fault.with_hint("write `down = true` to give an endpoint no traffic".to_owned()));
        } else {
            reader.set_number("weight", 1..=65535, &mut weight);
        }
        reader.set("backup", &mut backup);
        reader.set("down", &mut down);
        reader.set("drain", &mut drain);
        let max_connections = reader.number("max_connections", 1..=u32::MAX.into());
        let zone = reader.parse("zone", value::name);
        let address = reader.required_value("address")?;
        let text = reader.scope.text(address)?;
        let address = read_address(text, address, reader.scope)?;
        Some(Self { weight, backup, down, drain, max_connections, zone, labels, ..Self::new(address, text) })
    }
}

impl Read for Endpoint {
    fn read(value: &Value, scope: &Scope<'_>) -> Option<Self> {
        match &value.kind {
            Kind::Table(table) => Self::read_table(&mut Reader::new(table, scope)),
            Kind::String(text) => Some(Self::new(read_address(text, value, scope)?, text)),
            _ => {
                scope.mismatch(value, "an address or a table with an `address`");
                None
            }
        }
    }
}

fn read_address(text: &str, value: &Value, scope: &Scope<'_>) -> Option<EndpointAddress> {
    match scope.accept(value.place, text.parse())? {
        EndpointAddress::Unix(path) => {
            scope.accept(value.place, value::socket_path(scope.resolve(path))).map(EndpointAddress::Unix)
        }
        tcp => Some(tcp),
    }
}

/// An endpoint with all defaults.
impl FromStr for Endpoint {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        text.parse().map(|address| Self::new(address, text))
    }
}

/// Reads `name:80`, `10.0.0.1:80`, `[::1]:80` or `unix:/path`.
impl FromStr for EndpointAddress {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if let Some(path) = text.strip_prefix("unix:") {
            return value::unix_path(path).map(Self::Unix);
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let rest = rest.split('/').next().unwrap_or_default();
            let port = if scheme == "https" { ":443" } else { ":80" };
            let port = if rest.rsplit_once(':').is_some_and(|(_, port)| value::port(port).is_ok()) { "" } else { port };
            return Err(BadValue::new("an endpoint's address has no scheme")
                .with_hint(format!("did you mean `{}{port}`?", value::shown(rest))));
        }
        if let Some((address, _)) = text.split_once('/').filter(|(address, _)| !address.is_empty()) {
            return Err(BadValue::new("an endpoint's address has no path")
                .with_hint(format!("did you mean `{}`?", value::shown(address))));
        }
        if text.starts_with('/') {
            return Err(missing_port(text).with_hint(format!("did you mean `unix:{}`?", value::shown(text))));
        }
        if let Some(bracketed) = value::bracketed(text) {
            let (address, rest) = bracketed?;
            let port = rest.strip_prefix(':').ok_or_else(|| missing_port(text))?;
            return Ok(Self::Tcp { host: address.to_string(), port: value::port(port)? });
        }
        if let Some(hint) = value::in_brackets(text) {
            return Err(BadValue::new("an IPv6 address stands in brackets").with_hint(hint));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| missing_port(text))?;
        if port.is_empty() && !host.is_empty() {
            return Err(missing_port(host));
        }
        if host.is_empty() {
            return Err(BadValue::new(format!("`{}` has no host", value::shown(text)))
                .with_hint(format!("did you mean `127.0.0.1:{}`?", value::shown(port))));
        }
        Ok(Self::Tcp { host: value::host_name(host)?, port: value::port(port)? })
    }
}

fn missing_port(text: &str) -> BadValue {
    let text = value::shown(text);
    BadValue::new(format!("`{text}` has no port")).with_hint(format!("did you mean `{text}:80`?"))
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
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
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("API.internal:8080", "api.internal:8080"),
            ("[0:0::1]:80", "[::1]:80"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
        ] {
            let address: EndpointAddress = text.parse().expect("it can be read");
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }
}
