//! The header of a proxy in front.

use std::net::SocketAddr;

use crate::fuzz::cuts;
use crate::net::proxy_header::{Announced, parse};

/// A header reads the same however it comes, never reaches beyond itself, and survives being written and read again.
pub fn proxy_header(input: &[u8]) {
    let whole = parse(input);
    for cut in cuts(input.len()) {
        match (parse(&input[..cut]), whole) {
            (Ok(Some(early)), Ok(Some(header))) if early == header && cut >= header.0 => {}
            (Ok(None), Ok(Some((length, _)))) if cut < length => {}
            (Ok(None) | Err(_), Err(_)) | (Ok(None), Ok(None)) => {}
            (part, whole) => panic!("{part:?} of {cut} bytes, and then {whole:?}"),
        }
    }
    let Ok(Some((length, announced))) = whole else { return };
    assert!(length <= input.len());
    assert_eq!(parse(&input[..length]), whole, "what follows plays no part");
    if let Announced::Connection { source, destination } = announced {
        let line = line(source, destination);
        assert_eq!(parse(line.as_bytes()), Ok(Some((line.len(), announced))), "{line}");
    }
}

fn line(source: SocketAddr, destination: SocketAddr) -> String {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.port(), destination.port());
    format!("PROXY {family} {} {} {from} {to}\r\n", source.ip(), destination.ip())
}
