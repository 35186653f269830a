//! nginx's smooth weighted round robin (`ngx_http_upstream_round_robin.c`).
//!
//! At each pick every eligible peer gains its effective weight, and the one that has the most is picked and pays
//! what all of them gained. So picks are spread as evenly as the weights allow: 5, 1, 1 gives A A B A C A A rather
//! than A A A A A B C. A failure lowers the effective weight; each pick that a peer takes part in raises it by one,
//! until it is the weight again.

use std::ops::Range;

use staunch_plugin::{EndpointChange, EndpointId, Endpoints};

/// The endpoints of an upstream, each with what it has gained.
#[derive(Debug, Default)]
pub(crate) struct Smooth {
    /// By group, and within a group in the order of the configuration.
    peers: Vec<Peer>,
    /// The parts of `peers`, the one that is used first in front.
    groups: Vec<Range<usize>>,
    /// Where in `peers` an endpoint is, by rising id.
    places: Vec<(EndpointId, usize)>,
}

#[derive(Debug)]
struct Peer {
    /// Stays within a few times the sum of all weights, which is far from overflowing for any number of endpoints
    /// that fits in memory.
    current: i64,
    id: EndpointId,
    weight: u32,
    effective: u32,
    ready: bool,
}

impl Smooth {
    pub(crate) fn new(endpoints: &Endpoints) -> Self {
        let mut ordered: Vec<_> = endpoints.iter().collect();
        ordered.sort_by_key(|endpoint| endpoint.priority);
        let mut groups: Vec<Range<usize>> = Vec::new();
        for group in ordered.chunk_by(|a, b| a.priority == b.priority) {
            let start = groups.last().map_or(0, |before| before.end);
            groups.push(start..start + group.len());
        }
        let mut places: Vec<_> = ordered.iter().enumerate().map(|(place, endpoint)| (endpoint.id, place)).collect();
        places.sort_unstable();
        let peers = ordered
            .iter()
            .map(|endpoint| Peer {
                current: 0,
                id: endpoint.id,
                weight: endpoint.weight,
                effective: endpoint.weight,
                ready: endpoint.ready,
            })
            .collect();
        Self { peers, groups, places }
    }

    /// Takes over a weight and readiness. What was gained stays, and so does what failures took from the weight.
    pub(crate) fn change(&mut self, change: &EndpointChange) {
        if let Some(peer) = self.peer(change.id) {
            peer.effective = change.weight.saturating_sub(peer.weight - peer.effective);
            peer.weight = change.weight;
            peer.ready = change.ready;
        }
    }

    /// Takes a failure's price from the effective weight.
    pub(crate) fn penalize(&mut self, id: EndpointId, penalty: u32) {
        if let Some(peer) = self.peer(id) {
            peer.effective = peer.effective.saturating_sub(penalty);
        }
    }

    /// Picks among the ready peers of the first group that has one untried; when every ready peer was tried, among
    /// the tried ones. Peers that are not eligible neither gain nor lose.
    pub(crate) fn pick(&mut self, tried: &[EndpointId]) -> Option<EndpointId> {
        if tried.is_empty() {
            return self.pick_where(|peer| peer.ready);
        }
        self.pick_where(|peer| peer.ready && !tried.contains(&peer.id)).or_else(|| self.pick_where(|peer| peer.ready))
    }

    fn pick_where(&mut self, eligible: impl Fn(&Peer) -> bool) -> Option<EndpointId> {
        self.groups.iter().find_map(|group| pick(self.peers.get_mut(group.clone())?, &eligible))
    }

    fn peer(&mut self, id: EndpointId) -> Option<&mut Peer> {
        let found = self.places.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        self.peers.get_mut(self.places[found].1)
    }
}

fn pick(peers: &mut [Peer], eligible: impl Fn(&Peer) -> bool) -> Option<EndpointId> {
    let mut total = 0;
    let mut best: Option<&mut Peer> = None;
    for peer in peers {
        if !eligible(peer) {
            continue;
        }
        peer.current += i64::from(peer.effective);
        total += i64::from(peer.effective);
        if peer.effective < peer.weight {
            peer.effective += 1;
        }
        if best.as_ref().is_none_or(|best| peer.current > best.current) {
            best = Some(peer);
        }
    }
    let best = best?;
    best.current -= total;
    Some(best.id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use staunch_plugin::Endpoint;
    use staunch_plugin::testing::endpoint;

    use super::*;

    fn weighted(weights: &[u32]) -> Vec<Endpoint> {
        (0..).zip(weights).map(|(id, &weight)| Endpoint { weight, ..endpoint(id) }).collect()
    }

    fn smooth(endpoints: Vec<Endpoint>) -> Smooth {
        Smooth::new(&endpoints.into())
    }

    fn picks(smooth: &mut Smooth, count: usize) -> String {
        (0..count).map(|_| smooth.pick(&[]).map_or('-', |id| char::from(b'A' + id as u8))).collect()
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
            assert_eq!(picks(&mut smooth(weighted(weights)), expected.len()), expected, "for {weights:?}");
        }
    }

    #[test]
    fn an_endpoint_that_is_not_ready_keeps_its_turn() {
        let mut smooth = smooth(weighted(&[5, 1, 1]));
        assert_eq!(picks(&mut smooth, 2), "AA");

        smooth.change(&EndpointChange { id: 1, weight: 1, ready: false });
        assert_eq!(picks(&mut smooth, 6), "CAAAAA");
        smooth.change(&EndpointChange { id: 1, weight: 1, ready: true });

        assert_eq!(picks(&mut smooth, 5), "BACAA");
    }

    #[test]
    fn a_penalty_is_earned_back_one_by_one() {
        let mut smooth = smooth(weighted(&[3, 3]));

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
        let mut smooth = smooth(weighted(&[10]));
        smooth.penalize(0, 4);

        for (weight, effective) in [(20, 16), (3, 0), (u32::MAX, u32::MAX - 3)] {
            smooth.change(&EndpointChange { id: 0, weight, ready: true });
            assert_eq!(smooth.peers[0].effective, effective, "for {weight}");
        }
    }

    #[test]
    fn backups_wait_until_no_primary_is_left() {
        let mut smooth = smooth(vec![
            Endpoint { priority: 1, ..endpoint(0) },
            endpoint(1),
            Endpoint { priority: 1, ..endpoint(2) },
            endpoint(3),
        ]);
        assert_eq!(picks(&mut smooth, 4), "BDBD");

        smooth.change(&EndpointChange { id: 1, weight: 1, ready: false });
        assert_eq!(picks(&mut smooth, 2), "DD");
        assert_eq!(smooth.pick(&[3]), Some(0));
        assert_eq!(smooth.pick(&[3, 0]), Some(2));
        assert_eq!(smooth.pick(&[3, 0, 2]), Some(3));

        smooth.change(&EndpointChange { id: 3, weight: 1, ready: false });
        assert_eq!(picks(&mut smooth, 3), "CAC");
    }

    #[test]
    fn the_heaviest_weights_of_very_many_endpoints_do_not_overflow() {
        let mut smooth = smooth(weighted(&vec![u32::MAX; 10_000]));

        for turn in 0..500 {
            assert_eq!(smooth.pick(&[]), Some(turn));
        }
    }

    proptest! {
        #[test]
        fn each_endpoint_gets_its_weight_in_every_round(weights in prop::collection::vec(1u32..20, 1..8)) {
            let mut smooth = smooth(weighted(&weights));
            for _ in 0..3 {
                let mut picked = vec![0; weights.len()];
                for _ in 0..weights.iter().sum() {
                    picked[smooth.pick(&[]).expect("all are ready") as usize] += 1;
                }
                prop_assert_eq!(&picked, &weights);
            }
        }

        #[test]
        fn a_pick_is_ready_and_untried_if_one_is(
            members in prop::collection::vec((any::<u32>(), 0u32..2, any::<bool>()), 0..12),
            events in prop::collection::vec((0u32..14, any::<u32>(), any::<bool>(), prop::collection::vec(0u32..12, 0..4)), 0..60),
        ) {
            let mut members: Vec<Endpoint> = (0..)
                .zip(members)
                .map(|(id, (weight, priority, ready))| Endpoint { weight, priority, ready, ..endpoint(id) })
                .collect();
            let mut smooth = smooth(members.clone());

            for (id, weight, ready, tried) in events {
                smooth.penalize(id, weight / 2);
                smooth.change(&EndpointChange { id, weight, ready });
                if let Some(member) = members.get_mut(id as usize) {
                    member.ready = ready;
                }

                let ready = members.iter().filter(|member| member.ready);
                let untried: Vec<_> = ready.clone().filter(|member| !tried.contains(&member.id)).collect();
                let allowed: Vec<_> = if untried.is_empty() { ready.collect() } else { untried };
                let group = allowed.iter().map(|member| member.priority).min();
                let allowed = |id| allowed.iter().any(|member| member.id == id && Some(member.priority) == group);

                match smooth.pick(&tried) {
                    Some(id) => prop_assert!(allowed(id)),
                    None => prop_assert_eq!(group, None),
                }
            }
        }
    }
}
