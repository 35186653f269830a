//! An active check of every endpoint.

use std::time::Duration;

use super::fault::{BadValue, Fault};
use super::reader::Reader;
use super::value;

/// An active check of every endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    pub kind: HealthCheckKind,
    /// Between the ends of two checks of one endpoint ("5s").
    pub interval: Duration,
    /// For one whole check ("2s").
    pub timeout: Duration,
    /// Passes in a row that bring an endpoint back (1).
    pub rise: u32,
    /// Failures in a row that take it out (3).
    pub fall: u32,
}

/// What is asked. ("http")
#[derive(Clone, Debug, PartialEq)]
pub enum HealthCheckKind {
    /// A connection can be made.
    Tcp,
    Http {
        /// ("GET")
        method: String,
        /// ("/")
        path: String,
        /// The `host` field; absent: the endpoint's address.
        host: Option<String>,
        /// Status ranges that pass, both ends included (2xx and 3xx).
        expect: Vec<(u16, u16)>,
    },
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            kind: HealthCheckKind::default(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: 1,
            fall: 3,
        }
    }
}

impl Default for HealthCheckKind {
    fn default() -> Self {
        Self::Http { method: "GET".to_owned(), path: "/".to_owned(), host: None, expect: vec![(200, 399)] }
    }
}

impl HealthCheck {
    pub(super) fn read(mut reader: Reader<'_>) -> Self {
        let mut check = Self::default();
        reader.set("interval", &mut check.interval);
        reader.set("timeout", &mut check.timeout);
        reader.set_number("rise", 1..=1000, &mut check.rise);
        reader.set_number("fall", 1..=1000, &mut check.fall);
        let kinds = [("tcp", Some(false)), ("http", Some(true)), ("grpc", None), ("exchange", None)];
        check.kind = match reader.word("type", &kinds) {
            Some(false) => {
                reader.misplaced(&["path", "method", "host", "expect"], "is for checks of type \"http\"");
                HealthCheckKind::Tcp
            }
            Some(true) | None => HealthCheckKind::read_http(&mut reader),
        };
        check
    }
}

impl HealthCheckKind {
    fn read_http(reader: &mut Reader<'_>) -> Self {
        let mut http = Self::default();
        if let Self::Http { method, path, host, expect } = &mut http {
            *method = reader.parse("method", value::method).unwrap_or_else(|| std::mem::take(method));
            *path = reader.parse("path", value::path).unwrap_or_else(|| std::mem::take(path));
            *host = reader.parse("host", host_field);
            if let Some(written) = reader.array("expect") {
                let scope = reader.scope;
                if written.is_empty() {
                    scope
                        .fault(Fault::new(reader.place_of("expect"), "no status is expected, so that no check passes"));
                }
                let range = |value| scope.text(value).and_then(|text| scope.accept(value.place, statuses(text)));
                *expect = written.iter().filter_map(range).collect();
            }
        }
        http
    }
}

/// A host, perhaps with a port.
fn host_field(text: &str) -> Result<String, BadValue> {
    let (host, port) = match text.rsplit_once(':').filter(|(host, _)| !host.ends_with(':') && !text.ends_with(']')) {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    port.map(value::port).transpose()?;
    match value::bracketed(host) {
        Some(bracketed) if bracketed.as_ref().is_ok_and(|(_, rest)| rest.is_empty()) => {}
        Some(Err(bad)) => return Err(bad),
        _ => {
            value::host_name(host)?;
        }
    }
    Ok(text.to_owned())
}

/// Statuses: "2xx", "301" or "200-204".
pub(super) fn statuses(text: &str) -> Result<(u16, u16), BadValue> {
    let status = |text: &str| text.parse::<u16>().ok().filter(|status| text.len() == 3 && (200..=599).contains(status));
    let range = match (text.split_once('-'), text.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok())) {
        (None, Some(class)) => Some((class * 100, class * 100 + 99)).filter(|_| (2..=5).contains(&class)),
        (None, None) => status(text).map(|only| (only, only)),
        (Some((first, last)), _) => status(first).zip(status(last)).filter(|(first, last)| first <= last),
    };
    range.ok_or_else(|| {
        BadValue::new(format!("`{}` is not a status", value::shown(text)))
            .with_hint("write \"200\", \"2xx\" or \"200-204\", from 200 to 599".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_one_a_class_or_a_range() {
        for (text, range) in [
            ("2xx", Some((200, 299))),
            ("5xx", Some((500, 599))),
            ("301", Some((301, 301))),
            ("200-204", Some((200, 204))),
        ] {
            assert_eq!(statuses(text).ok(), range, "for {text}");
        }
        for text in ["", "1xx", "6xx", "99999xx", "xx", "20", "600", "204-200", "200-", "+20", "2xx-3xx"] {
            assert_eq!(statuses(text).ok(), None, "for {text}");
        }
    }

    #[test]
    fn a_host_field_may_have_a_port() {
        for text in ["a.example", "a.example:8080", "[::1]", "[::1]:80"] {
            assert_eq!(host_field(text).as_deref(), Ok(text));
        }
        for text in ["", "a b", "a:", "a:x", "[::1", "[::1]x", "::1", "a\r\nb"] {
            assert!(host_field(text).is_err(), "for {text}");
        }
    }
}
