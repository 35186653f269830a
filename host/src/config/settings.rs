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

/// The settings of one use of a plugin: a table, perhaps empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub entries: Vec<(String, Setting)>,
    pub place: Place,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// Text as it is; numbers, booleans and dates as JSON or TOML writes them.
    Scalar(String, Place),
    List(Vec<Setting>, Place),
    Table(Settings),
}
