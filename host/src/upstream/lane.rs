//! One endpoint as one worker uses it: what is in flight to it, and its idle connections.
//!
//! A lane belongs to an address within an upstream's name and outlives configurations: what a new one leaves as it
//! was keeps its connections and its counts, and a request that began under an old one is counted out where it is
//! counted now.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::net::{Stream, Transport};
use crate::telemetry::metrics::OpenUpstreamConnection;
use crate::upstream::endpoint::{EndpointId, Loads};
use crate::upstream::health::{EndpointState, Entered};
use crate::upstream::links::Links;
use crate::upstream::passive::window::Ticket;

/// A connection to an endpoint. It is handed from one place to another several times for each request, and so is always boxed.
pub(crate) struct Connection {
    pub(crate) transport: Transport,
    /// Exchanges it has carried before the current one.
    exchanges: u64,
    /// Bytes received before the current exchange.
    read_before: u64,
    /// The [`Lane::age`] it was made at.
    made: u64,
    /// By what it is counted as open; a stream of a shared connection is not counted by itself.
    _counted: Option<OpenUpstreamConnection>,
}

impl Connection {
    /// `counted`: by what it is counted as open. `made`: the age of its lane when that began to connect.
    pub(crate) fn new(
        stream: Stream,
        read_timeout: Duration,
        send_timeout: Duration,
        counted: Option<OpenUpstreamConnection>,
        made: u64,
    ) -> Box<Self> {
        let transport = Transport::new(stream, read_timeout, send_timeout);
        Box::new(Self { transport, exchanges: 0, read_before: 0, made, _counted: counted })
    }

    /// Whether anything came in the current exchange.
    pub(crate) fn has_answered(&self) -> bool {
        self.transport.bytes_read > self.read_before
    }
}

/// Which idle connections are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    pub(crate) capacity: usize,
    pub(crate) timeout: Duration,
    pub(crate) max_exchanges: u64,
}

pub(crate) struct Lane {
    pub(crate) address: Arc<str>,
    pub(crate) state: Arc<EndpointState>,
    worker: usize,
    active: Cell<u32>,
    /// Where it is counted for balancers and operators.
    counted: RefCell<(Arc<Loads>, EndpointId)>,
    /// Whether connections are kept when they are idle.
    keeps: Cell<bool>,
    retired: Cell<bool>,
    /// How often all its connections were given up: older ones are not kept any more.
    age: Cell<u64>,
    /// The latest used on top.
    idle: RefCell<Vec<Idle>>,
    /// Connections that requests share.
    pub(super) links: Links,
}

struct Idle {
    /// Until it is taken.
    connection: Option<Box<Connection>>,
    since: Instant,
}

/// An endpoint hears that an idle connection ends, where it wants to.
impl Drop for Idle {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.transport.part();
        }
    }
}

impl Idle {
    fn is_quiet(&mut self) -> bool {
        self.connection.as_mut().is_some_and(|connection| connection.transport.is_quiet())
    }
}

/// One request counted in at an endpoint, until this is dropped.
pub(crate) struct InFlight {
    lane: Rc<Lane>,
    /// Whether it takes one of the endpoint's places.
    placed: bool,
    /// What its outcome belongs to, until that has been told.
    ticket: Cell<Option<Ticket>>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let lane = &*self.lane;
        lane.active.set(lane.active.get() - 1);
        let (loads, id) = &*lane.counted.borrow();
        loads.leave(lane.worker, *id);
        if let Some(ticket) = self.ticket.take() {
            lane.state.abandoned(ticket);
        }
        if self.placed {
            lane.state.leave();
        }
    }
}

impl Lane {
    /// A lane of an endpoint that `worker` has not used before.
    pub(crate) fn new(
        address: &str,
        state: Arc<EndpointState>,
        worker: usize,
        loads: Arc<Loads>,
        id: EndpointId,
    ) -> Rc<Self> {
        Rc::new(Self {
            // A copy of its own, so that exchanges on several workers do not count references on one cache line.
            address: Arc::from(address),
            state,
            worker,
            active: Cell::new(0),
            counted: RefCell::new((loads, id)),
            keeps: Cell::new(true),
            retired: Cell::new(false),
            age: Cell::new(0),
            idle: RefCell::default(),
            links: Links::default(),
        })
    }

    /// Has it counted elsewhere from now on: in the tables of another configuration.
    pub(crate) fn follow(&self, loads: Arc<Loads>, id: EndpointId) {
        let mut counted = self.counted.borrow_mut();
        let latency = counted.0.own_latency(self.worker, counted.1);
        loads.set(self.worker, id, self.active.get(), latency);
        *counted = (loads, id);
    }

    /// Counts a request in that may go there.
    pub(crate) fn enter(self: &Rc<Self>, entered: Entered) -> InFlight {
        self.active.set(self.active.get() + 1);
        let (loads, id) = &*self.counted.borrow();
        loads.enter(self.worker, *id);
        let Entered { placed, ticket } = entered;
        InFlight { lane: self.clone(), placed, ticket: Cell::new(ticket) }
    }

    /// The connection used last, unless it has been idle too long or is not silent any more.
    pub(crate) fn take(&self, keep: Keep, now: Instant) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        if keep.capacity == 0 {
            // Those of an earlier configuration may begin otherwise.
            idle.clear();
        }
        while let Some(mut candidate) = idle.pop() {
            if now.saturating_duration_since(candidate.since) >= keep.timeout {
                idle.clear();
            } else if candidate.is_quiet() {
                return candidate.connection.take();
            }
        }
        None
    }

    /// Keeps a connection whose exchange is over, unless it is old or there are enough. The one idle for longest
    /// makes room.
    pub(crate) fn put(&self, mut connection: Box<Connection>, keep: Keep, now: Instant) {
        connection.exchanges += 1;
        connection.read_before = connection.transport.bytes_read;
        if connection.exchanges >= keep.max_exchanges || keep.capacity == 0 || !self.keeps(connection.made) {
            return;
        }
        connection.transport.rest();
        let mut idle = self.idle.borrow_mut();
        while idle.len() >= keep.capacity {
            idle.remove(0);
        }
        idle.push(Idle { connection: Some(connection), since: now });
    }

    /// Closes what has been idle too long and what the endpoint has closed.
    pub(crate) fn sweep(&self, keep: Keep, now: Instant) {
        self.idle
            .borrow_mut()
            .retain_mut(|idle| now.saturating_duration_since(idle.since) < keep.timeout && idle.is_quiet());
        self.links.sweep(keep, now);
    }

    /// Whether connections are kept that become idle. If not, those that are idle are closed.
    pub(crate) fn keep_idle(&self, keeps: bool) {
        self.keeps.set(keeps);
        if !keeps {
            self.clear();
        }
    }

    /// By what connections are known to be made as they would be made now.
    pub(crate) fn age(&self) -> u64 {
        self.age.get()
    }

    /// Closes all idle connections, and those that are in use once they are not.
    pub(crate) fn renew(&self) {
        self.age.set(self.age.get() + 1);
        self.clear();
    }

    /// Closes all idle connections.
    pub(crate) fn clear(&self) {
        self.idle.borrow_mut().clear();
        self.links.clear();
    }

    /// Whether a connection that was made at this age is kept.
    pub(super) fn keeps(&self, made: u64) -> bool {
        self.keeps.get() && !self.retired.get() && made == self.age.get()
    }
}

/// The idle connections to endpoints that are gone.
pub(crate) struct Leftover(Vec<Rc<Lane>>);

impl Leftover {
    /// From now on no connection of these lanes is kept that becomes idle.
    pub(crate) fn of(lanes: Vec<Rc<Lane>>) -> Self {
        lanes.iter().for_each(|lane| lane.retired.set(true));
        Self(lanes)
    }

    /// Closes them, one endpoint's at a time: to close a thousand takes milliseconds, for which nobody else should wait.
    pub(crate) async fn close(self) {
        for lane in self.0 {
            lane.clear();
            tokio::task::yield_now().await;
        }
    }
}

impl InFlight {
    pub(crate) fn lane(&self) -> &Rc<Lane> {
        &self.lane
    }

    /// What its outcome belongs to. Asked when that is told.
    pub(crate) fn take_ticket(&self) -> Option<Ticket> {
        self.ticket.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Entered = Entered { placed: false, ticket: None };

    #[tokio::test]
    async fn others_have_their_turn_between_the_lanes_that_are_closed() {
        let lane = |id| Lane::new("a", Arc::default(), 0, Arc::new(Loads::new(1, 3)), id);
        let lanes: Vec<_> = (0..3).map(lane).collect();
        let mut closing = std::pin::pin!(Leftover::of(lanes.clone()).close());
        assert!(lanes.iter().all(|lane| !lane.keeps(0)), "none keeps what becomes idle");

        let mut turns = 1;
        while std::future::poll_fn(|cx| std::task::Poll::Ready(closing.as_mut().poll(cx))).await.is_pending() {
            turns += 1;
        }

        assert_eq!(turns, 4);
    }

    #[test]
    fn a_request_is_counted_out_where_it_is_counted_now() {
        let old = Arc::new(Loads::new(1, 2));
        let lane = Lane::new("a", Arc::default(), 0, old.clone(), 1);
        let early = lane.enter(FREE);
        assert_eq!(old.active(1), 1);

        let new = Arc::new(Loads::new(1, 1));
        lane.follow(new.clone(), 0);
        let late = lane.enter(FREE);
        assert_eq!(new.active(0), 2);
        drop(early);

        assert_eq!(new.active(0), 1);
        drop(late);
        assert_eq!(new.active(0), 0);
    }
}
