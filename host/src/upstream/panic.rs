//! The panic threshold: when too few endpoints are healthy, their health is overlooked.
//!
//! If most of an upstream is said to be ill, the few others would be crushed by the whole load, and what says so (a
//! check, a network in between) is as likely to be wrong as they are to be ill. So all are offered again. Envoy's
//! rule: with several priority groups, no group panics while together they can carry the load, for which a group
//! counts 1.4 times the share of it that is healthy.

/// Envoy's overprovisioning factor, in percent.
const OVERPROVISION: u64 = 140;

/// The endpoints of one priority group that are neither down nor draining.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) priority: u32,
    pub(crate) endpoints: u32,
    pub(crate) healthy: u32,
}

/// Counts endpoints in, by priority and health.
pub(crate) fn groups(endpoints: impl Iterator<Item = (u32, bool)>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (priority, is_healthy) in endpoints {
        let at = groups.iter().position(|group| group.priority == priority).unwrap_or_else(|| {
            groups.push(Group { priority, ..Group::default() });
            groups.len() - 1
        });
        groups[at].endpoints += 1;
        groups[at].healthy += u32::from(is_healthy);
    }
    groups
}

/// Whether the health of a group is to be overlooked. `threshold`: the percentage of healthy endpoints below which
/// it is; 0: never.
pub(crate) fn panics(group: &Group, groups: &[Group], threshold: u32) -> bool {
    let is_below = u64::from(group.healthy) * 100 < u64::from(threshold) * u64::from(group.endpoints);
    is_below && (groups.len() <= 1 || groups.iter().map(load).sum::<u64>() < 100)
}

/// The percentage of the load that a group can carry.
fn load(group: &Group) -> u64 {
    (OVERPROVISION * u64::from(group.healthy) / u64::from(group.endpoints.max(1))).min(100)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(priority: u32, healthy: u32, endpoints: u32) -> Group {
        Group { priority, endpoints, healthy }
    }

    #[test]
    fn a_lone_group_panics_below_the_threshold_and_not_at_it() {
        for (healthy, endpoints, threshold, expected) in [
            (1, 2, 50, false),
            (0, 2, 50, true),
            (1, 3, 50, true),
            (2, 3, 50, false),
            (0, 2, 0, false),
            (9, 10, 100, true),
            (10, 10, 100, false),
            (0, 0, 50, false),
        ] {
            let group = group(0, healthy, endpoints);
            assert_eq!(panics(&group, &[group], threshold), expected, "{healthy} of {endpoints} at {threshold} %");
        }
    }

    #[test]
    fn no_group_panics_while_all_together_carry_the_load() {
        // Per cent of P0 and of P1 that are healthy, and who panics.
        for (first, second, expected) in [
            (0, 100, [false, false]),
            (30, 70, [false, false]),
            (25, 25, [true, true]),
            (5, 65, [true, false]),
            (0, 0, [true, true]),
            (50, 50, [false, false]),
        ] {
            let groups = [group(0, first, 100), group(1, second, 100)];
            assert_eq!(groups.map(|group| panics(&group, &groups, 50)), expected, "{first} % and {second} %");
        }
    }

    #[test]
    fn endpoints_are_counted_by_priority() {
        let counted = groups([(0, true), (1, false), (0, false)].into_iter());

        assert_eq!(counted, [group(0, 1, 2), group(1, 0, 1)]);
    }

    proptest! {
        #[test]
        fn with_a_threshold_somebody_is_offered_whenever_nobody_is_healthy(
            sizes in prop::collection::vec(1u32..20, 1..4), threshold in 1u32..=100
        ) {
            let groups: Vec<_> = (0..).zip(sizes).map(|(priority, size)| group(priority, 0, size)).collect();
            prop_assert!(groups.iter().all(|group| panics(group, &groups, threshold)));
        }
    }
}
