//! The balancer `random-two`: the less loaded of two endpoints that chance drew.

use staunch_plugin::algorithms::{Draw, Smooth};
use staunch_plugin::{
    Balancer, BalancerNeeds, Config, Endpoint, EndpointChange, EndpointId, Endpoints, Invalid, PickContext, PickError,
    loads,
};

#[derive(Default)]
struct RandomTwo {
    endpoints: Endpoints,
    draw: Draw,
    /// Decides when draws miss.
    smooth: Smooth,
}

impl Balancer for RandomTwo {
    fn configure(config: &Config, _: &mut BalancerNeeds) -> Result<Self, Invalid> {
        config.only(&[]);
        Ok(Self::default())
    }

    fn update(&mut self, endpoints: Endpoints) {
        self.draw = Draw::of(&endpoints);
        self.smooth = Smooth::of(&endpoints);
        self.endpoints = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        self.endpoints.apply(changes);
        self.draw = Draw::of(&self.endpoints);
        self.smooth.apply(&self.endpoints, changes);
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        let tried = self.endpoints.tried(cx);
        let position = self.drawn(cx.random, &tried).or_else(|| self.smooth.pick(&tried));
        let picked = position.and_then(|position| self.endpoints.at(position));
        picked.map(|endpoint| endpoint.id).ok_or(PickError::Unavailable)
    }
}

impl RandomTwo {
    /// The second unless it is busier for its weight, as in nginx.
    fn drawn(&self, random: u64, tried: &[usize]) -> Option<usize> {
        let (first, second) = self.draw.two(random, |position| !tried.contains(&position))?;
        let is_busier = is_busier(self.endpoints.at(second)?, self.endpoints.at(first)?);
        Some(if is_busier { first } else { second })
    }
}

/// Compares requests in flight by weight without dividing, which would round.
fn is_busier(one: &Endpoint, other: &Endpoint) -> bool {
    let weighed = |load: &Endpoint, weight: &Endpoint| u64::from(loads::active(load.id)) * u64::from(weight.weight);
    weighed(one, other) > weighed(other, one)
}

staunch_plugin::export!(balancer: RandomTwo);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{self, Host, endpoint, pick_context};

    use super::*;

    fn configured(host: &Host, endpoints: impl Into<Endpoints>) -> RandomTwo {
        let mut balancer: RandomTwo = host.balancer().expect("it has no settings");
        balancer.update(endpoints.into());
        host.calls();
        balancer
    }

    #[test]
    fn of_two_the_less_busy_for_its_weight_is_picked_whatever_chance_says() {
        let host = Host::new();
        let mut balancer = configured(&host, vec![endpoint(0), Endpoint { weight: 3, ..endpoint(1) }]);

        for (active, expected) in [([1, 0], 1), ([1, 2], 1), ([1, 4], 0), ([0, 1], 0)] {
            active.iter().zip(0..).for_each(|(&active, id)| host.set_active(id, active));
            for _ in 0..50 {
                assert_eq!(balancer.pick(&pick_context()), Ok(expected), "with {active:?}");
            }
        }
    }

    #[test]
    fn the_busiest_of_many_is_never_picked() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(5));
        host.set_active(3, 1);

        let picks: Vec<_> = (0..400).filter_map(|_| balancer.pick(&pick_context()).ok()).collect();

        assert!(!picks.contains(&3));
        assert!([0, 1, 2, 4].iter().all(|id| picks.contains(id)));
    }

    #[test]
    fn among_idle_endpoints_the_second_drawn_is_picked() {
        let host = Host::new();
        host.seed(1);
        let mut balancer = configured(&host, vec![Endpoint { weight: 2, ..endpoint(0) }, endpoint(1), endpoint(2)]);

        let mut picks = [0; 3];
        for _ in 0..9000 {
            picks[balancer.pick(&pick_context()).expect("all are ready") as usize] += 1;
        }

        // The heavy one is drawn second in 2 × 1/4 × 2/3 of all cases.
        assert!((2850..3150).contains(&picks[0]), "{picks:?}");
        assert!((2850..3150).contains(&picks[1]) && (2850..3150).contains(&picks[2]), "{picks:?}");
    }

    #[test]
    fn a_pick_asks_the_host_for_two_counts() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(1000));

        balancer.pick(&pick_context()).expect("all are ready");

        assert_eq!(host.calls(), ["loads.active", "loads.active"]);
    }

    #[test]
    fn a_further_attempt_goes_elsewhere_and_to_backups_last() {
        let host = Host::new();
        let mut balancer = configured(
            &host,
            vec![Endpoint { weight: 100, ..endpoint(0) }, endpoint(1), Endpoint { priority: 1, ..endpoint(2) }],
        );

        for (tried, expected) in [(&[0][..], 1), (&[0, 1], 2), (&[0, 1, 2], 0)] {
            host.set_tried(tried);
            let cx = PickContext { attempt: tried.len() as u32, ..pick_context() };
            assert_eq!(balancer.pick(&cx), Ok(expected), "after {tried:?}");
        }
    }

    #[test]
    fn a_lone_endpoint_is_picked_and_none_is_not() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(2));

        balancer.change(&[EndpointChange { id: 0, weight: 1, ready: false }]);
        assert_eq!(balancer.pick(&pick_context()), Ok(1));

        balancer.change(&[EndpointChange { id: 1, weight: 1, ready: false }]);
        assert_eq!(balancer.pick(&pick_context()), Err(PickError::Unavailable));
    }
}
