//! What becomes of connections that come in at one address: who they are, how they are secured, what they speak.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

use super::announced::{self, Unannounced};
use crate::admission::Place;
use crate::config::{self, Demands, Protocol};
use crate::http::connection;
use crate::http::site::Site;
use crate::http::worker::Worker;
use crate::listener::handshake;
use crate::net::tls::Acceptor;
use crate::net::{Peer, Stream};
use crate::relay::{tcp, udp};
use crate::telemetry::seldom::Seldom;

/// One listener, as one worker serves it.
pub(crate) struct Door {
    pub(crate) config: config::Listener,
    /// What its connections are made secure with.
    acceptor: Option<Arc<Acceptor>>,
    /// What it wants of requests; `None`: nothing.
    demands: Option<Arc<Demands>>,
    leads: Leads,
    /// Whether an upstream is told where clients connected to.
    tells: bool,
}

/// Where connections go.
enum Leads {
    Http,
    Tcp(Rc<tcp::Relay>),
    Udp(Rc<udp::Relay>),
}

impl Door {
    /// A door to a site's routes, or to some of its upstreams.
    pub(crate) fn new(
        config: config::Listener,
        acceptor: Option<Arc<Acceptor>>,
        demands: Demands,
        site: &Site,
        workers: usize,
    ) -> Rc<Self> {
        let listener: Arc<str> = config.address.to_string().into();
        let way = |protocol| {
            let listener = &listener;
            move |position: usize| {
                let upstream = &site.upstreams[position];
                let metrics = site.ledger.metrics.relays.of(listener, protocol, upstream.name());
                (upstream.clone(), metrics)
            }
        };
        let leads = match &config.protocol {
            Protocol::Http => Leads::Http,
            Protocol::Tcp(relay) => Leads::Tcp(tcp::Relay::new(listener.clone(), relay, way("tcp"))),
            Protocol::Udp(relay) => Leads::Udp(udp::Relay::new(listener.clone(), relay, workers, way("udp"))),
        };
        let demands = (!demands.is_empty()).then(|| Arc::new(demands));
        let tells = site.upstreams.iter().any(|upstream| upstream.announces());
        Rc::new(Self { config, acceptor, demands, leads, tells })
    }

    /// What its connections are made secure with, if they are.
    #[cfg(feature = "http3")]
    pub(super) fn acceptor(&self) -> Option<&Acceptor> {
        self.acceptor.as_deref()
    }

    #[cfg(feature = "http3")]
    pub(super) fn demands(&self) -> Option<&Arc<Demands>> {
        self.demands.as_ref()
    }

    /// Whether a connection from there begins by saying who it is from.
    pub(crate) fn believes(&self, peer: &Peer) -> bool {
        self.config.proxy_protocol.as_ref().is_some_and(|accepted| accepted.is_from(peer.ip()))
    }

    /// Where datagrams go; `None` for connections.
    pub(crate) fn datagrams(&self) -> Option<&Rc<udp::Relay>> {
        match &self.leads {
            Leads::Udp(relay) => Some(relay),
            Leads::Http | Leads::Tcp(_) => None,
        }
    }

    /// Serves a connection that was accepted, to its end.
    pub(crate) async fn serve(
        self: Rc<Self>,
        worker: Rc<Worker>,
        mut stream: Stream,
        mut peer: Peer,
        mut place: Place,
    ) {
        peer.demands.clone_from(&self.demands);
        if self.tells {
            peer.destination = stream.local_address();
        }
        if self.believes(&peer)
            && let Some(accepted) = &self.config.proxy_protocol
        {
            let from = peer.address;
            stream = match Box::pin(announced::read(stream, &mut peer, accepted.timeout)).await {
                Ok(stream) => stream,
                Err(error) => {
                    worker.site().ledger.metrics.proxy_headers_refused.increment();
                    if let (Some(others), false) = (TOLD.pass(Instant::now()), matches!(error, Unannounced::Ended(_))) {
                        warn!(target: "staunch::listener", ?from, listener = %self.config.address, %error, others, "closed a connection");
                    }
                    return;
                }
            };
            if let Some(address) = peer.ip()
                && place.belongs_to(address).is_err()
            {
                stream.abort();
                return;
            }
        }
        if let Some(acceptor) = &self.acceptor {
            // What a handshake needs is gone before requests are served.
            match Box::pin(handshake::secure(&worker, acceptor, stream, &mut peer)).await {
                Some(secured) => stream = secured,
                None => return,
            }
        }
        match &self.leads {
            Leads::Http => {
                drop(self);
                connection::serve(worker, stream, peer, place).await;
            }
            Leads::Tcp(relay) => {
                let relay = relay.clone();
                drop(self);
                Box::pin(tcp::serve(relay, worker, stream, peer, place)).await;
            }
            // Datagrams are no connections.
            Leads::Udp(_) => {}
        }
    }
}

static TOLD: Seldom = Seldom::new();
