//! How this process was started, so that it can be started so again.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path, PathBuf};

use staunch::proxy::Program;

/// This program, by the name it was started by: by the time of an upgrade another file has that name, or another
/// folder is behind the link in it. To be asked for at the start, while the name still means this program.
///
/// # Errors
/// When the system does not tell.
pub(super) fn this() -> io::Result<Program> {
    let running = env::current_exe()?;
    let mut arguments = env::args_os();
    let folder = env::current_dir()?;
    let named = arguments.next().and_then(|name| find(&name, &env::var_os("PATH").unwrap_or_default()));
    let path = named.filter(|named| is_same_file(named, &running)).unwrap_or(running);
    Ok(Program { path, arguments: arguments.collect(), folder })
}

/// What a shell would start.
fn find(name: &OsStr, folders: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return path::absolute(name).ok();
    }
    let found = env::split_paths(folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.and_then(|path| path::absolute(path).ok())
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let inode = |path| fs::metadata(path).map(|data| (data.dev(), data.ino()));
    matches!((inode(one), inode(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_name_and_not_by_what_is_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("staunch-1"), folder.path().join("staunch"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();

        assert_eq!(find(link.as_os_str(), OsStr::new("")), Some(link.clone()));
        assert_eq!(find(OsStr::new("staunch"), folder.path().as_os_str()), Some(link.clone()));
        assert_eq!(find(OsStr::new("staunch"), OsStr::new("/nowhere")), None);
        assert!(is_same_file(&link, &file) && !is_same_file(&link, &folder.path().join("gone")));
    }

    #[test]
    fn this_program_can_be_found() {
        let program = this().unwrap();

        assert!(is_same_file(&program.path, &env::current_exe().unwrap()) && program.path.is_absolute());
    }
}
