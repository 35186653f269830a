//! Requests of made-up people: whoever has the same number sends the same request.

use std::net::{IpAddr, Ipv4Addr};

use crate::http::facts::Exchange;
use crate::upstream::balancer::KeySource;
use crate::upstream::key;

/// Makes `exchange` the request of one person, with everything in it that a balancing key may come from.
pub(super) fn ask(exchange: &mut Exchange, who: u64, sources: &[KeySource]) {
    let [.., a, b, c, d] = who.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    exchange.reset(Some(IpAddr::V4(Ipv4Addr::new(a.clamp(1, 223), b, c, d))), false);
    let mut query = String::new();
    for source in sources {
        if let KeySource::Query(name) = source {
            query += &format!("{}{name}={who:x}", if query.is_empty() { '?' } else { '&' });
        }
    }
    let request = &mut exchange.request;
    request.set_method("GET");
    request.set_authority(&format!("h{who:x}.test"));
    request.set_path_and_query(&format!("/{who:x}{query}"));
    for source in sources {
        match source {
            KeySource::Header(name) if name == "host" => {}
            KeySource::Header(name) => request.fields.append(name.as_bytes(), format!("{who:x}").as_bytes()),
            KeySource::Cookie(name) => request.fields.append(b"cookie", format!("{name}={who:x}").as_bytes()),
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
