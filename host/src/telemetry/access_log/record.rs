//! What is logged of an exchange, as JSON and in the form of nginx's and Apache's "combined".

use std::fmt::Display;
use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use crate::http::facts::FellBack;
use crate::http::head::Version;
use crate::telemetry::access_log::Line;
use crate::telemetry::clock::HttpDate;

/// One finished exchange. Empty texts and absent values are left out of JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Record<'a> {
    /// When the exchange ended.
    #[serde(serialize_with = "as_rfc3339")]
    pub time: SystemTime,
    /// `None` on a unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// As received; empty when the request could not be read.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub method: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub host: &'a str,
    /// Path and query as received, not as rewritten.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub target: &'a str,
    #[serde(serialize_with = "as_protocol")]
    pub version: Version,
    /// 0 when the client got no response.
    pub status: u16,
    /// How a gRPC call ended, if that was heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u32>,
    /// Bytes of the response's body.
    pub bytes_sent: u64,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// From the complete request head to the end; in seconds, as all times here.
    #[serde(serialize_with = "as_seconds")]
    pub duration: Duration,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub route: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub upstream: &'a str,
    /// Of the last attempt.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub endpoint: &'a str,
    pub attempts: u32,
    /// Whether the last attempt went over a kept connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reused: Option<bool>,
    /// How long it waited for its upstream, if it had to.
    #[serde(serialize_with = "as_optional_seconds", skip_serializing_if = "Option::is_none")]
    pub queue_time: Option<Duration>,
    /// What it took to connect in the last attempt.
    #[serde(serialize_with = "as_optional_seconds", skip_serializing_if = "Option::is_none")]
    pub connect_time: Option<Duration>,
    /// From the start of the last attempt to its response head.
    #[serde(serialize_with = "as_optional_seconds", skip_serializing_if = "Option::is_none")]
    pub response_time: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub referer: Option<&'a [u8]>,
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<&'a [u8]>,
    /// Why something other than the route's own upstream answered: an error's name, or an endpoint's status.
    #[serde(serialize_with = "as_display", skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FellBack>,
    /// What answered: another `upstream`, or a `respond` or a `file` of the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_to: Option<&'static str>,
    /// What went wrong, by name: `upstream_read_timeout`, `client_closed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
}

impl Default for Record<'_> {
    fn default() -> Self {
        Self {
            time: UNIX_EPOCH,
            client: None,
            method: "",
            host: "",
            target: "",
            version: Version::default(),
            status: 0,
            grpc_status: None,
            bytes_sent: 0,
            bytes_received: 0,
            duration: Duration::ZERO,
            route: "",
            upstream: "",
            endpoint: "",
            attempts: 0,
            reused: None,
            queue_time: None,
            connect_time: None,
            response_time: None,
            request_id: None,
            referer: None,
            user_agent: None,
            fallback: None,
            fallback_to: None,
            error: None,
        }
    }
}

impl Line for Record<'_> {
    fn write_json(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(out, self)
    }

    /// nginx's `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer"
    /// "$http_user_agent"`; the time is UTC, the user is never told.
    fn write_combined(&self, date: &mut HttpDate, out: &mut Vec<u8>) {
        write_combined_front(self.client, self.time, date, out);
        if self.method.is_empty() {
            out.push(b'-');
        } else {
            escape(self.method.as_bytes(), out);
            out.push(b' ');
            escape(self.target.as_bytes(), out);
            out.push(b' ');
            out.extend_from_slice(protocol(self.version).as_bytes());
        }
        write(out, format_args!("\" {:03} {} \"", self.status, self.bytes_sent));
        escape(self.referer.filter(|value| !value.is_empty()).unwrap_or(b"-"), out);
        out.extend_from_slice(b"\" \"");
        escape(self.user_agent.filter(|value| !value.is_empty()).unwrap_or(b"-"), out);
        out.push(b'"');
    }
}

/// Writes what a combined line begins with, up to what was asked for.
pub(super) fn write_combined_front(client: Option<IpAddr>, time: SystemTime, date: &mut HttpDate, out: &mut Vec<u8>) {
    match client {
        Some(address) => write(out, format_args!("{address}")),
        None => out.extend_from_slice(b"unix:"),
    }
    // `Sun, 06 Nov 1994 08:49:37 GMT` holds all that `06/Nov/1994:08:49:37 +0000` needs.
    let date = date.at(time);
    let (day, month, year, hour) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
    for part in [b" - - [", day, b"/", month, b"/", year, b":", hour, b" +0000] \""] {
        out.extend_from_slice(part);
    }
}

/// nginx's default `escape` of a log format: `"`, `\`, controls and all that is not ASCII become `\xHH`.
fn escape(value: &[u8], out: &mut Vec<u8>) {
    for &byte in value {
        if matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\' {
            out.push(byte);
        } else {
            write(out, format_args!("\\x{byte:02X}"));
        }
    }
}

fn write(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("a vector takes all that is written");
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2.0",
        Version::Http3 => "HTTP/3.0",
    }
}

fn as_protocol<S: Serializer>(version: &Version, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(protocol(*version))
}

pub(super) fn as_rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis((*time).max(UNIX_EPOCH)))
}

/// Whole microseconds: more digits would tell nothing and be read by nobody.
pub(super) fn as_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1e6)
}

pub(super) fn as_optional_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => as_seconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}

fn as_display<S: Serializer>(value: &Option<impl Display>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// What is not UTF-8 is replaced by U+FFFD.
fn as_optional_text<S: Serializer>(bytes: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => serializer.serialize_str(&String::from_utf8_lossy(bytes)),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(784_111_777_042)
    }

    fn combined(record: &Record<'_>) -> String {
        let mut line = Vec::new();
        record.write_combined(&mut HttpDate::new(), &mut line);
        String::from_utf8(line).unwrap()
    }

    fn json(record: &Record<'_>) -> String {
        let mut line = Vec::new();
        record.write_json(&mut line).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_combined_line_is_nginxs() {
        let record = Record {
            time: moment(),
            client: Some([192, 0, 2, 7].into()),
            method: "GET",
            target: "/a?b=\"c\"",
            status: 200,
            bytes_sent: 612,
            referer: Some(b""),
            user_agent: Some(b"a\\b\x1b[31m\xc3\xa9\x7f"),
            ..Record::default()
        };

        assert_eq!(
            combined(&record),
            r#"192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] "GET /a?b=\x22c\x22 HTTP/1.1" 200 612 "-" "a\x5Cb\x1B[31m\xC3\xA9\x7F""#
        );
    }

    #[test]
    fn a_request_that_could_not_be_read_has_a_dash_for_a_request_line() {
        let record = Record { time: moment(), status: 0, ..Record::default() };

        assert_eq!(combined(&record), r#"unix: - - [06/Nov/1994:08:49:37 +0000] "-" 000 0 "-" "-""#);
    }

    #[test]
    fn json_leaves_out_what_is_absent() {
        let record = Record { time: moment(), status: 400, ..Record::default() };

        assert_eq!(
            json(&record),
            r#"{"time":"1994-11-06T08:49:37.042Z","version":"HTTP/1.1","status":400,"bytes_sent":0,"bytes_received":0,"duration":0.0,"attempts":0}"#
        );
    }

    #[test]
    fn json_holds_whatever_a_client_sent() {
        let record = Record {
            method: "GET",
            target: "/\"\\",
            host: "a",
            client: Some("2001:db8::1".parse().unwrap()),
            version: Version::Http10,
            duration: Duration::from_nanos(1_234_567_890),
            connect_time: Some(Duration::from_micros(250)),
            response_time: Some(Duration::ZERO),
            reused: Some(true),
            attempts: 2,
            referer: Some(b"\xff\n\"\x00"),
            user_agent: Some(b"\xe2\x80\xa8"),
            request_id: Some("abc"),
            error: Some("client_closed"),
            ..Record::default()
        };

        let value: serde_json::Value = serde_json::from_str(&json(&record)).unwrap();

        assert_eq!(value["target"], "/\"\\");
        assert_eq!(value["client"], "2001:db8::1");
        assert_eq!(value["version"], "HTTP/1.0");
        assert_eq!(value["duration"], 1.234_567);
        assert_eq!(value["connect_time"], 0.000_25);
        assert_eq!(value["reused"], true);
        assert_eq!(value["referer"], "\u{fffd}\n\"\0");
        assert_eq!(value["user_agent"], "\u{2028}");
        assert_eq!(value["error"], "client_closed");
        assert!(!json(&record).contains('\n'));
    }
}
