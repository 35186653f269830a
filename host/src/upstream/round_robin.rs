//! The host's own small round robin, which answers when a balancer cannot.

use crate::upstream::endpoint::{Endpoint, EndpointId};

/// Smooth weighted round robin (nginx) over the endpoints that are ready.
#[derive(Debug)]
pub struct RoundRobin {
    current: Vec<i64>,
}

impl RoundRobin {
    /// `endpoints` is how many there are.
    pub fn new(endpoints: usize) -> Self {
        Self { current: vec![0; endpoints] }
    }

    /// Picks among the endpoints of the first priority group that has one for which `usable` holds.
    pub fn pick(&mut self, endpoints: &[Endpoint], usable: impl Fn(EndpointId) -> bool) -> Option<EndpointId> {
        self.pick_weighted(endpoints, |endpoint| endpoint.weight, usable)
    }

    /// The same, with weights that are not those of the configuration.
    pub(crate) fn pick_weighted(
        &mut self,
        endpoints: &[Endpoint],
        weight: impl Fn(&Endpoint) -> u32,
        usable: impl Fn(EndpointId) -> bool,
    ) -> Option<EndpointId> {
        let priority = endpoints.iter().filter(|e| usable(e.id)).map(|e| e.priority).min()?;
        let mut total = 0;
        let mut best: Option<usize> = None;
        for (slot, endpoint) in endpoints.iter().enumerate() {
            if endpoint.priority != priority || !usable(endpoint.id) {
                continue;
            }
            let weight = i64::from(weight(endpoint));
            total += weight;
            self.current[slot] += weight;
            if best.is_none_or(|best| self.current[slot] > self.current[best]) {
                best = Some(slot);
            }
        }
        let best = best?;
        self.current[best] -= total;
        Some(endpoints[best].id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(weights: &[(u32, u32)]) -> Vec<Endpoint> {
        let endpoint = |(id, &(weight, priority)): (usize, &(u32, u32))| Endpoint {
            id: id as EndpointId,
            address: "".into(),
            weight,
            priority,
            zone: None,
            labels: Vec::new(),
            down: false,
        };
        weights.iter().enumerate().map(endpoint).collect()
    }

    #[test]
    fn weights_are_spread_smoothly() {
        let endpoints = endpoints(&[(5, 0), (1, 0), (1, 0)]);
        let mut balancer = RoundRobin::new(3);

        let picks: Vec<_> = (0..7).map(|_| balancer.pick(&endpoints, |_| true).unwrap()).collect();

        assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn a_backup_is_picked_only_when_no_other_is_usable() {
        let endpoints = endpoints(&[(1, 0), (1, 1)]);
        let mut balancer = RoundRobin::new(2);

        assert_eq!(balancer.pick(&endpoints, |_| true), Some(0));
        assert_eq!(balancer.pick(&endpoints, |id| id != 0), Some(1));
        assert_eq!(balancer.pick(&endpoints, |_| false), None);
    }
}
