//! Certificates on disk: what is wrong with them is told, and what changes is taken over.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, HandshakeKind, SignatureScheme};

use super::tls_front::{front, rsa_key, tls};
use crate::harness::{ADMIN, Authority, Caller, Identity, Proxy, Upstream, api, eventually, quoted};

/// What is wrong with a listener that has this key `tls`.
fn faults(tls: &str) -> String {
    let text = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n{tls}{}", api([&Upstream::refusing()]));
    Proxy::start(&text, None).expect_err("it must not start")
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> std::path::PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, bytes).expect("a file");
    file
}

#[test]
fn every_file_that_is_no_good_is_named_with_the_reason() {
    let authority = Authority::new();
    let (one, two) = (authority.issue("one"), authority.issue("two"));
    let past = authority.issue_for(&["past"], |params| {
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2000, 1, 1), rcgen::date_time_ymd(2001, 1, 1));
    });
    let future = authority.issue_for(&["future"], |params| {
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(3000, 1, 1), rcgen::date_time_ymd(3001, 1, 1));
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| write(folder.path(), name, bytes);
    let pair = |cert: &Path, key: &Path| tls(&[&Identity { cert: cert.into(), key: key.into() }], "");
    let nowhere = Path::new("/nowhere/a.pem");
    let half = std::fs::read(&one.cert).expect("a file");
    let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIHs\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = b"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIHs\n-----END EC PRIVATE KEY-----\n";
    let (empty, garbage) = (file("empty", b""), file("garbage.pem", b"\xff\x00 no PEM"));
    let client_ca = |path: &Path| tls(&[&one], &format!(", client_ca = {}", quoted(path)));

    for (tls, why) in [
        (pair(nowhere, &one.key), "/nowhere/a.pem: No such file"),
        (pair(&one.cert, nowhere), "/nowhere/a.pem: No such file"),
        (pair(folder.path(), &one.key), ": Is a directory"),
        (pair(&empty, &one.key), "empty: there is no certificate in it"),
        (pair(&garbage, &one.key), "garbage.pem: there is no certificate in it"),
        (pair(&one.key, &one.key), "one.key: there is no certificate in it"),
        (pair(&one.cert, &one.cert), "one.pem: there is no private key in it"),
        (pair(&file("half.pem", &half[..half.len() / 2]), &one.key), "half.pem: a section of PEM has no end"),
        (pair(&one.cert, &two.key), "two.key: this is not the key of the certificate in "),
        (pair(&one.cert, &file("a.key", encrypted)), "a.key: the key is encrypted"),
        (pair(&one.cert, &file("b.key", old)), "b.key: the key is encrypted"),
        (pair(&past.cert, &past.key), "past.pem: the certificate has expired on "),
        (pair(&future.cert, &future.key), "future.pem: the certificate is not valid before "),
        (client_ca(nowhere), "/nowhere/a.pem: No such file"),
        (client_ca(&empty), "empty: there is no certificate in it"),
    ] {
        let faults = faults(&tls);
        assert!(faults.contains("tls of the listener on `127.0.0.1:0`: ") && faults.contains(why), "{why} in {faults}");
    }
    let all = faults(&tls(&[&past, &Identity { cert: one.cert.clone(), key: two.key }, &future], ""));
    assert!(["past.pem", "two.key", "future.pem"].iter().all(|file| all.contains(file)), "all at once: {all}");
}

#[test]
fn a_weak_key_is_refused() {
    let Some(weak) = rsa_key(1024) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let key = write(folder.path(), "weak.key", weak);
    let cert = folder.path().join("weak.pem");
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-subj", "/CN=weak", "-days", "2", "-key"]).arg(&key).arg("-out").arg(&cert);
    assert!(command.output().expect("it made the key").status.success());

    let faults = faults(&tls(&[&Identity { cert, key }], ""));

    assert!(faults.contains("weak.pem: an RSA key of 1024 bits is too weak"), "{faults}");
}

#[test]
fn one_file_may_hold_a_certificate_and_its_key() {
    let authority = Authority::new();
    let identity = authority.issue("a.example");
    let folder = tempfile::tempdir().expect("a folder");
    let both = [&identity.cert, &identity.key].map(|file| std::fs::read(file).expect("a file")).concat();
    let both = write(folder.path(), "both.pem", both);
    let listener =
        format!("[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = {{ certificates = [{}] }}\n", quoted(&both));
    let proxy = Proxy::with(&format!("{listener}{}", api([&Upstream::replying("hi")])));

    let mut client = Caller::to("a.example", &authority).connect(proxy.address()).expect("it agrees");

    assert_eq!(client.get("/").text(), "hi");
}

#[test]
fn changed_files_are_shown_to_new_connections_and_the_old_ones_go_on() {
    let authority = Authority::new();
    let (first, second) = (authority.issue("a.example"), authority.issue_for(&["a.example.new", "a.example"], |_| ()));
    let before = first.der();
    let proxy = front(&[&first], "", &Upstream::replying("hi"));
    let caller = Caller::to("a.example", &authority);
    let mut client = caller.connect(proxy.address()).expect("it agrees");
    assert_eq!(client.get("/").text(), "hi");
    let shown = || {
        let fresh = Caller::to("a.example", &authority).connect(proxy.address()).expect("it agrees");
        fresh.session().peer_certificates().expect("one")[0].clone()
    };
    assert_eq!(shown(), before);

    second.replace(&first);

    eventually(|| shown() == second.der());
    assert_eq!(client.get("/").text(), "hi", "an old connection goes on");
    let resumed = caller.connect(proxy.address()).expect("it agrees");
    assert_eq!(resumed.session().handshake_kind(), Some(HandshakeKind::Resumed), "and so does an old session");
}

#[test]
fn changed_files_that_are_no_good_change_nothing() {
    let authority = Authority::new();
    let (first, other) = (authority.issue("a.example"), authority.issue("b.example"));
    let before = first.der();
    let proxy = front(&[&first], "", &Upstream::replying("hi"));
    let shown = |name| {
        let fresh = Caller::to(name, &authority).connect(proxy.address()).ok()?;
        fresh.session().peer_certificates().map(|shown| shown[0].clone())
    };
    assert_eq!(shown("a.example"), Some(before.clone()));

    // A key without its certificate, which is there a while later.
    std::fs::copy(&other.key, &first.key).expect("a file");
    let changes = |outcome| format!("staunch_listener_certificate_changes_total{{outcome=\"{outcome}\"}}");
    eventually(|| proxy.metric(&changes("refused")) == 1.0);
    assert_eq!((shown("a.example"), shown("b.example")), (Some(before), None));
    std::fs::copy(&other.cert, &first.cert).expect("a file");

    eventually(|| shown("b.example") == Some(other.der()));
    proxy.assert_counted(&changes("taken_over"), 1.0);
    proxy.assert_counted(&changes("refused"), 1.0);
}

#[test]
fn a_reload_takes_changed_files_over_and_refuses_bad_ones() {
    let authority = Authority::new();
    let (first, second) = (authority.issue("a.example"), authority.issue_for(&["second", "a.example"], |_| ()));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let listener = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n{}", tls(&[&first], ""));
    let text = format!("{listener}{ADMIN}{}", api([&Upstream::replying("hi")]));
    let proxy = Proxy::start(&text, Some(&file)).expect("it is fine");
    let shown = || {
        let fresh = Caller::to("a.example", &authority).connect(proxy.address()).expect("it agrees");
        fresh.session().peer_certificates().expect("one")[0].clone()
    };

    second.replace(&first);
    proxy.reload(&file, &text);
    assert_eq!(shown(), second.der());

    std::fs::write(&first.key, "no key").expect("a file");
    let generation = proxy.generation();
    proxy.reread(&file, &text);
    proxy.assert_counted("staunch_config_refused_total", 1.0);
    assert_eq!((proxy.generation(), shown()), (generation, second.der()));
}

#[test]
fn a_certificate_that_expires_while_it_serves_stands_in_the_way_of_nothing_else() {
    let authority = Authority::new();
    let until = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later") + Duration::from_secs(2);
    let identity = authority.issue_for(&["a.example"], |params| {
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + until;
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let tls = tls(&[&identity], "");
    let text = |more: &str| {
        format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n{tls}{}{more}", api([&Upstream::replying("hi")]))
    };
    let proxy = Proxy::start(&text(""), Some(&file)).expect("it is still good");

    eventually(|| UNIX_EPOCH + until + Duration::from_secs(1) < SystemTime::now());
    proxy.reload(&file, &text("keepalive = 3\n"));

    let faults = faults(&tls);
    assert!(faults.contains("the certificate has expired on "), "but nothing starts with it: {faults}");
}

/// An answer about the certificate of this serial number, whose signature nobody looks at here.
fn ocsp(serial: &[u8], status: u8) -> Vec<u8> {
    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = content.len();
        let mut out = vec![tag];
        match length {
            0..128 => out.push(length as u8),
            128..256 => out.extend([0x81, length as u8]),
            _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        out.extend(content);
        out
    }
    let sha1 = der(0x30, &[&der(0x06, &[&[0x2b, 0x0e, 3, 2, 0x1a]]), &[5, 0]]);
    let hash = der(0x04, &[&[7; 20]]);
    let id = der(0x30, &[&sha1, &hash, &hash, &der(0x02, &[serial])]);
    let time = |text: &[u8]| der(0x18, &[text]);
    let status = match status {
        1 => der(0xa1, &[&time(b"20200101000000Z")]),
        status => vec![0x80 | status, 0],
    };
    let next = der(0xa0, &[&time(b"29990101000000Z")]);
    let single = der(0x30, &[&id, &status, &time(b"20200101000000Z"), &next]);
    let responder = der(0xa2, &[&hash]);
    let data = der(0x30, &[&responder, &time(b"20200101000000Z"), &der(0x30, &[&single])]);
    let basic = der(0x30, &[&data, &sha1, &der(0x03, &[&[0, 1]])]);
    let kind = der(0x06, &[&[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]]);
    let bytes = der(0xa0, &[&der(0x30, &[&kind, &der(0x04, &[&basic])])]);
    der(0x30, &[&[0x0a, 1, 0], &bytes])
}

/// Keeps what was stapled.
#[derive(Debug, Default)]
struct Looks(Mutex<Vec<u8>>);

impl ServerCertVerifier for Looks {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        stapled: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.0.lock().expect("nobody panics") = stapled.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn the_word_of_an_authority_is_stapled_if_it_is_good() {
    let authority = Authority::new();
    let identity = authority.issue_for(&["a.example"], |params| params.serial_number = Some(vec![0x11, 0x22].into()));
    let folder = tempfile::tempdir().expect("a folder");
    let listener = |ocsp: &[u8]| {
        let file = write(folder.path(), "a.ocsp", ocsp);
        let (cert, key, ocsp) = (quoted(&identity.cert), quoted(&identity.key), quoted(&file));
        format!("tls = {{ certificates = [{{ cert = {cert}, key = {key}, ocsp = {ocsp} }}] }}\n")
    };
    let good = ocsp(&[0x11, 0x22], 0);
    let text = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n{}{}", listener(&good), api([&Upstream::refusing()]));
    let proxy = Proxy::with(&text);
    let looks = Arc::new(Looks::default());
    let mut caller = Caller::to("a.example", &authority);
    caller.config.dangerous().set_certificate_verifier(looks.clone());
    caller.connect(proxy.address()).expect("it agrees");
    assert_eq!(*looks.0.lock().expect("nobody panics"), good);

    for (bad, why) in [
        (ocsp(&[0x11, 0x23], 0), "a.ocsp: it is about another certificate"),
        (ocsp(&[0x11, 0x22], 1), "a.ocsp: it says that the certificate is revoked"),
        (ocsp(&[0x11, 0x22], 2), "a.ocsp: it says that the authority does not know the certificate"),
        (vec![0x30, 3, 0x0a, 1, 6], "a.ocsp: the authority gave no answer: OCSP status 6"),
        (good[..good.len() - 1].to_vec(), "a.ocsp: it is not an OCSP response"),
        ([&good[..], b"x"].concat(), "a.ocsp: it is not an OCSP response"),
        (b"-----BEGIN OCSP RESPONSE-----".to_vec(), "a.ocsp: an OCSP response is DER here, and this is PEM"),
        (Vec::new(), "a.ocsp: it is not an OCSP response"),
    ] {
        let faults = faults(&listener(&bad));
        assert!(faults.contains(why), "{why} in {faults}");
    }
}
