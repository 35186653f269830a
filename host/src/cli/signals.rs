//! Signals end a proxy, the first gently and the second at once, or have it read the files of its plugins again.

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Listens to signals, on a thread of its own, from the moment this returns.
pub(super) fn watch(drain: CancellationToken, stop: CancellationToken, reread: Arc<Notify>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt, mut hang_up) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?)
    };
    let listen = async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                _ = hang_up.recv() => "SIGHUP",
                () = stop.cancelled() => return,
            };
            match name {
                "SIGHUP" => reread.notify_one(),
                _ if drain.is_cancelled() => {
                    info!(signal = name, "ending at once");
                    stop.cancel();
                }
                _ => {
                    info!(signal = name, "draining; a second signal ends at once");
                    drain.cancel();
                }
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(listen))?;
    Ok(())
}
