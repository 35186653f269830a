//! A plugin as a step of a route that rewrites messages.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::Store;
use wasmtime::component::Instance as Linked;

use crate::filters::{
    BadEdit, BodyBroken, BodyFilter, FieldEdit, Filter, Flow, LocalResponse, Sides, TargetEdit, check_response,
    rewrite_request, rewrite_response,
};
use crate::http::facts::Exchange;
use crate::http::head::Fields;
use crate::plugins::bindings::exports::staunch::plugin::request_rewriter::{self, RequestAction};
use crate::plugins::bindings::exports::staunch::plugin::response_rewriter::{self, ResponseAction};
use crate::plugins::bindings::exports::staunch::plugin::{request_body_rewriter, response_body_rewriter};
use crate::plugins::bindings::staunch::plugin::edits;
use crate::plugins::body::{Body, Side, WasmBody};
use crate::plugins::error::{Fault, PluginError};
use crate::plugins::instance::{Asked, Instance, Phase, State};
use crate::plugins::rebuild::{Readiness, Slot};
use crate::plugins::uses::UseCore;

/// A rewriter on its way to its worker.
pub struct ReadyRewriter {
    sides: Sides,
    slot: Slot<Guest>,
}

struct WasmRewriter {
    sides: Sides,
    deadline: Duration,
    /// What becomes of a message when the plugin fails.
    on_failure: OnFailure,
    inner: Rc<RefCell<Inner>>,
}

#[derive(Clone, Copy)]
enum OnFailure {
    Skip,
    Deny,
}

pub(super) struct Inner {
    pub(super) slot: Slot<Guest>,
    /// The values passed to the call under way. Kept for its memory.
    wanted: Vec<Option<Vec<u8>>>,
    /// Bodies begun so far, which gives the next its name.
    bodies: u32,
}

/// The functions of a rewriter, at least one of them.
pub(super) struct Guest {
    request: Option<request_rewriter::Guest>,
    response: Option<response_rewriter::Guest>,
    pub(super) request_body: Option<request_body_rewriter::Guest>,
    pub(super) response_body: Option<response_body_rewriter::Guest>,
}

impl ReadyRewriter {
    pub(super) fn build(core: Arc<UseCore>, worker: usize) -> Result<Self, PluginError> {
        let instance = build(&core, worker)?;
        let (exports, asked) = (core.plugin.exports(), instance.asked());
        let sides = Sides {
            request: exports.request_rewriter && !asked.skips_requests,
            response: exports.response_rewriter && !asked.skips_responses,
            request_body: exports.request_body_rewriter && !asked.skips_requests,
            response_body: exports.response_body_rewriter && !asked.skips_responses,
        };
        Ok(Self { sides, slot: Slot::new(core, worker, instance) })
    }

    /// What it looks at.
    pub fn sides(&self) -> Sides {
        self.sides
    }

    /// Hands it what the rewriter before it has learned.
    ///
    /// # Errors
    /// When the plugin fails.
    pub fn restore(&mut self, state: &[u8]) -> Result<(), PluginError> {
        self.slot.restore(state)
    }

    /// Called on the worker's thread.
    pub fn into_filter(self) -> Rc<dyn Filter> {
        let Self { sides, slot } = self;
        let core = &slot.core;
        Rc::new(WasmRewriter {
            sides,
            deadline: core.deadline(),
            on_failure: if core.skips_failures() { OnFailure::Skip } else { OnFailure::Deny },
            inner: Rc::new(RefCell::new(Inner { slot, wanted: Vec::new(), bodies: 0 })),
        })
    }
}

impl Filter for WasmRewriter {
    fn sides(&self) -> Sides {
        self.sides
    }

    fn on_request(&self, exchange: &mut Exchange) -> Flow {
        self.run(exchange, Phase::OnRequest, wanted_of_request, |guest, store, wanted| match &guest.request {
            Some(guest) => guest.call_on_request(store, wanted),
            None => Ok(RequestAction::Proceed),
        })
    }

    fn on_response(&self, exchange: &mut Exchange) -> Flow {
        self.run(exchange, Phase::OnResponse, wanted_of_response, |guest, store, wanted| match &guest.response {
            Some(guest) => guest.call_on_response(store, wanted),
            None => Ok(ResponseAction::Proceed),
        })
    }

    fn on_request_body(&self, exchange: &mut Exchange) -> Result<Option<Box<dyn BodyFilter>>, BodyBroken> {
        self.begin(exchange, Side::Request)
    }

    fn on_response_body(&self, exchange: &mut Exchange) -> Result<Option<Box<dyn BodyFilter>>, BodyBroken> {
        self.begin(exchange, Side::Response)
    }

    fn save(&self) -> Option<Vec<u8>> {
        self.inner.borrow_mut().slot.save()
    }
}

/// What a rewriter answers, for a request or a response.
trait Action {
    /// Checks all of it, then does it.
    fn apply(self, exchange: &mut Exchange) -> Result<Flow, BadEdit>;
}

impl WasmRewriter {
    /// Asks whether a body is to be rewritten.
    fn begin(&self, exchange: &mut Exchange, side: Side) -> Result<Option<Box<dyn BodyFilter>>, BodyBroken> {
        let Inner { slot, bodies, .. } = &mut *self.inner.borrow_mut();
        let began = slot.share.begin();
        let Some(instance) = live(slot) else { return self.without(slot) };
        let id = *bodies;
        *bodies = bodies.wrapping_add(1);
        let begun =
            instance.call_with(exchange, side.phase(), self.deadline, |guest, store| side.begin(guest, store, id));
        slot.share.end(began);
        match begun {
            Ok(true) => {
                let body = Body { id, side, generation: slot.generation(), deadline: self.deadline, over: false };
                Ok(Some(Box::new(WasmBody { body, rewriter: self.inner.clone() })))
            }
            Ok(false) => Ok(None),
            Err(fault) => {
                slot.fault(&fault);
                self.without(slot)
            }
        }
    }

    fn without<T>(&self, slot: &Slot<Guest>) -> Result<Option<T>, BodyBroken> {
        match self.fall_back(slot) {
            Flow::Continue => Ok(None),
            _ => Err(BodyBroken),
        }
    }

    fn run<A: Action>(
        &self,
        exchange: &mut Exchange,
        phase: Phase,
        wanted_of: fn(&Asked, &Exchange, &mut Vec<Option<Vec<u8>>>),
        call: impl FnOnce(&Guest, &mut Store<State>, &[Option<Vec<u8>>]) -> wasmtime::Result<A>,
    ) -> Flow {
        let Inner { slot, wanted, .. } = &mut *self.inner.borrow_mut();
        let began = slot.share.begin();
        let Some(instance) = live(slot) else { return self.fall_back(slot) };

        wanted_of(instance.asked(), exchange, wanted);
        let answer = instance.call_with(exchange, phase, self.deadline, |guest, store| call(guest, store, wanted));
        slot.share.end(began);
        let applied = answer
            .and_then(|action| action.apply(exchange).map_err(|bad| Fault::answer(format!("it answered with {bad}"))));
        match applied {
            Ok(flow) => flow,
            Err(fault) => {
                slot.fault(&fault);
                self.fall_back(slot)
            }
        }
    }

    fn fall_back(&self, slot: &Slot<Guest>) -> Flow {
        slot.share.fall_back();
        match self.on_failure {
            OnFailure::Skip => Flow::Continue,
            OnFailure::Deny => Flow::Deny,
        }
    }
}

/// The instance to call, if there is one.
fn live(slot: &mut Slot<Guest>) -> Option<&mut Instance<Guest>> {
    let readiness = slot.ready(|core, worker| {
        let core = core.clone();
        Box::new(move || build(&core, worker))
    });
    match readiness {
        Readiness::Live | Readiness::Fresh => slot.live(),
        Readiness::Absent => None,
    }
}

impl Action for RequestAction {
    fn apply(self, exchange: &mut Exchange) -> Result<Flow, BadEdit> {
        let head = &mut exchange.request;
        match self {
            Self::Proceed => {}
            Self::Fields(fields) => rewrite_request(head, &[], &field_edits(fields))?,
            Self::Rewrite((target, fields)) => rewrite_request(head, &target_edits(target), &field_edits(fields))?,
            Self::Respond(response) => return respond(response),
        }
        Ok(Flow::Continue)
    }
}

impl Action for ResponseAction {
    fn apply(self, exchange: &mut Exchange) -> Result<Flow, BadEdit> {
        let head = &mut exchange.response;
        match self {
            Self::Proceed => {}
            Self::Fields(fields) => rewrite_response(head, None, &field_edits(fields))?,
            Self::Rewrite((status, fields)) => rewrite_response(head, Some(status), &field_edits(fields))?,
            Self::Replace(response) => return respond(response),
        }
        Ok(Flow::Continue)
    }
}

fn respond(response: edits::LocalResponse) -> Result<Flow, BadEdit> {
    let edits::LocalResponse { status, fields, body } = response;
    let response = LocalResponse { status, fields, body: body.into() };
    check_response(&response)?;
    Ok(Flow::Respond(response))
}

fn field_edits(edits: Vec<edits::FieldEdit>) -> Vec<FieldEdit> {
    let each = edits.into_iter().map(|edit| match edit {
        edits::FieldEdit::Set((name, value)) => FieldEdit::Set(name, value),
        edits::FieldEdit::Append((name, value)) => FieldEdit::Append(name, value),
        edits::FieldEdit::Remove(name) => FieldEdit::Remove(name),
    });
    each.collect()
}

fn target_edits(edits: Vec<request_rewriter::TargetEdit>) -> Vec<TargetEdit> {
    let each = edits.into_iter().map(|edit| match edit {
        request_rewriter::TargetEdit::PathAndQuery(path) => TargetEdit::PathAndQuery(path),
        request_rewriter::TargetEdit::Authority(authority) => TargetEdit::Authority(authority),
        request_rewriter::TargetEdit::Method(method) => TargetEdit::Method(method),
    });
    each.collect()
}

fn wanted_of_request(asked: &Asked, exchange: &Exchange, wanted: &mut Vec<Option<Vec<u8>>>) {
    read(&asked.request_fields, &exchange.request.fields, wanted);
}

fn wanted_of_response(asked: &Asked, exchange: &Exchange, wanted: &mut Vec<Option<Vec<u8>>>) {
    read(&asked.response_fields, &exchange.response.fields, wanted);
}

/// Copies the first value of each named field, into memory that is there already where it can.
fn read(names: &[String], fields: &Fields, wanted: &mut Vec<Option<Vec<u8>>>) {
    wanted.resize(names.len(), None);
    for (place, name) in wanted.iter_mut().zip(names) {
        match (fields.get(name.as_bytes()), &mut *place) {
            (Some(value), Some(copy)) => {
                copy.clear();
                copy.extend_from_slice(value);
            }
            (value, place) => *place = value.map(<[u8]>::to_vec),
        }
    }
}

fn build(core: &Arc<UseCore>, worker: usize) -> Result<Instance<Guest>, PluginError> {
    Instance::build(core, worker, None, bind)
}

fn bind(core: &UseCore, store: &mut Store<State>, linked: &Linked) -> wasmtime::Result<Guest> {
    let (pre, exports) = (core.plugin.pre(), core.plugin.exports());
    let request = match exports.request_rewriter {
        true => Some(request_rewriter::GuestIndices::new(pre)?.load(&mut *store, linked)?),
        false => None,
    };
    let response = match exports.response_rewriter {
        true => Some(response_rewriter::GuestIndices::new(pre)?.load(&mut *store, linked)?),
        false => None,
    };
    let request_body = match exports.request_body_rewriter {
        true => Some(request_body_rewriter::GuestIndices::new(pre)?.load(&mut *store, linked)?),
        false => None,
    };
    let response_body = match exports.response_body_rewriter {
        true => Some(response_body_rewriter::GuestIndices::new(pre)?.load(&mut *store, linked)?),
        false => None,
    };
    Ok(Guest { request, response, request_body, response_body })
}
