//! Versions on probation: what they are judged by, and the way back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{MOST_REFUSED, Renewal, Turnover};
use crate::admin::{ChangeKind, RefusedVersion, Standing, Trial};
use crate::config;
use crate::plugins::Use;
use crate::proxy::blueprint::Seat;
use crate::proxy::orders::Order;
use crate::proxy::parts::Placed;
use crate::proxy::probation::{Probation, Verdict};
use crate::proxy::running::wait_for;
use crate::telemetry::metrics::Outcomes;

/// Time between two marks of what upstreams came to, and how many there are: a version is compared with the five
/// minutes before it.
const MARK_EVERY: Duration = Duration::from_secs(60);
const MARKS: usize = 5;

/// A version on probation.
pub(super) struct OnTrial {
    /// What comes back if it fails.
    previous: Vec<(Seat, Use)>,
    /// Each use is judged by the upstreams it serves.
    judges: Vec<Judge>,
}

struct Judge {
    seat: Seat,
    upstreams: Vec<Arc<str>>,
    probation: Probation,
}

impl Turnover {
    /// Looks at the versions on probation: takes back those that do worse, and lets those pass whose time is over.
    pub(in crate::proxy) async fn judge(&self) {
        let now = Instant::now();
        self.mark(now);
        // While something is replaced there is time to judge later.
        let Ok(_turn) = self.running.turn.try_lock() else { return };
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
        for other in self.on_trial(|other, seat| other != name && seats.contains(seat)) {
            self.pass(&other);
            info!(plugin = other, because = name, "its probation ends early: a plugin beside it is replaced");
        }
    }

    /// Ends the probation of plugins that do not go on as they are in all their places, after another configuration
    /// took over.
    pub(in crate::proxy) fn settle_all_but(&self, kept: &[Seat]) {
        for name in self.on_trial(|_, seat| !kept.contains(seat)) {
            self.pass(&name);
            info!(plugin = name, "its probation ends early: another configuration serves");
        }
    }

    /// The plugins on probation in a place of which something holds.
    fn on_trial(&self, holds: impl Fn(&str, &Seat) -> bool) -> Vec<String> {
        let records = self.records.lock();
        let on_trial = records.iter().filter_map(|(name, record)| Some((name, record.trial.as_ref()?)));
        let found = on_trial.filter(|(name, trial)| trial.previous.iter().any(|(seat, _)| holds(name, seat)));
        found.map(|(name, _)| name.clone()).collect()
    }

    /// What comes back if the new version does worse: the version that serves, or the one before it if that one is on
    /// probation itself.
    pub(super) fn begin_trial(&self, name: &str, renewals: &[Renewal], until: Instant) -> OnTrial {
        let earlier = self.records.lock().get_mut(name).and_then(|record| record.trial.take());
        let judges = renewals
            .iter()
            .map(|renewal| {
                let upstreams = self.upstreams_of(&renewal.seat);
                let begin = self.outcomes(&upstreams);
                let known = earlier.iter().flat_map(|trial| &trial.judges).find(|judge| judge.seat == renewal.seat);
                let before = match known {
                    Some(judge) => judge.probation.before().clone(),
                    None => begin.since(&self.marked(&upstreams)),
                };
                Judge {
                    seat: renewal.seat.clone(),
                    upstreams,
                    probation: Probation::new("its upstream's", until, before, begin),
                }
            })
            .collect();
        let previous = match earlier {
            Some(trial) => trial.previous,
            None => {
                let parts = self.running.parts();
                let placed = parts.placed.lock();
                let is_renewed = |placed: &&Placed| renewals.iter().any(|renewal| renewal.seat == placed.seat);
                placed.iter().filter(is_renewed).map(|placed| (placed.seat.clone(), placed.used.clone())).collect()
            }
        };
        OnTrial { previous, judges }
    }

    /// The upstreams whose requests a place has a part in.
    fn upstreams_of(&self, seat: &Seat) -> Vec<Arc<str>> {
        let parts = self.running.parts();
        match seat {
            Seat::Balancer(upstream) | Seat::Retry(upstream) => vec![upstream.clone()],
            Seat::Rewriter { route, .. } => {
                let name = |upstream: &usize| parts.upstreams[*upstream].name.clone();
                let route = parts.config.routes.iter().find(|known| *known.name == **route);
                match route.map(|route| &route.action) {
                    Some(config::Action::Upstream(upstream)) => vec![name(upstream)],
                    Some(config::Action::Split(shares)) => shares.iter().map(|(upstream, _)| name(upstream)).collect(),
                    Some(config::Action::Respond { .. } | config::Action::Redirect { .. }) | None => Vec::new(),
                }
            }
        }
    }

    /// All that some upstreams have come to.
    fn outcomes(&self, upstreams: &[Arc<str>]) -> Outcomes {
        let of = |upstream: &Arc<str>| self.running.metrics.outcomes(upstream);
        upstreams.iter().map(of).fold(Outcomes::default(), |sum, outcomes| sum.and(&outcomes))
    }

    /// What they had come to at the oldest mark.
    fn marked(&self, upstreams: &[Arc<str>]) -> Outcomes {
        let marks = self.marks.lock();
        let Some((_, marked)) = marks.front() else { return Outcomes::default() };
        upstreams.iter().filter_map(|upstream| marked.get(upstream)).fold(Outcomes::default(), |sum, o| sum.and(o))
    }

    fn mark(&self, now: Instant) {
        let mut marks = self.marks.lock();
        if marks.back().is_some_and(|(at, _)| now < *at + MARK_EVERY) {
            return;
        }
        let parts = self.running.parts();
        let upstreams = parts.upstreams.iter().map(|shared| shared.name.clone());
        marks.push_back((now, upstreams.map(|name| (name.clone(), self.running.metrics.outcomes(&name))).collect()));
        if marks.len() > MARKS {
            marks.pop_front();
        }
    }

    fn verdicts(&self, now: Instant) -> Vec<(String, Verdict)> {
        let placed: HashMap<_, _> = {
            let parts = self.running.parts();
            let placed = parts.placed.lock();
            placed.iter().map(|placed| (placed.seat.clone(), placed.used.clone())).collect()
        };
        let mut verdicts = Vec::new();
        for (name, record) in self.records.lock().iter_mut() {
            let Some(trial) = &mut record.trial else { continue };
            let mut passed = true;
            let mut worse = None;
            for judge in &mut trial.judges {
                let Some(serving) = placed.get(&judge.seat) else { continue };
                let own = || serving.chain().filter(|used| used.plugin().name() == name);
                let faults = own().map(Use::faulted).sum();
                match judge.probation.look(now, faults, &self.outcomes(&judge.upstreams)) {
                    Verdict::Undecided => passed = false,
                    Verdict::Passed => {}
                    Verdict::Worse(why) => {
                        let last = own().find_map(Use::last_fault).filter(|_| faults > 0);
                        let last = last.map_or_else(String::new, |fault| format!(" ({fault})"));
                        worse.get_or_insert(format!("in `{}` {why}{last}", serving.name()));
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
        let seats = trial.seats();
        for worker in self.running.workers().iter() {
            drop(worker.send(Order::Release(seats.clone())));
        }
    }

    /// Has the version before serve again, and remembers this one.
    async fn go_back(&self, name: &str, why: String) {
        let Some(serving) = self.serving(name) else { return };
        let Some(trial) = self.records.lock().get_mut(name).and_then(|record| record.trial.take()) else { return };
        let seats = trial.seats();
        let switched: Vec<_> = (self.running.workers().iter())
            .map(|worker| {
                let (done, switched) = oneshot::channel();
                drop(worker.send(Order::GoBack(seats.clone(), done)));
                switched
            })
            .collect();
        {
            let parts = self.running.parts();
            let mut placed = parts.placed.lock();
            for (seat, used) in trial.previous {
                if let Some(placed) = placed.iter_mut().find(|placed| placed.seat == seat) {
                    placed.used = used;
                }
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
}

impl OnTrial {
    fn seats(&self) -> Vec<Seat> {
        self.previous.iter().map(|(seat, _)| seat.clone()).collect()
    }
}
