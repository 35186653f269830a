//! TLS that is passed on as it is, by the name it asks for.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{AsyncOrigin, Authority, Client, End, Log, Proxy, Upstream};

/// Says, over TLS, its name and what it is asked.
pub(crate) fn secret(authority: &Authority, name: &'static str, host: &str) -> AsyncOrigin {
    let tls = authority.server(&authority.issue(host), &[], false);
    AsyncOrigin::start(Some(tls), move |mut channel| async move {
        let mut asked = [0; 4];
        if channel.read_exact(&mut asked).await.is_ok() {
            let answer = [name.as_bytes(), &asked].concat();
            // A client that is gone needs no answer.
            let _ = channel.write_all(&answer).await;
            let _ = channel.shutdown().await;
        }
    })
}

/// Something that is no TLS.
fn plain() -> Upstream {
    Upstream::raw(|talk| {
        if let Some(asked) = talk.take(4) {
            talk.send([b"plain", &asked[..]].concat());
        }
    })
}

fn connection(authority: &Authority, name: &str) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    let ca = rustls::pki_types::pem::PemObject::from_pem_file(authority.ca()).expect("a certificate");
    roots.add(ca).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).expect("a name")).expect("a client")
}

/// Asks over TLS for a name.
pub(crate) fn ask(authority: &Authority, proxy: &Proxy, name: &str) -> std::io::Result<String> {
    let stream = std::net::TcpStream::connect(proxy.address()).expect("it listens");
    let mut secure = StreamOwned::new(connection(authority, name), stream);
    secure.write_all(b"ping")?;
    let mut answer = String::new();
    secure.read_to_string(&mut answer).map(|_| answer)
}

struct Scene {
    authority: Authority,
    _origins: [AsyncOrigin; 2],
    proxy: Proxy,
    log: Log,
}

/// Names that lead to `A` and `B`, and all others to something that is no TLS, or nowhere.
fn scene(default: Option<&Upstream>) -> Scene {
    let authority = Authority::new();
    let origins = [secret(&authority, "A", "db.example.com"), secret(&authority, "B", "*.example.org")];
    let log = Log::new();
    let (key, table) = match default {
        Some(plain) => ("upstream = \"plain\"\n", format!("[upstreams.plain]\nendpoints = [\"{plain}\"]\n")),
        None => ("", String::new()),
    };
    let proxy = Proxy::with(&format!(
        "[server]\nclient_header_timeout = \"300ms\"\n{}[[listeners]]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n{key}\
         sni = [{{ hosts = [\"db.example.com\"], upstream = \"a\" }}, {{ hosts = [\"*.example.org\"], upstream = \"b\" }}]\n\
         [upstreams.a]\nendpoints = [\"{}\"]\n[upstreams.b]\nendpoints = [\"{}\"]\n{table}\
         [[routes]]\nrespond = {{}}\n",
        log.settings(),
        origins[0],
        origins[1]
    ));
    Scene { authority, _origins: origins, proxy, log }
}

#[test]
fn a_name_leads_to_who_has_its_certificate() {
    let Scene { authority, proxy, log, .. } = &scene(None);

    assert_eq!(ask(authority, proxy, "db.example.com").expect("an answer"), "Aping");
    assert_eq!(ask(authority, proxy, "x.example.org").expect("an answer"), "Bping");

    let lines = log.lines(2);
    let mut names: Vec<_> = lines.iter().map(|line| (&line["server_name"], &line["upstream"])).collect();
    names.sort_by_key(|(name, _)| name.to_string());
    assert_eq!(names, [(&"db.example.com".into(), &"a".into()), (&"x.example.org".into(), &"b".into())]);
}

#[test]
fn a_name_that_leads_nowhere_is_not_served() {
    let Scene { authority, proxy, log, .. } = &scene(None);

    assert!(ask(authority, proxy, "example.org").is_err(), "a wildcard is not the name under which it is");
    assert!(ask(authority, proxy, "127.0.0.1").is_err(), "an address is not sent as a name");

    let lines = log.lines(2);
    let errors: Vec<_> = lines.iter().map(|line| line["error"].as_str().expect("an error")).collect();
    assert_eq!(errors, ["unknown_server_name", "no_server_name"]);
}

#[test]
fn a_hello_may_come_a_byte_at_a_time_and_in_several_records() {
    let Scene { authority, proxy, .. } = &scene(None);
    let mut tls = connection(authority, "db.example.com");
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).expect("a message");
    let (front, behind) = hello[5..].split_at(60);
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).expect("short").to_be_bytes();
        [&[22, 3, 1, length[0], length[1]], part].concat()
    };

    for bytes in [hello.clone(), [record(front), record(behind)].concat()] {
        let mut client = Client::to(proxy);
        for byte in &bytes {
            client.send([*byte]);
        }
        // The endpoint says hello, in a record of a handshake.
        assert_eq!(client.take(2), [22, 3]);
    }
}

#[test]
fn what_is_no_tls_goes_to_the_listeners_own_upstream() {
    let plain = plain();
    let Scene { authority, proxy, .. } = &scene(Some(&plain));
    let mut client = Client::to(proxy);
    client.send("ping");

    assert_eq!(client.drain(), (b"plainping".to_vec(), End::Closed));
    assert_eq!(ask(authority, proxy, "db.example.com").expect("an answer"), "Aping");
    // It is passed on with what was read of it already.
    assert!(ask(authority, proxy, "other.example").is_err(), "no TLS there");
    assert_eq!(plain.connections(), 2);
}

#[test]
fn what_is_no_tls_is_closed_where_it_has_nowhere_to_go() {
    let Scene { proxy, log, .. } = &scene(None);
    for sent in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\0\x05\x01\0\0\x01\0"] {
        let mut client = Client::to(proxy);
        client.send(sent);

        let (said, end) = client.drain();
        assert!(said.is_empty() && end != End::Silent, "{end:?}");
    }

    let lines = log.lines(2);
    let errors: Vec<_> = lines.iter().map(|line| line["error"].as_str().expect("an error")).collect();
    assert_eq!(errors, ["not_tls", "bad_client_hello"]);
}

#[test]
fn who_says_too_little_for_too_long_is_closed() {
    let Scene { proxy, log, .. } = &scene(None);
    let mut client = Client::to(proxy);
    client.send(b"\x16\x03\x01");

    let (said, end) = client.drain();

    assert!(said.is_empty() && end != End::Silent, "{end:?}");
    assert_eq!(log.line()["error"], "client_header_timeout");
}
