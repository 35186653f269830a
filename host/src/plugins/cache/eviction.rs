//! Keeps the folder small: what was used longest ago goes.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use tracing::{debug, info};

use super::artefact::SUFFIX;

/// Files kept: the built-in plugins, also as `staunch plugin check` compiles them, and as many again.
const MAX_FILES: usize = 128;

/// Bytes kept. Most plugins take a few hundred KiB, one in Python or JavaScript tens of MiB.
const MAX_BYTES: u64 = 512 << 20;

/// What the name of a file ends with while it is written.
pub(super) const UNFINISHED: &str = "new";

/// How old an unfinished file may be before its writer is taken for dead.
const WRITING: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    name: String,
    bytes: u64,
    used: SystemTime,
}

/// Removes what is too much. `in_use`: names of what stays.
pub(super) fn sweep(folder: &Path, in_use: &HashSet<String>, now: SystemTime) {
    let kept = match list(folder) {
        Ok(kept) => kept,
        Err(error) => return debug!(%error, "compiled plugins are not counted"),
    };
    let surplus = surplus(kept, in_use, now, MAX_FILES, MAX_BYTES);
    if surplus.is_empty() {
        return;
    }
    // Another process may have removed it.
    surplus.iter().for_each(|name| drop(fs::remove_file(folder.join(name))));
    info!(folder = %folder.display(), files = surplus.len(), "removed compiled plugins that were used longest ago");
}

/// Our files in a folder.
fn list(folder: &Path) -> io::Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.ends_with(SUFFIX) && !is_unfinished(&name) {
            continue;
        }
        // It may be gone by now.
        let Ok(metadata) = entry.metadata() else { continue };
        kept.push(Kept { name, bytes: metadata.len(), used: metadata.modified()? });
    }
    Ok(kept)
}

fn is_unfinished(name: &str) -> bool {
    name.split_once(SUFFIX).is_some_and(|(_, rest)| rest.ends_with(UNFINISHED))
}

/// The names of those that are to go, which were used longest ago.
fn surplus(
    mut kept: Vec<Kept>,
    in_use: &HashSet<String>,
    now: SystemTime,
    max_files: usize,
    max_bytes: u64,
) -> Vec<String> {
    let is_dead = |kept: &Kept| now.duration_since(kept.used).is_ok_and(|age| age > WRITING);
    let (unfinished, mut finished): (Vec<_>, Vec<_>) = kept.drain(..).partition(|kept| is_unfinished(&kept.name));
    let mut surplus: Vec<_> = unfinished.into_iter().filter(is_dead).map(|kept| kept.name).collect();
    finished.sort_by(|one, other| (one.used, &one.name).cmp(&(other.used, &other.name)));
    let (mut files, mut bytes) = (finished.len(), finished.iter().map(|kept| kept.bytes).sum::<u64>());
    for kept in finished {
        if files <= max_files && bytes <= max_bytes {
            break;
        }
        if !in_use.contains(&kept.name) {
            files -= 1;
            bytes -= kept.bytes;
            surplus.push(kept.name);
        }
    }
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn kept(name: &str, bytes: u64, age: Duration) -> Kept {
        Kept { name: name.to_owned(), bytes, used: SystemTime::UNIX_EPOCH + HOUR - age }
    }

    fn gone(all: &[Kept], in_use: &[&str], max_files: usize, max_bytes: u64) -> Vec<String> {
        let in_use = in_use.iter().map(|&name| name.to_owned()).collect();
        surplus(all.to_vec(), &in_use, SystemTime::UNIX_EPOCH + HOUR, max_files, max_bytes)
    }

    #[test]
    fn what_was_used_longest_ago_goes_until_the_rest_fits() {
        let seconds = Duration::from_secs;
        let all =
            [kept("b.native", 5, seconds(20)), kept("c.native", 5, seconds(10)), kept("a.native", 50, seconds(30))];

        assert_eq!(gone(&all, &[], 3, 60), [""; 0]);
        assert_eq!(gone(&all, &[], 2, 60), ["a.native"]);
        assert_eq!(gone(&all, &[], 3, 59), ["a.native"]);
        assert_eq!(gone(&all, &[], 1, 59), ["a.native", "b.native"]);
    }

    #[test]
    fn what_this_process_uses_stays_however_much_it_is() {
        let all = [kept("a.native", 50, HOUR), kept("b.native", 5, Duration::ZERO)];

        assert_eq!(gone(&all, &["a.native"], 1, 1), ["b.native"]);
        assert_eq!(gone(&all, &["a.native", "b.native"], 0, 0), [""; 0]);
    }

    #[test]
    fn what_nobody_finished_goes_after_a_while() {
        let (young, old) = ("a.native.1.new", "b.native.2.new");
        let all = [kept(young, 5, WRITING), kept(old, 5, WRITING + Duration::from_secs(1))];

        assert_eq!(gone(&all, &[], 9, 99), [old]);
        assert_eq!(gone(&all, &[], 0, 0), [old]);
    }

    #[test]
    fn files_that_are_not_ours_are_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.native", "b.native.0.new", "notes", "new", "a.native.orig"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }

        let mut names: Vec<_> = list(folder.path()).unwrap().into_iter().map(|kept| kept.name).collect();

        names.sort();
        assert_eq!(names, ["a.native", "b.native.0.new"]);
    }
}
