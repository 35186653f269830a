//! What a route does with a request.

use super::answer::{Answer, Content};
use super::fault::{BadValue, Fault, suggest};
use super::reader::{Reader, Scope};
use super::tree::Value;
use super::value;

/// What a route does with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Sends it to an upstream, by its position in [`Config::upstreams`](super::Config::upstreams).
    Upstream(usize),
    /// Sends it to one of several, with these weights.
    Split(Vec<(usize, u32)>),
    Respond {
        /// 200 to 599 (200).
        status: u16,
        /// Names in lower case.
        headers: Vec<(String, String)>,
        body: Content,
    },
    /// `to` may use `$scheme`, `$host`, `$path`, `$query`, `$request_uri`, `$remote_addr`.
    Redirect {
        to: String,
        /// 301, 302, 303, 307 or 308 (308).
        status: u16,
    },
}

const VARIABLES: [&str; 6] = ["$scheme", "$host", "$path", "$query", "$request_uri", "$remote_addr"];

impl Action {
    /// Reads the one of a route's keys that says what it does.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        match reader.one_of(&["upstream", "split", "respond", "redirect"]) {
            Some("upstream") => {
                let value = reader.value("upstream")?;
                find_upstream(value, reader.scope).map(Self::Upstream)
            }
            Some("split") => read_split(reader),
            Some("respond") => {
                let Answer { status, headers, body, .. } = Answer::read_respond(reader.table("respond")?, 200);
                Some(Self::Respond { status, headers, body })
            }
            Some(_) => reader.table("redirect").and_then(read_redirect),
            None => {
                let fault = Fault::new(reader.place(), "a route that does nothing");
                let hint = "expected one of `upstream`, `split`, `respond`, `redirect`".to_owned();
                reader.scope.absence(fault.with_hint(hint));
                None
            }
        }
    }
}

pub(super) fn find_upstream(value: &Value, scope: &Scope<'_>) -> Option<usize> {
    let name = scope.text(value)?;
    let position = scope.upstreams.iter().position(|(upstream, _)| *upstream == name);
    if position.is_none() {
        let names: Vec<_> = scope.upstreams.iter().map(|(upstream, _)| *upstream).collect();
        let message = format!("there is no upstream `{}`", value::shown(name));
        scope.absence(Fault::new(value.place, message).with_hint(suggest(name, &names)));
    }
    position
}

fn read_split(reader: &mut Reader<'_>) -> Option<Action> {
    let scope = reader.scope;
    let written = reader.array("split")?;
    let mut shares: Vec<(usize, u32)> = Vec::new();
    for value in written {
        let Some(mut share) = scope.table(value) else { continue };
        let mut weight = 1;
        share.set_number("weight", 0..=65535, &mut weight);
        let Some(upstream) = share.required_value("upstream").and_then(|value| find_upstream(value, scope)) else {
            continue;
        };
        if shares.iter().any(|(other, _)| *other == upstream) {
            let fault = Fault::new(share.place_of("upstream"), "an upstream that is in this split already");
            scope.fault(fault.with_hint("give it one share with the sum of the weights".to_owned()));
        }
        shares.push((upstream, weight));
    }
    let is_complete = shares.len() == written.len();
    if is_complete && shares.iter().all(|(_, weight)| *weight == 0) {
        let what =
            if shares.is_empty() { "a split needs at least one upstream" } else { "every weight of the split is 0" };
        scope.fault(Fault::new(reader.place_of("split"), what));
    }
    Some(Action::Split(shares))
}

fn read_redirect(mut reader: Reader<'_>) -> Option<Action> {
    let mut status = 308;
    let place = reader.place_of("status");
    if let Some(written) = reader.number("status", 100..=999) {
        status = written;
        if ![301, 302, 303, 307, 308].contains(&status) {
            let fault = Fault::new(place, format!("{status} is not a redirection"));
            reader.scope.fault(fault.with_hint("expected one of 301, 302, 303, 307, 308".to_owned()));
        }
    }
    Some(Action::Redirect { to: reader.required_parse("to", location)?, status })
}

/// Where a redirection leads, with variables that are known.
fn location(text: &str) -> Result<String, BadValue> {
    if text.is_empty() {
        return Err(BadValue::new("a redirection needs to lead somewhere"));
    }
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(BadValue::new(format!("a location has no `{}` in it", bad.escape_debug()))
            .with_hint("write it percent-encoded".to_owned()));
    }
    for (dollar, _) in text.match_indices('$') {
        let rest = &text[dollar + 1..];
        let length = rest.bytes().take_while(|b| b.is_ascii_lowercase() || *b == b'_').count();
        let variable = &text[dollar..dollar + 1 + length];
        if length > 0 && !VARIABLES.contains(&variable) {
            let hint = suggest(variable, &VARIABLES);
            return Err(BadValue::new(format!("there is no variable `{variable}`")).with_hint(hint));
        }
    }
    Ok(text.to_owned())
}
