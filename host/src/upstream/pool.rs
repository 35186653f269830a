//! Open connections to the endpoints of one upstream, kept for reuse on one worker.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::Instant;

use crate::net::{Stream, Transport};
use crate::upstream::endpoint::EndpointId;

/// A connection to an endpoint.
pub(crate) struct Connection {
    pub(crate) transport: Transport,
    /// Exchanges it has carried before the current one.
    exchanges: u64,
    /// Bytes received before the current exchange.
    read_before: u64,
}

impl Connection {
    pub(crate) fn new(stream: Stream, read_timeout: Duration, send_timeout: Duration) -> Self {
        Self { transport: Transport::new(stream, read_timeout, send_timeout), exchanges: 0, read_before: 0 }
    }

    /// Whether anything came in the current exchange.
    pub(crate) fn has_answered(&self) -> bool {
        self.transport.bytes_read > self.read_before
    }
}

/// Idle connections by endpoint, the latest used on top.
pub(crate) struct Pool {
    idle: RefCell<Vec<Vec<Idle>>>,
    /// Connections kept for each endpoint.
    capacity: usize,
    timeout: Duration,
    max_exchanges: u64,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(endpoints: usize, capacity: usize, timeout: Duration, max_exchanges: u64) -> Self {
        let idle = RefCell::new((0..endpoints).map(|_| Vec::new()).collect());
        Self { idle, capacity, timeout, max_exchanges }
    }

    /// The connection used last, unless it has been idle too long or is not silent any more.
    pub(crate) fn take(&self, endpoint: EndpointId, now: Instant) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let stack = idle.get_mut(endpoint as usize)?;
        while let Some(mut candidate) = stack.pop() {
            if now.saturating_duration_since(candidate.since) >= self.timeout {
                stack.clear();
            } else if candidate.connection.transport.is_quiet() {
                return Some(candidate.connection);
            }
        }
        None
    }

    /// Keeps a connection whose exchange is over, unless it is old or there are enough. The one idle for longest
    /// makes room.
    pub(crate) fn put(&self, endpoint: EndpointId, mut connection: Connection, now: Instant) {
        connection.exchanges += 1;
        connection.read_before = connection.transport.bytes_read;
        if connection.exchanges >= self.max_exchanges || self.capacity == 0 {
            return;
        }
        connection.transport.rest();
        let mut idle = self.idle.borrow_mut();
        let Some(stack) = idle.get_mut(endpoint as usize) else { return };
        if stack.len() == self.capacity {
            stack.remove(0);
        }
        stack.push(Idle { connection, since: now });
    }

    /// Closes what has been idle too long and what the endpoints have closed.
    pub(crate) fn sweep(&self, now: Instant) {
        for stack in self.idle.borrow_mut().iter_mut() {
            stack.retain_mut(|idle| {
                now.saturating_duration_since(idle.since) < self.timeout && idle.connection.transport.is_quiet()
            });
        }
    }
}
