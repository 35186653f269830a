//! Smooth weighted round robin that does not look at every endpoint for every pick.
//!
//! Endpoints of the same weight gain the same at each step, so they keep their order until one of them is picked and pays.
//! They stand in a heap, by what they would have had at the first step, and only the first of each heap can be next. An
//! endpoint whose effective weight still rises after a failure is looked at by itself until it is the weight again. The
//! picks are those of [`step`](super::smooth::step), one by one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::smooth::Peer;

/// Different weights among so many endpoints that this is worth while: one for each so many of them.
const SHARE: usize = 16;

/// Steps after which the heaps are made anew, long before what is counted in them overflows.
const MOST_STEPS: i64 = 1 << 24;

/// The turns of the ready endpoints of one priority. While there is one, what the peers themselves have gained is out of
/// date, but for those whose weight rises.
#[derive(Debug)]
pub(super) struct Ladder {
    rungs: Vec<Rung>,
    steps: i64,
    /// What all on the rungs gain together at a step.
    gain: i64,
    /// Positions of those whose effective weight is not their weight yet.
    rising: Vec<usize>,
}

/// The endpoints of one weight.
#[derive(Debug)]
struct Rung {
    weight: i64,
    /// What each has beyond the gains of all steps, and its position: the first of those that tie is next.
    waiting: BinaryHeap<(i64, Reverse<usize>)>,
}

impl Ladder {
    /// `None` when there are so many weights that a look at every endpoint is no more work.
    pub(super) fn of(peers: &[Peer], priorities: &[u32]) -> Option<Self> {
        let is_ready = |priority: &&u32| peers.iter().any(|peer| peer.ready && peer.priority == **priority);
        let priority = *priorities.iter().find(is_ready)?;
        let mut ladder = Self { rungs: Vec::new(), steps: 0, gain: 0, rising: Vec::new() };
        for (position, peer) in peers.iter().enumerate().filter(|(_, peer)| peer.ready && peer.priority == priority) {
            if peer.effective < peer.weight {
                ladder.rising.push(position);
            } else {
                ladder.put(position, peer);
            }
            if ladder.rungs.len() > peers.len() / SHARE {
                return None;
            }
        }
        Some(ladder)
    }

    /// The position whose turn it is.
    #[inline]
    pub(super) fn step(&mut self, peers: &mut [Peer]) -> Option<usize> {
        self.steps += 1;
        let mut total = self.gain;
        let mut best: Option<(i64, Reverse<usize>)> = None;
        let mut rung = None;
        for candidate in &mut self.rungs {
            let first = candidate.first(self.steps);
            if first > best {
                (best, rung) = (first, Some(candidate));
            }
        }
        for &position in &self.rising {
            let peer = &mut peers[position];
            total += peer.gain();
            let own = Some((peer.current, Reverse(position)));
            if own > best {
                (best, rung) = (own, None);
            }
        }
        let (_, Reverse(position)) = best?;
        match rung.and_then(|rung| rung.waiting.peek_mut()) {
            Some(mut first) => first.0 -= total,
            None => peers[position].current -= total,
        }
        if !self.rising.is_empty() {
            self.promote(peers);
        }
        Some(position)
    }

    /// Whether it has to be made anew.
    pub(super) fn is_old(&self) -> bool {
        self.steps >= MOST_STEPS
    }

    /// Leaves what each has gained with the peers.
    pub(super) fn settle(self, peers: &mut [Peer]) {
        for Rung { weight, waiting } in self.rungs {
            for (beyond, Reverse(position)) in waiting {
                peers[position].current = beyond + weight * self.steps;
            }
        }
    }

    /// Puts those on their rung whose effective weight has risen to their weight.
    fn promote(&mut self, peers: &[Peer]) {
        let has_risen = |position: &usize| peers[*position].effective == peers[*position].weight;
        let (risen, rising) = self.rising.iter().copied().partition(has_risen);
        self.rising = rising;
        let risen: Vec<usize> = risen;
        risen.into_iter().for_each(|position| self.put(position, &peers[position]));
    }

    fn put(&mut self, position: usize, peer: &Peer) {
        let weight = i64::from(peer.weight);
        let beyond = (peer.current - weight * self.steps, Reverse(position));
        self.gain += weight;
        match self.rungs.iter_mut().find(|rung| rung.weight == weight) {
            Some(rung) => rung.waiting.push(beyond),
            None => self.rungs.push(Rung { weight, waiting: [beyond].into() }),
        }
    }
}

impl Rung {
    /// What its first has at a step, and its position.
    #[inline]
    fn first(&self, steps: i64) -> Option<(i64, Reverse<usize>)> {
        self.waiting.peek().map(|&(beyond, position)| (beyond + self.weight * steps, position))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::algorithms::Smooth;

    /// What happens to an upstream between two picks.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Pick,
        Retry(usize),
        Change(usize, u32, bool),
        Fail(usize, u32),
    }

    fn event() -> impl Strategy<Value = Event> {
        let weight = || prop::sample::select(vec![1, 1, 1, 5, u32::MAX]);
        prop_oneof![
            60 => Just(Event::Pick),
            1 => (0usize..80).prop_map(Event::Retry),
            1 => (0usize..80, weight(), any::<bool>()).prop_map(|(at, weight, ready)| Event::Change(at, weight, ready)),
            1 => (0usize..80, weight()).prop_map(|(at, penalty)| Event::Fail(at, penalty)),
        ]
    }

    fn smooth(peers: &[(u32, u32, bool)]) -> Smooth {
        let mut smooth = Smooth::default();
        peers.iter().for_each(|&(weight, priority, ready)| smooth.push(weight, priority, ready));
        smooth
    }

    #[test]
    fn thousands_of_equal_endpoints_take_turns() {
        let mut smooth = smooth(&[(7, 0, true); 1000]);

        for turn in 0..5000 {
            assert_eq!(smooth.pick(&[]), Some(turn % 1000));
        }
    }

    proptest! {
        #[test]
        fn picks_are_those_of_a_look_at_every_endpoint(
            peers in prop::collection::vec((prop::sample::select(vec![1, 1, 1, 2, 40]), 0u32..2, any::<bool>()), 40..80),
            events in prop::collection::vec(event(), 0..400),
        ) {
            let (mut quick, mut slow) = (smooth(&peers), smooth(&peers));
            for event in events {
                match event {
                    Event::Pick => prop_assert_eq!(quick.pick(&[]), slow.pick_among(|_| true)),
                    Event::Retry(tried) => prop_assert_eq!(quick.pick(&[tried]), slow.pick(&[tried])),
                    Event::Change(at, weight, ready) => {
                        quick.change(at, weight, ready);
                        slow.change(at, weight, ready);
                    }
                    Event::Fail(at, penalty) => {
                        quick.penalize(at, penalty);
                        slow.penalize(at, penalty);
                    }
                }
            }
        }
    }
}
