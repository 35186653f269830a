//! Weighted chance, and what can go wrong with it.

use staunch_plugin::{
    Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Invalid, PickContext, PickError, random,
};

struct Chance {
    bug: String,
    endpoints: Endpoints,
    draws: u64,
}

impl Balancer for Chance {
    fn configure(config: &Config, _: &mut BalancerNeeds) -> Result<Self, Invalid> {
        Ok(Self { bug: config.get_or("bug", String::new()), endpoints: Endpoints::default(), draws: 0 })
    }

    fn update(&mut self, endpoints: Endpoints) {
        self.endpoints = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        self.endpoints.apply(changes);
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        let weight = |weight: u32| if self.bug == "ignores-weights" { 1 } else { weight };
        let mut candidates: Vec<_> = self.endpoints.candidates(cx).map(|e| (e.id, weight(e.weight))).collect();
        if self.bug == "skips-last" && candidates.len() > 1 {
            candidates.pop();
        }
        let total = candidates.iter().map(|(_, weight)| weight).sum();
        self.draws += 1;
        let random = match self.bug.as_str() {
            "draws-itself" => random::next(),
            // A generator of its own with too short a period.
            "cycles" => random::mix(self.draws % 3, 1),
            _ => cx.random,
        };
        let mut left = match self.bug.as_str() {
            // The greatest random number rounds up to the total.
            "rounds-up" => (random as f32 / u64::MAX as f32 * total as f32) as u32,
            _ => random::below(random, total),
        };
        if self.bug == "overruns" {
            left += u32::from(cx.random % 97 == 0);
        }
        for (id, weight) in &candidates {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return Ok(*id),
            }
        }
        match self.bug.as_str() {
            // One past the end.
            "overruns" | "rounds-up" if total > 0 => Ok(candidates.len() as EndpointId),
            _ => Err(PickError::Unavailable),
        }
    }
}

staunch_plugin::export!(balancer: Chance);
