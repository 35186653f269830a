//! The membership of an upstream, as a balancer keeps it.

use std::collections::BinaryHeap;
use std::slice;

use crate::{PickContext, selection};

/// The slot of an endpoint in its upstream: small and dense.
pub type EndpointId = u32;

/// One endpoint of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The slot of this endpoint.
    pub id: EndpointId,
    /// The address as the configuration writes it, `host:port` or `unix:/path`.
    pub address: String,
    /// The configured weight, at least 1.
    pub weight: u32,
    /// The priority group: 0 is used first, 1 is the backup group.
    pub priority: u32,
    /// The zone, when one is configured.
    pub zone: Option<String>,
    /// Whether it may have traffic now. An endpoint that is configured `down` is a member too and never becomes
    /// ready: it keeps its place in tables.
    pub ready: bool,
    /// Configured labels.
    pub labels: Vec<(String, String)>,
}

/// A change of one endpoint that leaves the membership as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointChange {
    /// The endpoint that changed.
    pub id: EndpointId,
    /// Its weight from now on.
    pub weight: u32,
    /// Whether it may have traffic from now on.
    pub ready: bool,
}

/// The endpoints of an upstream, in the order the configuration lists them.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    version: u64,
    list: Vec<Endpoint>,
    /// Each id with its position in `list`, by rising id.
    by_id: Vec<(EndpointId, usize)>,
}

impl Endpoints {
    /// A membership as the host hands it over.
    pub fn new(version: u64, list: Vec<Endpoint>) -> Self {
        // A heap sorts in a tenth of the code that `sort` brings into a component.
        let by_id: BinaryHeap<_> = list.iter().map(|endpoint| endpoint.id).zip(0..).collect();
        Self { version, list, by_id: by_id.into_sorted_vec() }
    }

    /// Takes over weights and readiness; what names no endpoint here is passed by.
    pub fn apply(&mut self, changes: &[EndpointChange]) {
        for change in changes {
            if let Some(endpoint) = self.position(change.id).and_then(|position| self.list.get_mut(position)) {
                (endpoint.weight, endpoint.ready) = (change.weight, change.ready);
            }
        }
    }

    /// Rises with each change of the membership.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many there are, ready or not.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them, ready or not.
    pub fn iter(&self) -> slice::Iter<'_, Endpoint> {
        self.list.iter()
    }

    /// Those that may have traffic now, backups too.
    pub fn ready(&self) -> impl Iterator<Item = &Endpoint> {
        self.list.iter().filter(|endpoint| endpoint.ready)
    }

    /// Those that an attempt may go to: ready, of the first priority group that has any, and not tried by this
    /// request while there is another.
    pub fn candidates(&self, cx: &PickContext) -> impl Iterator<Item = &Endpoint> {
        let mut tried = if cx.attempt == 0 { Vec::new() } else { selection::tried() };
        if !self.ready().any(|endpoint| !tried.contains(&endpoint.id)) {
            tried.clear();
        }
        let untried = move |endpoint: &&Endpoint| !tried.contains(&endpoint.id);
        let group = self.ready().filter(&untried).map(|endpoint| endpoint.priority).min();
        self.ready().filter(move |endpoint| Some(endpoint.priority) == group && untried(endpoint))
    }

    /// The positions of those that this request has been sent to, in order. Asks the host only when there may be any.
    pub fn tried(&self, cx: &PickContext) -> Vec<usize> {
        let tried = if cx.attempt == 0 { Vec::new() } else { selection::tried() };
        tried.into_iter().filter_map(|id| self.position(id)).collect()
    }

    /// The one in this slot.
    pub fn by_id(&self, id: EndpointId) -> Option<&Endpoint> {
        self.at(self.position(id)?)
    }

    /// The one at a position of the order.
    pub fn at(&self, position: usize) -> Option<&Endpoint> {
        self.list.get(position)
    }

    /// Where in the order the one in this slot stands.
    pub fn position(&self, id: EndpointId) -> Option<usize> {
        let found = self.by_id.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        Some(self.by_id[found].1)
    }
}

impl From<Vec<Endpoint>> for Endpoints {
    fn from(list: Vec<Endpoint>) -> Self {
        Self::new(1, list)
    }
}

impl<'a> IntoIterator for &'a Endpoints {
    type Item = &'a Endpoint;
    type IntoIter = slice::Iter<'a, Endpoint>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Host, endpoint, pick_context};

    fn ids<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> Vec<EndpointId> {
        endpoints.map(|endpoint| endpoint.id).collect()
    }

    fn two_and_a_backup() -> Endpoints {
        vec![endpoint(0), endpoint(1), Endpoint { priority: 1, ..endpoint(2) }].into()
    }

    #[test]
    fn an_endpoint_is_found_by_its_slot_whatever_the_order() {
        let endpoints = Endpoints::from([7, 0, u32::MAX, 3].map(endpoint).to_vec());

        for endpoint in &endpoints {
            assert_eq!(endpoints.by_id(endpoint.id), Some(endpoint));
        }
        assert_eq!(endpoints.by_id(1), None);
    }

    #[test]
    fn a_change_of_an_unknown_endpoint_is_passed_by() {
        let mut endpoints = two_and_a_backup();

        endpoints.apply(&[
            EndpointChange { id: 9, weight: 1, ready: false },
            EndpointChange { id: 1, weight: 8, ready: false },
        ]);

        assert_eq!(ids(endpoints.ready()), [0, 2]);
        assert_eq!(endpoints.by_id(1).map(|endpoint| endpoint.weight), Some(8));
    }

    #[test]
    fn backups_are_candidates_when_no_primary_is_left() {
        let host = Host::new();
        let endpoints = two_and_a_backup();

        for (tried, expected) in [(&[][..], &[0, 1][..]), (&[0], &[1]), (&[1, 0], &[2]), (&[1, 0, 2], &[0, 1])] {
            host.set_tried(tried);
            let cx = PickContext { attempt: tried.len() as u32, ..pick_context() };

            assert_eq!(ids(endpoints.candidates(&cx)), expected, "after {tried:?}");
        }
    }

    #[test]
    fn what_was_tried_is_known_by_position() {
        let host = Host::new();
        let endpoints = Endpoints::from([7, 0, 3].map(endpoint).to_vec());
        host.set_tried(&[3, 9, 7]);
        host.calls();

        assert_eq!(endpoints.tried(&pick_context()), [0; 0]);
        assert_eq!(host.calls(), [""; 0]);
        assert_eq!(endpoints.tried(&PickContext { attempt: 3, ..pick_context() }), [2, 0]);
    }

    #[test]
    fn there_is_no_candidate_when_nothing_is_ready() {
        let mut endpoints = two_and_a_backup();
        endpoints.apply(&[0, 1, 2].map(|id| EndpointChange { id, weight: 1, ready: false }));

        assert_eq!(endpoints.candidates(&pick_context()).count(), 0);
        assert_eq!(Endpoints::default().candidates(&pick_context()).count(), 0);
    }
}
