//! What the operator wrote, with defaults and checks.

mod settings;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use regex::Regex;

pub use settings::{Place, Setting, Settings};

/// A whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it was read from; relative paths in it start at this file's folder. `None` for an embedded one.
    pub file: Option<PathBuf>,
    pub server: Server,
    pub admin: Option<Admin>,
    pub access_log: Option<AccessLog>,
    pub listeners: Vec<Listener>,
    pub routes: Vec<Route>,
    /// In the order they are written, names unique.
    pub upstreams: Vec<Upstream>,
    /// In the order they are written, names unique.
    pub plugins: Vec<Plugin>,
}

/// What holds for every listener and worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Worker threads; `None` ("auto") is one for each core this process may use.
    pub workers: Option<NonZeroUsize>,
    /// How long in-flight exchanges may take to finish after a stop was asked for ("30s").
    pub drain_timeout: Duration,
    /// For a whole request head ("60s", nginx's `client_header_timeout`).
    pub client_header_timeout: Duration,
    /// Between two reads of a request body ("60s").
    pub client_body_timeout: Duration,
    /// Between two writes to a client ("60s", nginx's `send_timeout`).
    pub client_send_timeout: Duration,
    /// How long an idle connection is kept ("75s").
    pub client_keepalive_timeout: Duration,
    /// How long an upgraded connection may be silent in both directions ("1h").
    pub tunnel_timeout: Duration,
    /// The longest request or response head, in bytes ("32KiB"); longer: 431 or 502.
    pub max_header_size: usize,
    /// The most fields in a head (128); more: 431 or 502.
    pub max_headers: usize,
    /// The longest request target, in bytes ("8KiB"); longer: 414.
    pub max_target_size: usize,
    /// The longest request body, in bytes; absent: no limit. Longer: 413.
    pub max_body_size: Option<u64>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            workers: None,
            drain_timeout: Duration::from_secs(30),
            client_header_timeout: Duration::from_secs(60),
            client_body_timeout: Duration::from_secs(60),
            client_send_timeout: Duration::from_secs(60),
            client_keepalive_timeout: Duration::from_secs(75),
            tunnel_timeout: Duration::from_secs(3600),
            max_header_size: 32 * 1024,
            max_headers: 128,
            max_target_size: 8 * 1024,
            max_body_size: None,
        }
    }
}

/// The operator's window.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    pub address: ListenAddress,
    /// Asked for as `Authorization: Bearer`. Required unless the address is loopback or a unix socket.
    pub token: Option<String>,
}

/// A line for each finished exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// A file that is appended to; `None` ("-") is standard output.
    pub path: Option<PathBuf>,
    pub format: AccessLogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    Json,
    /// The Apache and nginx "combined" format.
    Combined,
}

/// Where to accept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    pub address: ListenAddress,
}

/// A match and what to do with it.
#[derive(Clone, Debug)]
pub struct Route {
    /// As configured, or made from the match ("shop.example.com/api/").
    pub name: String,
    /// Empty: any host.
    pub hosts: Vec<HostPattern>,
    pub path: PathPattern,
    /// Empty: any method.
    pub methods: Vec<String>,
    /// Fields that must be there with exactly this value; names in lower case.
    pub headers: Vec<(String, String)>,
    pub action: Action,
    pub rewrite: Vec<PluginUse>,
    /// For the whole exchange, all attempts; `None`: no limit ("60s" by default).
    pub timeout: Option<Duration>,
    pub place: Place,
}

/// A host in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    Exact(String),
    /// `*.example.org`, kept as `.example.org`: any name under it.
    Suffix(String),
}

#[derive(Clone, Debug)]
pub enum PathPattern {
    /// Matches at a segment boundary: `/api` and `/api/` match `/api` and `/api/x`, not `/apix`.
    Prefix(String),
    Exact(String),
    Regex(Regex),
}

/// What a route does with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Sends it to an upstream, by its position in [`Config::upstreams`].
    Upstream(usize),
    /// Sends it to one of several, with these weights.
    Split(Vec<(usize, u32)>),
    Respond {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// `to` may use `$scheme`, `$host`, `$path`, `$query`, `$request_uri`.
    Redirect {
        to: String,
        status: u16,
    },
}

/// A plugin in a place where it is used.
#[derive(Clone, Debug)]
pub struct PluginUse {
    /// A name from [`Config::plugins`], or a built-in's.
    pub plugin: String,
    /// The plugin's own settings with this use's on top.
    pub settings: Settings,
    /// Where the use is written.
    pub place: Place,
}

/// A named group of endpoints.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub name: String,
    pub balance: PluginUse,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// Idle connections kept per worker and endpoint (32).
    pub keepalive: usize,
    /// How long an idle connection is kept ("60s").
    pub keepalive_timeout: Duration,
    /// Exchanges after which a connection is closed (1000, nginx's `keepalive_requests`).
    pub keepalive_requests: u64,
    /// ("5s")
    pub connect_timeout: Duration,
    /// Between two reads ("60s").
    pub read_timeout: Duration,
    /// Between two writes ("60s").
    pub send_timeout: Duration,
    pub passive: Passive,
    pub health: Option<HealthCheck>,
    pub retry: Retry,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    pub address: EndpointAddress,
    /// As it is written.
    pub text: String,
    /// 1 to 65535 (1).
    pub weight: u32,
    pub backup: bool,
    pub down: bool,
    /// Requests in flight at most, over all workers; absent: no limit.
    pub max_connections: Option<u32>,
    pub zone: Option<String>,
    pub labels: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// An address, or a name that is looked up when the proxy starts.
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

/// nginx's passive health check.
#[derive(Clone, Debug, PartialEq)]
pub struct Passive {
    /// Failures that take an endpoint out (1); 0: never.
    pub max_fails: u32,
    /// The time within which they chain, and for which it stays out ("10s"). Counted in whole seconds.
    pub fail_timeout: Duration,
}

/// An active check of every endpoint.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    pub kind: HealthCheckKind,
    /// Between the ends of two checks of one endpoint ("5s").
    pub interval: Duration,
    /// For one whole check ("2s").
    pub timeout: Duration,
    /// Passes in a row that bring an endpoint back (1).
    pub rise: u32,
    /// Failures in a row that take it out (3).
    pub fall: u32,
}

#[derive(Clone, Debug)]
pub enum HealthCheckKind {
    /// A connection can be made.
    Tcp,
    Http {
        /// ("GET")
        method: String,
        /// ("/")
        path: String,
        /// The `host` field; absent: the endpoint's address.
        host: Option<String>,
        /// Status ranges that pass, both ends included (2xx and 3xx).
        expect: Vec<(u16, u16)>,
    },
}

#[derive(Clone, Debug)]
pub struct Retry {
    pub policy: PluginUse,
    /// Attempts at most, the first included (3).
    pub attempts: u32,
    /// No attempt starts later than this after the first ("10s"); `None`: no limit.
    pub timeout: Option<Duration>,
    pub budget: Budget,
    /// Bytes of a request body kept so that it can be sent again ("64KiB").
    pub replay_buffer: usize,
    /// Whether a policy may have requests sent again whose method is not idempotent (true: it still has to ask).
    pub non_idempotent: bool,
}

/// How much retrying may add to an upstream's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Retries per hundred requests of the last second (20).
    pub percent: u32,
    /// Retries a second that are always allowed (3).
    pub min: u32,
}

/// A plugin of the operator's own.
#[derive(Clone, Debug)]
pub struct Plugin {
    pub name: String,
    pub path: PathBuf,
    pub sha256: Option<[u8; 32]>,
    /// CPU time of one pick, decision or rewriting; absent: 10 ms, 20 ms for a rewriter.
    pub deadline: Option<Duration>,
    /// Bytes of memory one instance may have ("64MiB").
    pub memory: usize,
    pub on_failure: Option<OnFailure>,
    pub settings: Settings,
    pub place: Place,
}

/// What answers a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// A balancer's: the host's own round robin.
    Fallback,
    /// A rewriter's: the message passes as it is.
    Skip,
    /// A rewriter's: 500.
    Deny,
}
