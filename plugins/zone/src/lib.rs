//! The balancer `zone`: the own zone first, and others as far as it is too weak.

use std::collections::BTreeSet;

use staunch_plugin::algorithms::Levels;
use staunch_plugin::delegate::{self, Group};
use staunch_plugin::{
    Balancer, BalancerNeeds, Config, Endpoint, EndpointChange, EndpointId, Endpoints, Invalid, PickContext, PickError,
    random, warn,
};

struct Zone {
    /// The own one first, then those that are next best; all others are behind them.
    zones: Vec<String>,
    factor: f64,
    endpoints: Endpoints,
    /// Primaries, then backups.
    tiers: Vec<Tier>,
}

/// The endpoints of one priority, in a group for each zone.
struct Tier {
    levels: Levels,
    groups: Vec<Group>,
}

/// With the zones of primaries and backups they stay below the groups that the host makes.
const MOST_ZONES: usize = 16;

/// So that the balancer behind, which is given the same random bits, draws independently.
const DRAW: u32 = u32::MAX - 1;

impl Balancer for Zone {
    fn configure(config: &Config, _: &mut BalancerNeeds) -> Result<Self, Invalid> {
        config.only(&["zone", "threshold"]);
        let zones: Vec<String> = config.values("zone");
        if !config.has("zone") {
            config.issue("zone", "is required: the zone this proxy is in");
        } else if zones.is_empty() || zones.iter().any(String::is_empty) {
            config.issue("zone", "must be a zone's name, or a list of names with the own one first");
        } else if zones.len() > MOST_ZONES {
            config.issue("zone", format!("can list at most {MOST_ZONES} zones"));
        }
        let threshold = config.get_or("threshold", 0.7);
        if !(0.0..=1.0).contains(&threshold) {
            config.issue("threshold", "must be a share from 0 to 1");
        }
        // A threshold of 0 makes any ready endpoint enough.
        Ok(Self { zones, factor: 1.0 / threshold.max(1e-9), endpoints: Endpoints::default(), tiers: Vec::new() })
    }

    fn update(&mut self, endpoints: Endpoints) {
        if let Some(own) = self.zones.first()
            && !endpoints.iter().any(|endpoint| endpoint.zone.as_ref() == Some(own))
        {
            warn!("no endpoint is in the zone `{own}`");
        }
        let priorities: BTreeSet<u32> = endpoints.iter().map(|endpoint| endpoint.priority).collect();
        self.tiers = priorities.into_iter().map(|priority| self.tier(&endpoints, priority)).collect();
        self.endpoints = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        for change in changes {
            if let Some(position) = self.endpoints.position(change.id) {
                self.tiers.iter_mut().for_each(|tier| tier.levels.change(position, change.ready));
            }
        }
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        let tried = self.endpoints.tried(cx);
        let random = random::mix(cx.random, DRAW);
        let with_untried = self.tiers.iter().find(|tier| tier.levels.has_untried(&tried));
        let tier = with_untried.or_else(|| self.tiers.iter().find(|tier| tier.levels.has_untried(&[])));
        let tier = tier.ok_or(PickError::Unavailable)?;
        tier.pick_from(tier.levels.pick(&tried, random).ok_or(PickError::Unavailable)?)
    }
}

impl Zone {
    fn tier(&self, endpoints: &Endpoints, priority: u32) -> Tier {
        let mut levels = Levels::new(self.factor);
        let mut members = vec![Vec::new(); self.zones.len() + 1];
        for endpoint in endpoints {
            let level = (endpoint.priority == priority).then(|| self.level(endpoint));
            levels.push(level, endpoint.ready);
            if let Some(level) = level {
                members[level].push(endpoint.id);
            }
        }
        Tier { levels, groups: members.iter().map(|ids| Group::new(ids)).collect() }
    }

    /// The place of an endpoint's zone in the order.
    fn level(&self, endpoint: &Endpoint) -> usize {
        let place = endpoint.zone.as_ref().and_then(|zone| self.zones.iter().position(|known| known == zone));
        place.unwrap_or(self.zones.len())
    }
}

impl Tier {
    /// What the balancer behind picks of a zone or, when it refuses, of those after it and then of those before it.
    fn pick_from(&self, level: usize) -> Result<EndpointId, PickError> {
        let (before, from) = self.groups.split_at(level);
        delegate::pick_of(from.iter().chain(before).copied())
    }
}

staunch_plugin::export!(balancer: Zone);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{Host, endpoint, pick_context};

    use super::*;

    fn within(id: EndpointId, zone: &str) -> Endpoint {
        Endpoint { zone: Some(zone.to_owned()), ..endpoint(id) }
    }

    fn configured(host: &Host, endpoints: Vec<Endpoint>) -> Zone {
        let mut balancer: Zone = host.balancer().expect("the settings are right");
        balancer.update(endpoints.into());
        balancer
    }

    /// Ten endpoints in each of two zones, of which so many are ready.
    fn two_zones(ready: [u32; 2]) -> Vec<Endpoint> {
        let zones = [("a", ready[0], 0), ("b", ready[1], 10)];
        let endpoints =
            |(zone, ready, first)| (0..10).map(move |n| Endpoint { ready: n < ready, ..within(first + n, zone) });
        zones.into_iter().flat_map(endpoints).collect()
    }

    /// The percentage of picks that stay in the zone of the first ten.
    fn own_share(balancer: &mut Zone) -> u32 {
        let own = (0..2000).filter(|_| balancer.pick(&pick_context()).expect("one is ready") < 10).count();
        (own as u32 + 10) / 20
    }

    #[test]
    fn the_own_zone_has_all_until_too_little_of_it_is_ready() {
        for (ready, from, to) in [
            ([10, 10], 100, 100),
            ([7, 10], 100, 100),
            ([6, 10], 83, 89),
            ([2, 10], 25, 32),
            ([0, 10], 0, 0),
            ([1, 0], 100, 100),
        ] {
            let host = Host::new();
            host.set("zone", "a");
            let share = own_share(&mut configured(&host, two_zones(ready)));
            assert!((from..=to).contains(&share), "{share} % for {ready:?}");
        }
    }

    #[test]
    fn the_threshold_says_how_much_is_too_little() {
        for (threshold, from, to) in [("0", 100, 100), ("0.2", 100, 100), ("0.4", 46, 54), ("1", 17, 23)] {
            let host = Host::new();
            host.set("zone", "a");
            host.set("threshold", threshold);
            let share = own_share(&mut configured(&host, two_zones([2, 10])));
            assert!((from..=to).contains(&share), "{share} % with {threshold}");
        }
    }

    #[test]
    fn a_change_of_readiness_shifts_the_shares() {
        let host = Host::new();
        host.set("zone", "a");
        let mut balancer = configured(&host, two_zones([10, 10]));

        let down: Vec<_> = (0..10).map(|id| EndpointChange { id, weight: 1, ready: false }).collect();
        balancer.change(&down);

        assert_eq!(own_share(&mut balancer), 0);
    }

    #[test]
    fn there_is_a_group_for_each_zone_of_the_order_and_one_for_the_rest() {
        let host = Host::new();
        host.set_list("zone", ["b", "a"]);
        configured(&host, vec![within(0, "a"), within(1, "b"), within(2, "c"), endpoint(3), within(4, "b")]);

        assert_eq!(host.groups(), [vec![1, 4], vec![0], vec![2, 3]]);
    }

    #[test]
    fn backups_of_the_own_zone_wait_for_the_primaries_of_every_zone() {
        let host = Host::new();
        host.set("zone", "a");
        let mut balancer = configured(
            &host,
            vec![
                Endpoint { priority: 1, ..within(0, "a") },
                Endpoint { priority: 1, ..within(1, "b") },
                within(2, "b"),
            ],
        );
        assert_eq!(balancer.pick(&pick_context()), Ok(2));

        host.set_tried(&[2]);
        assert_eq!(balancer.pick(&PickContext { attempt: 1, ..pick_context() }), Ok(0));

        balancer.change(&[EndpointChange { id: 2, weight: 1, ready: false }]);
        assert_eq!(balancer.pick(&pick_context()), Ok(0));
    }

    #[test]
    fn a_further_attempt_leaves_a_zone_of_which_all_were_tried() {
        let host = Host::new();
        host.set("zone", "a");
        let mut balancer = configured(&host, vec![within(0, "a"), within(1, "b")]);

        for (tried, expected) in [(&[0][..], 1), (&[0, 1], 0)] {
            host.set_tried(tried);
            let cx = PickContext { attempt: tried.len() as u32, ..pick_context() };
            assert_eq!(balancer.pick(&cx), Ok(expected), "after {tried:?}");
        }
    }

    #[test]
    fn a_zone_whose_balancer_refuses_gives_way() {
        let host = Host::new();
        host.set("zone", "a");
        let mut balancer = configured(&host, vec![within(0, "a"), within(1, "b")]);

        host.set_avoided(&[0]);
        assert_eq!(balancer.pick(&pick_context()), Ok(1));

        host.set_avoided(&[0, 1]);
        assert_eq!(balancer.pick(&pick_context()), Err(PickError::Unavailable));
    }

    #[test]
    fn a_zone_without_endpoints_is_said() {
        let host = Host::new();
        host.set("zone", "z");
        let mut balancer = configured(&host, vec![within(0, "a")]);

        assert_eq!(host.logs()[0].1, "no endpoint is in the zone `z`");
        assert_eq!(balancer.pick(&pick_context()), Ok(0));
    }

    #[test]
    fn without_ready_endpoints_there_is_none_to_pick() {
        let host = Host::new();
        host.set("zone", "a");

        assert_eq!(configured(&host, two_zones([0, 0])).pick(&pick_context()), Err(PickError::Unavailable));
        assert_eq!(configured(&host, Vec::new()).pick(&pick_context()), Err(PickError::Unavailable));
    }

    #[test]
    fn a_wrong_setting_is_refused() {
        let host = Host::new();
        host.set("threshold", 70);
        let issues = host.balancer::<Zone>().err().expect("they are wrong");
        assert_eq!(
            issues.to_string(),
            "`zone` is required: the zone this proxy is in; `threshold` must be a share from 0 to 1"
        );

        host.set_list("zone", [""; 0]);
        let issues = host.balancer::<Zone>().err().expect("they are wrong");
        assert_eq!(issues[0].to_string(), "`zone` must be a zone's name, or a list of names with the own one first");
    }
}
