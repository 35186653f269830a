//! Who the client is, when others pass requests on for it, and telling that to the endpoint.
//!
//! Without `trusted_proxies` nobody is believed: the client is whoever connected, its address is appended to what came
//! (as nginx's `$proxy_add_x_forwarded_for`, HAProxy and Envoy do), and scheme and host are what this proxy saw. With
//! it, a trusted proxy's word makes the client, its scheme and the way it came, and what anybody else claims is dropped
//! before a route, a plugin or an endpoint sees it. What stands before the client in a trusted proxy's list came from
//! the client, and goes too.
//!
//! `host` is passed on unchanged, and is what routes match. Rewriters run later and see, change or remove all of it.

mod rfc7239;
mod walk;

use std::io::Write;
use std::net::IpAddr;

use crate::config::{self, TrustedProxies};
use crate::http::facts::Facts;
use crate::http::h1;
use crate::http::head::{Field, Known, RequestHead};

/// The trusted proxy that brought a request, and what it told.
#[derive(Debug)]
pub(crate) struct Via {
    /// Its address; `None` on a unix socket.
    peer: Option<IpAddr>,
    /// Whether it came over TLS.
    secure: bool,
    /// The client and the trusted proxies behind it, up to the one that told the peer; empty when it told of nobody.
    hops: Vec<IpAddr>,
    /// The same as it stood in `forwarded`, if it did.
    elements: Option<Vec<u8>>,
}

/// Finds out who the client is, before anything is decided about its request.
pub(crate) fn identify(server: &config::Server, facts: &mut Facts) {
    let Some(trusted) = &server.trusted_proxies else { return };
    if trusted.trusts(facts.client) {
        believe(server, trusted, facts);
    } else {
        facts.request.fields.retain(|field| !is_claim(field));
    }
}

fn believe(server: &config::Server, trusted: &TrustedProxies, facts: &mut Facts) {
    let told = walk::walk(&facts.request.fields, server.trusted_header, trusted);
    let (peer, secure) = (facts.client, facts.secure);
    facts.client = told.hops.first().copied().or(peer);
    facts.secure = told.secure.unwrap_or(secure);
    facts.via = Some(Via { peer, secure, hops: told.hops, elements: told.elements });
}

/// Whether a field tells of the client, and so is its own claim when it comes from whom nobody trusts. To servers that
/// hand fields on as variables (RFC 3875 section 4.1.18) an underscore is a hyphen.
fn is_claim(field: Field<'_>) -> bool {
    let begins = |prefix: &[u8]| {
        let same =
            |(byte, expected): (&u8, &u8)| byte.eq_ignore_ascii_case(expected) || (*byte == b'_' && *expected == b'-');
        field.name.len() >= prefix.len() && field.name.iter().zip(prefix).all(same)
    };
    match field.known {
        Known::Forwarded | Known::XForwardedFor | Known::XForwardedHost | Known::XForwardedProto => true,
        Known::Other => begins(b"x-forwarded-") || (field.name.len() == 9 && begins(b"x-real-ip")),
        _ => false,
    }
}

/// Tells the endpoint, in the fields the configuration wants.
pub(crate) fn describe(server: &config::Server, facts: &mut Facts) {
    let is_judged = server.trusted_proxies.is_some();
    let (x_forwarded, rfc7239) = match server.forwarded {
        config::Forwarded::XForwarded => (true, false),
        config::Forwarded::Rfc7239 => (false, true),
        config::Forwarded::Both => (true, true),
        config::Forwarded::None => return,
    };
    // First, as it reads what the other writes.
    let elements = rfc7239.then(|| elements(facts));
    if x_forwarded {
        describe_x_forwarded(facts, is_judged);
    } else {
        let gone = [Known::XForwardedFor, Known::XForwardedProto, Known::XForwardedHost];
        facts.request.fields.retain(|field| !gone.contains(&field.known));
    }
    match elements {
        Some(elements) => facts.request.fields.set(b"forwarded", &elements),
        // It lacks what the others say now, and would be believed beside them.
        None if is_judged && facts.request.fields.known(Known::Forwarded).is_some() => {
            facts.request.fields.remove(b"forwarded");
        }
        None => {}
    }
}

fn describe_x_forwarded(facts: &mut Facts, is_judged: bool) {
    let scheme = facts.scheme();
    let Facts { request, client, via, .. } = facts;
    let peer = via.as_ref().map_or(*client, |via| via.peer);
    match (&*via, peer) {
        // Nearly always.
        (None, Some(peer)) if request.fields.known(Known::XForwardedFor).is_none() => {
            request.fields.append_written(b"x-forwarded-for", |out| put_address(out, peer));
        }
        (_, None) if !is_judged => {}
        _ => {
            let chain = chain(request, via.as_ref(), peer);
            if chain.is_empty() {
                request.fields.remove(b"x-forwarded-for");
            } else {
                request.fields.set(b"x-forwarded-for", &chain);
            }
        }
    }
    let is_told = via.is_some() && request.fields.known(Known::XForwardedHost).is_some();
    request.fields.set(b"x-forwarded-proto", scheme.as_bytes());
    if is_told {
        return;
    }
    if request.authority_bytes().is_empty() {
        request.fields.remove(b"x-forwarded-host");
    } else {
        request.append_authority(Known::XForwardedHost, b"x-forwarded-host");
    }
}

/// All that a request came by, the peer last.
fn chain(request: &RequestHead, via: Option<&Via>, peer: Option<IpAddr>) -> Vec<u8> {
    let mut chain = Vec::new();
    match via {
        Some(via) => via.hops.iter().for_each(|hop| append(&mut chain, format_args!("{hop}"))),
        None => {
            for earlier in request.fields.all_known(Known::XForwardedFor).filter(|value| !value.is_empty()) {
                append(&mut chain, format_args!(""));
                chain.extend_from_slice(earlier);
            }
        }
    }
    if let Some(peer) = peer {
        append(&mut chain, format_args!("{peer}"));
    }
    chain
}

/// Writes an address. What a request would spend on the formatter of the standard library shows in a profile.
fn put_address(out: &mut Vec<u8>, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        return write!(out, "{address}").expect("a vector takes all that is written");
    };
    for (n, octet) in address.octets().into_iter().enumerate() {
        if n > 0 {
            out.push(b'.');
        }
        h1::put_decimal(out, octet.into());
    }
}

/// The value of `forwarded`: what was told, and this proxy's own element behind it.
fn elements(facts: &Facts) -> Vec<u8> {
    let fields = &facts.request.fields;
    let mut out = Vec::with_capacity(96);
    let mut own_scheme = facts.scheme();
    let mut peer = facts.client;
    match &facts.via {
        Some(Via { peer: proxy, secure, hops, elements }) => {
            peer = *proxy;
            if !hops.is_empty() {
                own_scheme = if *secure { "https" } else { "http" };
            }
            match elements {
                Some(elements) => out.extend_from_slice(elements),
                None => {
                    // Only of the first is known what it came with.
                    let mut scheme = Some(facts.scheme());
                    let mut host = fields.known(Known::XForwardedHost);
                    for hop in hops {
                        rfc7239::append(&mut out, Some(*hop), host.take(), scheme.take());
                    }
                }
            }
        }
        None => {
            for earlier in fields.all_known(Known::Forwarded).filter(|value| !value.is_empty()) {
                append(&mut out, format_args!(""));
                out.extend_from_slice(earlier);
            }
        }
    }
    let authority = facts.request.authority();
    let host = Some(authority.as_bytes()).filter(|host| !host.is_empty());
    rfc7239::append(&mut out, peer, host, Some(own_scheme));
    out
}

/// Adds an element to a list.
fn append(list: &mut Vec<u8>, element: std::fmt::Arguments<'_>) {
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
    list.write_fmt(element).expect("a vector takes all that is written");
}

#[cfg(test)]
mod tests;
