//! The response being handled, read lazily. For use within [`crate::ResponseRewriter::on_response`], and within
//! [`crate::Retry::decide`] when the attempt brought a response; at any other time the answers are empty.

use crate::host;

/// The status.
pub fn status() -> u16 {
    host::response::status()
}

/// The address of the endpoint that answered; empty for a response that the proxy or a rewriter made.
pub fn endpoint() -> String {
    host::response::endpoint()
}

/// The first value of a header.
pub fn field(name: &str) -> Option<Vec<u8>> {
    host::response::field(name)
}

/// Every value of a header.
pub fn field_values(name: &str) -> Vec<Vec<u8>> {
    host::response::field_values(name)
}

/// Every header in order. The dearest call here.
pub fn fields() -> Vec<(String, Vec<u8>)> {
    host::response::fields()
}
