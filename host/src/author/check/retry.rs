//! A retry policy before its judge: asked about every way an attempt can end.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use crate::author::people;
use crate::author::rig::{Broke, EPOCH, fault_of, world};
use crate::author::subject::Subject;
use crate::http::facts::{Exchange, Facts};
use crate::plugins::{Cause, Kind, Simulation, Use};
use crate::upstream::retry::{EndedAttempt, Failure, MethodKind, Outcome, RetryPlan, RetryPolicy};

use super::balancer::{Claim, Claims};
use super::cost::Memory;
use super::report::{Property, Report};

const QUESTIONS: usize = 6000;
const LONGEST_DELAY: Duration = Duration::from_secs(600);

/// A policy in a world of its own.
struct Trial {
    world: Arc<Simulation>,
    used: Use,
    policy: Rc<dyn RetryPolicy>,
    exchange: Exchange,
}

pub(super) fn judge(subject: &Subject, seed: u64, claims: &Claims) -> Report {
    let mut report = Report::default();
    let one = world(seed);
    let Some(plans) = ask(subject, &one, seed, &mut report) else {
        report.sort();
        return report;
    };
    report.holds(Property::Survival, format!("{QUESTIONS} questions"));
    report.holds(Property::Deadline, "");
    report.holds(Property::Delays, "");
    if claims.says(Claim::Determinism) == Some(false) {
        report.not_claimed(Property::Determinism, "nobody wants it to be");
    } else {
        determinism(subject, &one, seed, &plans, &mut report);
    }
    if claims.ask_for(&[Property::Memory]) {
        memory(subject, seed, &mut report);
    }
    report.sort();
    report
}

/// Asks every question; `None` when it broke over one.
fn ask(subject: &Subject, world: &Arc<Simulation>, seed: u64, report: &mut Report) -> Option<Vec<Option<RetryPlan>>> {
    let mut trial = match Trial::new(subject, world) {
        Ok(trial) => trial,
        Err(broke) => {
            report.broken_by(property_of(&broke), broke.message);
            return None;
        }
    };
    let mut rng = Rng::with_seed(seed);
    let mut plans = Vec::with_capacity(QUESTIONS);
    for number in 0..QUESTIONS {
        let attempt = trial.question(&mut rng);
        let plan = match trial.decide(number as u64, attempt) {
            Ok(plan) => plan,
            Err(broke) => {
                let message = format!("{}\nasked (question {}, seed {seed}) {attempt:?}", broke.message, number + 1);
                report.broken_by(property_of(&broke), message);
                return None;
            }
        };
        if let Some(plan) = plan
            && plan.delay > LONGEST_DELAY.max(attempt.retry_after.unwrap_or_default())
        {
            let message = format!("it would wait for {:?}, asked (seed {seed}) {attempt:?}", plan.delay);
            report.broken_by(Property::Delays, message);
        }
        plans.push(plan);
        trial.world.advance(Duration::from_millis(rng.u64(0..50)));
    }
    Some(plans)
}

/// The same questions at the same times bring the same decisions. A policy may go by the clock: allowances are for
/// so many seconds.
fn determinism(subject: &Subject, one: &Simulation, seed: u64, expected: &[Option<RetryPlan>], report: &mut Report) {
    let again = Arc::new(Simulation::new(one.began(), EPOCH, seed));
    let Some(got) = ask(subject, &again, seed, report) else { return };
    match expected.iter().zip(&got).position(|(one, other)| one != other) {
        Some(at) => {
            let message = format!("decision {} was {:?} and then {:?} (seed {seed})", at + 1, expected[at], got[at]);
            report.broken_by(Property::Determinism, message);
        }
        None => report.holds(Property::Determinism, ""),
    }
}

fn memory(subject: &Subject, seed: u64, report: &mut Report) {
    let mut memory = Memory::default();
    let Ok(mut trial) = Trial::new(subject, &world(seed)) else { return };
    let mut rng = Rng::with_seed(seed);
    memory.watch(report, seed, |number| {
        let attempt = trial.question(&mut rng);
        trial.decide(number, attempt).map(|_| trial.world.cost().memory)
    });
}

impl Trial {
    fn new(subject: &Subject, world: &Arc<Simulation>) -> Result<Self, Broke> {
        let used = subject.simulate(Kind::Retry, world.clone())?;
        let policy = used.retry(0)?.into_policy();
        Ok(Self { world: world.clone(), used, policy, exchange: Exchange::new(Facts::new(None, false)) })
    }

    /// An attempt that this policy can be asked about.
    fn question(&self, rng: &mut Rng) -> EndedAttempt {
        const FAILURES: [Failure; 7] = [
            Failure::Connect,
            Failure::ConnectTimeout,
            Failure::Tls,
            Failure::Reset,
            Failure::ResponseTimeout,
            Failure::Protocol,
            Failure::Overload,
        ];
        let needs = self.policy.needs();
        let outcome = match rng.choice(&needs.statuses).filter(|_| rng.bool()) {
            Some(&(first, last)) => Outcome::Status(rng.u16(first..=last)),
            None => Outcome::Failed(FAILURES[rng.usize(..FAILURES.len())]),
        };
        let sent = matches!(outcome, Outcome::Status(_)) || rng.bool();
        let may_be_any = !sent || needs.non_idempotent;
        let method = match rng.u32(..if may_be_any { 3 } else { 2 }) {
            0 => MethodKind::Safe,
            1 => MethodKind::Idempotent,
            _ => MethodKind::Other,
        };
        let seconds = |rng: &mut Rng| Duration::from_secs([0, 1, 2, 30, 86_400, u32::MAX.into()][rng.usize(..6)]);
        let after = matches!(outcome, Outcome::Status(_)) && rng.u32(..4) == 0;
        EndedAttempt {
            outcome,
            endpoint: rng.u32(..8),
            attempt: [0, 0, 1, 2, 3, 10, 31, 32, 63, 64, 100, u32::MAX][rng.usize(..12)],
            method,
            sent,
            elapsed: Duration::from_nanos([0, 1, 999, 50_000_000, 1_000_000_000, 1 << 60][rng.usize(..6)]),
            remaining: rng
                .bool()
                .then(|| Duration::from_nanos([1, 1_000_000, 30_000_000_000, u64::MAX][rng.usize(..4)])),
            budget: [0, 1, 3, 100, u32::MAX][rng.usize(..5)],
            retry_after: after.then(|| seconds(rng)),
            random: [0, u64::MAX, rng.u64(..), rng.u64(..)][rng.usize(..4)],
        }
    }

    fn decide(&mut self, who: u64, attempt: EndedAttempt) -> Result<Option<RetryPlan>, Broke> {
        people::ask(&mut self.exchange, who, &[]);
        let method = match attempt.method {
            MethodKind::Safe => "GET",
            MethodKind::Idempotent => "PUT",
            MethodKind::Other => "POST",
        };
        self.exchange.request.set_method(method);
        if let Outcome::Status(status) = attempt.outcome {
            let response = &mut self.exchange.response;
            response.status = status;
            response.fields.append(b"grpc-status", (who % 18).to_string().as_bytes());
            if let Some(after) = attempt.retry_after {
                response.fields.append(b"retry-after", after.as_secs().to_string().as_bytes());
            }
        }
        self.exchange.tried.push(attempt.endpoint);
        let plan = self.policy.decide(&mut self.exchange, attempt);
        match plan {
            Some(_) => Ok(plan),
            None => fault_of(&self.used).map_or(Ok(None), Err),
        }
    }
}

fn property_of(broke: &Broke) -> Property {
    match broke.cause {
        Cause::Deadline => Property::Deadline,
        Cause::Memory => Property::Memory,
        _ => Property::Survival,
    }
}
