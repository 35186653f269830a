//! Notices a client that keeps a connection busy with frames that ask for nothing.
//!
//! SETTINGS and PING each cost an answer, RST_STREAM a request that was begun for nothing (CVE-2023-44487), and empty or
//! unknown frames cost time (CVE-2019-9512, -9514, -9515, -9518). Each is cheap to send. So they are counted beside what a
//! connection is for: streams that are opened and bytes that are moved. The library has its own bounds on what waits
//! in memory (CONTINUATION, CVE-2024-27316; resets that were not accepted yet); these are bounds on work.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::http::h2::PREFACE;
use crate::net::Stream;

/// How long frames count.
const WINDOW: Duration = Duration::from_secs(10);
/// Frames without a purpose that are allowed within a window whatever else happens, and for each stream opened.
const ALLOWED: u64 = 1000;
const PER_STREAM: u64 = 4;
/// Bytes moved in either direction that allow one more: a client may acknowledge each kilobyte.
const BYTES_EACH: u64 = 512;
/// Resets that are allowed within a window; further ones while they are less than half of the streams opened.
const RESETS: u64 = 200;

/// Bytes of a frame's head (RFC 9113 section 4.1).
const HEAD: usize = 9;

/// What a client does too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flood {
    #[error("too many frames that ask for nothing")]
    Control,
    #[error("too many requests that were taken back")]
    Reset,
}

/// Counts the frames that come in on one connection.
#[derive(Debug)]
pub(crate) struct Meter {
    /// Bytes that belong to the frame, or the preface, that has begun.
    skip: usize,
    head: [u8; HEAD],
    known: usize,
    since: Instant,
    control: u64,
    resets: u64,
    streams: u64,
    bytes: u64,
}

impl Meter {
    pub(crate) fn new(now: Instant) -> Self {
        Self { skip: PREFACE.len(), head: [0; HEAD], known: 0, since: now, control: 0, resets: 0, streams: 0, bytes: 0 }
    }

    /// Bytes have been sent to the client.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Bytes have come from the client, in whatever pieces. `now` is asked for once there is something to forget.
    ///
    /// # Errors
    ///
    /// When the client does too much of something.
    pub(crate) fn received(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), Flood> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (HEAD - self.known).min(bytes.len());
            self.head[self.known..self.known + taken].copy_from_slice(&bytes[..taken]);
            self.known += taken;
            bytes = &bytes[taken..];
            if self.known == HEAD {
                self.known = 0;
                self.frame(&now)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, now: &impl Fn() -> Instant) -> Result<(), Flood> {
        let [high, middle, low, kind, ..] = self.head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.skip = length;
        match kind {
            // DATA
            0 if length > 0 => {
                self.bytes += length as u64;
                return Ok(());
            }
            // HEADERS
            1 => {
                self.streams += 1;
                return Ok(());
            }
            // RST_STREAM
            3 => self.resets += 1,
            _ => self.control += 1,
        }
        let flood = self.flood();
        if flood.is_none() || now().saturating_duration_since(self.since) < WINDOW {
            return flood.map_or(Ok(()), Err);
        }
        // What is old is forgotten only when it would count.
        self.since = now();
        (self.control, self.resets, self.streams, self.bytes) = (0, 0, 0, 0);
        Ok(())
    }

    fn flood(&self) -> Option<Flood> {
        let allowed = ALLOWED + PER_STREAM * self.streams + self.bytes / BYTES_EACH;
        if self.control > allowed {
            return Some(Flood::Control);
        }
        (self.resets > RESETS && 2 * self.resets > self.streams).then_some(Flood::Reset)
    }
}

/// A connection whose frames are counted.
pub(crate) struct Metered {
    stream: Stream,
    meter: Meter,
    /// What the client does too much of, for who can tell it so.
    flood: Rc<Cell<Option<Flood>>>,
}

impl Metered {
    pub(crate) fn new(stream: Stream) -> (Self, Rc<Cell<Option<Flood>>>) {
        let flood = Rc::default();
        (Self { stream, meter: Meter::new(Instant::now()), flood: Rc::clone(&flood) }, flood)
    }
}

impl AsyncRead for Metered {
    /// Reads nothing more once the client does too much of something: who polls this is to look.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, meter, flood } = &mut *self;
        if flood.get().is_some() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(AsyncRead::poll_read(Pin::new(stream), cx, buffer))?;
        flood.set(meter.received(&buffer.filled()[before..], Instant::now).err());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(AsyncWrite::poll_write(Pin::new(&mut self.stream), cx, data))?;
        self.meter.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(AsyncWrite::poll_write_vectored(Pin::new(&mut self.stream), cx, parts))?;
        self.meter.sent(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.stream), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.stream), cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let size = (length as u32).to_be_bytes();
        let mut frame = vec![size[1], size[2], size[3], kind, 0, 0, 0, 0, 1];
        frame.resize(HEAD + length, 0);
        frame
    }

    /// How many of these frames come through, in pieces of `piece` bytes, and what they are a flood of.
    fn run(frames: &[Vec<u8>], repeat: usize, piece: usize) -> Result<(), Flood> {
        let now = Instant::now();
        let mut meter = Meter::new(now);
        meter.received(PREFACE, || now)?;
        let one = frames.concat();
        for _ in 0..repeat {
            for bytes in one.chunks(piece) {
                meter.received(bytes, || now)?;
            }
        }
        Ok(())
    }

    #[test]
    fn frames_that_ask_for_nothing_are_a_flood() {
        let (settings, ping, priority, empty, unknown) =
            (frame(4, 0), frame(6, 8), frame(2, 5), frame(0, 0), frame(99, 100));

        for piece in [1, 7, 1000] {
            for kind in [&settings, &ping, &priority, &empty, &unknown] {
                let kind = std::slice::from_ref(kind);
                assert_eq!(run(kind, ALLOWED as usize, piece), Ok(()));
                assert_eq!(run(kind, ALLOWED as usize + 1, piece), Err(Flood::Control));
            }
        }
    }

    #[test]
    fn what_goes_along_with_requests_and_bodies_is_none() {
        let (headers, reset, ping, data, window) =
            (frame(1, 30), frame(3, 4), frame(6, 8), frame(0, 1024), frame(8, 4));

        assert_eq!(run(&[headers.clone(), ping, window.clone()], 100_000, 4096), Ok(()));
        assert_eq!(run(&[data, window.clone(), window], 100_000, 4096), Ok(()));
        assert_eq!(run(&[headers.clone(), headers.clone(), reset.clone()], 100_000, 4096), Ok(()));
        assert_eq!(run(&[headers, reset], 100_000, 4096), Err(Flood::Reset));
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let began = Instant::now();
        let mut meter = Meter::new(began);
        meter.received(PREFACE, || began).unwrap();

        for n in 0..10 * ALLOWED {
            let now = began + Duration::from_millis(20 * n);
            assert_eq!(meter.received(&frame(6, 8), || now), Ok(()), "{n}");
        }
    }
}
