//! The contract's imports with the types of this crate.

pub(crate) use crate::bindings::imports::staunch::plugin::{
    clock, config, loads, pace, random, request, response, routing, selection,
};

pub(crate) mod registration {
    use std::time::Duration;

    use crate::bindings::imports::staunch::plugin::registration as wit;
    use crate::{FeedbackKind, KeySource, clock};

    pub(crate) use wit::{
        skip_requests, skip_responses, want_non_idempotent, want_request_field, want_response_field, want_status,
    };

    pub(crate) fn want_key(source: &KeySource) {
        wit::want_key(&match source.clone() {
            KeySource::ClientAddress => wit::KeySource::ClientAddress,
            KeySource::Host => wit::KeySource::Host,
            KeySource::Path => wit::KeySource::Path,
            KeySource::PathAndQuery => wit::KeySource::PathAndQuery,
            KeySource::Header(name) => wit::KeySource::Header(name),
            KeySource::Cookie(name) => wit::KeySource::Cookie(name),
            KeySource::Query(name) => wit::KeySource::Query(name),
        });
    }

    pub(crate) fn want_feedback(kind: FeedbackKind, batch: u32, max_age: Duration) {
        let kind = match kind {
            FeedbackKind::EveryAttempt => wit::FeedbackKind::EveryAttempt,
            FeedbackKind::Failures => wit::FeedbackKind::Failures,
        };
        wit::want_feedback(kind, batch, clock::nanos(max_age));
    }
}

pub(crate) mod log {
    use crate::bindings::imports::staunch::plugin::log as wit;
    use crate::log::Level;

    pub(crate) fn enabled(level: Level) -> bool {
        wit::enabled(of(level))
    }

    pub(crate) fn write(level: Level, message: &str) {
        wit::write(of(level), message);
    }

    fn of(level: Level) -> wit::Level {
        match level {
            Level::Debug => wit::Level::Debug,
            Level::Info => wit::Level::Info,
            Level::Warn => wit::Level::Warn,
            Level::Error => wit::Level::Error,
        }
    }
}

pub(crate) mod metrics {
    pub(crate) use crate::bindings::imports::staunch::plugin::metrics::{
        add, counter, gauge, histogram, record_value, set,
    };
}

pub(crate) mod shared {
    use crate::bindings::imports::staunch::plugin::shared as wit;
    use crate::shared::PutError;

    pub(crate) use wit::{cell, compare_exchange, delete, fetch_add, get, load};

    pub(crate) fn put(key: &str, value: &[u8], version: Option<u64>) -> Result<u64, PutError> {
        wit::put(key, value, version).map_err(not_put)
    }

    pub(crate) fn remember(key: &str, value: &[u8], version: Option<u64>, max_age: u64) -> Result<u64, PutError> {
        wit::remember(key, value, version, max_age).map_err(not_put)
    }

    fn not_put(error: wit::SharedError) -> PutError {
        match error {
            wit::SharedError::Full => PutError::Full,
            wit::SharedError::Conflict => PutError::Conflict,
        }
    }
}

pub(crate) mod delegate {
    use crate::PickError;
    use crate::bindings::imports::staunch::plugin::delegate as wit;

    pub(crate) use wit::group;

    pub(crate) fn pick(group: u32) -> Result<u32, PickError> {
        wit::pick(group).map_err(|error| match error {
            wit::NoPick::Unavailable => PickError::Unavailable,
            wit::NoPick::Overloaded => PickError::Overloaded,
        })
    }
}
