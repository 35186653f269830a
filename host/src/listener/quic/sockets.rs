//! The UDP sockets of an address, one for each worker, and the secrets that all of them share.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use ring::hkdf;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use socket2::{Domain, Protocol, SockAddr, Type};
use tracing::warn;

use super::steer;

/// Bytes of datagrams that wait to be read or sent, by socket; the kernel cuts it to `net.core.rmem_max` and `wmem_max`.
const BUFFER: usize = 2 * 1024 * 1024;

/// They close together when nobody has any of them in hand. Workers listen on clones, so that a socket outlives the worker
/// that served it.
pub(crate) struct Sockets {
    /// In the order in which they were bound, by which the kernel knows them.
    sockets: Vec<UdpSocket>,
    /// By worker: by it one that took the place of another tells clients that their connections are gone (RFC 9000 section
    /// 10.3). One that gets packets of another's connection by mistake must not be able to.
    reset_keys: Vec<Arc<hmac::Key>>,
    /// By it a client proves that it has the address it says (RFC 9000 section 8.1).
    pub(super) token_key: Arc<hkdf::Prk>,
}

impl Sockets {
    /// Opens one for each worker.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn open(address: SocketAddr, workers: usize) -> io::Result<Self> {
        let sockets = (0..workers).map(|_| udp(address)).collect::<io::Result<Vec<_>>>()?;
        if let [first, _, ..] = &sockets[..]
            && let Ok(workers) = workers.try_into()
            && let Err(error) = steer::by_connection(first, workers)
        {
            warn!(%address, %error, "HTTP/3 clients whose address changes may have to connect anew");
        }
        let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&secret()?);
        let reset_key = |_| Ok(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &secret()?)));
        let reset_keys = (0..workers).map(reset_key).collect::<io::Result<_>>()?;
        Ok(Self { sockets, reset_keys, token_key: Arc::new(token_key) })
    }

    /// What a worker makes connections known by that it does not know.
    ///
    /// # Errors
    /// When there is no such worker.
    pub(super) fn reset_key(&self, number: usize) -> io::Result<Arc<hmac::Key>> {
        self.reset_keys.get(number).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The one of the worker `number`. On a runtime.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn socket(self: &Arc<Self>, number: usize) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let socket = self.sockets.get(number).ok_or(io::ErrorKind::NotFound)?.try_clone()?;
        Ok(Arc::new(Held { socket: TokioRuntime.wrap_udp_socket(socket)?, _all: self.clone() }))
    }
}

impl Drop for Sockets {
    /// The last one first. Sockets that another process has bound behind them move into their places, each time the very
    /// last of all (`reuseport_detach_sock` in Linux): so they come to stand in the order in which they were bound.
    fn drop(&mut self) {
        while self.sockets.pop().is_some() {}
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.sockets).finish()
    }
}

fn secret() -> io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| io::Error::other("there are no random numbers"))?;
    Ok(secret)
}

fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    // As much as there may be.
    let _ = (socket.set_recv_buffer_size(BUFFER), socket.set_send_buffer_size(BUFFER));
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

/// One worker's socket, with the others for as long as it is in use.
#[derive(Debug)]
struct Held {
    socket: Arc<dyn AsyncUdpSocket>,
    _all: Arc<Sockets>,
}

impl AsyncUdpSocket for Held {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(cx, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}
