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

/// The wakers of all connections, so that those who wait for a request can be told to leave.
#[derive(Default)]
struct Seats {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
    /// Those who wait for another request.
    idle: Idle,
    /// Those who wait for their first one, with when they came.
    fresh: Idle,
    since: Vec<Option<Instant>>,
    /// Those who were told to leave, as others need their place.
    leaving: Vec<usize>,
}

/// A connection's place among those to be told; given up when dropped.
pub(crate) struct Seat<'w> {
    worker: &'w Worker,
    number: usize,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut seats = self.worker.seats.borrow_mut();
        seats.wakers[self.number] = None;
        seats.idle.remove(self.number);
        seats.fresh.remove(self.number);
        seats.leaving.retain(|leaving| *leaving != self.number);
        seats.free.push(self.number);
    }
}

impl Seat<'_> {
    /// The connection waits for a request from now on.
    pub(crate) fn rest(&self) {
        let mut seats = self.worker.seats.borrow_mut();
        match seats.since[self.number] {
            Some(_) => seats.fresh.push(self.number),
            None => seats.idle.push(self.number),
        }
        drop(seats);
        if self.worker.admission.is_crowded() {
            self.worker.make_room();
        }
    }

    /// It has one.
    pub(crate) fn wake(&self) {
        let mut seats = self.worker.seats.borrow_mut();
        match seats.since[self.number].take() {
            Some(_) => seats.fresh.remove(self.number),
            None => seats.idle.remove(self.number),
        }
        // It was a moment faster.
        seats.leaving.retain(|leaving| *leaving != self.number);
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

    /// The time for a `date` field.
    pub(crate) fn date(&self) -> [u8; 29] {
        *self.date.borrow_mut().now()
    }

    /// Whether connections end after the exchange they are in.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Has every connection end after the exchange it is in, and wakes those who wait for one.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        for waker in self.seats.borrow().wakers.iter().flatten() {
            waker.wake_by_ref();
        }
    }

    /// Has the connection leave that has waited for a request for longest, if there is one.
    pub(crate) fn make_room(&self) {
        let mut seats = self.seats.borrow_mut();
        let is_due = |number: &usize| seats.since[*number].is_none_or(|since| since.elapsed() >= GRACE);
        let fresh = seats.fresh.oldest().filter(is_due);
        let oldest = seats.idle.pop().or(fresh);
        if let Some(oldest) = oldest {
            seats.fresh.remove(oldest);
            seats.leaving.push(oldest);
            if let Some(waker) = &seats.wakers[oldest] {
                waker.wake_by_ref();
            }
        }
    }

    /// Connections open now.
    pub(crate) fn connections(&self) -> usize {
        let seats = self.seats.borrow();
        seats.wakers.len() - seats.free.len()
    }

    pub(crate) fn sit(&self, waker: Waker) -> Seat<'_> {
        let mut seats = self.seats.borrow_mut();
        let number = match seats.free.pop() {
            Some(number) => number,
            None => {
                seats.wakers.push(None);
                seats.since.push(None);
                seats.wakers.len() - 1
            }
        };
        seats.wakers[number] = Some(waker);
        seats.since[number] = Some(Instant::now());
        Seat { worker: self, number }
    }

    /// Facts for a new exchange.
    pub(crate) fn take_exchange(&self, peer: Peer) -> Exchange {
        let client = match peer {
            Peer::Ip(address) => Some(address),
            Peer::Unix => None,
        };
        match self.spare.borrow_mut().pop() {
            Some(mut exchange) => {
                exchange.reset(client, false);
                exchange
            }
            None => Exchange::new(Facts::new(client, false)),
        }
    }

    pub(crate) fn give_exchange(&self, exchange: Exchange) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_EXCHANGES {
            spare.push(exchange);
        }
    }
}
