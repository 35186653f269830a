//! Certificates made for a test, and an origin that speaks TLS, HTTP/2 or whatever its test says.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

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
        let pair = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&pair, &self.issuer).expect("a certificate");
        let file = |kind: &str| self.folder.path().join(format!("{name}.{kind}"));
        let identity = Identity { cert: file("pem"), key: file("key") };
        std::fs::write(&identity.cert, certificate.pem()).expect("a file");
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
