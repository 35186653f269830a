//! Who waits for a place in an upstream, and who is next: nothing but the order.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Priority;

/// A place in the line. The smaller, the older.
pub(super) type Ticket = u64;

/// Requests that wait, in two classes, the oldest of the higher class first. `W` is what wakes one.
#[derive(Debug)]
pub(super) struct Line<W> {
    /// Waiting ones at most; those that were called are on their way and do not count.
    max: usize,
    everybody: BTreeMap<Ticket, Entry<W>>,
    /// The tickets of those who wait, by class.
    waiting: [BTreeSet<Ticket>; 2],
    next: Ticket,
    /// Somebody was to be called when everybody had been called: for one of those who come back in vain.
    spare: bool,
}

#[derive(Debug)]
struct Entry<W> {
    priority: Priority,
    verdict: Verdict,
    waker: Option<W>,
}

/// What one in the line is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Wait,
    /// There is a place for it.
    Called,
    /// One of the higher class took its place in the line.
    PushedOut,
}

/// What became of one who came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined<W> {
    Waits(Ticket),
    /// It waits where the youngest of the lower class did, whom this wakes.
    InPlaceOf(Ticket, Option<W>),
    /// The line is full.
    Refused,
}

impl<W> Line<W> {
    pub(super) fn new(max: usize) -> Self {
        Self { max, everybody: BTreeMap::new(), waiting: [BTreeSet::new(), BTreeSet::new()], next: 0, spare: false }
    }

    /// Another length from now on; nobody is sent away for it.
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    pub(super) fn join(&mut self, priority: Priority) -> Joined<W> {
        let mut pushed = None;
        if self.waiting() >= self.max {
            let youngest = match priority {
                Priority::High => self.waiting[Priority::Normal as usize].pop_last(),
                Priority::Normal => None,
            };
            let Some(out) = youngest.and_then(|youngest| self.everybody.get_mut(&youngest)) else {
                return Joined::Refused;
            };
            out.verdict = Verdict::PushedOut;
            pushed = Some(out.waker.take());
        }
        let ticket = self.next;
        self.next += 1;
        self.everybody.insert(ticket, Entry { priority, verdict: Verdict::Wait, waker: None });
        self.waiting[priority as usize].insert(ticket);
        match pushed {
            Some(waker) => Joined::InPlaceOf(ticket, waker),
            None => Joined::Waits(ticket),
        }
    }

    /// Calls the next one, and answers what wakes it; `None` when nobody waits.
    pub(super) fn call(&mut self) -> Option<Option<W>> {
        let Some(next) = self.waiting.iter_mut().find_map(BTreeSet::pop_first) else {
            self.spare = !self.everybody.is_empty();
            return None;
        };
        let entry = self.everybody.get_mut(&next)?;
        entry.verdict = Verdict::Called;
        Some(entry.waker.take())
    }

    /// One that was called could not make use of it, and waits on where it was; `false`: it is called once more, as
    /// there was another call meanwhile.
    pub(super) fn go_back(&mut self, ticket: Ticket) -> bool {
        if std::mem::take(&mut self.spare) {
            return false;
        }
        let Some(entry) = self.everybody.get_mut(&ticket).filter(|entry| entry.verdict == Verdict::Called) else {
            return false;
        };
        entry.verdict = Verdict::Wait;
        self.waiting[entry.priority as usize].insert(ticket);
        true
    }

    /// One that was called could not make use of it, and others may: it waits on where it was, and the next behind it
    /// is called. Answers what wakes that one; `None` when there is none.
    pub(super) fn pass_on(&mut self, ticket: Ticket) -> Option<Option<W>> {
        let entry = self.everybody.get_mut(&ticket).filter(|entry| entry.verdict == Verdict::Called)?;
        entry.verdict = Verdict::Wait;
        let priority = entry.priority;
        self.waiting[priority as usize].insert(ticket);
        let behind = self.waiting[priority as usize].range(ticket + 1..).next().copied();
        let lower = || self.waiting[Priority::Normal as usize].first().copied().filter(|_| priority == Priority::High);
        let next = behind.or_else(lower)?;
        let entry = self.everybody.get_mut(&next)?;
        self.waiting[entry.priority as usize].remove(&next);
        entry.verdict = Verdict::Called;
        Some(entry.waker.take())
    }

    /// One leaves, for whatever reason. Answers what it had been told.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Verdict> {
        let entry = self.everybody.remove(&ticket)?;
        self.waiting[entry.priority as usize].remove(&ticket);
        self.spare &= !self.everybody.is_empty();
        Some(entry.verdict)
    }

    /// What one is told. It is woken by `waker` when that changes.
    pub(super) fn verdict(&mut self, ticket: Ticket, waker: impl FnOnce(Option<W>) -> W) -> Verdict {
        let Some(entry) = self.everybody.get_mut(&ticket) else { return Verdict::PushedOut };
        if entry.verdict == Verdict::Wait {
            entry.waker = Some(waker(entry.waker.take()));
        }
        entry.verdict
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.iter().map(BTreeSet::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(max: usize) -> Line<u64> {
        Line::new(max)
    }

    fn join(line: &mut Line<u64>, priority: Priority) -> Option<Ticket> {
        let ticket = match line.join(priority) {
            Joined::Waits(ticket) | Joined::InPlaceOf(ticket, _) => ticket,
            Joined::Refused => return None,
        };
        // Its waker is its own number, so that it can be told who was woken.
        assert_eq!(line.verdict(ticket, |_| ticket), Verdict::Wait);
        Some(ticket)
    }

    #[test]
    fn the_oldest_of_the_higher_class_is_called_first() {
        let mut line = line(9);
        for priority in [Priority::Normal, Priority::High, Priority::Normal, Priority::High] {
            join(&mut line, priority);
        }

        let called: Vec<_> = std::iter::from_fn(|| line.call()).flatten().collect();

        assert_eq!(called, [1, 3, 0, 2]);
    }

    #[test]
    fn a_full_line_refuses_unless_a_higher_class_takes_the_place_of_the_youngest() {
        let mut line = line(2);
        let old = join(&mut line, Priority::Normal).unwrap();
        let young = join(&mut line, Priority::Normal).unwrap();

        assert_eq!(line.join(Priority::Normal), Joined::Refused);
        assert_eq!(line.join(Priority::High), Joined::InPlaceOf(2, Some(young)));
        assert_eq!(line.verdict(young, |_| 0), Verdict::PushedOut);
        assert_eq!(line.verdict(old, |_| 0), Verdict::Wait);
        assert_eq!(line.join(Priority::High), Joined::InPlaceOf(3, Some(0)));
        assert_eq!(line.join(Priority::High), Joined::Refused, "none of a lower class is left");
    }

    #[test]
    fn one_that_was_called_in_vain_keeps_its_age() {
        let mut line = line(9);
        let first = join(&mut line, Priority::Normal).unwrap();
        join(&mut line, Priority::Normal);
        line.call();

        assert!(line.go_back(first));
        line.verdict(first, |_| first);

        assert_eq!(line.call(), Some(Some(first)));
    }

    #[test]
    fn a_turn_is_passed_on_to_who_is_behind() {
        let mut line = line(9);
        let high = join(&mut line, Priority::High).unwrap();
        let normal = join(&mut line, Priority::Normal).unwrap();
        assert_eq!(line.call(), Some(Some(high)));

        assert_eq!(line.pass_on(high), Some(Some(normal)));
        assert_eq!(line.pass_on(normal), None, "nobody is behind it");

        assert_eq!(line.waiting(), 2);
        assert_eq!(line.verdict(high, |_| high), Verdict::Wait);
        assert_eq!(line.call(), Some(Some(high)));
    }

    #[test]
    fn a_call_that_finds_everybody_called_is_not_lost() {
        let mut line = line(9);
        let only = join(&mut line, Priority::Normal).unwrap();
        line.call();

        assert_eq!(line.call(), None);

        assert!(!line.go_back(only), "it is called once more");
        assert!(line.go_back(only));
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Join(Priority),
        Call,
        GoBack(usize),
        Leave(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => any::<bool>().prop_map(|high| Event::Join(if high { Priority::High } else { Priority::Normal })),
            2 => Just(Event::Call),
            1 => (0usize..20).prop_map(Event::GoBack),
            1 => (0usize..20).prop_map(Event::Leave),
        ]
    }

    proptest! {
        /// The same as a list in which everybody is looked for anew.
        #[test]
        fn nobody_is_lost_called_twice_or_passed_by(max in 0usize..6, events in prop::collection::vec(event(), 1..200)) {
            let mut line = line(max);
            let mut model: Vec<(Ticket, Priority, Verdict)> = Vec::new();
            let mut spare = false;
            for event in events {
                let waits = |(_, _, verdict): &&(Ticket, Priority, Verdict)| *verdict == Verdict::Wait;
                match event {
                    Event::Join(priority) => {
                        let waiting = model.iter().filter(waits).count();
                        let lower = model.iter().rposition(|(_, p, v)| *p == Priority::Normal && *v == Verdict::Wait);
                        let ticket = match line.join(priority) {
                            Joined::Waits(ticket) => {
                                prop_assert!(waiting < max);
                                ticket
                            }
                            Joined::InPlaceOf(ticket, _) => {
                                prop_assert!(waiting >= max && priority == Priority::High);
                                model[lower.expect("somebody of the lower class")].2 = Verdict::PushedOut;
                                ticket
                            }
                            Joined::Refused => {
                                prop_assert!(waiting >= max && (priority == Priority::Normal || lower.is_none()));
                                continue;
                            }
                        };
                        model.push((ticket, priority, Verdict::Wait));
                    }
                    Event::Call => {
                        let of = |class| model.iter().position(|(_, p, v)| *p == class && *v == Verdict::Wait);
                        let next = of(Priority::High).or_else(|| of(Priority::Normal));
                        prop_assert_eq!(line.call().is_some(), next.is_some());
                        match next {
                            Some(next) => model[next].2 = Verdict::Called,
                            None => spare = !model.is_empty(),
                        }
                    }
                    Event::GoBack(at) if at < model.len() => {
                        let waits_on = !std::mem::take(&mut spare) && model[at].2 == Verdict::Called;
                        prop_assert_eq!(line.go_back(model[at].0), waits_on);
                        if waits_on {
                            model[at].2 = Verdict::Wait;
                        }
                    }
                    Event::Leave(at) if at < model.len() => {
                        let (ticket, _, verdict) = model.remove(at);
                        prop_assert_eq!(line.leave(ticket), Some(verdict));
                        spare &= !model.is_empty();
                    }
                    Event::GoBack(_) | Event::Leave(_) => {}
                }
                prop_assert_eq!(line.waiting(), model.iter().filter(waits).count());
                for (ticket, _, verdict) in &model {
                    prop_assert_eq!(line.verdict(*ticket, |_| 0), *verdict);
                }
            }
        }
    }
}
