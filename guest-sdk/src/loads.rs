//! What the host measures of the endpoints, over all workers. To call one of these functions anywhere is to ask
//! for the measurement.

use std::time::Duration;

use crate::{EndpointId, host};

/// Requests in flight to one endpoint; 0 for an unknown one.
pub fn active(endpoint: EndpointId) -> u32 {
    host::loads::active(endpoint)
}

/// Requests in flight to every endpoint, by slot. Cheaper than [`active`] from three endpoints on.
pub fn active_all() -> Vec<u32> {
    host::loads::active_all()
}

/// The decaying mean of the time to a response head; `None` before one is known.
pub fn latency(endpoint: EndpointId) -> Option<Duration> {
    known(host::loads::latency(endpoint))
}

/// The same for every endpoint, by slot.
pub fn latency_all() -> Vec<Option<Duration>> {
    host::loads::latency_all().into_iter().map(known).collect()
}

fn known(nanos: u64) -> Option<Duration> {
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}
