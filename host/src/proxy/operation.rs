//! What the control thread does about configuration and plugins while the proxy serves: it looks at watched files,
//! reads all of them again when it is told to, and judges versions on probation.
//!
//! # Why are files looked at, and not watched by the kernel?
//!
//! A file that is replaced by renaming is another inode, one behind a symbolic link of a mounted volume changes
//! without an event of its own, and network file systems tell nothing. To ask for a file's stamp five times a second
//! costs a microsecond and sees all of these.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use crate::proxy::generations::{Generations, History};
use crate::proxy::parts::Parts;
use crate::proxy::running::Running;
use crate::proxy::supervisor::Supervisor;
use crate::proxy::turnover::Turnover;
use crate::telemetry::metrics::Metrics;

/// Time between two looks at files and probations.
const LOOK: Duration = Duration::from_millis(200);
/// Looks of which one is at the files of certificates, of which there may be thousands.
const CERTIFICATES: u32 = 5;

/// What the control thread does about what serves.
pub(super) struct Operation {
    pub(super) running: Arc<Running>,
    pub(super) turnover: Arc<Turnover>,
    pub(super) generations: Arc<Generations>,
}

impl Operation {
    /// `history`: the configurations that are known of earlier processes.
    pub(super) fn new(running: Arc<Running>, supervisor: Supervisor, history: History) -> Self {
        let turnover = Arc::new(Turnover::new(running.clone()));
        let generations = Arc::new(Generations::new(running.clone(), turnover.clone(), supervisor, history));
        Self { running, turnover, generations }
    }

    /// Looks after plugins and the configuration until it is dropped. `reread` asks for all files to be read again.
    pub(super) async fn run(self: Arc<Self>, reread: Arc<Notify>) {
        let (mut watched, mut certificates) = (Watched::default(), Watched::default());
        let mut count = 0;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = reread.notified() => {
                    let operation = self.clone();
                    tokio::task::spawn_local(async move {
                        // What became of it is logged there.
                        let _ = operation.generations.reload().await;
                        operation.read_plugins().await;
                    });
                }
                _ = looks.tick() => {
                    let parts = self.running.parts();
                    let changed = watched.changed(watched_files(&parts)).into_iter();
                    for (path, what) in changed.flat_map(|(path, held)| held.into_iter().map(move |what| (path.clone(), what))) {
                        let operation = self.clone();
                        tokio::task::spawn_local(async move {
                            match what {
                                File::Plugin(name) => operation.read_plugin(&name, path).await,
                                File::Config => operation.reload_changed().await,
                            }
                        });
                    }
                    count = (count + 1) % CERTIFICATES;
                    if count == 0 {
                        // A certificate and its key mostly change together, and fit only then.
                        let changed = certificates.changed(certificate_files(&parts));
                        if !changed.is_empty() {
                            let metrics = self.running.metrics.clone();
                            tokio::task::spawn_blocking(move || read_certificates(&parts, &metrics, &changed));
                        }
                    }
                    self.turnover.judge().await;
                    self.generations.look();
                }
            }
        }
    }

    /// Has the configuration's file serve if it says something else than what was read last.
    async fn reload_changed(&self) {
        let config = &self.running.parts().config;
        if config.file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).is_some_and(|t| t != config.text) {
            // What became of it is logged there.
            let _ = self.generations.reload().await;
        }
    }

    async fn read_plugins(&self) {
        let parts = self.running.parts();
        for plugin in &parts.config.plugins {
            if let Some(path) = &plugin.path {
                self.read_plugin(&plugin.name, path.clone()).await;
            }
        }
    }

    /// Has what a plugin's file holds now serve.
    async fn read_plugin(&self, plugin: &str, path: PathBuf) {
        let file = path.clone();
        let bytes = tokio::task::spawn_blocking(move || std::fs::read(file)).await;
        match bytes.unwrap_or_else(|panicked| Err(panicked.into())) {
            // What became of it is logged there.
            Ok(bytes) => drop(self.turnover.replace(plugin, bytes, false).await),
            Err(error) => warn!(plugin, path = %path.display(), %error, "not replaced: its file cannot be read"),
        }
    }
}

/// Has listeners that were built from these files show what they hold now.
fn read_certificates(parts: &Parts, metrics: &Metrics, changed: &[(PathBuf, ())]) {
    for (listener, acceptor) in parts.config.listeners.iter().zip(&parts.acceptors) {
        let Some(acceptor) = acceptor else { continue };
        if !acceptor.settings().files().any(|file| changed.iter().any(|(path, ())| path == file)) {
            continue;
        }
        match acceptor.reread() {
            Ok(true) => metrics.certificates_changed(&listener.address, None),
            Ok(false) => {}
            Err(faults) => {
                let faults: Vec<_> = faults.into_iter().map(|(_, error)| error.to_string()).collect();
                metrics.certificates_changed(&listener.address, Some(&faults));
            }
        }
    }
}

/// The watched files, with their stamps when they were looked at last and when they were read.
#[derive(Default)]
struct Watched(HashMap<PathBuf, (Option<Stamp>, Option<Stamp>)>);

/// What a watched file holds.
enum File {
    Plugin(String),
    Config,
}

/// The files whose changes the configuration wants to take over by themselves.
fn watched_files(parts: &Parts) -> HashMap<PathBuf, Vec<File>> {
    let config = &parts.config;
    let own = config.file.iter().filter(|_| config.server.watch).map(|file| (file, File::Config));
    let plugins = config.plugins.iter().filter(|plugin| plugin.watch);
    let plugins = plugins.filter_map(|plugin| Some((plugin.path.as_ref()?, File::Plugin(plugin.name.clone()))));
    let mut files = HashMap::<PathBuf, Vec<File>>::new();
    for (path, file) in own.chain(plugins) {
        files.entry(path.clone()).or_default().push(file);
    }
    files
}

/// The files that listeners are secured with.
fn certificate_files(parts: &Parts) -> HashMap<PathBuf, ()> {
    let secured = parts.config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    secured.flat_map(|tls| tls.files()).map(|file| (file.clone(), ())).collect()
}

impl Watched {
    /// The files that have changed, and did not change any further since the last look: a file that is being written
    /// is left alone until it is whole.
    fn changed<F>(&mut self, watched: HashMap<PathBuf, F>) -> Vec<(PathBuf, F)> {
        self.0.retain(|path, _| watched.contains_key(path));
        watched.into_iter().filter(|(path, _)| self.has_changed(path)).collect()
    }

    fn has_changed(&mut self, path: &Path) -> bool {
        let found = Stamp::of(path);
        let (seen, read) = self.0.entry(path.to_owned()).or_insert((None, None));
        let changed = found.is_some() && found == *seen && found != *read;
        if changed {
            *read = found;
        }
        *seen = found;
        changed
    }
}

/// By what a file is known to be another than it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Stamp {
    /// The stamp of a file that is there.
    fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().filter(Metadata::is_file).map(|data| Self {
            device: data.dev(),
            inode: data.ino(),
            length: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_another_stamp_when_it_is_written_or_renamed_over() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("a"), folder.path().join("b"));
        assert_eq!(Stamp::of(&file), None);
        std::fs::write(&file, "one").unwrap();
        let first = Stamp::of(&file);

        std::fs::write(&file, "longer").unwrap();
        let second = Stamp::of(&file);
        std::fs::write(&other, "longer").unwrap();
        std::fs::rename(&other, &file).unwrap();

        assert_eq!(Stamp::of(&file), Stamp::of(&file));
        assert!(first.is_some() && first != second && second != Stamp::of(&file));
    }
}
