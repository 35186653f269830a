//! Compiled plugins in a folder, so that a start with unchanged plugins compiles nothing.
//!
//! # Is it safe to execute what is in a file?
//!
//! As safe as to execute the proxy itself: who may write there has this process do what they like. So folder and files
//! have to belong to the user of this process or to root, and nobody else may write to them (`folder.rs`).
//!
//! # What if a file is not what it should be?
//!
//! It has a name that stands for everything its code depends on, and begins with a checksum (`artefact.rs`). What does
//! not fit is compiled anew and replaced. Whatever goes wrong here, plugins work as they do without a cache.

mod artefact;
mod eviction;
mod folder;

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::SystemTime;

use parking_lot::Mutex;
use tracing::{debug, warn};
use wasmtime::Engine;
use wasmtime::component::Component;

pub use folder::usual_folder;

pub(super) use artefact::Key;
use folder::{Distrust, NoCache};

/// A folder with compiled plugins, which several processes may use at once; clones are the same one.
#[derive(Clone, Debug)]
pub struct CodeCache(Arc<Cache>);

#[derive(Debug)]
struct Cache {
    folder: PathBuf,
    /// Names of files that this process has read or written. They stay.
    used: Mutex<HashSet<String>>,
    /// Whether it was said that nothing can be written.
    complained: AtomicBool,
}

/// Why a file gives no code.
#[derive(Debug, thiserror::Error)]
enum Useless {
    #[error("there is none")]
    Absent,
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    #[error(transparent)]
    Distrusted(#[from] Distrust),
    #[error(transparent)]
    Damaged(#[from] artefact::Damaged),
    #[error("it is refused: {0}")]
    Refused(String),
}

impl CodeCache {
    /// Uses a folder, and makes it if it is not there. `None`, with a warning, when it cannot be used.
    pub fn at(folder: &Path) -> Option<Self> {
        let hint = "name another folder in `[server] plugin_cache`, or keep nothing with `plugin_cache = false`";
        Self::open(folder)
            .inspect_err(|error| {
                warn!("compiled plugins are not kept, and each start compiles them: {error}; or {hint}")
            })
            .ok()
    }

    fn open(folder: &Path) -> Result<Self, NoCache> {
        folder::prepare(folder)?;
        let (used, complained) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self(Arc::new(Cache { folder: folder.to_owned(), used, complained })))
    }

    /// The code that was kept under a key.
    pub(super) fn load(&self, key: &Key, engine: &Engine) -> Option<Component> {
        let Cache { folder, used, .. } = &*self.0;
        let path = folder.join(key.file());
        match load(&path, key, engine) {
            Ok(component) => {
                used.lock().insert(key.file());
                Some(component)
            }
            Err(Useless::Absent) => None,
            Err(useless) => {
                let cause = std::error::Error::source(&useless).map(ToString::to_string);
                warn!(path = %path.display(), cause, "a compiled plugin cannot be used and is compiled anew: {useless}");
                None
            }
        }
    }

    /// Keeps code under a key, whole or not at all, and removes what was not used for long when there is too much.
    pub(super) fn store(&self, key: &Key, component: &Component) {
        let Cache { folder, used, complained } = &*self.0;
        let written = component.serialize().map_err(io::Error::other).and_then(|code| write(folder, key, &code));
        match written {
            Ok(()) => {
                let mut used = used.lock();
                used.insert(key.file());
                eviction::sweep(folder, &used, SystemTime::now());
            }
            Err(error) if complained.swap(true, Relaxed) => debug!(%error, "a compiled plugin is not kept"),
            Err(error) => {
                warn!(folder = %folder.display(), %error, "compiled plugins are not kept, and the next start compiles them again");
            }
        }
    }
}

fn load(path: &Path, key: &Key, engine: &Engine) -> Result<Component, Useless> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Useless::Absent,
        _ => Useless::Unreadable(error),
    })?;
    // Looked at by its descriptor: by its name it could be another one afterwards.
    folder::trust(&file.metadata().map_err(Useless::Unreadable)?)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(Useless::Unreadable)?;
    let component = deserialize(engine, artefact::open(&bytes, key)?)?;
    touch(&file);
    Ok(component)
}

#[expect(unsafe_code, reason = "there is no other way to take over compiled code")]
fn deserialize(engine: &Engine, code: &[u8]) -> Result<Component, Useless> {
    // SAFETY: the code must come from `Component::serialize` of this version of wasmtime, whole. It is from a file that
    // only this user and root can write to, in a folder of which the same holds; its header says that `store` wrote
    // it there for this very component, engine and version, and its checksum that nothing of it has changed since.
    unsafe { Component::deserialize(engine, code) }.map_err(|error| Useless::Refused(format!("{error:#}")))
}

/// Notes that a file was used. Of root's files others cannot.
fn touch(file: &File) {
    let _ = file.set_modified(SystemTime::now());
}

fn write(folder: &Path, key: &Key, code: &[u8]) -> io::Result<()> {
    // Another process may be writing the same one.
    let next = folder.join(format!("{}.{:016x}.{}", key.file(), fastrand::u64(..), eviction::UNFINISHED));
    let written = create(&next, key, code).and_then(|()| fs::rename(&next, folder.join(key.file())));
    if written.is_err() {
        let _ = fs::remove_file(&next);
    }
    written
}

fn create(path: &Path, key: &Key, code: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&artefact::header(key, code))?;
    file.write_all(code)
}

#[cfg(test)]
mod tests;
