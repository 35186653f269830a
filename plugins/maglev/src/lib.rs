//! The balancer `maglev`: Maglev consistent hashing, with Envoy's table.

mod table;

use staunch_plugin::algorithms::{BoundedLoad, Eligible, Groups};
use staunch_plugin::{
    Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Invalid, PickContext, PickError, Setting,
};

use table::Table;

struct Maglev {
    size: TableSize,
    bound: Option<BoundedLoad>,
    endpoints: Endpoints,
    groups: Groups<Table>,
    /// Whether a table of other weights is being made.
    is_changing: bool,
}

/// The number of places of a table: prime, so that every order of them visits all.
#[derive(Clone, Copy, Debug, PartialEq)]
struct TableSize(usize);

/// Envoy's.
const DEFAULT_SIZE: TableSize = TableSize(65_537);
/// Four bytes a place, and twice that while a table is made anew.
const MOST: usize = 1_000_003;

impl Setting for TableSize {
    fn from_text(text: &str) -> Result<Self, String> {
        let is_prime = |size: usize| {
            (2..size).take_while(|divisor| divisor * divisor <= size).all(|divisor| !size.is_multiple_of(divisor))
        };
        match text.parse() {
            Ok(size @ 2..=MOST) if is_prime(size) => Ok(Self(size)),
            Ok(size @ 2..=MOST) => {
                let next = (size..=MOST).find(|&size| is_prime(size)).unwrap_or(MOST);
                Err(format!("must be a prime number; {next} is the next"))
            }
            _ => Err(format!("must be a prime number from 2 to {MOST}")),
        }
    }
}

impl Balancer for Maglev {
    fn configure(config: &Config, needs: &mut BalancerNeeds) -> Result<Self, Invalid> {
        config.only(&["key", "table_size", "hash_balance_factor"]);
        let key = needs.want_key_of(config, "key");
        let size = config.get_or("table_size", DEFAULT_SIZE);
        let bound = config.get("hash_balance_factor");
        key?;
        Ok(Self { size, bound, endpoints: Endpoints::default(), groups: Groups::default(), is_changing: false })
    }

    fn update(&mut self, endpoints: Endpoints) {
        self.groups = Groups::new(&endpoints, |members| Table::new(members, self.size.0));
        self.endpoints = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        for change in changes {
            let Some(position) = self.endpoints.position(change.id) else { continue };
            if let Some(table) = self.groups.change(position, change.ready) {
                table.set_weight(position, change.weight);
            }
        }
        self.endpoints.apply(changes);
        self.step();
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        if self.is_changing {
            self.step();
        }
        let tried = self.endpoints.tried(cx);
        let key = cx.key.unwrap_or(cx.random);
        let picked = self.groups.pick(&tried, |table, eligible| {
            let home = table.pick(key, |position| eligible.contains(position));
            self.with_room(home.or_else(|| eligible.first_for(key, |_| true))?, key, eligible)
        });
        picked
            .and_then(|position| self.endpoints.at(position))
            .map(|endpoint| endpoint.id)
            .ok_or(PickError::Unavailable)
    }
}

impl Maglev {
    /// The endpoint that a key belongs to, or another one if its load is bounded and at the bound.
    fn with_room(&self, home: usize, key: u64, eligible: &Eligible<'_>) -> Option<usize> {
        let Some(bound) = self.bound else { return Some(home) };
        let room = bound.measure(eligible.iter().filter_map(|position| self.endpoints.at(position)));
        let has_room = |position| self.endpoints.at(position).is_some_and(|endpoint| room.is_for(endpoint));
        if has_room(home) { Some(home) } else { eligible.first_for(key, has_room) }
    }

    fn step(&mut self) {
        self.is_changing = self.groups.tables().fold(false, |changing, table| changing | !table.step());
    }
}

staunch_plugin::export!(balancer: Maglev);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{self, Host, endpoint, pick_context};
    use staunch_plugin::{Endpoint, KeySource, random};

    use super::*;

    fn configured(host: &Host, endpoints: impl Into<Endpoints>) -> Maglev {
        host.set("key", "cookie:session");
        let mut balancer: Maglev = host.balancer().expect("the settings are right");
        balancer.update(endpoints.into());
        host.calls();
        balancer
    }

    fn pick(host: &Host, balancer: &mut Maglev, key: u64, tried: &[EndpointId]) -> Result<EndpointId, PickError> {
        host.set_tried(tried);
        balancer.pick(&PickContext { key: Some(key), attempt: tried.len() as u32, ..pick_context() })
    }

    #[test]
    fn a_key_stays_and_no_key_goes_anywhere() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(3));
        assert_eq!(host.wanted_keys(), [KeySource::Cookie("session".into())]);

        let mut anywhere = [0; 3];
        for _ in 0..300 {
            assert_eq!(pick(&host, &mut balancer, 7, &[]), pick(&host, &mut balancer, 7, &[]));
            anywhere[balancer.pick(&pick_context()).expect("all are ready") as usize] += 1;
        }

        assert!(anywhere.iter().all(|got| (60..140).contains(got)), "{anywhere:?}");
        assert_eq!(host.calls(), [""; 0], "it asks the host nothing");
    }

    #[test]
    fn the_table_has_the_size_that_is_set() {
        let host = Host::new();
        host.set("table_size", 7);
        let hosts: Vec<_> =
            (0..6).map(|id| Endpoint { address: format!("127.0.0.1:{}", 90 + id), ..endpoint(id) }).collect();
        let mut balancer = configured(&host, hosts);

        let picks: Vec<_> = (0..14).filter_map(|key| pick(&host, &mut balancer, key, &[]).ok()).collect();

        assert_eq!(picks, [2, 4, 0, 1, 5, 0, 3, 2, 4, 0, 1, 5, 0, 3], "as Envoy's own test has it");
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
    fn a_light_endpoint_is_found_when_all_others_are_down() {
        let host = Host::new();
        let heavy = |id| Endpoint { weight: u32::MAX, ready: false, ..endpoint(id) };
        let mut balancer = configured(&host, vec![heavy(0), endpoint(1), endpoint(2), heavy(3)]);

        let picks: Vec<_> =
            (0..100).filter_map(|key| pick(&host, &mut balancer, random::mix(key, 1), &[]).ok()).collect();

        assert_eq!(picks.len(), 100);
        assert!(picks.contains(&1) && picks.contains(&2) && !picks.contains(&0) && !picks.contains(&3));
    }

    #[test]
    fn weights_and_readiness_change_in_place() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(3));
        let picks = |balancer: &mut Maglev| -> Vec<_> {
            (0..300).map(|key| pick(&host, balancer, random::mix(key, 1), &[]).expect("one is ready")).collect()
        };
        let even = picks(&mut balancer);

        balancer.change(&[
            EndpointChange { id: 1, weight: 1, ready: false },
            EndpointChange { id: 9, weight: 1, ready: true },
        ]);
        let without = picks(&mut balancer);
        balancer.change(&[EndpointChange { id: 1, weight: 100, ready: true }]);
        // What is under way is finished by requests.
        picks(&mut balancer);
        let heavy = picks(&mut balancer);

        assert!(even.iter().zip(&without).all(|(even, without)| even == without || *even == 1));
        assert!(!without.contains(&1));
        assert!(heavy.iter().filter(|&&id| id == 1).count() > 280, "{heavy:?}");
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
        (0..4).for_each(|id| host.set_active(id, 1));
        assert_eq!(pick(&host, &mut balancer, 7, &[]), Ok(home));
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
    fn a_size_that_is_not_prime_is_told_the_next_one() {
        assert_eq!(TableSize::from_text("65537"), Ok(DEFAULT_SIZE));
        assert_eq!(TableSize::from_text("1000003"), Ok(TableSize(MOST)));
        assert_eq!(TableSize::from_text("65536").unwrap_err(), "must be a prime number; 65537 is the next");
        for text in ["1", "0", "1000004", "many", "-7"] {
            assert_eq!(
                TableSize::from_text(text).unwrap_err(),
                "must be a prime number from 2 to 1000003",
                "for {text}"
            );
        }
    }

    #[test]
    fn wrong_settings_are_named() {
        let host = Host::new();
        host.set("key", "cookie");
        host.set("hash_balance_factor", 99);

        let issues = host.balancer::<Maglev>().err().expect("they are wrong");

        assert_eq!(
            issues.to_string(),
            "`key` needs a name: `cookie:NAME`; `hash_balance_factor` must be a percentage from 100 to 1000000"
        );
    }
}
