//! Which folder compiled plugins are kept in, and whether what is there may be executed.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Why compiled plugins cannot be kept in a folder.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoCache {
    #[error("{} cannot be used ({error})", folder.display())]
    Unusable { folder: PathBuf, error: io::Error },
    #[error("{} is not trusted, as what is there is executed: {why}", folder.display())]
    Distrusted { folder: PathBuf, why: Distrust },
}

/// Why what is in a file or folder may not be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Distrust {
    #[error("it belongs to the user {owner}, and this process is the user {user}; `chown {user}` it")]
    Owner { owner: u32, user: u32 },
    #[error("others than its owner may write to it; `chmod go-w` it")]
    Writable,
}

/// Makes a folder if it is not there, and looks whether others can write to it.
///
/// # Errors
/// When it cannot be made or looked at, or is not trusted.
pub(super) fn prepare(folder: &Path) -> Result<(), NoCache> {
    let unusable = |error| NoCache::Unusable { folder: folder.to_owned(), error };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable)?;
    trust(&fs::metadata(folder).map_err(unusable)?)
        .map_err(|why| NoCache::Distrusted { folder: folder.to_owned(), why })
}

/// Whether nobody but root and the user of this process can have written something.
pub(super) fn trust(of: &Metadata) -> Result<(), Distrust> {
    judge(of.uid(), of.mode(), effective_user())
}

fn judge(owner: u32, mode: u32, user: u32) -> Result<(), Distrust> {
    if owner != user && owner != ROOT {
        return Err(Distrust::Owner { owner, user });
    }
    if mode & 0o022 != 0 { Err(Distrust::Writable) } else { Ok(()) }
}

const ROOT: u32 = 0;

#[expect(unsafe_code, reason = "the standard library does not tell the user of the process")]
fn effective_user() -> u32 {
    // SAFETY: it takes nothing, touches nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// The folder that the environment of this process has for compiled plugins: systemd's `CACHE_DIRECTORY`, or `staunch` in
/// `XDG_CACHE_HOME`, in `.cache` of `HOME`, or for root in `/var/cache`. `None` when there is none of them.
pub fn usual_folder() -> Option<PathBuf> {
    usual(|variable| std::env::var_os(variable), effective_user() == ROOT)
}

fn usual(variable: impl Fn(&str) -> Option<OsString>, is_root: bool) -> Option<PathBuf> {
    let folder = |name: &str| variable(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let of_service = || {
        let all = variable("CACHE_DIRECTORY")?;
        // Several are separated by colons.
        let first = all.as_bytes().split(|&byte| byte == b':').next()?.to_vec();
        Some(PathBuf::from(OsString::from_vec(first))).filter(|folder| folder.is_absolute())
    };
    // `/` is the home of those who have none.
    let home = || Some(folder("HOME").filter(|home| home.parent().is_some())?.join(".cache/staunch"));
    of_service()
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("staunch")))
        .or_else(home)
        .or_else(|| is_root.then(|| PathBuf::from("/var/cache/staunch")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_user_or_root_alone_can_write_is_trusted() {
        let (user, other) = (1000, 1001);
        for (owner, mode, judgement) in [
            (user, 0o40700, Ok(())),
            (user, 0o100_600, Ok(())),
            (user, 0o40755, Ok(())),
            (ROOT, 0o40755, Ok(())),
            (other, 0o40700, Err(Distrust::Owner { owner: other, user })),
            (user, 0o40770, Err(Distrust::Writable)),
            (user, 0o40702, Err(Distrust::Writable)),
            // What is sticky keeps others from removing files, not from adding some.
            (ROOT, 0o41777, Err(Distrust::Writable)),
        ] {
            assert_eq!(judge(owner, mode, user), judgement, "for {owner} and {mode:o}");
        }
    }

    #[test]
    fn the_usual_folder_is_what_the_environment_says() {
        let cases: [(&[(&str, &str)], _, _); 8] = [
            (&[("CACHE_DIRECTORY", "/c/a:/c/b"), ("HOME", "/h")], false, Some("/c/a")),
            (&[("CACHE_DIRECTORY", ""), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], false, Some("/x/staunch")),
            (&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")], false, Some("/h/.cache/staunch")),
            (&[("HOME", "/h")], true, Some("/h/.cache/staunch")),
            (&[("HOME", "/")], true, Some("/var/cache/staunch")),
            (&[("HOME", "/")], false, None),
            (&[], true, Some("/var/cache/staunch")),
            (&[], false, None),
        ];
        for (variables, is_root, folder) in cases {
            let of = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            assert_eq!(usual(of, is_root).as_deref(), folder.map(Path::new), "with {variables:?}");
        }
    }
}
