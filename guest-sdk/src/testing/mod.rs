//! A host for the unit tests of a plugin: no proxy, no WebAssembly, plain `cargo test`.
//!
//! In a native build every call a plugin makes to its host is answered here, by what the test told its [`Host`].
//! The state belongs to the thread, so tests do not see each other.
//!
//! ```
//! # use staunch_plugin::{*, testing::{self, Host}};
//! # struct Sticky;
//! # impl Balancer for Sticky {
//! #     fn configure(_: &Config, needs: &mut BalancerNeeds) -> Result<Self, Invalid> {
//! #         needs.want_key(KeySource::Cookie("session".into()));
//! #         Ok(Self)
//! #     }
//! #     fn update(&mut self, _: Endpoints) {}
//! #     fn change(&mut self, _: &[EndpointChange]) {}
//! #     fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
//! #         Ok((cx.key.unwrap_or(cx.random) % 3) as u32)
//! #     }
//! # }
//! let host = Host::new();
//! let mut balancer = host.balancer::<Sticky>().unwrap();
//! balancer.update(testing::endpoints(3));
//!
//! assert_eq!(host.wanted_keys(), [KeySource::Cookie("session".into())]);
//! assert_eq!(balancer.pick(&PickContext { key: Some(7), ..testing::pick_context() }), Ok(1));
//! ```

use std::marker::PhantomData;
use std::time::Duration;

use crate::log::Level;
use crate::{
    AttemptContext, Balancer, BalancerNeeds, Config, Endpoint, EndpointId, Endpoints, FeedbackKind, Instant, Invalid,
    Issues, KeySource, MethodKind, Outcome, PickContext, Retry, RetryNeeds, Rewriter, RewriterNeeds, Wanted, clock,
};
use doubles::{Metric, State, state};

pub(crate) mod doubles;

/// The host of this thread's plugins.
#[derive(Debug)]
pub struct Host {
    /// Its state is the thread's.
    _here: PhantomData<*const ()>,
}

impl Host {
    /// A host that knows nothing yet. What an earlier one of this thread knew is forgotten.
    #[expect(clippy::new_without_default, reason = "it changes the state of the thread, which no default should")]
    pub fn new() -> Self {
        state(|state| *state = State::new());
        Self { _here: PhantomData }
    }

    /// Sets a setting, as `[plugins.NAME.config]` would: `host.set("limits.0.name", "gold")`.
    pub fn set(&self, path: &str, value: impl ToString) {
        let path = doubles::elements(path);
        state(|state| {
            state.settings.retain(|(at, _)| *at != path);
            state.settings.push((path, Some(value.to_string())));
        });
    }

    /// Sets a list of values, possibly an empty one.
    pub fn set_list<T: ToString>(&self, path: &str, values: impl IntoIterator<Item = T>) {
        let list = doubles::elements(path);
        state(|state| {
            state.settings.retain(|(at, _)| !at.starts_with(&list));
            state.settings.push((list.clone(), None));
            for (i, value) in values.into_iter().enumerate() {
                let mut path = list.clone();
                path.push(i.to_string());
                state.settings.push((path, Some(value.to_string())));
            }
        });
    }

    /// Configures a balancer. The next thing it expects is [`Balancer::update`].
    ///
    /// # Errors
    ///
    /// All that is wrong with its settings.
    pub fn balancer<T: Balancer>(&self) -> Result<T, Issues> {
        configure(|config| T::configure(config, &mut BalancerNeeds::new()))
    }

    /// Configures a retry policy.
    ///
    /// # Errors
    ///
    /// All that is wrong with its settings.
    pub fn retry<T: Retry>(&self) -> Result<T, Issues> {
        configure(|config| T::configure(config, &mut RetryNeeds::new()))
    }

    /// Configures a rewriter.
    ///
    /// # Errors
    ///
    /// All that is wrong with its settings.
    pub fn rewriter<T: Rewriter>(&self) -> Result<T, Issues> {
        configure(|config| T::configure(config, &mut RewriterNeeds::new()))
    }

    /// Sets the requests in flight to an endpoint.
    pub fn set_active(&self, endpoint: EndpointId, requests: u32) {
        state(|state| state.active.insert(endpoint, requests));
    }

    /// Sets the mean time to a response head of an endpoint.
    pub fn set_latency(&self, endpoint: EndpointId, latency: Duration) {
        state(|state| state.latency.insert(endpoint, clock::nanos(latency)));
    }

    /// Sets the bytes of the balancing key. Its hash stands in [`PickContext::key`].
    pub fn set_key(&self, key: Option<&[u8]>) {
        state(|state| state.key = key.map(<[u8]>::to_vec));
    }

    /// Sets the endpoints that the request has been sent to.
    pub fn set_tried(&self, tried: &[EndpointId]) {
        state(|state| state.tried = tried.to_vec());
    }

    /// Sets the request being handled.
    pub fn set_request(&self, request: Request) {
        state(|state| state.request = request);
    }

    /// Sets the response being handled.
    pub fn set_response(&self, response: Response) {
        state(|state| state.response = response);
    }

    /// What `on_request` is passed for the request being handled.
    pub fn wanted_of_request(&self) -> Wanted {
        state(|state| wanted(&state.request_fields, &state.request.fields))
    }

    /// What `on_response` is passed for the response being handled.
    pub fn wanted_of_response(&self) -> Wanted {
        state(|state| wanted(&state.response_fields, &state.response.fields))
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        let by = clock::nanos(by);
        state(|state| {
            state.monotonic = state.monotonic.saturating_add(by);
            state.wall = state.wall.saturating_add(by);
        });
    }

    /// Begins another sequence of random numbers; it is the same for the same seed.
    pub fn seed(&self, seed: u64) {
        state(|state| state.random = seed);
    }

    /// Has lines below a level not kept; all are, without this call.
    pub fn set_log_level(&self, level: Level) {
        state(|state| state.log_level = level);
    }

    /// Has every write of a shared value answer that the quota is used up.
    pub fn fill_shared(&self) {
        state(|state| state.shared_is_full = true);
    }

    /// Names the upstreams of the configuration.
    pub fn set_upstreams(&self, names: &[&str]) {
        state(|state| state.upstreams = names.iter().map(|&name| name.to_owned()).collect());
    }

    /// Where [`crate::routing::send_to`] sent the request, since this was last asked.
    pub fn sent_to(&self) -> Option<String> {
        state(|state| state.sent_to.take())
    }

    /// The longest [`crate::pace::delay`] asked for, since this was last asked.
    pub fn delay(&self) -> Option<Duration> {
        state(|state| state.delay.take())
    }

    /// The endpoints of each [`crate::delegate::Group`] made so far. Each has its endpoints picked in turn.
    pub fn groups(&self) -> Vec<Vec<EndpointId>> {
        state(|state| state.groups.iter().map(|(endpoints, _)| endpoints.clone()).collect())
    }

    /// Endpoints that the balancer behind never picks, as if they were not ready.
    pub fn set_avoided(&self, endpoints: &[EndpointId]) {
        state(|state| state.avoided = endpoints.to_vec());
    }

    /// What [`crate::selection::append_response_field`] added, since this was last asked.
    pub fn appended(&self) -> Vec<(String, Vec<u8>)> {
        state(|state| std::mem::take(&mut state.appended))
    }

    /// Whether it asked not to be shown requests, and responses.
    pub fn skipped(&self) -> (bool, bool) {
        state(|state| (state.skips_requests, state.skips_responses))
    }

    /// The lines logged so far.
    pub fn logs(&self) -> Vec<(Level, String)> {
        state(|state| state.logs.clone())
    }

    /// The value of a counter, if there is one of this name.
    pub fn counter(&self, name: &str) -> Option<u64> {
        match metric(name)? {
            Metric::Counter(value) => Some(value),
            _ => None,
        }
    }

    /// The value of a gauge, if there is one of this name.
    pub fn gauge(&self, name: &str) -> Option<f64> {
        match metric(name)? {
            Metric::Gauge(value) => Some(value),
            _ => None,
        }
    }

    /// The values that a histogram took in, if there is one of this name.
    pub fn histogram(&self, name: &str) -> Option<Vec<f64>> {
        match metric(name)? {
            Metric::Histogram(values) => Some(values),
            _ => None,
        }
    }

    /// The value of a shared cell, if there is one of this name.
    pub fn cell(&self, name: &str) -> Option<u64> {
        state(|state| state.cells.iter().find(|(known, _)| known == name).map(|&(_, value)| value))
    }

    /// A note left on the exchange.
    pub fn note(&self, name: &str) -> Option<Vec<u8>> {
        state(|state| doubles::first(&state.notes, name))
    }

    /// The sources of the balancing key that were asked for.
    pub fn wanted_keys(&self) -> Vec<KeySource> {
        state(|state| state.keys.clone())
    }

    /// The feedback that was asked for.
    pub fn wanted_feedback(&self) -> Option<(FeedbackKind, u32, Duration)> {
        state(|state| state.feedback)
    }

    /// The ranges of statuses that were asked for.
    pub fn wanted_statuses(&self) -> Vec<(u16, u16)> {
        state(|state| state.statuses.clone())
    }

    /// The headers of responses that were asked for.
    pub fn wanted_response_fields(&self) -> Vec<String> {
        state(|state| state.response_fields.clone())
    }

    /// Whether requests that are not idempotent were asked for.
    pub fn wants_non_idempotent(&self) -> bool {
        state(|state| state.non_idempotent)
    }

    /// The imports called since this was last asked, as the contract names them: `loads.active`. Each costs some
    /// 50 ns in a proxy, and most 50 ns more.
    pub fn calls(&self) -> Vec<&'static str> {
        state(|state| std::mem::take(&mut state.calls))
    }
}

/// A request to be handled. By default `GET http://example.com/` from 192.0.2.1.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the functions of crate::request say it")]
pub struct Request {
    pub method: String,
    pub scheme: String,
    pub authority: String,
    pub path_and_query: String,
    pub client_address: String,
    pub id: String,
    pub route: String,
    pub upstream: String,
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            scheme: "http".to_owned(),
            authority: "example.com".to_owned(),
            path_and_query: "/".to_owned(),
            client_address: "192.0.2.1".to_owned(),
            id: "0123456789abcdef0123456789abcdef".to_owned(),
            route: "default".to_owned(),
            upstream: "default".to_owned(),
            fields: Vec::new(),
        }
    }
}

impl Request {
    /// Adds a header.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }
}

/// A response to be handled. By default 200 from `10.0.0.1:80`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the functions of crate::response say it")]
pub struct Response {
    pub status: u16,
    pub endpoint: String,
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Default for Response {
    fn default() -> Self {
        Self { status: 200, endpoint: "10.0.0.1:80".to_owned(), fields: Vec::new() }
    }
}

impl Response {
    /// Adds a header.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }
}

/// A ready endpoint of weight 1 in the first group; `Endpoint { weight: 5, ..endpoint(0) }` differs.
pub fn endpoint(id: EndpointId) -> Endpoint {
    Endpoint {
        id,
        address: format!("endpoint-{id}:80"),
        weight: 1,
        priority: 0,
        zone: None,
        ready: true,
        labels: Vec::new(),
    }
}

/// So many ready endpoints, with slots from 0 on.
pub fn endpoints(count: u32) -> Endpoints {
    (0..count).map(endpoint).collect::<Vec<_>>().into()
}

/// A first attempt without a key, at the host's time, with the next of its random numbers.
pub fn pick_context() -> PickContext {
    let (random, now) = state(|state| (state.next_random(), state.monotonic));
    PickContext { key: None, random, now: Instant::from_nanos(now), attempt: 0, previous: None }
}

/// A first attempt of a GET, sent whole to endpoint 0, that ended so.
pub fn attempt_context(outcome: Outcome) -> AttemptContext {
    AttemptContext {
        outcome,
        endpoint: 0,
        attempt: 0,
        method: MethodKind::Safe,
        sent: true,
        elapsed: Duration::from_millis(10),
        remaining: None,
        budget: 3,
        retry_after: None,
        random: state(State::next_random),
    }
}

fn configure<T>(make: impl FnOnce(&Config) -> Result<T, Invalid>) -> Result<T, Issues> {
    let config = Config::whole();
    let made = make(&config);
    let issues = config.issues();
    match made {
        Ok(plugin) if issues.is_empty() => Ok(plugin),
        _ => Err(issues),
    }
}

fn wanted(names: &[String], fields: &[(String, Vec<u8>)]) -> Wanted {
    Wanted::new(names.iter().map(|name| doubles::first(fields, name)).collect())
}

fn metric(name: &str) -> Option<Metric> {
    state(|state| state.metrics.iter().find(|(known, _)| known == name).map(|(_, metric)| metric.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Counter, Gauge, Histogram};
    use crate::shared::{self, PutError};
    use crate::{loads, random, request, response, selection};

    #[test]
    fn a_new_host_forgets_the_one_before() {
        let host = Host::new();
        host.set("a", 1);
        request::set_note("n", b"x");

        let host = Host::new();

        assert_eq!(Config::whole().keys(), [""; 0]);
        assert_eq!(host.note("n"), None);
        assert_eq!(host.calls(), ["config.keys"]);
    }

    #[test]
    fn what_a_plugin_counts_is_seen() {
        let host = Host::new();

        Counter::new("picks").add(2);
        Counter::new("picks").add(1);
        Gauge::new("share").set(0.5);
        Histogram::new("sizes", &[1.0, 2.0]).record(1.5);

        assert_eq!(host.counter("picks"), Some(3));
        assert_eq!(host.gauge("share"), Some(0.5));
        assert_eq!(host.histogram("sizes"), Some(vec![1.5]));
        assert_eq!(host.gauge("picks"), None);
    }

    #[test]
    fn shared_state_behaves_as_in_a_proxy() {
        let host = Host::new();

        let cell = shared::Cell::new("turn");
        assert_eq!(cell.fetch_add(5), 0);
        assert_eq!(cell.compare_exchange(4, 9), Err(5));
        assert_eq!(cell.compare_exchange(5, 9), Ok(()));
        assert_eq!((cell.load(), host.cell("turn")), (9, Some(9)));

        let version = shared::put("k", b"1", None).unwrap();
        assert_eq!(shared::put("k", b"2", None), Err(PutError::Conflict));
        assert_eq!(shared::get("k").map(|value| value.version), Some(version));
        host.fill_shared();
        assert_eq!(shared::put("k", b"2", Some(version)), Err(PutError::Full));
        shared::delete("k");
        assert_eq!(shared::get("k"), None);
    }

    #[test]
    fn time_and_chance_are_the_test_s() {
        let host = Host::new();
        let before = (clock::monotonic(), clock::wall());

        host.advance(Duration::from_secs(2));

        assert_eq!(clock::monotonic().since(before.0), Duration::from_secs(2));
        assert_eq!(clock::wall() - before.1, Duration::from_secs(2));
        host.seed(1);
        let first = random::next();
        host.seed(1);
        assert_eq!(random::next(), first);
    }

    #[test]
    fn heads_loads_and_the_selection_are_read_as_they_were_set() {
        let host = Host::new();
        host.set_request(Request::default().field("X-A", "1").field("x-a", "2"));
        host.set_response(Response { status: 404, ..Response::default() }.field("etag", "x"));
        host.set_active(2, 7);
        host.set_latency(1, Duration::from_millis(3));
        host.set_key(Some(b"alice"));

        assert_eq!(request::field("x-A"), Some(b"1".to_vec()));
        assert_eq!(request::field_values("x-a").len(), 2);
        assert_eq!((response::status(), response::field("etag")), (404, Some(b"x".to_vec())));
        assert_eq!((loads::active_all(), loads::active(9)), (vec![0, 0, 7], 0));
        assert_eq!(loads::latency_all(), [None, Some(Duration::from_millis(3))]);
        assert_eq!(selection::key(), Some(b"alice".to_vec()));
    }
}
