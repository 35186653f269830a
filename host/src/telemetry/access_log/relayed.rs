//! What is logged of a connection that was passed on without being understood, as JSON and in the form of a "combined"
//! line.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::record::{as_optional_seconds, as_rfc3339, as_seconds, write_combined_front};
use super::{HttpDate, Line};

/// One finished connection, or session of datagrams. Empty texts and absent values are left out of JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Relayed<'a> {
    /// When it ended.
    #[serde(serialize_with = "as_rfc3339")]
    pub time: SystemTime,
    /// `None` on a unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// `TCP` or `UDP`.
    pub version: &'static str,
    /// The listener's address, as configured.
    pub listener: &'a str,
    /// What the client's TLS asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<&'a str>,
    /// 200 when there was a connection to an endpoint, otherwise 0.
    pub status: u16,
    /// To the client.
    pub bytes_sent: u64,
    /// From the client.
    pub bytes_received: u64,
    /// In seconds, as all times here.
    #[serde(serialize_with = "as_seconds")]
    pub duration: Duration,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub upstream: &'a str,
    /// Of the last attempt.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub endpoint: &'a str,
    pub attempts: u32,
    /// How long it waited for its upstream, if it had to.
    #[serde(serialize_with = "as_optional_seconds", skip_serializing_if = "Option::is_none")]
    pub queue_time: Option<Duration>,
    /// What it took to connect in the last attempt.
    #[serde(serialize_with = "as_optional_seconds", skip_serializing_if = "Option::is_none")]
    pub connect_time: Option<Duration>,
    /// What went wrong, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
}

impl Line for Relayed<'_> {
    fn write_json(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(out, self)
    }

    /// In the place of the request stand the protocol, the upstream and the endpoint, in those of referer and agent
    /// nothing.
    fn write_combined(&self, date: &mut HttpDate, out: &mut Vec<u8>) {
        write_combined_front(self.client, self.time, date, out);
        let or_dash = |text: &'_ str| if text.is_empty() { "-" } else { text }.to_owned();
        let (upstream, endpoint) = (or_dash(self.upstream), or_dash(self.endpoint));
        let Self { version, status, bytes_sent, .. } = self;
        let line = format!("{version} {upstream} {endpoint}\" {status:03} {bytes_sent} \"-\" \"-\"");
        out.extend_from_slice(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_a_line_in_both_forms() {
        let relayed = Relayed {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_042),
            client: Some([192, 0, 2, 7].into()),
            version: "TCP",
            listener: "127.0.0.1:5432",
            server_name: None,
            status: 200,
            bytes_sent: 612,
            bytes_received: 40,
            duration: Duration::from_millis(1500),
            upstream: "db",
            endpoint: "10.0.0.1:5432",
            attempts: 1,
            queue_time: None,
            connect_time: Some(Duration::from_micros(250)),
            error: None,
        };
        let (mut json, mut combined) = (Vec::new(), Vec::new());

        relayed.write_json(&mut json).unwrap();
        relayed.write_combined(&mut HttpDate::new(), &mut combined);

        assert_eq!(
            String::from_utf8(json).unwrap(),
            r#"{"time":"1994-11-06T08:49:37.042Z","client":"192.0.2.7","version":"TCP","listener":"127.0.0.1:5432","status":200,"bytes_sent":612,"bytes_received":40,"duration":1.5,"upstream":"db","endpoint":"10.0.0.1:5432","attempts":1,"connect_time":0.00025}"#
        );
        assert_eq!(
            String::from_utf8(combined).unwrap(),
            r#"192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] "TCP db 10.0.0.1:5432" 200 612 "-" "-""#
        );
    }
}
