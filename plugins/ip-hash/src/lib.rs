//! The balancer `ip-hash`: nginx's `ip_hash`, where a client's requests stay on one endpoint.

mod nginx;

use staunch_plugin::algorithms::{Groups, Smooth};
use staunch_plugin::{
    Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Invalid, KeySource, PickContext, PickError,
    selection,
};

use nginx::{IpHash, bytes_of};

#[derive(Default)]
struct Plugin {
    endpoints: Endpoints,
    groups: Groups<IpHash>,
    /// Who decides when too many hashes lead nowhere.
    turns: Smooth,
}

impl Balancer for Plugin {
    fn configure(config: &Config, needs: &mut BalancerNeeds) -> Result<Self, Invalid> {
        config.only(&[]);
        needs.want_key(KeySource::ClientAddress);
        Ok(Self::default())
    }

    fn update(&mut self, endpoints: Endpoints) {
        self.groups = Groups::new(&endpoints, IpHash::new);
        self.turns = Smooth::of(&endpoints);
        self.endpoints = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        for change in changes {
            let Some(position) = self.endpoints.position(change.id) else { continue };
            if let Some(hash) = self.groups.change(position, change.ready) {
                hash.set_weight(position, change.weight);
            }
            self.turns.change(position, change.weight, change.ready);
        }
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        let text = selection::key().and_then(|key| String::from_utf8(key).ok());
        let client = bytes_of(text.and_then(|text| text.parse().ok()));
        let tried = self.endpoints.tried(cx);
        let picked = self.groups.pick(&tried, |hash, eligible| {
            hash.pick(&client, eligible.tried(), |position| eligible.contains(position))
        });
        let position = picked.or_else(|| self.turns.pick(&tried));
        position
            .and_then(|position| self.endpoints.at(position))
            .map(|endpoint| endpoint.id)
            .ok_or(PickError::Unavailable)
    }
}

staunch_plugin::export!(balancer: Plugin);

#[cfg(test)]
mod tests {
    use staunch_plugin::Endpoint;
    use staunch_plugin::testing::{Host, endpoint, pick_context};

    use super::*;

    fn configured(host: &Host, endpoints: Vec<Endpoint>) -> Plugin {
        let mut balancer: Plugin = host.balancer().expect("it has no settings");
        balancer.update(endpoints.into());
        balancer
    }

    fn pick(host: &Host, balancer: &mut Plugin, client: &str, tried: &[EndpointId]) -> Result<EndpointId, PickError> {
        host.set_key(Some(client.as_bytes()));
        host.set_tried(tried);
        balancer.pick(&PickContext { attempt: tried.len() as u32, ..pick_context() })
    }

    fn down(id: EndpointId) -> EndpointChange {
        EndpointChange { id, weight: 1, ready: false }
    }

    #[test]
    fn a_client_is_known_by_its_address() {
        let host = Host::new();
        let mut balancer = configured(&host, [4, 2, 7].map(endpoint).to_vec());

        assert_eq!(host.wanted_keys(), [KeySource::ClientAddress]);
        for (client, expected) in [("10.0.0.1", 4), ("10.0.1.1", 2), ("10.0.2.9", 7), ("2001:db8::1", 7)] {
            assert_eq!(pick(&host, &mut balancer, client, &[]), Ok(expected), "for {client}");
        }
        host.set_key(None);
        assert_eq!(balancer.pick(&pick_context()), balancer.pick(&pick_context()));
    }

    #[test]
    fn one_that_is_not_ready_moves_no_other_client() {
        let host = Host::new();
        let mut balancer = configured(&host, [0, 1, 2].map(endpoint).to_vec());
        let clients: Vec<String> = (0..200).map(|network| format!("10.1.{network}.1")).collect();
        let before: Vec<_> = clients.iter().map(|client| pick(&host, &mut balancer, client, &[])).collect();

        balancer.change(&[down(1)]);

        for (client, before) in clients.iter().zip(before) {
            let now = pick(&host, &mut balancer, client, &[]);
            assert!(if before == Ok(1) { now != Ok(1) } else { now == before }, "{client}: {before:?}, {now:?}");
        }
    }

    #[test]
    fn a_further_attempt_goes_elsewhere_and_to_backups_last() {
        let host = Host::new();
        let backup = |id| Endpoint { priority: 1, ..endpoint(id) };
        let mut balancer = configured(&host, vec![endpoint(0), endpoint(1), backup(2), backup(3)]);

        for client in ["10.0.0.1", "10.0.1.1", "10.0.2.1"] {
            let first = pick(&host, &mut balancer, client, &[]).expect("one is ready");
            let second = pick(&host, &mut balancer, client, &[first]).expect("one is ready");
            assert_eq!((first < 2, second), (true, 1 - first), "{client}");
            let third = pick(&host, &mut balancer, client, &[first, second]).expect("one is ready");
            let fourth = pick(&host, &mut balancer, client, &[first, second, third]).expect("one is ready");
            assert_eq!((third >= 2, fourth), (true, 5 - third), "{client}");
            let all = [first, second, third, fourth];
            assert_eq!(pick(&host, &mut balancer, client, &all), Ok(first), "when all were tried");
        }
    }

    /// What nginx 1.22 answers for the same servers, of which the third and the fourth are down.
    #[test]
    fn round_robin_takes_over_as_in_nginx() {
        let host = Host::new();
        let server = |id, weight, ready| Endpoint { weight, ready, ..endpoint(id) };
        let servers = [server(0, 2, true), server(1, 1, true), server(2, 1, false), server(3, 50, false)];
        let mut balancer = configured(&host, [&servers[..], &[endpoint(4)]].concat());

        let clients = [
            "10.0.0.1",
            "10.0.1.1",
            "10.0.2.9",
            "10.1.0.1",
            "172.16.5.4",
            "192.168.1.7",
            "192.168.1.200",
            "8.8.8.8",
            "203.0.113.5",
            "198.51.100.77",
            "1.2.3.4",
            "250.251.252.253",
        ];
        let picks = clients.map(|client| pick(&host, &mut balancer, client, &[]).expect("three are ready"));

        assert_eq!(picks, [0, 4, 0, 1, 0, 0, 1, 0, 0, 0, 0, 4]);
    }

    #[test]
    fn a_heavy_endpoint_that_is_down_leaves_the_rest_to_round_robin() {
        let host = Host::new();
        let heavy = Endpoint { weight: 1_000_000, ready: false, ..endpoint(0) };
        let mut balancer = configured(&host, vec![heavy, endpoint(1), endpoint(2)]);

        let picks = [(); 4].map(|()| pick(&host, &mut balancer, "10.0.0.1", &[]));

        assert_eq!(picks, [Ok(1), Ok(2), Ok(1), Ok(2)]);
    }

    #[test]
    fn a_new_weight_holds_at_once() {
        let host = Host::new();
        let mut balancer = configured(&host, vec![endpoint(0), Endpoint { weight: 0, ..endpoint(1) }]);
        assert!((0..50).all(|n| pick(&host, &mut balancer, &format!("10.0.{n}.1"), &[]) == Ok(0)));

        balancer.change(&[
            EndpointChange { id: 1, weight: 1, ready: true },
            EndpointChange { id: 0, weight: 0, ready: true },
            down(99),
        ]);

        assert!((0..50).all(|n| pick(&host, &mut balancer, &format!("10.0.{n}.1"), &[]) == Ok(1)));
    }

    #[test]
    fn without_a_ready_endpoint_there_is_none_to_pick() {
        let host = Host::new();
        let mut balancer = configured(&host, vec![endpoint(0)]);
        balancer.change(&[down(0)]);

        assert_eq!(pick(&host, &mut balancer, "10.0.0.1", &[]), Err(PickError::Unavailable));
        let mut unset: Plugin = host.balancer().expect("it has no settings");
        assert_eq!(unset.pick(&pick_context()), Err(PickError::Unavailable));
    }

    #[test]
    fn a_setting_is_refused() {
        let host = Host::new();
        host.set("key", "path");

        let issues = host.balancer::<Plugin>().err().expect("there are no settings");

        assert_eq!(issues.to_string(), "`key` is unknown; there are no settings");
    }
}
