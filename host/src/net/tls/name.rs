//! Distinguished names as text (RFC 4514).
//!
//! What stands in a certificate is its owner's: nothing of it may leave a header field or break a line of a log, so
//! control characters are written as their bytes in hexadecimal, which RFC 4514 allows.

use std::fmt::Write;

use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The short names that RFC 4514 section 3 knows, and the address that many certificates have.
const SHORT: [(&str, &str); 11] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.5", "serialNumber"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// A name, its most specific part first.
pub(super) fn text(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let mut out = String::new();
    for (at, part) in parts.into_iter().rev().enumerate() {
        if at > 0 {
            out.push(',');
        }
        for (at, attribute) in part.iter().enumerate() {
            if at > 0 {
                out.push('+');
            }
            write_attribute(&mut out, attribute);
        }
    }
    out
}

fn write_attribute(out: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let short = SHORT.iter().find(|(known, _)| *known == oid).map(|(_, short)| *short);
    out.push_str(short.unwrap_or(&oid));
    out.push('=');
    match attribute.as_str() {
        Ok(value) => write_value(out, value),
        // Its bytes, where it is no text.
        Err(_) => {
            out.push('#');
            write_hex(out, attribute.as_slice());
        }
    }
}

fn write_value(out: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (at, letter) in value.chars().enumerate() {
        match letter {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', letter]),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            '#' if at == 0 => out.push_str("\\#"),
            letter if letter.is_control() || !letter.is_ascii() => {
                for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(out, "\\{byte:02X}");
                }
            }
            letter => out.push(letter),
        }
    }
}

/// Bytes in lower-case hexadecimal.
pub(super) fn write_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use x509_parser::certificate::X509Certificate;
    use x509_parser::prelude::FromDer;

    use super::*;

    fn of(parts: &[(DnType, &str)]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        text(X509Certificate::from_der(certificate.der()).unwrap().1.subject())
    }

    #[test]
    fn the_most_specific_part_stands_first() {
        let parts =
            [(DnType::CountryName, "DE"), (DnType::OrganizationName, "Example GmbH"), (DnType::CommonName, "alice")];

        assert_eq!(of(&parts), "CN=alice,O=Example GmbH,C=DE");
    }

    #[test]
    fn nothing_in_a_value_looks_like_anything_else() {
        for (value, written) in [
            ("a,CN=root", r"CN=a\,CN\3Droot".replace(r"\3D", "=")),
            ("a\r\nx-forged: 1", r"CN=a\0D\0Ax-forged: 1".to_owned()),
            (" a ", r"CN=\ a\ ".to_owned()),
            ("#1", r"CN=\#1".to_owned()),
            ("Bücher", r"CN=B\C3\BCcher".to_owned()),
            (r#"a"b\c"#, r#"CN=a\"b\\c"#.to_owned()),
        ] {
            assert_eq!(of(&[(DnType::CommonName, value)]), written, "for {value:?}");
        }
    }
}
