//! Whether a request that reached an origin is one that every reader understands alike.

use crate::harness::{Framing, Request};

/// What a client may say to the proxy and the proxy never says to an origin (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [&str; 8] =
    ["connection", "expect", "http2-settings", "keep-alive", "proxy-connection", "te", "upgrade", "transfer_encoding"];

/// Checks a request against the grammar of RFC 9112, and that it has this line and this body.
pub(super) fn sound(request: &Request, line: &str, body: &[u8]) -> Result<(), String> {
    let fault = fault(request);
    if let Some(fault) = fault {
        return Err(format!("the origin got {fault} in {request:?}"));
    }
    if request.line() != line || request.body != body {
        return Err(format!("the origin got another request: {request:?}"));
    }
    Ok(())
}

fn fault(request: &Request) -> Option<&'static str> {
    let head = &request.head;
    let parts: Vec<_> = head.line.split(' ').collect();
    let is_line = matches!(parts[..], [method, target, "HTTP/1.1"] if is_token(method) && is_target(target));
    let lengths = head.all("content-length").len();
    let codings = head.all("transfer-encoding");
    Some(match () {
        () if !request.is_whole => "only a part",
        () if !is_line => "a bad request line",
        () if !head.fields.iter().all(|(name, _)| is_token(name)) => "a bad field name",
        () if !head.fields.iter().all(|(_, value)| is_value(value)) => "a bad field value",
        () if head.all("host").len() != 1 || head.field("host") == Some("") => "no host, or several",
        () if lengths + codings.len() > 1 => "more than one framing",
        () if codings.iter().any(|coding| *coding != "chunked") => "an odd coding",
        () if request.framing == Framing::None && !request.body.is_empty() => "a body from nowhere",
        () if HOP_BY_HOP.iter().any(|name| head.field(name).is_some()) => "what was meant for the proxy",
        () if !request.trailers.iter().all(|(name, value)| is_token(name) && is_value(value)) => "a bad trailer",
        () if request.trailers.iter().any(|(name, _)| forbidden_trailer(name)) => "a trailer that only a head may have",
        () => return None,
    })
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

fn is_target(text: &str) -> bool {
    (text.starts_with('/') || text == "*") && text.chars().all(|c| c.is_ascii_graphic() && c != '#')
}

/// Latin-1, as the harness reads it.
fn is_value(text: &str) -> bool {
    text.trim_matches([' ', '\t']) == text && text.chars().all(|c| c == '\t' || (c >= ' ' && c != '\x7f'))
}

fn forbidden_trailer(name: &str) -> bool {
    ["host", "content-length", "transfer-encoding", "authorization", "connection", "cookie", "trailer"]
        .iter()
        .any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}

#[test]
fn the_judge_sees_what_is_wrong() {
    use crate::harness::Head;

    let whole = |line: &str, fields: &[(&str, &str)]| {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let head = Head { line: line.to_owned(), fields };
        Request { head, framing: Framing::None, body: Vec::new(), trailers: Vec::new(), connection: 0, is_whole: true }
    };
    assert_eq!(fault(&whole("GET / HTTP/1.1", &[("host", "a"), ("x", "")])), None);
    for (line, fields) in [
        ("GET / HTTP/1.0", &[("host", "a")][..]),
        ("GET  / HTTP/1.1", &[("host", "a")]),
        ("GET a HTTP/1.1", &[("host", "a")]),
        ("GET / HTTP/1.1", &[]),
        ("GET / HTTP/1.1", &[("host", "a"), ("Host", "b")]),
        ("GET / HTTP/1.1", &[("host", "a"), ("x ", "b")]),
        ("GET / HTTP/1.1", &[("host", "a"), ("x", "b\rc")]),
        ("GET / HTTP/1.1", &[("host", "a"), ("x", "b\nc")]),
        ("GET / HTTP/1.1", &[("host", "a"), ("x", " b")]),
        ("GET / HTTP/1.1", &[("host", "a"), ("content-length", "0"), ("content-length", "0")]),
        ("GET / HTTP/1.1", &[("host", "a"), ("transfer-encoding", "gzip")]),
        ("GET / HTTP/1.1", &[("host", "a"), ("connection", "close")]),
    ] {
        assert!(fault(&whole(line, fields)).is_some(), "{line} {fields:?}");
    }
    assert!(sound(&whole("GET / HTTP/1.1", &[("host", "a")]), "GET /b HTTP/1.1", b"").is_err());
}
