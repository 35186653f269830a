//! What stands in the body of answers that tell of a failure.

use super::answer::{self, Answer, Content, TEXT, content_type_of};
use super::fault::Fault;
use super::health::statuses;
use super::reader::{Reader, Scope};
use super::tree::{Kind, Value};
use super::value;

/// Pages by status (nginx's `error_page`, HAProxy's `errorfile`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorPages {
    /// Whether they replace endpoints' bodies too, not only the proxy's own (false; nginx's `proxy_intercept_errors`).
    pub intercept: bool,
    /// The most precise first.
    pub pages: Vec<ErrorPage>,
}

/// What is answered in place of statuses, both ends included.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorPage {
    pub statuses: (u16, u16),
    /// The status that the client gets; absent: as it was.
    pub status: Option<u16>,
    pub content_type: String,
    pub body: Content,
}

impl ErrorPages {
    /// The page for a status.
    pub fn of(&self, status: u16) -> Option<&ErrorPage> {
        self.pages.iter().find(|page| (page.statuses.0..=page.statuses.1).contains(&status))
    }

    /// Reads the key `error_pages`.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let scope = reader.scope;
        let mut read = Self::default();
        for (key, value) in reader.entries("error_pages") {
            if key.name == "intercept" {
                match &value.kind {
                    Kind::Boolean(intercept) => read.intercept = *intercept,
                    _ => scope.mismatch(value, "true or false"),
                }
                continue;
            }
            let Some(statuses) = scope.accept(key.place, statuses(&key.name)) else { continue };
            if statuses.0 < 400 {
                scope.fault(Fault::new(key.place, "an error's status is from 400 to 599"));
            }
            read.pages.extend(ErrorPage::read(statuses, value, scope));
        }
        read.pages.sort_by_key(|page| page.statuses.1 - page.statuses.0);
        read
    }
}

impl ErrorPage {
    fn read(statuses: (u16, u16), value: &Value, scope: &Scope<'_>) -> Option<Self> {
        if let Kind::String(_) = &value.kind {
            let (path, body) = answer::read_file(value, scope)?;
            let content_type = content_type_of(&path).to_owned();
            return Some(Self { statuses, status: None, content_type, body });
        }
        let Kind::Table(table) = &value.kind else {
            scope.mismatch(value, "a file's path or a table with a `file` or a `body`");
            return None;
        };
        let mut reader = Reader::new(table, scope);
        let status = reader.number("status", 200..=599);
        match reader.one_of(&["file", "body"]) {
            Some("file") => {
                let Answer { headers, body, .. } = Answer::read_file(&mut reader, 503)?;
                let content_type = headers.into_iter().next().map(|(_, value)| value)?;
                Some(Self { statuses, status, content_type, body })
            }
            Some(_) => {
                let content_type = reader.parse("content_type", value::field_value).unwrap_or_else(|| TEXT.to_owned());
                let body: String = reader.optional("body")?;
                Some(Self { statuses, status, content_type, body: body.into() })
            }
            None => {
                let hint = "expected one of `file`, `body`".to_owned();
                scope.absence(Fault::new(reader.place(), "an error page with nothing on it").with_hint(hint));
                None
            }
        }
    }
}
