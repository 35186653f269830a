//! A byte stream to a peer, whatever carries it.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::net::Pipe;
use crate::net::message::{Accepted, Message, Opened};
use crate::net::socket::Socket;
use crate::net::tls::Secured;

/// A connection, or what looks like one.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<Secured>),
    /// One from which more was read than it was read for.
    Rewound(Box<Rewound>),
    /// A request on a connection that carries many.
    Accepted(Box<dyn Accepted>),
    /// A request of ours on a connection that carries many.
    Opened(Box<dyn Opened>),
}

/// A connection with bytes that come before its own.
pub(crate) struct Rewound {
    bytes: Vec<u8>,
    read: usize,
    stream: Stream,
}

impl Stream {
    /// This connection, as it was before `bytes` were read from it.
    pub(crate) fn rewound(self, bytes: Vec<u8>) -> Self {
        if bytes.is_empty() { self } else { Self::Rewound(Box::new(Rewound { bytes, read: 0, stream: self })) }
    }

    /// Reads once into `space`; 0 is the end of the stream.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => stream.poll_receive(cx, space),
            Self::Unix(stream) => stream.poll_receive(cx, space),
            Self::Tls(stream) => {
                let mut buffer = ReadBuf::new(space);
                Pin::new(stream).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
            }
            Self::Rewound(rewound) => rewound.poll_read(cx, space),
            Self::Accepted(message) => message.poll_read(cx, space),
            Self::Opened(message) => message.poll_read(cx, space),
        }
    }

    /// Ready when a read might not wait; then only a read tells. Makes no system call.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Rewound(rewound) if rewound.is_used_up() => rewound.stream.poll_readable(cx),
            Self::Tls(stream) => {
                let (carrier, session) = stream.get_ref();
                // What it has received already it gives without the carrier.
                if session.wants_read() { carrier.poll_readable(cx) } else { Poll::Ready(Ok(())) }
            }
            Self::Rewound(_) | Self::Accepted(_) | Self::Opened(_) => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => stream.poll_send(cx, parts),
            Self::Unix(stream) => stream.poll_send(cx, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Rewound(rewound) => rewound.stream.poll_write(cx, parts),
            Self::Accepted(message) => message.poll_write(cx, parts),
            Self::Opened(message) => message.poll_write(cx, parts),
        }
    }

    /// Whether the system can move its bytes without anybody seeing them.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// Moves received bytes into a pipe; 0 is the end of the stream. Only for a bare one.
    pub(crate) fn poll_fill(&self, cx: &mut Context<'_>, pipe: &mut Pipe, most: usize) -> Poll<io::Result<usize>> {
        let Self::Tcp(stream) = self else { return Poll::Ready(Err(ErrorKind::Unsupported.into())) };
        stream.poll_call(cx, Interest::READABLE, || pipe.fill(stream.as_fd(), most))
    }

    /// Sends what a pipe holds. Only for a bare one.
    pub(crate) fn poll_drain(&self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        let Self::Tcp(stream) = self else { return Poll::Ready(Err(ErrorKind::Unsupported.into())) };
        stream.poll_call(cx, Interest::WRITABLE, || pipe.drain(stream.as_fd()))
    }

    /// Whether something that was written, or that stands beside what is, waits within the stream for
    /// [`Self::poll_flush`]. Of TLS nobody knows.
    pub(crate) fn holds_back(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Tls(_) => true,
            Self::Rewound(rewound) => rewound.stream.holds_back(),
            Self::Accepted(message) => message.is_waiting(),
            Self::Opened(message) => message.is_waiting(),
        }
    }

    /// Hands on what waits within the stream. Answers whether that was a head or an end.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(false)),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx).map_ok(|()| false),
            Self::Rewound(rewound) => rewound.stream.poll_flush(cx),
            Self::Accepted(message) => message.poll_flush(cx),
            Self::Opened(message) => message.poll_flush(cx),
        }
    }

    /// Has the coming close look like none: a reset.
    pub(crate) fn abort(&mut self) {
        match self {
            Self::Tcp(stream) => {
                // Without this option the close is an ordinary one, which is all that can be done then.
                let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
            }
            Self::Unix(_) => {}
            Self::Tls(stream) => stream.get_mut().0.abort(),
            Self::Rewound(rewound) => rewound.stream.abort(),
            Self::Accepted(message) => message.abort(),
            Self::Opened(message) => message.abort(),
        }
    }

    /// Says that nothing more will be written.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Rewound(rewound) => rewound.stream.poll_shutdown(cx),
            Self::Accepted(message) => {
                message.end(None);
                message.poll_flush(cx).map_ok(|_| ())
            }
            Self::Opened(message) => {
                message.end(None);
                message.poll_flush(cx).map_ok(|_| ())
            }
        }
    }

    /// The message it is, if it is one.
    pub(crate) fn message(&mut self) -> Option<&mut dyn Message> {
        match self {
            Self::Accepted(message) => Some(&mut **message),
            Self::Opened(message) => Some(&mut **message),
            Self::Tcp(_) | Self::Unix(_) | Self::Tls(_) | Self::Rewound(_) => None,
        }
    }

    /// The client's request it is, if it is one.
    pub(crate) fn accepted(&mut self) -> Option<&mut dyn Accepted> {
        match self {
            Self::Accepted(message) => Some(&mut **message),
            _ => None,
        }
    }

    /// The request of ours it is, if it is one.
    pub(crate) fn opened(&mut self) -> Option<&mut dyn Opened> {
        match self {
            Self::Opened(message) => Some(&mut **message),
            _ => None,
        }
    }

    /// What was agreed on by ALPN (RFC 7301), if anything was.
    pub(crate) fn negotiated(&self) -> Option<&[u8]> {
        match self {
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Self::Rewound(rewound) => rewound.stream.negotiated(),
            Self::Tcp(_) | Self::Unix(_) | Self::Accepted(_) | Self::Opened(_) => None,
        }
    }

    /// Whether TLS is what carries it.
    pub(crate) fn is_tls(&self) -> bool {
        match self {
            Self::Tls(_) => true,
            Self::Rewound(rewound) => rewound.stream.is_tls(),
            Self::Tcp(_) | Self::Unix(_) | Self::Accepted(_) | Self::Opened(_) => false,
        }
    }

    /// Waits for the next bytes, copies what fits of them and leaves them where they are. 0: at the end, or where nothing
    /// can be looked at beforehand.
    pub(crate) async fn peek(&self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.peek(space).await,
            Self::Rewound(rewound) if !rewound.is_used_up() => {
                let left = &rewound.bytes[rewound.read..];
                let n = left.len().min(space.len());
                space[..n].copy_from_slice(&left[..n]);
                Ok(n)
            }
            Self::Rewound(rewound) => Box::pin(rewound.stream.peek(space)).await,
            Self::Unix(stream) => stream.readable().await.map(|()| 0),
            Self::Tls(_) | Self::Accepted(_) | Self::Opened(_) => Ok(0),
        }
    }

    /// This end's address; `None` where there is none.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Tls(stream) => stream.get_ref().0.local_address(),
            Self::Rewound(rewound) => rewound.stream.local_address(),
            Self::Unix(_) | Self::Accepted(_) | Self::Opened(_) => None,
        }
    }
}

impl Rewound {
    fn is_used_up(&self) -> bool {
        self.read == self.bytes.len()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.is_used_up() {
            return self.stream.poll_read(cx, space);
        }
        let left = &self.bytes[self.read..];
        let n = left.len().min(space.len());
        space[..n].copy_from_slice(&left[..n]);
        self.read += n;
        if self.is_used_up() {
            (self.bytes, self.read) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(n))
    }
}

/// For libraries that bring their own protocol along.
impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // These need no memory that has been written before: to write a large buffer for each small read costs more
            // than the read.
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Rewound(rewound) if rewound.is_used_up() => {
                AsyncRead::poll_read(Pin::new(&mut rewound.stream), cx, buffer)
            }
            other => {
                let n = ready!(Self::poll_read(other, cx, buffer.initialize_unfilled()))?;
                buffer.advance(n);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write(&mut self, cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write(&mut self, cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_flush(&mut self, cx).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Self::poll_shutdown(&mut self, cx) {
            // The peer was faster.
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::NotConnected => Poll::Ready(Ok(())),
            polled => polled,
        }
    }
}
