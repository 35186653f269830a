//! HTTP/1 (RFC 9112) as a sans-I/O codec, used towards clients and towards endpoints.
//!
//! [`parse`] reads heads, [`framing`] says how long the body after a head is, [`body`] takes the body out of its
//! framing, [`encode`] writes heads and bodies for the other side, and [`connection`] reads what a head says about
//! the connection it came on. Bytes go in and bytes come out: there is no socket and no clock in here.
//!
//! # Why so strict?
//!
//! A message that two readers understand differently lets a client hide a second request in the first. What RFC 9112
//! lets a recipient repair (bare LF, folded lines, several lengths that agree) is refused here, and nothing that
//! frames a message is ever copied from one side to the other: framing fields are read, dropped and written anew.

pub mod body;
pub mod connection;
pub mod encode;
mod extension;
pub mod framing;
pub mod parse;
mod section;
mod target;
#[cfg(test)]
mod tests;

pub(crate) use body::may_trail;
pub use body::{BadBody, BodyDecoder, Decoded};
pub use connection::{expects_continue, request_keeps_alive, requested_upgrade, response_keeps_alive};
pub(in crate::http) use encode::put_decimal;
pub use encode::{
    BodyEncoder, CONTINUE, ConnectionOption, Encoding, RequestOptions, ResponseOptions, WrongLength, encode_request,
    encode_response, reason_phrase,
};
pub use framing::{BodyKind, request_body, response_body};
pub use parse::{BadRequest, BadResponse, parse_request, parse_response};
pub(crate) use parse::{MAX_METHOD, check_expectation};
pub(crate) use section::{is_blank, is_text_byte, is_token_byte};
pub(crate) use target::is_authority;

/// What ends a line.
const CRLF: &[u8] = b"\r\n";

/// How much of a head is read before it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole head, with the empty lines before it and after it.
    pub max_head: usize,
    /// Field lines.
    pub max_fields: usize,
    /// Bytes of a request target.
    pub max_target: usize,
}
