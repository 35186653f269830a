//! Writes the header by which we say who connected to us: the PROXY protocol, versions 1 and 2 (haproxy.org's
//! `proxy-protocol.txt`, sections 2.1 and 2.2).

use std::net::{IpAddr, SocketAddr};

use crate::config::ProxyVersion;
use crate::net::proxy_header::SIGNATURE;

/// Says that a client at `source` has connected to us at `destination`; or, where one of both has no address, that there
/// is a client of which no more is known.
pub(crate) fn client(version: ProxyVersion, source: Option<SocketAddr>, destination: Option<SocketAddr>) -> Vec<u8> {
    let addresses = source.zip(destination).map(|(source, destination)| alike(source, destination));
    match (version, addresses) {
        (ProxyVersion::V1, None) => UNKNOWN.to_vec(),
        (ProxyVersion::V1, Some((source, destination))) => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
        }
        (ProxyVersion::V2, None) => binary(PROXY, 0x00, &[]),
        (ProxyVersion::V2, Some((source, destination))) => {
            let mut addresses = Vec::with_capacity(36);
            for ip in [source.ip(), destination.ip()] {
                match ip {
                    IpAddr::V4(ip) => addresses.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => addresses.extend_from_slice(&ip.octets()),
                }
            }
            addresses.extend_from_slice(&source.port().to_be_bytes());
            addresses.extend_from_slice(&destination.port().to_be_bytes());
            binary(PROXY, if source.is_ipv4() { 0x11 } else { 0x21 }, &addresses)
        }
    }
}

/// Says that a connection is our own, such as a health check's.
pub(crate) fn ourselves(version: ProxyVersion) -> Vec<u8> {
    match version {
        ProxyVersion::V1 => UNKNOWN.to_vec(),
        ProxyVersion::V2 => binary(LOCAL, 0x00, &[]),
    }
}

const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
/// Version 2 and a command.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

fn binary(command: u8, protocol: u8, addresses: &[u8]) -> Vec<u8> {
    let length = u8::try_from(addresses.len()).expect("36 bytes at most");
    [&SIGNATURE[..], &[command, protocol, 0, length], addresses].concat()
}

/// Both as addresses of one family: IPv4 as such, unless only one of them is.
fn alike(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let [one, other] = [source, destination].map(|address| address.ip().to_canonical());
    let within = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let (one, other) = match one.is_ipv4() == other.is_ipv4() {
        true => (one, other),
        false => (IpAddr::from(within(one)), IpAddr::from(within(other))),
    };
    (SocketAddr::new(one, source.port()), SocketAddr::new(other, destination.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::proxy_header::{Announced, parse};

    #[test]
    fn what_is_written_is_what_is_read() {
        let cases = [
            ("192.0.2.7:4711", "198.51.100.1:443", "192.0.2.7:4711", "198.51.100.1:443"),
            ("[2001:db8::7]:1", "[2001:db8::1]:65535", "[2001:db8::7]:1", "[2001:db8::1]:65535"),
            // A socket that takes both families tells IPv4 within IPv6.
            ("[::ffff:192.0.2.7]:1", "[::ffff:192.0.2.1]:2", "192.0.2.7:1", "192.0.2.1:2"),
            ("192.0.2.7:1", "[2001:db8::1]:2", "[::ffff:192.0.2.7]:1", "[2001:db8::1]:2"),
        ];
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            for (source, destination, read_source, read_destination) in cases {
                let header = client(version, source.parse().ok(), destination.parse().ok());

                let expected = Announced::Connection {
                    source: read_source.parse().unwrap(),
                    destination: read_destination.parse().unwrap(),
                };
                assert_eq!(parse(&header), Ok(Some((header.len(), expected))), "{version:?} {source}");
            }
            for header in [client(version, None, None), ourselves(version)] {
                assert_eq!(parse(&header), Ok(Some((header.len(), Announced::Nobody))));
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let (source, destination) = ("192.0.2.7:4711".parse().ok(), "192.0.2.1:443".parse().ok());

        assert_eq!(
            client(ProxyVersion::V1, source, destination).escape_ascii().to_string(),
            "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\\r\\n"
        );
        assert_eq!(
            client(ProxyVersion::V2, source, destination),
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x01\x12\x67\x01\xbb"
        );
    }
}
