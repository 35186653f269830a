//! TLS that begins or ends here around connections that are not understood.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use rustls::{ServerConnection, StreamOwned};

use crate::harness::{ADMIN, Authority, Caller, Client, End, Proxy, Upstream, api, quoted};

fn listener(keys: &str) -> String {
    format!("[[listeners]]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nupstream = \"api\"\n{keys}\n")
}

fn echo() -> Upstream {
    Upstream::raw(|talk| {
        talk.send("hello ");
        while let Some(byte) = talk.take(1) {
            talk.send(byte);
        }
        talk.send("bye");
    })
}

#[test]
fn the_tls_of_clients_ends_here_where_there_are_certificates() {
    let authority = Authority::new();
    let identity = authority.issue("db.internal");
    let endpoint = echo();
    let tls = format!(
        "tls = {{ certificates = [{{ cert = {}, key = {} }}] }}",
        quoted(&identity.cert),
        quoted(&identity.key)
    );
    let proxy = Proxy::with(&format!("{ADMIN}{}{}", listener(&tls), api([&endpoint])));

    // Nothing is agreed on by ALPN, whatever a client offers.
    let caller = Caller::to("db.internal", &authority).offering(&["redis", "h2"]);
    let mut client = caller.connect(proxy.address()).expect("it is trusted");
    assert_eq!(client.take(6), b"hello ");
    client.send("ping");
    assert_eq!(client.take(4), b"ping");
    assert_eq!(client.session().alpn_protocol().map(<[u8]>::to_vec), None);
    client.finish();
    let (rest, end) = client.drain();

    assert_eq!((rest.as_slice(), end), (&b"bye"[..], End::Closed));
    assert!(Caller::to("other.internal", &authority).connect(proxy.address()).is_err());
}

#[test]
fn tls_towards_endpoints_begins_behind_the_header_that_says_who_connected() {
    let authority = Authority::new();
    let identity = authority.issue("127.0.0.1");
    // It reads a header, and speaks TLS behind it.
    let plain = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = plain.local_addr().expect("bound");
    let config = authority.server(&identity, &[], false);
    let served = thread::spawn(move || {
        let (mut stream, _) = plain.accept().expect("a connection");
        let mut header = Vec::new();
        while !header.ends_with(b"\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a header");
            header.extend(byte);
        }
        let mut secured = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).expect("a server"), stream);
        let mut said = [0; 4];
        secured.read_exact(&mut said).expect("it is said over TLS");
        secured.write_all(&said).expect("it listens");
        let agreed = secured.conn.alpn_protocol().map(<[u8]>::to_vec);
        secured.conn.send_close_notify();
        let _ = secured.flush();
        (String::from_utf8(header).expect("text"), agreed)
    });
    let proxy = Proxy::with(&format!(
        "{}[upstreams.api]\nendpoints = [\"{address}\"]\ntls = {{ ca = {} }}\nsend_proxy_protocol = \"v1\"\n",
        listener(""),
        quoted(&authority.ca())
    ));

    let mut client = Client::to(&proxy);
    client.send("ping");

    assert_eq!(client.take(4), b"ping");
    let (header, agreed) = served.join().expect("it ends");
    assert!(header.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "), "{header}");
    assert_eq!(agreed, None);
}

#[test]
fn an_endpoint_that_is_not_trusted_is_told_nothing_and_another_is() {
    let (authority, other) = (Authority::new(), Authority::new());
    let script = |talk: &mut crate::harness::Talk| {
        while let Some(byte) = talk.take(1) {
            talk.send(byte);
        }
    };
    let bad = Upstream::secure(other.server(&other.issue("127.0.0.1"), &[], false), script);
    let good = Upstream::secure(authority.server(&authority.issue("127.0.0.1"), &[], false), script);
    let tls = format!("tls = {{ ca = {} }}\n", quoted(&authority.ca()));
    let proxy = Proxy::with(&format!("{}{}{tls}", listener(""), api([&bad, &good])));

    for _ in 0..2 {
        let mut client = Client::to(&proxy);
        client.send("ping");
        assert_eq!(client.take(4), b"ping");
    }
}

#[test]
fn a_header_of_who_connected_comes_before_tls() {
    let authority = Authority::new();
    let identity = authority.issue("shop.internal");
    let origin = Upstream::echo();
    let proxy = Proxy::with(&format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = true\ntls = {{ certificates = [{{ cert = {}, key = {} }}] }}\n{}",
        quoted(&identity.cert),
        quoted(&identity.key),
        api([&origin])
    ));

    let caller = Caller::to("shop.internal", &authority);
    let mut client =
        caller.connect_behind(proxy.address(), b"PROXY TCP4 192.0.2.7 192.0.2.1 1000 443\r\n").expect("TLS");
    assert_eq!(client.get("/").status, 200);

    let request = origin.only_request();
    assert_eq!(
        (request.field("x-forwarded-for"), request.field("x-forwarded-proto")),
        (Some("192.0.2.7"), Some("https"))
    );
}
