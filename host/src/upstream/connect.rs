//! Opens connections to endpoints.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream, UdpSocket, UnixStream};
use tokio::time::{Instant, timeout_at};

use crate::config::{ConnectOptions, KeepAlive, UpstreamProtocol};
use crate::net::tls::{self, Connector};
use crate::net::{Stream, option};
use crate::upstream::retry::Failure;

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// The addresses of its name, tried in order.
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

/// How a connection is made.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Manner {
    pub(crate) options: ConnectOptions,
    /// What it begins with, before all else: a PROXY header.
    pub(crate) header: Option<Vec<u8>>,
}

/// How one speaks with the endpoints of an upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'w> {
    /// What TLS is made with, and the name that the endpoint must prove to bear.
    pub(crate) tls: Option<(&'w Connector, &'w str)>,
    /// `None`: it is not HTTP, and nothing is to be agreed on.
    pub(crate) protocol: Option<UpstreamProtocol>,
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
    manner: &Manner,
    limit: Duration,
    latest: Option<Instant>,
) -> Result<Connected, (Failure, io::Error)> {
    let due = Instant::now() + limit;
    let due = latest.map_or(due, |latest| due.min(latest));
    let stream = by(due, open(target, manner), Failure::Connect).await?;
    let Some((connector, name)) = way.tls else {
        return Ok(Connected { stream, is_http2: way.protocol == Some(UpstreamProtocol::Http2) });
    };
    let secured = by(due, Box::pin(connector.connect(name, stream, way.protocol.is_some())), Failure::Tls).await?;
    let is_http2 = secured.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
    if way.protocol == Some(UpstreamProtocol::Http2) && !is_http2 {
        let cause = io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP/2: it did not agree to `h2`");
        return Err((Failure::Tls, cause));
    }
    Ok(Connected { stream: Stream::Tls(Box::new(secured.into())), is_http2 })
}

/// Opens a bare connection within `limit`.
pub(crate) async fn reach(target: &Target, manner: &Manner, limit: Duration) -> Result<Stream, (Failure, io::Error)> {
    by(Instant::now() + limit, open(target, manner), Failure::Connect).await
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

/// Has a socket for datagrams send them to an endpoint, and take them from there only.
pub(crate) fn connect_datagrams(target: &Target, options: &ConnectOptions) -> io::Result<UdpSocket> {
    let Target::Tcp(addresses) = target else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "datagrams do not go to unix sockets"));
    };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        let from = match (options.bind, address) {
            (Some(from), _) => SocketAddr::new(from, 0),
            (None, SocketAddr::V4(_)) => SocketAddr::from(([0; 4], 0)),
            (None, SocketAddr::V6(_)) => SocketAddr::from(([0; 16], 0)),
        };
        // Nothing of this waits for anybody.
        let connected = std::net::UdpSocket::bind(from).and_then(|socket| {
            socket.connect(address)?;
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        });
        match connected {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn open(target: &Target, manner: &Manner) -> io::Result<Stream> {
    let mut stream = match target {
        Target::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
        Target::Tcp(addresses) => Stream::Tcp(open_tcp(addresses, manner).await?),
    };
    if let Some(header) = &manner.header {
        stream.write_all(header).await?;
    }
    Ok(stream)
}

async fn open_tcp(addresses: &[SocketAddr], manner: &Manner) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        let connected = match socket(*address, &manner.options) {
            Ok(socket) => socket.connect(*address).await,
            Err(error) => Err(error),
        };
        match connected {
            // On one machine a port that nobody listens on may be given to the very socket that connects to
            // it, which then talks to itself.
            Ok(stream) if stream.local_addr()? == *address => last = io::ErrorKind::ConnectionRefused.into(),
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn socket(address: SocketAddr, options: &ConnectOptions) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(keepalive) = &options.tcp_keepalive {
        keep_alive(SockRef::from(&socket), keepalive)?;
    }
    if options.tcp_fastopen {
        option::connect_fast_open(&socket)?;
    }
    if let Some(from) = options.bind {
        option::choose_port_late(&socket)?;
        socket.bind(SocketAddr::new(from, 0))?;
    }
    Ok(socket)
}

/// Has a silent peer be asked whether it is still there.
pub(crate) fn keep_alive(socket: SockRef<'_>, keepalive: &KeepAlive) -> io::Result<()> {
    let KeepAlive { idle, interval, count } = *keepalive;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count))
}
