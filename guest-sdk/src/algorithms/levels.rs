//! Levels with spill-over (Envoy's priority levels, `load_balancer_impl.cc`).

use crate::random;

/// Levels of endpoints, each of which has traffic as far as those before it are too weak for it: Envoy's priorities.
///
/// A level is as healthy as the share of its endpoints that is ready, times a factor: with 1.4 it has all traffic
/// until less than 72 % are ready. Each level takes what its health allows of what is left, and when all together are
/// too weak, they share in proportion.
#[derive(Clone, Debug)]
pub struct Levels {
    factor: f64,
    levels: Vec<Level>,
    /// By position: on which level an endpoint is, and whether it is ready.
    members: Vec<(Option<usize>, bool)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Level {
    ready: u64,
    total: u64,
}

/// Shares are counted in millionths: Envoy's round to percents.
const WHOLE: u64 = 1_000_000;

impl Levels {
    /// No levels yet. `factor` is Envoy's overprovisioning factor, which is 1.4 there.
    pub fn new(factor: f64) -> Self {
        Self { factor, levels: Vec::new(), members: Vec::new() }
    }

    /// Adds an endpoint after the others, to a level from 0 on or to none.
    pub fn push(&mut self, level: Option<usize>, ready: bool) {
        self.members.push((level, ready));
        let Some(level) = level else { return };
        if level >= self.levels.len() {
            self.levels.resize(level + 1, Level::default());
        }
        self.levels[level].total += 1;
        self.levels[level].ready += u64::from(ready);
    }

    /// Takes over the readiness of the endpoint at a position.
    pub fn change(&mut self, position: usize, ready: bool) {
        let Some((level, before)) = self.members.get_mut(position) else { return };
        if let Some(level) = level.and_then(|level| self.levels.get_mut(level)) {
            level.ready = level.ready + u64::from(ready) - u64::from(*before);
        }
        *before = ready;
    }

    /// Whether an endpoint is ready that is not at one of these positions.
    pub fn has_untried(&self, tried: &[usize]) -> bool {
        self.untried(tried).iter().any(|&ready| ready > 0)
    }

    /// Picks a level by chance, each as often as its share says; a level of which every ready endpoint was tried has
    /// none while another has untried ones. `None` when nothing is ready.
    pub fn pick(&self, tried: &[usize], random: u64) -> Option<usize> {
        let shares = if tried.is_empty() || !self.has_untried(tried) {
            self.shares(|_| true)
        } else {
            let untried = self.untried(tried);
            self.shares(|level| untried[level] > 0)
        };
        let mut point = u64::from(random::below(random, WHOLE as u32));
        shares.iter().position(|&share| {
            let falls_here = point < share;
            point = point.saturating_sub(share);
            falls_here
        })
    }

    /// How many ready endpoints of each level are left.
    fn untried(&self, tried: &[usize]) -> Vec<u64> {
        let mut untried: Vec<u64> = self.levels.iter().map(|level| level.ready).collect();
        for (n, &position) in tried.iter().enumerate() {
            if let Some(&(Some(level), true)) = self.members.get(position)
                && !tried[..n].contains(&position)
            {
                untried[level] -= 1;
            }
        }
        untried
    }

    /// The share of each level, in millionths that add up to [`WHOLE`] unless nothing is ready.
    fn shares(&self, takes_part: impl Fn(usize) -> bool) -> Vec<u64> {
        let health = |(at, level): (usize, &Level)| {
            let scaled = self.factor * level.ready as f64 * WHOLE as f64 / level.total.max(1) as f64;
            if takes_part(at) { (scaled.round() as u64).min(WHOLE) } else { 0 }
        };
        let mut shares: Vec<u64> = self.levels.iter().enumerate().map(health).collect();
        let together = shares.iter().sum::<u64>().min(WHOLE);
        if together == 0 {
            return shares;
        }
        let mut left = WHOLE;
        for share in &mut shares {
            *share = left.min(*share * WHOLE / together);
            left -= *share;
        }
        // What rounding left over is the first level's that is there, as in Envoy.
        if let Some(first) = shares.iter_mut().find(|share| **share > 0) {
            *first += left;
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Levels with so many of a hundred endpoints ready.
    fn percents(factor: f64, ready: &[usize]) -> Levels {
        let mut levels = Levels::new(factor);
        for (level, &ready) in ready.iter().enumerate() {
            (0..100).for_each(|n| levels.push(Some(level), n < ready));
        }
        levels
    }

    #[test]
    fn shares_are_those_of_envoy() {
        for (ready, expected) in [
            (&[100, 100][..], &[100, 0][..]),
            (&[72, 72], &[100, 0]),
            (&[71, 71], &[99, 1]),
            (&[50, 100], &[70, 30]),
            (&[25, 100], &[35, 65]),
            (&[25, 25], &[50, 50]),
            (&[5, 65], &[7, 93]),
            (&[0, 100], &[0, 100]),
            (&[0, 1], &[0, 100]),
            (&[71, 71, 100], &[99, 1, 0]),
            (&[50, 50, 100], &[70, 30, 0]),
            (&[25, 100, 100], &[35, 65, 0]),
            (&[25, 25, 100], &[35, 35, 30]),
            (&[0, 0], &[0, 0]),
        ] {
            let shares = percents(1.4, ready).shares(|_| true);
            let percents: Vec<u64> = shares.iter().map(|share| (share + 5_000) / 10_000).collect();
            assert_eq!(percents, expected, "for {ready:?}: {shares:?}");
        }
    }

    #[test]
    fn a_factor_of_one_gives_each_level_what_is_ready_of_it() {
        assert_eq!(percents(1.0, &[72, 100]).shares(|_| true), [720_000, 280_000]);
    }

    #[test]
    fn a_level_is_picked_as_often_as_its_share_says() {
        let levels = percents(1.4, &[50, 100]);

        let picks: Vec<_> = (0..10).filter_map(|tenth| levels.pick(&[], u64::MAX / 20 * (2 * tenth + 1))).collect();

        assert_eq!(picks, [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn a_level_without_untried_endpoints_is_passed_over() {
        let mut levels = Levels::new(1.4);
        [Some(0), None, Some(1)].into_iter().for_each(|level| levels.push(level, true));

        for (tried, expected) in [(&[][..], 0), (&[1], 0), (&[0, 0], 1), (&[2], 0), (&[0, 2], 0)] {
            assert_eq!(levels.pick(tried, u64::MAX), Some(expected), "after {tried:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_picked_has_a_ready_endpoint(
            members in prop::collection::vec((prop::option::of(0usize..4), any::<bool>()), 0..12),
            changes in prop::collection::vec((0usize..14, any::<bool>()), 0..20),
            tried in prop::collection::vec(0usize..14, 0..4),
            random in any::<u64>(),
        ) {
            let mut levels = Levels::new(1.4);
            members.iter().for_each(|&(level, ready)| levels.push(level, ready));
            let mut members = members;
            for (position, ready) in changes {
                levels.change(position, ready);
                if let Some(member) = members.get_mut(position) {
                    member.1 = ready;
                }
            }

            let ready_on = |level| members.iter().enumerate().filter(move |(_, member)| **member == (level, true));
            match levels.pick(&tried, random) {
                Some(level) => {
                    prop_assert!(ready_on(Some(level)).count() > 0);
                    prop_assert!(
                        !levels.has_untried(&tried)
                            || ready_on(Some(level)).any(|(position, _)| !tried.contains(&position))
                    );
                }
                None => prop_assert!((0..4).all(|level| ready_on(Some(level)).count() == 0)),
            }
            let whole: u64 = levels.shares(|_| true).iter().sum();
            prop_assert!(whole == WHOLE || whole == 0);
        }
    }
}
