//! What the proxy says of itself, on standard error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::thread;

use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt;

/// Names what is logged: `debug`, or `warn,staunch::upstream=trace`. Unset or empty: `info`.
pub const FILTER_VARIABLE: &str = "STAUNCH_LOG";
/// Names the form: `plain` (also when unset) or `json`.
pub const FORMAT_VARIABLE: &str = "STAUNCH_LOG_FORMAT";

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for a reader; coloured on a terminal.
    Plain,
    /// A JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{FILTER_VARIABLE}=`{value}` is no log filter: {source}")]
    Filter { value: String, source: ParseError },
    #[error("{FORMAT_VARIABLE}=`{value}` is no log format: write `plain` or `json`")]
    Format { value: String },
}

/// Sends the events of this process to standard error, as the environment says; panics are such events.
///
/// # Errors
///
/// When a variable cannot be read. A second call in one process changes nothing.
pub fn start() -> Result<(), LogError> {
    let variable = |name| std::env::var_os(name).unwrap_or_default().to_string_lossy().into_owned();
    let filter = filter(&variable(FILTER_VARIABLE))?;
    let format = format(&variable(FORMAT_VARIABLE))?;
    let builder = fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    // An error says that somebody else has set up logging before, as a test or an embedding program may.
    _ = match format {
        LogFormat::Plain => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    panic::set_hook(Box::new(panicked));
    Ok(())
}

/// Logs a panic, with its backtrace if `RUST_BACKTRACE` asks for one.
fn panicked(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let (thread, at) = (thread.name().unwrap_or("?"), panic.location().map(ToString::to_string).unwrap_or_default());
    let message = panic.payload_as_str().unwrap_or("something that is no text");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        error!(thread, at, %backtrace, "panicked, which is a bug: {message}");
    } else {
        error!(thread, at, "panicked, which is a bug: {message}");
    }
}

fn filter(value: &str) -> Result<EnvFilter, LogError> {
    let filter = if value.is_empty() { "info" } else { value };
    EnvFilter::try_new(filter).map_err(|source| LogError::Filter { value: value.to_owned(), source })
}

fn format(value: &str) -> Result<LogFormat, LogError> {
    match value {
        "" | "plain" => Ok(LogFormat::Plain),
        "json" => Ok(LogFormat::Json),
        _ => Err(LogError::Format { value: value.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_chooses_filter_and_format_and_nonsense_is_an_error() {
        assert_eq!(filter("").unwrap().to_string(), "info");
        assert_eq!(filter("warn,staunch=trace").unwrap().to_string(), "staunch=trace,warn");
        assert!(filter("staunch=loud").is_err());
        assert_eq!(format("json").unwrap(), LogFormat::Json);
        assert_eq!(format("").unwrap(), LogFormat::Plain);
        assert!(format("xml").is_err());
    }
}
