//! Versions on probation: what they are judged by, and the way back.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{MOST_REFUSED, Renewal, Turnover, wait_for};
use crate::admin::{ChangeKind, RefusedVersion, Standing, Trial};
use crate::config;
use crate::plugins::{Probation, Use, Verdict};
use crate::proxy::orders::Order;
use crate::proxy::parts::Seat;
use crate::telemetry::metrics::Outcomes;

/// Time between two marks of what upstreams came to, and how many there are: a version is compared with the five
/// minutes before it.
const MARK_EVERY: Duration = Duration::from_secs(60);
const MARKS: usize = 5;

/// A version on probation.
pub(super) struct OnTrial {
    /// What comes back if it fails, by position in `placed`.
    previous: Vec<(usize, Use)>,
    /// Each use is judged by the upstreams it serves.
    judges: Vec<Judge>,
}

struct Judge {
    placed: usize,
    upstreams: Vec<usize>,
    probation: Probation,
}

impl Turnover {
    /// Looks at the versions on probation: takes back those that do worse, and lets those pass whose time is over.
    pub(in crate::proxy) async fn judge(&self) {
        let now = Instant::now();
        self.mark(now);
        // While something is replaced there is time to judge later.
        let Ok(_turn) = self.turn.try_lock() else { return };
        for (name, verdict) in self.verdicts(now) {
            match verdict {
                Verdict::Undecided => {}
                Verdict::Passed => {
                    self.pass(&name);
                    info!(plugin = name, "the new version has passed its probation");
                }
                Verdict::Worse(why) => self.go_back(&name, why).await,
            }
        }
    }

    /// How a plugin's versions stand.
    pub(in crate::proxy) fn standing(&self, plugin: &str) -> Standing {
        let records = self.records.lock();
        let Some(record) = records.get(plugin) else { return Standing::default() };
        let trial = record.trial.as_ref().and_then(|trial| {
            let left = trial.judges.first()?.probation.until().saturating_duration_since(Instant::now());
            let (_, previous) = trial.previous.first()?;
            let mut own = previous.chain().filter(|used| used.plugin().name() == plugin);
            let digest = own.next().map(|used| used.plugin().digest().to_owned()).unwrap_or_default();
            Some(Trial { seconds_left: left.as_secs(), previous: format!("sha256:{digest}") })
        });
        let counts = ChangeKind::ALL.into_iter().zip(record.counts).collect();
        Standing {
            probation: trial,
            last_change: record.last.clone(),
            refused: record.refused.iter().cloned().collect(),
            counts,
        }
    }

    /// Ends the probation of other plugins that serve in these places: one cause at a time can be judged.
    pub(super) fn settle_others(&self, name: &str, seats: &[Seat]) {
        let placed = self.parts.placed.lock().clone();
        let others: Vec<_> = (self.records.lock().iter())
            .filter(|(other, record)| {
                *other != name
                    && record
                        .trial
                        .iter()
                        .flat_map(|trial| &trial.previous)
                        .any(|(at, _)| seats.contains(&placed[*at].seat))
            })
            .map(|(other, _)| other.clone())
            .collect();
        for other in others {
            self.pass(&other);
            info!(plugin = other, because = name, "its probation ends early: a plugin beside it is replaced");
        }
    }

    /// What comes back if the new version does worse: the version that serves, or the one before it if that one is on
    /// probation itself.
    pub(super) fn begin_trial(&self, name: &str, renewals: &[Renewal], until: Instant) -> OnTrial {
        let earlier = self.records.lock().get_mut(name).and_then(|record| record.trial.take());
        let placed = self.parts.placed.lock();
        let judges = renewals
            .iter()
            .map(|renewal| {
                let upstreams = self.upstreams_of(renewal.seat);
                let begin = self.outcomes(&upstreams);
                let known = earlier.iter().flat_map(|trial| &trial.judges).find(|judge| judge.placed == renewal.at);
                let before = match known {
                    Some(judge) => judge.probation.before().clone(),
                    None => begin.since(&self.marked(&upstreams)),
                };
                Judge { placed: renewal.at, upstreams, probation: Probation::new(until, before, begin) }
            })
            .collect();
        let previous = match earlier {
            Some(trial) => trial.previous,
            None => renewals.iter().map(|renewal| (renewal.at, placed[renewal.at].used.clone())).collect(),
        };
        OnTrial { previous, judges }
    }

    /// The upstreams whose requests a place has a part in.
    fn upstreams_of(&self, seat: Seat) -> Vec<usize> {
        match seat {
            Seat::Balancer(upstream) | Seat::Retry(upstream) => vec![upstream],
            Seat::Rewriter { route, .. } => match &self.parts.config.routes[route].action {
                config::Action::Upstream(upstream) => vec![*upstream],
                config::Action::Split(shares) => shares.iter().map(|(upstream, _)| *upstream).collect(),
                config::Action::Respond { .. } | config::Action::Redirect { .. } => Vec::new(),
            },
        }
    }

    /// All that some upstreams have come to.
    fn outcomes(&self, upstreams: &[usize]) -> Outcomes {
        let of = |upstream: &usize| self.metrics.outcomes(&self.parts.upstreams[*upstream].name);
        upstreams.iter().map(of).fold(Outcomes::default(), |sum, outcomes| sum.and(&outcomes))
    }

    /// What they had come to at the oldest mark.
    fn marked(&self, upstreams: &[usize]) -> Outcomes {
        let marks = self.marks.lock();
        let Some((_, marked)) = marks.front() else { return Outcomes::default() };
        upstreams.iter().filter_map(|upstream| marked.get(*upstream)).fold(Outcomes::default(), |sum, o| sum.and(o))
    }

    fn mark(&self, now: Instant) {
        let mut marks = self.marks.lock();
        if marks.back().is_some_and(|(at, _)| now < *at + MARK_EVERY) {
            return;
        }
        let upstreams = 0..self.parts.upstreams.len();
        marks.push_back((now, upstreams.map(|upstream| self.outcomes(&[upstream])).collect()));
        if marks.len() > MARKS {
            marks.pop_front();
        }
    }

    fn verdicts(&self, now: Instant) -> Vec<(String, Verdict)> {
        let placed = self.parts.placed.lock().clone();
        let mut verdicts = Vec::new();
        for (name, record) in self.records.lock().iter_mut() {
            let Some(trial) = &mut record.trial else { continue };
            let mut passed = true;
            let mut worse = None;
            for judge in &mut trial.judges {
                let own = || placed[judge.placed].uses().filter(|used| used.plugin().name() == name);
                let faults = own().map(Use::faulted).sum();
                match judge.probation.look(now, faults, &self.outcomes(&judge.upstreams)) {
                    Verdict::Undecided => passed = false,
                    Verdict::Passed => {}
                    Verdict::Worse(why) => {
                        let last = own().find_map(Use::last_fault).filter(|_| faults > 0);
                        let last = last.map_or_else(String::new, |fault| format!(" ({fault})"));
                        worse.get_or_insert(format!("in `{}` {why}{last}", placed[judge.placed].used.name()));
                    }
                }
            }
            match worse {
                Some(why) => verdicts.push((name.clone(), Verdict::Worse(why))),
                None if passed => verdicts.push((name.clone(), Verdict::Passed)),
                None => {}
            }
        }
        verdicts
    }

    /// Ends a probation well.
    fn pass(&self, name: &str) {
        let Some(trial) = self.records.lock().get_mut(name).and_then(|record| record.trial.take()) else { return };
        let seats = self.seats(&trial);
        for worker in &self.workers {
            drop(worker.send(Order::Release(seats.clone())));
        }
    }

    /// Has the version before serve again, and remembers this one.
    async fn go_back(&self, name: &str, why: String) {
        let Some(serving) = self.serving(name) else { return };
        let Some(trial) = self.records.lock().get_mut(name).and_then(|record| record.trial.take()) else { return };
        let seats = self.seats(&trial);
        let switched: Vec<_> = (self.workers.iter())
            .map(|worker| {
                let (done, switched) = oneshot::channel();
                drop(worker.send(Order::GoBack(seats.clone(), done)));
                switched
            })
            .collect();
        {
            let mut placed = self.parts.placed.lock();
            for (at, used) in trial.previous {
                placed[at].used = used;
            }
        }
        let digest = serving.plugin().digest();
        {
            let mut records = self.records.lock();
            let record = records.entry(name.to_owned()).or_default();
            record.refused.retain(|refused| !refused.is(digest));
            record.refused.push_back(RefusedVersion { digest: format!("sha256:{digest}"), why: why.clone() });
            if record.refused.len() > MOST_REFUSED {
                record.refused.pop_front();
            }
            record.note(ChangeKind::TakenBack, digest, Some(why.clone()));
        }
        let (digest, generation) = (serving.plugin().short_digest(), serving.generation());
        let before = self.serving(name);
        let back_to = before.as_ref().map_or("", |used| used.plugin().short_digest());
        warn!(plugin = name, digest, generation, back_to, "taken back on probation: {why}");
        wait_for(switched).await;
    }

    fn seats(&self, trial: &OnTrial) -> Vec<Seat> {
        let placed = self.parts.placed.lock();
        trial.previous.iter().map(|(at, _)| placed[*at].seat).collect()
    }
}
