//! Opens listening sockets, one for each worker.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::ListenAddress;
use crate::listener::Listener;

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Listening sockets for every worker. They stay open while this holds them, so that a worker can begin anew.
#[derive(Debug)]
pub(crate) struct Bound {
    /// As it was asked for.
    pub(crate) asked: ListenAddress,
    /// With the port that was given, when 0 was asked for.
    pub(crate) address: ListenAddress,
    sockets: Sockets,
}

#[derive(Debug)]
enum Sockets {
    /// By worker; `None` once it has been let go.
    Tcp(Vec<Mutex<Option<std::net::TcpListener>>>),
    Unix(Mutex<Option<UnixListener>>),
}

/// Opens one address for `workers`. On TCP each worker has a socket of its own, and the kernel spreads connections
/// over them (`SO_REUSEPORT`); a unix socket is shared.
/// `beside`: one's own sockets, which listen on a part of the same addresses and are about to go, are no hindrance.
pub(crate) fn bind(address: &ListenAddress, workers: usize, beside: bool) -> io::Result<Bound> {
    match address {
        ListenAddress::Tcp(wanted) => {
            let first = tcp(*wanted, beside)?;
            let given = first.local_addr()?;
            let mut sockets = vec![Mutex::new(Some(first))];
            for _ in 1..workers {
                sockets.push(Mutex::new(Some(tcp(given, true)?)));
            }
            let (asked, address) = (address.clone(), ListenAddress::Tcp(given));
            Ok(Bound { asked, address, sockets: Sockets::Tcp(sockets) })
        }
        ListenAddress::Unix(path) => {
            let sockets = Sockets::Unix(Mutex::new(Some(unix(path)?)));
            Ok(Bound { asked: address.clone(), address: address.clone(), sockets })
        }
    }
}

impl Bound {
    /// One worker's socket. On the worker's own runtime.
    pub(crate) fn listener(&self, worker: usize) -> io::Result<Listener> {
        match &self.sockets {
            Sockets::Tcp(sockets) => {
                let socket = sockets.get(worker).ok_or(io::ErrorKind::NotFound)?.lock();
                let socket = socket.as_ref().ok_or(io::ErrorKind::NotConnected)?.try_clone()?;
                Ok(Listener::Tcp(tokio::net::TcpListener::from_std(socket)?))
            }
            Sockets::Unix(socket) => {
                let socket = socket.lock();
                let socket = socket.as_ref().ok_or(io::ErrorKind::NotConnected)?.try_clone()?;
                Ok(Listener::Unix(tokio::net::UnixListener::from_std(socket)?))
            }
        }
    }

    /// Lets a worker's socket go: it closes when the worker closes its own. On a socket of all workers the first one
    /// lets it go for all.
    pub(crate) fn release(&self, worker: usize) {
        match &self.sockets {
            Sockets::Tcp(sockets) => drop(sockets.get(worker).and_then(|socket| socket.lock().take())),
            Sockets::Unix(socket) => drop(socket.lock().take()),
        }
    }

    /// Removes the file of a unix socket, at the end.
    pub(crate) fn unlink(&self) {
        if let ListenAddress::Unix(path) = &self.address {
            // Somebody else may have removed it already.
            let _ = std::fs::remove_file(path);
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
