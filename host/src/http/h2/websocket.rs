//! WebSocket over HTTP/2 (RFC 8441): a CONNECT with a protocol on one side may be an upgrade on the other.
//!
//! Within the proxy both are an upgrade: a GET with `upgrade` that is answered with 101. HTTP/1.1 proves with a key that
//! the endpoint understood; HTTP/2 needs no such proof and carries none, so that the key and the answer to it are made
//! and checked here where only one side has them.

use std::io::{Error, ErrorKind, Result};

use http::{Method, Request, Response, StatusCode, header};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::http::head::{Fields, RequestHead, ResponseHead};
use crate::http::heads;

const KEY: &[u8] = b"sec-websocket-key";
const ACCEPT: &[u8] = b"sec-websocket-accept";

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Gives a request a key that has none, for an endpoint that speaks HTTP/1.1. `random`: 128 bits.
pub(crate) fn ensure_key(fields: &mut Fields, random: u128) {
    if fields.get(KEY).is_none() {
        fields.append(KEY, &base64(&random.to_be_bytes()));
    }
}

/// Agrees to change the protocol, to a client that asked by CONNECT.
pub(super) fn accept(head: &ResponseHead, date: &[u8; 29]) -> Result<Response<()>> {
    let mut response = heads::write_response(head, date, None)?;
    *response.status_mut() = StatusCode::OK;
    for name in [header::SEC_WEBSOCKET_ACCEPT, header::CONTENT_LENGTH] {
        response.headers_mut().remove(name);
    }
    Ok(response)
}

/// Asks an endpoint for the change of protocol that a client asked for.
pub(super) fn connect(mut request: Request<()>, protocol: &[u8]) -> Result<Request<()>> {
    let protocol = std::str::from_utf8(protocol).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
    *request.method_mut() = Method::CONNECT;
    request.headers_mut().remove(header::SEC_WEBSOCKET_KEY);
    request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
    Ok(request)
}

/// The key by which a client of HTTP/1.1 will know that the endpoint has understood.
pub(super) fn key(head: &RequestHead) -> Option<Vec<u8>> {
    head.fields.get(KEY).map(<[u8]>::to_vec)
}

/// Turns an endpoint's agreement into the one that HTTP/1.1 has.
pub(super) fn agree(head: &mut ResponseHead, protocol: &[u8], key: Option<&[u8]>) {
    head.status = 101;
    head.fields.set(b"connection", b"upgrade");
    head.fields.set(b"upgrade", protocol);
    if let Some(key) = key {
        let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
        head.fields.set(ACCEPT, &base64(proof.as_ref()));
    }
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            text.push(if at <= group.len() { DIGITS[(bits >> (18 - 6 * at)) as usize & 63] } else { b'=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_standard() {
        let mut head = ResponseHead::default();

        agree(&mut head, b"websocket", Some(b"dGhlIHNhbXBsZSBub25jZQ=="));

        // RFC 6455 section 1.3.
        assert_eq!(head.fields.get(ACCEPT), Some(&b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="[..]));
        assert_eq!(head.status, 101);
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            // RFC 4648 section 10.
            assert_eq!(base64(bytes.as_bytes()), text.as_bytes());
        }
    }

    #[test]
    fn a_key_that_a_client_sent_stays() {
        let mut fields = Fields::default();

        ensure_key(&mut fields, 1);
        let own = fields.get(KEY).map(<[u8]>::to_vec);
        ensure_key(&mut fields, 2);

        assert_eq!(own.as_deref(), Some(&b"AAAAAAAAAAAAAAAAAAAAAQ=="[..]));
        assert_eq!(fields.get(KEY), own.as_deref());
    }
}
