//! The whole proxy: built from a configuration, run on its threads, drained at the end.

mod operation;
mod orders;
mod parts;
mod turnover;
mod window;
mod worker;

use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::sync::Notify;
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::config::{Config, Fault, Faults, ListenAddress, Place};
use crate::listener::{self, Bound};
use crate::plugins::PluginHost;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;

use parts::Parts;
use window::Control;
use worker::Job;

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<ListenAddress>,
    admin: Option<ListenAddress>,
    drain: CancellationToken,
    stop: CancellationToken,
    workers: Vec<JoinHandle<()>>,
    control: Option<JoinHandle<()>>,
    /// Told when every worker has ended.
    ended: CancellationToken,
    sockets: Vec<PathBuf>,
    access_log: Option<Arc<AccessLog>>,
    reread: Arc<Notify>,
}

/// Why a proxy did not start: every fault that was found, with its place in the configuration.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(#[from] Faults);

/// Validates everything that [`Proxy::start`] would load, plugins included, without listening.
///
/// # Errors
/// Every fault of plugins and names.
pub fn check(config: &Config) -> Result<(), StartError> {
    let host = PluginHost::new().map_err(|error| fault(config, format!("the plugin host did not start: {error}")))?;
    Parts::build(config.clone(), &host, 1)?;
    Ok(())
}

impl Proxy {
    /// Builds everything, listens and serves on threads of its own.
    ///
    /// # Errors
    /// Every fault of plugins, names and addresses; nothing is served then.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let host =
            PluginHost::new().map_err(|error| fault(&config, format!("the plugin host did not start: {error}")))?;
        let workers = workers(&config);
        let (parts, blueprints) = Parts::build(config, &host, workers)?;
        let parts = Arc::new(parts);
        let config = &parts.config;
        let bound = Arc::new(bind(config, workers)?);
        let admin = match &config.admin {
            Some(admin) => {
                Some(listener::bind(&admin.address, 1).map_err(|error| cannot_listen(config, &admin.address, &error))?)
            }
            None => None,
        };
        let access_log = match &config.access_log {
            Some(log) => {
                let unwritable = |error| fault(config, format!("the access log cannot be written: {error}"));
                Some(Arc::new(AccessLog::start(log).map_err(unwritable)?))
            }
            None => None,
        };
        let metrics = Arc::new(Metrics::new(workers));
        let admission = Admission::new(&config.server);
        let (drain, stop, ended) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let mut proxy = Self {
            addresses: bound.iter().map(|bound| bound.address.clone()).collect(),
            admin: admin.as_ref().map(|bound| bound.address.clone()),
            drain: drain.clone(),
            stop: stop.clone(),
            workers: Vec::new(),
            control: None,
            ended: ended.clone(),
            sockets: bound.iter().chain(&admin).filter_map(|bound| bound.path().cloned()).collect(),
            access_log,
            reread: Arc::default(),
        };

        let (started, starts) = mpsc::channel();
        let mut orders = Vec::new();
        for (number, blueprint) in blueprints.into_iter().enumerate() {
            let (give, obey) = unbounded_channel();
            orders.push(give);
            let job = Job {
                number,
                orders: obey,
                parts: parts.clone(),
                blueprint,
                bound: bound.clone(),
                metrics: metrics.clone(),
                access_log: proxy.access_log.as_ref().map(|log| log.logger()),
                admission: admission.clone(),
                drain: drain.clone(),
                stop: stop.clone(),
            };
            let started = started.clone();
            let thread = thread::Builder::new().name(format!("worker-{number}"));
            let spawned = thread.spawn(move || {
                job.run(|result| {
                    // Whoever waits for this has given up if it cannot be told.
                    let _ = started.send(result);
                });
            });
            proxy.workers.push(spawned.map_err(|error| fault(config, format!("a worker did not start: {error}")))?);
        }
        drop((started, bound));
        for result in starts.iter().take(workers) {
            if let Err(error) = result {
                proxy.stop();
                return Err(fault(config, format!("a worker did not start: {error}")).into());
            }
        }

        let control = Control {
            parts: parts.clone(),
            metrics,
            access_log: proxy.access_log.clone(),
            admission,
            host,
            orders,
            reread: proxy.reread.clone(),
            admin,
            drain,
            ended,
        };
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || control.run());
        proxy.control =
            Some(thread.map_err(|error| fault(&parts.config, format!("the control thread did not start: {error}")))?);
        Ok(proxy)
    }

    /// Where it listens, in the order of the configuration, with the ports that were given.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    pub fn admin_address(&self) -> Option<&ListenAddress> {
        self.admin.as_ref()
    }

    /// Closes the listeners and lets exchanges finish, within `drain_timeout`.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Ends at once, whatever is in flight.
    pub fn stop(&self) {
        self.drain.cancel();
        self.stop.cancel();
    }

    /// Two handles for other threads: to drain, and to stop.
    pub fn tokens(&self) -> (CancellationToken, CancellationToken) {
        (self.drain.clone(), self.stop.clone())
    }

    /// Has the files of plugins read again; those that changed take over. Answers at once.
    pub fn reread(&self) {
        self.reread.notify_one();
    }

    /// A handle for other threads that does what [`reread`](Self::reread) does when it is notified.
    pub fn rereading(&self) -> Arc<Notify> {
        self.reread.clone()
    }

    /// Waits until every thread has ended, which they do once drained or stopped. Answers whether all ended well.
    pub fn wait(mut self) -> bool {
        self.join()
    }

    fn join(&mut self) -> bool {
        let mut well = true;
        for worker in self.workers.drain(..) {
            well &= worker.join().is_ok();
        }
        self.ended.cancel();
        if let Some(control) = self.control.take() {
            well &= control.join().is_ok();
        }
        for socket in self.sockets.drain(..) {
            // Somebody else may have removed it already.
            let _ = std::fs::remove_file(socket);
        }
        self.access_log = None;
        well
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
        self.join();
    }
}

/// Worker threads: as configured, or one for each core this process may use.
fn workers(config: &Config) -> usize {
    config.server.workers.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
}

fn bind(config: &Config, workers: usize) -> Result<Vec<Bound>, Faults> {
    let mut bound = Vec::new();
    let mut faults = Vec::new();
    for listener in &config.listeners {
        match listener::bind(&listener.address, workers) {
            Ok(socket) => bound.push(socket),
            Err(error) => faults.extend(cannot_listen(config, &listener.address, &error).faults),
        }
    }
    if faults.is_empty() { Ok(bound) } else { Err(Faults { file: config.file.clone(), faults }) }
}

fn cannot_listen(config: &Config, address: &ListenAddress, error: &io::Error) -> Faults {
    fault(config, format!("cannot listen on {address}: {error}"))
}

fn fault(config: &Config, message: String) -> Faults {
    Faults { file: config.file.clone(), faults: vec![Fault::new(Place::default(), message)] }
}
