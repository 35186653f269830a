//! The balancer `rendezvous`: weighted rendezvous hashing, which needs no table and moves the fewest keys there can be.

mod score;

use std::cmp::Ordering;

use staunch_plugin::algorithms::BoundedLoad;
use staunch_plugin::{
    Balancer, BalancerNeeds, Config, Endpoint, EndpointChange, EndpointId, Endpoints, Invalid, PickContext, PickError,
};

use score::{score, seed};

struct Rendezvous {
    bound: Option<BoundedLoad>,
    endpoints: Endpoints,
    /// What each is known by, by slot.
    seeds: Vec<u64>,
}

impl Balancer for Rendezvous {
    fn configure(config: &Config, needs: &mut BalancerNeeds) -> Result<Self, Invalid> {
        config.only(&["key", "hash_balance_factor"]);
        let key = needs.want_key_of(config, "key");
        let bound = config.get("hash_balance_factor");
        key?;
        Ok(Self { bound, endpoints: Endpoints::default(), seeds: Vec::new() })
    }

    fn update(&mut self, endpoints: Endpoints) {
        let slots = endpoints.iter().map(|endpoint| endpoint.id as usize + 1).max().unwrap_or(0);
        self.seeds = vec![0; slots];
        for endpoint in &endpoints {
            self.seeds[endpoint.id as usize] = seed(&endpoint.address);
        }
        self.endpoints = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        self.endpoints.apply(changes);
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        let key = cx.key.unwrap_or(cx.random);
        let room = self.bound.map(|bound| bound.measure(self.endpoints.candidates(cx)));
        let has_room = |endpoint: &&Endpoint| room.as_ref().is_none_or(|room| room.is_for(endpoint));
        let scored =
            self.endpoints.candidates(cx).filter(has_room).map(|endpoint| (self.score(key, endpoint), endpoint.id));
        let wins = |a: &(f64, _), b: &(f64, _)| -> Ordering { a.0.total_cmp(&b.0) };
        scored.max_by(wins).map(|(_, id)| id).ok_or(PickError::Unavailable)
    }
}

impl Rendezvous {
    fn score(&self, key: u64, endpoint: &Endpoint) -> f64 {
        score(key, self.seeds.get(endpoint.id as usize).copied().unwrap_or(0), endpoint.weight)
    }
}

staunch_plugin::export!(balancer: Rendezvous);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{self, Host, endpoint, pick_context};
    use staunch_plugin::{KeySource, random};

    use super::*;

    fn configured(host: &Host, endpoints: impl Into<Endpoints>) -> Rendezvous {
        host.set_list("key", ["header:x-tenant", "client-address"]);
        let mut balancer: Rendezvous = host.balancer().expect("the settings are right");
        balancer.update(endpoints.into());
        host.calls();
        balancer
    }

    fn pick(host: &Host, balancer: &mut Rendezvous, key: u64, tried: &[EndpointId]) -> Result<EndpointId, PickError> {
        host.set_tried(tried);
        balancer.pick(&PickContext { key: Some(key), attempt: tried.len() as u32, ..pick_context() })
    }

    fn picks(host: &Host, balancer: &mut Rendezvous) -> Vec<EndpointId> {
        (0..1000).map(|key| pick(host, balancer, random::mix(key, 1), &[]).expect("one is ready")).collect()
    }

    #[test]
    fn a_key_stays_and_no_key_goes_anywhere() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(3));
        assert_eq!(host.wanted_keys(), [KeySource::Header("x-tenant".into()), KeySource::ClientAddress]);

        let mut anywhere = [0; 3];
        for _ in 0..300 {
            assert_eq!(pick(&host, &mut balancer, 7, &[]), pick(&host, &mut balancer, 7, &[]));
            anywhere[balancer.pick(&pick_context()).expect("all are ready") as usize] += 1;
        }

        assert!(anywhere.iter().all(|got| (60..140).contains(got)), "{anywhere:?}");
        assert_eq!(host.calls(), [""; 0], "it asks the host nothing");
    }

    #[test]
    fn an_endpoint_that_leaves_moves_its_own_keys_alone() {
        let host = Host::new();
        let all: Vec<_> = (0..5).map(endpoint).collect();
        let before = picks(&host, &mut configured(&host, all.clone()));

        let gone = picks(&host, &mut configured(&host, [&all[..2], &all[3..]].concat()));
        let mut balancer = configured(&host, all);
        balancer.change(&[EndpointChange { id: 2, weight: 1, ready: false }]);
        let not_ready = picks(&host, &mut balancer);

        assert_eq!(gone, not_ready);
        assert!(before.iter().zip(&gone).all(|(was, is)| was == is || *was == 2));
        assert!(!gone.contains(&2));
    }

    #[test]
    fn the_same_address_gets_the_same_keys_in_any_place() {
        let host = Host::new();
        let address = |id| Endpoint { address: format!("10.0.0.{id}:80"), ..endpoint(id) };
        let moved = |id: EndpointId| Endpoint { id: 30 - id, ..address(id) };

        let one = picks(&host, &mut configured(&host, vec![address(1), address(2), address(3)]));
        let other = picks(&host, &mut configured(&host, vec![moved(3), moved(1), moved(2)]));

        assert_eq!(one, other.into_iter().map(|id| 30 - id).collect::<Vec<_>>());
    }

    #[test]
    fn a_new_weight_holds_at_once() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(3));

        balancer.change(&[EndpointChange { id: 1, weight: 98, ready: true }]);

        let heavy = picks(&host, &mut balancer).iter().filter(|&&id| id == 1).count();
        assert!((960..1000).contains(&heavy), "{heavy}");
    }

    #[test]
    fn a_further_attempt_goes_elsewhere_and_to_backups_last() {
        let host = Host::new();
        let backup = |id| Endpoint { priority: 1, ..endpoint(id) };
        let mut balancer = configured(&host, vec![endpoint(0), endpoint(1), backup(2), backup(3)]);
        for key in 0..20 {
            let mut tried = Vec::new();
            for _ in 0..4 {
                tried.push(pick(&host, &mut balancer, key, &tried).expect("one is ready"));
            }
            let mut sorted = tried.clone();
            sorted[..2].sort_unstable();
            sorted[2..].sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3]);
            assert_eq!(pick(&host, &mut balancer, key, &tried), Ok(tried[0]), "when all were tried");
        }
    }

    #[test]
    fn a_key_goes_elsewhere_while_its_endpoint_is_at_the_bound() {
        let host = Host::new();
        host.set("hash_balance_factor", 150);
        let mut balancer = configured(&host, testing::endpoints(4));
        let home = pick(&host, &mut balancer, 7, &[]).expect("all are ready");

        let mut active = [0; 4];
        for _ in 0..200 {
            let picked = pick(&host, &mut balancer, 7, &[]).expect("all are ready");
            active[picked as usize] += 1;
            host.set_active(picked, active[picked as usize]);
            let bound = (active.iter().sum::<u32>() * 150).div_ceil(100).div_ceil(4);
            assert!(active[picked as usize] <= bound, "{active:?}");
        }

        // 300 slots for all of them, once there are 200 requests.
        assert_eq!(active[home as usize], 75, "{active:?}");
    }

    #[test]
    fn without_a_ready_endpoint_there_is_none_to_pick() {
        let host = Host::new();
        let mut balancer = configured(&host, vec![Endpoint { ready: false, ..endpoint(0) }]);
        assert_eq!(pick(&host, &mut balancer, 1, &[]), Err(PickError::Unavailable));

        balancer.update(Endpoints::default());
        assert_eq!(pick(&host, &mut balancer, 1, &[]), Err(PickError::Unavailable));
    }

    #[test]
    fn wrong_settings_are_named() {
        let host = Host::new();
        host.set_list("key", ["cokie:a"]);
        host.set("hash_balance_factor", "lots");
        host.set("table_size", 7);

        let issues = host.balancer::<Rendezvous>().err().expect("they are wrong");

        assert_eq!(
            issues.to_string(),
            "`table_size` is unknown; there are `key`, `hash_balance_factor`; \
             `key.0` cannot be `cokie:a`; did you mean `cookie`?; \
             `hash_balance_factor` must be a percentage from 100 to 1000000"
        );
    }
}
