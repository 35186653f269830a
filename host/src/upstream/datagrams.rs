//! A client's datagrams get an endpoint of their own, for as long as they belong together.
//!
//! Whether anybody is there shows with the first answer, or when the system is told that nobody is. A session that cannot
//! begin at once does not begin: a datagram that waited would be sent again meanwhile.

use std::io;
use std::rc::Rc;

use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::http::facts::Exchange;
use crate::telemetry::metrics::RequestEnd;
use crate::upstream::admit::Admitted;
use crate::upstream::breaker::Trial;
use crate::upstream::connect::connect_datagrams;
use crate::upstream::endpoint::EndpointId;
use crate::upstream::guards::Held;
use crate::upstream::lane::InFlight;
use crate::upstream::open::CONNECTED;
use crate::upstream::retry::{Failure, Outcome};
use crate::upstream::{Upstream, UpstreamError};

/// A socket to an endpoint. It counts as a request in flight until it is dropped.
pub(crate) struct Datagrams<'u> {
    pub(crate) socket: Rc<UdpSocket>,
    upstream: &'u Upstream,
    endpoint: EndpointId,
    in_flight: InFlight,
    /// Until it is told how the endpoint is.
    trial: Option<Trial<'u>>,
    told: bool,
    began: Instant,
    _held: Held,
}

impl Upstream {
    /// Picks an endpoint for a client's datagrams.
    pub(crate) fn open_datagrams(&self, exchange: &mut Exchange) -> Result<Datagrams<'_>, UpstreamError> {
        let opened = self.try_open_datagrams(exchange);
        self.metrics.request_ended(match &opened {
            Ok(_) => RequestEnd::Answered,
            Err(UpstreamError::NoEndpoint(_)) => RequestEnd::NoEndpoint,
            Err(UpstreamError::Overloaded(_)) => RequestEnd::Overloaded,
            Err(UpstreamError::Refused { refusal, .. }) => (*refusal).into(),
            Err(_) => RequestEnd::Failed,
        });
        opened
    }

    fn try_open_datagrams(&self, exchange: &mut Exchange) -> Result<Datagrams<'_>, UpstreamError> {
        let config = &self.shared.config;
        let mut now = Instant::now();
        self.read_key(exchange);
        let Admitted { first, held, trial } = self.admit_at_once(exchange, now)?;
        let mut picked = first;
        loop {
            let (endpoint, in_flight) = picked;
            exchange.tried.push(endpoint);
            exchange.endpoint.learn(&in_flight.lane().address);
            let target = &self.shared.targets[endpoint as usize];
            let cause = match connect_datagrams(target, &config.options) {
                Ok(socket) => {
                    exchange.response.status = CONNECTED;
                    let (upstream, socket) = (self, Rc::new(socket));
                    return Ok(Datagrams {
                        socket,
                        upstream,
                        endpoint,
                        in_flight,
                        trial,
                        told: false,
                        began: now,
                        _held: held,
                    });
                }
                Err(cause) => cause,
            };
            now = Instant::now();
            let outcome = Outcome::Failed(Failure::Connect);
            self.account(&in_flight, endpoint, outcome, outcome, std::time::Duration::ZERO, now);
            let failed = in_flight.lane().address.clone();
            drop(in_flight);
            let attempt = exchange.tried.len() as u32;
            let next = self.has_another(exchange).then(|| self.pick(exchange, attempt, now).ok()).flatten();
            match next {
                Some(next) => picked = next,
                None => {
                    self.end_trial(trial, outcome, now);
                    return Err(UpstreamError::Failed { endpoint: failed, failure: Failure::Connect, cause });
                }
            }
        }
    }

    /// Whether there is another endpoint to be tried, and one may be.
    pub(crate) fn has_another(&self, exchange: &Exchange) -> bool {
        self.refresh(Instant::now());
        exchange.tried.len() < self.shared.config.retry.attempts as usize && self.has_untried(exchange)
    }
}

impl Datagrams<'_> {
    /// The endpoint has sent something.
    pub(crate) fn answered(&mut self) {
        self.tell(Outcome::Status(CONNECTED));
    }

    /// There is nobody, or nobody who answers in time.
    pub(crate) fn failed(&mut self, error: &io::Error) {
        let is_late = error.kind() == io::ErrorKind::TimedOut;
        self.tell(Outcome::Failed(if is_late { Failure::ResponseTimeout } else { Failure::Connect }));
    }

    fn tell(&mut self, outcome: Outcome) {
        let now = Instant::now();
        // That it answers is no news after the first time; that it has gone is.
        if self.told && matches!(outcome, Outcome::Status(_)) {
            return;
        }
        self.told = true;
        self.upstream.account(&self.in_flight, self.endpoint, outcome, outcome, now - self.began, now);
        self.upstream.end_trial(self.trial.take(), outcome, now);
        if outcome == Outcome::Status(CONNECTED) {
            self.upstream.metrics.answered(CONNECTED, now - self.began);
        }
    }
}
