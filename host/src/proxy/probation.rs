//! Whether what took over does worse than what was before, be it a plugin's version or a configuration: a state machine
//! without a clock.
//!
//! # When is it worse?
//!
//! After three faults at once. Otherwise what an upstream or a route answered is compared with what it answered in the
//! minutes before: the share of errors, and how long answers took, at the median and at two percentiles. A difference counts
//! when it is large and when chance does not make it: a test of two proportions has to leave less than one doubt in
//! ten thousand, twice in a row and the second time on fresh requests alone. With few requests nothing is said.

use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::metrics::Outcomes;

/// Faults that end a probation.
const FAULTS: u64 = 3;
/// Requests that each side of a comparison must have.
const FEWEST: u64 = 100;
/// Standard deviations between two proportions that chance does not bring about.
const Z: f64 = 4.0;
/// Time between a suspicion and its confirmation.
const DOUBT: Duration = Duration::from_secs(1);
/// What a time must have grown by, at the least.
const LONGER: Duration = Duration::from_millis(5);

/// Something on probation.
#[derive(Debug)]
pub(super) struct Probation {
    /// Whose requests are counted, as the verdict says it.
    whose: &'static str,
    until: Instant,
    before: Outcomes,
    /// What had been counted when it took over.
    begin: Outcomes,
    /// Since when it seems worse, and what had been counted then.
    suspected: Option<(Instant, Outcomes)>,
}

/// What is to become of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Undecided,
    /// Its time has passed.
    Passed,
    /// It must not serve any longer, and why.
    Worse(String),
}

impl Probation {
    /// `whose`: whose requests are counted, such as "its upstream's". `before`: what was brought about before.
    /// `begin`: all that was counted until now.
    pub(super) fn new(whose: &'static str, until: Instant, before: Outcomes, begin: Outcomes) -> Self {
        Self { whose, until, before, begin, suspected: None }
    }

    /// Whether a comparison with this can say anything.
    pub(super) fn can_judge(before: &Outcomes) -> bool {
        before.requests >= FEWEST
    }

    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// What was brought about before it.
    pub(super) fn before(&self) -> &Outcomes {
        &self.before
    }

    /// Looks at its faults and at all that was counted until now.
    pub(super) fn look(&mut self, now: Instant, faults: u64, counted: &Outcomes) -> Verdict {
        if faults >= FAULTS {
            return Verdict::Worse(format!("it failed {faults} times"));
        }
        if now >= self.until {
            return Verdict::Passed;
        }
        let Some(why) = worse(self.whose, &self.before, &counted.since(&self.begin)) else {
            self.suspected = None;
            return Verdict::Undecided;
        };
        let Some((since, then)) = &self.suspected else {
            self.suspected = Some((now, counted.clone()));
            return Verdict::Undecided;
        };
        let fresh = counted.since(then);
        if now < *since + DOUBT || fresh.requests < FEWEST {
            return Verdict::Undecided;
        }
        if worse(self.whose, &self.before, &fresh).is_some() {
            return Verdict::Worse(why);
        }
        self.suspected = None;
        Verdict::Undecided
    }
}

/// Why `after` is clearly worse than `before`, if it is.
fn worse(whose: &str, before: &Outcomes, after: &Outcomes) -> Option<String> {
    // A share has to grow by so much of the whole.
    for (what, growth, of) in [
        ("errors", 0.02, (|outcomes| outcomes.errors) as fn(&Outcomes) -> u64),
        ("answers from 400 to 499", 0.2, |outcomes| outcomes.refusals),
    ] {
        let (then, now) = (Share(of(before), before.requests), Share(of(after), after.requests));
        if now.clearly_exceeds(then) && now.value() >= then.value() + growth {
            return Some(format!(
                "{:.1}% of {whose} requests are {what}, and {:.1}% were before",
                now.value() * 100.0,
                then.value() * 100.0
            ));
        }
    }
    // A time has to grow by so much of itself.
    for (name, quantile, factor) in [("p99", 0.99, 2.0), ("p90", 0.9, 1.5), ("median", 0.5, 1.5)] {
        let Some(then) = before.times.quantile(quantile) else { continue };
        let limit = then.mul_f64(factor).max(then + LONGER);
        let usual = (before.times.count() as f64 * (1.0 - quantile)).ceil() as u64;
        let over = |outcomes: &Outcomes| Share(outcomes.times.from(limit), outcomes.times.count());
        let known = Share(over(before).0.max(usual), before.times.count());
        if over(after).clearly_exceeds(known)
            && let Some(now) = after.times.quantile(quantile)
        {
            return Some(format!("the {name} of {whose} answers is {now:.1?}, and was {then:.1?} before"));
        }
    }
    None
}

/// So many of so many.
#[derive(Clone, Copy, Debug)]
struct Share(u64, u64);

impl Share {
    fn value(self) -> f64 {
        if self.1 == 0 { 0.0 } else { self.0 as f64 / self.1 as f64 }
    }

    /// Whether this share is greater by more than chance explains: a z test of two proportions with their variance
    /// pooled.
    fn clearly_exceeds(self, other: Self) -> bool {
        if self.1 < FEWEST || other.1 < FEWEST {
            return false;
        }
        let (n, m) = (self.1 as f64, other.1 as f64);
        let pooled = (self.0 + other.0) as f64 / (n + m);
        let deviation = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
        self.value() - other.value() > Z * deviation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests with these times in milliseconds, over and over, and every so many with an error.
    fn outcomes(requests: u64, times: &[u64], errors: u64) -> Outcomes {
        let mut outcomes = Outcomes { requests, errors, ..Outcomes::default() };
        for at in 0..requests - errors {
            outcomes.times.observe(Duration::from_millis(times[at as usize % times.len()]));
        }
        outcomes
    }

    fn on_probation(before: Outcomes) -> (Probation, Instant) {
        let now = Instant::now();
        (Probation::new("its upstream's", now + Duration::from_secs(60), before, Outcomes::default()), now)
    }

    /// The verdict after so many seconds with outcomes that come evenly.
    fn verdict(before: &Outcomes, each_second: &Outcomes, seconds: u64) -> Verdict {
        let (mut probation, begin) = on_probation(before.clone());
        let mut counted = Outcomes::default();
        for second in 1..=seconds {
            counted = counted.and(each_second);
            let verdict = probation.look(begin + Duration::from_secs(second), 0, &counted);
            if verdict != Verdict::Undecided {
                return verdict;
            }
        }
        Verdict::Undecided
    }

    #[track_caller]
    fn assert_worse(verdict: &Verdict, words: &str) {
        assert!(matches!(verdict, Verdict::Worse(why) if why.contains(words)), "{verdict:?}");
    }

    #[test]
    fn the_third_fault_ends_it_at_once() {
        let (mut probation, now) = on_probation(Outcomes::default());

        assert_eq!(probation.look(now, 2, &Outcomes::default()), Verdict::Undecided);
        assert_worse(&probation.look(now, 3, &Outcomes::default()), "it failed 3 times");
    }

    #[test]
    fn a_version_as_good_as_the_one_before_passes() {
        let usual = outcomes(1000, &[1, 2, 3, 50], 10);

        assert_eq!(verdict(&usual, &usual, 59), Verdict::Undecided);
        assert_eq!(verdict(&usual, &usual, 60), Verdict::Passed);
    }

    #[test]
    fn errors_that_become_clearly_more_end_it() {
        let before = outcomes(1000, &[1], 10);

        assert_worse(&verdict(&before, &outcomes(200, &[1], 40), 10), "20.0% of its upstream's requests are errors");
        assert_eq!(verdict(&before, &outcomes(1000, &[1], 15), 59), Verdict::Undecided, "half a percent more");
        assert_eq!(verdict(&before, &outcomes(1, &[1], 1), 59), Verdict::Undecided, "59 requests say nothing");
        assert_eq!(verdict(&outcomes(50, &[1], 0), &outcomes(100, &[1], 99), 59), Verdict::Undecided);
    }

    #[test]
    fn refusals_have_to_become_many() {
        let refused = |refusals| Outcomes { refusals, ..outcomes(1000, &[1], 0) };

        assert_eq!(verdict(&refused(50), &refused(200), 59), Verdict::Undecided);
        assert_worse(&verdict(&refused(50), &refused(900), 59), "answers from 400 to 499");
    }

    #[test]
    fn a_p99_of_twice_the_time_ends_it() {
        let mut times = [10; 100];
        let before = outcomes(5000, &times, 0);
        times[..3].fill(25);

        assert_worse(&verdict(&before, &outcomes(1000, &times, 0), 10), "the p99");
        times[..3].fill(14);
        assert_eq!(verdict(&before, &outcomes(1000, &times, 0), 59), Verdict::Undecided, "less than twice");
    }

    #[test]
    fn always_the_slowest_of_eight_is_found_though_the_p99_stays() {
        let before = outcomes(800, &[2, 2, 2, 2, 2, 2, 2, 40], 0);

        assert_worse(&verdict(&before, &outcomes(100, &[40], 0), 10), "the median");
        let slope = outcomes(800, &[10, 20, 30, 40, 50, 60, 70, 80], 0);
        assert_worse(&verdict(&slope, &outcomes(100, &[80], 0), 10), "the median");
    }

    #[test]
    fn a_few_milliseconds_are_not_worth_it() {
        assert_eq!(verdict(&outcomes(1000, &[1], 0), &outcomes(1000, &[4], 0), 59), Verdict::Undecided);
    }

    #[test]
    fn a_hiccup_is_forgiven() {
        let before = outcomes(1000, &[1], 0);
        let (mut probation, begin) = on_probation(before.clone());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let hiccup = outcomes(200, &[100], 0);

        assert_eq!(probation.look(at(1), 0, &hiccup), Verdict::Undecided);
        let calm = hiccup.and(&before);
        assert_eq!(probation.look(at(3), 0, &calm), Verdict::Undecided);
        assert_eq!(probation.look(at(60), 0, &calm), Verdict::Passed);
    }
}
