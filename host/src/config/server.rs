//! What holds for every listener and worker.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::error_pages::ErrorPages;
use super::fault::{BadValue, Fault};
use super::forwarding::{Forwarded, TrustedHeader, TrustedProxies};
use super::http2::Http2;
use super::maintenance::Maintenance;
use super::reader::{DurationOrZero, Read, Reader, Scope};
use super::tree::{Kind, Value};
use super::value;

/// What holds for every listener and worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Worker threads, 1 to 1024; `None` ("auto") is one for each core this process may use.
    pub workers: Option<NonZeroUsize>,
    /// Whether a changed configuration file takes over by itself.
    pub watch: bool,
    /// The folder where accepted configurations are kept, so that `staunch rollback` knows them after a restart; absent:
    /// they are known until the process ends. The proxy writes to it, the folder has to be there.
    pub state: Option<PathBuf>,
    /// Where compiled plugins are kept, so that a start with unchanged plugins compiles nothing. Read when the process
    /// starts. The folder has to be writable by the user of this process and by nobody else; what is there is executed.
    pub plugin_cache: PluginCache,
    /// How long in-flight exchanges may take to finish after a stop was asked for ("30s").
    pub drain_timeout: Duration,
    /// For a whole request head ("60s", nginx's `client_header_timeout`).
    pub client_header_timeout: Duration,
    /// Between two reads of a request body ("60s", nginx's `client_body_timeout`).
    pub client_body_timeout: Duration,
    /// Between two writes to a client ("60s", nginx's `send_timeout`).
    pub client_send_timeout: Duration,
    /// Bytes a second that a client must send of a body, and take of a response, on average over the time that it is
    /// waited for (1 B to 1 GiB); absent: as few as it likes. Once a client has been waited for as long as `client_body_timeout` or
    /// `client_send_timeout` in all, each further second has to bring so many bytes, or the request ends as with those.
    /// Not for clients that pause in what they send, as streams of events do.
    pub client_min_rate: Option<u64>,
    /// How long an idle connection is kept ("75s").
    pub client_keepalive_timeout: Duration,
    /// How long a connection that just became idle is kept while draining, for a request that is on its way ("1s";
    /// nginx's `keepalive_min_timeout`, 0 there). 0: not at all.
    pub client_keepalive_min_timeout: Duration,
    /// How long an upgraded connection may be silent in both directions ("1h").
    pub tunnel_timeout: Duration,
    /// Health checks that run at a time, each of them on one socket (256; 1 to 65535). The others wait their turn.
    pub max_checks: usize,
    /// The longest request or response head, in bytes ("32KiB"; 1 KiB to 16 MiB); longer: 431 or 502.
    pub max_header_size: usize,
    /// The most fields in a head (128; 1 to 4096); more: 431 or 502.
    pub max_headers: usize,
    /// The longest request target, in bytes ("8KiB"; 64 B to 16 MiB); longer: 414.
    pub max_target_size: usize,
    /// The longest request body, in bytes; absent: no limit. Longer: 413.
    pub max_body_size: Option<u64>,
    /// For answers of the proxy itself that a route has no page for, and that have no route.
    pub error_pages: ErrorPages,
    /// Whether all routes are closed.
    pub maintenance: Maintenance,
    /// Connections from clients at a time, over all listeners and workers (1 to 10000000); absent: half the file
    /// descriptors this process may have, less 256, as each may need another one to an endpoint. Further ones wait in
    /// the kernel's queue.
    pub max_connections: Option<usize>,
    /// Connections of one client at a time (at least 1); absent: no limit. A client is an IPv4 address, or an IPv6
    /// network of 64 bits. Further ones are closed at once.
    pub max_connections_per_client: Option<u32>,
    /// TLS handshakes at a time, over all listeners and workers (4096; 1 to 10000000). Further ones wait for one of them
    /// to end, within their `handshake_timeout`.
    pub max_handshakes: usize,
    /// Memory of this process above which new requests get 503 with `Retry-After` and new connections wait ("2GiB"; 16
    /// MiB to 1 PiB); absent: no limit. It ends at nine tenths of it.
    pub memory_limit: Option<u64>,
    /// Who is believed about the client: networks ("10.0.0.0/8"), and "unix:" for all that connect to unix sockets.
    /// Absent: nobody, and what clients claim is passed on with this proxy's word behind it. Present: what others claim
    /// is dropped.
    pub trusted_proxies: Option<TrustedProxies>,
    /// The field that they tell of the client with ("x-forwarded-for" or "forwarded"); absent: X-Forwarded-For or, where
    /// there is none, Forwarded.
    pub trusted_header: TrustedHeader,
    /// How endpoints are told of the client ("x-forwarded").
    pub forwarded: Forwarded,
    pub http2: Http2,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            workers: None,
            watch: false,
            state: None,
            plugin_cache: PluginCache::default(),
            drain_timeout: Duration::from_secs(30),
            client_header_timeout: Duration::from_secs(60),
            client_body_timeout: Duration::from_secs(60),
            client_send_timeout: Duration::from_secs(60),
            client_min_rate: None,
            client_keepalive_timeout: Duration::from_secs(75),
            client_keepalive_min_timeout: Duration::from_secs(1),
            tunnel_timeout: Duration::from_secs(3600),
            max_checks: 256,
            max_header_size: 32 * 1024,
            max_headers: 128,
            max_target_size: 8 * 1024,
            max_body_size: None,
            error_pages: ErrorPages::default(),
            maintenance: Maintenance::default(),
            max_connections: None,
            max_connections_per_client: None,
            max_handshakes: 4096,
            memory_limit: None,
            trusted_proxies: None,
            trusted_header: TrustedHeader::default(),
            forwarded: Forwarded::default(),
            http2: Http2::default(),
        }
    }
}

impl Server {
    pub(super) fn read(mut reader: Reader<'_>) -> Self {
        let workers = reader.optional::<Workers>("workers").and_then(|workers| workers.0);
        let mut server = Self { workers, ..Self::default() };
        reader.set("watch", &mut server.watch);
        let state = reader.parse("state", |text| match text {
            "" => Err(BadValue::new("the folder is empty").with_hint("leave the key out to keep no state".to_owned())),
            folder => Ok(PathBuf::from(folder)),
        });
        server.state = state.map(|folder| reader.scope.resolve(folder));
        server.plugin_cache = PluginCache::read(&mut reader);
        server.http2 = reader.table("http2").map(Http2::read).unwrap_or_default();
        if let Some(DurationOrZero(timeout)) = reader.optional("drain_timeout") {
            server.drain_timeout = timeout;
        }
        reader.set("client_header_timeout", &mut server.client_header_timeout);
        reader.set("client_body_timeout", &mut server.client_body_timeout);
        reader.set("client_send_timeout", &mut server.client_send_timeout);
        reader.set("client_keepalive_timeout", &mut server.client_keepalive_timeout);
        if let Some(DurationOrZero(timeout)) = reader.optional("client_keepalive_min_timeout") {
            server.client_keepalive_min_timeout = timeout;
        }
        reader.set("tunnel_timeout", &mut server.tunnel_timeout);
        reader.set_number("max_checks", 1..=65535, &mut server.max_checks);
        reader.set_size("max_header_size", 1 << 10..=16 << 20, &mut server.max_header_size);
        reader.set_number("max_headers", 1..=4096, &mut server.max_headers);
        reader.set_size("max_target_size", 64..=16 << 20, &mut server.max_target_size);
        server.max_connections = reader.number("max_connections", 1..=10_000_000);
        server.max_connections_per_client = reader.number("max_connections_per_client", 1..=i64::from(i32::MAX));
        reader.set_number("max_handshakes", 1..=10_000_000, &mut server.max_handshakes);
        server.memory_limit = reader.size("memory_limit", 16 << 20..=1 << 50);
        server.client_min_rate = reader.size("client_min_rate", 1..=1 << 30);
        server.max_body_size = reader.size("max_body_size", 0..=u64::MAX);
        server.error_pages = ErrorPages::read(&mut reader);
        server.maintenance = Maintenance::read(&mut reader);
        server.trusted_proxies = TrustedProxies::read(&mut reader);
        if let Some(header) = reader.word("trusted_header", &TrustedHeader::WORDS) {
            server.trusted_header = header;
        }
        if reader.value("trusted_header").is_some() && reader.value("trusted_proxies").is_none() {
            let place = reader.place_of("trusted_header");
            reader.scope.fault(Fault::new(place, "`trusted_header` does nothing without `trusted_proxies`"));
        }
        if let Some(forwarded) = reader.word("forwarded", &Forwarded::WORDS) {
            server.forwarded = forwarded;
        }
        server
    }
}

/// Where compiled plugins are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PluginCache {
    /// In the folder that the environment of the process has for such things: `CACHE_DIRECTORY`, `staunch` in
    /// `XDG_CACHE_HOME`, `.cache/staunch` in `HOME`, or for root `/var/cache/staunch`.
    #[default]
    Usual,
    Folder(PathBuf),
    /// Nowhere.
    Off,
}

impl PluginCache {
    fn read(reader: &mut Reader<'_>) -> Self {
        let Some(value) = reader.value("plugin_cache") else { return Self::default() };
        match &value.kind {
            Kind::Boolean(true) => Self::Usual,
            Kind::Boolean(false) => Self::Off,
            Kind::String(folder) if !folder.is_empty() => Self::Folder(reader.scope.resolve(folder.into())),
            Kind::String(_) => {
                let fault = Fault::new(value.place, "the folder is empty");
                reader.scope.fault(fault.with_hint("write `plugin_cache = false` to keep nothing".to_owned()));
                Self::default()
            }
            _ => {
                reader.scope.mismatch(value, "a folder or false");
                Self::default()
            }
        }
    }
}

/// A number of threads, or "auto".
struct Workers(Option<NonZeroUsize>);

impl Read for Workers {
    fn read(value: &Value, scope: &Scope<'_>) -> Option<Self> {
        match &value.kind {
            Kind::String(text) if text == "auto" => Some(Self(None)),
            Kind::String(text) if text.parse::<usize>().is_err() => {
                let message = format!("expected a number of threads or \"auto\", found \"{}\"", value::shown(text));
                scope.fault(Fault::new(value.place, message));
                None
            }
            _ => Some(Self(NonZeroUsize::new(scope.number(value, 1..=1024)?))),
        }
    }
}
