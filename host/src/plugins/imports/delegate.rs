//! The balancer behind the one that is called.

use wasmtime::Result;

use crate::http::facts::Exchange;
use crate::plugins::bindings::staunch::plugin::delegate::{self, NoPick};
use crate::plugins::instance::{Phase, State};
use crate::upstream::balancer::Pick;

/// The name of no group.
const NONE: u32 = u32::MAX;

impl delegate::Host for State {
    fn group(&mut self, endpoints: Vec<u32>) -> Result<u32> {
        if self.phase != Phase::Update {
            return Ok(NONE);
        }
        let worker = self.share.worker;
        Ok(self.behind.group(&self.core, worker, &endpoints)?.unwrap_or(NONE))
    }

    fn pick(&mut self, group: u32) -> Result<std::result::Result<u32, NoPick>> {
        let Some(facts) = self.facts.take() else { return Ok(Err(NoPick::Unavailable)) };
        let mut exchange = Exchange::lent(facts);
        let picked = if self.phase == Phase::Pick { self.behind.pick(group, &mut exchange) } else { Pick::Unavailable };
        self.facts = Some(exchange.lend());
        Ok(match picked {
            Pick::Endpoint(id) => Ok(id),
            Pick::Overloaded => Err(NoPick::Overloaded),
            Pick::Unavailable | Pick::Abstain => Err(NoPick::Unavailable),
        })
    }
}
