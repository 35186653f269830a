//! Everything a configuration needs before it can serve, built aside: plugins compiled and configured, names
//! resolved. Nothing here listens or serves; all faults are found before anything is given up for it.
//!
//! # What is kept of the configuration before?
//!
//! An upstream that says the same, its plugins aside, stays as it is on every worker: connections, counts, health.
//! One that says something else takes over what its endpoints have come to, by address. A plugin stays in its place
//! when its entry, its settings and what it was told of endpoints are the same; it goes on with all it knows, in the
//! version that serves.

use std::collections::{HashMap, HashSet};
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::admission::Keyed;
use crate::checks;
use crate::config::{
    self, Config, EndpointAddress, Fault, Faults, Place, PluginUse, Protocol, Settings, UpstreamProtocol,
};
use crate::http::maintenance::Maintenance;
use crate::http::site::Index;
use crate::net::tls::{Acceptor, Connector, HTTP1, HTTP2, Tickets};
use crate::plugins::{
    Kind, Limits, Member, Origin, Plugin, PluginError, PluginHost, Surroundings, UpstreamNames, Use, builtin,
    verify_digest,
};
use crate::proxy::blueprint::{Blueprint, Part, Seat, UpstreamPlan};
use crate::router::Router;
use crate::upstream::endpoint::{Endpoint, EndpointId, Loads, positions};
use crate::upstream::guards::Guards;
use crate::upstream::health::{Health, Standing};
use crate::upstream::{Shared, Target};

/// What is common to all workers.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) workers: usize,
    pub(crate) router: Arc<Router>,
    pub(crate) index: Arc<Index>,
    /// By listener: what its connections are made secure with.
    pub(crate) acceptors: Vec<Option<Arc<Acceptor>>>,
    /// Common to all configurations.
    pub(crate) tickets: Arc<Tickets>,
    /// In the order of the configuration.
    pub(crate) upstreams: Vec<Arc<Shared>>,
    /// The switches of routes, common to all configurations.
    pub(crate) maintenance: Arc<Maintenance>,
    /// By route: what counts the requests of its `concurrency_limit`.
    pub(crate) keyed: Vec<Option<Arc<Keyed>>>,
    /// What serves in each place. Read and written by the control thread's tasks.
    pub(crate) placed: Mutex<Vec<Placed>>,
    /// Common to all configurations.
    pub(crate) names: Arc<UpstreamNames>,
}

/// A use of a plugin in its place. Behind it may be another, see [`Use::behind`].
#[derive(Clone)]
pub(crate) struct Placed {
    pub(crate) seat: Seat,
    pub(crate) used: Use,
}

/// The parts of a configuration, with what each worker makes of them.
pub(crate) struct Built {
    pub(crate) parts: Parts,
    /// One for each worker.
    pub(crate) blueprints: Vec<Blueprint>,
    /// Where the plugin that serves goes on as it is.
    pub(crate) kept: HashSet<Seat>,
}

impl Parts {
    /// Builds the parts of a configuration for `workers` threads. `before`: what serves now.
    ///
    /// # Errors
    /// Every fault of every plugin and every name that cannot be resolved.
    pub(crate) fn build(
        config: Config,
        host: &PluginHost,
        workers: usize,
        before: Option<&Self>,
    ) -> Result<Built, Faults> {
        let names = || config.upstreams.iter().map(|upstream| Arc::from(upstream.name.as_str()));
        let all_names = match before {
            Some(before) => {
                before.names.add(names());
                before.names.clone()
            }
            None => Arc::new(UpstreamNames::new(names())),
        };
        let mut builder = Builder {
            config: &config,
            host,
            workers,
            before: before.map(Before::new),
            plugins: HashMap::new(),
            names: all_names.clone(),
            placed: Vec::new(),
            kept: HashSet::new(),
            faults: Vec::new(),
        };
        let tickets = before.map(|before| before.tickets.clone()).unwrap_or_default();
        let acceptors = builder.acceptors(&tickets);
        let upstreams: Vec<_> = config.upstreams.iter().map(|upstream| builder.upstream(upstream)).collect();
        let mut blueprints: Vec<_> =
            (0..workers).map(|_| Blueprint { upstreams: Vec::new(), rewriters: Vec::new() }).collect();
        for (shared, config) in upstreams.iter().zip(&config.upstreams) {
            builder.decisions(shared, config, &mut blueprints);
        }
        for route in &config.routes {
            builder.rewriters(route, &mut blueprints);
        }
        let Builder { placed, faults, kept, .. } = builder;
        if !faults.is_empty() {
            if let Some(before) = before {
                before.names.set(before.config.upstreams.iter().map(|upstream| Arc::from(upstream.name.as_str())));
            }
            return Err(Faults { file: config.file.clone(), faults });
        }
        let router = Arc::new(Router::new(&config.routes));
        let maintenance = match before {
            Some(before) => before.maintenance.clone(),
            None => Arc::new(Maintenance::new(&config, SystemTime::now())),
        };
        let keyed = config.routes.iter().map(|route| keyed(route, before)).collect();
        let placed = Mutex::new(placed);
        let names = all_names;
        let index = Arc::new(Index::of(&config));
        let parts =
            Self { config, workers, router, index, acceptors, tickets, upstreams, maintenance, keyed, placed, names };
        Ok(Built { parts, blueprints, kept })
    }

    /// What one more worker makes of these parts, with instances of the plugins that serve by now.
    ///
    /// # Errors
    /// When a plugin that could be instantiated before cannot be any more.
    pub(crate) fn blueprint(&self, worker: usize) -> Result<Blueprint, String> {
        let uses: HashMap<Seat, Use> =
            self.placed.lock().iter().map(|placed| (placed.seat.clone(), placed.used.clone())).collect();
        let used = |seat: Seat| uses.get(&seat).ok_or_else(|| format!("nothing serves as {seat:?}"));
        let told = |error: PluginError| chain(&error);
        let mut blueprint = Blueprint { upstreams: Vec::new(), rewriters: Vec::new() };
        for shared in &self.upstreams {
            let members = members(shared, Instant::now());
            let balancer = used(Seat::Balancer(shared.name.clone()))?.balancer(worker, members, shared.loads.clone());
            let retry = used(Seat::Retry(shared.name.clone()))?.retry(worker);
            let (balancer, retry) = (Part::New(balancer.map_err(told)?), Part::New(retry.map_err(told)?));
            blueprint.upstreams.push(UpstreamPlan { keep: false, balancer, retry });
        }
        for route in &self.config.routes {
            let rewriter = |step| {
                let seat = Seat::Rewriter { route: route.name.as_str().into(), step };
                used(seat)?.rewriter(worker).map(Part::New).map_err(told)
            };
            blueprint.rewriters.push((0..route.rewrite.len()).map(rewriter).collect::<Result<_, String>>()?);
        }
        Ok(blueprint)
    }

    /// How many plugins there are whose code was compiled, and whose code was cached.
    pub(crate) fn origins(&self) -> (usize, usize) {
        let placed = self.placed.lock();
        let plugins = placed.iter().flat_map(Placed::uses).map(Use::plugin);
        let origins: HashMap<_, _> = plugins.map(|plugin| (plugin.digest(), plugin.origin())).collect();
        let cached = origins.values().filter(|origin| **origin == Origin::Cached).count();
        (origins.len() - cached, cached)
    }

    /// The upstream of a name.
    pub(crate) fn upstream(&self, name: &str) -> Option<&Arc<Shared>> {
        self.upstreams.get(self.index.upstream(name)?)
    }
}

impl Placed {
    /// Its uses: the one in the place, and those behind it.
    pub(crate) fn uses(&self) -> impl Iterator<Item = &Use> {
        self.used.chain()
    }
}

/// What serves now, to be found by name.
struct Before<'b> {
    parts: &'b Parts,
    upstreams: HashMap<&'b str, usize>,
    routes: HashMap<&'b str, &'b config::Route>,
    uses: HashMap<Seat, Use>,
    /// The versions that serve.
    serving: HashMap<String, Plugin>,
}

impl<'b> Before<'b> {
    fn new(parts: &'b Parts) -> Self {
        let placed = parts.placed.lock().clone();
        let plugins = placed.iter().flat_map(Placed::uses).map(Use::plugin);
        Self {
            parts,
            upstreams: parts.config.upstreams.iter().enumerate().map(|(at, u)| (u.name.as_str(), at)).collect(),
            routes: parts.config.routes.iter().map(|route| (route.name.as_str(), route)).collect(),
            serving: plugins.map(|plugin| (plugin.name().to_owned(), plugin.clone())).collect(),
            uses: placed.into_iter().map(|placed| (placed.seat, placed.used)).collect(),
        }
    }

    /// An upstream as it was, with the same name.
    fn upstream(&self, name: &str) -> Option<(&'b config::Upstream, &'b Arc<Shared>)> {
        let at = *self.upstreams.get(name)?;
        Some((&self.parts.config.upstreams[at], &self.parts.upstreams[at]))
    }

    /// Which plugin was wanted in a place.
    fn wanted(&self, seat: &Seat) -> Option<&'b PluginUse> {
        match seat {
            Seat::Balancer(name) => Some(&self.upstream(name)?.0.balance),
            Seat::Retry(name) => Some(&self.upstream(name)?.0.retry.policy),
            Seat::Rewriter { route, step } => self.routes.get(&**route)?.rewrite.get(*step),
        }
    }
}

struct Builder<'c> {
    config: &'c Config,
    host: &'c PluginHost,
    workers: usize,
    before: Option<Before<'c>>,
    /// By name; `None` for one whose faults have been told.
    plugins: HashMap<String, Option<Plugin>>,
    names: Arc<UpstreamNames>,
    placed: Vec<Placed>,
    kept: HashSet<Seat>,
    faults: Vec<Fault>,
}

impl Builder<'_> {
    /// What the listeners' connections are made secure with, from the files as they are now.
    fn acceptors(&mut self, tickets: &Arc<Tickets>) -> Vec<Option<Arc<Acceptor>>> {
        let before = self.before.as_ref().map(|before| before.parts.acceptors.iter().flatten().cloned().collect());
        let before: Vec<_> = before.unwrap_or_default();
        let mut acceptors = Vec::new();
        for listener in &self.config.listeners {
            let protocols: &[_] = if listener.protocol == Protocol::Http { &[HTTP2, HTTP1] } else { &[] };
            let built = listener.tls.as_ref().map(|tls| Acceptor::build(tls, protocols, tickets, &before));
            acceptors.push(match built {
                None => None,
                Some(Ok(acceptor)) => Some(acceptor),
                Some(Err(faults)) => {
                    for (place, error) in faults {
                        self.fault(place, format!("tls of the listener on `{}`: {error}", listener.address));
                    }
                    None
                }
            });
        }
        acceptors
    }

    fn upstream(&mut self, upstream: &config::Upstream) -> Arc<Shared> {
        let before = self.before.as_ref().and_then(|before| before.upstream(&upstream.name));
        let targets: Vec<_> =
            upstream.endpoints.iter().map(|endpoint| self.target(upstream, endpoint, before)).collect();
        let (tls, check_tls) = (self.tls(upstream), self.check_tls(upstream));
        if let Some((config, shared)) = before
            && is_alike(config, upstream)
            && shared.targets == targets
            && shared.tls == tls
            && shared.check_tls == check_tls
        {
            return shared.clone();
        }
        let endpoint = |(id, endpoint): (usize, &config::Endpoint)| Endpoint {
            id: id as EndpointId,
            address: endpoint.text.as_str().into(),
            weight: endpoint.weight,
            priority: u32::from(endpoint.backup),
            zone: endpoint.zone.clone(),
            labels: endpoint.labels.clone(),
            down: endpoint.down,
        };
        let endpoints: Vec<_> = upstream.endpoints.iter().enumerate().map(endpoint).collect();
        let known = before.map(|(_, shared)| (&shared.endpoints[..], &shared.health));
        Arc::new(Shared {
            name: upstream.name.as_str().into(),
            loads: Arc::new(Loads::new(self.workers, endpoints.len())),
            health: Health::new(&endpoints, upstream, known),
            guards: Guards::new(upstream, self.workers, before.map(|(_, shared)| &shared.guards), Instant::now()),
            positions: positions(&endpoints),
            endpoints,
            targets,
            tls,
            check_tls,
            config: upstream.clone(),
        })
    }

    /// What an upstream's connections are made secure with, from the files as they are now.
    fn tls(&mut self, upstream: &config::Upstream) -> Option<Connector> {
        let settings = upstream.tls.as_ref()?;
        let place = upstream.balance.place;
        let protocols: &[&str] = match upstream.protocol {
            UpstreamProtocol::Http1 => &["http/1.1"],
            UpstreamProtocol::Http2 => &["h2"],
            UpstreamProtocol::Auto => &["h2", "http/1.1"],
        };
        let hosts = upstream.endpoints.iter().map(|endpoint| (&endpoint.text, endpoint.address.host()));
        for (address, _) in hosts.filter(|(_, host)| settings.server_name.is_none() && !Connector::is_name(host)) {
            let message =
                format!("endpoint `{address}` of upstream `{}`: no certificate can bear its name", upstream.name);
            self.fault(place, message);
        }
        let message = |error| format!("tls of upstream `{}`: {error}", upstream.name);
        Connector::build(settings, protocols).map_err(|error| self.fault(place, message(error))).ok()
    }

    /// What the upstream's checks connect with, from the files as they are now.
    fn check_tls(&mut self, upstream: &config::Upstream) -> Option<Connector> {
        let connector = checks::connector(upstream.health.as_ref()?);
        let message = |error| format!("the health check of upstream `{}`: {error}", upstream.name);
        connector.map_err(|error| self.fault(upstream.balance.place, message(error))).ok()?
    }

    /// Where an endpoint is. A name that is not known now keeps the addresses it had.
    fn target(
        &mut self,
        upstream: &config::Upstream,
        endpoint: &config::Endpoint,
        before: Option<(&config::Upstream, &Arc<Shared>)>,
    ) -> Target {
        let (host, port) = match &endpoint.address {
            EndpointAddress::Unix(path) => return Target::Unix(path.clone()),
            EndpointAddress::Tcp { host, port } => (host.as_str(), *port),
        };
        let error = match (host, port).to_socket_addrs() {
            Ok(addresses) => return Target::Tcp(addresses.collect()),
            Err(error) => error,
        };
        let known = before.and_then(|(config, shared)| {
            let at = config.endpoints.iter().position(|known| known.address == endpoint.address)?;
            shared.targets.get(at)
        });
        let (upstream_name, address) = (&upstream.name, &endpoint.text);
        if let Some(known) = known {
            tracing::warn!(upstream = %upstream_name, endpoint = %address, %error, "its name is not known now; the addresses it had stay");
            return known.clone();
        }
        let message = format!("endpoint `{address}` of upstream `{upstream_name}`: {error}");
        self.fault(upstream.balance.place, message);
        Target::Tcp(Vec::new())
    }

    /// The balancer and the retry policy of an upstream, for every worker.
    fn decisions(&mut self, shared: &Arc<Shared>, config: &config::Upstream, blueprints: &mut [Blueprint]) {
        let Shared { name, loads, .. } = &**shared;
        let before = self.before.as_ref().and_then(|before| before.upstream(name));
        let keep = before.is_some_and(|(_, before)| Arc::ptr_eq(before, shared));
        for blueprint in blueprints.iter_mut() {
            blueprint.upstreams.push(UpstreamPlan { keep, balancer: Part::Keep, retry: Part::Keep });
        }
        let plan = |blueprint: &mut Blueprint| blueprint.upstreams.len() - 1;
        let members = members(shared, Instant::now());
        let seat = Seat::Balancer(name.clone());
        self.each(
            seat,
            keep,
            &config.balance,
            &format!("upstream {name}: balance"),
            blueprints,
            |used, worker, blueprint| {
                let at = plan(blueprint);
                blueprint.upstreams[at].balancer = Part::New(used.balancer(worker, members.clone(), loads.clone())?);
                Ok(())
            },
        );
        let seat = Seat::Retry(name.clone());
        let policy = &config.retry.policy;
        self.each(seat, true, policy, &format!("upstream {name}: retry"), blueprints, |used, worker, blueprint| {
            let at = plan(blueprint);
            blueprint.upstreams[at].retry = Part::New(used.retry(worker)?);
            Ok(())
        });
    }

    fn rewriters(&mut self, route: &config::Route, blueprints: &mut [Blueprint]) {
        for blueprint in blueprints.iter_mut() {
            blueprint.rewriters.push(route.rewrite.iter().map(|_| Part::Keep).collect());
        }
        for (step, rewriter) in route.rewrite.iter().enumerate() {
            let name = format!("route {}: rewrite {}", route.name, step + 1);
            let seat = Seat::Rewriter { route: route.name.as_str().into(), step };
            self.each(seat, true, rewriter, &name, blueprints, |used, worker, blueprint| {
                let ready = used.rewriter(worker)?;
                blueprint.rewriters.last_mut().expect("pushed above")[step] = Part::New(ready);
                Ok(())
            });
        }
    }

    /// Has a plugin decide in a place: the one that serves there if it may stay and is the same, or else a use of the
    /// plugin with an instance for each worker. `may_stay`: what an instance was told of endpoints still holds.
    fn each(
        &mut self,
        seat: Seat,
        may_stay: bool,
        wanted: &PluginUse,
        name: &str,
        blueprints: &mut [Blueprint],
        mut instantiate: impl FnMut(&Use, usize, &mut Blueprint) -> Result<(), PluginError>,
    ) {
        let same = self.same_use(&seat, wanted);
        if let Some(used) = &same
            && may_stay
        {
            self.kept.insert(seat.clone());
            self.placed.push(Placed { seat, used: used.clone() });
            return;
        }
        let used = match same {
            Some(used) => Ok(used),
            None => match self.used(seat.kind(), wanted, name) {
                Some(used) => used,
                None => return,
            },
        };
        let made = used.and_then(|used| {
            for (worker, blueprint) in blueprints.iter_mut().enumerate() {
                instantiate(&used, worker, blueprint)?;
            }
            Ok(used)
        });
        match made {
            Ok(used) => self.placed.push(Placed { seat, used }),
            Err(PluginError::Refused { issues, .. }) => {
                for issue in issues {
                    let at = if issue.path.is_empty() { String::new() } else { format!(": `{}`", issue.path) };
                    let message = format!("plugin `{}` ({name}){at}: {}", wanted.plugin, issue.message);
                    self.fault(place(&wanted.settings, &issue.path, wanted.place), message);
                }
            }
            Err(error) => self.fault(wanted.place, format!("{name}: {}", chain(&error))),
        }
    }

    /// The use that serves in a place, if the same is wanted there.
    fn same_use(&self, seat: &Seat, wanted: &PluginUse) -> Option<Use> {
        let before = self.before.as_ref()?;
        let used = before.uses.get(seat)?;
        let is_same = before.wanted(seat) == Some(wanted)
            && used.chain().all(|used| is_same_entry(&before.parts.config, self.config, used.plugin().name()));
        is_same.then(|| used.clone())
    }

    /// A use of a plugin with what is around it; `None` when a fault was told.
    fn used(&mut self, kind: Kind, wanted: &PluginUse, name: &str) -> Option<Result<Use, PluginError>> {
        let plugin = self.plugin(&wanted.plugin, wanted.place)?;
        let behind = match (&wanted.then, plugin.delegates()) {
            (None, false) => None,
            (None, true) => Some(PluginUse::builtin("round-robin")),
            (Some(then), true) => Some((**then).clone()),
            (Some(then), false) => {
                self.fault(then.place, format!("`{}` leaves nothing to a balancer behind it", wanted.plugin));
                return None;
            }
        };
        let behind = match behind {
            None => None,
            Some(behind) => match self.used(Kind::Balancer, &behind, &format!("{name}, then"))? {
                Ok(used) => Some(used),
                Err(error) => return Some(Err(error)),
            },
        };
        let around = Surroundings { behind, upstreams: self.names.clone(), ..Surroundings::default() };
        Some(plugin.use_in(kind, name, &wanted.settings, around))
    }

    /// A plugin by its name: the version that serves if its entry is the same, or else its file, read at its first use.
    fn plugin(&mut self, name: &str, place: Place) -> Option<Plugin> {
        if let Some(known) = self.plugins.get(name) {
            return known.clone();
        }
        if let Some(before) = &self.before
            && is_same_entry(&before.parts.config, self.config, name)
            && let Some(serving) = before.serving.get(name)
        {
            return Some(serving.clone());
        }
        let own = self.config.plugins.iter().find(|plugin| plugin.name == name);
        let loaded = self.load(name, own);
        let place = own.map_or(place, |own| own.place);
        let plugin = loaded.map_err(|message| self.fault(place, message)).ok();
        self.plugins.insert(name.to_owned(), plugin.clone());
        plugin
    }

    fn load(&self, name: &str, own: Option<&config::Plugin>) -> Result<Plugin, String> {
        let limits = limits(name, own);
        let read;
        let bytes = match own.and_then(|own| own.path.as_deref()) {
            Some(path) => {
                read = std::fs::read(path).map_err(|error| format!("could not read {}: {error}", path.display()))?;
                &read[..]
            }
            None => builtin::find(name).ok_or_else(|| format!("there is no plugin `{name}`"))?.component,
        };
        if let Some(expected) = own.and_then(|own| own.sha256.as_ref()) {
            verify_digest(name, bytes, expected).map_err(|error| chain(&error))?;
        }
        self.host.load(name, bytes, limits).map_err(|error| chain(&error))
    }

    fn fault(&mut self, place: Place, message: String) {
        self.faults.push(Fault::new(place, message));
    }
}

/// Whether two upstreams say the same, the plugins they name aside. Whether weights may grow, a balancer has a say in.
fn is_alike(one: &config::Upstream, other: &config::Upstream) -> bool {
    let mut one = one.clone();
    if one.slow_start.is_none() {
        one.balance.clone_from(&other.balance);
    }
    one.retry.policy.clone_from(&other.retry.policy);
    one == *other
}

/// What counts the requests of a route's `concurrency_limit`; if the route had the same before, the same.
fn keyed(route: &config::Route, before: Option<&Parts>) -> Option<Arc<Keyed>> {
    let limit = route.concurrency_limit.as_ref()?;
    let known = before.and_then(|before| {
        let at = before.index.route(&route.name)?;
        let known = before.config.routes[at].concurrency_limit.as_ref();
        before.keyed[at].clone().filter(|_| known == Some(limit))
    });
    Some(known.unwrap_or_else(|| Keyed::new(limit.max)))
}

/// Whether two configurations say the same of a plugin.
fn is_same_entry(one: &Config, other: &Config, name: &str) -> bool {
    let entry = |config: &Config| config.plugins.iter().position(|plugin| plugin.name == name);
    entry(one).map(|at| &one.plugins[at]) == entry(other).map(|at| &other.plugins[at])
}

/// The endpoints of an upstream with what may have traffic now.
pub(super) fn members(shared: &Shared, now: Instant) -> Arc<[Member]> {
    let member = |(endpoint, standing): (&Endpoint, Standing)| Member {
        endpoint: Endpoint {
            weight: shared.health.weight(endpoint.id, now).0,
            down: shared.health.is_down(endpoint.id),
            ..endpoint.clone()
        },
        ready: standing.is_ready(),
    };
    shared.endpoints.iter().zip(shared.health.standings(now)).map(member).collect()
}

/// What calls of a plugin may take, as its entry says.
pub(super) fn limits(name: &str, own: Option<&config::Plugin>) -> Limits {
    let limits = own.map_or_else(Limits::default, |own| Limits {
        deadline: own.deadline,
        memory: own.memory,
        shared: own.shared,
        on_failure: own.on_failure,
        cpu: own.cpu,
    });
    Limits { deadline: limits.deadline.or_else(|| builtin::deadline(name)), ..limits }
}

/// Where an issue's setting is written, or else the use.
fn place(settings: &Settings, path: &str, otherwise: Place) -> Place {
    let place = settings.place(path);
    if place == Place::default() { otherwise } else { place }
}

/// An error with its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
