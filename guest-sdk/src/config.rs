//! The settings of a plugin, read with types and with every mistake collected.
//!
//! A path names a setting from the top, as in `limits.0.name`. A dot or backslash within a name is written with a
//! backslash before it.

use std::cell::RefCell;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use crate::{host, nearest};

/// The settings of this plugin, or a table within them, as the proxy's configuration gives them.
///
/// A setting that cannot be read is noted with its path, and the plugin is not configured, whatever else is done.
/// So nothing has to stop at the first mistake:
///
/// ```
/// # use std::time::Duration;
/// # use staunch_plugin::{Config, Invalid};
/// struct Limits { tenant: String, burst: u32, window: Duration }
///
/// impl Limits {
///     fn read(config: &Config) -> Result<Self, Invalid> {
///         let tenant = config.required("tenant");
///         let burst = config.required("burst");
///         let window = config.get_or("window", Duration::from_secs(1));
///         Ok(Self { tenant: tenant?, burst: burst?, window })
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Config {
    path: String,
    issues: Rc<RefCell<Vec<Issue>>>,
}

impl Config {
    pub(crate) fn whole() -> Self {
        Self { path: String::new(), issues: Rc::default() }
    }

    /// A setting; `None` when it is absent or not right.
    pub fn get<T: Setting>(&self, path: &str) -> Option<T> {
        let full = self.full(path);
        match host::config::get(&full) {
            Some(text) => T::from_text(&text).map_err(|wrong| self.note(full, wrong)).ok(),
            None => {
                if self.has(path) {
                    self.issue(path, "must be a single value");
                }
                None
            }
        }
    }

    /// A setting, or what it is when absent.
    pub fn get_or<T: Setting>(&self, path: &str, default: T) -> T {
        self.get(path).unwrap_or(default)
    }

    /// A setting that must be there.
    ///
    /// # Errors
    ///
    /// It is absent or not right, which is noted.
    pub fn required<T: Setting>(&self, path: &str) -> Result<T, Invalid> {
        if !self.has(path) {
            return Err(self.issue(path, "is required"));
        }
        self.get(path).ok_or(Invalid(()))
    }

    /// A list; `None` when it is absent. Elements that are not right are left out.
    pub fn list<T: Setting>(&self, path: &str) -> Option<Vec<T>> {
        if !self.has(path) {
            return None;
        }
        if host::config::get(&self.full(path)).is_some() {
            self.issue(path, "must be a list");
            return None;
        }
        let list = self.at(path);
        Some(list.keys().iter().filter_map(|position| list.get(position)).collect())
    }

    /// A list, where a single value stands for a list of one; empty when absent.
    pub fn values<T: Setting>(&self, path: &str) -> Vec<T> {
        match host::config::get(&self.full(path)) {
            Some(_) => self.get(path).into_iter().collect(),
            None => self.list(path).unwrap_or_default(),
        }
    }

    /// The table at a path; an empty one when it is absent.
    pub fn at(&self, path: &str) -> Self {
        let full = self.full(path);
        if host::config::get(&full).is_some() {
            self.issue(path, "must be a table");
        }
        Self { path: full, issues: self.issues.clone() }
    }

    /// A table of single values, in order; empty when absent.
    pub fn table<T: Setting>(&self, path: &str) -> Vec<(String, T)> {
        let table = self.at(path);
        let read = |name: String| table.get(&escape(&name)).map(|value| (name, value));
        table.keys().into_iter().filter_map(read).collect()
    }

    /// The names in this table, or positions in this list, in order and without escapes: [`escape`](Self::escape)
    /// makes a path of one.
    pub fn keys(&self) -> Vec<String> {
        host::config::keys(&self.path)
    }

    /// Whether something is written at a path, be it right or wrong.
    pub fn has(&self, path: &str) -> bool {
        let full = self.full(path);
        let (parent, name) = split_last(&full);
        host::config::get(&full).is_some() || host::config::keys(parent).contains(&name)
    }

    /// Notes every setting of this table that has none of these names: a typo must not go unnoticed.
    pub fn only(&self, names: &[&str]) {
        for key in self.keys() {
            if !names.contains(&&*key) {
                let wrong = match nearest(&key, names.iter().copied()) {
                    Some(meant) => format!("is unknown; did you mean `{meant}`?"),
                    None if names.is_empty() => "is unknown; there are no settings".to_owned(),
                    None => format!("is unknown; there are {}", listing(names.iter().copied())),
                };
                self.issue(&escape(&key), wrong);
            }
        }
    }

    /// Notes a mistake at a path; the empty path is this table.
    pub fn issue(&self, path: &str, message: impl Into<String>) -> Invalid {
        self.note(self.full(path), message.into())
    }

    /// A name as an element of a path.
    pub fn escape(name: &str) -> String {
        escape(name)
    }

    pub(crate) fn issues(&self) -> Issues {
        Issues(self.issues.borrow().clone())
    }

    pub(crate) fn full(&self, path: &str) -> String {
        match (&*self.path, path) {
            ("", path) => path.to_owned(),
            (table, "") => table.to_owned(),
            (table, path) => format!("{table}.{path}"),
        }
    }

    fn note(&self, path: String, message: String) -> Invalid {
        self.issues.borrow_mut().push(Issue { path, message });
        Invalid(())
    }
}

/// What a configuration that is not right leaves: the issue itself is noted in the [`Config`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid(());

/// One mistake in a plugin's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The path of the offending setting; empty for all of it.
    pub path: String,
    /// What is wrong, to follow the path: "must be a list".
    pub message: String,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "`{}` {}", self.path, self.message) }
    }
}

/// Every mistake in a plugin's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issues(pub(crate) Vec<Issue>);

impl Deref for Issues {
    type Target = [Issue];

    fn deref(&self) -> &[Issue] {
        &self.0
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, issue) in self.iter().enumerate() {
            write!(f, "{}{issue}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// A type that a setting can be read as.
pub trait Setting: Sized {
    /// Reads a value: text as it is written, numbers and booleans as JSON writes them.
    ///
    /// # Errors
    ///
    /// What is wrong, to follow the setting's path: "must be a whole number". [`choose`] words it for a choice.
    fn from_text(text: &str) -> Result<Self, String>;
}

impl Setting for String {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Setting for bool {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "must be true or false".to_owned())
    }
}

impl Setting for f64 {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().ok().filter(|number: &Self| number.is_finite()).ok_or_else(|| "must be a number".to_owned())
    }
}

macro_rules! whole_numbers {
    ($($number:ty),+) => {$(
        impl Setting for $number {
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("must be a whole number from {} to {}", Self::MIN, Self::MAX))
            }
        }
    )+};
}

whole_numbers!(u8, u16, u32, u64, usize, i32, i64, NonZeroU32, NonZeroU64);

/// Written with units: "250ms", "1.5s", "1m 30s".
impl Setting for Duration {
    fn from_text(text: &str) -> Result<Self, String> {
        duration(text).ok_or_else(|| "must be a duration such as \"250ms\" or \"1m 30s\"".to_owned())
    }
}

/// Reads a choice, or words what is wrong with it.
///
/// ```
/// use staunch_plugin::{Setting, choose};
///
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// enum Order { Oldest, Newest }
///
/// impl Setting for Order {
///     fn from_text(text: &str) -> Result<Self, String> {
///         choose(text, &[("oldest", Self::Oldest), ("newest", Self::Newest)])
///     }
/// }
///
/// assert_eq!(Order::from_text("newest"), Ok(Order::Newest));
/// assert_eq!(Order::from_text("newset").unwrap_err(), "cannot be `newset`; did you mean `newest`?");
/// ```
///
/// # Errors
///
/// It is none of the choices.
pub fn choose<T: Clone>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let words = || choices.iter().map(|&(word, _)| word);
    match choices.iter().find(|(word, _)| *word == text) {
        Some((_, choice)) => Ok(choice.clone()),
        None => Err(match nearest(text, words()) {
            Some(meant) => format!("cannot be `{text}`; did you mean `{meant}`?"),
            None => format!("cannot be `{text}`, only {}", listing(words())),
        }),
    }
}

fn duration(text: &str) -> Option<Duration> {
    if text.trim() == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.trim();
    let mut sum: Option<Duration> = None;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let tail = tail.trim_start();
        let (unit, tail) = tail.split_at(tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" | "hour" => 3600.0,
            "d" | "day" => 86400.0,
            _ => return None,
        };
        let part = match number.parse::<u64>() {
            Ok(whole) if seconds >= 1.0 => Duration::from_secs(whole.checked_mul(seconds as u64)?),
            _ => Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?,
        };
        sum = Some(sum.unwrap_or_default().checked_add(part)?);
        rest = tail.trim_start();
    }
    sum
}

fn escape(name: &str) -> String {
    name.replace('\\', "\\\\").replace('.', "\\.")
}

/// The path of the table that holds a setting, and its name there without escapes.
fn split_last(path: &str) -> (&str, String) {
    let mut escaped = false;
    let mut dot = None;
    for (i, c) in path.char_indices() {
        if c == '.' && !escaped {
            dot = Some(i);
        }
        escaped = c == '\\' && !escaped;
    }
    let (parent, name) = dot.map_or(("", path), |dot| (&path[..dot], &path[dot + 1..]));
    (parent, unescape(name))
}

fn unescape(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

fn listing<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;

    #[test]
    fn every_mistake_is_noted_with_its_path() {
        let host = Host::new();
        host.set("limits.burst", "many");
        host.set("limits.list", "a");
        host.set_list("size", [1, 2]);
        let config = Config::whole();

        let limits = config.at("limits");
        let burst = limits.required::<u8>("burst");
        let window = limits.required::<Duration>("window");
        let list = limits.list::<String>("list");
        let size = config.get::<u32>("size");

        assert!(burst.is_err() && window.is_err() && list.is_none() && size.is_none());
        let issues = config.issues();
        assert_eq!(
            issues.to_string(),
            "`limits.burst` must be a whole number from 0 to 255; `limits.window` is required; \
             `limits.list` must be a list; `size` must be a single value"
        );
    }

    #[test]
    fn a_setting_that_is_absent_is_no_mistake() {
        Host::new();
        let config = Config::whole();

        assert_eq!(config.get::<u32>("a.b"), None);
        assert_eq!(config.list::<String>("list"), None);
        assert_eq!(config.values::<String>("list"), [""; 0]);
        assert_eq!(config.table::<String>("table"), []);
        assert!(config.issues().is_empty());
    }

    #[test]
    fn an_empty_list_differs_from_none() {
        let host = Host::new();
        host.set_list("on", [""; 0]);

        assert_eq!(Config::whole().list::<String>("on"), Some(vec![]));
    }

    #[test]
    fn a_name_with_a_dot_is_read_and_reported_escaped() {
        let host = Host::new();
        host.set(r"weights.10\.0\.0\.1", 5);
        host.set(r"weights.back\\slash", "x");
        let config = Config::whole();

        assert_eq!(config.table::<u32>("weights"), [("10.0.0.1".to_owned(), 5)]);
        assert!(config.has(r"weights.back\\slash"));
        assert_eq!(config.issues()[0].path, r"weights.back\\slash");
    }

    #[test]
    fn a_single_value_stands_for_a_list_of_one() {
        let host = Host::new();
        host.set("one", "a");
        host.set_list("two", ["a", "b"]);
        let config = Config::whole();

        assert_eq!(config.values::<String>("one"), ["a"]);
        assert_eq!(config.values::<String>("two"), ["a", "b"]);
        assert!(config.issues().is_empty());
    }

    #[test]
    fn a_misspelled_name_is_told_the_right_one() {
        let host = Host::new();
        host.set("windwo", "1s");
        host.set("zebra", 1);
        let config = Config::whole();

        config.only(&["window", "burst"]);

        let issues = config.issues();
        assert_eq!(issues[0].to_string(), "`windwo` is unknown; did you mean `window`?");
        assert_eq!(issues[1].to_string(), "`zebra` is unknown; there are `window`, `burst`");
    }

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, millis) in [("250ms", 250), ("1.5s", 1500), ("1m 30s", 90_000), ("2h", 7_200_000), ("0", 0)] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "for {text}");
        }
        for text in ["", "5", "5 parsecs", "-1s", "1..5s", "99999999999999999999d", "18446744073709551615h", "ms", "1é"]
        {
            assert_eq!(duration(text), None, "for {text}");
        }
    }
}
