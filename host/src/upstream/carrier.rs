//! What carries an attempt: a connection that was kept, one that is shared, or a fresh one.

use std::io::{self, ErrorKind};
use std::rc::Rc;

use tokio::time::{Instant, timeout_at};

use crate::config::UpstreamProtocol;
use crate::http::facts::AttemptFacts;
use crate::http::h2::{self, Link};
use crate::http::head::Version;
use crate::net::Stream;
use crate::upstream::Upstream;
use crate::upstream::attempt::{AttemptError, Sending};
use crate::upstream::connect::Connected;
use crate::upstream::endpoint::EndpointId;
use crate::upstream::lane::{Connection, Lane};
use crate::upstream::retry::{Failure, MethodKind};

type Failed = (Failure, io::Error);

/// How often a shared connection that did not take a request is replaced. Of kept ones there is a number; an endpoint that
/// refuses on every new connection would never let go.
const MAX_REPLACED: u32 = 8;

impl Upstream {
    /// One attempt at one endpoint. A kept connection that turns out to be closed is replaced by a fresh one without
    /// anybody noticing, if that cannot do any work twice; and so is, a few times, a shared one that took no further request.
    pub(super) async fn attempt(
        &self,
        sending: &mut Sending<'_>,
        endpoint: EndpointId,
        now: Instant,
    ) -> Result<Box<Connection>, AttemptError> {
        for replaced in 0.. {
            let carried = self.carrier(sending, endpoint, now).await;
            let (mut connection, is_shared) =
                carried.map_err(|(failure, cause)| AttemptError::Failed { failure, sent: false, cause })?;
            prepare_upgrade(sending, &mut connection);
            let reused = sending.exchange.attempt.reused == Some(true);
            if sending.opens {
                return Ok(connection);
            }
            match sending.attempt(&mut connection, self.shared.config.response_timeout()).await {
                Ok(()) => return Ok(connection),
                Err(AttemptError::Failed { failure: Failure::Reset, sent, .. })
                    if reused
                        && (replaced < MAX_REPLACED || !is_shared)
                        && !connection.has_answered()
                        && sending.upload.can_replay()
                        && (!sent || !is_shared && is_idempotent(sending)) =>
                {
                    self.metrics.connections_stale.increment();
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Answers also whether others may be on the connection.
    async fn carrier(
        &self,
        sending: &mut Sending<'_>,
        endpoint: EndpointId,
        now: Instant,
    ) -> Result<(Box<Connection>, bool), Failed> {
        let config = &self.shared.config;
        let lane = &self.lanes[endpoint as usize];
        let made = lane.age();
        let is_http = !sending.opens;
        if is_http
            && config.protocol != UpstreamProtocol::Http2
            && let Some(mut connection) = lane.take(self.keep, now)
        {
            let transport = &mut connection.transport;
            (transport.read_timeout, transport.write_timeout) = (config.read_timeout, config.send_timeout);
            self.metrics.connections_reused.increment();
            sending.exchange.attempt = AttemptFacts { reused: Some(true), ..AttemptFacts::default() };
            return Ok((connection, false));
        }
        // Where nothing is kept, nobody waits for what another opens.
        let is_shared = config.protocol == UpstreamProtocol::Http2 || lane.links.is_in_use();
        if is_http && is_shared && self.keep.capacity > 0 {
            return Box::pin(self.shared_carrier(sending, endpoint)).await;
        }
        Box::pin(self.fresh_carrier(sending, endpoint, made)).await
    }

    /// A connection that is made now.
    async fn fresh_carrier(
        &self,
        sending: &mut Sending<'_>,
        endpoint: EndpointId,
        made: u64,
    ) -> Result<(Box<Connection>, bool), Failed> {
        let lane = &self.lanes[endpoint as usize];
        let Connected { stream, is_http2 } = self.dial(sending, endpoint).await?;
        if is_http2 {
            let link = self.link(lane, stream, made, sending.limits.max_head).await?;
            return self.stream(&link, sending).await.map(|connection| (connection, true));
        }
        Ok((self.own(stream, made), false))
    }

    /// A connection of one request at a time.
    fn own(&self, stream: Stream, made: u64) -> Box<Connection> {
        let config = &self.shared.config;
        let counted = self.metrics.connection_opened();
        Connection::new(stream, config.read_timeout, config.send_timeout, Some(counted), made)
    }

    /// A stream of a connection that requests share, as soon as there is one with room for it.
    async fn shared_carrier(
        &self,
        sending: &mut Sending<'_>,
        endpoint: EndpointId,
    ) -> Result<(Box<Connection>, bool), Failed> {
        let lane = &self.lanes[endpoint as usize];
        let due = Instant::now() + self.shared.config.connect_timeout;
        let due = sending.deadline.map_or(due, |deadline| deadline.min(due));
        loop {
            if let Some(link) = lane.links.take(self.keep) {
                if !link.is_fresh() {
                    self.metrics.connections_reused.increment();
                    sending.exchange.attempt = AttemptFacts { reused: Some(true), ..AttemptFacts::default() };
                }
                return self.stream(&link, sending).await.map(|connection| (connection, true));
            }
            let Some(opening) = lane.links.begin() else {
                sending.exchange.attempt = AttemptFacts { reused: Some(false), ..AttemptFacts::default() };
                let opened = timeout_at(due, lane.links.wait()).await;
                opened.map_err(|elapsed| (Failure::ConnectTimeout, elapsed.into()))?;
                continue;
            };
            let made = lane.age();
            let Connected { stream, is_http2 } = self.dial(sending, endpoint).await?;
            if !is_http2 {
                lane.links.forget();
                return Ok((self.own(stream, made), false));
            }
            let link = self.link(lane, stream, made, sending.limits.max_head).await?;
            // Whoever opened it is on it before those who waited.
            let connection = self.stream(&link, sending).await;
            drop(opening);
            return connection.map(|connection| (connection, true));
        }
    }

    /// Begins HTTP/2 on a connection, and has others use it as well.
    async fn link(&self, lane: &Lane, stream: Stream, made: u64, max_head: usize) -> Result<Rc<Link>, Failed> {
        let is_secure = self.shared.tls.is_some();
        let counted = self.metrics.connection_opened();
        let link = h2::connect(stream, is_secure, max_head, counted, lane.links.settled()).await;
        let link = link.map_err(|cause| (Failure::Reset, cause))?;
        if lane.keeps(made) && self.keep.capacity > 0 {
            lane.links.put(link.clone());
        }
        Ok(link)
    }

    async fn stream(&self, link: &Link, sending: &Sending<'_>) -> Result<Box<Connection>, Failed> {
        let config = &self.shared.config;
        // The place on it is taken before anything is waited for.
        let stream = link.open();
        if sending.upgrade {
            let asked = tokio::time::timeout(config.connect_timeout, link.takes_connect()).await;
            if asked != Ok(true) {
                let cause = io::Error::new(ErrorKind::Unsupported, "it takes no change of protocol over HTTP/2");
                return Err((Failure::Protocol, cause));
            }
        }
        Ok(Connection::new(stream, config.read_timeout, config.send_timeout, None, 0))
    }
}

fn is_idempotent(sending: &Sending<'_>) -> bool {
    MethodKind::of(sending.exchange.request.method()).is_idempotent()
}

/// Gives a client's wish for another protocol what an endpoint of HTTP/1.1 expects to find in it.
fn prepare_upgrade(sending: &mut Sending<'_>, connection: &mut Connection) {
    if sending.upgrade
        && sending.exchange.request.version > Version::Http11
        && connection.transport.stream().message().is_none()
    {
        h2::ensure_key(&mut sending.exchange.request.fields, fastrand::u128(..));
    }
}
