//! What the operator wrote, with defaults and checks.
//!
//! A file is read in three steps: `tree` turns text into values with their places, each section's own file
//! reads its part of them, and `check` looks at what only the whole can tell. No step stops at a fault: all
//! faults of a file are reported at once.

mod access_log;
mod action;
mod admin;
mod answer;
mod check;
mod demands;
mod endpoint;
mod error_pages;
mod fallback;
mod fault;
mod forwarding;
mod health;
mod http2;
mod limit;
mod listener;
mod maintenance;
mod mask;
mod network;
mod overload;
mod passive;
mod plugin;
mod proxy_protocol;
mod reader;
mod relay;
mod retry;
mod route;
mod server;
mod server_tls;
mod settings;
mod slow_start;
mod socket;
mod tls;
mod tree;
mod upstream;
mod value;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use access_log::{AccessLog, AccessLogFormat};
pub use action::Action;
pub use admin::Admin;
pub use answer::{Answer, Content};
pub use demands::{ClientHeaders, Demands, RedirectHttps};
pub use endpoint::{Endpoint, EndpointAddress};
pub use error_pages::{ErrorPage, ErrorPages};
pub use fallback::{Condition, Conditions, Fallback, FallbackAction};
pub use fault::{BadValue, Fault, Faults};
pub use forwarding::{Forwarded, TrustedHeader, TrustedProxies};
pub use health::{ExchangeCheck, Expected, GrpcCheck, HealthCheck, HealthCheckKind, HttpCheck, InitialState, Pattern};
pub use http2::Http2;
pub use limit::{ConcurrencyLimit, Priority};
pub use listener::{AltSvc, Carrier, ListenAddress, Listener, Protocol};
pub use maintenance::Maintenance;
pub use mask::masked;
pub use network::Network;
pub use overload::{Breaker, Concurrency, Queue};
pub use passive::{Consecutive, FailurePercentage, OutlierDetection, Passive, SuccessRate, WindowPassive};
pub use plugin::{BUILTIN, OnFailure, PROBATION, Plugin, PluginKind, PluginUse};
pub use proxy_protocol::{ProxyProtocol, ProxyVersion};
pub use relay::{SniRoute, TcpRelay, UdpRelay};
pub use retry::{Budget, Retry};
pub use route::{HostPattern, PathPattern, Route};
pub use server::{PluginCache, Server};
pub use server_tls::{Certificate, ClientAuth, ServerTls, TlsVersion};
pub use settings::{Place, Setting, Settings};
pub use slow_start::SlowStart;
pub use socket::{ConnectOptions, KeepAlive, ListenOptions};
pub use tls::ClientTls;
pub(crate) use upstream::HASHES;
pub use upstream::{Upstream, UpstreamProtocol};

use reader::{Reader, Scope};
use tree::{Document, Lines};

/// A whole configuration, checked.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where it was read from; relative paths in it start at this file's folder. `None` for an embedded one.
    pub file: Option<PathBuf>,
    /// What was read; empty for one that was made otherwise.
    pub text: String,
    pub server: Server,
    pub admin: Option<Admin>,
    pub access_log: Option<AccessLog>,
    pub listeners: Vec<Listener>,
    pub routes: Vec<Route>,
    /// In the order they are written, names unique.
    pub upstreams: Vec<Upstream>,
    /// In the order they are written, names unique.
    pub plugins: Vec<Plugin>,
    /// What is allowed and yet probably not meant, such as an upstream that no route leads to.
    pub warnings: Vec<Fault>,
}

impl Config {
    /// What a listener wants of every request. What one of them tells endpoints of certificates, no client of another
    /// may claim.
    /// `address`: where it is.
    pub fn demands(&self, listener: &Listener, address: &ListenAddress) -> Demands {
        let sets = |listener: &Listener| listener.tls.as_ref().is_some_and(|tls| tls.client_headers);
        let client_headers = match (sets(listener), self.listeners.iter().any(sets)) {
            (true, _) => ClientHeaders::Set,
            (false, true) => ClientHeaders::Removed,
            (false, false) => ClientHeaders::Kept,
        };
        Demands { redirect_https: listener.redirect_https, client_headers, alt_svc: listener.alt_svc(address) }
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// All faults of the file, or one without a place when the file cannot be read.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        let fail = |fault| Faults { file: Some(path.to_owned()), faults: vec![fault] };
        let bytes = fs::read(path).map_err(|error| fail(unreadable(&error)))?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse(text, Some(path)),
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let place = Lines::of(&good).place(good.len());
                Err(fail(Fault::new(place, "a configuration is UTF-8 text, and this byte is not")))
            }
        }
    }

    /// Reads a text. `file` is where it came from: faults name it, and relative paths start at its folder.
    ///
    /// # Errors
    ///
    /// All faults of the text, in its order.
    pub fn parse(text: &str, file: Option<&Path>) -> Result<Self, Faults> {
        Self::parse_with(text, file, &|name| std::env::var(name).ok())
    }

    /// Like [`parse`](Self::parse), with an environment of the caller's.
    pub(crate) fn parse_with(
        text: &str,
        file: Option<&Path>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Faults> {
        let document = Document::read(text, environment);
        let scope = Scope::of(&document.root, file.and_then(Path::parent));
        let mut config = Self::read(&document, &scope);
        config.file = file.map(Path::to_owned);
        text.clone_into(&mut config.text);
        check::check(&config, &scope);
        config.warnings = scope.warnings.take();

        let mut faults = document.faults.clone();
        for noted in scope.noted.take() {
            let is_doubtful = noted.is_absence && document.may_hide() || document.is_damaged_at(noted.fault.place);
            if !is_doubtful && !faults.contains(&noted.fault) {
                faults.push(noted.fault);
            }
        }
        faults.sort_by_key(|fault| fault.place);
        config.warnings.sort_by_key(|warning| warning.place);
        if faults.is_empty() { Ok(config) } else { Err(Faults { file: file.map(Path::to_owned), faults }) }
    }

    /// What could be understood.
    fn read<'a>(document: &'a Document, scope: &'a Scope<'a>) -> Self {
        let mut reader = Reader::new(&document.root, scope);
        let server = reader.table("server").map(Server::read).unwrap_or_default();
        let admin = reader.table("admin").and_then(Admin::read);
        let access_log = reader.table("access_log").map(AccessLog::read);
        let listeners = Listener::read_all(&mut reader);
        let has_http = listeners.is_empty() || listeners.iter().any(|listener| listener.protocol == Protocol::Http);
        Self {
            file: None,
            text: String::new(),
            server,
            admin,
            access_log,
            listeners,
            plugins: Plugin::read_all(&mut reader),
            upstreams: Upstream::read_all(&mut reader),
            routes: Route::read_all(&mut reader, has_http),
            warnings: Vec::new(),
        }
    }
}

impl Settings {
    /// Reads the settings of one use of a plugin, on their own: what a configuration has under `config`.
    ///
    /// # Errors
    ///
    /// All faults of the text, in its order.
    pub fn parse(text: &str, file: Option<&Path>) -> Result<Self, Faults> {
        let document = Document::read(text, &|name| std::env::var(name).ok());
        if document.faults.is_empty() {
            return Ok(document.root.to_settings());
        }
        Err(Faults { file: file.map(Path::to_owned), faults: document.faults })
    }
}

fn unreadable(error: &io::Error) -> Fault {
    let hint = (error.kind() == io::ErrorKind::NotFound).then(|| "name the file with `-c FILE`".to_owned());
    Fault::new(Place::default(), format!("cannot read the configuration: {error}")).with_hint(hint)
}
