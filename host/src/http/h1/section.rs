//! Finds where a head ends, and refuses lines that do not end in CRLF.
//!
//! `httparse` takes a bare LF for the end of a line and starts anew each time more bytes come. So the end is looked
//! for first, with a search that costs less than the read that brought the bytes, however few they were; and the
//! parser's fields are loaded only if each of them stands behind a CRLF. A CR without its LF the parser refuses itself.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter};

use crate::http::head::{Fields, Known, Span};

/// Why a line with a bare LF, or a bare CR, is refused.
pub(super) const BARE_LINE_FEED: &str = "a line that does not end in CRLF";

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

/// Adds parsed fields, which are slices of `whole`, to a head that has loaded `whole`.
pub(super) fn load_fields(
    fields: &mut Fields,
    whole: &[u8],
    parsed: &[httparse::Header<'_>],
) -> Result<(), &'static str> {
    for field in parsed {
        let known = Known::of(field.name.as_bytes());
        let (name, value) = (Span::locate(whole, field.name.as_bytes()), Span::locate(whole, field.value));
        let before = name.before(whole);
        if !before.ends_with(b"\r\n") && !before.is_empty() {
            return Err(BARE_LINE_FEED);
        }
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

    #[test]
    fn fields_are_loaded_only_from_lines_that_end_in_crlf() {
        for (whole, loaded) in
            [(&b"a: b\r\nc: d\r\n\r\n"[..], true), (b"a: b\nc: d\r\n\r\n", false), (b"a:\nc: d\r\n\r\n", false)]
        {
            let mut space = [httparse::EMPTY_HEADER; 4];
            let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(whole, &mut space) else {
                panic!("the parser takes {}", whole.escape_ascii());
            };
            let mut fields = Fields::default();
            fields.load(whole);
            assert_eq!(load_fields(&mut fields, whole, parsed).is_ok(), loaded, "for {}", whole.escape_ascii());
        }
    }
}
