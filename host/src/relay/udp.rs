//! A client's datagrams go to an endpoint, and the endpoint's back to the client.
//!
//! # What is a session?
//!
//! UDP has no connections, so one is made up: what comes from one address and port belongs together for as long as there is
//! some of it, or until as many answers came as were expected. A session has one endpoint and a socket of its own, so that
//! what comes back is known to belong to it, and the system tells when nobody listens there.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::config;
use crate::http::error::ExchangeError;
use crate::http::idle::Idle;
use crate::http::worker::Worker;
use crate::net::Peer;
use crate::telemetry::relays::RelayMetrics;
use crate::telemetry::seldom::Seldom;
use crate::upstream::{Datagrams, Upstream};

/// Bytes of the longest datagram.
const LONGEST: usize = 65_536;
/// Datagrams that are taken before others on the worker have their turn, and before a listener closes.
const TURN: usize = 64;
const LAST_TAKEN: usize = 1024;
/// Datagrams of a session that wait for its socket, for a moment.
const WAITING: usize = 16;
/// How long to wait after a failure for want of memory.
const BACK_OFF: Duration = Duration::from_millis(100);

/// What the access log says when the system was told that nobody listens at an endpoint.
const REFUSED: &str = "upstream_refused";

static TOLD: Seldom = Seldom::new();

/// One listener's way to an upstream, on one worker.
pub(crate) struct Relay {
    listener: Arc<str>,
    upstream: Rc<Upstream>,
    metrics: Arc<RelayMetrics>,
    idle_timeout: Duration,
    responses: Option<u32>,
    max_sessions: usize,
}

/// What the sessions of one socket share.
struct Sessions {
    socket: UdpSocket,
    worker: Rc<Worker>,
    tasks: TaskTracker,
    stop: CancellationToken,
    table: RefCell<Table>,
    /// For whoever receives next.
    space: RefCell<Box<[u8]>>,
}

#[derive(Default)]
struct Table {
    by_client: HashMap<SocketAddr, Rc<Session>>,
    by_number: Vec<Option<Rc<Session>>>,
    free: Vec<u32>,
    idle: Idle,
}

struct Session {
    client: SocketAddr,
    number: u32,
    relay: Rc<Relay>,
    to: RefCell<Option<Rc<UdpSocket>>>,
    waiting: RefCell<VecDeque<Vec<u8>>>,
    /// When something passed last.
    last: Cell<Instant>,
    /// Answers that are to come, where that is known.
    owed: Cell<u64>,
    /// Whether the client has said something since the last answer.
    asks: Cell<bool>,
    bytes: Cell<[u64; 2]>,
    /// What was sent and not answered yet, as long as nothing was answered at all and it is little.
    unheard: RefCell<Vec<Vec<u8>>>,
    is_heard: Cell<bool>,
    /// Why the endpoint cannot be sent anything.
    broken: RefCell<Option<io::Error>>,
    /// Says that there is no reason to wait any more.
    end: Notify,
    ends: Cell<bool>,
}

/// A session's place in the table, until this is dropped.
struct Entry {
    sessions: Rc<Sessions>,
    session: Rc<Session>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.sessions.table.borrow_mut().remove(&self.session);
    }
}

impl Relay {
    /// `workers`: among which the sessions are shared out.
    pub(crate) fn new(
        listener: Arc<str>,
        config: &config::UdpRelay,
        workers: usize,
        way: impl Fn(usize) -> (Rc<Upstream>, Arc<RelayMetrics>),
    ) -> Rc<Self> {
        let (upstream, metrics) = way(config.upstream);
        let max_sessions = (config.max_sessions as usize / workers.max(1)).max(1);
        let config::UdpRelay { idle_timeout, responses, .. } = *config;
        Rc::new(Self { listener, upstream, metrics, idle_timeout, responses, max_sessions })
    }
}

/// Receives until `stop`, then takes what has come already, unless another process does so. `relay`: the way that new
/// sessions have. Sessions are `tasks`; those that wait for an answer then go on until it has come.
pub(crate) async fn run(
    socket: UdpSocket,
    worker: Rc<Worker>,
    tasks: TaskTracker,
    stop: CancellationToken,
    relay: impl Fn() -> Option<Rc<Relay>>,
    is_handed_over: impl Fn() -> bool,
) {
    let sessions = Rc::new(Sessions {
        socket,
        worker,
        tasks,
        stop: stop.clone(),
        table: RefCell::default(),
        space: RefCell::new(vec![0; LONGEST].into()),
    });
    loop {
        let ready = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            ready = sessions.socket.readable() => ready,
        };
        let taken = match ready {
            Ok(()) => sessions.take(TURN, &relay),
            Err(error) => Err(error),
        };
        if let Err(error) = taken {
            tracing::error!(%error, "could not receive a datagram");
            sleep(BACK_OFF).await;
        }
        tokio::task::yield_now().await;
    }
    if !is_handed_over() {
        // What fails now could not be told to anybody.
        let _ = sessions.take(LAST_TAKEN, &relay);
    }
}

impl Sessions {
    /// Takes what has come, so many datagrams at most.
    fn take(self: &Rc<Self>, most: usize, relay: &impl Fn() -> Option<Rc<Relay>>) -> io::Result<()> {
        for _ in 0..most {
            let mut space = self.space.borrow_mut();
            match self.socket.try_recv_from(&mut space) {
                Ok((length, client)) => {
                    let datagram = space[..length].to_vec();
                    drop(space);
                    self.pass(client, datagram, relay);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // Of something that was sent to a client who is gone.
                Err(error) if is_about_peer(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Passes a client's datagram on, in its session or in a new one.
    fn pass(self: &Rc<Self>, client: SocketAddr, datagram: Vec<u8>, relay: &impl Fn() -> Option<Rc<Relay>>) {
        let known = self.table.borrow().by_client.get(&client).cloned();
        if let Some(session) = known {
            self.table.borrow_mut().idle.push(session.number);
            if session.send(&datagram) {
                return;
            }
            // Nobody is there any more. Who asks now is given somebody else, if there is.
            self.table.borrow_mut().remove(&session);
        }
        let Some(relay) = relay() else { return };
        let session = self.table.borrow_mut().add(client, relay);
        session.send(&datagram);
        let entry = Entry { sessions: self.clone(), session };
        self.tasks.spawn_local(entry.serve());
    }
}

impl Table {
    fn add(&mut self, client: SocketAddr, relay: Rc<Relay>) -> Rc<Session> {
        if self.by_client.len() >= relay.max_sessions
            && let Some(oldest) = self.idle.oldest()
            && let Some(session) = self.by_number[oldest as usize].clone()
        {
            session.end();
            self.remove(&session);
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.by_number.push(None);
            self.by_number.len() as u32 - 1
        });
        let session = Rc::new(Session {
            client,
            number,
            relay,
            to: RefCell::default(),
            waiting: RefCell::default(),
            last: Cell::new(Instant::now()),
            owed: Cell::new(0),
            asks: Cell::new(false),
            bytes: Cell::default(),
            unheard: RefCell::default(),
            is_heard: Cell::new(false),
            broken: RefCell::default(),
            end: Notify::new(),
            ends: Cell::new(false),
        });
        self.by_client.insert(client, session.clone());
        self.by_number[number as usize] = Some(session.clone());
        self.idle.push(number);
        session
    }

    /// Takes a session out, unless that was done already.
    fn remove(&mut self, session: &Rc<Session>) {
        let place = &mut self.by_number[session.number as usize];
        if !place.as_ref().is_some_and(|known| Rc::ptr_eq(known, session)) {
            return;
        }
        *place = None;
        self.free.push(session.number);
        self.idle.remove(session.number);
        self.by_client.remove(&session.client);
    }
}

impl Session {
    fn end(&self) {
        self.ends.set(true);
        self.end.notify_one();
    }

    fn passed(&self, received: usize, sent: usize) {
        let [before_received, before_sent] = self.bytes.get();
        self.bytes.set([before_received + received as u64, before_sent + sent as u64]);
        self.last.set(Instant::now());
    }

    /// Keeps a datagram for another endpoint, should this one turn out not to be there.
    fn keep(&self, datagram: &[u8]) {
        let mut unheard = self.unheard.borrow_mut();
        let kept: usize = unheard.iter().map(Vec::len).sum();
        if self.is_heard.get() || unheard.len() >= WAITING || kept + datagram.len() > LONGEST {
            // It would not be all of it.
            self.is_heard.set(true);
            unheard.clear();
        } else {
            unheard.push(datagram.to_vec());
        }
    }

    /// Has what was sent to nobody wait for another endpoint. `false`: it was somebody, or too much.
    fn rewind(&self) -> bool {
        if self.is_heard.get() {
            return false;
        }
        self.to.take();
        self.broken.take();
        self.ends.set(false);
        self.owed.set(0);
        let mut unheard = self.unheard.take();
        let [received, sent] = self.bytes.get();
        self.bytes.set([received - unheard.iter().map(|datagram| datagram.len() as u64).sum::<u64>(), sent]);
        unheard.extend(self.waiting.take());
        self.waiting.replace(unheard.into());
        true
    }

    /// Sends a datagram to the endpoint, or keeps it until there is one. `false`: there is none any more.
    fn send(&self, datagram: &[u8]) -> bool {
        if self.ends.get() {
            return false;
        }
        let to = self.to.borrow();
        let Some(to) = &*to else {
            let mut waiting = self.waiting.borrow_mut();
            match waiting.len() < WAITING {
                true => waiting.push_back(datagram.to_vec()),
                false => self.relay.metrics.dropped.increment(),
            }
            return true;
        };
        match to.try_send(datagram) {
            Ok(_) => {
                self.keep(datagram);
                self.asks.set(true);
                self.owed.set(self.owed.get().saturating_add(self.relay.responses.unwrap_or(0).into()));
                self.passed(datagram.len(), 0);
                true
            }
            Err(error) if is_about_peer(&error) => {
                self.broken.replace(Some(error));
                self.keep(datagram);
                match self.is_heard.get() {
                    true => self.end(),
                    false => self.end.notify_one(),
                }
                !self.is_heard.get()
            }
            // The network does not take it now, or takes none so long. That is what datagrams are like.
            Err(_) => {
                self.relay.metrics.dropped.increment();
                true
            }
        }
    }
}

impl Entry {
    /// Passes answers back until the session's end.
    async fn serve(self) {
        let Self { sessions, session } = &self;
        let relay = &session.relay;
        let metrics = relay.metrics.clone();
        let _counted = metrics.opened();
        let mut exchange = sessions.worker.take_exchange(&Peer::at(session.client));
        exchange.started = Instant::now();
        exchange.upstream.learn(relay.upstream.name());
        let error = loop {
            let opened = relay.upstream.open_datagrams(&mut exchange);
            let error = match opened {
                Ok(mut datagrams) => {
                    // A new socket takes nothing before the runtime has heard that it would. What is wrong with it shows when it
                    // is written to.
                    let _ = datagrams.socket.writable().await;
                    session.to.replace(Some(datagrams.socket.clone()));
                    let waiting = session.waiting.take();
                    for datagram in waiting {
                        session.send(&datagram);
                    }
                    let ended = self.answer(&mut datagrams).await;
                    drop(datagrams);
                    if ended == Some(REFUSED) && relay.upstream.has_another(&exchange) && session.rewind() {
                        continue;
                    }
                    // From now on, what comes is another session's.
                    sessions.table.borrow_mut().remove(session);
                    break ended;
                }
                Err(error) => error,
            };
            let client = session.client;
            if let Some(others) = TOLD.pass(Instant::now()) {
                warn!(target: "staunch::relay", %client, listener = %relay.listener, %error, others, "dropped a datagram");
            }
            metrics.failed.increment();
            session.waiting.borrow().iter().for_each(|_| metrics.dropped.increment());
            break Some(ExchangeError::from(error).name());
        };
        let bytes = session.bytes.get();
        metrics.passed(bytes);
        sessions.worker.site().ledger.enter_relay("UDP", &relay.listener, None, &exchange, bytes, error);
        sessions.worker.give_exchange(exchange);
    }

    /// Answers what went wrong, if something did.
    async fn answer(&self, datagrams: &mut Datagrams<'_>) -> Option<&'static str> {
        let Self { sessions, session } = self;
        let relay = &session.relay;
        let mut has_answered = false;
        loop {
            if let Some(error) = session.broken.take() {
                datagrams.failed(&error);
                return Some(REFUSED);
            }
            let is_over = match relay.responses {
                Some(_) => session.owed.get() == 0,
                None => sessions.stop.is_cancelled() && !session.asks.get(),
            };
            if is_over || session.ends.get() {
                return None;
            }
            tokio::select! {
                biased;
                ready = datagrams.socket.ready(Interest::READABLE | Interest::ERROR) => {
                    let received = ready.and_then(|_| self.pass_back(&datagrams.socket));
                    match received {
                        Ok(0) => {}
                        Ok(answers) => {
                            has_answered = true;
                            session.is_heard.set(true);
                            session.unheard.take();
                            datagrams.answered();
                            session.asks.set(false);
                            session.owed.set(session.owed.get().saturating_sub(answers));
                        }
                        Err(error) => {
                            debug!(client = %session.client, %error, "an endpoint is gone");
                            datagrams.failed(&error);
                            return Some(REFUSED);
                        }
                    }
                }
                () = session.end.notified() => {}
                () = sessions.stop.cancelled(), if relay.responses.is_none() && !session.asks.get() => {}
                () = sleep_until(session.last.get() + relay.idle_timeout) => {
                    if session.last.get().elapsed() < relay.idle_timeout {
                        continue;
                    }
                    relay.responses?;
                    if !has_answered {
                        datagrams.failed(&ErrorKind::TimedOut.into());
                    }
                    return Some("upstream_response_timeout");
                }
            }
        }
    }

    /// Passes on what an endpoint has sent. Answers how many datagrams that were.
    fn pass_back(&self, from: &UdpSocket) -> io::Result<u64> {
        let Self { sessions, session } = self;
        let mut space = sessions.space.borrow_mut();
        let told = from.try_io(Interest::ERROR, || Err(from.take_error()?.unwrap_or(ErrorKind::WouldBlock.into())));
        match told {
            Err(error) if is_about_peer(&error) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        for passed in 0..TURN as u64 {
            match from.try_recv(&mut space) {
                Ok(length) => match sessions.socket.try_send_to(&space[..length], session.client) {
                    Ok(sent) => session.passed(0, sent),
                    Err(_) => session.relay.metrics.dropped.increment(),
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(passed),
                // What came before is to be counted first; the system tells of a lasting trouble again.
                Err(_) if passed > 0 => return Ok(passed),
                Err(error) => return Err(error),
            }
        }
        Ok(TURN as u64)
    }
}

/// Whether an error tells of who would have got an earlier datagram.
fn is_about_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    )
}
