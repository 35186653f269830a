//! How many connections each client has.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use parking_lot::Mutex;

/// One client: an IPv4 address, or an IPv6 network of 64 bits, which is what one subscriber is given at least
/// (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Client {
    V4(Ipv4Addr),
    /// The upper half of its addresses.
    V6(u64),
}

/// Connections by client, over all workers. A client without any is forgotten.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// 0: no limit, and nothing is counted.
    max: AtomicU32,
    /// Several, so that workers seldom meet.
    shards: [Mutex<HashMap<Client, u32>>; SHARDS],
}

const SHARDS: usize = 16;

impl Client {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((u128::from(address) >> 64) as u64),
        }
    }

    fn shard(self) -> usize {
        let bits = match self {
            Self::V4(address) => u64::from(u32::from(address)),
            Self::V6(network) => network,
        };
        // The upper bits of a product depend on all bits (Fibonacci hashing); shards need not resist anybody.
        (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize % SHARDS
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(network) => write!(f, "{}/64", Ipv6Addr::from(u128::from(*network) << 64)),
        }
    }
}

impl Clients {
    pub(super) fn set_max(&self, max: Option<u32>) {
        self.max.store(max.unwrap_or(0), Relaxed);
    }

    /// Counts a connection in, unless its client has as many as it may.
    pub(super) fn enter(&self, client: Client) -> bool {
        let max = self.max.load(Relaxed);
        if max == 0 {
            return true;
        }
        let mut shard = self.shards[client.shard()].lock();
        let connections = shard.entry(client).or_default();
        if *connections >= max {
            return false;
        }
        *connections += 1;
        true
    }

    /// Counts a connection out, which may have come when nothing was counted.
    pub(super) fn leave(&self, client: Client) {
        let mut shard = self.shards[client.shard()].lock();
        if let Some(connections) = shard.get_mut(&client) {
            *connections -= 1;
            if *connections == 0 {
                shard.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_network_of_64_bits() {
        let client = |text: &str| Client::of(text.parse().unwrap()).to_string();

        for (address, shown) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(client(address), shown);
        }
    }

    #[test]
    fn a_client_without_connections_is_forgotten() {
        let clients = Clients::default();
        clients.set_max(Some(2));
        let client = Client::of([192, 0, 2, 7].into());

        assert_eq!([(); 3].map(|()| clients.enter(client)), [true, true, false]);
        clients.leave(client);
        clients.leave(client);

        assert!(clients.shards.iter().all(|shard| shard.lock().is_empty()));
        clients.leave(client);
        assert!(clients.enter(client));
    }
}
