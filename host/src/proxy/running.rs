//! What serves now, and the one way to have another configuration serve.
//!
//! # The transaction
//!
//! A configuration is built wholly aside: plugins compiled and configured, names resolved, sockets opened, the access
//! log opened. Whatever fails on the way leaves what serves as it is. Then every worker is ordered to turn, which it
//! does between two requests and which cannot fail.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admission::Admission;
use crate::config::{self, Config, Fault, Faults, ListenAddress, Place};
use crate::listener::{self, Bound};
use crate::plugins::PluginHost;
use crate::proxy::blueprint::{Blueprint, Part, Seat};
use crate::proxy::orders::Order;
use crate::proxy::parts::{Built, Parts, chain};
use crate::proxy::worker::Turn;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;

/// What serves now.
pub(super) struct Running {
    pub(super) host: PluginHost,
    pub(super) metrics: Arc<Metrics>,
    pub(super) admission: Arc<Admission>,
    pub(super) drain: CancellationToken,
    /// To each worker.
    workers: Mutex<Vec<UnboundedSender<Order>>>,
    /// Held by who is changing something: one at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
    parts: watch::Sender<Arc<Parts>>,
    /// In the order of the configuration.
    bound: Mutex<Vec<Arc<Bound>>>,
    access_log: Mutex<Option<Arc<AccessLog>>>,
    generation: AtomicU64,
}

/// A configuration that took over.
#[derive(Debug)]
pub(super) struct Applied {
    /// From 1; each configuration that takes over has the next number.
    pub(super) generation: u64,
    /// The places whose plugins go on as they are.
    pub(super) kept: Vec<Seat>,
}

/// Why a configuration did not take over. What served serves on.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotApplied {
    #[error(transparent)]
    Faults(#[from] Faults),
    #[error("the proxy is draining")]
    Draining,
    #[error("building the configuration panicked: a bug of the proxy")]
    Broken,
}

/// What is opened for a configuration before it takes over.
struct Opened {
    built: Built,
    bound: Vec<Arc<Bound>>,
    /// `None`: the one there is goes on.
    access_log: Option<Option<Arc<AccessLog>>>,
}

impl Running {
    pub(super) fn new(
        host: PluginHost,
        metrics: Arc<Metrics>,
        drain: CancellationToken,
        parts: Arc<Parts>,
        bound: Vec<Arc<Bound>>,
        access_log: Option<Arc<AccessLog>>,
        generation: u64,
    ) -> Self {
        Self {
            host,
            metrics,
            admission: Admission::new(&parts.config.server),
            drain,
            workers: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            parts: watch::Sender::new(parts),
            bound: Mutex::new(bound),
            access_log: Mutex::new(access_log),
            generation: AtomicU64::new(generation),
        }
    }

    /// Takes orders for the next worker.
    pub(super) fn engage(&self, worker: UnboundedSender<Order>) {
        self.workers.lock().push(worker);
    }

    /// Takes orders for another worker in the place of one.
    pub(super) fn reengage(&self, number: usize, worker: UnboundedSender<Order>) {
        if let Some(place) = self.workers.lock().get_mut(number) {
            *place = worker;
        }
    }

    /// The way to order something of each worker.
    pub(super) fn workers(&self) -> Vec<UnboundedSender<Order>> {
        self.workers.lock().clone()
    }

    pub(super) fn parts(&self) -> Arc<Parts> {
        self.parts.borrow().clone()
    }

    /// Tells of each configuration that takes over.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Parts>> {
        self.parts.subscribe()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    pub(super) fn bound(&self) -> Vec<Arc<Bound>> {
        self.bound.lock().clone()
    }

    pub(super) fn access_log(&self) -> Option<Arc<AccessLog>> {
        self.access_log.lock().clone()
    }

    /// Lets go of all that has to end before the process does.
    pub(super) fn end(&self) {
        for bound in self.bound.lock().drain(..) {
            bound.unlink();
        }
        self.access_log.lock().take();
    }

    /// Has another configuration serve. It happens whether the caller waits for it or not.
    ///
    /// # Errors
    /// When it does not; what served serves on.
    pub(super) async fn apply(self: &Arc<Self>, config: Config) -> Result<Applied, NotApplied> {
        let running = self.clone();
        let transaction = tokio::spawn(async move {
            let _turn = running.turn.lock().await;
            running.transact(config).await
        });
        transaction.await.unwrap_or(Err(NotApplied::Broken))
    }

    async fn transact(self: &Arc<Self>, mut config: Config) -> Result<Applied, NotApplied> {
        if self.drain.is_cancelled() {
            return Err(NotApplied::Draining);
        }
        let before = self.parts();
        keep_what_stays(&before.config, &mut config);
        let running = self.clone();
        let Opened { mut built, bound, access_log } = {
            let before = before.clone();
            let opened = tokio::task::spawn_blocking(move || running.open(config, &before)).await;
            opened.map_err(|_| NotApplied::Broken)??
        };
        self.hand_over(&mut built).await?;
        let Built { parts, blueprints, kept } = built;
        let parts = Arc::new(parts);
        parts.maintenance.configure(&parts.config, SystemTime::now());
        self.order(&parts, blueprints, &bound, access_log.as_ref()).await;
        self.admission.set_limits(&parts.config.server);
        if let Some(log) = access_log {
            *self.access_log.lock() = log;
        }
        close_quic(&parts.config, &bound);
        let gone = std::mem::replace(&mut *self.bound.lock(), bound);
        for bound in gone.into_iter().filter(|gone| !self.bound().iter().any(|bound| Arc::ptr_eq(bound, gone))) {
            info!(address = %bound.address, "listening no more");
            bound.unlink();
        }
        for (bound, listener) in self.bound().iter().zip(&parts.config.listeners) {
            bound.tune(listener.options);
        }
        parts.names.set(parts.upstreams.iter().map(|shared| shared.name.clone()));
        self.metrics.forget_others(
            &parts.config.routes.iter().map(|route| route.name.as_str()).collect(),
            &parts.config.upstreams.iter().map(|upstream| upstream.name.as_str()).collect(),
        );
        self.parts.send_replace(parts);
        let generation = self.generation.fetch_add(1, Relaxed) + 1;
        Ok(Applied { generation, kept: kept.into_iter().collect() })
    }

    /// Opens and builds all that a configuration needs and that is not there yet.
    fn open(&self, config: Config, before: &Parts) -> Result<Opened, NotApplied> {
        let built = Parts::build(config, &self.host, before.workers, Some(before))?;
        let config = &built.parts.config;
        let there = self.bound();
        let mut faults = Vec::new();
        let mut bound = Vec::new();
        for listener in &config.listeners {
            let is_taken = |known: &&Arc<Bound>| bound.iter().any(|taken| Arc::ptr_eq(taken, known));
            let known = there.iter().filter(|known| known.is(listener.into())).find(|known| !is_taken(known));
            if let Some(known) = known {
                faults.extend(open_quic(listener, known, before.workers).err());
                bound.push(known.clone());
                continue;
            }
            let beside = there
                .iter()
                .any(|known| known.carrier == listener.carrier() && known.address.overlaps(&listener.address));
            let bind = || listener::bind(listener.into(), before.workers, beside);
            match listen(listener, before.workers, bind) {
                Ok(socket) => {
                    info!(address = %socket.address, "listening");
                    bound.push(Arc::new(socket));
                }
                Err(fault) => faults.push(fault),
            }
        }
        let access_log = if config.access_log == before.config.access_log {
            None
        } else {
            match config.access_log.as_ref().map(AccessLog::start).transpose() {
                Ok(log) => Some(log.map(Arc::new)),
                Err(error) => {
                    let message = format!("the access log cannot be written: {error}");
                    faults.push(Fault::new(Place::default(), message));
                    None
                }
            }
        };
        if faults.is_empty() {
            return Ok(Opened { built, bound, access_log });
        }
        before.names.set(before.upstreams.iter().map(|shared| shared.name.clone()));
        close_quic(&before.config, &there);
        for bound in bound.iter().filter(|new| !there.iter().any(|known| Arc::ptr_eq(known, new))) {
            bound.unlink();
        }
        Err(Faults { file: config.file.clone(), faults }.into())
    }

    /// Has balancers that are told another membership go on with what they have learned, where their plugin carries
    /// that over.
    async fn hand_over(&self, built: &mut Built) -> Result<(), NotApplied> {
        let seats: Vec<_> = {
            let placed = built.parts.placed.lock();
            let same = |seat: &Seat| self.parts().placed.lock().iter().any(|known| known.seat == *seat);
            let carries = placed.iter().filter(|placed| {
                placed.used.plugin().exports().handover && !built.kept.contains(&placed.seat) && same(&placed.seat)
            });
            carries.map(|placed| placed.seat.clone()).filter(|seat| matches!(seat, Seat::Balancer(_))).collect()
        };
        if seats.is_empty() {
            return Ok(());
        }
        let states = saved(&self.workers(), &seats).await;
        let positions: Vec<_> = (seats.iter())
            .map(|seat| match seat {
                Seat::Balancer(name) => built.parts.index.upstream(name),
                Seat::Retry(_) | Seat::Rewriter { .. } => None,
            })
            .collect();
        let blueprints = std::mem::take(&mut built.blueprints);
        let restored = tokio::task::spawn_blocking(move || {
            let mut blueprints = blueprints;
            for (blueprint, states) in blueprints.iter_mut().zip(states) {
                for (at, state) in positions.iter().zip(states) {
                    if let (Some(at), Some(state)) = (at, state)
                        && let Part::New(balancer) = &mut blueprint.upstreams[*at].balancer
                        && let Err(error) = balancer.restore(&state)
                    {
                        warn!(error = chain(&error), "a balancer begins anew: it did not take what it had learned");
                    }
                }
            }
            blueprints
        });
        built.blueprints = restored.await.map_err(|_| NotApplied::Broken)?;
        Ok(())
    }

    /// Has every worker turn. Nothing here fails, and until the last worker is ordered nothing waits.
    async fn order(
        &self,
        parts: &Arc<Parts>,
        blueprints: Vec<Blueprint>,
        bound: &[Arc<Bound>],
        access_log: Option<&Option<Arc<AccessLog>>>,
    ) {
        let turned: Vec<_> = (self.workers().iter().zip(blueprints))
            .map(|(worker, blueprint)| {
                let turn = Turn {
                    parts: parts.clone(),
                    blueprint,
                    bound: bound.to_vec(),
                    access_log: access_log.map(|log| log.as_ref().map(|log| log.logger())),
                };
                let (done, turned) = oneshot::channel();
                drop(worker.send(Order::Turn(Box::new(turn), done)));
                turned
            })
            .collect();
        wait_for(turned).await;
    }
}

/// What cannot change while the process runs stays, with a word about it.
fn keep_what_stays(before: &Config, config: &mut Config) {
    if before.server.workers != config.server.workers {
        warn!("`workers` changes when the proxy is started or upgraded");
        config.server.workers = before.server.workers;
    }
}

/// What the plugins in some places have learned, by worker.
pub(super) async fn saved(workers: &[UnboundedSender<Order>], seats: &[Seat]) -> Vec<Vec<Option<Vec<u8>>>> {
    let asked: Vec<_> = (workers.iter())
        .map(|worker| {
            let (answer, states) = oneshot::channel();
            drop(worker.send(Order::Save(seats.to_vec(), answer)));
            states
        })
        .collect();
    let mut states = Vec::new();
    for answer in asked {
        // A worker that has ended has nothing to hand over.
        states.push(answer.await.unwrap_or_default());
    }
    states
}

pub(super) async fn wait_for(done: Vec<oneshot::Receiver<()>>) {
    for worker in done {
        // A worker that has ended serves nothing any more.
        let _ = worker.await;
    }
}

/// Ports that are tried where the system chooses: the one it gives may be in use for UDP.
const PORTS: usize = 8;

/// Opens all that a listener needs. `bind` opens its own address.
pub(super) fn listen(
    listener: &config::Listener,
    workers: usize,
    mut bind: impl FnMut() -> io::Result<Bound>,
) -> Result<Bound, Fault> {
    let is_chosen = matches!(listener.address, ListenAddress::Tcp(address) if address.port() == 0);
    let mut left = if is_chosen { PORTS } else { 1 };
    loop {
        left -= 1;
        let bound = bind().map_err(|error| cannot_listen(&listener.address, &error))?;
        match open_quic(listener, &bound, workers) {
            Ok(()) => return Ok(bound),
            Err(fault) if left == 0 => return Err(fault),
            Err(_) => {}
        }
    }
}

/// Opens what a listener needs for HTTP/3, if it wants to serve that.
fn open_quic(listener: &config::Listener, bound: &Bound, workers: usize) -> Result<(), Fault> {
    if !listener.http3 {
        return Ok(());
    }
    let address = &bound.address;
    let opened = bound.open_quic(workers);
    opened.map_err(|error| Fault::new(Place::default(), format!("cannot serve HTTP/3 on {address}: {error}")))
}

/// Lets go of sockets for HTTP/3 that a configuration has no use for. `bound`: those of its listeners.
fn close_quic(config: &Config, bound: &[Arc<Bound>]) {
    for (listener, bound) in config.listeners.iter().zip(bound) {
        if !listener.http3 {
            bound.close_quic();
        }
    }
}

pub(super) fn cannot_listen(address: &ListenAddress, error: &io::Error) -> Fault {
    Fault::new(Place::default(), format!("cannot listen on {address}: {error}"))
}
