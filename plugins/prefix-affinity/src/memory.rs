//! Which endpoint has been given which prefix, for all workers: as many as the quota of the plugin's shared values has
//! room for, without those that were not asked for longest.

use std::time::Duration;

use staunch_plugin::{Instant, shared};

/// What is known of prefixes.
pub(crate) struct Memory {
    pub(crate) max_age: Duration,
}

/// What is known of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// The name of the endpoint that was last given it.
    pub(crate) owner: u64,
    /// When it was last noted together with all that are shorter.
    pub(crate) whole: Instant,
    version: u64,
}

impl Memory {
    pub(crate) fn recall(&self, prefix: u64) -> Option<Known> {
        let value = shared::get(&key_of(prefix))?;
        let (owner, whole) = value.bytes.split_at_checked(8)?;
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
        Some(Known { owner: number(owner)?, whole: Instant::from_nanos(number(whole)?), version: value.version })
    }

    /// Notes who is given a prefix, if nobody else has noted anything since it was `known`.
    pub(crate) fn note(&self, prefix: u64, owner: u64, whole: Instant, known: Option<Known>) {
        let value = [owner.to_le_bytes(), whole.as_nanos().to_le_bytes()].concat();
        // A conflict is another worker's note, which is as new, and a full store has no room for more.
        let _ = shared::remember(&key_of(prefix), &value, known.map(|known| known.version), self.max_age);
    }

    /// Whether it is time to note all prefixes of a key again, so that the short ones live on with the long ones.
    pub(crate) fn is_due(&self, whole: Instant, now: Instant) -> bool {
        now.since(whole) >= self.max_age / 4
    }
}

fn key_of(prefix: u64) -> String {
    let digit = |place: u32| char::from(b"0123456789abcdef"[(prefix >> (4 * place)) as usize & 15]);
    (0..16).map(digit).collect()
}
