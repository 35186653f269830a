//! On which level an endpoint is.

use std::collections::{BTreeMap, BTreeSet};

use staunch_plugin::{Config, Endpoint, Endpoints, warn};

/// The host makes no more groups.
const MOST_LEVELS: usize = 64;

/// The levels of endpoints, without gaps from 0 on.
pub(crate) struct Ranks {
    /// The rank of each endpoint, by position: smaller is before.
    ranks: Vec<u32>,
    /// The ranks there are, rising.
    distinct: Vec<u32>,
}

impl Ranks {
    /// By the list, when there is one; or else by the label `priority`; or else primaries before backups.
    pub(crate) fn of(endpoints: &Endpoints, listed: &Listed) -> Self {
        let ranks: Vec<u32> = endpoints.iter().map(|endpoint| rank(endpoint, listed)).collect();
        let distinct: BTreeSet<u32> = ranks.iter().copied().collect();
        Self { ranks, distinct: distinct.into_iter().collect() }
    }

    pub(crate) fn count(&self) -> usize {
        self.distinct.len().min(MOST_LEVELS)
    }

    /// The level of each endpoint, by position. Levels past the most there may be are one.
    pub(crate) fn levels(&self) -> impl Iterator<Item = usize> {
        self.ranks.iter().map(|rank| self.distinct.partition_point(|before| before < rank).min(MOST_LEVELS - 1))
    }
}

/// The addresses of each level, as the setting `levels` lists them.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    levels: BTreeMap<String, u32>,
    /// None when there is no such setting.
    count: u32,
}

impl Listed {
    pub(crate) fn read(config: &Config) -> Self {
        let table = config.at("levels");
        let names = table.keys();
        if names.len() >= MOST_LEVELS {
            config.issue("levels", format!("can be at most {}", MOST_LEVELS - 1));
        }
        let mut levels = BTreeMap::new();
        for (name, level) in names.iter().zip(0..) {
            for address in table.list::<String>(name).unwrap_or_default() {
                if levels.contains_key(&address) {
                    table.issue(name, format!("names {address}, which is on a level already"));
                }
                levels.insert(address, level);
            }
        }
        Self { levels, count: names.len() as u32 }
    }

    /// Addresses that name no endpoint.
    pub(crate) fn unknown(&self, endpoints: &Endpoints) -> Vec<&str> {
        let known: BTreeSet<&str> = endpoints.iter().map(|endpoint| &*endpoint.address).collect();
        self.levels.keys().map(|address| &**address).filter(|address| !known.contains(address)).collect()
    }
}

fn rank(endpoint: &Endpoint, listed: &Listed) -> u32 {
    if listed.count > 0 {
        return listed.levels.get(&endpoint.address).copied().unwrap_or(listed.count);
    }
    let Some((_, label)) = endpoint.labels.iter().find(|(name, _)| name == "priority") else {
        return endpoint.priority;
    };
    label.parse().unwrap_or_else(|_| {
        warn!("the label `priority` of {} must be a whole number from 0 on; it is ignored", endpoint.address);
        endpoint.priority
    })
}

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{Host, endpoint};

    use super::*;

    fn levels(endpoints: Vec<Endpoint>) -> (usize, Vec<usize>) {
        let ranks = Ranks::of(&endpoints.into(), &Listed::default());
        (ranks.count(), ranks.levels().collect())
    }

    fn labelled(id: u32, level: &str) -> Endpoint {
        Endpoint { labels: vec![("priority".to_owned(), level.to_owned())], ..endpoint(id) }
    }

    #[test]
    fn backups_are_the_second_level() {
        let backup = |id| Endpoint { priority: 1, ..endpoint(id) };

        assert_eq!(levels(vec![endpoint(0), backup(1), endpoint(2)]), (2, vec![0, 1, 0]));
        assert_eq!(levels(vec![backup(0)]), (1, vec![0]));
        assert_eq!(levels(Vec::new()), (0, vec![]));
    }

    #[test]
    fn labels_say_more_and_may_leave_gaps() {
        let host = Host::new();
        let endpoints = vec![labelled(0, "30"), Endpoint { priority: 1, ..endpoint(1) }, labelled(2, "first")];

        assert_eq!(levels(endpoints), (3, vec![2, 1, 0]));
        assert_eq!(host.logs().len(), 1, "the label that is no number");
    }

    #[test]
    fn very_many_levels_end_in_one() {
        let (count, levels) = levels((0..100).map(|id| labelled(id, &id.to_string())).collect());

        assert_eq!((count, levels[62], levels[63], levels[99]), (64, 62, 63, 63));
    }
}
