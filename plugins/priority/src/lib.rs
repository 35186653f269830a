//! The balancer `priority`: levels of endpoints, of which a lower one has traffic as far as those above are too weak.

mod level;

use staunch_plugin::algorithms::Levels;
use staunch_plugin::delegate::{self, Group};
use staunch_plugin::{
    Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Invalid, PickContext, PickError, random,
    warn,
};

use level::{Listed, Ranks};

struct Priority {
    factor: f64,
    listed: Listed,
    endpoints: Endpoints,
    levels: Levels,
    /// By level.
    groups: Vec<Group>,
}

/// So that the balancer behind, which is given the same random bits, draws independently.
const DRAW: u32 = u32::MAX;

impl Balancer for Priority {
    fn configure(config: &Config, _: &mut BalancerNeeds) -> Result<Self, Invalid> {
        config.only(&["factor", "levels"]);
        let factor = config.get_or("factor", 1.4);
        if factor < 1.0 {
            config.issue("factor", "must be 1 or more");
        }
        let listed = Listed::read(config);
        Ok(Self { factor, listed, endpoints: Endpoints::default(), levels: Levels::new(factor), groups: Vec::new() })
    }

    fn update(&mut self, endpoints: Endpoints) {
        for address in self.listed.unknown(&endpoints) {
            warn!("`levels` names {address}, which is no endpoint");
        }
        let ranks = Ranks::of(&endpoints, &self.listed);
        self.levels = Levels::new(self.factor);
        let mut members = vec![Vec::new(); ranks.count()];
        for (endpoint, level) in endpoints.iter().zip(ranks.levels()) {
            self.levels.push(Some(level), endpoint.ready);
            members[level].push(endpoint.id);
        }
        self.groups = members.iter().map(|ids| Group::new(ids)).collect();
        self.endpoints = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        for change in changes {
            if let Some(position) = self.endpoints.position(change.id) {
                self.levels.change(position, change.ready);
            }
        }
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        let tried = self.endpoints.tried(cx);
        let level = self.levels.pick(&tried, random::mix(cx.random, DRAW)).ok_or(PickError::Unavailable)?;
        self.pick_from(level)
    }
}

impl Priority {
    /// What the balancer behind picks of a level or, when it refuses, of those after it and then of those before it.
    fn pick_from(&self, level: usize) -> Result<EndpointId, PickError> {
        let (before, from) = self.groups.split_at(level);
        delegate::pick_of(from.iter().chain(before).copied())
    }
}

staunch_plugin::export!(balancer: Priority);

#[cfg(test)]
mod tests {
    use staunch_plugin::Endpoint;
    use staunch_plugin::testing::{Host, endpoint, pick_context};

    use super::*;

    fn configured(host: &Host, endpoints: Vec<Endpoint>) -> Priority {
        let mut balancer: Priority = host.balancer().expect("the settings are right");
        balancer.update(endpoints.into());
        balancer
    }

    /// So many endpoints of each level, which are ready.
    fn levels(count: usize, ready: &[usize]) -> Vec<Endpoint> {
        let rows = ready.iter().zip(0..).flat_map(|(&ready, priority)| (0..count).map(move |n| (priority, n < ready)));
        rows.zip(0..).map(|((priority, ready), id)| Endpoint { priority, ready, ..endpoint(id) }).collect()
    }

    /// The percentage of picks that each of two levels of so many endpoints gets.
    fn shares(balancer: &mut Priority, count: u32) -> [i32; 2] {
        let mut picks = [0; 2];
        for _ in 0..10_000 {
            picks[(balancer.pick(&pick_context()).expect("one is ready") / count) as usize] += 1;
        }
        picks.map(|picks| (picks + 50) / 100)
    }

    #[test]
    fn levels_share_as_envoys() {
        for (ready, expected) in [
            ([72, 72], [100, 0]),
            ([50, 100], [70, 30]),
            ([25, 25], [50, 50]),
            ([5, 65], [7, 93]),
            ([0, 100], [0, 100]),
        ] {
            let host = Host::new();
            host.seed(7);
            let mut balancer = configured(&host, levels(100, &ready));

            let shares = shares(&mut balancer, 100);

            let near = shares.iter().zip(expected).all(|(share, expected)| (share - expected).abs() <= 2);
            assert!(near, "{shares:?} for {ready:?}");
            assert!(!expected.contains(&0) || shares == expected, "{shares:?} for {ready:?}");
        }
    }

    #[test]
    fn a_change_of_readiness_shifts_the_shares() {
        let host = Host::new();
        let mut balancer = configured(&host, levels(2, &[2, 2]));
        assert_eq!(shares(&mut balancer, 2), [100, 0]);

        balancer.change(&[EndpointChange { id: 0, weight: 1, ready: false }]);
        assert!((68..=72).contains(&shares(&mut balancer, 2)[0]));

        balancer.change(&[EndpointChange { id: 1, weight: 1, ready: false }]);
        assert_eq!(shares(&mut balancer, 2), [0, 100]);
    }

    #[test]
    fn there_is_a_group_for_each_level() {
        let host = Host::new();
        let label =
            |id, level: &str| Endpoint { labels: vec![("priority".to_owned(), level.to_owned())], ..endpoint(id) };
        configured(&host, vec![label(0, "10"), endpoint(1), label(2, "3"), label(3, "10")]);

        assert_eq!(host.groups(), [vec![1], vec![2], vec![0, 3]]);
    }

    #[test]
    fn levels_may_be_listed_and_what_is_not_comes_last() {
        let host = Host::new();
        host.set_list("levels.0", ["endpoint-2:80"]);
        host.set_list("levels.1", ["endpoint-0:80", "endpoint-9:80"]);

        configured(&host, vec![endpoint(0), endpoint(1), endpoint(2)]);

        assert_eq!(host.groups(), [[2], [0], [1]]);
        assert_eq!(host.logs()[0].1, "`levels` names endpoint-9:80, which is no endpoint");
    }

    #[test]
    fn a_further_attempt_leaves_a_level_of_which_all_were_tried() {
        let host = Host::new();
        let mut balancer = configured(&host, levels(2, &[1, 2]));
        host.set_tried(&[0]);
        host.set_avoided(&[1]);

        for _ in 0..50 {
            let picked = balancer.pick(&PickContext { attempt: 1, ..pick_context() });
            assert!(matches!(picked, Ok(2 | 3)), "{picked:?}");
        }
    }

    #[test]
    fn a_level_whose_balancer_refuses_gives_way() {
        let host = Host::new();
        let mut balancer = configured(&host, levels(1, &[1, 1]));

        host.set_avoided(&[0]);
        assert_eq!(balancer.pick(&pick_context()), Ok(1));

        host.set_avoided(&[0, 1]);
        assert_eq!(balancer.pick(&pick_context()), Err(PickError::Unavailable));
    }

    #[test]
    fn without_ready_endpoints_there_is_none_to_pick() {
        let host = Host::new();

        assert_eq!(configured(&host, levels(2, &[0, 0])).pick(&pick_context()), Err(PickError::Unavailable));
        assert_eq!(configured(&host, Vec::new()).pick(&pick_context()), Err(PickError::Unavailable));
    }

    #[test]
    fn a_wrong_setting_is_refused() {
        let host = Host::new();
        host.set("factor", 0.5);
        host.set_list("levels.0", ["a:80", "b:80"]);
        host.set_list("levels.1", ["a:80"]);

        let issues = host.balancer::<Priority>().err().expect("they are wrong");

        assert_eq!(
            issues.to_string(),
            "`factor` must be 1 or more; `levels.1` names a:80, which is on a level already"
        );
    }
}
