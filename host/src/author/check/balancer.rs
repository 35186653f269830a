//! A balancer before its judge: what kind it is, what it claims, and each property in turn.

use std::time::Duration;

use fastrand::Rng;

use crate::author::rig::{Ask, Broke, Rig};
use crate::author::subject::Subject;
use crate::plugins::Cause;
use crate::upstream::balancer::{FeedbackKind, Pick};

use super::report::{Property, Report};
use super::{cost, determinism, keyed, loads, parts, walk};

/// A property that not every balancer is meant to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    Fairness,
    Affinity,
    Consistency,
    Loads,
    Determinism,
}

impl Claim {
    pub const ALL: [Self; 5] = [Self::Fairness, Self::Affinity, Self::Consistency, Self::Loads, Self::Determinism];

    pub fn name(self) -> &'static str {
        match self {
            Self::Fairness => "fairness",
            Self::Affinity => "affinity",
            Self::Consistency => "consistency",
            Self::Loads => "loads",
            Self::Determinism => "determinism",
        }
    }
}

/// What the author says of the plugin. What is not said is made out from what it asks for and how it picks.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    pub made: Vec<Claim>,
    pub denied: Vec<Claim>,
    /// The properties to judge; empty: all.
    pub only: Vec<Property>,
}

impl Claims {
    /// Whether any of these is to be judged. Every experiment may find that a call fails, or that nothing is picked.
    pub(super) fn ask_for(&self, properties: &[Property]) -> bool {
        let is_wanted = |property| [Property::Survival, Property::Availability].contains(property);
        self.only.is_empty()
            || self.only.iter().any(is_wanted)
            || properties.iter().any(|property| self.only.contains(property))
    }

    pub(super) fn says(&self, claim: Claim) -> Option<bool> {
        match claim {
            _ if self.made.contains(&claim) => Some(true),
            _ if self.denied.contains(&claim) => Some(false),
            _ => None,
        }
    }
}

/// What can be seen of a balancer.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) keyed: bool,
    pub(super) reads_loads: bool,
    /// It hears of every attempt.
    pub(super) learns: bool,
    pub(super) reads_requests: bool,
    pub(super) delegates: bool,
    pub(super) manner: Manner,
}

/// How a balancer picks when nothing but time goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// It stays with one endpoint.
    Stays,
    /// Endpoints take turns, whatever the random numbers are.
    Turns,
    Random,
}

pub(super) fn judge(subject: &Subject, seed: u64, claims: &Claims) -> Report {
    let mut report = Report::default();
    let profile = match Profile::of(subject, seed) {
        Ok(profile) => profile,
        Err(broke) => {
            let property = match broke.cause {
                Cause::Deadline => Property::Deadline,
                Cause::Memory => Property::Memory,
                _ => Property::Survival,
            };
            report.broken_by(property, format!("{} (three endpoints, seed {seed})", broke.message));
            walk::judge(subject, seed, &mut report);
            report.sort();
            return report;
        }
    };
    if claims.ask_for(&walk::JUDGED) {
        walk::judge(subject, seed, &mut report);
    }
    let mut experiment = |property, run: &mut dyn FnMut(&mut Report) -> Result<(), parts::Trouble>| {
        if claims.ask_for(&[property])
            && let Err(trouble) = run(&mut report)
        {
            trouble.note(property, &mut report);
        }
    };
    experiment(Property::Spread, &mut |report| parts::spread(subject, seed, &profile, report));
    experiment(Property::Return, &mut |report| parts::comeback(subject, seed, report));
    experiment(Property::Weights, &mut |report| parts::weights(subject, seed, report));
    experiment(Property::Fairness, &mut |report| parts::fairness(subject, seed, &profile, claims, report));
    experiment(Property::Affinity, &mut |report| keyed::affinity(subject, seed, &profile, claims, report));
    experiment(Property::Consistency, &mut |report| keyed::consistency(subject, seed, &profile, claims, report));
    experiment(Property::Loads, &mut |report| loads::loads(subject, seed, &profile, claims, report));
    experiment(Property::Recovery, &mut |report| loads::recovery(subject, seed, report));
    experiment(Property::Memory, &mut |report| cost::memory(subject, seed, report));
    if claims.ask_for(&[Property::Determinism]) {
        determinism::judge(subject, seed, claims, &mut report);
    }
    if claims.ask_for(&[Property::Deadline, Property::Growth, Property::Known, Property::Readiness, Property::Tried]) {
        cost::judge(subject, seed, &mut report);
    }
    report.sort();
    report
}

impl Profile {
    fn of(subject: &Subject, seed: u64) -> Result<Self, Broke> {
        let mut rig = Rig::of(subject, seed, &[1, 1, 1])?;
        let needs = rig.needs().clone();
        let [one, other] = [seed, !seed].map(|seed| Self::pattern(subject, seed));
        let (one, other) = (one?, other?);
        let manner = match one.iter().zip(&other).all(|(a, b)| a == b) {
            _ if one.iter().chain(&other).all(|pick| *pick == one[0]) => Manner::Stays,
            true => Manner::Turns,
            false => Manner::Random,
        };
        rig.wait(Duration::ZERO)?;
        Ok(Self {
            keyed: !needs.key.is_empty(),
            reads_loads: subject.imports("loads"),
            learns: needs.feedback == Some(FeedbackKind::EveryAttempt),
            reads_requests: subject.imports("request"),
            delegates: subject.imports("delegate"),
            manner,
        })
    }

    /// Where the requests of one client go. The random numbers are those of the seed.
    fn pattern(subject: &Subject, seed: u64) -> Result<Vec<Pick>, Broke> {
        let mut picks = Vec::new();
        for weights in [&[1, 1, 1][..], &[1, 2, 3, 4]] {
            let (mut rng, mut rig) = (Rng::with_seed(seed), Rig::of(subject, seed, weights)?);
            for _ in 0..40 {
                picks.push(rig.pick(Ask { who: 1, random: rng.u64(..), tried: &[] })?);
            }
        }
        Ok(picks)
    }
}
