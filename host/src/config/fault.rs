//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

use super::settings::Place;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl Fault {
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into(), hint: None }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place != Place::default() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

/// Everything that is wrong with a configuration, in the order of the file. Displayed with a line for each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    pub file: Option<PathBuf>,
    pub faults: Vec<Fault>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, fault) in self.faults.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            if let Some(file) = &self.file {
                let gap = if fault.place == Place::default() { " " } else { "" };
                write!(f, "{}:{gap}", file.display())?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

/// Why a text cannot be what it should be: a fault without its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BadValue {
    pub message: String,
    pub hint: Option<String>,
}

impl BadValue {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    pub(super) fn at(self, place: Place) -> Fault {
        Fault { place, message: self.message, hint: self.hint }
    }
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

/// The hint for a misspelled name: the nearest right one, or all of them when none is near.
pub(super) fn suggest(name: &str, right: &[&str]) -> Option<String> {
    did_you_mean(name, right).or_else(|| expected(right))
}

/// The hint that names the nearest right name.
pub(super) fn did_you_mean(name: &str, right: &[&str]) -> Option<String> {
    nearest(name, right).map(|near| format!("did you mean `{near}`?"))
}

/// The hint that lists what may be written.
pub(super) fn expected(right: &[&str]) -> Option<String> {
    let quoted: Vec<_> = right.iter().map(|name| format!("`{name}`")).collect();
    match quoted.len() {
        0 => None,
        1 => Some(format!("expected {}", quoted[0])),
        2..=LISTED => Some(format!("expected one of {}", quoted.join(", "))),
        _ => None,
    }
}

/// The most names a hint lists.
const LISTED: usize = 20;

fn nearest<'a>(name: &str, right: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let name = plain(name);
    right
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, &plain(candidate)), *candidate))
        // A third of the letters may be wrong; beyond that it is another word.
        .filter(|(distance, candidate)| *distance <= (candidate.len().min(name.len().max(1)) / 3).max(1))
        .filter(|(distance, candidate)| *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_none_that_is_another_word() {
        for (written, right) in [
            ("balanse", Some("balance")),
            ("Balance", Some("balance")),
            ("keepalive-timeout", Some("keepalive_timeout")),
            ("keepalivetimeout", Some("keepalive_timeout")),
            ("kepalive", Some("keepalive")),
            ("endpoint", Some("endpoints")),
            ("blance", Some("balance")),
            ("servers", None),
            ("", None),
            ("x", None),
        ] {
            let names = ["balance", "endpoints", "keepalive", "keepalive_timeout"];
            assert_eq!(nearest(written, &names), right, "for {written}");
        }
    }

    #[test]
    fn faults_are_displayed_with_a_line_for_each() {
        let faults = Faults {
            file: Some("staunch.toml".into()),
            faults: vec![
                Fault::new(Place::default(), "no such file"),
                Fault::new(Place { line: 12, column: 5 }, "unknown key `balanse`")
                    .with_hint("did you mean `balance`?".to_owned()),
            ],
        };

        assert_eq!(
            faults.to_string(),
            "staunch.toml: no such file\nstaunch.toml:12:5: unknown key `balanse`; did you mean `balance`?"
        );
    }
}
