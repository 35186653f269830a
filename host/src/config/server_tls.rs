//! TLS of which the proxy is the server: what a listener shows of itself, and whom it wants to know.

use std::path::PathBuf;
use std::time::Duration;

use super::fault::Fault;
use super::reader::{Reader, Scope};
use super::settings::Place;
use super::tls::File;
use super::tree::{Kind, Value};

/// TLS of which the proxy is the server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerTls {
    /// At least one. A client gets the one with the name it asks for, or else the first.
    pub certificates: Vec<Certificate>,
    /// A PEM file with the authorities whose certificates clients may show; absent: clients are asked for none.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must show one (required).
    pub client_auth: ClientAuth,
    /// Whether endpoints are told of a client's certificate in `x-client-cert-…` fields (false).
    pub client_headers: bool,
    /// ("1.2")
    pub min_version: TlsVersion,
    /// ("1.3")
    pub max_version: TlsVersion,
    /// From a connection's first moment to the end of its handshake ("10s").
    pub handshake_timeout: Duration,
}

/// A certificate with its private key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// A PEM file: the certificate, and behind it those that lead to its authority.
    pub cert: PathBuf,
    /// A PEM file with the private key; may be the same.
    pub key: PathBuf,
    /// A DER file with the authority's word that it is not revoked (OCSP, RFC 6960), which is handed to clients.
    pub ocsp: Option<PathBuf>,
    /// Where it is written.
    pub place: Place,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    #[default]
    Required,
    /// It need not; one that it does show must be good.
    Optional,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

impl Default for ServerTls {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            client_ca: None,
            client_auth: ClientAuth::default(),
            client_headers: false,
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// Wherever they are written.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        (&self.cert, &self.key, &self.ocsp) == (&other.cert, &other.key, &other.ocsp)
    }
}

impl ServerTls {
    /// Reads a table; absent: no TLS.
    pub(super) fn read(reader: &mut Reader<'_>, key: &'static str) -> Option<Self> {
        let value = reader.value(key)?;
        match &value.kind {
            Kind::Boolean(false) => None,
            Kind::Table(table) => Some(Self::read_table(Reader::new(table, reader.scope))),
            _ => {
                let fault = Fault::new(value.place, format!("expected a table, found {}", value.describe()));
                reader.scope.fault(fault.with_hint(HINT.to_owned()));
                None
            }
        }
    }

    fn read_table(mut reader: Reader<'_>) -> Self {
        let mut tls = Self::default();
        let scope = reader.scope;
        if reader.required_value("certificates").is_some()
            && let Some(written) = reader.array("certificates")
        {
            tls.certificates = written.iter().filter_map(|value| Certificate::read(value, scope)).collect();
            if written.is_empty() {
                let fault = Fault::new(reader.place_of("certificates"), "a listener with TLS needs a certificate");
                scope.fault(fault.with_hint(HINT.to_owned()));
            }
        }
        tls.client_ca = reader.optional::<File>("client_ca").map(|file| file.0);
        let words = [("required", Some(ClientAuth::Required)), ("optional", Some(ClientAuth::Optional))];
        tls.client_auth = reader.word("client_auth", &words).unwrap_or_default();
        reader.set("client_headers", &mut tls.client_headers);
        if reader.value("client_ca").is_none() {
            for key in ["client_auth", "client_headers"] {
                let is_off = matches!(reader.value(key).map(|value| &value.kind), None | Some(Kind::Boolean(false)));
                if !is_off {
                    let message = format!("`{key}` has no meaning without `client_ca`: clients are asked for nothing");
                    scope.fault(Fault::new(reader.place_of(key), message));
                }
            }
        }
        let versions = [("1.2", Some(TlsVersion::Tls12)), ("1.3", Some(TlsVersion::Tls13))];
        tls.min_version = read_version(&mut reader, "min_version", &versions).unwrap_or(tls.min_version);
        tls.max_version = read_version(&mut reader, "max_version", &versions).unwrap_or(tls.max_version);
        if tls.min_version > tls.max_version {
            scope
                .fault(Fault::new(reader.place_of("max_version"), "no version is from `min_version` to `max_version`"));
        }
        reader.set("handshake_timeout", &mut tls.handshake_timeout);
        tls
    }

    /// Every file that is read for it.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let certificates = self.certificates.iter();
        let named = certificates.flat_map(|one| [Some(&one.cert), Some(&one.key), one.ocsp.as_ref()]);
        named.flatten().chain(&self.client_ca)
    }
}

impl Certificate {
    /// Reads the name of a file that holds both, or a table.
    fn read(value: &Value, scope: &Scope<'_>) -> Option<Self> {
        let place = value.place;
        if let Kind::String(_) = &value.kind {
            let File(both) = super::reader::Read::read(value, scope)?;
            return Some(Self { cert: both.clone(), key: both, ocsp: None, place });
        }
        let Kind::Table(table) = &value.kind else {
            scope.mismatch(value, "a table with `cert` and `key`, or a file that holds both");
            return None;
        };
        let mut reader = Reader::new(table, scope);
        let ocsp = reader.optional::<File>("ocsp").map(|file| file.0);
        let mut required = |key| {
            reader.required_value(key)?;
            reader.optional::<File>(key).map(|file| file.0)
        };
        let (cert, key) = (required("cert"), required("key"));
        Some(Self { cert: cert?, key: key?, ocsp, place })
    }
}

const HINT: &str = "write `{ certificates = [{ cert = \"a.pem\", key = \"a.key\" }] }`";

/// Older versions are known by name, so that who asks for one hears why not.
fn read_version(
    reader: &mut Reader<'_>,
    key: &'static str,
    versions: &[(&str, Option<TlsVersion>)],
) -> Option<TlsVersion> {
    let value = reader.value(key)?;
    if let Kind::String(text) = &value.kind
        && ["1.0", "1.1"].contains(&text.as_str())
    {
        let fault = Fault::new(value.place, format!("TLS {text} is broken and not spoken (RFC 8996)"));
        reader.scope.fault(fault.with_hint("expected one of `1.2`, `1.3`".to_owned()));
        return None;
    }
    reader.word(key, versions)
}
