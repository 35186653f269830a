//! Consistent hashing on a ring of points, and what can go wrong with it.

use staunch_plugin::{
    Balancer, BalancerNeeds, Config, Endpoint, EndpointChange, EndpointId, Endpoints, Invalid, KeySource, PickContext,
    PickError, random,
};

/// Points for each unit of weight.
const POINTS: u32 = 160;

struct Ring {
    bug: String,
    endpoints: Endpoints,
    /// By rising position on the ring.
    points: Vec<(u32, EndpointId)>,
}

impl Ring {
    fn build(&mut self) {
        let endpoints = match self.bug.as_str() {
            "drops-last" => self.endpoints.len().saturating_sub(1).max(1),
            _ => self.endpoints.len(),
        };
        self.points = self.endpoints.iter().take(endpoints).flat_map(|endpoint| self.points_of(endpoint)).collect();
        self.points.sort_unstable();
    }

    fn points_of(&self, endpoint: &Endpoint) -> Vec<(u32, EndpointId)> {
        let name = match self.bug.as_str() {
            "by-position" => self.endpoints.position(endpoint.id).unwrap_or_default() as u64,
            "by-size" => hash(&endpoint.address).wrapping_add(self.endpoints.len() as u64),
            _ => hash(&endpoint.address),
        };
        (0..POINTS * endpoint.weight).map(|point| (random::mix(name, point) as u32, endpoint.id)).collect()
    }

    fn is_candidate(&self, id: EndpointId, candidates: &[EndpointId]) -> bool {
        self.bug == "ignores-readiness" || candidates.contains(&id)
    }
}

impl Balancer for Ring {
    fn configure(config: &Config, needs: &mut BalancerNeeds) -> Result<Self, Invalid> {
        let bug = config.get_or("bug", String::new());
        needs.want_key(match bug.as_str() {
            "unwraps-the-key" => KeySource::Header("x-tenant".to_owned()),
            _ => KeySource::Path,
        });
        Ok(Self { bug, endpoints: Endpoints::default(), points: Vec::new() })
    }

    fn update(&mut self, endpoints: Endpoints) {
        self.endpoints = endpoints;
        self.build();
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        let weights = |endpoints: &Endpoints| -> Vec<u32> { endpoints.iter().map(|e| e.weight).collect() };
        let before = weights(&self.endpoints);
        self.endpoints.apply(changes);
        if weights(&self.endpoints) != before && self.bug != "ignores-weight-changes" {
            for change in changes {
                self.points.retain(|(_, id)| *id != change.id);
                let points = self.endpoints.by_id(change.id).map(|endpoint| self.points_of(endpoint));
                self.points.extend(points.unwrap_or_default());
            }
            self.points.sort_unstable();
        }
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        let candidates: Vec<_> = self.endpoints.candidates(cx).map(|e| e.id).collect();
        if candidates.is_empty() {
            return Err(PickError::Unavailable);
        }
        let key = match self.bug.as_str() {
            "forgets-the-key" => cx.random,
            "unwraps-the-key" => random::mix(cx.key.expect("every request has a key"), 0),
            "mixes-in-chance" => random::mix(cx.key.unwrap_or(cx.random) ^ (cx.random & 1), 0),
            "modulo" => {
                let at = cx.key.unwrap_or(cx.random) % candidates.len() as u64;
                return Ok(candidates[at as usize]);
            }
            _ => random::mix(cx.key.unwrap_or(cx.random), 0),
        };
        let start = self.points.partition_point(|(point, _)| *point < key as u32);
        if self.bug == "off-by-one" {
            // Nothing follows the last point.
            let (_, id) = self.points[start];
            if self.is_candidate(id, &candidates) {
                return Ok(id);
            }
        }
        let around = self.points[start..].iter().chain(&self.points[..start]);
        let found = around.map(|(_, id)| *id).find(|id| self.is_candidate(*id, &candidates));
        found.or(candidates.first().copied()).ok_or(PickError::Unavailable)
    }
}

/// FNV-1a, mixed well.
fn hash(text: &str) -> u64 {
    let hash =
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    random::mix(hash, 7)
}

staunch_plugin::export!(balancer: Ring);
