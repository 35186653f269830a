//! The commands and what their ends mean.

mod arguments;
mod check;
mod plugin;
mod program;
mod proxy;
mod remote;
mod run;
mod signals;

use std::fmt::Display;
use std::io::{self, Write};
use std::panic;
use std::process::ExitCode;

use clap::Parser;
use staunch::telemetry::log;

use crate::demo;

pub(crate) use arguments::DemoArguments;
use arguments::{Arguments, Command};
use remote::Remote;
pub(crate) use run::{start, wait};

/// Why a command ended badly, with everything there is to say about it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration or a plugin cannot be used.
    Bad(String),
    /// The arguments, or the environment that goes with them, cannot be used.
    Arguments(String),
    /// Ours, or the machine's.
    Internal(String),
}

impl Failure {
    pub(crate) fn bad(why: impl Display) -> Self {
        Self::Bad(why.to_string())
    }

    pub(crate) fn internal(why: impl Display) -> Self {
        Self::Internal(why.to_string())
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Bad(_) => 1,
            Self::Arguments(_) => 2,
            Self::Internal(_) => INTERNAL,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Bad(text) | Self::Arguments(text) | Self::Internal(text) => text,
        }
    }
}

/// `EX_SOFTWARE` of sysexits.h.
const INTERNAL: u8 = 70;

/// Does what the arguments say. Wrong ones end here, with 2.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match panic::catch_unwind(|| execute(arguments)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            complain(failure.text());
            ExitCode::from(failure.exit_code())
        }
        // The panic's own message is out already.
        Err(_) => ExitCode::from(INTERNAL),
    }
}

fn execute(arguments: Arguments) -> Result<(), Failure> {
    log::start().map_err(|error| Failure::Arguments(error.to_string()))?;
    let config = arguments.config;
    match arguments.command.unwrap_or_else(|| Command::run(config)) {
        Command::Run { config } => run::run(&config),
        Command::Apply { file, confirm, remote } => remote::apply(&Remote::of(&remote)?, &file, confirm),
        Command::Confirm(arguments) => remote::confirm(&Remote::of(&arguments)?),
        Command::Rollback { generation, remote } => remote::roll_back(&Remote::of(&remote)?, generation),
        Command::Reload(arguments) => remote::reload(&Remote::of(&arguments)?),
        Command::Upgrade(arguments) => remote::upgrade(&Remote::of(&arguments)?),
        Command::Drain(arguments) => remote::drain(&Remote::of(&arguments)?),
        Command::Check { config } => check::check(&config),
        Command::Proxy(arguments) => run::serve(proxy::config(&arguments)),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Plugin { command } => plugin::execute(command),
    }
}

/// Writes to standard output. Whoever closed it does not want to know.
pub(crate) fn say(text: impl Display) {
    _ = writeln!(io::stdout(), "{text}");
}

/// Writes to standard error.
pub(crate) fn complain(text: impl Display) {
    _ = writeln!(io::stderr(), "{text}");
}
