//! Watches over the frames that a client sends, before the library sees them.
//!
//! # What is a flood?
//!
//! SETTINGS and PING each cost an answer, RST_STREAM a request that was begun for nothing (CVE-2023-44487), and empty or
//! unknown frames cost time (CVE-2019-9512, -9514, -9515, -9518). Each is cheap to send. So they are counted beside what a
//! connection is for: streams that are opened and bytes that are moved. The library has its own bounds on what waits
//! in memory (CONTINUATION, CVE-2024-27316; resets that were not accepted yet); these are bounds on work.
//!
//! # Why look at frames that the library refuses anyway?
//!
//! It calls most of what ends a connection PROTOCOL_ERROR. Who has to find out what is wrong with a client is told more by
//! the errors that RFC 9113 has for frames of a wrong size, behind a stream's end, and for windows that are too large. And it
//! overlooks pseudo-fields among trailers.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::Reason;
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
/// Bytes of a payload that are looked at, at most: one setting.
const LOOKED_AT: usize = 6;
/// The streams that ended last and are remembered, so that nothing may follow on them.
const REMEMBERED: usize = 128;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 32;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// Why a client is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("too many frames that ask for nothing")]
    Flood,
    #[error("too many requests that were taken back")]
    Resets,
    #[error("a frame of a size it cannot have")]
    Size,
    #[error("a window beyond its bound")]
    Window,
    #[error("a frame behind the end of its stream")]
    Ended,
    #[error("a stream that depends on itself")]
    Dependency,
    #[error("a pseudo-field among trailers")]
    Trailers,
}

impl Wrong {
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Flood | Self::Resets => Reason::ENHANCE_YOUR_CALM,
            Self::Size => Reason::FRAME_SIZE_ERROR,
            Self::Window => Reason::FLOW_CONTROL_ERROR,
            Self::Ended => Reason::STREAM_CLOSED,
            Self::Dependency | Self::Trailers => Reason::PROTOCOL_ERROR,
        }
    }

    pub(crate) fn is_flood(self) -> bool {
        matches!(self, Self::Flood | Self::Resets)
    }
}

/// Looks at the frames that come in on one connection.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Bytes of the frame, or the preface, that has begun: to be looked at, and to be passed over behind them.
    look: usize,
    looked: usize,
    skip: usize,
    head: [u8; HEAD],
    payload: [u8; LOOKED_AT],
    known: usize,
    ended: VecDeque<u32>,
    /// The highest stream that the client has opened.
    highest: u32,
    since: Instant,
    control: u64,
    resets: u64,
    streams: u64,
    bytes: u64,
}

impl Watch {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            look: 0,
            looked: 0,
            skip: PREFACE.len(),
            head: [0; HEAD],
            payload: [0; LOOKED_AT],
            known: 0,
            ended: VecDeque::new(),
            highest: 0,
            since: now,
            control: 0,
            resets: 0,
            streams: 0,
            bytes: 0,
        }
    }

    /// Bytes have been sent to the client.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Bytes have come from the client, in whatever pieces. `now` is asked for once there is something to forget.
    ///
    /// # Errors
    ///
    /// What is wrong, and how many of the bytes stand before it.
    pub(crate) fn received(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), (usize, Wrong)> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if self.look > 0 {
                let taken = self.look.min(rest.len());
                let begins = LOOKED_AT - self.look;
                self.payload[begins..begins + taken].copy_from_slice(&rest[..taken]);
                self.look -= taken;
                at += taken;
                if self.look == 0 {
                    self.look_at_payload().map_err(|wrong| (at - taken, wrong))?;
                }
                continue;
            }
            if self.skip > 0 {
                let skipped = self.skip.min(rest.len());
                self.skip -= skipped;
                at += skipped;
                continue;
            }
            let taken = (HEAD - self.known).min(rest.len());
            self.head[self.known..self.known + taken].copy_from_slice(&rest[..taken]);
            self.known += taken;
            at += taken;
            if self.known == HEAD {
                self.known = 0;
                self.frame(&now).map_err(|wrong| (at - taken, wrong))?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, now: &impl Fn() -> Instant) -> Result<(), Wrong> {
        let [high, middle, low, kind, flags, id @ ..] = self.head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let stream = u32::from_be_bytes(id) & 0x7fff_ffff;
        self.skip = length;
        let is_sized = match kind {
            PRIORITY => length == 5,
            RST_STREAM | WINDOW_UPDATE => length == 4,
            SETTINGS if flags & ACK != 0 => length == 0,
            SETTINGS => length.is_multiple_of(LOOKED_AT),
            PING => length == 8,
            _ => true,
        };
        if !is_sized {
            return Err(Wrong::Size);
        }
        if matches!(kind, DATA | HEADERS) && self.ended.contains(&stream) {
            return Err(Wrong::Ended);
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 || kind == RST_STREAM {
            self.remember(stream);
        }
        let is_plain = flags & (PADDED | WITH_PRIORITY) == 0;
        if kind == HEADERS && stream <= self.highest && is_plain {
            self.look_at(length);
        }
        if kind == HEADERS {
            self.highest = self.highest.max(stream);
        }
        match kind {
            DATA if length > 0 => self.bytes += length as u64,
            HEADERS => self.streams += 1,
            RST_STREAM => {
                self.resets += 1;
                return self.count(now);
            }
            PRIORITY | SETTINGS => {
                self.look_at(length);
                self.control += 1;
                return self.count(now);
            }
            _ => {
                self.control += 1;
                return self.count(now);
            }
        }
        Ok(())
    }

    /// Has the next bytes of a payload be looked at, if there are so many.
    fn look_at(&mut self, length: usize) {
        // What is shorter stands at the end.
        self.look = length.min(LOOKED_AT);
        self.looked = self.look;
        self.skip = length - self.look;
    }

    fn look_at_payload(&mut self) -> Result<(), Wrong> {
        let stream = &self.head[5..];
        match (self.head[3], self.payload) {
            (PRIORITY, [_, a, b, c, d, _]) if [a & 0x7f, b, c, d] == *stream => return Err(Wrong::Dependency),
            (SETTINGS, [high, low, a, ..])
                if u16::from_be_bytes([high, low]) == INITIAL_WINDOW_SIZE && a & 0x80 != 0 =>
            {
                return Err(Wrong::Window);
            }
            _ => {}
        }
        match self.head[3] {
            SETTINGS => self.look_at(self.skip),
            HEADERS if begins_with_pseudo(&self.payload[LOOKED_AT - self.looked..]) => return Err(Wrong::Trailers),
            _ => {}
        }
        Ok(())
    }

    fn remember(&mut self, stream: u32) {
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(stream);
    }

    fn count(&mut self, now: &impl Fn() -> Instant) -> Result<(), Wrong> {
        let flood = self.flood();
        if flood.is_none() || now().saturating_duration_since(self.since) < WINDOW {
            return flood.map_or(Ok(()), Err);
        }
        // What is old is forgotten only when it would count.
        self.since = now();
        (self.control, self.resets, self.streams, self.bytes) = (0, 0, 0, 0);
        Ok(())
    }

    fn flood(&self) -> Option<Wrong> {
        let allowed = ALLOWED + PER_STREAM * self.streams + self.bytes / BYTES_EACH;
        if self.control > allowed {
            return Some(Wrong::Flood);
        }
        (self.resets > RESETS && 2 * self.resets > self.streams).then_some(Wrong::Resets)
    }
}

/// Whether a block of fields begins with a pseudo-field, as far as that shows without the table of earlier ones (RFC 7541
/// section 6): by its place in the static table, where they are first, or by its name.
fn begins_with_pseudo(block: &[u8]) -> bool {
    const LAST: u8 = 14;
    match *block {
        [first, ..] if first & 0x80 != 0 => (1..=LAST).contains(&(first & 0x7f)),
        [first, ..] if first & 0x40 != 0 && first != 0x40 => first & 0x3f <= LAST,
        [first, ..] if first & 0x20 == 0 && first & 0x0f != 0 => first & 0x0f <= LAST,
        // A name of its own, as it is or in Huffman's code.
        [0x40 | 0x00 | 0x10, length, name, ..] if length & 0x80 == 0 => name == b':',
        [0x40 | 0x00 | 0x10, _, name, ..] => name >> 1 == 0x5c,
        _ => false,
    }
}

/// A connection whose frames are watched over.
pub(crate) struct Watched {
    stream: Stream,
    watch: Watch,
    /// What is wrong, for who can tell the client so.
    wrong: Rc<Cell<Option<Wrong>>>,
}

impl Watched {
    pub(crate) fn new(stream: Stream) -> (Self, Rc<Cell<Option<Wrong>>>) {
        let wrong = Rc::default();
        let watch = Watch::new(Instant::now());
        (Self { stream, watch, wrong: Rc::clone(&wrong) }, wrong)
    }
}

impl AsyncRead for Watched {
    /// Reads up to what is wrong, and nothing behind it: who polls this is to look.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, watch, wrong, .. } = &mut *self;
        if wrong.get().is_some() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(AsyncRead::poll_read(Pin::new(stream), cx, buffer))?;
        if let Err((good, what)) = watch.received(&buffer.filled()[before..], Instant::now) {
            wrong.set(Some(what));
            buffer.set_filled(before + good);
            if good == 0 {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(AsyncWrite::poll_write(Pin::new(&mut self.stream), cx, data))?;
        self.watch.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(AsyncWrite::poll_write_vectored(Pin::new(&mut self.stream), cx, parts))?;
        self.watch.sent(written);
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

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let size = (payload.len() as u32).to_be_bytes();
        let mut frame = vec![size[1], size[2], size[3], kind, flags, 0, 0, 0, stream];
        frame.extend_from_slice(payload);
        frame
    }

    fn empty(kind: u8, length: usize) -> Vec<u8> {
        frame(kind, 0, 1, &vec![0; length])
    }

    /// What is wrong with these frames, sent again and again in pieces of `piece` bytes.
    fn run(frames: &[Vec<u8>], repeat: usize, piece: usize) -> Result<(), Wrong> {
        let now = Instant::now();
        let mut watch = Watch::new(now);
        let one = frames.concat();
        let bytes = [PREFACE, &one.repeat(repeat)].concat();
        bytes.chunks(piece).try_for_each(|bytes| watch.received(bytes, || now).map_err(|(_, wrong)| wrong))
    }

    #[test]
    fn frames_that_ask_for_nothing_are_a_flood() {
        let (settings, ping, priority, data, unknown) =
            (empty(SETTINGS, 0), empty(PING, 8), empty(PRIORITY, 5), empty(DATA, 0), empty(99, 100));

        for piece in [1, 7, 1000] {
            for kind in [&settings, &ping, &priority, &data, &unknown] {
                let kind = std::slice::from_ref(kind);
                assert_eq!(run(kind, ALLOWED as usize, piece), Ok(()));
                assert_eq!(run(kind, ALLOWED as usize + 1, piece), Err(Wrong::Flood));
            }
        }
    }

    #[test]
    fn what_goes_along_with_requests_and_bodies_is_none() {
        let (headers, ping, data, window) =
            (empty(HEADERS, 30), empty(PING, 8), empty(DATA, 1024), empty(WINDOW_UPDATE, 4));
        let reset = frame(RST_STREAM, 0, 3, &[0; 4]);

        assert_eq!(run(&[headers.clone(), ping, window.clone()], 100_000, 4096), Ok(()));
        assert_eq!(run(&[data, window.clone(), window], 100_000, 4096), Ok(()));
        assert_eq!(run(&[headers.clone(), headers.clone(), reset.clone()], 100_000, 4096), Ok(()));
        assert_eq!(run(&[headers, reset], 100_000, 4096), Err(Wrong::Resets));
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let began = Instant::now();
        let mut watch = Watch::new(began);
        watch.received(PREFACE, || began).unwrap();

        for n in 0..10 * ALLOWED {
            let now = began + Duration::from_millis(20 * n);
            assert_eq!(watch.received(&empty(PING, 8), || now), Ok(()), "{n}");
        }
    }

    #[test]
    fn what_is_wrong_has_its_own_error_however_it_comes() {
        let good = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9, 0, 4, 0x7f, 0xff, 0xff, 0xff]);
        for (bad, wrong) in [
            (empty(RST_STREAM, 3), Wrong::Size),
            (empty(WINDOW_UPDATE, 5), Wrong::Size),
            (empty(SETTINGS, 7), Wrong::Size),
            (frame(SETTINGS, ACK, 0, &[0; 6]), Wrong::Size),
            (empty(PING, 9), Wrong::Size),
            (empty(PRIORITY, 6), Wrong::Size),
            (frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9, 0, 4, 0x80, 0, 0, 0]), Wrong::Window),
            (frame(PRIORITY, 0, 7, &[0x80, 0, 0, 7, 0]), Wrong::Dependency),
            ([frame(HEADERS, END_STREAM, 7, b"x"), frame(DATA, 0, 7, b"x")].concat(), Wrong::Ended),
            (
                [frame(HEADERS, 0, 7, b"x"), frame(RST_STREAM, 0, 7, &[0; 4]), frame(HEADERS, 0, 7, b"x")].concat(),
                Wrong::Ended,
            ),
        ] {
            for piece in [1, 5, 1000] {
                assert_eq!(run(&[good.clone(), bad.clone()], 1, piece), Err(wrong), "{bad:?} by {piece}");
            }
        }
        assert_eq!(run(&[good, frame(PRIORITY, 0, 7, &[0x80, 0, 0, 8, 0])], 3, 5), Ok(()));
    }

    #[test]
    fn trailers_have_no_pseudo_fields() {
        let head = frame(HEADERS, 0, 1, b"\x82\x86\x84");
        for (block, is_wrong) in [
            (&b"\x00\x05:path\x01/"[..], true),
            (b"\x10\x05:path\x01/", true),
            (b"\x84", true),
            (b"\x04\x01/", true),
            (b"\x44\x01/", true),
            (b"\x40\x84\xb9\x58\xd3\x3f\x01/", true),
            (b"\x00\x01x\x011", false),
            (b"\x40\x82\xf2\xb7\x011", false),
            (b"\x90", false),
            (b"\x50\x01x", false),
            (b"", false),
        ] {
            let trailers = frame(HEADERS, END_STREAM, 1, block);
            let expected = if is_wrong { Err(Wrong::Trailers) } else { Ok(()) };
            for piece in [1, 1000] {
                assert_eq!(run(&[head.clone(), trailers.clone()], 1, piece), expected, "{}", block.escape_ascii());
            }
            assert_eq!(run(&[trailers], 1, 1000), Ok(()), "a head has them");
        }
    }

    #[test]
    fn nothing_behind_what_is_wrong_is_passed_on() {
        let now = Instant::now();
        let mut watch = Watch::new(now);
        let good = [PREFACE, &empty(PING, 8)].concat();

        let bytes = [&good[..], &empty(PING, 7), &empty(PING, 8)].concat();

        assert_eq!(watch.received(&bytes, || now), Err((good.len(), Wrong::Size)));
    }
}
