//! What answers a request when its upstream does not: another upstream, or an answer that is made here.
//!
//! An upstream retries by itself first. Then the route's steps are gone through in order, and each once: the first that
//! is meant for what went wrong takes over, and what goes wrong there is a matter for the steps behind it. Nothing of a
//! response has been sent by then. A request goes to another upstream only where a retry would be safe: nothing of it
//! reached an endpoint, or its method is idempotent, and its body is still here to be sent from its beginning.

use std::rc::Rc;

use tokio::time::Instant;

use crate::config::{Condition, Conditions};
use crate::filters::LocalResponse;
use crate::http::error::ExchangeError;
use crate::http::facts::{Exchange, FellBack};
use crate::http::h1;
use crate::http::site::{Route, Site};
use crate::http::upload::Upload;
use crate::net::Transport;
use crate::upstream::retry::MethodKind;
use crate::upstream::{Response, Sending, Upstream};

/// One step of a route's fallback.
pub(crate) struct Step<U = Rc<Upstream>> {
    pub(crate) on: Conditions,
    pub(crate) then: Then<U>,
}

pub(crate) enum Then<U = Rc<Upstream>> {
    Upstream(U),
    Answer(LocalResponse),
    File(LocalResponse),
}

/// What came of a request.
pub(crate) enum Forwarded<'r> {
    Response(Response),
    Answer(&'r LocalResponse),
}

/// Why an upstream's word may not be the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trouble {
    /// `None` for a response of an endpoint.
    condition: Option<Condition>,
    /// The response's, or the one that the proxy would answer with.
    status: u16,
}

/// Sends a request to its upstream, and on from there while that is in trouble and the route knows what to do.
pub(crate) async fn forward<'r>(
    site: &Site,
    route: &'r Route,
    client: &mut Transport,
    exchange: &mut Exchange,
    upload: &mut Upload,
    mut upstream: &'r Rc<Upstream>,
    deadline: Option<Instant>,
) -> Result<Forwarded<'r>, ExchangeError> {
    let mut steps = route.fallback.iter();
    loop {
        exchange.upstream.learn(upstream.name());
        let sending = Sending {
            upgrade: h1::requested_upgrade(&exchange.request).is_some(),
            opens: false,
            priority: route.priority,
            deadline,
            limits: &site.limits,
            client,
            exchange,
            upload,
        };
        let sent = upstream.send(sending).await.map_err(ExchangeError::from);
        if steps.as_slice().is_empty() {
            return sent.map(Forwarded::Response);
        }
        let trouble = match &sent {
            Ok(_) => Some(Trouble { condition: None, status: exchange.response.status }),
            Err(error) => Trouble::of(error),
        };
        let can_send = || {
            let is_safe = !exchange.is_sent || MethodKind::of(exchange.request.method()).is_idempotent();
            is_safe && upload.can_replay() && deadline.is_none_or(|deadline| Instant::now() < deadline)
        };
        let Some((trouble, step)) = trouble.and_then(|trouble| Some((trouble, next(&mut steps, trouble, can_send)?)))
        else {
            return sent.map(Forwarded::Response);
        };
        let why = match &sent {
            Ok(_) => FellBack::Status(trouble.status),
            Err(error) => FellBack::Failed(error.name()),
        };
        let to = match &step.then {
            Then::Upstream(_) => "upstream",
            Then::Answer(_) => "respond",
            Then::File(_) => "file",
        };
        route.metrics.fell_back(&route.name, trouble.condition, why, to);
        if let Some(timeout) = sent.as_ref().err().and_then(ExchangeError::timeout) {
            site.ledger.metrics.timed_out(timeout);
        }
        if let Ok(response) = sent {
            response.discard(exchange, upload);
        }
        exchange.fallback = Some((why, to));
        match &step.then {
            Then::Upstream(next) => {
                exchange.leave_upstream();
                upstream = next;
            }
            Then::Answer(answer) | Then::File(answer) => return Ok(Forwarded::Answer(answer)),
        }
    }
}

impl Trouble {
    /// What a failed exchange means for its route; nothing when the client or a rewriter is to blame.
    fn of(error: &ExchangeError) -> Option<Self> {
        Some(Self { condition: Some(error.condition()?), status: error.status()? })
    }
}

/// The first step that is meant for this and can be taken. Those before it are passed for good.
fn next<'s, U: 's>(
    steps: &mut impl Iterator<Item = &'s Step<U>>,
    trouble: Trouble,
    can_send: impl Fn() -> bool,
) -> Option<&'s Step<U>> {
    steps.find(|step| {
        step.on.hold(trouble.condition, trouble.status) && (!matches!(step.then, Then::Upstream(_)) || can_send())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, FallbackAction};

    /// The steps of a `fallback`, whose upstreams are numbers.
    fn steps(text: &str) -> Vec<Step<usize>> {
        let text = format!(
            "[[listeners]]\naddress = ':0'\n[upstreams]\na.endpoints = ['a:80']\nb.endpoints = ['a:80']\n\
             c.endpoints = ['a:80']\n[[routes]]\nupstream = 'a'\nfallback = [{text}]\n"
        );
        let config = Config::parse(&text, None).unwrap_or_else(|faults| panic!("{faults}"));
        let step = |fallback: config::Fallback| Step {
            on: fallback.on,
            then: match fallback.then {
                FallbackAction::Upstream(number) => Then::Upstream(number),
                FallbackAction::Answer(answer) => {
                    Then::Answer(LocalResponse { status: answer.status, ..LocalResponse::default() })
                }
            },
        };
        config.routes.into_iter().next().unwrap().fallback.into_iter().map(step).collect()
    }

    use crate::config;

    fn failed(condition: Condition) -> Trouble {
        let status = match condition {
            Condition::Error => 502,
            Condition::Timeout => 504,
            Condition::NoEndpoint | Condition::BreakerOpen | Condition::Overload => 503,
        };
        Trouble { condition: Some(condition), status }
    }

    fn answered(status: u16) -> Trouble {
        Trouble { condition: None, status }
    }

    /// Where each trouble in turn leads: upstreams by number, answers by status.
    fn walk(steps: &[Step<usize>], troubles: &[Trouble], can_send: bool) -> Vec<usize> {
        let mut left = steps.iter();
        let taken = |trouble: &Trouble| {
            next(&mut left, *trouble, || can_send).map(|step| match &step.then {
                Then::Upstream(number) => *number,
                Then::Answer(answer) | Then::File(answer) => usize::from(answer.status),
            })
        };
        troubles.iter().map_while(taken).collect()
    }

    #[test]
    fn steps_are_taken_in_order_and_once() {
        let steps = steps(
            "{ upstream = 'b', on = ['timeout', '503'] }, { upstream = 'c' }, { respond = { status = 500 }, on = ['error'] }",
        );
        use Condition::{Error, NoEndpoint, Timeout};

        for (troubles, taken) in [
            (vec![failed(Timeout), failed(NoEndpoint), failed(Error)], vec![1, 2, 500]),
            (vec![failed(Error), failed(Timeout)], vec![2]),
            (vec![answered(503), answered(503)], vec![1]),
            (vec![answered(502)], vec![]),
            (vec![answered(200)], vec![]),
        ] {
            assert_eq!(walk(&steps, &troubles, true), taken, "for {troubles:?}");
        }
    }

    #[test]
    fn a_request_that_may_not_be_sent_again_still_gets_an_answer() {
        let steps = steps("{ upstream = 'b' }, { respond = { status = 500 } }");

        assert_eq!(walk(&steps, &[failed(Condition::Error)], false), [500]);
    }
}
