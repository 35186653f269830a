//! nginx's `hash … consistent`: ketama with 160 points for each unit of weight, the same as Perl's
//! Cache::Memcached::Fast (`ngx_http_upstream_hash_module.c`).

use staunch_plugin::Endpoint;

use crate::crc32::Crc32;

/// Points on the ring that may belong to endpoints which are not eligible before round robin decides (nginx).
const MISSES: usize = 20;
/// Points for each unit of weight (nginx).
const POINTS: u64 = 160;
/// Points that a ring may have, 12 bytes each. Heavier weights get them in proportion.
const MOST_POINTS: u64 = 1 << 20;
/// Points that are added in one call, so that it stays far below its deadline.
const MOST_GROWTH: u64 = 1 << 14;
/// Points that are kept together, about: few enough to make room for another one quickly.
const BUCKET: u64 = 32;

/// The endpoints of a group, each at many points of a circle of hashes. A key belongs to the first point at or after
/// its own hash.
///
/// The points of an endpoint come in a fixed order, of which its weight says how many count. So one that becomes
/// lighter keeps the points that no longer count, and has them at once when it is as heavy as it was.
pub(crate) struct Ring {
    /// The circle in equal parts, each with its points by rising hash, without duplicates.
    buckets: Vec<Vec<Point>>,
    /// The bits of a hash that do not tell its bucket.
    shift: u32,
    /// How many points there are.
    len: u64,
    /// By rising position.
    owners: Vec<Owner>,
    /// The weights that have all points; not 0.
    full_weights: u64,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    hash: u32,
    owner: u32,
    /// Its place in the order of the owner's points.
    number: u32,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    position: usize,
    /// Of what its points have in common.
    base: Crc32,
    /// How many of its points count.
    points: u32,
    /// How many were made, and the hash of the last of them.
    made: u32,
    last: u32,
}

impl Ring {
    pub(crate) fn new(members: &[(usize, &Endpoint)]) -> Self {
        let weights: u64 = members.iter().map(|(_, member)| u64::from(member.weight)).sum();
        let owner = |&(position, member): &(usize, &Endpoint)| Owner {
            position,
            base: base_of(&member.address),
            points: 0,
            made: 0,
            last: 0,
        };
        let bits = (weights.saturating_mul(POINTS).min(MOST_POINTS) / BUCKET).max(1).ilog2();
        let mut ring = Self {
            // Twice what a bucket will have on average: seldom is one too small.
            buckets: (0..1 << bits).map(|_| Vec::with_capacity(2 * BUCKET as usize)).collect(),
            shift: u32::BITS - bits,
            len: 0,
            owners: members.iter().map(owner).collect(),
            full_weights: weights,
        };
        for &(position, member) in members {
            ring.set_weight(position, member.weight);
        }
        ring.add(u64::MAX);
        ring
    }

    /// Takes over a weight. One that is heavier than ever takes effect with [`grow`](Self::grow).
    pub(crate) fn set_weight(&mut self, position: usize, weight: u32) {
        let points = self.points_of(weight);
        if let Ok(found) = self.owners.binary_search_by_key(&position, |owner| owner.position) {
            self.owners[found].points = points;
        }
    }

    fn points_of(&self, weight: u32) -> u32 {
        let points = u64::from(weight) * POINTS;
        let fitting = match self.full_weights * POINTS <= MOST_POINTS {
            true => points,
            false => (u64::from(weight) * MOST_POINTS / self.full_weights).max(u64::from(weight.min(1))),
        };
        fitting.min(MOST_POINTS) as u32
    }

    /// Adds some of the points that are missing. Whether that were all, or all there is room for.
    pub(crate) fn grow(&mut self) -> bool {
        let room = MOST_POINTS.saturating_sub(self.len);
        self.add(room.min(MOST_GROWTH)) || room <= MOST_GROWTH
    }

    /// Adds so many points at most, and answers whether more were not wanted.
    fn add(&mut self, most: u64) -> bool {
        let mut left = most;
        for number in 0..self.owners.len() {
            let mut owner = self.owners[number];
            let count = u64::from(owner.points.saturating_sub(owner.made)).min(left);
            left -= count;
            for _ in 0..count {
                owner.last = owner.base.with(&owner.last.to_le_bytes()).finish();
                self.insert(Point { hash: owner.last, owner: number as u32, number: owner.made });
                owner.made += 1;
            }
            self.owners[number] = owner;
        }
        left > 0
    }

    /// Adds a point, unless there is one already: it belongs to an endpoint that the configuration has earlier.
    fn insert(&mut self, point: Point) {
        let bucket = self.bucket_of(point.hash);
        let points = &mut self.buckets[bucket];
        if let Err(place) = points.binary_search_by_key(&point.hash, |point| point.hash) {
            points.insert(place, point);
            self.len += 1;
        }
    }

    fn bucket_of(&self, hash: u32) -> usize {
        (u64::from(hash) >> self.shift) as usize
    }

    /// The owner of the first point for a key that is eligible; `None` after 20 points whose owner is not.
    pub(crate) fn pick(&self, key: &[u8], eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let hash = Crc32::new().with(key).finish();
        let owners = self.from(hash).filter_map(|point| {
            let owner = self.owners.get(point.owner as usize)?;
            (point.number < owner.points).then_some(owner.position)
        });
        owners.take(1 + MISSES).find(|&position| eligible(position))
    }

    /// All points, from the first at or after a hash round to where it began.
    fn from(&self, hash: u32) -> impl Iterator<Item = &Point> {
        let bucket = self.bucket_of(hash);
        let (before, after) = self.buckets.split_at(bucket);
        let (first, after) = after.split_at(1);
        let place = first[0].partition_point(|point| point.hash < hash);
        let (last, first) = first[0].split_at(place);
        first.iter().chain(after.iter().flatten()).chain(before.iter().flatten()).chain(last)
    }
}

/// What nginx hashes of a server, as it is written: its host, a zero byte and its port. A unix socket has a path
/// only, and so has an address without a port.
fn base_of(address: &str) -> Crc32 {
    let (host, port) = match address.get(..5) {
        Some(scheme) if scheme.eq_ignore_ascii_case("unix:") => (&address[5..], ""),
        _ => match address.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
            _ => (address, ""),
        },
    };
    Crc32::new().with(host.as_bytes()).with(&[0]).with(port.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use staunch_plugin::testing::endpoint;

    use super::*;

    /// Servers at the ports from 39001 on.
    fn servers(weights: &[u32]) -> Vec<Endpoint> {
        let server = |(id, &weight)| Endpoint { address: format!("127.0.0.1:{}", 39001 + id), weight, ..endpoint(id) };
        (0..).zip(weights).map(server).collect()
    }

    fn ring(servers: &[Endpoint]) -> Ring {
        Ring::new(&servers.iter().enumerate().collect::<Vec<_>>())
    }

    fn picks(ring: &Ring, keys: usize) -> String {
        picks_among(ring, keys, |_| true)
    }

    fn picks_among(ring: &Ring, keys: usize, eligible: impl Fn(usize) -> bool) -> String {
        let pick = |n| {
            let picked = ring.pick(format!("k{n}").as_bytes(), &eligible);
            picked.map_or('-', |position| char::from(b'1' + position as u8))
        };
        (0..keys).map(pick).collect()
    }

    /// What nginx 1.22 answers.
    #[test]
    fn picks_are_those_of_nginx() {
        assert_eq!(picks(&ring(&servers(&[1, 1, 1])), 24), "121213231322312321333311");
        assert_eq!(picks(&ring(&servers(&[3, 1, 1])), 24), "121213211321312121331311");
    }

    #[test]
    fn an_address_is_hashed_as_it_is_written() {
        let parts = |host: &str, port: &str| Crc32::new().with(host.as_bytes()).with(&[0]).with(port.as_bytes());
        for (address, host, port) in [
            ("127.0.0.1:80", "127.0.0.1", "80"),
            ("[::1]:8080", "[::1]", "8080"),
            ("example.test", "example.test", ""),
            ("unix:/run/app:1", "/run/app:1", ""),
            ("UNIX:/run/app", "/run/app", ""),
            ("[::1]", "[::1]", ""),
        ] {
            assert_eq!(base_of(address), parts(host, port), "for {address}");
        }
    }

    #[test]
    fn points_are_visited_once_by_rising_hash() {
        for weights in [&[1][..], &[1, 2, 3], &[40, 40]] {
            let ring = ring(&servers(weights));
            for hash in [0, 1, 0x8000_0000, 0xdead_beef, u32::MAX] {
                let turned: Vec<u32> = ring.from(hash).map(|point| point.hash.wrapping_sub(hash)).collect();

                assert!(turned.is_sorted_by(|a, b| a < b), "from {hash}");
                assert_eq!(turned.len() as u64, ring.len);
            }
        }
    }

    #[test]
    fn of_two_at_one_point_the_first_has_it() {
        let mut ring = ring(&servers(&[1, 1]));
        let &taken = ring.from(0).next().expect("there are points");

        ring.insert(Point { owner: 1 - taken.owner, ..taken });

        assert_eq!(ring.len, 320);
        assert!(ring.from(taken.hash).next().is_some_and(|point| point.owner == taken.owner));
    }

    #[test]
    fn one_that_is_not_eligible_moves_no_other_key() {
        let ring = ring(&servers(&[1, 2, 3, 1]));
        let before = picks(&ring, 1000);
        let after = picks_among(&ring, 1000, |position| position != 2);

        let moved = before.bytes().zip(after.bytes()).filter(|(before, after)| before != after);
        assert!(moved.into_iter().all(|(before, _)| before == b'3'));
        assert!(!after.contains('3'));
    }

    #[test]
    fn twenty_misses_are_the_end() {
        let ring = ring(&servers(&[1, 1]));
        let asked = std::cell::Cell::new(0);

        let picked = ring.pick(b"k", |_| {
            asked.set(asked.get() + 1);
            false
        });

        assert_eq!((picked, asked.get()), (None, 21));
    }

    #[test]
    fn a_weight_that_changes_gives_the_ring_of_that_weight() {
        let mut ring = ring(&servers(&[3, 1, 1]));

        ring.set_weight(0, 1);
        assert_eq!(picks(&ring, 24), "121213231322312321333311");
        ring.set_weight(0, 3);
        assert_eq!(picks(&ring, 24), "121213211321312121331311");
        ring.set_weight(1, 400);
        ring.set_weight(9, 5);
        assert_eq!(picks(&ring, 24), "121213211321312121331311", "before it has grown");
        while !ring.grow() {}

        assert_eq!(picks(&ring, 1000), picks(&self::ring(&servers(&[3, 400, 1])), 1000));
        ring.set_weight(1, 1);
        assert_eq!(picks(&ring, 24), "121213211321312121331311");
    }

    #[test]
    fn the_heaviest_weights_share_the_points_there_are() {
        let heavy = ring(&servers(&[u32::MAX, u32::MAX, 1]));

        assert!(heavy.len <= MOST_POINTS + 1);
        assert!(heavy.owners.iter().all(|owner| owner.points > 0 && owner.made == owner.points));
        let first = picks(&heavy, 2000).matches('1').count();
        assert!((900..1100).contains(&first), "{first}");
    }

    #[test]
    fn a_full_ring_does_not_grow_for_ever() {
        let mut ring = ring(&servers(&[1, 6000]));

        ring.set_weight(0, u32::MAX);
        let calls = (1..1000).find(|_| ring.grow());

        assert!(calls.is_some_and(|calls| calls < 70), "{calls:?}");
        assert!(ring.len <= MOST_POINTS + 2);
    }

    #[test]
    fn without_endpoints_there_is_none() {
        assert_eq!(picks(&ring(&[]), 2), "--");
        assert_eq!(picks(&ring(&servers(&[0])), 2), "--");
    }

    proptest! {
        #[test]
        fn a_member_that_leaves_moves_only_its_own_keys(
            weights in prop::collection::vec(1u32..5, 2..8),
            leaver in any::<prop::sample::Index>(),
        ) {
            let all = servers(&weights);
            let leaver = leaver.index(all.len());
            let mut rest = all.clone();
            rest.remove(leaver);
            let (before, after) = (ring(&all), ring(&rest));

            for n in 0..300 {
                let key = format!("key {n}");
                let address = |servers: &[Endpoint], ring: &Ring| {
                    ring.pick(key.as_bytes(), |_| true).map(|position| servers[position].address.clone())
                };
                let was = address(&all, &before);
                if was.as_ref() != Some(&all[leaver].address) {
                    prop_assert_eq!(was, address(&rest, &after));
                }
            }
        }
    }
}
