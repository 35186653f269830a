//! Heads between the library's form and ours.

use std::io::{Error, ErrorKind, Result as IoResult};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};

use crate::http::h1::{self, BadRequest, BodyKind, Limits};
use crate::http::head::{Fields, Known, RequestHead, ResponseHead, Version};

/// The protocol that a request changes to when its method is CONNECT (RFC 8441, RFC 9220).
pub(crate) type Protocol = Option<Vec<u8>>;

/// Reads the head of a client's request. The library has refused what no message may have: fields of a connection, names
/// in upper case, pseudo-fields out of place.
///
/// # Errors
///
/// What is malformed beyond that, or too long, with the status it deserves.
pub(crate) fn read_request<B>(
    request: &Request<B>,
    protocol: Protocol,
    version: Version,
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<(), BadRequest> {
    head.clear();
    head.version = version;
    let method = request.method().as_str();
    if method.len() > h1::MAX_METHOD {
        return Err(BadRequest::new(501, "the method is too long"));
    }
    match (&protocol, method) {
        // For every other part of the proxy a WebSocket is an upgrade, whatever version asks for it.
        (Some(_), "CONNECT") => head.set_method("GET"),
        (None, "CONNECT") => return Err(BadRequest::new(501, "CONNECT is for forward proxies")),
        (_, method) => head.set_method(method),
    }
    let Some(target) = request.uri().path_and_query() else { return Err(BadRequest::malformed("no path")) };
    let target = target.as_str();
    if target.len() > limits.max_target {
        return Err(BadRequest::new(414, "the target is too long"));
    }
    let is_asterisk = target == "*" && method == "OPTIONS";
    if !target.starts_with('/') && !is_asterisk || target.contains('#') || !target.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err(BadRequest::malformed("a malformed path"));
    }
    head.set_path_and_query(target);
    if request.headers().len() > limits.max_fields {
        return Err(BadRequest::new(431, "too many fields"));
    }
    let authority = authority(request)?;
    head.set_authority(authority);
    head.fields.append(b"host", authority.as_bytes());
    let mut cookies: Vec<u8> = Vec::new();
    for (name, value) in request.headers() {
        let value = value.as_bytes();
        if value.first().is_some_and(h1::is_blank) || value.last().is_some_and(h1::is_blank) {
            // RFC 9113 section 8.2.1.
            return Err(BadRequest::malformed("white space around a field's value"));
        }
        match name {
            &header::HOST => {}
            // RFC 9113 section 8.2.3: they come in pieces so that they compress well, and are one field elsewhere.
            &header::COOKIE => {
                if !cookies.is_empty() {
                    cookies.extend_from_slice(b"; ");
                }
                cookies.extend_from_slice(value);
            }
            name => head.fields.append(name.as_str().as_bytes(), value),
        }
    }
    if !cookies.is_empty() {
        head.fields.append(b"cookie", &cookies);
    }
    h1::check_expectation(&head.fields, version)?;
    if let Some(protocol) = protocol {
        head.fields.append(b"connection", b"upgrade");
        head.fields.append(b"upgrade", &protocol);
    }
    Ok(())
}

/// RFC 9113 section 8.3.1: the pseudo-field counts, and `host` may only say the same.
fn authority<B>(request: &Request<B>) -> Result<&str, BadRequest> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(BadRequest::malformed("more than one host"));
    }
    let authority = match (request.uri().authority(), host) {
        (Some(authority), None) => authority.as_str(),
        (Some(authority), Some(host)) if host.eq_ignore_ascii_case(authority.as_str().as_bytes()) => authority.as_str(),
        (Some(_), Some(_)) => return Err(BadRequest::malformed("a host that contradicts the authority")),
        (None, Some(host)) => std::str::from_utf8(host).map_err(|_| BadRequest::malformed("an invalid host"))?,
        (None, None) => return Err(BadRequest::malformed("no host")),
    };
    if h1::is_authority(authority.as_bytes()) { Ok(authority) } else { Err(BadRequest::malformed("an invalid host")) }
}

/// How a request's body is to be framed where that is needed. `ended`: nothing follows the head.
pub(crate) fn request_body(head: &RequestHead, ended: bool) -> Result<BodyKind, BadRequest> {
    Ok(match h1::request_body(head)? {
        BodyKind::Length(length) if ended && length > 0 => return Err(BadRequest::malformed("a body that is missing")),
        BodyKind::Length(length) => BodyKind::Length(length),
        // RFC 9110 section 8.6: who gets such a request expects to be told.
        _ if ended && matches!(head.method(), "POST" | "PUT" | "PATCH") => BodyKind::Length(0),
        _ if ended => BodyKind::None,
        _ => BodyKind::Chunked,
    })
}

/// Writes the head of a response for a client. `length`: of the body, where it is to be said.
pub(crate) fn write_response(head: &ResponseHead, date: &[u8], length: Option<u64>) -> IoResult<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).map_err(invalid)?;
    let fields = response.headers_mut();
    write_fields(&head.fields, fields, |_| true)?;
    if head.status >= 200 && head.fields.known(Known::Date).is_none() {
        fields.insert(header::DATE, HeaderValue::from_bytes(date).map_err(invalid)?);
    }
    if let Some(length) = length {
        fields.insert(header::CONTENT_LENGTH, length.into());
    }
    Ok(response)
}

/// Writes the head of a request for an endpoint. `authority`: for one that names none.
pub(crate) fn write_request(
    head: &RequestHead,
    is_secure: bool,
    authority: &str,
    length: Option<u64>,
) -> IoResult<Request<()>> {
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(head.method().as_bytes()).map_err(invalid)?;
    let host = head.fields.known(Known::Host).filter(|host| !host.is_empty());
    let given = Some(head.authority()).filter(|authority| !authority.is_empty()).unwrap_or(authority);
    let host = host.unwrap_or(given.as_bytes());
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if is_secure { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(Authority::from_maybe_shared(Bytes::copy_from_slice(host)).map_err(invalid)?);
    parts.path_and_query = Some(write_path(head.path_and_query())?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(invalid)?;
    let fields = request.headers_mut();
    write_fields(&head.fields, fields, |known| !matches!(known, Known::Host | Known::Expect))?;
    if head.fields.lists(Known::Te, b"trailers") {
        // RFC 9113 section 8.2.2: the one thing it may say. gRPC insists on it.
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(length) = length {
        fields.insert(header::CONTENT_LENGTH, length.into());
    }
    Ok(request)
}

/// A few bytes that others let pass stand escaped here.
fn write_path(path: &str) -> IoResult<PathAndQuery> {
    let path = if path.is_empty() { "/" } else { path };
    if let Ok(path) = PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(path.as_bytes())) {
        return Ok(path);
    }
    let mut escaped = String::with_capacity(path.len() + 16);
    for byte in path.bytes() {
        match byte {
            b'<' | b'>' | b'`' | b'"' | b'{' | b'}' | b'\\' | b'^' | b'|' | 0x80.. => {
                escaped.push_str(&format!("%{byte:02X}"));
            }
            other => escaped.push(char::from(other)),
        }
    }
    PathAndQuery::try_from(escaped).map_err(invalid)
}

/// Reads the head of an endpoint's response.
pub(crate) fn read_response<B>(response: &Response<B>, head: &mut ResponseHead) {
    head.clear();
    head.version = Version::Http2;
    head.status = response.status().as_u16();
    for (name, value) in response.headers() {
        head.fields.append(name.as_str().as_bytes(), value.as_bytes());
    }
}

pub(crate) fn read_trailers(trailers: &HeaderMap) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in trailers {
        fields.append(name.as_str().as_bytes(), value.as_bytes());
    }
    fields.retain(h1::may_trail);
    fields
}

pub(crate) fn write_trailers(trailers: &Fields) -> IoResult<HeaderMap> {
    let mut fields = HeaderMap::with_capacity(trailers.len());
    for field in trailers.iter().filter(|field| h1::may_trail(*field)) {
        append(&mut fields, field.name, field.value)?;
    }
    Ok(fields)
}

/// All that `keep` wants, but what concerns one connection, or frames.
fn write_fields(fields: &Fields, into: &mut HeaderMap, keep: impl Fn(Known) -> bool) -> IoResult<()> {
    into.reserve(fields.len() + 2);
    for field in fields.iter().filter(|field| !field.known.is_hop_by_hop() && keep(field.known)) {
        append(into, field.name, field.value)?;
    }
    Ok(())
}

fn append(fields: &mut HeaderMap, name: &[u8], value: &[u8]) -> IoResult<()> {
    let name = HeaderName::from_bytes(name).map_err(invalid)?;
    fields.append(name, HeaderValue::from_bytes(value).map_err(invalid)?);
    Ok(())
}

fn invalid(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::InvalidData, cause)
}
