//! The binary, run as a service manager runs it: it says when it is ready, and by which process it was replaced.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::program::compiled;
use super::proxy::complete;
use super::{Client, binary, eventually};

/// How long a new process may take on a busy machine.
const START: Duration = Duration::from_secs(60);

/// `staunch run` in a folder of its own, and whatever processes follow it. All of them end with the test.
#[derive(Debug)]
pub(crate) struct Service {
    first: Child,
    /// The process that is the service now.
    pub(crate) process: u32,
    folder: tempfile::TempDir,
    manager: UnixDatagram,
}

impl Service {
    /// Starts it with this configuration, completed, and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(text: &str) -> Self {
        Self::start_with(text, None)
    }

    /// The same with a socket that is open already, as systemd hands it over.
    #[track_caller]
    pub(crate) fn start_with(text: &str, socket: Option<&TcpListener>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let manager = UnixDatagram::bind(path.join("notify")).expect("a socket");
        manager.set_read_timeout(Some(START)).expect("a socket");
        fs::write(path.join("staunch.toml"), complete(&text.replace("@folder@", &path.display().to_string())))
            .expect("a file");
        let mut command = match socket {
            None => binary(),
            Some(socket) => {
                let mut shell = Command::new("sh");
                let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
                shell.args(["-c", script, env!("CARGO_BIN_EXE_staunch")]);
                shell.stdin(OwnedFd::from(socket.try_clone().expect("a socket")));
                shell
            }
        };
        let log = File::create(path.join("log")).expect("a file");
        command.args(["run", "-c", "staunch.toml"]).current_dir(path);
        command.env("NOTIFY_SOCKET", path.join("notify")).env("CACHE_DIRECTORY", compiled());
        let first = command.stdout(Stdio::null()).stderr(log).process_group(0).spawn().expect("the binary");
        let service = Self { process: first.id(), first, folder, manager };
        assert_eq!(service.told(), "READY=1", "{}", service.log());
        service
    }

    /// What it says next to its manager.
    #[track_caller]
    pub(crate) fn told(&self) -> String {
        let mut bytes = [0; 256];
        let length = self.manager.recv(&mut bytes).unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// Waits until another process says that it is the service.
    #[track_caller]
    pub(crate) fn replaced(&mut self) {
        let told = self.told();
        let process = told.strip_prefix("MAINPID=").and_then(|process| process.parse().ok());
        self.process = process.unwrap_or_else(|| panic!("{told}\n{}", self.log()));
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All that its processes have logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    /// The address in the last line of the log that has these words.
    #[track_caller]
    fn address(&self, words: &str) -> SocketAddr {
        let log = self.log();
        let mut lines =
            log.lines().filter_map(|line| line.split_once(words)?.1.strip_prefix(" address=")?.parse().ok());
        lines.next_back().unwrap_or_else(|| panic!("no `{words}` in\n{log}"))
    }

    pub(crate) fn listener(&self) -> SocketAddr {
        self.address(": listening")
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.listener())
    }

    /// A connection to its admin server.
    pub(crate) fn admin(&self) -> Client {
        Client::connect(self.address(" the admin server is listening"))
    }

    /// Another command of the binary, in its folder, with `--admin` behind it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        let admin = self.address(" the admin server is listening").to_string();
        let mut command = binary();
        command.args(arguments).args(["--admin", &admin]).current_dir(self.folder());
        command.stdin(Stdio::null()).output().expect("the binary")
    }

    /// Sends the process that is the service a signal by name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.process);
        assert!(Command::new("sh").args(["-c", &line]).status().expect("a shell").success());
    }

    /// Waits for the end of a process of it.
    #[track_caller]
    pub(crate) fn ended(&mut self, process: u32) {
        let state = PathBuf::from(format!("/proc/{process}/stat"));
        eventually(|| {
            // Where nobody waits for orphans, they stay as zombies.
            self.first.try_wait().expect("a child");
            fs::read_to_string(&state).map_or(true, |state| state.contains(") Z "))
        });
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let line = format!("kill -s KILL -- -{}", self.first.id());
        // They may have ended already.
        let _ = Command::new("sh").args(["-c", &line]).stderr(Stdio::null()).status();
        let _ = self.first.wait();
    }
}
