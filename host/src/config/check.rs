//! What only the whole configuration can tell.

use std::collections::HashMap;

use super::fault::Fault;
use super::plugin::{OnFailure, PluginKind};
use super::reader::Scope;
use super::route::{PathPattern, Route};
use super::settings::Place;
use super::{Action, Carrier, Config, Fallback, FallbackAction, Listener};

/// Notes what is wrong between the parts of a configuration.
pub(super) fn check(config: &Config, scope: &Scope<'_>) {
    check_matches(&config.routes, scope);
    check_plugins(config, scope);
    check_admin(config, scope);
    for (position, (name, place)) in scope.upstreams.iter().enumerate() {
        let leads = |action: &Action| match action {
            Action::Upstream(upstream) => *upstream == position,
            Action::Split(shares) => shares.iter().any(|(upstream, _)| *upstream == position),
            Action::Respond { .. } | Action::Redirect { .. } => false,
        };
        let falls_back = |fallback: &Fallback| fallback.then == FallbackAction::Upstream(position);
        let is_used = config.routes.iter().any(|route| leads(&route.action) || route.fallback.iter().any(falls_back))
            || config.listeners.iter().flat_map(Listener::upstreams).any(|upstream| upstream == position);
        if !is_used {
            scope.warn(Fault::new(*place, format!("no route or listener leads to the upstream `{name}`")));
        }
    }
}

/// No two routes may match the same requests: neither would be more specific.
fn check_matches(routes: &[Route], scope: &Scope<'_>) {
    let mut seen: HashMap<Match<'_>, Place> = HashMap::new();
    let doubtful = scope.doubtful_routes.borrow();
    for route in routes.iter().filter(|route| !doubtful.contains(&route.place)) {
        let mut earlier = None;
        for host in hosts(route) {
            earlier = earlier.or(seen.get(&Match::of(route, host.clone())).copied());
            seen.entry(Match::of(route, host)).or_insert(route.place);
        }
        if let Some(first) = earlier {
            let message = format!("the route at {first} matches the same requests");
            let hint = "tell them apart by host, path, method or header".to_owned();
            scope.fault(Fault::new(route.place, message).with_hint(hint));
        }
    }
}

/// What a route matches on one host.
#[derive(PartialEq, Eq, Hash)]
struct Match<'a> {
    host: Option<String>,
    path: (u8, &'a str),
    methods: Vec<&'a str>,
    headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Match<'a> {
    fn of(route: &'a Route, host: Option<String>) -> Self {
        let path = match &route.path {
            // `/api` and `/api/` match the same paths.
            PathPattern::Prefix(path) => (0, path.strip_suffix('/').unwrap_or(path)),
            PathPattern::Exact(path) => (1, path.as_str()),
            PathPattern::Regex(regex) => (2, regex.as_str()),
        };
        let mut methods: Vec<_> = route.methods.iter().map(String::as_str).collect();
        let mut headers: Vec<_> = route.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        methods.sort_unstable();
        headers.sort_unstable();
        Self { host, path, methods, headers }
    }
}

/// The hosts of a route; `None` stands for any.
fn hosts(route: &Route) -> Vec<Option<String>> {
    if route.hosts.is_empty() {
        return vec![None];
    }
    route.hosts.iter().map(|host| Some(host.to_string())).collect()
}

fn check_plugins(config: &Config, scope: &Scope<'_>) {
    let uses = scope.uses.borrow();
    for plugin in &config.plugins {
        let kinds: Vec<_> = uses.iter().filter(|(name, _)| *name == plugin.name).map(|(_, kind)| *kind).collect();
        let Some(kind) = kinds.first() else {
            scope.warn(Fault::new(plugin.place, format!("the plugin `{}` is used nowhere", plugin.name)));
            continue;
        };
        let (fitting, policy) = match plugin.on_failure {
            None => continue,
            Some(OnFailure::Fallback) => (PluginKind::Balancer, "fallback"),
            Some(OnFailure::Skip) => (PluginKind::Rewriter, "skip"),
            Some(OnFailure::Deny) => (PluginKind::Rewriter, "deny"),
        };
        if !kinds.contains(&fitting) {
            let message = format!(
                "`on_failure = \"{policy}\"` is for {}, and `{}` is used as {}",
                fitting.said(),
                plugin.name,
                kind.said()
            );
            let hint = match kind {
                PluginKind::Balancer => "expected `fallback`",
                PluginKind::Rewriter => "expected one of `skip`, `deny`",
                PluginKind::Retry => "leave it out: when a retry policy fails there is no retry",
            };
            scope.fault(Fault::new(plugin.place, message).with_hint(hint.to_owned()));
        }
    }
}

fn check_admin(config: &Config, scope: &Scope<'_>) {
    let Some(admin) = &config.admin else { return };
    if let Some(listener) = config
        .listeners
        .iter()
        .filter(|listener| listener.carrier() == Carrier::Streams)
        .find(|listener| admin.address.overlaps(&listener.address))
    {
        let message = format!("`{}` is taken by the listener on `{}`", admin.address, listener.address);
        scope.fault(Fault::new(scope.admin, message));
    }
}
