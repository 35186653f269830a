//! How long an endpoint is likely to take (nginx's `least_time header`).
//!
//! An average of the time to a response head, in which each response counts for a twentieth. As an endpoint that is
//! not picked learns nothing new, its average is halved for each further while that it waits, until it is picked
//! again: one slow answer must not cost it all traffic for ever.

use std::time::Duration;

use staunch_plugin::Instant;

/// What is known of the endpoints, by position.
#[derive(Debug, Default)]
pub(crate) struct Estimates {
    peers: Vec<Peer>,
    settings: Settings,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// How long an endpoint waits until its average is halved, again and again. Zero never halves.
    pub(crate) halving: Duration,
    /// Averages that fall into one step count as equal, so that such endpoints take turns. Zero has no steps.
    pub(crate) step: Duration,
    /// Averages above count as this: among endpoints that are all so slow, requests in flight decide.
    pub(crate) ceiling: Duration,
}

impl Default for Settings {
    /// nginx's: `fail_timeout`, and what stands in its source.
    fn default() -> Self {
        Self { halving: Duration::from_secs(10), step: Duration::from_millis(20), ceiling: Duration::from_secs(5) }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    /// In nanoseconds; 0 before the first response.
    average: u64,
    picked: Option<Instant>,
}

impl Estimates {
    /// Nothing is known yet of so many endpoints.
    pub(crate) fn new(endpoints: usize, settings: Settings) -> Self {
        Self { peers: vec![Peer::default(); endpoints], settings }
    }

    /// Takes in the time to a response head.
    pub(crate) fn observe(&mut self, position: usize, latency: Duration) {
        if let Some(peer) = self.peers.get_mut(position) {
            let latency = nanos(latency);
            peer.average = match peer.average {
                0 => latency,
                average => ((u128::from(average) * 19 + u128::from(latency)) / 20) as u64,
            };
        }
    }

    /// Notes that an endpoint was picked.
    pub(crate) fn picked(&mut self, position: usize, now: Instant) {
        if let Some(peer) = self.peers.get_mut(position) {
            // What waiting took from the average comes back only as responses tell.
            peer.picked = Some(now);
        }
    }

    /// What is known of an endpoint, for [`recall`](Self::recall).
    pub(crate) fn known(&self, position: usize) -> Option<[u64; 2]> {
        let peer = self.peers.get(position).filter(|peer| peer.average > 0)?;
        Some([peer.average, peer.picked.map_or(0, Instant::as_nanos)])
    }

    /// Takes over what another instance knew of an endpoint.
    pub(crate) fn recall(&mut self, position: usize, [average, picked]: [u64; 2]) {
        if let Some(peer) = self.peers.get_mut(position) {
            *peer = Peer { average, picked: (picked > 0).then_some(Instant::from_nanos(picked)) };
        }
    }

    /// The time that an endpoint with so many requests in flight is likely to need for them and one more, in
    /// nanoseconds.
    pub(crate) fn load(&self, position: usize, active: u32, now: Instant) -> u64 {
        let Some(peer) = self.peers.get(position) else { return 0 };
        let estimate = peer.average.checked_shr(self.halvings(peer, now)).unwrap_or(0);
        self.settings.stepped(estimate).saturating_mul(u64::from(active) + 1)
    }

    fn halvings(&self, peer: &Peer, now: Instant) -> u32 {
        let waited = peer.picked.map_or(0, |picked| nanos(now.since(picked)));
        let halvings = waited.checked_div(nanos(self.settings.halving)).unwrap_or(0);
        u32::try_from(halvings).unwrap_or(u32::MAX)
    }
}

impl Settings {
    /// Up to the end of its step, at most the ceiling.
    fn stepped(&self, estimate: u64) -> u64 {
        let (step, ceiling) = (nanos(self.step), nanos(self.ceiling));
        if estimate > ceiling {
            return ceiling;
        }
        match estimate.checked_rem(step) {
            Some(over) => estimate.saturating_add(step - over),
            // Not 0, so that requests in flight count for an endpoint that nothing is known of.
            None => estimate.max(1),
        }
    }
}

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(5);

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Estimates of one endpoint, in milliseconds.
    fn load(estimates: &Estimates, active: u32, waited: Duration) -> f64 {
        estimates.load(0, active, START + waited) as f64 / 1e6
    }

    fn exact() -> Estimates {
        Estimates::new(1, Settings { step: Duration::ZERO, ..Settings::default() })
    }

    #[test]
    fn the_first_response_is_the_average_and_each_further_a_twentieth_of_it() {
        let mut estimates = exact();

        // By hand: 100; 0.95 × 100 + 0.05 × 300 = 110; 0.95 × 110 + 0.05 × 10 = 105; 0.95 × 105 = 99.75.
        for (latency, average) in [(100, 100.0), (300, 110.0), (10, 105.0), (0, 99.75)] {
            estimates.observe(0, millis(latency));
            assert_eq!(load(&estimates, 0, Duration::ZERO), average, "after {latency} ms");
        }
    }

    #[test]
    fn requests_in_flight_multiply_it() {
        let mut estimates = exact();
        estimates.observe(0, millis(30));

        assert_eq!([0, 1, 9].map(|active| load(&estimates, active, Duration::ZERO)), [30.0, 60.0, 300.0]);
    }

    #[test]
    fn waiting_halves_it_once_for_each_while() {
        let mut estimates = exact();
        estimates.observe(0, millis(800));
        estimates.picked(0, START);

        for (waited, expected) in [
            (0, 800.0),
            (9_999, 800.0),
            (10_000, 400.0),
            (19_999, 400.0),
            (20_000, 200.0),
            (100_000, 0.78125),
            (630_000, 1e-6),
            (u64::MAX / 1_000_000, 1e-6),
        ] {
            assert_eq!(load(&estimates, 0, millis(waited)), expected, "after {waited} ms");
        }

        estimates.picked(0, START + millis(20_000));
        assert_eq!(load(&estimates, 0, millis(20_000)), 800.0, "who is picked is known as before");
    }

    #[test]
    fn a_halving_of_zero_never_halves() {
        let mut estimates = Estimates::new(1, Settings { halving: Duration::ZERO, ..Settings::default() });
        estimates.observe(0, millis(800));
        estimates.picked(0, START);

        assert_eq!(load(&estimates, 0, millis(1_000_000)), 820.0);
    }

    #[test]
    fn averages_count_in_steps_up_to_a_ceiling() {
        for (average, expected) in [
            (0, 20.0),
            (1, 20.0),
            (19, 20.0),
            (20, 40.0),
            (35, 40.0),
            (4_999, 5_000.0),
            (5_000, 5_020.0),
            (9_000, 5_000.0),
        ] {
            let mut estimates = Estimates::new(1, Settings::default());
            estimates.observe(0, millis(average));
            assert_eq!(load(&estimates, 0, Duration::ZERO), expected, "for {average} ms");
        }
    }

    #[test]
    fn another_takes_over_what_is_known() {
        let mut before = exact();
        assert_eq!(before.known(0), None);
        before.observe(0, millis(800));
        before.picked(0, START);

        let mut after = Estimates::new(2, before.settings);
        after.recall(1, before.known(0).expect("it is known"));
        after.recall(7, [1, 2]);

        let waited = START + millis(10_000);
        assert_eq!(after.load(1, 3, waited), before.load(0, 3, waited));
    }

    #[test]
    fn what_is_too_large_stays_at_the_end() {
        let mut estimates =
            Estimates::new(1, Settings { step: Duration::MAX, ceiling: Duration::MAX, ..Settings::default() });
        estimates.observe(0, Duration::MAX);
        estimates.observe(0, Duration::MAX);

        assert_eq!(estimates.load(0, u32::MAX, START), u64::MAX);
        assert_eq!(estimates.load(1, 7, START), 0, "there is no such endpoint");
    }
}
