//! The hash balancers, as components: what nginx answers, and that tables are made in time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::builtin::find;
use super::{Limits, Member, PluginHost, Use};
use crate::config::{Place, Setting, Settings};
use crate::http::facts::{Exchange, Facts};
use crate::upstream::balancer::{Balancer, EndpointChange, Pick, PickContext};
use crate::upstream::endpoint::{Endpoint, EndpointId, Loads};

fn use_of(name: &str, settings: &[(&str, &str)]) -> Use {
    let builtin = find(name).expect(name);
    // Far more than what they need, and far less than what a mistake in the tables would cost.
    let limits = Limits { deadline: Some(Duration::from_millis(100)), ..Limits::default() };
    let plugin = PluginHost::new().expect("a host").load(name, builtin.component, limits).expect(name);
    let scalar = |&(name, value): &(&str, &str)| (name.to_owned(), Setting::Scalar(value.to_owned(), Place::default()));
    let settings = Settings { entries: settings.iter().map(scalar).collect(), ..Settings::default() };
    plugin.use_as(builtin.kind, "test", &settings).expect(name)
}

/// A member at 127.0.0.1, at the ports from 39001 on. One of a weight below 0 is `down`.
fn member(id: EndpointId, weight: i32) -> Member {
    let address = format!("127.0.0.1:{}", 39001 + id);
    let endpoint = Endpoint {
        id,
        address: address.into(),
        weight: weight.unsigned_abs(),
        priority: 0,
        zone: None,
        labels: Vec::new(),
        down: weight < 0,
    };
    Member { endpoint, ready: weight > 0 }
}

fn balancer(used: &Use, worker: usize, weights: &[i32]) -> std::rc::Rc<dyn Balancer> {
    let members: Arc<[Member]> = (0..).zip(weights).map(|(id, &weight)| member(id, weight)).collect();
    let loads = Arc::new(Loads::new(1, weights.len()));
    used.balancer(worker, members, loads).expect("a balancer").into_balancer()
}

fn pick(balancer: &dyn Balancer, key: &str) -> Pick {
    let mut exchange = Exchange::new(Facts::new(None, false));
    exchange.key = Some(key.as_bytes().to_vec());
    let hash = Some(crate::upstream::key::hash(key.as_bytes()));
    let context = PickContext { key: hash, random: 1, now: Instant::now(), attempt: 0, previous: None };
    balancer.pick(&mut exchange, context)
}

fn picks(balancer: &dyn Balancer, keys: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let name = |picked| match picked {
        Pick::Endpoint(id) => char::from(b'1' + id as u8),
        _ => '-',
    };
    keys.into_iter().map(|key| name(pick(balancer, key.as_ref()))).collect()
}

fn keys() -> impl Iterator<Item = String> {
    (0..24).map(|n| format!("k{n}"))
}

#[test]
fn hash_picks_as_nginx() {
    let plain = use_of("hash", &[("key", "query:k")]);
    let consistent = use_of("hash", &[("key", "query:k"), ("consistent", "true")]);

    for (used, weights, expected) in [
        (&plain, [1, 1, 1], "212123131111113233213321"),
        (&consistent, [1, 1, 1], "121213231322312321333311"),
        (&consistent, [3, 1, 1], "121213211321312121331311"),
    ] {
        assert_eq!(picks(&*balancer(used, 0, &weights), keys()), expected, "for {weights:?}");
    }
}

#[test]
fn ip_hash_picks_as_nginx() {
    let clients: [IpAddr; 12] = [
        [10, 0, 0, 1],
        [10, 0, 1, 1],
        [10, 0, 2, 9],
        [10, 1, 0, 1],
        [172, 16, 5, 4],
        [192, 168, 1, 7],
        [192, 168, 1, 200],
        [8, 8, 8, 8],
        [203, 0, 113, 5],
        [198, 51, 100, 77],
        [1, 2, 3, 4],
        [250, 251, 252, 253],
    ]
    .map(IpAddr::from);
    let used = use_of("ip-hash", &[]);

    for (weights, expected) in [([1, 1, 1], "123322231121"), ([2, 1, -1], "121222221111")] {
        let balancer = balancer(&used, 0, &weights);
        assert_eq!(picks(&*balancer, clients.iter().map(IpAddr::to_string)), expected, "for {weights:?}");
    }
}

#[test]
fn tables_of_a_thousand_endpoints_are_made_and_changed_in_time() {
    for (name, settings) in [
        ("ip-hash", &[][..]),
        ("hash", &[("key", "path")]),
        ("hash", &[("key", "path"), ("consistent", "true")]),
        ("hash", &[("key", "path"), ("consistent", "true"), ("hash_balance_factor", "125")]),
        ("maglev", &[("key", "path")]),
        ("maglev", &[("key", "path"), ("hash_balance_factor", "125")]),
        ("rendezvous", &[("key", "path")]),
        ("rendezvous", &[("key", "path"), ("hash_balance_factor", "125")]),
        ("prefix-affinity", &[("key", "path")]),
    ] {
        let balancer = balancer(&use_of(name, settings), 0, &[1; 1000]);
        for weight in [3, 1] {
            let changed = |id| EndpointChange { id, weight, ready: id % 3 != 0 };
            balancer.change(&(0..1000).map(changed).collect::<Vec<_>>());

            // A call that takes too long costs the instance, and then there is none to pick.
            for n in 0..200 {
                let picked = pick(&*balancer, &format!("/{n}"));
                assert!(matches!(picked, Pick::Endpoint(id) if id % 3 != 0), "{name} {settings:?}: {picked:?}");
            }
        }
    }
}

#[test]
fn what_one_worker_gave_a_prefix_to_another_one_knows() {
    let used = use_of("prefix-affinity", &[("key", "header:x-prefix")]);
    let workers = [0, 1].map(|worker| balancer(&used, worker, &[1; 50]));

    for n in 0..20 {
        let first = pick(&*workers[0], &format!("tenant-{n}/chat"));
        assert_eq!(pick(&*workers[1], &format!("tenant-{n}/chat/turn")), first);
    }
}
