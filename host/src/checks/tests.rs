use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::net::TcpListener;
use tokio::task::{LocalSet, spawn_local};

use super::subscriber::Interest;
use super::*;
use crate::config::{Endpoint, ExchangeCheck, HealthCheck, HealthCheckKind, InitialState};

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// A server that counts who connects.
struct Server {
    address: String,
    connections: Rc<Cell<usize>>,
    mood: Rc<Cell<Mood>>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Mood {
    /// Greets.
    #[default]
    Well,
    /// Closes the connection.
    Ill,
    /// Does nothing until its mood changes.
    Silent,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Self { address, connections: Rc::default(), mood: Rc::default() };
        let (connections, mood) = (server.connections.clone(), server.mood.clone());
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.set(connections.get() + 1);
                let mood = mood.clone();
                spawn_local(async move {
                    eventually(|| mood.get() != Mood::Silent).await;
                    if mood.get() == Mood::Well {
                        // Who only wanted to connect is gone already.
                        let _ = stream.try_write(b"well");
                    }
                });
            }
        });
        server
    }

    /// That this upstream wants its one endpoint checked, and what it is told of it.
    fn wanted(&self, upstream: &str, config: &HealthCheck) -> (Wanted, Told) {
        let endpoint: Endpoint = self.address.parse().unwrap();
        let target = Target::Tcp(vec![self.address.parse().unwrap()]);
        let told = Told::default();
        let subscriber = Subscriber {
            upstream: upstream.into(),
            endpoint: self.address.as_str().into(),
            interest: Box::new(told.clone()),
        };
        let question = Question::new(config, None, &endpoint, &target, &crate::config::Upstream::new(upstream));
        (Wanted { question, timing: config.into(), subscriber }, told)
    }

    fn status(&self, checks: &Checks, upstream: &str) -> Checked {
        checks.status(upstream, &self.address).expect("it is checked")
    }
}

/// What a subscriber was told, in order.
#[derive(Clone, Default)]
struct Told {
    news: Arc<Mutex<Vec<News>>>,
    is_shut: Arc<AtomicBool>,
}

impl Told {
    /// `?` awaited, `+` up, `-` down.
    fn all(&self) -> String {
        let letter = |news: &News| match news {
            News::Awaited => '?',
            News::Up => '+',
            News::Down => '-',
        };
        self.news.lock().iter().map(letter).collect()
    }
}

impl Interest for Told {
    fn is_shut(&self) -> bool {
        self.is_shut.load(Relaxed)
    }

    fn tell(&self, news: News) {
        self.news.lock().push(news);
    }

    fn passed(&self) {}
}

const HOUR: Duration = Duration::from_secs(3600);

/// A check that waits for a banner, at once and never again.
fn once() -> HealthCheck {
    HealthCheck {
        kind: HealthCheckKind::Exchange(ExchangeCheck::default()),
        interval: HOUR,
        timeout: Duration::from_secs(60),
        initial: InitialState::Checking,
        ..HealthCheck::default()
    }
}

async fn eventually(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "it never came true");
        sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_state_is_told_once_it_is_known_and_when_it_changes() {
    run(async {
        let server = Server::start().await;
        let checks = Checks::default();
        let config = HealthCheck { interval: Duration::from_millis(1), down_interval: Some(HOUR), fall: 2, ..once() };
        let (wanted, told) = server.wanted("a", &config);

        checks.take(vec![wanted], 8);
        assert_eq!(told.all(), "?", "it is not known yet");
        assert_eq!(server.status(&checks, "a").reason.as_deref(), Some("it waits for its first check"));
        eventually(|| told.all() == "?+").await;
        eventually(|| server.status(&checks, "a").last.is_some_and(|last| last.in_a_row > 3)).await;
        assert_eq!(server.status(&checks, "a").reason, None);
        server.mood.set(Mood::Ill);

        eventually(|| told.all() == "?+-").await;
        let last = server.status(&checks, "a").last.unwrap();
        assert_eq!((last.result, last.in_a_row), (CheckResult::Closed, 2));
        let reason = "its check fails: it closed the connection before it had answered";
        assert_eq!(server.status(&checks, "a").reason.as_deref(), Some(reason));
    });
}

#[test]
fn an_endpoint_that_comes_back_is_asked_fast() {
    run(async {
        let server = Server::start().await;
        let checks = Checks::default();
        // After its first check it would be asked again in an hour, were it not for the fast interval.
        let config = HealthCheck {
            initial: InitialState::Down,
            fast_interval: Some(Duration::from_millis(1)),
            rise: 4,
            ..once()
        };
        let (wanted, told) = server.wanted("a", &config);

        checks.take(vec![wanted], 8);

        eventually(|| told.all() == "?+").await;
        assert_eq!(server.connections.get(), 4);
    });
}

#[test]
fn one_check_serves_all_upstreams_that_ask_the_same() {
    run(async {
        let server = Server::start().await;
        let checks = Checks::default();
        let (a, told_a) = server.wanted("a", &once());
        let (b, told_b) = server.wanted("b", &once());
        let (c, told_c) = server.wanted("c", &HealthCheck { kind: HealthCheckKind::Tcp, ..once() });

        checks.take(vec![a, b, c], 8);

        eventually(|| [&told_a, &told_b, &told_c].iter().all(|told| told.all() == "?+")).await;
        assert_eq!(server.connections.get(), 2, "one for two upstreams, and one for the other kind");
    });
}

#[test]
fn a_check_that_is_still_wanted_goes_on_undisturbed() {
    run(async {
        let server = Server::start().await;
        let checks = Checks::default();
        let (a, told) = server.wanted("a", &once());
        checks.take(vec![a], 8);
        eventually(|| told.all() == "?+").await;

        let (a, told) = server.wanted("a", &once());
        let (b, told_b) = server.wanted("b", &once());
        checks.take(vec![a, b], 8);

        assert_eq!((told.all(), told_b.all()), ("+".to_owned(), "+".to_owned()), "told at once");
        assert!(server.status(&checks, "b").last.is_some());
        // Had it begun anew, it would ask at once. Whatever asks at once has asked before this one.
        let (c, told_c) = server.wanted("c", &HealthCheck { kind: HealthCheckKind::Tcp, ..once() });
        let ((a, _), (b, _)) = (server.wanted("a", &once()), server.wanted("b", &once()));
        checks.take(vec![a, b, c], 8);
        eventually(|| told_c.all() == "?+").await;
        assert_eq!(server.connections.get(), 2);
    });
}

#[test]
fn who_is_no_longer_wanted_is_asked_and_told_no_more() {
    run(async {
        let (server, other) = (Server::start().await, Server::start().await);
        let checks = Checks::default();
        let often = HealthCheck { interval: Duration::from_millis(1), ..once() };
        let (wanted, told) = server.wanted("a", &often);
        checks.take(vec![wanted], 8);
        eventually(|| server.connections.get() > 2).await;

        let (wanted, told_other) = other.wanted("b", &often);
        checks.take(vec![wanted], 8);
        server.mood.set(Mood::Ill);

        assert!(checks.status("a", &server.address).is_none());
        eventually(|| other.connections.get() > 0).await;
        let asked = server.connections.get();
        eventually(|| other.connections.get() > 9).await;
        assert_eq!((server.connections.get(), told.all()), (asked, "?+".to_owned()));
        assert_eq!(told_other.all(), "?+");
    });
}

#[test]
fn other_numbers_keep_what_is_known_and_another_question_does_not() {
    run(async {
        let server = Server::start().await;
        let checks = Checks::default();
        let (wanted, told) = server.wanted("a", &once());
        checks.take(vec![wanted], 8);
        eventually(|| told.all() == "?+").await;

        let slower = HealthCheck { interval: 2 * HOUR, timeout: HOUR, fall: 9, ..once() };
        let (wanted, told) = server.wanted("a", &slower);
        checks.take(vec![wanted], 8);
        assert_eq!(told.all(), "+");
        assert!(server.status(&checks, "a").last.is_some());

        let (wanted, told) = server.wanted("a", &HealthCheck { kind: HealthCheckKind::Tcp, ..slower });
        checks.take(vec![wanted], 8);
        assert_eq!(told.all(), "?");
    });
}

#[test]
fn no_more_checks_run_at_a_time_than_may() {
    run(async {
        let servers = [Server::start().await, Server::start().await, Server::start().await];
        servers.iter().for_each(|server| server.mood.set(Mood::Silent));
        let checks = Checks::default();

        checks.take(servers.iter().map(|server| server.wanted("a", &once()).0).collect(), 2);

        eventually(|| metric(&checks, "staunch_health_checks_waiting") == "1").await;
        assert_eq!(metric(&checks, "staunch_health_checks_running"), "2");
        let mut asked = None;
        eventually(|| {
            asked = servers.iter().find(|server| server.connections.get() == 1);
            asked.is_some()
        })
        .await;
        asked.unwrap().mood.set(Mood::Well);
        eventually(|| servers.iter().all(|server| server.connections.get() == 1)).await;
        assert_eq!(metric(&checks, "staunch_health_checks_waiting"), "0");
        assert_eq!(metric(&checks, "staunch_health_checks_running"), "2");
        assert_eq!(metric(&checks, "staunch_health_checks_total{upstream=\"a\",result=\"passed\"}"), "1");
    });
}

#[test]
fn a_higher_bound_lets_more_run_at_once() {
    run(async {
        let server = Server::start().await;
        let checks = Checks::default();
        checks.take(vec![server.wanted("a", &once()).0], 0);
        eventually(|| metric(&checks, "staunch_health_checks_waiting") == "1").await;

        let often = HealthCheck { interval: Duration::from_millis(1), ..once() };
        let (wanted, told) = server.wanted("a", &often);
        checks.take(vec![wanted], 1);

        eventually(|| told.all() == "?+").await;
    });
}

/// What a sample of the metrics says; empty when it is not there.
fn metric(checks: &Checks, sample: &str) -> String {
    let mut out = Exposition::default();
    checks.write_metrics(&mut out);
    let text = out.into_text();
    let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.unwrap_or_default().to_owned()
}

#[test]
fn nobody_is_asked_who_has_no_traffic_anyway() {
    run(async {
        let (server, other) = (Server::start().await, Server::start().await);
        let checks = Checks::default();
        let often = HealthCheck { interval: Duration::from_millis(1), ..once() };
        let ((shut, told), (open, told_open)) = (server.wanted("a", &often), other.wanted("b", &often));
        told.is_shut.store(true, Relaxed);

        checks.take(vec![shut, open], 8);
        eventually(|| other.connections.get() > 5).await;
        assert_eq!((server.connections.get(), told_open.all()), (0, "?+".to_owned()));
        told.is_shut.store(false, Relaxed);

        eventually(|| told.all() == "?+").await;
    });
}
