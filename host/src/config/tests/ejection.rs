//! Who is left out, and how they come back.

use std::time::Duration;

use super::parse;
use crate::config::{
    Consecutive, FailurePercentage, OutlierDetection, Passive, SlowStart, SuccessRate, Upstream, WindowPassive,
};

fn upstream(keys: &str) -> Upstream {
    let text = format!(
        "[[listeners]]\naddress = \":80\"\n[[routes]]\nupstream = \"a\"\n[upstreams.a]\nendpoints = [\"a:80\"]\n{keys}\n"
    );
    parse(&text).unwrap_or_else(|faults| panic!("{faults}")).upstreams.remove(0)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn nginxs_policy_is_the_default() {
    for keys in ["", "passive = {}", "passive = { policy = \"nginx\" }"] {
        assert_eq!(upstream(keys).passive, Passive::Nginx { max_fails: 1, fail_timeout: seconds(10) }, "for {keys}");
    }
}

#[test]
fn a_window_has_these_keys() {
    assert_eq!(upstream("passive.policy = \"window\"").passive, Passive::Window(WindowPassive::default()));
    let written = upstream(
        "[upstreams.a.passive]\npolicy = \"window\"\nwindow = \"30s\"\nfailure_percent = 20\nmin_requests = 100\n\
         statuses = [\"500\", \"502-504\"]\nprobes = 1\nbase_ejection_time = \"5s\"\nmax_ejection_time = \"60s\"\n\
         jitter_percent = 0",
    );

    let expected = WindowPassive {
        window: seconds(30),
        failure_percent: 20,
        min_requests: 100,
        statuses: vec![(500, 500), (502, 504)],
        probes: 1,
        base_ejection_time: seconds(5),
        max_ejection_time: seconds(60),
        jitter_percent: 0,
    };
    assert_eq!(written.passive, Passive::Window(expected));
}

#[test]
fn outlier_detection_has_envoys_keys() {
    assert_eq!(upstream("passive.policy = \"outlier\"").passive, Passive::Outlier(OutlierDetection::default()));
    let written = upstream(
        "[upstreams.a.passive]\npolicy = \"outlier\"\ninterval = \"1s\"\nbase_ejection_time = \"2s\"\n\
         max_ejection_time = \"3s\"\nmax_ejection_time_jitter = \"4s\"\nmax_ejection_percent = 5\n\
         always_eject_one_host = false\nconsecutive_5xx = 6\nenforcing_consecutive_5xx = 7\n\
         consecutive_gateway_failure = 8\nenforcing_consecutive_gateway_failure = 9\n\
         split_external_local_origin_errors = true\nconsecutive_local_origin_failure = 10\n\
         enforcing_consecutive_local_origin_failure = 11\nsuccess_rate_minimum_hosts = 12\n\
         success_rate_request_volume = 13\nsuccess_rate_stdev_factor = 14\nenforcing_success_rate = 15\n\
         enforcing_local_origin_success_rate = 16\nfailure_percentage_threshold = 17\n\
         failure_percentage_minimum_hosts = 18\nfailure_percentage_request_volume = 19\n\
         enforcing_failure_percentage = 20\nenforcing_failure_percentage_local_origin = 21\n\
         successful_active_health_check_uneject_host = false",
    );

    let expected = OutlierDetection {
        interval: seconds(1),
        base_ejection_time: seconds(2),
        max_ejection_time: seconds(3),
        max_ejection_time_jitter: seconds(4),
        max_ejection_percent: 5,
        always_eject_one_host: false,
        consecutive_5xx: Consecutive { threshold: 6, enforcing: 7 },
        consecutive_gateway_failure: Consecutive { threshold: 8, enforcing: 9 },
        split_external_local_origin_errors: true,
        consecutive_local_origin_failure: Consecutive { threshold: 10, enforcing: 11 },
        success_rate: SuccessRate {
            minimum_hosts: 12,
            request_volume: 13,
            stdev_factor: 14,
            enforcing: 15,
            enforcing_local_origin: 16,
        },
        failure_percentage: FailurePercentage {
            threshold: 17,
            minimum_hosts: 18,
            request_volume: 19,
            enforcing: 20,
            enforcing_local_origin: 21,
        },
        successful_active_health_check_uneject_host: false,
    };
    assert_eq!(written.passive, Passive::Outlier(expected));
}

#[test]
fn the_longest_ejection_is_no_shorter_than_a_first_one_is_written() {
    for policy in ["window", "outlier"] {
        let keys = format!("passive = {{ policy = \"{policy}\", base_ejection_time = \"10m\" }}");
        let longest = match upstream(&keys).passive {
            Passive::Window(window) => window.max_ejection_time,
            Passive::Outlier(outlier) => outlier.max_ejection_time,
            Passive::Nginx { .. } => panic!("not nginx's"),
        };
        assert_eq!(longest, seconds(600), "for {policy}");
    }
}

#[test]
fn a_slow_start_is_a_duration_or_a_table() {
    let table = "slow_start = { window = \"1m\", aggression = 1.5, min_weight_percent = 5 }";
    let written = SlowStart { window: seconds(60), aggression: 1.5, min_weight_percent: 5 };

    assert_eq!(upstream("").slow_start, None);
    assert_eq!(upstream("slow_start = \"30s\"").slow_start, Some(SlowStart::new(seconds(30))));
    assert_eq!(upstream(table).slow_start, Some(written));
    assert_eq!(
        upstream("slow_start = { window = \"1s\", aggression = 2 }").slow_start.map(|s| s.aggression),
        Some(2.0)
    );
}

#[test]
fn the_panic_threshold_is_envoys_where_there_is_more_than_nginxs_health() {
    for (keys, threshold) in [
        ("", 0),
        ("passive.policy = \"window\"", 50),
        ("passive.policy = \"outlier\"", 50),
        ("[upstreams.a.health]\ntype = \"tcp\"", 50),
        ("panic_threshold = 0\npassive.policy = \"window\"", 0),
        ("panic_threshold = 80", 80),
    ] {
        assert_eq!(upstream(keys).panic_threshold(), threshold, "for {keys}");
    }
}

#[test]
fn what_has_no_effect_is_a_warning() {
    for (keys, warning) in [
        ("balance = \"maglev\"\nslow_start = \"30s\"", "`slow_start` does nothing with `maglev`"),
        ("[upstreams.b]\nendpoints = [{ address = \"b:80\", drain = true }]", "no endpoint takes new requests"),
    ] {
        let text = format!(
            "[[listeners]]\naddress = \":80\"\n[[routes]]\nupstream = \"a\"\n[[routes]]\npath = \"/b\"\nupstream = \"b\"\n\
             [upstreams.a]\nendpoints = [\"a:80\"]\n{keys}\n{}",
            if keys.contains("upstreams.b") { "" } else { "[upstreams.b]\nendpoints = [\"b:80\"]\n" }
        );
        let config = parse(&text).unwrap_or_else(|faults| panic!("{faults}"));
        let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
        assert!(warnings.iter().any(|told| told.contains(warning)), "{warnings:?}");
    }
}
