//! State shared by the instances of one use of a plugin on every worker, and kept when an instance is thrown away
//! after a fault or for a new version of the plugin.
//!
//! A use may have 1024 cells, and values of together 1 MiB or what the operator gives it
//! (`[plugins.NAME] shared = "10MiB"`), with 64 bytes and its name counted for each.

use std::time::Duration;

use crate::{clock, host};

/// A shared 64-bit number, 0 at first.
#[derive(Clone, Copy, Debug)]
pub struct Cell(u32);

impl Cell {
    /// Names a cell; the same name is the same cell. Past the quota it is this instance's own.
    pub fn new(name: &str) -> Self {
        Self(host::shared::cell(name))
    }

    /// Reads it.
    pub fn load(self) -> u64 {
        host::shared::load(self.0)
    }

    /// Adds to it, wrapping; answers the value before.
    pub fn fetch_add(self, amount: u64) -> u64 {
        host::shared::fetch_add(self.0, amount)
    }

    /// Sets it to `new` if it is `current`.
    ///
    /// # Errors
    ///
    /// What it is instead.
    pub fn compare_exchange(self, current: u64, new: u64) -> Result<(), u64> {
        let before = host::shared::compare_exchange(self.0, current, new);
        if before == current { Ok(()) } else { Err(before) }
    }
}

/// A shared value, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// What was put there.
    pub bytes: Vec<u8>,
    /// Rises with each write; [`put`] takes it.
    pub version: u64,
}

/// Why a write was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutError {
    /// The quota is used up.
    Full,
    /// The value was written, made or removed since it was read.
    Conflict,
}

/// Reads a value.
pub fn get(key: &str) -> Option<Value> {
    host::shared::get(key).map(|(bytes, version)| Value { bytes, version })
}

/// Writes a value if its version is still `version` (`None`: if absent); answers the new version.
///
/// # Errors
///
/// Nothing was written.
pub fn put(key: &str, bytes: &[u8], version: Option<u64>) -> Result<u64, PutError> {
    host::shared::put(key, bytes, version)
}

/// Writes a value as [`put`] does, for a while: it is forgotten `max_age` after it was last written, and earlier when
/// room is wanted for another and no other remembered value has been written or read less recently.
///
/// # Errors
///
/// Nothing was written.
pub fn remember(key: &str, bytes: &[u8], version: Option<u64>, max_age: Duration) -> Result<u64, PutError> {
    host::shared::remember(key, bytes, version, clock::nanos(max_age))
}

/// Removes a value.
pub fn delete(key: &str) {
    host::shared::delete(key);
}
