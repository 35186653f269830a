//! What becomes of connections that come in at one address: who they are, how they are secured, what they speak.

use std::rc::Rc;

use crate::admission::Place;
use crate::config;
use crate::http::connection;
use crate::http::worker::Worker;
use crate::net::{Peer, Stream};

/// One listener, as one worker serves it.
pub(crate) struct Door {
    pub(crate) config: config::Listener,
}

impl Door {
    pub(crate) fn new(config: config::Listener) -> Rc<Self> {
        Rc::new(Self { config })
    }

    /// Serves a connection that was accepted, to its end.
    pub(crate) async fn serve(self: Rc<Self>, worker: Rc<Worker>, stream: Stream, peer: Peer, place: Place) {
        drop(self);
        connection::serve(worker, stream, peer, place).await;
    }
}
