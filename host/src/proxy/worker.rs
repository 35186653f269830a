//! One worker: a thread with a runtime, listeners, connections and plugin instances of its own.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::config;
use crate::filters::LocalResponse;
use crate::http::h1::Limits;
use crate::http::site::{Action, Limit, Route, Site};
use crate::http::worker::Worker;
use crate::listener::Bound;
use crate::proxy::orders::{Order, obey};
use crate::proxy::parts::{Blueprint, Parts};
use crate::replaceable::Replaceable;
use crate::telemetry::access_log::AccessLogger;
use crate::telemetry::metrics::{Metrics, Timeout};
use crate::upstream::Upstream;

/// How often balancers hear of the time.
const TICK: Duration = Duration::from_millis(100);
/// How often idle upstream connections are looked through, in ticks.
const SWEEP: u32 = 10;

/// What a worker is started with.
pub(crate) struct Job {
    pub(crate) number: usize,
    /// What the control thread wants done between requests.
    pub(crate) orders: UnboundedReceiver<Order>,
    pub(crate) parts: Arc<Parts>,
    pub(crate) blueprint: Blueprint,
    pub(crate) bound: Arc<Vec<Bound>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access_log: Option<AccessLogger>,
    pub(crate) admission: Arc<Admission>,
    /// No new connections; exchanges finish.
    pub(crate) drain: CancellationToken,
    /// Nothing finishes.
    pub(crate) stop: CancellationToken,
}

impl Job {
    /// Serves until drained. `started` hears whether the listeners could be taken over.
    pub(crate) fn run(self, started: impl FnOnce(io::Result<()>)) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return started(Err(error)),
        };
        let local = LocalSet::new();
        local.block_on(&runtime, self.serve(started));
    }

    async fn serve(self, started: impl FnOnce(io::Result<()>)) {
        let Self { number, orders, parts, blueprint, bound, metrics, access_log, admission, drain, stop } = self;
        let listeners: io::Result<Vec<_>> = bound.iter().map(|bound| bound.listener(number)).collect();
        let listeners = match listeners {
            Ok(listeners) => listeners,
            Err(error) => return started(Err(error)),
        };
        let own_metrics = metrics.worker(number);
        let site = Rc::new(build(number, &parts, blueprint, &metrics, access_log));
        let worker = Worker::new(site.clone(), admission);
        let connections = TaskTracker::new();
        let accepting = TaskTracker::new();
        for listener in listeners {
            accepting.spawn_local(listener.run(worker.clone(), connections.clone(), drain.clone()));
        }
        // Once the worker is told to stop, nobody else holds its sockets open.
        drop(bound);
        let ticking = tokio::task::spawn_local(tick(site.upstreams.clone()));
        let obeying = tokio::task::spawn_local(obey(site.clone(), orders));
        started(Ok(()));

        drain.cancelled().await;
        accepting.close();
        accepting.wait().await;
        worker.drain();
        connections.close();
        tokio::select! {
            () = connections.wait() => {}
            () = stop.cancelled() => {}
            () = tokio::time::sleep(parts.config.server.drain_timeout) => {
                own_metrics.timed_out(Timeout::Drain);
                tracing::warn!(worker = number, connections = worker.connections(), "closed connections that did not finish in time");
            }
        }
        ticking.abort();
        obeying.abort();
    }
}

/// Housekeeping of the upstreams, for as long as the worker lives.
async fn tick(upstreams: Vec<Rc<Upstream>>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for count in 1u32.. {
        ticks.tick().await;
        let now = Instant::now();
        for upstream in &upstreams {
            upstream.tick(now);
            if count.is_multiple_of(SWEEP) {
                upstream.sweep(now);
            }
        }
    }
}

/// Turns a blueprint into what this worker serves.
fn build(
    number: usize,
    parts: &Parts,
    blueprint: Blueprint,
    metrics: &Metrics,
    access_log: Option<AccessLogger>,
) -> Site {
    let config = &parts.config;
    let metrics = metrics.worker(number);
    let decisions = blueprint.balancers.into_iter().zip(blueprint.retries);
    let upstreams: Vec<_> = parts
        .upstreams
        .iter()
        .zip(decisions)
        .map(|(shared, (balancer, retry))| {
            let metrics = metrics.upstream(&shared.name);
            Upstream::new(shared.clone(), number, balancer.into_balancer(), retry.into_policy(), metrics, None)
        })
        .collect();
    let routes = config
        .routes
        .iter()
        .zip(&parts.keyed)
        .zip(blueprint.rewriters)
        .map(|((route, keyed), rewriters)| Route {
            name: route.name.as_str().into(),
            action: action(&route.action, &upstreams),
            filters: rewriters.into_iter().map(|rewriter| Replaceable::new(rewriter.into_filter())).collect(),
            timeout: route.timeout,
            priority: route.priority,
            limit: route.concurrency_limit.clone().zip(keyed.clone()).map(|(config, keyed)| Limit { keyed, config }),
            metrics: metrics.route(&route.name),
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
        routes,
        upstreams,
        metrics,
        access_log: access_log.map(RefCell::new),
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
            body: body.clone().into_bytes(),
        }),
        config::Action::Redirect { to, status } => Action::Redirect { to: to.clone(), status: *status },
    }
}
