//! The names of headers that a plugin may change.

use std::fmt;

use crate::Setting;

/// Names that frame a message or belong to a connection. They are the proxy's own.
const PROXYS_OWN: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The name of a header that a plugin may change, as a setting. Upper and lower case are the same to HTTP, and are
/// kept as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(String);

impl FieldName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Setting for FieldName {
    fn from_text(text: &str) -> Result<Self, String> {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if text.is_empty() || !text.bytes().all(is_token) {
            Err("is not the name of a header (RFC 9110 section 5.6.2)".to_owned())
        } else if PROXYS_OWN.iter().any(|own| text.eq_ignore_ascii_case(own)) {
            Err("is a header that only the proxy itself may write".to_owned())
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_token_that_the_proxy_does_not_keep_for_itself() {
        for name in ["x-a", "Server", "x_y.z"] {
            assert_eq!(FieldName::from_text(name).map(|name| name.to_string()), Ok(name.to_owned()));
        }
        for name in ["", "x y", "x:", "é", "Content-Length", "TE"] {
            assert!(FieldName::from_text(name).is_err(), "{name}");
        }
    }
}
