//! Whether and how much is tried again.

use std::time::Duration;

use super::plugin::{PluginKind, PluginUse};
use super::reader::Reader;
use super::settings::Settings;

#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// ("standard")
    pub policy: PluginUse,
    /// Attempts at most, the first included (3; 1 to 100).
    pub attempts: u32,
    /// No attempt starts later than this after the first ("10s"); `None` (`false`): no limit.
    pub timeout: Option<Duration>,
    pub budget: Budget,
    /// Bytes of a request body kept so that it can be sent again ("64KiB"; at most 1 GiB).
    pub replay_buffer: usize,
    /// Whether a policy may have requests sent again whose method is not idempotent (true: it still has to ask).
    pub non_idempotent: bool,
}

/// How much retrying may add to an upstream's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Retries per hundred requests of the last second (20; 0 to 100).
    pub percent: u32,
    /// Retries a second that are always allowed (3; at most 1000000).
    pub min: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            policy: PluginUse::builtin("standard"),
            attempts: 3,
            timeout: Some(Duration::from_secs(10)),
            budget: Budget::default(),
            replay_buffer: 64 * 1024,
            non_idempotent: true,
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { percent: 20, min: 3 }
    }
}

impl Retry {
    pub(super) fn read(mut reader: Reader<'_>) -> Self {
        let mut retry = Self::default();
        let settings = reader.optional::<Settings>("config");
        let policy = reader.value("plugin").and_then(|value| Some((reader.scope.text(value)?, value.place)));
        let (plugin, place) = policy.unwrap_or((&retry.policy.plugin, reader.place()));
        if let Some(policy) = PluginUse::resolve(plugin, place, settings, PluginKind::Retry, reader.scope) {
            retry.policy = policy;
        }
        reader.set_number("attempts", 1..=100, &mut retry.attempts);
        reader.set_or_off("timeout", &mut retry.timeout);
        if let Some(mut budget) = reader.table("budget") {
            budget.set_number("percent", 0..=100, &mut retry.budget.percent);
            budget.set_number("min", 0..=1_000_000, &mut retry.budget.min);
        }
        reader.set_size("replay_buffer", 0..=1 << 30, &mut retry.replay_buffer);
        reader.set("non_idempotent", &mut retry.non_idempotent);
        retry
    }
}
