//! The history on disk. Nothing that fails here stops the proxy: configurations serve whether they are kept or not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::history::History;

/// The file in the state folder.
const FILE: &str = "generations.json";

/// Reads what was kept; nothing when there is no such file yet.
///
/// # Errors
/// When the file cannot be read, or holds something else: then it is put aside under another name.
pub(super) fn load(folder: &Path) -> io::Result<History> {
    let file = folder.join(FILE);
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(History::default()),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&text).map_err(|error| {
        // The next one to be kept would write over it.
        let aside = beside(&file, "unreadable");
        let fate = fs::rename(&file, &aside)
            .map_or_else(|error| format!("stays: {error}"), |()| format!("is {} now", aside.display()));
        io::Error::new(io::ErrorKind::InvalidData, format!("{error}; it {fate}"))
    })
}

/// Keeps it: whole or not at all, for the owner's eyes alone, because a configuration may have secrets in it.
///
/// # Errors
/// When it could not be written; what was kept before is kept on.
pub(super) fn save(folder: &Path, history: &History) -> io::Result<()> {
    let file = folder.join(FILE);
    let next = beside(&file, "next");
    let written = write(&next, &serde_json::to_vec(history)?).and_then(|()| fs::rename(&next, &file));
    if written.is_err() {
        // A full disk is not helped by a half of it.
        let _ = fs::remove_file(&next);
    }
    written?;
    File::open(folder)?.sync_all()
}

fn write(file: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    file.write_all(text)?;
    file.sync_all()
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    file.with_added_extension(suffix)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::SystemTime;

    use super::super::history::{Generation, Source};
    use super::*;

    fn history(text: &str) -> History {
        let mut history = History::default();
        let (number, since, source) = (7, SystemTime::UNIX_EPOCH, Source::Admin);
        let file = Some("/etc/staunch.toml".into());
        history
            .accept(Generation { number, since, source, again: Some(3), why: None, file, text: text.to_owned() }, None);
        history
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_saved_is_loaded_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load(folder.path()).unwrap(), History::default());

        save(folder.path(), &history("token = \"a\"")).unwrap();
        save(folder.path(), &history("token = \"b\"")).unwrap();

        assert_eq!(load(folder.path()).unwrap(), history("token = \"b\""));
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(names(folder.path()), [FILE]);
    }

    #[test]
    fn a_failed_save_leaves_what_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &history("a")).unwrap();
        // Something stands where the next one is written, as a full disk would.
        fs::create_dir(folder.path().join("generations.json.next")).unwrap();

        assert!(save(folder.path(), &history("b")).is_err());
        assert!(save(&folder.path().join("nowhere"), &history("b")).is_err());

        assert_eq!(load(folder.path()).unwrap(), history("a"));
    }

    #[test]
    fn what_cannot_be_read_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "{\"kept\":[").unwrap();

        let told = load(folder.path()).unwrap_err().to_string();

        assert!(told.contains("generations.json.unreadable"), "{told}");
        assert_eq!(names(folder.path()), ["generations.json.unreadable"]);
        assert_eq!(load(folder.path()).unwrap(), History::default());
    }
}
