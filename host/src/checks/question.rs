//! What one endpoint is asked: where, over what, and which answer passes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::exchange;
use super::grpc::{self, GrpcQuestion};
use super::http::{self, HttpQuestion};
use super::outcome::{Failure, Stage};
use crate::config::{self, EndpointAddress, ExchangeCheck, HealthCheck, HealthCheckKind};
use crate::net::announce;
use crate::net::tls::{BadTls, Connector};
use crate::upstream::{self, Manner, Target, reach};

/// Everything that decides what a check does and what passes. Two that are equal need be asked only once.
#[derive(Debug, PartialEq)]
pub(super) struct Question {
    pub(super) target: Target,
    manner: Manner,
    tls: Option<Tls>,
    kind: Kind,
}

#[derive(Debug, PartialEq)]
struct Tls {
    connector: Connector,
    name: String,
}

#[derive(Debug, PartialEq)]
enum Kind {
    Tcp,
    Http(HttpQuestion),
    Grpc(GrpcQuestion),
    Exchange(ExchangeCheck),
}

/// A connection to ask over.
pub(super) trait Channel: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Channel for S {}

/// Reads the files that a check's TLS needs; nothing when it has none.
///
/// # Errors
/// What is wrong with the files.
pub(crate) fn connector(config: &HealthCheck) -> Result<Option<Connector>, BadTls> {
    let Some(tls) = &config.tls else { return Ok(None) };
    let protocols: &'static [&'static str] = match config.kind {
        HealthCheckKind::Http(_) => &["http/1.1"],
        HealthCheckKind::Grpc(_) => &["h2"],
        HealthCheckKind::Tcp | HealthCheckKind::Exchange(_) => &[],
    };
    Connector::build(tls, protocols).map(Some)
}

impl Question {
    /// What an endpoint at `target` is asked. `connector` is what [`connector`] answered for `config`.
    pub(super) fn new(
        config: &HealthCheck,
        connector: Option<&Connector>,
        endpoint: &config::Endpoint,
        target: &Target,
        upstream: &config::Upstream,
    ) -> Self {
        let asked = Asked::new(&endpoint.address, config.port);
        let kind = match &config.kind {
            HealthCheckKind::Tcp => Kind::Tcp,
            HealthCheckKind::Http(http) => Kind::Http(HttpQuestion::new(http, &asked.authority)),
            HealthCheckKind::Grpc(grpc) => Kind::Grpc(GrpcQuestion::new(grpc, &asked.authority, connector.is_some())),
            HealthCheckKind::Exchange(exchange) => Kind::Exchange(exchange.clone()),
        };
        let target = match (target, config.port) {
            (Target::Tcp(addresses), Some(port)) => {
                Target::Tcp(addresses.iter().map(|address| SocketAddr::new(address.ip(), port)).collect())
            }
            (target, _) => target.clone(),
        };
        let tls = connector
            .map(|connector| Tls { connector: connector.clone(), name: connector.name(&asked.host).to_owned() });
        // What listens on a port of its own need not be told of clients (as HAProxy's `check-send-proxy`).
        let version = upstream.send_proxy_protocol.filter(|_| config.port.is_none());
        let manner = Manner { options: upstream.options, header: version.map(announce::ourselves) };
        Self { target, manner, tls, kind }
    }

    /// Asks once, within `limit`. Answers what was said.
    pub(super) async fn ask(&self, limit: Duration) -> Result<String, Failure> {
        let due = Instant::now() + limit;
        let late = |stage| Failure::Timeout { stage, limit };
        let channel = self.connect(limit).await?;
        let channel = match &self.tls {
            None => channel,
            Some(Tls { connector, name }) => {
                let handshake = timeout_at(due, connector.connect(name, channel, true)).await;
                Box::new(handshake.map_err(|_| late(Stage::Handshake))?.map_err(Failure::Tls)?)
            }
        };
        timeout_at(due, self.talk(channel, limit)).await.map_err(|_| late(Stage::Answer))?
    }

    async fn connect(&self, limit: Duration) -> Result<Box<dyn Channel>, Failure> {
        match reach(&self.target, &self.manner, limit).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err((upstream::retry::Failure::ConnectTimeout, _)) => {
                Err(Failure::Timeout { stage: Stage::Connection, limit })
            }
            Err((_, error)) => Err(Failure::Connect(error)),
        }
    }

    async fn talk(&self, mut channel: Box<dyn Channel>, limit: Duration) -> Result<String, Failure> {
        match &self.kind {
            Kind::Tcp => Ok("connected".to_owned()),
            Kind::Http(question) => http::ask(&mut channel, question).await,
            Kind::Grpc(question) => grpc::ask(channel, question, limit).await,
            Kind::Exchange(question) => exchange::ask(&mut channel, question).await,
        }
    }
}

/// The names of the place that is asked.
struct Asked {
    /// With its port.
    authority: String,
    /// Without; an address has no brackets.
    host: String,
}

impl Asked {
    fn new(address: &EndpointAddress, own_port: Option<u16>) -> Self {
        match address {
            EndpointAddress::Unix(_) => Self { authority: "localhost".to_owned(), host: "localhost".to_owned() },
            EndpointAddress::Tcp { host, port } => {
                let port = own_port.unwrap_or(*port);
                let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
                Self { authority, host: host.clone() }
            }
        }
    }
}
