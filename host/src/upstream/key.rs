//! The balancing key: read from the request only when a balancer asked for it.

use std::fmt::Write;

use crate::http::facts::Facts;
use crate::upstream::balancer::KeySource;

/// Bits of a key's hash that are passed on: every language can hold them exactly.
const HASH_MASK: u64 = (1 << 53) - 1;

/// The low 53 bits of xxHash64 with seed 0.
pub(crate) fn hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh64::xxh64(key, 0) & HASH_MASK
}

/// The bytes of the first source that is present, into `key`; `false` when none is.
pub(crate) fn read(sources: &[KeySource], facts: &Facts, key: &mut Vec<u8>) -> bool {
    key.clear();
    sources.iter().any(|source| read_one(source, facts, key))
}

fn read_one(source: &KeySource, facts: &Facts, key: &mut Vec<u8>) -> bool {
    let request = &facts.request;
    match source {
        KeySource::ClientAddress => {
            let Some(client) = facts.client else { return false };
            let mut text = String::new();
            let _ = write!(text, "{client}");
            key.extend_from_slice(text.as_bytes());
        }
        KeySource::Host => {
            if request.host().is_empty() {
                return false;
            }
            key.extend(request.host().bytes().map(|b| b.to_ascii_lowercase()));
        }
        KeySource::Path => key.extend_from_slice(request.path().as_bytes()),
        KeySource::PathAndQuery => key.extend_from_slice(request.path_and_query().as_bytes()),
        KeySource::Header(name) => {
            let Some(value) = request.fields.get(name.as_bytes()) else { return false };
            key.extend_from_slice(value);
        }
        KeySource::Cookie(name) => {
            let Some(value) = request.fields.get_all(b"cookie").find_map(|field| cookie(field, name.as_bytes())) else {
                return false;
            };
            key.extend_from_slice(value);
        }
        KeySource::Query(name) => {
            let Some(value) = request.query().and_then(|query| parameter(query, name)) else { return false };
            key.extend_from_slice(value.as_bytes());
        }
    }
    true
}

/// A cookie's value in a `cookie` field (RFC 6265 section 4.2.1).
fn cookie<'a>(field: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    field.split(|&b| b == b';').find_map(|pair| pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"="))
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| match pair.split_once('=') {
        Some((n, value)) => (n == name).then_some(value),
        None => (pair == name).then_some(""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let mut facts = Facts::new(Some([192, 0, 2, 7].into()), false);
        facts.request.set_path_and_query("/a/b?x=1&user=ann&flag");
        facts.request.set_authority("Shop.Example:8080");
        facts.request.fields.append(b"X-Tenant", b"gold");
        facts.request.fields.append(b"cookie", b"a=1; session=s3; b=2");
        facts
    }

    fn key(sources: &[KeySource]) -> Option<String> {
        let mut key = Vec::new();
        read(sources, &facts(), &mut key).then(|| String::from_utf8(key).unwrap())
    }

    #[test]
    fn each_source_gives_its_part_of_the_request() {
        for (source, expected) in [
            (KeySource::ClientAddress, "192.0.2.7"),
            (KeySource::Host, "shop.example"),
            (KeySource::Path, "/a/b"),
            (KeySource::PathAndQuery, "/a/b?x=1&user=ann&flag"),
            (KeySource::Header("x-tenant".into()), "gold"),
            (KeySource::Cookie("session".into()), "s3"),
            (KeySource::Query("user".into()), "ann"),
            (KeySource::Query("flag".into()), ""),
        ] {
            assert_eq!(key(std::slice::from_ref(&source)).as_deref(), Some(expected), "{source:?}");
        }
    }

    #[test]
    fn the_first_source_that_is_present_is_used() {
        let sources = [KeySource::Cookie("none".into()), KeySource::Header("none".into()), KeySource::Path];

        assert_eq!(key(&sources).as_deref(), Some("/a/b"));
        assert_eq!(key(&sources[..2]), None);
    }

    #[test]
    fn a_hash_is_xxhash64_cut_to_53_bits() {
        assert_eq!(hash(b""), 0xef46_db37_51d8_e999 & HASH_MASK);
    }
}
