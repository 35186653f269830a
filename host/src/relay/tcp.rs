//! A client's connection becomes one to an endpoint: bytes pass both ways, and neither side is understood.
//!
//! With names to go by, only the first message of a client's TLS is read, see [`client_hello`](super::client_hello); it is
//! passed on like all that follows. Who speaks no TLS, or asks for no name that is known, goes where the listener's own
//! upstream is, or nowhere.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::client_hello::{self, Hello, NotHello};
use crate::admission::Place;
use crate::config::{self, HostPattern};
use crate::http::connection::Watch;
use crate::http::error::ExchangeError;
use crate::http::worker::Worker;
use crate::net::{Peer, Stream, Transport, TunnelEnd, tunnel};
use crate::telemetry::metrics::Timeout;
use crate::telemetry::relays::RelayMetrics;
use crate::upstream::Upstream;

/// One listener's way to upstreams, on one worker.
pub(crate) struct Relay {
    listener: Arc<str>,
    idle_timeout: Duration,
    default: Option<Way>,
    /// By name; those for all names under one begin with a dot.
    names: HashMap<String, Way>,
}

#[derive(Clone)]
struct Way {
    upstream: Rc<Upstream>,
    metrics: Arc<RelayMetrics>,
}

/// Why a connection led nowhere.
#[derive(Debug, thiserror::Error)]
enum NoWay {
    #[error(transparent)]
    NotHello(#[from] NotHello),
    #[error("no ClientHello came in time")]
    Late,
    #[error("the client went away")]
    Gone,
    #[error("nothing is known of the name that it asks for")]
    UnknownName,
    #[error("it asks for no name")]
    NoName,
}

impl Relay {
    /// `way`: to an upstream by its position.
    pub(crate) fn new(
        listener: Arc<str>,
        config: &config::TcpRelay,
        way: impl Fn(usize) -> (Rc<Upstream>, Arc<RelayMetrics>),
    ) -> Rc<Self> {
        let way = |position| {
            let (upstream, metrics) = way(position);
            Way { upstream, metrics }
        };
        let mut names = HashMap::new();
        for route in &config.sni {
            let way = way(route.upstream);
            names.extend(route.hosts.iter().map(|host| match host {
                HostPattern::Exact(name) | HostPattern::Suffix(name) => (name.clone(), way.clone()),
            }));
        }
        Rc::new(Self { listener, idle_timeout: config.idle_timeout, default: config.upstream.map(way), names })
    }

    /// The way for a name, the most specific one.
    fn named(&self, name: &str) -> Option<&Way> {
        let above = name.match_indices('.').map(|(dot, _)| &name[dot..]);
        std::iter::once(name).chain(above).find_map(|name| self.names.get(name))
    }

    /// Finds the way of a client, and tells the name by which.
    async fn way(&self, client: &mut Transport, patience: Duration) -> (Option<String>, Result<&Way, NoWay>) {
        if self.names.is_empty() {
            return (None, self.default.as_ref().ok_or(NoWay::NoName));
        }
        match hello(client, patience).await {
            Ok(Some(name)) => {
                let way = self.named(&name).or(self.default.as_ref()).ok_or(NoWay::UnknownName);
                (Some(name), way)
            }
            Ok(None) => (None, self.default.as_ref().ok_or(NoWay::NoName)),
            Err(NoWay::NotHello(why)) => (None, self.default.as_ref().ok_or(why.into())),
            Err(error) => (None, Err(error)),
        }
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve(relay: Rc<Relay>, worker: Rc<Worker>, stream: Stream, peer: Peer, _place: Place) {
    let site = worker.site();
    let metrics = site.ledger.metrics.clone();
    let _open = metrics.connection_opened();
    let _watch = Watch { metrics: &metrics, peer: &peer };
    // Counts it as one that has not ended, and that has no request to wait for.
    let seat = worker.sit(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
    seat.wake();
    let mut client = Transport::new(stream, relay.idle_timeout, relay.idle_timeout);
    let mut exchange = worker.take_exchange(&peer);
    exchange.started = Instant::now();
    let (name, way) = relay.way(&mut client, site.server.client_header_timeout).await;
    let way = match way {
        Ok(way) => way,
        Err(error) => {
            debug!(client = ?peer.address, %error, "a connection leads nowhere");
            if matches!(error, NoWay::Late) {
                metrics.timed_out(Timeout::ClientHeader);
            }
            site.ledger.enter_relay(
                "TCP",
                &relay.listener,
                name.as_deref(),
                &exchange,
                [client.bytes_read, 0],
                Some(error.name()),
            );
            worker.give_exchange(exchange);
            return;
        }
    };
    let _counted = way.metrics.opened();
    exchange.upstream.learn(way.upstream.name());
    let (limits, ledger) = (site.limits, site.ledger.clone());
    drop(site);
    let error = match way.upstream.open(&mut exchange, &mut client, &limits).await {
        Err(error) => {
            let error = ExchangeError::from(error);
            if let Some(timeout) = error.timeout() {
                metrics.timed_out(timeout);
            }
            way.metrics.failed.increment();
            Some(error.name())
        }
        Ok(mut opened) => {
            let endpoint = &mut opened.connection.transport;
            match tunnel(&mut client, endpoint, relay.idle_timeout).await {
                TunnelEnd::Closed => None,
                TunnelEnd::Idle => {
                    metrics.timed_out(Timeout::Tunnel);
                    Some("idle_timeout")
                }
                TunnelEnd::Broken => {
                    // Neither side is to take what it got for all there was.
                    client.abort();
                    endpoint.abort();
                    Some("reset")
                }
            }
        }
    };
    let bytes = [client.bytes_read, client.bytes_written];
    way.metrics.passed(bytes);
    ledger.enter_relay("TCP", &relay.listener, name.as_deref(), &exchange, bytes, error);
    worker.give_exchange(exchange);
}

/// Reads as much as the name in a client's TLS needs. What was read stays to be passed on.
async fn hello(client: &mut Transport, patience: Duration) -> Result<Option<String>, NoWay> {
    client.latest = Some(Instant::now() + patience);
    let found = loop {
        match client_hello::parse(client.input.bytes()) {
            Hello::Tls(name) => break name,
            Hello::Other(why) => return Err(why.into()),
            Hello::Partial if client.input.len() > client_hello::MOST => return Err(NotHello::TooLong.into()),
            Hello::Partial if client.input.len() == client.input.capacity() => {
                client.input.grow(2 * client.input.capacity());
            }
            Hello::Partial => {}
        }
        match client.fill().await {
            Ok(1..) => {}
            Err(error) if error.kind() == ErrorKind::TimedOut => return Err(NoWay::Late),
            Ok(0) | Err(_) => return Err(NoWay::Gone),
        }
    };
    client.latest = None;
    Ok(found)
}

impl NoWay {
    /// For the access log.
    fn name(&self) -> &'static str {
        match self {
            Self::NotHello(NotHello::NotTls) => "not_tls",
            Self::NotHello(NotHello::Malformed | NotHello::TooLong) => "bad_client_hello",
            Self::Late => "client_header_timeout",
            Self::Gone => "client_closed",
            Self::UnknownName => "unknown_server_name",
            Self::NoName => "no_server_name",
        }
    }
}
