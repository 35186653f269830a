//! From the proxy that connected back to the client, as far as those on the way are trusted.
//!
//! Each proxy appends whom it had a request from. Read from the right, the first address that is not a trusted proxy's
//! is the client's (nginx's `real_ip_recursive`); when all are trusted it is the leftmost. What cannot be understood,
//! or names nobody, ends the walk at the last that could.

use std::net::IpAddr;

use crate::config::{TrustedHeader, TrustedProxies};
use crate::http::forwarded::rfc7239::{self, Last};
use crate::http::head::{Fields, Known};

/// What a trusted proxy told of the client.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The client and the trusted proxies behind it; empty when it told of nobody.
    pub(super) hops: Vec<IpAddr>,
    /// Whether the client came over TLS, if that was told.
    pub(super) secure: Option<bool>,
    /// The elements of `forwarded` that tell of the hops.
    pub(super) elements: Option<Vec<u8>>,
}

pub(super) fn walk(fields: &Fields, header: TrustedHeader, trusted: &TrustedProxies) -> Told {
    let is_rfc7239 = match header {
        TrustedHeader::XForwardedFor => false,
        TrustedHeader::Forwarded => true,
        TrustedHeader::Either => {
            fields.known(Known::XForwardedFor).is_none() && fields.known(Known::Forwarded).is_some()
        }
    };
    let mut told = if is_rfc7239 { forwarded(fields, trusted) } else { x_forwarded(fields, trusted) };
    told.hops.reverse();
    told
}

fn x_forwarded(fields: &Fields, trusted: &TrustedProxies) -> Told {
    let mut hops = Vec::new();
    for entry in from_the_right(fields, Known::XForwardedFor) {
        let Some(address) = address(entry) else { break };
        hops.push(address);
        if !trusted.trusts(Some(address)) {
            break;
        }
    }
    // A scheme for each hop, or one that the outermost proxy gave and the others passed on.
    let schemes = from_the_right(fields, Known::XForwardedProto).take(hops.len().max(1));
    let secure = schemes.last().and_then(is_secure);
    Told { hops, secure, elements: None }
}

fn forwarded(fields: &Fields, trusted: &TrustedProxies) -> Told {
    let mut told = Told::default();
    let mut kept = Vec::new();
    'walk: for value in rev(fields, Known::Forwarded) {
        let mut rest = Some(value);
        while let Some(list) = rest {
            let Some(Last { before, text, element }) = rfc7239::last(list) else { break 'walk };
            rest = before;
            if text.is_empty() {
                continue;
            }
            let Some(address) = element.address else { break 'walk };
            told.hops.push(address);
            told.secure = element.proto.as_deref().and_then(is_secure);
            kept.push(text);
            if !trusted.trusts(Some(address)) {
                break 'walk;
            }
        }
    }
    kept.reverse();
    told.elements = (!kept.is_empty()).then(|| kept.join(&b", "[..]));
    told
}

/// The entries of a list without quotes, the last first.
fn from_the_right(fields: &Fields, known: Known) -> impl Iterator<Item = &[u8]> {
    let entries = rev(fields, known).flat_map(|value| value.rsplit(|byte| *byte == b','));
    entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty())
}

/// The values of a field, the last first.
fn rev(fields: &Fields, known: Known) -> impl Iterator<Item = &[u8]> {
    let values: Vec<_> = fields.all_known(known).collect();
    values.into_iter().rev()
}

/// An entry of `x-forwarded-for`: an address, with a port behind it as some write it.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical()).or_else(|| rfc7239::node(text)?)
}

fn is_secure(scheme: &[u8]) -> Option<bool> {
    let is = |known: &str| scheme.eq_ignore_ascii_case(known.as_bytes());
    match () {
        () if is("https") || is("wss") => Some(true),
        () if is("http") || is("ws") => Some(false),
        () => None,
    }
}
