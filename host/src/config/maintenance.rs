//! Being closed on purpose.

use std::time::Duration;

use super::answer::Answer;
use super::network::Network;
use super::reader::Reader;
use super::tree::Kind;

/// Whether the proxy or a route is closed for work on what is behind it, and what is answered meanwhile. It can be
/// switched while the proxy runs, whatever is written here.
#[derive(Clone, Debug, PartialEq)]
pub struct Maintenance {
    /// (false; true where `maintenance` is a table that does not say)
    pub on: bool,
    /// What is answered; absent: 503 and the error page for it.
    pub answer: Option<Answer>,
    /// What `Retry-After` says, in whole seconds ("60s"); absent (`false`): no such field.
    pub retry_after: Option<Duration>,
    /// The clients that get through all the same.
    pub allow: Vec<Network>,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self { on: false, answer: None, retry_after: Some(Duration::from_secs(60)), allow: Vec::new() }
    }
}

impl Maintenance {
    /// Reads the key `maintenance`.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let scope = reader.scope;
        let mut read = Self::default();
        let Some(value) = reader.value("maintenance") else { return read };
        match &value.kind {
            Kind::Boolean(on) => read.on = *on,
            Kind::Table(table) => {
                let mut reader = Reader::new(table, scope);
                read.on = true;
                reader.set("on", &mut read.on);
                reader.set_or_off("retry_after", &mut read.retry_after);
                read.answer = match reader.one_of(&["respond", "file"]) {
                    Some("respond") => reader.table("respond").map(|table| Answer::read_respond(table, 503)),
                    Some(_) => Answer::read_file(&mut reader, 503),
                    None => None,
                };
                let allow = reader.array("allow").unwrap_or_default();
                let network = |value| scope.text(value).and_then(|text| scope.accept(value.place, text.parse()));
                read.allow = allow.iter().filter_map(network).collect();
            }
            _ => scope.mismatch(value, "true, false or a table"),
        }
        read
    }
}
