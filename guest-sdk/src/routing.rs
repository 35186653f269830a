//! Another upstream than the route's.

use crate::host;

/// Whether the configuration has an upstream of this name. To be asked while a plugin is configured, so that a wrong
/// name is a mistake that is found there.
pub fn has_upstream(name: &str) -> bool {
    host::routing::has_upstream(name)
}

/// Has the request under way go to this upstream; `false`, and nothing changes, when there is none of this name. For
/// use within [`crate::RequestRewriter::on_request`]. The last one asked for holds.
pub fn send_to(name: &str) -> bool {
    host::routing::send_to(name)
}
