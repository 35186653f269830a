//! Reads request targets (RFC 9112 section 3.2) and the authorities in them and in `host`.

use std::net::Ipv6Addr;

/// A request target in the parts that a head keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// From an absolute target; wins over `host`.
    pub(super) authority: Option<&'a str>,
    pub(super) path_and_query: PathAndQuery<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathAndQuery<'a> {
    Given(&'a str),
    /// A query that follows an empty path, its question mark included.
    QueryOnly(&'a str),
    Root,
    Asterisk,
}

/// Reads the target of any method but CONNECT.
pub(super) fn read<'a>(method: &[u8], target: &'a [u8]) -> Result<Target<'a>, &'static str> {
    const UNESCAPED: &str = "a byte in the target that must be escaped";
    if !target.iter().all(|&b| b.is_ascii_graphic() && b != b'#') {
        return Err(UNESCAPED);
    }
    let target = std::str::from_utf8(target).map_err(|_| UNESCAPED)?;
    if target.starts_with('/') {
        return Ok(Target { authority: None, path_and_query: PathAndQuery::Given(target) });
    }
    if target == "*" {
        return match method {
            b"OPTIONS" => Ok(Target { authority: None, path_and_query: PathAndQuery::Asterisk }),
            _ => Err("an asterisk for a target with a method other than OPTIONS"),
        };
    }
    read_absolute(method, target)
}

fn read_absolute<'a>(method: &[u8], target: &'a str) -> Result<Target<'a>, &'static str> {
    let Some((scheme, rest)) = target.split_once("://") else { return Err("a target of no known form") };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err("a target with an unknown scheme");
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !is_authority(authority.as_bytes()) {
        return Err("a target with an invalid authority");
    }
    let path_and_query = match path.as_bytes().first() {
        Some(b'/') => PathAndQuery::Given(path),
        Some(_) => PathAndQuery::QueryOnly(path),
        // RFC 9112 section 3.2.4: nothing of the server in particular is asked about.
        None if method == b"OPTIONS" => PathAndQuery::Asterisk,
        None => PathAndQuery::Root,
    };
    Ok(Target { authority: Some(authority), path_and_query })
}

/// Whether these bytes are a host, perhaps with a port (RFC 3986 section 3.2), and nothing that only looks like it: no
/// user, no path. An empty host is none (RFC 9110 section 4.2.1). A comma, though the grammar has it, is refused:
/// it is what joining two `host` lines leaves behind.
pub(crate) fn is_authority(bytes: &[u8]) -> bool {
    let (host, port) = if let Some(rest) = bytes.strip_prefix(b"[") {
        let Some(end) = memchr::memchr(b']', rest) else { return false };
        let (literal, port) = (&rest[..end], &rest[end + 1..]);
        if !std::str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()) {
            return false;
        }
        (None, port)
    } else {
        let (host, port) = bytes.split_at(memchr::memchr(b':', bytes).unwrap_or(bytes.len()));
        (Some(host), port)
    };
    host.is_none_or(is_registered_name) && is_port(port)
}

/// `port` is empty or starts with its colon.
fn is_port(port: &[u8]) -> bool {
    let Some(digits) = port.strip_prefix(b":") else { return port.is_empty() };
    let number = digits.iter().try_fold(0u16, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    number.is_some() && digits.len() <= 5
}

fn is_registered_name(mut name: &[u8]) -> bool {
    if name.is_empty() {
        return false;
    }
    while let Some((&first, rest)) = name.split_first() {
        name = match first {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => rest,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => rest,
            b'%' => match rest {
                [high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
                _ => return false,
            },
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        for authority in [
            "a",
            "example.com",
            "example.com.",
            "EXAMPLE.com:8080",
            "a:",
            "a:0",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:443",
            "[2001:db8::192.0.2.1]:65535",
            "a_b",
            "%41b",
            "xn--bcher-kva.example",
        ] {
            assert!(is_authority(authority.as_bytes()), "{authority}");
        }
    }

    #[test]
    fn what_only_looks_like_an_authority_is_none() {
        for authority in [
            "",
            ":80",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:+80",
            "a:000080",
            "a b",
            " a",
            "a/",
            "a?",
            "a#",
            "u@a",
            "u:p@a",
            "a,b",
            "a\\b",
            "a\"",
            "<a>",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]x:80",
            "[]",
            "[a]",
            "[::1%25eth0]",
            "[v1.a]",
            "%4",
            "%zz",
            "b\u{fc}cher",
            "a\u{7f}",
            "a|b",
            "a^b",
            "{a}",
        ] {
            assert!(!is_authority(authority.as_bytes()), "{authority}");
        }
    }

    #[test]
    fn an_absolute_target_falls_into_authority_and_path() {
        use PathAndQuery::{Asterisk, Given, QueryOnly, Root};
        for (method, target, authority, path_and_query) in [
            ("GET", "http://a/b?c", "a", Given("/b?c")),
            ("GET", "HTTPS://A:443/", "A:443", Given("/")),
            ("GET", "http://a", "a", Root),
            ("GET", "http://a?b/c", "a", QueryOnly("?b/c")),
            ("OPTIONS", "http://a", "a", Asterisk),
            ("OPTIONS", "http://a/", "a", Given("/")),
            ("GET", "http://a//b", "a", Given("//b")),
        ] {
            let expected = Target { authority: Some(authority), path_and_query };
            assert_eq!(read(method.as_bytes(), target.as_bytes()), Ok(expected), "for {target}");
        }
    }

    #[test]
    fn an_origin_target_is_kept_as_it_is() {
        for target in ["/", "//", "/a/../b", "/?", "/%zz", "/http://a/", "/a?b?c&d=[1]", "/|\"<>^`{}\\"] {
            let expected = Target { authority: None, path_and_query: PathAndQuery::Given(target) };
            assert_eq!(read(b"GET", target.as_bytes()), Ok(expected));
        }
    }
}
