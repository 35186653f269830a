//! Queues, breakers, adaptive limits, and what a process and a route allow.

use std::time::Duration;

use super::{parse, seconds};
use crate::config::{Breaker, Concurrency, ConcurrencyLimit, Config, Priority, Queue, Server, Upstream};
use crate::upstream::balancer::KeySource;

const HEAD: &str = "[[listeners]]\naddress = \":80\"\n";

fn upstream(lines: &str) -> Result<Upstream, Vec<String>> {
    read(&format!("{HEAD}[[routes]]\nupstream = \"a\"\n[upstreams.a]\nendpoints = [\"a:80\"]\n{lines}"))
        .map(|mut config| config.upstreams.remove(0))
}

/// The configuration, or what is told of it, without places.
fn read(text: &str) -> Result<Config, Vec<String>> {
    let told = |fault: &crate::config::Fault| fault.to_string().split_once(": ").map(|(_, told)| told.to_owned());
    parse(text).map_err(|faults| faults.faults.iter().filter_map(told).collect())
}

#[test]
fn a_queue_is_written_as_keys_of_its_upstream() {
    let read = upstream("max_requests = 100\nmax_pending = 20\nqueue_timeout = \"3s\"").expect("it is right");

    assert_eq!(read.queue, Queue { max_requests: Some(100), max_pending: 20, timeout: Some(seconds(3)) });
    assert!(read.queue.is_some() && !Queue::default().is_some());
}

#[test]
fn a_breaker_has_these_keys_and_defaults() {
    let keys = "failures = \"30%\"\nwindow = \"1m\"\nmin_requests = 5\nopen_time = \"5s\"\nprobes = 1\n\
                statuses = [\"502-504\", \"429\"]";
    let read = upstream(&format!("[upstreams.a.breaker]\n{keys}")).expect("it is right").breaker;

    let breaker = Breaker {
        failures: 0.3,
        window: seconds(60),
        min_requests: 5,
        open_time: seconds(5),
        probes: 1,
        statuses: vec![(502, 504), (429, 429)],
    };
    assert_eq!(read, Some(breaker));
    assert_eq!(upstream("[upstreams.a.breaker]").expect("it is right").breaker, Some(Breaker::default()));
    let defaults = "Breaker { failures: 0.5, window: 10s, min_requests: 20, open_time: 10s, probes: 3, \
                    statuses: [(500, 599)] }";
    assert_eq!(format!("{:?}", Breaker::default()), defaults);
}

#[test]
fn an_adaptive_limit_has_these_keys_and_defaults() {
    let keys = "min_limit = 5\nmax_limit = 50\ninterval = \"200ms\"\npercentile = \"90%\"\nbuffer = \"10%\"\n\
                min_rtt_interval = \"30s\"\njitter = \"0%\"\nmin_rtt_requests = 10";
    let read = upstream(&format!("[upstreams.a.concurrency]\n{keys}")).expect("it is right").concurrency;

    let concurrency = Concurrency {
        min_limit: 5,
        max_limit: 50,
        interval: Duration::from_millis(200),
        percentile: 0.9,
        buffer: 0.1,
        min_rtt_interval: seconds(30),
        jitter: 0.0,
        min_rtt_requests: 10,
    };
    assert_eq!(read, Some(concurrency));
    let defaults = "Concurrency { min_limit: 3, max_limit: 1000, interval: 100ms, percentile: 0.5, buffer: 0.25, \
                    min_rtt_interval: 60s, jitter: 0.15, min_rtt_requests: 50 }";
    assert_eq!(format!("{:?}", Concurrency::default()), defaults);
}

#[test]
fn the_process_and_a_route_have_limits() {
    let text = format!(
        "{HEAD}[server]\nmax_connections = 1000\nmax_connections_per_client = 10\nmemory_limit = \"2GiB\"\n\
         [[routes]]\nrespond = {{}}\npriority = \"high\"\nrewrite = [\"set-headers\"]\n\
         rate_limit = {{ rate = \"10r/s\", burst = 20 }}\n\
         concurrency_limit = {{ key = [\"header:X-Key\", \"cookie:id\", \"query:q\", \"uri\"], max = 3, status = 429 }}\n\
         [[routes]]\npath = \"/b\"\nrespond = {{}}\nconcurrency_limit = {{ max = 1 }}\n"
    );
    let config = read(&text).unwrap_or_else(|faults| panic!("{faults:?}"));

    let server = Server {
        max_connections: Some(1000),
        max_connections_per_client: Some(10),
        memory_limit: Some(2 << 30),
        ..Server::default()
    };
    assert_eq!(config.server, server);
    let [first, second] = &config.routes[..] else { panic!("two routes") };
    assert_eq!((first.priority, second.priority), (Priority::High, Priority::Normal));
    let plugins: Vec<_> = first.rewrite.iter().map(|used| &used.plugin[..]).collect();
    assert_eq!(plugins, ["rate-limit", "set-headers"]);
    assert_eq!(first.rewrite[0].settings.get("burst"), Some("20"));
    let key = vec![
        KeySource::Header("x-key".to_owned()),
        KeySource::Cookie("id".to_owned()),
        KeySource::Query("q".to_owned()),
        KeySource::PathAndQuery,
    ];
    assert_eq!(first.concurrency_limit, Some(ConcurrencyLimit { key, max: 3, status: 429 }));
    let key = vec![KeySource::ClientAddress];
    assert_eq!(second.concurrency_limit, Some(ConcurrencyLimit { key, max: 1, status: 503 }));
}

#[rustfmt::skip]
const BAD: &[(&str, &[&str])] = &[
    ("max_requests = 0", &["expected a whole number from 1 to 2147483647, found 0"]),
    ("max_pending = -1", &["expected a whole number from 0 to 2147483647, found -1"]),
    ("max_pending = 1\nqueue_timeout = 5", &[r#"a duration needs its unit; write `"5s"` or `"5ms"`"#]),
    ("breaker = true", &["expected a table, found true"]),
    ("breaker = { failures = \"0%\", min_requests = 0, probes = 0 }", &["a share is above 0% and at most 100%", "expected a whole number from 1 to 2147483647, found 0", "expected a whole number from 1 to 1000, found 0"]),
    ("breaker = { failures = 50, window = \"10ms\" }", &[r#"expected a string, found 50; did you mean `"50"`?"#, "`window` is at least 1s"]),
    ("breaker = { failures = \"50\", statuses = [\"9xx\"] }", &[r#"`50` is not a share; write it like "5%" or "0.5%""#, r#"`9xx` is not a status; write "200", "2xx" or "200-204", from 200 to 599"#]),
    ("breaker = { opentime = \"1s\" }", &["unknown key `opentime`; did you mean `open_time`?"]),
    ("concurrency = { min_limit = 10, max_limit = 5 }", &["`min_limit` is above `max_limit` (5)"]),
    ("concurrency = { interval = \"10ms\", jitter = \"101%\", min_rtt_interval = \"1ms\" }", &["`interval` is at least 100ms", "a share is above 0% and at most 100%", "`min_rtt_interval` is at least 1s"]),
    ("[server]\nmax_connections = 0\nmax_connections_per_client = 0\nmemory_limit = \"1MiB\"", &["expected a whole number from 1 to 10000000, found 0", "expected a whole number from 1 to 2147483647, found 0", r#"expected a size from 16MiB to 1048576GiB, found "1MiB""#]),
    ("[[routes]]\npath = \"/x\"\nupstream = \"a\"\npriority = \"urgent\"", &["unknown priority `urgent`; expected one of `normal`, `high`"]),
    ("[[routes]]\npath = \"/x\"\nupstream = \"a\"\nrate_limit = \"10r/s\"", &[r#"expected a table, found "10r/s""#]),
    ("[[routes]]\npath = \"/x\"\nupstream = \"a\"\nconcurrency_limit = { key = [\"ip\", \"header:a b\", \"cookie:\"], status = 200 }", &["missing key `max`", "there is no key `ip`; expected one of `client-address`, `host`, `path`, `path-and-query`, `header:NAME`, `cookie:NAME`, `query:NAME`", "`a b` is not a header name", "`cookie:` names nothing", "expected a whole number from 400 to 599, found 200"]),
    ("[[routes]]\npath = \"/x\"\nupstream = \"a\"\nconcurrency_limit = { max = 0, key = [] }", &["expected a whole number from 1 to 2147483647, found 0", "no key"]),
];

#[test]
fn what_is_wrong_is_told() {
    for (lines, expected) in BAD {
        assert_eq!(upstream(lines).map(|_| ()).expect_err(lines), *expected, "for {lines}");
    }
}

#[test]
fn a_timeout_for_no_queue_is_a_warning() {
    let text =
        format!("{HEAD}[[routes]]\nupstream = \"a\"\n[upstreams.a]\nendpoints = [\"a:80\"]\nqueue_timeout = \"1s\"\n");

    let warnings: Vec<_> = read(&text).expect("it is allowed").warnings.iter().map(ToString::to_string).collect();

    assert_eq!(warnings, ["7:17: `queue_timeout` without a queue; `max_pending` says how many requests may wait"]);
}
