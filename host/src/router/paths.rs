//! The routes of one host, by path.

use std::collections::HashMap;

use regex::Regex;

use crate::config::{PathPattern, Route};
use crate::http::head::RequestHead;

/// The routes of one host, by path.
#[derive(Debug, Default)]
pub(super) struct Paths {
    exact: HashMap<Box<str>, Candidates>,
    /// The longest text first, and among equally long ones the one that is configured first.
    regexes: Vec<(Regex, Candidates)>,
    /// Without the slash at the end; `/` is the empty text.
    prefixes: HashMap<Box<str>, Candidates>,
    /// Bytes of the longest prefix: a longer start of a path is not worth a look-up.
    longest_prefix: usize,
}

impl Paths {
    pub(super) fn add(&mut self, index: usize, route: &Route) {
        let candidates = match &route.path {
            PathPattern::Exact(path) => self.exact.entry(path.as_str().into()).or_default(),
            PathPattern::Prefix(prefix) => {
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                self.longest_prefix = self.longest_prefix.max(prefix.len());
                self.prefixes.entry(prefix.into()).or_default()
            }
            PathPattern::Regex(regex) => {
                let known = self.regexes.iter().position(|(other, _)| other.as_str() == regex.as_str());
                let position = known.unwrap_or_else(|| {
                    self.regexes.push((regex.clone(), Candidates::default()));
                    self.regexes.len() - 1
                });
                &mut self.regexes[position].1
            }
        };
        candidates.0.push(Candidate::new(index, route));
    }

    /// Brings what was added into the order of [`find`](Self::find).
    pub(super) fn sort(&mut self) {
        self.regexes.sort_by_key(|(regex, _)| std::cmp::Reverse(regex.as_str().len()));
        let regexes = self.regexes.iter_mut().map(|(_, candidates)| candidates);
        for candidates in self.exact.values_mut().chain(self.prefixes.values_mut()).chain(regexes) {
            candidates.0.sort_by_key(|candidate| std::cmp::Reverse(candidate.conditions()));
        }
    }

    /// The first route in the order of specificity whose every condition holds.
    pub(super) fn find(&self, path: &str, request: &RequestHead) -> Option<usize> {
        let exact = || self.exact.get(path).and_then(|candidates| candidates.find(request));
        let by_regex =
            || self.regexes.iter().filter(|(regex, _)| regex.is_match(path)).find_map(|(_, c)| c.find(request));
        exact().or_else(by_regex).or_else(|| self.find_in_prefixes(path, request))
    }

    /// Cuts the path at its segment boundaries, from the longest start to the empty one.
    fn find_in_prefixes(&self, path: &str, request: &RequestHead) -> Option<usize> {
        let look_up = |start: &str| self.prefixes.get(start).and_then(|candidates| candidates.find(request));
        let whole = || if path.len() <= self.longest_prefix { look_up(path) } else { None };
        // A boundary lies before a slash, so that the slash after the longest prefix is looked for as well. The bytes
        // are cut, not the text: the limit may lie within a character.
        let bytes = &path.as_bytes()[..path.len().min(self.longest_prefix + 1)];
        let slashes = bytes.iter().enumerate().rev().filter(|&(_, &byte)| byte == b'/').map(|(slash, _)| slash);
        whole()
            .or_else(|| slashes.filter(|&slash| slash > 0).find_map(|slash| look_up(&path[..slash])))
            .or_else(|| look_up(""))
    }
}

/// Routes for the same host and path, with most conditions first.
#[derive(Debug, Default)]
struct Candidates(Vec<Candidate>);

impl Candidates {
    fn find(&self, request: &RequestHead) -> Option<usize> {
        self.0.iter().find(|candidate| candidate.holds(request)).map(|candidate| candidate.route)
    }
}

/// A route and what it asks for beyond host and path.
#[derive(Debug)]
struct Candidate {
    route: usize,
    methods: Box<[String]>,
    headers: Box<[(String, String)]>,
}

impl Candidate {
    fn new(index: usize, route: &Route) -> Self {
        Self { route: index, methods: route.methods.clone().into(), headers: route.headers.clone().into() }
    }

    fn conditions(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len()
    }

    fn holds(&self, request: &RequestHead) -> bool {
        let mut headers = self.headers.iter();
        (self.methods.is_empty() || self.methods.iter().any(|method| method == request.method()))
            && headers.all(|(name, value)| request.fields.get_all(name.as_bytes()).any(|v| v == value.as_bytes()))
    }
}
