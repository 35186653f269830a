//! A match and what to do with it.

use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

use regex::Regex;

use super::action::Action;
use super::error_pages::ErrorPages;
use super::fallback::Fallback;
use super::fault::{BadValue, Fault};
use super::limit::{self, ConcurrencyLimit, Priority};
use super::maintenance::Maintenance;
use super::plugin::{PluginKind, PluginUse};
use super::reader::Reader;
use super::settings::Place;
use super::value;

/// A match and what to do with it.
#[derive(Clone, Debug)]
pub struct Route {
    /// As configured, or made from the match ("shop.example.com/api/"). Unique.
    pub name: String,
    /// Empty: any host.
    pub hosts: Vec<HostPattern>,
    pub path: PathPattern,
    /// Empty: any method.
    pub methods: Vec<String>,
    /// Fields that must be there with exactly this value; names in lower case.
    pub headers: Vec<(String, String)>,
    pub action: Action,
    /// In the order in which they have a request. `rate_limit` is the first of them.
    pub rewrite: Vec<PluginUse>,
    /// For the whole exchange, all attempts; from the request's head to the response's last byte; absent: no
    /// limit, as in nginx and HAProxy.
    pub timeout: Option<Duration>,
    /// What answers when the upstream does not: the first whose conditions hold (none).
    pub fallback: Vec<Fallback>,
    /// For answers of the proxy itself.
    pub error_pages: ErrorPages,
    /// Whether the route is closed.
    pub maintenance: Maintenance,
    /// Among the requests that wait for the same upstream ("normal", or "high").
    pub priority: Priority,
    pub concurrency_limit: Option<ConcurrencyLimit>,
    pub place: Place,
}

/// A host in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    Exact(String),
    /// `*.example.org`, kept as `.example.org`: any name under it.
    Suffix(String),
}

/// ("/")
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// Matches at a segment boundary: `/api` and `/api/` match `/api` and `/api/x`, not `/apix`.
    Prefix(String),
    Exact(String),
    Regex(Regex),
}

impl Route {
    /// A route for every request, named `/`.
    pub fn new(action: Action) -> Self {
        Self {
            name: "/".to_owned(),
            hosts: Vec::new(),
            path: PathPattern::Prefix("/".to_owned()),
            methods: Vec::new(),
            headers: Vec::new(),
            action,
            rewrite: Vec::new(),
            timeout: None,
            fallback: Vec::new(),
            error_pages: ErrorPages::default(),
            maintenance: Maintenance::default(),
            priority: Priority::default(),
            concurrency_limit: None,
            place: Place::default(),
        }
    }

    /// `has_http`: whether there is a listener that needs routes.
    pub(super) fn read_all(reader: &mut Reader<'_>, has_http: bool) -> Vec<Self> {
        let scope = reader.scope;
        let lacks = reader.lacks("routes");
        if lacks && has_http {
            if let Some((upstream, _)) = scope.upstreams.first() {
                let hint = format!("add `[[routes]]` with `upstream = \"{}\"`", value::shown(upstream));
                scope.absence(Fault::new(reader.place_of("routes"), "no route leads to an upstream").with_hint(hint));
            } else {
                scope.warn(Fault::new(reader.place_of("routes"), "no route: every request is answered with 404"));
            }
        } else if !lacks && !has_http {
            scope.warn(Fault::new(reader.place_of("routes"), "no listener takes requests"));
        }
        // A route that could not be understood is a fault already and keeps no other from being read.
        let mut named: Vec<(Option<Place>, Self)> = Vec::new();
        for mut table in reader.tables("routes") {
            let name = table.parse("name", route_name);
            let place = table.place_of("name");
            let Some(mut route) = Self::read(&mut table) else { continue };
            let faults_before = scope.noted.borrow().len();
            drop(table);
            if scope.noted.borrow().len() > faults_before {
                // An unknown key may have been meant for the match.
                scope.doubtful_routes.borrow_mut().push(route.place);
            }
            if let Some(name) = name {
                if let Some((Some(first), _)) = named.iter().find(|(at, other)| at.is_some() && other.name == name) {
                    let message = format!("the route at {first} has this name too");
                    scope.fault(Fault::new(place, message));
                }
                route.name = name;
                named.push((Some(place), route));
            } else {
                named.push((None, route));
            }
        }
        name_others(named)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let scope = reader.scope;
        let place = reader.place();
        let faults_before = scope.noted.borrow().len();
        let hosts = read_hosts(reader);
        let path = read_path(reader);
        let methods = read_methods(reader);
        let headers = read_headers(reader);
        if scope.noted.borrow().len() > faults_before {
            scope.doubtful_routes.borrow_mut().push(place);
        }
        let uses = reader.array("rewrite").unwrap_or_default();
        let rewriters = uses.iter().filter_map(|value| PluginUse::read(value, PluginKind::Rewriter, scope));
        // What is refused need not be rewritten.
        let rewrite = limit::read_rate(reader).into_iter().chain(rewriters).collect();
        let concurrency_limit = reader.table("concurrency_limit").and_then(ConcurrencyLimit::read);
        let priorities = [("normal", Some(Priority::Normal)), ("high", Some(Priority::High))];
        let priority = reader.word("priority", &priorities).unwrap_or_default();
        let action = Action::read(reader);
        let mut timeout = None;
        reader.set_or_off("timeout", &mut timeout);
        let fallback = Fallback::read_all(reader, action.as_ref());
        let error_pages = ErrorPages::read(reader);
        let maintenance = Maintenance::read(reader);
        let read = Self { hosts, path, methods, headers, rewrite, timeout, place, ..Self::new(action?) };
        Some(Self { priority, concurrency_limit, fallback, error_pages, maintenance, ..read })
    }

    fn default_name(&self) -> String {
        let host = self.hosts.first().map(ToString::to_string).unwrap_or_default();
        format!("{host}{}", self.path)
    }
}

/// Gives each route without a name one that is made from its match and still free.
fn name_others(named: Vec<(Option<Place>, Route)>) -> Vec<Route> {
    let mut taken: Vec<String> =
        named.iter().filter(|(place, _)| place.is_some()).map(|(_, route)| route.name.clone()).collect();
    let name = |(place, mut route): (Option<Place>, Route)| {
        if place.is_none() {
            let name = route.default_name();
            let numbered = (2..).map(|number| format!("{name} #{number}"));
            route.name =
                std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or(name);
            taken.push(route.name.clone());
        }
        route
    };
    named.into_iter().map(name).collect()
}

fn route_name(text: &str) -> Result<String, BadValue> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(BadValue::new("a route's name is some text on one line"));
    }
    Ok(text.to_owned())
}

fn read_hosts(reader: &mut Reader<'_>) -> Vec<HostPattern> {
    let scope = reader.scope;
    let Some(written) = reader.array("hosts") else { return Vec::new() };
    if written.is_empty() {
        let fault = Fault::new(reader.place_of("hosts"), "no host");
        scope.fault(fault.with_hint("leave `hosts` out to match every host".to_owned()));
    }
    let mut hosts = Vec::new();
    for value in written {
        let Some(text) = scope.text(value) else { continue };
        if text == "*" {
            if written.len() > 1 {
                scope.fault(Fault::new(value.place, "`*` matches every host and stands alone"));
            }
            continue;
        }
        match scope.accept(value.place, host_pattern(text)) {
            Some(host) if hosts.contains(&host) => {
                scope.fault(Fault::new(value.place, format!("`{host}` is listed twice")));
            }
            host => hosts.extend(host),
        }
    }
    hosts
}

pub(super) fn host_pattern(text: &str) -> Result<HostPattern, BadValue> {
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split('/').next().unwrap_or_default();
        return Err(BadValue::new("a host has no scheme").with_hint(format!("did you mean `{}`?", value::shown(host))));
    }
    let bracketed = value::bracketed(text).transpose()?;
    let (host, rest) = match &bracketed {
        Some((address, rest)) => (format!("[{address}]"), *rest),
        None => match text.split_once(':').filter(|(_, port)| !port.contains(':')) {
            Some((host, _)) => (host.to_owned(), &text[host.len()..]),
            None => (text.to_owned(), ""),
        },
    };
    if rest.starts_with(':') {
        return Err(BadValue::new("a host is matched without its port")
            .with_hint(format!("did you mean `{}`?", value::shown(&host))));
    }
    if bracketed.is_some() && rest.is_empty() {
        return Ok(HostPattern::Exact(host));
    }
    if let Some(domain) = text.strip_prefix("*.") {
        return value::host_name(domain).map(|domain| HostPattern::Suffix(format!(".{domain}")));
    }
    if text.contains('*') {
        return Err(BadValue::new(format!("`{}` is not a host", value::shown(text)))
            .with_hint("`*` stands for the beginning of a name, as in `*.example.org`, or alone".to_owned()));
    }
    if text.starts_with('.') && text.len() > 1 {
        return Err(BadValue::new(format!("`{}` is not a host", value::shown(text)))
            .with_hint(format!("did you mean `*{}`?", value::shown(text))));
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Err(
            BadValue::new("an IPv6 address stands in brackets").with_hint(format!("did you mean `[{address}]`?"))
        );
    }
    value::host_name(text).map(HostPattern::Exact)
}

fn read_path(reader: &mut Reader<'_>) -> PathPattern {
    let read = match reader.one_of(&["path", "path_exact", "path_regex"]) {
        None => None,
        Some("path") => {
            let path = reader.parse("path", match_path);
            if path.as_ref().is_some_and(|path| path.contains('*')) {
                let warning = Fault::new(reader.place_of("path"), "`*` in a path is matched as it is");
                let hint = "a `path` matches everything below it without one".to_owned();
                reader.scope.warn(warning.with_hint(hint));
            }
            path.map(PathPattern::Prefix)
        }
        Some("path_exact") => reader.parse("path_exact", match_path).map(PathPattern::Exact),
        Some(_) => reader.parse("path_regex", regex).map(PathPattern::Regex),
    };
    read.unwrap_or(PathPattern::Prefix("/".to_owned()))
}

fn match_path(text: &str) -> Result<String, BadValue> {
    if text.contains('?') && text.starts_with('/') {
        return Err(BadValue::new("a path is matched without its query"));
    }
    value::path(text)
}

fn regex(text: &str) -> Result<Regex, BadValue> {
    Regex::new(text).map_err(|error| value::bad_regex(text, &error))
}

fn read_methods(reader: &mut Reader<'_>) -> Vec<String> {
    let scope = reader.scope;
    let Some(written) = reader.array("methods") else { return Vec::new() };
    if written.is_empty() {
        let fault = Fault::new(reader.place_of("methods"), "no method");
        scope.fault(fault.with_hint("leave `methods` out to match every method".to_owned()));
    }
    let mut methods = Vec::new();
    for value in written {
        let Some(text) = scope.text(value) else { continue };
        match scope.accept(value.place, value::method(text)) {
            Some(method) if methods.contains(&method) => {
                scope.fault(Fault::new(value.place, format!("`{method}` is listed twice")));
            }
            method => methods.extend(method),
        }
    }
    methods
}

fn read_headers(reader: &mut Reader<'_>) -> Vec<(String, String)> {
    let scope = reader.scope;
    let mut headers: Vec<(String, String)> = Vec::new();
    for (key, value) in reader.entries("headers") {
        let Some(name) = scope.accept(key.place, value::field_name(&key.name)) else { continue };
        if headers.iter().any(|(other, _)| *other == name) {
            scope.fault(Fault::new(key.place, format!("`{name}` is listed twice")));
        }
        let value = scope.text(value).and_then(|text| scope.accept(value.place, value::field_value(text)));
        headers.extend(value.map(|value| (name, value)));
    }
    headers
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// As it is written, a regular expression after a tilde.
impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(path) | Self::Exact(path) => f.write_str(path),
            Self::Regex(regex) => write!(f, "~{regex}"),
        }
    }
}
