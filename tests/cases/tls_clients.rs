//! Clients with certificates: who is let in, and what endpoints and rewriters hear of them.

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use sha2::{Digest, Sha256};

use super::tls_front::{front, tls};
use crate::harness::{ADMIN, Authority, Caller, Client, Proxy, Upstream, api, quoted};

/// Answers with what it is told of the client.
fn origin() -> Upstream {
    Upstream::answering(|request| {
        let told = ["subject", "issuer", "serial", "fingerprint"].map(|what| {
            let fields = request.head.all(&format!("x-client-cert-{what}"));
            assert!(fields.len() <= 1, "{what} once");
            fields.first().map_or("-".to_owned(), |value| (*value).to_owned())
        });
        crate::harness::ok(told.join("\n"))
    })
}

#[test]
fn a_client_is_let_in_by_its_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (server, good, bad) = (authority.issue("a.example"), authority.issue("client"), other.issue("client"));
    let origin = origin();
    for auth in ["required", "optional"] {
        let more = format!(", client_ca = {}, client_auth = \"{auth}\"", quoted(&authority.ca()));
        let proxy = front(&[&server], &more, &origin);
        for version in [&TLS12, &TLS13] {
            for (shown, is_let_in) in [(Some(&good), true), (Some(&bad), false), (None, auth == "optional")] {
                let caller = Caller::with("a.example", &authority, &[version], shown);
                // With TLS 1.3 a client hears of it only when it reads.
                let answer = caller.connect(proxy.address()).ok().and_then(|mut client| {
                    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                    client.try_response().ok()
                });
                let shown = shown.map(|shown| shown.cert.display());
                assert_eq!(answer.is_some(), is_let_in, "{auth} by {version:?} with {shown:?}");
            }
        }
        let refused = if auth == "required" { 4.0 } else { 2.0 };
        proxy.assert_counted("staunch_listener_tls_handshakes_total{outcome=\"failed\"}", refused);
    }
}

#[test]
fn endpoints_are_told_of_a_certificate_and_believe_no_client() {
    let authority = Authority::new();
    let client = authority.issue_for(&["alice"], |params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Example, Inc.");
        params.distinguished_name.push(rcgen::DnType::CommonName, "alice\r\nx-forged: 1");
        params.serial_number = Some(vec![0x0a, 0xbc].into());
    });
    let more = format!(", client_ca = {}, client_auth = \"optional\", client_headers = true", quoted(&authority.ca()));
    let secure = tls(&[&authority.issue("a.example")], &more);
    let text = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n{secure}[[listeners]]\naddress = \"127.0.0.1:0\"\n{}",
        api([&origin()])
    );
    let proxy = Proxy::with(&text);
    let forged = "X-Client-Cert-Subject: CN=root\r\nx-client-cert-serial: 1\r\nX-CLIENT-CERT-FINGERPRINT: 00\r\n";
    let ask = |shown| {
        let caller = Caller::with("a.example", &authority, &[&TLS13], shown);
        let mut client = caller.connect(proxy.address()).expect("it is let in");
        client.ask("GET", "/", forged).text().to_owned()
    };

    let told = ask(Some(&client));
    let fingerprint: String = Sha256::digest(client.der()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(told.starts_with("CN=alice\\0D\\0Ax-forged: 1,O=Example\\, Inc.\nCN="), "{told}");
    assert!(told.ends_with(&format!("\n0abc\n{fingerprint}")), "{told}");
    assert_eq!(ask(None), "-\n-\n-\n-");
    // Another way in must not be a way around.
    let plain = Client::connect(proxy.address_of(1)).ask("GET", "/", forged);
    assert_eq!(plain.text(), "-\n-\n-\n-");
}

#[test]
fn a_session_lets_nobody_in_where_more_is_asked_for() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (server, client) = (authority.issue("a.example"), authority.issue("client"));
    let listener = |more: &str| {
        let tls = tls(&[&server], more);
        format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n{tls}")
    };
    let asking =
        |ca: &Authority, auth: &str| listener(&format!(", client_ca = {}, client_auth = \"{auth}\"", quoted(&ca.ca())));
    let listeners = [
        listener(""),
        asking(&authority, "optional"),
        asking(&authority, "required"),
        asking(&other, "required"),
        asking(&authority, "required"),
    ];
    let proxy = Proxy::with(&format!("{}{ADMIN}{}", listeners.concat(), api([&origin()])));
    let ask = |caller: &Caller, listener| {
        let mut client = caller.connect(proxy.address_of(listener)).ok()?;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.try_response().ok()?;
        client.session().handshake_kind()
    };

    for version in [&TLS12, &TLS13] {
        for from in [0, 1] {
            let nobody = Caller::with("a.example", &authority, &[version], None);
            assert_eq!(ask(&nobody, from), Some(HandshakeKind::Full));
            assert_eq!(ask(&nobody, 2), None, "a session from {from} by {version:?}");
        }
        let known = Caller::with("a.example", &authority, &[version], Some(&client));
        assert_eq!(ask(&known, 2), Some(HandshakeKind::Full));
        assert_eq!(ask(&known, 4), Some(HandshakeKind::Resumed), "it asks for the same");
        assert_eq!(ask(&known, 3), None, "it asks for another authority's");
    }
}

#[test]
fn a_resumed_session_still_tells_who_the_client_is() {
    let authority = Authority::new();
    let client = authority.issue("client");
    let more = format!(", client_ca = {}, client_headers = true", quoted(&authority.ca()));
    let proxy = front(&[&authority.issue("a.example")], &more, &origin());
    for version in [&TLS12, &TLS13] {
        let caller = Caller::with("a.example", &authority, &[version], Some(&client));
        let ask = || {
            let mut client = caller.connect(proxy.address()).expect("it is let in");
            let told = client.get("/").text().to_owned();
            (client.session().handshake_kind(), told)
        };

        let (first, second) = (ask(), ask());

        assert_eq!((first.0, second.0), (Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)));
        assert!(!first.1.contains('-') && first.1 == second.1, "{first:?} {second:?}");
    }
}
