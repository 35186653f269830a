//! An authority's word that a certificate is not revoked (OCSP, RFC 6960), as far as it must be understood to be handed on.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::asn1_rs::{Any, Class, Enumerated, FromDer, GeneralizedTime, Oid, OptTaggedExplicit, Sequence, Tag};

use crate::net::tls::BadTls;
use crate::net::tls::files::bad;

/// `id-pkix-ocsp-basic`.
const BASIC: &str = "1.3.6.1.5.5.7.48.1.1";

/// What an answer says of one certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// When it is out of date; absent: there is newer word at any time.
    pub(super) until: Option<SystemTime>,
}

/// Looks at an answer about the certificate with this serial number. What an authority has signed, its clients verify.
pub(super) fn read(path: &Path, answer: &[u8], serial: &[u8]) -> Result<Word, BadTls> {
    if answer.starts_with(b"-----BEGIN") {
        return Err(bad(path, &"an OCSP response is DER here, and this is PEM"));
    }
    let malformed = || bad(path, &"it is not an OCSP response (DER, RFC 6960)");
    let (rest, whole) = Sequence::from_der(answer).map_err(|_| malformed())?;
    if !rest.is_empty() {
        return Err(malformed());
    }
    let (rest, status) = Enumerated::from_der(&whole.content).map_err(|_| malformed())?;
    if status.0 != 0 {
        return Err(bad(path, &format_args!("the authority gave no answer: OCSP status {}", status.0)));
    }
    let single = single(rest, serial).ok_or_else(malformed)?;
    let Some(single) = single else { return Err(bad(path, &"it is about another certificate")) };
    // CertStatus: [0] good, [1] revoked, [2] unknown.
    match single.status {
        0 => Ok(Word { until: single.until }),
        1 => Err(bad(path, &"it says that the certificate is revoked")),
        _ => Err(bad(path, &"it says that the authority does not know the certificate")),
    }
}

struct Single {
    status: u32,
    until: Option<SystemTime>,
}

/// What is said of one serial number, if anything is; `None` for what is no answer.
fn single(bytes: &[u8], serial: &[u8]) -> Option<Option<Single>> {
    // ResponseBytes ::= [0] EXPLICIT SEQUENCE { responseType OID, response OCTET STRING }
    let (_, bytes) = OptTaggedExplicit::<Sequence<'_>, x509_parser::asn1_rs::Error, 0>::from_der(bytes).ok()?;
    let bytes = bytes?.into_inner();
    let (rest, kind) = Oid::from_der(&bytes.content).ok()?;
    if kind.to_id_string() != BASIC {
        return None;
    }
    let (_, response) = any(rest, Tag::OctetString)?;
    // BasicOCSPResponse ::= SEQUENCE { tbsResponseData SEQUENCE { … }, … }
    let (_, basic) = any(response.data, Tag::Sequence)?;
    let (_, data) = any(basic.data, Tag::Sequence)?;
    let mut rest = data.data;
    // version [0] OPTIONAL, responderID [1] or [2], producedAt
    loop {
        let (after, next) = Any::from_der(rest).ok()?;
        rest = after;
        if next.header.class() == Class::Universal && next.header.tag() == Tag::GeneralizedTime {
            break;
        }
    }
    let (_, responses) = any(rest, Tag::Sequence)?;
    let mut rest = responses.data;
    while !rest.is_empty() {
        let (after, one) = any(rest, Tag::Sequence)?;
        rest = after;
        // SingleResponse ::= SEQUENCE { certID, certStatus, thisUpdate, nextUpdate [0] EXPLICIT OPTIONAL, … }
        let (after, id) = any(one.data, Tag::Sequence)?;
        if serial_of(id.data)? != stripped(serial) {
            continue;
        }
        let (after, status) = Any::from_der(after).ok()?;
        let (after, _) = GeneralizedTime::from_der(after).ok()?;
        let next = OptTaggedExplicit::<GeneralizedTime, x509_parser::asn1_rs::Error, 0>::from_der(after).ok()?.1;
        let until = next.and_then(|next| moment(&next.into_inner()));
        return Some(Some(Single { status: status.header.tag().0, until }));
    }
    Some(None)
}

/// CertID ::= SEQUENCE { hashAlgorithm, issuerNameHash, issuerKeyHash, serialNumber }
fn serial_of(id: &[u8]) -> Option<&[u8]> {
    let (rest, _) = any(id, Tag::Sequence)?;
    let (rest, _) = any(rest, Tag::OctetString)?;
    let (rest, _) = any(rest, Tag::OctetString)?;
    any(rest, Tag::Integer).map(|(_, serial)| stripped(serial.data))
}

/// An element of this kind, and what follows it.
fn any(bytes: &[u8], tag: Tag) -> Option<(&[u8], Any<'_>)> {
    let (rest, found) = Any::from_der(bytes).ok()?;
    (found.header.class() == Class::Universal && found.header.tag() == tag).then_some((rest, found))
}

fn stripped(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    &serial[zeros..]
}

fn moment(time: &GeneralizedTime) -> Option<SystemTime> {
    let seconds = time.utc_datetime().ok()?.unix_timestamp();
    u64::try_from(seconds).ok().and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
}
