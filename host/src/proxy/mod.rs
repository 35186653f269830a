//! The whole proxy: built from a configuration, run on its threads, drained at the end.

mod assembly;
mod blueprint;
mod crew;
mod generations;
mod guards;
mod operation;
mod orders;
mod parts;
mod probation;
mod running;
mod supervisor;
mod turnover;
mod upgrade;
mod window;
mod worker;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::{fmt, io};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::{Config, Fault, Faults, ListenAddress, Place, PluginCache};
use crate::listener::Bound;
use crate::plugins::{CodeCache, PluginHost};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;

pub use crate::listener::{Inherited, Predecessor};
pub use supervisor::Supervisor;
pub use upgrade::Program;

use crew::Crew;
use operation::Operation;
use parts::{Built, Parts};
use running::{Running, cannot_listen};
use upgrade::Upgrade;
use window::Control;
use worker::Turn;

/// A running proxy.
pub struct Proxy {
    addresses: Vec<ListenAddress>,
    admin: Option<ListenAddress>,
    drain: CancellationToken,
    stop: CancellationToken,
    crew: Arc<Crew>,
    control: Option<JoinHandle<()>>,
    /// Told when every worker has ended.
    ended: CancellationToken,
    admin_socket: Option<Arc<Bound>>,
    running: Arc<Running>,
    reread: Arc<Notify>,
    upgrade: Arc<Notify>,
    unused: Vec<String>,
}

/// What a proxy has from the process it is in.
#[derive(Debug, Default)]
pub struct Process {
    /// Listening sockets it was started with.
    pub inherited: Inherited,
    /// How it was started; without it there is no upgrade.
    pub program: Option<Program>,
    pub supervisor: Supervisor,
    /// Where compiled plugins are kept unless the configuration says; `None`: nowhere.
    pub plugin_cache: Option<PathBuf>,
}

/// Why a proxy did not start: every fault that was found, with its place in the configuration.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(#[from] Faults);

/// Validates everything that [`Proxy::start`] would load, plugins included, without listening. `plugin_cache`: where
/// compiled plugins are kept unless the configuration says.
///
/// # Errors
/// Every fault of plugins and names.
pub fn check(config: &Config, plugin_cache: Option<&Path>) -> Result<(), StartError> {
    let host = plugin_host(config, plugin_cache)?;
    Parts::build(config.clone(), &host, 1, None)?;
    Ok(())
}

impl Proxy {
    /// Builds everything, listens and serves on threads of its own.
    ///
    /// # Errors
    /// Every fault of plugins, names and addresses; nothing is served then.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_in(Process::default(), config)
    }

    /// The same in a process that has something to give.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub fn start_in(process: Process, config: Config) -> Result<Self, StartError> {
        let Process { mut inherited, program, supervisor, plugin_cache } = process;
        let host = plugin_host(&config, plugin_cache.as_deref())?;
        let workers = workers(&config);
        let Built { parts, blueprints, .. } = Parts::build(config, &host, workers, None)?;
        let parts = Arc::new(parts);
        let (compiled, cached) = parts.origins();
        info!(compiled, cached, "plugins are loaded");
        let config = &parts.config;
        let bound = bind(config, workers, &mut inherited)?;
        let admin = match &config.admin {
            Some(admin) => {
                let bound = inherited.bind(&admin.address, 1);
                Some(Arc::new(bound.map_err(|error| faults(config, vec![cannot_listen(&admin.address, &error)]))?))
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
        let (drain, stop, ended) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let history = generations::remembered(config);
        let generation = history.number_at_start(&config.text);
        let running = Running::new(host, metrics, drain.clone(), parts.clone(), bound.clone(), access_log, generation);
        let running = Arc::new(running);
        let (crew, falls) = Crew::new(running.clone(), stop.clone());
        let mut proxy = Self {
            addresses: bound.iter().map(|bound| bound.address.clone()).collect(),
            admin: admin.as_ref().map(|bound| bound.address.clone()),
            drain: drain.clone(),
            stop: stop.clone(),
            crew,
            control: None,
            ended: ended.clone(),
            admin_socket: admin.clone(),
            running: running.clone(),
            reread: Arc::default(),
            upgrade: Arc::default(),
            unused: inherited.close(),
        };

        let mut starts = Vec::new();
        for (number, blueprint) in blueprints.into_iter().enumerate() {
            let access_log = Some(running.access_log().map(|log| log.logger()));
            let turn = Turn { parts: parts.clone(), blueprint, bound: bound.clone(), access_log };
            let started = proxy.crew.start(number, turn);
            let (orders, started) =
                started.map_err(|error| fault(config, format!("a worker did not start: {error}")))?;
            running.engage(orders);
            starts.push(started);
        }
        for started in starts {
            let result = started.recv().unwrap_or_else(|_| Err(io::Error::other("it panicked")));
            if let Err(error) = result {
                proxy.stop();
                return Err(fault(config, format!("a worker did not start: {error}")).into());
            }
        }

        let upgrade = Arc::new(Upgrade::new(program, running.clone(), supervisor.clone()));
        let operation = Arc::new(Operation::new(running, supervisor, history));
        let control = Control {
            operation,
            reread: proxy.reread.clone(),
            upgrade,
            asked_to_upgrade: proxy.upgrade.clone(),
            admin,
            crew: proxy.crew.clone(),
            falls,
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

    /// The number of the configuration that serves, from 1.
    pub fn generation(&self) -> u64 {
        self.running.generation()
    }

    /// Has the configuration and the files of plugins read again; what changed takes over. Answers at once.
    pub fn reread(&self) {
        self.reread.notify_one();
    }

    /// A handle for other threads that does what [`reread`](Self::reread) does when it is notified.
    pub fn rereading(&self) -> Arc<Notify> {
        self.reread.clone()
    }

    /// A handle for other threads: notified, it has a new process of the same program take over, and this one end.
    pub fn upgrading(&self) -> Arc<Notify> {
        self.upgrade.clone()
    }

    /// The addresses of sockets that were inherited and that nothing in the configuration listens on.
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// Waits until every thread has ended, which they do once drained or stopped. Answers whether all ended well.
    pub fn wait(mut self) -> bool {
        self.join()
    }

    fn join(&mut self) -> bool {
        let mut well = true;
        self.crew.wait(|| self.control.as_ref().is_some_and(|control| !control.is_finished()));
        self.ended.cancel();
        if let Some(control) = self.control.take() {
            well &= control.join().is_ok();
        }
        self.running.end();
        if let Some(admin) = self.admin_socket.take() {
            admin.unlink();
        }
        well
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("addresses", &self.addresses).finish_non_exhaustive()
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

/// The host of plugins, with the folder for compiled ones that the configuration means.
fn plugin_host(config: &Config, usual: Option<&Path>) -> Result<PluginHost, Faults> {
    let host = PluginHost::new().map_err(|error| fault(config, format!("the plugin host did not start: {error}")))?;
    let folder = match &config.server.plugin_cache {
        PluginCache::Usual => usual,
        PluginCache::Folder(folder) => Some(&**folder),
        PluginCache::Off => None,
    };
    Ok(host.with_cache(folder.and_then(CodeCache::at)))
}

fn bind(config: &Config, workers: usize, inherited: &mut Inherited) -> Result<Vec<Arc<Bound>>, Faults> {
    let mut bound = Vec::new();
    let mut found = Vec::new();
    for listener in &config.listeners {
        match running::listen(listener, workers, || inherited.bind(listener, workers)) {
            Ok(socket) => bound.push(Arc::new(socket)),
            Err(fault) => found.push(fault),
        }
    }
    if found.is_empty() { Ok(bound) } else { Err(faults(config, found)) }
}

fn faults(config: &Config, faults: Vec<Fault>) -> Faults {
    Faults { file: config.file.clone(), faults }
}

fn fault(config: &Config, message: String) -> Faults {
    faults(config, vec![Fault::new(Place::default(), message)])
}
