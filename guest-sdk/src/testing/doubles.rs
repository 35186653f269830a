//! The contract's imports, answered from a thread's own state.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::{Request, Response};
use crate::log::Level;
use crate::{EndpointId, FeedbackKind, KeySource};

/// All that a [`super::Host`] knows.
pub(super) struct State {
    /// Paths of settings with their values, in order; a list or table has none of its own.
    pub(super) settings: Vec<(Vec<String>, Option<String>)>,
    pub(super) keys: Vec<KeySource>,
    pub(super) feedback: Option<(FeedbackKind, u32, Duration)>,
    pub(super) statuses: Vec<(u16, u16)>,
    pub(super) non_idempotent: bool,
    pub(super) request_fields: Vec<String>,
    pub(super) response_fields: Vec<String>,
    pub(super) skips_requests: bool,
    pub(super) skips_responses: bool,
    pub(super) upstreams: Vec<String>,
    pub(super) sent_to: Option<String>,
    pub(super) delay: Option<Duration>,
    /// The endpoints of each group, and how often it was asked.
    pub(super) groups: Vec<(Vec<EndpointId>, usize)>,
    /// Endpoints the balancer behind never picks.
    pub(super) avoided: Vec<EndpointId>,
    pub(super) appended: Vec<(String, Vec<u8>)>,
    pub(super) log_level: Level,
    pub(super) logs: Vec<(Level, String)>,
    pub(super) metrics: Vec<(String, Metric)>,
    pub(super) cells: Vec<(String, u64)>,
    /// With their versions and, for those to be remembered, when they are forgotten.
    pub(super) values: BTreeMap<String, (Vec<u8>, u64, Option<u64>)>,
    pub(super) versions: u64,
    pub(super) shared_is_full: bool,
    pub(super) monotonic: u64,
    pub(super) wall: u64,
    pub(super) random: u64,
    pub(super) active: BTreeMap<EndpointId, u32>,
    pub(super) latency: BTreeMap<EndpointId, u64>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) tried: Vec<EndpointId>,
    pub(super) request: Request,
    pub(super) response: Response,
    pub(super) notes: Vec<(String, Vec<u8>)>,
    /// Names of the imports called since they were last looked at.
    pub(super) calls: Vec<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Metric {
    Counter(u64),
    Gauge(f64),
    Histogram(Vec<f64>),
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            settings: Vec::new(),
            keys: Vec::new(),
            feedback: None,
            statuses: Vec::new(),
            non_idempotent: false,
            request_fields: Vec::new(),
            response_fields: Vec::new(),
            skips_requests: false,
            skips_responses: false,
            upstreams: Vec::new(),
            sent_to: None,
            delay: None,
            groups: Vec::new(),
            avoided: Vec::new(),
            appended: Vec::new(),
            log_level: Level::Debug,
            logs: Vec::new(),
            metrics: Vec::new(),
            cells: Vec::new(),
            values: BTreeMap::new(),
            versions: 0,
            shared_is_full: false,
            monotonic: 1_000_000_000,
            wall: 1_700_000_000_000_000_000,
            random: 0,
            active: BTreeMap::new(),
            latency: BTreeMap::new(),
            key: None,
            tried: Vec::new(),
            request: Request::default(),
            response: Response::default(),
            notes: Vec::new(),
            calls: Vec::new(),
        }
    }

    /// SplitMix64.
    pub(super) fn next_random(&mut self) -> u64 {
        let next = crate::random::mix(self.random, 0);
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        next
    }
}

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::new());
}

pub(super) fn state<R>(look: impl FnOnce(&mut State) -> R) -> R {
    STATE.with_borrow_mut(look)
}

/// Answers an import and notes that it was called.
fn called<R>(name: &'static str, answer: impl FnOnce(&mut State) -> R) -> R {
    state(|state| {
        state.calls.push(name);
        answer(state)
    })
}

/// The elements of a path, without their escapes.
pub(super) fn elements(path: &str) -> Vec<String> {
    let mut elements = vec![String::new()];
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '.' => elements.push(String::new()),
            c => {
                let plain = if c == '\\' { chars.next() } else { Some(c) };
                elements.last_mut().expect("there is one from the start").extend(plain);
            }
        }
    }
    if path.is_empty() { Vec::new() } else { elements }
}

pub(crate) mod registration {
    use super::*;

    pub(crate) fn want_key(source: &KeySource) {
        called("registration.want-key", |state| state.keys.push(source.clone()));
    }

    pub(crate) fn want_feedback(kind: FeedbackKind, batch: u32, max_age: Duration) {
        called("registration.want-feedback", |state| state.feedback = Some((kind, batch, max_age)));
    }

    pub(crate) fn want_status(first: u16, last: u16) {
        called("registration.want-status", |state| state.statuses.push((first, last)));
    }

    pub(crate) fn want_non_idempotent() {
        called("registration.want-non-idempotent", |state| state.non_idempotent = true);
    }

    pub(crate) fn want_request_field(name: &str) -> u32 {
        called("registration.want-request-field", |state| push(&mut state.request_fields, name))
    }

    pub(crate) fn want_response_field(name: &str) -> u32 {
        called("registration.want-response-field", |state| push(&mut state.response_fields, name))
    }

    pub(crate) fn skip_requests() {
        called("registration.skip-requests", |state| state.skips_requests = true);
    }

    pub(crate) fn skip_responses() {
        called("registration.skip-responses", |state| state.skips_responses = true);
    }

    fn push(names: &mut Vec<String>, name: &str) -> u32 {
        names.push(name.to_owned());
        names.len() as u32 - 1
    }
}

pub(crate) mod config {
    use super::*;

    pub(crate) fn get(path: &str) -> Option<String> {
        let path = elements(path);
        called("config.get", |state| state.settings.iter().find(|(at, _)| *at == path)?.1.clone())
    }

    pub(crate) fn keys(path: &str) -> Vec<String> {
        let path = elements(path);
        called("config.keys", |state| {
            let mut keys: Vec<String> = Vec::new();
            for (at, _) in &state.settings {
                if let Some(key) = at.strip_prefix(&path[..]).and_then(<[_]>::first)
                    && !keys.contains(key)
                {
                    keys.push(key.clone());
                }
            }
            keys
        })
    }
}

pub(crate) mod log {
    use super::*;

    pub(crate) fn enabled(level: Level) -> bool {
        called("log.enabled", |state| level >= state.log_level)
    }

    pub(crate) fn write(level: Level, message: &str) {
        called("log.write", |state| state.logs.push((level, message.to_owned())));
    }
}

pub(crate) mod metrics {
    use super::*;

    pub(crate) fn counter(name: &str) -> u32 {
        called("metrics.counter", |state| named(state, name, Metric::Counter(0)))
    }

    pub(crate) fn gauge(name: &str) -> u32 {
        called("metrics.gauge", |state| named(state, name, Metric::Gauge(0.0)))
    }

    pub(crate) fn histogram(name: &str, _bounds: &[f64]) -> u32 {
        called("metrics.histogram", |state| named(state, name, Metric::Histogram(Vec::new())))
    }

    pub(crate) fn add(metric: u32, amount: u64) {
        called("metrics.add", |state| {
            if let Some((_, Metric::Counter(sum))) = state.metrics.get_mut(metric as usize) {
                *sum = sum.wrapping_add(amount);
            }
        });
    }

    pub(crate) fn set(metric: u32, value: f64) {
        called("metrics.set", |state| {
            if let Some((_, Metric::Gauge(gauge))) = state.metrics.get_mut(metric as usize) {
                *gauge = value;
            }
        });
    }

    pub(crate) fn record_value(metric: u32, value: f64) {
        called("metrics.record-value", |state| {
            if let Some((_, Metric::Histogram(values))) = state.metrics.get_mut(metric as usize) {
                values.push(value);
            }
        });
    }

    fn named(state: &mut State, name: &str, metric: Metric) -> u32 {
        let position = state.metrics.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            state.metrics.push((name.to_owned(), metric));
            state.metrics.len() - 1
        });
        position as u32
    }
}

pub(crate) mod shared {
    use super::*;
    use crate::shared::PutError;

    pub(crate) fn cell(name: &str) -> u32 {
        called("shared.cell", |state| {
            let position = state.cells.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                state.cells.push((name.to_owned(), 0));
                state.cells.len() - 1
            });
            position as u32
        })
    }

    pub(crate) fn load(cell: u32) -> u64 {
        called("shared.load", |state| state.cells.get(cell as usize).map_or(0, |&(_, value)| value))
    }

    pub(crate) fn fetch_add(cell: u32, amount: u64) -> u64 {
        called("shared.fetch-add", |state| update(state, cell, |value| value.wrapping_add(amount)))
    }

    pub(crate) fn compare_exchange(cell: u32, current: u64, new: u64) -> u64 {
        called("shared.compare-exchange", |state| {
            update(state, cell, |value| if value == current { new } else { value })
        })
    }

    pub(crate) fn get(key: &str) -> Option<(Vec<u8>, u64)> {
        called("shared.get", |state| find(state, key))
    }

    pub(crate) fn put(key: &str, value: &[u8], version: Option<u64>) -> Result<u64, PutError> {
        called("shared.put", |state| write(state, key, value, version, None))
    }

    pub(crate) fn remember(key: &str, value: &[u8], version: Option<u64>, max_age: u64) -> Result<u64, PutError> {
        called("shared.remember", |state| {
            let until = state.monotonic.saturating_add(max_age);
            write(state, key, value, version, Some(until))
        })
    }

    fn find(state: &mut State, key: &str) -> Option<(Vec<u8>, u64)> {
        let now = state.monotonic;
        state.values.retain(|_, (_, _, until)| until.is_none_or(|until| now < until));
        state.values.get(key).map(|(bytes, version, _)| (bytes.clone(), *version))
    }

    fn write(
        state: &mut State,
        key: &str,
        value: &[u8],
        version: Option<u64>,
        until: Option<u64>,
    ) -> Result<u64, PutError> {
        if find(state, key).map(|(_, version)| version) != version {
            return Err(PutError::Conflict);
        }
        if state.shared_is_full {
            return Err(PutError::Full);
        }
        state.versions += 1;
        state.values.insert(key.to_owned(), (value.to_vec(), state.versions, until));
        Ok(state.versions)
    }

    pub(crate) fn delete(key: &str) {
        called("shared.delete", |state| state.values.remove(key));
    }

    fn update(state: &mut State, cell: u32, change: impl FnOnce(u64) -> u64) -> u64 {
        let Some((_, value)) = state.cells.get_mut(cell as usize) else { return 0 };
        let before = *value;
        *value = change(before);
        before
    }
}

pub(crate) mod clock {
    use super::*;

    pub(crate) fn monotonic() -> u64 {
        called("clock.monotonic", |state| state.monotonic)
    }

    pub(crate) fn wall() -> u64 {
        called("clock.wall", |state| state.wall)
    }
}

pub(crate) mod random {
    use super::*;

    pub(crate) fn next() -> u64 {
        called("random.next", State::next_random)
    }
}

pub(crate) mod loads {
    use super::*;

    pub(crate) fn active(endpoint: EndpointId) -> u32 {
        called("loads.active", |state| state.active.get(&endpoint).copied().unwrap_or(0))
    }

    pub(crate) fn active_all() -> Vec<u32> {
        called("loads.active-all", |state| by_slot(&state.active))
    }

    pub(crate) fn latency(endpoint: EndpointId) -> u64 {
        called("loads.latency", |state| state.latency.get(&endpoint).copied().unwrap_or(0))
    }

    pub(crate) fn latency_all() -> Vec<u64> {
        called("loads.latency-all", |state| by_slot(&state.latency))
    }

    fn by_slot<T: Copy + Default>(measured: &BTreeMap<EndpointId, T>) -> Vec<T> {
        let slots = measured.last_key_value().map_or(0, |(&last, _)| last as usize + 1);
        let mut list = vec![T::default(); slots];
        for (&id, &value) in measured {
            list[id as usize] = value;
        }
        list
    }
}

pub(crate) mod selection {
    use super::*;

    pub(crate) fn key() -> Option<Vec<u8>> {
        called("selection.key", |state| state.key.clone())
    }

    pub(crate) fn tried() -> Vec<EndpointId> {
        called("selection.tried", |state| state.tried.clone())
    }

    pub(crate) fn append_response_field(name: &str, value: &[u8]) {
        called("selection.append-response-field", |state| state.appended.push((name.to_owned(), value.to_vec())));
    }
}

pub(crate) mod delegate {
    use super::*;
    use crate::PickError;

    pub(crate) fn group(endpoints: &[EndpointId]) -> u32 {
        called("delegate.group", |state| {
            state.groups.push((endpoints.to_vec(), 0));
            state.groups.len() as u32 - 1
        })
    }

    /// In turn.
    pub(crate) fn pick(group: u32) -> Result<EndpointId, PickError> {
        called("delegate.pick", |state| {
            let Some((endpoints, asked)) = state.groups.get_mut(group as usize) else {
                return Err(PickError::Unavailable);
            };
            let usable: Vec<_> = endpoints.iter().filter(|id| !state.avoided.contains(id)).collect();
            let picked = usable.get(*asked % usable.len().max(1)).map(|&&id| id);
            *asked += 1;
            picked.ok_or(PickError::Unavailable)
        })
    }
}

pub(crate) mod pace {
    use super::*;

    pub(crate) fn delay(nanos: u64) {
        called("pace.delay", |state| state.delay = state.delay.max(Some(Duration::from_nanos(nanos))));
    }
}

pub(crate) mod routing {
    use super::*;

    pub(crate) fn has_upstream(name: &str) -> bool {
        called("routing.has-upstream", |state| state.upstreams.iter().any(|known| known == name))
    }

    pub(crate) fn send_to(name: &str) -> bool {
        called("routing.send-to", |state| {
            let known = state.upstreams.iter().any(|known| known == name);
            if known {
                state.sent_to = Some(name.to_owned());
            }
            known
        })
    }
}

pub(crate) mod request {
    use super::*;

    pub(crate) fn method() -> String {
        called("request.method", |state| state.request.method.clone())
    }

    pub(crate) fn scheme() -> String {
        called("request.scheme", |state| state.request.scheme.clone())
    }

    pub(crate) fn authority() -> String {
        called("request.authority", |state| state.request.authority.clone())
    }

    pub(crate) fn path_and_query() -> String {
        called("request.path-and-query", |state| state.request.path_and_query.clone())
    }

    pub(crate) fn client_address() -> String {
        called("request.client-address", |state| state.request.client_address.clone())
    }

    pub(crate) fn id() -> String {
        called("request.id", |state| state.request.id.clone())
    }

    pub(crate) fn route() -> String {
        called("request.route", |state| state.request.route.clone())
    }

    pub(crate) fn upstream() -> String {
        called("request.upstream", |state| state.request.upstream.clone())
    }

    pub(crate) fn field(name: &str) -> Option<Vec<u8>> {
        called("request.field", |state| first(&state.request.fields, name))
    }

    pub(crate) fn field_values(name: &str) -> Vec<Vec<u8>> {
        called("request.field-values", |state| every(&state.request.fields, name))
    }

    pub(crate) fn fields() -> Vec<(String, Vec<u8>)> {
        called("request.fields", |state| state.request.fields.clone())
    }

    pub(crate) fn note(name: &str) -> Option<Vec<u8>> {
        called("request.note", |state| first(&state.notes, name))
    }

    pub(crate) fn set_note(name: &str, value: &[u8]) {
        called("request.set-note", |state| {
            state.notes.retain(|(known, _)| known != name);
            state.notes.push((name.to_owned(), value.to_vec()));
        });
    }
}

pub(crate) mod response {
    use super::*;

    pub(crate) fn status() -> u16 {
        called("response.status", |state| state.response.status)
    }

    pub(crate) fn endpoint() -> String {
        called("response.endpoint", |state| state.response.endpoint.clone())
    }

    pub(crate) fn field(name: &str) -> Option<Vec<u8>> {
        called("response.field", |state| first(&state.response.fields, name))
    }

    pub(crate) fn field_values(name: &str) -> Vec<Vec<u8>> {
        called("response.field-values", |state| every(&state.response.fields, name))
    }

    pub(crate) fn fields() -> Vec<(String, Vec<u8>)> {
        called("response.fields", |state| state.response.fields.clone())
    }
}

pub(super) fn first(fields: &[(String, Vec<u8>)], name: &str) -> Option<Vec<u8>> {
    every(fields, name).into_iter().next()
}

fn every(fields: &[(String, Vec<u8>)], name: &str) -> Vec<Vec<u8>> {
    fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone()).collect()
}
