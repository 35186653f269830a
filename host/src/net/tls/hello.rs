//! A look at the first bytes a client sends, before anybody answers them.
//!
//! # Why look at all?
//!
//! A client of TLS 1.1 or older is refused by rustls for what it does not say, with an alert that tells nothing. It is to
//! hear that its version is not spoken (`protocol_version`, RFC 5246 appendix E.1, RFC 8446 section 6.2). And one that speaks
//! plain HTTP is to get words it can read.

/// What a client's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// A request of plain HTTP.
    Plain,
    /// TLS 1.1 or older, and nothing newer.
    Old,
    /// Whatever else; it is answered as TLS has it.
    Other,
}

/// Bytes that are looked at: a whole hello of any client that is as old as this matters for.
pub(crate) const LOOKED_AT: usize = 1024;
/// A record of TLS 1.0 with the fatal alert `protocol_version`.
pub(crate) const TOO_OLD: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SUPPORTED_VERSIONS: u16 = 43;
const TLS12: u16 = 0x0303;

impl Hello {
    /// Of the bytes that have come so far.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match bytes.first() {
            // What begins like a method is no record of TLS.
            Some(b'A'..=b'Z') => Self::Plain,
            Some(&HANDSHAKE) if is_old(bytes) == Some(true) => Self::Old,
            _ => Self::Other,
        }
    }
}

/// Whether a hello names no version from TLS 1.2 on; `None` for what is not a whole one (RFC 8446 section 4.1.2).
fn is_old(bytes: &[u8]) -> Option<bool> {
    let mut record = Cursor(bytes);
    record.take(3)?;
    let length = record.number(2)?;
    let mut message = Cursor(record.take(length)?);
    if message.number(1)? != usize::from(CLIENT_HELLO) {
        return None;
    }
    let length = message.number(3)?;
    let mut hello = Cursor(message.take(length)?);
    if hello.number(2)? >= usize::from(TLS12) {
        return Some(false);
    }
    hello.take(32)?;
    for length_bytes in [1, 2, 1] {
        let length = hello.number(length_bytes)?;
        hello.take(length)?;
    }
    if hello.0.is_empty() {
        return Some(true);
    }
    let length = hello.number(2)?;
    let mut extensions = Cursor(hello.take(length)?);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let length = extensions.number(2)?;
        extensions.take(length)?;
        if kind == usize::from(SUPPORTED_VERSIONS) {
            return Some(false);
        }
    }
    Some(true)
}

struct Cursor<'b>(&'b [u8]);

impl<'b> Cursor<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes, the highest first.
    fn number(&mut self, length: usize) -> Option<usize> {
        self.take(length).map(|bytes| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(version: u16, extensions: Option<&[u8]>) -> Vec<u8> {
        let mut hello = version.to_be_bytes().to_vec();
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
        if let Some(extensions) = extensions {
            hello.extend((extensions.len() as u16).to_be_bytes());
            hello.extend(extensions);
        }
        let mut message = vec![1, 0, 0, hello.len() as u8];
        message.extend(hello);
        let mut record = vec![22, 3, 1, 0, message.len() as u8];
        record.extend(message);
        record
    }

    #[test]
    fn a_client_is_old_that_names_no_version_of_today() {
        let versions: &[u8] = &[0, 43, 0, 3, 2, 3, 4];
        let others: &[u8] = &[0, 23, 0, 0, 0, 10, 0, 4, 0, 2, 0, 29];
        for (bytes, expected) in [
            (hello(0x0301, None), Hello::Old),
            (hello(0x0302, Some(others)), Hello::Old),
            (hello(0x0300, Some(&[])), Hello::Old),
            (hello(0x0303, Some(others)), Hello::Other),
            (hello(0x0303, None), Hello::Other),
            (hello(0x0301, Some(versions)), Hello::Other),
            (hello(0x0304, Some(versions)), Hello::Other),
            (b"GET / HTTP/1.1\r\n".to_vec(), Hello::Plain),
            (b"\x80\x2e\x01\x03\x01".to_vec(), Hello::Other),
            (Vec::new(), Hello::Other),
        ] {
            assert_eq!(Hello::of(&bytes), expected, "for {bytes:02x?}");
        }
    }

    #[test]
    fn what_is_not_whole_or_not_right_is_left_to_others() {
        let whole = hello(0x0301, Some(&[0, 23, 0, 0]));
        for length in 0..whole.len() {
            assert_eq!(Hello::of(&whole[..length]), Hello::Other, "for {length} bytes");
        }
        for extensions in [&[0, 23, 0, 9][..], &[0], &[0, 23, 0]] {
            assert_eq!(Hello::of(&hello(0x0301, Some(extensions))), Hello::Other, "for {extensions:?}");
        }
    }
}
