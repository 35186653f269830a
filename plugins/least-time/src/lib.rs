//! The balancer `least-time`: the endpoint that is likely done first with what it has and one request more.

mod estimates;

use std::time::Duration;

use staunch_plugin::algorithms::{Smooth, carried};
use staunch_plugin::{
    Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Feedback, FeedbackKind, Handover, Invalid,
    PickContext, PickError, Sample, loads,
};

use estimates::{Estimates, Settings};

struct LeastTime {
    settings: Settings,
    endpoints: Endpoints,
    estimates: Estimates,
    /// Whose turn it is among endpoints that are equally fast.
    smooth: Smooth,
}

impl Balancer for LeastTime {
    fn configure(config: &Config, needs: &mut BalancerNeeds) -> Result<Self, Invalid> {
        config.only(&["halving", "step", "ceiling"]);
        let defaults = Settings::default();
        let settings = Settings {
            halving: config.get_or("halving", defaults.halving),
            step: config.get_or("step", defaults.step),
            ceiling: config.get_or("ceiling", defaults.ceiling),
        };
        needs.want_feedback(FeedbackKind::EveryAttempt, 64, Duration::from_millis(10));
        Ok(Self {
            settings,
            endpoints: Endpoints::default(),
            estimates: Estimates::default(),
            smooth: Smooth::default(),
        })
    }

    fn update(&mut self, endpoints: Endpoints) {
        self.estimates = Estimates::new(endpoints.len(), self.settings);
        self.smooth = Smooth::of(&endpoints);
        self.endpoints = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        self.smooth.apply(&self.endpoints, changes);
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        let active = loads::active_all();
        let (endpoints, estimates) = (&self.endpoints, &self.estimates);
        let load = |position| {
            let slot = endpoints.at(position).map_or(0, |endpoint| endpoint.id as usize);
            estimates.load(position, active.get(slot).copied().unwrap_or(0), cx.now)
        };
        let position = self.smooth.pick_least(&endpoints.tried(cx), load).ok_or(PickError::Unavailable)?;
        self.estimates.picked(position, cx.now);
        self.endpoints.at(position).map(|endpoint| endpoint.id).ok_or(PickError::Unavailable)
    }
}

impl Feedback for LeastTime {
    fn observe(&mut self, samples: &[Sample]) {
        for sample in samples {
            let Some(position) = self.endpoints.position(sample.endpoint) else { continue };
            // A quick failure must not look like a quick endpoint.
            match sample.status {
                Some(100..=499) if sample.penalty == 0 => self.estimates.observe(position, sample.latency),
                _ => self.smooth.penalize(position, sample.penalty),
            }
        }
    }
}

impl Handover for LeastTime {
    fn save(&mut self) -> Vec<u8> {
        carried::save("averages", &self.endpoints, |position| self.estimates.known(position))
    }

    fn restore(&mut self, state: &[u8]) {
        carried::restore("averages", &self.endpoints, state, |position, known| {
            self.estimates.recall(position, known);
        });
    }
}

staunch_plugin::export!(balancer: LeastTime + feedback + handover);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{self, Host, endpoint, pick_context};
    use staunch_plugin::{Endpoint, Instant};

    use super::*;

    fn configured(host: &Host, endpoints: impl Into<Endpoints>) -> LeastTime {
        let mut balancer: LeastTime = host.balancer().expect("the settings are right");
        balancer.update(endpoints.into());
        host.calls();
        balancer
    }

    fn sample(endpoint: u32, millis: u64) -> Sample {
        Sample { endpoint, latency: Duration::from_millis(millis), status: Some(200), penalty: 0 }
    }

    #[test]
    fn the_faster_is_picked_until_it_has_too_much_to_do() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(2));
        balancer.observe(&[sample(0, 30), sample(1, 105), sample(7, 1)]);

        // 40 ms for each request against 120.
        for (active, expected) in [(0, 0), (1, 0), (3, 1)] {
            host.set_active(0, active);
            assert_eq!(balancer.pick(&pick_context()), Ok(expected), "with {active} in flight");
        }
    }

    #[test]
    fn a_weight_divides_the_time() {
        let host = Host::new();
        let mut balancer = configured(&host, vec![endpoint(0), Endpoint { weight: 4, ..endpoint(1) }]);
        balancer.observe(&[sample(0, 30), sample(1, 105)]);

        assert_eq!(balancer.pick(&pick_context()), Ok(1));
    }

    #[test]
    fn endpoints_of_one_step_take_turns() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(3));
        balancer.observe(&[sample(0, 3), sample(1, 50), sample(2, 17)]);

        let picks: Vec<_> = (0..4).map(|_| balancer.pick(&pick_context())).collect();

        assert_eq!(picks, [0, 2, 0, 2].map(Ok));
    }

    #[test]
    fn without_steps_the_smallest_difference_decides() {
        let host = Host::new();
        host.set("step", "0");
        let mut balancer = configured(&host, testing::endpoints(3));
        balancer.observe(&[sample(0, 3), sample(1, 50), sample(2, 2)]);

        assert_eq!([(); 3].map(|()| balancer.pick(&pick_context())), [Ok(2); 3]);
    }

    #[test]
    fn a_slow_endpoint_is_asked_again_after_a_while() {
        let host = Host::new();
        host.set("halving", "2s");
        host.set("step", "0");
        let mut balancer = configured(&host, testing::endpoints(2));
        balancer.observe(&[sample(0, 10), sample(1, 70)]);
        // Each is picked once, so that both wait from now on.
        balancer.estimates.picked(1, pick_context().now);
        assert_eq!(balancer.pick(&pick_context()), Ok(0));

        let mut waited = 0;
        while balancer.pick(&pick_context()) == Ok(0) {
            host.advance(Duration::from_millis(500));
            waited += 1;
        }

        // 70 → 35 → 17.5 → 8.75 ms, which is less than 10.
        assert_eq!(waited, 12);
        assert_eq!(balancer.pick(&pick_context()), Ok(0), "it has had its chance");
    }

    #[test]
    fn what_failed_quickly_does_not_look_quick() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(2));
        balancer.observe(&[sample(0, 100), sample(1, 90)]);

        for failure in [
            Sample { status: None, ..sample(0, 0) },
            Sample { status: Some(503), ..sample(0, 0) },
            Sample { status: Some(404), penalty: 1, ..sample(0, 0) },
        ] {
            balancer.observe(&[failure; 100]);
            assert_eq!(balancer.estimates.load(0, 0, Instant::from_nanos(0)), 120_000_000, "after {failure:?}");
        }
    }

    #[test]
    fn a_further_attempt_goes_elsewhere_even_if_that_is_slower() {
        let host = Host::new();
        let mut balancer = configured(&host, vec![endpoint(0), endpoint(1), Endpoint { priority: 1, ..endpoint(2) }]);
        balancer.observe(&[sample(0, 1), sample(1, 900), sample(2, 1)]);

        for (tried, expected) in [(&[0][..], 1), (&[0, 1], 2), (&[0, 1, 2], 0)] {
            host.set_tried(tried);
            let cx = PickContext { attempt: tried.len() as u32, ..pick_context() };
            assert_eq!(balancer.pick(&cx), Ok(expected), "after {tried:?}");
        }
    }

    #[test]
    fn a_successor_knows_what_was_learned() {
        let host = Host::new();
        let mut before = configured(&host, testing::endpoints(3));
        before.observe(&[sample(0, 100), sample(1, 30)]);

        let mut after = configured(&host, [1, 2, 0].map(endpoint).to_vec());
        after.restore(&before.save());

        assert_eq!([(); 2].map(|()| after.pick(&pick_context())), [Ok(2); 2], "nothing is known of it");
        host.set_active(2, 9);
        assert_eq!(after.pick(&pick_context()), Ok(1));
    }

    #[test]
    fn it_hears_of_every_attempt() {
        let host = Host::new();
        let _: LeastTime = host.balancer().expect("the settings are right");

        assert_eq!(host.wanted_feedback(), Some((FeedbackKind::EveryAttempt, 64, Duration::from_millis(10))));
    }

    #[test]
    fn a_wrong_setting_is_refused() {
        let host = Host::new();
        host.set("halving", "soon");
        host.set("stop", "1ms");

        let issues = host.balancer::<LeastTime>().err().expect("they are wrong");

        assert_eq!(
            issues.to_string(),
            "`stop` is unknown; did you mean `step`?; \
             `halving` must be a duration such as \"250ms\" or \"1m 30s\""
        );
    }

    #[test]
    fn without_ready_endpoints_there_is_none_to_pick() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(1));

        balancer.change(&[EndpointChange { id: 0, weight: 1, ready: false }]);

        assert_eq!(balancer.pick(&pick_context()), Err(PickError::Unavailable));
    }
}
