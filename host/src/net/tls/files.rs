//! Reads certificates and keys, and tells what is wrong with a file.

use std::fmt;
use std::fs;
use std::path::Path;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use crate::net::tls::BadTls;

/// Bytes of the longest file that is read: the bundle of a whole system has a quarter of a megabyte.
const LONGEST: u64 = 16 << 20;
/// Bits of the shortest RSA key that signs; a shorter one no client takes any more.
const MIN_RSA_BITS: usize = 2048;

/// Reads files, and keeps a digest of all it has read.
#[derive(Default)]
pub(super) struct Files {
    digest: Sha256,
}

impl Files {
    pub(super) fn read(&mut self, path: &Path) -> Result<Vec<u8>, BadTls> {
        let length = fs::metadata(path).map_err(|error| bad(path, &error))?.len();
        if length > LONGEST {
            return Err(bad(path, &format_args!("it has {length} bytes, which is too much for what it should be")));
        }
        let bytes = fs::read(path).map_err(|error| bad(path, &error))?;
        self.digest.update((bytes.len() as u64).to_le_bytes());
        self.digest.update(&bytes);
        Ok(bytes)
    }

    /// Of all that was read, in its order.
    pub(super) fn digest(self) -> [u8; 32] {
        self.digest.finalize().into()
    }

    /// The certificates of a PEM file, at least one.
    pub(super) fn certificates(&mut self, path: &Path) -> Result<Vec<CertificateDer<'static>>, BadTls> {
        let bytes = self.read(path)?;
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let certificates = read.map_err(|error| bad(path, &said(&error)))?;
        if certificates.is_empty() {
            return Err(bad(path, &"there is no certificate in it (PEM, `-----BEGIN CERTIFICATE-----`)"));
        }
        Ok(certificates)
    }

    /// The certificates of a PEM file, to be trusted.
    pub(super) fn trusted(&mut self, path: &Path) -> Result<RootCertStore, BadTls> {
        roots(path, &self.certificates(path)?)
    }

    /// A certificate with those that lead from it to a root, and its private key.
    pub(super) fn identity(
        &mut self,
        cert: &Path,
        key: &Path,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, BadTls> {
        let chain = self.certificates(cert)?;
        let key_der = self.private_key(key)?;
        check_strength(cert, &chain[0])?;
        let signing = provider.key_provider.load_private_key(key_der);
        let signing = signing.map_err(|error| bad(key, &format_args!("the key cannot be used: {}", plain(&error))))?;
        let identity = CertifiedKey::new(chain, signing);
        match identity.keys_match() {
            // A kind of key that cannot tell its public half was looked at above.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(identity),
            Err(_) => {
                let why = format!("this is not the key of the certificate in {}", cert.display());
                Err(bad(key, &why))
            }
        }
    }

    fn private_key(&mut self, path: &Path) -> Result<PrivateKeyDer<'static>, BadTls> {
        let bytes = self.read(path)?;
        let error = match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(key) if !is_encrypted(&bytes) => return Ok(key),
            Ok(_) => pem::Error::NoItemsFound,
            Err(error) => error,
        };
        Err(match error {
            _ if is_encrypted(&bytes) => bad(
                path,
                &"the key is encrypted, and nobody is there to be asked for its passphrase; decrypt it with `openssl pkey -in FILE -out FILE`",
            ),
            pem::Error::NoItemsFound => {
                bad(path, &"there is no private key in it (PEM, `-----BEGIN PRIVATE KEY-----`)")
            }
            error => bad(path, &said(&error)),
        })
    }
}

/// Those of a file that are to be trusted.
pub(super) fn roots(path: &Path, certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, BadTls> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).map_err(|error| bad(path, &error))?;
    }
    Ok(roots)
}

/// Why a file is not what it should be.
pub(super) fn bad(path: &Path, why: &dyn fmt::Display) -> BadTls {
    BadTls::File { file: path.display().to_string(), why: why.to_string() }
}

/// What a certificate says, as far as it can be read.
pub(super) fn parse<'c>(path: &Path, certificate: &'c CertificateDer<'_>) -> Result<X509Certificate<'c>, BadTls> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed),
        Err(error) => Err(bad(path, &format_args!("its first certificate is malformed: {error}"))),
    }
}

fn check_strength(path: &Path, certificate: &CertificateDer<'_>) -> Result<(), BadTls> {
    match parse(path, certificate)?.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < MIN_RSA_BITS => {
            let why = format!("an RSA key of {} bits is too weak; it needs {MIN_RSA_BITS} at least", key.key_size());
            Err(bad(path, &why))
        }
        _ => Ok(()),
    }
}

/// As PKCS #8 says it, or as OpenSSL did before.
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |text: &[u8]| memchr::memmem::find(pem, text).is_some();
    has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED")
}

fn said(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section of PEM has no end".to_owned(),
        pem::Error::Base64Decode(why) => format!("a section of PEM is damaged: {why}"),
        error => format!("it is not PEM: {error}"),
    }
}

/// A library's error without the words that say only what kind it is.
fn plain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::General(why) => why.clone(),
        error => error.to_string(),
    }
}
