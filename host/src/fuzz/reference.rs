//! HTTP/1 as a second reader reads it: the grammar line by line, with no thought of speed, and nothing of the codec's own.

use crate::http::h1::BodyKind;

/// A head.
pub(super) struct Head<'a> {
    /// The parts of the first line.
    pub(super) first: [&'a [u8]; 3],
    pub(super) fields: Vec<(&'a [u8], &'a [u8])>,
    /// Bytes up to its end.
    pub(super) length: usize,
}

/// Reads a request's head, with up to four empty lines before it.
pub(super) fn request(bytes: &[u8]) -> Option<Head<'_>> {
    let empty = bytes.chunks(2).take(4).take_while(|two| *two == b"\r\n").count() * 2;
    let mut head = head(&bytes[empty..])?;
    head.length += empty;
    let [method, target, version] = head.first;
    let is_target = !target.is_empty() && target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
    (is_token(method) && is_target && matches!(version, b"HTTP/1.0" | b"HTTP/1.1")).then_some(head)
}

/// Reads a response's head.
pub(super) fn response(bytes: &[u8]) -> Option<Head<'_>> {
    let head = head(bytes)?;
    let [version, status, reason] = head.first;
    let is_status = status.len() == 3 && status.iter().all(u8::is_ascii_digit) && status[0] != b'0';
    (matches!(version, b"HTTP/1.0" | b"HTTP/1.1") && is_status && is_text(reason)).then_some(head)
}

fn head(bytes: &[u8]) -> Option<Head<'_>> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let mut lines = Vec::new();
    let mut rest = &bytes[..end + 2];
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    if lines.iter().any(|line| line.iter().any(|byte| b"\r\n".contains(byte))) {
        return None;
    }
    let (first, fields) = lines.split_first()?;
    let mut parts = first.splitn(3, |byte| *byte == b' ');
    // A status line may end behind its status.
    let first = [parts.next()?, parts.next()?, parts.next().unwrap_or_default()];
    let fields = fields.iter().map(|line| field(line)).collect::<Option<_>>()?;
    Some(Head { first, fields, length: end + 4 })
}

fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
    (is_token(name) && is_text(value)).then_some((name, value))
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f)
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

impl Head<'_> {
    /// All values of a field.
    pub(super) fn all(&self, name: &str) -> Vec<&[u8]> {
        let named = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
        named.map(|(_, value)| *value).collect()
    }

    /// What `connection` names, and so concerns one connection only.
    pub(super) fn is_nominated(&self, name: &[u8]) -> bool {
        let options = self.all("connection");
        let mut options = options.iter().flat_map(|value| value.split(|byte| *byte == b',')).map(trim);
        options.any(|option| option.eq_ignore_ascii_case(name))
    }

    /// How the body is framed by the fields alone; `None` when two readers could differ.
    pub(super) fn framing(&self, is_old: bool) -> Option<BodyKind> {
        match (&self.all("content-length")[..], &self.all("transfer-encoding")[..]) {
            ([], []) => Some(BodyKind::None),
            ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
                let length = length
                    .iter()
                    .try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
                length.map(BodyKind::Length)
            }
            ([], [coding]) if !is_old && coding.eq_ignore_ascii_case(b"chunked") => Some(BodyKind::Chunked),
            _ => None,
        }
    }
}

/// A whole body at the front of `bytes`, and how many bytes it takes.
pub(super) fn body(kind: BodyKind, bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    match kind {
        BodyKind::None => Some((Vec::new(), 0)),
        BodyKind::Length(length) => {
            let length = usize::try_from(length).ok()?;
            Some((bytes.get(..length)?.to_vec(), length))
        }
        BodyKind::UntilClose => Some((bytes.to_vec(), bytes.len())),
        BodyKind::Chunked => chunked(bytes),
    }
}

/// Sizes as they are, extensions passed over, trailers by the grammar of fields. White space behind a size passes.
fn chunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = line(&bytes[at..])?;
        at += line.len() + 2;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = u64::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()?;
        if !matches!(trim(&line[digits..]), [] | [b';', ..]) {
            return None;
        }
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).ok()?;
        body.extend_from_slice(bytes.get(at..at.checked_add(size)?)?);
        at += size;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    loop {
        let line = line(&bytes[at..])?;
        at += line.len() + 2;
        if line.is_empty() {
            return Some((body, at));
        }
        field(line)?;
    }
}

/// A line without its CRLF, and with no other CR or LF.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let line = &bytes[..bytes.windows(2).position(|two| two == b"\r\n")?];
    (!line.iter().any(|byte| b"\r\n\0".contains(byte))).then_some(line)
}
