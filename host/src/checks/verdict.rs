//! Decides from results in a row whether an endpoint is up, and how soon it is asked again.
//!
//! Pure: no clock, no socket, and chance comes as an argument. The three intervals are HAProxy's (`inter` while up,
//! `downinter` while down, `fastinter` while results contradict that), as are `rise` and `fall`.

use std::time::Duration;

use crate::config::{HealthCheck, InitialState};

/// How often a check runs, and how many results in a row decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    pub(super) interval: Duration,
    pub(super) fast_interval: Duration,
    pub(super) down_interval: Duration,
    pub(super) rise: u32,
    pub(super) fall: u32,
    /// In hundredths of an interval.
    pub(super) jitter: u32,
    pub(super) initial: InitialState,
    /// For one whole check.
    pub(super) timeout: Duration,
}

impl From<&HealthCheck> for Timing {
    fn from(config: &HealthCheck) -> Self {
        Self {
            interval: config.interval,
            fast_interval: config.fast_interval.unwrap_or(config.interval),
            down_interval: config.down_interval.unwrap_or(config.interval),
            rise: config.rise,
            fall: config.fall,
            jitter: config.jitter,
            initial: config.initial,
            timeout: config.timeout,
        }
    }
}

/// What results make of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Up,
    Down,
    /// Not asked yet; the first result decides.
    Checking,
}

/// The state of one endpoint, and the results that speak against it.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    timing: Timing,
    state: State,
    /// Whether the state is what it was before the first check, and nothing speaks for it yet.
    is_awaited: bool,
    /// Results in a row that contradict the state.
    against: u32,
}

impl Verdict {
    pub(super) fn new(timing: Timing) -> Self {
        let state = match timing.initial {
            InitialState::Up => State::Up,
            InitialState::Down => State::Down,
            InitialState::Checking => State::Checking,
        };
        Self { timing, state, is_awaited: state != State::Up, against: 0 }
    }

    /// The same endpoint, judged by other numbers from now on.
    pub(super) fn under(&self, timing: Timing) -> Self {
        Self { timing, ..self.clone() }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Whether the endpoint has no traffic only because too little is known of it: no check has failed yet.
    pub(super) fn is_awaited(&self) -> bool {
        self.is_awaited
    }

    /// Whether the endpoint may have traffic.
    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Results in a row that contradict the state, and how many would change it.
    pub(super) fn contradiction(&self) -> (u32, u32) {
        let needed = match self.state {
            State::Up => self.timing.fall,
            State::Down => self.timing.rise,
            State::Checking => 1,
        };
        (self.against, needed)
    }

    /// Takes one result; answers whether it changed the state.
    pub(super) fn observe(&mut self, passed: bool) -> bool {
        let result = if passed { State::Up } else { State::Down };
        self.is_awaited &= passed;
        if result == self.state {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let (against, needed) = self.contradiction();
        if against < needed {
            return false;
        }
        (self.state, self.against, self.is_awaited) = (result, 0, false);
        true
    }

    /// How long to wait before the very first check; `random` is from 0 to 1.
    ///
    /// Endpoints that have traffic meanwhile are spread over an interval, so that thousands are not asked in one
    /// moment. Those that wait for their first check are asked at once, as many at a time as may be.
    pub(super) fn first_wait(&self, random: f64) -> Duration {
        if self.is_up() { self.timing.interval.mul_f64(random.clamp(0.0, 1.0)) } else { Duration::ZERO }
    }

    /// How long to wait from the end of a check to the next; `random` is from 0 to 1.
    pub(super) fn wait(&self, random: f64) -> Duration {
        let timing = &self.timing;
        let interval = match self.state {
            _ if self.against > 0 => timing.fast_interval,
            State::Checking => timing.fast_interval,
            State::Up => timing.interval,
            State::Down => timing.down_interval,
        };
        let jitter = f64::from(timing.jitter) / 100.0;
        interval.mul_f64(1.0 + jitter * (2.0 * random.clamp(0.0, 1.0) - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn timing(rise: u32, fall: u32, initial: InitialState) -> Timing {
        Timing {
            interval: 10 * SECOND,
            fast_interval: SECOND,
            down_interval: 60 * SECOND,
            rise,
            fall,
            jitter: 0,
            initial,
            timeout: SECOND,
        }
    }

    /// The states after each result: `+` passes, `-` fails; `U`p, `D`own.
    fn states(mut verdict: Verdict, results: &str) -> String {
        let state = |result| {
            verdict.observe(result == '+');
            match verdict.state() {
                State::Up => 'U',
                State::Down => 'D',
                State::Checking => 'C',
            }
        };
        results.chars().map(state).collect()
    }

    #[test]
    fn only_results_in_a_row_change_the_state() {
        let verdict = Verdict::new(timing(2, 3, InitialState::Up));

        assert_eq!(states(verdict, "--+---+-++-+--+---"), "UUUUUDDDDUUUUUUUUD");
    }

    #[test]
    fn an_endpoint_that_is_down_at_first_needs_rise_passes() {
        let verdict = Verdict::new(timing(3, 1, InitialState::Down));

        assert_eq!(states(verdict, "++-+++-"), "DDDDDUD");
    }

    #[test]
    fn the_first_result_alone_decides_while_checking() {
        for (results, expected) in [("+--", "UUU"), ("-++++", "DDDDU")] {
            let verdict = Verdict::new(timing(4, 3, InitialState::Checking));
            assert!(!verdict.is_up());
            assert_eq!(states(verdict, results), expected, "for {results}");
        }
    }

    #[test]
    fn an_endpoint_is_awaited_until_a_check_fails_or_enough_have_passed() {
        for (initial, results, expected) in [
            (InitialState::Up, "-+", [false; 3]),
            (InitialState::Checking, "+-", [true, false, false]),
            (InitialState::Checking, "-+", [true, false, false]),
            (InitialState::Down, "++", [true, true, false]),
            (InitialState::Down, "+-", [true, true, false]),
        ] {
            let mut verdict = Verdict::new(timing(2, 2, initial));
            let mut awaited = vec![verdict.is_awaited()];
            for result in results.chars() {
                verdict.observe(result == '+');
                awaited.push(verdict.is_awaited());
            }
            assert_eq!(awaited, expected, "{initial:?} {results}");
        }
    }

    #[test]
    fn the_interval_is_fast_while_results_contradict_the_state() {
        let mut verdict = Verdict::new(timing(2, 2, InitialState::Up));
        let mut waits = Vec::new();

        for result in "+--+-++".chars() {
            verdict.observe(result == '+');
            waits.push(verdict.wait(0.5).as_secs());
        }

        // up, going down, down, coming up, down, coming up, up
        assert_eq!(waits, [10, 1, 60, 1, 60, 1, 10]);
    }

    #[test]
    fn only_endpoints_with_traffic_wait_for_their_first_check() {
        let first = |initial, random| Verdict::new(timing(1, 1, initial)).first_wait(random).as_secs();

        assert_eq!([0.0, 0.25, 1.0].map(|random| first(InitialState::Up, random)), [0, 2, 10]);
        assert_eq!([first(InitialState::Down, 0.9), first(InitialState::Checking, 0.9)], [0, 0]);
    }

    #[test]
    fn other_numbers_leave_the_state_as_it_is() {
        let mut verdict = Verdict::new(timing(2, 1, InitialState::Up));
        verdict.observe(false);
        verdict.observe(true);

        let other = verdict.under(timing(3, 1, InitialState::Up));

        assert!(!other.is_up());
        assert_eq!(other.contradiction(), (1, 3));
    }

    proptest! {
        #[test]
        fn a_state_never_changes_without_as_many_results_in_a_row(
            rise in 1_u32..5, fall in 1_u32..5, results in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let mut verdict = Verdict::new(timing(rise, fall, InitialState::Up));
            for (n, &passed) in results.iter().enumerate() {
                let changed = verdict.observe(passed);
                let in_a_row = results[..=n].iter().rev().take_while(|result| **result == passed).count();
                let needed = if passed { rise } else { fall } as usize;
                prop_assert!(!changed || in_a_row >= needed);
                // So many in a row leave no doubt.
                prop_assert!(in_a_row < needed || verdict.is_up() == passed);
            }
        }

        #[test]
        fn jitter_stays_within_its_share(jitter in 0_u32..=50, random in 0.0..1.0_f64) {
            let verdict = Verdict::new(Timing { jitter, ..timing(1, 1, InitialState::Up) });
            let share = f64::from(jitter) / 100.0;

            let wait = verdict.wait(random).as_secs_f64();

            prop_assert!((10.0 * (1.0 - share) - 1e-6..=10.0 * (1.0 + share) + 1e-6).contains(&wait));
        }
    }
}
