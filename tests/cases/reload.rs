//! Another configuration while requests are under way: only what changed is touched.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use super::plugins::Guest;
use crate::harness::{ADMIN, Client, Program, Proxy, Talk, Upstream, api, eventually, ok};

/// A proxy whose configuration stands in a file.
struct Filed {
    folder: tempfile::TempDir,
    proxy: Proxy,
}

impl Filed {
    fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let proxy = Proxy::start(text, Some(&folder.path().join("staunch.toml"))).unwrap_or_else(|e| panic!("{e}"));
        Self { folder, proxy }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("staunch.toml")
    }

    #[track_caller]
    fn reload(&self, text: &str) {
        self.proxy.reload(&self.file(), text);
    }

    /// What is told of an endpoint of the upstream `api`.
    fn endpoint(&self, address: &Upstream) -> Value {
        let upstreams: Value = serde_json::from_str(self.proxy.admin("/api/upstreams", "").text()).expect("JSON");
        let upstreams = upstreams.as_array().expect("upstreams");
        let api = upstreams.iter().find(|upstream| upstream["name"] == "api").expect("the upstream");
        let endpoints = api["endpoints"].as_array().expect("endpoints");
        endpoints.iter().find(|endpoint| endpoint["address"] == address.to_string()).cloned().unwrap_or_default()
    }
}

const ROUTE: &str = "[[routes]]\nupstream = \"api\"\n";

/// An origin that answers when it is let go.
fn holding() -> (Upstream, Arc<AtomicBool>) {
    let go = Arc::new(AtomicBool::new(false));
    let gate = go.clone();
    let origin = Upstream::raw(move |talk: &mut Talk| {
        while talk.request().is_some() {
            talk.wait_for(|| gate.load(Relaxed));
            talk.send(ok("held"));
        }
    });
    (origin, go)
}

#[test]
fn a_changed_route_takes_over_and_its_upstream_keeps_connections() {
    let origin = Upstream::replying("origin");
    let filed = Filed::with(&format!("{}{ROUTE}", api([&origin])));
    let mut client = Client::to(&filed.proxy);
    assert_eq!(client.get("/").status, 200);

    filed.reload(&format!(
        "{}[[routes]]\npath = \"/a\"\nupstream = \"api\"\n[[routes]]\nrespond = {{ status = 418 }}\n",
        api([&origin])
    ));

    assert_eq!(client.get("/").status, 418);
    assert_eq!(client.get("/a").text(), "origin");
    assert_eq!(Client::to(&filed.proxy).get("/a").text(), "origin");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_endpoint_that_stays_keeps_its_connections_when_another_is_added() {
    let (one, two) = (Upstream::replying("one"), Upstream::replying("two"));
    let filed = Filed::with(&api([&one]));
    let mut client = Client::to(&filed.proxy);
    client.get("/");

    filed.reload(&api([&one, &two]));

    let mut answers: Vec<_> = (0..4).map(|_| client.get("/").text().to_owned()).collect();
    answers.sort();
    assert_eq!(answers, ["one", "one", "two", "two"]);
    assert_eq!((one.connections(), two.connections()), (1, 1));
}

#[test]
fn connections_to_an_endpoint_that_is_gone_are_closed() {
    let (one, two) = (Upstream::replying("one"), Upstream::replying("two"));
    let filed = Filed::with(&api([&one, &two]));
    let mut client = Client::to(&filed.proxy);
    for _ in 0..2 {
        client.get("/");
    }
    assert_eq!(two.open_connections(), 1);

    filed.reload(&api([&one]));

    eventually(|| two.open_connections() == 0);
    assert_eq!(client.get("/").text(), "one");
    assert_eq!(one.connections(), 1);
}

#[test]
fn failures_of_an_endpoint_are_remembered() {
    let (bad, good) = (Upstream::refusing(), Upstream::replying("good"));
    let later = Upstream::replying("later");
    let passive = "[upstreams.api.passive]\nfail_timeout = \"600s\"\n";
    let filed = Filed::with(&format!("{ADMIN}{}{passive}", api([&bad, &good])));
    for _ in 0..2 {
        assert_eq!(filed.proxy.get("/").text(), "good");
    }
    assert_eq!(filed.endpoint(&bad)["failures"], 1);

    filed.reload(&format!("{ADMIN}{}{passive}", api([&bad, &good, &later])));

    assert_eq!(filed.endpoint(&bad)["failures"], 1);
    assert_ne!(filed.endpoint(&bad)["state"], "up");
    for _ in 0..6 {
        assert_eq!(filed.proxy.get("/").status, 200);
    }
    assert_eq!(filed.endpoint(&bad)["failures"], 1);
}

#[test]
fn requests_under_way_are_counted_on() {
    let (origin, go) = holding();
    let other = Upstream::replying("other");
    let filed = Filed::with(&format!("{ADMIN}{}", api([&origin])));
    let mut client = Client::to(&filed.proxy);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(|| filed.endpoint(&origin)["active"] == 1);

    filed.reload(&format!("{ADMIN}{}", api([&other, &origin])));

    assert_eq!(filed.endpoint(&origin)["active"], 1);
    go.store(true, Relaxed);
    assert_eq!(client.response().text(), "held");
    eventually(|| filed.endpoint(&origin)["active"] == 0);
}

#[test]
fn a_tunnel_outlives_its_route_and_its_upstream() {
    let origin = Upstream::raw(|talk| {
        talk.head();
        talk.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        while let Some(piece) = talk.take(5) {
            talk.send(piece);
        }
    });
    let filed = Filed::with(&api([&origin]));
    let mut client = Client::to(&filed.proxy);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(client.response_head().status, 101);

    filed.reload("[[routes]]\nrespond = { status = 204 }\n");

    client.send("12345");
    assert_eq!(client.take(5), b"12345");
    assert_eq!(filed.proxy.get("/").status, 204);
}

#[test]
fn a_request_under_way_ends_as_it_began() {
    let (origin, go) = holding();
    let filed = Filed::with(&api([&origin]));
    let mut client = Client::to(&filed.proxy);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(|| origin.requests() == 1);

    filed.reload("[[routes]]\nrespond = { status = 204 }\n");
    go.store(true, Relaxed);

    assert_eq!(client.response().text(), "held");
    assert_eq!(client.get("/").status, 204);
}

#[test]
fn a_bad_configuration_changes_nothing() {
    let origin = Upstream::replying("origin");
    let filed = Filed::with(&format!("{ADMIN}{}", api([&origin])));
    for bad in [
        "[upstreams.api]\nendpoints = [\"nowhere\"]\n".to_owned(),
        format!("{}balance = \"nobody\"\n", api([&origin])),
        format!(
            "{}[plugins.p]\npath = \"not-there.wasm\"\n[[routes]]\nupstream = \"api\"\nrewrite = [\"p\"]\n",
            api([&origin])
        ),
        format!(
            "{}[[routes]]\nupstream = \"api\"\nrewrite = [{{ plugin = \"set-headers\", config = {{ x = 1 }} }}]\n",
            api([&origin])
        ),
        format!("{}[[listeners]]\naddress = \"192.0.2.1:1\"\n", api([&origin])),
        "not TOML".to_owned(),
    ] {
        let refused = filed.proxy.metric("staunch_config_refused_total");

        filed.proxy.reread(&filed.file(), &bad);

        filed.proxy.assert_counted("staunch_config_refused_total", refused + 1.0);
        assert_eq!(filed.proxy.get("/").text(), "origin", "after {bad}");
    }
    assert_eq!(filed.proxy.generation(), 1);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn listeners_come_and_go_and_connections_stay() {
    let origin = Upstream::replying("origin");
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("second");
    let second = format!("[[listeners]]\naddress = \"unix:{}\"\n", socket.display());
    let first = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    let filed = Filed::with(&format!("{first}{}", api([&origin])));
    let mut early = Client::to(&filed.proxy);
    early.get("/");

    filed.reload(&format!("{first}{second}{}", api([&origin])));
    let mut late = Client::over(&socket).expect("it listens");
    assert_eq!(late.get("/").text(), "origin");
    filed.reload(&format!("{second}{}", api([&origin])));

    eventually(|| TcpStream::connect(filed.proxy.address()).is_err());
    assert_eq!(early.get("/").text(), "origin");
    assert_eq!(late.get("/").text(), "origin");
    filed.reload(&format!("{first}{}", api([&origin])));
    eventually(|| Client::over(&socket).is_err());
    assert!(!socket.exists());
    assert_eq!(late.get("/").text(), "origin");
}

#[test]
fn a_listener_may_move_to_an_address_that_its_own_one_overlaps() {
    let origin = Upstream::replying("origin");
    // Below the ports that connections of others are given.
    let first = 10_000 + std::process::id() as u16 % 10_000;
    let is_free = |port: &u16| std::net::TcpListener::bind(("0.0.0.0", *port)).is_ok();
    let port = (first..).find(is_free).expect("a port");
    let listener = |host: &str| format!("[[listeners]]\naddress = \"{host}:{port}\"\n");
    let filed = Filed::with(&format!("{}{}", listener("127.0.0.1"), api([&origin])));

    filed.reload(&format!("{}{}", listener("0.0.0.0"), api([&origin])));

    assert_eq!(filed.proxy.get("/").text(), "origin");
    let elsewhere = std::net::SocketAddr::from(([127, 0, 0, 2], port));
    assert_eq!(Client::connect(elsewhere).get("/").text(), "origin");
}

#[test]
fn a_plugin_whose_settings_are_the_same_goes_on_with_what_it_knows() {
    let origin = Upstream::replying("origin");
    let limited = "[[routes]]\nname = \"r\"\nupstream = \"api\"\n\
         rewrite = [{ plugin = \"rate-limit\", config = { key = \"client-address\", rate = \"1r/m\", burst = 1, nodelay = true } }]\n";
    let filed = Filed::with(&format!("{}{limited}", api([&origin])));
    let statuses: Vec<_> = (0..3).map(|_| filed.proxy.get("/").status).collect();
    assert_eq!(statuses[..2], [200, 200]);
    assert_ne!(statuses[2], 200);

    let other = Upstream::replying("other");
    filed.reload(&format!("{}{limited}[[routes]]\npath = \"/x\"\nrespond = {{}}\n", api([&origin, &other])));

    assert_eq!(filed.proxy.get("/").status, statuses[2]);
}

#[test]
fn a_watched_configuration_takes_over_by_itself() {
    let origin = Upstream::replying("origin");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let watched = |text: &str| format!("[server]\nworkers = 1\nwatch = true\n{text}{}", api([&origin]));
    std::fs::write(&file, watched("")).expect("a file");
    let proxy = Proxy::start(&watched(ROUTE), Some(&file)).expect("a proxy");
    assert_eq!(proxy.get("/").status, 200);

    let new = folder.path().join("new");
    let text = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[routes]]\nrespond = { status = 204 }\n";
    std::fs::write(&new, watched(text)).expect("a file");
    std::fs::rename(&new, &file).expect("a file");
    eventually(|| proxy.generation() > 1);

    assert_eq!(proxy.get("/").status, 204);
}

/// Says at its end that something is over.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_thousand_reloads_cost_nobody_a_request_and_no_memory() {
    let origins = [Upstream::replying("one"), Upstream::replying("two")];
    let text = |n: usize| {
        let weight = n % 5 + 1;
        format!(
            "[server]\nworkers = 2\n[admin]\naddress = \"unix:admin\"\n\
             [upstreams.api]\nendpoints = [{{ address = \"{}\", weight = {weight} }}, \"{}\"]\nkeepalive_requests = 10000000\n\
             [upstreams.still]\nendpoints = [\"{}\"]\nkeepalive_requests = 10000000\n\
             [[routes]]\nupstream = \"api\"\nrewrite = [{{ plugin = \"set-headers\", config = {{ response = {{ set = {{ x-n = \"{n}\" }} }} }} }}]\n\
             [[routes]]\npath = \"/still\"\nupstream = \"still\"\n",
            origins[0], origins[1], origins[1]
        )
    };
    let program = Program::run(&text(0));
    let done = AtomicBool::new(false);
    let (answered, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let admin = || {
        let mut admin = None;
        eventually(|| {
            admin = Client::over(&program.folder().join("admin")).ok();
            admin.is_some()
        });
        admin.expect("the admin server")
    };
    let generation = |admin: &mut Client| {
        let metrics = admin.get("/metrics");
        let line = metrics.text().lines().find_map(|line| line.strip_prefix("staunch_config_generation "));
        line.expect("the generation").parse::<usize>().expect("a number")
    };
    thread::scope(|scope| {
        // The clients end however this does.
        let _over = Over(&done);
        for path in ["/", "/still", "/"] {
            let (done, answered, failures) = (&done, &answered, &failures);
            let mut client = program.client().expect("it listens");
            scope.spawn(move || {
                while !done.load(Relaxed) {
                    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
                    match client.try_response() {
                        Ok(response) if response.status == 200 => drop(answered.fetch_add(1, Relaxed)),
                        other => return failures.lock().expect("a lock").push(format!("{other:?}")),
                    }
                }
            });
        }
        let mut admin = admin();
        let mut warm = 0;
        for n in 1..=1000 {
            let text = text(n) + "[[listeners]]\naddress = \"unix:proxy\"\n";
            std::fs::write(program.folder().join("staunch.toml"), text).expect("a file");
            program.signal("HUP");
            eventually(|| generation(&mut admin) == n + 1);
            if n == 300 {
                warm = program.resident_memory();
            }
        }
        let grown = program.resident_memory().saturating_sub(warm);
        assert!(grown < 24 << 20, "memory has grown by {grown} bytes over 700 reloads");
    });
    assert_eq!(*failures.lock().expect("a lock"), [] as [String; 0]);
    assert!(answered.load(Relaxed) > 1000, "{answered:?}");
    // Two workers had connections of their own to each endpoint, and kept them throughout.
    assert!(
        origins.iter().all(|origin| origin.connections() <= 6),
        "{:?}",
        origins.each_ref().map(Upstream::connections)
    );
}

#[test]
fn a_version_on_probation_is_judged_on_when_its_place_is_untouched() {
    let origins = [Upstream::replying("0"), Upstream::replying("1")];
    let config = |more: &str| {
        format!(
            "{ADMIN}[plugins.own]\npath = \"own.wat\"\nprobation = \"600s\"\n\
             [upstreams.api]\nbalance = \"own\"\nendpoints = [\"{}\", \"{}\"]\n{ROUTE}{more}",
            origins[0], origins[1]
        )
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let picking = |endpoint: u32| Guest::balancer(&format!("(call $endpoint (i32.const {endpoint}))")).wat();
    std::fs::write(folder.path().join("own.wat"), picking(0)).expect("a file");
    let proxy = Proxy::start(&config(""), Some(&file)).expect("a proxy");
    let own = || {
        let plugins: Vec<Value> = serde_json::from_slice(&proxy.admin("/api/plugins", "").body).expect("JSON");
        plugins.into_iter().find(|plugin| plugin["plugin"] == "own").expect("it is used")
    };
    let first = own()["digest"].clone();
    std::fs::write(folder.path().join("own.wat"), picking(1)).expect("a file");
    proxy.reload(&file, &config(""));
    eventually(|| own()["generation"] == 2);
    eventually(|| proxy.get("/").text() == "1");

    proxy.reload(&file, &config("[[routes]]\npath = \"/x\"\nrespond = {}\n"));

    assert_eq!(own()["generation"], 2);
    assert_eq!(own()["probation"]["previous"], first);
    assert_eq!(proxy.get("/").text(), "1");
    let other = Upstream::replying("other");
    proxy.reload(&file, &config("").replace("endpoints = [", &format!("endpoints = [\"{other}\", ")));
    eventually(|| own()["probation"].is_null());
}

#[test]
fn the_admin_server_moves_to_another_address() {
    let origin = Upstream::replying("origin");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let config = |name: &str| format!("[admin]\naddress = \"unix:{name}\"\n{}", api([&origin]));
    let proxy = Proxy::start(&config("a"), Some(&file)).expect("a proxy");
    let admin = |name: &str| Client::over(&folder.path().join(name));
    assert_eq!(admin("a").expect("it listens").get("/healthz").status, 200);

    proxy.reload(&file, &config("b"));

    eventually(|| admin("b").is_ok_and(|mut client| client.get("/healthz").status == 200));
    eventually(|| admin("a").is_err());
}
