//! What is promised for messages, over every protocol in front of every protocol behind: the same code for all of them.

mod messages;
mod resets;
mod streaming;
mod streams;
mod volume;

use std::fmt::Write;
use std::thread;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use tokio::task::LocalSet;

use crate::harness::peer::{Back, Connection, Entry, Front, Notes, Origin, Result, Serving};
use crate::harness::{Authority, Caller, Proxy, quoted};

/// A proxy with a listener for every protocol, and an origin for every one.
struct Stage {
    proxy: Proxy,
    entry: Entry,
    notes: Notes,
    origins: Vec<(Back, Origin)>,
    /// Its files are needed as long as the proxy is.
    _authority: Authority,
}

/// How a request goes, in front and behind.
struct Pair<'s> {
    front: Front,
    back: Back,
    stage: &'s Stage,
}

impl Stage {
    /// With origins that serve requests so.
    fn new(script: impl AsyncFn(&mut Serving, &Notes) -> Result<()> + Clone + Send + 'static) -> Self {
        Self::with("", "", None, script)
    }

    /// `server`: keys of that table; `upstream`: keys of each; `streams`: how many a connection of an origin takes at a
    /// time.
    fn with(
        server: &str,
        upstream: &str,
        streams: Option<u32>,
        script: impl AsyncFn(&mut Serving, &Notes) -> Result<()> + Clone + Send + 'static,
    ) -> Self {
        let authority = Authority::new();
        let identity = authority.issue_for(&["test", "127.0.0.1"], |_| ());
        let (cert, key, ca) = (quoted(&identity.cert), quoted(&identity.key), quoted(&authority.ca()));
        let http3 = cfg!(feature = "http3");
        let mut config = format!(
            "[server]\n{server}\n[[listeners]]\naddress = \"127.0.0.1:0\"\n\
             [[listeners]]\naddress = \"127.0.0.1:0\"\nhttp3 = {http3}\n\
             tls = {{ certificates = [{{ cert = {cert}, key = {key} }}] }}\n"
        );
        let notes = Notes::default();
        let mut origins = Vec::new();
        for &back in Back::ALL {
            let protocol = if back.has_streams() { "h2" } else { "http/1.1" };
            let tls = back.is_secure().then(|| authority.server(&identity, &[protocol], false));
            let (script, own) = (script.clone(), notes.clone());
            let origin =
                Origin::start(back, tls, streams, async move |serving: &mut Serving| script(serving, &own).await);
            let name = name(back);
            write!(config, "[[routes]]\npath = \"/{name}\"\nupstream = \"{name}\"\n").expect("memory");
            write!(config, "[upstreams.{name}]\nendpoints = [\"{origin}\"]\n{upstream}\n").expect("memory");
            if back.has_streams() {
                config += "protocol = \"http2\"\n";
            }
            if back.is_secure() {
                writeln!(config, "tls = {{ ca = {ca} }}").expect("memory");
            }
            origins.push((back, origin));
        }
        let proxy = Proxy::with(&config);
        let trust = Caller::to("test", &authority).config;
        let entry = Entry { plain: proxy.address_of(0), secure: proxy.address_of(1), trust };
        Self { proxy, entry, notes, origins, _authority: authority }
    }

    fn origin(&self, back: Back) -> &Origin {
        &self.origins.iter().find(|(of, _)| *of == back).expect("there is one").1
    }

    /// Runs a case for every protocol in front of every protocol behind.
    #[track_caller]
    fn everywhere(&self, case: impl AsyncFn(Pair<'_>) -> Result<()> + Sync) {
        self.over(Front::ALL, Back::ALL, case);
    }

    /// Runs a case for these.
    #[track_caller]
    fn over(&self, fronts: &[Front], backs: &[Back], case: impl AsyncFn(Pair<'_>) -> Result<()> + Sync) {
        let case = &case;
        let failed: Vec<_> = thread::scope(|scope| {
            let of = |back: Back, front: Front| {
                let run = move || run(case(Pair { front, back, stage: self }));
                // Whoever panics is named by its thread.
                let named = thread::Builder::new().name(format!("{front:?} before {back:?}"));
                (front, back, named.spawn_scoped(scope, run).expect("a thread"))
            };
            let running: Vec<_> =
                backs.iter().flat_map(|&back| fronts.iter().map(move |&front| of(back, front))).collect();
            let ended = running.into_iter().map(|(front, back, thread)| (front, back, thread.join()));
            ended
                .filter(|(.., result)| !matches!(result, Ok(Ok(()))))
                .map(|(front, back, result)| (front, back, result.ok()))
                .collect()
        });
        assert!(failed.is_empty(), "it fails for {failed:#?}");
    }
}

fn run(case: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, case)
}

impl Pair<'_> {
    async fn connect(&self) -> Result<Connection> {
        Connection::open(self.front, &self.stage.entry).await
    }

    /// The path of its requests, below which this one is.
    fn path(&self, rest: &str) -> String {
        format!("/{}/{:?}{rest}", name(self.back), self.front)
    }

    fn get(&self, rest: &str) -> Request<()> {
        self.request(Method::GET, rest, &[])
    }

    fn post(&self, rest: &str) -> Request<()> {
        self.request(Method::POST, rest, &[])
    }

    fn request(&self, method: Method, rest: &str, lines: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(self.path(rest)).body(()).expect("a request");
        *request.headers_mut() = fields(lines);
        request
    }
}

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).fold(
        HeaderMap::new(),
        |mut fields, (name, value)| {
            fields.append(name, value);
            fields
        },
    )
}

/// The upstream of the origin that speaks so.
fn name(back: Back) -> &'static str {
    match back {
        Back::Http1 => "http1",
        Back::Http1Tls => "http1-tls",
        Back::Http2 => "http2",
        Back::H2c => "h2c",
    }
}
