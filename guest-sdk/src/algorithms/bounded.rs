//! Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, arXiv 1608.01350).

use crate::{Endpoint, Setting, loads};

/// A bound on how much of the load an endpoint may have: so many percent of its share, by weight, of the requests in
/// flight and the one being made. HAProxy's and Envoy's `hash_balance_factor`; 100 is strictly even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundedLoad {
    percent: u32,
}

/// Beyond ten thousand times its share there is no endpoint.
const PERCENT: std::ops::RangeInclusive<u32> = 100..=1_000_000;

impl BoundedLoad {
    /// A bound in percent of an endpoint's share; below 100 there would not be room for every request.
    pub fn percent(percent: u32) -> Self {
        Self { percent: percent.clamp(*PERCENT.start(), *PERCENT.end()) }
    }

    /// Reads what these endpoints have in flight now, which is one call of the host.
    pub fn measure<'a>(self, endpoints: impl Iterator<Item = &'a Endpoint>) -> Room {
        let active = loads::active_all();
        let (mut requests, mut weights) = (0, 0);
        for endpoint in endpoints {
            requests += u64::from(active.get(endpoint.id as usize).copied().unwrap_or(0));
            weights += u64::from(endpoint.weight);
        }
        // As HAProxy and Envoy count, rounded up.
        let slots = ((requests + 1) * u64::from(self.percent)).div_ceil(100);
        Room { active, slots, weights }
    }
}

impl Setting for BoundedLoad {
    fn from_text(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(percent) if PERCENT.contains(&percent) => Ok(Self { percent }),
            _ => Err(format!("must be a percentage from {} to {}", PERCENT.start(), PERCENT.end())),
        }
    }
}

/// Which endpoints have room for one more request. Of those that were measured one always has.
#[derive(Clone, Debug)]
pub struct Room {
    /// Requests in flight, by slot.
    active: Vec<u32>,
    /// What all of them together may have in flight.
    slots: u64,
    weights: u64,
}

impl Room {
    /// Whether an endpoint may have one more request: it has less than its share of the slots, rounded up, and one
    /// it may always have.
    pub fn is_for(&self, endpoint: &Endpoint) -> bool {
        let active = self.active(endpoint);
        let share = u128::from(self.slots) * u128::from(endpoint.weight);
        active == 0 || u128::from(active) * u128::from(self.weights) < share
    }

    /// The requests in flight to an endpoint.
    pub fn active(&self, endpoint: &Endpoint) -> u32 {
        self.active.get(endpoint.id as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Endpoints;
    use crate::testing::{Host, endpoint};

    fn weighted(weights: &[u32]) -> Endpoints {
        (0..).zip(weights).map(|(id, &weight)| Endpoint { weight, ..endpoint(id) }).collect::<Vec<_>>().into()
    }

    fn with_room(host: &Host, percent: u32, weights: &[u32], active: &[u32]) -> Vec<u32> {
        (0..).zip(active).for_each(|(id, &active)| host.set_active(id, active));
        let endpoints = weighted(weights);
        let room = BoundedLoad::percent(percent).measure(endpoints.iter());
        endpoints.iter().filter(|endpoint| room.is_for(endpoint)).map(|endpoint| endpoint.id).collect()
    }

    #[test]
    fn an_endpoint_has_room_below_its_share_of_the_slots() {
        let host = Host::new();
        for (percent, weights, active, expected) in [
            // 10 slots of the 9 requests and the one being made: 2.5 for each.
            (100, &[1, 1, 1, 1][..], &[4, 3, 2, 0][..], &[2, 3][..]),
            // 15 slots: 3.75 for each.
            (150, &[1, 1, 1, 1], &[4, 3, 2, 0], &[1, 2, 3]),
            (200, &[1, 1, 1, 1], &[4, 3, 2, 0], &[0, 1, 2, 3]),
            // 6 slots, of which the first has 3.
            (100, &[3, 2, 1], &[3, 1, 1], &[1]),
            (100, &[2, 2, 1], &[2, 1, 2], &[0, 1]),
            // Its share is less than one, and one it may have.
            (100, &[1000, 1], &[1, 0], &[0, 1]),
            (100, &[1000, 1], &[1, 1], &[0]),
            (125, &[1], &[1_000_000], &[0]),
        ] {
            assert_eq!(with_room(&host, percent, weights, active), expected, "{percent} % of {active:?}");
        }
    }

    #[test]
    fn a_percentage_below_a_hundred_is_refused() {
        assert_eq!(BoundedLoad::from_text("150"), Ok(BoundedLoad::percent(150)));
        for text in ["99", "-1", "1.5", "1000001", "150%"] {
            assert_eq!(
                BoundedLoad::from_text(text).unwrap_err(),
                "must be a percentage from 100 to 1000000",
                "for {text}"
            );
        }
    }

    proptest! {
        #[test]
        fn one_always_has_room(
            members in prop::collection::vec((any::<u32>(), 1u32..), 1..20),
            percent in 100u32..400,
        ) {
            let (active, weights): (Vec<u32>, Vec<u32>) = members.into_iter().unzip();

            prop_assert!(!with_room(&Host::new(), percent, &weights, &active).is_empty());
        }

        #[test]
        fn nobody_gets_more_than_the_bound(
            weights in prop::collection::vec(1u32..9, 1..9),
            percent in 100u32..300,
            choices in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
        ) {
            let host = Host::new();
            let mut active = vec![0u32; weights.len()];
            let whole: u32 = weights.iter().sum();
            for (before, choice) in choices.into_iter().enumerate() {
                let open = with_room(&host, percent, &weights, &active);
                let to = *choice.get(&open) as usize;
                active[to] += 1;

                let slots = ((before as u64 + 1) * u64::from(percent)).div_ceil(100);
                let bound = (slots * u64::from(weights[to])).div_ceil(u64::from(whole)).max(1);
                prop_assert!(u64::from(active[to]) <= bound, "{active:?} of {weights:?}");
            }
        }
    }
}
