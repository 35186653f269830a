//! Reads the extensions of a chunk (RFC 9112 section 7.1.1). They are passed over, so that only their grammar matters.
//!
//! # Why read them at all?
//!
//! A reader that takes any bytes up to the next CRLF and one that takes a bare LF for the end of a line, or a quoted
//! string for something that may hold a line's end, see different chunks.

use crate::http::h1::section::{is_text_byte, is_token_byte};

/// Where in `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    /// Behind a semicolon.
    Start,
    Name,
    /// In white space behind a name.
    NameEnd,
    /// Behind an equals sign.
    Equals,
    Value,
    Quoted,
    /// Behind a backslash in quotes.
    Escaped,
    /// Behind the closing quote.
    Unquoted,
    /// In white space behind a value.
    ValueEnd,
}

impl Extension {
    pub(super) const START: Self = Self::Start;

    /// Reads one byte of the line; `None` when it is out of place.
    pub(super) fn step(self, byte: u8) -> Option<Self> {
        use Extension::{Equals, Escaped, Name, NameEnd, Quoted, Start, Unquoted, Value, ValueEnd};
        Some(match (self, byte) {
            (Quoted, b'"') => Unquoted,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, _) if is_text_byte(byte) => Quoted,
            (Quoted | Escaped, _) => return None,
            (Start, b' ' | b'\t') => Start,
            (Name | NameEnd, b' ' | b'\t') => NameEnd,
            (Equals, b' ' | b'\t') => Equals,
            (Value | Unquoted | ValueEnd, b' ' | b'\t') => ValueEnd,
            (Start | Name, _) if is_token_byte(byte) => Name,
            (Equals | Value, _) if is_token_byte(byte) => Value,
            (Equals, b'"') => Quoted,
            (Name | NameEnd, b'=') => Equals,
            (Name | NameEnd | Value | Unquoted | ValueEnd, b';') => Start,
            _ => return None,
        })
    }

    /// Whether the line may end here; with `padded`, behind white space too.
    pub(super) fn may_end(self, padded: bool) -> bool {
        match self {
            Self::Name | Self::Value | Self::Unquoted => true,
            Self::NameEnd | Self::ValueEnd => padded,
            Self::Start | Self::Equals | Self::Quoted | Self::Escaped => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads what stands behind the first semicolon.
    fn is_whole(text: &[u8]) -> bool {
        let end = text.iter().try_fold(Extension::START, |at, byte| at.step(*byte));
        end.is_some_and(|end| end.may_end(false))
    }

    #[test]
    fn extensions_are_names_and_perhaps_values() {
        for text in ["a", "a=b", " a\t=  b", "a=\"\"", "a=\"b;\\\"c\\\\\"", "a;b;c=d", "a = \"b\" ; c", "!#$=%&'"] {
            assert!(is_whole(text.as_bytes()), "{text}");
        }
        assert!(is_whole(b"a=\"\xe4\""));
        for text in
            ["", " ", ";", "a;", "=b", "a=", "a=b=c", "a b", "a=b c", "a=\"b", "a=\"b\"c", "a=b\"c\"", "a ", "a/"]
        {
            assert!(!is_whole(text.as_bytes()), "{text}");
        }
        for text in [&b"\xe4"[..], b"a\n", b"a=\"\n\"", b"a=\"\\\n\"", b"a\0", b"a=\"\x7f\"", b"a\r"] {
            assert!(!is_whole(text), "{}", text.escape_ascii());
        }
    }
}
