//! One connection with what was received and not yet used, what is to be sent, and how long each may take.
//!
//! Everything here is polled and keeps its state, so that one task can wait for both directions of two
//! connections at once and drop any wait without losing a byte.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::net::{Buffer, Deadline, Pace, Pipe, Stream};

/// Bytes of output memory an idle connection may keep.
const KEPT_OUTPUT: usize = 16 * 1024;

/// What a wait for a peer that owes nothing ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Something came.
    Received,
    /// The peer closed the connection, or it broke.
    Ended,
    /// Nothing came in time.
    Late,
}

/// A connection with its buffers and deadlines.
pub(crate) struct Transport {
    stream: Stream,
    /// Received, not yet used.
    pub(crate) input: Buffer,
    /// To be sent, in order, before anything else.
    pub(crate) output: Vec<u8>,
    sent: usize,
    /// The longest wait for a single read.
    pub(crate) read_timeout: Duration,
    /// The longest wait for a single write.
    pub(crate) write_timeout: Duration,
    /// A moment that ends every wait, however short it has been.
    pub(crate) latest: Option<Instant>,
    /// How fast the peer has to be on average, for what it sends and for what it takes.
    paces: Option<Box<[Pace; 2]>>,
    read_due: Option<Instant>,
    write_due: Option<Instant>,
    reading: Deadline,
    writing: Deadline,
    /// All bytes ever read and written.
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
}

impl Transport {
    pub(crate) fn new(stream: Stream, read_timeout: Duration, write_timeout: Duration) -> Self {
        Self {
            stream,
            input: Buffer::default(),
            output: Vec::new(),
            sent: 0,
            read_timeout,
            write_timeout,
            latest: None,
            paces: None,
            read_due: None,
            write_due: None,
            reading: Deadline::default(),
            writing: Deadline::default(),
            bytes_read: 0,
            bytes_written: 0,
        }
    }

    /// Has the peer send and take so many bytes a second from now on, on average over the time that it is waited for and
    /// once it has been waited for as long as a single read or write may take; `None`: as few as it likes.
    pub(crate) fn expect_rate(&mut self, rate: Option<u64>) {
        self.paces = rate.map(|rate| Box::new([Pace::new(rate); 2]));
    }

    /// Reads once into `input`: `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// `TimedOut` when nothing came within `read_timeout` or before `latest`, or too little; `OutOfMemory` when `input` is
    /// full.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let polled = self.poll_receive(cx);
        self.received(cx, polled)
    }

    /// The same with a pipe, of which [`Self::input`] sees nothing; for streams that are [bare](Stream::is_bare).
    ///
    /// # Errors
    /// As [`Self::poll_fill`].
    pub(crate) fn poll_fill_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let polled = self.poll_watch_pipe(cx, pipe, most);
        self.received(cx, polled)
    }

    /// The same without a time limit.
    pub(crate) fn poll_watch_pipe(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.stream.poll_fill(cx, pipe, most))?;
        self.bytes_read += n as u64;
        Poll::Ready(Ok(n))
    }

    /// Keeps the time of a read.
    fn received(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let Poll::Ready(result) = polled else { return self.poll_read_due(cx).map(Err) };
        self.read_due = None;
        if let (Some(paces), Ok(read)) = (&mut self.paces, &result) {
            paces[0].moved(*read, Instant::now);
        }
        Poll::Ready(result)
    }

    /// Ready when the peer has sent nothing for too long, or too little.
    pub(crate) fn poll_read_due(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let due = earlier(*self.read_due.get_or_insert_with(|| Instant::now() + self.read_timeout), self.latest);
        let pace = self.paces.as_mut().map(|paces| paces[0].waits(self.read_timeout, Instant::now()));
        ready!(self.reading.poll(cx, earlier(due, pace)));
        self.read_due = None;
        Poll::Ready(ErrorKind::TimedOut.into())
    }

    /// Has the end of the wait that has begun be the end of all that follow, until [`Self::latest`] is set again.
    pub(crate) fn hold_to_read_due(&mut self) {
        self.latest = self.read_due.map(|due| earlier(due, self.latest)).or(self.latest);
    }

    /// Reads if something came, without a time limit: for noticing that a peer goes away while it has nothing to
    /// say. Pending for ever once `input` is full.
    pub(crate) fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() > 0 && self.input.len() == self.input.capacity() {
            return Poll::Pending;
        }
        self.poll_receive(cx)
    }

    /// Reads into `input`, which has memory only while there is something in it.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let space = self.input.space();
        if space.is_empty() {
            return Poll::Ready(Err(ErrorKind::OutOfMemory.into()));
        }
        let polled = self.stream.poll_read(cx, space);
        match polled {
            Poll::Ready(Ok(n @ 1..)) => {
                self.input.received(n);
                self.bytes_read += n as u64;
            }
            _ => self.input.release(),
        }
        polled
    }

    /// Whether anything waits to be sent.
    pub(crate) fn has_output(&self) -> bool {
        self.sent < self.output.len()
    }

    /// Sends all of `output`, and what waits within the stream.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.has_output() {
            ready!(self.poll_send(cx, &[]))?;
        }
        if !self.stream.holds_back() {
            return Poll::Ready(Ok(()));
        }
        match self.stream.poll_flush(cx) {
            Poll::Ready(Ok(sent)) => {
                self.write_due = None;
                // A head and an end have no length of their own; that they left must be seen.
                self.bytes_written += u64::from(sent);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_write_due(cx).map(Err),
        }
    }

    /// Sends `output` and after it `data`, in one system call where the peer takes it. Answers how many bytes of
    /// `data` were sent, perhaps 0.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let head = &self.output[self.sent..];
        let parts = [IoSlice::new(head), IoSlice::new(data)];
        let parts = match (head.is_empty(), data.is_empty()) {
            (true, true) => return Poll::Ready(Ok(0)),
            (true, false) => &parts[1..],
            (false, true) => &parts[..1],
            (false, false) => &parts[..],
        };
        let of_head = head.len();
        let polled = self.stream.poll_write(cx, parts);
        let written = ready!(self.written(cx, polled))?;
        let of_head = written.min(of_head);
        self.sent += of_head;
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
        }
        Poll::Ready(Ok(written - of_head))
    }

    /// Sends what a pipe holds, with nothing in [`Self::output`] before it.
    ///
    /// # Errors
    /// As for any other write.
    pub(crate) fn poll_drain_pipe(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        debug_assert!(!self.has_output(), "the order of the bytes is kept");
        let polled = self.stream.poll_drain(cx, pipe);
        self.written(cx, polled)
    }

    /// Keeps the time of a write.
    fn written(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let written = match polled {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
            Poll::Ready(result) => result?,
            Poll::Pending => return self.poll_write_due(cx).map(Err),
        };
        self.write_due = None;
        if let Some(paces) = &mut self.paces {
            paces[1].moved(written, Instant::now);
        }
        self.bytes_written += written as u64;
        Poll::Ready(Ok(written))
    }

    /// Ready when the peer has taken nothing for too long, or too little.
    fn poll_write_due(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let due = earlier(*self.write_due.get_or_insert_with(|| Instant::now() + self.write_timeout), self.latest);
        let pace = self.paces.as_mut().map(|paces| paces[1].waits(self.write_timeout, Instant::now()));
        ready!(self.writing.poll(cx, earlier(due, pace)));
        self.write_due = None;
        Poll::Ready(ErrorKind::TimedOut.into())
    }

    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// What carries it.
    pub(crate) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// What carries it, as it was before what stands in `input` was read. Nothing may wait to be sent.
    pub(crate) fn into_stream(self) -> Stream {
        let Self { stream, input, .. } = self;
        stream.rewound(input.bytes().to_vec())
    }

    /// Has the coming close reset the connection, so that the peer cannot take what it got for complete.
    pub(crate) fn abort(&mut self) {
        self.stream.abort();
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    /// `TimedOut` when the peer does not take what goes before that.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream.poll_shutdown(cx) {
            Poll::Ready(result) => {
                self.write_due = None;
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_write_due(cx).map(Err),
        }
    }

    /// Whether its peer has to be told of an orderly end, as TLS wants it (RFC 8446 section 6.1).
    pub(crate) fn has_farewell(&self) -> bool {
        self.stream.is_tls()
    }

    /// Says so as far as that can be done at once.
    pub(crate) fn part(&mut self) {
        if self.stream.is_tls() {
            // Who takes not even so much has not been listening.
            let _ = self.stream.poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Waits for the first bytes of what comes next, until `due`. Holds no memory meanwhile.
    pub(crate) fn poll_wake(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<Wake> {
        if !self.input.is_empty() {
            return Poll::Ready(Wake::Received);
        }
        // Readiness may be old news, or none at all on a connection that was just accepted: only a read tells.
        match self.poll_receive(cx) {
            Poll::Ready(Ok(1..)) => return Poll::Ready(Wake::Received),
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Wake::Ended),
            Poll::Pending => {}
        }
        self.reading.poll(cx, due).map(|()| Wake::Late)
    }

    /// Whether a connection that should be silent is: nothing came and it was not closed. No system call unless
    /// something did happen.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        if !self.input.is_empty() {
            return false;
        }
        // Readiness may be old news: a read that would wait proves it.
        let quiet = self.stream.poll_readable(&mut cx).is_pending() || self.poll_receive(&mut cx).is_pending();
        self.input.release();
        quiet
    }

    /// Gives back what an idle connection does not need.
    pub(crate) fn rest(&mut self) {
        self.input.release();
        if self.output.capacity() > KEPT_OUTPUT || self.input.capacity() == 0 {
            self.output = Vec::new();
        }
        (self.read_due, self.write_due, self.latest, self.paces) = (None, None, None, None);
    }
}

fn earlier(due: Instant, latest: Option<Instant>) -> Instant {
    latest.map_or(due, |latest| due.min(latest))
}
