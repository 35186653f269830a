//! nginx's `hash` without `consistent`, the same as Perl's Cache::Memcached (`ngx_http_upstream_hash_module.c`).

use staunch_plugin::Endpoint;

use crate::crc32::Crc32;

/// Hashes that may lead to an endpoint which is not eligible before round robin decides (nginx).
const MISSES: usize = 20;

/// The endpoints of a group by weight: each is found at as many of the places as its weight.
pub(crate) struct Plain {
    /// Position and weight, by rising position.
    peers: Vec<(usize, u64)>,
    weights: u64,
}

impl Plain {
    pub(crate) fn new(members: &[(usize, &Endpoint)]) -> Self {
        let peers: Vec<_> = members.iter().map(|&(position, member)| (position, u64::from(member.weight))).collect();
        Self { weights: peers.iter().map(|(_, weight)| weight).sum(), peers }
    }

    pub(crate) fn set_weight(&mut self, position: usize, weight: u32) {
        if let Ok(found) = self.peers.binary_search_by_key(&position, |&(position, _)| position) {
            let (_, before) = std::mem::replace(&mut self.peers[found], (position, weight.into()));
            self.weights = self.weights - before + u64::from(weight);
        }
    }

    /// The first eligible endpoint that a key leads to; `None` after 20 that are not. An attempt goes on where the
    /// one before it stopped, so those `tried` are no misses.
    pub(crate) fn pick(&self, key: &[u8], tried: usize, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let mut hash = 0u32;
        for rehash in 0..=MISSES + tried {
            hash = hash.wrapping_add(part(key, rehash));
            let position = self.at(hash)?;
            if eligible(position) {
                return Some(position);
            }
        }
        None
    }

    fn at(&self, hash: u32) -> Option<usize> {
        let mut place = u64::from(hash).checked_rem(self.weights)?;
        for &(position, weight) in &self.peers {
            if place < weight {
                return Some(position);
            }
            place -= weight;
        }
        None
    }
}

/// The hash of the key, behind the number of the rehash in decimal if there was one before.
fn part(key: &[u8], rehash: usize) -> u32 {
    let prefix = match rehash {
        0 => Crc32::new(),
        rehash => decimal(Crc32::new(), rehash),
    };
    (prefix.with(key).finish() >> 16) & 0x7fff
}

fn decimal(crc: Crc32, number: usize) -> Crc32 {
    let before = if number < 10 { crc } else { decimal(crc, number / 10) };
    before.with(&[b'0' + (number % 10) as u8])
}

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::endpoint;

    use super::*;

    /// Picks for the keys `k0`, `k1`, … of endpoints with these weights; a weight below 0 is that of one `down`.
    fn picks(weights: &[i32], keys: usize) -> String {
        let endpoints: Vec<_> = (0..)
            .zip(weights)
            .map(|(id, &weight)| Endpoint { weight: weight.unsigned_abs(), ..endpoint(id) })
            .collect();
        let hash = Plain::new(&endpoints.iter().enumerate().collect::<Vec<_>>());
        let pick = |n| {
            let picked = hash.pick(format!("k{n}").as_bytes(), 0, |position| weights[position] > 0);
            picked.map_or('-', |position| char::from(b'1' + position as u8))
        };
        (0..keys).map(pick).collect()
    }

    /// What nginx 1.22 answers.
    #[test]
    fn picks_are_those_of_nginx() {
        assert_eq!(picks(&[1, 1, 1], 24), "212123131111113233213321");
    }

    #[test]
    fn a_rehash_is_told_by_its_number() {
        assert_eq!(part(b"key", 0), (Crc32::new().with(b"key").finish() >> 16) & 0x7fff);
        for (rehash, text) in [(1, "1key"), (9, "9key"), (10, "10key"), (4096, "4096key")] {
            assert_eq!(part(b"key", rehash), part(text.as_bytes(), 0));
        }
    }

    #[test]
    fn twenty_misses_are_the_end() {
        let endpoints = [endpoint(0), endpoint(1)];
        let hash = Plain::new(&endpoints.iter().enumerate().collect::<Vec<_>>());
        for tried in 0..3 {
            let asked = std::cell::Cell::new(0);

            let picked = hash.pick(b"k", tried, |_| {
                asked.set(asked.get() + 1);
                false
            });

            assert_eq!((picked, asked.get()), (None, 21 + tried));
        }
    }

    #[test]
    fn a_new_weight_takes_and_leaves_places() {
        let endpoints = [endpoint(0), endpoint(1)];
        let mut hash = Plain::new(&endpoints.iter().enumerate().collect::<Vec<_>>());

        hash.set_weight(0, 0);
        hash.set_weight(7, 5);
        assert!((0..50).all(|n: u8| hash.pick(&[n], 0, |_| true) == Some(1)));
        hash.set_weight(1, 0);
        assert_eq!(hash.pick(b"k", 0, |_| true), None);
    }
}
