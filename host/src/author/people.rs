//! Requests of made-up people: whoever has the same number sends the same request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::http::facts::Exchange;
use crate::upstream::balancer::KeySource;
use crate::upstream::key;

/// The first of those whose requests are odd: nothing in them that a key may come from but the path and the host, or
/// nothing where there should be something, or bytes that are no text.
const ODD: u64 = u64::MAX - 3;

/// An odd person, of four.
pub(super) fn odd(which: u64) -> u64 {
    ODD + which % 4
}

/// What is odd about somebody.
pub(super) fn said(who: u64) -> String {
    match who.checked_sub(ODD) {
        None => format!("client {who}"),
        Some(0) => "a client on a unix socket, without a header, cookie or query,".to_owned(),
        Some(1) => "a client whose headers, cookies and query are empty".to_owned(),
        Some(2) => "a client whose headers are no text".to_owned(),
        Some(_) => "a client with an IPv6 address".to_owned(),
    }
}

/// Makes `exchange` the request of one person, with everything in it that a balancing key may come from.
pub(super) fn ask(exchange: &mut Exchange, who: u64, sources: &[KeySource]) {
    let [.., a, b, c, d] = who.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let (bare, empty, garbled) = (who == ODD, who == ODD + 1, who == ODD + 2);
    let client = match who.checked_sub(ODD) {
        Some(0) => None,
        Some(3) => Some(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7))),
        _ => Some(IpAddr::V4(Ipv4Addr::new(a.clamp(1, 223), b, c, d))),
    };
    exchange.reset(client, false);
    let value = if empty { String::new() } else { format!("{who:x}") };
    let named = if bare { &[] } else { sources };
    let mut query = String::new();
    for source in named {
        if let KeySource::Query(name) = source {
            query += &format!("{}{name}={value}", if query.is_empty() { '?' } else { '&' });
        }
    }
    let request = &mut exchange.request;
    request.set_method("GET");
    request.set_authority(&format!("h{who:x}.test"));
    request.set_path_and_query(&format!("/{who:x}{query}"));
    for source in named {
        match source {
            KeySource::Header(name) if name == "host" => {}
            KeySource::Header(name) if garbled => request.fields.append(name.as_bytes(), b"\xff\xfe\x80"),
            KeySource::Header(name) => request.fields.append(name.as_bytes(), value.as_bytes()),
            KeySource::Cookie(name) => request.fields.append(b"cookie", format!("{name}={value}").as_bytes()),
            _ => {}
        }
    }
    request.fields.set(b"host", format!("h{who:x}.test").as_bytes());
    request.mark_received();
    (exchange.route, exchange.upstream) = ("check".into(), "check".into());
}

/// Leaves the balancing key in the exchange, and answers its hash.
pub(super) fn read_key(exchange: &mut Exchange, sources: &[KeySource]) -> Option<u64> {
    let mut bytes = Vec::new();
    exchange.key = (!sources.is_empty() && key::read(sources, exchange, &mut bytes)).then_some(bytes);
    exchange.key.as_deref().map(key::hash)
}
