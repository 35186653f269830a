//! The request being handled, read lazily: each call copies only what it names.
//!
//! For use within `pick`, `decide`, `on_request` and `on_response`; at any other time the answers are empty.
//! Rewriters see what those before them changed.

use crate::host;

/// The method.
pub fn method() -> String {
    host::request::method()
}

/// The scheme the client used, `http` or `https`.
pub fn scheme() -> String {
    host::request::scheme()
}

/// The authority: the host with its port, as the client wrote it.
pub fn authority() -> String {
    host::request::authority()
}

/// The path with its query.
pub fn path_and_query() -> String {
    host::request::path_and_query()
}

/// The client's address without its port; empty on a unix socket.
pub fn client_address() -> String {
    host::request::client_address()
}

/// An identifier of this exchange: 32 hexadecimal digits, made when first asked for and then the same for everyone
/// who asks.
pub fn id() -> String {
    host::request::id()
}

/// The name of the route that matched.
pub fn route() -> String {
    host::request::route()
}

/// The name of the upstream the route leads to; empty when it leads to none.
pub fn upstream() -> String {
    host::request::upstream()
}

/// The first value of a header.
pub fn field(name: &str) -> Option<Vec<u8>> {
    host::request::field(name)
}

/// Every value of a header.
pub fn field_values(name: &str) -> Vec<Vec<u8>> {
    host::request::field_values(name)
}

/// The first cookie of this name: what stands after `=`, without blanks around it. Names are in upper and lower case as they
/// are written.
pub fn cookie(name: &str) -> Option<String> {
    let headers = field_values("cookie");
    let mut pairs = headers.iter().flat_map(|header| header.split(|&b| b == b';'));
    pairs.find_map(|pair| {
        let at = pair.iter().position(|&b| b == b'=')?;
        let (known, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
        (known == name.as_bytes()).then(|| String::from_utf8_lossy(value).into_owned())
    })
}

/// Every header in order. The dearest call here.
pub fn fields() -> Vec<(String, Vec<u8>)> {
    host::request::fields()
}

/// A note a plugin left on this exchange earlier.
pub fn note(name: &str) -> Option<Vec<u8>> {
    host::request::note(name)
}

/// Leaves a note on this exchange, at most 16 of together 16 KiB; more are ignored. The way to carry state from a
/// request to its response, which may be handled by different instances.
pub fn set_note(name: &str, value: &[u8]) {
    host::request::set_note(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Host, Request};

    #[test]
    fn a_cookie_is_found_in_any_header_and_by_its_whole_name() {
        let host = Host::new();
        host.set_request(
            Request::default()
                .field("Cookie", "a=1; sid = x=y ;b")
                .field("cookie", "sid=second; c=")
                .field("cookie", "A=2"),
        );

        for (name, value) in
            [("a", Some("1")), ("A", Some("2")), ("sid", Some("x=y")), ("c", Some("")), ("b", None), ("si", None)]
        {
            assert_eq!(cookie(name).as_deref(), value, "for {name}");
        }
    }
}
