//! The example plugins, each in another language, under traffic.
//!
//! They run where `STAUNCH_EXAMPLES` names the folder `examples/plugins` after `examples/plugins/build`; elsewhere they
//! are skipped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::harness::{Client, Proxy, Upstream, eventually, ok};

/// An example's own configuration, before these origins and with free ports.
struct Example {
    name: &'static str,
    file: PathBuf,
    text: String,
}

impl Example {
    fn of(name: &'static str, origins: [&Upstream; 3]) -> Option<Self> {
        let Some(folder) = std::env::var_os("STAUNCH_EXAMPLES") else {
            println!("skipped: STAUNCH_EXAMPLES does not say where the example plugins are (examples/plugins/build)");
            return None;
        };
        let file = Path::new(&folder).join(name).join("staunch.toml");
        let mut text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for (port, origin) in (9001..).zip(origins) {
            text = replaced(&text, &format!("127.0.0.1:{port}"), &origin.to_string());
        }
        text = replaced(&text, "127.0.0.1:8080", "127.0.0.1:0");
        text = replaced(&text, "127.0.0.1:9900", "127.0.0.1:0");
        Some(Self { name, file, text })
    }

    /// With another text in place of a part of it.
    fn with(mut self, from: &str, to: &str) -> Self {
        self.text = replaced(&self.text, from, to);
        self
    }

    #[track_caller]
    fn start(&self) -> Proxy {
        Proxy::start(&self.text, Some(&self.file)).unwrap_or_else(|faults| panic!("{faults}\nin\n{}", self.text))
    }

    /// Checks that every call of the plugin was its own to answer, and answers how many there were.
    #[track_caller]
    fn assert_faultless(&self, proxy: &Proxy) -> u64 {
        let plugins: Vec<Value> = serde_json::from_slice(&proxy.admin("/api/plugins", "").body).expect("JSON");
        let own: Vec<_> = plugins.iter().filter(|plugin| plugin["plugin"] == self.name).collect();
        assert!(!own.is_empty(), "it is used");
        for plugin in &own {
            assert_eq!((&plugin["fallbacks"], &plugin["trips"]), (&0.into(), &0.into()), "{plugin}");
        }
        own.iter().filter_map(|plugin| plugin["calls"].as_u64()).sum()
    }
}

#[track_caller]
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in\n{text}");
    text.replace(from, to)
}

/// Four clients at once, each asking so often, with this line beside; how many were answered with 200.
fn traffic(proxy: &Proxy, each: usize, path: &str, line: &str) -> usize {
    let good = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::to(proxy);
                for _ in 0..each {
                    good.fetch_add(usize::from(client.ask("GET", path, line).status == 200), Relaxed);
                }
            });
        }
    });
    good.into_inner()
}

#[test]
fn rust_picks_the_idlest() {
    let (stalling, idle) = (Upstream::stalling(), Upstream::replying("idle"));
    let Some(example) = Example::of("least-busy", [&stalling, &idle, &Upstream::refusing()]) else { return };
    let example = example.with(&format!("\"{}\", ", stalling), "");
    let proxy = example.start();

    assert_eq!(traffic(&proxy, 200, "/", ""), 800);

    assert!(example.assert_faultless(&proxy) >= 800);
}

#[test]
fn c_picks_the_cheapest_until_it_is_too_busy() {
    let (cheap, dearer, dear) = (Upstream::stalling(), Upstream::replying("dearer"), Upstream::replying("dear"));
    let Some(example) = Example::of("cheapest", [&cheap, &dearer, &dear]) else { return };
    let proxy = example.start();

    // 1 × 1 and 1 × 2 are less than 2.5 × 1, and 1 × 3 is not.
    let mut waiting = Vec::new();
    for requests in 1..=2 {
        let mut client = Client::to(&proxy);
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually(|| cheap.requests() == requests);
        waiting.push(client);
    }
    let mut client = Client::to(&proxy);
    for _ in 0..200 {
        assert_eq!(client.get("/").text(), "dearer");
    }

    assert_eq!((cheap.requests(), dear.requests()), (2, 0));
    assert_eq!(example.assert_faultless(&proxy), 202);
}

#[test]
fn c_serves_many_at_once() {
    let origins = ["cheap", "dearer", "dear"].map(Upstream::replying);
    let Some(example) = Example::of("cheapest", [&origins[0], &origins[1], &origins[2]]) else { return };
    let proxy = example.start();

    assert_eq!(traffic(&proxy, 200, "/", ""), 800);

    assert!(example.assert_faultless(&proxy) == 800 && origins[0].requests() > 400);
}

#[test]
fn cs_settings_are_checked() {
    let origins = [Upstream::refusing(), Upstream::refusing(), Upstream::refusing()];
    let Some(example) = Example::of("cheapest", [&origins[0], &origins[1], &origins[2]]) else { return };
    let example = example.with("\"target/cheapest.wasm\"", "\"target/cheapest.wasm\"\nconfig = { lable = \"price\" }");

    let error = Proxy::start(&example.text, Some(&example.file)).map(|_| ()).expect_err("refused");

    assert!(error.contains("there is no such setting; there is only `label`"), "{error}");
}

#[test]
fn zig_brings_each_tenant_home() {
    let origins = ["A", "B", "C"].map(Upstream::replying);
    let Some(example) = Example::of("tenant-home", [&origins[0], &origins[1], &origins[2]]) else { return };
    let homes = |proxy: &Proxy| -> Vec<String> {
        let mut client = Client::to(proxy);
        let mut home = |tenant: usize| client.ask("GET", "/", &format!("X-Tenant: t{tenant}\r\n")).text().to_owned();
        (0..60)
            .map(|tenant| [home(tenant), home(tenant)])
            .map(|[one, two]| {
                assert_eq!(one, two);
                one
            })
            .collect()
    };
    let proxy = example.start();
    let before = homes(&proxy);
    assert_eq!(traffic(&proxy, 200, "/", "X-Tenant: gold\r\n"), 800);
    assert!(example.assert_faultless(&proxy) >= 920);

    for name in ["A", "B", "C"] {
        let tenants = before.iter().filter(|home| *home == name).count();
        assert!((10..=30).contains(&tenants), "{tenants} of 60 live at {name}");
    }
    let last = format!("\"{}\"", origins[2]);
    let without = example.with(&last, &format!("{{ address = {last}, down = true }}"));
    let after = homes(&without.start());
    for (tenant, (before, after)) in before.iter().zip(&after).enumerate() {
        assert!(before == after || before == "C" && after != "C", "tenant {tenant} moved from {before} to {after}");
    }
}

#[test]
fn go_grants_each_tenant_its_retries() {
    let (bad, good) = (Upstream::status(503), Upstream::replying("good"));
    let Some(example) = Example::of("allowance", [&bad, &good, &good]) else { return };
    let example = example.with(&format!(", \"{good}\", \"{good}\""), &format!(", \"{good}\""));
    let proxy = example.start();
    let mut client = Client::to(&proxy);
    let begun = Instant::now();
    let mut refused = |tenant: &str, times: usize| -> usize {
        let line = format!("X-Tenant: {tenant}\r\n");
        (0..times).filter(|_| client.ask("GET", "/", &line).status == 503).count()
    };

    // Every other request begins at the bad one.
    assert_eq!(refused("gold", 30), 0);
    let silver = refused("silver", 100);
    let nobody = refused("nobody", 100);

    let seconds = begun.elapsed().as_secs() as usize + 2;
    assert!(silver <= 50 && silver + 2 * seconds >= 50, "{silver} of 50 were not retried");
    assert!(nobody <= 50 && nobody + seconds >= 50, "{nobody} of 50 were not retried");
    example.assert_faultless(&proxy);
    let denied = (silver + nobody) as f64;
    assert!(denied < 100.0, "some were retried");
    let counter = "staunch_plugin_allowance_denied_total{use=\"upstream api: retry\"}";
    assert_eq!(proxy.metric(counter), denied);
}

#[test]
fn typescript_tidies_queries() {
    let origins =
        [(); 3].map(|()| Upstream::answering(|request| ok(request.head.line.split(' ').nth(1).unwrap_or_default())));
    let Some(example) = Example::of("tidy-query", [&origins[0], &origins[1], &origins[2]]) else { return };
    let proxy = example.start();
    let mut client = Client::to(&proxy);

    for (asked, seen) in [
        ("/shop?utm_source=mail&b=2&a=1&gclid=x", "/shop?a=1&b=2"),
        ("/shop?fbclid=1", "/shop"),
        ("/shop?q=caf%C3%A9&page=2", "/shop?page=2&q=caf%C3%A9"),
        ("/shop", "/shop"),
    ] {
        assert_eq!(client.get(asked).text(), seen, "for {asked}");
    }

    assert_eq!(traffic(&proxy, 200, "/?b=1&a=2&utm_medium=x", ""), 800);
    assert_eq!(example.assert_faultless(&proxy), 804);
}

#[test]
fn python_closes_for_maintenance() {
    let origins = ["A", "A", "A"].map(Upstream::replying);
    let Some(example) = Example::of("maintenance", [&origins[0], &origins[1], &origins[2]]) else { return };
    let days = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];
    let today = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() / 86_400;
    // Not today anywhere on earth, nor when a test runs over midnight.
    let another = days[(today as usize + 3) % 7];
    let window = |days: &str| format!("[{{ {days}from = \"00:00\", to = \"24:00\" }}]");
    let example = example.with(
        "rewrite = [\"maintenance\"]",
        &format!(
            "rewrite = [{{ plugin = \"maintenance\", config = {{ windows = {} }} }}]\n\
             [[routes]]\npath = \"/open\"\nupstream = \"api\"\n\
             rewrite = [{{ plugin = \"maintenance\", config = {{ windows = {} }} }}]",
            window(""),
            window(&format!("days = [\"{another}\"], ")),
        ),
    );
    let proxy = example.start();

    let closed = proxy.get("/");
    assert_eq!((closed.status, closed.text()), (503, "down for maintenance\n"));
    let seconds: u64 = closed.field("retry-after").and_then(|seconds| seconds.parse().ok()).expect("seconds");
    assert!((1..=86_400).contains(&seconds), "{seconds}");
    assert_eq!(proxy.get("/healthz").text(), "A");
    assert_eq!(proxy.get("/open").text(), "A");
    assert_eq!(traffic(&proxy, 100, "/open", ""), 400);
    assert_eq!(traffic(&proxy, 100, "/", ""), 0);
    assert!(example.assert_faultless(&proxy) >= 800);
}
