//! Listening sockets: opened, or taken over from whoever opened them before this process began.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockAddr, SockRef, Type};
use tracing::warn;

use crate::config::{self, Carrier, ListenAddress, ListenOptions};
use crate::listener::{Listener, quic};
use crate::net::option;
use crate::upstream::keep_alive;

/// What is to be listened on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) address: &'a ListenAddress,
    pub(crate) carrier: Carrier,
    pub(crate) options: ListenOptions,
}

/// The listening sockets of one address. Workers listen on clones of them, so that a socket outlives the worker that
/// served it.
#[derive(Debug)]
pub(crate) struct Bound {
    /// As it was asked for.
    pub(crate) asked: ListenAddress,
    /// With the port that was given, when 0 was asked for.
    pub(crate) address: ListenAddress,
    pub(crate) carrier: Carrier,
    options: Mutex<ListenOptions>,
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
    Udp(UdpSocket),
}

impl<'a> From<&'a config::Listener> for Wanted<'a> {
    fn from(listener: &'a config::Listener) -> Self {
        Self { address: &listener.address, carrier: listener.carrier(), options: listener.options }
    }
}

/// For connections, with all defaults.
impl<'a> From<&'a ListenAddress> for Wanted<'a> {
    fn from(address: &'a ListenAddress) -> Self {
        Self { address, carrier: Carrier::Streams, options: ListenOptions::default() }
    }
}

/// Opens one address for `workers`. On TCP and UDP each worker has a socket of its own, and the kernel spreads clients
/// over them (`SO_REUSEPORT`), unless the options say otherwise; a unix socket is shared.
/// `beside`: one's own sockets, which listen on a part of the same addresses and are about to go, are no hindrance.
///
/// # Errors
/// When the system refuses.
pub(crate) fn bind(wanted: Wanted<'_>, workers: usize, beside: bool) -> io::Result<Bound> {
    let (address, mut sockets) = open(wanted, beside)?;
    if let (ListenAddress::Tcp(address), true) = (&address, wanted.options.reuse_port) {
        for _ in 1..workers {
            sockets.push(wanted.socket(*address)?);
        }
    }
    Ok(Bound::new(wanted, address, sockets))
}

/// The same with sockets that are open already. There are more of them then if whoever opened them allows others
/// beside them; otherwise workers share them.
pub(super) fn adopt(wanted: Wanted<'_>, address: ListenAddress, mut sockets: Vec<Socket>, workers: usize) -> Bound {
    for socket in &sockets {
        socket.tune(&wanted.options);
    }
    if let (ListenAddress::Tcp(address), true) = (&address, wanted.options.reuse_port) {
        while sockets.len() < workers
            && let Ok(socket) = wanted.socket(*address)
        {
            sockets.push(socket);
        }
    }
    Bound::new(wanted, address, sockets)
}

impl Bound {
    fn new(wanted: Wanted<'_>, address: ListenAddress, sockets: Vec<Socket>) -> Self {
        let Wanted { address: asked, carrier, options } = wanted;
        let (asked, sockets) = (asked.clone(), Mutex::new(sockets));
        Self {
            asked,
            address,
            carrier,
            options: Mutex::new(options),
            sockets,
            quic: Mutex::default(),
            handed_over: AtomicBool::new(false),
        }
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

    /// What tells it from every other one of a process: its address, and that it is for datagrams if it is.
    pub(crate) fn label(&self) -> String {
        label(self.carrier, &self.address)
    }

    /// Whether it is what was asked for.
    pub(crate) fn is(&self, wanted: Wanted<'_>) -> bool {
        self.carrier == wanted.carrier && self.asked == *wanted.address
    }

    /// Other options from now on, as far as an open socket takes them.
    pub(crate) fn tune(&self, options: ListenOptions) {
        let before = std::mem::replace(&mut *self.options.lock(), options);
        if before == options {
            return;
        }
        if (before.reuse_port, before.ipv6_only) != (options.reuse_port, options.ipv6_only) {
            let address = &self.address;
            warn!(%address, "`reuse_port` and `ipv6_only` change when the proxy is started anew");
        }
        for socket in &*self.sockets.lock() {
            socket.tune(&options);
        }
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
            // A client's datagrams must not come to one worker now and to another then.
            few if self.carrier == Carrier::Datagrams && number >= few => return Ok(Vec::new()),
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

pub(super) fn label(carrier: Carrier, address: &ListenAddress) -> String {
    match carrier {
        Carrier::Streams => address.to_string(),
        Carrier::Datagrams => format!("udp:{address}"),
    }
}

impl Socket {
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(socket) => socket.try_clone().map(Self::Tcp),
            Self::Unix(socket) => socket.try_clone().map(Self::Unix),
            Self::Udp(socket) => socket.try_clone().map(Self::Udp),
        }
    }

    /// Where it listens; `None` for a unix socket without a path.
    pub(super) fn address(&self) -> io::Result<Option<ListenAddress>> {
        Ok(match self {
            Self::Tcp(socket) => Some(ListenAddress::Tcp(socket.local_addr()?)),
            Self::Unix(socket) => socket.local_addr()?.as_pathname().map(|path| ListenAddress::Unix(path.to_owned())),
            Self::Udp(socket) => Some(ListenAddress::Tcp(socket.local_addr()?)),
        })
    }

    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_nonblocking(true),
            Self::Unix(socket) => socket.set_nonblocking(true),
            Self::Udp(socket) => socket.set_nonblocking(true),
        }
    }

    pub(super) fn into_descriptor(self) -> OwnedFd {
        match self {
            Self::Tcp(socket) => socket.into(),
            Self::Unix(socket) => socket.into(),
            Self::Udp(socket) => socket.into(),
        }
    }

    pub(super) fn carrier(&self) -> Carrier {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Carrier::Streams,
            Self::Udp(_) => Carrier::Datagrams,
        }
    }

    /// Sets those options that an open socket takes. What it accepts has them of it.
    fn tune(&self, options: &ListenOptions) {
        let tuned = match self {
            Self::Tcp(socket) => tune(socket, options),
            Self::Unix(socket) => SockRef::from(socket).listen(backlog(options)),
            Self::Udp(_) => Ok(()),
        };
        if let Err(error) = tuned {
            warn!(%error, "an option of a listening socket was not taken");
        }
    }

    /// A clone to accept on. On a runtime.
    fn listener(&self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(socket) => Listener::Tcp(tokio::net::TcpListener::from_std(socket.try_clone()?)?),
            Self::Unix(socket) => Listener::Unix(tokio::net::UnixListener::from_std(socket.try_clone()?)?),
            Self::Udp(socket) => Listener::Udp(tokio::net::UdpSocket::from_std(socket.try_clone()?)?),
        })
    }
}

/// The first socket of an address.
fn open(wanted: Wanted<'_>, beside: bool) -> io::Result<(ListenAddress, Vec<Socket>)> {
    match wanted.address {
        ListenAddress::Tcp(address) => {
            if address.port() != 0 && !beside && wanted.options.reuse_port {
                // With SO_REUSEPORT alone, a second proxy on the same port would go unnoticed and share its
                // connections.
                wanted.unbound(*address, false)?.bind(&SockAddr::from(*address))?;
            }
            let socket = wanted.socket(*address)?;
            let address = socket.address()?.unwrap_or_else(|| wanted.address.clone());
            Ok((address, vec![socket]))
        }
        ListenAddress::Unix(path) => {
            Ok((wanted.address.clone(), vec![Socket::Unix(unix(path, backlog(&wanted.options))?)]))
        }
    }
}

impl Wanted<'_> {
    fn socket(&self, address: SocketAddr) -> io::Result<Socket> {
        let socket = self.unbound(address, self.options.reuse_port)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::from(address))?;
        if self.carrier == Carrier::Datagrams {
            return Ok(Socket::Udp(socket.into()));
        }
        tune(&socket, &self.options)?;
        Ok(Socket::Tcp(socket.into()))
    }

    fn unbound(&self, address: SocketAddr, reuse_port: bool) -> io::Result<socket2::Socket> {
        let (kind, protocol) = match self.carrier {
            Carrier::Streams => (Type::STREAM, Protocol::TCP),
            Carrier::Datagrams => (Type::DGRAM, Protocol::UDP),
        };
        let socket = socket2::Socket::new(Domain::for_address(address), kind, Some(protocol))?;
        // On UDP it would let two programs have the same port.
        socket.set_reuse_address(self.carrier == Carrier::Streams)?;
        socket.set_reuse_port(reuse_port)?;
        if address.is_ipv6() {
            socket.set_only_v6(self.options.ipv6_only)?;
        }
        Ok(socket)
    }
}

/// Has a TCP socket listen, with these options.
fn tune(socket: &impl AsFd, options: &ListenOptions) -> io::Result<()> {
    let known = SockRef::from(socket);
    match &options.tcp_keepalive {
        Some(keepalive) => keep_alive(SockRef::from(socket), keepalive)?,
        None => known.set_keepalive(false)?,
    }
    if let Some(queue) = options.tcp_fastopen {
        option::accept_fast_open(socket, queue)?;
    }
    // Once more on one that listens already, it sets the length of its queue.
    known.listen(backlog(options))
}

fn backlog(options: &ListenOptions) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

/// A socket file that nobody listens on any more is replaced.
fn unix(path: &Path, backlog: i32) -> io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    SockRef::from(&listener).listen(backlog)?;
    Ok(listener)
}
