//! Reads what a head says about the connection it came on (RFC 9110 section 7.6.1, RFC 9112 section 9.3).

use crate::http::head::{Field, Fields, Known, RequestHead, ResponseHead, Version, tokens};

/// Options that a `connection` field may list, counted over all its lines. Real messages list three or fewer.
const MAX_OPTIONS: usize = 32;

/// Whether the client wants to send further requests on its connection.
pub fn request_keeps_alive(head: &RequestHead) -> bool {
    persists(head.version, &head.fields)
}

/// Whether the endpoint lets its connection be used again once the body has ended. A body that ends with the
/// connection ([`super::BodyKind::UntilClose`]) leaves none, whatever this says.
pub fn response_keeps_alive(head: &ResponseHead) -> bool {
    let bodiless = matches!(head.status, 100..=199 | 204);
    if bodiless && head.fields.all_known(Known::TransferEncoding).next().is_some() {
        // There must be no such field (RFC 9112 section 6.1), and a server that sends it may send a body too.
        return false;
    }
    if bodiless && head.fields.known(Known::ContentLength).is_some_and(|length| length != b"0") {
        return false;
    }
    persists(head.version, &head.fields)
}

/// The protocols that a request asks to change to, as its `upgrade` field writes them.
///
/// `None` also for `h2c`: an endpoint that agreed would take further requests past every rule of the proxy.
pub fn requested_upgrade(head: &RequestHead) -> Option<&[u8]> {
    // Later versions have no such fields; what asks for a protocol there has been given them.
    if head.version < Version::Http11 || !head.fields.lists(Known::Connection, b"upgrade") {
        return None;
    }
    let mut values = head.fields.all_known(Known::Upgrade);
    let value = values.next().filter(|value| !value.is_empty())?;
    let is_h2c = |protocol: &[u8]| protocol.get(..3).is_some_and(|name| name.eq_ignore_ascii_case(b"h2c"));
    (values.next().is_none() && !tokens(value).any(is_h2c)).then_some(value)
}

/// Whether the client waits for a `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
pub fn expects_continue(head: &RequestHead) -> bool {
    head.version >= Version::Http11 && head.fields.lists(Known::Expect, b"100-continue")
}

/// Removes the fields that `connection` names, as they are meant for us alone.
///
/// This is done as soon as a head is read, not when it is written: what filters add must not be removable by
/// a client that names it. What we read ourselves stays (it is never written), and so does `host`.
pub(super) fn remove_nominated(fields: &mut Fields) -> Result<(), &'static str> {
    let mut options = 0;
    let mut nominated: Vec<Vec<u8>> = Vec::new();
    for option in fields.all_known(Known::Connection).flat_map(tokens) {
        options += 1;
        if options > MAX_OPTIONS {
            return Err("too many connection options");
        }
        if !option.eq_ignore_ascii_case(b"close") && !is_ours(Known::of(option)) {
            nominated.push(option.to_owned());
        }
    }
    if !nominated.is_empty() {
        let named = |field: Field<'_>| nominated.iter().any(|name| field.name.eq_ignore_ascii_case(name));
        fields.retain(|field| is_ours(field.known) || !named(field));
    }
    Ok(())
}

fn is_ours(known: Known) -> bool {
    known.is_hop_by_hop() || matches!(known, Known::Host | Known::Expect)
}

fn persists(version: Version, fields: &Fields) -> bool {
    let (mut close, mut keep_alive) = (false, false);
    for option in fields.all_known(Known::Connection).flat_map(tokens) {
        close |= option.eq_ignore_ascii_case(b"close");
        keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
    }
    !close && (keep_alive || version != Version::Http10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, lines: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        head.version = version;
        for (name, value) in lines {
            head.fields.append(name.as_bytes(), value.as_bytes());
        }
        head
    }

    #[test]
    fn a_connection_persists_by_version_and_options() {
        use Version::{Http10, Http11};
        for (version, lines, persists) in [
            (Http11, &[][..], true),
            (Http10, &[], false),
            (Http10, &[("connection", "Keep-Alive")], true),
            (Http11, &[("connection", "close")], false),
            (Http11, &[("Connection", "x, CLOSE ,y")], false),
            (Http11, &[("connection", "keep-alive"), ("connection", "close")], false),
            (Http10, &[("connection", "keep-alive, close")], false),
            (Http11, &[("connection", "closed")], true),
            (Http10, &[("proxy-connection", "keep-alive")], false),
        ] {
            assert_eq!(request_keeps_alive(&request(version, lines)), persists, "for {version:?} {lines:?}");
        }
    }

    #[test]
    fn a_bodiless_response_with_framing_ends_its_connection() {
        for (status, name, value, persists) in [
            (204, "transfer-encoding", "chunked", false),
            (204, "content-length", "5", false),
            (204, "content-length", "0", true),
            (304, "content-length", "5", true),
            (200, "transfer-encoding", "chunked", true),
        ] {
            let mut head = ResponseHead::default();
            head.status = status;
            head.fields.append(name.as_bytes(), value.as_bytes());
            assert_eq!(response_keeps_alive(&head), persists, "for {status} {name}: {value}");
        }
    }

    #[test]
    fn an_upgrade_needs_both_fields_and_http_1_1_and_is_never_h2c() {
        use Version::{Http10, Http11};
        let (wish, websocket) = (("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket"));
        for (version, lines, upgrade) in [
            (Http11, &[wish, websocket][..], Some(&b"websocket"[..])),
            (Http10, &[wish, websocket], None),
            (Http11, &[websocket], None),
            (Http11, &[wish], None),
            (Http11, &[wish, ("Upgrade", "")], None),
            (Http11, &[wish, websocket, websocket], None),
            (Http11, &[wish, ("Upgrade", "h2c")], None),
            (Http11, &[wish, ("Upgrade", "websocket, H2C")], None),
        ] {
            assert_eq!(requested_upgrade(&request(version, lines)), upgrade, "for {version:?} {lines:?}");
        }
    }

    #[test]
    fn nominated_fields_go_but_those_that_frame_or_route_stay() {
        let nominations = "close, X-Secret, host, content-length, transfer-encoding, upgrade, x-none, expect";
        let mut head = request(
            Version::Http11,
            &[
                ("Host", "a"),
                ("x-secret", "1"),
                ("Connection", nominations),
                ("Content-Length", "5"),
                ("X-SECRET", "2"),
                ("x-kept", "3"),
                ("expect", "100-continue"),
            ],
        );

        remove_nominated(&mut head.fields).expect("few options");

        let left: Vec<_> = head.fields.iter().map(|f| f.name.to_ascii_lowercase()).collect();
        assert_eq!(left, [&b"host"[..], b"connection", b"content-length", b"x-kept", b"expect"]);
    }

    #[test]
    fn the_options_of_a_connection_are_bounded() {
        let mut head = request(Version::Http11, &[("connection", &"a,".repeat(MAX_OPTIONS))]);
        assert_eq!(remove_nominated(&mut head.fields), Ok(()));

        head.fields.append(b"connection", b"b");
        assert!(remove_nominated(&mut head.fields).is_err());
    }
}
