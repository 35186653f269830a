//! Log lines of plugins, under their names and within their quota.

use tracing::{debug, enabled, error, info, warn};
use wasmtime::Result;

use crate::plugins::bindings::staunch::plugin::log::{self, Level};
use crate::plugins::instance::State;

/// Bytes kept of a line.
const MAX_LINE: usize = 1024;

impl log::Host for State {
    fn enabled(&mut self, level: Level) -> Result<bool> {
        Ok(is_enabled(level))
    }

    fn write(&mut self, level: Level, message: String) -> Result<()> {
        if !is_enabled(level) || !self.share.may_log(self.core.plugin.host().clock.now()) {
            return Ok(());
        }
        let (plugin, r#use, line) = (self.core.plugin.name(), &*self.core.name, one_line(&message));
        let (digest, generation) = (self.core.plugin.short_digest(), self.core.generation);
        match level {
            Level::Debug => debug!(target: "staunch::plugin", plugin, r#use, digest, generation, "{line}"),
            Level::Info => info!(target: "staunch::plugin", plugin, r#use, digest, generation, "{line}"),
            Level::Warn => warn!(target: "staunch::plugin", plugin, r#use, digest, generation, "{line}"),
            Level::Error => error!(target: "staunch::plugin", plugin, r#use, digest, generation, "{line}"),
        }
        Ok(())
    }
}

fn is_enabled(level: Level) -> bool {
    match level {
        Level::Debug => enabled!(target: "staunch::plugin", tracing::Level::DEBUG),
        Level::Info => enabled!(target: "staunch::plugin", tracing::Level::INFO),
        Level::Warn => enabled!(target: "staunch::plugin", tracing::Level::WARN),
        Level::Error => enabled!(target: "staunch::plugin", tracing::Level::ERROR),
    }
}

/// At most [`MAX_LINE`] bytes, with nothing in them that could end the line or steer a terminal.
fn one_line(message: &str) -> String {
    let kept = &message[..message.floor_char_boundary(MAX_LINE)];
    let mut line = String::with_capacity(kept.len());
    for c in kept.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_between_characters_and_has_no_control_characters() {
        assert_eq!(one_line("a\nb\x1b[1mé"), r"a\nb\u{1b}[1mé");
        assert_eq!(one_line(&"é".repeat(1000)).len(), MAX_LINE);
        assert_eq!(one_line(&format!("x{}", "é".repeat(1000))).len(), MAX_LINE - 1);
    }
}
