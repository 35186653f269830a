//! Reads tables key by key: each fault is noted and reading goes on.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fault::{BadValue, Fault, did_you_mean, expected, suggest};
use super::plugin::PluginKind;
use super::settings::{Place, Settings};
use super::tree::{Key, Kind, Table, Value};
use super::value;

/// What all readers of one file share: names that may be spoken of, and the faults found so far.
#[derive(Default)]
pub(super) struct Scope<'a> {
    /// Relative paths start here.
    pub(super) folder: Option<&'a Path>,
    pub(super) upstreams: Vec<(&'a str, Place)>,
    /// The operator's own plugins.
    pub(super) plugins: Vec<(&'a str, Settings)>,
    /// Where the admin server's address is written.
    pub(super) admin: Place,
    /// The routes whose match has a fault and tells nothing about what they match.
    pub(super) doubtful_routes: RefCell<Vec<Place>>,
    pub(super) noted: RefCell<Vec<Noted>>,
    pub(super) warnings: RefCell<Vec<Fault>>,
    /// Where the operator's own plugins are used, and as what.
    pub(super) uses: RefCell<Vec<(String, PluginKind)>>,
}

pub(super) struct Noted {
    pub(super) fault: Fault,
    /// Whether something is missed, which a mistake of syntax may have hidden.
    pub(super) is_absence: bool,
}

impl Scope<'_> {
    pub(super) fn fault(&self, fault: Fault) {
        self.noted.borrow_mut().push(Noted { fault, is_absence: false });
    }

    /// Notes that something is not there.
    pub(super) fn absence(&self, fault: Fault) {
        self.noted.borrow_mut().push(Noted { fault, is_absence: true });
    }

    pub(super) fn warn(&self, fault: Fault) {
        self.warnings.borrow_mut().push(fault);
    }

    pub(super) fn mismatch(&self, value: &Value, expected: &str) {
        self.mismatch_with_hint(value, expected, None);
    }

    fn mismatch_with_hint(&self, value: &Value, expected: &str, hint: Option<String>) {
        if !matches!(value.kind, Kind::Broken) {
            let message = format!("expected {expected}, found {}", value.describe());
            self.fault(Fault::new(value.place, message).with_hint(hint));
        }
    }

    /// Makes a path absolute, or relative to where the proxy was started when there is no file.
    pub(super) fn resolve(&self, path: PathBuf) -> PathBuf {
        self.folder.map(|folder| folder.join(&path)).unwrap_or(path)
    }

    /// The value, or nothing and a fault.
    pub(super) fn accept<T>(&self, place: Place, result: Result<T, BadValue>) -> Option<T> {
        result.map_err(|bad| self.fault(bad.at(place))).ok()
    }
}

/// Reads one table. A key that was never asked for is a fault, noted when the reader is dropped.
pub(super) struct Reader<'a> {
    pub(super) scope: &'a Scope<'a>,
    table: &'a Table,
    known: Vec<&'static str>,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        for (key, _) in &self.table.entries {
            if !self.known.contains(&key.name.as_str()) {
                let message = format!("unknown key `{}`", value::shown(&key.name));
                self.scope.fault(Fault::new(key.place, message).with_hint(suggest(&key.name, &self.known)));
            }
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(table: &'a Table, scope: &'a Scope<'a>) -> Self {
        Self { scope, table, known: Vec::new() }
    }

    /// A value that may be absent; a bad one is noted and then absent too.
    pub(super) fn optional<T: Read>(&mut self, key: &'static str) -> Option<T> {
        T::read(self.value(key)?, self.scope)
    }

    /// Replaces a default by what is written.
    pub(super) fn set<T: Read>(&mut self, key: &'static str, default: &mut T) {
        if let Some(written) = self.optional(key) {
            *default = written;
        }
    }

    /// Like [`set`](Self::set), for a duration that may be zero.
    pub(super) fn set_zero_or_more(&mut self, key: &'static str, default: &mut Duration) {
        if let Some(DurationOrZero(written)) = self.optional(key) {
            *default = written;
        }
    }

    /// Like [`set`](Self::set); `false` switches it off.
    pub(super) fn set_or_off(&mut self, key: &'static str, default: &mut Option<Duration>) {
        let Some(value) = self.value(key) else { return };
        match &value.kind {
            Kind::Boolean(false) => *default = None,
            Kind::String(word) if value::is_off(word) => self.scope.fault(
                Fault::new(value.place, format!("`{word}` is not a duration"))
                    .with_hint(format!("write `{key} = false` to switch it off")),
            ),
            Kind::Boolean(true) => self.scope.mismatch(value, "a duration or false"),
            _ => *default = Duration::read(value, self.scope),
        }
    }

    pub(super) fn set_number<N: TryFrom<i64>>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
        default: &mut N,
    ) {
        if let Some(written) = self.number(key, range) {
            *default = written;
        }
    }

    pub(super) fn number<N: TryFrom<i64>>(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<N> {
        let value = self.value(key)?;
        self.scope.number(value, range)
    }

    /// A size in bytes.
    pub(super) fn set_size<N: TryFrom<u64>>(&mut self, key: &'static str, range: RangeInclusive<u64>, default: &mut N) {
        if let Some(written) = self.size(key, range) {
            *default = written;
        }
    }

    pub(super) fn size<N: TryFrom<u64>>(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<N> {
        let value = self.value(key)?;
        let read = match &value.kind {
            Kind::String(text) => self.scope.accept(value.place, value::size(text))?,
            Kind::Integer(number) => {
                return self.scope.accept(value.place, Err(value::unitless_size(&number.to_string())));
            }
            _ => {
                self.scope.mismatch(value, "a size such as \"8MiB\"");
                return None;
            }
        };
        if let (true, Ok(size)) = (range.contains(&read), N::try_from(read)) {
            return Some(size);
        }
        let (least, most) = (value::written_size(*range.start()), value::written_size(*range.end()));
        let message = format!("expected a size from {least} to {most}, found {}", value.describe());
        self.scope.fault(Fault::new(value.place, message));
        None
    }

    /// A text that stands for something.
    pub(super) fn parse<T>(&mut self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, BadValue>) -> Option<T> {
        let value = self.value(key)?;
        self.scope.text(value).and_then(|text| self.scope.accept(value.place, parse(text)))
    }

    pub(super) fn required_parse<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, BadValue>,
    ) -> Option<T> {
        self.required_value(key)?;
        self.parse(key, parse)
    }

    /// One of several words. A word without a meaning belongs to a later version.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, Option<T>)]) -> Option<T> {
        let value = self.value(key)?;
        let text = self.scope.text(value)?;
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, Some(meaning))) => Some(*meaning),
            Some((_, None)) => {
                self.scope
                    .fault(Fault::new(value.place, format!("{key} `{text}` is not supported yet by this version")));
                None
            }
            None => {
                let now: Vec<_> =
                    words.iter().filter(|(_, meaning)| meaning.is_some()).map(|(word, _)| *word).collect();
                let every: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                let hint = did_you_mean(text, &every).or_else(|| expected(&now));
                let message = format!("unknown {key} `{}`", value::shown(text));
                self.scope.fault(Fault::new(value.place, message).with_hint(hint));
                None
            }
        }
    }

    /// The reader of a table below.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Self> {
        let value = self.value(key)?;
        self.scope.table(value)
    }

    /// The readers of an array of tables.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Self> {
        match self.value(key).map(|value| (value, &value.kind)) {
            None => Vec::new(),
            Some((_, Kind::Array(values))) => values.iter().filter_map(|value| self.scope.table(value)).collect(),
            Some((value, _)) => {
                self.scope.mismatch_with_hint(value, "an array of tables", Some(format!("write `[[{key}]]`")));
                Vec::new()
            }
        }
    }

    /// Whether an array of tables is absent or empty.
    pub(super) fn lacks(&mut self, key: &'static str) -> bool {
        self.value(key).is_none_or(|value| matches!(&value.kind, Kind::Array(values) if values.is_empty()))
    }

    /// The elements of an array, each still to be read.
    pub(super) fn array(&mut self, key: &'static str) -> Option<&'a [Value]> {
        let value = self.value(key)?;
        self.scope.array(value)
    }

    /// The entries of a table whose keys are the operator's own.
    pub(super) fn entries(&mut self, key: &'static str) -> &'a [(Key, Value)] {
        let Some(value) = self.value(key) else { return &[] };
        match &value.kind {
            Kind::Table(table) => &table.entries,
            _ => {
                self.scope.mismatch(value, "a table");
                &[]
            }
        }
    }

    /// The one of several keys that is written; more than one is a fault.
    pub(super) fn one_of(&mut self, keys: &[&'static str]) -> Option<&'static str> {
        keys.iter().for_each(|key| self.know(key));
        let mut written =
            self.table.entries.iter().filter_map(|(key, _)| keys.iter().find(|k| **k == key.name).map(|k| (key, *k)));
        let first = written.next()?.1;
        for (key, name) in written {
            let message = format!("`{name}` cannot stand beside `{first}`");
            self.scope.fault(
                Fault::new(key.place, message).with_hint(expected(keys).map(|list| format!("{list}, and no other"))),
            );
        }
        Some(first)
    }

    /// A key that has no meaning here.
    pub(super) fn misplaced(&mut self, keys: &[&'static str], why: &str) {
        for &key in keys {
            self.know(key);
            if let Some((written, _)) = self.table.get(key) {
                self.scope.fault(Fault::new(written.place, format!("`{key}` {why}")));
            }
        }
    }

    /// Keys that cannot be judged because of another fault.
    pub(super) fn ignore(&mut self, keys: &[&'static str]) {
        keys.iter().for_each(|key| self.know(key));
    }

    pub(super) fn required_value(&mut self, key: &'static str) -> Option<&'a Value> {
        let value = self.value(key);
        if value.is_none() {
            self.scope.absence(Fault::new(self.table.place, format!("missing key `{key}`")));
        }
        value
    }

    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.know(key);
        self.table.get(key).map(|(_, value)| value)
    }

    fn know(&mut self, key: &'static str) {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
    }

    pub(super) fn place(&self) -> Place {
        self.table.place
    }

    /// The place of a key's value, or of the table when it is not there.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.table.get(key).map_or(self.table.place, |(_, value)| value.place)
    }
}

impl<'a> Scope<'a> {
    /// The names that a file gives, whatever else is wrong with what they name.
    pub(super) fn of(root: &'a Table, folder: Option<&'a Path>) -> Self {
        let entries = |section: &str| match root.get(section).map(|(_, value)| &value.kind) {
            Some(Kind::Table(table)) => &table.entries[..],
            _ => &[],
        };
        let settings = |kind: &Kind| match kind {
            Kind::Table(plugin) => match plugin.get("config").map(|(_, value)| &value.kind) {
                Some(Kind::Table(config)) => config.to_settings(),
                _ => Settings::default(),
            },
            _ => Settings::default(),
        };
        Self {
            folder,
            upstreams: entries("upstreams").iter().map(|(key, _)| (key.name.as_str(), key.place)).collect(),
            plugins: entries("plugins").iter().map(|(key, value)| (key.name.as_str(), settings(&value.kind))).collect(),
            admin: match root.get("admin").map(|(_, value)| &value.kind) {
                Some(Kind::Table(admin)) => admin.get("address").map(|(_, value)| value.place).unwrap_or_default(),
                _ => Place::default(),
            },
            ..Self::default()
        }
    }

    pub(super) fn table(&'a self, value: &'a Value) -> Option<Reader<'a>> {
        match &value.kind {
            Kind::Table(table) => Some(Reader::new(table, self)),
            _ => {
                self.mismatch(value, "a table");
                None
            }
        }
    }

    pub(super) fn array<'v>(&self, value: &'v Value) -> Option<&'v [Value]> {
        match &value.kind {
            Kind::Array(values) => Some(values),
            Kind::String(text) => {
                self.mismatch_with_hint(
                    value,
                    "an array",
                    Some(format!("did you mean `[\"{}\"]`?", value::shown(text))),
                );
                None
            }
            _ => {
                self.mismatch(value, "an array");
                None
            }
        }
    }

    pub(super) fn text<'v>(&self, value: &'v Value) -> Option<&'v str> {
        let hint = match &value.kind {
            Kind::String(text) => return Some(text),
            Kind::Integer(number) => Some(quoted(number)),
            Kind::Float(number) => Some(quoted(number)),
            Kind::Boolean(truth) => Some(quoted(truth)),
            _ => None,
        };
        self.mismatch_with_hint(value, "a string", hint);
        None
    }

    pub(super) fn number<N: TryFrom<i64>>(&self, value: &Value, range: RangeInclusive<i64>) -> Option<N> {
        let said = value::said(&range);
        match &value.kind {
            Kind::Integer(number) if range.contains(number) => {
                if let Ok(number) = N::try_from(*number) {
                    return Some(number);
                }
                self.mismatch(value, &said);
            }
            Kind::String(text) if text.parse::<i64>().is_ok_and(|number| range.contains(&number)) => {
                self.mismatch_with_hint(value, &said, Some(format!("did you mean `{text}`, without quotes?")));
            }
            _ => self.mismatch(value, &said),
        }
        None
    }
}

fn quoted(value: &dyn Display) -> String {
    format!("did you mean `\"{value}\"`?")
}

impl Value {
    pub(super) fn describe(&self) -> String {
        match &self.kind {
            Kind::String(text) => format!("\"{}\"", value::shown(text)),
            Kind::Integer(number) => number.to_string(),
            Kind::Float(number) => number.clone(),
            Kind::Boolean(truth) => truth.to_string(),
            Kind::Datetime(date) => date.clone(),
            Kind::Array(_) => "an array".to_owned(),
            Kind::Table(_) => "a table".to_owned(),
            Kind::Broken => "nothing".to_owned(),
        }
    }
}

/// What a value can be read as. A value that cannot is noted.
pub(super) trait Read: Sized {
    fn read(value: &Value, scope: &Scope<'_>) -> Option<Self>;
}

impl Read for String {
    fn read(value: &Value, scope: &Scope<'_>) -> Option<Self> {
        scope.text(value).map(str::to_owned)
    }
}

impl Read for bool {
    fn read(value: &Value, scope: &Scope<'_>) -> Option<Self> {
        match &value.kind {
            Kind::Boolean(truth) => Some(*truth),
            _ => {
                scope.mismatch(value, "true or false");
                None
            }
        }
    }
}

/// More than nothing.
impl Read for Duration {
    fn read(value: &Value, scope: &Scope<'_>) -> Option<Self> {
        let length = DurationOrZero::read(value, scope)?.0;
        if length.is_zero() {
            scope.fault(Fault::new(value.place, "a zero duration has no meaning here"));
            return None;
        }
        Some(length)
    }
}

/// A duration that may be zero.
pub(super) struct DurationOrZero(pub(super) Duration);

impl Read for DurationOrZero {
    fn read(value: &Value, scope: &Scope<'_>) -> Option<Self> {
        let result = match &value.kind {
            Kind::String(text) => value::duration(text),
            Kind::Integer(number) => Err(value::unitless_duration(&number.to_string())),
            Kind::Float(number) => Err(value::unitless_duration(number)),
            _ => {
                scope.mismatch(value, "a duration such as \"30s\"");
                return None;
            }
        };
        scope.accept(value.place, result).map(Self)
    }
}

impl Read for Settings {
    fn read(value: &Value, scope: &Scope<'_>) -> Option<Self> {
        match &value.kind {
            Kind::Table(table) => Some(table.to_settings()),
            _ => {
                scope.mismatch(value, "a table");
                None
            }
        }
    }
}
