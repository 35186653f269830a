//! Finds where a section of lines ends, and refuses lines that do not end in CRLF.
//!
//! # Why before the parser?
//!
//! `httparse` takes a bare LF for the end of a line and starts anew each time more bytes come. One `memchr` pass
//! settles both: the parser only ever sees a whole section in which each LF follows a CR, and it refuses each CR
//! that no LF follows. The pass itself costs less than the read that brought the bytes, however few they were.

use memchr::memchr_iter;

use crate::http::head::{Fields, Known, Span};

/// What stands at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// Everything up to and including the first empty line.
    Whole {
        /// Bytes, the empty line included.
        length: usize,
        /// Bytes of the first line, its CRLF included.
        first_line: usize,
        /// Lines between the first and the empty one.
        fields: usize,
    },
    /// The empty line is still to come. The first line's length, if that has ended.
    Partial { first_line: Option<usize> },
}

/// A line feed that no carriage return precedes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BareLineFeed;

pub(super) fn find(input: &[u8]) -> Result<Section, BareLineFeed> {
    let (mut start, mut first_line, mut lines) = (0, None, 0usize);
    for feed in memchr_iter(b'\n', input) {
        match feed - start {
            0 => return Err(BareLineFeed),
            _ if input[feed - 1] != b'\r' => return Err(BareLineFeed),
            1 => {
                return Ok(Section::Whole {
                    length: feed + 1,
                    first_line: first_line.unwrap_or(feed + 1),
                    fields: lines.saturating_sub(1),
                });
            }
            _ => lines += 1,
        }
        start = feed + 1;
        first_line.get_or_insert(start);
    }
    Ok(Section::Partial { first_line })
}

/// Adds parsed fields, which are slices of `whole`, to a head that has loaded `whole`.
pub(super) fn load_fields(
    fields: &mut Fields,
    whole: &[u8],
    parsed: &[httparse::Header<'_>],
) -> Result<(), &'static str> {
    for field in parsed {
        let known = Known::of(field.name.as_bytes());
        let (name, value) = (Span::locate(whole, field.name.as_bytes()), Span::locate(whole, field.value));
        if known == Known::TransferEncoding
            && name.behind(whole).iter().take_while(|&&b| b != b'\r').any(|&b| b == b'\t')
        {
            // A tab is white space (RFC 9110 section 5.6.3), but some servers take it for a part of the value.
            return Err("transfer-encoding with a tab");
        }
        fields.append_loaded(name, value, known);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_at_its_first_empty_line() {
        for (input, section) in [
            (&b""[..], Section::Partial { first_line: None }),
            (b"a\r", Section::Partial { first_line: None }),
            (b"a\r\n\r", Section::Partial { first_line: Some(3) }),
            (b"a\r\n\r\n", Section::Whole { length: 5, first_line: 3, fields: 0 }),
            (b"a\r\nb\r\n\r\n\r\n", Section::Whole { length: 8, first_line: 3, fields: 1 }),
            (b"\r\n", Section::Whole { length: 2, first_line: 2, fields: 0 }),
        ] {
            assert_eq!(find(input), Ok(section), "for {}", input.escape_ascii());
        }
    }

    #[test]
    fn a_bare_line_feed_is_found_wherever_it_stands() {
        for input in [&b"\n"[..], b"a\n", b"a\r\n\n", b"a\r\nb\n\r\n\r\n", b"a\r\n\r\r\n\n"] {
            assert_eq!(find(input), Err(BareLineFeed), "for {}", input.escape_ascii());
        }
    }
}
