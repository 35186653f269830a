//! The choice being made, read lazily. For use within [`crate::Balancer::pick`]; at any other time the answers are
//! empty.

use crate::{EndpointId, host};

/// The bytes of the balancing key, as [`crate::BalancerNeeds::want_key`] asked for it; `None` when no source is
/// present in the request.
pub fn key() -> Option<Vec<u8>> {
    host::selection::key()
}

/// The endpoints that this request has been sent to, in order; empty for a first attempt, which need not ask. The
/// host asks again when one of them is picked while another is ready.
pub fn tried() -> Vec<EndpointId> {
    host::selection::tried()
}

/// Adds a header to the response, if it comes from the endpoint that this pick names: a cookie that brings the client
/// back to it. At most 8 of together 8 KiB, more are ignored; names and values as in [`crate::FieldEdit`].
pub fn append_response_field(name: &str, value: impl AsRef<[u8]>) {
    host::selection::append_response_field(name, value.as_ref());
}
