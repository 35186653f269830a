//! TLS of which we are the server.
//!
//! What is read from files is built aside and published whole: a handshake goes on with what it began with, and when files
//! change, what can be used of them takes the place of what was there, or nothing does.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection, SupportedProtocolVersion};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::config::{Certificate, ClientAuth, Place, ServerTls, TlsVersion};
use crate::net::Stream;
use crate::net::peer::{ClientCertificate, Security};
use crate::net::tls::chooser::{Chooser, Shown};
use crate::net::tls::files::{self, Files, bad};
use crate::net::tls::tickets::{Scope, Tickets};
use crate::net::tls::{BadTls, HTTP1, name, ocsp};

/// Makes a listener's connections secure. Shared by all workers.
pub(crate) struct Acceptor {
    settings: ServerTls,
    protocols: &'static [&'static [u8]],
    tickets: Arc<Tickets>,
    ready: ArcSwap<Ready>,
}

/// What was read from the files.
struct Ready {
    config: Arc<ServerConfig>,
    digest: [u8; 32],
    /// By their SHA-256: certificates that serve, whatever their time says.
    shown: HashSet<[u8; 32]>,
}

/// All that is wrong with the files of a listener, each with where the file is named.
pub(super) type Faulty = Vec<(Place, BadTls)>;

impl Acceptor {
    /// Reads the files that the settings name. `protocols` are chosen from by ALPN (RFC 7301), the best first; none: there
    /// is no such choice. `before`: what serves now. A certificate that has expired while it served is kept then, as no
    /// certificate at all would not be better.
    pub(crate) fn build(
        settings: &ServerTls,
        protocols: &'static [&'static [u8]],
        tickets: &Arc<Tickets>,
        before: &[Arc<Self>],
    ) -> Result<Arc<Self>, Faulty> {
        let serving = before.iter().flat_map(|acceptor| acceptor.ready.load().shown.clone()).collect();
        let ready = read(settings, protocols, tickets, &serving)?;
        let is_same = |known: &&Arc<Self>| {
            known.settings == *settings && known.protocols == protocols && known.ready.load().digest == ready.digest
        };
        if let Some(known) = before.iter().find(is_same) {
            return Ok(known.clone());
        }
        let (settings, tickets) = (settings.clone(), tickets.clone());
        Ok(Arc::new(Self { settings, protocols, tickets, ready: ArcSwap::from_pointee(ready) }))
    }

    /// Whether HTTP is what it is for.
    pub(crate) fn speaks_http(&self) -> bool {
        self.protocols.contains(&HTTP1)
    }

    pub(crate) fn settings(&self) -> &ServerTls {
        &self.settings
    }

    /// Reads the files again, and serves new connections with them. Answers whether they hold something else.
    ///
    /// # Errors
    /// What is wrong with them; what was read before stays.
    pub(crate) fn reread(&self) -> Result<bool, Faulty> {
        let before = self.ready.load();
        let ready = read(&self.settings, self.protocols, &self.tickets, &before.shown)?;
        if ready.digest == before.digest {
            return Ok(false);
        }
        self.ready.store(Arc::new(ready));
        Ok(true)
    }

    /// The same for HTTP/3 over QUIC, where TLS carries no bytes but makes keys (RFC 9001).
    #[cfg(feature = "http3")]
    pub(crate) fn for_http3(&self) -> Arc<ServerConfig> {
        let mut config = (*self.ready.load().config).clone();
        config.alpn_protocols = vec![b"h3".to_vec()];
        Arc::new(config)
    }

    /// Shakes hands over a connection.
    ///
    /// # Errors
    /// What the client did, with the connection: an alert has told it so.
    pub(crate) async fn accept(&self, stream: Stream) -> Result<TlsStream<Stream>, (io::Error, Stream)> {
        let config = self.ready.load().config.clone();
        TlsAcceptor::from(config).accept(stream).into_fallible().await
    }
}

/// What a handshake came to, and whether it went on with an earlier session.
pub(crate) fn security(session: &ServerConnection) -> (Security, bool) {
    let client = session.peer_certificates().and_then(<[_]>::first).map(client);
    let cipher = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("");
    let security = Security {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        },
        cipher: match cipher {
            // The names of IANA tell no version.
            "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
            "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
            "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
            other => other,
        },
        server_name: session.server_name().map(str::to_owned),
        client,
    };
    (security, session.handshake_kind() == Some(HandshakeKind::Resumed))
}

/// What a handshake of QUIC came to, which is TLS 1.3 always. Its cipher is not told.
#[cfg(feature = "http3")]
pub(crate) fn security_of_quic(server_name: Option<String>, shown: &[CertificateDer<'_>]) -> Security {
    Security { version: "TLSv1.3", cipher: "", server_name, client: shown.first().map(client) }
}

fn client(certificate: &CertificateDer<'_>) -> ClientCertificate {
    let mut fingerprint = String::with_capacity(64);
    name::write_hex(&mut fingerprint, &Sha256::digest(certificate));
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return ClientCertificate { fingerprint, ..ClientCertificate::default() };
    };
    let mut serial = String::with_capacity(40);
    name::write_hex(&mut serial, parsed.raw_serial());
    ClientCertificate {
        subject: name::text(parsed.subject()),
        issuer: name::text(parsed.issuer()),
        serial,
        fingerprint,
    }
}

fn read(
    settings: &ServerTls,
    protocols: &[&[u8]],
    tickets: &Tickets,
    serving: &HashSet<[u8; 32]>,
) -> Result<Ready, Faulty> {
    let provider = Arc::new(ring::default_provider());
    let mut files = Files::default();
    let mut faults = Faulty::new();
    let mut certificates = Vec::new();
    for certificate in &settings.certificates {
        match read_certificate(certificate, &mut files, &provider, serving) {
            Ok(shown) => certificates.push(shown),
            Err(error) => faults.push((certificate.place, error)),
        }
    }
    let place = settings.certificates.first().map(|first| first.place).unwrap_or_default();
    let (verifier, scope) = match read_clients(settings, &mut files, &provider) {
        Ok(clients) => clients,
        Err(error) => {
            faults.push((place, error));
            return Err(faults);
        }
    };
    if !faults.is_empty() {
        return Err(faults);
    }
    let shown = certificates.iter().filter_map(|shown| shown.key.cert.first()).map(digest).collect();
    let config = config(settings, protocols, provider, verifier, Chooser::new(certificates));
    let config = config.and_then(|mut config| {
        config.ticketer = tickets.of(scope)?;
        Ok(config)
    });
    let config = config.map_err(|error| vec![(place, error)])?;
    Ok(Ready { config: Arc::new(config), digest: files.digest(), shown })
}

fn config(
    settings: &ServerTls,
    protocols: &[&[u8]],
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    chooser: Chooser,
) -> Result<ServerConfig, BadTls> {
    let known: [(TlsVersion, &'static SupportedProtocolVersion); 2] =
        [(TlsVersion::Tls12, &TLS12), (TlsVersion::Tls13, &TLS13)];
    let wanted = settings.min_version..=settings.max_version;
    let versions: Vec<_> = known.iter().filter(|(known, _)| wanted.contains(known)).map(|(_, found)| *found).collect();
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| BadTls::Unfit(error.to_string()))?;
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(chooser));
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // What comes before the handshake is done can be sent again by anybody (RFC 8446 section 8).
    config.max_early_data_size = 0;
    // Enough for a client that opens a second connection at once, as browsers do.
    config.send_tls13_tickets = 2;
    Ok(config)
}

/// Who is asked of clients, and a digest of that.
fn read_clients(
    settings: &ServerTls,
    files: &mut Files,
    provider: &Arc<CryptoProvider>,
) -> Result<(Arc<dyn ClientCertVerifier>, Scope), BadTls> {
    let Some(path) = &settings.client_ca else { return Ok((Arc::new(NoClientAuth), [0; 32])) };
    let roots = files.trusted(path)?;
    let mut scope = Sha256::new();
    scope.update([u8::from(settings.client_auth == ClientAuth::Required)]);
    for root in &roots.roots {
        for part in [&*root.subject, &*root.subject_public_key_info] {
            scope.update((part.len() as u64).to_le_bytes());
            scope.update(part);
        }
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    if settings.client_auth == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build().map_err(|error| bad(path, &error))?;
    Ok((verifier, scope.finalize().into()))
}

fn read_certificate(
    certificate: &Certificate,
    files: &mut Files,
    provider: &CryptoProvider,
    serving: &HashSet<[u8; 32]>,
) -> Result<Shown, BadTls> {
    let Certificate { cert, key, ocsp: answer, .. } = certificate;
    let key = Arc::new(files.identity(cert, key, provider)?);
    let Some(own) = key.cert.first() else { return Err(bad(cert, &"there is no certificate in it")) };
    let parsed = files::parse(cert, own)?;
    check_time(certificate, &parsed, serving.contains(&digest(own)))?;
    let names = names(&parsed);
    let mut stapled = None;
    if let Some(path) = answer {
        let bytes = files.read(path)?;
        let word = ocsp::read(path, &bytes, parsed.raw_serial())?;
        if word.until.is_some_and(|until| until <= SystemTime::now()) {
            tracing::warn!(file = %path.display(), "not stapled: the OCSP response is out of date");
        } else {
            let key = CertifiedKey { ocsp: Some(bytes), ..(*key).clone() };
            stapled = Some((Arc::new(key), word.until));
        }
    }
    drop(parsed);
    Ok(Shown { key, stapled, names })
}

/// Whether a certificate is good now. `serves`: it was good once.
fn check_time(certificate: &Certificate, parsed: &X509Certificate<'_>, serves: bool) -> Result<(), BadTls> {
    let path = &certificate.cert;
    let validity = parsed.validity();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
    if validity.not_before.timestamp() > now {
        return Err(bad(path, &format_args!("the certificate is not valid before {}", validity.not_before)));
    }
    if validity.not_after.timestamp() >= now {
        return Ok(());
    }
    let why = format!("the certificate has expired on {}", validity.not_after);
    if !serves {
        return Err(bad(path, &why));
    }
    tracing::warn!(file = %path.display(), "still served: {why}");
    Ok(())
}

/// The host names a certificate is for; of one from before there were alternative names, its common name.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let Some(alternative) = alternative else {
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        return common.map(str::to_ascii_lowercase).collect();
    };
    let names = alternative.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    names.collect()
}

fn digest(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}
