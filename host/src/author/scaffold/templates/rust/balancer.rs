//! Picks the ready endpoint with the fewest requests in flight for its weight, and among equals by chance.

use staunch_plugin::{
    Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Invalid, PickContext, PickError, loads,
    random,
};

struct Plugin {
    endpoints: Endpoints,
}

impl Balancer for Plugin {
    fn configure(config: &Config, _: &mut BalancerNeeds) -> Result<Self, Invalid> {
        config.only(&[]);
        Ok(Self { endpoints: Endpoints::default() })
    }

    fn update(&mut self, endpoints: Endpoints) {
        self.endpoints = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        self.endpoints.apply(changes);
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        // Ready, of the first priority group, and not tried by this request while there is another.
        let candidates = self.endpoints.candidates(cx);
        let load = |id, weight| u64::from(loads::active(id)) * 1_000_000 / u64::from(weight);
        let idlest = candidates.min_by_key(|e| (load(e.id, e.weight.max(1)), random::mix(cx.random, e.id)));
        idlest.map(|endpoint| endpoint.id).ok_or(PickError::Unavailable)
    }
}

staunch_plugin::export!(balancer: Plugin);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{self, Host};

    use super::*;

    #[test]
    fn the_idlest_endpoint_is_picked() {
        let host = Host::new();
        let mut balancer: Plugin = host.balancer().expect("it has no settings");
        balancer.update(testing::endpoints(3));
        host.set_active(0, 2);
        host.set_active(2, 1);

        assert_eq!(balancer.pick(&testing::pick_context()), Ok(1));
    }
}
