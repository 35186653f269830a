//! `staunch run`: a proxy from its start to its end.

use std::path::Path;

use staunch::config::Config;
use staunch::proxy::Proxy;
use tracing::{info, warn};

use super::Failure;
use super::signals::Signals;

pub(super) fn run(file: &Path) -> Result<(), Failure> {
    let config = Config::load(file).map_err(Failure::bad)?;
    for warning in &config.warnings {
        warn!("{}:{warning}", file.display());
    }
    serve(config)
}

/// Serves until a signal ends it.
pub(super) fn serve(config: Config) -> Result<(), Failure> {
    wait(start(config)?)
}

/// Starts a proxy that listens to signals, with as many open files as the system allows: each connection is one, and the
/// usual limit of 1024 is for programs that wait for them with `select`.
pub(crate) fn start(config: Config) -> Result<Proxy, Failure> {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        warn!(%error, "the limit of open files stays as it is");
    }
    let no_signals = |error| Failure::internal(format_args!("no signals can be had: {error}"));
    // Whoever sees the proxy listen may send it signals.
    let signals = Signals::catch().map_err(no_signals)?;
    let proxy = Proxy::start(config).map_err(Failure::bad)?;
    let (drain, stop) = proxy.tokens();
    signals.obey(drain, stop, proxy.rereading()).map_err(no_signals)?;
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
