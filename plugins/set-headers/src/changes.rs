//! What one side of the configuration asks for: headers to remove, to set and to append.

use staunch_plugin::{Config, FieldEdit, TargetEdit};

use crate::template::{Facts, Template};

/// Names that frame a message or belong to a connection. They are the proxy's own.
const PROXYS_OWN: [&str; 10] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The changes of one side.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    remove: Vec<String>,
    set: Vec<(String, Vec<Template>)>,
    append: Vec<(String, Vec<Template>)>,
    /// What `host` is set to. It is part of a request's target, so it is not changed as a header.
    authority: Option<Template>,
}

/// Which head is changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Side {
    Request,
    Response,
}

impl Changes {
    /// Reads one side, and notes what is wrong with it.
    pub(crate) fn read(config: &Config, side: Side) -> Self {
        config.only(&["set", "append", "remove"]);
        let mut changes = Self { remove: names(config), ..Self::default() };
        changes.append = values(&config.at("append"));
        for (name, mut values) in values(&config.at("set")) {
            if side == Side::Request && name.eq_ignore_ascii_case("host") {
                if values.len() > 1 {
                    config.issue("set.host", "must be a single value");
                }
                changes.authority = values.pop();
            } else {
                changes.set.push((name, values));
            }
        }
        if side == Side::Request {
            for name in changes.remove.iter().chain(changes.append.iter().map(|(name, _)| name)) {
                if name.eq_ignore_ascii_case("host") {
                    config.issue("", "can only set `host`: every request has exactly one");
                }
            }
        }
        changes
    }

    /// The changes for this message: first what goes, then what is set, then what is added.
    ///
    /// As in nginx, an empty value is no header: one that is set so is removed, and nothing is appended.
    pub(crate) fn fields(&self, facts: &Facts) -> Vec<FieldEdit> {
        let mut edits = Vec::with_capacity(self.remove.len() + self.set.len() + self.append.len());
        edits.extend(self.remove.iter().cloned().map(FieldEdit::Remove));
        for (name, values) in &self.set {
            let mut values = rendered(values, facts);
            edits.push(match values.next() {
                Some(first) => FieldEdit::Set(name.clone(), first.into_bytes()),
                None => FieldEdit::Remove(name.clone()),
            });
            edits.extend(values.map(|further| FieldEdit::Append(name.clone(), further.into_bytes())));
        }
        for (name, values) in &self.append {
            edits.extend(rendered(values, facts).map(|value| FieldEdit::Append(name.clone(), value.into_bytes())));
        }
        edits
    }

    /// The changes of the request line for this message.
    pub(crate) fn target(&self, facts: &Facts) -> Vec<TargetEdit> {
        let authority = self.authority.iter().map(|template| template.render(facts));
        authority.filter(|authority| !authority.is_empty()).map(TargetEdit::Authority).collect()
    }
}

/// The values that are not empty.
fn rendered(values: &[Template], facts: &Facts) -> impl Iterator<Item = String> {
    values.iter().map(|value| value.render(facts)).filter(|value| !value.is_empty())
}

/// The headers of a table, each with a value or a list of them.
fn values(table: &Config) -> Vec<(String, Vec<Template>)> {
    let read = |name: String| {
        let path = Config::escape(&name);
        match wrong_name(&name) {
            Some(wrong) => {
                table.issue(&path, wrong);
                None
            }
            None => Some((name, table.values(&path))),
        }
    };
    table.keys().into_iter().filter_map(read).collect()
}

/// The headers to remove.
fn names(config: &Config) -> Vec<String> {
    let names: Vec<String> = config.values("remove");
    for name in &names {
        if let Some(wrong) = wrong_name(name) {
            config.issue("remove", format!("has `{name}`, which {wrong}"));
        }
    }
    names
}

fn wrong_name(name: &str) -> Option<&'static str> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        Some("is not the name of a header (RFC 9110 section 5.6.2)")
    } else if PROXYS_OWN.iter().any(|own| name.eq_ignore_ascii_case(own)) {
        Some("is a header that only the proxy itself may write")
    } else {
        None
    }
}
