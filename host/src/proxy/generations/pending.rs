//! A configuration that waits for its confirmation: a state machine without a clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::proxy::probation::{Probation, Verdict};
use crate::telemetry::metrics::Outcomes;

/// What requests came to, by route. Those without a route have an empty name.
pub(super) type Routes = BTreeMap<Arc<str>, Outcomes>;

/// Time between two marks. A configuration is compared with what came since the one before the latest.
const MARK_EVERY: Duration = Duration::from_secs(150);

/// A configuration on probation until somebody confirms it.
pub(super) struct Pending {
    pub(super) number: u64,
    /// The configuration that comes back.
    pub(super) back_to: u64,
    /// The time it was given.
    pub(super) time: Duration,
    pub(super) until: Instant,
    /// One for each route that was asked for often enough before, and one for all together.
    judges: Vec<(Subject, Probation)>,
}

/// Whose requests are looked at.
enum Subject {
    Route(Arc<str>),
    All,
}

/// What routes had come to at certain times.
#[derive(Default)]
pub(super) struct Marks(VecDeque<(Instant, Routes)>);

impl Pending {
    /// `before`: what routes came to in the minutes before it took over. `begin`: all that was counted until then.
    pub(super) fn new(
        number: u64,
        back_to: u64,
        time: Duration,
        now: Instant,
        before: &Routes,
        begin: &Routes,
    ) -> Self {
        let until = now + time;
        let judge =
            |whose, before: &Outcomes, begin: &Outcomes| Probation::new(whose, until, before.clone(), begin.clone());
        let quiet = Outcomes::default();
        let routes = before.iter().filter(|(name, before)| !name.is_empty() && Probation::can_judge(before));
        let mut judges: Vec<_> = routes
            .map(|(name, before)| {
                let begin = begin.get(name).unwrap_or(&quiet);
                (Subject::Route(name.clone()), judge("its", before, begin))
            })
            .collect();
        let all_before = all(before);
        if Probation::can_judge(&all_before) {
            judges.push((Subject::All, judge("all", &all_before, &all(begin))));
        }
        Self { number, back_to, time, until, judges }
    }

    /// Why the one before it has to come back, if it has to. `counted`: all that was counted until now.
    pub(super) fn look(&mut self, now: Instant, counted: &Routes) -> Option<String> {
        if now >= self.until {
            return Some(format!("it was not confirmed within {}", humantime::format_duration(self.time)));
        }
        let quiet = Outcomes::default();
        self.judges.iter_mut().find_map(|(subject, probation)| {
            let verdict = match subject {
                Subject::Route(name) => probation.look(now, 0, counted.get(name).unwrap_or(&quiet)),
                Subject::All => probation.look(now, 0, &all(counted)),
            };
            match (verdict, subject) {
                (Verdict::Worse(why), Subject::Route(name)) => Some(format!("the route `{name}` does worse: {why}")),
                (Verdict::Worse(why), Subject::All) => Some(format!("it does worse: {why}")),
                (Verdict::Undecided | Verdict::Passed, _) => None,
            }
        })
    }
}

impl Marks {
    /// Takes down what was counted, if it is time to.
    pub(super) fn mark(&mut self, now: Instant, counted: impl FnOnce() -> Routes) {
        if self.0.back().is_some_and(|(at, _)| now < *at + MARK_EVERY) {
            return;
        }
        self.0.push_back((now, counted()));
        if self.0.len() > 2 {
            self.0.pop_front();
        }
    }

    /// What came since the older mark.
    pub(super) fn since(&self, counted: &Routes) -> Routes {
        let quiet = Routes::new();
        let marked = self.0.front().map_or(&quiet, |(_, marked)| marked);
        let since = |(name, now): (&Arc<str>, &Outcomes)| {
            (name.clone(), marked.get(name).map_or_else(|| now.clone(), |then| now.since(then)))
        };
        counted.iter().map(since).collect()
    }
}

fn all(routes: &Routes) -> Outcomes {
    routes.values().fold(Outcomes::default(), |sum, outcomes| sum.and(outcomes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(requests: u64, errors: u64, refusals: u64, millis: u64) -> Outcomes {
        let mut outcomes = Outcomes { requests, errors, refusals, ..Outcomes::default() };
        (0..requests).for_each(|_| outcomes.times.observe(Duration::from_millis(millis)));
        outcomes
    }

    fn routes<const N: usize>(routes: [(&str, Outcomes); N]) -> Routes {
        routes.into_iter().map(|(name, outcomes)| (Arc::from(name), outcomes)).collect()
    }

    /// The reason to go back after some seconds in each of which this came.
    fn reason(before: &Routes, each_second: &Routes, seconds: u64) -> Option<String> {
        let now = Instant::now();
        let mut pending = Pending::new(2, 1, Duration::from_secs(60), now, before, &Routes::new());
        let mut counted = Routes::new();
        (1..=seconds).find_map(|second| {
            for (name, outcomes) in each_second {
                let sum = counted.entry(name.clone()).or_default();
                *sum = sum.and(outcomes);
            }
            pending.look(now + Duration::from_secs(second), &counted)
        })
    }

    #[test]
    fn what_nobody_confirms_goes_back_when_its_time_is_over() {
        let usual = routes([("a", outcomes(500, 0, 0, 2))]);

        assert_eq!(reason(&usual, &usual, 59), None);
        assert_eq!(reason(&usual, &usual, 60).as_deref(), Some("it was not confirmed within 1m"));
        assert_eq!(reason(&Routes::new(), &Routes::new(), 60).as_deref(), Some("it was not confirmed within 1m"));
    }

    #[test]
    fn a_route_that_fails_more_takes_it_back_though_others_are_well() {
        let before = routes([("a", outcomes(500, 1, 0, 2)), ("b", outcomes(50_000, 0, 0, 2))]);
        let after = routes([("a", outcomes(50, 25, 0, 2)), ("b", outcomes(5000, 0, 0, 2))]);

        let why = reason(&before, &after, 10).unwrap();

        assert!(why.starts_with("the route `a` does worse: 50.0% of its requests are errors"), "{why}");
    }

    #[test]
    fn a_route_that_becomes_slow_takes_it_back() {
        let before = routes([("a", outcomes(500, 0, 0, 2))]);

        let why = reason(&before, &routes([("a", outcomes(100, 0, 0, 90))]), 10).unwrap();

        assert!(why.contains("the route `a` does worse: the p99 of its answers"), "{why}");
    }

    #[test]
    fn requests_that_find_no_route_any_more_take_it_back() {
        let before = routes([("a", outcomes(500, 0, 0, 2)), ("b", outcomes(500, 0, 0, 2))]);
        let after = routes([("a", outcomes(100, 0, 0, 2)), ("", outcomes(100, 0, 100, 2))]);

        let why = reason(&before, &after, 10).unwrap();

        assert!(why.starts_with("it does worse: 50.0% of all requests are answers from 400 to 499"), "{why}");
    }

    #[test]
    fn without_enough_requests_before_nothing_is_said() {
        let before = routes([("a", outcomes(99, 0, 0, 2))]);

        assert_eq!(reason(&before, &routes([("a", outcomes(500, 500, 0, 2))]), 59), None);
    }

    #[test]
    fn the_time_before_is_two_and_a_half_to_five_minutes() {
        let mut marks = Marks::default();
        let begin = Instant::now();
        let counted = |seconds: u64| routes([("a", outcomes(seconds, 0, 0, 1))]);
        let came = |marks: &Marks, seconds| marks.since(&counted(seconds))["a"].requests;

        assert_eq!(came(&marks, 10), 10);
        for seconds in 0..1000 {
            marks.mark(begin + Duration::from_secs(seconds), || counted(seconds));
            if seconds > 150 {
                assert!((150..=300).contains(&came(&marks, seconds)), "after {seconds} s");
            }
        }
    }
}
