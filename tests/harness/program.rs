//! The binary, run as a user runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use super::proxy::complete;
use super::{Client, eventually};

/// The binary with these arguments, in a folder without a configuration.
pub(crate) fn staunch(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_staunch"));
    command.args(arguments).current_dir(folder.path()).stdin(Stdio::null()).output().expect("the binary")
}

/// `staunch run` in a folder of its own, listening on a socket there. It ends with the test.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    folder: tempfile::TempDir,
}

impl Program {
    /// Runs with this configuration, completed with a listener, and waits until it listens.
    pub(crate) fn run(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("proxy");
        let file = folder.path().join("staunch.toml");
        let listener = format!("[[listeners]]\naddress = \"unix:{}\"\n", socket.display());
        fs::write(&file, complete(&format!("{text}\n{listener}"))).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_staunch"));
        command.args(["run", "-c"]).arg(&file).current_dir(folder.path());
        let child = command.stdin(Stdio::null()).spawn().expect("the binary");
        let mut program = Self { child, folder };
        eventually(|| {
            assert!(program.child.try_wait().expect("a child").is_none(), "it ended at once");
            Client::over(&program.socket()).is_ok()
        });
        program
    }

    fn socket(&self) -> PathBuf {
        self.folder().join("proxy")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A new connection, if it still listens.
    pub(crate) fn client(&self) -> std::io::Result<Client> {
        Client::over(&self.socket())
    }

    /// Sends it a signal by name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &line]).status().expect("a shell").success());
    }

    /// Bytes of memory it has now.
    pub(crate) fn resident_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually(|| {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.expect("it ended")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
