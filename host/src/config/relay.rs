//! What a listener does with what it does not understand: passes it on to an upstream.

use std::time::Duration;

use super::action::find_upstream;
use super::fault::Fault;
use super::reader::Reader;
use super::route::{HostPattern, host_pattern};

/// Connections go to an upstream, byte for byte.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpRelay {
    /// By its position in [`Config::upstreams`](super::Config::upstreams). With `sni`: where those go that ask for no name
    /// or for another; absent: they are closed.
    pub upstream: Option<usize>,
    /// By the name that the client's TLS asks for, which is passed on as it is (none).
    pub sni: Vec<SniRoute>,
    /// Of a connection on which nothing passes in either direction ("10m", nginx's `proxy_timeout`).
    pub idle_timeout: Duration,
}

/// Where connections go whose TLS asks for one of some names.
#[derive(Clone, Debug, PartialEq)]
pub struct SniRoute {
    /// At least one.
    pub hosts: Vec<HostPattern>,
    pub upstream: usize,
}

/// Datagrams go to an upstream, those of a client to the same endpoint as long as there are some.
#[derive(Clone, Debug, PartialEq)]
pub struct UdpRelay {
    pub upstream: usize,
    /// Of a session in which nothing passes in either direction ("60s").
    pub idle_timeout: Duration,
    /// Datagrams that an endpoint answers each one with, after which nothing is waited for; absent: nobody knows
    /// (nginx's `proxy_responses`).
    pub responses: Option<u32>,
    /// Sessions that there may be (16384), shared out among the workers. For one more, the one that has been idle for
    /// longest ends.
    pub max_sessions: u32,
}

impl TcpRelay {
    pub fn new(upstream: Option<usize>) -> Self {
        Self { upstream, sni: Vec::new(), idle_timeout: Duration::from_secs(600) }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let place = reader.place();
        let mut relay = Self::new(None);
        relay.sni = read_sni(reader);
        relay.upstream = reader.value("upstream").and_then(|value| find_upstream(value, reader.scope));
        if reader.lacks("sni") && reader.value("upstream").is_none() {
            let fault = Fault::new(place, "a listener for TCP that leads nowhere");
            reader
                .scope
                .absence(fault.with_hint("add `upstream = \"NAME\"`, or `sni = [{ hosts, upstream }]`".to_owned()));
        }
        reader.set("idle_timeout", &mut relay.idle_timeout);
        reader.misplaced(&["responses", "max_sessions"], "belongs to UDP");
        relay
    }
}

impl UdpRelay {
    pub fn new(upstream: usize) -> Self {
        Self { upstream, idle_timeout: Duration::from_secs(60), responses: None, max_sessions: 16384 }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        reader.misplaced(&["sni", "proxy_protocol"], "belongs to TCP");
        let upstream = reader.required_value("upstream").and_then(|value| find_upstream(value, reader.scope));
        let mut relay = Self::new(upstream.unwrap_or_default());
        reader.set("idle_timeout", &mut relay.idle_timeout);
        relay.responses = reader.number("responses", 0..=i64::from(u32::MAX));
        reader.set_number("max_sessions", 1..=10_000_000, &mut relay.max_sessions);
        upstream.map(|_| relay)
    }
}

fn read_sni(reader: &mut Reader<'_>) -> Vec<SniRoute> {
    let scope = reader.scope;
    let mut read: Vec<SniRoute> = Vec::new();
    for mut entry in reader.tables("sni") {
        let upstream = entry.required_value("upstream").and_then(|value| find_upstream(value, scope));
        if entry.required_value("hosts").is_none() {
            continue;
        }
        let mut hosts: Vec<HostPattern> = Vec::new();
        let place = entry.place_of("hosts");
        let written = entry.array("hosts").unwrap_or_default();
        for value in written {
            let Some(text) = scope.text(value) else { continue };
            if text == "*" {
                let fault = Fault::new(value.place, "`*` is not a name");
                scope.fault(fault.with_hint("the listener's own `upstream` takes whatever matches no name".to_owned()));
                continue;
            }
            let Some(host) = scope.accept(value.place, host_pattern(text)) else { continue };
            if hosts.contains(&host) || read.iter().any(|route| route.hosts.contains(&host)) {
                scope.fault(Fault::new(value.place, format!("`{host}` is listed twice")));
            }
            hosts.push(host);
        }
        if written.is_empty() {
            scope.fault(Fault::new(place, "no name"));
        }
        read.extend(upstream.map(|upstream| SniRoute { hosts, upstream }));
    }
    read
}
