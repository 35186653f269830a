//! Bytes in and out: sockets, their buffers and their deadlines. Knows nothing of HTTP.

mod buffer;
mod deadline;
mod pace;
#[cfg(any(test, fuzzing))]
pub(crate) mod proxy_header;
mod stream;
pub(crate) mod tls;
mod transport;

pub(crate) use buffer::{Buffer, LARGE, SMALL};
pub(crate) use deadline::Deadline;
pub(crate) use pace::Pace;
pub(crate) use stream::{Peer, Stream};
pub(crate) use transport::{Transport, Wake};
