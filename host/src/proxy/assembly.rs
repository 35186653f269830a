//! Turns a blueprint into what a worker serves, out of new parts and of what it serves already.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use crate::config;
use crate::filters::{Filter, LocalResponse};
use crate::http::fallback::{Step, Then};
use crate::http::h1::Limits;
use crate::http::ledger::Ledger;
use crate::http::respond;
use crate::http::site::{Action, Limit, Route, Site};
use crate::plugins::ReadyRewriter;
use crate::proxy::blueprint::{Blueprint, Part, UpstreamPlan};
use crate::proxy::parts::Parts;
use crate::replaceable::Replaceable;
use crate::telemetry::access_log::AccessLogger;
use crate::telemetry::metrics::WorkerMetrics;
use crate::upstream::{Shared, Upstream};

/// What a worker is to serve. `before`: what it serves now.
pub(super) fn assemble(
    number: usize,
    parts: &Parts,
    blueprint: Blueprint,
    metrics: &Arc<WorkerMetrics>,
    access_log: Option<Rc<RefCell<AccessLogger>>>,
    before: Option<&Site>,
) -> Site {
    let config = &parts.config;
    let known = Known(before);
    let upstreams: Vec<_> = (parts.upstreams.iter().zip(blueprint.upstreams))
        .map(|(shared, plan)| known.upstream(shared, plan, number, metrics))
        .collect();
    let routes = config
        .routes
        .iter()
        .zip(&parts.keyed)
        .zip(blueprint.rewriters)
        .map(|((route, keyed), rewriters)| {
            Rc::new(Route {
                name: route.name.as_str().into(),
                action: action(&route.action, &upstreams),
                filters: known.filters(&route.name, rewriters),
                timeout: route.timeout,
                fallback: route.fallback.iter().map(|step| fallback(step, &upstreams)).collect(),
                error_pages: route.error_pages.clone(),
                gate: parts.maintenance.route_gate(&route.name, &route.maintenance),
                priority: route.priority,
                limit: keyed
                    .clone()
                    .zip(route.concurrency_limit.clone())
                    .map(|(keyed, config)| Limit { keyed, config }),
                metrics: metrics.route(&route.name),
            })
        })
        .collect();
    let server = config.server.clone();
    Site {
        limits: Limits {
            max_head: server.max_header_size,
            max_fields: server.max_headers,
            max_target: server.max_target_size,
        },
        server,
        router: parts.router.clone(),
        maintenance: parts.maintenance.clone(),
        gate: parts.maintenance.server_gate(&config.server.maintenance),
        routes,
        upstreams,
        index: parts.index.clone(),
        ledger: Rc::new(Ledger { metrics: metrics.clone(), access_log }),
    }
}

/// What a worker serves already.
struct Known<'s>(Option<&'s Site>);

impl Known<'_> {
    fn upstream(
        &self,
        shared: &Arc<Shared>,
        plan: UpstreamPlan,
        number: usize,
        metrics: &WorkerMetrics,
    ) -> Rc<Upstream> {
        let UpstreamPlan { keep, balancer, retry } = plan;
        let before = self.0.and_then(|site| site.upstream(&shared.name));
        if let Some(upstream) = before.filter(|_| keep) {
            if let Part::New(ready) = retry {
                upstream.retry.replace(ready.into_policy(), false);
            }
            if let Part::New(ready) = balancer {
                upstream.balancer.replace(ready.into_balancer(), false);
                upstream.inform();
            }
            return upstream.clone();
        }
        let balancer = place(balancer, before.map(|upstream| &upstream.balancer), |ready| ready.into_balancer());
        let retry = place(retry, before.map(|upstream| &upstream.retry), |ready| ready.into_policy());
        let metrics = metrics.upstream(&shared.name);
        let before = before.map(|before| &**before);
        let upstream = Upstream::new(shared.clone(), number, balancer, retry, metrics, before);
        upstream.refresh(Instant::now());
        upstream.inform();
        upstream
    }

    fn filters(&self, route: &str, rewriters: Vec<Part<ReadyRewriter>>) -> Vec<Rc<Replaceable<dyn Filter>>> {
        let before = self.0.and_then(|site| site.route_named(route));
        let filter = |(step, part)| {
            place(part, before.and_then(|route| route.filters.get(step)), |ready: ReadyRewriter| ready.into_filter())
        };
        rewriters.into_iter().enumerate().map(filter).collect()
    }
}

/// The place of a plugin: the one there is, or a new one.
fn place<T, P: ?Sized>(
    part: Part<T>,
    before: Option<&Rc<Replaceable<P>>>,
    make: impl FnOnce(T) -> Rc<P>,
) -> Rc<Replaceable<P>> {
    match part {
        Part::New(ready) => Rc::new(Replaceable::new(make(ready))),
        Part::Keep => before.expect("only what serves is kept").clone(),
    }
}

fn action(action: &config::Action, upstreams: &[Rc<Upstream>]) -> Action {
    match action {
        config::Action::Upstream(index) => Action::Upstream(upstreams[*index].clone()),
        config::Action::Split(shares) => {
            Action::Split(shares.iter().map(|(index, weight)| (upstreams[*index].clone(), *weight)).collect())
        }
        config::Action::Respond { status, headers, body } => Action::Respond(LocalResponse {
            status: *status,
            fields: headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect(),
            body: body.0.clone(),
        }),
        config::Action::Redirect { to, status } => Action::Redirect { to: to.clone(), status: *status },
    }
}

fn fallback(step: &config::Fallback, upstreams: &[Rc<Upstream>]) -> Step {
    let then = match &step.then {
        config::FallbackAction::Upstream(index) => Then::Upstream(upstreams[*index].clone()),
        config::FallbackAction::Answer(answer) if answer.is_file => Then::File(respond::configured(answer)),
        config::FallbackAction::Answer(answer) => Then::Answer(respond::configured(answer)),
    };
    Step { on: step.on.clone(), then }
}
