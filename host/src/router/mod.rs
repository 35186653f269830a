//! A request becomes a route: host, path, method, headers.
//!
//! The most specific match wins, not the first. Hosts are compared first: an exact name, then the longest wildcard,
//! then routes for any host. Among routes for the same host, an exact path comes before a regular expression (the one
//! with the longest text first), and that before the longest prefix. Among routes for the same path, one with more
//! conditions comes first: its methods count as one, each of its headers as one. What is still equal goes by the order
//! of the configuration. The first route in this order whose every condition holds is taken, so a request whose
//! method does not suit the most specific route falls through to the next.
//!
//! # What is compared
//!
//! * The host without its port and without one trailing dot, in any case. A request without a host meets only routes
//!   for any host.
//! * The path as the client wrote it, without the query. Nothing is decoded, merged or resolved, because the endpoint
//!   gets these very bytes and must not read another path than the one that was routed: `/%61pi` is not `/api`, and
//!   `//api` is not either. The prefix `/` matches every path, `*` as well.
//! * Methods and header values exactly. `GET` does not imply `HEAD`.
//!
//! # What it costs
//!
//! A few look-ups in hash tables, one for each label of the host and each segment of the path, whatever the number of
//! routes is. Regular expressions are the exception: those of a host are tried one after the other.

mod paths;

use std::borrow::Cow;
use std::collections::HashMap;

use crate::config::{HostPattern, Route};
use crate::http::head::RequestHead;

use paths::Paths;

/// Finds the route of a request.
#[derive(Debug, Default)]
pub struct Router {
    exact: HashMap<Box<str>, Paths>,
    /// By what stands in place of the star's right: `.example.org`.
    suffixes: HashMap<Box<str>, Paths>,
    /// Bytes of the longest suffix: a longer end of a host is not worth a look-up.
    longest_suffix: usize,
    any: Paths,
}

impl Router {
    pub fn new(routes: &[Route]) -> Self {
        let mut router = Self::default();
        for (index, route) in routes.iter().enumerate() {
            if route.hosts.is_empty() {
                router.any.add(index, route);
            }
            for host in &route.hosts {
                router.paths_of(host).add(index, route);
            }
        }
        router.any.sort();
        router.exact.values_mut().chain(router.suffixes.values_mut()).for_each(Paths::sort);
        router
    }

    /// The position of the most specific route that matches, among those given to [`Router::new`].
    pub fn route(&self, request: &RequestHead) -> Option<usize> {
        let path = request.path();
        if self.exact.is_empty() && self.suffixes.is_empty() {
            return self.any.find(path, request);
        }
        let host = comparable(request.host());
        let in_exact = self.exact.get(&*host).and_then(|paths| paths.find(path, request));
        in_exact.or_else(|| self.find_in_suffixes(&host, path, request)).or_else(|| self.any.find(path, request))
    }

    /// Walks a host's labels from the longest end to the shortest.
    fn find_in_suffixes(&self, host: &str, path: &str, request: &RequestHead) -> Option<usize> {
        // A star stands for one byte at least, and all that is longer than every suffix is skipped at once.
        let first = host.len().saturating_sub(self.longest_suffix).max(1);
        let ends = host.bytes().enumerate().skip(first).filter(|&(_, byte)| byte == b'.').map(|(dot, _)| &host[dot..]);
        ends.filter_map(|end| self.suffixes.get(end)).find_map(|paths| paths.find(path, request))
    }

    fn paths_of(&mut self, host: &HostPattern) -> &mut Paths {
        match host {
            HostPattern::Exact(name) => self.exact.entry(comparable(name).into()).or_default(),
            HostPattern::Suffix(suffix) => {
                let suffix = comparable(suffix);
                self.longest_suffix = self.longest_suffix.max(suffix.len());
                self.suffixes.entry(suffix.into()).or_default()
            }
        }
    }
}

/// A host in lower case without a trailing dot; borrowed when it is so already, as nearly all are.
fn comparable(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests;
