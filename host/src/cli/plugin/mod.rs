//! `staunch plugin …`: what the author of a plugin has.

mod arguments;
mod bench;
mod check;
mod inspect;
mod project;
mod test;

use std::path::Path;

use staunch::author::Subject;
use staunch::config::Settings;
use staunch::plugins::{CodeCache, Limits, Plugin, PluginError, PluginHost, builtin, usual_folder};

pub(super) use arguments::PluginCommand;
use arguments::SettingsArguments;

use super::{Failure, say};

pub(super) fn execute(command: PluginCommand) -> Result<(), Failure> {
    match command {
        PluginCommand::New(arguments) => project::new(&arguments),
        PluginCommand::Build { folder } => project::build(&folder),
        PluginCommand::Inspect { file } => inspect::inspect(&file),
        PluginCommand::Check(arguments) => check::check(&arguments),
        PluginCommand::Bench(arguments) => bench::bench(&arguments),
        PluginCommand::Test(arguments) => test::test(&arguments),
    }
}

/// A host that keeps what it compiles, as that of `staunch run` does.
fn keeping(host: Result<PluginHost, PluginError>) -> Result<PluginHost, Failure> {
    Ok(host.map_err(Failure::internal)?.with_cache(usual_folder().as_deref().and_then(CodeCache::at)))
}

/// Loads a plugin from a file, or a built-in one by its name.
fn load(host: &PluginHost, file: &Path) -> Result<Plugin, Failure> {
    let builtin = file.to_str().and_then(builtin::find).filter(|_| !file.exists());
    if let Some(builtin) = builtin {
        return host.load(builtin.name, builtin.component, Limits::default()).map_err(Failure::bad);
    }
    let bytes = std::fs::read(file).map_err(|error| Failure::bad(format_args!("{}: {error}", file.display())))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    host.load(&name, &bytes, Limits::default()).map_err(Failure::bad)
}

fn subject(host: &PluginHost, file: &Path, arguments: &SettingsArguments) -> Result<Subject, Failure> {
    let subject = Subject::new(host, load(host, file)?, arguments.read()?).map_err(Failure::bad)?;
    Ok(subject.with_upstreams(&arguments.upstream))
}

impl SettingsArguments {
    fn read(&self) -> Result<Settings, Failure> {
        match (&self.config, &self.config_file) {
            (Some(text), _) => Settings::parse(text, None).map_err(Failure::bad),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| Failure::bad(format_args!("{}: {error}", file.display())))?;
                Settings::parse(&text, Some(file)).map_err(Failure::bad)
            }
            (None, None) => Ok(Settings::default()),
        }
    }
}
