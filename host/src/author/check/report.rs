//! What a check found: a line for each property.

use std::fmt;

/// A property, as the report names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Property {
    Survival,
    EmptySet,
    Known,
    Readiness,
    Availability,
    Tried,
    Backups,
    Spread,
    Return,
    Weights,
    Fairness,
    Affinity,
    Consistency,
    Loads,
    Recovery,
    Determinism,
    Validity,
    Pieces,
    Delays,
    Deadline,
    Growth,
    Memory,
}

impl Property {
    pub const ALL: [Self; 22] = [
        Self::Survival,
        Self::EmptySet,
        Self::Known,
        Self::Readiness,
        Self::Availability,
        Self::Tried,
        Self::Backups,
        Self::Spread,
        Self::Return,
        Self::Weights,
        Self::Fairness,
        Self::Affinity,
        Self::Consistency,
        Self::Loads,
        Self::Recovery,
        Self::Determinism,
        Self::Validity,
        Self::Pieces,
        Self::Delays,
        Self::Deadline,
        Self::Growth,
        Self::Memory,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Survival => "survival",
            Self::EmptySet => "empty-set",
            Self::Known => "known",
            Self::Readiness => "readiness",
            Self::Availability => "availability",
            Self::Tried => "tried",
            Self::Backups => "backups",
            Self::Spread => "spread",
            Self::Return => "return",
            Self::Weights => "weights",
            Self::Fairness => "fairness",
            Self::Affinity => "affinity",
            Self::Consistency => "consistency",
            Self::Loads => "loads",
            Self::Recovery => "recovery",
            Self::Determinism => "determinism",
            Self::Validity => "validity",
            Self::Pieces => "pieces",
            Self::Delays => "delays",
            Self::Deadline => "deadline",
            Self::Growth => "growth",
            Self::Memory => "memory",
        }
    }

    /// What is promised.
    fn promise(self) -> &'static str {
        match self {
            Self::Survival => "no call fails, whatever comes",
            Self::EmptySet => "no endpoint at all, or none ready, is answered with `unavailable`",
            Self::Known => "every pick is an endpoint of the membership",
            Self::Readiness => "every pick may have traffic",
            Self::Availability => "something is picked while something is ready",
            Self::Tried => "a retry goes where the request has not been, while there is such a place",
            Self::Backups => "no backup is picked while every other endpoint is ready",
            Self::Spread => "every ready endpoint has its part",
            Self::Return => "an endpoint that comes back has its part again, and no more",
            Self::Weights => "a changed weight does what it would have done from the start",
            Self::Fairness => "parts are as the weights say",
            Self::Affinity => "the same key goes to the same endpoint",
            Self::Consistency => "at most 1.2/n of the keys move when one of n endpoints leaves",
            Self::Loads => "requests in flight, as they are now, never attract more",
            Self::Recovery => "an endpoint that did badly is tried again once it does well",
            Self::Determinism => "the same seed brings the same answers",
            Self::Validity => "every change can be made to the message",
            Self::Pieces => "a body becomes the same however it is cut",
            Self::Delays => "no wait is longer than ten minutes, but where the endpoint asked for it",
            Self::Deadline => "every call ends within its deadline",
            Self::Growth => "four times the endpoints cost at most eight times the instructions",
            Self::Memory => "memory stops growing",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds; with what was seen, when that is of interest.
    Holds(String),
    /// What broke it.
    Broken(String),
    /// Why it was not judged.
    NotClaimed(String),
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub lines: Vec<(Property, Verdict)>,
}

impl Report {
    pub fn is_fine(&self) -> bool {
        self.broken().next().is_none()
    }

    /// The properties that do not hold.
    pub fn broken(&self) -> impl Iterator<Item = Property> {
        self.lines.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Broken(_))).map(|(property, _)| *property)
    }

    pub(super) fn holds(&mut self, property: Property, seen: impl Into<String>) {
        self.note(property, Verdict::Holds(seen.into()));
    }

    pub(super) fn broken_by(&mut self, property: Property, how: impl Into<String>) {
        self.note(property, Verdict::Broken(how.into()));
    }

    pub(super) fn not_claimed(&mut self, property: Property, why: impl Into<String>) {
        self.note(property, Verdict::NotClaimed(why.into()));
    }

    /// The first finding against a property stays, and none in its favour takes its place.
    fn note(&mut self, property: Property, verdict: Verdict) {
        match self.lines.iter_mut().find(|(noted, _)| *noted == property) {
            Some((_, Verdict::Broken(_))) => {}
            Some((_, noted)) => *noted = verdict,
            None => self.lines.push((property, verdict)),
        }
    }

    pub(super) fn sort(&mut self) {
        self.lines.sort_by_key(|(property, _)| Property::ALL.iter().position(|other| other == property));
    }
}

/// A line for each property, and what broke it in lines of its own.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (property, verdict)) in self.lines.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            let (name, promise) = (property.name(), property.promise());
            match verdict {
                Verdict::Holds(seen) if seen.is_empty() => write!(f, "ok      {name:<13} {promise}")?,
                Verdict::Holds(seen) => write!(f, "ok      {name:<13} {promise} ({seen})")?,
                Verdict::NotClaimed(why) => write!(f, "-       {name:<13} not claimed: {why}")?,
                Verdict::Broken(how) => {
                    write!(f, "BROKEN  {name:<13} {promise}")?;
                    for line in how.lines() {
                        write!(f, "\n          {line}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_broke_first_stays() {
        let mut report = Report::default();

        report.holds(Property::Known, "");
        report.broken_by(Property::Known, "this");
        report.broken_by(Property::Known, "that");
        report.holds(Property::Known, "");

        assert_eq!(report.lines, [(Property::Known, Verdict::Broken("this".into()))]);
        assert!(!report.is_fine());
    }
}
