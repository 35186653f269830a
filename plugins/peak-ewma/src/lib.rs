//! The balancer `peak-ewma`: of two endpoints that chance drew, the one whose latency and requests promise less
//! waiting.

mod cost;

use std::time::Duration;

use staunch_plugin::algorithms::{Draw, Smooth, carried};
use staunch_plugin::{
    Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Feedback, FeedbackKind, Handover, Instant,
    Invalid, PickContext, PickError, Sample, clock, loads,
};

use cost::Latency;

struct PeakEwma {
    default_rtt: Duration,
    decay: Duration,
    endpoints: Endpoints,
    /// By position.
    latencies: Vec<Latency>,
    draw: Draw,
    /// Decides when draws miss.
    smooth: Smooth,
}

impl Balancer for PeakEwma {
    fn configure(config: &Config, needs: &mut BalancerNeeds) -> Result<Self, Invalid> {
        config.only(&["default_rtt", "decay"]);
        needs.want_feedback(FeedbackKind::EveryAttempt, 64, Duration::from_millis(10));
        Ok(Self {
            default_rtt: config.get_or("default_rtt", Duration::from_millis(30)),
            decay: config.get_or("decay", Duration::from_secs(10)),
            endpoints: Endpoints::default(),
            latencies: Vec::new(),
            draw: Draw::default(),
            smooth: Smooth::default(),
        })
    }

    fn update(&mut self, endpoints: Endpoints) {
        self.latencies = vec![Latency::new(self.default_rtt, clock::monotonic()); endpoints.len()];
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
        let drawn = self.draw.two(cx.random, |position| !tried.contains(&position));
        let position = match drawn {
            Some((first, second)) if self.cost(second, cx.now) < self.cost(first, cx.now) => Some(second),
            Some((first, _)) => Some(first),
            None => self.smooth.pick(&tried),
        };
        let picked = position.and_then(|position| self.endpoints.at(position));
        picked.map(|endpoint| endpoint.id).ok_or(PickError::Unavailable)
    }
}

impl PeakEwma {
    fn cost(&self, position: usize, now: Instant) -> f64 {
        let Some((endpoint, latency)) = self.endpoints.at(position).zip(self.latencies.get(position)) else {
            return f64::INFINITY;
        };
        latency.cost(loads::active(endpoint.id), now, self.decay) / f64::from(endpoint.weight.max(1))
    }
}

impl Feedback for PeakEwma {
    fn observe(&mut self, samples: &[Sample]) {
        let now = clock::monotonic();
        for sample in samples {
            let position = self.endpoints.position(sample.endpoint);
            let Some(latency) = position.and_then(|position| self.latencies.get_mut(position)) else { continue };
            match sample.status {
                Some(100..=499) if sample.penalty == 0 => latency.observe(sample.latency, now, self.decay),
                _ => latency.observe_failure(sample.latency, now, self.decay),
            }
        }
    }
}

impl Handover for PeakEwma {
    fn save(&mut self) -> Vec<u8> {
        carried::save("latencies", &self.endpoints, |position| self.latencies.get(position).map(Latency::known))
    }

    fn restore(&mut self, state: &[u8]) {
        carried::restore("latencies", &self.endpoints, state, |position, known| {
            if let Some(latency) = self.latencies.get_mut(position) {
                latency.recall(known);
            }
        });
    }
}

staunch_plugin::export!(balancer: PeakEwma + feedback + handover);

#[cfg(test)]
mod tests {
    use staunch_plugin::Endpoint;
    use staunch_plugin::testing::{self, Host, endpoint, pick_context};

    use super::*;

    fn configured(host: &Host, endpoints: impl Into<Endpoints>) -> PeakEwma {
        let mut balancer: PeakEwma = host.balancer().expect("the settings are right");
        balancer.update(endpoints.into());
        host.calls();
        balancer
    }

    fn sample(endpoint: u32, millis: u64) -> Sample {
        Sample { endpoint, latency: Duration::from_millis(millis), status: Some(200), penalty: 0 }
    }

    /// How often each of three is picked.
    fn picks(balancer: &mut PeakEwma) -> [u32; 3] {
        let mut picks = [0; 3];
        for _ in 0..3000 {
            picks[balancer.pick(&pick_context()).expect("one is ready") as usize] += 1;
        }
        picks
    }

    #[test]
    fn endpoints_of_one_cost_share_evenly() {
        let host = Host::new();
        host.seed(1);
        let mut balancer = configured(&host, testing::endpoints(3));

        let picks = picks(&mut balancer);

        assert!(picks.iter().all(|picks| (880..1120).contains(picks)), "{picks:?}");
    }

    #[test]
    fn after_a_peak_an_endpoint_is_the_last_choice_for_a_while() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(3));

        balancer.observe(&[sample(1, 200), sample(9, 1)]);
        assert_eq!(picks(&mut balancer)[1], 0);

        // The others keep answering in 30 ms; after 20 s the peak is 200 / e² = 27 ms.
        for _ in 0..20 {
            host.advance(Duration::from_secs(1));
            balancer.observe(&[sample(0, 30), sample(2, 30)]);
        }
        let picks = picks(&mut balancer);
        assert!(picks[1] > 1800, "{picks:?}: it wins each draw it is in, 2 of 3");
    }

    #[test]
    fn requests_in_flight_and_weights_count() {
        let host = Host::new();
        let mut balancer = configured(&host, vec![endpoint(0), Endpoint { weight: 4, ..endpoint(1) }]);

        for (active, expected) in [([0, 2], 1), ([0, 4], 0), ([1, 6], 1), ([1, 8], 0)] {
            active.iter().zip(0..).for_each(|(&active, id)| host.set_active(id, active));
            assert_eq!([(); 20].map(|()| balancer.pick(&pick_context())), [Ok(expected); 20], "with {active:?}");
        }
    }

    #[test]
    fn what_failed_quickly_does_not_look_quick() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(2));
        host.advance(Duration::from_secs(5));

        for failure in [
            Sample { status: None, ..sample(0, 0) },
            Sample { status: Some(503), ..sample(0, 0) },
            Sample { penalty: 1, ..sample(0, 0) },
        ] {
            let before = balancer.cost(0, pick_context().now);
            balancer.observe(&[failure]);
            assert_eq!(balancer.cost(0, pick_context().now), before, "after {failure:?}");
        }
    }

    #[test]
    fn a_successor_knows_what_was_learned() {
        let host = Host::new();
        let mut before = configured(&host, testing::endpoints(2));
        before.observe(&[sample(0, 200)]);

        let mut after = configured(&host, [1, 2, 0].map(endpoint).to_vec());
        after.restore(&before.save());

        let picks = picks(&mut after);
        assert!(picks[0] == 0 && picks[1] > 0 && picks[2] > 0, "{picks:?}");
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
        let mut balancer = configured(&host, vec![endpoint(0), endpoint(1), Endpoint { priority: 1, ..endpoint(2) }]);
        balancer.observe(&[sample(1, 900)]);

        for (tried, expected) in [(&[0][..], 1), (&[0, 1], 2), (&[0, 1, 2], 0)] {
            host.set_tried(tried);
            let cx = PickContext { attempt: tried.len() as u32, ..pick_context() };
            assert_eq!(balancer.pick(&cx), Ok(expected), "after {tried:?}");
        }
    }

    #[test]
    fn it_hears_of_every_attempt_and_refuses_wrong_settings() {
        let host = Host::new();
        host.set("decay", "2s");
        let balancer: PeakEwma = host.balancer().expect("the settings are right");
        assert_eq!((balancer.default_rtt, balancer.decay), (Duration::from_millis(30), Duration::from_secs(2)));
        assert_eq!(host.wanted_feedback(), Some((FeedbackKind::EveryAttempt, 64, Duration::from_millis(10))));

        host.set("default-rtt", "1ms");
        let issues = host.balancer::<PeakEwma>().err().expect("they are wrong");
        assert_eq!(issues.to_string(), "`default-rtt` is unknown; did you mean `default_rtt`?");
    }

    #[test]
    fn without_ready_endpoints_there_is_none_to_pick() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(2));

        balancer.change(&[EndpointChange { id: 0, weight: 1, ready: false }]);
        assert_eq!(balancer.pick(&pick_context()), Ok(1));

        balancer.change(&[EndpointChange { id: 1, weight: 1, ready: false }]);
        assert_eq!(balancer.pick(&pick_context()), Err(PickError::Unavailable));
    }
}
