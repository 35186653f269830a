//! Replaces the version of a plugin while the proxy serves.
//!
//! # The transaction
//!
//! Everything that may fail happens on the side: the digest is verified, the file compiled, an instance made and
//! configured for each use and worker, a balancer told the membership, state handed over. Only then is every worker
//! ordered to switch, which it does between two requests and which cannot fail. Until that order, whatever goes wrong
//! leaves the old version serving.

mod trial;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::admin::{Change, ChangeKind, NotReplaced, RefusedVersion, Replaced};
use crate::config;
use crate::plugins::{Kind, Limits, Plugin, PluginError, PluginHost, Use, builtin, digest, verify_digest};
use crate::proxy::blueprint::{Ready, Seat};
use crate::proxy::orders::Order;
use crate::proxy::parts::{Placed, chain, limits, members};
use crate::proxy::running::{Running, saved, wait_for};
use crate::telemetry::metrics::Outcomes;

use trial::OnTrial;

/// Versions remembered as refused, of one plugin.
const MOST_REFUSED: usize = 32;
/// Turns plugins over. Used by the tasks of the control thread.
pub(in crate::proxy) struct Turnover {
    running: Arc<Running>,
    /// By plugin.
    records: Mutex<BTreeMap<String, Record>>,
    /// What each upstream had come to, the latest mark last.
    marks: Mutex<VecDeque<Mark>>,
}

/// What each upstream had come to at a moment.
type Mark = (Instant, BTreeMap<Arc<str>, Outcomes>);

/// What has become of one plugin's versions.
#[derive(Default)]
struct Record {
    trial: Option<OnTrial>,
    refused: VecDeque<RefusedVersion>,
    last: Option<Change>,
    counts: [u64; ChangeKind::ALL.len()],
}

/// A place whose plugin is to be another version.
struct Renewal {
    seat: Seat,
    next: Use,
}

impl Turnover {
    pub(in crate::proxy) fn new(running: Arc<Running>) -> Self {
        Self { running, records: Mutex::default(), marks: Mutex::default() }
    }

    /// Has another version of a plugin serve in all its uses. It happens whether the caller waits for it or not.
    ///
    /// # Errors
    /// When it does not; the old version serves on.
    pub(in crate::proxy) async fn replace(
        self: &Arc<Self>,
        name: &str,
        bytes: Vec<u8>,
        force: bool,
    ) -> Result<Replaced, NotReplaced> {
        let (turnover, name) = (self.clone(), name.to_owned());
        let transaction = tokio::spawn(async move {
            let digest = digest(&bytes);
            let outcome = turnover.transact(&name, &digest, bytes, force).await;
            turnover.tell(&name, &digest, &outcome);
            outcome
        });
        transaction.await.unwrap_or_else(|_| Err(NotReplaced::Broken("the swap broke off: a bug of the proxy".into())))
    }

    async fn transact(&self, name: &str, digest: &str, bytes: Vec<u8>, force: bool) -> Result<Replaced, NotReplaced> {
        let parts = self.running.parts();
        let own = parts.config.plugins.iter().find(|plugin| plugin.name == name);
        let Some(serving) = self.serving(name) else {
            return Err(NotReplaced::Unknown(match own.is_some() || builtin::find(name).is_some() {
                true => format!("the plugin `{name}` is used nowhere, so there is nothing to replace"),
                false => format!("there is no plugin `{name}`"),
            }));
        };
        if serving.plugin().digest() == digest && !force {
            return Ok(self.replaced(name, &serving, false));
        }
        if !force && let Some(why) = self.refusal(name, digest) {
            return Err(NotReplaced::Refused(format!(
                "this version of `{name}` has served before and was taken back: {why}; `force=true` tries it again"
            )));
        }
        if let Some(expected) = own.and_then(|own| own.sha256.as_ref()) {
            verify_digest(name, &bytes, expected).map_err(|error| unfit(&error))?;
        }
        let plugin = {
            let (host, name, limits) = (self.running.host.clone(), name.to_owned(), limits(name, own));
            aside(move || host.load(&name, &bytes, limits)).await?
        };

        let _turn = self.running.turn.lock().await;
        let renewals = self.renewals(name, &plugin)?;
        let mut parts = self.build(&renewals).await?;
        if plugin.exports().handover {
            parts = self.hand_over(&renewals, parts).await?;
        }
        let probation = own.map_or(Some(config::PROBATION), |own| own.probation);
        self.commit(name, renewals, parts, probation).await;
        let serving = self.serving(name).unwrap_or(serving);
        Ok(self.replaced(name, &serving, true))
    }

    /// The first use of a plugin.
    fn serving(&self, name: &str) -> Option<Use> {
        let parts = self.running.parts();
        let placed = parts.placed.lock();
        placed.iter().flat_map(Placed::uses).find(|used| used.plugin().name() == name).cloned()
    }

    fn refusal(&self, name: &str, digest: &str) -> Option<String> {
        let records = self.records.lock();
        let refused = records.get(name)?.refused.iter().find(|refused| refused.is(digest))?;
        Some(refused.why.clone())
    }

    /// Every place where the plugin serves, with the use that is to serve there.
    fn renewals(&self, name: &str, plugin: &Plugin) -> Result<Vec<Renewal>, NotReplaced> {
        let placed = self.running.parts().placed.lock().clone();
        let mut renewals = Vec::new();
        for Placed { seat, used } in placed {
            if let Some(next) = renewed(&self.running.host, &used, name, plugin).map_err(|error| unfit(&error))? {
                renewals.push(Renewal { seat, next });
            }
        }
        Ok(renewals)
    }

    /// Makes what each worker is to serve, by worker and then in the order of the renewals.
    async fn build(&self, renewals: &[Renewal]) -> Result<Vec<Vec<Ready>>, NotReplaced> {
        let now = Instant::now();
        let uses: Vec<_> = renewals.iter().map(|renewal| renewal.next.clone()).collect();
        let parts = self.running.parts();
        let around: Vec<_> = renewals
            .iter()
            .map(|renewal| match &renewal.seat {
                Seat::Balancer(upstream) => {
                    let shared = parts.upstream(upstream)?;
                    Some((members(shared, now), shared.loads.clone()))
                }
                Seat::Retry(_) | Seat::Rewriter { .. } => None,
            })
            .collect();
        let workers = parts.workers;
        aside(move || {
            let ready = |worker, used: &Use, around: &Option<_>| match (used.kind(), around) {
                (Kind::Balancer, Some((members, loads))) => {
                    used.balancer(worker, Arc::clone(members), Arc::clone(loads)).map(Ready::Balancer)
                }
                (Kind::Retry, _) => used.retry(worker).map(Ready::Retry),
                (Kind::Balancer | Kind::Rewriter, _) => used.rewriter(worker).map(Ready::Rewriter),
            };
            let of_worker =
                |worker| uses.iter().zip(&around).map(|(used, around)| ready(worker, used, around)).collect();
            (0..workers).map(of_worker).collect()
        })
        .await
    }

    /// Takes the state of what serves, and gives it to what is to serve.
    async fn hand_over(
        &self,
        renewals: &[Renewal],
        mut parts: Vec<Vec<Ready>>,
    ) -> Result<Vec<Vec<Ready>>, NotReplaced> {
        let seats: Vec<_> = renewals.iter().map(|renewal| renewal.seat.clone()).collect();
        let states = saved(&self.running.workers(), &seats).await;
        aside(move || {
            for (parts, states) in parts.iter_mut().zip(states) {
                for (ready, state) in parts.iter_mut().zip(states) {
                    if let Some(state) = state {
                        ready.restore(&state)?;
                    }
                }
            }
            Ok(parts)
        })
        .await
    }

    /// Has every worker switch. Nothing here fails, and until the last worker is ordered nothing waits.
    async fn commit(&self, name: &str, renewals: Vec<Renewal>, parts: Vec<Vec<Ready>>, probation: Option<Duration>) {
        let now = Instant::now();
        let seats: Vec<_> = renewals.iter().map(|renewal| renewal.seat.clone()).collect();
        self.settle_others(name, &seats);
        let on_trial = probation.map(|length| self.begin_trial(name, &renewals, now + length));
        let switched: Vec<_> = (self.running.workers().iter().zip(parts))
            .map(|(worker, parts)| {
                let (done, switched) = oneshot::channel();
                let parts = seats.iter().cloned().zip(parts).collect();
                drop(worker.send(Order::Install { parts, keep: probation.is_some(), done }));
                switched
            })
            .collect();
        {
            let parts = self.running.parts();
            let mut placed = parts.placed.lock();
            for Renewal { seat, next } in renewals {
                next.chain().for_each(Use::take_over);
                if let Some(placed) = placed.iter_mut().find(|placed| placed.seat == seat) {
                    placed.used = next;
                }
            }
        }
        self.records.lock().entry(name.to_owned()).or_default().trial = on_trial;
        wait_for(switched).await;
    }

    fn replaced(&self, name: &str, serving: &Use, changed: bool) -> Replaced {
        let parts = self.running.parts();
        let placed = parts.placed.lock();
        let uses = placed.iter().flat_map(Placed::uses).filter(|used| used.plugin().name() == name);
        Replaced {
            plugin: name.to_owned(),
            digest: format!("sha256:{}", serving.plugin().digest()),
            generation: serving.generation(),
            changed,
            uses: uses.map(|used| used.name().to_owned()).collect(),
        }
    }

    /// Logs and counts how a swap ended.
    fn tell(&self, name: &str, digest: &str, outcome: &Result<Replaced, NotReplaced>) {
        let short = digest.get(..12).unwrap_or(digest);
        let (kind, why) = match outcome {
            Ok(Replaced { changed: false, .. }) => {
                return debug!(plugin = name, digest = short, "this version serves already");
            }
            Ok(Replaced { generation, uses, .. }) => {
                info!(plugin = name, digest = short, generation, uses = uses.len(), "a new version serves");
                (ChangeKind::Replaced, None)
            }
            Err(NotReplaced::Unknown(why)) => {
                return warn!(plugin = name, digest = short, "nothing was replaced: {why}");
            }
            Err(not) => {
                warn!(plugin = name, digest = short, "not replaced, the old version serves on: {not}");
                (ChangeKind::Failed, Some(not.to_string()))
            }
        };
        let mut records = self.records.lock();
        let record = records.entry(name.to_owned()).or_default();
        if kind == ChangeKind::Replaced {
            record.refused.retain(|refused| !refused.is(digest));
        }
        record.note(kind, digest, why);
    }
}

impl Record {
    fn note(&mut self, kind: ChangeKind, digest: &str, why: Option<String>) {
        self.counts[kind as usize] += 1;
        self.last = Some(Change { kind, at: SystemTime::now(), digest: format!("sha256:{digest}"), why });
    }
}

/// The use that follows `used` when the plugin `name` is replaced, in it or behind it; `None` when it is in neither.
fn renewed(host: &PluginHost, used: &Use, name: &str, plugin: &Plugin) -> Result<Option<Use>, PluginError> {
    let behind = match used.behind() {
        Some(behind) => renewed(host, behind, name, plugin)?,
        None => None,
    };
    let is_own = used.plugin().name() == name;
    if !is_own && behind.is_none() {
        return Ok(None);
    }
    let plugin = if is_own { plugin } else { used.plugin() };
    let behind = match behind.or_else(|| used.behind().cloned()) {
        None if plugin.delegates() => Some(round_robin(host, used)?),
        behind => behind,
    };
    used.successor(plugin, behind).map(Some)
}

/// What stands behind a balancer that begins to leave a part of the decision to another.
fn round_robin(host: &PluginHost, used: &Use) -> Result<Use, PluginError> {
    let name = "round-robin";
    let component = builtin::find(name).map_or(&[][..], |builtin| builtin.component);
    let plugin = host.load(name, component, Limits::default())?;
    plugin.use_as(Kind::Balancer, &format!("{}, then", used.name()), &config::Settings::default())
}

/// Does something slow away from the control thread.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PluginError> + Send + 'static,
) -> Result<T, NotReplaced> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| unfit(&error)),
        Err(_) => Err(NotReplaced::Broken("building the plugin panicked: a bug of the proxy".into())),
    }
}

fn unfit(error: &PluginError) -> NotReplaced {
    NotReplaced::Unfit(match error {
        PluginError::Refused { use_name, issues, .. } => {
            let issues: Vec<_> = (issues.iter())
                .map(|issue| {
                    if issue.path.is_empty() {
                        issue.message.clone()
                    } else {
                        format!("`{}`: {}", issue.path, issue.message)
                    }
                })
                .collect();
            format!("it refuses the settings of {use_name}: {}", issues.join("; "))
        }
        error => chain(error),
    })
}
