//! What a plugin asks for while it is configured; at any other time to ask is to trap.

use wasmtime::{Error, Result};

use crate::filters::is_token;
use crate::plugins::bindings::staunch::plugin::registration::{self, FeedbackKind as Kind, KeySource as Source};
use crate::plugins::instance::{Asked, Feedback, Forbidden, Phase, State};
use crate::upstream::balancer::{FeedbackKind, KeySource};

/// Key sources, status ranges and fields a plugin may ask for, each.
const MOST: usize = 64;
/// Bytes of a name it asks for.
const MAX_NAME: usize = 256;
/// Samples a balancer may have in one batch.
const MAX_BATCH: u32 = 1024;

impl registration::Host for State {
    fn want_key(&mut self, source: Source) -> Result<()> {
        let source = match source {
            Source::ClientAddress => KeySource::ClientAddress,
            Source::Host => KeySource::Host,
            Source::Path => KeySource::Path,
            Source::PathAndQuery => KeySource::PathAndQuery,
            Source::Header(name) => KeySource::Header(field_name(&name)?),
            Source::Cookie(name) => KeySource::Cookie(short(name)?),
            Source::Query(name) => KeySource::Query(short(name)?),
        };
        let key = &mut self.asking()?.key;
        check(key.len() < MOST, "it asked for more than 64 sources of the balancing key")?;
        key.push(source);
        Ok(())
    }

    fn want_feedback(&mut self, kind: Kind, batch: u32, max_age: u64) -> Result<()> {
        let kind = match kind {
            Kind::EveryAttempt => FeedbackKind::EveryAttempt,
            Kind::Failures => FeedbackKind::Failures,
        };
        self.asking()?.feedback = Some(Feedback { kind, batch: batch.clamp(1, MAX_BATCH) as usize, max_age });
        Ok(())
    }

    fn want_status(&mut self, first: u16, last: u16) -> Result<()> {
        let statuses = &mut self.asking()?.statuses;
        check((100..=999).contains(&first) && (first..=999).contains(&last), "it asked for statuses that are none")?;
        check(statuses.len() < MOST, "it asked for more than 64 ranges of statuses")?;
        statuses.push((first, last));
        Ok(())
    }

    fn want_non_idempotent(&mut self) -> Result<()> {
        self.asking()?.non_idempotent = true;
        Ok(())
    }

    fn skip_requests(&mut self) -> Result<()> {
        self.asking()?.skips_requests = true;
        Ok(())
    }

    fn skip_responses(&mut self) -> Result<()> {
        self.asking()?.skips_responses = true;
        Ok(())
    }

    fn want_request_field(&mut self, name: String) -> Result<u32> {
        position(&mut self.asking()?.request_fields, field_name(&name)?)
    }

    fn want_response_field(&mut self, name: String) -> Result<u32> {
        position(&mut self.asking()?.response_fields, field_name(&name)?)
    }
}

impl State {
    fn asking(&mut self) -> Result<&mut Asked> {
        check(self.phase == Phase::Configure, "it called `registration` outside `configure`")?;
        Ok(&mut self.asked)
    }
}

fn position(fields: &mut Vec<String>, name: String) -> Result<u32> {
    let at = match fields.iter().position(|field| *field == name) {
        Some(at) => at,
        None => {
            check(fields.len() < MOST, "it asked for more than 64 headers")?;
            fields.push(name);
            fields.len() - 1
        }
    };
    Ok(at as u32)
}

/// A header's name in lower case.
fn field_name(name: &str) -> Result<String> {
    check(is_token(name.as_bytes()) && name.len() <= MAX_NAME, "it asked for a header whose name cannot be one")?;
    Ok(name.to_ascii_lowercase())
}

fn short(name: String) -> Result<String> {
    check(name.len() <= MAX_NAME, "it asked for a name longer than 256 bytes")?;
    Ok(name)
}

fn check(holds: bool, otherwise: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::new(Forbidden(otherwise))) }
}
