//! Which certificate a client gets: by the name it asks for (SNI, RFC 6066 section 3), and by what it can verify.
//!
//! A certificate of exactly that name comes first, then a wildcard for its last labels (RFC 9525 section 6.3: it stands
//! for one label), then the first certificate of the listener, as nginx's default server has it. Of several certificates
//! with one name a client gets one whose signatures it knows, the short and fast ones of ECDSA and Ed25519 first.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::SignatureAlgorithm;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificates of a listener.
#[derive(Debug, Default)]
pub(super) struct Chooser {
    exact: HashMap<String, Vec<Arc<Shown>>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Vec<Arc<Shown>>>,
    /// For names that no certificate has, and for clients that ask for none.
    first: Vec<Arc<Shown>>,
}

/// A certificate with what goes with it.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) key: Arc<CertifiedKey>,
    /// With an authority's word that it is not revoked, and until when that holds.
    pub(super) stapled: Option<(Arc<CertifiedKey>, Option<SystemTime>)>,
    /// In lower case, wildcards among them.
    pub(super) names: Vec<String>,
}

impl Shown {
    fn at(&self, now: SystemTime) -> &Arc<CertifiedKey> {
        match &self.stapled {
            Some((key, until)) if until.is_none_or(|until| now < until) => key,
            _ => &self.key,
        }
    }

    fn is_rsa(&self) -> bool {
        self.key.key.algorithm() == SignatureAlgorithm::RSA
    }
}

impl Chooser {
    /// The first one is for names that none of them has.
    pub(super) fn new(certificates: Vec<Shown>) -> Self {
        let mut chooser = Self::default();
        let certificates: Vec<_> = certificates.into_iter().map(Arc::new).collect();
        for shown in &certificates {
            for name in &shown.names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut chooser.wildcard, rest),
                    None => (&mut chooser.exact, &name[..]),
                };
                names.entry(name.to_owned()).or_default().push(shown.clone());
            }
        }
        if let Some(first) = certificates.first() {
            // Its sisters: the same names with another kind of key.
            let is_sister = |shown: &&Arc<Shown>| shown.names.iter().all(|name| first.names.contains(name));
            let sisters = certificates[1..].iter().filter(is_sister).filter(|shown| !shown.names.is_empty());
            chooser.first = [first].into_iter().chain(sisters).cloned().collect();
        }
        let all = chooser.exact.values_mut().chain(chooser.wildcard.values_mut()).chain([&mut chooser.first]);
        // Stable: those of one kind stay in their order.
        all.for_each(|certificates| certificates.sort_by_key(|shown| shown.is_rsa()));
        chooser
    }

    fn named(&self, name: &str) -> Option<&[Arc<Shown>]> {
        let name = match name.bytes().any(|b| b.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
        let known = self.exact.get(&*name).or_else(|| self.wildcard.get(name.split_once('.')?.1));
        known.map(|known| &known[..])
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = hello.server_name().and_then(|name| self.named(name)).unwrap_or(&self.first);
        let fits = |shown: &&Arc<Shown>| shown.key.key.choose_scheme(hello.signature_schemes()).is_some();
        // One that does not fit has the handshake fail with the right alert.
        let shown = certificates.iter().find(fits).or(certificates.first())?;
        Some(shown.at(SystemTime::now()).clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::KeyPair;
    use rustls::crypto::ring::sign::any_supported_type;
    use rustls::pki_types::PrivateKeyDer;

    use super::*;

    fn shown(names: &[&str]) -> Shown {
        let pair = KeyPair::generate().unwrap();
        let key = any_supported_type(&PrivateKeyDer::try_from(pair.serialize_der()).unwrap()).unwrap();
        let key = Arc::new(CertifiedKey::new(Vec::new(), key));
        Shown { key, stapled: None, names: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn a_name_finds_its_own_certificate_before_a_wildcard() {
        let chooser = Chooser::new(vec![
            shown(&["default.example"]),
            shown(&["*.example.org", "example.org"]),
            shown(&["shop.example.org"]),
        ]);

        for (name, found) in [
            ("shop.example.org", Some("shop.example.org")),
            ("SHOP.example.ORG", Some("shop.example.org")),
            ("www.example.org", Some("*.example.org")),
            ("example.org", Some("*.example.org")),
            ("a.b.example.org", None),
            ("ample.org", None),
            ("org", None),
            ("default.example", Some("default.example")),
        ] {
            let named = chooser.named(name).map(|shown| &shown[0].names[0][..]);
            assert_eq!(named, found, "for {name}");
        }
        assert_eq!(chooser.first[0].names, ["default.example"]);
        assert_eq!(chooser.first.len(), 1);
    }

    #[test]
    fn word_of_an_authority_that_is_out_of_date_is_not_handed_on() {
        let now = SystemTime::now();
        let mut certificate = shown(&["a"]);
        let stapled = Arc::new((*certificate.key).clone());
        certificate.stapled = Some((stapled.clone(), Some(now)));

        assert!(Arc::ptr_eq(certificate.at(now - Duration::from_secs(1)), &stapled));
        assert!(Arc::ptr_eq(certificate.at(now), &certificate.key));
    }
}
