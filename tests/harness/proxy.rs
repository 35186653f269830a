//! The proxy under test: the library's own, on threads of this process.

use std::net::SocketAddr;
use std::path::Path;

use staunch::config::{Config, ListenAddress};
use staunch::proxy::Process;

use super::program::compiled;
use super::{Client, Response, Upstream, eventually};

/// A configuration's admin server.
pub(crate) const ADMIN: &str = "[admin]\naddress = \"127.0.0.1:0\"\n";

/// The upstream `api` with these endpoints. Further keys of it may follow.
pub(crate) fn api<const N: usize>(endpoints: [&Upstream; N]) -> String {
    let quoted: Vec<_> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    format!("[upstreams.api]\nendpoints = [{}]\n", quoted.join(", "))
}

/// A running proxy with one worker, so that the order of picks is certain. It ends with the test.
#[derive(Debug)]
pub(crate) struct Proxy {
    running: staunch::proxy::Proxy,
}

impl Proxy {
    /// One that sends everything to these endpoints.
    #[track_caller]
    pub(crate) fn to<const N: usize>(endpoints: [&Upstream; N]) -> Self {
        Self::with(&api(endpoints))
    }

    /// One with this configuration. What it does not say of workers, listeners and routes is: one worker, a free
    /// port, and everything to `api`.
    #[track_caller]
    pub(crate) fn with(text: &str) -> Self {
        Self::start(text, None).unwrap_or_else(|faults| panic!("{faults}\nin\n{text}"))
    }

    /// The same with paths that begin in the folder of `file`; or all that is wrong with it.
    pub(crate) fn start(text: &str, file: Option<&Path>) -> Result<Self, String> {
        let config = Config::parse(&complete(text), file).map_err(|faults| faults.to_string())?;
        let process = Process { plugin_cache: Some(compiled()), ..Process::default() };
        let running = staunch::proxy::Proxy::start_in(process, config).map_err(|error| error.to_string())?;
        Ok(Self { running })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        tcp(&self.running.addresses()[0])
    }

    /// Where its listener of this number is.
    pub(crate) fn address_of(&self, listener: usize) -> SocketAddr {
        tcp(&self.running.addresses()[listener])
    }

    /// Asks on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        Client::to(self).get(path)
    }

    /// Asks the admin server.
    #[track_caller]
    pub(crate) fn admin(&self, path: &str, lines: &str) -> Response {
        Client::connect(self.admin_address()).ask("GET", path, lines)
    }

    /// What `/api/upstreams` tells of an endpoint of the upstream `api`.
    #[track_caller]
    pub(crate) fn endpoint(&self, address: &Upstream) -> serde_json::Value {
        let upstreams: serde_json::Value =
            serde_json::from_slice(&self.admin("/api/upstreams", "").body).expect("JSON");
        let api = upstreams.as_array().and_then(|all| all.iter().find(|upstream| upstream["name"] == "api"));
        let endpoints = api.and_then(|api| api["endpoints"].as_array()).expect("the upstream");
        let known = endpoints.iter().find(|endpoint| endpoint["address"] == address.to_string());
        known.cloned().unwrap_or_default()
    }

    /// Says something of an endpoint of the upstream `api`, as an operator.
    #[track_caller]
    pub(crate) fn order(&self, address: &Upstream, said: &str) -> Response {
        let path = format!("/api/upstreams/api/endpoints/{address}");
        Client::connect(self.admin_address()).patch(&path, "", said)
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        tcp(self.running.admin_address().expect("an admin server"))
    }

    /// What `/metrics` says of a sample, named with its labels; 0 when it says nothing.
    #[track_caller]
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        let metrics = self.admin("/metrics", "");
        let values = metrics.text().lines().filter_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        values.map(|value| value.parse::<f64>().expect("a number")).next().unwrap_or(0.0)
    }

    /// Waits until a sample has this value: what is counted may come a moment after its response.
    #[track_caller]
    pub(crate) fn assert_counted(&self, sample: &str, value: f64) {
        let mut counted = 0.0;
        for _ in 0..200 {
            counted = self.metric(sample);
            if counted == value {
                return;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
        assert_eq!(counted, value, "{sample}");
    }

    /// Has its file say this, and waits until that serves.
    #[track_caller]
    pub(crate) fn reload(&self, file: &Path, text: &str) {
        let before = self.running.generation();
        self.reread(file, text);
        eventually(|| self.running.generation() > before);
    }

    /// Has its file say this, and asks it to read that.
    pub(crate) fn reread(&self, file: &Path, text: &str) {
        std::fs::write(file, complete(text)).expect("a file");
        self.running.reread();
    }

    /// The number of the configuration that serves.
    pub(crate) fn generation(&self) -> u64 {
        self.running.generation()
    }

    pub(crate) fn drain(&self) {
        self.running.drain();
    }

    /// Waits until it has ended, as it does once drained.
    pub(crate) fn wait(self) -> bool {
        self.running.wait()
    }
}

/// Adds what a configuration leaves out.
pub(super) fn complete(text: &str) -> String {
    let mut whole = String::new();
    if !text.contains("[server]") {
        whole += "[server]\nworkers = 1\n";
    }
    if !text.contains("[[listeners]]") {
        whole += "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    }
    if text.contains("workers = ") {
        whole += text;
    } else {
        whole += &text.replace("[server]\n", "[server]\nworkers = 1\n");
    }
    if !text.contains("[[routes]]") {
        whole += "\n[[routes]]\nupstream = \"api\"\n";
    }
    whole
}

fn tcp(address: &ListenAddress) -> SocketAddr {
    let ListenAddress::Tcp(address) = address else { panic!("not a port: {address}") };
    *address
}
