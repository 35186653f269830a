//! Datagrams become connections of QUIC, and these become HTTP/3.
//!
//! # What about a new process that takes over?
//!
//! Connections of QUIC live in this process and cannot be handed to another. The new process opens sockets of its own
//! beside these. As the kernel leads packets to the first sockets of an address, this process gets them until its last
//! connection has ended: it turns new ones away, so that their clients take HTTP/2 meanwhile, as they do wherever HTTP/3
//! does not get through. Then its sockets close, and those of the new process stand in their places.

mod ids;
mod sockets;
mod steer;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, Incoming, NoneTokenLog, ServerConfig, TokioRuntime, ValidationTokenConfig};
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use crate::admission::{Place, TooMany};
use crate::http::h3::{self, Visitor};
use crate::http::worker::Worker;
use crate::listener::Door;
use crate::net::peer::Security;
use crate::net::tls::{Acceptor, security_of_quic};
use crate::replaceable::Replaceable;
use crate::telemetry::metrics::{Handshake, Timeout};
use ids::Ids;

pub(crate) use sockets::Sockets;

/// How long to wait after the endpoint broke.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Clients that wait for an answer to their first packet, by worker, and the bytes that they may have sent beyond it.
/// Further ones hear nothing and send it again.
const WAITING: usize = 1024;
const WAITING_BYTES: u64 = 4 * 1024 * 1024;
/// Handshakes at a time of one worker, from which on a client has to show first that it gets what is sent to its address
/// (RFC 9000 section 8.1.2), which costs it a round trip.
const UNPROVEN: usize = 64;

/// Serves HTTP/3 on the sockets of an address until `stop`, as the worker `number` of `workers`. Connections are tasks of
/// `connections`, and each has a place.
pub(crate) async fn run(
    sockets: Arc<Sockets>,
    (number, workers): (usize, usize),
    door: Rc<Replaceable<Door>>,
    worker: Rc<Worker>,
    connections: TaskTracker,
    stop: CancellationToken,
) {
    let serving = Serving { number, workers, door, worker, connections, stop, handshakes: Rc::default() };
    while !serving.stop.is_cancelled() {
        let endpoint = match serving.endpoint(&sockets) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                error!(%error, "HTTP/3 is not served");
                tokio::time::sleep(BACK_OFF).await;
                continue;
            }
        };
        while let Some(Some(incoming)) = serving.stop.run_until_cancelled(endpoint.accept()).await {
            serving.meet(incoming, &sockets).await;
        }
        if serving.stop.is_cancelled() {
            serving.connections.spawn_local(part(endpoint));
            return;
        }
        error!("the sockets for HTTP/3 broke; they are opened anew");
        tokio::time::sleep(BACK_OFF).await;
    }
}

/// Turns new connections away until the last of those there are has ended.
async fn part(endpoint: Endpoint) {
    let turn_away = async {
        while let Some(incoming) = endpoint.accept().await {
            incoming.refuse();
        }
    };
    tokio::select! {
        () = endpoint.wait_idle() => {}
        () = turn_away => {}
    }
}

/// What serves HTTP/3 on one worker.
struct Serving {
    number: usize,
    workers: usize,
    door: Rc<Replaceable<Door>>,
    worker: Rc<Worker>,
    connections: TaskTracker,
    stop: CancellationToken,
    /// Under way now.
    handshakes: Rc<Cell<usize>>,
}

/// A handshake that is under way, until this is dropped.
struct UnderWay(Rc<Cell<usize>>);

impl UnderWay {
    fn one_of(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Serving {
    fn endpoint(&self, sockets: &Arc<Sockets>) -> io::Result<Endpoint> {
        let (number, workers) = (self.number, self.workers);
        let mut config = EndpointConfig::new(sockets.reset_key(number)?);
        config.cid_generator(move || Box::new(Ids::new(number, workers)));
        let door = self.door.get();
        let acceptor = door.acceptor().ok_or_else(|| io::Error::other("there is no TLS"))?;
        let server = self.config(acceptor, sockets)?;
        Endpoint::new_with_abstract_socket(config, Some(server), sockets.socket(number)?, Arc::new(TokioRuntime))
    }

    /// What a connection begins with that comes now.
    fn config(&self, acceptor: &Acceptor, sockets: &Sockets) -> io::Result<ServerConfig> {
        let crypto = QuicServerConfig::try_from(acceptor.for_http3()).map_err(io::Error::other)?;
        let mut config = ServerConfig::new(Arc::new(crypto), sockets.token_key.clone());
        let mut tokens = ValidationTokenConfig::default();
        // Who comes back is asked again when it matters: each worker would have to know which tokens others have seen.
        tokens.sent(0).log(Arc::new(NoneTokenLog));
        config
            .transport_config(Arc::new(h3::transport(&self.worker.site().server.http2)))
            .validation_token_config(tokens)
            .max_incoming(WAITING)
            .incoming_buffer_size_total(WAITING_BYTES);
        Ok(config)
    }

    /// Gives a client that wants to connect a place, as soon as there is one, or turns it away.
    async fn meet(&self, incoming: Incoming, sockets: &Arc<Sockets>) {
        if self.handshakes.get() >= UNPROVEN && incoming.may_retry() && !incoming.remote_address_validated() {
            // An address that is not its own must not take a place.
            if let Err(error) = incoming.retry() {
                error.into_incoming().refuse();
            }
            return;
        }
        let address = incoming.remote_address();
        let worker = &self.worker;
        let entered = tokio::select! {
            biased;
            entered = worker.admission.enter(Some(address.ip().to_canonical()), || worker.make_room()) => entered,
            () = self.stop.cancelled() => Err(TooMany),
        };
        let Ok(place) = entered else { return incoming.refuse() };
        let door = self.door.get();
        let Some(acceptor) = door.acceptor() else { return incoming.refuse() };
        let config = match self.config(acceptor, sockets) {
            Ok(config) => config,
            Err(error) => {
                error!(%error, "a client of HTTP/3 was turned away");
                return incoming.refuse();
            }
        };
        let visit = Visit {
            worker: worker.clone(),
            door,
            config,
            place,
            under_way: UnderWay::one_of(&self.handshakes),
            leave: self.stop.clone(),
        };
        self.connections.spawn_local(visit.run(incoming));
    }
}

/// A client that has been let in.
struct Visit {
    worker: Rc<Worker>,
    door: Rc<Door>,
    config: ServerConfig,
    place: Place,
    under_way: UnderWay,
    leave: CancellationToken,
}

impl Visit {
    /// Shakes hands and serves what comes then.
    async fn run(self, incoming: Incoming) {
        let Self { worker, door, config, place, under_way, leave } = self;
        let Some(acceptor) = door.acceptor() else { return };
        let metrics = worker.site().ledger.metrics.clone();
        let address = incoming.remote_address();
        let due = Instant::now() + acceptor.settings().handshake_timeout;
        let handshake = async {
            let _turn = worker.admission.handshake().await;
            incoming.accept_with(Arc::new(config))?.await
        };
        let connection = match timeout_at(due, Box::pin(handshake)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                metrics.shook_hands(Handshake::Failed);
                debug!(client = %address, %error, "closed: the QUIC handshake failed");
                return;
            }
            Err(_) => {
                metrics.shook_hands(Handshake::Failed);
                metrics.timed_out(Timeout::ClientHandshake);
                debug!(client = %address, "closed: no QUIC handshake within handshake_timeout");
                return;
            }
        };
        drop(under_way);
        // Whether it went on with an earlier session is not told.
        metrics.shook_hands(Handshake::Full);
        let visitor =
            Visitor { security: Arc::new(security(&connection)), demands: door.demands().cloned(), connection, leave };
        drop(door);
        h3::serve(worker, visitor, place).await;
    }
}

fn security(connection: &quinn::Connection) -> Security {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let shown = connection.peer_identity().and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
    security_of_quic(data.and_then(|data| data.server_name), shown.as_deref().map_or(&[], Vec::as_slice))
}
