//! Bytes in and out: sockets, their buffers and their deadlines. Knows nothing of HTTP.

pub(crate) mod announce;
mod buffer;
mod deadline;
pub(crate) mod message;
pub(crate) mod option;
mod pace;
pub mod peer;
mod pipe;
pub(crate) mod proxy_header;
mod socket;
mod stream;
pub(crate) mod tls;
mod transport;
mod tunnel;

pub(crate) use buffer::{Buffer, LARGE, SMALL};
pub(crate) use deadline::Deadline;
pub(crate) use pace::Pace;
pub(crate) use peer::Peer;
pub(crate) use pipe::{Pipe, ROOM};
pub(crate) use stream::Stream;
pub(crate) use transport::{Transport, Wake};
pub(crate) use tunnel::{TunnelEnd, tunnel};
