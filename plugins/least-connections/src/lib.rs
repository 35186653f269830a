//! The balancer `least-connections`: the endpoint with the fewest requests in flight for its weight.

use std::time::Duration;

use staunch_plugin::algorithms::Smooth;
use staunch_plugin::{
    Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Feedback, FeedbackKind, Invalid,
    PickContext, PickError, Sample, loads,
};

#[derive(Default)]
struct LeastConnections {
    endpoints: Endpoints,
    /// Whose turn it is among endpoints that are equally loaded.
    smooth: Smooth,
}

impl Balancer for LeastConnections {
    fn configure(config: &Config, needs: &mut BalancerNeeds) -> Result<Self, Invalid> {
        config.only(&[]);
        needs.want_feedback(FeedbackKind::Failures, 1, Duration::ZERO);
        Ok(Self::default())
    }

    fn update(&mut self, endpoints: Endpoints) {
        self.smooth = Smooth::of(&endpoints);
        self.endpoints = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        self.smooth.apply(&self.endpoints, changes);
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        let active = loads::active_all();
        let endpoints = &self.endpoints;
        let load = |position| {
            let slot = endpoints.at(position).map_or(0, |endpoint| endpoint.id as usize);
            active.get(slot).copied().unwrap_or(0).into()
        };
        let position = self.smooth.pick_least(&endpoints.tried(cx), load);
        let picked = position.and_then(|position| endpoints.at(position));
        picked.map(|endpoint| endpoint.id).ok_or(PickError::Unavailable)
    }
}

impl Feedback for LeastConnections {
    fn observe(&mut self, samples: &[Sample]) {
        for sample in samples {
            if let Some(position) = self.endpoints.position(sample.endpoint) {
                self.smooth.penalize(position, sample.penalty);
            }
        }
    }
}

staunch_plugin::export!(balancer: LeastConnections + feedback);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use staunch_plugin::Endpoint;
    use staunch_plugin::testing::{self, Host, endpoint, pick_context};

    use super::*;

    fn configured(host: &Host, endpoints: impl Into<Endpoints>) -> LeastConnections {
        let mut balancer: LeastConnections = host.balancer().expect("it has no settings");
        balancer.update(endpoints.into());
        host.calls();
        balancer
    }

    /// Picks, each of which is a request that stays in flight.
    fn picks(host: &Host, balancer: &mut LeastConnections, active: &mut [u32], count: usize) -> String {
        let mut picks = String::new();
        for _ in 0..count {
            let picked = balancer.pick(&pick_context()).expect("one is ready");
            active[picked as usize] += 1;
            host.set_active(picked, active[picked as usize]);
            picks.push(char::from(b'A' + picked as u8));
        }
        picks
    }

    #[test]
    fn the_fewest_for_the_weight_wins() {
        let host = Host::new();
        let mut balancer = configured(&host, vec![endpoint(0), Endpoint { weight: 3, ..endpoint(1) }]);

        for (active, expected) in [([1, 0], 1), ([1, 2], 1), ([1, 4], 0), ([0, 1], 0)] {
            active.iter().zip(0..).for_each(|(&active, id)| host.set_active(id, active));
            assert_eq!(balancer.pick(&pick_context()), Ok(expected), "with {active:?}");
        }
    }

    #[test]
    fn idle_endpoints_take_turns_smoothly() {
        let host = Host::new();
        let mut balancer = configured(&host, vec![Endpoint { weight: 5, ..endpoint(0) }, endpoint(1), endpoint(2)]);

        let picks: Vec<_> = (0..7).map(|_| balancer.pick(&pick_context())).collect();

        assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0].map(Ok));
    }

    #[test]
    fn requests_that_stay_are_spread_by_weight() {
        let host = Host::new();
        let mut balancer = configured(&host, vec![Endpoint { weight: 3, ..endpoint(0) }, endpoint(1)]);
        let mut active = [0; 2];

        // By hand: A wins the first tie (3 of 4); then 1/3 > 0/1, and so on. 3/3 and 1/1 tie again.
        assert_eq!(picks(&host, &mut balancer, &mut active, 4), "ABAA");
        assert_eq!(active, [3, 1]);
        picks(&host, &mut balancer, &mut active, 396);
        assert_eq!(active, [300, 100]);
    }

    #[test]
    fn a_pick_asks_the_host_once() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(100));

        balancer.pick(&pick_context()).expect("all are ready");

        assert_eq!(host.calls(), ["loads.active-all"]);
    }

    #[test]
    fn a_further_attempt_goes_elsewhere_even_if_that_is_busier() {
        let host = Host::new();
        let mut balancer = configured(&host, vec![endpoint(0), endpoint(1), Endpoint { priority: 1, ..endpoint(2) }]);
        host.set_active(1, 9);

        for (tried, expected) in [(&[0][..], 1), (&[0, 1], 2), (&[0, 1, 2], 0)] {
            host.set_tried(tried);
            let cx = PickContext { attempt: tried.len() as u32, ..pick_context() };
            assert_eq!(balancer.pick(&cx), Ok(expected), "after {tried:?}");
        }
    }

    #[test]
    fn a_failure_costs_turns_among_equals() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(2));
        assert_eq!(host.wanted_feedback(), Some((FeedbackKind::Failures, 1, Duration::ZERO)));

        balancer.observe(&[Sample { endpoint: 0, latency: Duration::ZERO, status: None, penalty: 1 }]);

        assert_eq!(balancer.pick(&pick_context()), Ok(1));
    }

    #[test]
    fn without_ready_endpoints_there_is_none_to_pick() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(1));

        balancer.change(&[EndpointChange { id: 0, weight: 1, ready: false }]);

        assert_eq!(balancer.pick(&pick_context()), Err(PickError::Unavailable));
    }

    proptest! {
        #[test]
        fn never_picks_a_busier_one(
            members in prop::collection::vec((1u32..6, any::<bool>(), 0u32..9), 1..12),
            changes in prop::collection::vec((0usize..12, 1u32..6, any::<bool>(), 0u32..9), 0..20),
        ) {
            let host = Host::new();
            let mut members = members;
            let endpoints = |members: &[(u32, bool, u32)]| -> Vec<Endpoint> {
                let make = |(id, &(weight, ready, _))| Endpoint { weight, ready, ..endpoint(id) };
                (0..).zip(members).map(make).collect()
            };
            let mut balancer = configured(&host, endpoints(&members));
            for (position, weight, ready, active) in changes {
                if let Some(member) = members.get_mut(position) {
                    *member = (weight, ready, active);
                    balancer.change(&[EndpointChange { id: position as u32, weight, ready }]);
                }
                members.iter().zip(0..).for_each(|(member, id)| host.set_active(id, member.2));

                match balancer.pick(&pick_context()) {
                    Ok(picked) => {
                        let (weight, ready, active) = members[picked as usize];
                        prop_assert!(ready);
                        let busier = |other: &&(u32, bool, u32)| other.1 && other.2 * weight < active * other.0;
                        prop_assert_eq!(members.iter().find(busier), None);
                    }
                    Err(_) => prop_assert!(members.iter().all(|member| !member.1)),
                }
            }
        }
    }
}
