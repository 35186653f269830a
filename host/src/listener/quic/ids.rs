//! Connection identifiers that say which worker has the connection.

use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};
use ring::rand::{SecureRandom, SystemRandom};

/// Bytes of an identifier: two that lead to the worker, and 64 bits that nobody can guess.
const LENGTH: usize = 10;

/// Makes up the identifiers of one worker: the first two bytes, taken as a number, leave its own when they are divided by
/// how many there are.
#[derive(Debug)]
pub(super) struct Ids {
    worker: u16,
    workers: u16,
    random: SystemRandom,
}

impl Ids {
    pub(super) fn new(worker: usize, workers: usize) -> Self {
        // There are 1024 of them at most.
        let number = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        Self { worker: number(worker), workers: number(workers).max(1), random: SystemRandom::new() }
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; LENGTH];
        // The system's source does not fail once it has begun. If it did, the identifier would be one that can be
        // guessed, and no other connection's.
        if self.random.fill(&mut bytes).is_err() {
            bytes = std::array::from_fn(|_| fastrand::u8(..));
        }
        let drawn = u16::from_be_bytes([bytes[0], bytes[1]]);
        // The last multiple may have no room for all of them.
        let rounds = u16::MAX / self.workers;
        let leading = drawn % rounds * self.workers + self.worker;
        bytes[..2].copy_from_slice(&leading.to_be_bytes());
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_leads_to_its_worker() {
        for workers in [1, 2, 3, 7, 256, 1000, 1024] {
            for worker in [0, workers / 2, workers - 1] {
                let mut ids = Ids::new(worker, workers);
                for _ in 0..100 {
                    let id = ids.generate_cid();

                    assert_eq!(usize::from(u16::from_be_bytes([id[0], id[1]])) % workers, worker);
                }
            }
        }
    }
}
