//! The endpoints of one upstream, and what is counted of each over all workers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The slot of an endpoint in its upstream: small and dense.
pub type EndpointId = u32;

/// One address in an upstream, as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    pub id: EndpointId,
    /// As the configuration writes it.
    pub address: Arc<str>,
    pub weight: u32,
    /// 0 is used first, 1 is the backup group.
    pub priority: u32,
    pub zone: Option<String>,
    pub labels: Vec<(String, String)>,
    /// Configured never to have traffic.
    pub down: bool,
}

/// Where each address stands among the endpoints of an upstream, so that a thousand of them are compared with a thousand
/// others in as many steps.
pub(crate) type Positions = HashMap<Arc<str>, usize>;

pub(crate) fn positions(endpoints: &[Endpoint]) -> Positions {
    endpoints.iter().map(|endpoint| endpoint.address.clone()).zip(0..).collect()
}

/// Requests in flight and response times of every endpoint of an upstream.
///
/// Each worker writes to a slab of its own, so that no worker waits for another's cache line; who reads adds the
/// slabs up.
#[derive(Debug)]
pub struct Loads {
    workers: Vec<Slab>,
    endpoints: usize,
}

/// One worker's share, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Slab(Box<[Load]>);

#[derive(Debug, Default)]
struct Load {
    active: AtomicU32,
    /// Nanoseconds; 0 when nothing was measured.
    latency: AtomicU64,
}

impl Loads {
    pub fn new(workers: usize, endpoints: usize) -> Self {
        let slab = || Slab((0..endpoints).map(|_| Load::default()).collect());
        Self { workers: (0..workers).map(|_| slab()).collect(), endpoints }
    }

    pub fn endpoints(&self) -> usize {
        self.endpoints
    }

    /// Requests in flight to one endpoint; 0 for an unknown one.
    pub fn active(&self, endpoint: EndpointId) -> u32 {
        self.each(endpoint).map(|load| load.active.load(Relaxed)).sum()
    }

    /// The mean of the workers' decaying means of the time to a response head; zero when none is known.
    pub fn latency(&self, endpoint: EndpointId) -> Duration {
        let (mut sum, mut known) = (0u64, 0u64);
        for load in self.each(endpoint) {
            let latency = load.latency.load(Relaxed);
            if latency > 0 {
                sum = sum.saturating_add(latency);
                known += 1;
            }
        }
        Duration::from_nanos(sum.checked_div(known).unwrap_or(0))
    }

    /// Counts a request in. Only `worker` itself may call this for its number.
    pub fn enter(&self, worker: usize, endpoint: EndpointId) {
        if let Some(load) = self.own(worker, endpoint) {
            load.active.store(load.active.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    /// Counts a request out. Only `worker` itself may call this for its number.
    pub fn leave(&self, worker: usize, endpoint: EndpointId) {
        if let Some(load) = self.own(worker, endpoint) {
            load.active.store(load.active.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    /// One worker's own decaying mean of the time to a response head; zero when it knows none.
    pub fn own_latency(&self, worker: usize, endpoint: EndpointId) -> Duration {
        self.own(worker, endpoint).map_or(Duration::ZERO, |load| Duration::from_nanos(load.latency.load(Relaxed)))
    }

    /// Takes a time to a response head into the decaying mean (weight 1/20, as nginx's `least_time`).
    pub fn observe_latency(&self, worker: usize, endpoint: EndpointId, latency: Duration) {
        if let Some(load) = self.own(worker, endpoint) {
            let sample = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1);
            let mean = match load.latency.load(Relaxed) {
                0 => sample,
                mean => mean - mean / 20 + sample / 20,
            };
            load.latency.store(mean.max(1), Relaxed);
        }
    }

    /// Sets what is counted of an endpoint, in place of counting.
    pub fn set(&self, worker: usize, endpoint: EndpointId, active: u32, latency: Duration) {
        if let Some(load) = self.own(worker, endpoint) {
            load.active.store(active, Relaxed);
            load.latency.store(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        }
    }

    fn own(&self, worker: usize, endpoint: EndpointId) -> Option<&Load> {
        self.workers.get(worker)?.0.get(endpoint as usize)
    }

    fn each(&self, endpoint: EndpointId) -> impl Iterator<Item = &Load> {
        self.workers.iter().filter_map(move |slab| slab.0.get(endpoint as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_added_over_the_workers() {
        let loads = Loads::new(2, 3);

        loads.enter(0, 1);
        loads.enter(1, 1);
        loads.enter(1, 1);
        loads.leave(1, 1);

        assert_eq!([0, 1, 2, 3].map(|id| loads.active(id)), [0, 2, 0, 0]);
    }

    #[test]
    fn the_first_latency_is_taken_whole_and_later_ones_by_a_twentieth() {
        let loads = Loads::new(1, 1);

        loads.observe_latency(0, 0, Duration::from_nanos(2000));
        loads.observe_latency(0, 0, Duration::from_nanos(4000));

        assert_eq!(loads.latency(0), Duration::from_nanos(2100));
    }
}
