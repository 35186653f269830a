//! Recorded cases: what a plugin is told, and what it has to answer.

mod balancer;
mod file;
mod message;
mod retry;
mod rewriter;

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use toml::{Spanned, Table};

use crate::author::Subject;
use crate::author::rig::{Broke, world};
use crate::config::Settings;
use crate::plugins::{Kind, Limits, Plugin, PluginError, PluginHost, Simulation, builtin};

use file::{Case, File, Step};

/// How a file of cases is written, for a person.
pub const FORMAT: &str = include_str!("format.md");

/// How a case went.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub name: String,
    pub steps: usize,
    pub failure: Option<Failure>,
}

/// Where a case went wrong, and how.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Counted from 1.
    pub line: usize,
    pub message: String,
}

/// Why a file of cases could not be run.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    #[error("{path}: {error}")]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{path}: {message}")]
    Text { path: PathBuf, message: String },
    #[error(transparent)]
    Plugin(#[from] PluginError),
}

/// A file of cases with its plugin.
pub struct Cases {
    host: PluginHost,
    plugin: Plugin,
    kind: Kind,
    file: File,
    text: String,
}

/// What a step says when it does not come true.
type Told = Result<(), String>;

/// One case under way.
trait Player {
    fn play(&mut self, step: &Step, rng: &mut Rng) -> Told;
}

impl Cases {
    /// Reads a file and loads its plugin; `instead` is another file of the plugin.
    ///
    /// # Errors
    /// When one of the two cannot be used.
    pub fn load(host: &PluginHost, path: &Path, instead: Option<&Path>) -> Result<Self, CasesError> {
        let read_error = |path: &Path, error| CasesError::Read { path: path.to_owned(), error };
        let text = std::fs::read_to_string(path).map_err(|error| read_error(path, error))?;
        let told = |message: String| CasesError::Text { path: path.to_owned(), message };
        let file: File = toml::from_str(&text).map_err(|error| told(error.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let place = instead.map_or_else(|| folder.join(&file.plugin), Path::to_owned);
        let builtin = builtin::find(&file.plugin).filter(|_| instead.is_none() && !place.exists());
        let plugin = match builtin {
            Some(builtin) => host.load(builtin.name, builtin.component, Limits::default())?,
            None => {
                let bytes = std::fs::read(&place).map_err(|error| read_error(&place, error))?;
                let name = place.file_stem().unwrap_or_default().to_string_lossy();
                host.load(&name, &bytes, Limits::default())?
            }
        };
        let kinds: Vec<Kind> = plugin.exports().kinds().collect();
        let kind = match file.kind.as_deref() {
            None => kinds.first().copied(),
            Some(name) => kinds.iter().copied().find(|kind| kind.name() == name),
        };
        let kind = kind.ok_or_else(|| {
            let kinds: Vec<_> = kinds.iter().map(|kind| format!("`{}`", kind.name())).collect();
            told(format!("`kind` must be {}, which the plugin is", kinds.join(" or ")))
        })?;
        Ok(Self { host: host.clone(), plugin, kind, file, text })
    }

    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Runs every case whose name has `part` in it.
    ///
    /// # Errors
    /// When the settings of a case are no TOML, or the plugin cannot be loaded again.
    pub fn run(&self, part: &str) -> Result<Vec<Outcome>, CasesError> {
        let named = self.file.cases.iter().filter(|case| case.get_ref().name.contains(part));
        named.map(|case| self.run_case(case)).collect()
    }

    fn run_case(&self, spanned: &Spanned<Case>) -> Result<Outcome, CasesError> {
        let case = spanned.get_ref();
        let settings = settings(case.config.as_ref().unwrap_or(&self.file.config))?;
        let behind = self.file.then.as_deref().unwrap_or("round-robin");
        let subject = Subject::with_behind(&self.host, self.plugin.clone(), settings, behind)?;
        let subject = subject.with_upstreams(&self.file.upstreams);
        let failure = self.play(case, &subject).err().map(|(at, message)| {
            let start = case.steps.get(at).map_or(spanned.span().start, |step| step.span().start);
            Failure { line: self.line(start), message }
        });
        Ok(Outcome { name: case.name.clone(), steps: case.steps.len(), failure })
    }

    /// The step that does not come true, and why. A position past the last step is that of the case.
    fn play(&self, case: &Case, subject: &Subject) -> Result<(), (usize, String)> {
        let whole = case.steps.len();
        let player = self.player(case, subject);
        let mut player = match (player, &case.refused) {
            (Ok(player), None) => player,
            (Ok(_), Some(part)) => return Err((whole, format!("the settings were to be refused with `{part}`"))),
            (Err(broke), Some(part)) if broke.message.contains(part) => return Ok(()),
            (Err(broke), Some(part)) => {
                return Err((whole, format!("expected: a refusal with `{part}`\ngot:      {}", broke.message)));
            }
            (Err(broke), None) => return Err((whole, broke.message)),
        };
        let mut rng = Rng::with_seed(case.seed);
        for (at, step) in case.steps.iter().enumerate() {
            player.play(step.get_ref(), &mut rng).map_err(|message| (at, message))?;
        }
        Ok(())
    }

    fn player(&self, case: &Case, subject: &Subject) -> Result<Box<dyn Player>, Broke> {
        let world: Arc<Simulation> = world(case.seed);
        Ok(match self.kind {
            Kind::Balancer => {
                let entries = case.endpoints.as_deref().unwrap_or(&self.file.endpoints);
                Box::new(balancer::Play::new(subject, &world, file::members(entries))?)
            }
            Kind::Retry => Box::new(retry::Play::new(subject, &world)?),
            Kind::Rewriter => Box::new(rewriter::Play::new(subject, &world)?),
        })
    }

    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }
}

fn settings(table: &Table) -> Result<Settings, CasesError> {
    let told = |message: String| CasesError::Text { path: PathBuf::from("config"), message };
    let text = toml::to_string(table).map_err(|error| told(error.to_string()))?;
    Settings::parse(&text, None).map_err(|faults| told(faults.to_string()))
}

/// What was expected and what came, one under the other.
fn differ(what: &str, expected: impl fmt::Display, got: impl fmt::Display) -> String {
    let mut text = String::new();
    if !what.is_empty() {
        let _ = writeln!(text, "{what}");
    }
    let _ = write!(text, "expected: {expected}\ngot:      {got}");
    text
}

/// The name of a step that is not for plugins of this kind.
fn misplaced(kind: Kind, offers: &str) -> String {
    format!("this is no step for a {kind}, which has {offers}")
}
