//! One worker: a thread with a runtime, listeners, connections and plugin instances of its own.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::config;
use crate::http::site::Site;
use crate::http::worker::Worker;
use crate::listener::{Bound, Door, Listener, quic};
use crate::net::tls::Acceptor;
use crate::proxy::assembly::assemble;
use crate::proxy::blueprint::Blueprint;
use crate::proxy::orders::{Order, obey};
use crate::proxy::parts::Parts;
use crate::replaceable::Replaceable;
use crate::telemetry::access_log::AccessLogger;
use crate::telemetry::metrics::{Metrics, Timeout, WorkerMetrics};

/// How often balancers hear of the time, and dates of responses are brought up to it.
const TICK: Duration = Duration::from_millis(100);
/// Tasks that run, while there are some to run, before the sockets are looked at again.
const TASKS: u32 = 256;
/// Sockets with news that are taken up at a time. With a thousand, what each needs has left the cache when its task runs;
/// with a few dozen, a burst of clients is taken in faster than it is answered, and each of them takes memory.
const EVENTS: usize = 256;
/// How often idle upstream connections are looked through, in ticks.
const SWEEP: u32 = 10;

/// What a worker is started with.
pub(crate) struct Job {
    pub(crate) number: usize,
    /// What the control thread wants done between requests.
    pub(crate) orders: UnboundedReceiver<Order>,
    /// What it is to serve first.
    pub(crate) turn: Turn,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) admission: Arc<Admission>,
    /// No new connections; exchanges finish.
    pub(crate) drain: CancellationToken,
    /// Nothing finishes.
    pub(crate) stop: CancellationToken,
}

/// A configuration to be served.
pub(crate) struct Turn {
    pub(crate) parts: Arc<Parts>,
    pub(crate) blueprint: Blueprint,
    /// All sockets to listen on, in the order of the configuration.
    pub(crate) bound: Vec<Arc<Bound>>,
    /// `None`: the one there is.
    pub(crate) access_log: Option<Option<AccessLogger>>,
}

/// How the work of a worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Drained or stopped, or it could not begin.
    Drained,
    /// A part of it that it cannot do without has panicked.
    Fallen,
}

/// A worker at its post, for who has it do something.
pub(crate) struct Post {
    pub(super) worker: Rc<Worker>,
    number: usize,
    workers: usize,
    metrics: Arc<Metrics>,
    connections: TaskTracker,
    accepting: TaskTracker,
    listening: RefCell<Vec<Listening>>,
    drain: CancellationToken,
    /// A part that the worker cannot do without has panicked.
    fallen: CancellationToken,
}

struct Listening {
    bound: Arc<Bound>,
    door: Rc<Replaceable<Door>>,
    stop: CancellationToken,
    /// Ends HTTP/3 beside it, if that is served.
    stop_quic: Option<CancellationToken>,
}

impl Job {
    /// Serves until drained. `started` hears whether the listeners could be taken over.
    pub(crate) fn run(self, started: impl FnOnce(io::Result<()>)) -> End {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .event_interval(TASKS)
            .max_io_events_per_tick(EVENTS)
            .build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(self.serve(started)),
            Err(error) => {
                started(Err(error));
                End::Drained
            }
        }
    }

    async fn serve(self, started: impl FnOnce(io::Result<()>)) -> End {
        let Self { number, orders, turn, metrics, admission, drain, stop } = self;
        let workers = turn.parts.workers;
        let listeners: io::Result<Vec<_>> = turn.bound.iter().map(|bound| bound.listeners(number, workers)).collect();
        let listeners = match listeners {
            Ok(listeners) => listeners,
            Err(error) => {
                started(Err(error));
                return End::Drained;
            }
        };
        let own_metrics = metrics.worker(number);
        let access_log = turn.access_log.flatten().map(|log| Rc::new(RefCell::new(log)));
        let site = assemble(number, &turn.parts, turn.blueprint, &own_metrics, access_log, None);
        let post = Rc::new(Post {
            worker: Worker::new(Rc::new(site), admission),
            number,
            workers,
            metrics,
            connections: TaskTracker::new(),
            accepting: TaskTracker::new(),
            listening: RefCell::default(),
            drain: drain.clone(),
            fallen: CancellationToken::new(),
        });
        let doors = doors(&turn.parts, &turn.bound, &post.worker.site());
        for ((bound, door), listeners) in turn.bound.into_iter().zip(doors).zip(listeners) {
            post.listen(bound, door, listeners);
        }
        drop(turn.parts);
        let ticking = tokio::task::spawn_local(post.vital(tick(post.worker.clone())));
        let obeying = tokio::task::spawn_local(post.vital(obey(post.clone(), orders)));
        started(Ok(()));

        tokio::select! {
            () = drain.cancelled() => {}
            () = post.fallen.cancelled() => return End::Fallen,
        }
        post.close();
        post.accepting.wait().await;
        post.worker.drain();
        post.connections.close();
        let drain_timeout = post.worker.site().server.drain_timeout;
        tokio::select! {
            () = post.connections.wait() => {}
            () = stop.cancelled() => {}
            () = tokio::time::sleep(drain_timeout) => {
                own_metrics.timed_out(Timeout::Drain);
                tracing::warn!(worker = number, connections = post.worker.connections(), "closed connections that did not finish in time");
            }
        }
        ticking.abort();
        obeying.abort();
        End::Drained
    }
}

impl Post {
    /// A task that the worker cannot do without: it falls when this panics, and this does nothing more once it has
    /// fallen. A connection that was accepted then would be lost.
    fn vital<F: Future<Output = ()>>(&self, task: F) -> impl Future<Output = ()> + use<F> {
        let vital = Vital { metrics: self.metrics.worker(self.number), fallen: self.fallen.clone() };
        let fallen = self.fallen.clone();
        async move {
            let _vital = vital;
            tokio::select! {
                biased;
                () = fallen.cancelled() => {}
                () = task => {}
            }
        }
    }

    /// Serves another configuration from now on. Exchanges under way end as they began.
    pub(super) fn turn(&self, turn: Turn) {
        let began = Instant::now();
        let before = self.worker.site();
        let access_log = match turn.access_log {
            Some(log) => log.map(|log| Rc::new(RefCell::new(log))),
            None => before.ledger.access_log.clone(),
        };
        let own_metrics = self.metrics.worker(self.number);
        let site = assemble(self.number, &turn.parts, turn.blueprint, &own_metrics, access_log, Some(&before));
        for upstream in &before.upstreams {
            let next = site.upstream(upstream.name());
            if next.is_none_or(|next| !Rc::ptr_eq(next, upstream)) {
                self.connections.spawn_local(upstream.retire(next.map(|next| &**next)).close());
            }
        }
        let site = Rc::new(site);
        self.worker.turn(site.clone());
        if !self.drain.is_cancelled() {
            let doors = doors(&turn.parts, &turn.bound, &site);
            self.listen_on(turn.bound.into_iter().zip(doors).collect());
        }
        drop(before);
        // Nothing else happens on this worker meanwhile.
        tracing::debug!(worker = self.number, took = ?began.elapsed(), "turned to another configuration");
    }

    /// Listens on these sockets and on no other.
    fn listen_on(&self, wanted: Vec<(Arc<Bound>, Rc<Door>)>) {
        self.listening.borrow_mut().retain(|listening| {
            let stays = wanted.iter().any(|(bound, _)| Arc::ptr_eq(bound, &listening.bound));
            if !stays {
                listening.close();
            }
            stays
        });
        for (bound, door) in wanted {
            let mut known = self.listening.borrow_mut();
            if let Some(listening) = known.iter_mut().find(|listening| Arc::ptr_eq(&bound, &listening.bound)) {
                let http3 = door.config.http3;
                listening.door.replace(door, false);
                match (&listening.stop_quic, http3) {
                    (None, true) => listening.stop_quic = self.serve_quic(&bound, &listening.door),
                    (Some(stop), false) => {
                        stop.cancel();
                        listening.stop_quic = None;
                    }
                    _ => {}
                }
                continue;
            }
            drop(known);
            match bound.listeners(self.number, self.workers) {
                Ok(listeners) => self.listen(bound, door, listeners),
                Err(error) => {
                    tracing::error!(address = %bound.address, worker = self.number, %error, "this worker does not listen");
                }
            }
        }
    }

    fn listen(&self, bound: Arc<Bound>, door: Rc<Door>, listeners: Vec<Listener>) {
        let http3 = door.config.http3;
        let door = Rc::new(Replaceable::new(door));
        let stop_quic = if http3 { self.serve_quic(&bound, &door) } else { None };
        let stop = CancellationToken::new();
        for listener in listeners {
            let (worker, connections) = (self.worker.clone(), self.connections.clone());
            let running = listener.run(bound.clone(), door.clone(), worker, connections, stop.clone());
            self.accepting.spawn_local(self.vital(running));
        }
        self.listening.borrow_mut().push(Listening { bound, door, stop, stop_quic });
    }

    /// Serves HTTP/3 beside a listener, until what is answered is cancelled.
    fn serve_quic(&self, bound: &Bound, door: &Rc<Replaceable<Door>>) -> Option<CancellationToken> {
        let sockets = bound.quic()?;
        let stop = CancellationToken::new();
        let (worker, connections) = (self.worker.clone(), self.connections.clone());
        let place = (self.number, self.workers);
        let running = quic::run(sockets, place, door.clone(), worker, connections, stop.clone());
        self.accepting.spawn_local(self.vital(running));
        Some(stop)
    }

    /// Listens no more.
    fn close(&self) {
        for listening in self.listening.borrow_mut().drain(..) {
            listening.close();
        }
        self.accepting.close();
    }
}

/// What connections are met with, in the order of the listeners.
fn doors(parts: &Parts, bound: &[Arc<Bound>], site: &Site) -> Vec<Rc<Door>> {
    let listeners = parts.config.listeners.iter().zip(&parts.acceptors).zip(bound);
    let door = |((listener, acceptor), bound): ((&config::Listener, &Option<Arc<Acceptor>>), &Arc<Bound>)| {
        Door::new(
            listener.clone(),
            acceptor.clone(),
            parts.config.demands(listener, &bound.address),
            site,
            parts.workers,
        )
    };
    listeners.map(door).collect()
}

/// Tells of a panic.
struct Vital {
    metrics: Arc<WorkerMetrics>,
    fallen: CancellationToken,
}

impl Drop for Vital {
    fn drop(&mut self) {
        if thread::panicking() {
            self.metrics.panics.increment();
            self.fallen.cancel();
        }
    }
}

impl Listening {
    /// Nobody else holds the sockets open when their listeners have taken the last connections and close them.
    fn close(&self) {
        self.bound.close();
        self.stop.cancel();
        if let Some(stop) = &self.stop_quic {
            stop.cancel();
        }
    }
}

/// Housekeeping of the upstreams, for as long as the worker lives.
async fn tick(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for count in 1u32.. {
        ticks.tick().await;
        let now = Instant::now();
        worker.tick();
        if worker.admission.is_crowded() {
            worker.make_room();
        }
        for upstream in &worker.site().upstreams {
            upstream.tick(now);
            if count.is_multiple_of(SWEEP) {
                upstream.sweep(now);
            }
        }
    }
}
