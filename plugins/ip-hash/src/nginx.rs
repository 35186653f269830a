//! nginx's hash of a client's address (`ngx_http_upstream_ip_hash_module.c`).

use std::net::IpAddr;

use staunch_plugin::Endpoint;

/// Hashes that may lead to an endpoint which is not eligible before round robin decides (nginx).
const MISSES: usize = 20;

/// The endpoints of a group by weight: each is found at as many of the places as its weight.
pub(crate) struct IpHash {
    /// Position and weight, by rising position.
    peers: Vec<(usize, u64)>,
    weights: u64,
}

impl IpHash {
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

    /// The first eligible endpoint that an address leads to; `None` after 20 that are not. An attempt goes on where
    /// the one before it stopped, so those `tried` are no misses.
    pub(crate) fn pick(&self, client: &[u8], tried: usize, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let mut hash = 89;
        for _ in 0..=MISSES + tried {
            hash = client.iter().fold(hash, |hash, &byte| (hash * 113 + u64::from(byte)) % 6271);
            let position = self.at(hash)?;
            if eligible(position) {
                return Some(position);
            }
        }
        None
    }

    fn at(&self, hash: u64) -> Option<usize> {
        let mut place = hash.checked_rem(self.weights)?;
        for &(position, weight) in &self.peers {
            if place < weight {
                return Some(position);
            }
            place -= weight;
        }
        None
    }
}

/// What of a client's address is hashed: the first three bytes of IPv4, so that a network stays together, all of
/// IPv6, and three zeros of a client without an address.
pub(crate) fn bytes_of(client: Option<IpAddr>) -> Vec<u8> {
    match client {
        Some(IpAddr::V4(address)) => address.octets()[..3].to_vec(),
        Some(IpAddr::V6(address)) => address.octets().to_vec(),
        None => vec![0; 3],
    }
}

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::endpoint;

    use super::*;

    /// Picks for these clients, of endpoints with these weights; a weight of 0 or less is that of one `down`.
    fn picks(weights: &[i32], clients: &[&str]) -> String {
        let endpoints: Vec<_> = (0..)
            .zip(weights)
            .map(|(id, &weight)| Endpoint { weight: weight.unsigned_abs(), ..endpoint(id) })
            .collect();
        let hash = IpHash::new(&endpoints.iter().enumerate().collect::<Vec<_>>());
        let pick = |client: &&str| {
            let bytes = bytes_of(client.parse().ok());
            let picked = hash.pick(&bytes, 0, |position| weights[position] > 0);
            picked.map_or('-', |position| char::from(b'1' + position as u8))
        };
        clients.iter().map(pick).collect()
    }

    /// What nginx 1.22 answers.
    #[test]
    fn picks_are_those_of_nginx() {
        let v4 = [
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
        assert_eq!(picks(&[1, 1, 1], &v4), "123322231121");
        assert_eq!(picks(&[2, 1, -1], &v4), "121222221111");

        let v6 = [
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8::3",
            "2001:db8::4",
            "2001:db8:1003::1",
            "2001:db8:2006::1",
            "2001:db8:3009::1",
            "2001:db8:400c::1",
            "fe80::1",
            "::1",
            "::ffff:10.0.0.1",
        ];
        assert_eq!(picks(&[1, 1, 1], &v6), "31231223132");
    }

    #[test]
    fn clients_of_one_network_stay_together() {
        let network: Vec<String> = (0..256).map(|host| format!("198.51.100.{host}")).collect();
        let picks = picks(&[1, 2, 3], &network.iter().map(|client| &**client).collect::<Vec<_>>());

        assert_eq!(picks, picks[..1].repeat(256));
    }

    #[test]
    fn twenty_misses_are_the_end() {
        let endpoints = [endpoint(0), endpoint(1)];
        let hash = IpHash::new(&endpoints.iter().enumerate().collect::<Vec<_>>());
        for tried in 0..3 {
            let asked = std::cell::Cell::new(0);

            let picked = hash.pick(&[10, 0, 0], tried, |_| {
                asked.set(asked.get() + 1);
                false
            });

            assert_eq!((picked, asked.get()), (None, 21 + tried));
        }
    }

    #[test]
    fn without_weight_there_is_none() {
        assert_eq!(picks(&[], &["10.0.0.1"]), "-");
        assert_eq!(picks(&[0, 0], &["10.0.0.1"]), "-");
    }
}
