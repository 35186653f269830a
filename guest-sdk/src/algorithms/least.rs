//! The least loaded for its weight (`ngx_http_upstream_least_conn_module.c`, `…_least_time_module.c`).

use super::Smooth;
use super::smooth::{Peer, step};

impl Smooth {
    /// Picks the endpoint with the least load for its weight among those that [`pick`](Self::pick) chooses from.
    /// Those that tie share by one step over them alone. `load` is asked by position, twice for some.
    pub fn pick_least(&mut self, tried: &[usize], load: impl Fn(usize) -> u64) -> Option<usize> {
        if tried.is_empty() {
            return self.least_among(|_| true, &load);
        }
        let untried = |position| !tried.contains(&position);
        self.least_among(untried, &load).or_else(|| self.least_among(|_| true, &load))
    }

    fn least_among(&mut self, eligible: impl Fn(usize) -> bool, load: impl Fn(usize) -> u64) -> Option<usize> {
        self.settle();
        let peers = &mut self.peers;
        self.priorities.iter().find_map(|&priority| {
            let takes_part = |position, peer: &Peer| peer.ready && peer.priority == priority && eligible(position);
            let share = |position, peer: &Peer| Share { load: load(position), weight: peer.weight };

            let mut least: Option<(Share, usize)> = None;
            let mut tied = false;
            for (position, peer) in peers.iter().enumerate().filter(|&(position, peer)| takes_part(position, peer)) {
                let own = share(position, peer);
                match &least {
                    Some((best, _)) if best.is_less_than(&own) => {}
                    Some((best, _)) if !own.is_less_than(best) => tied = true,
                    _ => (least, tied) = (Some((own, position)), false),
                }
            }
            let (least, position) = least?;
            if !tied {
                return Some(position);
            }
            step(peers, |position, peer| takes_part(position, peer) && !least.is_less_than(&share(position, peer)))
        })
    }
}

/// A load with the weight that carries it.
struct Share {
    load: u64,
    weight: u32,
}

impl Share {
    /// Compares loads by weight without dividing, which would round.
    fn is_less_than(&self, other: &Self) -> bool {
        let (weight, others_weight) = (u64::from(self.weight.max(1)), u64::from(other.weight.max(1)));
        if self.load <= u64::from(u32::MAX) && other.load <= u64::from(u32::MAX) {
            return self.load * others_weight < other.load * weight;
        }
        // Takes several times as long in WebAssembly.
        u128::from(self.load) * u128::from(others_weight) < u128::from(other.load) * u128::from(weight)
    }
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

    #[test]
    fn loads_are_compared_by_weight() {
        for (weights, loads, expected) in [
            (&[1, 1][..], &[1, 0][..], 1),
            (&[3, 1], &[2, 1], 0),
            (&[3, 1], &[4, 1], 1),
            (&[1, 2, 3], &[2, 3, 4], 2),
            (&[u32::MAX, 1], &[u64::MAX, u64::MAX], 0),
            (&[2, 1], &[1 << 33, (1 << 32) - 1], 1),
        ] {
            let mut smooth = weighted(weights);
            for _ in 0..3 {
                assert_eq!(smooth.pick_least(&[], |at| loads[at]), Some(expected), "for {weights:?}, {loads:?}");
            }
        }
    }

    #[test]
    fn a_tie_is_one_smooth_step_over_the_tied_alone() {
        let mut smooth = weighted(&[1, 2, 4, 1]);
        // 2/1 is more than the others' 1/1.
        let loads = [1, 2, 4, 2];
        let picks: Vec<_> = (0..7).filter_map(|_| smooth.pick_least(&[], |at| loads[at])).collect();

        assert_eq!(picks, [2, 1, 2, 0, 2, 1, 2]);
        assert_eq!(smooth.pick(&[]), Some(2), "who did not tie has gained nothing");
    }

    #[test]
    fn a_clear_choice_leaves_the_turns_as_they_are() {
        let mut smooth = weighted(&[1, 1]);
        for _ in 0..5 {
            smooth.pick_least(&[], |at| at as u64);
        }

        assert_eq!(smooth.pick(&[]), Some(0));
    }

    #[test]
    fn the_tried_and_the_backups_wait() {
        let mut smooth = weighted(&[1, 1]);
        smooth.push(1, 1, true);
        let loads = [0, 5, 0];

        for (tried, expected) in [(&[][..], 0), (&[0], 1), (&[0, 1], 2), (&[0, 1, 2], 0)] {
            assert_eq!(smooth.pick_least(tried, |at| loads[at]), Some(expected), "after {tried:?}");
        }
    }

    proptest! {
        #[test]
        fn nobody_eligible_is_less_loaded_than_the_picked(
            peers in prop::collection::vec((0u32..9, 0u32..2, any::<bool>(), 0u64..20), 0..12),
            tried in prop::collection::vec(0usize..12, 0..4),
        ) {
            let mut smooth = Smooth::default();
            peers.iter().for_each(|&(weight, priority, ready, _)| smooth.push(weight, priority, ready));

            let picked = smooth.pick_least(&tried, |at| peers[at].3);

            let ready: Vec<usize> = (0..peers.len()).filter(|&at| peers[at].2).collect();
            let untried: Vec<usize> = ready.iter().copied().filter(|at| !tried.contains(at)).collect();
            let mut allowed = if untried.is_empty() { ready } else { untried };
            let first = allowed.iter().map(|&at| peers[at].1).min();
            allowed.retain(|&at| Some(peers[at].1) == first);
            prop_assert_eq!(picked.is_none(), allowed.is_empty());
            if let Some(picked) = picked {
                prop_assert!(allowed.contains(&picked));
                let share = |at: usize| peers[at].3 as f64 / f64::from(peers[at].0.max(1));
                prop_assert!(allowed.iter().all(|&other| share(picked) <= share(other)));
            }
        }
    }
}
