//! Waiting for a condition instead of for a time.

use std::thread;
use std::time::{Duration, Instant};

/// The longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until the condition holds.
///
/// # Panics
/// When it does not within [`PATIENCE`].
#[track_caller]
pub(crate) fn eventually(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "it never came true");
        thread::park_timeout(Duration::from_millis(2));
    }
}
