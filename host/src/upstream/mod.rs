//! A request becomes a response: balancer → pool → endpoint, with retries.

mod admit;
mod attempt;
pub mod balancer;
pub(crate) mod breaker;
mod budget;
mod carrier;
pub(crate) mod concurrency;
mod connect;
mod datagrams;
pub mod endpoint;
pub(crate) mod gate;
pub(crate) mod guards;
pub(crate) mod health;
pub(crate) mod key;
mod lane;
mod links;
mod open;
mod panic;
mod passive;
mod pick;
pub mod retry;
pub mod round_robin;
mod slow_start;
mod window;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{self, PluginUse};
use crate::filters::BodyBroken;
use crate::http::facts::Exchange;
use crate::http::grpc;
use crate::http::h1::{self, BadResponse, BodyKind};
use crate::http::head::Known;
use crate::http::upload::{ClientFault, Upload};
use crate::net::tls::Connector;
use crate::replaceable::Replaceable;
use crate::telemetry::metrics::{RequestEnd, UpstreamMetrics};

pub(crate) use attempt::{Sending, watch};
pub(crate) use connect::{Manner, Target, keep_alive, reach};
pub(crate) use datagrams::Datagrams;
pub(crate) use guards::Refusal;
pub(crate) use lane::{Connection, Leftover};

use admit::Admitted;
use attempt::AttemptError;
use balancer::{Balancer, BalancerNeeds, FeedbackKind, Sample};
use breaker::{Change, Trial};
use budget::Grant;
use endpoint::{Endpoint, EndpointId, Loads, Positions};
use guards::{Guards, Held};
use health::{Health, Judged, Notice};
use lane::{InFlight, Keep, Lane};
use pick::View;
use retry::{EndedAttempt, Failure, MethodKind, Outcome, RetryPolicy};
use round_robin::RoundRobin;

/// One upstream as all workers share it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Of the endpoints, by their addresses.
    pub(crate) positions: Positions,
    pub(crate) targets: Vec<Target>,
    pub(crate) loads: Arc<Loads>,
    pub(crate) health: Health,
    /// What connections to endpoints are made secure with.
    pub(crate) tls: Option<Connector>,
    /// What active checks that run over TLS connect with.
    pub(crate) check_tls: Option<Connector>,
    pub(crate) guards: Guards,
    pub(crate) config: config::Upstream,
}

/// One upstream as one worker uses it.
pub(crate) struct Upstream {
    shared: Arc<Shared>,
    /// This worker's own copy, so that exchanges on several workers do not count references on one cache line.
    name: Arc<str>,
    /// By endpoint.
    lanes: Vec<Rc<Lane>>,
    keep: Keep,
    worker: usize,
    pub(crate) balancer: Rc<Replaceable<dyn Balancer>>,
    pub(crate) retry: Rc<Replaceable<dyn RetryPolicy>>,
    fallback: RefCell<RoundRobin>,
    /// What the balancer was told of each endpoint, and at which generation of the upstream's health.
    views: RefCell<Vec<View>>,
    seen: Cell<u64>,
    /// Whether another configuration of it serves.
    retired: Cell<bool>,
    /// Whether a weight grows, which takes another look without anything having happened.
    grows: Cell<bool>,
    /// Whether weights are told as they are, because the balancer places keys by them.
    plain_weights: bool,
    metrics: Arc<UpstreamMetrics>,
}

/// A response whose head stands in the exchange and whose body is still to be read.
pub(crate) struct Response {
    pub(crate) connection: Box<Connection>,
    in_flight: InFlight,
    keep: Keep,
    /// Given back after the endpoint's place, so that who is called finds that one free.
    _held: Held,
}

/// Why an upstream gave no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("no endpoint of `{0}` can take traffic")]
    NoEndpoint(Arc<str>),
    #[error("the balancer of `{0}` refused the request for now")]
    Overloaded(Arc<str>),
    #[error("`{upstream}` is sent nothing for now: {refusal}")]
    Refused { upstream: Arc<str>, refusal: Refusal },
    #[error("{endpoint} gave no response")]
    Failed {
        endpoint: Arc<str>,
        failure: Failure,
        #[source]
        cause: io::Error,
    },
    #[error(transparent)]
    Client(#[from] ClientFault),
    #[error(transparent)]
    Rewriter(#[from] BodyBroken),
    #[error("the exchange took too long")]
    Deadline,
}

impl Response {
    /// How the response's body is framed where that is needed.
    ///
    /// # Errors
    ///
    /// When two readers could differ about it.
    pub(crate) fn body(&mut self, exchange: &Exchange) -> Result<BodyKind, BadResponse> {
        attempt::response_body(&mut self.connection.transport, exchange)
    }

    /// Keeps the connection for the next exchange. For one whose response was read to its end, which is `now`.
    pub(crate) fn finish(mut self, now: Instant) {
        if self.connection.transport.stream().message().is_none() {
            self.in_flight.lane().put(self.connection, self.keep, now);
        }
    }

    /// Gives up a response that nobody wants. Its connection is kept if all of both messages has passed already.
    pub(crate) fn discard(mut self, exchange: &Exchange, upload: &Upload) {
        if self.connection.transport.stream().message().is_some() {
            // What is left of it is given up with its stream.
            return;
        }
        let response = &exchange.response;
        let Ok(kind) = h1::response_body(response, exchange.request.method()) else { return };
        // An endpoint that answered early still waits for the rest of the request, and would take the next one for it.
        if !upload.is_sent() || !h1::response_keeps_alive(response) || kind == BodyKind::UntilClose {
            return;
        }
        let transport = &mut self.connection.transport;
        let mut decoder = h1::BodyDecoder::of_response(kind);
        while !decoder.is_done() {
            match decoder.decode(transport.input.bytes()) {
                Ok(decoded) if decoded.consumed > 0 => transport.input.consume(decoded.consumed),
                _ => return,
            }
        }
        if transport.input.is_empty() && !transport.has_output() {
            self.finish(Instant::now());
        }
    }
}

impl Upstream {
    /// `before`: the same upstream as it was configured before. Endpoints that stay keep their connections and counts.
    pub(crate) fn new(
        shared: Arc<Shared>,
        worker: usize,
        balancer: Rc<Replaceable<dyn Balancer>>,
        retry: Rc<Replaceable<dyn RetryPolicy>>,
        metrics: Arc<UpstreamMetrics>,
        before: Option<&Self>,
    ) -> Rc<Self> {
        let config = &shared.config;
        let endpoints = shared.endpoints.len();
        let lane = |endpoint: &Endpoint| {
            let id = endpoint.id;
            let known = before.and_then(|before| Some((before, before.position(&endpoint.address)?)));
            let Some((before, at)) = known else {
                let state = shared.health.state(id).cloned().unwrap_or_default();
                return Lane::new(&endpoint.address, state, worker, shared.loads.clone(), id);
            };
            let lane = before.lanes[at].clone();
            lane.follow(shared.loads.clone(), id);
            // A connection that was made in another way is none that would be made now.
            let (old, new) = (&*before.shared, &*shared);
            if old.targets[at] != new.targets[id as usize]
                || old.tls != new.tls
                || old.config.protocol != new.config.protocol
            {
                lane.renew();
            }
            lane
        };
        let now = Instant::now();
        let health = &shared.health;
        let view = |(id, standing)| View { standing, weight: health.weight(id, now).0 };
        let views: Vec<_> = (0..).zip(health.standings(now)).map(view).collect();
        let plain_weights = config.slow_start.is_some() && places_by_weight(config, balancer.get().needs());
        if plain_weights && worker == 0 {
            let (upstream, balancer) = (&shared.name, &config.balance.plugin);
            tracing::warn!(%upstream, %balancer, "`slow_start` does nothing with a balancer that asks for a key");
        }
        shared.guards.turn(config);
        let upstream = Rc::new(Self {
            lanes: shared.endpoints.iter().map(lane).collect(),
            keep: Keep {
                // One that says who its client is can be nobody else's.
                capacity: if config.send_proxy_protocol.is_some() { 0 } else { config.keepalive },
                timeout: config.keepalive_timeout,
                max_exchanges: config.keepalive_requests,
            },
            fallback: RefCell::new(RoundRobin::new(endpoints)),
            views: RefCell::new(views),
            seen: Cell::new(0),
            retired: Cell::new(false),
            grows: Cell::new(false),
            plain_weights,
            name: Arc::from(&*shared.name),
            shared,
            worker,
            balancer,
            retry,
            metrics,
        });
        for (lane, view) in upstream.lanes.iter().zip(&*upstream.views.borrow()) {
            lane.keep_idle(!view.standing.is_shut());
        }
        upstream
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Does what is due without traffic, and hands feedback over. Called a few times a second.
    pub(crate) fn tick(&self, now: Instant) {
        let health = &self.shared.health;
        health.tick(now).iter().for_each(|notice| self.tell(notice));
        if self.grows.get() || health.is_stale(self.seen.get(), now) {
            self.look(now);
        }
        self.balancer.get().tick(now);
        if let Some(concurrency) = &self.shared.guards.concurrency {
            concurrency.tick(now);
        }
        self.offer(now);
    }

    /// Tells a balancer that took over what it may have missed. One that knows it all is told nothing by it.
    pub(crate) fn inform(&self) {
        let changes: Vec<_> = (0..).zip(&*self.views.borrow()).map(|(id, view)| view.change(id)).collect();
        self.balancer.get().change(&changes);
    }

    /// Closes idle connections that are too old or that endpoints have closed.
    pub(crate) fn sweep(&self, now: Instant) {
        for lane in &self.lanes {
            lane.sweep(self.keep, now);
        }
    }

    /// Keeps no further connection to endpoints that `next` does not have. Those that are idle are for the caller to close.
    pub(crate) fn retire(&self, next: Option<&Self>) -> Leftover {
        self.retired.set(true);
        let is_gone = |lane: &&Rc<Lane>| next.is_none_or(|next| next.position(&lane.address).is_none());
        Leftover::of(self.lanes.iter().filter(is_gone).cloned().collect())
    }

    /// Sends the request and waits for the head of a response, with as many attempts as the policy wants and the
    /// limits allow.
    pub(crate) async fn send(self: &Rc<Self>, sending: Sending<'_>) -> Result<Response, UpstreamError> {
        let sent = self.send_counted(sending).await;
        self.metrics.request_ended(match &sent {
            Ok(_) => RequestEnd::Answered,
            Err(UpstreamError::NoEndpoint(_)) => RequestEnd::NoEndpoint,
            Err(UpstreamError::Overloaded(_)) => RequestEnd::Overloaded,
            Err(UpstreamError::Refused { refusal, .. }) => (*refusal).into(),
            Err(UpstreamError::Client(_)) => RequestEnd::ClientClosed,
            Err(UpstreamError::Rewriter(_)) => RequestEnd::Failed,
            Err(UpstreamError::Deadline) => RequestEnd::TimedOut,
            Err(UpstreamError::Failed {
                failure: Failure::ConnectTimeout | Failure::SendTimeout | Failure::ResponseTimeout,
                ..
            }) => RequestEnd::TimedOut,
            Err(UpstreamError::Failed { .. }) => RequestEnd::Failed,
        });
        sent
    }

    async fn send_counted(self: &Rc<Self>, mut sending: Sending<'_>) -> Result<Response, UpstreamError> {
        let config = &self.shared.config;
        let guards = &self.shared.guards;
        let came = Instant::now();
        sending.upload.keep(config.retry.replay_buffer);
        self.read_key(sending.exchange);
        let Admitted { first, held, trial } = self.admit(&mut sending, came).await?;
        let began = if sending.exchange.queued.is_some() { Instant::now() } else { came };
        guards.budget.request(self.worker, began);
        let mut first = Some(first);
        let mut now = began;
        for attempt in 0.. {
            let (endpoint, in_flight) = match first.take() {
                Some(first) => first,
                None => match self.pick(sending.exchange, attempt, now) {
                    Ok(picked) => picked,
                    Err(reason) => {
                        self.end_trial(trial, Outcome::Failed(Failure::Overload), now);
                        return Err(self.not_picked(reason));
                    }
                },
            };
            sending.exchange.tried.push(endpoint);
            sending.exchange.endpoint.learn(&in_flight.lane().address);
            let panicked = self.panics(endpoint);

            let ended = self.attempt(&mut sending, endpoint, now).await;
            let done = Instant::now();
            sending.exchange.attempt.response_time = ended.is_ok().then(|| done - now);
            let (outcome, sent) = match &ended {
                Ok(_) => (Outcome::Status(sending.exchange.response.status), true),
                Err(AttemptError::Failed { failure, sent, .. }) => (Outcome::Failed(*failure), *sent),
                Err(AttemptError::Client(_) | AttemptError::Rewriter(_)) => (Outcome::Status(0), true),
            };
            sending.exchange.is_sent |= sent;
            match ended {
                Err(AttemptError::Client(fault)) => return Err(self.client_error(fault, &sending, done)),
                Err(AttemptError::Rewriter(broken)) => return Err(broken.into()),
                _ => {}
            }
            let judged = judged(outcome, sending.exchange);
            self.account(&in_flight, endpoint, outcome, judged, done - now, done);

            let plan = self.plan(&mut sending, endpoint, attempt, outcome, sent, panicked, began, done);
            let Some((delay, grant)) = plan else {
                self.end_trial(trial, judged, done);
                return match ended {
                    Ok(connection) => {
                        let facts = &mut **sending.exchange;
                        for (name, value) in facts.appended.drain(..) {
                            facts.response.fields.append(name.as_bytes(), &value);
                        }
                        if let Outcome::Status(status) = judged {
                            self.metrics.answered(status, done - came);
                        }
                        if let Some(concurrency) = &held.concurrency {
                            concurrency.answered(self.worker, done);
                        }
                        Ok(Response { connection, in_flight, keep: self.keep, _held: held })
                    }
                    Err(AttemptError::Failed { failure, cause, .. }) => {
                        if sending.is_late(done) {
                            return Err(UpstreamError::Deadline);
                        }
                        let endpoint = in_flight.lane().address.clone();
                        Err(UpstreamError::Failed { endpoint, failure, cause })
                    }
                    Err(AttemptError::Client(fault)) => Err(fault.into()),
                    Err(AttemptError::Rewriter(broken)) => Err(broken.into()),
                };
            };
            match ended {
                Ok(connection) => {
                    // What the request holds, it holds on to for its next attempt.
                    let response = Response { connection, in_flight, keep: self.keep, _held: Held::default() };
                    response.discard(sending.exchange, sending.upload);
                }
                Err(_) => drop(in_flight),
            }
            self.offer(done);
            if !delay.is_zero() {
                Box::pin(admit::wait::<()>(&mut sending, done + delay, |_| Poll::Pending)).await?;
            }
            now = Instant::now();
            if let Some(grant) = grant {
                grant.begin(now);
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Tells health, loads and balancer how an attempt ended, and what that is judged as.
    fn account(
        &self,
        in_flight: &InFlight,
        id: EndpointId,
        outcome: Outcome,
        judged: Outcome,
        latency: Duration,
        now: Instant,
    ) {
        let Shared { health, loads, .. } = &*self.shared;
        let balancer = self.balancer.get();
        let needs = balancer.needs();
        self.metrics.attempt_ended(outcome.into());
        let wanted = matches!(outcome, Outcome::Status(status) if self.retry.get().needs().wants(status));
        let weight = self.views.borrow().get(id as usize).map_or(1, |view| view.weight);
        let Judged { failed, penalty, notice } = health.ended(id, in_flight.take_ticket(), judged, wanted, weight, now);
        if failed {
            self.metrics.passive_failures.increment();
        }
        if let Some(notice) = notice {
            self.tell(&notice);
        }
        if needs.latency && matches!(outcome, Outcome::Status(_)) {
            loads.observe_latency(self.worker, id, latency);
        }
        let wanted = match needs.feedback {
            Some(FeedbackKind::EveryAttempt) => true,
            Some(FeedbackKind::Failures) => failed,
            None => false,
        };
        if wanted {
            let status = if let Outcome::Status(status) = judged { status } else { 0 };
            balancer.observe(Sample { endpoint: id, latency, status, failed, penalty });
        }
    }

    /// Tells the breaker how a request ended.
    fn end_trial(&self, trial: Option<Trial<'_>>, outcome: Outcome, now: Instant) {
        let (Some(trial), Some(breaker)) = (trial, &self.shared.guards.breaker) else { return };
        let failed = match outcome {
            Outcome::Failed(_) => true,
            Outcome::Status(status) => breaker.is_failure(status),
        };
        match trial.end(self.worker, failed, now) {
            Some(Change::Opened { failures, requests }) => {
                self.metrics.breaker_opened(failures, requests, breaker.config().open_time);
            }
            Some(Change::Closed) => self.metrics.breaker_closed(),
            None => {}
        }
    }

    /// Whether another attempt follows, and after how long. The host's limits come first; only then is the policy
    /// asked.
    #[expect(clippy::too_many_arguments, reason = "all of them are facts about the one attempt that ended")]
    fn plan(
        &self,
        sending: &mut Sending<'_>,
        endpoint: EndpointId,
        attempt: u32,
        outcome: Outcome,
        sent: bool,
        panicked: bool,
        began: Instant,
        now: Instant,
    ) -> Option<(Duration, Option<Grant>)> {
        let config = &self.shared.config.retry;
        let budget = &self.shared.guards.budget;
        let policy = self.retry.get();
        let needs = policy.needs();
        if matches!(outcome, Outcome::Status(_)) && (sending.opens || !needs.concern(&sending.exchange.response)) {
            return None;
        }
        let method = MethodKind::of(sending.exchange.request.method());
        let may_send_again = !sent || method.is_idempotent() || (needs.non_idempotent && config.non_idempotent);
        let elapsed = now - began;
        let remaining = sending.deadline.map(|deadline| deadline.saturating_duration_since(now));
        let allowed = attempt + 1 < config.attempts
            && config.timeout.is_none_or(|timeout| elapsed < timeout)
            && remaining != Some(Duration::ZERO)
            && may_send_again
            && sending.upload.can_replay();
        if !allowed {
            return None;
        }
        let left = budget.left(now);
        let retry_after = match outcome {
            Outcome::Status(_) => retry_after(sending.exchange),
            Outcome::Failed(_) => None,
        };
        let random = fastrand::u64(..);
        let ended = EndedAttempt {
            outcome,
            endpoint,
            attempt,
            method,
            sent,
            elapsed,
            remaining,
            budget: left,
            retry_after,
            random,
        };
        let plan = policy.decide(sending.exchange, ended)?;
        self.refresh(now);
        let elsewhere = self.has_untried(sending.exchange);
        let in_time = remaining.is_none_or(|remaining| plan.delay < remaining)
            && config.timeout.is_none_or(|timeout| elapsed + plan.delay < timeout);
        if (plan.elsewhere && !elsewhere) || !self.has_ready() || !in_time {
            return None;
        }
        // An attempt that reached no server added no load, and one that a panic sent to an ill endpoint added none to
        // those that are well: without the panic they would have had it.
        let is_free = !sent || panicked && attempt == 0 && self.has_better(sending.exchange);
        let mut grant = None;
        if !is_free {
            grant = budget.withdraw(now);
            if grant.is_none() {
                self.metrics.retries_refused_by_budget.increment();
                return None;
            }
        }
        self.metrics.retries_granted.increment();
        Some((plan.delay, grant))
    }

    /// Where an address stands among the endpoints.
    fn position(&self, address: &str) -> Option<usize> {
        self.shared.positions.get(address).copied()
    }

    /// Logs and counts what happened to an endpoint.
    fn tell(&self, notice: &Notice) {
        match notice {
            Notice::Ejected { endpoint, why, length } => {
                self.metrics.ejected(&self.lanes[*endpoint as usize].address, why, *length);
            }
            Notice::Returned { endpoint } => self.metrics.returned(&self.lanes[*endpoint as usize].address),
        }
    }

    fn read_key(&self, exchange: &mut Exchange) {
        let balancer = self.balancer.get();
        let sources = &balancer.needs().key;
        if sources.is_empty() {
            exchange.key = None;
            return;
        }
        let mut bytes = exchange.key.take().unwrap_or_default();
        if key::read(sources, exchange, &mut bytes) {
            exchange.key = Some(bytes);
        }
    }

    fn client_error(&self, fault: ClientFault, sending: &Sending<'_>, now: Instant) -> UpstreamError {
        let late = sending.is_late(now);
        if late && matches!(fault, ClientFault::BodyTimeout) { UpstreamError::Deadline } else { fault.into() }
    }
}

/// What an attempt's outcome says of the endpoint: a gRPC call that ended with its head ended with what that says, and
/// not with the 200 around it.
fn judged(outcome: Outcome, exchange: &Exchange) -> Outcome {
    match outcome {
        Outcome::Status(200) if exchange.is_grpc => {
            grpc::code(&exchange.response.fields).map_or(outcome, |code| Outcome::Status(grpc::as_http(code)))
        }
        _ => outcome,
    }
}

/// Whether another weight would move keys. The built-in ones that would are known by name; the others that ask for a key
/// leave the placing to a balancer behind them.
fn places_by_weight(config: &config::Upstream, needs: &BalancerNeeds) -> bool {
    let PluginUse { plugin, then, .. } = &config.balance;
    let is_builtin = config::BUILTIN.iter().any(|(name, _)| name == plugin);
    !is_builtin && then.is_none() && !needs.key.is_empty()
}

/// `retry-after` in seconds (RFC 9110 section 10.2.3); a date is not understood.
fn retry_after(exchange: &Exchange) -> Option<Duration> {
    let value = exchange.response.fields.known(Known::RetryAfter)?;
    let seconds: u32 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.into()))
}
