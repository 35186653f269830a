//! A sliding window with probes: an endpoint of whose latest requests too many failed is left out for a while, and
//! then has to answer a few live requests before it has its share again.
//!
//! ```text
//!          too many failures            the time is over           as many probes as asked for succeed
//! closed ─────────────────────▶ open ─────────────────▶ half open ─────────────────────────────────────▶ closed
//!                                 ▲                         │
//!                                 └─────── a probe fails ───┘  for twice as long
//! ```
//!
//! Unlike `max_fails` and `fail_timeout` it counts shares rather than numbers, so that one error in a thousand
//! requests takes nobody out, and it forgets what is older than the window. The probing state is linkerd's
//! probation; the doubling of ejections is Finagle's.

use std::fmt;
use std::time::Duration;

use super::counts::{Count, Counts};
use crate::config::WindowPassive as Policy;

/// What is remembered of one endpoint.
#[derive(Clone, Debug, Default)]
pub(crate) struct Circuit {
    state: State,
    /// How often the state has changed.
    period: u32,
    counts: Counts,
    /// In a row.
    ejections: u32,
    /// The latest ejection's length and its reason.
    latest: Option<(Duration, Cause)>,
    /// When it was closed after the latest ejection.
    closed_at: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        until: Duration,
    },
    HalfOpen {
        probes: u32,
        succeeded: u32,
    },
}

/// The period in which a request was sent: only there does its outcome count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u32);

/// What an outcome has brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is left out for so long.
    Ejected(Duration),
    /// It has its share again.
    Closed,
    /// A probe succeeded, or gave its place back; others are still awaited.
    Probed,
}

/// Why it was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Failures(Count),
    Probe,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures(Count { requests, failures }) => write!(f, "{failures} of {requests} requests failed"),
            Self::Probe => f.write_str("a probe failed"),
        }
    }
}

impl Circuit {
    /// Whether a request may go there.
    pub(crate) fn is_available(&self, policy: &Policy, now: Duration) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } => now >= until,
            State::HalfOpen { probes, .. } => probes < policy.probes,
        }
    }

    /// A request is to be sent there. `None` when it may not be; where it is sent all the same, it counts for nothing.
    pub(crate) fn enter(&mut self, policy: &Policy, now: Duration) -> Option<Ticket> {
        if !self.is_available(policy, now) {
            return None;
        }
        match &mut self.state {
            State::Closed => {}
            State::Open { .. } => self.turn(State::HalfOpen { probes: 1, succeeded: 0 }),
            State::HalfOpen { probes, .. } => *probes += 1,
        }
        Some(Ticket(self.period))
    }

    /// A request that was sent there has ended. `random` decides on the jitter.
    pub(crate) fn ended(
        &mut self,
        policy: &Policy,
        ticket: Ticket,
        failed: bool,
        now: Duration,
        random: u64,
    ) -> Option<Change> {
        if ticket.0 != self.period {
            return None;
        }
        match &mut self.state {
            State::Closed => {
                let count = self.counts.add(policy.window, failed, now);
                let share = u64::from(count.failures) * 100 / u64::from(count.requests.max(1));
                let is_out = count.requests >= policy.min_requests && share >= policy.failure_percent.into();
                is_out.then(|| self.eject(policy, Cause::Failures(count), now, random))
            }
            State::Open { .. } => None,
            State::HalfOpen { .. } if failed => Some(self.eject(policy, Cause::Probe, now, random)),
            State::HalfOpen { succeeded, .. } => {
                *succeeded += 1;
                if *succeeded < policy.probes {
                    return Some(Change::Probed);
                }
                self.closed_at = now;
                self.turn(State::Closed);
                Some(Change::Closed)
            }
        }
    }

    /// Nobody will learn how a request that was sent there ended. If it was a probe, another takes its place.
    pub(crate) fn abandoned(&mut self, ticket: Ticket) -> Option<Change> {
        match &mut self.state {
            State::HalfOpen { probes, .. } if ticket.0 == self.period => {
                *probes = probes.saturating_sub(1);
                Some(Change::Probed)
            }
            _ => None,
        }
    }

    /// Whether it is left out, or on probation after that.
    pub(crate) fn is_out(&self) -> bool {
        self.state != State::Closed
    }

    /// Whether its probes are under way or awaited.
    pub(crate) fn is_half_open(&self) -> bool {
        matches!(self.state, State::HalfOpen { .. })
    }

    /// When it may be probed, while it is left out.
    pub(crate) fn probed_at(&self) -> Option<Duration> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed | State::HalfOpen { .. } => None,
        }
    }

    /// Why it was left out last.
    pub(crate) fn cause(&self) -> Option<Cause> {
        self.latest.map(|(_, cause)| cause)
    }

    fn eject(&mut self, policy: &Policy, cause: Cause, now: Duration, random: u64) -> Change {
        // One that soon fails again has not recovered.
        let in_a_row = match self.latest {
            Some((length, _)) => self.is_out() || now.saturating_sub(self.closed_at) < length.max(policy.window),
            None => false,
        };
        self.ejections = if in_a_row { self.ejections.saturating_add(1) } else { 1 };
        let doubled = 2u32.saturating_pow(self.ejections.saturating_sub(1));
        let length = policy.base_ejection_time.saturating_mul(doubled).min(policy.max_ejection_time);
        let jitter = f64::from(policy.jitter_percent) / 100.0 * (random >> 11) as f64 / (1u64 << 53) as f64;
        let length = length + length.mul_f64(jitter);
        self.latest = Some((length, cause));
        self.turn(State::Open { until: now + length });
        Change::Ejected(length)
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.period = self.period.wrapping_add(1);
        self.counts.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy = Policy {
        window: Duration::from_secs(10),
        failure_percent: 50,
        min_requests: 4,
        statuses: Vec::new(),
        probes: 3,
        base_ejection_time: Duration::from_secs(5),
        max_ejection_time: Duration::from_secs(30),
        jitter_percent: 0,
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn send(circuit: &mut Circuit, failed: bool, second: u64) -> Option<Change> {
        let ticket = circuit.enter(&POLICY, at(second)).expect("it may have requests");
        circuit.ended(&POLICY, ticket, failed, at(second), 0)
    }

    fn ejected(second: u64) -> Circuit {
        let mut circuit = Circuit::default();
        for failed in [false, true, false, true] {
            send(&mut circuit, failed, second);
        }
        assert!(circuit.is_out());
        circuit
    }

    #[test]
    fn a_share_of_failures_takes_it_out_once_there_are_enough_requests() {
        let mut circuit = Circuit::default();
        assert_eq!([true, true, false].map(|failed| send(&mut circuit, failed, 100)), [None; 3]);

        assert_eq!(send(&mut circuit, false, 100), Some(Change::Ejected(at(5))), "two of four");

        assert_eq!(circuit.cause().expect("it is out").to_string(), "2 of 4 requests failed");
        assert!(!circuit.is_available(&POLICY, at(104)));
        assert_eq!(circuit.probed_at(), Some(at(105)));
    }

    #[test]
    fn a_smaller_share_does_not() {
        let mut circuit = Circuit::default();

        for second in 0..1000 {
            assert_eq!(send(&mut circuit, second % 3 == 2, second), None);
        }
    }

    #[test]
    fn exactly_as_many_probes_go_through_as_asked_for() {
        let mut circuit = ejected(100);

        let tickets: Vec<_> = (0..10).map_while(|_| circuit.enter(&POLICY, at(105))).collect();
        assert_eq!(tickets.len(), 3);

        let changes: Vec<_> = tickets.iter().map(|&ticket| circuit.ended(&POLICY, ticket, false, at(106), 0)).collect();
        assert_eq!(changes, [Some(Change::Probed), Some(Change::Probed), Some(Change::Closed)]);
        assert!(!circuit.is_out() && circuit.is_available(&POLICY, at(106)));
    }

    #[test]
    fn a_failed_probe_ejects_it_for_twice_as_long_up_to_a_bound() {
        let mut circuit = ejected(100);
        let mut now = 105;

        for length in [10, 20, 30, 30, 30] {
            assert_eq!(send(&mut circuit, true, now), Some(Change::Ejected(at(length))));
            now += length;
        }
        assert_eq!(circuit.cause().expect("it is out").to_string(), "a probe failed");
    }

    #[test]
    fn what_was_sent_before_the_ejection_says_nothing_of_the_probes() {
        let mut circuit = Circuit::default();
        let early = circuit.enter(&POLICY, at(100)).expect("closed");
        for _ in 0..4 {
            send(&mut circuit, true, 100);
        }
        let probe = circuit.enter(&POLICY, at(105)).expect("half open");

        assert_eq!(circuit.ended(&POLICY, early, true, at(106), 0), None);
        assert_eq!(circuit.abandoned(early), None);

        assert!(circuit.is_half_open());
        assert_eq!(circuit.ended(&POLICY, probe, false, at(106), 0), Some(Change::Probed));
    }

    #[test]
    fn a_probe_whose_end_nobody_learns_gives_its_place_back() {
        let mut circuit = ejected(100);
        let probes: Vec<_> = (0..3).filter_map(|_| circuit.enter(&POLICY, at(105))).collect();
        assert!(!circuit.is_available(&POLICY, at(106)));

        assert_eq!(circuit.abandoned(probes[1]), Some(Change::Probed));

        assert!(circuit.is_available(&POLICY, at(106)));
    }

    #[test]
    fn an_ejection_long_after_the_last_is_a_first_one() {
        for (second, length) in [(106, 10), (114, 10), (115, 5), (500, 5)] {
            let mut circuit = ejected(100);
            for _ in 0..3 {
                send(&mut circuit, false, 105);
            }

            let last = (0..4).filter_map(|_| send(&mut circuit, true, second)).next();

            assert_eq!(last, Some(Change::Ejected(at(length))), "at {second}");
        }
    }

    #[test]
    fn jitter_only_makes_ejections_longer_and_no_more_than_its_share() {
        let policy = Policy { min_requests: 1, jitter_percent: 20, ..POLICY };
        for (random, millis) in [(0, 5000), (1 << 63, 5500), (u64::MAX, 6000)] {
            let mut circuit = Circuit::default();
            let ticket = circuit.enter(&policy, at(1)).expect("closed");

            let Some(Change::Ejected(length)) = circuit.ended(&policy, ticket, true, at(1), random) else {
                panic!("not ejected");
            };

            assert_eq!(length.as_millis(), millis);
        }
    }

    proptest! {
        #[test]
        fn never_more_probes_are_under_way_than_asked_for_and_it_never_stays_out_for_good(
            steps in prop::collection::vec((0u64..8, 0u8..4, any::<u64>()), 1..200)
        ) {
            let policy = Policy { jitter_percent: 10, ..POLICY };
            let mut circuit = Circuit::default();
            let mut sent = Vec::new();
            let mut probes = Vec::new();
            let mut now = Duration::ZERO;
            for (passed, step, random) in steps {
                now += Duration::from_secs(passed);
                match step {
                    0 => {
                        if let Some(ticket) = circuit.enter(&policy, now) {
                            if circuit.is_half_open() {
                                probes.push(ticket);
                            }
                            sent.push(ticket);
                        }
                    }
                    _ if sent.is_empty() => {}
                    1 => drop(circuit.abandoned(sent.swap_remove(random as usize % sent.len()))),
                    _ => {
                        let ticket = sent.swap_remove(random as usize % sent.len());
                        circuit.ended(&policy, ticket, step == 2, now, random);
                    }
                }
                let current = sent.iter().filter(|ticket| ticket.0 == circuit.period && probes.contains(ticket));
                prop_assert!(!circuit.is_half_open() || current.count() <= 3);
            }
            for ticket in sent {
                circuit.abandoned(ticket);
            }
            prop_assert!(circuit.is_available(&policy, now + policy.max_ejection_time * 2));
        }
    }
}
