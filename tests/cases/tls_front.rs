//! TLS in front: which certificate, version and protocol a client gets, how a session goes on, and how it ends.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion};

use crate::harness::{ADMIN, Authority, Caller, Client, End, Identity, PATIENCE, Proxy, Upstream, api, quoted};

/// A listener's key `tls` with these certificates and further keys.
pub(super) fn tls(certificates: &[&Identity], more: &str) -> String {
    let written = certificates.iter().map(|one| {
        let (cert, key) = (quoted(&one.cert), quoted(&one.key));
        format!("{{ cert = {cert}, key = {key} }}")
    });
    format!("tls = {{ certificates = [{}]{more} }}\n", written.collect::<Vec<_>>().join(", "))
}

/// A proxy with one listener behind TLS.
pub(super) fn front(certificates: &[&Identity], more: &str, origin: &Upstream) -> Proxy {
    let listener = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n{}", tls(certificates, more));
    Proxy::with(&format!("{listener}{ADMIN}{}", api([origin])))
}

fn origin() -> Upstream {
    Upstream::answering(|request| crate::harness::ok(request.field("x-forwarded-proto").unwrap_or_default()))
}

#[test]
fn a_client_gets_the_certificate_of_the_name_it_asks_for() {
    let authority = Authority::new();
    let first = authority.issue_for(&["first.example", "127.0.0.1"], |_| ());
    let exact = authority.issue("shop.example.org");
    let wild = authority.issue_for(&["*.example.org", "example.org"], |_| ());
    let proxy = front(&[&first, &exact, &wild], "", &origin());

    for (name, expected) in [
        ("first.example", &first),
        ("shop.example.org", &exact),
        ("www.example.org", &wild),
        ("WWW.Example.org", &wild),
        ("example.org", &wild),
        // An address is no name, and so none is asked for.
        ("127.0.0.1", &first),
    ] {
        let mut client = Caller::to(name, &authority).connect(proxy.address()).expect(name);
        assert_eq!(client.session().peer_certificates().expect("one")[0], expected.der(), "for {name}");
        assert_eq!(client.get("/").text(), "https", "endpoints are told");
    }
    // A name that nobody has gets the first certificate, which the client then does not take.
    let error = Caller::to("a.b.example.org", &authority).connect(proxy.address()).expect_err("another name");
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[test]
fn a_client_gets_a_certificate_whose_signatures_it_knows() {
    let Some(rsa) = rsa_key(2048) else { return };
    let authority = Authority::new();
    let rsa = authority.sign(&rcgen::KeyPair::from_pem(&rsa).expect("a key"), &["both.example"], |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "rsa");
    });
    let rsa = Identity { cert: renamed(&rsa.cert, "rsa.pem"), key: renamed(&rsa.key, "rsa.key") };
    let ecdsa = authority.issue("both.example");
    let proxy = front(&[&rsa, &ecdsa], "", &origin());

    let both = Caller::to("both.example", &authority).connect(proxy.address()).expect("it agrees");
    assert_eq!(both.session().peer_certificates().expect("one")[0], ecdsa.der());

    let mut old = Caller::with("both.example", &authority, &[&TLS12], None);
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains("_RSA_"));
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add_parsable_certificates([rustls::pki_types::pem::PemObject::from_pem_file(authority.ca()).expect("a file")]);
    let builder = rustls::ClientConfig::builder_with_provider(provider.into()).with_protocol_versions(&[&TLS12]);
    old.config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    let old = old.connect(proxy.address()).expect("it agrees");
    assert_eq!(old.session().peer_certificates().expect("one")[0], rsa.der());
}

/// A new RSA key in PEM, where there is an `openssl` to make it.
pub(super) fn rsa_key(bits: u32) -> Option<String> {
    let made = std::process::Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")])
        .output()
        .ok()?;
    made.status.success().then(|| String::from_utf8(made.stdout).expect("PEM"))
}

fn renamed(file: &std::path::Path, name: &str) -> std::path::PathBuf {
    let renamed = file.with_file_name(name);
    std::fs::rename(file, &renamed).expect("a file");
    renamed
}

#[test]
fn a_client_and_the_proxy_agree_on_a_version_that_both_speak() {
    let authority = Authority::new();
    let identity = authority.issue("a.example");
    for (more, versions, expected) in [
        ("", &[&TLS12, &TLS13][..], Some(ProtocolVersion::TLSv1_3)),
        ("", &[&TLS12], Some(ProtocolVersion::TLSv1_2)),
        (", min_version = \"1.3\"", &[&TLS12], None),
        (", min_version = \"1.3\"", &[&TLS12, &TLS13], Some(ProtocolVersion::TLSv1_3)),
        (", max_version = \"1.2\"", &[&TLS12, &TLS13], Some(ProtocolVersion::TLSv1_2)),
        (", max_version = \"1.2\"", &[&TLS13], None),
    ] {
        let proxy = front(&[&identity], more, &origin());
        match (Caller::with("a.example", &authority, versions, None).connect(proxy.address()), expected) {
            (Ok(mut client), Some(version)) => {
                assert_eq!(client.session().protocol_version(), Some(version), "with{more}");
                assert_eq!(client.get("/").text(), "https");
            }
            (Err(error), None) => assert!(error.to_string().contains("ProtocolVersion"), "with{more}: {error}"),
            (result, _) => panic!("with{more}: {:?}", result.map(|client| client.session().protocol_version())),
        }
    }
}

#[test]
fn the_protocol_is_agreed_on_in_the_handshake() {
    let authority = Authority::new();
    let proxy = front(&[&authority.issue("a.example")], "", &origin());
    for (offered, agreed) in [
        (&["http/1.1"][..], Some(&b"http/1.1"[..])),
        (&["h2", "http/1.1"], Some(b"h2")),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&["http/1.0", "http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let client = Caller::to("a.example", &authority).offering(offered).connect(proxy.address()).expect("it agrees");
        assert_eq!(client.session().alpn_protocol(), agreed, "for {offered:?}");
    }
    let other = Caller::to("a.example", &authority).offering(&["smtp"]).connect(proxy.address());
    let error = other.expect_err("RFC 7301 section 3.2: a fatal alert").to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn a_session_goes_on_whichever_worker_a_client_meets() {
    let authority = Authority::new();
    let listener = tls(&[&authority.issue("a.example")], "");
    let text = format!(
        "[server]\nworkers = 2\n[[listeners]]\naddress = \"127.0.0.1:0\"\n{listener}{ADMIN}{}",
        api([&origin()])
    );
    let proxy = Proxy::with(&text);
    for version in [&TLS12, &TLS13] {
        let caller = Caller::with("a.example", &authority, &[version], None);
        let kinds = (0..20).map(|_| {
            let mut client = caller.connect(proxy.address()).expect("it agrees");
            // Tickets of TLS 1.3 come behind the handshake.
            client.get("/");
            client.session().handshake_kind()
        });
        let resumed = kinds.filter(|kind| *kind == Some(HandshakeKind::Resumed)).count();
        assert_eq!(resumed, 19, "with {version:?}");
    }
    proxy.assert_counted("staunch_listener_tls_handshakes_total{outcome=\"full\"}", 2.0);
    proxy.assert_counted("staunch_listener_tls_handshakes_total{outcome=\"resumed\"}", 38.0);
}

#[test]
fn who_does_not_shake_hands_in_time_is_sent_away() {
    let authority = Authority::new();
    let proxy = front(&[&authority.issue("a.example")], ", handshake_timeout = \"50ms\"", &origin());

    Client::to(&proxy).assert_closed();
    let mut slow = Client::to(&proxy);
    slow.send([0x16, 3, 1, 2, 0]);
    slow.assert_closed();

    proxy.assert_counted("staunch_http_timeouts_total{timeout=\"client_handshake\"}", 2.0);
    proxy.assert_counted("staunch_listener_tls_handshakes_total{outcome=\"failed\"}", 2.0);
}

#[test]
fn who_speaks_no_tls_is_told_so() {
    let authority = Authority::new();
    let proxy = front(&[&authority.issue("a.example")], "", &origin());

    let mut plain = Client::to(&proxy);
    let answer = plain.get("/");
    assert_eq!((answer.status, answer.text()), (400, "a plain HTTP request was sent to a port that speaks HTTPS.\n"));
    plain.assert_closed();

    let mut garbage = Client::to(&proxy);
    garbage.send([0; 100]);
    let (said, end) = garbage.drain();
    // A fatal alert (RFC 8446 section 6), and an end in order, so that it can be read.
    assert_eq!((said.first(), said.get(5), end), (Some(&21), Some(&2), End::Closed), "{said:?}");
    let mut old = Client::to(&proxy);
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    old.send(hello);
    assert_eq!(old.drain(), (vec![21, 3, 1, 0, 2, 2, 70], End::Closed), "RFC 8446 section 6.2: protocol_version");
    proxy.assert_counted("staunch_listener_tls_handshakes_total{outcome=\"failed\"}", 3.0);
}

#[test]
fn what_ended_in_order_is_told_from_what_was_cut_off() {
    let authority = Authority::new();
    let origin = Upstream::raw(|talk| {
        let Some(request) = talk.request() else { return };
        match request.target() {
            "/cut" => talk.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart"),
            _ => talk.send("HTTP/1.1 200 OK\r\n\r\nwhole"),
        };
    });
    let proxy = front(&[&authority.issue("a.example")], "", &origin);
    let connect = || Caller::to("a.example", &authority).connect(proxy.address()).expect("it agrees");

    let mut client = connect();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "whole");
    let mut client = connect();
    assert_eq!(client.ask("GET", "/", "Connection: close\r\n").text(), "whole");
    client.assert_closed();
    let mut client = connect();
    client.send("GET /cut HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(client.drain().1, End::Reset, "without the word that says that it is whole");
    let mut client = connect();
    client.send("GET\r\n\r\n");
    assert_eq!(client.response().status, 400);
    client.assert_closed();
}

#[test]
fn a_client_that_leaves_in_order_is_answered_in_order() {
    let authority = Authority::new();
    let proxy = front(&[&authority.issue("a.example")], "", &origin());
    let mut client = Caller::to("a.example", &authority).connect(proxy.address()).expect("it agrees");
    assert_eq!(client.get("/").text(), "https");

    client.finish();

    client.assert_closed();
}

#[test]
fn long_bodies_pass_both_ways() {
    let authority = Authority::new();
    let body = crate::harness::pattern(3 << 20);
    let proxy = front(&[&authority.issue("a.example")], "", &Upstream::echo());
    for version in [&TLS12, &TLS13] {
        let mut client =
            Caller::with("a.example", &authority, &[version], None).connect(proxy.address()).expect("it agrees");
        let answer = client.ask("POST", "/", &format!("Expect: 100-continue\r\nContent-Length: {}\r\n", body.len()));
        assert_eq!(answer.status, 100);
        client.send(&body);
        assert!(client.response().body == body, "it came back as it was sent");
        assert_eq!(client.post("/", "x").text(), "x");
    }
}

#[test]
fn early_data_is_not_taken() {
    let authority = Authority::new();
    let proxy = front(&[&authority.issue("a.example")], "", &origin());
    let mut caller = Caller::to("a.example", &authority);
    caller.config.enable_early_data = true;
    caller.connect(proxy.address()).expect("it agrees").get("/");

    let config = std::sync::Arc::new(caller.config.clone());
    let mut session =
        rustls::ClientConnection::new(config, "a.example".try_into().expect("a name")).expect("a session");

    assert!(session.early_data().is_none(), "anybody could send it again");
}

/// What is seen of the handshake on the wire where bytes come one by one.
#[test]
fn a_handshake_may_come_in_small_pieces() {
    let authority = Authority::new();
    let proxy = front(&[&authority.issue("a.example")], "", &origin());
    let tcp = TcpStream::connect(proxy.address()).expect("it listens");
    tcp.set_nodelay(true).expect("a socket");
    tcp.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let config = std::sync::Arc::new(Caller::to("a.example", &authority).config);
    let session = rustls::ClientConnection::new(config, "a.example".try_into().expect("a name")).expect("a session");
    let mut stream = rustls::StreamOwned::new(session, Bytewise(tcp));

    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("a whole answer");

    assert!(answer.ends_with("\r\n\r\nhttps"), "{answer}");
}

struct Bytewise(TcpStream);

impl Read for Bytewise {
    fn read(&mut self, space: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(space)
    }
}

impl Write for Bytewise {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn the_example_runs() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    std::fs::create_dir(folder.path().join("tls")).expect("a folder");
    let place = |name: &str, identity: &Identity| {
        let file = |end: &str| folder.path().join("tls").join(format!("{name}.{end}"));
        identity.replace(&Identity { cert: file("pem"), key: file("key") });
    };
    let client = authority.issue("alice");
    place("default", &authority.issue("default.example"));
    place("shop", &authority.issue("shop.example"));
    place("staunch", &authority.issue("staunch.internal"));
    std::fs::copy(authority.ca(), folder.path().join("tls/internal-ca.pem")).expect("a file");
    let origin = Upstream::secure(authority.server(&authority.issue("shop.internal"), &[], true), |talk| {
        while let Some(request) = talk.request() {
            talk.send(crate::harness::ok(request.field("x-client-cert-subject").unwrap_or("nobody")));
        }
    });
    let text = include_str!("../../examples/tls.toml")
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("127.0.0.1:8443", "127.0.0.1:0")
        .replace("127.0.0.1:9443", &origin.to_string());
    let proxy = Proxy::start(&text, Some(&file)).expect("it is fine");

    for (shown, told) in [(None, "nobody"), (Some(&client), "CN=rcgen self signed cert")] {
        let caller = Caller::with("shop.example", &authority, &[&TLS13], shown);
        assert_eq!(caller.connect(proxy.address_of(1)).expect("it agrees").get("/").text(), told);
    }
    assert_eq!(proxy.get("/x").field("location"), Some("https://test:8443/x"));
}
