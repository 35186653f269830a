//! The kernel's memory between two sockets: bytes that nobody looks at pass through it and never come here (splice(2)).
//!
//! # Why not for every body?
//!
//! A short one arrives with its head, and one that is framed anew, encrypted or rewritten has to be touched. Of a long one
//! whose bytes stay as they are, two copies are most of what it costs.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::{BorrowedFd, OwnedFd};

/// Bytes that a pipe takes at once. The system gives 64 KiB without being asked, and more to who has not asked for too much.
pub(crate) const ROOM: usize = 256 * 1024;

/// A pipe of this worker's, which goes back to it when it is empty.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Until it is given back.
    ends: Option<Ends>,
    held: usize,
}

#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

#[cfg(target_os = "linux")]
impl Pipe {
    /// `None` when there can be no further one now: that is no reason to fail, as there is another way.
    pub(crate) fn take() -> Option<Self> {
        use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

        let ends = spare::take().or_else(|| {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
            // A smaller one does the same in more calls.
            let _ = fcntl_setpipe_size(&write, ROOM);
            Some(Ends { read, write })
        });
        ends.map(|ends| Self { ends: Some(ends), held: 0 })
    }

    /// Bytes in it.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Moves up to `most` received bytes of a socket into it, which must be empty. 0: the end of the stream.
    pub(super) fn fill(&mut self, from: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0, "else a full pipe could not be told from an empty socket");
        let Some(Ends { write, .. }) = &self.ends else { return Ok(0) };
        self.held = splice(from, write, most.min(ROOM))?;
        Ok(self.held)
    }

    /// Moves what it holds to a socket, as far as that takes it.
    pub(super) fn drain(&mut self, to: BorrowedFd<'_>) -> io::Result<usize> {
        let Some(Ends { read, .. }) = &self.ends else { return Ok(0) };
        let moved = splice(read, to, self.held)?;
        self.held -= moved;
        Ok(moved)
    }
}

#[cfg(target_os = "linux")]
impl Drop for Pipe {
    fn drop(&mut self) {
        // What others' bytes are in is nothing to use again.
        if let (0, Some(ends)) = (self.held, self.ends.take()) {
            spare::give(ends);
        }
    }
}

#[cfg(target_os = "linux")]
fn splice(from: impl std::os::fd::AsFd, to: impl std::os::fd::AsFd, most: usize) -> io::Result<usize> {
    use rustix::pipe::{SpliceFlags, splice};

    Ok(splice(from, None, to, None, most, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}

/// The worker's spare pipes.
#[cfg(target_os = "linux")]
mod spare {
    use std::cell::RefCell;

    use super::Ends;

    const KEPT: usize = 16;

    thread_local! {
        static SPARE: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn take() -> Option<Ends> {
        SPARE.with_borrow_mut(Vec::pop)
    }

    pub(super) fn give(ends: Ends) {
        // A pipe may outlive the thread's locals at the very end; then it is simply closed.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < KEPT {
                spare.push(ends);
            }
        });
    }
}

/// There is none: only Linux has splice(2).
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(crate) enum Pipe {}

#[cfg(not(target_os = "linux"))]
impl Pipe {
    pub(crate) fn take() -> Option<Self> {
        None
    }

    pub(crate) fn held(&self) -> usize {
        match *self {}
    }

    pub(super) fn fill(&mut self, _: std::os::fd::BorrowedFd<'_>, _: usize) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn drain(&mut self, _: std::os::fd::BorrowedFd<'_>) -> io::Result<usize> {
        match *self {}
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        (near, listener.accept().expect("the other end").0)
    }

    /// Fills a pipe as soon as something has come.
    fn fill(pipe: &mut Pipe, from: &TcpStream, most: usize) -> usize {
        from.peek(&mut [0]).expect("something comes");
        pipe.fill(from.as_fd(), most).expect("it comes into the pipe")
    }

    #[test]
    fn bytes_pass_in_order_and_no_more_than_wanted() {
        let ((mut client, inside), (outside, mut server)) = (pair(), pair());
        let mut pipe = Pipe::take().expect("a pipe");
        client.write_all(b"hello, world").expect("room");

        assert_eq!(fill(&mut pipe, &inside, 5), 5);
        assert_eq!((pipe.held(), pipe.drain(outside.as_fd()).expect("room"), pipe.held()), (5, 5, 0));
        assert_eq!(fill(&mut pipe, &inside, ROOM), 7);
        assert_eq!(pipe.drain(outside.as_fd()).expect("room"), 7);

        let mut passed = [0; 12];
        server.read_exact(&mut passed).expect("all of it");
        assert_eq!(&passed, b"hello, world");
    }

    #[test]
    fn the_end_of_a_stream_is_told_as_nothing() {
        let (client, inside) = pair();
        drop(client);

        assert_eq!(fill(&mut Pipe::take().expect("a pipe"), &inside, ROOM), 0);
    }

    #[test]
    fn a_pipe_that_holds_something_is_nobody_elses() {
        let ((mut client, inside), (outside, mut server)) = (pair(), pair());
        client.write_all(b"secret").expect("room");
        let mut first = Pipe::take().expect("a pipe");
        fill(&mut first, &inside, ROOM);
        drop(first);

        let mut next = Pipe::take().expect("a pipe");
        client.write_all(b"mine").expect("room");
        fill(&mut next, &inside, ROOM);
        next.drain(outside.as_fd()).expect("room");

        let mut passed = [0; 4];
        server.read_exact(&mut passed).expect("all of it");
        assert_eq!(&passed, b"mine");
    }
}
