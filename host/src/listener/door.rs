//! What becomes of connections that come in at one address: who they are, how they are secured, what they speak.

use std::rc::Rc;
use std::sync::Arc;

use crate::admission::Place;
use crate::config::{self, Demands};
use crate::http::connection;
use crate::http::worker::Worker;
use crate::listener::handshake;
use crate::net::tls::Acceptor;
use crate::net::{Peer, Stream};

/// One listener, as one worker serves it.
pub(crate) struct Door {
    pub(crate) config: config::Listener,
    /// What its connections are made secure with.
    acceptor: Option<Arc<Acceptor>>,
    /// What it wants of requests; `None`: nothing.
    demands: Option<Arc<Demands>>,
}

impl Door {
    pub(crate) fn new(config: config::Listener, acceptor: Option<Arc<Acceptor>>, demands: Demands) -> Rc<Self> {
        let demands = (!demands.is_empty()).then(|| Arc::new(demands));
        Rc::new(Self { config, acceptor, demands })
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

    /// Serves a connection that was accepted, to its end.
    pub(crate) async fn serve(self: Rc<Self>, worker: Rc<Worker>, mut stream: Stream, mut peer: Peer, place: Place) {
        peer.demands.clone_from(&self.demands);
        if let Some(acceptor) = &self.acceptor {
            // What a handshake needs is gone before requests are served.
            match Box::pin(handshake::secure(&worker, acceptor, stream, &mut peer)).await {
                Some(secured) => stream = secured,
                None => return,
            }
        }
        drop(self);
        connection::serve(worker, stream, peer, place).await;
    }
}
