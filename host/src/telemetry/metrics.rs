//! What is counted of requests, connections and attempts, and the text a scrape gets.
//!
//! # Why a struct for each worker?
//!
//! A worker counts into memory that no other thread writes, through handles it got when its parts were built: on the
//! request path a count is a load and a store, without a look-up. A scrape adds the workers up by name.
//!
//! Names of routes and upstreams come from the configuration, so their number is bounded; nothing that a client sends
//! becomes a label.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tracing::{info, warn};

use super::counter::{Counter, Distribution, Gauge, Histogram};
use super::exposition::{Exposition, Kind};
use super::latencies::{Latencies, Times};
use super::relays::Relays;
use crate::config::{Condition, ListenAddress};
use crate::http::facts::FellBack;

/// The counts of all workers.
#[derive(Debug)]
pub struct Metrics {
    workers: Box<[Arc<WorkerMetrics>]>,
    /// Workers that took the place of a fallen one.
    restarts: AtomicU64,
    /// Changed certificates that were taken over, and those that were not.
    certificates: [AtomicU64; 2],
    started: SystemTime,
}

/// What one worker counts. Only that worker may count here.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerMetrics {
    pub connections_accepted: Counter,
    pub connections_active: Gauge,
    /// Connections closed because they did not begin with the PROXY header that they had to.
    pub proxy_headers_refused: Counter,
    pub relays: Relays,
    /// Bugs that cost a connection, or the worker with all of them.
    pub panics: Counter,
    /// HTTP/2 connections that were closed as their clients sent too many frames that ask for nothing.
    pub http2_floods: Counter,
    /// HTTP/3 connections that were closed as their clients took too many requests back.
    pub http3_floods: Counter,
    /// Requests that met no route, malformed ones among them. They are written with an empty route.
    pub unrouted: RouteMetrics,
    timeouts: [Counter; Timeout::ALL.len()],
    handshakes: [Counter; Handshake::ALL.len()],
    // Locked when parts are built and when someone scrapes, never on the request path.
    routes: Mutex<BTreeMap<Arc<str>, Arc<RouteMetrics>>>,
    upstreams: Mutex<BTreeMap<Arc<str>, Arc<UpstreamMetrics>>>,
}

/// What one worker counts of one route.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct RouteMetrics {
    /// By the hundreds of the status; 0 stands for an exchange without a response.
    requests: [Counter; CLASSES.len()],
    duration: Histogram,
    received: Counter,
    sent: Counter,
    /// By [`Condition`]; the last one is a response's status.
    fallbacks: [Counter; FALLBACKS],
    /// When a fallback was logged, in seconds of Unix time.
    fallback_logged: AtomicU64,
    /// Requests that were refused because of the route's `concurrency_limit`.
    pub limited: Counter,
    /// Made for the first request: most routes of a large configuration are quiet.
    judged: OnceLock<Box<Judged>>,
}

/// By what a route is compared with what it was.
#[derive(Debug, Default)]
struct Judged {
    /// Responses that broke off though their status was none of an error.
    broken: Counter,
    latencies: Latencies,
}

/// What one worker counts of one upstream.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct UpstreamMetrics {
    pub connections_opened: Counter,
    /// Exchanges that went over a connection which had carried one before.
    pub connections_reused: Counter,
    /// Open ones, idle ones among them.
    pub connections_active: Gauge,
    /// Connections the endpoint had closed when a request was about to use them, and which were replaced unnoticed.
    pub connections_stale: Counter,
    pub retries_granted: Counter,
    /// Retries the policy may have granted, and the budget did not.
    pub retries_refused_by_budget: Counter,
    /// Attempts that passive health held against an endpoint.
    pub passive_failures: Counter,
    requests: [Counter; RequestEnd::ALL.len()],
    attempts: [Counter; ATTEMPT_ENDS.len()],
    ejections: Counter,
    panics: Counter,
    /// Answers by the hundreds of their status, and how long their heads took, all attempts together.
    answers: [Counter; CLASSES.len()],
    latencies: Latencies,
    name: Arc<str>,
}

/// How a TLS handshake with a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    Full,
    /// It went on with an earlier session.
    Resumed,
    Failed,
}

/// A timeout of the configuration that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    ClientHandshake,
    ClientHeader,
    ClientBody,
    ClientSend,
    ClientKeepalive,
    Tunnel,
    UpstreamConnect,
    UpstreamSend,
    /// To the head of a response.
    UpstreamResponse,
    /// Within its body.
    UpstreamRead,
    /// A route's, for the whole exchange.
    Route,
    Drain,
}

/// How a request to an upstream ended, all its attempts taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestEnd {
    /// With a response of an endpoint, whatever its status was.
    Answered,
    /// Without one: the last attempt failed.
    Failed,
    TimedOut,
    /// No endpoint could take traffic.
    NoEndpoint,
    /// The balancer wanted no endpoint to have it.
    Overloaded,
    /// There were as many requests as may be, and none may wait.
    MaxRequests,
    QueueFull,
    QueueTimeout,
    BreakerOpen,
    ConcurrencyLimit,
    ClientClosed,
}

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    Status(u16),
    Connect,
    ConnectTimeout,
    Tls,
    Reset,
    SendTimeout,
    ResponseTimeout,
    Protocol,
    Overload,
    /// The client or a deadline ended it before the endpoint could.
    Abandoned,
}

impl Metrics {
    pub fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| Arc::default()).collect(),
            restarts: AtomicU64::new(0),
            certificates: Default::default(),
            started: SystemTime::now(),
        }
    }

    /// Where one worker counts.
    ///
    /// # Panics
    ///
    /// When there is no such worker.
    pub fn worker(&self, index: usize) -> Arc<WorkerMetrics> {
        self.workers[index].clone()
    }

    /// What requests came to by route, added up over the workers, those without a route under the empty name. Routes
    /// that nobody asked for are left out.
    pub fn route_outcomes(&self) -> BTreeMap<Arc<str>, Outcomes> {
        let mut outcomes = BTreeMap::<Arc<str>, Outcomes>::new();
        for worker in &self.workers {
            if worker.unrouted.judged.get().is_some() {
                outcomes.entry(Arc::from("")).or_default().add_route(&worker.unrouted);
            }
            let routes = worker.routes.lock();
            for (name, route) in routes.iter().filter(|(_, route)| route.judged.get().is_some()) {
                outcomes.entry(name.clone()).or_default().add_route(route);
            }
        }
        outcomes
    }

    /// What requests to an upstream came to, added up over the workers.
    pub fn outcomes(&self, upstream: &str) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for worker in &self.workers {
            let Some(metrics) = worker.upstreams.lock().get(upstream).cloned() else { continue };
            outcomes.add(&metrics);
        }
        outcomes
    }

    /// Lets go of routes and upstreams that are not among these.
    pub fn forget_others(&self, routes: &HashSet<&str>, upstreams: &HashSet<&str>) {
        for worker in &self.workers {
            worker.routes.lock().retain(|name, _| routes.contains(&**name));
            worker.upstreams.lock().retain(|name, _| upstreams.contains(&**name));
            worker.relays.forget_unused();
        }
    }

    /// Counts a worker that took the place of a fallen one.
    pub fn restarted(&self) {
        self.restarts.fetch_add(1, Relaxed);
    }

    /// Tells that a listener's certificates have changed, and what came of it.
    pub fn certificates_changed(&self, listener: &ListenAddress, faults: Option<&[String]>) {
        match faults {
            None => info!(target: LISTENER, %listener, "new connections get the changed certificates"),
            Some(faults) => {
                for error in faults {
                    warn!(target: LISTENER, %listener, %error, "the changed certificates are not taken over, those before them stay");
                }
            }
        }
        self.certificates[usize::from(faults.is_some())].fetch_add(1, Relaxed);
    }

    /// Writes everything that is counted here, added up over the workers.
    pub fn write(&self, out: &mut Exposition) {
        self.write_process(out);
        self.write_connections(out);
        self.write_routes(out);
        self.write_upstreams(out);
        Relays::write(self.workers.iter().map(|worker| &worker.relays), out);
    }

    fn write_process(&self, out: &mut Exposition) {
        out.family("staunch_build_info", Kind::Gauge, "Always 1; the label tells the version.");
        out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        out.family("staunch_start_time_seconds", Kind::Gauge, "When the proxy started, as Unix time.");
        out.sample(&[], self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        out.family("staunch_workers", Kind::Gauge, "Worker threads.");
        out.sample(&[], self.workers.len());
        let help = "Panics of workers: bugs, each of which cost a connection, or a worker with all it had.";
        out.family("staunch_worker_panics_total", Kind::Counter, help);
        out.sample(&[], self.workers.iter().map(|worker| worker.panics.value()).sum::<u64>());
        let help = "HTTP/2 connections that were closed as their clients sent too many frames that ask for nothing.";
        out.family("staunch_http2_floods_total", Kind::Counter, help);
        out.sample(&[], self.workers.iter().map(|worker| worker.http2_floods.value()).sum::<u64>());
        let help = "HTTP/3 connections that were closed as their clients took too many requests back.";
        out.family("staunch_http3_floods_total", Kind::Counter, help);
        out.sample(&[], self.workers.iter().map(|worker| worker.http3_floods.value()).sum::<u64>());
        out.family("staunch_worker_restarts_total", Kind::Counter, "Workers that took the place of a fallen one.");
        out.sample(&[], self.restarts.load(Relaxed));
    }

    fn write_connections(&self, out: &mut Exposition) {
        let sum = |value: fn(&WorkerMetrics) -> u64| self.workers.iter().map(|worker| value(worker)).sum::<u64>();
        out.family("staunch_listener_connections_accepted_total", Kind::Counter, "Connections from clients.");
        out.sample(&[], sum(|worker| worker.connections_accepted.value()));
        out.family("staunch_listener_connections_active", Kind::Gauge, "Connections from clients that are open.");
        out.sample(&[], sum(|worker| worker.connections_active.value()));
        out.family(
            "staunch_listener_tls_handshakes_total",
            Kind::Counter,
            "TLS handshakes with clients, by their end.",
        );
        for handshake in Handshake::ALL {
            let ended: u64 = self.workers.iter().map(|worker| worker.handshakes[handshake as usize].value()).sum();
            out.sample(&[("outcome", handshake.name())], ended);
        }
        let help = "Listeners whose certificates changed on disk, by whether what they hold now serves.";
        out.family("staunch_listener_certificate_changes_total", Kind::Counter, help);
        for (outcome, count) in ["taken_over", "refused"].into_iter().zip(&self.certificates) {
            out.sample(&[("outcome", outcome)], count.load(Relaxed));
        }
        let help = "Connections closed because they did not begin with the PROXY header that they had to.";
        out.family("staunch_listener_proxy_headers_refused_total", Kind::Counter, help);
        out.sample(&[], sum(|worker| worker.proxy_headers_refused.value()));
        out.family("staunch_http_timeouts_total", Kind::Counter, "Timeouts that have passed, by their name.");
        for (index, timeout) in Timeout::ALL.into_iter().enumerate() {
            let passed: u64 = self.workers.iter().map(|worker| worker.timeouts[index].value()).sum();
            out.sample(&[("timeout", timeout.name())], passed);
        }
    }

    fn write_routes(&self, out: &mut Exposition) {
        let mut sums = BTreeMap::<Arc<str>, RouteSum>::new();
        for worker in &self.workers {
            sums.entry(Arc::from("")).or_default().add(&worker.unrouted);
            for (name, route) in worker.routes.lock().iter() {
                sums.entry(name.clone()).or_default().add(route);
            }
        }
        // Thousands of routes that nobody asks for would make a text of megabytes.
        sums.retain(|_, sum| sum.requests.iter().any(|&requests| requests > 0));

        out.family("staunch_http_requests_total", Kind::Counter, "Finished requests, by route and status class.");
        for (name, sum) in &sums {
            for (class, requests) in CLASSES.into_iter().zip(sum.requests) {
                out.sample(&[("route", name), ("status", class)], requests);
            }
        }
        let help = "Requests that something other than the route's upstream answered, by what was wrong with that.";
        out.family("staunch_http_fallbacks_total", Kind::Counter, help);
        for (name, sum) in sums.iter().filter(|(_, sum)| sum.fallbacks.iter().any(|&fallbacks| fallbacks > 0)) {
            for (on, fallbacks) in Condition::ALL.map(Condition::name).into_iter().chain(["status"]).zip(sum.fallbacks)
            {
                out.sample(&[("route", name), ("on", on)], fallbacks);
            }
        }
        let help = "From a complete request head to the end of the response, by route.";
        out.family("staunch_http_request_duration_seconds", Kind::Histogram, help);
        for (name, sum) in &sums {
            out.distribution(&[("route", name)], &sum.duration);
        }
        out.family("staunch_http_received_bytes_total", Kind::Counter, "Bytes of request bodies, by route.");
        for (name, sum) in &sums {
            out.sample(&[("route", name)], sum.received);
        }
        out.family("staunch_http_sent_bytes_total", Kind::Counter, "Bytes of response bodies, by route.");
        for (name, sum) in &sums {
            out.sample(&[("route", name)], sum.sent);
        }
        let help = "Requests refused because of their route's concurrency_limit.";
        out.family("staunch_http_concurrency_limited_total", Kind::Counter, help);
        for (name, sum) in &sums {
            out.sample(&[("route", name)], sum.limited);
        }
    }

    fn write_upstreams(&self, out: &mut Exposition) {
        let mut upstreams = BTreeMap::<Arc<str>, Vec<Arc<UpstreamMetrics>>>::new();
        for worker in &self.workers {
            for (name, upstream) in worker.upstreams.lock().iter() {
                upstreams.entry(name.clone()).or_default().push(upstream.clone());
            }
        }
        out.family("staunch_upstream_requests_total", Kind::Counter, "Requests to an upstream, by how they ended.");
        for (name, workers) in &upstreams {
            for (index, end) in RequestEnd::ALL.into_iter().enumerate() {
                let requests: u64 = workers.iter().map(|worker| worker.requests[index].value()).sum();
                out.sample(&[("upstream", name), ("outcome", end.name())], requests);
            }
        }
        let help = "Attempts to have a request answered by an endpoint, by how they ended.";
        out.family("staunch_upstream_attempts_total", Kind::Counter, help);
        for (name, workers) in &upstreams {
            for (index, end) in ATTEMPT_ENDS.into_iter().enumerate() {
                let attempts: u64 = workers.iter().map(|worker| worker.attempts[index].value()).sum();
                out.sample(&[("upstream", name), ("outcome", end)], attempts);
            }
        }
        for (family, kind, help, value) in UPSTREAM_FAMILIES {
            out.family(family, kind, help);
            for (name, workers) in &upstreams {
                out.sample(&[("upstream", name)], workers.iter().map(|worker| value(worker)).sum::<u64>());
            }
        }
        out.family(
            "staunch_upstream_retries_total",
            Kind::Counter,
            "Further attempts that were asked for, by the answer.",
        );
        for (name, workers) in &upstreams {
            let sum = |value: fn(&UpstreamMetrics) -> u64| workers.iter().map(|worker| value(worker)).sum::<u64>();
            out.sample(&[("upstream", name), ("answer", "granted")], sum(|worker| worker.retries_granted.value()));
            let refused = sum(|worker| worker.retries_refused_by_budget.value());
            out.sample(&[("upstream", name), ("answer", "refused_by_budget")], refused);
        }
    }
}

type UpstreamFamily = (&'static str, Kind, &'static str, fn(&UpstreamMetrics) -> u64);

const UPSTREAM_FAMILIES: [UpstreamFamily; 7] = [
    ("staunch_upstream_connections_opened_total", Kind::Counter, "Connections opened to endpoints.", |upstream| {
        upstream.connections_opened.value()
    }),
    ("staunch_upstream_connections_reused_total", Kind::Counter, "Attempts over a kept connection.", |upstream| {
        upstream.connections_reused.value()
    }),
    (
        "staunch_upstream_connections_stale_total",
        Kind::Counter,
        "Kept connections found closed, and replaced.",
        |upstream| upstream.connections_stale.value(),
    ),
    ("staunch_upstream_connections_active", Kind::Gauge, "Open connections to endpoints, idle or not.", |upstream| {
        upstream.connections_active.value()
    }),
    ("staunch_upstream_passive_failures_total", Kind::Counter, "Attempts held against an endpoint.", |upstream| {
        upstream.passive_failures.value()
    }),
    ("staunch_upstream_ejections_total", Kind::Counter, "Endpoints taken out by passive health.", |upstream| {
        upstream.ejections.value()
    }),
    (
        "staunch_upstream_panics_total",
        Kind::Counter,
        "Times that endpoints' health began to be overlooked.",
        |upstream| upstream.panics.value(),
    ),
];

impl WorkerMetrics {
    /// The handle to count a route's requests with; the same for the same name.
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        self.routes.lock().entry(Arc::from(name)).or_default().clone()
    }

    /// The handle to count an upstream's requests with; the same for the same name.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamMetrics> {
        let name: Arc<str> = Arc::from(name);
        let make = || Arc::new(UpstreamMetrics { name: name.clone(), ..UpstreamMetrics::default() });
        self.upstreams.lock().entry(name.clone()).or_insert_with(make).clone()
    }

    /// Counts a connection from a client for as long as it is open.
    pub fn connection_opened(self: &Arc<Self>) -> OpenConnection {
        self.connections_accepted.increment();
        self.connections_active.increment();
        OpenConnection(self.clone())
    }

    pub fn shook_hands(&self, handshake: Handshake) {
        self.handshakes[handshake as usize].increment();
    }

    pub fn timed_out(&self, timeout: Timeout) {
        self.timeouts[timeout as usize].increment();
    }
}

/// A connection from a client that is open until this is dropped, however that comes about.
#[derive(Debug)]
pub struct OpenConnection(Arc<WorkerMetrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections_active.decrement();
    }
}

/// A connection to an endpoint that is open until this is dropped, idle or not.
#[derive(Debug)]
pub struct OpenUpstreamConnection(Arc<UpstreamMetrics>);

impl Drop for OpenUpstreamConnection {
    fn drop(&mut self) {
        self.0.connections_active.decrement();
    }
}

impl RouteMetrics {
    /// Counts a finished exchange. `status` is the one the client got, or 0 when it got none; the bytes are those of
    /// the bodies. `broken`: an upstream did not send the response whole.
    pub fn finished(&self, status: u16, duration: Duration, received: u64, sent: u64, broken: bool) {
        let class = usize::from(status / 100);
        self.requests[if class < CLASSES.len() { class } else { 0 }].increment();
        if (2..CLASSES.len()).contains(&class) {
            let judged = self.judged.get_or_init(Box::default);
            judged.latencies.observe(duration);
            if broken && class < 5 {
                judged.broken.increment();
            }
        }
        self.duration.observe(duration);
        self.received.add(received);
        self.sent.add(sent);
    }

    /// Counts, and logs once a second at most, that something other than a route's upstream answers: for a failure, or
    /// for an endpoint's status where there is no condition.
    pub fn fell_back(&self, route: &str, condition: Option<Condition>, why: FellBack, to: &str) {
        self.fallbacks[condition.map_or(FALLBACKS - 1, |condition| condition as usize)].increment();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.fallback_logged.swap(now, Relaxed) != now {
            warn!(target: "staunch::http", route, %why, to, "fell back");
        }
    }
}

/// What a route can fall back from: each condition, and a status.
const FALLBACKS: usize = Condition::ALL.len() + 1;

impl UpstreamMetrics {
    /// Counts a connection to an endpoint for as long as it is open.
    pub fn connection_opened(self: &Arc<Self>) -> OpenUpstreamConnection {
        self.connections_opened.increment();
        self.connections_active.increment();
        OpenUpstreamConnection(self.clone())
    }

    /// Counts a request with all its attempts.
    pub fn request_ended(&self, end: RequestEnd) {
        self.requests[end as usize].increment();
    }

    /// Counts a response of an endpoint that goes to the client, `time` after the request began.
    pub fn answered(&self, status: u16, time: Duration) {
        let class = usize::from(status / 100);
        self.answers[if class < CLASSES.len() { class } else { 0 }].increment();
        self.latencies.observe(time);
    }

    pub fn attempt_ended(&self, end: AttemptEnd) {
        self.attempts[end.index()].increment();
    }

    /// Counts and logs that passive health takes an endpoint out.
    pub fn ejected(&self, endpoint: &str, why: &str, out_for: Duration) {
        self.ejections.increment();
        warn!(target: TARGET, upstream = %self.name, %endpoint, why, ?out_for, "ejected");
    }

    /// Counts and logs that so many endpoints of all are offered although they are not healthy; 0: none any more.
    pub fn panicked(&self, overlooked: usize, endpoints: usize) {
        if overlooked == 0 {
            info!(target: TARGET, upstream = %self.name, "enough endpoints are healthy again, panic is over");
            return;
        }
        self.panics.increment();
        warn!(target: TARGET, upstream = %self.name, overlooked, endpoints, "too few endpoints are healthy, their health is overlooked");
    }

    /// Logs that a breaker has opened.
    pub fn breaker_opened(&self, failures: u64, requests: u64, open_for: Duration) {
        warn!(target: TARGET, upstream = %self.name, failures, requests, ?open_for, "breaker opened");
    }

    /// Logs that a breaker has closed.
    pub fn breaker_closed(&self) {
        info!(target: TARGET, upstream = %self.name, "breaker closed");
    }

    /// Logs that an endpoint has traffic again.
    pub fn returned(&self, endpoint: &str) {
        info!(target: TARGET, upstream = %self.name, %endpoint, "back in service");
    }
}

/// The module whose events are told here, for who filters by it.
const TARGET: &str = "staunch::upstream";

const LISTENER: &str = "staunch::listener";

impl Handshake {
    const ALL: [Self; 3] = [Self::Full, Self::Resumed, Self::Failed];

    fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Failed => "failed",
        }
    }
}

impl Timeout {
    const ALL: [Self; 12] = [
        Self::ClientHandshake,
        Self::ClientHeader,
        Self::ClientBody,
        Self::ClientSend,
        Self::ClientKeepalive,
        Self::Tunnel,
        Self::UpstreamConnect,
        Self::UpstreamSend,
        Self::UpstreamResponse,
        Self::UpstreamRead,
        Self::Route,
        Self::Drain,
    ];

    /// As the access log calls an exchange that it ended.
    pub fn error(self) -> &'static str {
        match self {
            Self::ClientHandshake => "client_handshake_timeout",
            Self::ClientHeader => "client_header_timeout",
            Self::ClientBody => "client_body_timeout",
            Self::ClientSend => "client_send_timeout",
            Self::ClientKeepalive => "client_keepalive_timeout",
            Self::Tunnel => "tunnel_timeout",
            Self::UpstreamConnect => "upstream_connect_timeout",
            Self::UpstreamSend => "upstream_send_timeout",
            Self::UpstreamResponse => "upstream_response_timeout",
            Self::UpstreamRead => "upstream_read_timeout",
            Self::Route => "route_timeout",
            Self::Drain => "drain_timeout",
        }
    }

    /// The same without its last word, as metrics call it.
    pub fn name(self) -> &'static str {
        let error = self.error();
        error.strip_suffix("_timeout").unwrap_or(error)
    }
}

impl RequestEnd {
    const ALL: [Self; 11] = [
        Self::Answered,
        Self::Failed,
        Self::TimedOut,
        Self::NoEndpoint,
        Self::Overloaded,
        Self::MaxRequests,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::BreakerOpen,
        Self::ConcurrencyLimit,
        Self::ClientClosed,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::TimedOut => "timeout",
            Self::NoEndpoint => "no_endpoint",
            Self::Overloaded => "overloaded",
            Self::MaxRequests => "max_requests",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::BreakerOpen => "breaker_open",
            Self::ConcurrencyLimit => "concurrency_limit",
            Self::ClientClosed => "client_closed",
        }
    }
}

/// Status classes by the hundreds of a status.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The ends of attempts by [`AttemptEnd::index`].
const ATTEMPT_ENDS: [&str; 14] = [
    "1xx",
    "2xx",
    "3xx",
    "4xx",
    "5xx",
    "connect",
    "connect_timeout",
    "tls",
    "reset",
    "response_timeout",
    "protocol",
    "overload",
    "abandoned",
    "send_timeout",
];

impl AttemptEnd {
    fn index(self) -> usize {
        match self {
            Self::Status(status) => usize::from((status / 100).clamp(1, 5)) - 1,
            Self::Connect => 5,
            Self::ConnectTimeout => 6,
            Self::Tls => 7,
            Self::Reset => 8,
            Self::ResponseTimeout => 9,
            Self::Protocol => 10,
            Self::Overload => 11,
            Self::Abandoned => 12,
            Self::SendTimeout => 13,
        }
    }
}

/// What requests to an upstream came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcomes {
    /// All but those whose client went away.
    pub requests: u64,
    /// Those without a response, or with a status of 500 or more.
    pub errors: u64,
    /// Those with a status from 400 to 499.
    pub refusals: u64,
    /// To the heads of responses.
    pub times: Times,
}

impl Outcomes {
    fn add(&mut self, upstream: &UpstreamMetrics) {
        let answers = |class: usize| upstream.answers[class].value();
        let failed: u64 = RequestEnd::ALL
            .into_iter()
            .filter(|end| !matches!(end, RequestEnd::Answered | RequestEnd::ClientClosed))
            .map(|end| upstream.requests[end as usize].value())
            .sum();
        self.requests += failed + (0..CLASSES.len()).map(answers).sum::<u64>();
        self.errors += failed + answers(5);
        self.refusals += answers(4);
        self.times.add(&upstream.latencies);
    }

    fn add_route(&mut self, route: &RouteMetrics) {
        let Some(judged) = route.judged.get() else { return };
        self.requests += (2..CLASSES.len()).map(|class| route.requests[class].value()).sum::<u64>();
        self.errors += route.requests[5].value() + judged.broken.value();
        self.refusals += route.requests[4].value();
        self.times.add(&judged.latencies);
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            refusals: self.refusals.saturating_sub(earlier.refusals),
            times: self.times.since(&earlier.times),
        }
    }

    /// The sum of both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            errors: self.errors + other.errors,
            refusals: self.refusals + other.refusals,
            times: self.times.and(&other.times),
        }
    }
}

/// A route's counts over all workers.
#[derive(Default)]
struct RouteSum {
    requests: [u64; CLASSES.len()],
    duration: Distribution,
    received: u64,
    sent: u64,
    fallbacks: [u64; FALLBACKS],
    limited: u64,
}

impl RouteSum {
    fn add(&mut self, route: &RouteMetrics) {
        for (sum, counter) in self.requests.iter_mut().zip(&route.requests) {
            *sum += counter.value();
        }
        for (sum, counter) in self.fallbacks.iter_mut().zip(&route.fallbacks) {
            *sum += counter.value();
        }
        self.duration.add(&route.duration);
        self.received += route.received.value();
        self.sent += route.sent.value();
        self.limited += route.limited.value();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        let mut out = Exposition::default();
        metrics.write(&mut out);
        out.into_text()
    }

    #[test]
    fn workers_are_added_up_by_name() {
        let metrics = Metrics::new(2);
        for index in 0..2 {
            let worker = metrics.worker(index);
            std::mem::forget(worker.connection_opened());
            worker.timed_out(Timeout::UpstreamRead);
            worker.unrouted.finished(404, Duration::ZERO, 0, 9, false);
            let route = worker.route("shop/");
            route.finished(200, Duration::from_millis(3), 5, 7, false);
            route.fell_back("shop/", Some(Condition::Timeout), FellBack::Failed("upstream_read_timeout"), "file");
            route.fell_back("shop/", None, FellBack::Status(503), "respond");
            let upstream = worker.upstream("api");
            upstream.connections_opened.increment();
            upstream.attempt_ended(AttemptEnd::Status(204));
            upstream.attempt_ended(AttemptEnd::ConnectTimeout);
            upstream.retries_granted.increment();
            upstream.request_ended(RequestEnd::Answered);
            upstream.ejected("10.0.0.1:80", "1 failure", Duration::from_secs(10));
        }

        let text = text(&metrics);

        for line in [
            "staunch_listener_connections_accepted_total 2",
            "staunch_listener_connections_active 2",
            "staunch_http_timeouts_total{timeout=\"upstream_read\"} 2",
            "staunch_http_timeouts_total{timeout=\"drain\"} 0",
            "staunch_http_requests_total{route=\"\",status=\"4xx\"} 2",
            "staunch_http_requests_total{route=\"shop/\",status=\"2xx\"} 2",
            "staunch_http_request_duration_seconds_bucket{route=\"shop/\",le=\"0.0025\"} 0",
            "staunch_http_request_duration_seconds_bucket{route=\"shop/\",le=\"0.005\"} 2",
            "staunch_http_request_duration_seconds_sum{route=\"shop/\"} 0.006",
            "staunch_http_received_bytes_total{route=\"shop/\"} 10",
            "staunch_http_sent_bytes_total{route=\"shop/\"} 14",
            "staunch_http_fallbacks_total{route=\"shop/\",on=\"error\"} 0",
            "staunch_http_fallbacks_total{route=\"shop/\",on=\"timeout\"} 2",
            "staunch_http_fallbacks_total{route=\"shop/\",on=\"status\"} 2",
            "staunch_upstream_requests_total{upstream=\"api\",outcome=\"answered\"} 2",
            "staunch_upstream_attempts_total{upstream=\"api\",outcome=\"2xx\"} 2",
            "staunch_upstream_attempts_total{upstream=\"api\",outcome=\"connect_timeout\"} 2",
            "staunch_upstream_retries_total{upstream=\"api\",answer=\"granted\"} 2",
            "staunch_upstream_connections_opened_total{upstream=\"api\"} 2",
            "staunch_upstream_ejections_total{upstream=\"api\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }

    #[test]
    fn a_connection_is_counted_until_it_is_dropped() {
        let worker = Metrics::new(1).worker(0);

        let [one, two] = [(); 2].map(|()| worker.connection_opened());
        drop(one);

        assert_eq!((worker.connections_accepted.value(), worker.connections_active.value()), (2, 1));
        drop(two);
        assert_eq!(worker.connections_active.value(), 0);
    }

    #[test]
    fn routes_that_nobody_asked_for_are_left_out() {
        let metrics = Metrics::new(1);
        metrics.worker(0).route("quiet");

        assert!(!text(&metrics).contains("quiet"));
    }

    #[test]
    fn every_end_and_timeout_has_a_place_and_a_name_of_its_own() {
        let metrics = Metrics::new(1);
        let worker = metrics.worker(0);
        let upstream = worker.upstream("u");
        for timeout in Timeout::ALL {
            worker.timed_out(timeout);
        }
        for end in RequestEnd::ALL {
            upstream.request_ended(end);
        }
        let failures = [
            AttemptEnd::Connect,
            AttemptEnd::ConnectTimeout,
            AttemptEnd::Tls,
            AttemptEnd::Reset,
            AttemptEnd::SendTimeout,
            AttemptEnd::ResponseTimeout,
            AttemptEnd::Protocol,
            AttemptEnd::Overload,
            AttemptEnd::Abandoned,
        ];
        for end in failures.into_iter().chain([101, 299, 300, 404, 599].map(AttemptEnd::Status)) {
            upstream.attempt_ended(end);
        }

        let text = text(&metrics);

        let ones = |family: &str| text.lines().filter(|l| l.starts_with(family) && l.ends_with(" 1")).count();
        assert_eq!(ones("staunch_http_timeouts_total{"), Timeout::ALL.len());
        assert_eq!(ones("staunch_upstream_requests_total{"), RequestEnd::ALL.len());
        assert_eq!(ones("staunch_upstream_attempts_total{"), ATTEMPT_ENDS.len());
    }

    #[test]
    fn a_status_out_of_range_counts_as_no_response() {
        let metrics = Metrics::new(1);
        metrics.worker(0).route("r").finished(999, Duration::ZERO, 0, 0, false);

        assert!(text(&metrics).contains("{route=\"r\",status=\"none\"} 1"));
    }

    #[test]
    fn a_route_is_judged_by_whole_answers_and_not_by_clients_that_left() {
        let metrics = Metrics::new(2);
        let finished = |worker: usize, status, broken| {
            metrics.worker(worker).route("r").finished(status, Duration::from_millis(2), 0, 0, broken);
        };
        for (worker, status, broken) in
            [(0, 200, false), (1, 200, true), (0, 404, false), (1, 502, true), (0, 0, false), (0, 101, false)]
        {
            finished(worker, status, broken);
        }
        metrics.worker(0).route("quiet");

        let outcomes = metrics.route_outcomes();

        assert_eq!(outcomes.keys().map(|name| &**name).collect::<Vec<_>>(), ["r"]);
        let Outcomes { requests, errors, refusals, ref times } = outcomes["r"];
        assert_eq!((requests, errors, refusals, times.count()), (4, 2, 1, 4));
    }
}
