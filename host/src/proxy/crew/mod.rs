//! The workers' threads: started, started anew when one has fallen, and waited for at the end.
//!
//! # What does a panic cost?
//!
//! In the task of a connection: that connection. Anywhere else on a worker: the worker with its connections. Its sockets
//! stay open, because [`Bound`](crate::listener::Bound) holds them too, and what comes in waits in their queues until
//! another worker has its place, with an own copy of the configuration that serves by then.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::proxy::orders::Order;
use crate::proxy::running::Running;
use crate::proxy::worker::{End, Job, Turn};

/// A worker that falls again within this time is started anew later and later.
const CALM: Duration = Duration::from_secs(10);
/// The first wait and the longest one before a worker is started anew. While it is away, connections wait for it.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);
/// Time between two looks whether somebody is left who would start workers.
const LOOK: Duration = Duration::from_millis(100);

/// All workers.
pub(super) struct Crew {
    running: Arc<Running>,
    stop: CancellationToken,
    fallen: UnboundedSender<usize>,
    threads: Mutex<Threads>,
    changed: Condvar,
}

#[derive(Default)]
struct Threads {
    all: Vec<JoinHandle<()>>,
    /// Workers that have fallen and have no successor yet.
    missing: usize,
}

/// Hears whether a worker listens.
type Started = mpsc::Receiver<io::Result<()>>;

impl Crew {
    /// The second part tells of workers that have fallen, for [`tend`](Self::tend).
    pub(super) fn new(running: Arc<Running>, stop: CancellationToken) -> (Arc<Self>, UnboundedReceiver<usize>) {
        let (fallen, falls) = unbounded_channel();
        let (threads, changed) = (Mutex::default(), Condvar::new());
        (Arc::new(Self { running, stop, fallen, threads, changed }), falls)
    }

    /// Starts a worker. Answers with the way to order something of it.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(self: &Arc<Self>, number: usize, turn: Turn) -> io::Result<(UnboundedSender<Order>, Started)> {
        let (give, obey) = unbounded_channel();
        let (tell, started) = mpsc::channel();
        let metrics = self.running.metrics.clone();
        let drain = self.running.drain.clone();
        let (admission, stop) = (self.running.admission.clone(), self.stop.clone());
        let job = Job { number, orders: obey, turn, metrics: metrics.clone(), admission, drain, stop };
        let crew = self.clone();
        let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            let work = AssertUnwindSafe(|| {
                job.run(|result| {
                    // Whoever waits for this has given up if it cannot be told.
                    let _ = tell.send(result);
                })
            });
            match catch_unwind(work) {
                Ok(End::Drained) => {}
                Ok(End::Fallen) => crew.has_fallen(number),
                Err(_) => {
                    metrics.worker(number).panics.increment();
                    crew.has_fallen(number);
                }
            }
        })?;
        self.threads.lock().all.push(thread);
        Ok((give, started))
    }

    /// Starts workers anew that have fallen. On the control thread, until it ends.
    pub(super) async fn tend(self: Arc<Self>, mut falls: UnboundedReceiver<usize>) {
        let mut back_offs = HashMap::<usize, BackOff>::new();
        while let Some(number) = falls.recv().await {
            let delay = back_offs.entry(number).or_default().fell(Instant::now());
            tokio::task::spawn_local(self.clone().replace(number, delay));
        }
    }

    /// Waits until every worker has ended. `is_tended`: whether fallen ones are still started anew.
    pub(super) fn wait(&self, is_tended: impl Fn() -> bool) {
        let mut threads = self.threads.lock();
        loop {
            if let Some(thread) = threads.all.pop() {
                drop(threads);
                // Its panics were caught and counted.
                let _ = thread.join();
                threads = self.threads.lock();
            } else if threads.missing > 0 && is_tended() {
                self.changed.wait_for(&mut threads, LOOK);
            } else {
                return;
            }
        }
    }

    fn has_fallen(&self, number: usize) {
        if self.running.drain.is_cancelled() {
            return;
        }
        error!(worker = number, "the worker has fallen with its connections: a bug of the proxy; it is started anew");
        self.threads.lock().missing += 1;
        let _ = self.fallen.send(number);
    }

    /// Puts another worker into the place of a fallen one.
    async fn replace(self: Arc<Self>, number: usize, mut delay: Duration) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.running.drain.cancelled() => break,
            }
            match self.restart(number).await {
                Ok(()) => {
                    self.running.metrics.restarted();
                    info!(worker = number, "the worker serves again");
                    break;
                }
                Err(why) => error!(worker = number, "the worker cannot be started: {why}"),
            }
            delay = longer(delay);
        }
        self.threads.lock().missing -= 1;
        self.changed.notify_all();
    }

    async fn restart(self: &Arc<Self>, number: usize) -> Result<(), String> {
        // Nobody turns workers to another configuration meanwhile.
        let _turn = self.running.turn.lock().await;
        if self.running.drain.is_cancelled() {
            return Ok(());
        }
        let crew = self.clone();
        let started = tokio::task::spawn_blocking(move || {
            let running = &crew.running;
            let parts = running.parts();
            let blueprint = parts.blueprint(number)?;
            let access_log = Some(running.access_log().map(|log| log.logger()));
            let turn = Turn { parts, blueprint, bound: running.bound(), access_log };
            let (orders, started) = crew.start(number, turn).map_err(|error| error.to_string())?;
            match started.recv() {
                Ok(Ok(())) => Ok(running.reengage(number, orders)),
                Ok(Err(error)) => Err(error.to_string()),
                // It fell at once, which is told where it does.
                Err(_) => Ok(()),
            }
        });
        started.await.unwrap_or_else(|_| Err("building its parts panicked: a bug of the proxy".to_owned()))
    }
}

/// When a worker that falls is started anew.
#[derive(Default)]
struct BackOff {
    latest: Option<Instant>,
    delay: Duration,
}

impl BackOff {
    /// How long to wait after a fall: not at all, unless it is one of several.
    fn fell(&mut self, now: Instant) -> Duration {
        let is_calm = self.latest.is_none_or(|latest| now.duration_since(latest) > CALM);
        self.delay = if is_calm { Duration::ZERO } else { longer(self.delay) };
        self.latest = Some(now);
        self.delay
    }
}

fn longer(delay: Duration) -> Duration {
    (2 * delay).clamp(FIRST, LONGEST)
}

#[cfg(test)]
mod tests;
