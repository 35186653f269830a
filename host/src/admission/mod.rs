//! What this process takes on at all: connections in total and of one client, and memory.
//!
//! # Why do connections wait, and are not closed?
//!
//! Above `max_connections` nothing more is accepted, as in HAProxy: what comes waits in the kernel's queue, which is
//! bounded, costs this process nothing and outlasts a short burst without anybody noticing. Closing at once would make
//! each of those clients come back at once. So that clients who hold connections and ask nothing do not keep the others
//! out, the connection that has been idle for longest is closed for one that waits (nginx's reusable connections).
//!
//! A client above its own limit is closed at once, as it must not keep others waiting.

mod client;
mod descriptors;
mod keyed;
mod memory;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::config;
use crate::telemetry::exposition::{Exposition, Kind};
use crate::telemetry::seldom::Seldom;

pub(crate) use keyed::{InFlight as KeyedInFlight, Keyed};
pub(crate) use memory::{INTERVAL as MEMORY_INTERVAL, Memory};

use client::{Client, Clients};

/// What the workers of one process let in together. Outlives configurations.
#[derive(Debug)]
pub(crate) struct Admission {
    /// File descriptors this process may have.
    descriptors: Option<u64>,
    max: AtomicUsize,
    open: AtomicUsize,
    /// Those who wait for a place.
    waiting: AtomicUsize,
    room: Notify,
    clients: Clients,
    pub(crate) memory: Memory,
    /// Turns for TLS handshakes, and how many there are.
    handshakes: Mutex<(usize, Arc<Semaphore>)>,
    refused: AtomicU64,
    told: [Seldom; 2],
}

/// A connection's place, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    client: Option<ClientPlace>,
}

impl Place {
    /// Counts a connection in for its client, whose address is known only now.
    ///
    /// # Errors
    /// When the client has as many as it may.
    pub(crate) fn belongs_to(&mut self, address: IpAddr) -> Result<(), TooMany> {
        self.client = Some(self.admission.enter_client(Client::of(address))?);
        Ok(())
    }
}

/// A connection counted in for its client, until this is dropped.
#[derive(Debug)]
struct ClientPlace {
    admission: Arc<Admission>,
    client: Client,
}

/// One more that waits, until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

/// The client has as many connections as it may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// How often who waits looks for connections that are idle.
const LOOK: Duration = Duration::from_millis(100);
/// Descriptors that are left for listeners, logs, plugins and the admin server.
const RESERVED: u64 = 256;

impl Admission {
    /// Has this process take as many file descriptors as the system allows.
    pub(crate) fn new(config: &config::Server) -> Arc<Self> {
        let descriptors = descriptors::raise();
        let admission = Self {
            descriptors,
            max: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            room: Notify::new(),
            clients: Clients::default(),
            memory: Memory::default(),
            handshakes: Mutex::new((0, Arc::new(Semaphore::new(0)))),
            refused: AtomicU64::new(0),
            told: Default::default(),
        };
        admission.set_limits(config);
        Arc::new(admission)
    }

    /// Other limits from now on. No connection is closed for it.
    pub(crate) fn set_limits(&self, config: &config::Server) {
        let max = config.max_connections.unwrap_or_else(|| default_max(self.descriptors));
        self.max.store(max, Relaxed);
        self.clients.set_max(config.max_connections_per_client);
        self.memory.set_limit(config.memory_limit);
        let mut handshakes = self.handshakes.lock();
        if handshakes.0 != config.max_handshakes {
            // Who waits for the old ones gets one of them; those are not counted against the new.
            let turns = Semaphore::new(config.max_handshakes.min(Semaphore::MAX_PERMITS));
            *handshakes = (config.max_handshakes, Arc::new(turns));
        }
        drop(handshakes);
        self.room.notify_waiters();
    }

    /// Gives a connection a place, once there is one. `make_room` is called when there is none.
    ///
    /// # Errors
    /// When its client has as many as it may.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        make_room: impl Fn(),
    ) -> Result<Place, TooMany> {
        let client = match address {
            None => None,
            Some(address) => Some(self.enter_client(Client::of(address))?),
        };
        if !self.try_enter() {
            self.wait(make_room).await;
        }
        Ok(Place { admission: self.clone(), client })
    }

    /// Waits for the turn of a TLS handshake, which lasts until what is answered is dropped.
    pub(crate) async fn handshake(&self) -> Option<OwnedSemaphorePermit> {
        let turns = self.handshakes.lock().1.clone();
        // Nobody closes it.
        turns.acquire_owned().await.ok()
    }

    fn enter_client(self: &Arc<Self>, client: Client) -> Result<ClientPlace, TooMany> {
        if self.clients.enter(client) {
            return Ok(ClientPlace { admission: self.clone(), client });
        }
        self.refused.fetch_add(1, Relaxed);
        if let Some(others) = self.told[0].pass(Instant::now()) {
            warn!(target: TARGET, %client, others, "closed a connection: its client has max_connections_per_client");
        }
        Err(TooMany)
    }

    /// Waits until it has entered.
    async fn wait(&self, make_room: impl Fn()) {
        let _waiting = Waiting::of(&self.waiting);
        if let Some(others) = self.told[1].pass(Instant::now()) {
            let (connections, short_of_memory) = (self.open(), self.memory.is_short());
            warn!(target: TARGET, connections, short_of_memory, others, "connections wait to be accepted");
        }
        loop {
            let mut room = pin!(self.room.notified());
            // Who leaves from now on is heard.
            room.as_mut().enable();
            if self.try_enter() {
                return;
            }
            if !self.memory.is_short() {
                make_room();
            }
            // A connection that has just come may be idle for long enough the next time.
            let _ = timeout(LOOK, room).await;
        }
    }

    /// Gives a connection a place even if there is none: for those who have connected already when a listener closes.
    pub(crate) fn enter_anyway(self: &Arc<Self>) -> Place {
        self.open.fetch_add(1, SeqCst);
        Place { admission: self.clone(), client: None }
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Whether others wait for the places of those who are idle.
    pub(crate) fn is_crowded(&self) -> bool {
        self.waiting.load(Relaxed) > 0 && !self.memory.is_short()
    }

    /// Has those who wait look again.
    pub(crate) fn wake(&self) {
        self.room.notify_waiters();
    }

    pub(crate) fn write_metrics(&self, out: &mut Exposition) {
        out.family("staunch_listener_connections_max", Kind::Gauge, "Connections from clients that may be open.");
        out.sample(&[], self.max.load(Relaxed));
        out.family("staunch_listener_connections_waiting", Kind::Gauge, "Listeners that wait until they may accept.");
        out.sample(&[], self.waiting.load(Relaxed));
        let help = "Connections closed because their client had max_connections_per_client.";
        out.family("staunch_listener_connections_refused_total", Kind::Counter, help);
        out.sample(&[], self.refused.load(Relaxed));
        self.memory.write_metrics(out);
    }

    fn try_enter(&self) -> bool {
        let max = self.max.load(Relaxed);
        !self.memory.is_short()
            && self.open.fetch_update(SeqCst, Relaxed, |open| (open < max).then_some(open + 1)).is_ok()
    }
}

const TARGET: &str = "staunch::admission";

/// Each connection of a client may need one to an endpoint.
fn default_max(descriptors: Option<u64>) -> usize {
    let max = descriptors.map(|descriptors| (descriptors.saturating_sub(RESERVED) / 2).max(64));
    max.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX)
}

impl Drop for Place {
    fn drop(&mut self) {
        let admission = &*self.admission;
        admission.open.fetch_sub(1, SeqCst);
        // Who waits is counted before it looks for a place: one of both sees the other.
        if admission.waiting.load(SeqCst) > 0 {
            admission.room.notify_one();
        }
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.admission.clients.leave(self.client);
    }
}

impl<'a> Waiting<'a> {
    fn of(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn admission(max: usize, per_client: Option<u32>) -> Arc<Admission> {
        Admission::new(&config::Server {
            max_connections: Some(max),
            max_connections_per_client: per_client,
            ..config::Server::default()
        })
    }

    #[test]
    fn half_the_descriptors_are_for_clients() {
        assert_eq!(default_max(Some(20_256)), 10_000);
        assert_eq!(default_max(Some(100)), 64);
        assert_eq!(default_max(None), usize::MAX);
    }

    #[tokio::test]
    async fn who_finds_no_place_waits_for_one() {
        let admission = admission(1, None);
        let mut cx = Context::from_waker(Waker::noop());
        let made = Cell::new(0);
        let mut first = Box::pin(admission.enter(None, || made.set(made.get() + 1)));
        let Poll::Ready(Ok(place)) = first.as_mut().poll(&mut cx) else { panic!("there is a place") };
        let mut second = Box::pin(admission.enter(None, || made.set(made.get() + 1)));

        assert!(second.as_mut().poll(&mut cx).is_pending());
        assert_eq!((made.get(), admission.open()), (1, 1));
        drop(place);

        let Poll::Ready(Ok(_place)) = second.as_mut().poll(&mut cx) else { panic!("there is a place") };
        assert_eq!((admission.open(), admission.waiting.load(SeqCst)), (1, 0));
    }

    #[tokio::test]
    async fn handshakes_take_turns() {
        let admission = Admission::new(&config::Server { max_handshakes: 1, ..config::Server::default() });
        let mut cx = Context::from_waker(Waker::noop());
        let first = admission.handshake().await;
        let mut second = Box::pin(admission.handshake());
        assert!(second.as_mut().poll(&mut cx).is_pending());

        drop(first);

        assert!(second.as_mut().poll(&mut cx).is_ready());
        admission.set_limits(&config::Server { max_handshakes: 2, ..config::Server::default() });
        let _two = [admission.handshake().await, admission.handshake().await];
        assert!(Box::pin(admission.handshake()).as_mut().poll(&mut cx).is_pending());
    }

    #[test]
    fn a_client_with_too_many_is_refused_and_others_are_not() {
        let admission = admission(9, Some(1));
        let mut cx = Context::from_waker(Waker::noop());
        let mut enter = |address: &str| {
            let mut entering = Box::pin(admission.enter(address.parse().ok(), || ()));
            let Poll::Ready(entered) = entering.as_mut().poll(&mut cx) else { panic!("there are places") };
            entered
        };

        let place = enter("192.0.2.1").expect("its first");

        assert_eq!(enter("192.0.2.1").err(), Some(TooMany));
        assert!(enter("192.0.2.2").is_ok());
        drop(place);
        assert!(enter("192.0.2.1").is_ok());
        assert_eq!(admission.open(), 0);
    }

    #[tokio::test]
    async fn one_who_gives_up_waiting_leaves_nothing_behind() {
        let admission = admission(0, Some(1));
        let mut cx = Context::from_waker(Waker::noop());
        let address = "192.0.2.1".parse().ok();

        for _ in 0..2 {
            assert!(Box::pin(admission.enter(address, || ())).as_mut().poll(&mut cx).is_pending());
        }

        assert_eq!((admission.open(), admission.waiting.load(SeqCst)), (0, 0));
    }
}
