//! How much an upstream takes at a time, and when it is left alone.

use std::time::Duration;

use super::fault::{BadValue, Fault};
use super::health::statuses;
use super::reader::Reader;
use super::value;

/// How many requests an upstream has at a time, and how many wait. Written as keys of the upstream itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queue {
    /// Requests in flight at most, over all workers (`max_requests`; at least 1); absent: no limit.
    pub max_requests: Option<u32>,
    /// Requests that wait at most, over all workers, for one of `max_requests` or for an endpoint that has fewer than
    /// its `max_connections` (`max_pending`, 0: none waits; HAProxy's `maxqueue`). One more: 503 `queue_full`.
    pub max_pending: u32,
    /// How long one waits (`queue_timeout`); absent: as long as `connect_timeout`, as HAProxy's `timeout queue`.
    /// Longer: 503 `queue_timeout`.
    pub timeout: Option<Duration>,
}

/// When an upstream that fails is left alone for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    /// The share of failed requests that opens it ("50%"; above 0%, at most 100%).
    pub failures: f64,
    /// The time over which they are counted ("10s"; at least 1 s).
    pub window: Duration,
    /// Requests that must have ended within it (20; at least 1).
    pub min_requests: u32,
    /// How long nothing is sent ("10s", Traefik's `fallbackDuration`).
    pub open_time: Duration,
    /// Requests that are let through then; when all succeed it closes, when one fails it opens again (3; 1 to 1000).
    pub probes: u32,
    /// Statuses of responses that are failures, both ends included (`["5xx"]`); no response always is one.
    pub statuses: Vec<(u16, u16)>,
}

/// Envoy's adaptive concurrency: the limit of requests in flight follows their response times.
#[derive(Clone, Debug, PartialEq)]
pub struct Concurrency {
    /// Bounds of the limit (3 and 1000; 1 to 1000000).
    pub min_limit: u32,
    pub max_limit: u32,
    /// How often it is looked at ("100ms"; at least 100 ms).
    pub interval: Duration,
    /// Which time of an interval counts ("50%": the median; above 0%, at most 100%).
    pub percentile: f64,
    /// How much longer than the least time a response may take before the limit falls ("25%").
    pub buffer: f64,
    /// How often the least time is measured ("60s"; at least 1 s).
    pub min_rtt_interval: Duration,
    /// By how much that is put off, at most, by chance ("15%").
    pub jitter: f64,
    /// Requests it is measured on, with the limit at `min_limit` (50; 1 to 100000).
    pub min_rtt_requests: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 0.5,
            window: Duration::from_secs(10),
            min_requests: 20,
            open_time: Duration::from_secs(10),
            probes: 3,
            statuses: vec![(500, 599)],
        }
    }
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            min_limit: 3,
            max_limit: 1000,
            interval: Duration::from_millis(100),
            percentile: 0.5,
            buffer: 0.25,
            min_rtt_interval: Duration::from_secs(60),
            jitter: 0.15,
            min_rtt_requests: 50,
        }
    }
}

impl Queue {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut queue = Self { max_requests: reader.number("max_requests", 1..=MOST), ..Self::default() };
        reader.set_number("max_pending", 0..=MOST, &mut queue.max_pending);
        queue.timeout = reader.optional("queue_timeout");
        if queue.timeout.is_some() && queue.max_pending == 0 {
            let warning = Fault::new(reader.place_of("queue_timeout"), "`queue_timeout` without a queue");
            reader.scope.warn(warning.with_hint("`max_pending` says how many requests may wait".to_owned()));
        }
        queue
    }

    /// Whether requests are counted at all.
    pub fn is_some(&self) -> bool {
        self.max_requests.is_some() || self.max_pending > 0
    }
}

/// Two billion requests are no limit any more.
const MOST: i64 = i32::MAX as i64;

impl Breaker {
    pub(super) fn read(mut reader: Reader<'_>) -> Self {
        let mut breaker = Self::default();
        set_share(&mut reader, "failures", &mut breaker.failures);
        set_at_least(&mut reader, "window", SECOND, &mut breaker.window);
        reader.set_number("min_requests", 1..=MOST, &mut breaker.min_requests);
        reader.set("open_time", &mut breaker.open_time);
        reader.set_number("probes", 1..=1000, &mut breaker.probes);
        if let Some(written) = reader.array("statuses") {
            let scope = reader.scope;
            let range = |value| scope.text(value).and_then(|text| scope.accept(value.place, statuses(text)));
            breaker.statuses = written.iter().filter_map(range).collect();
        }
        breaker
    }
}

const SECOND: Duration = Duration::from_secs(1);

impl Concurrency {
    pub(super) fn read(mut reader: Reader<'_>) -> Self {
        let mut concurrency = Self::default();
        reader.set_number("min_limit", 1..=1_000_000, &mut concurrency.min_limit);
        reader.set_number("max_limit", 1..=1_000_000, &mut concurrency.max_limit);
        if concurrency.min_limit > concurrency.max_limit {
            let message = format!("`min_limit` is above `max_limit` ({})", concurrency.max_limit);
            reader.scope.fault(Fault::new(reader.place_of("min_limit"), message));
        }
        set_at_least(&mut reader, "interval", Duration::from_millis(100), &mut concurrency.interval);
        set_share(&mut reader, "percentile", &mut concurrency.percentile);
        set_percent(&mut reader, "buffer", &mut concurrency.buffer);
        set_at_least(&mut reader, "min_rtt_interval", SECOND, &mut concurrency.min_rtt_interval);
        set_percent(&mut reader, "jitter", &mut concurrency.jitter);
        reader.set_number("min_rtt_requests", 1..=100_000, &mut concurrency.min_rtt_requests);
        concurrency
    }
}

/// A share above nothing.
fn set_share(reader: &mut Reader<'_>, key: &'static str, default: &mut f64) {
    if let Some(share) = reader.parse(key, value::share) {
        *default = share;
    }
}

/// A share that may be nothing.
fn set_percent(reader: &mut Reader<'_>, key: &'static str, default: &mut f64) {
    let parse = |text: &str| match text.strip_suffix('%').map(|number| number.trim_end().parse::<f64>()) {
        Some(Ok(0.0)) => Ok::<_, BadValue>(0.0),
        _ => value::share(text),
    };
    if let Some(share) = reader.parse(key, parse) {
        *default = share;
    }
}

fn set_at_least(reader: &mut Reader<'_>, key: &'static str, least: Duration, default: &mut Duration) {
    let place = reader.place_of(key);
    reader.set(key, default);
    if *default < least {
        let least = humantime::format_duration(least);
        reader.scope.fault(Fault::new(place, format!("`{key}` is at least {least}")));
        *default = SECOND;
    }
}
