//! Reads the header by which a proxy in front says who connected to it: the PROXY protocol, versions 1 and 2
//! (haproxy.org's `proxy-protocol.txt`, sections 2.1 and 2.2).
//!
//! It stands before the first byte of a connection. Who reads it wrong takes a part of it for a request, or a part of a
//! request for it; so what the specification does not allow ends the connection, and nothing is guessed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Begins a header of version 2.
pub(crate) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Begins a header of version 1.
const NAME: &[u8; 6] = b"PROXY ";
/// Bytes of the longest header of version 1, its CRLF included.
const MAX_TEXT: usize = 107;
/// Bytes of a header of version 2 before its addresses.
const FIXED: usize = 16;
/// Bytes of the longest header of version 2 that is read, certificates and tokens in it included.
const MAX_BINARY: usize = 8 * 1024;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announced {
    /// The connection that the proxy in front accepted.
    Connection { source: SocketAddr, destination: SocketAddr },
    /// Nothing: it is the proxy's own connection, or came over what has no addresses of the internet. The addresses are
    /// those of the connection itself.
    Nobody,
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHeader {
    #[error("no PROXY header")]
    Missing,
    #[error("a PROXY header that is too long")]
    TooLong,
    #[error("a PROXY header with a malformed line")]
    Line,
    #[error("a PROXY header with an unknown version, command or family")]
    Unknown,
    #[error("a PROXY header that is shorter than its addresses")]
    Short,
    #[error("a PROXY header with malformed extensions")]
    Extensions,
    #[error("a PROXY header with a wrong checksum")]
    Checksum,
}

/// Reads a header from the front of `buffer`. `Some((n, _))`: a whole one stands in its first `n` bytes. `None`: more bytes
/// are needed.
///
/// # Errors
///
/// As soon as no more bytes can make it good.
pub(crate) fn parse(buffer: &[u8]) -> Result<Option<(usize, Announced)>, BadHeader> {
    if buffer.starts_with(SIGNATURE) {
        return parse_binary(buffer);
    }
    if buffer.starts_with(NAME) {
        return parse_text(buffer);
    }
    if SIGNATURE.starts_with(buffer) || NAME.starts_with(buffer) { Ok(None) } else { Err(BadHeader::Missing) }
}

fn parse_text(buffer: &[u8]) -> Result<Option<(usize, Announced)>, BadHeader> {
    let line = &buffer[..buffer.len().min(MAX_TEXT)];
    let Some(feed) = memchr::memchr(b'\n', line) else {
        return if line.len() < MAX_TEXT { Ok(None) } else { Err(BadHeader::TooLong) };
    };
    let text = line[NAME.len()..feed].strip_suffix(b"\r").ok_or(BadHeader::Line)?;
    // What follows an unknown protocol is to be ignored, whatever it is.
    if text == b"UNKNOWN" || text.starts_with(b"UNKNOWN ") {
        return Ok(Some((feed + 1, Announced::Nobody)));
    }
    let text = std::str::from_utf8(text).map_err(|_| BadHeader::Line)?;
    let announced = match text.split_once(' ') {
        Some(("TCP4", rest)) => addresses::<Ipv4Addr>(rest),
        Some(("TCP6", rest)) => addresses::<Ipv6Addr>(rest),
        _ => None,
    };
    Ok(Some((feed + 1, announced.ok_or(BadHeader::Line)?)))
}

/// Reads `source destination source-port destination-port`.
fn addresses<A: FromStr + Into<IpAddr>>(text: &str) -> Option<Announced> {
    let mut parts = text.split(' ');
    let mut address = || parts.next()?.parse::<A>().ok().map(Into::into);
    let (source, destination) = (address()?, address()?);
    let mut port = || parts.next().and_then(port);
    let (source_port, destination_port) = (port()?, port()?);
    parts.next().is_none().then_some(Announced::Connection {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

/// Decimal digits without leading zeros.
fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_number)
}

fn parse_binary(buffer: &[u8]) -> Result<Option<(usize, Announced)>, BadHeader> {
    // Version and command: 2, and LOCAL or PROXY.
    let is_local = match buffer.get(12) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(BadHeader::Unknown),
    };
    let Some(&protocol) = buffer.get(13) else { return Ok(None) };
    let (family, transport) = (protocol >> 4, protocol & 0xf);
    if family > 3 || transport > 2 {
        return Err(BadHeader::Unknown);
    }
    let Some(&[high, low]) = buffer.get(14..FIXED) else { return Ok(None) };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_BINARY {
        return Err(BadHeader::TooLong);
    }
    let Some(whole) = buffer.get(..length) else { return Ok(None) };
    if is_local {
        // Its family and all that follows are to be ignored.
        return Ok(Some((length, Announced::Nobody)));
    }
    let rest = &whole[FIXED..];
    let size = match family {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    };
    let Some((addresses, extensions)) = rest.split_at_checked(size) else { return Err(BadHeader::Short) };
    check_extensions(whole, extensions)?;
    let announced = match (protocol, addresses) {
        (0x11, [ips @ .., a, b, c, d]) => <[u8; 8]>::try_from(ips).ok().map(|ips| {
            let [s1, s2, s3, s4, d1, d2, d3, d4] = ips;
            connection([s1, s2, s3, s4], [d1, d2, d3, d4], [*a, *b], [*c, *d])
        }),
        (0x21, [ips @ .., a, b, c, d]) => match ips.split_at_checked(16) {
            Some((source, destination)) => match (<[u8; 16]>::try_from(source), <[u8; 16]>::try_from(destination)) {
                (Ok(source), Ok(destination)) => Some(connection(source, destination, [*a, *b], [*c, *d])),
                _ => None,
            },
            None => None,
        },
        // Datagrams, unix sockets and what is unspecified: there is no address that could be meant.
        _ => None,
    };
    Ok(Some((length, announced.unwrap_or(Announced::Nobody))))
}

fn connection<A: Into<IpAddr>>(source: A, destination: A, source_port: [u8; 2], port: [u8; 2]) -> Announced {
    Announced::Connection {
        source: SocketAddr::new(source.into(), u16::from_be_bytes(source_port)),
        destination: SocketAddr::new(destination.into(), u16::from_be_bytes(port)),
    }
}

/// Walks over the extensions (type, length, value), and compares the checksum if one of them is that (section 2.2.3).
fn check_extensions(whole: &[u8], mut rest: &[u8]) -> Result<(), BadHeader> {
    const CHECKSUM: u8 = 0x03;
    while let [kind, high, low, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((value, next)) = behind.split_at_checked(length) else { return Err(BadHeader::Extensions) };
        if *kind == CHECKSUM {
            let expected = <[u8; 4]>::try_from(value).map_err(|_| BadHeader::Extensions)?;
            let start = whole.len() - behind.len();
            // It is taken with its own bytes being zero.
            let zeroed = [&whole[..start], &[0; 4], &whole[start + 4..]].concat();
            if crc32c(&zeroed) != u32::from_be_bytes(expected) {
                return Err(BadHeader::Checksum);
            }
        }
        rest = next;
    }
    if rest.is_empty() { Ok(()) } else { Err(BadHeader::Extensions) }
}

/// RFC 4960 appendix B.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
    !bytes.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(command: u8, protocol: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short");
        [&SIGNATURE[..], &[command, protocol], &length.to_be_bytes(), rest].concat()
    }

    fn told(source: &str, destination: &str) -> Announced {
        let address = |text: &str| text.parse().expect("an address");
        Announced::Connection { source: address(source), destination: address(destination) }
    }

    const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0x1f, 0x90, 0x01, 0xbb];

    fn v6() -> Vec<u8> {
        let octets = |text: &str| text.parse::<Ipv6Addr>().expect("an address").octets();
        [&octets("2001:db8::1")[..], &octets("::2"), &[0x1f, 0x90, 0x01, 0xbb]].concat()
    }

    #[test]
    fn a_line_tells_who_connected() {
        for (text, announced) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n", told("192.0.2.1:8080", "198.51.100.2:443")),
            (
                "PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n",
                told("255.255.255.255:65535", "255.255.255.255:0"),
            ),
            ("PROXY TCP6 2001:db8::1 ::2 8080 443\r\n", told("[2001:db8::1]:8080", "[::2]:443")),
            ("PROXY UNKNOWN\r\n", Announced::Nobody),
            ("PROXY UNKNOWN ffff:f...f:ffff whatever 65535\r\n", Announced::Nobody),
        ] {
            let bytes = [text.as_bytes(), b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(parse(&bytes), Ok(Some((text.len(), announced))), "{text}");
            for end in 0..text.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{end} bytes of {text}");
            }
        }
    }

    #[test]
    fn the_longest_line_is_read_and_a_longer_one_is_not() {
        let of = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
        assert_eq!(parse(of(MAX_TEXT).as_bytes()), Ok(Some((MAX_TEXT, Announced::Nobody))));
        assert_eq!(parse(of(MAX_TEXT + 1).as_bytes()), Err(BadHeader::TooLong));
        assert_eq!(parse(&[b"PROXY UNKNOWN ", &[b'x'; 1000][..]].concat()), Err(BadHeader::TooLong));
    }

    #[test]
    fn a_line_that_is_not_to_the_letter_is_refused() {
        for (bytes, why) in [
            (&b"GET / HTTP/1.1\r\n"[..], BadHeader::Missing),
            (b"PROXYTCP4", BadHeader::Missing),
            (b"proxy TCP4 192.0.2.1 192.0.2.1 1 1\r\n", BadHeader::Missing),
            (b" PROXY TCP4", BadHeader::Missing),
            (b"\x16\x03\x01", BadHeader::Missing),
            (b"PROXY TCP4 192.0.2.1 192.0.2.1 1 1\n", BadHeader::Line),
            (b"PROXY \r\n", BadHeader::Line),
            (b"PROXY  TCP4 192.0.2.1 192.0.2.1 1 1\r\n", BadHeader::Line),
            (b"PROXY TCP4\r\n", BadHeader::Line),
            (b"PROXY tcp4 192.0.2.1 192.0.2.1 1 1\r\n", BadHeader::Line),
            (b"PROXY TCP5 192.0.2.1 192.0.2.1 1 1\r\n", BadHeader::Line),
            (b"PROXY UNKNOWNX\r\n", BadHeader::Line),
            (b"PROXY TCP4 192.0.2.1 192.0.2.1 1\r\n", BadHeader::Line),
            (b"PROXY TCP4 192.0.2.1 192.0.2.1 1 1 1\r\n", BadHeader::Line),
            (b"PROXY TCP4 192.0.2.1 192.0.2.1 1 1 \r\n", BadHeader::Line),
            (b"PROXY TCP4 192.0.2.1  192.0.2.1 1 1\r\n", BadHeader::Line),
            (b"PROXY TCP4 192.0.2.1\t192.0.2.1 1 1\r\n", BadHeader::Line),
            (b"PROXY TCP4 192.0.2.01 192.0.2.1 1 1\r\n", BadHeader::Line),
            (b"PROXY TCP4 192.0.2 192.0.2.1 1 1\r\n", BadHeader::Line),
            (b"PROXY TCP4 192.0.2.256 192.0.2.1 1 1\r\n", BadHeader::Line),
            (b"PROXY TCP4 ::1 ::1 1 1\r\n", BadHeader::Line),
            (b"PROXY TCP6 192.0.2.1 192.0.2.1 1 1\r\n", BadHeader::Line),
            (b"PROXY TCP6 [::1] [::1] 1 1\r\n", BadHeader::Line),
            (b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n", BadHeader::Line),
            (b"PROXY TCP4 192.0.2.1 192.0.2.1 65536 1\r\n", BadHeader::Line),
            (b"PROXY TCP4 192.0.2.1 192.0.2.1 01 1\r\n", BadHeader::Line),
            (b"PROXY TCP4 192.0.2.1 192.0.2.1 +1 1\r\n", BadHeader::Line),
            (b"PROXY TCP4 192.0.2.1 192.0.2.1 -1 1\r\n", BadHeader::Line),
            (b"PROXY TCP4 192.0.2.1 192.0.2.1 1 \r\n", BadHeader::Line),
            (b"PROXY TCP4 192.0.2.1 192.0.2.1 1 1\0\r\n", BadHeader::Line),
            (b"PROXY TCP4 \xff 192.0.2.1 1 1\r\n", BadHeader::Line),
        ] {
            assert_eq!(parse(bytes), Err(why), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_block_tells_who_connected() {
        let checked = {
            let whole = binary(0x21, 0x11, &[V4, &[3, 0, 4, 0, 0, 0, 0]].concat());
            let sum = crc32c(&whole).to_be_bytes();
            [&whole[..whole.len() - 4], &sum].concat()
        };
        for (name, header, announced) in [
            ("IPv4", binary(0x21, 0x11, V4), told("192.0.2.1:8080", "198.51.100.2:443")),
            ("IPv6", binary(0x21, 0x21, &v6()), told("[2001:db8::1]:8080", "[::2]:443")),
            (
                "an extension",
                binary(0x21, 0x11, &[V4, &[4, 0, 2, 9, 9]].concat()),
                told("192.0.2.1:8080", "198.51.100.2:443"),
            ),
            ("a checksum", checked, told("192.0.2.1:8080", "198.51.100.2:443")),
            ("a unix socket", binary(0x21, 0x31, &[0; 216]), Announced::Nobody),
            ("datagrams", binary(0x21, 0x12, V4), Announced::Nobody),
            ("no family", binary(0x21, 0x00, b""), Announced::Nobody),
            ("its own", binary(0x20, 0x00, b""), Announced::Nobody),
            ("its own, with what is to be ignored", binary(0x20, 0x11, &[1, 2, 3]), Announced::Nobody),
        ] {
            let bytes = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(parse(&bytes), Ok(Some((header.len(), announced))), "{name}");
            for end in 0..header.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{end} bytes of {name}");
            }
        }
    }

    #[test]
    fn a_block_that_is_not_to_the_letter_is_refused() {
        let wrong_sum = binary(0x21, 0x11, &[V4, &[3, 0, 4, 1, 2, 3, 4]].concat());
        for (name, header, why) in [
            ("version 1", binary(0x11, 0x11, V4), BadHeader::Unknown),
            ("version 3", binary(0x31, 0x11, V4), BadHeader::Unknown),
            ("another command", binary(0x22, 0x11, V4), BadHeader::Unknown),
            ("another family", binary(0x21, 0x41, V4), BadHeader::Unknown),
            ("another transport", binary(0x21, 0x13, V4), BadHeader::Unknown),
            ("too short for IPv4", binary(0x21, 0x11, &V4[1..]), BadHeader::Short),
            ("too short for IPv6", binary(0x21, 0x21, V4), BadHeader::Short),
            ("too short for a unix socket", binary(0x21, 0x31, V4), BadHeader::Short),
            ("half an extension", binary(0x21, 0x11, &[V4, &[4, 0]].concat()), BadHeader::Extensions),
            ("an extension beyond the end", binary(0x21, 0x11, &[V4, &[4, 0, 2, 9]].concat()), BadHeader::Extensions),
            ("a checksum of two bytes", binary(0x21, 0x11, &[V4, &[3, 0, 2, 0, 0]].concat()), BadHeader::Extensions),
            ("a wrong checksum", wrong_sum, BadHeader::Checksum),
            ("far too long", binary(0x21, 0x11, &[0; 60_000]), BadHeader::TooLong),
        ] {
            assert_eq!(parse(&header), Err(why), "{name}");
        }
        assert_eq!(parse(b"\r\n\r\n\0\r\nQUIX"), Err(BadHeader::Missing));
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720 appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }
}
