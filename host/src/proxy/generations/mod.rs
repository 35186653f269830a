//! The configurations that served, and the ways to another one: from the file, from an operator, back to an earlier one,
//! and back by itself when one that waits for its confirmation does not get it or does worse.

mod history;
mod pending;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::admin::{Accepted, Awaited, ConfigChange, ConfigStatus, GenerationStatus, NotAccepted};
use crate::config::{Config, Faults, masked};
use crate::plugins::digest;
use crate::proxy::running::{NotApplied, Running};
use crate::proxy::supervisor::Supervisor;
use crate::proxy::turnover::Turnover;

pub(super) use history::{Generation, History, Source};
use pending::{Marks, Pending, Routes};

/// Time between two looks at a configuration that waits for its confirmation.
const LOOK: Duration = Duration::from_millis(500);

/// All configurations of this process.
pub(super) struct Generations {
    running: Arc<Running>,
    turnover: Arc<Turnover>,
    supervisor: Supervisor,
    /// Held by who brings another configuration: they are taken down in the order in which they serve.
    turn: tokio::sync::Mutex<()>,
    history: Mutex<History>,
    pending: Mutex<Option<Pending>>,
    looked: Mutex<Option<Instant>>,
    marks: Mutex<Marks>,
    last: Mutex<Option<ConfigChange>>,
    /// Configurations that did not take over.
    refused: AtomicU64,
    /// Configurations that served and were taken back.
    taken_back: AtomicU64,
}

/// A configuration on its way.
struct Coming {
    config: Config,
    way: Way,
}

/// How a configuration comes.
#[derive(Clone)]
struct Way {
    source: Source,
    /// The first generation that said the same, if it comes back.
    again: Option<u64>,
    /// Which generation has to go, and why, if no operator wished it.
    instead_of: Option<(u64, String)>,
    /// How long it may serve without being confirmed.
    confirm: Option<Duration>,
}

/// What was kept of earlier processes. A state folder that cannot be read costs what was in it.
pub(super) fn remembered(config: &Config) -> History {
    let Some(folder) = &config.server.state else { return History::default() };
    store::load(folder).unwrap_or_else(|error| {
        error!(folder = %folder.display(), %error, "earlier configurations are not known: what was kept cannot be read");
        History::default()
    })
}

impl Generations {
    /// `history`: what was known before this process; it serves its first configuration by now.
    pub(super) fn new(
        running: Arc<Running>,
        turnover: Arc<Turnover>,
        supervisor: Supervisor,
        mut history: History,
    ) -> Self {
        let parts = running.parts();
        let coming = Coming { config: parts.config.clone(), way: Way::new(Source::Start) };
        history.accept(coming.generation(running.generation()), None);
        keep(parts.config.server.state.as_deref(), &history);
        Self {
            running,
            turnover,
            supervisor,
            turn: tokio::sync::Mutex::default(),
            history: Mutex::new(history),
            pending: Mutex::default(),
            looked: Mutex::default(),
            marks: Mutex::default(),
            last: Mutex::default(),
            refused: AtomicU64::new(0),
            taken_back: AtomicU64::new(0),
        }
    }

    /// Reads the configuration's file again and has it serve.
    ///
    /// # Errors
    /// When it does not; what served serves on.
    pub(super) async fn reload(self: &Arc<Self>) -> Result<Accepted, NotAccepted> {
        let Some(file) = self.running.parts().config.file.clone() else {
            return Err(NotAccepted::Unknown("this configuration was not read from a file".to_owned()));
        };
        info!(file = %file.display(), "reading the configuration again");
        self.supervisor.reloading();
        let loaded = aside(move || Config::load(&file)).await;
        let accepted = self.have(loaded, Way::new(Source::Reload)).await;
        self.supervisor.ready();
        accepted
    }

    /// Has this text serve. Relative paths in it begin where those of the configuration before did. `confirm`: how long,
    /// unless it is confirmed.
    ///
    /// # Errors
    /// When it does not; what served serves on.
    pub(super) async fn accept(
        self: &Arc<Self>,
        text: String,
        confirm: Option<Duration>,
    ) -> Result<Accepted, NotAccepted> {
        let file = self.running.parts().config.file.clone();
        let parsed = aside(move || Config::parse(&text, file.as_deref())).await;
        self.have(parsed, Way { confirm, ..Way::new(Source::Admin) }).await
    }

    /// Has an earlier configuration serve again: the one before, or the one of a number.
    ///
    /// # Errors
    /// When it does not; what served serves on.
    pub(super) async fn roll_back(self: &Arc<Self>, to: Option<u64>) -> Result<Accepted, NotAccepted> {
        let wanted = {
            let history = self.history.lock();
            let found = to.map_or_else(|| history.previous(), |number| history.get(number));
            found.cloned().ok_or_else(|| unknown(&history, to))
        }?;
        self.bring_back(wanted, Way::new(Source::Rollback)).await
    }

    /// Has the configuration that waits for it stay. Answers its number.
    ///
    /// # Errors
    /// When none waits.
    pub(super) fn confirm(&self) -> Result<Accepted, NotAccepted> {
        match self.pending.lock().take() {
            Some(pending) => {
                info!(generation = pending.number, "confirmed: it stays");
                Ok(Accepted { generation: pending.number, pending: None })
            }
            None => {
                let last = self.last.lock();
                let fate = last.as_ref().and_then(|last| last.why.as_ref()).map(|why| format!("; the last one: {why}"));
                let fate = fate.unwrap_or_default();
                Err(NotAccepted::Conflict(format!("no configuration waits for its confirmation{fate}")))
            }
        }
    }

    /// Looks at the configuration that waits for its confirmation, and has the one before it come back if need be.
    /// Called often.
    pub(super) fn look(self: &Arc<Self>) {
        let now = Instant::now();
        self.marks.lock().mark(now, || self.running.metrics.route_outcomes());
        let mut place = self.pending.lock();
        let Some(pending) = place.as_mut() else { return };
        let mut looked = self.looked.lock();
        if looked.is_some_and(|at| now < at + LOOK) {
            return;
        }
        *looked = Some(now);
        if self.running.drain.is_cancelled() {
            return;
        }
        let Some(why) = pending.look(now, &self.running.metrics.route_outcomes()) else { return };
        if let Some(Pending { number, back_to, .. }) = place.take() {
            tokio::spawn(self.clone().take_back(number, back_to, why));
        }
    }

    /// Configurations that did not take over.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Configurations that were taken back.
    pub(super) fn taken_back(&self) -> u64 {
        self.taken_back.load(Relaxed)
    }

    /// Whether a configuration waits for its confirmation.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.lock().is_some()
    }

    /// What serves, or what a number stands for.
    ///
    /// # Errors
    /// When the number is not known.
    pub(super) fn status(&self, number: Option<u64>) -> Result<ConfigStatus, NotAccepted> {
        let history = self.history.lock();
        let found = number.map_or_else(|| history.serving(), |number| history.get(number));
        let shown = found.ok_or_else(|| unknown(&history, number))?;
        let config = &self.running.parts().config;
        let token = config.admin.as_ref().and_then(|admin| admin.token.as_deref());
        Ok(ConfigStatus {
            serving: self.running.generation(),
            shown: told(shown),
            file: shown.file.as_ref().map(|file| file.display().to_string()),
            text: masked(&shown.text, token),
            pending: self.pending.lock().as_ref().map(awaited),
            last_change: self.last.lock().clone(),
            refused: self.refused(),
            taken_back: self.taken_back(),
            history: history.iter().map(told).collect(),
        })
    }

    /// Has an earlier configuration serve again.
    async fn bring_back(self: &Arc<Self>, wanted: Generation, way: Way) -> Result<Accepted, NotAccepted> {
        let again = Some(wanted.again.unwrap_or(wanted.number));
        let parsed = aside(move || Config::parse(&wanted.text, wanted.file.as_deref())).await;
        self.have(parsed, Way { again, ..way }).await
    }

    async fn take_back(self: Arc<Self>, number: u64, back_to: u64, why: String) {
        warn!(generation = number, back_to, "taking the configuration back: {why}");
        let wanted = self.history.lock().get(back_to).cloned();
        let brought = match wanted {
            Some(wanted) => {
                let instead_of = Some((number, why.clone()));
                self.bring_back(wanted, Way { instead_of, ..Way::new(Source::TakenBack) }).await
            }
            None => Err(NotAccepted::Broken(format!("generation {back_to} is not known any more"))),
        };
        if let Err(not) = brought {
            error!(generation = number, "it serves on, though it should not: {not}");
            self.note(number, "stays", Some(format!("{why}, and what was before it cannot come back: {not}")));
        }
    }

    /// Has a configuration serve, if it could be read at all. It happens whether the caller waits for it or not.
    async fn have(self: &Arc<Self>, config: Option<Result<Config, Faults>>, way: Way) -> Result<Accepted, NotAccepted> {
        let generations = self.clone();
        let transaction = tokio::spawn(async move {
            let config = config.ok_or(NotApplied::Broken).and_then(|config| config.map_err(NotApplied::Faults));
            let applied = match config {
                Ok(config) => generations.transact(Coming { config, way }).await,
                Err(not) => Err(not),
            };
            applied.map_err(|not| generations.refuse(not))
        });
        transaction.await.unwrap_or_else(|_| Err(NotAccepted::Broken(NotApplied::Broken.to_string())))
    }

    async fn transact(&self, coming: Coming) -> Result<Accepted, NotApplied> {
        let _turn = self.turn.lock().await;
        for warning in &coming.config.warnings {
            warn!("{warning}");
        }
        let before = self.running.generation();
        if coming.way.instead_of.as_ref().is_some_and(|(gone, _)| *gone != before) {
            info!(generation = before, "nothing is taken back: another configuration serves by now");
            return Ok(Accepted { generation: before, pending: None });
        }
        let came = self.marks.lock().since(&self.running.metrics.route_outcomes());
        let applied = self.running.apply(coming.config.clone()).await?;
        self.turnover.settle_all_but(&applied.kept);
        let number = applied.generation;
        info!(generation = number, source = coming.way.source.name(), "another configuration serves");
        let pending = self.pend(&coming, number, before, &came);
        let history = {
            let mut history = self.history.lock();
            let pinned = self.pending.lock().as_ref().map(|pending| pending.back_to);
            history.accept(coming.generation(number), pinned);
            match &coming.way.instead_of {
                Some((gone, why)) => {
                    self.taken_back.fetch_add(1, Relaxed);
                    self.note(*gone, "taken_back", Some(why.clone()));
                }
                None => self.note(number, "accepted", None),
            }
            history.clone()
        };
        let folder = coming.config.server.state;
        // Whoever waits need not wait for a disk, but the next configuration is not kept before this one.
        aside(move || keep(folder.as_deref(), &history)).await;
        Ok(Accepted { generation: number, pending })
    }

    /// Has a configuration that took over wait for its confirmation, if it is to. Another one waits no more then; what
    /// comes back is still the last one that did not have to wait.
    fn pend(&self, coming: &Coming, number: u64, before: u64, came: &Routes) -> Option<Awaited> {
        let is_same = self.history.lock().serving().is_some_and(|serving| serving.text == coming.config.text);
        let mut place = self.pending.lock();
        let earlier = place.take();
        let time = coming.way.confirm.filter(|_| !is_same || earlier.is_some())?;
        let back_to = earlier.map_or(before, |earlier| earlier.back_to);
        let counted = self.running.metrics.route_outcomes();
        let pending = Pending::new(number, back_to, time, Instant::now(), came, &counted);
        let awaited = awaited(&pending);
        info!(generation = number, back_to, "it waits {time:?} for its confirmation");
        *place = Some(pending);
        Some(awaited)
    }

    fn refuse(&self, not: NotApplied) -> NotAccepted {
        self.refused.fetch_add(1, Relaxed);
        error!("nothing was changed, what served serves on:\n{not}");
        self.note(self.running.generation(), "refused", Some(not.to_string()));
        match not {
            NotApplied::Faults(faults) => NotAccepted::Faulty(faults),
            NotApplied::Draining => NotAccepted::Conflict(not.to_string()),
            NotApplied::Broken => NotAccepted::Broken(not.to_string()),
        }
    }

    fn note(&self, generation: u64, outcome: &'static str, why: Option<String>) {
        *self.last.lock() = Some(ConfigChange { generation, outcome, at: SystemTime::now(), why });
    }
}

impl Way {
    fn new(source: Source) -> Self {
        Self { source, again: None, instead_of: None, confirm: None }
    }
}

impl Coming {
    fn generation(&self, number: u64) -> Generation {
        let Config { file, text, .. } = &self.config;
        let Way { source, again, instead_of, .. } = self.way.clone();
        let why = instead_of.map(|(gone, why)| format!("instead of generation {gone}: {why}"));
        let (since, file, text) = (SystemTime::now(), file.as_deref().map(whole), text.clone());
        Generation { number, since, source, again, why, file, text }
    }
}

/// A path that means the same to another process.
fn whole(path: &std::path::Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Keeps the history, if there is a folder for it.
fn keep(folder: Option<&std::path::Path>, history: &History) {
    let Some(folder) = folder else { return };
    if let Err(error) = store::save(folder, history) {
        error!(folder = %folder.display(), %error, "the configuration serves but is not kept: `rollback` will not know it after a restart");
    }
}

fn told(generation: &Generation) -> GenerationStatus {
    GenerationStatus {
        generation: generation.number,
        since: generation.since,
        source: generation.source.name(),
        again: generation.again,
        why: generation.why.clone(),
        digest: format!("sha256:{}", digest(generation.text.as_bytes())),
        bytes: generation.text.len(),
    }
}

fn awaited(pending: &Pending) -> Awaited {
    let left = pending.until.saturating_duration_since(Instant::now());
    Awaited { generation: pending.number, back_to: pending.back_to, seconds_left: left.as_secs_f64().ceil() as u64 }
}

fn unknown(history: &History, number: Option<u64>) -> NotAccepted {
    let known: Vec<_> = history.iter().map(|known| known.number.to_string()).collect();
    let known = known.join(", ");
    NotAccepted::Unknown(match number {
        Some(number) => format!("generation {number} is not kept, only {known}"),
        None => format!("no other configuration is kept, only {known}"),
    })
}

/// Does something slow away from the control thread; `None` when it panicked.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
