//! A balancer that picks the ready endpoint with the fewest requests in flight, and among equals by chance.

use staunch_plugin::{
    Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Invalid, PickContext, PickError, loads,
    random,
};

struct LeastBusy(Endpoints);

impl Balancer for LeastBusy {
    fn configure(_: &Config, _: &mut BalancerNeeds) -> Result<Self, Invalid> {
        Ok(Self(Endpoints::default()))
    }

    fn update(&mut self, endpoints: Endpoints) {
        self.0 = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        self.0.apply(changes);
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        let candidates = self.0.candidates(cx).map(|endpoint| endpoint.id);
        let idlest = candidates.min_by_key(|&id| (loads::active(id), random::mix(cx.random, id)));
        idlest.ok_or(PickError::Unavailable)
    }
}

staunch_plugin::export!(balancer: LeastBusy);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{self, Host};

    use super::*;

    #[test]
    fn the_idlest_endpoint_that_is_ready_is_picked() {
        let host = Host::new();
        let mut balancer: LeastBusy = host.balancer().expect("it has no settings");
        balancer.update(testing::endpoints(3));
        host.set_active(0, 2);
        host.set_active(2, 1);
        assert_eq!(balancer.pick(&testing::pick_context()), Ok(1));

        balancer.change(&[EndpointChange { id: 1, weight: 1, ready: false }]);
        assert_eq!(balancer.pick(&testing::pick_context()), Ok(2));
    }
}
