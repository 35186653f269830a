use proptest::prelude::*;

use super::*;
use crate::config::{Config, Server};

/// A server with these settings.
fn server(settings: &str) -> Server {
    let text = format!("[server]\n{settings}\n[[listeners]]\naddress = ':0'\n[[routes]]\nrespond = {{}}\n");
    Config::parse(&text, None).unwrap_or_else(|faults| panic!("{faults}")).server
}

/// A request that came from an address, without TLS, to `shop.example:8080`.
fn facts(peer: &str, fields: &[(&str, &str)]) -> Facts {
    let mut facts = Facts::new(peer.parse().ok(), false);
    facts.request.set_authority("shop.example:8080");
    for (name, value) in fields {
        facts.request.fields.append(name.as_bytes(), value.as_bytes());
    }
    facts
}

/// What becomes of one: the client, its scheme, and the fields that are sent.
fn told(server: &Server, peer: &str, fields: &[(&str, &str)]) -> (String, &'static str, Vec<(String, String)>) {
    let mut facts = facts(peer, fields);
    identify(server, &mut facts);
    describe(server, &mut facts);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let client = facts.client.map_or_else(|| "unix:".to_owned(), |client| client.to_string());
    let scheme = facts.scheme();
    (client, scheme, facts.request.fields.iter().map(|field| (text(field.name), text(field.value))).collect())
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut values = fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value);
    let value = values.next();
    assert_eq!(values.next(), None, "{name} comes once");
    value
}

const CLAIMS: [(&str, &str); 8] = [
    ("X-Forwarded-For", "198.51.100.1"),
    ("x-forwarded-for", "203.0.113.9"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "evil.example"),
    ("forwarded", "for=198.51.100.1;proto=https"),
    ("x-forwarded-port", "1"),
    ("X-Real-IP", "198.51.100.1"),
    ("X_Forwarded_For", "198.51.100.1"),
];

#[test]
fn without_trusted_proxies_addresses_are_chained_and_claims_are_replaced() {
    let (client, scheme, fields) = told(&server(""), "192.0.2.7", &CLAIMS);

    assert_eq!((&*client, scheme), ("192.0.2.7", "http"));
    assert_eq!(field(&fields, "x-forwarded-for"), Some("198.51.100.1, 203.0.113.9, 192.0.2.7"));
    assert_eq!(field(&fields, "x-forwarded-proto"), Some("http"));
    assert_eq!(field(&fields, "x-forwarded-host"), Some("shop.example:8080"));
    assert_eq!(field(&fields, "forwarded"), Some(CLAIMS[4].1), "as it came");
}

#[test]
fn what_others_than_trusted_proxies_claim_is_dropped() {
    for (settings, peer) in [
        ("trusted_proxies = ['10.0.0.0/8']", "192.0.2.7"),
        ("trusted_proxies = []", "192.0.2.7"),
        ("trusted_proxies = ['10.0.0.0/8']", "unix:"),
    ] {
        let (client, scheme, fields) = told(&server(settings), peer, &CLAIMS);

        assert_eq!((&*client, scheme), (peer, "http"), "with {settings}");
        let own = Some(peer).filter(|peer| *peer != "unix:");
        assert_eq!(field(&fields, "x-forwarded-for"), own, "with {settings}");
        assert_eq!(field(&fields, "x-forwarded-proto"), Some("http"));
        assert_eq!(field(&fields, "x-forwarded-host"), Some("shop.example:8080"));
        assert_eq!(fields.len(), 2 + usize::from(own.is_some()), "{fields:?}");
    }
}

#[test]
fn the_client_is_the_first_that_is_not_trusted_from_the_right() {
    let server = server("trusted_proxies = ['10.0.0.0/8', '2001:db8::/32']");
    for (chain, client, sent) in [
        ("203.0.113.9", "203.0.113.9", "203.0.113.9, 10.0.0.1"),
        // What stands left of it is what it claims.
        ("198.51.100.1, 203.0.113.9", "203.0.113.9", "203.0.113.9, 10.0.0.1"),
        ("198.51.100.1, 203.0.113.9, 10.0.0.3,10.0.0.2", "203.0.113.9", "203.0.113.9, 10.0.0.3, 10.0.0.2, 10.0.0.1"),
        // All of them are trusted.
        ("10.0.0.3, 10.0.0.2", "10.0.0.3", "10.0.0.3, 10.0.0.2, 10.0.0.1"),
        // It ends at the last that can be understood.
        ("203.0.113.9, unknown, 10.0.0.2", "10.0.0.2", "10.0.0.2, 10.0.0.1"),
        ("203.0.113.9, 10.0.0.300, 10.0.0.2", "10.0.0.2", "10.0.0.2, 10.0.0.1"),
        ("rubbish", "10.0.0.1", "10.0.0.1"),
        ("", "10.0.0.1", "10.0.0.1"),
        (" , 203.0.113.9 ,, ", "203.0.113.9", "203.0.113.9, 10.0.0.1"),
        ("203.0.113.9:4711", "203.0.113.9", "203.0.113.9, 10.0.0.1"),
        ("2001:db9::1", "2001:db9::1", "2001:db9::1, 10.0.0.1"),
        ("203.0.113.9, [2001:db8::1]:443", "203.0.113.9", "203.0.113.9, 2001:db8::1, 10.0.0.1"),
        ("::ffff:203.0.113.9", "203.0.113.9", "203.0.113.9, 10.0.0.1"),
    ] {
        let (found, _, fields) = told(&server, "10.0.0.1", &[("x-forwarded-for", chain)]);

        assert_eq!(found, client, "for {chain:?}");
        assert_eq!(field(&fields, "x-forwarded-for"), Some(sent), "for {chain:?}");
    }
    let lines = [("x-forwarded-for", "203.0.113.9"), ("X-Forwarded-For", "10.0.0.2")];
    assert_eq!(told(&server, "10.0.0.1", &lines).0, "203.0.113.9", "lines are one list");
}

#[test]
fn a_trusted_proxys_elements_are_walked_like_addresses() {
    let server = server("trusted_proxies = ['10.0.0.0/8', '2001:db8::/32']\nforwarded = 'rfc7239'");
    let own = "for=10.0.0.1;host=\"shop.example:8080\";proto=http";
    for (list, client, scheme, kept) in [
        ("for=203.0.113.9;proto=https", "203.0.113.9", "https", "for=203.0.113.9;proto=https"),
        ("for=203.0.113.9", "203.0.113.9", "http", "for=203.0.113.9"),
        (
            "for=198.51.100.1;proto=https, for=203.0.113.9;proto=http;by=_x,  for=\"[2001:db8::1]:80\";proto=https",
            "203.0.113.9",
            "http",
            "for=203.0.113.9;proto=http;by=_x, for=\"[2001:db8::1]:80\";proto=https",
        ),
        ("for=203.0.113.9, for=_hidden;proto=https, for=10.0.0.2", "10.0.0.2", "http", "for=10.0.0.2"),
        ("for=\"203.0.113.9, for=10.0.0.2;proto=https", "10.0.0.2", "https", "for=10.0.0.2;proto=https"),
    ] {
        let (found, its, fields) = told(&server, "10.0.0.1", &[("Forwarded", list), ("x-forwarded-host", "evil")]);

        assert_eq!((&*found, its), (client, scheme), "for {list:?}");
        assert_eq!(field(&fields, "forwarded"), Some(&*format!("{kept}, {own}")), "for {list:?}");
        assert_eq!(fields.len(), 1);
    }
    let (found, scheme, fields) = told(&server, "10.0.0.1", &[("forwarded", "for=unknown;proto=https")]);
    assert_eq!((&*found, scheme), ("10.0.0.1", "http"));
    assert_eq!(field(&fields, "forwarded"), Some(own));
}

#[test]
fn the_scheme_is_the_one_that_the_client_came_with() {
    let server = server("trusted_proxies = ['10.0.0.0/8']");
    for (chain, schemes, scheme) in [
        ("203.0.113.9", "https", "https"),
        ("203.0.113.9", "HTTPS", "https"),
        ("203.0.113.9", "wss", "https"),
        ("203.0.113.9", "http", "http"),
        ("203.0.113.9", "gopher", "http"),
        ("203.0.113.9", "", "http"),
        // One for each hop; more of them are the client's own.
        ("203.0.113.9, 10.0.0.2", "https, http", "https"),
        ("203.0.113.9, 10.0.0.2", "https, http, http", "http"),
        ("198.51.100.1, 203.0.113.9", "https, http", "http"),
        // One that was passed on.
        ("203.0.113.9, 10.0.0.2", "https", "https"),
        // A proxy that hides the client may tell how it came.
        ("", "https", "https"),
    ] {
        let claims = [("x-forwarded-for", chain), ("x-forwarded-proto", schemes)];
        let (_, found, fields) = told(&server, "10.0.0.1", &claims);

        assert_eq!(found, scheme, "for {chain:?} and {schemes:?}");
        assert_eq!(field(&fields, "x-forwarded-proto"), Some(scheme));
    }
}

#[test]
fn the_host_that_a_trusted_proxy_saw_is_passed_on() {
    let server = server("trusted_proxies = ['10.0.0.0/8']");

    let (_, _, fields) = told(&server, "10.0.0.1", &[("x-forwarded-host", "a.example"), ("x-real-ip", "203.0.113.9")]);

    assert_eq!(field(&fields, "x-forwarded-host"), Some("a.example"));
    assert_eq!(field(&fields, "x-real-ip"), Some("203.0.113.9"));
}

#[test]
fn only_the_field_that_trusted_proxies_write_is_believed() {
    let both = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=198.51.100.1;proto=https")];
    for (header, claims, client, scheme) in [
        ("", &both[..], "203.0.113.9", "http"),
        ("", &both[1..], "198.51.100.1", "https"),
        ("trusted_header = 'x-forwarded-for'", &both[..], "203.0.113.9", "http"),
        ("trusted_header = 'x-forwarded-for'", &both[1..], "10.0.0.1", "http"),
        ("trusted_header = 'forwarded'", &both[..], "198.51.100.1", "https"),
        ("trusted_header = 'forwarded'", &both[..1], "10.0.0.1", "http"),
    ] {
        let server = server(&format!("trusted_proxies = ['10.0.0.1']\n{header}"));
        let (found, its, fields) = told(&server, "10.0.0.1", claims);

        assert_eq!((&*found, its), (client, scheme), "with {header:?}");
        assert_eq!(field(&fields, "forwarded"), None, "it would be believed beside the others");
    }
}

#[test]
fn whoever_connects_to_a_unix_socket_can_be_trusted() {
    let server = server("trusted_proxies = ['unix:']\nforwarded = 'both'");

    let (client, _, fields) = told(&server, "unix:", &[("x-forwarded-for", "203.0.113.9")]);

    assert_eq!(client, "203.0.113.9");
    assert_eq!(field(&fields, "x-forwarded-for"), Some("203.0.113.9"));
    assert_eq!(
        field(&fields, "forwarded"),
        Some("for=203.0.113.9;proto=http, for=unknown;host=\"shop.example:8080\";proto=http")
    );
}

#[test]
fn endpoints_are_told_as_they_want() {
    let client = "for=203.0.113.9;host=a.example;proto=https";
    let own = "host=\"shop.example:8080\";proto=http";
    let trusted = [
        ("x-forwarded-for", "203.0.113.9, 10.0.0.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "a.example"),
        ("x-forwarded-port", "443"),
    ];
    let chain = format!("{client}, for=10.0.0.2, for=10.0.0.1;{own}");
    let addresses = "203.0.113.9, 10.0.0.2, 10.0.0.1";
    for (how, x_forwarded_for, forwarded) in [
        ("x-forwarded", Some(addresses), None),
        ("rfc7239", None, Some(&*chain)),
        ("both", Some(addresses), Some(&*chain)),
        ("none", Some(trusted[0].1), None),
    ] {
        let server = server(&format!("trusted_proxies = ['10.0.0.0/8']\nforwarded = '{how}'"));
        let (_, _, fields) = told(&server, "10.0.0.1", &trusted);

        assert_eq!(field(&fields, "x-forwarded-for"), x_forwarded_for, "for {how}");
        assert_eq!(field(&fields, "forwarded"), forwarded, "for {how}");
        let others = (field(&fields, "x-forwarded-proto"), field(&fields, "x-forwarded-host"));
        assert_eq!(others, if how == "rfc7239" { (None, None) } else { (Some("https"), Some("a.example")) });
        assert_eq!(field(&fields, "x-forwarded-port"), Some("443"));
    }
    // Without trusted proxies it is appended to what came, whoever said it.
    let (_, _, fields) = told(&server("forwarded = 'rfc7239'"), "2001:db8::1", &CLAIMS[..5]);
    assert_eq!(
        field(&fields, "forwarded"),
        Some(&*format!("for=198.51.100.1;proto=https, for=\"[2001:db8::1]\";{own}"))
    );
    assert_eq!(fields.len(), 1);
    let (_, _, fields) = told(&server("forwarded = 'none'"), "192.0.2.7", &[]);
    assert_eq!(fields, []);
}

fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
        any::<[u8; 2]>().prop_map(|[c, d]| format!("10.0.{c}.{d}")),
        "[ -~]{0,12}",
    ]
}

proptest! {
    #[test]
    fn whatever_a_client_claims_it_is_who_the_trusted_proxy_saw(
        claims in prop::collection::vec(address(), 0..4),
        client: [u8; 4],
        is_rfc7239: bool,
    ) {
        prop_assume!(client[0] != 10);
        let client = IpAddr::from(client).to_string();
        let (name, item) = if is_rfc7239 { ("forwarded", "for=") } else { ("x-forwarded-for", "") };
        let mut list: Vec<String> = claims.iter().map(|claim| format!("{item}{claim}")).collect();
        list.push(format!("{item}{client}"));
        let server = server("trusted_proxies = ['10.0.0.0/8']");

        let (found, _, fields) = told(&server, "10.0.0.1", &[(name, &list.join(", "))]);

        prop_assert_eq!(&found, &client);
        prop_assert_eq!(field(&fields, "x-forwarded-for"), Some(&*format!("{client}, 10.0.0.1")));
    }

    #[test]
    fn nothing_that_comes_breaks_it(value: Vec<u8>, is_rfc7239: bool) {
        let server = server("trusted_proxies = ['10.0.0.0/8']\nforwarded = 'both'");
        let mut facts = facts("10.0.0.1", &[]);
        let name: &[u8] = if is_rfc7239 { b"forwarded" } else { b"x-forwarded-for" };
        facts.request.fields.append(name, &value);

        identify(&server, &mut facts);
        describe(&server, &mut facts);

        prop_assert!(facts.client.is_some());
    }
}

#[test]
fn an_address_is_written_as_the_standard_library_does() {
    for address in ["0.0.0.0", "1.22.255.9", "100.10.99.200", "127.0.0.1", "::1", "2001:db8::ffff"] {
        let mut out = Vec::new();
        put_address(&mut out, address.parse().expect("an address"));
        assert_eq!(out, address.as_bytes());
    }
}
