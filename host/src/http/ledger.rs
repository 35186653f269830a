//! Counts and logs finished exchanges. An exchange that outlives what it was served by is entered here all the same.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::http::error::ExchangeError;
use crate::http::facts::Exchange;
use crate::http::grpc;
use crate::telemetry::access_log::{AccessLogger, Record, Relayed};
use crate::telemetry::metrics::{RouteMetrics, WorkerMetrics};

pub(crate) struct Ledger {
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) access_log: Option<Rc<RefCell<AccessLogger>>>,
}

impl Ledger {
    /// Enters a finished connection, or session of datagrams, of which nothing was understood. `version`: what it was.
    /// `bytes`: from the client, and to it.
    pub(crate) fn enter_relay(
        &self,
        version: &'static str,
        listener: &str,
        server_name: Option<&str>,
        exchange: &Exchange,
        [bytes_received, bytes_sent]: [u64; 2],
        error: Option<&'static str>,
    ) {
        let Some(log) = &self.access_log else { return };
        log.borrow_mut().log(&Relayed {
            time: SystemTime::now(),
            client: exchange.client,
            version,
            listener,
            server_name,
            status: exchange.response.status,
            bytes_sent,
            bytes_received,
            duration: exchange.started.elapsed(),
            upstream: &exchange.upstream,
            endpoint: &exchange.endpoint,
            attempts: u32::try_from(exchange.attempts()).unwrap_or(u32::MAX),
            queue_time: exchange.queued,
            connect_time: exchange.attempt.connect_time,
            error,
        });
    }

    /// Enters a finished exchange. `route`: where its requests are counted, if it met one. The bytes are those of the
    /// bodies.
    pub(crate) fn enter(
        &self,
        route: Option<&RouteMetrics>,
        exchange: &Exchange,
        received: u64,
        sent: u64,
        error: Option<&ExchangeError>,
    ) {
        let duration = exchange.ended.unwrap_or_else(Instant::now).saturating_duration_since(exchange.started);
        let status = exchange.response.status;
        let failed_call = exchange.grpc_status.is_some_and(|code| grpc::as_http(code) >= 500);
        let broken = failed_call || error.is_some_and(ExchangeError::is_upstreams);
        route.unwrap_or(&self.metrics.unrouted).finished(status, duration, received, sent, broken);
        if let Some(timeout) = error.and_then(ExchangeError::timeout) {
            self.metrics.timed_out(timeout);
        }
        let Some(log) = &self.access_log else { return };
        let request = &exchange.request;
        log.borrow_mut().log(&Record {
            time: SystemTime::now(),
            client: exchange.client,
            method: request.received_method(),
            host: request.host(),
            target: request.received_path_and_query(),
            version: request.version,
            status,
            grpc_status: exchange.grpc_status,
            bytes_sent: sent,
            bytes_received: received,
            duration,
            route: &exchange.route,
            upstream: &exchange.upstream,
            endpoint: &exchange.endpoint,
            attempts: u32::try_from(exchange.attempts()).unwrap_or(u32::MAX),
            fallback: exchange.fallback.map(|(why, _)| why),
            fallback_to: exchange.fallback.map(|(_, to)| to),
            reused: exchange.attempt.reused,
            queue_time: exchange.queued,
            connect_time: exchange.attempt.connect_time,
            response_time: exchange.attempt.response_time,
            request_id: exchange.known_id(),
            referer: request.fields.get(b"referer"),
            user_agent: request.fields.get(b"user-agent"),
            error: error.map(ExchangeError::name),
        });
    }
}
