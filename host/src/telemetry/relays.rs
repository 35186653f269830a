//! What is counted of connections and datagrams that are passed on without being understood.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::counter::{Counter, Gauge};
use super::exposition::{Exposition, Kind};

/// What one worker counts, by listener and upstream. Both are the configuration's.
#[derive(Debug, Default)]
pub struct Relays(Mutex<BTreeMap<Key, Arc<RelayMetrics>>>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    listener: Arc<str>,
    protocol: &'static str,
    upstream: Arc<str>,
}

/// What one worker counts of one listener's connections, or sessions, to one upstream.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct RelayMetrics {
    accepted: Counter,
    active: Gauge,
    /// Those that came to no endpoint.
    pub failed: Counter,
    /// From clients.
    pub received: Counter,
    /// To clients.
    pub sent: Counter,
    /// Datagrams that could not be passed on.
    pub dropped: Counter,
}

/// A connection or session that is open until this is dropped.
#[derive(Debug)]
pub struct OpenRelay(Arc<RelayMetrics>);

impl Drop for OpenRelay {
    fn drop(&mut self) {
        self.0.active.decrement();
    }
}

impl RelayMetrics {
    /// Counts a connection or session for as long as it is open.
    pub fn opened(self: &Arc<Self>) -> OpenRelay {
        self.accepted.increment();
        self.active.increment();
        OpenRelay(self.clone())
    }

    /// Counts bytes from a client and to it.
    pub fn passed(&self, [received, sent]: [u64; 2]) {
        self.received.add(received);
        self.sent.add(sent);
    }
}

impl Relays {
    /// The handle to count with; the same for the same names.
    pub fn of(&self, listener: &Arc<str>, protocol: &'static str, upstream: &Arc<str>) -> Arc<RelayMetrics> {
        let key = Key { listener: listener.clone(), protocol, upstream: upstream.clone() };
        self.0.lock().entry(key).or_default().clone()
    }

    /// Lets go of those that nobody counts with any more.
    pub fn forget_unused(&self) {
        self.0.lock().retain(|_, metrics| Arc::strong_count(metrics) > 1);
    }

    /// Writes what several workers have counted, added up.
    pub fn write<'w>(workers: impl Iterator<Item = &'w Self>, out: &mut Exposition) {
        let mut sums = BTreeMap::<Key, [u64; FAMILIES.len()]>::new();
        for Self(relays) in workers {
            for (key, relay) in relays.lock().iter() {
                let sum = sums.entry(key.clone()).or_default();
                sum.iter_mut().zip(FAMILIES).for_each(|(sum, family)| *sum += (family.3)(relay));
            }
        }
        for (index, (family, kind, help, _)) in FAMILIES.into_iter().enumerate() {
            out.family(family, kind, help);
            for (Key { listener, protocol, upstream }, sum) in &sums {
                let labels = [("listener", &**listener), ("protocol", *protocol), ("upstream", &**upstream)];
                out.sample(&labels, sum[index]);
            }
        }
    }
}

type Family = (&'static str, Kind, &'static str, fn(&RelayMetrics) -> u64);

const FAMILIES: [Family; 6] = [
    (
        "staunch_relay_connections_total",
        Kind::Counter,
        "TCP connections and UDP sessions passed on, by listener and upstream.",
        |relay| relay.accepted.value(),
    ),
    ("staunch_relay_connections_active", Kind::Gauge, "Those that are open.", |relay| relay.active.value()),
    ("staunch_relay_failed_total", Kind::Counter, "Those that came to no endpoint.", |relay| relay.failed.value()),
    ("staunch_relay_received_bytes_total", Kind::Counter, "Bytes from clients.", |relay| relay.received.value()),
    ("staunch_relay_sent_bytes_total", Kind::Counter, "Bytes to clients.", |relay| relay.sent.value()),
    ("staunch_relay_datagrams_dropped_total", Kind::Counter, "Datagrams that could not be passed on.", |relay| {
        relay.dropped.value()
    }),
];
