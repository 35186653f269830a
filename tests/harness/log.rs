//! An access log that a test reads.

use serde_json::Value;
use tempfile::TempDir;

use super::eventually;

/// A log in a folder of its own.
pub(crate) struct Log {
    folder: TempDir,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    /// What a configuration says to have it written.
    pub(crate) fn settings(&self) -> String {
        format!("[access_log]\npath = \"{}/access.log\"\n", self.folder.path().display())
    }

    /// Its lines, once there are so many.
    #[track_caller]
    pub(crate) fn lines(&self, count: usize) -> Vec<Value> {
        let file = self.folder.path().join("access.log");
        let read = || std::fs::read_to_string(&file).unwrap_or_default();
        eventually(|| read().lines().count() >= count);
        read().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// The only line, once it is there.
    #[track_caller]
    pub(crate) fn line(&self) -> Value {
        let mut lines = self.lines(1);
        assert_eq!(lines.len(), 1, "one line");
        lines.remove(0)
    }
}
