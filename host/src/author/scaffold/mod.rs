//! A first project: a plugin that builds, and passes its test, as it is.

mod templates;

use std::fs;
use std::path::{Path, PathBuf};

use crate::plugins::{Kind, builtin};

/// What a project is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Rust,
    C,
    Zig,
    Go,
    JavaScript,
    TypeScript,
    Python,
}

impl Language {
    pub const ALL: [Self; 7] =
        [Self::Rust, Self::C, Self::Zig, Self::Go, Self::JavaScript, Self::TypeScript, Self::Python];

    /// As a command line names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Zig => "zig",
            Self::Go => "go",
            Self::JavaScript => "js",
            Self::TypeScript => "ts",
            Self::Python => "python",
        }
    }
}

/// Why there is no project.
#[derive(Debug, thiserror::Error)]
pub enum ScaffoldError {
    #[error("a plugin's name begins with a letter and has letters, digits and `-` only; `{0}` does not")]
    Name(String),
    #[error("`{0}` is the name of a built-in plugin")]
    Taken(String),
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    #[error("could not write {}: {error}", path.display())]
    Write { path: PathBuf, error: std::io::Error },
}

/// Makes the folder `name` in `place`; answers its files, from there.
///
/// # Errors
/// When there is such a folder already, or the name cannot be one.
pub fn create(place: &Path, name: &str, kind: Kind, language: Language) -> Result<Vec<String>, ScaffoldError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !name.starts_with(|letter: char| letter.is_ascii_alphabetic()) || !name.bytes().all(fits) || name.len() > 64 {
        return Err(ScaffoldError::Name(name.to_owned()));
    }
    if builtin::find(name).is_some() {
        return Err(ScaffoldError::Taken(name.to_owned()));
    }
    let folder = place.join(name);
    if folder.exists() {
        return Err(ScaffoldError::Exists(folder));
    }
    let files = templates::files(name, kind, language);
    for (path, text) in &files {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(&folder);
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text));
        written.map_err(|error| ScaffoldError::Write { path, error })?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_every_language_takes_are_names() {
        let place = tempfile::tempdir().expect("a folder");
        for name in ["", "1st", "a b", "../up", "a/b", "é", "under_score"] {
            let made = create(place.path(), name, Kind::Retry, Language::C);
            assert!(matches!(made, Err(ScaffoldError::Name(_))), "{name}");
        }
        let made = create(place.path(), "standard", Kind::Retry, Language::C);
        assert!(matches!(made, Err(ScaffoldError::Taken(_))));
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let place = tempfile::tempdir().expect("a folder");
        fs::create_dir(place.path().join("mine")).expect("a folder");

        let made = create(place.path(), "mine", Kind::Balancer, Language::Go);

        assert!(matches!(made, Err(ScaffoldError::Exists(_))));
        assert_eq!(fs::read_dir(place.path().join("mine")).expect("a folder").count(), 0);
    }

    #[test]
    fn nothing_is_left_to_be_filled_in() {
        for language in Language::ALL {
            for kind in [Kind::Balancer, Kind::Retry, Kind::Rewriter] {
                for (path, text) in templates::files("my-plugin", kind, language) {
                    assert!(!text.contains("{{") || path.starts_with("sdk/"), "{path}");
                }
            }
        }
    }

    #[test]
    fn the_sdk_of_a_project_has_the_features_and_the_wit_bindgen_of_this_one() {
        let read = |path| fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).expect(path);
        let (workspace, sdk) = (read("Cargo.toml"), read("guest-sdk/Cargo.toml"));
        let bindgen = workspace.lines().find(|line| line.starts_with("wit-bindgen = ")).expect("wit-bindgen");
        let features = sdk.lines().skip_while(|line| *line != "[features]").take_while(|line| !line.is_empty());

        let files = templates::files("mine", Kind::Balancer, Language::Rust);
        let (_, manifest) = files.iter().find(|(path, _)| path == "sdk/Cargo.toml").expect("the SDK");
        for line in features.chain([bindgen]) {
            assert!(manifest.lines().any(|other| other == line), "no `{line}` in {manifest}");
        }
    }
}
