//! nginx's smooth weighted round robin (`ngx_http_upstream_round_robin.c`).
//!
//! A failure lowers a peer's effective weight; each pick that it takes part in raises it by one, until it is the
//! weight again.

use super::ladder::Ladder;
use crate::{EndpointChange, Endpoints};

/// Endpoints from which on it is less work to keep them in order than to look at each of them.
const MANY: usize = 32;

/// Picks in a row with nothing else in between before they are put in order, which takes as long as a few picks.
const ROW: u32 = 4;

/// nginx's smooth weighted round robin: the endpoints of an upstream by their positions, each with what it has gained.
///
/// At each pick every eligible endpoint gains its effective weight, and the one that has the most is picked and pays
/// what all of them gained. So picks are spread as evenly as the weights allow: 5, 1, 1 gives A A B A C A A rather
/// than A A A A A B C.
#[derive(Debug, Default)]
pub struct Smooth {
    pub(super) peers: Vec<Peer>,
    /// The priorities there are, the one that is used first in front.
    pub(super) priorities: Vec<u32>,
    /// Many endpoints in the order of their turns, while nothing but picks happens.
    ladder: Option<Ladder>,
    /// Picks since something else happened.
    row: u32,
}

#[derive(Debug)]
pub(super) struct Peer {
    /// Stays within a few times the sum of all weights, which is far from overflowing for any number of endpoints
    /// that fits in memory.
    pub(super) current: i64,
    pub(super) weight: u32,
    pub(super) effective: u32,
    pub(super) priority: u32,
    pub(super) ready: bool,
}

impl Smooth {
    /// All endpoints, in their order, with nothing gained yet.
    pub fn of(endpoints: &Endpoints) -> Self {
        let mut smooth = Self::default();
        for endpoint in endpoints {
            smooth.push(endpoint.weight, endpoint.priority, endpoint.ready);
        }
        smooth
    }

    /// Adds an endpoint after the others.
    pub fn push(&mut self, weight: u32, priority: u32, ready: bool) {
        self.settle();
        let place = self.priorities.partition_point(|&before| before < priority);
        if self.priorities.get(place) != Some(&priority) {
            self.priorities.insert(place, priority);
        }
        self.peers.push(Peer { current: 0, weight, effective: weight, priority, ready });
    }

    /// Takes over a weight and readiness. What was gained stays, and so does what failures took from the weight.
    pub fn change(&mut self, position: usize, weight: u32, ready: bool) {
        self.settle();
        if let Some(peer) = self.peers.get_mut(position) {
            peer.effective = weight.saturating_sub(peer.weight - peer.effective);
            peer.weight = weight;
            peer.ready = ready;
        }
    }

    /// Takes over what changed of these endpoints, which are those it was made of.
    pub fn apply(&mut self, endpoints: &Endpoints, changes: &[EndpointChange]) {
        for change in changes {
            if let Some(position) = endpoints.position(change.id) {
                self.change(position, change.weight, change.ready);
            }
        }
    }

    /// Takes a failure's price from the effective weight.
    pub fn penalize(&mut self, position: usize, penalty: u32) {
        self.settle();
        if let Some(peer) = self.peers.get_mut(position) {
            peer.effective = peer.effective.saturating_sub(penalty);
        }
    }

    /// Picks among the ready peers of the first group that has one untried; when every ready peer was tried, among
    /// the tried ones. Peers that are not eligible neither gain nor lose.
    // Inlined, so that it is optimised as its plugin is.
    #[inline]
    pub fn pick(&mut self, tried: &[usize]) -> Option<usize> {
        if tried.is_empty() {
            return self.pick_any();
        }
        self.pick_among(|position| !tried.contains(&position)).or_else(|| self.pick_among(|_| true))
    }

    /// Picks among the ready endpoints at these positions, of the first priority that has one: one step over those
    /// alone, as nginx breaks a tie.
    pub fn pick_among(&mut self, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        self.settle();
        self.look(eligible)
    }

    #[inline]
    fn pick_any(&mut self) -> Option<usize> {
        if self.peers.len() < MANY {
            return self.look(|_| true);
        }
        if self.ladder.is_none() {
            self.row += 1;
            if self.row < ROW {
                return self.look(|_| true);
            }
            self.row = 0;
            self.ladder = Ladder::of(&self.peers, &self.priorities);
        }
        let Some(ladder) = &mut self.ladder else { return self.look(|_| true) };
        let picked = ladder.step(&mut self.peers);
        if ladder.is_old() {
            self.settle();
        }
        picked
    }

    /// Leaves what each endpoint has gained with itself, for whoever looks at it there.
    #[inline]
    pub(super) fn settle(&mut self) {
        self.row = 0;
        if let Some(ladder) = self.ladder.take() {
            ladder.settle(&mut self.peers);
        }
    }

    #[inline]
    fn look(&mut self, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let peers = &mut self.peers;
        self.priorities.iter().find_map(|&priority| {
            step(peers, |position, peer| peer.ready && peer.priority == priority && eligible(position))
        })
    }
}

impl Peer {
    /// Takes part in a step; answers what that brings.
    #[inline]
    pub(super) fn gain(&mut self) -> i64 {
        let gain = i64::from(self.effective);
        self.current += gain;
        if self.effective < self.weight {
            self.effective += 1;
        }
        gain
    }
}

/// One step over the eligible ones.
pub(super) fn step(peers: &mut [Peer], eligible: impl Fn(usize, &Peer) -> bool) -> Option<usize> {
    let mut total = 0;
    let mut most = i64::MIN;
    let mut best = None;
    for (position, peer) in peers.iter_mut().enumerate() {
        if !eligible(position, peer) {
            continue;
        }
        total += peer.gain();
        if peer.current > most {
            (most, best) = (peer.current, Some(position));
        }
    }
    peers[best?].current -= total;
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn weighted(weights: &[u32]) -> Smooth {
        let mut smooth = Smooth::default();
        weights.iter().for_each(|&weight| smooth.push(weight, 0, true));
        smooth
    }

    fn picks(smooth: &mut Smooth, count: usize) -> String {
        (0..count).map(|_| smooth.pick(&[]).map_or('-', |position| char::from(b'A' + position as u8))).collect()
    }

    #[test]
    fn picks_are_those_of_nginx() {
        for (weights, expected) in [
            (&[5, 1, 1][..], "AABACAAAABACAA"),
            (&[1, 1, 1], "ABCABC"),
            (&[2, 1], "ABAABA"),
            (&[4, 2, 1], "ABACABA"),
            (&[1, 5], "BBABBBBBABBB"),
            (&[7], "AAA"),
        ] {
            assert_eq!(picks(&mut weighted(weights), expected.len()), expected, "for {weights:?}");
        }
    }

    #[test]
    fn an_endpoint_that_is_not_ready_keeps_its_turn() {
        let mut smooth = weighted(&[5, 1, 1]);
        assert_eq!(picks(&mut smooth, 2), "AA");

        smooth.change(1, 1, false);
        assert_eq!(picks(&mut smooth, 6), "CAAAAA");
        smooth.change(1, 1, true);

        assert_eq!(picks(&mut smooth, 5), "BACAA");
    }

    #[test]
    fn a_penalty_is_earned_back_one_by_one() {
        let mut smooth = weighted(&[3, 3]);

        smooth.penalize(0, 3);
        let effective = |smooth: &Smooth| smooth.peers[0].effective;
        assert_eq!(effective(&smooth), 0);

        assert_eq!(picks(&mut smooth, 2), "BB");
        assert_eq!(effective(&smooth), 2);
        smooth.penalize(0, u32::MAX);
        assert_eq!(effective(&smooth), 0);
        assert_eq!(picks(&mut smooth, 5).len(), 5);
        assert_eq!(effective(&smooth), 3);
    }

    #[test]
    fn a_new_weight_keeps_what_failures_took() {
        let mut smooth = weighted(&[10]);
        smooth.penalize(0, 4);

        for (weight, effective) in [(20, 16), (3, 0), (u32::MAX, u32::MAX - 3)] {
            smooth.change(0, weight, true);
            assert_eq!(smooth.peers[0].effective, effective, "for {weight}");
        }
    }

    #[test]
    fn backups_wait_until_no_primary_is_left() {
        let mut smooth = Smooth::default();
        [1, 0, 1, 0].into_iter().for_each(|priority| smooth.push(1, priority, true));
        assert_eq!(picks(&mut smooth, 4), "BDBD");

        smooth.change(1, 1, false);
        assert_eq!(picks(&mut smooth, 2), "DD");
        assert_eq!(smooth.pick(&[3]), Some(0));
        assert_eq!(smooth.pick(&[3, 0]), Some(2));
        assert_eq!(smooth.pick(&[3, 0, 2]), Some(3));

        smooth.change(3, 1, false);
        assert_eq!(picks(&mut smooth, 3), "CAC");
    }

    #[test]
    fn many_endpoints_are_not_all_looked_at_once_nothing_but_picks_happens() {
        for (weights, is_in_order) in
            [(vec![1; MANY - 1], false), (vec![1; MANY], true), ((1..=1000).collect::<Vec<u32>>(), false)]
        {
            let mut smooth = weighted(&weights);
            (0..ROW).for_each(|_| {
                smooth.pick(&[]);
            });
            assert_eq!(smooth.ladder.is_some(), is_in_order, "for {} endpoints", weights.len());

            smooth.penalize(0, 1);
            assert!(smooth.ladder.is_none());
        }
    }

    #[test]
    fn the_heaviest_weights_of_very_many_endpoints_do_not_overflow() {
        let mut smooth = weighted(&vec![u32::MAX; 10_000]);

        for turn in 0..500 {
            assert_eq!(smooth.pick(&[]), Some(turn));
        }
    }

    proptest! {
        #[test]
        fn each_endpoint_gets_its_weight_in_every_round(weights in prop::collection::vec(1u32..20, 1..8)) {
            let mut smooth = weighted(&weights);
            for _ in 0..3 {
                let mut picked = vec![0; weights.len()];
                for _ in 0..weights.iter().sum() {
                    picked[smooth.pick(&[]).expect("all are ready")] += 1;
                }
                prop_assert_eq!(&picked, &weights);
            }
        }

        #[test]
        fn a_pick_is_ready_and_untried_if_one_is(
            mut members in prop::collection::vec((any::<u32>(), 0u32..2, any::<bool>()), 0..12),
            events in prop::collection::vec((0usize..14, any::<u32>(), any::<bool>(), tried()), 0..60),
        ) {
            let mut smooth = Smooth::default();
            members.iter().for_each(|&(weight, priority, ready)| smooth.push(weight, priority, ready));

            for (position, weight, ready, tried) in events {
                smooth.penalize(position, weight / 2);
                smooth.change(position, weight, ready);
                if let Some(member) = members.get_mut(position) {
                    member.2 = ready;
                }

                let ready: Vec<usize> = (0..members.len()).filter(|&position| members[position].2).collect();
                let untried: Vec<usize> = ready.iter().copied().filter(|position| !tried.contains(position)).collect();
                let allowed = if untried.is_empty() { ready } else { untried };
                let priority = |&position: &usize| members[position].1;
                let first = allowed.iter().map(priority).min();

                match smooth.pick(&tried) {
                    Some(position) => {
                        prop_assert!(allowed.contains(&position));
                        prop_assert_eq!(Some(priority(&position)), first);
                    }
                    None => prop_assert_eq!(first, None),
                }
            }
        }
    }

    fn tried() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(0usize..12, 0..4)
    }
}
