//! Envoy's Maglev table (`maglev_lb.cc`), after Eisenbud et al., *Maglev* (NSDI 2016).
//!
//! Every endpoint would like all places of the table, in an order of its own. They take turns, those of more weight
//! more often, and each takes the place that it likes best of those that are left.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use staunch_plugin::{Endpoint, random};
use xxhash_rust::xxh64::xxh64;

/// Places that a key may be led to before one is told by other means where to go.
const JUMPS: u32 = 20;
/// Places that are taken in one step of a table that is made anew, well below a tenth of a millisecond.
const STEP: usize = 512;

/// The endpoints of a group, spread over a fixed number of places. A key belongs to one place.
pub(crate) struct Table {
    /// By their addresses, so that every proxy makes the same table.
    members: Vec<Member>,
    /// Each position with its place among the members, by rising position.
    order: Vec<(usize, usize)>,
    /// The position of the endpoint at each place.
    places: Vec<u32>,
    /// The table with other weights, while it is made.
    next: Option<Draft>,
    /// Whether weights have changed since the latest table was begun.
    is_stale: bool,
}

#[derive(Clone, Debug)]
struct Member {
    position: u32,
    weight: u64,
    /// Where its order begins and how far apart the places in it are.
    offset: u64,
    skip: u64,
}

impl Table {
    /// A table with `size` places, a prime number.
    pub(crate) fn new(members: &[(usize, &Endpoint)], size: usize) -> Self {
        let mut sorted = members.to_vec();
        sorted.sort_unstable_by_key(|&(position, member)| (&member.address, position));
        let places = size as u64;
        let member = |(position, member): (usize, &Endpoint)| Member {
            position: position as u32,
            weight: member.weight.max(1).into(),
            offset: xxh64(member.address.as_bytes(), 0) % places,
            skip: xxh64(member.address.as_bytes(), 1) % (places - 1) + 1,
        };
        let members: Vec<_> = sorted.into_iter().map(member).collect();
        let mut order: Vec<_> = members.iter().map(|member| member.position as usize).zip(0..).collect();
        order.sort_unstable();
        let mut draft = Draft::new(&members, size);
        draft.take(&members, size);
        Self { members, order, places: draft.places, next: None, is_stale: false }
    }

    /// Takes over a weight, which holds when a new table is made.
    pub(crate) fn set_weight(&mut self, position: usize, weight: u32) {
        let weight = u64::from(weight.max(1));
        if let Ok(found) = self.order.binary_search_by_key(&position, |&(position, _)| position) {
            let member = &mut self.members[self.order[found].1];
            self.is_stale |= member.weight != weight;
            member.weight = weight;
        }
    }

    /// Takes a step towards the table of the weights that were set. Whether it was the last.
    pub(crate) fn step(&mut self) -> bool {
        if self.next.is_none() && self.is_stale {
            self.is_stale = false;
            self.next = Some(Draft::new(&self.members, self.places.len()));
        }
        if let Some(next) = &mut self.next
            && next.take(&self.members, STEP)
        {
            self.places = std::mem::take(&mut next.places);
            self.next = None;
        }
        self.next.is_none() && !self.is_stale
    }

    /// The endpoint at a key's place. When that is not eligible the key jumps to places of its own, so that what one
    /// endpoint leaves spreads over all others; `None` after 20 jumps in vain.
    pub(crate) fn pick(&self, key: u64, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let hashes = (0..=JUMPS).map(|jump| if jump == 0 { key } else { random::mix(key, jump) });
        hashes.filter_map(|hash| self.at(hash)).find(|&position| eligible(position))
    }

    fn at(&self, hash: u64) -> Option<usize> {
        let place = hash.checked_rem(self.places.len() as u64)?;
        self.places.get(place as usize).map(|&position| position as usize)
    }
}

/// A table that is being made.
struct Draft {
    places: Vec<u32>,
    taken: usize,
    /// Who takes a place next, by round and order: in a round each takes one at most.
    turns: BinaryHeap<Reverse<(u64, usize)>>,
    hands: Vec<Hand>,
    heaviest: u64,
}

/// What a member has taken.
#[derive(Clone)]
struct Hand {
    weight: u64,
    places: u64,
    /// The place in its order that it tries next.
    next: u64,
}

/// A place that nobody has.
const FREE: u32 = u32::MAX;

impl Draft {
    fn new(members: &[Member], size: usize) -> Self {
        let hand = |member: &Member| Hand { weight: member.weight, places: 0, next: member.offset };
        Self {
            places: vec![FREE; if members.is_empty() { 0 } else { size }],
            taken: 0,
            turns: (0..members.len()).map(|member| Reverse((1, member))).collect(),
            hands: members.iter().map(hand).collect(),
            heaviest: members.iter().map(|member| member.weight).max().unwrap_or(1),
        }
    }

    /// Has so many places taken; whether that were the last.
    fn take(&mut self, members: &[Member], count: usize) -> bool {
        let Self { places, taken, turns, hands, heaviest } = self;
        for _ in 0..count.min(places.len() - *taken) {
            let Some(Reverse((round, turn))) = turns.pop() else { break };
            let (Some(member), Some(hand)) = (members.get(turn), hands.get_mut(turn)) else { break };
            while places[hand.next as usize] != FREE {
                hand.advance(member.skip, places.len());
            }
            places[hand.next as usize] = member.position;
            hand.advance(member.skip, places.len());
            hand.places += 1;
            *taken += 1;
            // It has a turn in the rounds in which its weight, added up, reaches one more of the heaviest.
            let due = (hand.places * *heaviest).div_ceil(hand.weight);
            turns.push(Reverse((due.max(round + 1), turn)));
        }
        *taken == places.len()
    }
}

impl Hand {
    fn advance(&mut self, skip: u64, size: usize) {
        self.next = (self.next + skip) % size as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use staunch_plugin::testing::endpoint;

    use super::*;

    /// Endpoints of these weights at addresses from a port on.
    fn hosts(address: &str, weights: &[u32]) -> Vec<Endpoint> {
        let host = |(id, &weight)| Endpoint { address: format!("{address}{}", 90 + id), weight, ..endpoint(id) };
        (0..).zip(weights).map(host).collect()
    }

    fn table(endpoints: &[Endpoint], size: usize) -> Table {
        Table::new(&endpoints.iter().enumerate().collect::<Vec<_>>(), size)
    }

    fn shares(table: &Table, of: usize) -> Vec<usize> {
        (0..of).map(|position| table.places.iter().filter(|&&at| at as usize == position).count()).collect()
    }

    /// The assignments of Envoy's own tests (`maglev_lb_test.cc`: `Basic`, `BasicWithHostName`, `Weighted`).
    #[test]
    fn places_are_those_of_envoy() {
        for (address, weights, size, expected) in
            [("127.0.0.1:", &[1; 6][..], 7, &[2, 4, 0, 1, 5, 0, 3][..]), ("", &[1; 6], 7, &[2, 5, 0, 3, 4, 1, 0])]
        {
            assert_eq!(table(&hosts(address, weights), size).places, expected, "for {weights:?}");
        }
    }

    /// Envoy's loop as it is written there, which looks at every member in every round.
    fn by_rounds(members: &[Member], size: u64) -> Vec<u32> {
        let heaviest = members.iter().map(|member| member.weight).max().unwrap_or(1);
        let mut places = vec![FREE; size as usize];
        let mut state = vec![(0u64, 0u64); members.len()];
        let mut taken = 0;
        for round in 1.. {
            for (member, (target, next)) in members.iter().zip(&mut state) {
                if taken == size {
                    return places;
                }
                if round * member.weight < *target {
                    continue;
                }
                *target += heaviest;
                let mut place = (member.offset + member.skip * *next) % size;
                while places[place as usize] != FREE {
                    *next += 1;
                    place = (member.offset + member.skip * *next) % size;
                }
                places[place as usize] = member.position;
                *next += 1;
                taken += 1;
            }
        }
        places
    }

    #[test]
    fn the_order_of_the_configuration_does_not_matter() {
        let hosts = hosts("10.0.0.1:", &[1, 2, 3, 4]);
        let turned: Vec<_> = hosts.iter().rev().cloned().collect();

        let turned: Vec<_> = table(&turned, 251).places.iter().map(|position| 3 - position).collect();

        assert_eq!(table(&hosts, 251).places, turned);
    }

    #[test]
    fn one_that_is_not_eligible_moves_no_other_key_and_its_own_to_all() {
        let table = table(&hosts("10.0.0.1:", &[1; 5]), 65_537);
        let mut got = [0; 5];
        for key in (0..100_000).map(|n| random::mix(n, 0)) {
            let (home, now) = (table.pick(key, |_| true), table.pick(key, |position| position != 2));
            match home {
                Some(2) => got[now.expect("four are left")] += 1,
                home => assert_eq!(now, home),
            }
        }

        assert_eq!(got[2], 0);
        assert!([0, 1, 3, 4].iter().all(|&other| (4500..5500).contains(&got[other])), "{got:?}");
    }

    #[test]
    fn few_keys_move_when_one_of_ten_leaves() {
        let all = hosts("10.0.0.1:", &[1; 10]);
        let mut rest = all.clone();
        rest.remove(3);
        let (before, after) = (table(&all, 65_537), table(&rest, 65_537));

        let address = |hosts: &[Endpoint], position: &u32| hosts[*position as usize].address.clone();
        let places = before.places.iter().zip(&after.places);
        let moved = places.filter(|(was, is)| address(&all, was) != address(&rest, is)).count();

        assert!(moved < 65_537 * 12 / 100, "{moved}");
    }

    #[test]
    fn a_new_weight_holds_once_enough_steps_were_taken() {
        let mut table = table(&hosts("10.0.0.1:", &[1, 1, 1]), 65_537);
        let even = table.places.clone();
        assert!(table.step());

        table.set_weight(1, 4);
        table.set_weight(9, 4);
        assert!(!table.step());
        assert_eq!(table.places, even);
        // In the midst of one, which is finished first.
        table.set_weight(0, 2);
        let steps = (2..1000).find(|_| table.step());

        assert_eq!(steps, Some(258));
        assert_eq!(table.places, self::table(&hosts("10.0.0.1:", &[2, 4, 1]), 65_537).places);
        table.set_weight(0, 2);
        assert!(table.step());
    }

    #[test]
    fn without_endpoints_there_is_none() {
        assert_eq!(table(&[], 7).pick(1, |_| true), None);
    }

    #[test]
    fn the_heaviest_weights_do_not_overflow() {
        let table = table(&hosts("10.0.0.1:", &[u32::MAX, 1, u32::MAX]), 65_537);

        assert_eq!(shares(&table, 3), [32_768, 1, 32_768]);
    }

    #[test]
    fn twenty_jumps_are_the_end() {
        let table = table(&hosts("10.0.0.1:", &[1, 1]), 251);
        let asked = std::cell::Cell::new(0);

        let picked = table.pick(5, |_| {
            asked.set(asked.get() + 1);
            false
        });

        assert_eq!((picked, asked.get()), (None, 21));
    }

    proptest! {
        #[test]
        fn turns_are_those_of_envoys_rounds(weights in prop::collection::vec(1u32..30, 1..12), size in prop::sample::select(vec![7, 251, 1009])) {
            let table = table(&hosts("10.0.0.1:", &weights), size);

            prop_assert_eq!(&table.places, &by_rounds(&table.members, size as u64));
        }

        #[test]
        fn shares_are_those_of_the_weights(weights in prop::collection::vec(1u32..30, 1..12)) {
            let shares = shares(&table(&hosts("10.0.0.1:", &weights), 10_007), weights.len());

            let whole: u32 = weights.iter().sum();
            for (&weight, share) in weights.iter().zip(shares) {
                let fair = 10_007.0 * f64::from(weight) / f64::from(whole);
                prop_assert!((share as f64 - fair).abs() <= weights.len() as f64 + 1.0, "{} of {:?}: {}", weight, weights, share);
            }
        }
    }
}
