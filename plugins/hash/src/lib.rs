//! The balancer `hash`: nginx's `hash`, plain or consistent, where requests with the same key go to the same endpoint.

mod crc32;
mod ketama;
mod plain;

use staunch_plugin::algorithms::{BoundedLoad, Eligible, Groups, Smooth};
use staunch_plugin::{
    Balancer, BalancerNeeds, Config, Endpoint, EndpointChange, EndpointId, Endpoints, Invalid, PickContext, PickError,
    selection,
};

use ketama::Ring;
use plain::Plain;

struct Hash {
    consistent: bool,
    bound: Option<BoundedLoad>,
    endpoints: Endpoints,
    groups: Groups<Table>,
    /// Who decides about a request without a key, and when too many hashes lead nowhere.
    turns: Smooth,
    /// Whether a ring lacks points of a weight that has risen.
    is_growing: bool,
}

/// How the endpoints of a group share the keys.
enum Table {
    Plain(Plain),
    Consistent(Ring),
}

impl Balancer for Hash {
    fn configure(config: &Config, needs: &mut BalancerNeeds) -> Result<Self, Invalid> {
        config.only(&["key", "consistent", "hash_balance_factor"]);
        let key = needs.want_key_of(config, "key");
        let consistent = config.get_or("consistent", false);
        let bound = config.get("hash_balance_factor");
        if bound.is_some() && !consistent {
            config.issue("hash_balance_factor", "needs `consistent = true`");
        }
        key?;
        Ok(Self {
            consistent,
            bound,
            endpoints: Endpoints::default(),
            groups: Groups::default(),
            turns: Smooth::default(),
            is_growing: false,
        })
    }

    fn update(&mut self, endpoints: Endpoints) {
        self.groups = Groups::new(&endpoints, |members| Table::new(self.consistent, members));
        self.turns = Smooth::of(&endpoints);
        self.endpoints = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        for change in changes {
            let Some(position) = self.endpoints.position(change.id) else { continue };
            if let Some(table) = self.groups.change(position, change.ready) {
                table.set_weight(position, change.weight);
            }
            self.turns.change(position, change.weight, change.ready);
        }
        self.endpoints.apply(changes);
        self.grow();
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        if self.is_growing {
            self.grow();
        }
        let tried = self.endpoints.tried(cx);
        let key = selection::key().filter(|key| !key.is_empty());
        let belongs = key.and_then(|key| {
            self.groups.pick(&tried, |table, eligible| {
                let position = table.pick(&key, eligible)?;
                Some(self.with_room(position, cx, eligible))
            })
        });
        let position = belongs.or_else(|| self.turns.pick(&tried));
        position
            .and_then(|position| self.endpoints.at(position))
            .map(|endpoint| endpoint.id)
            .ok_or(PickError::Unavailable)
    }
}

impl Hash {
    /// The endpoint that a key belongs to, or another one if its load is bounded and at the bound.
    fn with_room(&self, position: usize, cx: &PickContext, eligible: &Eligible<'_>) -> usize {
        let Some(bound) = self.bound else { return position };
        let room = bound.measure(eligible.iter().filter_map(|position| self.endpoints.at(position)));
        let has_room = |position| self.endpoints.at(position).is_some_and(|endpoint| room.is_for(endpoint));
        if has_room(position) {
            return position;
        }
        eligible.first_for(cx.key.unwrap_or(cx.random), has_room).unwrap_or(position)
    }

    fn grow(&mut self) {
        self.is_growing = self.groups.tables().fold(false, |growing, table| growing | !table.grow());
    }
}

impl Table {
    fn new(consistent: bool, members: &[(usize, &Endpoint)]) -> Self {
        if consistent { Self::Consistent(Ring::new(members)) } else { Self::Plain(Plain::new(members)) }
    }

    fn set_weight(&mut self, position: usize, weight: u32) {
        match self {
            Self::Plain(plain) => plain.set_weight(position, weight),
            Self::Consistent(ring) => ring.set_weight(position, weight),
        }
    }

    /// Takes a step towards the weights that were set. Whether it was the last.
    fn grow(&mut self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Consistent(ring) => ring.grow(),
        }
    }

    fn pick(&self, key: &[u8], eligible: &Eligible<'_>) -> Option<usize> {
        match self {
            Self::Plain(plain) => plain.pick(key, eligible.tried(), |position| eligible.contains(position)),
            Self::Consistent(ring) => ring.pick(key, |position| eligible.contains(position)),
        }
    }
}

staunch_plugin::export!(balancer: Hash);

#[cfg(test)]
mod tests {
    use staunch_plugin::KeySource;
    use staunch_plugin::testing::{self, Host, endpoint, pick_context};

    use super::*;

    fn configured(host: &Host, endpoints: impl Into<Endpoints>) -> Hash {
        host.set("key", "query:k");
        let mut balancer: Hash = host.balancer().expect("the settings are right");
        balancer.update(endpoints.into());
        balancer
    }

    fn consistent(host: &Host, endpoints: impl Into<Endpoints>) -> Hash {
        host.set("consistent", true);
        configured(host, endpoints)
    }

    fn pick(host: &Host, balancer: &mut Hash, key: &str, tried: &[EndpointId]) -> Result<EndpointId, PickError> {
        host.set_key(Some(key.as_bytes()));
        host.set_tried(tried);
        let hash = key.bytes().fold(7, |hash: u64, byte| hash * 31 + u64::from(byte));
        balancer.pick(&PickContext { key: Some(hash), attempt: tried.len() as u32, ..pick_context() })
    }

    fn picks(host: &Host, balancer: &mut Hash, keys: usize) -> String {
        let name = |id: EndpointId| char::from(b'1' + id as u8);
        (0..keys).map(|n| pick(host, balancer, &format!("k{n}"), &[]).map_or('-', name)).collect()
    }

    /// Five servers of which two are down, one of them heavy, so that many keys end with round robin.
    fn mostly_down() -> Vec<Endpoint> {
        let server = |id, weight, ready| {
            let address = format!("127.0.0.1:{}", 39001 + id);
            Endpoint { address, weight, ready, ..endpoint(id) }
        };
        vec![server(0, 1, true), server(1, 1, false), server(2, 2, true), server(3, 50, false), server(4, 1, true)]
    }

    /// What nginx 1.22 answers for the same servers, first for `hash`, then for `hash … consistent`.
    #[test]
    fn round_robin_takes_over_as_in_nginx() {
        let host = Host::new();
        let expected = "5333353313355155351151531153513553333533";
        assert_eq!(picks(&host, &mut configured(&host, mostly_down()), expected.len()), expected);

        let expected = "1313331513553553133353111531331533553313";
        assert_eq!(picks(&host, &mut consistent(&host, mostly_down()), expected.len()), expected);
    }

    #[test]
    fn requests_without_a_key_take_turns() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(3));

        assert_eq!(host.wanted_keys(), [KeySource::Query("k".into())]);
        assert_eq!([(); 4].map(|()| pick(&host, &mut balancer, "", &[])), [Ok(0), Ok(1), Ok(2), Ok(0)]);
        host.set_key(None);
        assert_eq!([(); 2].map(|()| balancer.pick(&pick_context())), [Ok(1), Ok(2)]);
    }

    #[test]
    fn a_further_attempt_goes_elsewhere_and_to_backups_last() {
        let backup = |id| Endpoint { priority: 1, ..endpoint(id) };
        for consistent in [false, true] {
            let host = Host::new();
            host.set("consistent", consistent);
            let mut balancer = configured(&host, vec![endpoint(0), endpoint(1), backup(2), backup(3)]);
            for key in ["a", "b", "c", "d"] {
                let mut tried = Vec::new();
                for _ in 0..4 {
                    tried.push(pick(&host, &mut balancer, key, &tried).expect("one is ready"));
                }
                let mut sorted = tried.clone();
                sorted[..2].sort_unstable();
                sorted[2..].sort_unstable();
                assert_eq!(sorted, [0, 1, 2, 3], "{key}");
                assert_eq!(pick(&host, &mut balancer, key, &tried), Ok(tried[0]), "when all were tried");
            }
        }
    }

    #[test]
    fn backups_share_the_keys_by_the_same_hash() {
        let host = Host::new();
        let mut balancer = consistent(&host, testing::endpoints(3));
        let expected = picks(&host, &mut balancer, 100);

        let backups = (0..3).map(|id| Endpoint { priority: 1, ..endpoint(id) });
        let primary = Endpoint { ready: false, ..endpoint(3) };
        let mut balancer = consistent(&host, backups.chain([primary]).collect::<Vec<_>>());

        assert_eq!(picks(&host, &mut balancer, 100), expected);
    }

    #[test]
    fn weights_and_readiness_change_in_place() {
        let host = Host::new();
        let mut balancer = consistent(&host, testing::endpoints(3));
        let even = picks(&host, &mut balancer, 300);

        let change = |weight, ready| [EndpointChange { id: 1, weight, ready }, EndpointChange { id: 9, weight, ready }];
        balancer.change(&change(300, true));
        let heavy = picks(&host, &mut balancer, 300);
        balancer.change(&change(1, true));
        assert_eq!(picks(&host, &mut balancer, 300), even);
        balancer.change(&change(1, false));
        let without = picks(&host, &mut balancer, 300);

        assert!(heavy.matches('2').count() > 290, "{heavy}");
        assert!(even.chars().zip(without.chars()).all(|(even, without)| even == without || even == '2'));
        assert!(!without.contains('2'));
    }

    #[test]
    fn a_key_goes_elsewhere_while_its_endpoint_is_at_the_bound() {
        let host = Host::new();
        host.set("hash_balance_factor", 150);
        let mut balancer = consistent(&host, testing::endpoints(4));
        let home = pick(&host, &mut balancer, "hot", &[]).expect("all are ready");

        let mut active = [0; 4];
        for _ in 0..200 {
            let picked = pick(&host, &mut balancer, "hot", &[]).expect("all are ready");
            active[picked as usize] += 1;
            host.set_active(picked, active[picked as usize]);
            let bound = (active.iter().sum::<u32>() * 150).div_ceil(100).div_ceil(4);
            assert!(active[picked as usize] <= bound, "{active:?}");
        }

        // 300 slots for all of them, once there are 200 requests.
        assert_eq!(active[home as usize], 75, "{active:?}");
        (0..4).for_each(|id| host.set_active(id, 1));
        assert_eq!(pick(&host, &mut balancer, "hot", &[]), Ok(home));
    }

    #[test]
    fn an_attempt_asks_the_host_for_the_key_alone() {
        let host = Host::new();
        for consistent in [false, true] {
            host.set("consistent", consistent);
            let mut balancer = configured(&host, testing::endpoints(3));
            host.calls();

            let _ = pick(&host, &mut balancer, "a", &[]);

            assert_eq!(host.calls(), ["selection.key"]);
        }
    }

    #[test]
    fn without_a_ready_endpoint_there_is_none_to_pick() {
        let host = Host::new();
        let mut balancer = consistent(&host, vec![Endpoint { ready: false, ..endpoint(0) }]);
        assert_eq!(pick(&host, &mut balancer, "a", &[]), Err(PickError::Unavailable));

        balancer.update(Endpoints::default());
        assert_eq!(pick(&host, &mut balancer, "a", &[]), Err(PickError::Unavailable));
    }

    #[test]
    fn wrong_settings_are_named() {
        let host = Host::new();
        host.set("consistant", true);
        host.set("hash_balance_factor", 125);

        let issues = host.balancer::<Hash>().err().expect("they are wrong");

        assert_eq!(
            issues.to_string(),
            "`consistant` is unknown; did you mean `consistent`?; \
             `key` is required, such as \"path\", \"client-address\" or \"header:x-user\"; \
             `hash_balance_factor` needs `consistent = true`"
        );
    }
}
