//! Holds a request back.

use std::time::Duration;

use crate::{clock, host};

/// Has the host wait this long, at most 60 s, before the request under way goes on. For use within
/// [`crate::RequestRewriter::on_request`]; the longest wait that was asked for holds. The deadline of the request goes
/// on meanwhile.
pub fn delay(duration: Duration) {
    host::pace::delay(clock::nanos(duration));
}
