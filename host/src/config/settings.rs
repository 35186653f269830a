//! A plugin's own settings: a tree of what stands under `config`, with the place of each.

use std::fmt;

/// A place in a configuration file; lines and columns count from 1, and 0 means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// The settings of one use of a plugin: a table, perhaps empty. Equal when they say the same, wherever it is written.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub entries: Vec<(String, Setting)>,
    pub place: Place,
}

/// One value. Equal to another that says the same, wherever it is written.
#[derive(Clone, Debug)]
pub enum Setting {
    /// Text as it is; numbers, booleans and dates as JSON or TOML writes them.
    Scalar(String, Place),
    List(Vec<Self>, Place),
    Table(Settings),
}

impl Settings {
    /// The setting at a path such as `limits.0.name`; `None` when absent or not a scalar. A dot or backslash
    /// within a name is written with a backslash before it.
    pub fn get(&self, path: &str) -> Option<&str> {
        match self.find(path)? {
            Found::Scalar(text) => Some(text),
            Found::List(_) | Found::Table(_) => None,
        }
    }

    /// The names, or positions, under a path in the order they are written; the empty path is the whole. Empty
    /// for a scalar or when absent. Names come without escapes.
    pub fn keys(&self, path: &str) -> Vec<String> {
        match self.find(path) {
            Some(Found::Table(table)) => table.entries.iter().map(|(name, _)| name.clone()).collect(),
            Some(Found::List(list)) => (0..list.len()).map(|position| position.to_string()).collect(),
            Some(Found::Scalar(_)) | None => Vec::new(),
        }
    }

    /// The place of a setting, or of the nearest thing above it that is there.
    pub fn place(&self, path: &str) -> Place {
        let mut place = self.place;
        let mut here = Found::Table(self);
        for name in segments(path) {
            let Some(below) = here.child(&name) else { break };
            place = below.place();
            here = Found::of(below);
        }
        place
    }

    /// These settings on top of others: tables merge, everything else replaces.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        let mut merged = base.clone();
        if self.place != Place::default() {
            merged.place = self.place;
        }
        for (name, setting) in &self.entries {
            match merged.entries.iter_mut().find(|(n, _)| n == name) {
                None => merged.entries.push((name.clone(), setting.clone())),
                Some((_, below)) => {
                    *below = match (setting, &*below) {
                        (Setting::Table(top), Setting::Table(base)) => Setting::Table(top.over(base)),
                        _ => setting.clone(),
                    }
                }
            }
        }
        merged
    }

    fn find(&self, path: &str) -> Option<Found<'_>> {
        segments(path).iter().try_fold(Found::Table(self), |here, name| here.child(name).map(Found::of))
    }
}

impl Setting {
    pub fn place(&self) -> Place {
        match self {
            Self::Scalar(_, place) | Self::List(_, place) => *place,
            Self::Table(table) => table.place,
        }
    }
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(one, _), Self::Scalar(other, _)) => one == other,
            (Self::List(one, _), Self::List(other, _)) => one == other,
            (Self::Table(one), Self::Table(other)) => one == other,
            (Self::Scalar(..) | Self::List(..) | Self::Table(_), _) => false,
        }
    }
}

/// What stands at a path.
#[derive(Clone, Copy)]
enum Found<'a> {
    Scalar(&'a str),
    List(&'a [Setting]),
    Table(&'a Settings),
}

impl<'a> Found<'a> {
    fn of(setting: &'a Setting) -> Self {
        match setting {
            Setting::Scalar(text, _) => Self::Scalar(text),
            Setting::List(list, _) => Self::List(list),
            Setting::Table(table) => Self::Table(table),
        }
    }

    fn child(self, name: &str) -> Option<&'a Setting> {
        match self {
            Self::Scalar(_) => None,
            Self::List(list) => list.get(name.parse::<usize>().ok()?),
            Self::Table(table) => table.entries.iter().find(|(n, _)| n == name).map(|(_, setting)| setting),
        }
    }
}

/// The names of a path, without their escapes.
fn segments(path: &str) -> Vec<String> {
    if path.is_empty() {
        return Vec::new();
    }
    let mut names = vec![String::new()];
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        let letter = match letter {
            '.' => {
                names.push(String::new());
                continue;
            }
            '\\' => letters.next().unwrap_or('\\'),
            other => other,
        };
        if let Some(name) = names.last_mut() {
            name.push(letter);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize) -> Place {
        Place { line, column: 1 }
    }

    fn scalar(text: &str, line: usize) -> Setting {
        Setting::Scalar(text.to_owned(), at(line))
    }

    fn table(line: usize, entries: Vec<(&str, Setting)>) -> Settings {
        let entries = entries.into_iter().map(|(name, setting)| (name.to_owned(), setting)).collect();
        Settings { entries, place: at(line) }
    }

    fn settings() -> Settings {
        let gold = table(3, vec![("name", scalar("gold", 4)), ("rate", scalar("1.5", 5))]);
        table(
            1,
            vec![
                ("limits", Setting::List(vec![Setting::Table(gold), scalar("x", 6)], at(2))),
                (r"a.b\c", scalar("odd", 7)),
                ("", scalar("nameless", 8)),
            ],
        )
    }

    #[test]
    fn a_path_leads_to_a_scalar_or_nowhere() {
        for (path, text) in [
            ("limits.0.name", Some("gold")),
            ("limits.0.rate", Some("1.5")),
            ("limits.1", Some("x")),
            (r"a\.b\\c", Some("odd")),
            ("a.b", None),
            ("limits", None),
            ("limits.0", None),
            ("limits.2", None),
            ("limits.-1", None),
            ("limits.0.name.x", None),
            ("limits..name", None),
            ("", None),
            (r"\", None),
        ] {
            assert_eq!(settings().get(path), text, "for {path}");
        }
    }

    #[test]
    fn keys_are_names_or_positions_in_order() {
        for (path, keys) in [
            ("", vec!["limits", r"a.b\c", ""]),
            ("limits", vec!["0", "1"]),
            ("limits.0", vec!["name", "rate"]),
            ("limits.1", vec![]),
            ("nothing", vec![]),
        ] {
            assert_eq!(settings().keys(path), keys, "for {path}");
        }
    }

    #[test]
    fn a_place_is_that_of_the_setting_or_of_the_nearest_thing_above() {
        for (path, line) in [
            ("", 1),
            ("limits", 2),
            ("limits.0", 3),
            ("limits.0.name", 4),
            ("limits.0.nam", 3),
            ("limits.9.x", 2),
            ("z", 1),
        ] {
            assert_eq!(settings().place(path), at(line), "for {path}");
        }
    }

    #[test]
    fn tables_merge_and_everything_else_replaces() {
        let base = table(
            1,
            vec![
                ("on", Setting::List(vec![scalar("a", 2), scalar("b", 2)], at(2))),
                ("back_off", Setting::Table(table(3, vec![("base", scalar("1", 4)), ("max", scalar("9", 5))]))),
                ("kept", scalar("k", 6)),
            ],
        );
        let top = table(
            11,
            vec![
                ("back_off", Setting::Table(table(12, vec![("max", scalar("5", 13)), ("jitter", scalar("true", 14))]))),
                ("on", Setting::List(vec![scalar("c", 15)], at(15))),
                ("new", scalar("n", 16)),
            ],
        );

        let merged = top.over(&base);

        assert_eq!(merged.keys(""), ["on", "back_off", "kept", "new"]);
        assert_eq!(merged.keys("on"), ["0"]);
        for (path, text, line) in [
            ("on.0", "c", 15),
            ("back_off.base", "1", 4),
            ("back_off.max", "5", 13),
            ("back_off.jitter", "true", 14),
            ("kept", "k", 6),
            ("new", "n", 16),
        ] {
            assert_eq!((merged.get(path), merged.place(path)), (Some(text), at(line)), "for {path}");
        }
        assert_eq!(merged.place(""), at(11));
        assert_eq!(Settings::default().over(&base), base);
    }
}
