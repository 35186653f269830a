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
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::proxy::parts::Parts;
use crate::proxy::running::{NotApplied, Running};
use crate::proxy::turnover::Turnover;

/// Time between two looks at files and probations.
const LOOK: Duration = Duration::from_millis(200);

/// What the control thread does about what serves.
pub(super) struct Operation {
    pub(super) running: Arc<Running>,
    pub(super) turnover: Arc<Turnover>,
    /// Configurations that were read again and did not take over.
    refused: AtomicU64,
}

impl Operation {
    pub(super) fn new(running: Arc<Running>) -> Self {
        let turnover = Arc::new(Turnover::new(running.clone()));
        Self { running, turnover, refused: AtomicU64::new(0) }
    }

    /// Looks after plugins and the configuration until it is dropped. `reread` asks for all files to be read again.
    pub(super) async fn run(self: Arc<Self>, reread: Arc<Notify>) {
        let mut watched = Watched::default();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = reread.notified() => {
                    let operation = self.clone();
                    tokio::task::spawn_local(async move {
                        operation.reload().await;
                        operation.read_plugins().await;
                    });
                }
                _ = looks.tick() => {
                    let parts = self.running.parts();
                    for (what, path) in watched.changed(&parts) {
                        let operation = self.clone();
                        tokio::task::spawn_local(async move {
                            match what {
                                File::Plugin(name) => operation.read_plugin(&name, path).await,
                                File::Config => operation.reload_changed().await,
                            }
                        });
                    }
                    self.turnover.judge().await;
                }
            }
        }
    }

    /// Has a configuration serve. Answers its number.
    ///
    /// # Errors
    /// When it does not; what served serves on.
    pub(super) async fn apply(&self, config: Config) -> Result<u64, NotApplied> {
        for warning in &config.warnings {
            warn!("{warning}");
        }
        let applied = self.running.apply(config).await?;
        self.turnover.settle_all_but(&applied.kept);
        info!(generation = applied.generation, "another configuration serves");
        Ok(applied.generation)
    }

    /// Configurations that were read again and did not take over.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Has the configuration's file serve if it says something else than what was read last.
    async fn reload_changed(&self) {
        let config = &self.running.parts().config;
        if config.file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).is_some_and(|t| t != config.text) {
            self.reload().await;
        }
    }

    /// Reads the configuration's file again and has it serve.
    async fn reload(&self) {
        let Some(file) = self.running.parts().config.file.clone() else { return };
        info!(file = %file.display(), "reading the configuration again");
        let loaded = tokio::task::spawn_blocking(move || Config::load(&file)).await;
        let applied = match loaded {
            Ok(Ok(config)) => self.apply(config).await,
            Ok(Err(faults)) => Err(NotApplied::Faults(faults)),
            Err(_) => Err(NotApplied::Broken),
        };
        if let Err(not) = applied {
            self.refused.fetch_add(1, Relaxed);
            error!("nothing was changed, what served serves on:\n{not}");
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

/// The watched files, with their stamps when they were looked at last and when they were read.
#[derive(Default)]
struct Watched(HashMap<PathBuf, (Option<Stamp>, Option<Stamp>)>);

/// What a watched file holds.
enum File {
    Plugin(String),
    Config,
}

impl Watched {
    /// The files that have changed, and did not change any further since the last look: a file that is being written
    /// is left alone until it is whole.
    fn changed(&mut self, parts: &Parts) -> Vec<(File, PathBuf)> {
        let config = &parts.config;
        let own = config.file.iter().filter(|_| config.server.watch).map(|file| (File::Config, file.clone()));
        let plugins = config.plugins.iter().filter(|plugin| plugin.watch);
        let plugins = plugins.filter_map(|plugin| Some((File::Plugin(plugin.name.clone()), plugin.path.clone()?)));
        let watched: Vec<_> = own.chain(plugins).collect();
        self.0.retain(|path, _| watched.iter().any(|(_, known)| known == path));
        watched.into_iter().filter(|(_, path)| self.has_changed(path)).collect()
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
