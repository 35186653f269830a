//! `staunch run`: a proxy from its start to its end.

use std::path::Path;

use staunch::config::Config;
use staunch::plugins::usual_folder;
use staunch::proxy::{Inherited, Process, Proxy, Supervisor};
use tracing::{info, warn};

use super::signals::{Signals, Ways};
use super::{Failure, program};

pub(super) fn run(file: &Path) -> Result<(), Failure> {
    serve(Config::load(file).map_err(Failure::bad).inspect(|config| {
        for warning in &config.warnings {
            warn!("{}:{warning}", file.display());
        }
    }))
}

/// Serves until a signal ends it, or a new process takes over.
pub(super) fn serve(config: Result<Config, Failure>) -> Result<(), Failure> {
    let program = program::this()
        .inspect_err(|error| warn!(%error, "there will be no upgrade: this program does not find itself"));
    let unusable = |error| Failure::Arguments(format!("the sockets that were handed over cannot be used: {error}"));
    let (inherited, predecessor) = Inherited::from_environment().map_err(unusable)?;
    let supervisor = Supervisor::from_environment();
    let process =
        Process { inherited, program: program.ok(), supervisor: supervisor.clone(), plugin_cache: usual_folder() };
    let started = config.and_then(|config| start_in(process, config));
    match (&started, predecessor) {
        // It tells the service manager which process is the service now.
        (Ok(proxy), Some(predecessor)) => predecessor.serves(proxy.unused()),
        (Ok(_), None) => supervisor.ready(),
        (Err(failure), Some(predecessor)) => predecessor.fails(failure.text()),
        (Err(_), None) => {}
    }
    wait(started?)
}

/// Starts a proxy that listens to signals.
pub(crate) fn start(config: Config) -> Result<Proxy, Failure> {
    start_in(Process { plugin_cache: usual_folder(), ..Process::default() }, config)
}

/// The same, in the place of a process before it if there is one.
fn start_in(process: Process, config: Config) -> Result<Proxy, Failure> {
    let no_signals = |error| Failure::internal(format_args!("no signals can be had: {error}"));
    // Whoever sees the proxy listen may send it signals.
    let signals = Signals::catch().map_err(no_signals)?;
    let proxy = Proxy::start_in(process, config).map_err(Failure::bad)?;
    let (drain, stop) = proxy.tokens();
    let ways = Ways { drain, stop, reread: proxy.rereading(), upgrade: proxy.upgrading() };
    signals.obey(ways).map_err(no_signals)?;
    for address in proxy.addresses() {
        info!(%address, "listening");
    }
    if let Some(address) = proxy.admin_address() {
        info!(%address, "the admin server is listening");
    }
    Ok(proxy)
}

/// Waits until a proxy has ended.
pub(crate) fn wait(proxy: Proxy) -> Result<(), Failure> {
    if proxy.wait() {
        info!("ended");
        Ok(())
    } else {
        Err(Failure::internal("a thread of the proxy has panicked"))
    }
}
