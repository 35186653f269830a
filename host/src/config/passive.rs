//! What live traffic has to show before an endpoint is left out.

use std::time::Duration;

use super::fault::Fault;
use super::health::statuses;
use super::reader::Reader;

/// How live traffic tells which endpoints to leave out. ("nginx")
#[derive(Clone, Debug, PartialEq)]
pub enum Passive {
    /// nginx's `max_fails` and `fail_timeout`.
    Nginx {
        /// Failures that take an endpoint out (1); 0: never.
        max_fails: u32,
        /// The time within which they chain, and for which it stays out ("10s"). Counted in whole seconds.
        fail_timeout: Duration,
    },
    /// A share of failures within a sliding window, and probes before an endpoint has its share again.
    Window(WindowPassive),
    /// Envoy's outlier detection.
    Outlier(OutlierDetection),
}

/// When a share of failures takes an endpoint out, and how it comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowPassive {
    /// The time that is looked back on ("10s").
    pub window: Duration,
    /// Failures per hundred requests of the window that take an endpoint out (50; 1 to 100).
    pub failure_percent: u32,
    /// Requests a window must hold before it says anything (10).
    pub min_requests: u32,
    /// Statuses that are failures, as ranges with both ends (5xx). That no response came always is one.
    pub statuses: Vec<(u16, u16)>,
    /// Live requests that go to an endpoint after its ejection, all of which have to succeed (3; 1 to 1000).
    pub probes: u32,
    /// The length of a first ejection; each further one in a row is twice as long ("10s").
    pub base_ejection_time: Duration,
    /// ("300s", or `base_ejection_time` where that is longer)
    pub max_ejection_time: Duration,
    /// The most that chance adds to an ejection, as a percentage of it (10; 0 to 100).
    pub jitter_percent: u32,
}

/// Envoy's outlier detection, under Envoy's names and with its defaults. A percentage that a detector is enforced by
/// is the chance that it ejects; at 0 it does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Time between two comparisons; ejections end when one is made ("10s").
    pub interval: Duration,
    /// The length of an ejection for each time in a row ("30s").
    pub base_ejection_time: Duration,
    /// ("300s", or `base_ejection_time` where that is longer)
    pub max_ejection_time: Duration,
    /// The most that chance adds to an ejection ("0s").
    pub max_ejection_time_jitter: Duration,
    /// Endpoints that may be out at once (10; 0 to 100).
    pub max_ejection_percent: u32,
    /// Whether one may be out whatever `max_ejection_percent` says (true; in Envoy false, where an upstream of fewer
    /// than ten never ejects anybody by default).
    pub always_eject_one_host: bool,
    /// `consecutive_5xx` (5), `enforcing_consecutive_5xx` (100)
    pub consecutive_5xx: Consecutive,
    /// Of 502, 503 and 504: `consecutive_gateway_failure` (5), `enforcing_consecutive_gateway_failure` (0)
    pub consecutive_gateway_failure: Consecutive,
    /// Whether it is judged apart from statuses that no response came (false: then it counts as 503, or as 504 after a
    /// timeout).
    pub split_external_local_origin_errors: bool,
    /// Of no response: `consecutive_local_origin_failure` (5), `enforcing_consecutive_local_origin_failure` (100). Only
    /// with `split_external_local_origin_errors`, as all of local origin.
    pub consecutive_local_origin_failure: Consecutive,
    pub success_rate: SuccessRate,
    pub failure_percentage: FailurePercentage,
    /// Whether an active check that passes ends an ejection (true).
    pub successful_active_health_check_uneject_host: bool,
}

/// Failures of one kind in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consecutive {
    /// At least 1.
    pub threshold: u32,
    /// 0 to 100.
    pub enforcing: u32,
}

/// Endpoints whose success rate is far below the others' are ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    /// `success_rate_minimum_hosts`: endpoints with enough requests before any are compared (5).
    pub minimum_hosts: u32,
    /// `success_rate_request_volume`: requests within an interval that are enough (100).
    pub request_volume: u32,
    /// `success_rate_stdev_factor`: how many thousandths of a standard deviation below the mean are too low (1900).
    pub stdev_factor: u32,
    /// `enforcing_success_rate` (100)
    pub enforcing: u32,
    /// `enforcing_local_origin_success_rate` (100)
    pub enforcing_local_origin: u32,
}

/// Endpoints of whose requests so many failed are ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePercentage {
    /// `failure_percentage_threshold` (85; 1 to 100)
    pub threshold: u32,
    /// `failure_percentage_minimum_hosts` (5)
    pub minimum_hosts: u32,
    /// `failure_percentage_request_volume` (50)
    pub request_volume: u32,
    /// `enforcing_failure_percentage` (0)
    pub enforcing: u32,
    /// `enforcing_failure_percentage_local_origin` (0)
    pub enforcing_local_origin: u32,
}

/// The longest ejection, unless a first one is longer.
const MAX_EJECTION: Duration = Duration::from_secs(300);

impl Default for Passive {
    fn default() -> Self {
        Self::Nginx { max_fails: 1, fail_timeout: Duration::from_secs(10) }
    }
}

impl Default for WindowPassive {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            failure_percent: 50,
            min_requests: 10,
            statuses: vec![(500, 599)],
            probes: 3,
            base_ejection_time: Duration::from_secs(10),
            max_ejection_time: MAX_EJECTION,
            jitter_percent: 10,
        }
    }
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: MAX_EJECTION,
            max_ejection_time_jitter: Duration::ZERO,
            max_ejection_percent: 10,
            always_eject_one_host: true,
            consecutive_5xx: Consecutive { threshold: 5, enforcing: 100 },
            consecutive_gateway_failure: Consecutive { threshold: 5, enforcing: 0 },
            split_external_local_origin_errors: false,
            consecutive_local_origin_failure: Consecutive { threshold: 5, enforcing: 100 },
            success_rate: SuccessRate {
                minimum_hosts: 5,
                request_volume: 100,
                stdev_factor: 1900,
                enforcing: 100,
                enforcing_local_origin: 100,
            },
            failure_percentage: FailurePercentage {
                threshold: 85,
                minimum_hosts: 5,
                request_volume: 50,
                enforcing: 0,
                enforcing_local_origin: 0,
            },
            successful_active_health_check_uneject_host: true,
        }
    }
}

#[derive(Clone, Copy)]
enum Policy {
    Nginx,
    Window,
    Outlier,
}

impl Passive {
    pub(super) fn read(mut reader: Reader<'_>) -> Self {
        let policies =
            [("nginx", Some(Policy::Nginx)), ("window", Some(Policy::Window)), ("outlier", Some(Policy::Outlier))];
        match reader.word("policy", &policies) {
            // What stands beside an unknown policy cannot be judged.
            None if reader.value("policy").is_some() => {
                [NGINX_KEYS, WINDOW_KEYS, OUTLIER_KEYS].into_iter().for_each(|keys| reader.ignore(keys));
                Self::default()
            }
            None | Some(Policy::Nginx) => Self::read_nginx(reader),
            Some(Policy::Window) => Self::Window(WindowPassive::read(reader)),
            Some(Policy::Outlier) => Self::Outlier(OutlierDetection::read(reader)),
        }
    }

    fn read_nginx(mut reader: Reader<'_>) -> Self {
        let (mut max_fails, mut fail_timeout) = (1, Duration::from_secs(10));
        reader.set_number("max_fails", 0..=u32::MAX.into(), &mut max_fails);
        let place = reader.place_of("fail_timeout");
        reader.set("fail_timeout", &mut fail_timeout);
        if fail_timeout.subsec_nanos() != 0 {
            reader.scope.fault(Fault::new(place, "`fail_timeout` is counted in whole seconds"));
        }
        misplace(&mut reader, NGINX_KEYS);
        Self::Nginx { max_fails, fail_timeout }
    }
}

const NGINX_KEYS: &[&str] = &["max_fails", "fail_timeout"];

const WINDOW_KEYS: &[&str] = &[
    "window",
    "failure_percent",
    "min_requests",
    "statuses",
    "probes",
    "base_ejection_time",
    "max_ejection_time",
    "jitter_percent",
];

const OUTLIER_KEYS: &[&str] = &[
    "interval",
    "base_ejection_time",
    "max_ejection_time",
    "max_ejection_time_jitter",
    "max_ejection_percent",
    "always_eject_one_host",
    "consecutive_5xx",
    "enforcing_consecutive_5xx",
    "consecutive_gateway_failure",
    "enforcing_consecutive_gateway_failure",
    "split_external_local_origin_errors",
    "consecutive_local_origin_failure",
    "enforcing_consecutive_local_origin_failure",
    "success_rate_minimum_hosts",
    "success_rate_request_volume",
    "success_rate_stdev_factor",
    "enforcing_success_rate",
    "enforcing_local_origin_success_rate",
    "failure_percentage_threshold",
    "failure_percentage_minimum_hosts",
    "failure_percentage_request_volume",
    "enforcing_failure_percentage",
    "enforcing_failure_percentage_local_origin",
    "successful_active_health_check_uneject_host",
];

/// Notes what belongs to another policy than the one whose keys these are.
fn misplace(reader: &mut Reader<'_>, own: &[&str]) {
    let others = [
        (NGINX_KEYS, "is for `policy = \"nginx\"`"),
        (WINDOW_KEYS, "is for `policy = \"window\"`"),
        (OUTLIER_KEYS, "is for `policy = \"outlier\"`"),
    ];
    let mut known = own.to_vec();
    for (keys, why) in others {
        let foreign: Vec<_> = keys.iter().copied().filter(|key| !known.contains(key)).collect();
        reader.misplaced(&foreign, why);
        known.extend(foreign);
    }
}

impl WindowPassive {
    fn read(mut reader: Reader<'_>) -> Self {
        let mut passive = Self::default();
        reader.set("window", &mut passive.window);
        reader.set_number("failure_percent", 1..=100, &mut passive.failure_percent);
        reader.set_number("min_requests", 1..=1_000_000, &mut passive.min_requests);
        if let Some(written) = reader.array("statuses") {
            let scope = reader.scope;
            let range = |value| scope.text(value).and_then(|text| scope.accept(value.place, statuses(text)));
            passive.statuses = written.iter().filter_map(range).collect();
        }
        reader.set_number("probes", 1..=1000, &mut passive.probes);
        passive.max_ejection_time = read_ejection(&mut reader, &mut passive.base_ejection_time);
        reader.set_number("jitter_percent", 0..=100, &mut passive.jitter_percent);
        misplace(&mut reader, WINDOW_KEYS);
        passive
    }
}

impl OutlierDetection {
    fn read(mut reader: Reader<'_>) -> Self {
        let mut detection = Self::default();
        reader.set("interval", &mut detection.interval);
        detection.max_ejection_time = read_ejection(&mut reader, &mut detection.base_ejection_time);
        reader.set_zero_or_more("max_ejection_time_jitter", &mut detection.max_ejection_time_jitter);
        reader.set_number("max_ejection_percent", PERCENT, &mut detection.max_ejection_percent);
        reader.set("always_eject_one_host", &mut detection.always_eject_one_host);
        let Consecutive { threshold, enforcing } = &mut detection.consecutive_5xx;
        reader.set_number("consecutive_5xx", COUNT, threshold);
        reader.set_number("enforcing_consecutive_5xx", PERCENT, enforcing);
        let Consecutive { threshold, enforcing } = &mut detection.consecutive_gateway_failure;
        reader.set_number("consecutive_gateway_failure", COUNT, threshold);
        reader.set_number("enforcing_consecutive_gateway_failure", PERCENT, enforcing);
        let success_rate = &mut detection.success_rate;
        reader.set_number("success_rate_minimum_hosts", COUNT, &mut success_rate.minimum_hosts);
        reader.set_number("success_rate_request_volume", COUNT, &mut success_rate.request_volume);
        reader.set_number("success_rate_stdev_factor", COUNT, &mut success_rate.stdev_factor);
        reader.set_number("enforcing_success_rate", PERCENT, &mut success_rate.enforcing);
        let failures = &mut detection.failure_percentage;
        reader.set_number("failure_percentage_threshold", 1..=100, &mut failures.threshold);
        reader.set_number("failure_percentage_minimum_hosts", COUNT, &mut failures.minimum_hosts);
        reader.set_number("failure_percentage_request_volume", COUNT, &mut failures.request_volume);
        reader.set_number("enforcing_failure_percentage", PERCENT, &mut failures.enforcing);
        let unejects = &mut detection.successful_active_health_check_uneject_host;
        reader.set("successful_active_health_check_uneject_host", unejects);
        detection.read_local_origin(&mut reader);
        misplace(&mut reader, OUTLIER_KEYS);
        detection
    }

    fn read_local_origin(&mut self, reader: &mut Reader<'_>) {
        reader.set("split_external_local_origin_errors", &mut self.split_external_local_origin_errors);
        if !self.split_external_local_origin_errors {
            reader.misplaced(
                &[
                    "consecutive_local_origin_failure",
                    "enforcing_consecutive_local_origin_failure",
                    "enforcing_local_origin_success_rate",
                    "enforcing_failure_percentage_local_origin",
                ],
                "needs `split_external_local_origin_errors = true`",
            );
            return;
        }
        let Consecutive { threshold, enforcing } = &mut self.consecutive_local_origin_failure;
        reader.set_number("consecutive_local_origin_failure", COUNT, threshold);
        reader.set_number("enforcing_consecutive_local_origin_failure", PERCENT, enforcing);
        let enforcing = &mut self.success_rate.enforcing_local_origin;
        reader.set_number("enforcing_local_origin_success_rate", PERCENT, enforcing);
        let enforcing = &mut self.failure_percentage.enforcing_local_origin;
        reader.set_number("enforcing_failure_percentage_local_origin", PERCENT, enforcing);
    }
}

const COUNT: std::ops::RangeInclusive<i64> = 1..=1_000_000;
const PERCENT: std::ops::RangeInclusive<i64> = 0..=100;

/// The length of a first ejection, and the answer is that of the longest.
fn read_ejection(reader: &mut Reader<'_>, base: &mut Duration) -> Duration {
    reader.set("base_ejection_time", base);
    let longest = reader.optional::<Duration>("max_ejection_time");
    if longest.is_some_and(|longest| longest < *base) {
        let fault = Fault::new(reader.place_of("max_ejection_time"), "the longest ejection is shorter than the first");
        reader.scope.fault(fault.with_hint("`max_ejection_time` is at least `base_ejection_time`".to_owned()));
    }
    longest.unwrap_or(MAX_EJECTION.max(*base))
}
