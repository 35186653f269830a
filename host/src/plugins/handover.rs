//! What an instance has learned, taken from it and given to the one that takes its place.

use crate::plugins::error::{Fault, PluginError};
use crate::plugins::instance::{Instance, Phase, SAVE_DEADLINE, SETUP_DEADLINE};
use crate::plugins::rebuild::Slot;

/// Bytes of a state.
const MAX_STATE: usize = 1024 * 1024;

impl<G> Instance<G> {
    /// What the instance has learned; `None` when it does not hand anything over.
    fn save(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let Some(handover) = self.handover.take() else { return Ok(None) };
        let state = self.call(Phase::Other, SAVE_DEADLINE, |_, store| handover.call_save(store))?;
        self.handover = Some(handover);
        if state.len() > MAX_STATE {
            return Err(Fault::answer(format!("it saved {} bytes, and a state has {MAX_STATE} at most", state.len())));
        }
        Ok(Some(state))
    }

    /// Hands it what the instance before it has learned.
    fn restore(&mut self, state: &[u8]) -> Result<(), Fault> {
        let Some(handover) = self.handover.take() else { return Ok(()) };
        self.call(Phase::Other, SETUP_DEADLINE, |_, store| handover.call_restore(store, state))?;
        self.handover = Some(handover);
        Ok(())
    }
}

impl<G: Send + 'static> Slot<G> {
    /// What the instance has learned, if it is there and hands it over.
    pub(super) fn save(&mut self) -> Option<Vec<u8>> {
        match self.live()?.save() {
            Ok(state) => state,
            Err(fault) => {
                self.fault(&fault);
                None
            }
        }
    }

    /// Hands a fresh instance what the one before it has learned.
    pub(super) fn restore(&mut self, state: &[u8]) -> Result<(), PluginError> {
        let Some(instance) = self.live() else { return Ok(()) };
        instance.restore(state).map_err(|fault| self.core.failed("restore", fault))
    }
}
