//! What a client is told of its limit: draft-ietf-httpapi-ratelimit-headers-06.

use std::fmt;

use staunch_plugin::FieldEdit;

use crate::bucket::{Limit, REQUEST};

/// The values of the three headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Headers {
    /// Requests that an empty bucket has room for.
    limit: u64,
    /// Those that it has room for now.
    remaining: u64,
    /// Seconds until it is empty.
    reset: u64,
}

impl Headers {
    /// Of a bucket that is so full.
    pub(crate) fn of(limit: &Limit, excess: u64) -> Self {
        Self {
            limit: limit.burst / REQUEST + 1,
            remaining: limit.burst.saturating_sub(excess) / REQUEST,
            reset: limit.rate.time_for(excess).div_ceil(1000),
        }
    }

    pub(crate) fn has_more_than(&self, remaining: u64) -> bool {
        self.remaining > remaining
    }

    pub(crate) fn fields(&self) -> [(String, Vec<u8>); 3] {
        [("limit", self.limit), ("remaining", self.remaining), ("reset", self.reset)]
            .map(|(name, value)| (format!("ratelimit-{name}"), value.to_string().into_bytes()))
    }

    pub(crate) fn edits(&self) -> Vec<FieldEdit> {
        self.fields().into_iter().map(|(name, value)| FieldEdit::Set(name, value)).collect()
    }

    /// Reads what `to_string` wrote.
    pub(crate) fn parse(note: &[u8]) -> Option<Self> {
        let mut numbers = std::str::from_utf8(note).ok()?.split(' ').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        Some(Self { limit: next()?, remaining: next()?, reset: next()? })
    }
}

impl fmt::Display for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.limit, self.remaining, self.reset)
    }
}
