//! How many requests with the same key are in flight: nginx's `limit_conn`, over all workers.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

/// Requests in flight by key. There are never more keys than requests in flight: a key without any is forgotten.
#[derive(Debug)]
pub(crate) struct Keyed {
    max: u32,
    /// Several, so that workers seldom meet.
    shards: [Mutex<HashMap<Box<[u8]>, u32>>; SHARDS],
    /// Clients choose keys, and must not be able to choose a shard.
    hasher: RandomState,
}

/// One request counted in, until this is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    keyed: Arc<Keyed>,
    key: Box<[u8]>,
}

const SHARDS: usize = 64;

impl Keyed {
    pub(crate) fn new(max: u32) -> Arc<Self> {
        Arc::new(Self { max, shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() })
    }

    /// Counts a request in; `None` when there are as many with its key as may be.
    pub(crate) fn enter(self: &Arc<Self>, key: &[u8]) -> Option<InFlight> {
        let mut shard = self.shard(key).lock();
        match shard.get_mut(key) {
            Some(requests) if *requests >= self.max => return None,
            Some(requests) => *requests += 1,
            None => drop(shard.insert(key.into(), 1)),
        }
        Some(InFlight { keyed: self.clone(), key: key.into() })
    }

    fn shard(&self, key: &[u8]) -> &Mutex<HashMap<Box<[u8]>, u32>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut shard = self.keyed.shard(&self.key).lock();
        if let Some(requests) = shard.get_mut(&self.key) {
            *requests -= 1;
            if *requests == 0 {
                shard.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_key_has_a_limit_of_its_own() {
        let keyed = Keyed::new(2);

        let held = [(); 3].map(|()| keyed.enter(b"a"));

        assert_eq!(held.each_ref().map(Option::is_some), [true, true, false]);
        assert!(keyed.enter(b"b").is_some());
        drop(held);
        assert!(keyed.enter(b"a").is_some());
    }

    proptest! {
        #[test]
        fn no_key_has_more_than_it_may_and_none_stays_behind(
            max in 1u32..4,
            steps in prop::collection::vec((0u8..5, any::<bool>()), 0..200),
        ) {
            let keyed = Keyed::new(max);
            let mut held: Vec<(u8, InFlight)> = Vec::new();
            for (key, comes) in steps {
                let there = held.iter().filter(|(of, _)| *of == key).count();
                if comes {
                    let entered = keyed.enter(&[key]);
                    prop_assert_eq!(entered.is_some(), there < max as usize);
                    held.extend(entered.map(|entered| (key, entered)));
                } else if let Some(at) = held.iter().position(|(of, _)| *of == key) {
                    held.swap_remove(at);
                }
            }
            held.clear();
            prop_assert!(keyed.shards.iter().all(|shard| shard.lock().is_empty()));
        }
    }
}
