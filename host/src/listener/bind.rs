//! Listening sockets: opened, or taken over from whoever opened them before this process began.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockAddr, Type};

use crate::config::ListenAddress;
use crate::listener::{Listener, quic};

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The listening sockets of one address. Workers listen on clones of them, so that a socket outlives the worker that
/// served it.
#[derive(Debug)]
pub(crate) struct Bound {
    /// As it was asked for.
    pub(crate) asked: ListenAddress,
    /// With the port that was given, when 0 was asked for.
    pub(crate) address: ListenAddress,
    sockets: Mutex<Vec<Socket>>,
    /// The UDP sockets beside them, where HTTP/3 is served.
    quic: Mutex<Option<Arc<quic::Sockets>>>,
    /// Whether another process serves these sockets.
    handed_over: AtomicBool,
}

/// One listening socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Opens one address for `workers`. On TCP each worker has a socket of its own, and the kernel spreads connections
/// over them (`SO_REUSEPORT`); a unix socket is shared.
/// `beside`: one's own sockets, which listen on a part of the same addresses and are about to go, are no hindrance.
///
/// # Errors
/// When the system refuses.
pub(crate) fn bind(asked: &ListenAddress, workers: usize, beside: bool) -> io::Result<Bound> {
    let (address, mut sockets) = open(asked, beside)?;
    if let ListenAddress::Tcp(address) = address {
        for _ in 1..workers {
            sockets.push(Socket::Tcp(tcp(address)?));
        }
    }
    Ok(Bound::new(asked, address, sockets))
}

/// The same with sockets that are open already. There are more of them then if whoever opened them allows others
/// beside them; otherwise workers share them.
pub(super) fn adopt(asked: &ListenAddress, address: ListenAddress, mut sockets: Vec<Socket>, workers: usize) -> Bound {
    if let ListenAddress::Tcp(address) = address {
        while sockets.len() < workers
            && let Ok(socket) = tcp(address)
        {
            sockets.push(Socket::Tcp(socket));
        }
    }
    Bound::new(asked, address, sockets)
}

impl Bound {
    fn new(asked: &ListenAddress, address: ListenAddress, sockets: Vec<Socket>) -> Self {
        let (asked, sockets) = (asked.clone(), Mutex::new(sockets));
        Self { asked, address, sockets, quic: Mutex::default(), handed_over: AtomicBool::new(false) }
    }

    /// Opens sockets for HTTP/3 on the same port, unless there are some.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn open_quic(&self, workers: usize) -> io::Result<()> {
        let ListenAddress::Tcp(address) = self.address else { return Err(io::ErrorKind::Unsupported.into()) };
        let mut quic = self.quic.lock();
        if quic.is_none() {
            *quic = Some(Arc::new(quic::Sockets::open(address, workers)?));
        }
        Ok(())
    }

    /// The sockets for HTTP/3.
    pub(crate) fn quic(&self) -> Option<Arc<quic::Sockets>> {
        self.quic.lock().clone()
    }

    /// Lets go of the sockets for HTTP/3, as of the others.
    pub(crate) fn close_quic(&self) {
        self.quic.lock().take();
    }

    /// What the worker `number` of `workers` listens on, at least one socket. No socket is left to nobody: where there
    /// are more of them than workers, a worker has several.
    ///
    /// # Errors
    /// When the system refuses, or the sockets are closed.
    pub(crate) fn listeners(&self, number: usize, workers: usize) -> io::Result<Vec<Listener>> {
        let sockets = self.sockets.lock();
        let own = match sockets.len() {
            0 => return Err(io::Error::new(io::ErrorKind::NotConnected, "it is closed already")),
            few if few < workers => number % few..number % few + 1,
            _ => number..sockets.len(),
        };
        sockets[own].iter().step_by(workers.max(1)).map(Socket::listener).collect()
    }

    /// Lets go of the sockets. Who listens on them has the only ones then, and closes them by ending.
    pub(crate) fn close(&self) {
        self.sockets.lock().clear();
        self.close_quic();
    }

    /// Leaves the sockets to another process, with the connections that wait to be accepted.
    pub(crate) fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Release);
    }

    pub(crate) fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Acquire)
    }

    /// Clones of the sockets.
    ///
    /// # Errors
    /// When the system has no more descriptors.
    pub(super) fn sockets(&self) -> io::Result<Vec<Socket>> {
        self.sockets.lock().iter().map(Socket::try_clone).collect()
    }

    /// Removes the file of a unix socket, at the end, unless another process has it.
    pub(crate) fn unlink(&self) {
        if let (ListenAddress::Unix(path), false) = (&self.address, self.is_handed_over()) {
            // Somebody else may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Socket {
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(socket) => socket.try_clone().map(Self::Tcp),
            Self::Unix(socket) => socket.try_clone().map(Self::Unix),
        }
    }

    /// Where it listens; `None` for a unix socket without a path.
    pub(super) fn address(&self) -> io::Result<Option<ListenAddress>> {
        Ok(match self {
            Self::Tcp(socket) => Some(ListenAddress::Tcp(socket.local_addr()?)),
            Self::Unix(socket) => socket.local_addr()?.as_pathname().map(|path| ListenAddress::Unix(path.to_owned())),
        })
    }

    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_nonblocking(true),
            Self::Unix(socket) => socket.set_nonblocking(true),
        }
    }

    pub(super) fn into_descriptor(self) -> OwnedFd {
        match self {
            Self::Tcp(socket) => socket.into(),
            Self::Unix(socket) => socket.into(),
        }
    }

    /// A clone to accept on. On a runtime.
    fn listener(&self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(socket) => Listener::Tcp(tokio::net::TcpListener::from_std(socket.try_clone()?)?),
            Self::Unix(socket) => Listener::Unix(tokio::net::UnixListener::from_std(socket.try_clone()?)?),
        })
    }
}

/// The first socket of an address.
fn open(asked: &ListenAddress, beside: bool) -> io::Result<(ListenAddress, Vec<Socket>)> {
    match asked {
        ListenAddress::Tcp(address) => {
            if address.port() != 0 && !beside {
                // With SO_REUSEPORT alone, a second proxy on the same port would go unnoticed and share its
                // connections.
                probe(*address)?;
            }
            let socket = tcp(*address)?;
            Ok((ListenAddress::Tcp(socket.local_addr()?), vec![Socket::Tcp(socket)]))
        }
        ListenAddress::Unix(path) => Ok((asked.clone(), vec![Socket::Unix(unix(path)?)])),
    }
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
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
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
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
