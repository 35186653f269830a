//! Cases of a retry policy.

use std::rc::Rc;
use std::sync::Arc;

use fastrand::Rng;

use crate::author::rig::{Broke, fault_of};
use crate::author::subject::Subject;
use crate::http::facts::{Exchange, Facts};
use crate::plugins::{Kind, Simulation, Use};
use crate::upstream::retry::{EndedAttempt, Failure, MethodKind, Outcome, RetryPlan, RetryPolicy};

use super::file::{DecideEntry, Delay, PlanExpected, RequestEntry, Step};
use super::{Player, Told, differ, message, misplaced};

const FAILURES: [(&str, Failure); 7] = [
    ("connect", Failure::Connect),
    ("connect-timeout", Failure::ConnectTimeout),
    ("tls", Failure::Tls),
    ("reset", Failure::Reset),
    ("response-timeout", Failure::ResponseTimeout),
    ("protocol", Failure::Protocol),
    ("overload", Failure::Overload),
];

pub(super) struct Play {
    world: Arc<Simulation>,
    used: Use,
    policy: Rc<dyn RetryPolicy>,
    exchange: Exchange,
}

impl Play {
    pub(super) fn new(subject: &Subject, world: &Arc<Simulation>) -> Result<Self, Broke> {
        let used = subject.simulate(Kind::Retry, world.clone())?;
        let policy = used.retry(0)?.into_policy();
        Ok(Self { world: world.clone(), used, policy, exchange: Exchange::new(Facts::new(None, false)) })
    }

    fn decide(&mut self, step: &Step, entry: &DecideEntry, random: u64) -> Told {
        message::request(&mut self.exchange, step.request.as_ref().unwrap_or(&RequestEntry::default()));
        let outcome = match (entry.status, entry.failed.as_deref()) {
            (Some(status), None) => Outcome::Status(status),
            (None, Some(name)) => {
                let named = FAILURES.iter().find(|(known, _)| *known == name);
                let names = FAILURES.map(|(name, _)| format!("`{name}`")).join(", ");
                Outcome::Failed(named.ok_or_else(|| format!("`failed` must be one of {names}"))?.1)
            }
            _ => return Err("`decide` has a `status` or a `failed`".to_owned()),
        };
        if let Outcome::Status(status) = outcome {
            if !self.policy.needs().wants(status) {
                return check(step, None, " (the policy does not ask about this status)");
            }
            if let Some(response) = &step.response {
                message::response(&mut self.exchange, response);
            }
            self.exchange.response.status = status;
        }
        let sent = entry.sent.unwrap_or(!matches!(outcome, Outcome::Failed(Failure::Connect)));
        let method = MethodKind::of(self.exchange.request.method());
        if sent && !method.is_idempotent() && !self.policy.needs().non_idempotent {
            return check(step, None, " (the policy does not ask about requests that are not idempotent)");
        }
        self.exchange.tried.push(entry.endpoint);
        let attempt = EndedAttempt {
            outcome,
            endpoint: entry.endpoint,
            attempt: entry.attempt,
            method,
            sent,
            elapsed: entry.elapsed.0,
            remaining: entry.remaining.map(|span| span.0),
            budget: entry.budget.unwrap_or(10),
            retry_after: entry.retry_after.map(|span| span.0),
            random,
        };
        let plan = self.policy.decide(&mut self.exchange, attempt);
        if let Some(broke) = fault_of(&self.used) {
            return Err(broke.message);
        }
        check(step, plan, "")
    }
}

impl Player for Play {
    fn play(&mut self, step: &Step, rng: &mut Rng) -> Told {
        if let Some(entry) = &step.decide {
            self.decide(step, entry, step.random.unwrap_or_else(|| rng.u64(..)))
        } else if let Some(wait) = &step.wait {
            self.world.advance(wait.0);
            Ok(())
        } else {
            Err(misplaced(Kind::Retry, "`decide` and `wait`"))
        }
    }
}

/// Compares a decision with what the step expects of it.
fn check(step: &Step, plan: Option<RetryPlan>, why: &str) -> Told {
    let got = match plan {
        None => format!("give-up{why}"),
        Some(plan) => format!("{{ delay = \"{:?}\", elsewhere = {} }}", plan.delay, plan.elsewhere),
    };
    let Some(expected) = &step.expect else { return Err("the step has no `expect`".to_owned()) };
    let fits = match (expected.as_str(), plan) {
        (Some("give-up"), None) => true,
        (Some("give-up"), Some(_)) => false,
        (Some(_), _) => return Err("`expect` is \"give-up\" or { delay = …, elsewhere = … }".to_owned()),
        (None, plan) => {
            let expected: PlanExpected = expected.clone().try_into().map_err(|error| error.to_string())?;
            plan.is_some_and(|plan| expected.fits(plan))
        }
    };
    if fits { Ok(()) } else { Err(differ("", expected, got)) }
}

impl PlanExpected {
    fn fits(&self, plan: RetryPlan) -> bool {
        let delay = match &self.delay {
            None => true,
            Some(Delay::Exactly(span)) => plan.delay == span.0,
            Some(Delay::Between([least, most])) => (least.0..=most.0).contains(&plan.delay),
        };
        delay && self.elsewhere.is_none_or(|elsewhere| elsewhere == plan.elsewhere)
    }
}
