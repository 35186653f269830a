//! An active check of every endpoint.

use std::time::Duration;

use regex::bytes::Regex;

use super::endpoint::{Endpoint, EndpointAddress};
use super::fault::{BadValue, Fault};
use super::reader::Reader;
use super::tls::ClientTls;
use super::tree::{Kind, Value};
use super::value;
use crate::http::head::Known;

/// An active check of every endpoint.
///
/// The intervals are HAProxy's `inter`, `fastinter` and `downinter`; `rise` and `fall` are what everybody has.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    pub kind: HealthCheckKind,
    /// Where it asks, in place of the endpoint's own port (1 to 65535).
    pub port: Option<u16>,
    /// Asks over TLS.
    pub tls: Option<ClientTls>,
    /// From the end of a check to the next while the endpoint is up ("5s").
    pub interval: Duration,
    /// The same while its results contradict its state (`interval`).
    pub fast_interval: Option<Duration>,
    /// The same while it is down (`interval`).
    pub down_interval: Option<Duration>,
    /// For one whole check ("2s").
    pub timeout: Duration,
    /// Passes in a row that bring an endpoint back (1; 1 to 1000).
    pub rise: u32,
    /// Failures in a row that take it out (3; 1 to 1000).
    pub fall: u32,
    /// By how many hundredths each interval is made longer or shorter by chance ("0%"; 0 to 50, HAProxy's
    /// `spread-checks`).
    pub jitter: u32,
    /// ("up")
    pub initial: InitialState,
}

/// What holds of an endpoint that was never checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InitialState {
    /// It has traffic until `fall` checks have failed.
    #[default]
    Up,
    /// It has none until `rise` checks have passed.
    Down,
    /// It has none until its first check, which decides alone.
    Checking,
}

/// What is asked. ("http")
#[derive(Clone, Debug, PartialEq)]
pub enum HealthCheckKind {
    /// A connection can be made.
    Tcp,
    Http(HttpCheck),
    Grpc(GrpcCheck),
    Exchange(ExchangeCheck),
}

/// One request over HTTP/1.1.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpCheck {
    /// ("GET")
    pub method: String,
    /// ("/")
    pub path: String,
    /// The `host` field; absent: where the check asks.
    pub host: Option<String>,
    /// Further fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Status ranges that pass, both ends included (2xx and 3xx).
    pub expect: Vec<(u16, u16)>,
    /// What must be found in the first 256 KiB of the body; absent: anything passes.
    pub body: Option<Pattern>,
}

/// `grpc.health.v1.Health/Check` over HTTP/2; `SERVING` passes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GrpcCheck {
    /// The service that is asked for (""): the server as a whole.
    pub service: String,
    /// The `:authority`; absent: where the check asks.
    pub host: Option<String>,
    /// Further metadata, names in lower case.
    pub headers: Vec<(String, String)>,
}

/// Bytes sent, and bytes that must come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExchangeCheck {
    /// Sent as they are; none: the endpoint speaks first.
    pub send: Vec<u8>,
    pub expect: Expected,
}

/// What must come in the first 16 KiB of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Expected {
    /// Any byte.
    #[default]
    Anything,
    /// These bytes, somewhere.
    Bytes(Vec<u8>),
    Pattern(Pattern),
}

/// A regular expression over bytes.
#[derive(Clone, Debug)]
pub struct Pattern(pub Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            kind: HealthCheckKind::default(),
            port: None,
            tls: None,
            interval: Duration::from_secs(5),
            fast_interval: None,
            down_interval: None,
            timeout: Duration::from_secs(2),
            rise: 1,
            fall: 3,
            jitter: 0,
            initial: InitialState::Up,
        }
    }
}

impl Default for HealthCheckKind {
    fn default() -> Self {
        Self::Http(HttpCheck::default())
    }
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: None,
            headers: Vec::new(),
            expect: vec![(200, 399)],
            body: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Type {
    Tcp,
    #[default]
    Http,
    Grpc,
    Exchange,
}

/// Which keys belong to which types, and how that is said.
const KEYS: [(&[&str], &[Type], &str); 5] = [
    (&["method", "path", "body"], &[Type::Http], "is for checks of type \"http\""),
    (&["host", "headers"], &[Type::Http, Type::Grpc], "is for checks of types \"http\" and \"grpc\""),
    (&["expect"], &[Type::Http, Type::Exchange], "is for checks of types \"http\" and \"exchange\""),
    (&["service"], &[Type::Grpc], "is for checks of type \"grpc\""),
    (&["send", "send_hex", "expect_hex", "expect_regex"], &[Type::Exchange], "is for checks of type \"exchange\""),
];

impl HealthCheck {
    /// Reads the check of these endpoints.
    pub(super) fn read(mut reader: Reader<'_>, endpoints: &[Endpoint]) -> Self {
        let mut check = Self::default();
        reader.set("interval", &mut check.interval);
        check.fast_interval = reader.optional("fast_interval");
        check.down_interval = reader.optional("down_interval");
        reader.set("timeout", &mut check.timeout);
        reader.set_number("rise", 1..=1000, &mut check.rise);
        reader.set_number("fall", 1..=1000, &mut check.fall);
        check.jitter = reader.parse("jitter", jitter).unwrap_or(check.jitter);
        let states = [
            ("up", Some(InitialState::Up)),
            ("down", Some(InitialState::Down)),
            ("checking", Some(InitialState::Checking)),
        ];
        check.initial = reader.word("initial", &states).unwrap_or_default();
        check.port = reader.number("port", 1..=65535);
        let is_socket = |endpoint: &Endpoint| matches!(endpoint.address, EndpointAddress::Unix(_));
        if let (Some(_), Some(socket)) = (check.port, endpoints.iter().find(|endpoint| is_socket(endpoint))) {
            let message = format!("`{}` is a unix socket and has no port", value::shown(&socket.text));
            reader.scope.fault(Fault::new(reader.place_of("port"), message));
        }
        check.tls = ClientTls::read(&mut reader, "tls");
        let types = [
            ("tcp", Some(Type::Tcp)),
            ("http", Some(Type::Http)),
            ("grpc", Some(Type::Grpc)),
            ("exchange", Some(Type::Exchange)),
        ];
        let named = reader.word("type", &types).unwrap_or_default();
        for (keys, of, why) in KEYS {
            if !of.contains(&named) {
                reader.misplaced(keys, why);
            }
        }
        check.kind = match named {
            Type::Tcp => HealthCheckKind::Tcp,
            Type::Http => HealthCheckKind::Http(HttpCheck::read(&mut reader)),
            Type::Grpc => HealthCheckKind::Grpc(GrpcCheck::read(&mut reader)),
            Type::Exchange => HealthCheckKind::Exchange(ExchangeCheck::read(&mut reader)),
        };
        check
    }
}

impl HttpCheck {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut http = Self::default();
        http.method = reader.parse("method", value::method).unwrap_or(http.method);
        http.path = reader.parse("path", value::path).unwrap_or(http.path);
        http.host = reader.parse("host", host_field);
        http.headers = headers(reader, &[]);
        if let Some(written) = reader.array("expect") {
            let scope = reader.scope;
            if written.is_empty() {
                scope.fault(Fault::new(reader.place_of("expect"), "no status is expected, so that no check passes"));
            }
            let range = |value| scope.text(value).and_then(|text| scope.accept(value.place, statuses(text)));
            http.expect = written.iter().filter_map(range).collect();
        }
        http.body = reader.parse("body", pattern);
        if http.body.is_some() && http.method == "HEAD" {
            reader.scope.fault(Fault::new(reader.place_of("body"), "a response to HEAD has no body"));
        }
        http
    }
}

impl GrpcCheck {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            service: reader.optional("service").unwrap_or_default(),
            host: reader.parse("host", host_field),
            headers: headers(reader, &["content-type", "grpc-timeout"]),
        }
    }
}

impl ExchangeCheck {
    fn read(reader: &mut Reader<'_>) -> Self {
        let send = match reader.one_of(&["send", "send_hex"]) {
            Some("send") => reader.optional::<String>("send").map(String::into_bytes),
            Some(_) => reader.parse("send_hex", hexadecimal),
            None => None,
        };
        let expect = match reader.one_of(&["expect", "expect_hex", "expect_regex"]) {
            Some("expect") => reader.parse("expect", wanted).map(|text| Expected::Bytes(text.into_bytes())),
            Some("expect_hex") => {
                reader.parse("expect_hex", |text| wanted(text).and_then(|text| hexadecimal(&text))).map(Expected::Bytes)
            }
            Some(_) => reader.parse("expect_regex", pattern).map(Expected::Pattern),
            None => None,
        };
        Self { send: send.unwrap_or_default(), expect: expect.unwrap_or_default() }
    }
}

/// Fields that a check has besides those that it writes itself.
fn headers(reader: &mut Reader<'_>, own: &[&str]) -> Vec<(String, String)> {
    let scope = reader.scope;
    let mut headers = Vec::new();
    for (key, value) in reader.entries("headers") {
        let Some(name) = scope.accept(key.place, header_name(&key.name, own)) else { continue };
        let values: &[Value] = match &value.kind {
            Kind::Array(values) => values,
            _ => std::slice::from_ref(value),
        };
        let read =
            |value: &Value| scope.text(value).and_then(|text| scope.accept(value.place, value::field_value(text)));
        headers.extend(values.iter().filter_map(read).map(|value| (name.clone(), value)));
    }
    headers
}

fn header_name(text: &str, own: &[&str]) -> Result<String, BadValue> {
    let name = value::field_name(text)?;
    let known = Known::of(name.as_bytes());
    if known == Known::Host {
        return Err(BadValue::new("`host` is a key of its own").with_hint("write `host = \"…\"`".to_owned()));
    }
    if known.is_hop_by_hop() || own.contains(&name.as_str()) {
        return Err(BadValue::new(format!("`{name}` is written by the proxy itself")));
    }
    Ok(name)
}

/// Bytes that are looked for.
fn wanted(text: &str) -> Result<String, BadValue> {
    if text.is_empty() {
        return Err(BadValue::new("nothing is expected").with_hint("leave the key out to accept any byte".to_owned()));
    }
    Ok(text.to_owned())
}

/// Bytes as pairs of hexadecimal digits, with spaces between them or none.
fn hexadecimal(text: &str) -> Result<Vec<u8>, BadValue> {
    let digits: Option<Vec<u32>> = text.chars().filter(|c| *c != ' ').map(|c| c.to_digit(16)).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => {
            Ok(digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
        }
        _ => Err(BadValue::new(format!("`{}` is not bytes in hexadecimal", value::shown(text)))
            .with_hint("write two digits for each byte, such as \"00 ff\"".to_owned())),
    }
}

fn pattern(text: &str) -> Result<Pattern, BadValue> {
    Regex::new(text).map(Pattern).map_err(|error| value::bad_regex(text, &error))
}

/// Hundredths of an interval: "10%".
fn jitter(text: &str) -> Result<u32, BadValue> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim_end().parse().ok());
    percent.filter(|percent| *percent <= 50).ok_or_else(|| {
        BadValue::new(format!("`{}` is not a share of the interval", value::shown(text)))
            .with_hint("write it like \"10%\", from 0 to 50".to_owned())
    })
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
