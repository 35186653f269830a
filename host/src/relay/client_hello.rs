//! Reads the name that a client's TLS asks for, out of what it sends first (RFC 8446 section 4.1.2, RFC 6066 section 3).
//!
//! Nothing is decrypted and nothing is changed: who owns the certificate shakes hands itself. What is not understood to the
//! last byte is no ClientHello, as who comes behind might read another name in it.

/// Bytes of the longest ClientHello that is read, records' heads aside. Those with keys and tickets of a new kind have 2 to
/// 4 KiB.
const MAX_HELLO: usize = 16 * 1024;
/// Bytes of a record's head: type, version, length.
const RECORD: usize = 5;
/// Bytes of a message's head: type and length.
const MESSAGE: usize = 4;
/// The longest fragment of a message (RFC 8446 section 5.1).
const MAX_FRAGMENT: usize = 1 << 14;

/// What the front of a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// More bytes are needed.
    Partial,
    /// A whole ClientHello, with the name it asks for in lower case, if it does.
    Tls(Option<String>),
    /// Something else.
    Other(NotHello),
}

/// Why the front of a connection is no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotHello {
    #[error("it does not begin with a TLS record of a handshake")]
    NotTls,
    #[error("a ClientHello that is malformed")]
    Malformed,
    #[error("a ClientHello that is too long")]
    TooLong,
}

/// Looks at the bytes that have come so far.
pub(super) fn parse(received: &[u8]) -> Hello {
    match reassemble(received) {
        Ok(None) => Hello::Partial,
        Ok(Some(hello)) => match server_name(&hello) {
            Ok(name) => Hello::Tls(name),
            Err(why) => Hello::Other(why),
        },
        Err(why) => Hello::Other(why),
    }
}

/// The body of the first message, out of as many records as it was cut into.
fn reassemble(mut rest: &[u8]) -> Result<Option<Vec<u8>>, NotHello> {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    let mut message: Vec<u8> = Vec::new();
    loop {
        if let &[kind, a, b, c, ..] = &*message {
            if kind != CLIENT_HELLO {
                return Err(NotHello::NotTls);
            }
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if length > MAX_HELLO {
                return Err(NotHello::TooLong);
            }
            if let Some(body) = message.get(MESSAGE..MESSAGE + length) {
                return Ok(Some(body.to_vec()));
            }
        }
        // Every version of TLS since SSL 3 has 3 here.
        match rest {
            [kind, ..] if *kind != HANDSHAKE => return Err(NotHello::NotTls),
            [_, major, ..] if *major != 3 => return Err(NotHello::NotTls),
            _ => {}
        }
        let [_, _, _, high, low, behind @ ..] = rest else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > MAX_FRAGMENT {
            return Err(NotHello::Malformed);
        }
        match behind.split_at_checked(length) {
            Some((fragment, next)) => {
                message.extend_from_slice(fragment);
                rest = next;
            }
            // What is wrong with the beginning of a fragment need not wait for its end.
            None => match (message.is_empty(), behind.first()) {
                (true, Some(&kind)) if kind != CLIENT_HELLO => return Err(NotHello::NotTls),
                _ => return Ok(None),
            },
        }
    }
}

/// Bytes that a whole ClientHello may need, its records' heads included: one of a single byte each would be absurd.
pub(super) const MOST: usize = MAX_HELLO + MESSAGE + 256 * RECORD;

/// The name in a ClientHello's body.
fn server_name(hello: &[u8]) -> Result<Option<String>, NotHello> {
    const SERVER_NAME: u16 = 0;
    let mut hello = Bytes(hello);
    // Version and random.
    hello.take(2 + 32)?;
    let session = hello.vector8()?;
    let suites = hello.vector16()?;
    let compressions = hello.vector8()?;
    if session.0.len() > 32 || suites.0.is_empty() || suites.0.len() % 2 != 0 || compressions.0.is_empty() {
        return Err(NotHello::Malformed);
    }
    if hello.0.is_empty() {
        // TLS 1.2 and before need no extensions.
        return Ok(None);
    }
    let mut extensions = hello.vector16()?;
    if !hello.0.is_empty() {
        return Err(NotHello::Malformed);
    }
    let mut name = None;
    let mut asked = false;
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let mut extension = extensions.vector16()?;
        if kind != SERVER_NAME {
            continue;
        }
        // RFC 8446 section 4.2: no extension comes twice.
        if std::mem::replace(&mut asked, true) {
            return Err(NotHello::Malformed);
        }
        name = Some(read_names(&mut extension)?);
    }
    Ok(name)
}

/// One name of the only type there is.
fn read_names(extension: &mut Bytes<'_>) -> Result<String, NotHello> {
    const HOST_NAME: u8 = 0;
    let mut names = extension.vector16()?;
    let kind = names.take(1)?;
    let name = names.vector16()?;
    let is_whole = extension.0.is_empty() && names.0.is_empty() && kind == [HOST_NAME];
    let is_name = !name.0.is_empty()
        && name.0.len() <= 253
        && name.0.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    match std::str::from_utf8(name.0) {
        // Some send the dot of the root, which RFC 6066 forbids; the name is the same.
        Ok(text) if is_whole && is_name => Ok(text.trim_end_matches('.').to_ascii_lowercase()),
        _ => Err(NotHello::Malformed),
    }
}

/// Bytes that are taken from the front.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], NotHello> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(NotHello::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16, NotHello> {
        match self.take(2)? {
            &[high, low] => Ok(u16::from_be_bytes([high, low])),
            _ => Err(NotHello::Malformed),
        }
    }

    /// What has its length in one byte before it.
    fn vector8(&mut self) -> Result<Self, NotHello> {
        let length = self.take(1)?.first().copied().unwrap_or_default();
        self.take(usize::from(length)).map(Self)
    }

    /// What has its length in two bytes before it.
    fn vector16(&mut self) -> Result<Self, NotHello> {
        let length = self.number()?;
        self.take(usize::from(length)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    /// What rustls says first to a server of this name.
    fn hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same message in records of so many bytes.
    fn cut(hello: &[u8], size: usize) -> Vec<u8> {
        let message = &hello[RECORD..];
        let record = |part: &[u8]| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[22, 3, 1, length[0], length[1]], part].concat()
        };
        message.chunks(size).flat_map(record).collect()
    }

    #[test]
    fn the_name_is_found_wherever_the_message_is_cut() {
        let whole = hello("DB.example.com");

        for bytes in [whole.clone(), cut(&whole, 100), cut(&whole, 7)] {
            assert_eq!(parse(&bytes), Hello::Tls(Some("db.example.com".to_owned())));
            for length in 0..bytes.len() {
                assert_eq!(parse(&bytes[..length]), Hello::Partial, "{length} bytes");
            }
        }
    }

    #[test]
    fn a_hello_without_a_name_is_one() {
        assert_eq!(parse(&hello("192.0.2.1")), Hello::Tls(None));
    }

    #[test]
    fn what_is_no_hello_is_known_from_its_first_bytes() {
        let long = [22, 3, 1, 64, 0, 1, 1, 0, 0].into_iter().chain([0; 20_000]).collect::<Vec<_>>();
        for (bytes, why) in [
            (&b"G"[..], NotHello::NotTls),
            (b"\x16\x02", NotHello::NotTls),
            (b"\x16\x03\x01\0\x05\x02", NotHello::NotTls),
            (b"\x16\x03\x01\0\0", NotHello::Malformed),
            (b"\x16\x03\x01\xff\xff", NotHello::Malformed),
            (b"\x16\x03\x01\0\x04\x01\0\0\0", NotHello::Malformed),
            (&long, NotHello::TooLong),
        ] {
            assert_eq!(parse(bytes), Hello::Other(why), "{}", bytes[..bytes.len().min(9)].escape_ascii());
        }
    }

    #[test]
    fn a_name_that_could_be_read_otherwise_is_none() {
        let whole = hello("db.example.com");
        let at = whole.windows(14).position(|window| window == b"db.example.com").unwrap();

        for (place, byte) in [(at, 0), (at + 1, b' '), (at - 1, 13), (at - 3, 1), (at - 5, 99)] {
            let mut bytes = whole.clone();
            bytes[place] = byte;
            assert_eq!(parse(&bytes), Hello::Other(NotHello::Malformed), "byte {byte} at {place}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(place in 0usize..600, bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut whole = hello("db.example.com");
            let place = place.min(whole.len());
            let end = (place + bytes.len()).min(whole.len());
            whole.splice(place..end, bytes.iter().copied());
            parse(&whole);
            parse(&bytes);
        }
    }
}
