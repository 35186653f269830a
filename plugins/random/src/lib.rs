//! The balancer `random`: each endpoint as often as its weight says, by chance.

use staunch_plugin::algorithms::{Draw, Smooth};
use staunch_plugin::{
    Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Invalid, PickContext, PickError,
};

#[derive(Default)]
struct Random {
    endpoints: Endpoints,
    draw: Draw,
    /// Decides when draws miss.
    smooth: Smooth,
}

impl Balancer for Random {
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
        let drawn = self.draw.one(cx.random, |position| !tried.contains(&position));
        let position = drawn.or_else(|| self.smooth.pick(&tried));
        let picked = position.and_then(|position| self.endpoints.at(position));
        picked.map(|endpoint| endpoint.id).ok_or(PickError::Unavailable)
    }
}

staunch_plugin::export!(balancer: Random);

#[cfg(test)]
mod tests {
    use staunch_plugin::Endpoint;
    use staunch_plugin::testing::{self, Host, endpoint, pick_context};

    use super::*;

    fn configured(host: &Host, endpoints: impl Into<Endpoints>) -> Random {
        let mut balancer: Random = host.balancer().expect("it has no settings");
        balancer.update(endpoints.into());
        host.calls();
        balancer
    }

    fn picks<const N: usize>(balancer: &mut Random) -> [u32; N] {
        let mut picks = [0; N];
        for _ in 0..8000 {
            picks[balancer.pick(&pick_context()).expect("one is ready") as usize] += 1;
        }
        picks
    }

    #[test]
    fn each_endpoint_has_the_share_of_its_weight() {
        let host = Host::new();
        host.seed(1);
        let mut balancer = configured(
            &host,
            vec![Endpoint { weight: 5, ..endpoint(0) }, endpoint(1), Endpoint { weight: 2, ..endpoint(2) }],
        );

        let [a, b, c] = picks(&mut balancer);

        assert!((4850..5150).contains(&a) && (900..1100).contains(&b) && (1880..2120).contains(&c), "{a}, {b}, {c}");
        assert_eq!(host.calls(), [""; 0]);
    }

    #[test]
    fn a_change_holds_from_the_next_pick() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(3));

        balancer.change(&[
            EndpointChange { id: 0, weight: 1, ready: false },
            EndpointChange { id: 2, weight: 3, ready: true },
        ]);

        let [a, b, c] = picks(&mut balancer);
        assert!(a == 0 && (1850..2150).contains(&b) && (5850..6150).contains(&c), "{a}, {b}, {c}");
    }

    #[test]
    fn the_same_bits_give_the_same_pick() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(9));
        let cx = pick_context();

        let first = balancer.pick(&cx);

        assert!((0..9).all(|_| balancer.pick(&cx) == first));
    }

    #[test]
    fn a_further_attempt_goes_elsewhere_and_to_backups_last() {
        let host = Host::new();
        let mut balancer = configured(
            &host,
            vec![Endpoint { weight: 100, ..endpoint(0) }, endpoint(1), Endpoint { priority: 1, ..endpoint(2) }],
        );

        for (tried, expected) in [(&[0][..], 1), (&[0, 1], 2)] {
            host.set_tried(tried);
            for _ in 0..50 {
                let cx = PickContext { attempt: tried.len() as u32, ..pick_context() };
                assert_eq!(balancer.pick(&cx), Ok(expected), "after {tried:?}");
            }
        }
        host.set_tried(&[0, 1, 2]);
        assert!(balancer.pick(&PickContext { attempt: 3, ..pick_context() }).is_ok());
    }

    #[test]
    fn without_ready_endpoints_there_is_none_to_pick() {
        let host = Host::new();
        let mut balancer = configured(&host, vec![Endpoint { ready: false, ..endpoint(0) }]);

        assert_eq!(balancer.pick(&pick_context()), Err(PickError::Unavailable));
    }
}
