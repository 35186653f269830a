//! What one worker serves: its routes with their filters and upstreams, built whole and replaced whole.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::admission::{Keyed, KeyedInFlight};
use crate::config;
use crate::filters::{BodyBroken, BodyChain, BodyFilter, Filter, Flow, LocalResponse};
use crate::http::error::ExchangeError;
use crate::http::facts::Exchange;
use crate::http::fallback::Step;
use crate::http::grpc;
use crate::http::h1::Limits;
use crate::http::ledger::Ledger;
use crate::http::maintenance::{Gate, Maintenance};
use crate::http::pages::Pages;
use crate::replaceable::Replaceable;
use crate::router::Router;
use crate::telemetry::metrics::RouteMetrics;
use crate::upstream::{Upstream, key};

/// What one worker serves.
pub(crate) struct Site {
    pub(crate) server: config::Server,
    pub(crate) limits: Limits,
    pub(crate) router: Arc<Router>,
    /// In the order of the configuration, as the router numbers them.
    pub(crate) routes: Vec<Rc<Route>>,
    pub(crate) upstreams: Vec<Rc<Upstream>>,
    pub(crate) index: Arc<Index>,
    pub(crate) maintenance: Arc<Maintenance>,
    /// Closed when all routes are.
    pub(crate) gate: Gate,
    pub(crate) ledger: Rc<Ledger>,
}

/// Where upstreams and routes stand, by their names. Made once for all workers.
#[derive(Debug)]
pub(crate) struct Index {
    upstreams: HashMap<Arc<str>, usize>,
    routes: HashMap<Arc<str>, usize>,
}

/// A match's consequences.
pub(crate) struct Route {
    pub(crate) name: Arc<str>,
    pub(crate) action: Action,
    pub(crate) filters: Vec<Rc<Replaceable<dyn Filter>>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) fallback: Vec<Step>,
    pub(crate) error_pages: config::ErrorPages,
    pub(crate) gate: Gate,
    pub(crate) priority: config::Priority,
    pub(crate) limit: Option<Limit>,
    pub(crate) metrics: Arc<RouteMetrics>,
}

/// How many requests of a route with the same key there may be at a time.
pub(crate) struct Limit {
    /// Shared by all workers.
    pub(crate) keyed: Arc<Keyed>,
    pub(crate) config: config::ConcurrencyLimit,
}

pub(crate) enum Action {
    Upstream(Rc<Upstream>),
    /// Upstreams with their weights; the sum of the weights is not 0.
    Split(Vec<(Rc<Upstream>, u32)>),
    Respond(LocalResponse),
    Redirect {
        to: String,
        status: u16,
    },
}

impl Site {
    /// The route of a request.
    pub(crate) fn route(&self, exchange: &Exchange) -> Option<&Rc<Route>> {
        self.router.route(&exchange.request).and_then(|index| self.routes.get(index))
    }

    /// What a request is answered that comes while its route, or all of them, is closed.
    pub(crate) fn closed(&self, route: Option<&Route>, exchange: &Exchange) -> Option<Box<LocalResponse>> {
        if !self.maintenance.is_any() {
            return None;
        }
        let refusal = self.gate.refusal(exchange.client);
        refusal.or_else(|| route?.gate.refusal(exchange.client)).map(Box::new)
    }

    /// The error pages of a route, or of what has none.
    pub(crate) fn pages<'s>(&'s self, route: Option<&'s Route>) -> Pages<'s> {
        Pages { own: route.map(|route| &route.error_pages), server: &self.server.error_pages }
    }

    /// The upstream of a name.
    pub(crate) fn upstream(&self, name: &str) -> Option<&Rc<Upstream>> {
        self.upstreams.get(self.index.upstream(name)?)
    }

    /// The route of a name.
    pub(crate) fn route_named(&self, name: &str) -> Option<&Rc<Route>> {
        self.routes.get(self.index.route(name)?)
    }
}

impl Index {
    pub(crate) fn of(config: &config::Config) -> Self {
        let upstreams = config.upstreams.iter().map(|upstream| Arc::from(&*upstream.name)).zip(0..).collect();
        let routes = config.routes.iter().map(|route| Arc::from(&*route.name)).zip(0..).collect();
        Self { upstreams, routes }
    }

    pub(crate) fn upstream(&self, name: &str) -> Option<usize> {
        self.upstreams.get(name).copied()
    }

    pub(crate) fn route(&self, name: &str) -> Option<usize> {
        self.routes.get(name).copied()
    }
}

impl Route {
    /// Counts a request in, if the route counts them and the request has a key.
    pub(crate) fn count(&self, exchange: &Exchange) -> Result<Option<KeyedInFlight>, ExchangeError> {
        let Some(Limit { keyed, config }) = &self.limit else { return Ok(None) };
        let mut bytes = Vec::new();
        if !key::read(&config.key, exchange, &mut bytes) || bytes.is_empty() {
            return Ok(None);
        }
        let counted = keyed.enter(&bytes);
        if counted.is_none() {
            self.metrics.limited.increment();
        }
        counted.map(Some).ok_or(ExchangeError::ConcurrencyLimit(config.status))
    }

    /// When nobody waits for the end of an exchange any more: for the route, or for the client of a gRPC call.
    pub(crate) fn deadline(&self, exchange: &Exchange) -> Option<Instant> {
        let theirs = if exchange.is_grpc { grpc::timeout(&exchange.request) } else { None };
        let timeout = self.timeout.into_iter().chain(theirs).min()?;
        // Hours of eight digits are more than a clock may hold.
        exchange.started.checked_add(timeout)
    }

    /// Where a request goes: to an upstream, or straight back.
    pub(crate) fn target(&self, exchange: &Exchange) -> Result<&Rc<Upstream>, LocalResponse> {
        match &self.action {
            Action::Upstream(upstream) => Ok(upstream),
            Action::Split(shares) => Ok(draw(shares, fastrand::u64(..))),
            Action::Respond(response) => Err(response.clone()),
            Action::Redirect { to, status } => Err(LocalResponse {
                status: *status,
                fields: vec![("location".to_owned(), expand(to, exchange).into_bytes())],
                body: Bytes::new(),
            }),
        }
    }

    /// Has the filters change the response, the last first; `Some` replaces it.
    pub(crate) fn rewrite_response(&self, exchange: &mut Exchange) -> Result<Option<LocalResponse>, ExchangeError> {
        let filters = self.filters.iter().rev().map(|filter| filter.get()).filter(|filter| filter.sides().response);
        filters.map(|filter| flow(filter.on_response(exchange))).find_map(Result::transpose).transpose()
    }

    /// What rewrites the request's body.
    pub(crate) fn request_bodies(&self, exchange: &mut Exchange) -> Result<BodyChain, ExchangeError> {
        let filters = self.filters.iter().map(|filter| filter.get()).filter(|filter| filter.sides().request_body);
        chain(filters.map(|filter| filter.on_request_body(exchange)))
    }

    /// What rewrites the response's body, the last filter first.
    pub(crate) fn response_bodies(&self, exchange: &mut Exchange) -> Result<BodyChain, ExchangeError> {
        let filters =
            self.filters.iter().rev().map(|filter| filter.get()).filter(|filter| filter.sides().response_body);
        chain(filters.map(|filter| filter.on_response_body(exchange)))
    }
}

/// What a filter's answer means: `Some` is an answer in place of an endpoint's.
pub(crate) fn flow(flow: Flow) -> Result<Option<LocalResponse>, ExchangeError> {
    match flow {
        Flow::Continue => Ok(None),
        Flow::Respond(response) => Ok(Some(response)),
        Flow::Deny => Err(ExchangeError::FilterFailed),
    }
}

fn chain(
    filters: impl Iterator<Item = Result<Option<Box<dyn BodyFilter>>, BodyBroken>>,
) -> Result<BodyChain, ExchangeError> {
    let mut chain = BodyChain::default();
    for filter in filters {
        if let Some(filter) = filter.map_err(|BodyBroken| ExchangeError::FilterFailed)? {
            chain.push(filter);
        }
    }
    Ok(chain)
}

fn draw(shares: &[(Rc<Upstream>, u32)], random: u64) -> &Rc<Upstream> {
    let total: u64 = shares.iter().map(|(_, weight)| u64::from(*weight)).sum();
    // The high bits of a product spread evenly over 0..total.
    let mut at = ((u128::from(random) * u128::from(total)) >> 64) as u64;
    for (upstream, weight) in shares {
        if at < u64::from(*weight) {
            return upstream;
        }
        at -= u64::from(*weight);
    }
    &shares[0].0
}

/// Fills `$scheme`, `$host`, `$path`, `$query`, `$request_uri` and `$remote_addr` in.
fn expand(template: &str, exchange: &Exchange) -> String {
    let request = &exchange.request;
    let mut out = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        let length = rest.bytes().take_while(|b| b.is_ascii_lowercase() || *b == b'_').count();
        let (name, after) = rest.split_at(length);
        match name {
            "scheme" => out.push_str(exchange.scheme()),
            "host" => out.push_str(request.host()),
            "path" => out.push_str(request.path()),
            "query" => out.push_str(request.query().unwrap_or_default()),
            "request_uri" => out.push_str(request.path_and_query()),
            // Empty on a unix socket.
            "remote_addr" => out.extend(exchange.client.map(|client| client.to_string())),
            other => {
                out.push('$');
                out.push_str(other);
            }
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::facts::Facts;

    #[test]
    fn a_redirect_names_parts_of_the_request() {
        let mut facts = Facts::new(Some([192, 0, 2, 7].into()), false);
        facts.request.set_authority("shop.example:8080");
        facts.request.set_path_and_query("/a/b?c=d");
        let exchange = Exchange::new(facts);

        for (template, expanded) in [
            ("https://$host$request_uri", "https://shop.example/a/b?c=d"),
            ("$scheme://x$path?q&$query", "http://x/a/b?q&c=d"),
            ("/from/$remote_addr", "/from/192.0.2.7"),
            ("/$unknown$", "/$unknown$"),
        ] {
            assert_eq!(expand(template, &exchange), expanded);
        }
    }
}
