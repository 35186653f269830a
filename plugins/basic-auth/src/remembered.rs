//! Credentials that were checked lately, right ones and wrong ones.
//!
//! # Why not the passwords themselves?
//!
//! What is kept is a BLAKE2 digest under a key that nobody knows, made when the plugin is configured: short, and of
//! no use to whoever sees it without the key.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput, KeyInit, Update};
use staunch_plugin::{Instant, random};

type Digest = [u8; 32];

/// What was found about credentials, for a while and of so many.
pub(crate) struct Remembered {
    key: Digest,
    age: Duration,
    most: usize,
    answers: BTreeMap<Digest, bool>,
    /// In the order in which they were found.
    found: VecDeque<(Instant, Digest)>,
}

impl Remembered {
    pub(crate) fn new(age: Duration, most: usize) -> Self {
        let mut key = [0; 32];
        key.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&random::next().to_le_bytes()));
        Self { key, age, most, answers: BTreeMap::new(), found: VecDeque::new() }
    }

    /// Whether they were right, when that is known.
    pub(crate) fn answer(&mut self, credentials: &[u8], now: Instant) -> Option<bool> {
        while self.found.front().is_some_and(|(found, _)| now.since(*found) >= self.age) {
            self.forget_oldest();
        }
        self.answers.get(&self.digest(credentials)).copied()
    }

    /// Keeps what was found.
    pub(crate) fn keep(&mut self, credentials: &[u8], is_right: bool, now: Instant) {
        let digest = self.digest(credentials);
        if self.most == 0 || self.answers.contains_key(&digest) {
            return;
        }
        if self.found.len() >= self.most {
            self.forget_oldest();
        }
        self.answers.insert(digest, is_right);
        self.found.push_back((now, digest));
    }

    fn forget_oldest(&mut self) {
        if let Some((_, digest)) = self.found.pop_front() {
            self.answers.remove(&digest);
        }
    }

    fn digest(&self, credentials: &[u8]) -> Digest {
        let mut mac = Blake2sMac256::new(&self.key.into());
        mac.update(credentials);
        mac.finalize_fixed().into()
    }
}

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::Host;

    use super::*;

    #[test]
    fn the_oldest_makes_room_for_the_newest() {
        Host::new();
        let mut remembered = Remembered::new(Duration::from_secs(60), 2);
        let now = Instant::from_nanos(0);

        for (credentials, is_right) in [(b"a", true), (b"b", false), (b"c", true)] {
            remembered.keep(credentials, is_right, now);
        }

        let answers = [b"a", b"b", b"c"].map(|credentials| remembered.answer(credentials, now));
        assert_eq!(answers, [None, Some(false), Some(true)]);
        assert_eq!((remembered.answers.len(), remembered.found.len()), (2, 2));
    }

    #[test]
    fn an_answer_is_forgotten_when_it_is_old() {
        Host::new();
        let mut remembered = Remembered::new(Duration::from_secs(60), 2);
        remembered.keep(b"a", true, Instant::from_nanos(0));

        let at = |seconds| Instant::from_nanos(0) + Duration::from_secs(seconds);
        assert_eq!(remembered.answer(b"a", at(59)), Some(true));
        assert_eq!(remembered.answer(b"a", at(60)), None);
        assert!(remembered.answers.is_empty());
    }

    #[test]
    fn nothing_is_remembered_when_nothing_may_be() {
        Host::new();
        for (age, most) in [(0, 10), (10, 0)] {
            let mut remembered = Remembered::new(Duration::from_secs(age), most);
            remembered.keep(b"a", true, Instant::from_nanos(0));
            assert_eq!(remembered.answer(b"a", Instant::from_nanos(0)), None);
        }
    }
}
