//! Takes a body out of its framing (RFC 9112 sections 6 and 7.1), whatever pieces it comes in.

use std::ops::Range;

use crate::http::h1::extension::Extension;
use crate::http::h1::{BodyKind, section};
use crate::http::head::{Field, Fields, Known};

/// Hexadecimal digits of a chunk's size: all that 64 bits can hold.
const MAX_SIZE_DIGITS: u8 = 16;

/// Bytes of chunk extensions (and the white space before them) that may come before any data. Each byte of data gives
/// back one that was spent, so that a body of any length may carry extensions, but never more of them than data.
const EXTENSION_ALLOWANCE: u64 = 4096;

/// Bytes of a trailer section.
const MAX_TRAILER_BYTES: usize = 8 * 1024;

/// Fields of a trailer section.
const MAX_TRAILERS: usize = 64;

/// Why a body is refused. Its message is incomplete then, and its connection out of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    #[error("the connection closed within the body")]
    Truncated,
    #[error("a malformed chunk size")]
    ChunkSize,
    #[error("a chunk that does not end where its size says")]
    ChunkEnd,
    #[error("a malformed chunk extension, or too many of them")]
    ChunkExtension,
    #[error("trailers that are malformed or too long")]
    Trailers,
}

/// What one call of [`BodyDecoder::decode`] has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that are used up. 0: more input is needed, or the body is complete.
    pub consumed: usize,
    /// The part of them that is body; perhaps empty.
    pub data: Range<usize>,
}

/// Reads one body.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    /// Whether white space may stand before the end of the line with a chunk's size.
    may_pad: bool,
    /// What is left of [`EXTENSION_ALLOWANCE`].
    allowance: u64,
    /// The trailer section's lines so far.
    section: Vec<u8>,
    trailers: Option<Fields>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    /// In a chunk's data.
    Data(u64),
    /// Between the data of two chunks, or behind the last.
    Framing(Framing),
    /// In a line of the trailer section.
    Trailer,
    Done,
    Failed(BadBody),
}

/// Where in a chunked body's framing the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// In the digits of a chunk's size.
    Size { size: u64, digits: u8 },
    /// Behind a chunk's size, before the semicolon of an extension or the line's end.
    Padding(u64),
    /// In a chunk's extensions.
    Extension(u64, Extension),
    /// Before the LF of a line with a chunk's size.
    SizeFeed(u64),
    /// Before the CR after a chunk's data.
    DataReturn,
    /// Before the LF after a chunk's data.
    DataFeed,
    /// At the start of a line of the trailer section.
    TrailerStart,
    /// Before the LF that ends the body.
    LastFeed,
}

impl Framing {
    const START: Self = Self::Size { size: 0, digits: 0 };
}

impl BodyDecoder {
    /// For a request's body: nothing outside the grammar passes.
    pub fn new(kind: BodyKind) -> Self {
        let state = match kind {
            BodyKind::None | BodyKind::Length(0) => State::Done,
            BodyKind::Length(length) => State::Length(length),
            BodyKind::Chunked => State::Framing(Framing::START),
            BodyKind::UntilClose => State::UntilClose,
        };
        Self { state, may_pad: false, allowance: EXTENSION_ALLOWANCE, section: Vec::new(), trailers: None }
    }

    /// For a response's body. White space before the end of the line with a chunk's size is outside the grammar. Servers
    /// that pad the size exist all the same, and nothing can be hidden in it: the size is written anew.
    pub fn of_response(kind: BodyKind) -> Self {
        Self { may_pad: true, ..Self::new(kind) }
    }

    /// Reads from the front of `input`: at most one run of body bytes, with the framing before and after it. Bytes
    /// behind the end of the body are left alone.
    ///
    /// # Errors
    ///
    /// When the framing is malformed or beyond its bounds. Each later call answers the same.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, BadBody> {
        if let State::Failed(why) = self.state {
            return Err(why);
        }
        let mut data = 0..0;
        let mut position = 0;
        while position < input.len() {
            match self.state {
                State::Done | State::Failed(_) => break,
                State::Length(left) | State::Data(left) => {
                    if !data.is_empty() {
                        break;
                    }
                    let taken = (input.len() - position).min(usize::try_from(left).unwrap_or(usize::MAX));
                    data = position..position + taken;
                    position += taken;
                    self.take(left, taken as u64);
                }
                State::UntilClose => {
                    data = position..input.len();
                    position = input.len();
                }
                State::Trailer => position += self.read_trailer(&input[position..])?,
                State::Framing(framing) => {
                    self.state = self.step(framing, input[position]).map_err(|why| self.fail(why))?;
                    position += 1;
                }
            }
        }
        Ok(Decoded { consumed: position, data })
    }

    /// Hears that the peer closed.
    ///
    /// # Errors
    ///
    /// [`BadBody::Truncated`], unless the body was complete or could end in no other way.
    pub fn end_of_input(&mut self) -> Result<(), BadBody> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Failed(why) => Err(why),
            _ => Err(self.fail(BadBody::Truncated)),
        }
    }

    /// The trailers of a chunked body that is done, if any came that may be passed on: none that frame,
    /// route, authorise or describe the content, which only a head may do.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes still to come, where they are known: for a body with a length, and for one that is done.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Bytes that are to come and are nothing but body, at most: those of a body without framing of its own.
    pub fn unframed(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::UntilClose => Some(u64::MAX),
            _ => None,
        }
    }

    /// So many of them were taken elsewhere; no more than [`Self::unframed`] told.
    pub fn advance(&mut self, taken: u64) {
        if let State::Length(left) = self.state {
            self.take(left, taken);
        }
    }

    fn fail(&mut self, why: BadBody) -> BadBody {
        self.state = State::Failed(why);
        why
    }

    fn take(&mut self, left: u64, taken: u64) {
        self.state = match (self.state, left - taken) {
            (State::Length(_), 0) => State::Done,
            (State::Length(_), left) => State::Length(left),
            (_, 0) => State::Framing(Framing::DataReturn),
            (_, left) => State::Data(left),
        };
        self.allowance = self.allowance.saturating_add(taken).min(EXTENSION_ALLOWANCE);
    }

    /// Reads one byte of chunked framing.
    fn step(&mut self, framing: Framing, byte: u8) -> Result<State, BadBody> {
        use Framing::{DataFeed, DataReturn, LastFeed, Padding, Size, SizeFeed, TrailerStart};
        let next = match (framing, byte) {
            (Size { digits: MAX_SIZE_DIGITS, .. }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                return Err(BadBody::ChunkSize);
            }
            (Size { size, digits }, b'0'..=b'9') => {
                Size { size: size << 4 | u64::from(byte - b'0'), digits: digits + 1 }
            }
            (Size { size, digits }, b'a'..=b'f' | b'A'..=b'F') => {
                Size { size: size << 4 | u64::from((byte | 0x20) - b'a' + 10), digits: digits + 1 }
            }
            (Size { digits: 0, .. }, _) => return Err(BadBody::ChunkSize),
            (Size { size, .. }, b'\r') => SizeFeed(size),
            (Padding(size), b'\r') if self.may_pad => SizeFeed(size),
            (Framing::Extension(size, extension), b'\r') if extension.may_end(self.may_pad) => SizeFeed(size),
            (Size { size, .. } | Padding(size), b';') => self.spend(Framing::Extension(size, Extension::START))?,
            (Size { size, .. } | Padding(size), b' ' | b'\t') => self.spend(Padding(size))?,
            (Size { .. } | Padding(_), _) => return Err(BadBody::ChunkSize),
            (Framing::Extension(size, extension), byte) => {
                let extension = extension.step(byte).ok_or(BadBody::ChunkExtension)?;
                self.spend(Framing::Extension(size, extension))?
            }
            (SizeFeed(0), b'\n') => TrailerStart,
            (SizeFeed(size), b'\n') => return Ok(State::Data(size)),
            (SizeFeed(_), _) => return Err(BadBody::ChunkSize),
            (DataReturn, b'\r') => DataFeed,
            (DataFeed, b'\n') => Framing::START,
            (DataReturn | DataFeed, _) => return Err(BadBody::ChunkEnd),
            (TrailerStart, b'\r') => LastFeed,
            (TrailerStart, b'\n') => return Err(BadBody::Trailers),
            (TrailerStart, _) => {
                self.store_trailer(&[byte])?;
                return Ok(State::Trailer);
            }
            (LastFeed, b'\n') => {
                self.end_trailers()?;
                return Ok(State::Done);
            }
            (LastFeed, _) => return Err(BadBody::Trailers),
        };
        Ok(State::Framing(next))
    }

    fn spend(&mut self, next: Framing) -> Result<Framing, BadBody> {
        self.allowance = self.allowance.checked_sub(1).ok_or(BadBody::ChunkExtension)?;
        Ok(next)
    }

    /// Stores what has come of a trailer's line. Answers how many bytes that were.
    fn read_trailer(&mut self, input: &[u8]) -> Result<usize, BadBody> {
        let feed = memchr::memchr(b'\n', input);
        let length = feed.map_or(input.len(), |feed| feed + 1);
        self.store_trailer(&input[..length]).map_err(|why| self.fail(why))?;
        if feed.is_some() {
            // The parser would let a bare LF pass.
            if !self.section.ends_with(b"\r\n") {
                return Err(self.fail(BadBody::Trailers));
            }
            self.state = State::Framing(Framing::TrailerStart);
        }
        Ok(length)
    }

    fn store_trailer(&mut self, bytes: &[u8]) -> Result<(), BadBody> {
        if self.section.len() + bytes.len() > MAX_TRAILER_BYTES {
            return Err(BadBody::Trailers);
        }
        self.section.extend_from_slice(bytes);
        Ok(())
    }

    fn end_trailers(&mut self) -> Result<(), BadBody> {
        if self.section.is_empty() {
            return Ok(());
        }
        self.section.extend_from_slice(b"\r\n");
        let section = std::mem::take(&mut self.section);
        let mut trailers = Fields::default();
        trailers.load(&section);
        section::read_fields(&mut trailers, &section, 0, MAX_TRAILERS).map_err(|_| BadBody::Trailers)?;
        trailers.retain(may_trail);
        self.trailers = Some(trailers).filter(|trailers| !trailers.is_empty());
        Ok(())
    }
}

/// Whether a field may be passed on behind a body. Who merges trailers into the head (RFC 9110 section 6.5.1) must not
/// get a second say on framing, routing, access or the meaning of the content that way.
pub(crate) fn may_trail(field: Field<'_>) -> bool {
    const NEVER: [&[u8]; 29] = [
        b"accept-encoding",
        b"age",
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-language",
        b"content-location",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expires",
        b"forwarded",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"location",
        b"max-forwards",
        b"pragma",
        b"range",
        b"set-cookie",
        b"vary",
        b"via",
        b"warning",
        b"www-authenticate",
        b"authentication-info",
        b"proxy-authentication-info",
        b"x-real-ip",
    ];
    field.known == Known::Other && !NEVER.iter().any(|name| field.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything a decoder makes of input that comes in pieces of `size` bytes: body, trailers, bytes left over.
    fn read(kind: BodyKind, input: &[u8], size: usize) -> Result<(Vec<u8>, Option<Fields>, usize), BadBody> {
        let mut decoder = BodyDecoder::new(kind);
        let (mut body, mut start) = (Vec::new(), 0);
        for end in (size..input.len()).step_by(size).chain([input.len()]) {
            loop {
                let decoded = decoder.decode(&input[start..end])?;
                body.extend_from_slice(&input[start..end][decoded.data]);
                start += decoded.consumed;
                if decoded.consumed == 0 {
                    break;
                }
            }
        }
        decoder.end_of_input()?;
        Ok((body, decoder.take_trailers(), input.len() - start))
    }

    fn chunked(input: &[u8]) -> Result<Vec<u8>, BadBody> {
        let whole = read(BodyKind::Chunked, input, input.len().max(1)).map(|(body, ..)| body);
        let bytewise = read(BodyKind::Chunked, input, 1).map(|(body, ..)| body);
        assert_eq!(whole, bytewise, "for {}", input.escape_ascii());
        whole
    }

    #[test]
    fn a_body_with_a_length_ends_there() {
        for (length, input, body, left) in
            [(5, &b"helloGET"[..], &b"hello"[..], 3), (0, b"GET", b"", 3), (3, b"abc", b"abc", 0)]
        {
            for size in 1..9 {
                let (data, _, rest) = read(BodyKind::Length(length), input, size).expect("a whole body");
                assert_eq!((&data[..], rest), (body, left));
            }
        }
        assert_eq!(read(BodyKind::Length(6), b"hello", 2).map(|_| ()), Err(BadBody::Truncated));
        assert_eq!(read(BodyKind::Length(u64::MAX), b"hello", 5).map(|_| ()), Err(BadBody::Truncated));
    }

    #[test]
    fn a_body_until_close_ends_there() {
        assert_eq!(read(BodyKind::UntilClose, b"hello", 2).map(|(body, ..)| body), Ok(b"hello".to_vec()));
        assert_eq!(read(BodyKind::UntilClose, b"", 1).map(|(body, ..)| body), Ok(Vec::new()));
    }

    #[test]
    fn what_is_left_of_a_length_is_known() {
        let mut decoder = BodyDecoder::new(BodyKind::Length(5));
        decoder.decode(b"he").expect("a part");
        assert_eq!((decoder.remaining(), decoder.is_done()), (Some(3), false));

        decoder.decode(b"llo").expect("the rest");
        assert_eq!((decoder.remaining(), decoder.is_done()), (Some(0), true));
        assert_eq!(BodyDecoder::new(BodyKind::Chunked).remaining(), None);
    }

    #[test]
    fn chunks_are_taken_out_of_their_framing() {
        for (input, body) in [
            (&b"0\r\n\r\n"[..], &b""[..]),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
            (b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", b"hello!"),
            (b"A\r\n0123456789\r\n000\r\n\r\n", b"0123456789"),
            (b"9\r\n0\r\n\r\n 5\r\n\r\n0\r\n\r\n", b"0\r\n\r\n 5\r\n"),
            (b"0000000000000001\r\nx\r\n0\r\n\r\n", b"x"),
            (b"1;a\r\nx\r\n0;b=c\r\n\r\n", b"x"),
            (b"1 ; a = \"b;c\\\"\xff\" ;\td\r\nx\r\n0\r\n\r\n", b"x"),
        ] {
            assert_eq!(chunked(input), Ok(body.to_vec()), "for {}", input.escape_ascii());
        }
    }

    #[test]
    fn framing_that_is_not_that_of_rfc_9112_section_7_1_is_refused() {
        use BadBody::{ChunkEnd, ChunkExtension, ChunkSize, Trailers, Truncated};
        for (input, why) in [
            (&b""[..], Truncated),
            (b"5", Truncated),
            (b"5\r\nhell", Truncated),
            (b"5\r\nhello", Truncated),
            (b"5\r\nhello\r\n", Truncated),
            (b"0\r\n", Truncated),
            (b"0\r\n\r", Truncated),
            (b"0\r\na: b\r\n", Truncated),
            (b"\r\n", ChunkSize),
            (b"\n", ChunkSize),
            (b" 5\r\nhello\r\n0\r\n\r\n", ChunkSize),
            (b"+5\r\nhello\r\n0\r\n\r\n", ChunkSize),
            (b"-5\r\nhello\r\n0\r\n\r\n", ChunkSize),
            (b"0x5\r\nhello\r\n0\r\n\r\n", ChunkSize),
            (b"5_0\r\n", ChunkSize),
            (b"g\r\n", ChunkSize),
            (b";a\r\n", ChunkSize),
            (b"5 5\r\n", ChunkSize),
            (b"5 \r\nhello\r\n0\r\n\r\n", ChunkSize),
            (b"5\nhello\r\n0\r\n\r\n", ChunkSize),
            (b"5\rhello", ChunkSize),
            (b"5\r\rhello", ChunkSize),
            (b"5\0\r\n", ChunkSize),
            (b"5\x0b\r\n", ChunkSize),
            (b"00000000000000005\r\nhello\r\n0\r\n\r\n", ChunkSize),
            (b"10000000000000000\r\n", ChunkSize),
            (b"fffffffffffffffff\r\n", ChunkSize),
            (b"5;a\nhello\r\n0\r\n\r\n", ChunkExtension),
            (b"5;a\0\r\nhello\r\n", ChunkExtension),
            (b"5;\r\nhello\r\n", ChunkExtension),
            (b"5;a \r\nhello\r\n", ChunkExtension),
            (b"5;a=\"b\r\nhello\r\n", ChunkExtension),
            (b"5;a\x7f\r\nhello\r\n", ChunkExtension),
            (b"5;a=\"\n\"\r\nhello\r\n", ChunkExtension),
            (b"5;a\rb\r\nhello\r\n", ChunkSize),
            (b"5\r\nhelloo\r\n0\r\n\r\n", ChunkEnd),
            (b"5\r\nhello\n0\r\n\r\n", ChunkEnd),
            (b"5\r\nhello0\r\n\r\n", ChunkEnd),
            (b"5\r\nhello\r0\r\n\r\n", ChunkEnd),
            (b"0\r\n\n", Trailers),
            (b"0\r\n\rx", Trailers),
            (b"0\r\na: b\n\r\n", Trailers),
            (b"0\r\na: b\n\n", Trailers),
            (b"0\r\na: b\r\n c\r\n\r\n", Trailers),
            (b"0\r\na : b\r\n\r\n", Trailers),
            (b"0\r\n: b\r\n\r\n", Trailers),
            (b"0\r\nab\r\n\r\n", Trailers),
            (b"0\r\na: b\rc\r\n\r\n", Trailers),
            (b"0\r\na: b\0\r\n\r\n", Trailers),
            (b"0\r\nGET / HTTP/1.1\r\n\r\n", Trailers),
        ] {
            assert_eq!(chunked(input), Err(why), "for {}", input.escape_ascii());
        }
    }

    #[test]
    fn only_an_origin_may_pad_the_size_of_a_chunk() {
        for input in [&b"1  \r\nx\r\n0\t\r\n\r\n"[..], b"1;a \r\nx\r\n0\r\n\r\n"] {
            assert!(chunked(input).is_err());
            let mut decoder = BodyDecoder::of_response(BodyKind::Chunked);
            decoder.decode(input).expect("it may");
            assert!(decoder.is_done());
        }
        let mut decoder = BodyDecoder::of_response(BodyKind::Chunked);
        assert_eq!(decoder.decode(b"1 1\r\n"), Err(BadBody::ChunkSize));
    }

    #[test]
    fn a_body_that_failed_stays_so() {
        let mut decoder = BodyDecoder::new(BodyKind::Chunked);

        assert_eq!(decoder.decode(b"x"), Err(BadBody::ChunkSize));

        assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(BadBody::ChunkSize));
        assert_eq!(decoder.decode(b""), Err(BadBody::ChunkSize));
        assert_eq!(decoder.end_of_input(), Err(BadBody::ChunkSize));
        assert!(!decoder.is_done());
    }

    #[test]
    fn bytes_behind_the_body_are_left_alone() {
        for size in 1..40 {
            let (body, _, left) = read(BodyKind::Chunked, b"2\r\nhi\r\n0\r\n\r\nGET / HTTP/1.1", size).expect("a body");
            assert_eq!((&body[..], left), (&b"hi"[..], 14));
        }
    }

    #[test]
    fn one_call_reads_a_small_body_whole() {
        let input = b"5\r\nhello\r\n0\r\n\r\n";
        let mut decoder = BodyDecoder::new(BodyKind::Chunked);

        assert_eq!(decoder.decode(input), Ok(Decoded { consumed: input.len(), data: 3..8 }));
        assert!(decoder.is_done());
    }

    #[test]
    fn trailers_are_kept_but_for_those_that_a_head_alone_may_have() {
        let input = b"0\r\nGrpc-Status: 0\r\nContent-Length: 5\r\nhost: a\r\nAuthorization: b\r\nX-Sum:\tc \r\n\
            Transfer-Encoding: chunked\r\nConnection: x\r\nTrailer: y\r\nSet-Cookie: z\r\nx-forwarded-for: 1\r\n\r\n";
        for size in 1..input.len() {
            let (_, trailers, left) = read(BodyKind::Chunked, input, size).expect("a body");

            let trailers = trailers.expect("two trailers");
            let kept: Vec<_> = trailers.iter().map(|f| (f.name, f.value)).collect();
            assert_eq!(kept, [(&b"Grpc-Status"[..], &b"0"[..]), (b"X-Sum", b"c")]);
            assert_eq!(left, 0);
        }
        let only_forbidden = read(BodyKind::Chunked, b"0\r\nhost: a\r\n\r\n", 4).expect("a body");
        assert!(only_forbidden.1.is_none());
    }

    #[test]
    fn trailers_are_bounded_in_bytes_and_number() {
        let trailers = |count: usize, length: usize| {
            let line = format!("a: {}\r\n", "x".repeat(length));
            chunked(format!("0\r\n{}\r\n", line.repeat(count)).as_bytes()).map(|_| ())
        };

        assert_eq!(trailers(MAX_TRAILERS, 10), Ok(()));
        assert_eq!(trailers(MAX_TRAILERS + 1, 10), Err(BadBody::Trailers));
        assert_eq!(trailers(1, MAX_TRAILER_BYTES - 5), Ok(()));
        assert_eq!(trailers(1, MAX_TRAILER_BYTES - 4), Err(BadBody::Trailers));
    }

    #[test]
    fn extensions_are_bounded_by_an_allowance_and_by_the_data() {
        let allowance = usize::try_from(EXTENSION_ALLOWANCE).expect("small");
        let first = |length: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(length - 1)).into_bytes();
        assert!(chunked(&first(allowance)).is_ok());
        assert_eq!(chunked(&first(allowance + 1)), Err(BadBody::ChunkExtension));

        let many = |data: usize| {
            let chunk = format!("{data:x};{}\r\n{}\r\n", "e".repeat(99), "d".repeat(data));
            format!("{}0\r\n\r\n", chunk.repeat(100)).into_bytes()
        };
        assert!(chunked(&many(100)).is_ok());
        assert_eq!(chunked(&many(1)), Err(BadBody::ChunkExtension));
    }
}
