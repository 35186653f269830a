//! Commands: where they are, and how they are run.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::BuildError;

/// A command with what goes before its other arguments.
#[derive(Clone, Debug)]
pub(super) struct Tool {
    program: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(&'static str, OsString)>,
}

impl Tool {
    pub(super) fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), arguments: Vec::new(), variables: Vec::new() }
    }

    #[must_use]
    pub(super) fn with<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub(super) fn set(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Whether it ends well with these arguments, whatever it says.
    pub(super) fn answers(&self, arguments: &[&str]) -> bool {
        let mut command = self.command();
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// The first line that it says with these arguments, if it ends well.
    pub(super) fn asked(&self, arguments: &[&str]) -> Option<String> {
        let output = self.command().args(arguments).stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_owned())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn shown(&self) -> String {
        let program = self.program.file_name().unwrap_or(self.program.as_os_str());
        let words = std::iter::once(program).chain(self.arguments.iter().map(OsString::as_os_str));
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    }
}

/// A command by one of its names: in the project's own folders, else in the path.
pub(super) fn find(folder: &Path, names: &[&str]) -> Option<Tool> {
    let own = ["node_modules/.bin", ".venv/bin"].map(|place| folder.join(place));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<_> = own.into_iter().chain(std::env::split_paths(&path)).collect();
    let at = |name: &&str| places.iter().map(|place| place.join(name)).find(|file| is_executable(file));
    names.iter().find_map(at).map(Tool::at)
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Runs a command in a folder and waits for its end.
pub(super) fn run(tool: &Tool, folder: &Path, say: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
    let shown = tool.shown();
    say(&shown);
    let mut command = tool.command();
    command.current_dir(folder).stdin(Stdio::null()).stdout(std::io::stderr());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(BuildError::Failed { command: shown, code: status.code() }),
        Err(error) => Err(BuildError::File { path: tool.program.clone(), message: error.to_string() }),
    }
}
