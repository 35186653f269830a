//! Admission to one upstream, over all workers: so many requests at a time, so many more that wait their turn.
//!
//! # Who waits, and for what?
//!
//! For a place among `max_requests`, or for an endpoint that has fewer than `max_connections`. Both kinds stand in one
//! line, hold no place and no connection, and are called in order: by each request that ends, and whenever an endpoint
//! may have become free in another way. One that was called has a place among `max_requests` already; when it finds
//! every endpoint full after all, it goes back to where it stood. Who comes while others wait goes behind them.
//!
//! # What does it cost?
//!
//! While nobody waits, one atomic exchange when a request comes and one when it ends, and no lock. What decides who is
//! next is [`line`], which knows nothing of threads and time.

mod line;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::config::{Priority, Queue};
use line::{Joined, Line, Ticket, Verdict};

/// The gate of one upstream.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Requests inside at most; `u32::MAX`: any number.
    max: AtomicU32,
    /// Those who wait or were called, in the upper half, and those inside in the lower one. In one word, so that nobody
    /// slips in between the last who leaves and the first who waits.
    count: AtomicU64,
    /// Locked only while somebody waits. The upper half of `count` changes only under it.
    line: Mutex<Line<Waker>>,
}

/// A place inside, until this is dropped. `None`: it was given up already.
#[derive(Debug)]
pub(crate) struct Pass(Option<Arc<Gate>>);

/// A place in the line, until this is dropped. `None`: it was given up already.
#[derive(Debug)]
pub(crate) struct Place(Option<(Arc<Gate>, Ticket)>);

/// What becomes of a request that comes.
#[derive(Debug)]
pub(crate) enum Entry {
    Inside(Pass),
    Waits(Place),
    /// There is no room inside, nor in the line.
    Refused,
}

/// Somebody of a higher class took the place in the line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PushedOut;

const ONE_WAITING: u64 = 1 << 32;
const INSIDE: u64 = u32::MAX as u64;

impl Gate {
    pub(crate) fn new(limits: &Queue) -> Arc<Self> {
        Arc::new(Self {
            max: AtomicU32::new(limits.max_requests.unwrap_or(u32::MAX)),
            count: AtomicU64::new(0),
            line: Mutex::new(Line::new(limits.max_pending as usize)),
        })
    }

    /// Other limits from now on. Nobody is sent away for it.
    pub(crate) fn set_limits(&self, limits: &Queue) {
        self.max.store(limits.max_requests.unwrap_or(u32::MAX), Relaxed);
        let mut line = self.line.lock();
        line.set_max(limits.max_pending as usize);
        // There may be room now.
        while self.pending() > 0 && self.call(&mut line) {}
    }

    /// A request comes.
    pub(crate) fn enter(self: &Arc<Self>, priority: Priority) -> Entry {
        if self.try_enter() {
            return Entry::Inside(Pass(Some(self.clone())));
        }
        let mut line = self.line.lock();
        let max = u64::from(self.max.load(Relaxed));
        let came = |count: u64| Some(if count < max { count + 1 } else { count + ONE_WAITING });
        match self.count.fetch_update(AcqRel, Acquire, came) {
            // Somebody has left meanwhile, and nobody waits.
            Ok(count) if count < max => Entry::Inside(Pass(Some(self.clone()))),
            _ => self.join(&mut line, priority),
        }
    }

    /// A request that is inside found every endpoint full: it waits for one, and gives its place back meanwhile.
    /// `None` when the line is full.
    pub(crate) fn wait(mut pass: Pass, priority: Priority) -> Option<Place> {
        let gate = pass.0.as_ref()?.clone();
        let mut line = gate.line.lock();
        gate.count.fetch_add(ONE_WAITING, AcqRel);
        let Entry::Waits(place) = gate.join(&mut line, priority) else { return None };
        // Nobody is called to it: what everybody waits for is an endpoint.
        pass.0 = None;
        gate.count.fetch_sub(1, AcqRel);
        Some(place)
    }

    /// Calls the next one if there is room. For when an endpoint may have become free.
    pub(crate) fn offer(&self) {
        if self.pending() > 0 {
            self.call(&mut self.line.lock());
        }
    }

    /// Requests that wait.
    pub(crate) fn pending(&self) -> u32 {
        (self.count.load(Relaxed) >> 32) as u32
    }

    /// Requests inside.
    pub(crate) fn inside(&self) -> u32 {
        (self.count.load(Relaxed) & INSIDE) as u32
    }

    /// Takes a place inside, if there is one and nobody waits for it.
    fn try_enter(&self) -> bool {
        let max = u64::from(self.max.load(Relaxed));
        self.count.fetch_update(AcqRel, Acquire, |count| (count < max).then_some(count + 1)).is_ok()
    }

    /// Goes to the end of the line, or gives the count of it back.
    fn join(self: &Arc<Self>, line: &mut Line<Waker>, priority: Priority) -> Entry {
        let ticket = match line.join(priority) {
            Joined::Waits(ticket) => ticket,
            Joined::InPlaceOf(ticket, waker) => {
                wake(waker);
                ticket
            }
            Joined::Refused => {
                self.count.fetch_sub(ONE_WAITING, AcqRel);
                return Entry::Refused;
            }
        };
        Entry::Waits(Place(Some((self.clone(), ticket))))
    }

    /// Gives the next one a place inside, if there is one. Answers whether it did.
    fn call(&self, line: &mut Line<Waker>) -> bool {
        let max = u64::from(self.max.load(Relaxed));
        let room = |count: u64| (count & INSIDE < max).then_some(count + 1);
        if self.count.fetch_update(AcqRel, Acquire, room).is_err() {
            return false;
        }
        let Some(waker) = line.call() else {
            self.count.fetch_sub(1, AcqRel);
            return false;
        };
        wake(waker);
        true
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Some(gate) = &self.0 else { return };
        let alone = |count: u64| (count < ONE_WAITING).then(|| count.saturating_sub(1));
        if gate.count.fetch_update(AcqRel, Acquire, alone).is_err() {
            let mut line = gate.line.lock();
            gate.count.fetch_sub(1, AcqRel);
            gate.call(&mut line);
        }
    }
}

impl Place {
    /// Ready when it is its turn: [`take`](Self::take) or [`go_back`](Self::go_back) is next.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<(), PushedOut>> {
        let Some((gate, ticket)) = &self.0 else { return Poll::Ready(Err(PushedOut)) };
        let waker = |known: Option<Waker>| match known {
            Some(known) if known.will_wake(cx.waker()) => known,
            _ => cx.waker().clone(),
        };
        match gate.line.lock().verdict(*ticket, waker) {
            Verdict::Wait => Poll::Pending,
            Verdict::Called => Poll::Ready(Ok(())),
            Verdict::PushedOut => Poll::Ready(Err(PushedOut)),
        }
    }

    /// Makes use of the turn. `more`: there is an endpoint for another one too.
    pub(crate) fn take(mut self, more: bool) -> Pass {
        let Some((gate, ticket)) = self.0.take() else { return Pass(None) };
        let mut line = gate.line.lock();
        line.leave(ticket);
        gate.count.fetch_sub(ONE_WAITING, AcqRel);
        if more {
            gate.call(&mut line);
        }
        drop(line);
        Pass(Some(gate))
    }

    /// There was no endpoint for this one, as it knows an old configuration; there may be one for who is behind it.
    pub(crate) fn pass_on(&self) {
        let Some((gate, ticket)) = &self.0 else { return };
        match gate.line.lock().pass_on(*ticket) {
            Some(waker) => wake(waker),
            None => drop(gate.count.fetch_sub(1, AcqRel)),
        }
    }

    /// There was no endpoint after all: waits on.
    pub(crate) fn go_back(&self) {
        let Some((gate, ticket)) = &self.0 else { return };
        if gate.line.lock().go_back(*ticket) {
            gate.count.fetch_sub(1, AcqRel);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((gate, ticket)) = &self.0 else { return };
        let mut line = gate.line.lock();
        let verdict = line.leave(*ticket);
        gate.count.fetch_sub(ONE_WAITING, AcqRel);
        if verdict == Some(Verdict::Called) {
            // The turn passes on.
            gate.count.fetch_sub(1, AcqRel);
            gate.call(&mut line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::Ordering::SeqCst;
    use std::thread;

    use super::*;

    fn queue(max_requests: u32, max_pending: u32) -> Queue {
        Queue { max_requests: Some(max_requests), max_pending, timeout: None }
    }

    fn gate(max_requests: u32, max_pending: u32) -> Arc<Gate> {
        Gate::new(&queue(max_requests, max_pending))
    }

    fn inside(entry: Entry) -> Pass {
        let Entry::Inside(pass) = entry else { panic!("{entry:?}") };
        pass
    }

    fn waits(entry: Entry) -> Place {
        let Entry::Waits(place) = entry else { panic!("{entry:?}") };
        place
    }

    fn poll(place: &Place) -> Poll<Result<(), PushedOut>> {
        place.poll(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn without_a_line_who_finds_no_place_is_refused() {
        let gate = gate(2, 0);
        let passes = [(); 2].map(|()| inside(gate.enter(Priority::Normal)));

        assert!(matches!(gate.enter(Priority::High), Entry::Refused));

        drop(passes);
        assert_eq!((gate.inside(), gate.pending()), (0, 0));
        inside(gate.enter(Priority::Normal));
    }

    #[test]
    fn a_place_that_becomes_free_is_the_oldest_waiters() {
        let gate = gate(1, 9);
        let pass = inside(gate.enter(Priority::Normal));
        let [first, second] = [(); 2].map(|()| waits(gate.enter(Priority::Normal)));
        assert_eq!((gate.inside(), gate.pending()), (1, 2));

        drop(pass);

        assert_eq!([poll(&first), poll(&second)], [Poll::Ready(Ok(())), Poll::Pending]);
        let newcomer = waits(gate.enter(Priority::Normal));
        drop(first.take(true));
        assert_eq!([poll(&second), poll(&newcomer)], [Poll::Ready(Ok(())), Poll::Pending]);
    }

    #[test]
    fn a_turn_of_one_who_goes_away_passes_on() {
        let gate = gate(1, 9);
        let pass = inside(gate.enter(Priority::Normal));
        let [first, second] = [(); 2].map(|()| waits(gate.enter(Priority::Normal)));
        drop(pass);

        drop(first);

        assert_eq!(poll(&second), Poll::Ready(Ok(())));
        drop(second);
        assert_eq!((gate.inside(), gate.pending()), (0, 0));
    }

    #[test]
    fn who_waits_for_an_endpoint_has_no_place_meanwhile_and_is_called_by_who_leaves() {
        let gate = gate(9, 9);
        let served = inside(gate.enter(Priority::Normal));
        let place = Gate::wait(inside(gate.enter(Priority::Normal)), Priority::Normal).expect("room in the line");
        assert_eq!((gate.inside(), gate.pending(), poll(&place)), (1, 1, Poll::Pending));

        drop(served);

        assert_eq!((gate.inside(), poll(&place)), (1, Poll::Ready(Ok(()))));
        place.go_back();
        assert_eq!((gate.inside(), poll(&place)), (0, Poll::Pending));
        gate.offer();
        assert_eq!(poll(&place), Poll::Ready(Ok(())));
        drop(place.take(true));
        assert_eq!((gate.inside(), gate.pending()), (0, 0));
    }

    #[test]
    fn higher_limits_let_those_in_who_wait() {
        let gate = gate(1, 1);
        let _served = inside(gate.enter(Priority::Normal));
        let place = waits(gate.enter(Priority::Normal));

        gate.set_limits(&queue(2, 1));

        assert_eq!(poll(&place), Poll::Ready(Ok(())));
    }

    #[test]
    fn on_many_threads_no_more_are_inside_than_may_be_and_nobody_is_forgotten() {
        let gate = gate(3, 64);
        let (now, most, served) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        let visit = async |n: u32| {
            let pass = match gate.enter(if n.is_multiple_of(3) { Priority::High } else { Priority::Normal }) {
                Entry::Inside(pass) => pass,
                Entry::Waits(place) => {
                    if n.is_multiple_of(7) {
                        return;
                    }
                    poll_fn(|cx| place.poll(cx)).await.expect("nobody is pushed out of a long line");
                    place.take(n.is_multiple_of(2))
                }
                Entry::Refused => panic!("the line is long"),
            };
            most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::task::yield_now().await;
            now.fetch_sub(1, SeqCst);
            served.fetch_add(1, SeqCst);
            drop(pass);
        };
        thread::scope(|scope| {
            for thread in 0..8 {
                let visit = &visit;
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                    runtime.block_on(async {
                        for n in 0..2000 {
                            visit(n + thread).await;
                        }
                    });
                });
            }
        });

        assert!(most.load(SeqCst) <= 3);
        assert!(served.load(SeqCst) > 8000);
        assert_eq!((gate.inside(), gate.pending()), (0, 0));
    }
}
