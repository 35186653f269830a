//! Options of sockets: of those that listen, and of those that connect.

use std::net::IpAddr;
use std::time::Duration;

use super::fault::BadValue;
use super::reader::{Read, Reader, Scope};
use super::tree::{Kind, Value};
use super::value;

/// Options of a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections that may wait to be accepted (4096); the kernel cuts it to `net.core.somaxconn`.
    pub backlog: u32,
    /// Connections that may wait whose first bytes came with their SYN (RFC 7413); absent: none come so.
    pub tcp_fastopen: Option<u32>,
    /// A socket for each worker, over which the kernel spreads connections (true); otherwise workers share one.
    pub reuse_port: bool,
    /// Of accepted connections; absent: off, as in nginx and HAProxy.
    pub tcp_keepalive: Option<KeepAlive>,
    /// Whether `[::]` leaves IPv4 alone (true).
    pub ipv6_only: bool,
}

/// Options of sockets that connect to endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// The address to connect from; absent: the system's choice.
    pub bind: Option<IpAddr>,
    /// Absent: off, as in nginx and HAProxy.
    pub tcp_keepalive: Option<KeepAlive>,
    /// Whether a connection's first bytes go with its SYN (RFC 7413) (false).
    pub tcp_fastopen: bool,
}

/// How a silent peer is asked whether it is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence before it is asked ("75s").
    pub idle: Duration,
    /// Between two questions ("15s").
    pub interval: Duration,
    /// Questions without an answer after which it is gone (5).
    pub count: u32,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 4096, tcp_fastopen: None, reuse_port: true, tcp_keepalive: None, ipv6_only: true }
    }
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(75), interval: Duration::from_secs(15), count: 5 }
    }
}

impl ListenOptions {
    /// Reads the options of a listener. `streams`: whether connections are accepted on it.
    pub(super) fn read(reader: &mut Reader<'_>, streams: bool) -> Self {
        let mut options = Self::default();
        reader.set("reuse_port", &mut options.reuse_port);
        reader.set("ipv6_only", &mut options.ipv6_only);
        if !streams {
            reader.misplaced(&["backlog", "tcp_fastopen", "tcp_keepalive"], "is for connections, and UDP has none");
            return options;
        }
        reader.set_number("backlog", 1..=i64::from(i32::MAX), &mut options.backlog);
        options.tcp_fastopen = match reader.value("tcp_fastopen") {
            Some(Value { kind: Kind::Boolean(false), .. }) | None => None,
            Some(value) => reader.scope.number(value, 1..=i64::from(i32::MAX)),
        };
        options.tcp_keepalive = KeepAlive::read_key(reader);
        options
    }
}

impl ConnectOptions {
    /// Reads the options of an upstream.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let bind = reader.parse("bind", |text| {
            text.parse().map_err(|_| {
                let hint = "write it like \"192.0.2.1\" or \"2001:db8::1\", without a port".to_owned();
                BadValue::new(format!("`{}` is not an address to connect from", value::shown(text))).with_hint(hint)
            })
        });
        let tcp_keepalive = KeepAlive::read_key(reader);
        let mut options = Self { bind, tcp_keepalive, ..Self::default() };
        reader.set("tcp_fastopen", &mut options.tcp_fastopen);
        options
    }
}

impl KeepAlive {
    fn read_key(reader: &mut Reader<'_>) -> Option<Self> {
        reader.optional::<Switch>("tcp_keepalive").and_then(|switch| switch.0)
    }
}

/// `true`, `false` or a table.
struct Switch(Option<KeepAlive>);

impl Read for Switch {
    fn read(value: &Value, scope: &Scope<'_>) -> Option<Self> {
        match &value.kind {
            Kind::Boolean(on) => Some(Self(on.then(KeepAlive::default))),
            Kind::Table(table) => {
                let mut reader = Reader::new(table, scope);
                let mut keepalive = KeepAlive::default();
                reader.set("idle", &mut keepalive.idle);
                reader.set("interval", &mut keepalive.interval);
                // What the kernel takes: `MAX_TCP_KEEPCNT`.
                reader.set_number("count", 1..=127, &mut keepalive.count);
                Some(Self(Some(keepalive)))
            }
            _ => {
                scope.mismatch(value, "true, false or a table");
                None
            }
        }
    }
}
