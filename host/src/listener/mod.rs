//! Sockets become connections.

mod announced;
mod bind;
mod door;
mod handshake;
mod inherit;
#[cfg(feature = "http3")]
pub(crate) mod quic;
#[cfg(not(feature = "http3"))]
#[path = "quic_absent.rs"]
pub(crate) mod quic;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::TooMany;
use crate::http::worker::Worker;
use crate::net::{Peer, Stream};
use crate::relay::udp;
use crate::replaceable::Replaceable;

pub(crate) use bind::{Bound, bind};
pub(crate) use door::Door;
pub(crate) use inherit::{Answer, Successor};
pub use inherit::{Inherited, Predecessor};

/// How long to wait after an accept that failed for want of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Connections that are taken out of the queue of a listener before it is closed.
const LAST_ACCEPTED: usize = 1024;

/// A listening socket of one worker.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
    /// What comes here are no connections.
    Udp(UdpSocket),
}

impl Listener {
    /// Accepts until `stop`, then takes what is waiting already and closes, unless another process serves the socket.
    /// Connections are tasks of `connections`, and each has a place: while there is none, nothing more is accepted.
    pub(crate) async fn run(
        self,
        bound: Arc<Bound>,
        door: Rc<Replaceable<Door>>,
        worker: Rc<Worker>,
        connections: TaskTracker,
        stop: CancellationToken,
    ) {
        let listener = match self {
            Self::Udp(socket) => {
                let relay = move || door.get().datagrams().cloned();
                return udp::run(socket, worker, connections, stop, relay, move || bound.is_handed_over()).await;
            }
            listener => listener,
        };
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((mut stream, peer)) => {
                    let door = door.get();
                    // Whose it is, it has still to say.
                    let client = if door.believes(&peer) { None } else { peer.ip() };
                    let entered = tokio::select! {
                        biased;
                        entered = worker.admission.enter(client, || worker.make_room()) => entered,
                        () = stop.cancelled() => Ok(worker.admission.enter_anyway()),
                    };
                    match entered {
                        Ok(place) => {
                            connections.spawn_local(door.serve(worker.clone(), stream, peer, place));
                        }
                        // With a reset, so that nothing of it is left in this system.
                        Err(TooMany) => stream.abort(),
                    }
                }
                // The client was gone before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::error!(%error, "could not accept a connection");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
        if bound.is_handed_over() {
            return;
        }
        // Closing would reset those who are connected already. As others may go on connecting for ever, there is an
        // end to it.
        for _ in 0..LAST_ACCEPTED {
            let Ok(Ok((stream, peer))) = timeout(Duration::ZERO, listener.accept()).await else { return };
            let place = worker.admission.enter_anyway();
            connections.spawn_local(door.get().serve(worker.clone(), stream, peer, place));
        }
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Peer::at(peer)))
            }
            Self::Unix(listener) => Ok((Stream::Unix(listener.accept().await?.0), Peer::default())),
            Self::Udp(_) => std::future::pending().await,
        }
    }
}
