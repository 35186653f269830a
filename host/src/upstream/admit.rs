//! A request is let into its upstream: past the guards, and perhaps after a wait, to its first endpoint.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, sleep_until};

use crate::config::Priority;
use crate::http::facts::Exchange;
use crate::http::upload::ClientFault;
use crate::upstream::attempt::{Sending, watch, watch_half};
use crate::upstream::breaker::Trial;
use crate::upstream::endpoint::EndpointId;
use crate::upstream::gate::{Entry, Gate, Pass, Place};
use crate::upstream::guards::{Held, Refusal};
use crate::upstream::health::Standing;
use crate::upstream::lane::InFlight;
use crate::upstream::pick::NotPicked;
use crate::upstream::{Upstream, UpstreamError};

/// A request that may be sent.
pub(super) struct Admitted<'u> {
    pub(super) first: (EndpointId, InFlight),
    pub(super) held: Held,
    /// Wants to be told how it ended.
    pub(super) trial: Option<Trial<'u>>,
}

impl Upstream {
    /// Lets a request in, after as long a wait as the queue allows.
    pub(super) async fn admit(&self, sending: &mut Sending<'_>, now: Instant) -> Result<Admitted<'_>, UpstreamError> {
        let guards = &self.shared.guards;
        let mut held = self.approach(now)?;
        let Some(gate) = &guards.gate else {
            let first = self.pick(sending.exchange, 0, now).map_err(|reason| self.not_picked(reason))?;
            return self.try_out(first, held, now);
        };
        let full = || self.refused(guards.full(&self.shared.config), now);
        let place = match gate.enter(sending.priority) {
            Entry::Refused => return Err(full()),
            Entry::Waits(place) => place,
            Entry::Inside(pass) => match self.pick(sending.exchange, 0, now) {
                Ok(first) => {
                    held.pass = Some(pass);
                    return self.try_out(first, held, now);
                }
                Err(NotPicked::Full) if self.shared.config.queue.max_pending > 0 => {
                    Gate::wait(pass, sending.priority).ok_or_else(full)?
                }
                Err(reason) => return Err(self.not_picked(reason)),
            },
        };
        let waited = Box::pin(self.stand_in_line(sending, place, now)).await;
        let done = Instant::now();
        sending.exchange.queued = Some(done - now);
        let (first, pass) = waited?;
        held.pass = Some(pass);
        self.try_out(first, held, done)
    }

    /// Lets a request in that cannot wait.
    pub(super) fn admit_at_once(&self, exchange: &mut Exchange, now: Instant) -> Result<Admitted<'_>, UpstreamError> {
        let guards = &self.shared.guards;
        let mut held = self.approach(now)?;
        if let Some(gate) = &guards.gate {
            match gate.enter(Priority::default()) {
                Entry::Inside(pass) => held.pass = Some(pass),
                Entry::Refused | Entry::Waits(_) => return Err(self.refused(Refusal::MaxRequests, now)),
            }
        }
        let first = self.pick(exchange, 0, now).map_err(|reason| self.not_picked(reason))?;
        self.try_out(first, held, now)
    }

    /// What comes before all waiting.
    fn approach(&self, now: Instant) -> Result<Held, UpstreamError> {
        let guards = &self.shared.guards;
        if let Some(open) = guards.breaker.as_ref().and_then(|breaker| breaker.refuses(now)) {
            return Err(self.refused(Refusal::BreakerOpen { retry_after: open.retry_after }, now));
        }
        let mut held = Held::default();
        if let Some(concurrency) = &guards.concurrency {
            let entered = concurrency.enter(now).ok_or_else(|| self.refused(Refusal::ConcurrencyLimit, now))?;
            held.concurrency = Some(entered);
        }
        Ok(held)
    }

    /// Waits for a turn that leads to an endpoint.
    async fn stand_in_line(
        &self,
        sending: &mut Sending<'_>,
        place: Place,
        now: Instant,
    ) -> Result<((EndpointId, InFlight), Pass), UpstreamError> {
        let config = &self.shared.config;
        let until = now + config.queue.timeout.unwrap_or(config.connect_timeout);
        loop {
            let turn = wait(sending, until, |cx| place.poll(cx)).await;
            let now = Instant::now();
            match turn.map_err(UpstreamError::Client)? {
                Some(Ok(())) => {}
                Some(Err(_)) => return Err(self.refused(Refusal::QueueFull, now)),
                None if sending.is_late(now) => return Err(UpstreamError::Deadline),
                None => return Err(self.refused(Refusal::QueueTimeout, now)),
            }
            match self.pick(sending.exchange, 0, now) {
                Ok(first) => return Ok((first, place.take(self.has_ready()))),
                Err(NotPicked::Full) if self.retired.get() => place.pass_on(),
                Err(NotPicked::Full) => place.go_back(),
                Err(reason) => return Err(self.not_picked(reason)),
            }
        }
    }

    /// The last question: the breaker may have opened while the request waited.
    fn try_out(&self, first: (EndpointId, InFlight), held: Held, now: Instant) -> Result<Admitted<'_>, UpstreamError> {
        let trial = match &self.shared.guards.breaker {
            None => None,
            Some(breaker) => match breaker.enter(now) {
                Ok(trial) => Some(trial),
                Err(open) => {
                    return Err(self.refused(Refusal::BreakerOpen { retry_after: open.retry_after }, now));
                }
            },
        };
        Ok(Admitted { first, held, trial })
    }

    /// Calls who waits if an endpoint may be free, which nobody who left has told.
    pub(super) fn offer(&self, now: Instant) {
        let Some(gate) = &self.shared.guards.gate else { return };
        if gate.pending() > 0 {
            self.refresh(now);
            if self.has_ready() || !self.is_full() {
                gate.offer();
            }
        }
    }

    /// Whether an endpoint would have traffic if it had not as much as it may.
    pub(super) fn is_full(&self) -> bool {
        self.views.borrow().iter().any(|view| view.standing == Standing::Full)
    }

    pub(super) fn not_picked(&self, reason: NotPicked) -> UpstreamError {
        match reason {
            NotPicked::Overloaded => UpstreamError::Overloaded(self.name.clone()),
            NotPicked::Full | NotPicked::NoEndpoint => UpstreamError::NoEndpoint(self.name.clone()),
        }
    }

    fn refused(&self, refusal: Refusal, now: Instant) -> UpstreamError {
        self.shared.guards.refused(&self.name, refusal, now);
        UpstreamError::Refused { upstream: self.name.clone(), refusal }
    }
}

/// Waits for an event while the client is there; `None`: `until` or the request's deadline came first.
pub(super) async fn wait<T>(
    sending: &mut Sending<'_>,
    until: Instant,
    mut event: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Result<Option<T>, ClientFault> {
    let until = sending.deadline.map_or(until, |deadline| deadline.min(until));
    let mut over = pin!(sleep_until(until));
    poll_fn(|cx| {
        if let Poll::Ready(event) = event(cx) {
            return Poll::Ready(Ok(Some(event)));
        }
        // What comes of a body meanwhile is kept, as much as there is room for.
        if sending.opens {
            watch_half(cx, sending.client)?
        } else {
            watch(cx, sending.client)?
        }
        over.as_mut().poll(cx).map(|()| Ok(None))
    })
    .await
}
