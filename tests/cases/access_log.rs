//! A line for each request, where a log is configured.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Client, Proxy, Upstream, api, eventually};

/// The lines of a log, once there are so many.
fn lines(file: &Path, count: usize) -> Vec<String> {
    let read = || std::fs::read_to_string(file).unwrap_or_default();
    eventually(|| read().lines().count() >= count);
    read().lines().map(str::to_owned).collect()
}

fn logging(file: &Path, settings: &str, rest: &str) -> Proxy {
    Proxy::with(&format!("[access_log]\npath = \"{}\"\n{settings}\n{rest}", file.display()))
}

#[test]
fn each_request_is_a_line_of_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.log");
    let (bad, origin) = (Upstream::refusing(), Upstream::echo());
    let proxy = logging(&file, "", &api([&bad, &origin]));
    let mut client = Client::to(&proxy);

    client.post("/a?b=c", "hello");
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.response().status, 400);

    let lines: Vec<Value> =
        lines(&file, 2).iter().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let first = &lines[0];
    assert_eq!((&first["method"], &first["target"], &first["status"]), (&"POST".into(), &"/a?b=c".into(), &200.into()));
    assert_eq!((&first["client"], &first["host"]), (&"127.0.0.1".into(), &"test".into()));
    assert_eq!((&first["bytes_received"], &first["bytes_sent"]), (&5.into(), &5.into()));
    assert_eq!((&first["upstream"], &first["endpoint"]), (&"api".into(), &origin.to_string().into()));
    assert_eq!((&first["attempts"], &first["route"]), (&2.into(), &"/".into()));
    assert_eq!((&lines[1]["status"], &lines[1]["error"]), (&400.into(), &"bad_request".into()));
    assert_eq!(lines.len(), 2);
}

#[test]
fn why_a_request_failed_is_in_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.log");
    let settings = "read_timeout = \"1s\"\n[upstreams.api.retry]\nattempts = 1\n";
    for (n, (endpoint, error)) in [
        (Upstream::refusing(), "upstream_connect"),
        (Upstream::raw(|talk| drop(talk.request())), "upstream_reset"),
        (Upstream::garbling(), "upstream_protocol"),
        (Upstream::stalling(), "upstream_response_timeout"),
        (Upstream::truncating(), "upstream_truncated"),
    ]
    .into_iter()
    .enumerate()
    {
        let proxy = logging(&file, "", &format!("{}{settings}", api([&endpoint])));
        let mut client = Client::to(&proxy);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        // Whatever the client makes of it.
        let _ = client.try_response();

        let lines = lines(&file, n + 1);

        let line: Value = serde_json::from_str(&lines[n]).expect("a line of JSON");
        assert_eq!(line["error"], error, "{line}");
    }
}

#[test]
fn each_request_is_a_line_as_apache_writes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.log");
    let proxy = logging(&file, "format = \"combined\"", &api([&Upstream::replying("hello")]));

    Client::to(&proxy).ask("GET", "/a?b", "Referer: http://c/\r\nUser-Agent: a \"test\"\r\n");

    let line = lines(&file, 1).remove(0);
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(line.contains("] \"GET /a?b HTTP/1.1\" 200 5 \"http://c/\" \"a "), "{line}");
}
