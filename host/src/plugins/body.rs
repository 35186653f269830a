//! A body in the hands of the rewriter's instance that began it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use wasmtime::Store;

use crate::filters::{BodyBroken, BodyFilter};
use crate::plugins::error::Fault;
use crate::plugins::instance::{Phase, State};
use crate::plugins::rewriter::{Guest, Inner};

/// Bytes that a piece may become.
const MAX_REWRITTEN: usize = 1024 * 1024;

/// Which message a body belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

/// A body that an instance rewrites.
pub(super) struct WasmBody {
    pub(super) body: Body,
    pub(super) rewriter: Rc<RefCell<Inner>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    pub(super) id: u32,
    pub(super) side: Side,
    /// The instance that began it. No other can go on with it.
    pub(super) generation: u64,
    pub(super) deadline: Duration,
    /// Whether the instance has forgotten it.
    pub(super) over: bool,
}

impl Side {
    /// What the plugin is doing when it looks at the message.
    pub(super) fn phase(self) -> Phase {
        match self {
            Self::Request => Phase::OnRequest,
            Self::Response => Phase::OnResponse,
        }
    }

    pub(super) fn begin(self, guest: &Guest, store: &mut Store<State>, id: u32) -> wasmtime::Result<bool> {
        match (self, &guest.request_body, &guest.response_body) {
            (Self::Request, Some(guest), _) => guest.call_begin(store, id),
            (Self::Response, _, Some(guest)) => guest.call_begin(store, id),
            _ => Ok(false),
        }
    }

    fn rewrite(
        self,
        guest: &Guest,
        store: &mut Store<State>,
        id: u32,
        piece: &[u8],
        last: bool,
    ) -> wasmtime::Result<Vec<u8>> {
        match (self, &guest.request_body, &guest.response_body) {
            (Self::Request, Some(guest), _) => guest.call_rewrite(store, id, piece, last),
            (Self::Response, _, Some(guest)) => guest.call_rewrite(store, id, piece, last),
            _ => Ok(piece.to_vec()),
        }
    }

    fn abandon(self, guest: &Guest, store: &mut Store<State>, id: u32) -> wasmtime::Result<()> {
        match (self, &guest.request_body, &guest.response_body) {
            (Self::Request, Some(guest), _) => guest.call_abandon(store, id),
            (Self::Response, _, Some(guest)) => guest.call_abandon(store, id),
            _ => Ok(()),
        }
    }
}

impl BodyFilter for WasmBody {
    fn rewrite(&mut self, piece: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), BodyBroken> {
        let Body { id, side, generation, deadline, .. } = self.body;
        let slot = &mut self.rewriter.borrow_mut().slot;
        let began = slot.share.begin();
        let Some(instance) = slot.still(generation) else {
            self.body.over = true;
            slot.share.fall_back();
            return Err(BodyBroken);
        };
        let rewritten = instance
            .call(Phase::Other, deadline, |guest, store| side.rewrite(guest, store, id, piece, last))
            .and_then(|rewritten| match rewritten.len() {
                0..=MAX_REWRITTEN => Ok(rewritten),
                length => Err(Fault::answer(format!("it made {length} bytes of a piece of a body"))),
            });
        slot.share.end(began);
        match rewritten {
            Ok(rewritten) => {
                self.body.over = last;
                out.extend_from_slice(&rewritten);
                Ok(())
            }
            Err(fault) => {
                self.body.over = true;
                slot.fault(&fault);
                slot.share.fall_back();
                Err(BodyBroken)
            }
        }
    }
}

impl Drop for WasmBody {
    fn drop(&mut self) {
        let Body { id, side, generation, deadline, over } = self.body;
        let Ok(mut rewriter) = self.rewriter.try_borrow_mut() else { return };
        let slot = &mut rewriter.slot;
        if over {
            return;
        }
        let Some(instance) = slot.still(generation) else { return };
        let told = instance.call(Phase::Other, deadline, |guest, store| side.abandon(guest, store, id));
        if let Err(fault) = told {
            slot.fault(&fault);
        }
    }
}
