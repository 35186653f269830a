//! Signals end a proxy, the first gently and the second at once, have it read the files of its plugins again, or have a
//! new process take over.

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// The signals that are listened to. None is lost from the moment this exists.
pub(super) struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user_2: Signal,
}

/// What signals lead to.
pub(super) struct Ways {
    pub(super) drain: CancellationToken,
    pub(super) stop: CancellationToken,
    pub(super) reread: Arc<Notify>,
    pub(super) upgrade: Arc<Notify>,
}

impl Signals {
    /// # Errors
    /// When the system refuses.
    pub(super) fn catch() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let [terminate, interrupt, hang_up, user_2] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::user_defined2()]
                .map(signal);
        let (terminate, interrupt, hang_up, user_2) = (terminate?, interrupt?, hang_up?, user_2?);
        drop(inside);
        Ok(Self { runtime, terminate, interrupt, hang_up, user_2 })
    }

    /// Does what they mean, on a thread of its own.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn obey(self, ways: Ways) -> io::Result<()> {
        let Self { runtime, mut terminate, mut interrupt, mut hang_up, mut user_2 } = self;
        let Ways { drain, stop, reread, upgrade } = ways;
        let listen = async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                    _ = hang_up.recv() => "SIGHUP",
                    _ = user_2.recv() => "SIGUSR2",
                    () = stop.cancelled() => return,
                };
                match name {
                    "SIGHUP" => reread.notify_one(),
                    "SIGUSR2" => upgrade.notify_one(),
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
}
