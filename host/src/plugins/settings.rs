//! Finds a plugin's settings by the paths of the contract, such as `limits.0.name`.

use crate::config::{Place, Setting, Settings};

/// Bytes a path may have; nothing has a longer one.
const MAX_PATH: usize = 4096;

/// The text of the scalar at `path`.
pub(super) fn text<'a>(settings: &'a Settings, path: &str) -> Option<&'a str> {
    match find(settings, path).ok()? {
        Node::Scalar(text, _) => Some(text),
        Node::Table(_) | Node::List(..) => None,
    }
}

/// The names or positions under `path`, in the order they are written.
pub(super) fn keys(settings: &Settings, path: &str) -> Vec<String> {
    match find(settings, path) {
        Ok(Node::Table(table)) => table.entries.iter().map(|(name, _)| name.clone()).collect(),
        Ok(Node::List(items, _)) => (0..items.len()).map(|i| i.to_string()).collect(),
        Ok(Node::Scalar(..)) | Err(_) => Vec::new(),
    }
}

/// The place of the setting at `path`, or of the nearest one above it.
pub fn place_of(settings: &Settings, path: &str) -> Place {
    let (Ok(node) | Err(node)) = find(settings, path);
    node.place()
}

#[derive(Clone, Copy)]
enum Node<'a> {
    Table(&'a Settings),
    List(&'a [Setting], Place),
    Scalar(&'a str, Place),
}

impl<'a> Node<'a> {
    fn of(setting: &'a Setting) -> Self {
        match setting {
            Setting::Scalar(text, place) => Self::Scalar(text, *place),
            Setting::List(items, place) => Self::List(items, *place),
            Setting::Table(table) => Self::Table(table),
        }
    }

    fn under(self, name: &str) -> Option<Self> {
        match self {
            Self::Table(table) => table.entries.iter().find(|(n, _)| n == name).map(|(_, s)| Self::of(s)),
            Self::List(items, _) => items.get(name.parse::<usize>().ok()?).map(Self::of),
            Self::Scalar(..) => None,
        }
    }

    fn place(self) -> Place {
        match self {
            Self::Table(table) => table.place,
            Self::List(_, place) | Self::Scalar(_, place) => place,
        }
    }
}

/// The node at `path`, or the last one on the way to it.
fn find<'a>(settings: &'a Settings, path: &str) -> Result<Node<'a>, Node<'a>> {
    let mut node = Node::Table(settings);
    if path.is_empty() {
        return Ok(node);
    }
    if path.len() > MAX_PATH {
        return Err(node);
    }
    for name in names(path) {
        node = node.under(&name).ok_or(node)?;
    }
    Ok(node)
}

/// The names of a path, without their escapes.
fn names(path: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        let last = names.last_mut().expect("there is a first");
        match c {
            '.' => names.push(String::new()),
            '\\' => last.extend(chars.next()),
            other => last.push(other),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(text: &str, line: usize) -> Setting {
        Setting::Scalar(text.into(), Place { line, column: 1 })
    }

    fn settings() -> Settings {
        let inner = Settings {
            entries: vec![("name".into(), scalar("gold", 3)), ("a.b\\c".into(), scalar("odd", 4))],
            place: Place { line: 2, column: 1 },
        };
        Settings {
            entries: vec![
                ("limits".into(), Setting::List(vec![Setting::Table(inner)], Place { line: 2, column: 5 })),
                ("on".into(), scalar("true", 5)),
            ],
            place: Place { line: 1, column: 1 },
        }
    }

    #[test]
    fn a_path_leads_through_tables_and_lists() {
        let settings = settings();

        for (path, found) in [
            ("on", Some("true")),
            ("limits.0.name", Some("gold")),
            (r"limits.0.a\.b\\c", Some("odd")),
            ("limits", None),
            ("limits.1.name", None),
            ("on.off", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(text(&settings, path), found, "for {path}");
        }
    }

    #[test]
    fn keys_come_in_the_order_they_are_written_without_escapes() {
        let settings = settings();

        assert_eq!(keys(&settings, ""), ["limits", "on"]);
        assert_eq!(keys(&settings, "limits"), ["0"]);
        assert_eq!(keys(&settings, "limits.0"), ["name", "a.b\\c"]);
        assert_eq!(keys(&settings, "on"), [""; 0]);
    }

    #[test]
    fn an_absent_setting_has_the_place_of_what_lacks_it() {
        let settings = settings();

        for (path, line) in [("", 1), ("nothing", 1), ("limits.0.colour", 2), ("limits.0.name", 3), ("on", 5)] {
            assert_eq!(place_of(&settings, path).line, line, "for {path}");
        }
    }
}
