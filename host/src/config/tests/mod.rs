mod ejection;
mod faults;
mod overload;
mod random;

use super::*;

/// Reads a text as if it stood in `/etc/staunch/staunch.toml`, with one variable in the environment.
fn parse(text: &str) -> Result<Config, Faults> {
    let environment = |name: &str| (name == "STAUNCH_ADMIN_TOKEN").then(|| "secret".to_owned());
    Config::parse_with(text, Some(Path::new("/etc/staunch/staunch.toml")), &environment)
}

/// Nearly every key there is.
const EXAMPLE: &str = r#"
[server]
workers = "auto"
state = "state"
plugin_cache = "compiled"
drain_timeout = "30s"
client_header_timeout = "60s"
client_body_timeout = "60s"
client_send_timeout = "45s"
client_min_rate = "500B"
client_keepalive_timeout = "75s"
client_keepalive_min_timeout = "0s"
tunnel_timeout = "2h"
max_header_size = "16KiB"
max_headers = 100
max_target_size = "4KiB"
max_body_size = "10MB"
max_connections = 10000
max_connections_per_client = 100
memory_limit = "2GiB"
max_handshakes = 1000
trusted_proxies = ["10.0.0.0/8", "unix:"]
trusted_header = "forwarded"
forwarded = "both"
error_pages = { intercept = true, "5xx" = { body = "server" } }
maintenance = false

[admin]
address = "127.0.0.1:9900"
token = "${STAUNCH_ADMIN_TOKEN}"

[access_log]
path = "access.log"
format = "combined"

[[listeners]]
address = "127.0.0.1:8080"
protocol = "http"
redirect_https = { port = 8443, status = 301, except_acme = true }

[[listeners]]
address = "unix:staunch.sock"
tls = { certificates = [{ cert = "a.pem", key = "a.key", ocsp = "a.ocsp" }, "b.pem"], client_ca = "ca.pem", client_auth = "optional", client_headers = true, min_version = "1.3", handshake_timeout = "3s" }

[[routes]]
hosts = ["Shop.example.com", "*.example.org"]
path = "/api/"
methods = ["GET", "POST"]
headers = { X-Beta = "1" }
upstream = "api"
rewrite = ["set-headers", { plugin = "strip-prefix", config = { prefix = "/api" } }]
timeout = "60s"
fallback = [
  { on = ["timeout", "502", "5xx"], upstream = "api-next" },
  { respond = { body = "sorry", headers = { Retry-After = "5" } } },
]
error_pages = { "4xx" = { body = "yours" }, "404" = { body = "<p>", content_type = "text/html", status = 200 } }
maintenance = { on = false, respond = { body = "later" }, retry_after = false, allow = ["10.0.0.0/8", "::1"] }

[[routes]]
name = "canary"
path_regex = "^/v[0-9]+/"
split = [{ upstream = "api", weight = 95 }, { upstream = "api-next", weight = 5 }]
priority = "high"
rate_limit = { rate = "10r/s" }
concurrency_limit = { key = ["cookie:id", "client-address"], max = 10 }
timeout = false

[[routes]]
hosts = ["*"]
path_exact = "/closed"
respond = { status = 503, body = "closed", headers = { Retry-After = "60", set-cookie = ["a=1", "b=2"] } }

[[routes]]
redirect = { to = "https://$host$request_uri" }

[upstreams.api]
balance = "round-robin"
endpoints = [
  "10.0.0.1:80",
  { address = "10.0.0.2:80", weight = 5, max_connections = 200, zone = "b", labels = { rack = "r1" } },
  { address = "10.0.0.3:80", backup = true },
  { address = "[::1]:80", down = true },
  "unix:api.sock",
]
keepalive = 16
keepalive_timeout = "50s"
keepalive_requests = 500
connect_timeout = "4s"
response_timeout = "63s"
read_timeout = "61s"
send_timeout = "62s"
protocol = "auto"
tls = { ca = "ca.pem", server_name = "api.internal" }
max_requests = 500
max_pending = 100
queue_timeout = "2s"
breaker = { failures = "40%", statuses = ["5xx"] }
concurrency = { max_limit = 200, buffer = "10%" }

[upstreams.api.passive]
max_fails = 2
fail_timeout = "20s"

[upstreams.api.health]
type = "http"
interval = "3s"
timeout = "1s"
rise = 2
fall = 4
path = "/status"
method = "HEAD"
host = "status.internal"
headers = { X-Probe = "1" }
expect = ["2xx", "301", "400-404"]
fast_interval = "1s"
down_interval = "30s"
jitter = "10%"
initial = "checking"
tls = { ca = "ca.pem", server_name = "api.internal", cert = "client.pem", key = "client.key", verify = true }

[upstreams.api.retry]
plugin = "standard"
config = { on = ["error", "timeout", "http_502"] }
attempts = 5
timeout = "5s"
budget = { percent = 10, min = 1 }
replay_buffer = "1MiB"
non_idempotent = false

[upstreams.api-next]
balance = { plugin = "tenant", config = { limits = { silver = 2 } } }
endpoints = ["next.internal:8080"]
health = { type = "tcp" }

[plugins.tenant]
path = "plugins/tenant.wasm"
sha256 = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
deadline = "15ms"
memory = "32MiB"
on_failure = "fallback"
cpu = "5%"
watch = true
probation = "2m"
config = { default = "gold", limits = { gold = 10, silver = 5 } }

[plugins.strip-prefix]
path = "/opt/strip-prefix.wasm"
"#;

fn example() -> Config {
    parse(EXAMPLE).unwrap_or_else(|faults| panic!("{faults}"))
}

/// Where a piece of the example stands.
fn place_of(piece: &str) -> Place {
    Lines::of(EXAMPLE).place(EXAMPLE.find(piece).unwrap())
}

fn page(statuses: (u16, u16), status: Option<u16>, content_type: &str, body: &str) -> ErrorPage {
    ErrorPage { statuses, status, content_type: content_type.to_owned(), body: body.to_owned().into() }
}

const fn seconds(seconds: u64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds)
}

#[test]
fn server_admin_and_log_are_read() {
    let config = example();

    let server = Server {
        state: Some("/etc/staunch/state".into()),
        plugin_cache: PluginCache::Folder("/etc/staunch/compiled".into()),
        client_send_timeout: seconds(45),
        client_min_rate: Some(500),
        client_keepalive_min_timeout: seconds(0),
        tunnel_timeout: seconds(7200),
        max_header_size: 16384,
        max_headers: 100,
        max_target_size: 4096,
        max_body_size: Some(10_000_000),
        max_connections: Some(10_000),
        max_connections_per_client: Some(100),
        memory_limit: Some(2 << 30),
        max_handshakes: 1000,
        trusted_proxies: Some(TrustedProxies { networks: vec!["10.0.0.0/8".parse().unwrap()], unix: true }),
        trusted_header: TrustedHeader::Forwarded,
        forwarded: Forwarded::Both,
        error_pages: ErrorPages {
            intercept: true,
            pages: vec![page((500, 599), None, "text/plain; charset=utf-8", "server")],
        },
        ..Server::default()
    };
    assert_eq!(config.server, server);
    let admin = Admin { address: "127.0.0.1:9900".parse().unwrap(), token: Some("secret".to_owned()) };
    assert_eq!(config.admin, Some(admin));
    assert!(!format!("{config:?}").contains("secret"));
    let log = AccessLog { path: Some("/etc/staunch/access.log".into()), format: AccessLogFormat::Combined };
    assert_eq!(config.access_log, Some(log));
    let addresses: Vec<_> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:8080", "unix:/etc/staunch/staunch.sock"]);
    let redirect = RedirectHttps { port: 8443, status: 301, except_acme: true };
    assert_eq!((config.listeners[0].redirect_https, config.listeners[1].redirect_https), (Some(redirect), None));
    let certificate = |cert: &str, key: &str, ocsp: Option<&str>| {
        let path = |name: &str| PathBuf::from(format!("/etc/staunch/{name}"));
        Certificate { cert: path(cert), key: path(key), ocsp: ocsp.map(path), place: Place::default() }
    };
    let tls = ServerTls {
        certificates: vec![certificate("a.pem", "a.key", Some("a.ocsp")), certificate("b.pem", "b.pem", None)],
        client_ca: Some("/etc/staunch/ca.pem".into()),
        client_auth: ClientAuth::Optional,
        client_headers: true,
        min_version: TlsVersion::Tls13,
        max_version: TlsVersion::Tls13,
        handshake_timeout: seconds(3),
    };
    assert_eq!((&config.listeners[0].tls, &config.listeners[1].tls), (&None, &Some(tls)));
    assert_eq!(
        config.listeners.iter().map(|listener| config.demands(listener, &listener.address)).collect::<Vec<_>>(),
        [
            Demands { redirect_https: Some(redirect), client_headers: ClientHeaders::Removed, alt_svc: None },
            Demands { redirect_https: None, client_headers: ClientHeaders::Set, alt_svc: None },
        ]
    );
    assert_eq!(config.warnings, []);
}

#[test]
#[cfg(feature = "http3")]
fn what_is_said_of_http3_has_the_port_that_was_given() {
    let given: ListenAddress = "127.0.0.1:4433".parse().expect("an address");
    for (written, said) in [
        ("", None),
        ("http3 = false", None),
        ("http3 = true", Some("h3=\":4433\"; ma=86400")),
        ("http3 = true\nalt_svc = true", Some("h3=\":4433\"; ma=86400")),
        ("http3 = true\nalt_svc = false", None),
        ("http3 = true\nalt_svc = ' h3=\":443\" '", Some("h3=\":443\"")),
    ] {
        let listener =
            format!("[[listeners]]\naddress = '127.0.0.1:0'\ntls = {{ certificates = ['a.pem'] }}\n{written}\n");
        let text = format!("{listener}[[routes]]\nupstream = 'a'\n[upstreams.a]\nendpoints = ['a:80']\n");
        let config = Config::parse(&text, None).expect("it is fine");

        let demands = config.demands(&config.listeners[0], &given);
        assert_eq!(demands.alt_svc.as_deref(), said, "{written}");
    }
}

#[test]
fn routes_are_read() {
    let [api, canary, closed, rest] = &example().routes[..] else { panic!("four routes") };

    assert_eq!(api.name, "shop.example.com/api/");
    assert_eq!(
        api.hosts,
        [HostPattern::Exact("shop.example.com".to_owned()), HostPattern::Suffix(".example.org".to_owned())]
    );
    assert!(matches!(&api.path, PathPattern::Prefix(path) if path == "/api/"));
    assert_eq!(api.methods, ["GET", "POST"]);
    assert_eq!(api.headers, [("x-beta".to_owned(), "1".to_owned())]);
    assert_eq!(api.action, Action::Upstream(0));
    assert_eq!(api.timeout, Some(seconds(60)));
    assert_eq!(api.place, place_of("[[routes]]"));
    let [set_headers, strip_prefix] = &api.rewrite[..] else { panic!("two rewriters") };
    assert_eq!((&set_headers.plugin[..], set_headers.place), ("set-headers", place_of("\"set-headers\"")));
    assert_eq!((&strip_prefix.plugin[..], strip_prefix.settings.get("prefix")), ("strip-prefix", Some("/api")));

    let [next, sorry] = &api.fallback[..] else { panic!("two steps") };
    assert_eq!(next.then, FallbackAction::Upstream(1));
    assert!(next.on.hold(Some(Condition::Timeout), 504) && next.on.hold(None, 502));
    assert!(!next.on.hold(None, 404), "and nothing else");
    let headers = vec![("retry-after".to_owned(), "5".to_owned())];
    let answer = |body: &str| Answer { status: 503, headers: Vec::new(), body: body.to_owned().into(), is_file: false };
    assert_eq!(sorry.then, FallbackAction::Answer(Answer { headers, ..answer("sorry") }));
    assert_eq!(sorry.on, Conditions::default());
    let precise = page((404, 404), Some(200), "text/html", "<p>");
    let pages = vec![precise.clone(), page((400, 499), None, "text/plain; charset=utf-8", "yours")];
    assert_eq!(api.error_pages, ErrorPages { intercept: false, pages });
    assert_eq!(api.error_pages.of(404), Some(&precise));
    assert_eq!(api.error_pages.of(500), None);
    let allow = ["10.0.0.0/8", "::1"].map(|network| network.parse().unwrap()).to_vec();
    let maintenance = Maintenance { on: false, answer: Some(answer("later")), retry_after: None, allow };
    assert_eq!(api.maintenance, maintenance);
    assert_eq!(canary.maintenance, Maintenance::default());

    assert_eq!((&canary.name[..], canary.timeout), ("canary", None));
    assert!(matches!(&canary.path, PathPattern::Regex(regex) if regex.as_str() == "^/v[0-9]+/"));
    assert_eq!(canary.action, Action::Split(vec![(0, 95), (1, 5)]));

    assert_eq!((&closed.name[..], &closed.hosts[..]), ("/closed", &[][..]));
    assert!(matches!(&closed.path, PathPattern::Exact(path) if path == "/closed"));
    let headers = [("retry-after", "60"), ("set-cookie", "a=1"), ("set-cookie", "b=2")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    assert_eq!(closed.action, Action::Respond { status: 503, headers, body: "closed".to_owned().into() });

    assert_eq!((&rest.name[..], rest.timeout), ("/", None));
    assert_eq!(rest.action, Action::Redirect { to: "https://$host$request_uri".to_owned(), status: 308 });
}

#[test]
fn upstreams_are_read() {
    let [api, next] = &example().upstreams[..] else { panic!("two upstreams") };

    assert_eq!((&api.name[..], &api.balance.plugin[..]), ("api", "round-robin"));
    let address = |text: &str| text.parse::<EndpointAddress>().unwrap();
    let endpoints = [
        "10.0.0.1:80".parse().unwrap(),
        Endpoint {
            weight: 5,
            max_connections: Some(200),
            zone: Some("b".to_owned()),
            labels: vec![("rack".to_owned(), "r1".to_owned())],
            ..Endpoint::new(address("10.0.0.2:80"), "10.0.0.2:80")
        },
        Endpoint { backup: true, ..Endpoint::new(address("10.0.0.3:80"), "10.0.0.3:80") },
        Endpoint { down: true, ..Endpoint::new(address("[::1]:80"), "[::1]:80") },
        Endpoint::new(EndpointAddress::Unix("/etc/staunch/api.sock".into()), "unix:api.sock"),
    ];
    assert_eq!(api.endpoints, endpoints);
    assert_eq!((api.keepalive, api.keepalive_timeout, api.keepalive_requests), (16, seconds(50), 500));
    assert_eq!((api.connect_timeout, api.read_timeout, api.send_timeout), (seconds(4), seconds(61), seconds(62)));
    assert_eq!((api.response_timeout(), next.response_timeout()), (seconds(63), seconds(60)));
    let tls = ClientTls {
        ca: Some("/etc/staunch/ca.pem".into()),
        server_name: Some("api.internal".to_owned()),
        ..ClientTls::default()
    };
    assert_eq!((api.protocol, &api.tls), (UpstreamProtocol::Auto, &Some(tls)));
    assert_eq!((next.protocol, &next.tls), (UpstreamProtocol::Http1, &None));
    assert_eq!(api.passive, Passive::Nginx { max_fails: 2, fail_timeout: seconds(20) });

    let check = api.health.as_ref().unwrap();
    assert_eq!((check.interval, check.timeout, check.rise, check.fall), (seconds(3), seconds(1), 2, 4));
    let http = HttpCheck {
        method: "HEAD".to_owned(),
        path: "/status".to_owned(),
        host: Some("status.internal".to_owned()),
        headers: vec![("x-probe".to_owned(), "1".to_owned())],
        expect: vec![(200, 299), (301, 301), (400, 404)],
        body: None,
    };
    assert_eq!(check.kind, HealthCheckKind::Http(http));
    assert_eq!((check.fast_interval, check.down_interval), (Some(seconds(1)), Some(seconds(30))));
    assert_eq!((check.port, check.jitter, check.initial), (None, 10, InitialState::Checking));
    let tls = ClientTls {
        ca: Some("/etc/staunch/ca.pem".into()),
        server_name: Some("api.internal".to_owned()),
        cert: Some("/etc/staunch/client.pem".into()),
        key: Some("/etc/staunch/client.key".into()),
        verify: true,
    };
    assert_eq!(check.tls, Some(tls));

    assert_eq!((&api.retry.policy.plugin[..], api.retry.policy.settings.get("on.2")), ("standard", Some("http_502")));
    assert_eq!((api.retry.attempts, api.retry.timeout), (5, Some(seconds(5))));
    assert_eq!(api.retry.budget, Budget { percent: 10, min: 1 });
    assert_eq!((api.retry.replay_buffer, api.retry.non_idempotent), (1 << 20, false));

    assert_eq!((&next.name[..], &next.balance.plugin[..]), ("api-next", "tenant"));
    assert!(matches!(next.health.as_ref().unwrap().kind, HealthCheckKind::Tcp));
}

#[test]
fn a_use_of_a_plugin_has_its_settings_on_top_of_the_plugins_own() {
    let config = example();

    let [tenant, strip_prefix] = &config.plugins[..] else { panic!("two plugins") };
    assert_eq!(tenant.path.as_deref(), Some(Path::new("/etc/staunch/plugins/tenant.wasm")));
    assert_eq!(tenant.sha256, Some(std::array::from_fn(|i| i as u8)));
    assert_eq!(tenant.deadline, Some(std::time::Duration::from_millis(15)));
    assert_eq!((tenant.memory, tenant.on_failure), (32 << 20, Some(OnFailure::Fallback)));
    assert_eq!((tenant.cpu, tenant.watch), (Some(0.05), true));
    assert_eq!(tenant.probation, Some(std::time::Duration::from_secs(120)));
    assert_eq!(tenant.settings.get("limits.silver"), Some("5"));
    assert_eq!(strip_prefix.path.as_deref(), Some(Path::new("/opt/strip-prefix.wasm")));
    let settings = &config.upstreams[1].balance.settings;
    for (path, value) in [("default", "gold"), ("limits.gold", "10"), ("limits.silver", "2")] {
        assert_eq!(settings.get(path), Some(value), "for {path}");
    }
}

#[test]
fn settings_that_are_not_there_have_the_place_of_the_use() {
    let config = example();

    let place = |settings: &Settings, path| settings.place(path);
    assert_eq!(place(&config.routes[0].rewrite[0].settings, "set"), place_of("\"set-headers\""));
    assert_eq!(place(&config.upstreams[1].balance.settings, "limits.silver"), place_of("2 } } }"));
    assert_eq!(place(&config.upstreams[1].balance.settings, "limits.gold"), place_of("10, silver"));
    assert_eq!(place(&config.upstreams[1].balance.settings, "nothing"), place_of("{ limits = { silver"));
    assert_eq!(place(&config.upstreams[1].retry.policy.settings, "on"), place_of("[upstreams.api-next]"));
}

#[test]
fn routes_without_a_name_get_different_ones() {
    let config = parse(
        r#"
        [[listeners]]
        address = ":80"
        [[routes]]
        path = "/a"
        respond = {}
        [[routes]]
        path = "/a"
        methods = ["PUT"]
        respond = {}
        [[routes]]
        name = "/a #2"
        path = "/b"
        respond = {}
        [[routes]]
        hosts = ["*.example.org"]
        path_regex = "^/v"
        respond = {}
        "#,
    );

    let names: Vec<_> = config.unwrap().routes.into_iter().map(|route| route.name).collect();
    assert_eq!(names, ["/a", "/a #3", "/a #2", "*.example.org~^/v"]);
}

#[test]
fn what_is_allowed_and_probably_not_meant_is_a_warning() {
    let config = parse(
        r#"
[[listeners]]
address = ":80"
[[routes]]
path = "/api/*"
upstream = "a"
[upstreams.a]
endpoints = [{ address = "a:80", down = true }]
[upstreams.b]
endpoints = ["b:80"]
[plugins.mine]
path = "x.wasm"
"#,
    );

    let warnings: Vec<_> = config.unwrap().warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "5:8: `*` in a path is matched as it is; a `path` matches everything below it without one",
            "8:13: every endpoint is down",
            "9:12: no route or listener leads to the upstream `b`",
            "11:1: the plugin `mine` is used nowhere",
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_told_without_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("staunch.toml");
    let binary = folder.path().join("binary.toml");
    fs::write(&binary, b"a = 1\nb = \"\xC3\xA9\xFF\"").unwrap();

    let told = |path: &Path| Config::load(path).unwrap_err().to_string();

    assert!(told(&missing).starts_with(&format!("{}: cannot read the configuration: ", missing.display())));
    let text = format!("{}:2:7: a configuration is UTF-8 text, and this byte is not", binary.display());
    assert_eq!(told(&binary), text);
}

#[test]
fn a_file_is_read_with_its_folder_as_the_start_of_relative_paths() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("staunch.toml");
    fs::write(&file, EXAMPLE.replace("${STAUNCH_ADMIN_TOKEN}", "x")).unwrap();

    let config = Config::load(&file).unwrap();

    assert_eq!(config.plugins[0].path, Some(folder.path().join("plugins/tenant.wasm")));
    assert_eq!(config.file, Some(file));
}

#[test]
fn a_maintenance_that_is_written_is_on_unless_it_says_otherwise() {
    for (written, on) in
        [("true", true), ("false", false), ("{}", true), ("{ on = false }", false), ("{ on = true }", true)]
    {
        let text = format!("maintenance = {written}\n[[listeners]]\naddress = ':80'\n");

        let config = parse(&text.replace("maintenance", "server.maintenance"));

        assert_eq!(config.unwrap().server.maintenance.on, on, "with {written}");
    }
}

#[test]
fn bodies_are_read_from_files_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("a.HTML", "html"), ("b.json", "json"), ("c", "plain"), ("closed.txt", "closed")] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let text = r#"
        [server]
        maintenance = { file = "closed.txt", status = 500 }
        [[listeners]]
        address = ":80"
        [[routes]]
        upstream = "a"
        error_pages = { "500" = "a.HTML", "501" = { file = "b.json" }, "502" = { file = "c", content_type = "x/y" } }
        fallback = [{ file = "c", status = 502 }]
        [upstreams.a]
        endpoints = ["a:80"]
        "#;

    let config = Config::parse(text, Some(&folder.path().join("staunch.toml"))).unwrap();

    let pages = vec![
        page((500, 500), None, "text/html; charset=utf-8", "html"),
        page((501, 501), None, "application/json", "json"),
        page((502, 502), None, "x/y", "plain"),
    ];
    assert_eq!(config.routes[0].error_pages.pages, pages);
    let answer = |status, body: &str| Answer {
        status,
        headers: vec![("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())],
        body: body.to_owned().into(),
        is_file: true,
    };
    assert_eq!(config.routes[0].fallback[0].then, FallbackAction::Answer(answer(502, "plain")));
    assert_eq!(config.server.maintenance.answer, Some(answer(500, "closed")));
}

/// Changing this text is changing what every configuration means that does not say otherwise.
const DEFAULTS: &str = r#"Server {
    workers: None,
    watch: false,
    state: None,
    plugin_cache: Usual,
    drain_timeout: 30s,
    client_header_timeout: 60s,
    client_body_timeout: 60s,
    client_send_timeout: 60s,
    client_min_rate: None,
    client_keepalive_timeout: 75s,
    client_keepalive_min_timeout: 1s,
    tunnel_timeout: 3600s,
    max_checks: 256,
    max_header_size: 32768,
    max_headers: 128,
    max_target_size: 8192,
    max_body_size: None,
    error_pages: ErrorPages {
        intercept: false,
        pages: [],
    },
    maintenance: Maintenance {
        on: false,
        answer: None,
        retry_after: Some(
            60s,
        ),
        allow: [],
    },
    max_connections: None,
    max_connections_per_client: None,
    max_handshakes: 4096,
    memory_limit: None,
    trusted_proxies: None,
    trusted_header: Either,
    forwarded: XForwarded,
    http2: Http2 {
        max_concurrent_streams: 128,
        window: 131072,
    },
}
AccessLog {
    path: None,
    format: Json,
}
Listener {
    address: Tcp(
        0.0.0.0:80,
    ),
    protocol: Http,
    proxy_protocol: None,
    options: ListenOptions {
        backlog: 4096,
        tcp_fastopen: None,
        reuse_port: true,
        tcp_keepalive: None,
        ipv6_only: true,
    },
    tls: None,
    redirect_https: None,
    http3: false,
    alt_svc: Own,
}
TcpRelay {
    upstream: None,
    sni: [],
    idle_timeout: 600s,
}
UdpRelay {
    upstream: 0,
    idle_timeout: 60s,
    responses: None,
    max_sessions: 16384,
}
ProxyProtocol {
    from: None,
    timeout: 5s,
}
KeepAlive {
    idle: 75s,
    interval: 15s,
    count: 5,
}
Route {
    name: "/",
    hosts: [],
    path: Prefix(
        "/",
    ),
    methods: [],
    headers: [],
    action: Respond {
        status: 200,
        headers: [],
        body: 0 bytes,
    },
    rewrite: [],
    timeout: None,
    fallback: [],
    error_pages: ErrorPages {
        intercept: false,
        pages: [],
    },
    maintenance: Maintenance {
        on: false,
        answer: None,
        retry_after: Some(
            60s,
        ),
        allow: [],
    },
    priority: Normal,
    concurrency_limit: None,
    place: Place {
        line: 0,
        column: 0,
    },
}
Upstream {
    name: "a",
    balance: PluginUse {
        plugin: "round-robin",
        settings: Settings {
            entries: [],
            place: Place {
                line: 0,
                column: 0,
            },
        },
        then: None,
        place: Place {
            line: 0,
            column: 0,
        },
    },
    endpoints: [],
    keepalive: 32,
    keepalive_timeout: 60s,
    keepalive_requests: 1000,
    connect_timeout: 5s,
    response_timeout: None,
    read_timeout: 60s,
    send_timeout: 60s,
    protocol: Http1,
    tls: None,
    send_proxy_protocol: None,
    options: ConnectOptions {
        bind: None,
        tcp_keepalive: None,
        tcp_fastopen: false,
    },
    queue: Queue {
        max_requests: None,
        max_pending: 0,
        timeout: None,
    },
    breaker: None,
    concurrency: None,
    passive: Nginx {
        max_fails: 1,
        fail_timeout: 10s,
    },
    health: None,
    slow_start: None,
    panic_threshold: None,
    retry: Retry {
        policy: PluginUse {
            plugin: "standard",
            settings: Settings {
                entries: [],
                place: Place {
                    line: 0,
                    column: 0,
                },
            },
            then: None,
            place: Place {
                line: 0,
                column: 0,
            },
        },
        attempts: 3,
        timeout: Some(
            10s,
        ),
        budget: Budget {
            percent: 20,
            min: 3,
        },
        replay_buffer: 65536,
        non_idempotent: true,
    },
}
Endpoint {
    address: Tcp {
        host: "a",
        port: 80,
    },
    text: "a:80",
    weight: 1,
    backup: false,
    down: false,
    drain: false,
    max_connections: None,
    zone: None,
    labels: [],
}
HealthCheck {
    kind: Http(
        HttpCheck {
            method: "GET",
            path: "/",
            host: None,
            headers: [],
            expect: [
                (
                    200,
                    399,
                ),
            ],
            body: None,
        },
    ),
    port: None,
    tls: None,
    interval: 5s,
    fast_interval: None,
    down_interval: None,
    timeout: 2s,
    rise: 1,
    fall: 3,
    jitter: 0,
    initial: Up,
}
Plugin {
    name: "p",
    path: None,
    sha256: None,
    deadline: None,
    memory: 67108864,
    shared: 1048576,
    on_failure: None,
    cpu: None,
    watch: false,
    probation: Some(
        60s,
    ),
    settings: Settings {
        entries: [],
        place: Place {
            line: 0,
            column: 0,
        },
    },
    place: Place {
        line: 0,
        column: 0,
    },
}
ServerTls {
    certificates: [],
    client_ca: None,
    client_auth: Required,
    client_headers: false,
    min_version: Tls12,
    max_version: Tls13,
    handshake_timeout: 10s,
}
RedirectHttps {
    port: 443,
    status: 308,
    except_acme: false,
}
ClientTls {
    ca: None,
    server_name: None,
    cert: None,
    key: None,
    verify: true,
}"#;

#[test]
fn who_verifies_nobody_is_warned() {
    let warnings = |tls: &str| {
        let text = format!(
            "[[listeners]]\naddress = ':80'\n[[routes]]\nupstream = 'a'\n[upstreams.a]\nendpoints = ['a:80']\ntls = {tls}\n"
        );
        let config = parse(&text).unwrap_or_else(|faults| panic!("{faults}"));
        config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };

    assert_eq!(warnings("true"), [""; 0]);
    assert_eq!(
        warnings("{ verify = false }"),
        [
            "7:18: endpoints may be anybody: their certificates are not verified; name the certificates to trust as `ca` instead"
        ]
    );
}

#[test]
fn each_type_of_check_is_read() {
    let read = |text: &str| {
        let whole = format!(
            "[[listeners]]\naddress = ':80'\n[[routes]]\nupstream = 'a'\n[upstreams.a]\nendpoints = ['a:80']\n[upstreams.a.health]\n{text}"
        );
        parse(&whole).unwrap_or_else(|faults| panic!("{faults}")).upstreams[0].health.clone().unwrap()
    };
    let exchange = |text: &str| match read(&format!("type = 'exchange'\n{text}")).kind {
        HealthCheckKind::Exchange(exchange) => exchange,
        other => panic!("{other:?}"),
    };
    let pattern = |text: &str| Pattern(regex::bytes::Regex::new(text).unwrap());

    assert_eq!(read("type = 'tcp'\nport = 8081").port, Some(8081));
    assert_eq!(exchange(""), ExchangeCheck::default());
    assert_eq!(
        exchange("send = \"PING\\r\\n\"\nexpect = '+PONG'"),
        ExchangeCheck { send: b"PING\r\n".to_vec(), expect: Expected::Bytes(b"+PONG".to_vec()) }
    );
    assert_eq!(
        exchange("send_hex = '00 fF'\nexpect_hex = 'c0DE'"),
        ExchangeCheck { send: vec![0, 255], expect: Expected::Bytes(vec![0xc0, 0xde]) }
    );
    assert_eq!(exchange("expect_regex = '^220 '").expect, Expected::Pattern(pattern("^220 ")));
    assert_ne!(exchange("expect_regex = '^220 '").expect, Expected::Pattern(pattern("^221 ")));
    assert_eq!(
        read("type = 'grpc'\nservice = 'a.B'\nhost = 'b:1'\nheaders = { authorization = 'x' }").kind,
        HealthCheckKind::Grpc(GrpcCheck {
            service: "a.B".to_owned(),
            host: Some("b:1".to_owned()),
            headers: vec![("authorization".to_owned(), "x".to_owned())],
        })
    );
    let HealthCheckKind::Http(http) = read("body = '(?i)ready'").kind else { panic!("not HTTP") };
    assert_eq!(http, HttpCheck { body: Some(pattern("(?i)ready")), ..HttpCheck::default() });
    assert_eq!(read("tls = true").tls, Some(ClientTls::default()));
    assert_eq!(read("tls = false").tls, None);
    assert_eq!(read("tls = { verify = false }").tls, Some(ClientTls { verify: false, ..ClientTls::default() }));
    assert_eq!(read("tls = { server_name = '::1' }").tls.unwrap().server_name.as_deref(), Some("::1"));
    assert_eq!(read("initial = 'down'").initial, InitialState::Down);
}

#[test]
fn a_probation_can_be_switched_off() {
    for off in ["false", "\"0s\""] {
        let config = parse(&EXAMPLE.replace("probation = \"2m\"", &format!("probation = {off}")));

        assert_eq!(config.unwrap().plugins[0].probation, None, "with {off}");
    }
}

#[test]
fn listeners_for_what_is_not_http_are_read() {
    let config = parse(
        r#"
        [[listeners]]
        address = ":5432"
        protocol = "tcp"
        upstream = "a"
        idle_timeout = "1h"
        proxy_protocol = { from = ["10.0.0.0/8"], timeout = "1s" }
        backlog = 100
        tcp_fastopen = 10
        reuse_port = false
        tcp_keepalive = { idle = "1m" }
        ipv6_only = false
        [[listeners]]
        address = ":443"
        protocol = "tcp"
        sni = [{ hosts = ["Db.example.com", "*.example.org"], upstream = "b" }]
        tcp_fastopen = false
        tcp_keepalive = true
        [[listeners]]
        address = ":443"
        protocol = "udp"
        upstream = "b"
        idle_timeout = "10s"
        responses = 1
        max_sessions = 100
        [upstreams.a]
        endpoints = ["a:80"]
        send_proxy_protocol = "v1"
        bind = "192.0.2.1"
        tcp_keepalive = true
        tcp_fastopen = true
        [upstreams.b]
        endpoints = ["b:80"]
        "#,
    )
    .unwrap();

    let [first, second, third] = &config.listeners[..] else { panic!("three listeners") };
    assert_eq!(first.protocol, Protocol::Tcp(TcpRelay { idle_timeout: seconds(3600), ..TcpRelay::new(Some(0)) }));
    let from = Some(vec!["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(first.proxy_protocol, Some(ProxyProtocol { from, timeout: seconds(1) }));
    let tcp_keepalive = Some(KeepAlive { idle: seconds(60), ..KeepAlive::default() });
    let options =
        ListenOptions { backlog: 100, tcp_fastopen: Some(10), reuse_port: false, tcp_keepalive, ipv6_only: false };
    assert_eq!(first.options, options);
    let hosts = vec![HostPattern::Exact("db.example.com".to_owned()), HostPattern::Suffix(".example.org".to_owned())];
    let sni = vec![SniRoute { hosts, upstream: 1 }];
    assert_eq!(second.protocol, Protocol::Tcp(TcpRelay { sni, ..TcpRelay::new(None) }));
    let options = ListenOptions { tcp_keepalive: Some(KeepAlive::default()), ..ListenOptions::default() };
    assert_eq!(second.options, options);
    let relay = UdpRelay { idle_timeout: seconds(10), responses: Some(1), max_sessions: 100, ..UdpRelay::new(1) };
    assert_eq!(third.protocol, Protocol::Udp(relay));
    assert_eq!(config.upstreams[0].send_proxy_protocol, Some(ProxyVersion::V1));
    let bind = Some("192.0.2.1".parse().unwrap());
    let options = ConnectOptions { bind, tcp_keepalive: Some(KeepAlive::default()), tcp_fastopen: true };
    assert_eq!(config.upstreams[0].options, options);
    assert_eq!(config.warnings, []);
}

#[test]
fn the_defaults_are_these() {
    let nothing = Action::Respond { status: 200, headers: Vec::new(), body: Content::default() };
    let endpoint: Endpoint = "a:80".parse().unwrap();

    let defaults = format!(
        "{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}",
        Server::default(),
        AccessLog::default(),
        Listener::new(":80".parse().unwrap()),
        TcpRelay::new(None),
        UdpRelay::new(0),
        ProxyProtocol::default(),
        KeepAlive::default(),
        Route::new(nothing),
        Upstream::new("a"),
        endpoint,
        HealthCheck::default(),
        Plugin::new("p"),
        ServerTls::default(),
        RedirectHttps::default(),
        ClientTls::default(),
    );

    assert_eq!(defaults, DEFAULTS);
}

#[test]
fn what_is_not_written_has_its_default() {
    let config = parse(
        r#"
        [[listeners]]
        address = ":80"
        [[routes]]
        respond = {}
        [[routes]]
        path = "/a"
        upstream = "a"
        [upstreams.a]
        endpoints = ["a:80"]
        health = {}
        [plugins.p]
        path = "/p.wasm"
        [server]
        "#,
    )
    .unwrap();
    let nothing = Action::Respond { status: 200, headers: Vec::new(), body: Content::default() };
    let mut upstream = Upstream::new("a");
    upstream.endpoints.push("a:80".parse().unwrap());
    upstream.health = Some(HealthCheck::default());

    // Places aside, which constructors do not know.
    let plain = |text: String| {
        let place = regex::Regex::new(r"Place \{ line: \d+, column: \d+ \}").unwrap();
        place.replace_all(&text, "here").into_owned()
    };
    assert_eq!(config.server, Server::default());
    assert_eq!(plain(format!("{:?}", config.routes[0])), plain(format!("{:?}", Route::new(nothing))));
    assert_eq!(plain(format!("{:?}", config.upstreams)), plain(format!("{:?}", [upstream])));
    assert_eq!(
        plain(format!("{:?}", config.plugins)),
        plain(format!("{:?}", [Plugin { path: Some("/p.wasm".into()), ..Plugin::new("p") }]))
    );
}

#[test]
fn the_admin_server_is_found_whatever_is_wrong_with_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("staunch.toml");
    let load = |text: &str| {
        fs::write(&file, text).unwrap();
        Admin::load(&file).map(|admin| admin.map(|admin| admin.address.to_string()))
    };
    let beside = format!("unix:{}", folder.path().join("a.sock").display());

    assert_eq!(load("[[listeners]]\nadress = 1\n[admin]\naddress = \"127.0.0.1:1\"\n"), Ok(Some("127.0.0.1:1".into())));
    assert_eq!(load("[admin]\naddress = \"unix:a.sock\"\n[upstreams.\n"), Ok(Some(beside)));
    assert_eq!(load("[server]\nworkers = 0\n"), Ok(None));
    assert!(load("[admin]\naddress = \"localhost\"\n").is_err());
    assert!(load("[admin\n").is_err() && Admin::load(&folder.path().join("gone")).is_err());
}
