//! Envoy's outlier detection: endpoints that do worse than they should, or than the others, are ejected for a while.
//!
//! Consecutive failures are noticed as they happen; success rates and failure percentages are compared each interval.
//! An ejection lasts `base_ejection` times the number of ejections, and each healthy interval takes one from that
//! number. Ejections end when an interval does. Detectors that are not enforced (0 %) only count.
//!
//! Source: Envoy's `source/common/upstream/outlier_detection_impl.cc`.

use std::fmt;
use std::time::Duration;

use crate::config::{Consecutive, FailurePercentage, OutlierDetection as Policy};

/// What is remembered of one endpoint.
#[derive(Clone, Debug, Default)]
pub(crate) struct Monitor {
    server_errors: u32,
    gateway_failures: u32,
    local_failures: u32,
    /// Of the interval that runs.
    tallies: Tallies,
    ejected: Option<Ejected>,
    /// Why it was ejected last.
    cause: Option<Cause>,
    /// Ejections, less the healthy intervals since.
    multiplier: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ejected {
    at: Duration,
    jitter: Duration,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Status(u16),
    /// There was no response: the connection failed or broke.
    Failed,
    /// There was none in time.
    TimedOut,
}

/// Requests of one interval, by where they are judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tallies {
    /// By status, and by local failures too unless those are split off.
    pub(crate) external: Tally,
    /// By whether there was a response at all; counted only where that is split off.
    pub(crate) local: Tally,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) successes: u64,
}

/// What a detector has noticed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cause {
    ServerErrors(u32),
    GatewayFailures(u32),
    LocalFailures(u32),
    SuccessRate { rate: f64, threshold: f64, local: bool },
    FailurePercentage { failed: f64, threshold: u32, local: bool },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |local: bool| if local { " in reaching it" } else { "" };
        match *self {
            Self::ServerErrors(count) => write!(f, "{count} consecutive 5xx"),
            Self::GatewayFailures(count) => write!(f, "{count} consecutive gateway failures (502, 503, 504)"),
            Self::LocalFailures(count) => write!(f, "{count} consecutive failures to get a response"),
            Self::SuccessRate { rate, threshold, local } => {
                write!(f, "success rate{} {rate:.1} % < {threshold:.1} %", of(local))
            }
            Self::FailurePercentage { failed, threshold, local } => {
                write!(f, "failure percentage{} {failed:.1} % >= {threshold} %", of(local))
            }
        }
    }
}

impl Policy {
    /// How likely what was noticed ejects, in percent.
    pub(crate) fn enforcing(&self, cause: &Cause) -> u32 {
        match cause {
            Cause::ServerErrors(_) => self.consecutive_5xx.enforcing,
            Cause::GatewayFailures(_) => self.consecutive_gateway_failure.enforcing,
            Cause::LocalFailures(_) => self.consecutive_local_origin_failure.enforcing,
            Cause::SuccessRate { local: false, .. } => self.success_rate.enforcing,
            Cause::SuccessRate { local: true, .. } => self.success_rate.enforcing_local_origin,
            Cause::FailurePercentage { local: false, .. } => self.failure_percentage.enforcing,
            Cause::FailurePercentage { local: true, .. } => self.failure_percentage.enforcing_local_origin,
        }
    }

    /// Whether one more endpoint may be out, when of so many so many are.
    pub(crate) fn has_room(&self, ejected: usize, endpoints: usize) -> bool {
        let percent = 100.0 * (ejected + 1) as f64 / endpoints.max(1) as f64;
        percent <= f64::from(self.max_ejection_percent) || (ejected == 0 && self.always_eject_one_host)
    }

    /// Who did worse than allowed in the interval that has ended: the positions of the endpoints in `interval`, where
    /// `None` stands for one that is out.
    pub(crate) fn outliers(&self, interval: &[Option<Tallies>]) -> Vec<(usize, Cause)> {
        let of = |local: bool, tally: fn(&Tallies) -> Tally| {
            let rates: Vec<_> = (interval.iter().enumerate())
                .filter_map(|(position, tallies)| Some((position, tally(tallies.as_ref()?))))
                .filter_map(|(position, tally)| Some((position, tally.rate()?, tally.requests)))
                .collect();
            self.unsuccessful(&rates, local).chain(self.failing(&rates, local)).collect::<Vec<_>>()
        };
        let mut outliers = of(false, |tallies| tallies.external);
        if self.split_external_local_origin_errors {
            outliers.extend(of(true, |tallies| tallies.local));
        }
        outliers
    }

    fn unsuccessful(&self, rates: &[(usize, f64, u64)], local: bool) -> impl Iterator<Item = (usize, Cause)> {
        let config = self.success_rate;
        let valid = with_volume(rates, config.request_volume);
        let threshold = if valid.is_empty() || valid.len() < config.minimum_hosts as usize {
            f64::NEG_INFINITY
        } else {
            success_rate_threshold(valid.iter().map(|(_, rate)| *rate), f64::from(config.stdev_factor) / 1000.0)
        };
        let below = valid.into_iter().filter(move |(_, rate)| *rate < threshold);
        below.map(move |(position, rate)| (position, Cause::SuccessRate { rate, threshold, local }))
    }

    fn failing(&self, rates: &[(usize, f64, u64)], local: bool) -> impl Iterator<Item = (usize, Cause)> {
        let FailurePercentage { threshold, minimum_hosts, request_volume, .. } = self.failure_percentage;
        let mut valid = with_volume(rates, request_volume);
        if valid.len() < minimum_hosts as usize {
            valid.clear();
        }
        let failed = valid.into_iter().map(|(position, rate)| (position, 100.0 - rate));
        let above = failed.filter(move |(_, failed)| *failed >= f64::from(threshold));
        above.map(move |(position, failed)| (position, Cause::FailurePercentage { failed, threshold, local }))
    }
}

/// Those that had enough requests, with their rates.
fn with_volume(rates: &[(usize, f64, u64)], volume: u32) -> Vec<(usize, f64)> {
    let enough = rates.iter().filter(|(_, _, requests)| *requests >= volume.into());
    enough.map(|(position, rate, _)| (*position, *rate)).collect()
}

/// The mean less `factor` standard deviations (of the population).
fn success_rate_threshold(rates: impl Iterator<Item = f64> + Clone, factor: f64) -> f64 {
    let count = rates.clone().count() as f64;
    let mean = rates.clone().sum::<f64>() / count;
    let variance = rates.map(|rate| (rate - mean) * (rate - mean)).sum::<f64>() / count;
    mean - factor * variance.sqrt()
}

impl Tally {
    fn add(&mut self, success: bool) {
        self.requests += 1;
        self.successes += u64::from(success);
    }

    /// In percent; `None` without requests.
    fn rate(self) -> Option<f64> {
        (self.requests > 0).then(|| self.successes as f64 * 100.0 / self.requests as f64)
    }
}

impl Ended {
    /// The status that stands for it.
    fn status(self) -> u16 {
        match self {
            Self::Status(status) => status,
            Self::Failed => 503,
            Self::TimedOut => 504,
        }
    }

    /// Whether it counts against the endpoint.
    pub(crate) fn is_failure(self) -> bool {
        (500..=599).contains(&self.status())
    }
}

impl Monitor {
    /// Counts an attempt that has ended, and answers what has been noticed with it.
    pub(crate) fn ended(&mut self, policy: &Policy, ended: Ended) -> impl Iterator<Item = Cause> + use<> {
        let mut noticed = [None; 3];
        if policy.split_external_local_origin_errors {
            let responded = matches!(ended, Ended::Status(_));
            self.tallies.local.add(responded);
            self.local_failures = if responded { 0 } else { self.local_failures.saturating_add(1) };
            let Consecutive { threshold, .. } = policy.consecutive_local_origin_failure;
            if !responded {
                noticed[0] = (self.local_failures == threshold).then_some(Cause::LocalFailures(threshold));
                return noticed.into_iter().flatten();
            }
        }
        let status = ended.status();
        let failed = ended.is_failure();
        self.tallies.external.add(!failed);
        if !failed {
            (self.server_errors, self.gateway_failures) = (0, 0);
            return noticed.into_iter().flatten();
        }
        self.gateway_failures = if matches!(status, 502..=504) { self.gateway_failures.saturating_add(1) } else { 0 };
        self.server_errors = self.server_errors.saturating_add(1);
        let Consecutive { threshold, .. } = policy.consecutive_gateway_failure;
        noticed[1] = (self.gateway_failures == threshold).then_some(Cause::GatewayFailures(threshold));
        let Consecutive { threshold, .. } = policy.consecutive_5xx;
        noticed[2] = (self.server_errors == threshold).then_some(Cause::ServerErrors(threshold));
        noticed.into_iter().flatten()
    }

    /// Begins a new row of what a detector has noticed, so that it notices the next one as well.
    pub(crate) fn noticed(&mut self, cause: &Cause) {
        match cause {
            Cause::ServerErrors(_) => self.server_errors = 0,
            Cause::GatewayFailures(_) => self.gateway_failures = 0,
            Cause::LocalFailures(_) => self.local_failures = 0,
            Cause::SuccessRate { .. } | Cause::FailurePercentage { .. } => {}
        }
    }

    /// Leaves it out. Answers for how long; `random` decides on the jitter.
    pub(crate) fn eject(&mut self, policy: &Policy, cause: Cause, now: Duration, random: u64) -> Duration {
        let most = policy.max_ejection_time_jitter.as_millis();
        let jitter = Duration::from_millis(u64::try_from(u128::from(random) % (most + 1)).unwrap_or(u64::MAX));
        self.ejected = Some(Ejected { at: now, jitter });
        self.cause = Some(cause);
        if policy.base_ejection_time.saturating_mul(self.multiplier)
            < policy.max_ejection_time + policy.base_ejection_time
        {
            self.multiplier = self.multiplier.saturating_add(1);
        }
        self.length(policy) + jitter
    }

    /// An interval has ended. Answers what was counted in it, and whether the endpoint came back.
    pub(crate) fn interval(&mut self, policy: &Policy, now: Duration) -> (Tallies, bool) {
        let tallies = std::mem::take(&mut self.tallies);
        let Some(Ejected { at, jitter }) = self.ejected else {
            self.multiplier = self.multiplier.saturating_sub(1);
            return (tallies, false);
        };
        let is_over = self.length(policy) + jitter <= now.saturating_sub(at);
        if is_over {
            self.come_back();
        }
        (tallies, is_over)
    }

    /// An active check says that it is well. Answers whether that brought it back.
    pub(crate) fn recover(&mut self) -> bool {
        let was_ejected = self.is_ejected();
        if was_ejected {
            self.come_back();
        }
        was_ejected
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected.is_some()
    }

    /// Why it was ejected last.
    pub(crate) fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// The most failures in a row that are counted now.
    pub(crate) fn failures(&self) -> u32 {
        self.server_errors.max(self.gateway_failures).max(self.local_failures)
    }

    /// Of an ejection, without its jitter.
    fn length(&self, policy: &Policy) -> Duration {
        policy.base_ejection_time.saturating_mul(self.multiplier).min(policy.max_ejection_time)
    }

    fn come_back(&mut self) {
        self.ejected = None;
        (self.server_errors, self.gateway_failures, self.local_failures) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::SuccessRate;

    fn policy() -> Policy {
        Policy { always_eject_one_host: false, ..Policy::default() }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn noticed(monitor: &mut Monitor, policy: &Policy, ended: &[Ended]) -> Vec<Cause> {
        ended.iter().flat_map(|&ended| monitor.ended(policy, ended)).collect()
    }

    fn with_rate(requests: u64, percent: u64) -> Option<Tallies> {
        let external = Tally { requests, successes: requests * percent / 100 };
        Some(Tallies { external, ..Tallies::default() })
    }

    #[test]
    fn five_server_errors_in_a_row_are_noticed_and_a_success_between_them_forgets() {
        let (mut monitor, policy) = (Monitor::default(), policy());
        let error = Ended::Status(500);

        assert_eq!(noticed(&mut monitor, &policy, &[error; 4]), []);
        assert_eq!(noticed(&mut monitor, &policy, &[Ended::Status(404)]), []);
        assert_eq!(noticed(&mut monitor, &policy, &[error; 4]), []);
        assert_eq!(noticed(&mut monitor, &policy, &[error]), [Cause::ServerErrors(5)]);
        // Without the reset after it was noticed, the row just goes on.
        assert_eq!(noticed(&mut monitor, &policy, &[error; 20]), []);
        monitor.noticed(&Cause::ServerErrors(5));
        assert_eq!(noticed(&mut monitor, &policy, &[error; 5]), [Cause::ServerErrors(5)]);
    }

    #[test]
    fn a_gateway_failure_is_a_server_error_too_and_another_error_ends_its_row() {
        let (mut monitor, policy) = (Monitor::default(), policy());
        let statuses = [502, 503, 504, 503, 500, 502];

        let ended = statuses.map(Ended::Status);
        assert_eq!(noticed(&mut monitor, &policy, &ended), [Cause::ServerErrors(5)]);

        let more = [Ended::Status(502); 4];
        assert_eq!(noticed(&mut monitor, &policy, &more), [Cause::GatewayFailures(5)]);
    }

    #[test]
    fn without_a_split_a_failure_to_get_a_response_is_a_gateway_failure() {
        let (mut monitor, policy) = (Monitor::default(), policy());
        let ended = [Ended::Failed, Ended::TimedOut, Ended::Failed, Ended::Status(502), Ended::Failed];

        assert_eq!(noticed(&mut monitor, &policy, &ended), [Cause::GatewayFailures(5), Cause::ServerErrors(5)]);
    }

    #[test]
    fn with_a_split_it_is_judged_apart() {
        let (mut monitor, policy) =
            (Monitor::default(), Policy { split_external_local_origin_errors: true, ..policy() });
        let failures = [Ended::Failed; 4];

        assert_eq!(noticed(&mut monitor, &policy, &failures), []);
        assert_eq!(noticed(&mut monitor, &policy, &[Ended::Status(500); 4]), [], "a response, at least");
        assert_eq!(noticed(&mut monitor, &policy, &failures), []);
        assert_eq!(noticed(&mut monitor, &policy, &[Ended::TimedOut]), [Cause::LocalFailures(5)]);

        let Tallies { external, local } = monitor.interval(&policy, at(10)).0;
        assert_eq!(external, Tally { requests: 4, successes: 0 });
        assert_eq!(local, Tally { requests: 13, successes: 4 });
    }

    #[test]
    fn an_ejection_lasts_longer_each_time_and_healthy_intervals_shorten_the_next() {
        let (mut monitor, policy) = (Monitor::default(), policy());
        let cause = Cause::ServerErrors(5);
        let mut now = 0;
        let mut eject = |monitor: &mut Monitor, expected: u64| {
            assert_eq!(monitor.eject(&policy, cause, at(now), 0), at(expected));
            let left = now;
            while monitor.is_ejected() {
                now += 10;
                monitor.interval(&policy, at(now));
            }
            assert_eq!(now - left, expected);
            now
        };

        for seconds in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300] {
            eject(&mut monitor, seconds);
        }
        // Envoy lets the number run one beyond what the maximum allows.
        assert_eq!(monitor.multiplier, 11);
        for _ in 0..9 {
            monitor.interval(&policy, at(10_000));
        }
        eject(&mut monitor, 90);
        for _ in 0..5 {
            monitor.interval(&policy, at(10_000));
        }
        eject(&mut monitor, 30);
    }

    #[test]
    fn an_ejection_ends_with_the_first_interval_after_its_time_and_forgets_the_rows() {
        let (mut monitor, policy) = (Monitor::default(), policy());
        noticed(&mut monitor, &policy, &[Ended::Status(500); 4]);
        monitor.eject(&policy, Cause::ServerErrors(5), at(5), 0);

        assert!(!monitor.interval(&policy, at(34)).1);
        assert!(monitor.interval(&policy, at(35)).1);

        assert_eq!(noticed(&mut monitor, &policy, &[Ended::Status(500); 4]), []);
    }

    #[test]
    fn jitter_is_added_to_an_ejection() {
        let mut monitor = Monitor::default();
        let policy = Policy { max_ejection_time_jitter: at(7), ..policy() };

        assert_eq!(monitor.eject(&policy, Cause::ServerErrors(5), at(0), 7_000), at(37));
        assert_eq!(Monitor::default().eject(&policy, Cause::ServerErrors(5), at(0), 7_001), at(30));

        assert!(!monitor.interval(&policy, at(36)).1);
        assert!(monitor.interval(&policy, at(37)).1);
    }

    #[test]
    fn a_passing_check_brings_it_back_at_once() {
        let (mut monitor, policy) = (Monitor::default(), policy());
        assert!(!monitor.recover());
        monitor.eject(&policy, Cause::ServerErrors(5), at(0), 0);

        assert!(monitor.recover());

        assert!(!monitor.is_ejected());
    }

    #[test]
    fn only_so_many_may_be_out_at_once() {
        for (ejected, endpoints, percent, always, expected) in [
            (0, 10, 10, false, true),
            (1, 10, 10, false, false),
            (0, 9, 10, false, false),
            (0, 9, 10, true, true),
            (1, 9, 10, true, false),
            (2, 4, 75, false, true),
            (3, 4, 75, false, false),
            (3, 4, 100, false, true),
            (0, 4, 0, false, false),
        ] {
            let policy = Policy { max_ejection_percent: percent, always_eject_one_host: always, ..policy() };
            assert_eq!(policy.has_room(ejected, endpoints), expected, "{ejected} of {endpoints} at {percent} %");
        }
    }

    #[test]
    fn a_success_rate_far_below_the_others_is_an_outlier() {
        // Envoy's documentation: the threshold is mean − 1.9 × stdev; here 92 − 1.9 × 16 = 61.6.
        let interval = [100, 100, 100, 60, 100].map(|percent| with_rate(100, percent));

        let outliers = policy().outliers(&interval);

        let [(3, cause @ Cause::SuccessRate { rate, threshold, local: false })] = outliers[..] else {
            panic!("{outliers:?}");
        };
        assert_eq!((rate, (threshold * 1e6).round() / 1e6), (60.0, 61.6));
        assert_eq!(cause.to_string(), "success rate 60.0 % < 61.6 %");
    }

    #[test]
    fn a_success_rate_needs_enough_endpoints_and_requests() {
        let rates = [100, 100, 100, 60, 100];
        for (interval, expected) in [
            (rates.map(|percent| with_rate(100, percent)).to_vec(), 1),
            (rates.map(|percent| with_rate(99, percent)).to_vec(), 0),
            (rates[1..].iter().map(|&percent| with_rate(100, percent)).collect(), 0),
            // One that is out is not counted.
            (rates.iter().map(|&percent| with_rate(100, percent).filter(|_| percent == 60)).collect(), 0),
            // Alike, however bad.
            (vec![with_rate(100, 20); 5], 0),
        ] {
            assert_eq!(policy().outliers(&interval).len(), expected, "{interval:?}");
        }
    }

    #[test]
    fn a_failure_percentage_needs_no_comparison() {
        let interval = [15, 15, 16, 15, 15].map(|percent| with_rate(100, percent));
        let policy = Policy {
            failure_percentage: FailurePercentage { request_volume: 100, ..policy().failure_percentage },
            success_rate: SuccessRate { request_volume: 1000, ..policy().success_rate },
            ..policy()
        };

        let outliers = policy.outliers(&interval);

        assert_eq!(outliers.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [0, 1, 3, 4]);
        assert_eq!(outliers[0].1.to_string(), "failure percentage 85.0 % >= 85 %");
        assert_eq!(policy.enforcing(&outliers[0].1), 0, "it only counts by default");
    }

    #[test]
    fn local_failures_have_rates_of_their_own_when_split() {
        let tallies = |requests, successes| {
            let local = Tally { requests, successes };
            Some(Tallies { local, external: Tally { requests: successes, successes } })
        };
        let interval = [(100, 100), (100, 100), (100, 100), (100, 60), (100, 100)]
            .map(|(requests, successes)| tallies(requests, successes));

        assert_eq!(policy().outliers(&interval).len(), 0);
        let split = Policy { split_external_local_origin_errors: true, ..policy() };
        let outliers = split.outliers(&interval);
        assert!(matches!(outliers[..], [(3, Cause::SuccessRate { local: true, .. })]), "{outliers:?}");
    }

    proptest! {
        #[test]
        fn the_share_that_is_out_never_exceeds_the_maximum_but_by_the_one_that_always_may(
            endpoints in 1usize..30, percent in 0u32..=100, always in any::<bool>()
        ) {
            let policy = Policy { max_ejection_percent: percent, always_eject_one_host: always, ..policy() };
            let mut ejected = 0;
            while ejected < endpoints && policy.has_room(ejected, endpoints) {
                ejected += 1;
            }
            let allowed = endpoints * percent as usize / 100;
            prop_assert_eq!(ejected, allowed.max(always.into()));
        }

        #[test]
        fn whoever_does_at_least_as_well_as_an_endpoint_that_stays_in_stays_in(
            rates in prop::collection::vec((0u64..300, 0u64..=100), 1..20)
        ) {
            let interval: Vec<_> = rates.iter().map(|&(requests, percent)| with_rate(requests, percent)).collect();
            let out: Vec<_> = policy().outliers(&interval).into_iter().map(|(position, _)| position).collect();
            let rate = |at: usize| interval[at].and_then(|tallies| tallies.external.rate());
            let judged = |at: &usize| interval[*at].is_some_and(|tallies| tallies.external.requests >= 100);
            let best_out = out.iter().filter(|at| judged(at)).filter_map(|&at| rate(at)).fold(-1.0, f64::max);
            for stays in (0..rates.len()).filter(judged).filter(|at| !out.contains(at)) {
                prop_assert!(rate(stays).is_some_and(|rate| rate >= best_out));
            }
        }

        #[test]
        fn an_ejection_ends_by_itself_within_its_bounds(
            before in 0u32..20, random in any::<u64>(), jitter in 0u64..60
        ) {
            let policy = Policy { max_ejection_time_jitter: at(jitter), ..policy() };
            let mut monitor = Monitor { multiplier: before, ..Monitor::default() };
            let length = monitor.eject(&policy, Cause::ServerErrors(5), at(0), random);
            prop_assert!((policy.base_ejection_time..=policy.max_ejection_time + policy.max_ejection_time_jitter).contains(&length));
            prop_assert!(monitor.interval(&policy, length).1);
        }
    }
}
