//! A named group of endpoints.

use std::time::Duration;

use super::endpoint::Endpoint;
use super::fault::Fault;
use super::health::HealthCheck;
use super::overload::{Breaker, Concurrency, Queue};
use super::passive::Passive;
use super::plugin::{PluginKind, PluginUse};
use super::proxy_protocol::ProxyVersion;
use super::reader::{Read, Reader};
use super::retry::Retry;
use super::settings::Place;
use super::slow_start::SlowStart;
use super::socket::ConnectOptions;
use super::tls::ClientTls;
use super::tree::{Key, Kind, Value};
use super::value;

/// A named group of endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    pub name: String,
    /// ("round-robin")
    pub balance: PluginUse,
    /// At least one, addresses unique.
    pub endpoints: Vec<Endpoint>,
    /// Idle connections kept per worker and endpoint (32; 0 to 65535).
    pub keepalive: usize,
    /// How long an idle connection is kept ("60s").
    pub keepalive_timeout: Duration,
    /// Exchanges after which a connection is closed (1000, nginx's `keepalive_requests`).
    pub keepalive_requests: u64,
    /// For making a connection ("5s", Envoy's `connect_timeout`).
    pub connect_timeout: Duration,
    /// From the end of a request to the whole head of its response, interim responses aside; absent: `read_timeout`,
    /// as in nginx.
    pub response_timeout: Option<Duration>,
    /// Between two reads of a response's body ("60s", nginx's `proxy_read_timeout`).
    pub read_timeout: Duration,
    /// Between two writes ("60s", nginx's `proxy_send_timeout`).
    pub send_timeout: Duration,
    pub protocol: UpstreamProtocol,
    /// TLS towards its endpoints; absent: none.
    pub tls: Option<ClientTls>,
    /// How connections begin that say who connected; absent: they do not. Each is its client's own then.
    pub send_proxy_protocol: Option<ProxyVersion>,
    pub options: ConnectOptions,
    pub queue: Queue,
    pub breaker: Option<Breaker>,
    pub concurrency: Option<Concurrency>,
    pub passive: Passive,
    pub health: Option<HealthCheck>,
    /// How endpoints that join or come back get their share; absent: at once.
    pub slow_start: Option<SlowStart>,
    /// The percentage of healthy endpoints below which health is overlooked; 0: never. Absent: 50 (Envoy's), or 0 where
    /// there is no active check and `passive` is nginx's, which knows no such thing.
    pub panic_threshold: Option<u32>,
    pub retry: Retry,
}

/// What endpoints are spoken with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    #[default]
    Http1,
    /// HTTP/2 alone: without TLS by prior knowledge.
    Http2,
    /// What the endpoint prefers, as TLS has it say (ALPN).
    Auto,
}

impl Upstream {
    /// An upstream with all defaults, and without endpoints.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            balance: PluginUse::builtin("round-robin"),
            endpoints: Vec::new(),
            keepalive: 32,
            keepalive_timeout: Duration::from_secs(60),
            keepalive_requests: 1000,
            connect_timeout: Duration::from_secs(5),
            response_timeout: None,
            read_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(60),
            protocol: UpstreamProtocol::default(),
            tls: None,
            send_proxy_protocol: None,
            options: ConnectOptions::default(),
            queue: Queue::default(),
            breaker: None,
            concurrency: None,
            passive: Passive::default(),
            health: None,
            slow_start: None,
            panic_threshold: None,
            retry: Retry::default(),
        }
    }

    /// How long a response's head may take.
    pub fn response_timeout(&self) -> Duration {
        self.response_timeout.unwrap_or(self.read_timeout)
    }

    /// The percentage of healthy endpoints below which health is overlooked; 0: never.
    pub fn panic_threshold(&self) -> u32 {
        let is_nginx = self.health.is_none() && matches!(self.passive, Passive::Nginx { .. });
        self.panic_threshold.unwrap_or(if is_nginx { 0 } else { 50 })
    }

    /// Reads all upstreams. A faulty one still takes its place, so that positions are those of the names.
    pub(super) fn read_all(reader: &mut Reader<'_>) -> Vec<Self> {
        let scope = reader.scope;
        let read = |(key, value): &(Key, Value)| {
            scope.accept(key.place, value::name(&key.name));
            match scope.table(value) {
                Some(table) => Self::read(&key.name, table),
                None => Self::new(&key.name),
            }
        };
        reader.entries("upstreams").iter().map(read).collect()
    }

    fn read(name: &str, mut reader: Reader<'_>) -> Self {
        let mut upstream = Self::new(name);
        upstream.balance = match reader.value("balance") {
            Some(value) => PluginUse::read(value, PluginKind::Balancer, reader.scope).unwrap_or(upstream.balance),
            None => upstream.balance.at(reader.place()),
        };
        upstream.endpoints = read_endpoints(&mut reader);
        reader.set_number("keepalive", 0..=65535, &mut upstream.keepalive);
        reader.set("keepalive_timeout", &mut upstream.keepalive_timeout);
        reader.set_number("keepalive_requests", 1..=i64::MAX, &mut upstream.keepalive_requests);
        reader.set("connect_timeout", &mut upstream.connect_timeout);
        upstream.response_timeout = reader.optional("response_timeout");
        reader.set("read_timeout", &mut upstream.read_timeout);
        reader.set("send_timeout", &mut upstream.send_timeout);
        upstream.tls = ClientTls::read(&mut reader, "tls");
        upstream.protocol = read_protocol(&mut reader);
        upstream.send_proxy_protocol = ProxyVersion::read_key(&mut reader);
        upstream.options = ConnectOptions::read(&mut reader);
        upstream.queue = Queue::read(&mut reader);
        upstream.breaker = reader.table("breaker").map(Breaker::read);
        upstream.concurrency = reader.table("concurrency").map(Concurrency::read);
        upstream.passive = reader.table("passive").map(Passive::read).unwrap_or_default();
        upstream.health = reader.table("health").map(|table| HealthCheck::read(table, &upstream.endpoints));
        upstream.slow_start = reader.optional("slow_start");
        upstream.warn_of_hash(&reader);
        upstream.panic_threshold = reader.number("panic_threshold", 0..=100);
        upstream.retry = match reader.table("retry") {
            Some(table) => Retry::read(table),
            None => Retry { policy: upstream.retry.policy.at(reader.place()), ..upstream.retry },
        };
        upstream
    }

    fn warn_of_hash(&self, reader: &Reader<'_>) {
        let balancer = &self.balance.plugin;
        if self.slow_start.is_some() && HASHES.contains(&balancer.as_str()) {
            let message = format!("`slow_start` does nothing with `{balancer}`, which would move keys with each step");
            reader.scope.warn(Fault::new(reader.place_of("slow_start"), message));
        }
    }
}

/// Built-in balancers that place keys by weight: another weight is another place.
pub(crate) const HASHES: [&str; 5] = ["hash", "ip-hash", "maglev", "prefix-affinity", "rendezvous"];

fn read_protocol(reader: &mut Reader<'_>) -> UpstreamProtocol {
    let words = [
        ("http1", Some(UpstreamProtocol::Http1)),
        ("http2", Some(UpstreamProtocol::Http2)),
        ("auto", Some(UpstreamProtocol::Auto)),
    ];
    let protocol = reader.word("protocol", &words).unwrap_or_default();
    let is_plain = reader.value("tls").is_none_or(|value| matches!(value.kind, Kind::Boolean(false)));
    if protocol == UpstreamProtocol::Auto && is_plain {
        let fault = Fault::new(reader.place_of("protocol"), "without `tls` an endpoint cannot say what it speaks");
        reader.scope.fault(fault.with_hint("write \"http1\" or \"http2\"".to_owned()));
    }
    protocol
}

fn read_endpoints(reader: &mut Reader<'_>) -> Vec<Endpoint> {
    let scope = reader.scope;
    if reader.required_value("endpoints").is_none() {
        return Vec::new();
    }
    let place = reader.place_of("endpoints");
    let Some(written) = reader.array("endpoints") else { return Vec::new() };
    let mut read: Vec<(Endpoint, Place)> = Vec::new();
    for value in written {
        let Some(endpoint) = Endpoint::read(value, scope) else { continue };
        match read.iter().find(|(other, _)| other.address == endpoint.address) {
            Some((_, first)) => scope.fault(
                Fault::new(value.place, format!("`{}` is listed already at {first}", value::shown(&endpoint.text)))
                    .with_hint("give it a `weight` instead".to_owned()),
            ),
            None => read.push((endpoint, value.place)),
        }
    }
    let endpoints: Vec<_> = read.into_iter().map(|(endpoint, _)| endpoint).collect();
    if written.is_empty() {
        scope.fault(Fault::new(place, "an upstream needs at least one endpoint"));
    } else if endpoints.len() == written.len() && endpoints.iter().all(|endpoint| endpoint.backup) {
        let fault = Fault::new(place, "every endpoint is a backup");
        scope.fault(fault.with_hint("at least one must be without `backup = true`".to_owned()));
    } else if !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.down) {
        scope.warn(Fault::new(place, "every endpoint is down"));
    } else if !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.down || endpoint.drain) {
        scope.warn(Fault::new(place, "no endpoint takes new requests"));
    }
    endpoints
}
