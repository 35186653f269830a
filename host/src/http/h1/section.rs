//! Reads the fields of a head or of a trailer section (RFC 9112 section 5), line by line and once.
//!
//! Where a section ends is looked for first, with a search that costs less than the read that brought the bytes,
//! however few they were: so nothing is read twice however often more bytes come. A line ends in CRLF and in nothing else.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter};

use crate::http::head::{Fields, Known, Span};

/// Why a line with a bare LF, or a bare CR, is refused.
pub(super) const BARE_LINE_FEED: &str = "a line that does not end in CRLF";

/// Why fields are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadFields {
    TooMany,
    Malformed(&'static str),
}

/// Bytes up to and including the first empty line that ends, as does the line before it, in CRLF.
pub(super) fn length(input: &[u8]) -> Option<usize> {
    static END: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));
    END.find(input).map(|end| end + 4)
}

/// The first line of a section, its CRLF included, if it has one.
pub(super) fn first_line(input: &[u8]) -> Option<&[u8]> {
    memchr(b'\n', input).map(|feed| &input[..=feed])
}

/// Whether a line feed without its carriage return stands in a section that has not ended yet.
pub(super) fn has_bare_line_feed(input: &[u8]) -> bool {
    memchr_iter(b'\n', input).any(|feed| !input[..feed].ends_with(b"\r"))
}

/// Adds the fields that stand in `whole` from `start` up to its first empty line, `max` at most. `fields` has loaded `whole`.
pub(super) fn read_fields(fields: &mut Fields, whole: &[u8], mut start: usize, max: usize) -> Result<(), BadFields> {
    loop {
        let line = &whole[start..];
        if line.starts_with(b"\r\n") {
            return Ok(());
        }
        if fields.len() == max {
            return Err(BadFields::TooMany);
        }
        start += read_field(fields, line, start)?;
    }
}

/// Adds the field in the line at the front of `bytes`, which stand at `start`. Answers how long the line is.
#[inline]
fn read_field(fields: &mut Fields, bytes: &[u8], start: usize) -> Result<usize, BadFields> {
    let mut colon = 0;
    while bytes.get(colon).is_some_and(|&byte| is_token_byte(byte)) {
        colon += 1;
    }
    if colon == 0 || bytes.get(colon) != Some(&b':') {
        return Err(BadFields::Malformed("a malformed field name"));
    }
    let known = Known::of(&bytes[..colon]);
    let mut begin = colon + 1;
    while bytes.get(begin).is_some_and(is_blank) {
        begin += 1;
    }
    let mut end = begin + find_control(&bytes[begin..]);
    while bytes.get(end) == Some(&b'\t') {
        end += 1 + find_control(&bytes[end + 1..]);
    }
    let length = match bytes[end..] {
        [b'\r', b'\n', ..] => end + 2,
        [b'\r' | b'\n', ..] => return Err(BadFields::Malformed(BARE_LINE_FEED)),
        _ => return Err(BadFields::Malformed("a malformed field value")),
    };
    if known == Known::TransferEncoding && bytes[colon..end].contains(&b'\t') {
        // A tab is white space (RFC 9110 section 5.6.3), but some servers take it for a part of the value.
        return Err(BadFields::Malformed("transfer-encoding with a tab"));
    }
    while end > begin && is_blank(&bytes[end - 1]) {
        end -= 1;
    }
    let is_line = begin == colon + 2 && bytes[colon + 1] == b' ' && end + 2 == length;
    let (name, value) = (Span::new(start, start + colon), Span::new(start + begin, start + end));
    fields.append_loaded(name, value, known, is_line);
    Ok(length)
}

/// Where the first control stands, or how many bytes there are when there is none.
#[inline]
fn find_control(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    // The compiler makes this a look at all sixteen.
    while let Some(piece) = bytes[at..].first_chunk::<16>()
        && !piece.iter().fold(false, |found, byte| found | byte.is_ascii_control())
    {
        at += 16;
    }
    while let Some(&piece) = bytes[at..].first_chunk::<8>() {
        let piece = u64::from_le_bytes(piece);
        let deletes = piece ^ (0x7f * ONES);
        // The lowest bit of these is right, which is all that is asked for.
        let below = piece.wrapping_sub(u64::from(b' ') * ONES) & !piece;
        let zero = deletes.wrapping_sub(ONES) & !deletes;
        match (below | zero) & HIGHS {
            0 => at += 8,
            found => return at + (found.trailing_zeros() / 8) as usize,
        }
    }
    bytes[at..].iter().position(u8::is_ascii_control).map_or(bytes.len(), |found| at + found)
}

/// RFC 9110 section 5.5, with the tab.
pub(crate) fn is_text_byte(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// RFC 9110 section 5.6.3.
pub(crate) fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// RFC 9110 section 5.6.2.
#[inline]
pub(crate) fn is_token_byte(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let (mut table, mut byte) = ([false; 256], 0);
        while byte < 256 {
            table[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let mut others: &[u8] = b"!#$%&'*+-.^_`|~";
        while let [byte, rest @ ..] = others {
            table[*byte as usize] = true;
            others = rest;
        }
        table
    };
    TOKEN[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Field;

    #[test]
    fn a_section_ends_at_its_first_empty_line() {
        for (input, end) in [
            (&b""[..], None),
            (b"\r\n", None),
            (b"a\r\n\r", None),
            (b"a\n\n", None),
            (b"a\n\r\n", None),
            (b"a\r\n\r\n", Some(5)),
            (b"a\r\nb\r\n\r\n\r\n", Some(8)),
        ] {
            assert_eq!(length(input), end, "for {}", input.escape_ascii());
        }
    }

    #[test]
    fn a_bare_line_feed_is_found_wherever_it_stands() {
        for input in [&b"\n"[..], b"a\n", b"a\r\n\n", b"a\r\nb\nc\r\n", b"a\r\n\r\r\n\n"] {
            assert!(has_bare_line_feed(input), "in {}", input.escape_ascii());
        }
        for input in [&b""[..], b"\r\n", b"a\r\nb\r\n", b"a\r"] {
            assert!(!has_bare_line_feed(input), "in {}", input.escape_ascii());
        }
    }

    /// The fields of a section, with bars between name and value.
    fn read(section: &[u8]) -> Result<Vec<String>, BadFields> {
        let mut fields = Fields::default();
        fields.load(section);
        read_fields(&mut fields, section, 0, 3)?;
        let both = |field: Field<'_>| [field.name, b"|", field.value].concat().escape_ascii().to_string();
        Ok(fields.iter().map(both).collect())
    }

    #[test]
    fn fields_are_read_without_the_white_space_around_their_values() {
        for (section, fields) in [
            (&b"\r\n"[..], &[][..]),
            (b"a: b\r\nc:d\r\n\r\n", &["a|b", "c|d"]),
            (b"a:\t b c\t \r\n\r\n", &["a|b c"]),
            (b"a:\r\nb: \r\nc:\t\r\n\r\n", &["a|", "b|", "c|"]),
            (b"!#$%&'*+-.^_`|~09azAZ: \x80\xff\r\n\r\n", &["!#$%&\\'*+-.^_`|~09azAZ|\\x80\\xff"]),
            (b"a: b: c\r\n\r\n", &["a|b: c"]),
            (b"a: b\tc\r\n\r\nd", &["a|b\\tc"]),
        ] {
            let read = read(section).unwrap_or_else(|bad| panic!("{}: {bad:?}", section.escape_ascii()));
            assert_eq!(read, fields, "for {}", section.escape_ascii());
        }
    }

    #[test]
    fn lines_that_are_no_fields_are_refused() {
        for section in [
            &b"a\r\n\r\n"[..],
            b": b\r\n\r\n",
            b"a : b\r\n\r\n",
            b" a: b\r\n\r\n",
            b"a: b\r\n c\r\n\r\n",
            b"a\x00: b\r\n\r\n",
            b"\xe4: b\r\n\r\n",
            b"a: b\x00\r\n\r\n",
            b"a: b\x7fc\r\n\r\n",
            b"a: b\rc\r\n\r\n",
            b"a: b\r\r\n\r\n",
            b"a: b\nc: d\r\n\r\n",
            b"a:\nc: d\r\n\r\n",
            b"a: b\r\n\n",
            b"a: b\r\n\r\r\n",
            b"transfer-encoding:\tchunked\r\n\r\n",
            b"transfer-encoding: chunked\t\r\n\r\n",
            b"a: b\r\n",
            b"",
        ] {
            assert!(matches!(read(section), Err(BadFields::Malformed(_))), "for {}", section.escape_ascii());
        }
        assert_eq!(read(b"a:\r\nb:\r\nc:\r\n\r\n").map(|fields| fields.len()), Ok(3));
        assert_eq!(read(b"a:\r\nb:\r\nc:\r\nd:\r\n\r\n"), Err(BadFields::TooMany));
    }

    #[test]
    fn the_first_control_is_found_wherever_it_stands() {
        for length in 0..70 {
            let mut bytes: Vec<_> = (0..length).map(|n| [b' ', b'~', 0x80, 0xff, b'a'][n % 5]).collect();
            assert_eq!(find_control(&bytes), length);
            for at in (0..length).rev() {
                bytes[at] = [0, 0x1f, 0x7f, b'\r'][at % 4];
                assert_eq!(find_control(&bytes), at, "of {length}");
            }
        }
    }
}
