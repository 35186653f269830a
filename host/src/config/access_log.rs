//! A line for each finished exchange.

use std::path::PathBuf;

use super::fault::BadValue;
use super::reader::Reader;

/// A line for each finished exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// A file that is appended to; `None` ("-", the default) is standard output.
    pub path: Option<PathBuf>,
    /// ("json")
    pub format: AccessLogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    Json,
    /// The Apache and nginx "combined" format.
    Combined,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { path: None, format: AccessLogFormat::Json }
    }
}

impl AccessLog {
    pub(super) fn read(mut reader: Reader<'_>) -> Self {
        let mut log = Self::default();
        let path = reader.parse("path", |text| match text {
            "" => Err(BadValue::new("the path is empty").with_hint("write `-` for standard output".to_owned())),
            "-" => Ok(None),
            path => Ok(Some(PathBuf::from(path))),
        });
        log.path = path.flatten().map(|path| reader.scope.resolve(path));
        let formats = [("json", Some(AccessLogFormat::Json)), ("combined", Some(AccessLogFormat::Combined))];
        if let Some(format) = reader.word("format", &formats) {
            log.format = format;
        }
        log
    }
}
