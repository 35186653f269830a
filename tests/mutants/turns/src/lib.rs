//! Smooth weighted round robin, and what can go wrong with it.

use std::collections::HashMap;
use std::hint::black_box;

use staunch_plugin::{
    Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Invalid, PickContext, PickError, clock,
    random, shared,
};

struct Turns {
    bug: String,
    endpoints: Endpoints,
    current: HashMap<EndpointId, i64>,
    /// For bugs that remember.
    seen: Vec<EndpointId>,
    given: u64,
    last: shared::Cell,
}

impl Turns {
    fn has(&self, bug: &str) -> bool {
        self.bug == bug
    }
}

impl Balancer for Turns {
    fn configure(config: &Config, _: &mut BalancerNeeds) -> Result<Self, Invalid> {
        Ok(Self {
            bug: config.get_or("bug", String::new()),
            endpoints: Endpoints::default(),
            current: HashMap::new(),
            seen: Vec::new(),
            given: 0,
            last: shared::Cell::new("last"),
        })
    }

    fn update(&mut self, endpoints: Endpoints) {
        if self.has("quadratic-update") {
            let busy =
                |one: &staunch_plugin::Endpoint| endpoints.iter().filter(|other| other.weight > one.weight).count();
            black_box(endpoints.iter().map(busy).sum::<usize>());
        }
        if self.has("unknown-after-churn") {
            let mut list: Vec<_> = self.endpoints.iter().cloned().collect();
            list.extend(endpoints.iter().filter(|e| self.endpoints.by_id(e.id).is_none()).cloned());
            self.endpoints = Endpoints::new(endpoints.version(), list);
            return;
        }
        self.endpoints = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        for change in changes {
            let Some(old) = self.endpoints.by_id(change.id).cloned() else { continue };
            let mut change = *change;
            if self.has("ignores-weight-changes") {
                change.weight = old.weight;
            }
            if self.has("forgets-to-come-back") {
                change.ready &= old.ready;
            }
            if !self.has("misses-readiness-changes") {
                self.endpoints.apply(&[change]);
            }
        }
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        let mut candidates: Vec<_> = match self.bug.as_str() {
            "ignores-readiness" => self.endpoints.iter().collect(),
            "picks-tried" | "uses-backups" => self.endpoints.ready().collect(),
            _ => self.endpoints.candidates(cx).collect(),
        };
        match self.bug.as_str() {
            "traps-on-empty" => {
                // The remainder of a division by nothing.
                let first = cx.attempt as usize % self.endpoints.ready().count();
                black_box(first);
            }
            "gives-up" if self.endpoints.iter().any(|e| !e.ready) => return Err(PickError::Unavailable),
            "overloaded" if cx.random % 64 == 0 => return Err(PickError::Overloaded),
            "skips-last" if candidates.len() > 1 => {
                candidates.pop();
            }
            "quadratic-pick" => {
                let heavier = |one: u32| candidates.iter().filter(|other| other.weight > one).count();
                black_box(candidates.iter().map(|e| heavier(e.weight)).sum::<usize>());
            }
            "never-ends" if candidates.len() > 5000 => loop {
                black_box(cx.random);
            },
            "leaks-memory" => self.seen.push(cx.attempt),
            "wall-clock" if clock::wall().as_nanos() % 7 == 0 => candidates.reverse(),
            "clock" if cx.now.as_nanos() % 7 == 0 => candidates.reverse(),
            "reads-clock" if clock::monotonic().as_nanos() % 7 == 0 => candidates.reverse(),
            "draws" if random::next() % 7 == 0 => candidates.reverse(),
            _ => {}
        }
        if self.has("remembers-across") {
            let last = self.last.load() as EndpointId;
            if last > 0 && cx.random % 8 == 0 {
                return Ok(last - 1);
            }
        }
        if self.has("bursts") {
            let parts: Vec<_> = candidates.iter().flat_map(|e| vec![e.id; e.weight as usize]).collect();
            self.given += 1;
            let at = (self.given - 1) as usize % parts.len().max(1);
            return parts.get(at).copied().ok_or(PickError::Unavailable);
        }
        let total: i64 = candidates.iter().map(|e| i64::from(e.weight)).sum();
        let mut best: Option<(usize, i64)> = None;
        for (at, endpoint) in candidates.iter().enumerate() {
            let current = self.current.entry(endpoint.id).or_default();
            *current += i64::from(if self.bug == "ignores-weights" { 1 } else { endpoint.weight });
            if best.is_none_or(|(_, most)| *current > most) {
                best = Some((at, *current));
            }
        }
        let (at, _) = best.ok_or(PickError::Unavailable)?;
        let id = candidates[at].id;
        let taken = if self.bug == "ignores-weights" { candidates.len() as i64 } else { total };
        if let Some(current) = self.current.get_mut(&id) {
            *current -= taken;
        }
        if self.has("remembers-across") {
            // Whoever wrote in between may as well have the last word.
            let _ = self.last.compare_exchange(self.last.load(), u64::from(id) + 1);
        }
        if self.has("position-for-id") {
            return Ok(self.endpoints.position(id).unwrap_or_default() as EndpointId);
        }
        Ok(id)
    }
}

staunch_plugin::export!(balancer: Turns);
