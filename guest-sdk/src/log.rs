//! Structured log lines, in the proxy's own log under the plugin's name.
//!
//! The macros [`debug!`](crate::debug), [`info!`](crate::info), [`warn!`](crate::warn) and
//! [`error!`](crate::error) take what [`format!`] takes, and format only a line that would be kept. The host keeps
//! at most 10 lines a second of each plugin and worker, and of a line at most 1 KiB.

use std::panic;

use crate::host;

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For a developer.
    Debug,
    /// For an operator.
    Info,
    /// Something is off.
    Warn,
    /// Something failed.
    Error,
}

/// Whether a line of this level would be kept.
pub fn enabled(level: Level) -> bool {
    host::log::enabled(level)
}

/// Writes a line.
pub fn write(level: Level, message: &str) {
    host::log::write(level, message);
}

/// Has a panic logged as an error with its place, before it traps. Call it in `configure`. A native test prints
/// its panics as ever.
pub fn panics() {
    if cfg!(target_arch = "wasm32") {
        panic::set_hook(Box::new(|panic| write(Level::Error, &panic.to_string())));
    }
}

/// Logs a line for a developer.
#[macro_export]
macro_rules! debug {
    ($($format:tt)+) => { $crate::__log!($crate::log::Level::Debug, $($format)+) };
}

/// Logs a line for an operator.
#[macro_export]
macro_rules! info {
    ($($format:tt)+) => { $crate::__log!($crate::log::Level::Info, $($format)+) };
}

/// Logs that something is off.
#[macro_export]
macro_rules! warn {
    ($($format:tt)+) => { $crate::__log!($crate::log::Level::Warn, $($format)+) };
}

/// Logs that something failed.
#[macro_export]
macro_rules! error {
    ($($format:tt)+) => { $crate::__log!($crate::log::Level::Error, $($format)+) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:expr, $($format:tt)+) => {
        if $crate::log::enabled($level) {
            $crate::log::write($level, &::std::format!($($format)+));
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;

    #[test]
    fn a_line_below_the_level_is_not_even_formatted() {
        let host = Host::new();
        host.set_log_level(Level::Warn);
        let mut formatted = 0;
        let mut count = || {
            formatted += 1;
            formatted
        };

        crate::info!("{}", count());
        crate::warn!("{} of {}", count(), 1);

        assert_eq!(host.logs(), [(Level::Warn, "1 of 1".to_owned())]);
    }
}
