//! What the control thread does about plugins while the proxy serves: it looks at watched files, reads all of them
//! again when it is told to, and judges versions on probation.
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
use tracing::{info, warn};

use crate::proxy::parts::Parts;
use crate::proxy::turnover::Turnover;

/// Time between two looks at files and probations.
const LOOK: Duration = Duration::from_millis(200);

/// Looks after plugins until it is dropped. `reread` asks for all files to be read again.
pub(super) async fn run(parts: Arc<Parts>, turnover: Arc<Turnover>, reread: Arc<Notify>) {
    let config_file = parts.config.file.clone();
    let written = config_file.as_deref().and_then(Stamp::of);
    let mut watched = Watched::default();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = reread.notified() => {
                info!("reading plugin files again");
                if config_file.as_deref().and_then(Stamp::of) != written {
                    warn!("the configuration file has changed: this version reads plugin files only, restart it for the rest");
                }
                tokio::task::spawn_local(read_all(parts.clone(), turnover.clone()));
            }
            _ = looks.tick() => {
                for (name, path) in watched.changed(&parts) {
                    tokio::task::spawn_local(read(turnover.clone(), name, path));
                }
                turnover.judge().await;
            }
        }
    }
}

async fn read_all(parts: Arc<Parts>, turnover: Arc<Turnover>) {
    for plugin in &parts.config.plugins {
        if let Some(path) = &plugin.path {
            read(turnover.clone(), plugin.name.clone(), path.clone()).await;
        }
    }
}

/// Has what a file holds now serve.
async fn read(turnover: Arc<Turnover>, plugin: String, path: PathBuf) {
    let file = path.clone();
    let bytes = tokio::task::spawn_blocking(move || std::fs::read(file)).await;
    match bytes.unwrap_or_else(|panicked| Err(panicked.into())) {
        // What became of it is logged there.
        Ok(bytes) => drop(turnover.replace(&plugin, bytes, false).await),
        Err(error) => warn!(plugin, path = %path.display(), %error, "not replaced: its file cannot be read"),
    }
}

/// The watched files, with their stamps when they were looked at last and when they were read.
#[derive(Default)]
struct Watched(HashMap<String, (Option<Stamp>, Option<Stamp>)>);

impl Watched {
    /// The files that have changed, and did not change any further since the last look: a file that is being written
    /// is left alone until it is whole.
    fn changed(&mut self, parts: &Parts) -> Vec<(String, PathBuf)> {
        let mut changed = Vec::new();
        for plugin in parts.config.plugins.iter().filter(|plugin| plugin.watch) {
            let Some(path) = &plugin.path else { continue };
            let found = Stamp::of(path);
            let (seen, read) = self.0.entry(plugin.name.clone()).or_insert((None, None));
            if found.is_some() && found == *seen && found != *read {
                *read = found;
                changed.push((plugin.name.clone(), path.clone()));
            }
            *seen = found;
        }
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
