//! Priority groups, each with a table that readiness does not change.

use crate::{Endpoint, Endpoints, random};

/// The endpoints of an upstream by priority, each group with what a balancer keeps of it: a ring, a table.
///
/// The table holds all endpoints of its group, ready or not, so that those that come and go move no others. Which
/// of them an attempt may go to, a pick is told as [`Eligible`].
#[derive(Clone, Debug)]
pub struct Groups<T> {
    /// The one that is used first in front.
    groups: Vec<Group<T>>,
    /// By position.
    peers: Vec<Peer>,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    ready: bool,
    group: usize,
}

#[derive(Clone, Debug)]
struct Group<T> {
    /// Their positions, rising.
    members: Vec<usize>,
    ready: usize,
    table: T,
}

impl<T> Groups<T> {
    /// Groups endpoints, and makes the table of each group from its members and their positions.
    pub fn new(endpoints: &Endpoints, table: impl Fn(&[(usize, &Endpoint)]) -> T) -> Self {
        let mut members: Vec<(usize, &Endpoint)> = (0..).zip(endpoints).collect();
        members.sort_unstable_by_key(|&(position, endpoint)| (endpoint.priority, position));
        let group = |members: &[(usize, &Endpoint)]| Group {
            members: members.iter().map(|&(position, _)| position).collect(),
            ready: members.iter().filter(|(_, endpoint)| endpoint.ready).count(),
            table: table(members),
        };
        let groups: Vec<_> = members.chunk_by(|a, b| a.1.priority == b.1.priority).map(group).collect();
        let mut peers = vec![Peer { ready: false, group: 0 }; endpoints.len()];
        for (number, group) in (0..).zip(&groups) {
            for &position in &group.members {
                peers[position].group = number;
            }
        }
        for (peer, endpoint) in peers.iter_mut().zip(endpoints) {
            peer.ready = endpoint.ready;
        }
        Self { groups, peers }
    }

    /// Takes over the readiness of an endpoint, and answers the table it is in.
    pub fn change(&mut self, position: usize, ready: bool) -> Option<&mut T> {
        let peer = self.peers.get_mut(position)?;
        let group = self.groups.get_mut(peer.group)?;
        match (std::mem::replace(&mut peer.ready, ready), ready) {
            (false, true) => group.ready += 1,
            (true, false) => group.ready -= 1,
            _ => {}
        }
        Some(&mut group.table)
    }

    /// Has an endpoint picked from the table of the first group that has one ready and untried; when every ready one
    /// was tried, of the first group that has one ready.
    pub fn pick(&self, tried: &[usize], pick: impl Fn(&T, &Eligible<'_>) -> Option<usize>) -> Option<usize> {
        let among = |tried| {
            self.groups.iter().find_map(|group| {
                let eligible = Eligible { members: &group.members, peers: &self.peers, tried };
                let has_any = group.ready > tried.len() || group.ready > 0 && eligible.iter().next().is_some();
                has_any.then(|| pick(&group.table, &eligible))
            })
        };
        among(tried).or_else(|| among(&[]))?
    }

    /// All tables, that of the group which is used first in front.
    pub fn tables(&mut self) -> impl Iterator<Item = &mut T> {
        self.groups.iter_mut().map(|group| &mut group.table)
    }
}

impl<T> Default for Groups<T> {
    fn default() -> Self {
        Self { groups: Vec::new(), peers: Vec::new() }
    }
}

/// Those of a group that an attempt may go to: at least one.
#[derive(Clone, Copy, Debug)]
pub struct Eligible<'a> {
    members: &'a [usize],
    peers: &'a [Peer],
    tried: &'a [usize],
}

impl Eligible<'_> {
    /// Whether an attempt may go to this member.
    pub fn contains(&self, position: usize) -> bool {
        self.peers.get(position).is_some_and(|peer| peer.ready) && !self.tried.contains(&position)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.members.iter().copied().filter(|&position| self.contains(position))
    }

    /// The one that comes first in an order of its own for each key, among those that are `fit`: where a key goes
    /// that cannot go where it belongs. So what one endpoint leaves spreads over all others.
    pub fn first_for(&self, key: u64, fit: impl Fn(usize) -> bool) -> Option<usize> {
        self.iter().filter(|&position| fit(position)).max_by_key(|&position| random::mix(key, position as u32))
    }

    /// How many members of the group this request has tried.
    pub fn tried(&self) -> usize {
        self.tried.iter().filter(|position| self.members.binary_search(position).is_ok()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::endpoint;

    /// Two primaries around two backups; each table says who is in it.
    fn groups() -> Groups<String> {
        let backup = |id| Endpoint { priority: 1, ..endpoint(id) };
        let endpoints = Endpoints::from(vec![endpoint(10), backup(11), backup(12), endpoint(13)]);
        Groups::new(&endpoints, |members| {
            members.iter().map(|(position, endpoint)| format!("{position}={} ", endpoint.id)).collect()
        })
    }

    fn eligible(groups: &Groups<String>, tried: &[usize]) -> Vec<usize> {
        let found = std::cell::RefCell::new(Vec::new());
        groups.pick(tried, |_, eligible| {
            found.borrow_mut().extend(eligible.iter());
            None
        });
        found.into_inner()
    }

    #[test]
    fn each_group_has_a_table_of_its_members_ready_or_not() {
        let mut groups = groups();
        groups.change(0, false);

        assert_eq!(groups.tables().map(|table| &**table).collect::<Vec<_>>(), ["0=10 3=13 ", "1=11 2=12 "]);
    }

    #[test]
    fn backups_wait_until_no_primary_is_left() {
        let mut groups = groups();
        for (tried, expected) in [
            (&[][..], &[0, 3][..]),
            (&[3], &[0]),
            (&[1], &[0, 3]),
            (&[0, 3], &[1, 2]),
            (&[3, 0, 1], &[2]),
            (&[0, 1, 2, 3], &[0, 3]),
        ] {
            assert_eq!(eligible(&groups, tried), expected, "after {tried:?}");
        }

        groups.change(0, false);
        groups.change(0, false);
        assert_eq!(eligible(&groups, &[]), [3]);
        assert_eq!(eligible(&groups, &[3]), [1, 2]);
        groups.change(3, false);
        assert_eq!(eligible(&groups, &[]), [1, 2]);
        groups.change(0, true);
        assert_eq!(eligible(&groups, &[]), [0]);
        for position in 0..9 {
            groups.change(position, false);
        }
        assert_eq!(eligible(&groups, &[]), [0; 0]);
    }

    #[test]
    fn what_a_table_answers_is_the_answer() {
        let groups = groups();

        assert_eq!(groups.pick(&[], |table, _| table.starts_with('0').then_some(3)), Some(3));
        assert_eq!(groups.pick(&[], |_, _| None), None);
        assert_eq!(groups.pick(&[3, 1], |_, eligible| Some(eligible.tried())), Some(1));
    }

    #[test]
    fn keys_that_one_leaves_spread_over_all_others() {
        let endpoints = crate::testing::endpoints(5);
        let groups = Groups::new(&endpoints, |_| ());
        let mut got = [0; 5];
        for key in 0..4000 {
            let other =
                groups.pick(&[], |(), eligible| eligible.first_for(random::mix(key, 7), |position| position != 2));
            got[other.expect("there are others")] += 1;
        }

        assert_eq!(got[2], 0);
        assert!([0, 1, 3, 4].iter().all(|&other| (850..1150).contains(&got[other])), "{got:?}");
    }
}
