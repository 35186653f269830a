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
    fn poll_ready_to_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    fn poll_ready_to_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Makes a system call if the socket is ready for it, which it is no longer when the call would wait.
    fn attempt<T>(&self, what: Interest, call: impl FnOnce() -> io::Result<T>) -> io::Result<T>;

    /// Reads once; 0 is the end.
    fn poll_receive(&self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_ready_to_read(cx))?;
            let read = || Ok(rustix::net::recv(self, &mut *space, RecvFlags::empty())?.0);
            match self.attempt(Interest::READABLE, read) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(n) => {
                    if (1..space.len()).contains(&n) {
                        self.exhaust(Interest::READABLE);
                    }
                    return Poll::Ready(Ok(n));
                }
                failed => return Poll::Ready(failed),
            }
        }
    }

    /// Writes once, as much of the parts as the peer has room for.
    fn poll_send(&self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_ready_to_write(cx))?;
            let write = || match parts {
                [one] => Ok(rustix::net::send(self, one, SendFlags::NOSIGNAL)?),
                parts => Ok(rustix::io::writev(self, parts)?),
            };
            match self.attempt(Interest::WRITABLE, write) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(n) => {
                    if n > 0 && n < parts.iter().map(|part| part.len()).sum() {
                        self.exhaust(Interest::WRITABLE);
                    }
                    return Poll::Ready(Ok(n));
                }
                failed => return Poll::Ready(failed),
            }
        }
    }

    /// After a call that came to less than was asked for: the next one would wait, so that there has to be news first.
    fn exhaust(&self, what: Interest) {
        let _ = self.attempt::<()>(what, || Err(ErrorKind::WouldBlock.into()));
    }
}

impl Socket for TcpStream {
    fn poll_ready_to_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn poll_ready_to_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }

    fn attempt<T>(&self, what: Interest, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.try_io(what, call)
    }
}

impl Socket for UnixStream {
    fn poll_ready_to_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn poll_ready_to_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }

    fn attempt<T>(&self, what: Interest, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.try_io(what, call)
    }
}
