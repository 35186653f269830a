//! Certificates made for a test, and an origin that speaks TLS, HTTP/2 or whatever its test says.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Client, PATIENCE};

/// Who issues certificates, with a folder for them.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// The files of a certificate and its key.
pub(crate) struct Identity {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // One whose subject is its issuer's is self-signed to OpenSSL.
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("a file");
        Self { issuer, folder }
    }

    /// Its own certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for a host name or an address.
    pub(crate) fn issue(&self, name: &str) -> Identity {
        self.issue_for(&[name], |_| ())
    }

    /// A certificate for these names, and with what else is said.
    pub(crate) fn issue_for(&self, names: &[&str], say: impl FnOnce(&mut CertificateParams)) -> Identity {
        self.sign(&KeyPair::generate().expect("a key"), names, say)
    }

    /// A certificate for this key.
    pub(crate) fn sign(&self, pair: &KeyPair, names: &[&str], say: impl FnOnce(&mut CertificateParams)) -> Identity {
        let name = names[0];
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).expect("names");
        say(&mut params);
        let certificate = params.signed_by(pair, &self.issuer).expect("a certificate");
        let file = |kind: &str| self.folder.path().join(format!("{name}.{kind}"));
        let identity = Identity { cert: file("pem"), key: file("key") };
        std::fs::write(&identity.cert, certificate.pem()).expect("a file");
        std::fs::write(&identity.key, pair.serialize_pem()).expect("a file");
        identity
    }

    /// A certificate that nobody but its own key has signed, as one that signs others.
    pub(crate) fn by_itself(&self, name: &str, say: impl FnOnce(&mut CertificateParams)) -> Identity {
        let pair = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        say(&mut params);
        let file = |kind: &str| self.folder.path().join(format!("{name}.itself.{kind}"));
        let identity = Identity { cert: file("pem"), key: file("key") };
        std::fs::write(&identity.cert, params.self_signed(&pair).expect("a certificate").pem()).expect("a file");
        std::fs::write(&identity.key, pair.serialize_pem()).expect("a file");
        identity
    }

    /// What a server with this certificate speaks. With `wants_clients`, those that connect must show one of this
    /// authority's too.
    pub(crate) fn server(&self, identity: &Identity, protocols: &[&str], wants_clients: bool) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = if wants_clients {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).expect("a certificate");
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let chain = vec![CertificateDer::from_pem_file(&identity.cert).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_file(&identity.key).expect("a key");
        let mut config = builder.with_single_cert(chain, key).expect("they fit");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

impl Identity {
    /// The certificate itself.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.cert).expect("a certificate")
    }

    /// Takes the place of another one's files.
    pub(crate) fn replace(&self, other: &Self) {
        for (new, old) in [(&self.cert, &other.cert), (&self.key, &other.key)] {
            std::fs::copy(new, old).expect("a file");
        }
    }
}

/// As whom a test connects over TLS, and to whom.
#[derive(Clone)]
pub(crate) struct Caller {
    /// Sessions that it can go on with are kept in here.
    pub(crate) config: ClientConfig,
    name: ServerName<'static>,
}

impl Caller {
    /// One that trusts an authority and asks for this name, or for none with an address.
    pub(crate) fn to(name: &str, authority: &Authority) -> Self {
        Self::with(name, authority, rustls::ALL_VERSIONS, None)
    }

    /// The same by these versions, and showing this certificate.
    pub(crate) fn with(
        name: &str,
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        shown: Option<&Identity>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let builder = builder.expect("versions").with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => {
                let key = PrivateKeyDer::from_pem_file(&shown.key).expect("a key");
                builder.with_client_auth_cert(vec![shown.der()], key).expect("they fit")
            }
        };
        Self { config, name: ServerName::try_from(name.to_owned()).expect("a name") }
    }

    /// Offers these protocols by ALPN.
    pub(crate) fn offering(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Connects and shakes hands.
    pub(crate) fn connect(&self, address: SocketAddr) -> std::io::Result<Client> {
        self.connect_behind(address, b"")
    }

    /// The same behind bytes that are not secure.
    pub(crate) fn connect_behind(&self, address: SocketAddr, bytes: &[u8]) -> std::io::Result<Client> {
        let mut tcp = std::net::TcpStream::connect(address)?;
        tcp.write_all(bytes)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let session = ClientConnection::new(Arc::new(self.config.clone()), self.name.clone());
        let mut stream = StreamOwned::new(session.expect("a session"), tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Client::over_tls(stream))
    }
}

/// A path as a configuration writes it.
pub(crate) fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// A stream whatever carries it.
pub(crate) trait Channel: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Channel for S {}

/// An origin on a thread and a runtime of its own. It ends with its test.
pub(crate) struct AsyncOrigin {
    address: SocketAddr,
    over: CancellationToken,
}

impl AsyncOrigin {
    /// Serves each connection by `serve`, behind TLS if there is any.
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(
        tls: Option<Arc<ServerConfig>>,
        serve: impl Fn(Box<dyn Channel>) -> F + Send + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        listener.set_nonblocking(true).expect("a socket");
        let over = CancellationToken::new();
        let until = over.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(until.run_until_cancelled(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    let Some(tls) = &tls else {
                        tokio::spawn(serve(Box::new(stream)));
                        continue;
                    };
                    // Whoever does not agree with it is not served.
                    if let Ok(stream) = TlsAcceptor::from(tls.clone()).accept(stream).await {
                        tokio::spawn(serve(Box::new(stream)));
                    }
                }
            }));
        });
        Self { address, over }
    }
}

impl std::fmt::Display for AsyncOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

impl Drop for AsyncOrigin {
    fn drop(&mut self) {
        self.over.cancel();
    }
}
