//! Reads and writes of sockets.
//!
//! # Why not the runtime's?
//!
//! They go through the C library, where each call is a place at which a thread could be cancelled: two locked instructions
//! around the system call, for nothing here. These are the system calls alone.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// A connected socket of the runtime, which one thread drives: news of a socket come only while nobody reads or writes.
pub(super) trait Socket: AsFd {
    /// Ready when a call might not wait.
    fn poll_news(&self, cx: &mut Context<'_>, of: Interest) -> Poll<io::Result<()>>;

    /// Makes a system call if the socket is ready for it, which it is no longer when the call would wait.
    fn attempt<T>(&self, what: Interest, call: impl FnOnce() -> io::Result<T>) -> io::Result<T>;

    /// Makes a system call once it does not wait.
    fn poll_call<T>(
        &self,
        cx: &mut Context<'_>,
        what: Interest,
        mut call: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.poll_news(cx, what))?;
            match self.attempt(what, &mut call) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Reads once; 0 is the end.
    fn poll_receive(&self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = || Ok(rustix::net::recv(self, &mut *space, RecvFlags::empty())?.0);
        let n = ready!(self.poll_call(cx, Interest::READABLE, read))?;
        self.came_to(n, space.len(), Interest::READABLE);
        Poll::Ready(Ok(n))
    }

    /// Writes once, as much of the parts as the peer has room for.
    fn poll_send(&self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let write = || match parts {
            [one] => Ok(rustix::net::send(self, one, SendFlags::NOSIGNAL)?),
            parts => Ok(rustix::io::writev(self, parts)?),
        };
        let n = ready!(self.poll_call(cx, Interest::WRITABLE, write))?;
        self.came_to(n, parts.iter().map(|part| part.len()).sum(), Interest::WRITABLE);
        Poll::Ready(Ok(n))
    }

    /// After a call that came to less than was asked for, the next one would wait: there has to be news first.
    fn came_to(&self, n: usize, asked: usize, what: Interest) {
        if (1..asked).contains(&n) {
            let _ = self.attempt::<()>(what, || Err(ErrorKind::WouldBlock.into()));
        }
    }
}

/// Both kinds of the runtime's sockets have the same methods, and no trait.
macro_rules! socket {
    ($($stream:ty),*) => {$(
        impl Socket for $stream {
            fn poll_news(&self, cx: &mut Context<'_>, of: Interest) -> Poll<io::Result<()>> {
                if of.is_readable() { self.poll_read_ready(cx) } else { self.poll_write_ready(cx) }
            }

            fn attempt<T>(&self, what: Interest, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
                self.try_io(what, call)
            }
        }
    )*};
}

socket!(TcpStream, UnixStream);
