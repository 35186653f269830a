//! What answers a request when its upstream does not.

use super::action::{Action, find_upstream};
use super::answer::Answer;
use super::fault::{BadValue, Fault, did_you_mean, expected};
use super::health::statuses;
use super::reader::Reader;
use super::value;

/// One step of a route's `fallback`: what answers in the upstream's place, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Fallback {
    /// (everything the proxy would answer with 502, 503 or 504)
    pub on: Conditions,
    pub then: FallbackAction,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum FallbackAction {
    /// Sends the request to another upstream, by its position in [`Config::upstreams`](super::Config::upstreams).
    Upstream(usize),
    Answer(Answer),
}

/// Why an upstream gave no response. Each of these would be answered with 502, 503 or 504.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// An endpoint could not be connected to, broke off, or answered something that is not HTTP.
    Error,
    /// An endpoint, or all of the exchange, took too long.
    Timeout,
    /// No endpoint can take traffic.
    NoEndpoint,
    /// The upstream's circuit breaker is open.
    BreakerOpen,
    /// The upstream has as much to do as it may have.
    Overload,
}

/// When a step is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// By [`Condition`].
    failures: [bool; Condition::ALL.len()],
    /// Ranges of statuses, both ends included: an endpoint's, or the proxy's own for a failure.
    statuses: Vec<(u16, u16)>,
}

impl Condition {
    pub const ALL: [Self; 5] = [Self::Error, Self::Timeout, Self::NoEndpoint, Self::BreakerOpen, Self::Overload];

    /// As configurations and metrics write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::NoEndpoint => "no_endpoint",
            Self::BreakerOpen => "breaker_open",
            Self::Overload => "overload",
        }
    }
}

impl Default for Conditions {
    fn default() -> Self {
        Self { failures: [true; Condition::ALL.len()], statuses: Vec::new() }
    }
}

impl Conditions {
    /// Whether they hold for an upstream that failed, which the proxy would answer with this status; or for an
    /// endpoint's response, where there is no condition.
    pub fn hold(&self, condition: Option<Condition>, status: u16) -> bool {
        condition.is_some_and(|condition| self.failures[condition as usize])
            || self.statuses.iter().any(|&(first, last)| (first..=last).contains(&status))
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        let scope = reader.scope;
        let Some(written) = reader.array("on") else { return Self::default() };
        if written.is_empty() {
            scope.fault(Fault::new(reader.place_of("on"), "no condition, so that it is never used"));
        }
        let mut read = Self { failures: [false; Condition::ALL.len()], statuses: Vec::new() };
        for value in written {
            let Some(text) = scope.text(value) else { continue };
            match scope.accept(value.place, condition(text)) {
                Some(On::Failure(condition)) => read.failures[condition as usize] = true,
                Some(On::Status(range)) => read.statuses.push(range),
                None => {}
            }
        }
        read
    }
}

enum On {
    Failure(Condition),
    Status((u16, u16)),
}

fn condition(text: &str) -> Result<On, BadValue> {
    if let Some(condition) = Condition::ALL.into_iter().find(|condition| condition.name() == text) {
        return Ok(On::Failure(condition));
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return statuses(text).map(On::Status);
    }
    let names = Condition::ALL.map(Condition::name);
    let hint = did_you_mean(text, &names)
        .or_else(|| expected(&names).map(|names| format!("{names}, or a status such as \"502\" or \"5xx\"")));
    Err(BadValue::new(format!("there is no condition `{}`", value::shown(text))).with_hint(hint))
}

impl Fallback {
    /// Reads the `fallback` of a route that does `action`.
    pub(super) fn read_all(reader: &mut Reader<'_>, action: Option<&Action>) -> Vec<Self> {
        let scope = reader.scope;
        let written = reader.array("fallback").unwrap_or_default();
        if !written.is_empty() && matches!(action, Some(Action::Respond { .. } | Action::Redirect { .. })) {
            let message = "a route without an upstream has nothing to fall back from";
            scope.fault(Fault::new(reader.place_of("fallback"), message));
        }
        written.iter().filter_map(|value| Self::read(&mut scope.table(value)?, action)).collect()
    }

    fn read(reader: &mut Reader<'_>, action: Option<&Action>) -> Option<Self> {
        let on = Conditions::read(reader);
        let then = match reader.one_of(&["upstream", "respond", "file"]) {
            Some("upstream") => {
                let value = reader.value("upstream")?;
                let upstream = find_upstream(value, reader.scope)?;
                if action == Some(&Action::Upstream(upstream)) {
                    reader.scope.fault(Fault::new(value.place, "the upstream of the route itself"));
                }
                FallbackAction::Upstream(upstream)
            }
            Some("respond") => FallbackAction::Answer(Answer::read_respond(reader.table("respond")?, 503)),
            Some(_) => FallbackAction::Answer(Answer::read_file(reader, 503)?),
            None => {
                let hint = "expected one of `upstream`, `respond`, `file`".to_owned();
                reader.scope.absence(Fault::new(reader.place(), "a fallback that does nothing").with_hint(hint));
                return None;
            }
        };
        Some(Self { on, then })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_hold_for_failures_and_for_statuses() {
        let conditions = |failures: &[Condition], statuses: &[(u16, u16)]| Conditions {
            failures: Condition::ALL.map(|condition| failures.contains(&condition)),
            statuses: statuses.to_vec(),
        };
        use Condition::{Error, NoEndpoint, Timeout};
        for (conditions, condition, status, holds) in [
            (Conditions::default(), Some(Error), 502, true),
            (Conditions::default(), Some(NoEndpoint), 503, true),
            (Conditions::default(), None, 502, false),
            (conditions(&[Timeout], &[]), Some(Timeout), 504, true),
            (conditions(&[Timeout], &[]), Some(Error), 502, false),
            (conditions(&[], &[(502, 502)]), None, 502, true),
            (conditions(&[], &[(502, 502)]), None, 503, false),
            // The proxy's own 502 is one too.
            (conditions(&[], &[(500, 599)]), Some(Error), 502, true),
            (conditions(&[], &[(404, 404)]), Some(Error), 502, false),
        ] {
            assert_eq!(conditions.hold(condition, status), holds, "{conditions:?} for {condition:?} and {status}");
        }
    }
}
