//! Text becomes a tree of values with their places, variables of the environment filled in.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Fault;
use super::settings::{Place, Setting, Settings};
use super::value;

/// A table with its entries in the order they are written.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<(Key, Value)>,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) struct Value {
    pub(super) kind: Kind,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) enum Kind {
    String(String),
    Integer(i64),
    Float(String),
    Boolean(bool),
    Datetime(String),
    Array(Vec<Value>),
    Table(Table),
    /// Could not be made out; its fault is noted already.
    Broken,
}

impl Table {
    pub(super) fn get(&self, name: &str) -> Option<(&Key, &Value)> {
        self.entries.iter().find(|(key, _)| key.name == name).map(|(key, value)| (key, value))
    }

    pub(super) fn to_settings(&self) -> Settings {
        let entries = self.entries.iter().map(|(key, value)| (key.name.clone(), value.to_setting())).collect();
        Settings { entries, place: self.place }
    }
}

impl Value {
    fn to_setting(&self) -> Setting {
        let text = match &self.kind {
            Kind::Array(values) => return Setting::List(values.iter().map(Self::to_setting).collect(), self.place),
            Kind::Table(table) => return Setting::Table(table.to_settings()),
            Kind::String(text) | Kind::Float(text) | Kind::Datetime(text) => text.clone(),
            Kind::Integer(number) => number.to_string(),
            Kind::Boolean(truth) => truth.to_string(),
            Kind::Broken => String::new(),
        };
        Setting::Scalar(text, self.place)
    }
}

/// A text that has been read.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) root: Table,
    /// Mistakes of syntax, and variables that are missing.
    pub(super) faults: Vec<Fault>,
    damage: Vec<Damage>,
}

/// Lines that may be something else than their author meant.
#[derive(Debug)]
struct Damage {
    lines: Range<usize>,
    /// Whether keys may have been lost, and not only a value.
    hides: bool,
}

impl Document {
    /// Reads a text as far as it can be understood. `environment` answers the value of a variable.
    pub(super) fn read(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut builder = Builder { lines: Lines::of(text), environment, faults: Vec::new() };
        let (faults, damage) = syntax_faults(&builder.lines, root.get_ref(), &errors);
        let mut root = builder.table(root.into_inner(), 0);
        root.place = Place { line: 1, column: 1 };
        let mut document = Self { root, faults, damage };
        for fault in builder.faults {
            if !document.is_damaged_at(fault.place) {
                document.faults.push(fault);
            }
        }
        document
    }

    /// Whether something that is not there may only be out of sight.
    pub(super) fn may_hide(&self) -> bool {
        self.damage.iter().any(|damage| damage.hides)
    }

    /// Whether what stands on this line may be something else than its author meant.
    pub(super) fn is_damaged_at(&self, place: Place) -> bool {
        self.damage.iter().any(|damage| damage.lines.contains(&place.line))
    }
}

/// Turns offsets into places.
pub(super) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(offset, _)| offset + 1)).collect();
        Self { text, starts }
    }

    pub(super) fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or_default();
        Place { line, column: before.trim_start_matches('\u{feff}').chars().count() + 1 }
    }

    /// The lines from that of `offset` up to the next table header.
    fn section(&self, offset: usize) -> Range<usize> {
        let first = self.place(offset).line;
        let next = (first + 1..=self.starts.len()).find(|line| {
            self.text
                .get(self.starts[line - 1]..)
                .is_some_and(|rest| rest.trim_start_matches([' ', '\t']).starts_with('['))
        });
        first..next.unwrap_or(self.starts.len() + 1)
    }
}

/// The parser's errors as faults, one for each line at most, and the lines that cannot be trusted.
fn syntax_faults(lines: &Lines<'_>, root: &DeTable<'_>, errors: &[toml::de::Error]) -> (Vec<Fault>, Vec<Damage>) {
    let mut values = Vec::new();
    spans_of(root, &mut values);
    let mut found: Vec<(usize, Fault, Damage)> = Vec::new();
    for error in &errors[..errors.len().min(MOST_ERRORS)] {
        let span = error.span().unwrap_or(0..0);
        let line = lines.place(span.start).line;
        let scalar = values.iter().find(|v| v.is_scalar && (v.span.start..=v.span.end).contains(&span.start));
        let written = scalar.and_then(|scalar| lines.text.get(scalar.span.clone())).unwrap_or_default();
        let (message, hint) = wording(error.message(), lines.text.get(span.clone()).unwrap_or_default(), written);
        let (start, lines_touched, hides) = match start_of_unclosed(&message, span.end, lines.text, &values) {
            Some(start) => (start, lines.place(start).line..lines.place(span.end).line + 1, true),
            None if message.starts_with("duplicate") => (span.start, line..line + 1, false),
            None if let Some(scalar) = scalar => {
                let start = if message == UNQUOTED { scalar.span.start } else { span.start };
                (start, line..line + 1, false)
            }
            None => (span.start, lines.section(span.start), true),
        };
        let fault = Fault::new(lines.place(start), message).with_hint(hint);
        found.push((start, fault, Damage { lines: lines_touched, hides }));
    }
    found.sort_by_key(|(start, _, damage)| (*start, std::cmp::Reverse(damage.lines.end)));
    let mut faults: Vec<Fault> = Vec::new();
    let mut damages: Vec<Damage> = Vec::new();
    let mut swallowed_until = 0;
    for (_, fault, damage) in found {
        let is_first_of_its_line = faults.last().is_none_or(|last| last.place.line != fault.place.line);
        if is_first_of_its_line && fault.place.line >= swallowed_until {
            if fault.message.starts_with("unclosed") {
                swallowed_until = damage.lines.end;
            }
            faults.push(fault);
        }
        damages.push(damage);
    }
    if errors.len() > MOST_ERRORS {
        damages.push(Damage { lines: 0..usize::MAX, hides: true });
    }
    (faults, damages)
}

/// Mistakes of syntax that are looked at. A file with more is no configuration.
const MOST_ERRORS: usize = 100;

/// Where an array, inline table or text of several lines began that is not closed and so has swallowed all up to
/// `end`: the mistake is there, and not where the parser gave up.
fn start_of_unclosed(message: &str, end: usize, text: &str, values: &[ValueSpan]) -> Option<usize> {
    let is_open = |value: &&ValueSpan| match message {
        "unclosed array" => !value.is_scalar && value.span.end == end,
        // The parser lets an inline table end where it still understood it.
        "unclosed inline table" => {
            let written = text.get(value.span.clone()).unwrap_or_default();
            value.span.end <= end && written.starts_with('{') && !written.ends_with('}')
        }
        UNCLOSED_TEXT => value.is_scalar && value.span.end == end,
        _ => false,
    };
    values.iter().filter(is_open).map(|value| value.span.start).max()
}

const UNCLOSED_TEXT: &str = "unclosed multi-line string";

/// A fault's message and hint from the parser's words. `found` is what it stumbled over, and `written` the whole
/// value around that, if it was in one.
fn wording(message: &str, found: &str, written: &str) -> (String, Option<String>) {
    let (what, expected) = match message.split_once(", expected ") {
        Some((what, expected)) => (what, Some(expected)),
        None => (message, None),
    };
    let is_text = match what {
        "string values must be quoted" if found.is_empty() => return ("missing value".to_owned(), None),
        "string values must be quoted" => true,
        // Text that begins like something else: `three`, `10.0.0.1:80`.
        "invalid boolean" => !["true", "false"].iter().any(|truth| written.eq_ignore_ascii_case(truth)),
        "invalid float" => written.contains(':') || written.matches('.').count() > 1,
        _ => false,
    };
    match what {
        _ if is_text => {
            let text = value::shown(if written.is_empty() { found } else { written });
            (UNQUOTED.to_owned(), Some(format!("did you mean `\"{text}\"`?")))
        }
        "duplicate key" => (format!("duplicate key `{}`", value::shown(found)), None),
        "invalid multi-line basic string" | "invalid multi-line literal string" if found.is_empty() => {
            (UNCLOSED_TEXT.to_owned(), None)
        }
        _ => (what.to_owned(), expected.filter(|e| *e != "nothing").map(|e| format!("expected {e}"))),
    }
}

const UNQUOTED: &str = "text must be quoted";

struct ValueSpan {
    span: Range<usize>,
    is_scalar: bool,
}

fn spans_of(table: &DeTable<'_>, spans: &mut Vec<ValueSpan>) {
    fn visit(value: &Spanned<DeValue<'_>>, spans: &mut Vec<ValueSpan>) {
        let is_scalar = match value.get_ref() {
            DeValue::Table(table) => {
                spans_of(table, spans);
                false
            }
            DeValue::Array(array) => {
                array.iter().for_each(|value| visit(value, spans));
                false
            }
            _ => true,
        };
        spans.push(ValueSpan { span: value.span(), is_scalar });
    }
    table.iter().for_each(|(_, value)| visit(value, spans));
}

struct Builder<'a> {
    lines: Lines<'a>,
    environment: &'a dyn Fn(&str) -> Option<String>,
    faults: Vec<Fault>,
}

impl Builder<'_> {
    fn table(&mut self, table: DeTable<'_>, start: usize) -> Table {
        let place = self.lines.place(start);
        let entries = table
            .into_iter()
            .map(|(key, value)| {
                let place = self.lines.place(key.span().start);
                // Where a value is missing the parser makes one up, which stands nowhere.
                let is_made_up = value.span().is_empty();
                let mut value = self.value(value);
                if is_made_up {
                    value.place = place;
                }
                (Key { name: key.into_inner().into_owned(), place }, value)
            })
            .collect();
        Table { entries, place }
    }

    fn value(&mut self, value: Spanned<DeValue<'_>>) -> Value {
        let start = value.span().start;
        let place = self.lines.place(start);
        let kind = match value.into_inner() {
            DeValue::String(text) => match fill_in(&text, self.environment) {
                Ok(text) => Kind::String(text),
                Err(missing) => {
                    self.faults.extend(missing.into_iter().map(|name| {
                        Fault::new(place, format!("the environment variable `{name}` is not set"))
                            .with_hint(format!("set it, or write `$${{{name}}}` for the text itself"))
                    }));
                    Kind::Broken
                }
            },
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Kind::Integer(number),
                Err(_) => {
                    self.faults.push(Fault::new(place, "a whole number must fit in 64 bits"));
                    Kind::Broken
                }
            },
            DeValue::Float(number) => Kind::Float(number.as_str().trim_start_matches('+').to_owned()),
            DeValue::Boolean(truth) => Kind::Boolean(truth),
            DeValue::Datetime(date) => Kind::Datetime(date.to_string()),
            DeValue::Array(values) => Kind::Array(values.into_iter().map(|value| self.value(value)).collect()),
            DeValue::Table(table) => Kind::Table(self.table(table, start)),
        };
        Value { kind, place }
    }
}

/// Replaces each `${NAME}` by the variable's value and each `$${NAME}` by the text `${NAME}`; any other `$` is
/// itself. The error has the names that are missing.
fn fill_in(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, Vec<String>> {
    let mut filled = String::with_capacity(text.len());
    let mut missing = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let (before, from) = rest.split_at(dollar);
        filled.push_str(before);
        if let Some(after) = variable(&from[1..]).and_then(|name| from.get(1 + name.len() + 3..)) {
            filled.push_str(&from[1..from.len() - after.len()]);
            rest = after;
        } else if let Some(name) = variable(from) {
            match environment(name) {
                Some(value) => filled.push_str(&value),
                None => missing.push(name.to_owned()),
            }
            rest = &from[name.len() + 3..];
        } else {
            filled.push('$');
            rest = &from[1..];
        }
    }
    filled.push_str(rest);
    if missing.is_empty() { Ok(filled) } else { Err(missing) }
}

/// The name in a `${NAME}` that `text` begins with.
fn variable(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix("${")?.split_once('}')?;
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (starts_well && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("example.com".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn only_a_variable_in_braces_is_replaced() {
        for (text, filled) in [
            ("a${HOST}b${EMPTY}c", "aexample.combc"),
            ("$HOST $ $$ ${} ${a-b} ${1A} ${HOST", "$HOST $ $$ ${} ${a-b} ${1A} ${HOST"),
            ("$${HOST} $$${HOST}", "${HOST} $${HOST}"),
            ("$${UNSET}", "${UNSET}"),
            ("é${HOST}é", "éexample.comé"),
        ] {
            assert_eq!(fill_in(text, &environment), Ok(filled.to_owned()), "for {text}");
        }
        assert_eq!(fill_in("${A} ${HOST} ${B_2}", &environment), Err(vec!["A".to_owned(), "B_2".to_owned()]));
    }

    #[test]
    fn places_count_characters_from_one() {
        let text = "\u{feff}a = 1\nb = \"é\" # x\n";
        let lines = Lines::of(text);

        for (needle, line, column) in [("a", 1, 1), ("1", 1, 5), ("b", 2, 1), ("#", 2, 9)] {
            let offset = text.find(needle).expect("it is there");
            assert_eq!(lines.place(offset), Place { line, column }, "for {needle}");
        }
        assert_eq!(lines.place(text.len()), Place { line: 3, column: 1 });
        assert_eq!(lines.place(text.len() + 9), Place { line: 3, column: 1 });
    }

    #[test]
    fn each_mistake_of_syntax_is_told_once_and_at_its_root() {
        for (text, faults) in [
            ("t = 5s\nu = 3", vec!["1:5: text must be quoted; did you mean `\"5s\"`?"]),
            (
                "t = \"abc\nu = yes",
                vec!["1:9: invalid basic string; expected `\"`", "2:5: text must be quoted; did you mean `\"yes\"`?"],
            ),
            ("[a]\nt = [1,\n2\nu = 1\n[x]\ny = 2", vec!["2:5: unclosed array; expected `]`"]),
            ("a = { b = 1,\n[x]\ny = 2", vec!["1:5: unclosed inline table; expected `}`"]),
            ("a = 1\n\na = 2", vec!["3:1: duplicate key `a`"]),
            ("[b]\n[b]", vec!["2:2: duplicate key `b`"]),
            (
                "a = three\nb = TRUE",
                vec!["1:5: text must be quoted; did you mean `\"three\"`?", "2:5: invalid boolean; expected `true`"],
            ),
            ("a = 10.0.0.1:80", vec!["1:5: text must be quoted; did you mean `\"10.0.0.1:80\"`?"]),
            ("a = \nb = 1", vec!["1:5: missing value"]),
            ("a: 1\nb = 1", vec!["1:2: invalid unquoted key; expected letters, numbers, `-`, `_`"]),
            ("a = \"\"\"\nb\n", vec!["1:5: unclosed multi-line string"]),
            ("a = 007", vec!["1:5: unexpected leading zero"]),
            ("[a\nb = 1", vec!["1:3: unclosed table; expected `]`"]),
            ("a = 99999999999999999999", vec!["1:5: a whole number must fit in 64 bits"]),
        ] {
            let document = Document::read(text, &environment);
            let told: Vec<_> = document.faults.iter().map(ToString::to_string).collect();
            assert_eq!(told, faults, "for {text}");
        }
    }

    #[test]
    fn only_what_a_mistake_of_syntax_touches_is_distrusted() {
        let document = Document::read("a = 5s\nb = 1\n[c]\nd 1\ne = 2\n[f]\ng = 3", &environment);

        let distrusted: Vec<_> =
            (1..=7).filter(|line| document.is_damaged_at(Place { line: *line, column: 1 })).collect();
        assert_eq!(distrusted, [1, 4, 5]);
    }

    #[test]
    fn settings_keep_order_and_write_numbers_as_json_does() {
        let text = "b = 0x1F\na = +1_0.5\nd = 2024-05-01\nt = true\nl = [1, 'x']\nn.m = '${HOST}'";
        let settings = Document::read(text, &environment).root.to_settings();

        assert_eq!(settings.keys(""), ["b", "a", "d", "t", "l", "n"]);
        for (path, value) in
            [("b", "31"), ("a", "10.5"), ("d", "2024-05-01"), ("t", "true"), ("l.1", "x"), ("n.m", "example.com")]
        {
            assert_eq!(settings.get(path), Some(value), "for {path}");
        }
    }
}
