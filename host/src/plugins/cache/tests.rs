use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::plugins::compiler::{Compiler, Origin};
use crate::plugins::guests::Guest;

/// A folder, and what is kept in it.
struct Kept {
    folder: TempDir,
}

impl Kept {
    fn nothing() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn cache(&self) -> CodeCache {
        CodeCache::open(self.folder.path()).unwrap()
    }

    /// Loads a guest as a process does that has just begun.
    fn load(&self, guest: &str) -> Origin {
        load(&Compiler::new(false).unwrap(), guest, &self.cache())
    }

    /// The only file there is.
    fn file(&self) -> PathBuf {
        let mut files: Vec<_> = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let (only, more) = (files.pop(), files);
        assert!(more.is_empty(), "{more:?}");
        only.expect("a file")
    }
}

fn load(compiler: &Compiler, guest: &str, cache: &CodeCache) -> Origin {
    compiler.compile("guest", guest.as_bytes(), Some(cache)).unwrap().origin
}

fn guest(endpoint: u32) -> String {
    Guest::balancer(&format!("(call $endpoint (i32.const {endpoint}))")).wat()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_one_process_has_compiled_no_other_compiles() {
    let kept = Kept::nothing();

    assert_eq!(kept.load(&guest(1)), Origin::Compiled);
    assert_eq!(kept.load(&guest(1)), Origin::Cached);
    assert_eq!(kept.load(&guest(2)), Origin::Compiled);
}

#[test]
fn code_that_counts_instructions_is_kept_apart() {
    let kept = Kept::nothing();
    let (plain, metered) = (guest(1), Compiler::new(true).unwrap());

    assert_eq!(kept.load(&plain), Origin::Compiled);
    assert_eq!(load(&metered, &plain, &kept.cache()), Origin::Compiled);
    assert_eq!(load(&Compiler::new(true).unwrap(), &plain, &kept.cache()), Origin::Cached);
    assert_eq!(kept.load(&plain), Origin::Cached);
}

#[test]
fn a_file_that_is_not_what_was_written_is_replaced() {
    type Damage = fn(&Path, Vec<u8>);
    let damages: [(_, Damage); 6] = [
        ("empty", |file, _| fs::write(file, "").unwrap()),
        ("truncated", |file, bytes| fs::write(file, &bytes[..bytes.len() / 2]).unwrap()),
        ("garbled", |file, mut bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(file, bytes).unwrap();
        }),
        ("of nothing known", |file, bytes| fs::write(file, vec![7; bytes.len()]).unwrap()),
        ("writable by others", |file, _| fs::set_permissions(file, PermissionsExt::from_mode(0o666)).unwrap()),
        ("a link", |file, bytes| {
            let other = file.with_extension("other");
            fs::write(&other, bytes).unwrap();
            fs::remove_file(file).unwrap();
            std::os::unix::fs::symlink(&other, file).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let kept = Kept::nothing();
        assert_eq!(kept.load(&guest(1)), Origin::Compiled);
        let file = kept.file();
        damage(&file, fs::read(&file).unwrap());

        assert_eq!(kept.load(&guest(1)), Origin::Compiled, "{what}");
        assert_eq!(kept.load(&guest(1)), Origin::Cached, "{what}");
        assert_eq!(mode(&file), 0o600, "{what}");
    }
}

#[test]
fn code_of_another_engine_is_refused_though_its_checksum_is_right() {
    let kept = Kept::nothing();
    let (plain, metered) = (Compiler::new(false).unwrap(), Compiler::new(true).unwrap());
    let component = wat::parse_str("(component)").unwrap();
    let code = Component::from_binary(metered.engine(), &component).unwrap().serialize().unwrap();
    let key = Key::of(&component, plain.engine());
    write(kept.folder.path(), &key, &code).unwrap();

    let loaded = load_file(&kept, &key, &plain);

    assert!(matches!(&loaded, Err(Useless::Refused(why)) if why.contains("fuel")), "{loaded:?}");
}

fn load_file(kept: &Kept, key: &Key, compiler: &Compiler) -> Result<(), Useless> {
    super::load(&kept.folder.path().join(key.file()), key, compiler.engine()).map(drop)
}

#[test]
fn a_folder_that_is_not_there_is_made_for_its_owner_alone() {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("a/b");

    CodeCache::open(&folder).unwrap();

    assert_eq!((mode(&folder), mode(&above.path().join("a"))), (0o700, 0o700));
}

#[test]
fn a_folder_that_others_can_write_to_is_not_used() {
    let kept = Kept::nothing();
    for mode in [0o777, 0o1777, 0o770] {
        fs::set_permissions(kept.folder.path(), PermissionsExt::from_mode(mode)).unwrap();

        let refused = CodeCache::open(kept.folder.path()).expect_err("it is not trusted");

        assert!(refused.to_string().ends_with("others than its owner may write to it; `chmod go-w` it"), "{refused}");
    }
}

#[test]
fn what_is_no_folder_is_not_used() {
    let kept = Kept::nothing();
    let file = kept.folder.path().join("file");
    fs::write(&file, "").unwrap();

    for place in [file.clone(), file.join("below")] {
        assert!(matches!(CodeCache::open(&place), Err(NoCache::Unusable { .. })), "{}", place.display());
    }
}

#[test]
fn too_many_files_are_not_kept() {
    let kept = Kept::nothing();
    assert_eq!(kept.load(&guest(1)), Origin::Compiled);
    let used = kept.file();
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    for number in 0..200 {
        let file = File::create(kept.folder.path().join(format!("{number:03}.native"))).unwrap();
        file.set_modified(long_ago + Duration::from_secs(number)).unwrap();
    }
    File::open(&used).unwrap().set_modified(long_ago - Duration::from_secs(9)).unwrap();

    // It is used again, which makes it the youngest.
    assert_eq!(kept.load(&guest(1)), Origin::Cached);
    assert_eq!(kept.load(&guest(2)), Origin::Compiled);

    let left: Vec<_> = fs::read_dir(kept.folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left.len(), 128);
    assert!(left.contains(&used));
    assert!(left.contains(&kept.folder.path().join("199.native")));
    assert!(!left.contains(&kept.folder.path().join("000.native")));
}
