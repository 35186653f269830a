//! Cases of a rewriter.

use std::rc::Rc;
use std::sync::Arc;

use fastrand::Rng;

use crate::author::rig::{Broke, fault_of};
use crate::author::subject::Subject;
use crate::filters::{BodyBroken, BodyFilter, Filter, Flow, LocalResponse};
use crate::http::facts::{Exchange, Facts};
use crate::plugins::{Kind, Simulation, Use};

use super::file::{MessageExpected, RespondExpected, Step};
use super::message::{self, check_values};
use super::{Player, Told, differ, misplaced};

pub(super) struct Play {
    world: Arc<Simulation>,
    used: Use,
    filter: Rc<dyn Filter>,
    exchange: Exchange,
}

impl Play {
    pub(super) fn new(subject: &Subject, world: &Arc<Simulation>) -> Result<Self, Broke> {
        let used = subject.simulate(Kind::Rewriter, world.clone())?;
        let filter = used.rewriter(0)?.into_filter();
        let exchange = Exchange::new(Facts::new(None, false));
        Ok(Self { world: world.clone(), used, filter, exchange })
    }

    /// What a body becomes; `None` when the message has none, or does not go on.
    fn body(
        &mut self,
        flow: &Flow,
        pieces: Option<&[String]>,
        begin: impl FnOnce(&dyn Filter, &mut Exchange) -> Result<Option<Box<dyn BodyFilter>>, BodyBroken>,
    ) -> Result<Option<String>, String> {
        let Some(pieces) = pieces.filter(|_| *flow == Flow::Continue) else { return Ok(None) };
        let broke = |_| fault_of(&self.used).map_or_else(|| "it failed on the body".to_owned(), |broke| broke.message);
        let Some(mut filter) = begin(&*self.filter, &mut self.exchange).map_err(broke)? else {
            return Ok(Some(pieces.concat()));
        };
        let mut out = Vec::new();
        for piece in pieces {
            filter.rewrite(piece.as_bytes(), false, &mut out).map_err(broke)?;
        }
        filter.rewrite(&[], true, &mut out).map_err(broke)?;
        Ok(Some(String::from_utf8_lossy(&out).into_owned()))
    }

    fn check(
        &self,
        step: &Step,
        flow: Flow,
        body: Option<String>,
        of: fn(&Exchange, &MessageExpected) -> Result<(), String>,
    ) -> Told {
        if let Some(broke) = fault_of(&self.used) {
            return Err(broke.message);
        }
        let Some(expected) = &step.expect else { return Ok(()) };
        let expected: MessageExpected = expected.clone().try_into().map_err(|error| error.to_string())?;
        match (flow, &expected.respond) {
            (Flow::Respond(got), Some(respond)) => check_local(&got, respond)?,
            (Flow::Respond(got), None) => {
                return Err(differ("", "a message that goes on", format!("a response with {}", got.status)));
            }
            (_, Some(_)) => return Err(differ("", "a response of the plugin's own", "a message that goes on")),
            (_, None) => of(&self.exchange, &expected)?,
        }
        if let Some(wanted) = expected.body.filter(|wanted| Some(wanted) != body.as_ref()) {
            return Err(differ("the body", wanted, body.as_deref().unwrap_or("none")));
        }
        let delay = self.exchange.delay;
        if let Some(wanted) = expected.delay.filter(|wanted| wanted.0 != delay.unwrap_or_default()) {
            return Err(differ("the delay", format!("{:?}", wanted.0), format!("{:?}", delay.unwrap_or_default())));
        }
        let sent_to = self.exchange.send_to.as_deref();
        match &expected.send_to {
            Some(wanted) if Some(&**wanted) != sent_to => {
                Err(differ("the upstream", wanted, sent_to.unwrap_or("the route's own")))
            }
            _ => Ok(()),
        }
    }
}

impl Player for Play {
    fn play(&mut self, step: &Step, _: &mut Rng) -> Told {
        if let Some(request) = &step.request {
            message::request(&mut self.exchange, request);
            let flow = match self.filter.sides().request {
                true => self.filter.on_request(&mut self.exchange),
                false => Flow::Continue,
            };
            let looks = self.filter.sides().request_body;
            let body = self.body(&flow, request.body.as_deref(), |filter, exchange| match looks {
                true => filter.on_request_body(exchange),
                false => Ok(None),
            })?;
            self.check(step, flow, body, message::check_request)
        } else if let Some(response) = &step.response {
            message::response(&mut self.exchange, response);
            let flow = match self.filter.sides().response {
                true => self.filter.on_response(&mut self.exchange),
                false => Flow::Continue,
            };
            let looks = self.filter.sides().response_body;
            let body = self.body(&flow, response.body.as_deref(), |filter, exchange| match looks {
                true => filter.on_response_body(exchange),
                false => Ok(None),
            })?;
            self.check(step, flow, body, message::check_response)
        } else if let Some(wait) = &step.wait {
            self.world.advance(wait.0);
            Ok(())
        } else {
            Err(misplaced(Kind::Rewriter, "`request`, `response` and `wait`"))
        }
    }
}

fn check_local(got: &LocalResponse, expected: &RespondExpected) -> Told {
    if let Some(status) = expected.status.filter(|status| *status != got.status) {
        return Err(differ("the status", status, got.status));
    }
    for (name, values) in &expected.headers {
        let same = got.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let got: Vec<_> = same.map(|(_, value)| value.escape_ascii().to_string()).collect();
        check_values(name, values, &got)?;
    }
    let body = String::from_utf8_lossy(&got.body);
    match &expected.body {
        Some(wanted) if *wanted != body => Err(differ("the body", wanted, body)),
        _ => Ok(()),
    }
}
