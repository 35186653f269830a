//! The balancer `first`: fills one endpoint up before the next one is used.

mod fill;

use std::num::NonZeroU32;

use staunch_plugin::{
    Balancer, BalancerNeeds, Config, Endpoint, EndpointChange, EndpointId, Endpoints, Invalid, PickContext, PickError,
    Setting, choose, loads, warn,
};

use fill::{Room, fill};

struct First {
    max: Option<NonZeroU32>,
    when_full: WhenFull,
    endpoints: Endpoints,
    /// By slot: what an endpoint's own label says.
    labelled: Vec<Option<NonZeroU32>>,
}

/// What to do when every endpoint has all it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhenFull {
    Spread,
    Refuse,
}

impl Setting for WhenFull {
    fn from_text(text: &str) -> Result<Self, String> {
        choose(text, &[("spread", Self::Spread), ("refuse", Self::Refuse)])
    }
}

impl Balancer for First {
    fn configure(config: &Config, _: &mut BalancerNeeds) -> Result<Self, Invalid> {
        config.only(&["max", "when_full"]);
        Ok(Self {
            max: config.get("max"),
            when_full: config.get_or("when_full", WhenFull::Spread),
            endpoints: Endpoints::default(),
            labelled: Vec::new(),
        })
    }

    fn update(&mut self, endpoints: Endpoints) {
        let slots = endpoints.iter().map(|endpoint| endpoint.id as usize + 1).max().unwrap_or(0);
        self.labelled = vec![None; slots];
        for endpoint in &endpoints {
            self.labelled[endpoint.id as usize] = label(endpoint);
        }
        self.endpoints = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        self.endpoints.apply(changes);
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        let rooms = self.endpoints.candidates(cx).map(|endpoint| Room {
            endpoint: endpoint.id,
            max: self.labelled.get(endpoint.id as usize).copied().flatten().or(self.max),
        });
        match fill(rooms, loads::active) {
            Ok(endpoint) => Ok(endpoint),
            Err(None) => Err(PickError::Unavailable),
            Err(Some(least_full)) => match self.when_full {
                WhenFull::Spread => Ok(least_full),
                WhenFull::Refuse => Err(PickError::Overloaded),
            },
        }
    }
}

/// What an endpoint may have by its label `max`.
fn label(endpoint: &Endpoint) -> Option<NonZeroU32> {
    let (_, max) = endpoint.labels.iter().find(|(name, _)| name == "max")?;
    let max = max.parse().ok();
    if max.is_none() {
        warn!("the label `max` of {} must be a whole number from 1 on; it is ignored", endpoint.address);
    }
    max
}

staunch_plugin::export!(balancer: First);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{self, Host, endpoint, pick_context};

    use super::*;

    fn configured(host: &Host, endpoints: impl Into<Endpoints>) -> First {
        let mut balancer: First = host.balancer().expect("the settings are right");
        balancer.update(endpoints.into());
        host.calls();
        balancer
    }

    fn labelled(id: EndpointId, max: &str) -> Endpoint {
        Endpoint { labels: vec![("max".to_owned(), max.to_owned())], ..endpoint(id) }
    }

    #[test]
    fn the_next_is_used_when_those_before_are_full() {
        let host = Host::new();
        host.set("max", 2);
        let mut balancer = configured(&host, testing::endpoints(3));

        for (active, expected) in [([0, 0, 0], 0), ([1, 0, 0], 0), ([2, 0, 0], 1), ([2, 2, 0], 2), ([1, 2, 1], 0)] {
            active.iter().zip(0..).for_each(|(&active, id)| host.set_active(id, active));
            assert_eq!(balancer.pick(&pick_context()), Ok(expected), "with {active:?}");
        }
    }

    #[test]
    fn when_all_are_full_the_least_full_gets_more_or_nobody_does() {
        let host = Host::new();
        host.set("max", 2);
        let full = || vec![endpoint(0), labelled(1, "10")];
        host.set_active(0, 3);
        host.set_active(1, 12);

        assert_eq!(configured(&host, full()).pick(&pick_context()), Ok(1));

        host.set("when_full", "refuse");
        assert_eq!(configured(&host, full()).pick(&pick_context()), Err(PickError::Overloaded));
    }

    #[test]
    fn a_label_says_more_than_the_setting() {
        let host = Host::new();
        host.set("max", 1);
        let mut balancer = configured(&host, vec![labelled(0, "3"), labelled(1, "many"), endpoint(2)]);
        host.set_active(0, 2);
        assert_eq!(balancer.pick(&pick_context()), Ok(0));

        host.set_active(0, 3);
        assert_eq!(balancer.pick(&pick_context()), Ok(1));

        host.set_active(1, 1);
        assert_eq!(balancer.pick(&pick_context()), Ok(2));
        assert_eq!(host.logs().len(), 1, "the label that is no number");
    }

    #[test]
    fn without_any_bound_the_first_ready_one_has_it_all() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(3));
        host.set_active(0, 1_000_000);

        assert_eq!(balancer.pick(&pick_context()), Ok(0));
        assert_eq!(host.calls(), [""; 0], "no count is needed");

        balancer.change(&[EndpointChange { id: 0, weight: 1, ready: false }]);
        assert_eq!(balancer.pick(&pick_context()), Ok(1));
    }

    #[test]
    fn a_further_attempt_goes_to_the_next_and_backups_come_last() {
        let host = Host::new();
        let mut balancer = configured(&host, vec![Endpoint { priority: 1, ..endpoint(0) }, endpoint(1), endpoint(2)]);

        for (tried, expected) in [(&[1][..], 2), (&[1, 2], 0), (&[0, 1, 2], 1)] {
            host.set_tried(tried);
            let cx = PickContext { attempt: tried.len() as u32, ..pick_context() };
            assert_eq!(balancer.pick(&cx), Ok(expected), "after {tried:?}");
        }
    }

    #[test]
    fn a_wrong_setting_is_refused() {
        let host = Host::new();
        host.set("max", 0);
        host.set("when_full", "refused");

        let issues = host.balancer::<First>().err().expect("they are wrong");

        assert_eq!(
            issues.to_string(),
            "`max` must be a whole number from 1 to 4294967295; \
             `when_full` cannot be `refused`; did you mean `refuse`?"
        );
    }

    #[test]
    fn without_ready_endpoints_there_is_none_to_pick() {
        let host = Host::new();
        let mut balancer = configured(&host, vec![Endpoint { ready: false, ..endpoint(0) }]);

        assert_eq!(balancer.pick(&pick_context()), Err(PickError::Unavailable));
    }
}
