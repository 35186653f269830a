//! The fewest requests in flight for the weight, and what can go wrong with it.

use std::collections::HashMap;

use staunch_plugin::{
    Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Feedback, FeedbackKind, Invalid,
    PickContext, PickError, Sample, loads, random,
};

struct Least {
    bug: String,
    endpoints: Endpoints,
    /// For bugs that count for themselves, or remember what they were told.
    own: HashMap<EndpointId, u32>,
}

impl Least {
    fn load(&self, id: EndpointId) -> u32 {
        let own = self.own.get(&id).copied().unwrap_or_default();
        match self.bug.as_str() {
            "counts-leak" | "counts-abandoned" | "counts-while-ready" | "counts-below-nothing" => own,
            "counts-never-given-back" => loads::active(id) + own,
            "stale-loads" => own,
            _ => loads::active(id),
        }
    }
}

impl Balancer for Least {
    fn configure(config: &Config, needs: &mut BalancerNeeds) -> Result<Self, Invalid> {
        let bug: String = config.get_or("bug", String::new());
        let kind = match bug.as_str() {
            "counts-leak" | "counts-abandoned" | "counts-while-ready" | "counts-below-nothing" => {
                FeedbackKind::EveryAttempt
            }
            _ => FeedbackKind::Failures,
        };
        needs.want_feedback(kind, 1, std::time::Duration::from_millis(1));
        Ok(Self { bug, endpoints: Endpoints::default(), own: HashMap::new() })
    }

    fn update(&mut self, endpoints: Endpoints) {
        if self.bug == "stale-loads" {
            self.own = endpoints.iter().map(|e| (e.id, loads::active(e.id))).collect();
        }
        self.endpoints = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        self.endpoints.apply(changes);
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        let by_load = |id: EndpointId, weight: u32| {
            let load = match self.bug.as_str() {
                "weighs-backwards" => u64::from(self.load(id)) * u64::from(weight),
                _ => u64::from(self.load(id)) * 1000 / u64::from(weight.max(1)),
            };
            if self.bug == "prefers-the-busy" { u64::MAX - load } else { load }
        };
        let candidates = self.endpoints.candidates(cx);
        let picked = candidates.min_by_key(|e| (by_load(e.id, e.weight), random::mix(cx.random, e.id)));
        let id = picked.ok_or(PickError::Unavailable)?.id;
        if self.bug.starts_with("counts-") {
            *self.own.entry(id).or_default() += 1;
        }
        Ok(id)
    }
}

impl Feedback for Least {
    fn observe(&mut self, samples: &[Sample]) {
        for sample in samples {
            // What failed is forgotten.
            let heard = match self.bug.as_str() {
                "counts-abandoned" | "counts-below-nothing" => true,
                "counts-leak" => sample.status.is_some(),
                "counts-while-ready" => self.endpoints.by_id(sample.endpoint).is_some_and(|e| e.ready),
                _ => false,
            };
            if heard && self.bug == "counts-below-nothing" {
                let own = self.own.entry(sample.endpoint).or_default();
                *own = own.wrapping_sub(1);
            } else if let Some(own) = self.own.get_mut(&sample.endpoint).filter(|_| heard) {
                *own = own.saturating_sub(1);
            }
        }
    }
}

staunch_plugin::export!(balancer: Least + feedback);
