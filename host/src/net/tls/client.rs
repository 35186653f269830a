//! TLS of which we are the client.
//!
//! Sessions are resumed: of those who ask one endpoint again and again, only the first pays for a whole handshake.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::ClientTls;
use crate::net::tls::BadTls;
use crate::net::tls::files::{self, Files};
use crate::net::tls::named::TrustsNamed;

/// Makes connections secure, one as the other.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Arc<ClientConfig>,
    /// The same without any protocol to agree on, for what is not HTTP.
    bare: Arc<ClientConfig>,
    source: Source,
}

/// What a connector was built from: two of one source do the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    settings: ClientTls,
    protocols: &'static [&'static str],
    /// Of the files that were read.
    digest: [u8; 32],
}

impl PartialEq for Connector {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Connector {
    /// Reads the files that the settings name. `protocols` are offered by ALPN (RFC 7301), the best first.
    pub(crate) fn build(settings: &ClientTls, protocols: &'static [&'static str]) -> Result<Self, BadTls> {
        let mut files = Files::default();
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder =
            builder.with_safe_default_protocol_versions().map_err(|error| BadTls::Unfit(error.to_string()))?;
        let builder = match (settings.verify, &settings.ca) {
            (true, Some(path)) => {
                let named = files.certificates(path)?;
                let roots = Arc::new(files::roots(path, &named)?);
                let authorities = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
                let authorities = authorities.map_err(|error| BadTls::Unfit(error.to_string()))?;
                builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustsNamed { authorities, named }))
            }
            (true, None) => builder.with_root_certificates(system_roots()?),
            (false, _) => {
                let anybody = TrustsAnybody(provider.clone());
                builder.dangerous().with_custom_certificate_verifier(Arc::new(anybody))
            }
        };
        let mut config = match (&settings.cert, &settings.key) {
            (Some(cert), Some(key)) => {
                let shown: CertifiedKey = files.identity(cert, key, &provider)?;
                let shown: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(shown));
                builder.with_client_cert_resolver(shown)
            }
            _ => builder.with_no_client_auth(),
        };
        let bare = Arc::new(config.clone());
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let source = Source { settings: settings.clone(), protocols, digest: files.digest() };
        Ok(Self { config: Arc::new(config), bare, source })
    }

    /// Whether a host can be asked for by name or address.
    pub(crate) fn is_name(name: &str) -> bool {
        ServerName::try_from(name).is_ok()
    }

    /// The name that is asked for at `host`.
    pub(crate) fn name<'a>(&'a self, host: &'a str) -> &'a str {
        self.source.settings.server_name.as_deref().unwrap_or(host)
    }

    /// Shakes hands over a connection with the peer of this name, or of this address. `is_http`: and agrees on a version.
    ///
    /// # Errors
    /// What the peer did, or that its certificate is not trusted.
    pub(crate) async fn connect<S>(&self, name: &str, stream: S, is_http: bool) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let config = if is_http { &self.config } else { &self.bare };
        TlsConnector::from(config.clone()).connect(name, stream).await
    }
}

/// What the system trusts, read once. Certificates that are malformed are left out, as other programs do.
fn system_roots() -> Result<Arc<RootCertStore>, BadTls> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(BadTls::NoRoots);
    }
    Ok(ROOTS.get_or_init(|| Arc::new(roots)).clone())
}

/// `verify = false`: the peer must own the certificate it shows, whosever that is.
#[derive(Debug)]
struct TrustsAnybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustsAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
