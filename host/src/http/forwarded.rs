//! Tells the endpoint who asked: `x-forwarded-for`, `-proto` and `-host`.
//!
//! The client's address is appended to what came (as nginx's `$proxy_add_x_forwarded_for`, HAProxy and Envoy do);
//! scheme and host are what this proxy saw, whatever the client claims. `host` itself is passed on unchanged.
//! Rewriters run later and see, change or remove all of them.

use std::io::Write;

use crate::http::facts::Facts;
use crate::http::head::Known;

pub(crate) fn describe(facts: &mut Facts) {
    let Facts { request, client, .. } = facts;
    if let Some(client) = client {
        // Long enough for any chain worth keeping; a longer one spills to the heap.
        let mut chain = Vec::with_capacity(64);
        for earlier in request.fields.all_known(Known::XForwardedFor) {
            if !earlier.is_empty() {
                chain.extend_from_slice(earlier);
                chain.extend_from_slice(b", ");
            }
        }
        write!(chain, "{client}").expect("writing to memory does not fail");
        request.fields.set(b"x-forwarded-for", &chain);
    }
    let scheme = facts.scheme();
    facts.request.fields.set(b"x-forwarded-proto", scheme.as_bytes());
    if !facts.request.authority().is_empty() {
        let authority = facts.request.authority().to_owned();
        facts.request.fields.set(b"x-forwarded-host", authority.as_bytes());
    } else {
        facts.request.fields.remove(b"x-forwarded-host");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_chained_and_claims_are_replaced() {
        let mut facts = Facts::new(Some([192, 0, 2, 7].into()), false);
        facts.request.set_authority("shop.example:8080");
        for (name, value) in [
            ("X-Forwarded-For", "198.51.100.1"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
        ] {
            facts.request.fields.append(name.as_bytes(), value.as_bytes());
        }

        describe(&mut facts);

        let fields = &facts.request.fields;
        assert_eq!(fields.get_all(b"x-forwarded-for").collect::<Vec<_>>(), [b"198.51.100.1, 203.0.113.9, 192.0.2.7"]);
        assert_eq!(fields.get(b"x-forwarded-proto"), Some(&b"http"[..]));
        assert_eq!(fields.get(b"x-forwarded-host"), Some(&b"shop.example:8080"[..]));
    }
}
