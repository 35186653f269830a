//! Hands the listening sockets to a new process of the same program, so that another version of it serves on without a
//! refused or reset connection.
//!
//! # In which order?
//!
//! The new process is started with clones of all sockets, the admin server's among them, and reads its configuration.
//! Only when it says that it serves does this one stop to accept. It leaves the connections that wait in the sockets'
//! queues: the new process serves those very queues. What it has accepted it finishes, within `drain_timeout`. A new
//! process that fails, or says nothing, is ended, and this one serves on as if nothing had been.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admin::{NotUpgraded, Upgraded};
use crate::listener::{Answer, Bound, Successor};
use crate::proxy::running::Running;
use crate::proxy::supervisor::Supervisor;

/// How long a new process may take until it serves: it compiles every plugin.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a new process that gave up may take to end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How this process was started, to be started so again.
#[derive(Clone, Debug)]
pub struct Program {
    /// By its name, not by what that name meant: behind it may be another file by then.
    pub path: PathBuf,
    pub arguments: Vec<OsString>,
    pub folder: PathBuf,
}

/// The way to a new process.
pub(super) struct Upgrade {
    program: Option<Program>,
    running: Arc<Running>,
    /// Where the admin server is.
    pub(super) admin: Mutex<Option<Arc<Bound>>>,
    supervisor: Supervisor,
    /// Another process serves.
    pub(super) done: CancellationToken,
    /// Held while a new process begins.
    turn: tokio::sync::Mutex<()>,
}

/// Starts a new process each time it is asked for.
pub(super) async fn run(upgrade: Arc<Upgrade>, asked: Arc<Notify>) {
    loop {
        asked.notified().await;
        let upgrade = upgrade.clone();
        // What becomes of it is logged there.
        tokio::spawn(async move { drop(upgrade.begin().await) });
    }
}

/// Tells the service manager when this process begins to end, unless another one is the service by then.
pub(super) async fn tell_end(upgrade: Arc<Upgrade>) {
    upgrade.running.drain.cancelled().await;
    if !upgrade.done.is_cancelled() {
        upgrade.supervisor.stopping();
    }
}

impl Upgrade {
    pub(super) fn new(program: Option<Program>, running: Arc<Running>, supervisor: Supervisor) -> Self {
        let (admin, done, turn) = (Mutex::default(), CancellationToken::new(), tokio::sync::Mutex::default());
        Self { program, running, admin, supervisor, done, turn }
    }

    /// Has a new process take over. It happens whether the caller waits for it or not.
    ///
    /// # Errors
    /// When it does not; this one serves on.
    pub(super) async fn begin(self: &Arc<Self>) -> Result<Upgraded, NotUpgraded> {
        let upgrade = self.clone();
        let transaction = tokio::spawn(async move {
            let outcome = upgrade.transact().await;
            match &outcome {
                Ok(Upgraded { pid }) => info!(pid, "a new process serves; this one drains and ends"),
                Err(not) => error!("not upgraded, this process goes on: {not}"),
            }
            outcome
        });
        transaction.await.unwrap_or_else(|_| Err(NotUpgraded::Failed("it broke off: a bug of the proxy".into())))
    }

    async fn transact(&self) -> Result<Upgraded, NotUpgraded> {
        let Ok(_turn) = self.turn.try_lock() else { return Err(NotUpgraded::UnderWay) };
        if self.running.drain.is_cancelled() {
            return Err(NotUpgraded::Draining);
        }
        let program = self.program.as_ref().ok_or(NotUpgraded::Unknown)?;
        let doors = self.doors();
        let (mut child, successor) = start(program, &doors)
            .map_err(|error| NotUpgraded::Failed(format!("{} cannot be started: {error}", program.path.display())))?;
        let pid = child.id();
        info!(pid, program = %program.path.display(), "started a new process to take over");

        let mut answer = tokio::task::spawn_blocking(move || successor.answer(PATIENCE));
        let answer = tokio::select! {
            answer = &mut answer => answer.unwrap_or_else(|panicked| Err(panicked.into())),
            () = self.running.drain.cancelled() => {
                end(child).await;
                return Err(NotUpgraded::Draining);
            }
        };
        let why = match answer {
            Ok(Some(Answer::Serves { without })) => {
                self.hand_over(&doors, &without, pid);
                return Ok(Upgraded { pid });
            }
            Ok(Some(Answer::Fails(why))) => why,
            Ok(None) => match leave(&mut child).await {
                Some(status) => format!("the new process ended before it served ({status}); its log says why"),
                None => "the new process does not answer".to_owned(),
            },
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                format!("the new process did not serve within {PATIENCE:?}")
            }
            Err(error) => format!("the new process was not understood: {error}"),
        };
        end(child).await;
        Err(NotUpgraded::Failed(why))
    }

    /// Every address that this process listens on.
    fn doors(&self) -> Vec<Arc<Bound>> {
        self.running.bound().into_iter().chain(self.admin.lock().clone()).collect()
    }

    /// Leaves everything to the new process. `without`: the addresses that it does not listen on.
    fn hand_over(&self, doors: &[Arc<Bound>], without: &[String], pid: u32) {
        for bound in doors {
            if !without.contains(&bound.label()) {
                bound.hand_over();
            }
        }
        self.supervisor.replaced_by(pid);
        self.done.cancel();
        self.running.drain.cancel();
    }
}

fn start(program: &Program, doors: &[Arc<Bound>]) -> io::Result<(Child, Successor)> {
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).current_dir(&program.folder).stdin(Stdio::null());
    let (successor, handed) = Successor::prepare(&mut command, doors)?;
    let child = command.spawn()?;
    drop(handed);
    Ok((child, successor))
}

/// Waits a little for the end of a process that is about to end.
async fn leave(child: &mut Child) -> Option<ExitStatus> {
    let looks = async {
        let mut look = tokio::time::interval(Duration::from_millis(10));
        loop {
            look.tick().await;
            if let Ok(Some(status)) = child.try_wait() {
                return status;
            }
        }
    };
    tokio::time::timeout(LAST_WORDS, looks).await.ok()
}

/// Ends a process that is not needed.
async fn end(mut child: Child) {
    if matches!(child.try_wait(), Ok(Some(_))) {
        return;
    }
    let ended = tokio::task::spawn_blocking(move || child.kill().and_then(|()| child.wait())).await;
    if let Ok(Err(error)) = ended {
        warn!(%error, "the new process could not be ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::listener;
    use crate::plugins::PluginHost;
    use crate::proxy::parts::Parts;
    use crate::telemetry::metrics::Metrics;

    fn upgrade(script: &str) -> Arc<Upgrade> {
        let bound =
            listener::bind((&"127.0.0.1:0".parse::<crate::config::ListenAddress>().unwrap()).into(), 1, false).unwrap();
        let host = PluginHost::new().unwrap();
        let parts = Parts::build(Config::default(), &host, 1, None).map(|built| built.parts).unwrap();
        let metrics = Arc::new(Metrics::new(1));
        let bound = vec![Arc::new(bound)];
        let running = Running::new(host, metrics, CancellationToken::new(), Arc::new(parts), bound, None, 1);
        let program = Program {
            path: "/bin/bash".into(),
            arguments: ["-c", script].map(Into::into).to_vec(),
            folder: "/".into(),
        };
        Arc::new(Upgrade::new(Some(program), Arc::new(running), Supervisor::default()))
    }

    /// A shell that answers over the descriptor it was given.
    const ANSWERING: &str = r#"answer=${STAUNCH_SOCKETS#*:}; answer=${answer%%,*}; eval "echo '$0' >&$answer""#;

    fn answering(answer: &str) -> Arc<Upgrade> {
        let mut upgrade = upgrade(ANSWERING);
        let program = Arc::get_mut(&mut upgrade).unwrap().program.as_mut().unwrap();
        program.arguments.push(answer.into());
        upgrade
    }

    #[tokio::test]
    async fn a_process_that_serves_gets_the_sockets_it_wants() {
        let upgrade = answering(r#"{"serves":{"without":[]}}"#);

        upgrade.begin().await.unwrap();

        assert!(upgrade.doors()[0].is_handed_over());
        assert!(upgrade.running.drain.is_cancelled() && upgrade.done.is_cancelled());
        assert_eq!(upgrade.begin().await, Err(NotUpgraded::Draining));
    }

    #[tokio::test]
    async fn a_socket_that_it_does_not_want_is_closed_as_ever() {
        let mut upgrade = upgrade(ANSWERING);
        let address = upgrade.doors()[0].address.clone();
        let program = Arc::get_mut(&mut upgrade).unwrap().program.as_mut().unwrap();
        program.arguments.push(format!(r#"{{"serves":{{"without":["{address}"]}}}}"#).into());

        upgrade.begin().await.unwrap();

        assert!(!upgrade.doors()[0].is_handed_over());
        assert!(upgrade.running.drain.is_cancelled());
    }

    #[tokio::test]
    async fn a_process_that_fails_changes_nothing() {
        for (upgrade, words) in [
            (answering(r#"{"fails":"no such plugin"}"#), "no such plugin"),
            (answering("tea"), "was not understood"),
            (upgrade("exit 7"), "exit status: 7"),
            (upgrade("kill -9 $$"), "signal: 9"),
        ] {
            let not = upgrade.begin().await.unwrap_err();

            assert!(matches!(&not, NotUpgraded::Failed(why) if why.contains(words)), "{not:?}");
            assert!(!upgrade.running.drain.is_cancelled() && !upgrade.doors()[0].is_handed_over());
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_changes_nothing() {
        let mut upgrade = upgrade("");
        Arc::get_mut(&mut upgrade).unwrap().program.as_mut().unwrap().path = "/nowhere/staunch".into();

        let not = upgrade.begin().await.unwrap_err();

        assert!(
            matches!(&not, NotUpgraded::Failed(why) if why.contains("/nowhere/staunch cannot be started")),
            "{not}"
        );
        assert!(!upgrade.running.drain.is_cancelled());
    }

    #[tokio::test]
    async fn who_is_told_to_end_meanwhile_ends_the_new_process_too() {
        let upgrade = upgrade("exec sleep 600");
        let begun = tokio::spawn({
            let upgrade = upgrade.clone();
            async move { upgrade.begin().await }
        });
        while upgrade.turn.try_lock().is_ok() {
            tokio::task::yield_now().await;
        }

        assert_eq!(upgrade.begin().await, Err(NotUpgraded::UnderWay));
        upgrade.running.drain.cancel();

        assert_eq!(begun.await.unwrap(), Err(NotUpgraded::Draining));
        assert!(!upgrade.doors()[0].is_handed_over());
    }
}
