//! Everything a configuration needs before it can serve, built aside: plugins compiled and configured, names
//! resolved. Nothing here listens or serves; all faults are found before anything is given up for it.

use std::collections::HashMap;
use std::net::ToSocketAddrs;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::admission::Keyed;
use crate::config::{self, Config, EndpointAddress, Fault, Faults, Place, PluginUse, Settings};
use crate::plugins::{
    Kind, Limits, Member, Plugin, PluginError, PluginHost, ReadyBalancer, ReadyRetry, ReadyRewriter, Surroundings, Use,
    builtin, verify_digest,
};
use crate::router::Router;
use crate::upstream::endpoint::{Endpoint, EndpointId, Loads};
use crate::upstream::guards::Guards;
use crate::upstream::health::Health;
use crate::upstream::{Shared, Target};

/// What is common to all workers.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) workers: usize,
    pub(crate) router: Arc<Router>,
    /// In the order of the configuration.
    pub(crate) upstreams: Vec<Arc<Shared>>,
    /// By route: what counts the requests of its `concurrency_limit`.
    pub(crate) keyed: Vec<Option<Arc<Keyed>>>,
    /// What serves in each place. Read and written by the control thread's tasks.
    pub(crate) placed: Mutex<Vec<Placed>>,
}

/// A use of a plugin in its place. Behind it may be another, see [`Use::behind`].
#[derive(Clone)]
pub(crate) struct Placed {
    pub(crate) seat: Seat,
    pub(crate) used: Use,
}

/// A place where a plugin decides, by the numbers that upstreams and routes have in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    Balancer(usize),
    Retry(usize),
    Rewriter { route: usize, step: usize },
}

/// What one worker turns into its own copy of everything: plugin instances, configured and ready to be called.
pub(crate) struct Blueprint {
    /// By upstream.
    pub(crate) balancers: Vec<ReadyBalancer>,
    /// By upstream.
    pub(crate) retries: Vec<ReadyRetry>,
    /// By route.
    pub(crate) rewriters: Vec<Vec<ReadyRewriter>>,
}

impl Parts {
    /// Builds the parts of a configuration for `workers` threads, with a blueprint for each.
    ///
    /// # Errors
    /// Every fault of every plugin and every name that cannot be resolved.
    pub(crate) fn build(config: Config, host: &PluginHost, workers: usize) -> Result<(Self, Vec<Blueprint>), Faults> {
        let mut builder = Builder {
            config: &config,
            host,
            workers,
            plugins: HashMap::new(),
            upstreams: config.upstreams.iter().map(|upstream| upstream.name.as_str().into()).collect(),
            placed: Vec::new(),
            faults: Vec::new(),
        };
        let upstreams: Vec<_> = config.upstreams.iter().map(|upstream| Arc::new(builder.upstream(upstream))).collect();
        let mut blueprints: Vec<_> = (0..workers)
            .map(|_| Blueprint { balancers: Vec::new(), retries: Vec::new(), rewriters: Vec::new() })
            .collect();
        for (number, shared) in upstreams.iter().enumerate() {
            builder.decisions(number, shared, &mut blueprints);
        }
        for (number, route) in config.routes.iter().enumerate() {
            builder.rewriters(number, route, &mut blueprints);
        }
        let Builder { placed, faults, .. } = builder;
        if !faults.is_empty() {
            return Err(Faults { file: config.file.clone(), faults });
        }
        let router = Arc::new(Router::new(&config.routes));
        let keyed = |route: &config::Route| route.concurrency_limit.as_ref().map(|limit| Keyed::new(limit.max));
        let keyed = config.routes.iter().map(keyed).collect();
        Ok((Self { config, workers, router, upstreams, keyed, placed: Mutex::new(placed) }, blueprints))
    }
}

impl Placed {
    /// Its uses: the one in the place, and those behind it.
    pub(crate) fn uses(&self) -> impl Iterator<Item = &Use> {
        self.used.chain()
    }
}

impl Seat {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Balancer(_) => Kind::Balancer,
            Self::Retry(_) => Kind::Retry,
            Self::Rewriter { .. } => Kind::Rewriter,
        }
    }
}

struct Builder<'c> {
    config: &'c Config,
    host: &'c PluginHost,
    workers: usize,
    /// By name; `None` for one whose faults have been told.
    plugins: HashMap<String, Option<Plugin>>,
    /// Their names.
    upstreams: Arc<[Arc<str>]>,
    placed: Vec<Placed>,
    faults: Vec<Fault>,
}

impl Builder<'_> {
    fn upstream(&mut self, upstream: &config::Upstream) -> Shared {
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
        let targets = upstream.endpoints.iter().map(|endpoint| self.target(upstream, endpoint)).collect();
        let limits: Vec<_> = upstream.endpoints.iter().map(|endpoint| endpoint.max_connections).collect();
        Shared {
            name: upstream.name.as_str().into(),
            loads: Arc::new(Loads::new(self.workers, endpoints.len())),
            health: Health::new(&endpoints, &limits, upstream, None),
            guards: Guards::new(upstream, self.workers, None, Instant::now()),
            endpoints,
            targets,
            config: upstream.clone(),
        }
    }

    fn target(&mut self, upstream: &config::Upstream, endpoint: &config::Endpoint) -> Target {
        match &endpoint.address {
            EndpointAddress::Unix(path) => Target::Unix(path.clone()),
            EndpointAddress::Tcp { host, port } => match (host.as_str(), *port).to_socket_addrs() {
                Ok(addresses) => Target::Tcp(addresses.collect()),
                Err(error) => {
                    let message = format!("endpoint `{}` of upstream `{}`: {error}", endpoint.text, upstream.name);
                    self.fault(upstream.balance.place, message);
                    Target::Tcp(Vec::new())
                }
            },
        }
    }

    /// The balancer and the retry policy of an upstream, for every worker.
    fn decisions(&mut self, number: usize, shared: &Arc<Shared>, blueprints: &mut [Blueprint]) {
        let Shared { config, name, loads, .. } = &**shared;
        let members = members(shared, Instant::now());
        self.each(
            Seat::Balancer(number),
            &config.balance,
            &format!("upstream {name}: balance"),
            blueprints,
            |used, worker, blueprint| {
                blueprint.balancers.push(used.balancer(worker, members.clone(), loads.clone())?);
                Ok(())
            },
        );
        let policy = &config.retry.policy;
        let name = format!("upstream {name}: retry");
        self.each(Seat::Retry(number), policy, &name, blueprints, |used, worker, blueprint| {
            blueprint.retries.push(used.retry(worker)?);
            Ok(())
        });
    }

    fn rewriters(&mut self, number: usize, route: &config::Route, blueprints: &mut [Blueprint]) {
        for blueprint in blueprints.iter_mut() {
            blueprint.rewriters.push(Vec::new());
        }
        for (step, rewriter) in route.rewrite.iter().enumerate() {
            let name = format!("route {}: rewrite {}", route.name, step + 1);
            self.each(
                Seat::Rewriter { route: number, step },
                rewriter,
                &name,
                blueprints,
                |used, worker, blueprint| {
                    let ready = used.rewriter(worker)?;
                    blueprint.rewriters.last_mut().expect("pushed above").push(ready);
                    Ok(())
                },
            );
        }
    }

    /// Makes a use of a plugin, and an instance of it for each worker.
    fn each(
        &mut self,
        seat: Seat,
        wanted: &PluginUse,
        name: &str,
        blueprints: &mut [Blueprint],
        mut instantiate: impl FnMut(&Use, usize, &mut Blueprint) -> Result<(), PluginError>,
    ) {
        let Some(used) = self.used(seat.kind(), wanted, name) else { return };
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
        let around = Surroundings { behind, upstreams: self.upstreams.clone(), ..Surroundings::default() };
        Some(plugin.use_in(kind, name, &wanted.settings, around))
    }

    /// A plugin by its name, loaded at its first use.
    fn plugin(&mut self, name: &str, place: Place) -> Option<Plugin> {
        if let Some(known) = self.plugins.get(name) {
            return known.clone();
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

/// The endpoints of an upstream with what may have traffic now.
pub(super) fn members(shared: &Shared, now: Instant) -> Arc<[Member]> {
    let member = |endpoint: &Endpoint| Member {
        endpoint: endpoint.clone(),
        ready: !endpoint.down && shared.health.is_ready(endpoint.id, now),
    };
    shared.endpoints.iter().map(member).collect()
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
