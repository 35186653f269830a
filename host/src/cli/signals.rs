//! Signals end a proxy, the first gently and the second at once, or have it read the files of its plugins again.

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
}

impl Signals {
    /// # Errors
    /// When the system refuses.
    pub(super) fn catch() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let (terminate, interrupt, hang_up) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
        drop(inside);
        Ok(Self { runtime, terminate, interrupt, hang_up })
    }

    /// Does what they mean, on a thread of its own.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn obey(self, drain: CancellationToken, stop: CancellationToken, reread: Arc<Notify>) -> io::Result<()> {
        let Self { runtime, mut terminate, mut interrupt, mut hang_up } = self;
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
}
