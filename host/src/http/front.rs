//! What a listener wants of every request that comes in there: to come over TLS, and to tell the truth about certificates;
//! and what it wants known of itself.

use bytes::Bytes;

use crate::config::{ClientHeaders, RedirectHttps};
use crate::filters::LocalResponse;
use crate::http::error::ExchangeError;
use crate::http::facts::Facts;
use crate::http::h1::BadRequest;
use crate::http::head::Version;
use crate::net::peer::ClientCertificate;

/// By these prefixes' path an authority looks who has a name (RFC 8555 section 8.3).
const ACME: &str = "/.well-known/acme-challenge/";

/// A part of what is known of a client's certificate.
type Told = fn(&ClientCertificate) -> &str;

/// The fields that tell of a client's certificate, with what stands in them.
const FIELDS: [(&str, Told); 4] = [
    ("x-client-cert-subject", |client| &client.subject),
    ("x-client-cert-issuer", |client| &client.issuer),
    ("x-client-cert-serial", |client| &client.serial),
    ("x-client-cert-fingerprint", |client| &client.fingerprint),
];

/// The answer to a request that has to come over TLS, and does not.
///
/// # Errors
/// When nobody knows where it should have gone.
pub(crate) fn redirect(facts: &Facts) -> Option<Result<LocalResponse, ExchangeError>> {
    let RedirectHttps { port, status, except_acme } = facts.demands.as_ref()?.redirect_https?;
    if facts.secure {
        // To the proxy in front, which is trusted.
        return None;
    }
    let request = &facts.request;
    if except_acme && request.path().starts_with(ACME) {
        return None;
    }
    let host = request.host();
    if host.is_empty() {
        let reason = "a request without a host cannot be redirected";
        return Some(Err(ExchangeError::BadRequest(BadRequest { status: 400, reason })));
    }
    let mut location = format!("https://{host}");
    if port != 443 {
        location.push_str(&format!(":{port}"));
    }
    let target = request.received_path_and_query();
    // `*` is of the server as a whole.
    location.push_str(if target.starts_with('/') { target } else { "/" });
    let fields = vec![("location".to_owned(), location.into_bytes())];
    Some(Ok(LocalResponse { status, fields, body: Bytes::new() }))
}

/// Tells endpoints of the client's certificate, and has no client do so itself.
pub(crate) fn describe_client(facts: &mut Facts) {
    let Some(demands) = &facts.demands else { return };
    if demands.client_headers == ClientHeaders::Kept {
        return;
    }
    let is_told = demands.client_headers == ClientHeaders::Set;
    let client = facts.security.as_ref().and_then(|security| security.client.as_ref()).filter(|_| is_told);
    for (name, value) in FIELDS {
        match client {
            Some(client) => facts.request.fields.set(name.as_bytes(), value(client).as_bytes()),
            None => facts.request.fields.remove(name.as_bytes()),
        };
    }
}

/// Tells a client that it could speak HTTP/3, unless it does or the endpoint tells of something else (RFC 7838).
pub(crate) fn announce(facts: &mut Facts) {
    let Some(alt_svc) = facts.demands.as_ref().and_then(|demands| demands.alt_svc.as_ref()) else { return };
    if facts.request.version < Version::Http3 && facts.response.fields.get(b"alt-svc").is_none() {
        facts.response.fields.append(b"alt-svc", alt_svc.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Demands;
    use crate::net::peer::Security;

    fn asking(authority: &str, target: &str, redirect: RedirectHttps) -> Facts {
        let mut facts = Facts::new(None, false);
        facts.request.set_authority(authority);
        facts.request.set_path_and_query(target);
        facts.request.mark_received();
        facts.demands = Some(Arc::new(Demands { redirect_https: Some(redirect), ..Demands::default() }));
        facts
    }

    fn location(facts: &Facts) -> String {
        let answer = redirect(facts).expect("a redirect").expect("there is a host");
        String::from_utf8(answer.fields[0].1.clone()).expect("text")
    }

    #[test]
    fn who_came_over_tls_to_a_trusted_proxy_is_not_redirected() {
        let mut facts = asking("shop.example", "/", RedirectHttps::default());
        facts.secure = true;

        assert!(redirect(&facts).is_none());
    }

    #[test]
    fn a_redirect_keeps_host_path_and_query() {
        let other = RedirectHttps { port: 8443, ..RedirectHttps::default() };
        for (authority, target, redirect, sent_to) in [
            ("a.example", "/b?c=d", RedirectHttps::default(), "https://a.example/b?c=d"),
            ("a.example:80", "/", RedirectHttps::default(), "https://a.example/"),
            ("a.example:80", "/", other, "https://a.example:8443/"),
            ("[::1]:80", "/x", other, "https://[::1]:8443/x"),
            ("a.example", "*", RedirectHttps::default(), "https://a.example/"),
        ] {
            assert_eq!(location(&asking(authority, target, redirect)), sent_to);
        }
    }

    #[test]
    fn only_challenges_of_authorities_are_let_through_where_that_is_wanted() {
        let except = RedirectHttps { except_acme: true, ..RedirectHttps::default() };

        assert!(redirect(&asking("a", "/.well-known/acme-challenge/x", except)).is_none());
        assert!(redirect(&asking("a", "/.well-known/acme-challenge/x", RedirectHttps::default())).is_some());
        assert!(redirect(&asking("a", "/.well-known/acme-challenges", except)).is_some());
    }

    #[test]
    fn what_a_client_says_of_certificates_itself_is_removed() {
        let certificate = ClientCertificate { subject: "CN=a".to_owned(), ..ClientCertificate::default() };
        for (client_headers, client, left) in [
            (ClientHeaders::Kept, None, Some("forged")),
            (ClientHeaders::Removed, None, None),
            (ClientHeaders::Removed, Some(certificate.clone()), None),
            (ClientHeaders::Set, None, None),
            (ClientHeaders::Set, Some(certificate), Some("CN=a")),
        ] {
            let mut facts = Facts::new(None, true);
            facts.request.fields.append(b"X-Client-Cert-Subject", b"forged");
            facts.request.fields.append(b"x-client-cert-subject", b"forged too");
            facts.security = Some(Arc::new(Security { client, ..Security::default() }));
            facts.demands = Some(Arc::new(Demands { client_headers, ..Demands::default() }));

            describe_client(&mut facts);

            let subject = facts.request.fields.get(b"x-client-cert-subject");
            assert_eq!(subject, left.map(str::as_bytes), "for {client_headers:?}");
        }
    }
}
