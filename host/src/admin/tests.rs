use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::*;

/// A proxy with one endpoint in trouble and one plugin that faulted.
#[derive(Default)]
struct Double {
    ready: AtomicBool,
    /// What was asked to be closed and opened.
    closed: Mutex<Vec<Switched>>,
}

/// The route, whether it is closed, and what clients are told.
type Switched = (Option<String>, Option<bool>, Option<u32>);

impl Window for Double {
    fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn write_metrics(&self, out: &mut Exposition) {
        out.family("staunch_workers", exposition::Kind::Gauge, "Workers.");
        out.sample(&[], 2);
    }

    fn upstreams(&self) -> Vec<UpstreamStatus> {
        let endpoint = EndpointStatus {
            address: "10.0.0.1:80".to_owned(),
            state: EndpointState::Unavailable,
            reason: Some("connect <refused>".to_owned()),
            since: Some(std::time::UNIX_EPOCH),
            weight: 5,
            starting: None,
            backup: false,
            down: false,
            drain: false,
            zone: None,
            active: 3,
            max_connections: None,
            failures: 1,
            max_fails: Some(1),
            last_check: Some(CheckStatus {
                at: std::time::UNIX_EPOCH,
                passed: false,
                result: "answer",
                said: "it answered 500".to_owned(),
                took_ms: 1.5,
                in_a_row: 3,
            }),
        };
        let breaker = BreakerStatus {
            state: BreakerState::Open,
            reason: None,
            since: std::time::UNIX_EPOCH,
            opened: 3,
            requests: 20,
            failures: 15,
        };
        vec![UpstreamStatus {
            name: "api".to_owned(),
            balance: "round-robin".to_owned(),
            panic: false,
            panic_threshold: 0,
            endpoints: vec![endpoint],
            queue: Some(QueueStatus { requests: 7, max_requests: Some(8), pending: 5, max_pending: 9 }),
            breaker: Some(breaker),
            concurrency: Some(ConcurrencyStatus { limit: 12, requests: 4, min_rtt: Some(0.025), measuring: false }),
        }]
    }

    fn change_endpoint(&self, upstream: &str, address: &str, patch: EndpointPatch) -> Option<EndpointStatus> {
        let known = self.upstreams().remove(0);
        let endpoint = known.endpoints.into_iter().find(|endpoint| endpoint.address == address)?;
        (known.name == upstream).then(|| EndpointStatus { drain: patch.drain.flatten().unwrap_or(false), ..endpoint })
    }

    fn plugins(&self) -> Vec<PluginStatus> {
        vec![PluginStatus {
            plugin: "round-robin".to_owned(),
            used_in: "upstreams.api.balance".to_owned(),
            kind: PluginKind::Balancer,
            digest: "sha256:00".to_owned(),
            generation: 2,
            source: "built-in".to_owned(),
            code: "compiled",
            calls: 7,
            faults: PluginFaults { deadline: 1, ..PluginFaults::default() },
            last_fault: Some("pick: 10 ms <passed>".to_owned()),
            fallbacks: 1,
            trips: 0,
            tripped: false,
            ns_per_call: Some(120),
            throttled: 4,
            cpu_seconds: 0.25,
            cpu_share: 0.01,
            instances: 2,
            memory_bytes: 65536,
            memory_peak_bytes: 131_072,
            standing: Standing {
                probation: Some(Trial { seconds_left: 42, previous: "sha256:ff".to_owned() }),
                last_change: Some(Change {
                    kind: ChangeKind::Replaced,
                    at: std::time::UNIX_EPOCH,
                    digest: "sha256:00".to_owned(),
                    why: None,
                }),
                refused: vec![RefusedVersion { digest: "sha256:ee".to_owned(), why: "it failed".to_owned() }],
                counts: vec![(ChangeKind::Replaced, 1), (ChangeKind::TakenBack, 0)],
            },
            metrics: vec![
                PluginMetric { name: "picks".to_owned(), value: PluginMetricValue::Counter(7) },
                PluginMetric { name: "depth".to_owned(), value: PluginMetricValue::Gauge(0.5) },
                PluginMetric {
                    name: "size".to_owned(),
                    value: PluginMetricValue::Histogram { bounds: vec![1.0, 2.5], counts: vec![1, 2, 3], sum: 20.5 },
                },
            ],
        }]
    }

    fn maintenance(&self) -> MaintenanceStatus {
        let closed = |since| Closing { on: true, by: ClosedBy::Admin, since, retry_after: Some(120) };
        let open = Closing { on: false, by: ClosedBy::Configuration, since: None, retry_after: None };
        let route = RouteClosing { route: "shop".to_owned(), closing: closed(Some(std::time::UNIX_EPOCH)) };
        MaintenanceStatus { server: open, routes: vec![route] }
    }

    fn close(&self, route: Option<&str>, on: Option<bool>, retry_after: Option<u32>) -> Result<(), String> {
        if route.is_some_and(|route| route != "shop") {
            return Err("there is no such route".to_owned());
        }
        self.closed.lock().push((route.map(str::to_owned), on, retry_after));
        Ok(())
    }

    fn replace(&self, plugin: &str, file: Vec<u8>, force: bool) -> Replacing<'_> {
        let answer = match (plugin, &file[..], force) {
            ("round-robin", b"good", _) | ("round-robin", b"refused", true) => Ok(Replaced {
                plugin: plugin.to_owned(),
                digest: "sha256:11".to_owned(),
                generation: 3,
                changed: true,
                uses: vec!["upstreams.api.balance".to_owned()],
            }),
            ("round-robin", b"refused", false) => Err(NotReplaced::Refused("it was taken back".to_owned())),
            ("round-robin", ..) => Err(NotReplaced::Unfit("it is no plugin".to_owned())),
            _ => Err(NotReplaced::Unknown("there is no such plugin".to_owned())),
        };
        Box::pin(async { answer })
    }

    fn config(&self, generation: Option<u64>) -> Result<ConfigStatus, NotAccepted> {
        let shown = GenerationStatus {
            generation: generation.unwrap_or(3),
            since: std::time::UNIX_EPOCH,
            source: "admin",
            again: None,
            why: None,
            digest: "sha256:00".to_owned(),
            bytes: 7,
        };
        match generation {
            Some(9) => Err(NotAccepted::Unknown("generation 9 is not kept".to_owned())),
            _ => Ok(ConfigStatus {
                serving: 3,
                history: vec![shown.clone()],
                shown,
                file: Some("/etc/staunch.toml".to_owned()),
                text: "a = \"…\"\n".to_owned(),
                pending: Some(Awaited { generation: 3, back_to: 2, seconds_left: 42 }),
                last_change: None,
                refused: 0,
                taken_back: 1,
            }),
        }
    }

    fn apply(&self, text: String, confirm: Option<Duration>) -> Accepting<'_> {
        let seconds = confirm.map(|time| time.as_secs());
        let answer = if text == "good" {
            let pending = seconds.map(|seconds_left| Awaited { generation: 4, back_to: 3, seconds_left });
            Ok(Accepted { generation: 4, pending })
        } else {
            let place = crate::config::Place { line: 3, column: 7 };
            let fault = crate::config::Fault::new(place, "unknown key").with_hint("did you mean `a`?".to_owned());
            Err(NotAccepted::Faulty(crate::config::Faults { file: None, faults: vec![fault] }))
        };
        Box::pin(async { answer })
    }

    fn confirm(&self) -> Result<Accepted, NotAccepted> {
        Err(NotAccepted::Conflict("no configuration waits".to_owned()))
    }

    fn roll_back(&self, to: Option<u64>) -> Accepting<'_> {
        Box::pin(async move { Ok(Accepted { generation: 100 + to.unwrap_or(0), pending: None }) })
    }

    fn reload(&self) -> Accepting<'_> {
        Box::pin(async { Err(NotAccepted::Broken("it broke".to_owned())) })
    }

    fn upgrade(&self) -> Upgrading<'_> {
        let answer = if self.ready() { Ok(Upgraded { pid: 7 }) } else { Err(NotUpgraded::Draining) };
        Box::pin(async { answer })
    }

    fn drain(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }
}

/// A running admin server, stopped when dropped.
struct Server {
    address: std::net::SocketAddr,
    window: Arc<Double>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<io::Result<()>>,
}

impl Server {
    async fn start(token: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, window, stop) =
            (listener.local_addr().unwrap(), Arc::<Double>::default(), CancellationToken::new());
        let state = Arc::new(AdminState::new(window.clone(), token));
        let serving = tokio::spawn(serve(AdminListener::Tcp(listener), state, stop.clone()));
        Self { address, window, stop, serving }
    }

    async fn ask(&self, request: &str) -> String {
        ask(TcpStream::connect(self.address).await.unwrap(), request).await
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn status(answer: &str) -> u16 {
    answer["HTTP/1.1 ".len()..][..3].parse().unwrap()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn health_is_always_fine_and_readiness_is_the_proxys() {
    let server = Server::start(None).await;

    assert_eq!(status(&server.get("/healthz").await), 200);
    assert_eq!(status(&server.get("/readyz").await), 503);
    server.window.ready.store(true, Ordering::Relaxed);
    assert_eq!(status(&server.get("/readyz").await), 200);
}

#[tokio::test]
async fn upstreams_and_plugins_are_told_as_json() {
    let server = Server::start(None).await;
    let json = async |path| serde_json::from_str::<serde_json::Value>(body(&server.get(path).await)).unwrap();

    let (upstreams, plugins) = (json("/api/upstreams").await, json("/api/plugins").await);

    assert_eq!(upstreams[0]["name"], "api");
    assert_eq!(upstreams[0]["endpoints"][0]["state"], "unavailable");
    assert_eq!(upstreams[0]["endpoints"][0]["since"], "1970-01-01T00:00:00Z");
    assert_eq!(plugins[0]["use"], "upstreams.api.balance");
    assert_eq!(plugins[0]["kind"], "balancer");
    assert_eq!(plugins[0]["metrics"][0], json!({ "name": "picks", "counter": 7 }));
    assert_eq!(plugins[0]["probation"], json!({ "seconds_left": 42, "previous": "sha256:ff" }));
    assert_eq!(
        plugins[0]["last_change"],
        json!({ "outcome": "replaced", "at": "1970-01-01T00:00:00Z", "digest": "sha256:00", "why": null })
    );
    assert_eq!(plugins[0]["refused"], json!([{ "digest": "sha256:ee", "why": "it failed" }]));
    assert_eq!(plugins[0]["faults"], json!({ "trap": 0, "deadline": 1, "memory": 0, "answer": 0, "refused": 0 }));
}

#[tokio::test]
async fn metrics_hold_the_counters_and_what_the_states_tell() {
    let server = Server::start(None).await;

    let answer = server.get("/metrics").await;

    assert!(answer.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{answer}");
    for line in [
        "staunch_workers 2",
        "staunch_upstream_endpoint_up{upstream=\"api\",endpoint=\"10.0.0.1:80\"} 0",
        "staunch_upstream_endpoint_active_requests{upstream=\"api\",endpoint=\"10.0.0.1:80\"} 3",
        "staunch_upstream_requests_active{upstream=\"api\"} 7",
        "staunch_upstream_requests_pending{upstream=\"api\"} 5",
        "staunch_upstream_breaker_state{upstream=\"api\"} 2",
        "staunch_upstream_breaker_opened_total{upstream=\"api\"} 3",
        "staunch_upstream_concurrency_limit{upstream=\"api\"} 12",
        "staunch_upstream_concurrency_min_rtt_seconds{upstream=\"api\"} 0.025",
        "staunch_plugins_calls_total{plugin=\"round-robin\",use=\"upstreams.api.balance\",kind=\"balancer\"} 7",
        "staunch_plugins_faults_total{plugin=\"round-robin\",use=\"upstreams.api.balance\",kind=\"balancer\",cause=\"deadline\"} 1",
        "staunch_plugins_instances{plugin=\"round-robin\",use=\"upstreams.api.balance\",kind=\"balancer\"} 2",
        "staunch_plugins_version_info{plugin=\"round-robin\",use=\"upstreams.api.balance\",kind=\"balancer\",digest=\"sha256:00\",generation=\"2\"} 1",
        "staunch_plugins_swaps_total{plugin=\"round-robin\",outcome=\"replaced\"} 1",
        "staunch_plugins_probation{plugin=\"round-robin\"} 1",
        "staunch_plugin_round_robin_picks_total{use=\"upstreams.api.balance\"} 7",
        "staunch_plugin_round_robin_depth{use=\"upstreams.api.balance\"} 0.5",
        "staunch_plugin_round_robin_size_bucket{use=\"upstreams.api.balance\",le=\"2.5\"} 3",
        "staunch_plugin_round_robin_size_bucket{use=\"upstreams.api.balance\",le=\"+Inf\"} 6",
        "staunch_plugin_round_robin_size_sum{use=\"upstreams.api.balance\"} 20.5",
    ] {
        assert!(answer.lines().any(|l| l == line), "{line} in {answer}");
    }
}

#[tokio::test]
async fn the_page_shows_states_and_escapes_them() {
    let server = Server::start(None).await;

    let answer = server.get("/").await;

    assert!(answer.contains("10.0.0.1:80") && answer.contains("upstreams.api.balance"), "{answer}");
    assert!(answer.contains("connect &lt;refused&gt;"), "{answer}");
    assert!(answer.contains("the route shop is closed for maintenance"), "{answer}");
    assert!(answer.contains("10 ms &lt;passed&gt;"), "{answer}");
    for text in ["breaker <span class=\"bad\">open</span>", "7 of 8 in flight, 5 of 9 waiting", "4 of 12 in flight"] {
        assert!(answer.contains(text), "{text} in {answer}");
    }
}

#[tokio::test]
async fn a_plugin_is_replaced_by_a_put_of_its_file() {
    let server = Server::start(None).await;
    let put = async |path: &str, lines: &str, file: &str| {
        let length = file.len();
        let head =
            format!("PUT {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{lines}content-length: {length}\r\n\r\n");
        let answer = server.ask(&(head + file)).await;
        (status(&answer), serde_json::from_str::<serde_json::Value>(body(&answer)).expect("JSON"))
    };

    let (status, replaced) = put("/api/plugins/round-robin", "", "good").await;

    assert_eq!((status, &replaced["generation"], &replaced["changed"]), (200, &json!(3), &json!(true)));
    for (path, lines, file, expected) in [
        ("/api/plugins/round-robin", "", "refused", 409),
        ("/api/plugins/round-robin?force=true", "", "refused", 200),
        ("/api/plugins/round-robin?force=yes", "", "refused", 400),
        ("/api/plugins/round-robin", "", "bad", 422),
        ("/api/plugins/round-robin", "", "", 400),
        ("/api/plugins/other", "", "good", 404),
        ("/api/plugins/round-robin", "origin: http://a\r\n", "good", 403),
    ] {
        let (status, answer) = put(path, lines, file).await;
        assert_eq!(status, expected, "for {path} with {file}: {answer}");
        assert!(status == 200 || answer["error"].is_string(), "{answer}");
    }
}

#[tokio::test]
async fn routes_are_closed_and_opened_by_a_put() {
    let server = Server::start(None).await;
    let put = async |lines: &str, wanted: &str| {
        let length = wanted.len();
        let head = format!(
            "PUT /api/maintenance HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{lines}content-length: {length}\r\n\r\n"
        );
        let answer = server.ask(&(head + wanted)).await;
        (status(&answer), serde_json::from_str::<serde_json::Value>(body(&answer)).expect("JSON"))
    };

    for (wanted, understood) in [
        (r#"{"on":true}"#, (None, Some(true), None)),
        (r#"{"on":true,"retry_after":90}"#, (None, Some(true), Some(90))),
        (r#"{"on":true,"route":"shop","retry_after":"2m"}"#, (Some("shop".to_owned()), Some(true), Some(120))),
        (r#"{"on":false,"route":"shop","retry_after":null}"#, (Some("shop".to_owned()), Some(false), None)),
        (r#"{"on":null,"route":null}"#, (None, None, None)),
    ] {
        let (status, standing) = put("", wanted).await;
        assert_eq!((status, &standing["routes"][0]["route"]), (200, &json!("shop")), "for {wanted}");
        assert_eq!(server.window.closed.lock().pop(), Some(understood), "for {wanted}");
    }
    for (lines, wanted, refused) in [
        ("", r#"{"on":true,"route":"nowhere"}"#, 404),
        ("origin: http://a\r\n", r#"{"on":true}"#, 403),
        ("", "{}", 400),
    ] {
        assert_eq!(put(lines, wanted).await.0, refused, "for {wanted}");
    }
    assert!(server.window.closed.lock().is_empty());
    let told = serde_json::from_str::<serde_json::Value>(body(&server.get("/api/maintenance").await)).unwrap();
    let open = json!({ "on": false, "by": "configuration", "since": null, "retry_after": null });
    assert_eq!(told.as_object().unwrap().iter().filter(|(key, _)| *key != "routes").count(), 4);
    assert!(open.as_object().unwrap().iter().all(|(key, value)| told[key] == *value), "{told}");
    assert_eq!(told["routes"][0]["since"], "1970-01-01T00:00:00Z");
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_errors_in_json() {
    let server = Server::start(None).await;

    let unknown = server.get("/api/nothing").await;
    let wrong =
        server.ask("POST /api/upstreams HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;

    assert_eq!((status(&unknown), status(&wrong)), (404, 405));
    for answer in [&unknown, &wrong] {
        assert!(serde_json::from_str::<serde_json::Value>(body(answer)).unwrap()["error"].is_string(), "{answer}");
    }
    assert!(wrong.to_lowercase().contains("allow: get,head"), "{wrong}");
}

#[tokio::test]
async fn a_token_guards_everything_but_health_and_readiness() {
    let server = Server::start(Some("s3cret")).await;
    let with = async |path: &str, authorization: &str| {
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: {authorization}\r\nconnection: close\r\n\r\n");
        status(&server.ask(&head).await)
    };

    for path in [
        "/",
        "/metrics",
        "/api/upstreams",
        "/api/plugins",
        "/api/plugins/round-robin",
        "/nothing",
        "//healthz",
        "/healthz/",
    ] {
        let answer = server.get(path).await;
        assert_eq!(status(&answer), 401, "for {path}");
        assert!(body(&answer).starts_with("{\"error\":"), "{answer}");
    }
    for path in ["/healthz", "/readyz?x"] {
        assert_ne!(status(&server.get(path).await), 401, "for {path}");
    }
    for wrong in ["Bearer s3cre", "Bearer s3crett", "Bearer", "Basic s3cret", "s3cret", ""] {
        assert_eq!(with("/metrics", wrong).await, 401, "for {wrong}");
    }
    assert_eq!(with("/metrics", "Bearer s3cret").await, 200);
    assert_eq!(with("/metrics", "bearer  s3cret ").await, 200);
}

#[tokio::test]
async fn a_stop_ends_the_server_though_a_client_says_nothing() {
    let server = Server::start(None).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    silent.write_all(b"GET / HT").await.unwrap();
    server.get("/healthz").await;

    server.stop.cancel();

    server.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_unix_socket_is_as_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let listener = AdminListener::Unix(UnixListener::bind(&path).unwrap());
    let state = Arc::new(AdminState::new(Arc::<Double>::default(), None));
    tokio::spawn(serve(listener, state, CancellationToken::new()));

    let answer = ask(UnixStream::connect(&path).await.unwrap(), "GET /healthz HTTP/1.0\r\n\r\n").await;

    assert!(answer.ends_with("ok\n"), "{answer}");
}

#[tokio::test]
async fn the_process_is_drained_and_replaced_by_a_post() {
    let server = Server::start(None).await;
    server.window.ready.store(true, Ordering::Relaxed);
    let post = |path: &str, field: &str| format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{field}\r\n");

    let page = server.ask(&post("/api/drain", "origin: http://a\r\n")).await;
    let looked = server.get("/api/drain").await;
    let upgraded = server.ask(&post("/api/upgrade", "")).await;
    let drained = server.ask(&post("/api/drain", "")).await;
    let late = server.ask(&post("/api/upgrade", "")).await;

    assert_eq!([&page, &looked, &upgraded, &drained, &late].map(|answer| status(answer)), [403, 405, 200, 202, 409]);
    assert_eq!((body(&upgraded), body(&drained)), ("{\"pid\":7}", "{\"draining\":true}"));
    assert_eq!(body(&late), "{\"error\":\"this process ends already\"}");
}

#[tokio::test]
async fn a_configuration_is_shown_and_changed() {
    let server = Server::start(None).await;
    let post = async |path: &str, text: &str| {
        let length = text.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        server.ask(&(head + text)).await
    };

    for (answer, code, words) in [
        (server.get("/api/config").await, 200, "\"text\":\"a = \\\"…\\\"\\n\""),
        (server.get("/api/config?generation=2").await, 200, "\"serving\":3,\"generation\":2"),
        (server.get("/api/config?generation=9").await, 404, "generation 9 is not kept"),
        (server.get("/api/config?generation=x").await, 400, "generation=N"),
        (post("/api/config", "good").await, 200, "{\"generation\":4,\"pending\":null}"),
        (post("/api/config?confirm=1m30s", "good").await, 200, "\"back_to\":3,\"seconds_left\":90"),
        (post("/api/config?confirm=0s", "good").await, 400, "duration"),
        (post("/api/config?confirm=25h", "good").await, 400, "a day at most"),
        (post("/api/config?confirm=", "good").await, 400, "duration"),
        (post("/api/config?force=true", "good").await, 400, "nothing else"),
        (post("/api/config", "bad").await, 422, "\"faults\":[{\"line\":3,\"column\":7,\"message\":\"unknown key\""),
        (post("/api/config/confirm", "").await, 409, "no configuration waits"),
        (post("/api/config/rollback", "").await, 200, "\"generation\":100"),
        (post("/api/config/rollback?to=2", "").await, 200, "\"generation\":102"),
        (post("/api/config/rollback?to=-2", "").await, 400, "to=N"),
        (post("/api/config/reload", "").await, 500, "it broke"),
        (server.get("/api/config/reload").await, 405, "no such method"),
    ] {
        assert_eq!(status(&answer), code, "{answer}");
        assert!(body(&answer).contains(words), "{words} in {answer}");
    }
}

#[tokio::test]
async fn a_web_page_changes_no_configuration_without_a_token() {
    let server = Server::start(None).await;

    for path in ["", "/confirm", "/rollback", "/reload"] {
        let head =
            format!("POST /api/config{path} HTTP/1.1\r\nhost: a\r\norigin: http://a\r\nconnection: close\r\n\r\n");
        assert_eq!(status(&server.ask(&head).await), 403, "for {path}");
    }
}
