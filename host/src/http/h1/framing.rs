//! Says how the body after a head is framed (RFC 9112 section 6).

use crate::http::h1::{BadRequest, BadResponse};
use crate::http::head::{Fields, Known, RequestHead, ResponseHead, Version};

/// How a received body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// There is none, and the head names no length, or names it for information only.
    None,
    /// As many bytes as `content-length` says. `Length(0)` is a body that is said to be empty, as a POST without
    /// content has it: it is forwarded as such.
    Length(u64),
    Chunked,
    /// All bytes until the connection closes. Never a request's.
    UntilClose,
}

impl BodyKind {
    /// Whether no bytes of a body will come.
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// Says how a request's body is framed.
///
/// # Errors
///
/// When two readers could differ about it (400), or when it is in a transfer coding unknown here (501).
pub fn request_body(head: &RequestHead) -> Result<BodyKind, BadRequest> {
    match framing(&head.fields, head.version) {
        Ok(Framing::Coded) => Ok(BodyKind::Chunked),
        Ok(Framing::Length(length)) => Ok(BodyKind::Length(length)),
        Ok(Framing::Unsaid) => Ok(BodyKind::None),
        Err(BadFraming::UnknownCoding) => Err(BadRequest::new(501, "an unknown transfer coding")),
        Err(BadFraming::Malformed(reason)) => Err(BadRequest::malformed(reason)),
    }
}

/// Says how the body of a response to a request with this method is framed. A head with status 101 ends HTTP on its
/// connection.
///
/// # Errors
///
/// When two readers could differ about it, or when it is in a transfer coding that nobody asked for.
pub fn response_body(head: &ResponseHead, request_method: &str) -> Result<BodyKind, BadResponse> {
    let framing = framing(&head.fields, head.version).map_err(|bad| match bad {
        BadFraming::UnknownCoding => BadResponse::new("an unknown transfer coding"),
        BadFraming::Malformed(reason) => BadResponse::new(reason),
    })?;
    Ok(match framing {
        // RFC 9112 section 6.3: these end with their head, whatever that says.
        _ if matches!(head.status, 100..=199 | 204 | 304) || request_method == "HEAD" => BodyKind::None,
        Framing::Coded => BodyKind::Chunked,
        Framing::Length(length) => BodyKind::Length(length),
        Framing::Unsaid => BodyKind::UntilClose,
    })
}

/// The length that a head with valid framing names, whether or not a body follows.
pub(super) fn named_length(fields: &Fields) -> Option<u64> {
    content_length(fields).ok().flatten()
}

enum Framing {
    Unsaid,
    Length(u64),
    /// The one coding `chunked`.
    Coded,
}

enum BadFraming {
    Malformed(&'static str),
    /// A list of codings that ends in `chunked`, as it should, with others before it.
    UnknownCoding,
}

fn framing(fields: &Fields, version: Version) -> Result<Framing, BadFraming> {
    let length = content_length(fields).map_err(BadFraming::Malformed)?;
    let mut codings = fields.all_known(Known::TransferEncoding);
    let Some(coding) = codings.next() else {
        return Ok(length.map_or(Framing::Unsaid, Framing::Length));
    };
    if length.is_some() {
        return Err(BadFraming::Malformed("both content-length and transfer-encoding"));
    }
    if version == Version::Http10 {
        return Err(BadFraming::Malformed("transfer-encoding in HTTP/1.0"));
    }
    if codings.next().is_some() {
        return Err(BadFraming::Malformed("more than one transfer-encoding"));
    }
    if coding.eq_ignore_ascii_case(b"chunked") {
        return Ok(Framing::Coded);
    }
    Err(refuse_coding(coding))
}

/// RFC 9112 section 6.3: a request whose last coding is not `chunked` has no length that can be relied on.
fn refuse_coding(value: &[u8]) -> BadFraming {
    let mut codings = value.rsplit(|&b| b == b',').map(<[u8]>::trim_ascii);
    let last_is_chunked = codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    let others_are_codings = codings.all(|coding| {
        !coding.is_empty()
            && coding.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'-')
            && !coding.eq_ignore_ascii_case(b"chunked")
            && !coding.eq_ignore_ascii_case(b"identity")
    });
    if last_is_chunked && others_are_codings {
        BadFraming::UnknownCoding
    } else {
        BadFraming::Malformed("a malformed transfer-encoding")
    }
}

/// RFC 9110 section 8.6, without the leave to accept a length that is repeated.
fn content_length(fields: &Fields) -> Result<Option<u64>, &'static str> {
    let mut values = fields.all_known(Known::ContentLength);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("more than one content-length");
    }
    let number = value.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    match number {
        Some(number) if !value.is_empty() => Ok(Some(number)),
        _ => Err("a malformed content-length"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_body_only_if_it_says_so() {
        for (name, value, kind) in [
            ("accept", "*/*", BodyKind::None),
            ("content-length", "0", BodyKind::Length(0)),
            ("content-length", "007", BodyKind::Length(7)),
            ("content-length", "18446744073709551615", BodyKind::Length(u64::MAX)),
            ("transfer-encoding", "Chunked", BodyKind::Chunked),
        ] {
            let mut head = RequestHead::default();
            head.fields.append(name.as_bytes(), value.as_bytes());
            assert_eq!(request_body(&head), Ok(kind), "for {name}: {value}");
        }
    }

    #[test]
    fn a_response_has_a_body_by_method_status_and_fields() {
        let (length, chunked) = (("content-length", "5"), ("transfer-encoding", "chunked"));
        for (method, status, field, kind) in [
            ("GET", 200, length, BodyKind::Length(5)),
            ("GET", 200, chunked, BodyKind::Chunked),
            ("GET", 200, ("a", "b"), BodyKind::UntilClose),
            ("HEAD", 200, length, BodyKind::None),
            ("HEAD", 200, chunked, BodyKind::None),
            ("HEAD", 200, ("a", "b"), BodyKind::None),
            ("GET", 304, length, BodyKind::None),
            ("GET", 204, ("content-length", "0"), BodyKind::None),
            ("GET", 103, ("a", "b"), BodyKind::None),
            ("GET", 101, ("upgrade", "websocket"), BodyKind::None),
            ("GET", 205, length, BodyKind::Length(5)),
            ("GET", 999, length, BodyKind::Length(5)),
        ] {
            let mut head = ResponseHead::default();
            head.status = status;
            head.fields.append(field.0.as_bytes(), field.1.as_bytes());
            assert_eq!(response_body(&head, method), Ok(kind), "for {method}, {status}, {field:?}");
        }
    }
}
