//! The syntax of `forwarded` (RFC 7239), read strictly and from the right.
//!
//! # Why from the right?
//!
//! What stands left may come from the client, and an opening quote there would swallow, read from the left, what a
//! trusted proxy appended. A writer that escapes what it quotes leaves no suffix of its element that is one too.

use std::borrow::Cow;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::http::h1::{is_text_byte, is_token_byte};

/// The longest element that is read, in bytes. Commas in quotes have it read again and again.
const MAX_ELEMENT: usize = 1024;

/// What an element says that matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element<'a> {
    /// Of `for`, if that is an address.
    pub(super) address: Option<IpAddr>,
    pub(super) proto: Option<Cow<'a, [u8]>>,
}

/// A list taken apart at its last comma that stands in no quotes.
#[derive(Debug)]
pub(super) struct Last<'a> {
    /// `None` without such a comma.
    pub(super) before: Option<&'a [u8]>,
    /// The element as it is written; empty for nothing, which a list may have.
    pub(super) text: &'a [u8],
    pub(super) element: Element<'a>,
}

/// Takes the last element off a list. `None` for what is no element.
pub(super) fn last(list: &[u8]) -> Option<Last<'_>> {
    let mut end = list.len();
    loop {
        let comma = memchr::memrchr(b',', &list[..end]);
        let text = list[comma.map_or(0, |comma| comma + 1)..].trim_ascii();
        if text.len() > MAX_ELEMENT {
            return None;
        }
        if let Some(element) = element(text) {
            return Some(Last { before: comma.map(|comma| &list[..comma]), text, element });
        }
        // The comma may stand in quotes.
        end = comma?;
    }
}

/// A `forwarded-element`.
fn element(text: &[u8]) -> Option<Element<'_>> {
    let mut element = Element::default();
    let mut names: Vec<&[u8]> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix(b";") {
            rest = behind;
            continue;
        }
        let (name, behind) = token(rest)?;
        let (value, behind) = value(behind.strip_prefix(b"=")?)?;
        // Each parameter once (section 4).
        if names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return None;
        }
        names.push(name);
        if name.eq_ignore_ascii_case(b"for") {
            element.address = node(std::str::from_utf8(&value).ok()?)?;
        } else if name.eq_ignore_ascii_case(b"proto") {
            element.proto = Some(value);
        }
        if !behind.is_empty() && !behind.starts_with(b";") {
            return None;
        }
        rest = behind;
    }
    Some(element)
}

fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = text.iter().take_while(|byte| is_token_byte(**byte)).count();
    (length > 0).then(|| text.split_at(length))
}

/// A token or a quoted string (RFC 9110 section 5.6), and what follows it.
fn value(text: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        return token(text).map(|(value, behind)| (value.into(), behind));
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((value.into(), &quoted[at + 1..])),
            b'\\' => value.push(*bytes.next().map(|(_, byte)| byte).filter(|byte| is_text_byte(**byte))?),
            byte if is_text_byte(*byte) => value.push(*byte),
            _ => return None,
        }
    }
    None
}

/// A node (section 6): an address, or `Some(None)` for one that keeps its address to itself.
#[expect(clippy::option_option, reason = "nobody and nonsense are not the same")]
pub(super) fn node(text: &str) -> Option<Option<IpAddr>> {
    let (name, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, behind) = bracketed.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            (
                Some(IpAddr::V6(address).to_canonical()),
                behind.strip_prefix(':').or_else(|| behind.is_empty().then_some("0"))?,
            )
        }
        None => {
            let (name, port) = text.split_once(':').unwrap_or((text, "0"));
            let is_hidden = name.eq_ignore_ascii_case("unknown") || is_obfuscated(name);
            let address = if is_hidden { None } else { Some(IpAddr::V4(name.parse::<Ipv4Addr>().ok()?)) };
            (address, port)
        }
    };
    let is_number = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    (is_number || is_obfuscated(port)).then_some(name)
}

fn is_obfuscated(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.strip_prefix('_').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_allowed))
}

/// Adds an element to a list. A node without an address is unknown.
pub(super) fn append(list: &mut Vec<u8>, node: Option<IpAddr>, host: Option<&[u8]>, proto: Option<&str>) {
    match node {
        Some(address @ IpAddr::V4(_)) => super::append(list, format_args!("for={address}")),
        Some(address @ IpAddr::V6(_)) => super::append(list, format_args!("for=\"[{address}]\"")),
        None => super::append(list, format_args!("for=unknown")),
    };
    // What no quoted string can hold is no host.
    if let Some(host) = host.filter(|host| host.iter().all(|byte| is_text_byte(*byte))) {
        list.extend_from_slice(b";host=");
        if !host.is_empty() && host.iter().all(|byte| is_token_byte(*byte)) {
            list.extend_from_slice(host);
        } else {
            list.push(b'"');
            for byte in host {
                if matches!(byte, b'"' | b'\\') {
                    list.push(b'\\');
                }
                list.push(*byte);
            }
            list.push(b'"');
        }
    }
    if let Some(proto) = proto {
        write!(list, ";proto={proto}").expect("a vector takes all that is written");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<(Option<&str>, Option<IpAddr>)> {
        let proto = |element: &Element<'_>| match &element.proto {
            None => None,
            Some(proto) if **proto == *b"http" => Some("http"),
            Some(_) => Some("other"),
        };
        element(text.as_bytes()).map(|element| (proto(&element), element.address))
    }

    #[test]
    fn an_element_is_read_as_the_rfc_writes_it() {
        let four = Some(IpAddr::from([192, 0, 2, 43]));
        let six: Option<IpAddr> = Some("2001:db8:cafe::17".parse().unwrap());
        for (text, meaning) in [
            ("for=192.0.2.43", Some((None, four))),
            ("For=192.0.2.43;PROTO=http;by=203.0.113.43", Some((Some("http"), four))),
            ("for=\"192.0.2.43:47011\"", Some((None, four))),
            ("for=\"192.0.2.43:_port\"", Some((None, four))),
            ("for=\"[2001:db8:cafe::17]\"", Some((None, six))),
            ("for=\"[2001:db8:cafe::17]:4711\";proto=ws", Some((Some("other"), six))),
            ("for=\"[::ffff:192.0.2.43]\"", Some((None, four))),
            ("for=\"192.0.2.\\43\"", Some((None, four))),
            (";;proto=http;", Some((Some("http"), None))),
            ("", Some((None, None))),
            ("for=unknown", Some((None, None))),
            ("for=_hidden", Some((None, None))),
            ("for=\"_SEVKISEK:80\"", Some((None, None))),
            ("host=\"a,b;c\\\"\"", Some((None, None))),
            // A port needs quotes, an IPv6 address brackets and quotes.
            ("for=192.0.2.43:47011", None),
            ("for=2001:db8:cafe::17", None),
            ("for=\"2001:db8:cafe::17\"", None),
            ("for=[2001:db8:cafe::17]", None),
            ("for=192.0.2.043", None),
            ("for=example.com", None),
            ("for=_", None),
            ("for=_a/b", None),
            ("for=\"192.0.2.43:\"", None),
            ("for=\"192.0.2.43:123456\"", None),
            ("for=\"192.0.2.43", None),
            ("for=\"192.0.2.43\"x", None),
            ("for=", None),
            ("for", None),
            ("=192.0.2.43", None),
            ("for =192.0.2.43", None),
            ("for=192.0.2.43; proto=http", None),
            ("for=192.0.2.43;for=192.0.2.44", None),
            ("proto=\"\u{0}\"", None),
        ] {
            assert_eq!(read(text), meaning, "for {text:?}");
        }
    }

    #[test]
    fn an_element_that_never_ends_is_not_looked_for_for_ever() {
        let list = ["a=\";\",".repeat(10_000), "x".to_owned()].concat();

        assert!(last(list.as_bytes()).is_none());
    }

    proptest! {
        #[test]
        fn whatever_stands_before_it_the_last_element_is_what_was_appended(
            before: Vec<u8>,
            node: Option<[u8; 4]>,
            six: Option<[u8; 16]>,
            host in "[ -~\u{e9}]{0,20}|([,=;\"\\\\a]|for=1.2.3.4){0,20}",
            secure: Option<bool>,
        ) {
            let node = node.map(IpAddr::from).or(six.map(IpAddr::from));
            let proto = secure.map(|secure| if secure { "https" } else { "http" });
            let mut own = Vec::new();
            append(&mut own, node, Some(host.as_bytes()), proto);

            let list = [&before[..], b", ", &own[..]].concat();

            let Last { before: rest, text, element } = last(&list).expect("an element");
            prop_assert_eq!(rest, Some(&before[..]));
            prop_assert_eq!(text, &own[..]);
            prop_assert_eq!(element.address, node.map(|node| node.to_canonical()));
            prop_assert_eq!(element.proto.as_deref(), proto.map(str::as_bytes));
        }

        #[test]
        fn what_is_read_is_a_part_of_what_came(list: Vec<u8>) {
            if let Some(Last { before, text, .. }) = last(&list) {
                prop_assert!(before.map_or(0, <[u8]>::len) + text.len() <= list.len());
            }
        }
    }
}
