//! What a plugin may learn of its surroundings: settings, clocks, random numbers, loads.

use std::time::SystemTime;

use wasmtime::Result;

use crate::plugins::bindings::staunch::plugin::{clock, config, edits, loads, random, types};
use crate::plugins::clock::nanos;
use crate::plugins::instance::{Phase, State};

impl config::Host for State {
    fn get(&mut self, path: String) -> Result<Option<String>> {
        Ok(self.core.settings.get(&path).map(str::to_owned))
    }

    fn keys(&mut self, path: String) -> Result<Vec<String>> {
        Ok(self.core.settings.keys(&path))
    }
}

impl clock::Host for State {
    fn monotonic(&mut self) -> Result<u64> {
        Ok(self.core.now())
    }

    fn wall(&mut self) -> Result<u64> {
        if let Some(simulation) = &self.core.simulation {
            return Ok(simulation.wall());
        }
        Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, nanos))
    }
}

impl random::Host for State {
    fn next(&mut self) -> Result<u64> {
        Ok(match &self.core.simulation {
            Some(simulation) => simulation.random(self.phase == Phase::Pick),
            None => fastrand::u64(..),
        })
    }
}

impl loads::Host for State {
    fn active(&mut self, endpoint: u32) -> Result<u32> {
        Ok(self.loads.as_ref().map_or(0, |loads| loads.active(endpoint)))
    }

    fn active_all(&mut self) -> Result<Vec<u32>> {
        let Some(loads) = &self.loads else { return Ok(Vec::new()) };
        let all = (0..loads.endpoints() as u32).map(|id| loads.active(id)).collect();
        Ok(self.copied(all))
    }

    fn latency(&mut self, endpoint: u32) -> Result<u64> {
        Ok(self.loads.as_ref().map_or(0, |loads| nanos(loads.latency(endpoint))))
    }

    fn latency_all(&mut self) -> Result<Vec<u64>> {
        let Some(loads) = &self.loads else { return Ok(Vec::new()) };
        let all = (0..loads.endpoints() as u32).map(|id| nanos(loads.latency(id))).collect();
        Ok(self.copied(all))
    }
}

impl types::Host for State {}

impl edits::Host for State {}
