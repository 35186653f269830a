//! Compiled plugins are kept on disk, and a start with unchanged plugins compiles nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use tempfile::TempDir;

use crate::harness::{Client, Program, Upstream, api, binary, eventually};

/// Has `staunch run` keep compiled plugins in `folder`, for this endpoint.
fn keeping(folder: &Path, endpoint: &Upstream) -> Program {
    Program::on_tcp(&format!("[server]\nplugin_cache = \"{}\"\n{}", folder.display(), api([endpoint])))
}

/// Where the process has the code of its plugins from, one after the other.
fn codes(program: &Program) -> Vec<String> {
    let (path, mut admin) = (program.folder().join("admin"), None);
    // It may answer a moment later than the listener.
    eventually(|| {
        admin = Client::over(&path).ok();
        admin.is_some()
    });
    let mut admin = admin.expect("an admin server");
    let plugins: serde_json::Value = serde_json::from_slice(&admin.get("/api/plugins").body).expect("JSON");
    let plugins = plugins.as_array().expect("a list");
    plugins.iter().map(|plugin| plugin["code"].as_str().expect("a text").to_owned()).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn folder() -> (TempDir, PathBuf) {
    let above = tempfile::tempdir().expect("a folder");
    let folder = above.path().join("compiled");
    (above, folder)
}

fn warnings(program: &Program) -> Vec<String> {
    program.log().lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect()
}

/// The binary as somebody runs it whose environment has this folder for caches.
fn with_cache(folder: &Path, arguments: &[&str]) -> Output {
    binary().args(arguments).env("CACHE_DIRECTORY", folder).output().expect("the binary")
}

#[test]
fn a_second_start_compiles_nothing() {
    let (upstream, (_above, folder)) = (Upstream::replying("hello"), folder());

    let first = keeping(&folder, &upstream);
    assert_eq!(codes(&first), ["compiled", "compiled"]);
    assert!(first.log().contains("plugins are loaded compiled=2 cached=0"), "{}", first.log());
    drop(first);
    let second = keeping(&folder, &upstream);

    assert_eq!(codes(&second), ["cached", "cached"]);
    assert!(second.log().contains("plugins are loaded compiled=0 cached=2"), "{}", second.log());
    assert_eq!(second.client().expect("it listens").get("/").text(), "hello");
}

#[test]
fn what_is_kept_is_for_its_owner_alone() {
    let (upstream, (_above, folder)) = (Upstream::replying("hello"), folder());

    keeping(&folder, &upstream);

    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(files(&folder).iter().map(|file| mode(file)).collect::<Vec<_>>(), [0o600, 0o600]);
}

#[test]
fn damaged_files_are_compiled_anew_and_replaced() {
    let (upstream, (_above, folder)) = (Upstream::replying("hello"), folder());
    keeping(&folder, &upstream);
    let [one, other] = &files(&folder)[..] else { panic!("two files") };
    let whole = fs::read(one).expect("a file");
    fs::write(one, &whole[..whole.len() - 1]).expect("a file");
    fs::write(other, whole).expect("a file");

    let damaged = keeping(&folder, &upstream);
    let (codes_then, warned) = (codes(&damaged), warnings(&damaged));
    drop(damaged);

    assert_eq!(codes_then, ["compiled", "compiled"]);
    assert_eq!(warned.iter().filter(|line| line.contains("is compiled anew")).count(), 2, "{warned:?}");
    assert_eq!(codes(&keeping(&folder, &upstream)), ["cached", "cached"]);
}

#[test]
fn a_folder_that_everybody_can_write_to_is_neither_read_nor_written() {
    let (upstream, (_above, folder)) = (Upstream::replying("hello"), folder());
    keeping(&folder, &upstream);
    let before = files(&folder).len();
    fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).expect("a folder of ours");
    let more = "balance = \"random\"\n";

    let config = format!("[server]\nplugin_cache = \"{}\"\n{}{more}", folder.display(), api([&upstream]));
    let program = Program::on_tcp(&config);

    assert_eq!(codes(&program), ["compiled", "compiled"]);
    assert_eq!(files(&folder).len(), before);
    let warned = warnings(&program);
    assert!(matches!(&warned[..], [one] if one.contains("`chmod go-w` it")), "{warned:?}");
}

#[test]
fn a_folder_that_cannot_be_written_to_costs_nothing_but_one_warning() {
    let upstream = Upstream::replying("hello");

    // Nobody can write there, not even root.
    let program = keeping(Path::new("/proc/self/task"), &upstream);

    assert_eq!(codes(&program), ["compiled", "compiled"]);
    assert_eq!(program.client().expect("it listens").get("/").text(), "hello");
    let warned = warnings(&program);
    assert!(matches!(&warned[..], [one] if one.contains("compiled plugins are not kept")), "{warned:?}");
}

#[test]
fn processes_that_start_at_once_do_not_disturb_each_other() {
    let (upstream, (_above, folder)) = (Upstream::replying("hello"), folder());

    std::thread::scope(|scope| {
        let starting: Vec<_> = (0..3).map(|_| scope.spawn(|| keeping(&folder, &upstream))).collect();
        for program in starting {
            let program = program.join().expect("it starts");
            assert_eq!(program.client().expect("it listens").get("/").text(), "hello");
            assert!(warnings(&program).is_empty(), "{}", program.log());
        }
    });

    assert_eq!(codes(&keeping(&folder, &upstream)), ["cached", "cached"]);
    assert_eq!(files(&folder).len(), 2);
}

#[test]
fn commands_keep_what_they_compile_where_the_environment_says() {
    let (_above, folder) = folder();
    let upstream = Upstream::replying("hello");
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("staunch.toml");
    fs::write(
        &file,
        format!("[[listeners]]\naddress = \"unix:s\"\n[[routes]]\nupstream = \"api\"\n{}", api([&upstream])),
    )
    .expect("a file");

    let checked = with_cache(&folder, &["check", "-c", file.to_str().expect("UTF-8")]);
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(files(&folder).len(), 2);
    let inspected = with_cache(&folder, &["plugin", "inspect", "round-robin"]);
    assert!(inspected.status.success(), "{inspected:?}");
    assert_eq!(files(&folder).len(), 2, "the same code");
    let judged = with_cache(&folder, &["plugin", "check", "round-robin", "--only", "determinism"]);

    // It counts instructions, which is other code.
    assert_eq!(files(&folder).len(), 3, "{judged:?}");
    assert_eq!(codes(&keeping(&folder, &upstream)), ["cached", "cached"]);
}

#[test]
fn nothing_is_kept_when_it_is_switched_off() {
    let (_above, folder) = folder();
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("staunch.toml");
    let text = "[server]\nplugin_cache = false\n[[listeners]]\naddress = \"unix:s\"\n[[routes]]\nupstream = \"api\"\n\
                [upstreams.api]\nendpoints = [\"127.0.0.1:1\"]\n";
    fs::write(&file, text).expect("a file");

    let checked = with_cache(&folder, &["check", "-c", file.to_str().expect("UTF-8")]);

    assert!(checked.status.success(), "{checked:?}");
    assert!(!folder.exists());
}
