//! What the connections of one worker share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use crate::admission::Admission;
use crate::http::facts::{Exchange, Facts};
use crate::http::idle::Idle;
use crate::http::site::Site;
use crate::net::Peer;
use crate::telemetry::clock::HttpDate;

/// Exchanges kept for reuse, with the memory of their heads.
const SPARE_EXCHANGES: usize = 256;

/// How long a new connection is not closed for others: its request is on its way.
const GRACE: Duration = Duration::from_secs(1);

/// One worker, as its connections see it.
pub(crate) struct Worker {
    pub(crate) admission: Arc<Admission>,
    site: RefCell<Rc<Site>>,
    draining: Cell<bool>,
    date: RefCell<HttpDate>,
    seats: RefCell<Seats>,
    spare: RefCell<Vec<Exchange>>,
}

/// All connections, so that those who wait for a request can be told to leave.
#[derive(Default)]
struct Seats {
    taken: Vec<Option<Taken>>,
    free: Vec<u32>,
    /// Those who wait for another request.
    idle: Idle,
    /// Those who wait for their first one.
    fresh: Idle,
    /// Those who were told to leave, as others need their place.
    leaving: Vec<u32>,
}

struct Taken {
    waker: Waker,
    /// When it came, as long as it has had no request.
    fresh_since: Option<Instant>,
}

impl Seats {
    fn taken(&mut self, number: u32) -> Option<&mut Taken> {
        self.taken.get_mut(number as usize)?.as_mut()
    }

    /// It waits for nothing, and need not leave.
    fn settle(&mut self, number: u32) {
        self.idle.remove(number);
        self.fresh.remove(number);
        self.leaving.retain(|leaving| *leaving != number);
    }
}

/// A connection's place among those to be told; given up when dropped.
pub(crate) struct Seat<'w> {
    worker: &'w Worker,
    number: u32,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut seats = self.worker.seats.borrow_mut();
        seats.settle(self.number);
        seats.taken[self.number as usize] = None;
        seats.free.push(self.number);
    }
}

impl Seat<'_> {
    /// The connection waits for a request from now on.
    pub(crate) fn rest(&self) {
        let mut seats = self.worker.seats.borrow_mut();
        let is_fresh = seats.taken(self.number).is_some_and(|taken| taken.fresh_since.is_some());
        if is_fresh {
            seats.fresh.push(self.number)
        } else {
            seats.idle.push(self.number)
        }
        drop(seats);
        if self.worker.admission.is_crowded() {
            self.worker.make_room();
        }
    }

    /// It has one; even if it was told to leave a moment ago.
    pub(crate) fn wake(&self) {
        let mut seats = self.worker.seats.borrow_mut();
        seats.settle(self.number);
        if let Some(taken) = seats.taken(self.number) {
            taken.fresh_since = None;
        }
    }

    /// Whether a connection that waits for a request is to leave, as others need its place.
    pub(crate) fn is_to_leave(&self) -> bool {
        self.worker.seats.borrow().leaving.contains(&self.number)
    }
}

impl Worker {
    pub(crate) fn new(site: Rc<Site>, admission: Arc<Admission>) -> Rc<Self> {
        Rc::new(Self {
            admission,
            site: RefCell::new(site),
            draining: Cell::new(false),
            date: RefCell::new(HttpDate::new()),
            seats: RefCell::default(),
            spare: RefCell::default(),
        })
    }

    /// What is served now. An exchange holds on to what it began with.
    pub(crate) fn site(&self) -> Rc<Site> {
        self.site.borrow().clone()
    }

    /// Has another site be served to requests that come from now on.
    pub(crate) fn turn(&self, site: Rc<Site>) {
        self.site.replace(site);
    }

    /// The time for a `date` field, as of the latest [`tick`](Self::tick).
    pub(crate) fn date(&self) -> [u8; 29] {
        *self.date.borrow().latest()
    }

    /// Looks at the clock. Called a few times a second, so that not every response has to.
    pub(crate) fn tick(&self) {
        self.date.borrow_mut().now();
    }

    /// Whether connections end after the exchange they are in.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Has every connection end after the exchange it is in, and wakes those who wait for one.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        for taken in self.seats.borrow().taken.iter().flatten() {
            taken.waker.wake_by_ref();
        }
    }

    /// Has the connection leave that has waited for a request for longest, if there is one.
    pub(crate) fn make_room(&self) {
        let mut seats = self.seats.borrow_mut();
        let Some(oldest) = seats.idle.oldest().or(seats.fresh.oldest()) else { return };
        let since = seats.taken(oldest).and_then(|taken| taken.fresh_since);
        if since.is_some_and(|since| since.elapsed() < GRACE) {
            return;
        }
        seats.settle(oldest);
        seats.leaving.push(oldest);
        if let Some(taken) = seats.taken(oldest) {
            taken.waker.wake_by_ref();
        }
    }

    /// Connections open now.
    pub(crate) fn connections(&self) -> usize {
        let seats = self.seats.borrow();
        seats.taken.len() - seats.free.len()
    }

    pub(crate) fn sit(&self, waker: Waker) -> Seat<'_> {
        let mut seats = self.seats.borrow_mut();
        let taken = Some(Taken { waker, fresh_since: Some(Instant::now()) });
        let number = match seats.free.pop() {
            Some(number) => {
                seats.taken[number as usize] = taken;
                number
            }
            None => {
                seats.taken.push(taken);
                seats.taken.len() as u32 - 1
            }
        };
        Seat { worker: self, number }
    }

    /// Facts for a new exchange. Who takes them says when it [started](Facts::started).
    pub(crate) fn take_exchange(&self, peer: &Peer) -> Exchange {
        let (client, secure) = (peer.ip(), peer.security.is_some());
        let mut exchange = match self.spare.borrow_mut().pop() {
            Some(mut exchange) => {
                exchange.reset(client, secure);
                exchange
            }
            None => Exchange::new(Facts::new(client, secure)),
        };
        exchange.security.clone_from(&peer.security);
        exchange.demands.clone_from(&peer.demands);
        (exchange.source, exchange.destination) = (peer.address, peer.destination);
        exchange
    }

    pub(crate) fn give_exchange(&self, exchange: Exchange) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_EXCHANGES {
            spare.push(exchange);
        }
    }
}
