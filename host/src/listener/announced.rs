//! Who a connection is from, as a trusted proxy in front says before anything else.

use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::time::Instant;

use crate::net::proxy_header::{self, Announced, BadHeader};
use crate::net::{Peer, Stream, Transport};

/// Why it is not known who a connection is from. Nothing can be told to whoever it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unannounced {
    #[error(transparent)]
    Bad(#[from] BadHeader),
    #[error("no PROXY header came in time")]
    Late,
    /// It closed, as those do who only look whether somebody listens.
    #[error("the connection ended before its PROXY header did")]
    Ended(#[source] io::Error),
}

/// Reads the header that must be there, within `limit`, and takes its word for who `peer` is.
pub(super) async fn read(stream: Stream, peer: &mut Peer, limit: Duration) -> Result<Stream, Unannounced> {
    let mut transport = Transport::new(stream, limit, limit);
    transport.latest = Some(Instant::now() + limit);
    let announced = loop {
        if let Some((length, announced)) = proxy_header::parse(transport.input.bytes())? {
            transport.input.consume(length);
            break announced;
        }
        match transport.fill().await {
            Ok(0) => return Err(Unannounced::Ended(ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::TimedOut => return Err(Unannounced::Late),
            Err(error) => return Err(Unannounced::Ended(error)),
        }
    };
    if let Announced::Connection { source, destination } = announced {
        (peer.address, peer.destination) = (Some(source), Some(destination));
    }
    Ok(transport.into_stream())
}
