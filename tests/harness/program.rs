//! The binary, run as a user runs it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use super::proxy::complete;
use super::{Client, eventually};

/// The binary. It shares what it compiles of plugins with all others of these tests.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_staunch"));
    command.env("CACHE_DIRECTORY", compiled());
    command
}

/// Where these tests, and the next ones, keep compiled plugins.
pub(super) fn compiled() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")
}

/// The binary with these arguments, in a folder without a configuration.
pub(crate) fn staunch(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = binary();
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
        Self::listening(text, "")
    }

    /// The same, listening on a port as well and with an admin server.
    pub(crate) fn on_tcp(text: &str) -> Self {
        Self::listening(text, "[[listeners]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"unix:admin\"\n")
    }

    fn listening(text: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("proxy");
        let file = folder.path().join("staunch.toml");
        let listener = format!("[[listeners]]\naddress = \"unix:{}\"\n", socket.display());
        fs::write(&file, complete(&format!("{text}\n{listener}{more}"))).expect("a file");
        let mut command = binary();
        command.args(["run", "-c"]).arg(&file).current_dir(folder.path());
        if !more.is_empty() {
            let log = fs::File::create(folder.path().join("log")).expect("a file");
            command.stderr(log);
        }
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

    /// The port of one that listens on one.
    pub(crate) fn address(&self) -> SocketAddr {
        let mut address = None;
        eventually(|| {
            let log = self.log();
            let mut named = log.lines().filter_map(|line| line.split_once("listening address=127.0.0.1:"));
            address = named.next().and_then(|(_, port)| port.trim().parse().ok());
            address.is_some()
        });
        SocketAddr::from(([127, 0, 0, 1], address.expect("a port")))
    }

    /// What one that listens on a port has said on standard error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).expect("a log")
    }

    /// What `/metrics` says of a sample, named with its labels; 0 when it says nothing.
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        let metrics = Client::over(&self.folder().join("admin")).expect("an admin server").get("/metrics");
        let values = metrics.text().lines().filter_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        values.map(|value| value.parse::<f64>().expect("a number")).next().unwrap_or(0.0)
    }

    /// Descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
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
