//! What one side of the configuration asks for: headers to remove, to set and to append.

use staunch_plugin::template::{Facts, Template};
use staunch_plugin::{Config, FieldEdit, FieldName, Setting, TargetEdit};

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

    /// The changes of the request line for this message. What comes out as no authority changes nothing.
    pub(crate) fn target(&self, facts: &Facts) -> Vec<TargetEdit> {
        let authority = self.authority.iter().map(|template| template.render(facts));
        authority.filter_map(TargetEdit::authority).collect()
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

fn wrong_name(name: &str) -> Option<String> {
    FieldName::from_text(name).err()
}
