//! Opens listening sockets, one for each worker.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::ListenAddress;
use crate::listener::Listener;

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Listening sockets for every worker, not yet served.
#[derive(Debug)]
pub(crate) struct Bound {
    /// With the port that was given, when 0 was asked for.
    pub(crate) address: ListenAddress,
    sockets: Sockets,
}

#[derive(Debug)]
enum Sockets {
    Tcp(Vec<std::net::TcpListener>),
    Unix(UnixListener),
}

/// Opens one address for `workers`. On TCP each worker has a socket of its own, and the kernel spreads connections
/// over them (`SO_REUSEPORT`); a unix socket is shared.
pub(crate) fn bind(address: &ListenAddress, workers: usize) -> io::Result<Bound> {
    match address {
        ListenAddress::Tcp(address) => {
            let first = tcp(*address, false)?;
            let address = first.local_addr()?;
            let mut sockets = vec![first];
            for _ in 1..workers {
                sockets.push(tcp(address, true)?);
            }
            Ok(Bound { address: ListenAddress::Tcp(address), sockets: Sockets::Tcp(sockets) })
        }
        ListenAddress::Unix(path) => {
            let socket = unix(path)?;
            Ok(Bound { address: ListenAddress::Unix(path.clone()), sockets: Sockets::Unix(socket) })
        }
    }
}

impl Bound {
    /// One worker's socket. On the worker's own runtime.
    pub(crate) fn listener(&self, worker: usize) -> io::Result<Listener> {
        match &self.sockets {
            Sockets::Tcp(sockets) => {
                let socket = sockets.get(worker).ok_or(io::ErrorKind::NotFound)?.try_clone()?;
                Ok(Listener::Tcp(tokio::net::TcpListener::from_std(socket)?))
            }
            Sockets::Unix(socket) => Ok(Listener::Unix(tokio::net::UnixListener::from_std(socket.try_clone()?)?)),
        }
    }

    /// The path of a unix socket, which has to be removed at the end.
    pub(crate) fn path(&self) -> Option<&PathBuf> {
        match &self.address {
            ListenAddress::Unix(path) => Some(path),
            ListenAddress::Tcp(_) => None,
        }
    }
}

fn tcp(address: SocketAddr, joins: bool) -> io::Result<std::net::TcpListener> {
    if !joins && address.port() != 0 {
        // With SO_REUSEPORT alone, a second proxy on the same port would go unnoticed and share its connections.
        probe(address)?;
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))
}

/// A socket file that nobody listens on any more is replaced.
fn unix(path: &Path) -> io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
