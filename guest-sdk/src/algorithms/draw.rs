//! Weighted draws (`ngx_http_upstream_random_module.c`).

use crate::{Endpoints, random};

/// Draws endpoints by chance, each as often as its weight says: nginx's `random`.
///
/// Those that are ready take part, of the first priority that has one. So it has to be made anew when readiness or
/// weights change, which costs an addition for each endpoint; a draw is a binary search.
#[derive(Clone, Debug, Default)]
pub struct Draw {
    /// Where the part of each endpoint ends, rising, and its position.
    ends: Vec<(u64, usize)>,
}

/// Draws that may miss before round robin decides (nginx).
const MISSES: u32 = 20;

impl Draw {
    /// The ready endpoints of the first priority that has one.
    pub fn of(endpoints: &Endpoints) -> Self {
        let group = endpoints.ready().map(|endpoint| endpoint.priority).min();
        let mut end = 0;
        let takes_part =
            endpoints.iter().zip(0..).filter(|(endpoint, _)| endpoint.ready && Some(endpoint.priority) == group);
        let ends = takes_part
            .map(|(endpoint, position)| {
                end += u64::from(endpoint.weight);
                (end, position)
            })
            .collect();
        Self { ends }
    }

    /// Draws the position of an endpoint that is eligible; `None` after 20 misses.
    pub fn one(&self, random: u64, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        self.draws(random).find(|&position| eligible(position))
    }

    /// Draws two different ones; `None` after 20 misses.
    pub fn two(&self, random: u64, eligible: impl Fn(usize) -> bool) -> Option<(usize, usize)> {
        if self.ends.len() < 2 {
            return None;
        }
        let mut first = None;
        for position in self.draws(random).filter(|&position| eligible(position)) {
            match first {
                None => first = Some(position),
                Some(first) if first != position => return Some((first, position)),
                Some(_) => {}
            }
        }
        None
    }

    /// What so many draws from these bits find.
    fn draws(&self, random: u64) -> impl Iterator<Item = usize> {
        (0..=MISSES).map_while(move |draw| self.at(random::mix(random, draw)))
    }

    /// The position whose part a point, spread over all of them, falls in.
    fn at(&self, random: u64) -> Option<usize> {
        let &(whole, _) = self.ends.last()?;
        let point = ((u128::from(random) * u128::from(whole)) >> 64) as u64;
        let found = self.ends.partition_point(|&(end, _)| end <= point);
        self.ends.get(found).map(|&(_, position)| position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Endpoint;
    use crate::testing::endpoint;

    fn weighted(weights: &[u32]) -> Endpoints {
        (0..).zip(weights).map(|(id, &weight)| Endpoint { weight, ..endpoint(id) }).collect::<Vec<_>>().into()
    }

    #[test]
    fn the_parts_lie_side_by_side_in_the_size_of_their_weights() {
        let draw = Draw::of(&weighted(&[5, 1, 2]));

        let eighth = 1 << 61;
        let drawn: Vec<_> = (0..8).filter_map(|n| draw.at(n * eighth)).collect();
        assert_eq!(drawn, [0, 0, 0, 0, 0, 1, 2, 2]);
        assert_eq!((draw.at(5 * eighth - 1), draw.at(u64::MAX)), (Some(0), Some(2)));
    }

    #[test]
    fn only_the_first_group_that_is_ready_takes_part() {
        let mut members = vec![endpoint(0), endpoint(1), Endpoint { priority: 1, ..endpoint(2) }];
        members[0].ready = false;
        assert_eq!(Draw::of(&members.clone().into()).one(7, |_| true), Some(1));

        members[1].ready = false;
        assert_eq!(Draw::of(&members.clone().into()).one(7, |_| true), Some(2));

        members[2].ready = false;
        assert_eq!(Draw::of(&members.into()).one(7, |_| true), None);
    }

    #[test]
    fn twenty_misses_are_the_end() {
        let draw = Draw::of(&weighted(&[1, 1]));
        let asked = std::cell::Cell::new(0);
        let never = |_| {
            asked.set(asked.get() + 1);
            false
        };

        assert_eq!(draw.one(1, never), None);
        assert_eq!(asked.replace(0), 21);
        assert_eq!(draw.two(1, never), None);
        assert_eq!(asked.get(), 21);
        assert_eq!(draw.two(1, |position| position == 1), None);
    }

    #[test]
    fn two_of_two_are_found_in_either_order() {
        let draw = Draw::of(&weighted(&[1, 1]));
        let found: Vec<_> = (0..64).filter_map(|n| draw.two(random::mix(1, n), |_| true)).collect();

        assert_eq!(found.len(), 64);
        assert!(found.contains(&(0, 1)) && found.contains(&(1, 0)));
    }

    #[test]
    fn the_heaviest_weights_do_not_overflow() {
        let draw = Draw::of(&weighted(&[u32::MAX; 1000]));

        assert_eq!((draw.at(0), draw.at(u64::MAX / 2), draw.at(u64::MAX)), (Some(0), Some(499), Some(999)));
    }

    proptest! {
        #[test]
        fn each_is_drawn_as_often_as_its_weight_says(
            weights in prop::collection::vec(1u32..10, 1..6),
            seed in any::<u64>(),
        ) {
            let draw = Draw::of(&weighted(&weights));
            let mut drawn = vec![0f64; weights.len()];
            for n in 0..4000 {
                drawn[draw.one(random::mix(seed, n), |_| true).expect("all are ready")] += 1.0;
            }

            // Six standard deviations: one seed in 10^8 falls outside.
            let whole = f64::from(weights.iter().sum::<u32>());
            for (&weight, drawn) in weights.iter().zip(drawn) {
                let share = f64::from(weight) / whole;
                let bound = 6.0 * (4000.0 * share * (1.0 - share)).sqrt() + 1e-9;
                prop_assert!((drawn - 4000.0 * share).abs() <= bound, "{drawn} of 4000, for {weight} of {whole}");
            }
        }

        #[test]
        fn two_are_different_and_eligible(weights in prop::collection::vec(1u32..10, 0..6), random in any::<u64>()) {
            let two = Draw::of(&weighted(&weights)).two(random, |position| position != 1);

            prop_assert!(two.is_none_or(|(a, b)| a != b && a != 1 && b != 1));
        }
    }
}
