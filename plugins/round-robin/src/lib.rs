//! The balancer `round-robin`: nginx's smooth weighted round robin.

use std::time::Duration;

use staunch_plugin::algorithms::Smooth;
use staunch_plugin::{
    Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Feedback, FeedbackKind, Invalid,
    PickContext, PickError, Sample,
};

#[derive(Default)]
struct RoundRobin {
    endpoints: Endpoints,
    smooth: Smooth,
}

impl Balancer for RoundRobin {
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
        let tried = self.endpoints.tried(cx);
        let picked = self.smooth.pick(&tried).and_then(|position| self.endpoints.at(position));
        picked.map(|endpoint| endpoint.id).ok_or(PickError::Unavailable)
    }
}

impl Feedback for RoundRobin {
    fn observe(&mut self, samples: &[Sample]) {
        for sample in samples {
            if let Some(position) = self.endpoints.position(sample.endpoint) {
                self.smooth.penalize(position, sample.penalty);
            }
        }
    }
}

staunch_plugin::export!(balancer: RoundRobin + feedback);

#[cfg(test)]
mod tests {
    use staunch_plugin::Endpoint;
    use staunch_plugin::testing::{self, Host, endpoint, pick_context};

    use super::*;

    fn configured(host: &Host, endpoints: impl Into<Endpoints>) -> RoundRobin {
        let mut balancer: RoundRobin = host.balancer().expect("it has no settings");
        balancer.update(endpoints.into());
        host.calls();
        balancer
    }

    #[test]
    fn a_first_attempt_asks_the_host_nothing() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(3));

        let picks = [(); 4].map(|()| balancer.pick(&pick_context()));

        assert_eq!(picks, [Ok(0), Ok(1), Ok(2), Ok(0)]);
        assert_eq!(host.calls(), [""; 0]);
    }

    #[test]
    fn a_further_attempt_goes_elsewhere() {
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
    fn without_endpoints_there_is_none_to_pick() {
        let host = Host::new();

        let mut unset: RoundRobin = host.balancer().expect("it has no settings");
        assert_eq!(unset.pick(&pick_context()), Err(PickError::Unavailable));

        let mut down = configured(&host, vec![Endpoint { ready: false, ..endpoint(0) }]);
        assert_eq!(down.pick(&pick_context()), Err(PickError::Unavailable));
    }

    #[test]
    fn it_hears_of_each_failure_at_once() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(2));
        assert_eq!(host.wanted_feedback(), Some((FeedbackKind::Failures, 1, Duration::ZERO)));

        let failure = Sample { endpoint: 0, latency: Duration::ZERO, status: None, penalty: 1 };
        balancer.observe(&[failure, Sample { endpoint: 77, ..failure }]);

        assert_eq!(balancer.pick(&pick_context()), Ok(1));
    }

    #[test]
    fn a_setting_is_refused() {
        let host = Host::new();
        host.set("weights", 1);

        let issues = host.balancer::<RoundRobin>().err().expect("there are no settings");

        assert_eq!(issues.to_string(), "`weights` is unknown; there are no settings");
    }
}
