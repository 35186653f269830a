//! Opens connections to endpoints.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use crate::config::UpstreamProtocol;
use crate::net::Stream;
use crate::net::tls::{self, Connector};
use crate::upstream::retry::Failure;

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// The addresses of its name, tried in order.
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

/// How one speaks with the endpoints of an upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'w> {
    /// What TLS is made with, and the name that the endpoint must prove to bear.
    pub(crate) tls: Option<(&'w Connector, &'w str)>,
    pub(crate) protocol: UpstreamProtocol,
}

/// A connection that can carry requests.
pub(crate) struct Connected {
    pub(crate) stream: Stream,
    /// Whether HTTP/2 is spoken on it; otherwise HTTP/1 is.
    pub(crate) is_http2: bool,
}

/// Makes a connection that can carry requests, within `limit` and before `latest` if there is such a moment.
pub(crate) async fn connect(
    target: &Target,
    way: Way<'_>,
    limit: Duration,
    latest: Option<Instant>,
) -> Result<Connected, (Failure, io::Error)> {
    let due = Instant::now() + limit;
    let due = latest.map_or(due, |latest| due.min(latest));
    let stream = by(due, open(target), Failure::Connect).await?;
    let Some((connector, name)) = way.tls else {
        return Ok(Connected { stream, is_http2: way.protocol == UpstreamProtocol::Http2 });
    };
    let secured = by(due, Box::pin(connector.connect(name, stream)), Failure::Tls).await?;
    let is_http2 = secured.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
    if way.protocol == UpstreamProtocol::Http2 && !is_http2 {
        let cause = io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP/2: it did not agree to `h2`");
        return Err((Failure::Tls, cause));
    }
    Ok(Connected { stream: Stream::Tls(Box::new(secured.into())), is_http2 })
}

/// Opens a bare connection within `limit`.
pub(crate) async fn reach(target: &Target, limit: Duration) -> Result<Stream, (Failure, io::Error)> {
    by(Instant::now() + limit, open(target), Failure::Connect).await
}

/// The same before a moment. Fails with `failure` if it does not come to that.
async fn by<T>(
    due: Instant,
    step: impl Future<Output = io::Result<T>>,
    failure: Failure,
) -> Result<T, (Failure, io::Error)> {
    match timeout_at(due, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err((Failure::ConnectTimeout, error)),
        Ok(Err(error)) => Err((failure, error)),
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
