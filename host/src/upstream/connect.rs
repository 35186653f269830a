//! Opens connections to endpoints.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use crate::net::Stream;
use crate::upstream::retry::Failure;

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// The addresses of its name, tried in order.
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

/// Opens a connection within `limit`, and before `latest` if there is such a moment.
pub(crate) async fn connect(
    target: &Target,
    limit: Duration,
    latest: Option<Instant>,
) -> Result<Stream, (Failure, io::Error)> {
    let due = Instant::now() + limit;
    let due = latest.map_or(due, |latest| due.min(latest));
    match timeout_at(due, open(target)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err((Failure::ConnectTimeout, error)),
        Ok(Err(error)) => Err((Failure::Connect, error)),
        Err(elapsed) => Err((Failure::ConnectTimeout, elapsed.into())),
    }
}

async fn open(target: &Target) -> io::Result<Stream> {
    match target {
        Target::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        Target::Tcp(addresses) => {
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for address in addresses {
                match TcpStream::connect(address).await {
                    // On one machine a port that nobody listens on may be given to the very socket that connects to
                    // it, which then talks to itself.
                    Ok(stream) if stream.local_addr()? == *address => last = io::ErrorKind::ConnectionRefused.into(),
                    Ok(stream) => {
                        stream.set_nodelay(true)?;
                        return Ok(Stream::Tcp(stream));
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}
