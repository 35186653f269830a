//! A response that stands in the configuration, or in a file that it names.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::fault::{BadValue, Fault};
use super::reader::{Reader, Scope};
use super::tree::{Kind, Value};
use super::value;
use crate::http::head::Known;

/// The longest file that is answered with: it is held in memory.
const MAX_FILE: u64 = 1 << 20;

/// A response that stands in the configuration, or in a file that it names.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// 200 to 599.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Content,
    /// Whether the body is a file's.
    pub is_file: bool,
}

/// The bytes of a body. A file's are read with the configuration, and compared with it at a reload.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content(pub Bytes);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Answer {
    /// Reads `{ status, headers, body }`.
    pub(super) fn read_respond(mut reader: Reader<'_>, mut status: u16) -> Self {
        reader.set_number("status", 200..=599, &mut status);
        let headers = read_headers(&mut reader);
        let body: String = reader.optional("body").unwrap_or_default();
        if matches!(status, 204 | 205 | 304) && !body.is_empty() {
            let message = format!("a response with status {status} has no body");
            reader.scope.fault(Fault::new(reader.place_of("body"), message));
        }
        Self { status, headers, body: body.into(), is_file: false }
    }

    /// Reads the keys `file`, `status` (200 to 599) and `content_type` of a table with others beside them.
    pub(super) fn read_file(reader: &mut Reader<'_>, mut status: u16) -> Option<Self> {
        reader.set_number("status", 200..=599, &mut status);
        if matches!(status, 204 | 205 | 304) {
            let message = format!("a response with status {status} has no body");
            reader.scope.fault(Fault::new(reader.place_of("status"), message));
        }
        let content_type = reader.parse("content_type", value::field_value);
        let (path, body) = read_file(reader.required_value("file")?, reader.scope)?;
        let content_type = content_type.unwrap_or_else(|| content_type_of(&path).to_owned());
        Some(Self { status, headers: vec![("content-type".to_owned(), content_type)], body, is_file: true })
    }
}

fn read_headers(reader: &mut Reader<'_>) -> Vec<(String, String)> {
    let scope = reader.scope;
    let mut headers: Vec<(String, String)> = Vec::new();
    for (key, value) in reader.entries("headers") {
        let Some(name) = scope.accept(key.place, response_field_name(&key.name)) else { continue };
        let values = match &value.kind {
            Kind::Array(values) => &values[..],
            _ => std::slice::from_ref(value),
        };
        let read = |value| scope.text(value).and_then(|text| scope.accept(value.place, value::field_value(text)));
        headers.extend(values.iter().filter_map(read).map(|value| (name.clone(), value)));
    }
    headers
}

fn response_field_name(text: &str) -> Result<String, BadValue> {
    let name = value::field_name(text)?;
    if Known::of(name.as_bytes()).is_hop_by_hop() {
        return Err(BadValue::new(format!("`{name}` is written by the proxy itself")));
    }
    Ok(name)
}

/// Reads the file that a value names.
pub(super) fn read_file(value: &Value, scope: &Scope<'_>) -> Option<(PathBuf, Content)> {
    let text = scope.text(value)?;
    if text.is_empty() {
        scope.fault(Fault::new(value.place, "the path is empty"));
        return None;
    }
    let path = scope.resolve(PathBuf::from(text));
    match load(&path) {
        Ok(content) => Some((path, content)),
        Err(error) => {
            scope.fault(Fault::new(value.place, format!("cannot read {}: {error}", path.display())));
            None
        }
    }
}

fn load(path: &Path) -> io::Result<Content> {
    let metadata = fs::metadata(path)?;
    // To open a pipe would be to wait for who writes to it.
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if metadata.len() > MAX_FILE {
        return Err(io::Error::other("it is longer than 1MiB"));
    }
    fs::read(path).map(|bytes| Content(bytes.into()))
}

/// What a file is, by the ending of its name.
pub(super) fn content_type_of(path: &Path) -> &'static str {
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    match ending.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "json" => "application/json",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "gif" => "image/gif",
        _ => TEXT,
    }
}

/// What a body is that stands in the configuration, and a file that does not say otherwise.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
