//! The balancer `prefix-affinity`: requests with a common prefix stay on the endpoint that has it cached, as long as
//! its load allows. Made for servers of language models.

mod memory;
mod prefixes;

use std::time::Duration;

use staunch_plugin::algorithms::{BoundedLoad, Room};
use staunch_plugin::metrics::Counter;
use staunch_plugin::{
    Balancer, BalancerNeeds, Config, Endpoint, EndpointChange, EndpointId, Endpoints, Instant, Invalid, PickContext,
    PickError, random, selection,
};

use memory::{Known, Memory};
use prefixes::{Pieces, name_of};

struct PrefixAffinity {
    pieces: Pieces,
    depth: usize,
    limits: Limits,
    memory: Memory,
    endpoints: Endpoints,
    /// The names of the endpoints with their positions, by name.
    names: Vec<(u64, usize)>,
    counts: Counts,
}

/// How much load affinity may put on an endpoint.
struct Limits {
    factor: BoundedLoad,
    slack: u32,
    max_load: u32,
}

/// How picks came about.
struct Counts {
    /// On the endpoint that has the longest known prefix.
    hits: Counter,
    /// No prefix was known.
    misses: Counter,
    /// An endpoint that has a prefix was passed by.
    spills: Counter,
}

impl Balancer for PrefixAffinity {
    fn configure(config: &Config, needs: &mut BalancerNeeds) -> Result<Self, Invalid> {
        config.only(&["key", "separator", "chunk", "depth", "max_age", "balance_factor", "slack", "max_load"]);
        let key = needs.want_key_of(config, "key");
        let pieces = read_pieces(config);
        let depth = config.get_or("depth", 32);
        if !(1..=256).contains(&depth) {
            config.issue("depth", "must be from 1 to 256");
        }
        let max_age = config.get_or("max_age", Duration::from_secs(600));
        if max_age.is_zero() {
            config.issue("max_age", "must be longer than nothing");
        }
        let limits = Limits {
            factor: config.get_or("balance_factor", BoundedLoad::percent(150)),
            slack: config.get_or("slack", 4),
            max_load: config.get_or("max_load", u32::MAX),
        };
        key?;
        Ok(Self {
            pieces,
            depth,
            limits,
            memory: Memory { max_age },
            endpoints: Endpoints::default(),
            names: Vec::new(),
            counts: Counts {
                hits: Counter::new("hits"),
                misses: Counter::new("misses"),
                spills: Counter::new("spills"),
            },
        })
    }

    fn update(&mut self, endpoints: Endpoints) {
        self.names = endpoints.iter().map(|endpoint| name_of(&endpoint.address)).zip(0..).collect();
        self.names.sort_unstable();
        self.endpoints = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        self.endpoints.apply(changes);
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        let candidates: Vec<&Endpoint> = self.endpoints.candidates(cx).collect();
        let room = self.limits.factor.measure(candidates.iter().copied());
        let key = selection::key().unwrap_or_default();
        let prefixes = self.pieces.prefixes(&key, self.depth);
        let may_have = |endpoint: &Endpoint| {
            candidates.iter().any(|candidate| candidate.id == endpoint.id) && self.limits.allow(&room, endpoint)
        };

        // From the longest on; what was looked at stands last.
        let mut known = Vec::new();
        let mut found = None;
        for &prefix in prefixes.iter().rev() {
            known.push(self.memory.recall(prefix));
            let owner = known.last().copied().flatten().and_then(|known| self.called(known.owner));
            found = owner.filter(|endpoint| may_have(endpoint));
            if found.is_some() {
                break;
            }
        }

        let picked = found.or_else(|| least_loaded(&candidates, &room, cx.random)).ok_or(PickError::Unavailable)?;
        self.count(found.is_some(), &known);
        self.note(&prefixes, &known, picked, cx.now);
        Ok(picked.id)
    }
}

impl PrefixAffinity {
    /// The endpoint of a name, if it is a member.
    fn called(&self, name: u64) -> Option<&Endpoint> {
        let found = self.names.binary_search_by_key(&name, |&(name, _)| name).ok()?;
        self.endpoints.at(self.names[found].1)
    }

    /// Notes that an endpoint is given these prefixes. What is `known` of them, from the longest on, ends with the one
    /// that decided, if one did: it and those shorter are noted again now and then.
    fn note(&self, prefixes: &[u64], known: &[Option<Known>], picked: &Endpoint, now: Instant) {
        let name = name_of(&picked.address);
        let (shorter, seen) = prefixes.split_at(prefixes.len() - known.len());
        let decided = known.last().copied().flatten().filter(|known| known.owner == name);
        let is_due = decided.is_none_or(|decided| self.memory.is_due(decided.whole, now));
        let whole = decided.filter(|_| !is_due).map_or(now, |decided| decided.whole);
        for (i, (&prefix, known)) in seen.iter().rev().zip(known).enumerate() {
            if is_due || i + 1 < seen.len() {
                self.memory.note(prefix, name, whole, *known);
            }
        }
        if is_due {
            for &prefix in shorter {
                // Somebody else may have it; whose it is stays as it is.
                let known = self.memory.recall(prefix);
                self.memory.note(prefix, known.map_or(name, |known| known.owner), now, known);
            }
        }
    }

    fn count(&self, found: bool, known: &[Option<Known>]) {
        let counts = &self.counts;
        let passed_by = known.iter().flatten().count() > usize::from(found);
        let counter = match (found, passed_by) {
            (_, true) => &counts.spills,
            (true, false) => &counts.hits,
            (false, false) => &counts.misses,
        };
        counter.add(1);
    }
}

impl Limits {
    /// Whether a prefix may bring an endpoint one more request.
    fn allow(&self, room: &Room, endpoint: &Endpoint) -> bool {
        let active = room.active(endpoint);
        active < self.max_load && (active < self.slack || room.is_for(endpoint))
    }
}

/// The endpoint with the fewest requests in flight for its weight; among equals chance decides.
fn least_loaded<'a>(candidates: &[&'a Endpoint], room: &Room, random: u64) -> Option<&'a Endpoint> {
    candidates.iter().copied().min_by(|a, b| {
        let share = |one: &Endpoint, other: &Endpoint| u64::from(room.active(one)) * u64::from(other.weight);
        let chance = |endpoint: &Endpoint| random::mix(random, endpoint.id);
        share(a, b).cmp(&share(b, a)).then_with(|| chance(a).cmp(&chance(b)))
    })
}

fn read_pieces(config: &Config) -> Pieces {
    let separator = config.get_or("separator", "/".to_owned());
    if separator.is_empty() {
        config.issue("separator", "must not be empty");
    }
    match config.get::<usize>("chunk") {
        Some(_) if config.has("separator") => {
            config.issue("chunk", "cannot stand beside `separator`");
        }
        Some(0) => {
            config.issue("chunk", "must be at least 1");
        }
        Some(length) => return Pieces::Long(length),
        None => {}
    }
    Pieces::Separated(separator.into_bytes())
}

staunch_plugin::export!(balancer: PrefixAffinity);

#[cfg(test)]
mod tests {
    use staunch_plugin::KeySource;
    use staunch_plugin::testing::{self, Host, endpoint, pick_context};

    use super::*;

    fn configured(host: &Host, endpoints: impl Into<Endpoints>) -> PrefixAffinity {
        host.set("key", "header:x-prompt-prefix");
        let mut balancer: PrefixAffinity = host.balancer().expect("the settings are right");
        balancer.update(endpoints.into());
        balancer
    }

    fn pick(host: &Host, balancer: &mut PrefixAffinity, key: &str, tried: &[EndpointId]) -> EndpointId {
        host.set_key(Some(key.as_bytes()));
        host.set_tried(tried);
        let cx = PickContext { attempt: tried.len() as u32, ..pick_context() };
        balancer.pick(&cx).expect("one is ready")
    }

    fn counts(host: &Host) -> [u64; 3] {
        ["hits", "misses", "spills"].map(|name| host.counter(name).expect("it is counted"))
    }

    /// Has so many requests in flight to each endpoint.
    fn load(host: &Host, active: [u32; 3]) {
        (0..).zip(active).for_each(|(id, active)| host.set_active(id, active));
    }

    #[test]
    fn a_conversation_stays_where_it_began_as_it_grows() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(3));
        assert_eq!(host.wanted_keys(), [KeySource::Header("x-prompt-prefix".into())]);

        load(&host, [1, 0, 1]);
        assert_eq!(pick(&host, &mut balancer, "chat/1", &[]), 1);
        load(&host, [0, 2, 0]);
        for key in ["chat/1", "chat/1/2", "chat/1/2/3", "chat/1/other"] {
            assert_eq!(pick(&host, &mut balancer, key, &[]), 1, "{key}");
        }

        assert_eq!(counts(&host), [4, 1, 0]);
    }

    #[test]
    fn the_longest_prefix_that_is_known_decides() {
        let host = Host::new();
        host.set("slack", 0);
        let mut balancer = configured(&host, testing::endpoints(3));
        load(&host, [0, 1, 1]);
        assert_eq!(pick(&host, &mut balancer, "gold/a", &[]), 0);
        load(&host, [5, 0, 1]);
        assert_eq!(pick(&host, &mut balancer, "gold/b", &[]), 1, "`gold` is over the bound");
        load(&host, [2, 2, 2]);

        assert_eq!(pick(&host, &mut balancer, "gold/a/more", &[]), 0);
        assert_eq!(pick(&host, &mut balancer, "gold/b/more", &[]), 1);
        assert_eq!(pick(&host, &mut balancer, "gold/c", &[]), 1, "who was last given `gold`");
        assert_eq!(counts(&host), [3, 1, 1]);
    }

    #[test]
    fn an_unknown_prefix_goes_to_the_least_loaded_by_weight() {
        let host = Host::new();
        let mut balancer = configured(&host, vec![endpoint(0), Endpoint { weight: 4, ..endpoint(1) }, endpoint(2)]);
        load(&host, [2, 6, 2]);

        assert_eq!(pick(&host, &mut balancer, "new", &[]), 1);
        host.set_key(None);
        assert_eq!(balancer.pick(&pick_context()), Ok(1), "without a key too");
    }

    #[test]
    fn requests_without_a_key_do_not_flock() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(3));
        let mut got = [0; 3];
        for _ in 0..300 {
            got[pick(&host, &mut balancer, "", &[]) as usize] += 1;
        }

        assert!(got.iter().all(|got| (60..140).contains(got)), "{got:?}");
        assert_eq!(counts(&host), [0, 300, 0]);
    }

    #[test]
    fn affinity_ends_at_the_bound() {
        for (setting, value, below, above) in [
            // 1.5 times the mean: 20 slots, then 21.
            ("balance_factor", 150, [6, 3, 3], [7, 3, 3]),
            ("slack", 8, [7, 0, 0], [8, 0, 0]),
            ("max_load", 3, [2, 0, 0], [3, 0, 0]),
        ] {
            let host = Host::new();
            host.set(setting, value);
            let mut balancer = configured(&host, testing::endpoints(3));
            load(&host, [0, 1, 1]);
            assert_eq!(pick(&host, &mut balancer, "a/b", &[]), 0);

            load(&host, below);
            assert_eq!(pick(&host, &mut balancer, "a/b", &[]), 0, "{setting}: {below:?}");
            load(&host, above);
            let elsewhere = pick(&host, &mut balancer, "a/b", &[]);
            assert_ne!(elsewhere, 0, "{setting}: {above:?}");
            load(&host, [0, 0, 0]);
            assert_eq!(pick(&host, &mut balancer, "a/b", &[]), elsewhere, "where it is cached from now on");
        }
    }

    #[test]
    fn nobody_is_refused_when_all_are_at_the_bound() {
        let host = Host::new();
        host.set("max_load", 1);
        let mut balancer = configured(&host, testing::endpoints(3));
        load(&host, [9, 7, 8]);

        assert_eq!(pick(&host, &mut balancer, "a", &[]), 1);
    }

    #[test]
    fn one_that_failed_is_left_for_good() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(3));
        let first = pick(&host, &mut balancer, "a/b", &[]);

        let second = pick(&host, &mut balancer, "a/b", &[first]);

        assert_ne!(first, second);
        assert_eq!(pick(&host, &mut balancer, "a/b", &[]), second);
        balancer.change(&[EndpointChange { id: second, weight: 1, ready: false }]);
        assert_ne!(pick(&host, &mut balancer, "a/b", &[]), second);
    }

    #[test]
    fn what_is_known_is_shared_and_outlives_an_instance_and_a_membership() {
        let host = Host::new();
        let mut one = configured(&host, testing::endpoints(3));
        let mut other = configured(&host, testing::endpoints(3));
        load(&host, [1, 1, 0]);
        assert_eq!(pick(&host, &mut one, "a", &[]), 2);
        load(&host, [0, 0, 1]);

        assert_eq!(pick(&host, &mut other, "a", &[]), 2);
        // The same address in another slot, and one that is new in the old slot.
        let moved = Endpoint { address: endpoint(2).address, ..endpoint(0) };
        other.update(vec![moved, Endpoint { address: "new:80".into(), ..endpoint(2) }].into());
        assert_eq!(pick(&host, &mut other, "a", &[]), 0);
        other.update(vec![endpoint(1)].into());
        assert_eq!(pick(&host, &mut other, "a", &[]), 1);
    }

    #[test]
    fn what_is_not_asked_for_is_forgotten_and_a_common_prefix_is_not() {
        let host = Host::new();
        host.set("max_age", "60s");
        let mut balancer = configured(&host, testing::endpoints(3));
        load(&host, [1, 1, 0]);
        pick(&host, &mut balancer, "common/chat", &[]);
        load(&host, [0, 0, 1]);
        // It grows all the time, so that what decides is always new.
        let mut chat = "common/chat".to_owned();
        for _ in 0..20 {
            host.advance(Duration::from_secs(25));
            chat += "/turn";
            assert_eq!(pick(&host, &mut balancer, &chat, &[]), 2);
        }

        assert_eq!(pick(&host, &mut balancer, "common/other", &[]), 2, "its conversation kept it");
        host.advance(Duration::from_secs(61));
        assert_ne!(pick(&host, &mut balancer, "common/chat", &[]), 2);
    }

    #[test]
    fn a_repeated_request_reads_once_and_writes_nothing() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(3));
        pick(&host, &mut balancer, "a/b/c", &[]);
        host.calls();

        pick(&host, &mut balancer, "a/b/c", &[]);
        assert_eq!(host.calls(), ["loads.active-all", "selection.key", "shared.get", "metrics.add"]);
        pick(&host, &mut balancer, "a/b/c/d", &[]);

        let calls = host.calls();
        assert_eq!(calls.iter().filter(|call| **call == "shared.get").count(), 2);
        assert_eq!(calls.iter().filter(|call| **call == "shared.remember").count(), 1);
    }

    #[test]
    fn no_room_to_remember_is_no_fault() {
        let host = Host::new();
        let mut balancer = configured(&host, testing::endpoints(3));
        host.fill_shared();

        for _ in 0..10 {
            pick(&host, &mut balancer, "a/b/c", &[]);
        }

        assert_eq!(counts(&host), [0, 10, 0]);
    }

    #[test]
    fn a_prompt_is_cut_into_chunks() {
        let host = Host::new();
        host.set("chunk", 8);
        host.set("depth", 2);
        let mut balancer = configured(&host, testing::endpoints(3));
        load(&host, [1, 0, 1]);
        assert_eq!(pick(&host, &mut balancer, "You are a helpful assistant. Hello", &[]), 1);
        load(&host, [0, 1, 0]);

        assert_eq!(pick(&host, &mut balancer, "You are a helpful", &[]), 1);
        assert_eq!(pick(&host, &mut balancer, "You are the enemy", &[]), 1);
        assert_ne!(pick(&host, &mut balancer, "Translate this to French", &[]), 1);
    }

    #[test]
    fn without_a_ready_endpoint_there_is_none_to_pick() {
        let host = Host::new();
        let mut balancer = configured(&host, vec![Endpoint { ready: false, ..endpoint(0) }]);

        assert_eq!(balancer.pick(&pick_context()), Err(PickError::Unavailable));
        balancer.update(Endpoints::default());
        assert_eq!(balancer.pick(&pick_context()), Err(PickError::Unavailable));
    }

    #[test]
    fn wrong_settings_are_named() {
        let host = Host::new();
        host.set("separator", "");
        host.set("chunk", 8);
        host.set("depth", 0);
        host.set("max_age", "0s");
        host.set("balance_factor", 50);
        host.set("maxload", 8);

        let issues = host.balancer::<PrefixAffinity>().err().expect("they are wrong");

        assert_eq!(
            issues.to_string(),
            "`maxload` is unknown; did you mean `max_load`?; \
             `key` is required, such as \"path\", \"client-address\" or \"header:x-user\"; \
             `separator` must not be empty; `chunk` cannot stand beside `separator`; \
             `depth` must be from 1 to 256; `max_age` must be longer than nothing; \
             `balance_factor` must be a percentage from 100 to 1000000"
        );
    }
}
