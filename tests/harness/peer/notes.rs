//! What the ends of a test tell each other beside the proxy.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::within;

/// A list that every end reads and adds to.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Inner>);

#[derive(Default)]
struct Inner {
    notes: Mutex<Vec<(String, String)>>,
    changed: Notify,
}

impl Notes {
    /// Notes something of a request, which its path stands for.
    pub(crate) fn add(&self, path: &str, note: &str) {
        let mut notes = self.0.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push((path.to_owned(), note.to_owned()));
        drop(notes);
        self.0.changed.notify_waiters();
    }

    /// How often this was noted of paths that begin so.
    pub(crate) fn count(&self, path: &str, note: &str) -> usize {
        let notes = self.0.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().filter(|(of, said)| of.starts_with(path) && said == note).count()
    }

    /// What was noted first of this path.
    pub(crate) fn first(&self, path: &str) -> String {
        let notes = self.0.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().find(|(of, _)| of == path).map(|(_, said)| said.clone()).unwrap_or_default()
    }

    /// Waits until this was noted so often of paths that begin so.
    pub(crate) async fn wait(&self, path: &str, note: &str, times: usize) {
        within(async {
            loop {
                let changed = self.0.changed.notified();
                if self.count(path, note) >= times {
                    return;
                }
                changed.await;
            }
        })
        .await;
    }
}
