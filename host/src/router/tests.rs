use proptest::prelude::*;
use regex::Regex;

use super::*;
use crate::config::{Action, PathPattern};

fn any_host(path: PathPattern) -> Route {
    Route { name: String::new(), path, ..Route::new(Action::Upstream(0)) }
}

fn route(hosts: &[&str], path: PathPattern) -> Route {
    let pattern = |host: &&str| match host.strip_prefix('*') {
        Some(suffix) => HostPattern::Suffix(suffix.to_owned()),
        None => HostPattern::Exact((*host).to_owned()),
    };
    Route { hosts: hosts.iter().map(pattern).collect(), ..any_host(path) }
}

fn prefix(path: &str) -> PathPattern {
    PathPattern::Prefix(path.to_owned())
}

fn exact(path: &str) -> PathPattern {
    PathPattern::Exact(path.to_owned())
}

fn regex(pattern: &str) -> PathPattern {
    PathPattern::Regex(Regex::new(pattern).unwrap())
}

fn request(method: &str, authority: &str, target: &str) -> RequestHead {
    let mut head = RequestHead::default();
    head.set_method(method);
    head.set_authority(authority);
    head.set_path_and_query(target);
    head
}

fn get(authority: &str, target: &str) -> RequestHead {
    request("GET", authority, target)
}

#[test]
fn the_longest_prefix_that_ends_at_a_segment_boundary_wins() {
    let router = Router::new(&["/", "/api", "/api/v2/", "/very/long/prefix"].map(|path| any_host(prefix(path))));

    for (target, expected) in [
        ("/", 0),
        ("/apix", 0),
        ("/api", 1),
        ("/api?x=/api/v2/", 1),
        ("/api/", 1),
        ("/api/v22", 1),
        ("/api/v2", 2),
        ("/api/v2/x/y", 2),
        ("/api/v2//", 2),
        ("/api//v2/", 1),
        ("//api", 0),
        ("/%61pi", 0),
        ("*", 0),
        ("", 0),
        ("/very/long/prefi", 0),
        ("/very/long/prefix", 3),
        ("/very/long/prefix/", 3),
    ] {
        assert_eq!(router.route(&get("a", target)), Some(expected), "for {target}");
    }
}

#[test]
fn an_exact_path_comes_before_a_regex_and_that_before_a_prefix() {
    let routes = [prefix("/a/b/c"), regex("^/a/b"), regex("^/a/b/[a-z]+$"), exact("/a/b/c"), regex("^/x/[a-z]+$")];
    let router = Router::new(&routes.map(any_host));

    for (target, expected) in [
        ("/a/b/c", Some(3)),
        ("/a/b/c?q", Some(3)),
        ("/a/b/d", Some(2)),
        ("/a/b/c/d", Some(1)),
        ("/a/c", None),
        ("/x/y?z=1", Some(4)),
    ] {
        assert_eq!(router.route(&get("a", target)), expected, "for {target}");
    }
}

#[test]
fn equally_long_regexes_are_tried_in_the_order_of_the_configuration() {
    let router = Router::new(&["^/b", "^/.b", "^/a."].map(|pattern| any_host(regex(pattern))));

    assert_eq!(router.route(&get("a", "/ab")), Some(1));
}

#[test]
fn an_exact_host_comes_before_the_longest_wildcard_and_that_before_any_host() {
    let router = Router::new(&[
        any_host(prefix("/")),
        route(&["*.example.org"], prefix("/")),
        route(&["*.b.example.org"], prefix("/")),
        route(&["a.example.org", "[::1]"], prefix("/")),
    ]);

    for (authority, expected) in [
        ("a.example.org", 3),
        ("A.Example.ORG.:8080", 3),
        ("[::1]:80", 3),
        ("b.example.org", 1),
        ("x.b.example.org", 2),
        ("y.x.b.example.org:80", 2),
        ("example.org", 0),
        (".example.org", 0),
        ("xexample.org", 0),
        ("", 0),
        (".", 0),
    ] {
        assert_eq!(router.route(&get(authority, "/")), Some(expected), "for {authority}");
    }
}

#[test]
fn a_host_outweighs_a_path() {
    let router = Router::new(&[
        any_host(exact("/deep/path")),
        route(&["*.a"], exact("/deep/path")),
        route(&["x.a"], prefix("/")),
    ]);

    assert_eq!(router.route(&get("x.a", "/deep/path")), Some(2));
}

#[test]
fn a_path_that_a_host_does_not_have_is_looked_for_under_less_specific_hosts() {
    let router = Router::new(&[
        any_host(prefix("/any")),
        route(&["*.a"], prefix("/wide")),
        route(&["*.x.a"], prefix("/narrow")),
        route(&["y.x.a"], prefix("/exact")),
    ]);

    for (target, expected) in
        [("/exact", Some(3)), ("/narrow", Some(2)), ("/wide", Some(1)), ("/any", Some(0)), ("/none", None)]
    {
        assert_eq!(router.route(&get("y.x.a", target)), expected, "for {target}");
    }
}

#[test]
fn a_route_with_more_conditions_comes_first_and_one_that_fails_falls_through() {
    let beta = || ("x-beta".to_owned(), "1".to_owned());
    let router = Router::new(&[
        any_host(prefix("/")),
        any_host(prefix("/a")),
        Route { methods: vec!["POST".to_owned(), "PUT".to_owned()], ..any_host(prefix("/a")) },
        Route { headers: vec![beta()], ..any_host(prefix("/a")) },
        Route { headers: vec![beta()], methods: vec!["POST".to_owned()], ..any_host(prefix("/a")) },
        Route { methods: vec!["POST".to_owned()], ..any_host(exact("/a/b")) },
    ]);
    let with = |method, target, fields: &[(&str, &str)]| {
        let mut head = request(method, "", target);
        fields.iter().for_each(|(name, value)| head.fields.append(name.as_bytes(), value.as_bytes()));
        router.route(&head)
    };

    assert_eq!(with("GET", "/a", &[]), Some(1));
    assert_eq!(with("PUT", "/a", &[]), Some(2));
    assert_eq!(with("put", "/a", &[]), Some(1));
    assert_eq!(with("GET", "/a", &[("X-Beta", "0"), ("X-BETA", "1")]), Some(3));
    assert_eq!(with("GET", "/a", &[("X-Beta", "1 ")]), Some(1));
    assert_eq!(with("PUT", "/a", &[("x-beta", "1")]), Some(2), "one condition each: the first configured");
    assert_eq!(with("POST", "/a", &[("x-beta", "1")]), Some(4));
    assert_eq!(with("POST", "/a/b", &[("x-beta", "1")]), Some(5));
    assert_eq!(with("DELETE", "/a/b", &[]), Some(1));
}

#[test]
fn no_routes_match_nothing() {
    assert_eq!(Router::new(&[]).route(&get("a", "/")), None);
}

#[test]
fn a_limit_within_a_character_cuts_no_text() {
    let router = Router::new(&[any_host(prefix("/é"))]);

    assert_eq!(router.route(&get("é.é", "/éé")), None);
    assert_eq!(router.route(&get("é.é", "/é/é")), Some(0));
    assert_eq!(router.route(&get("é.é", "/aé")), None);
}

/// What [`Router`] promises, as a comparison of all routes that match.
fn route_naively(routes: &[Route], request: &RequestHead) -> Option<usize> {
    let host = request.host().to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let path = request.path();
    let host_ranks = |route: &Route| -> Vec<usize> {
        let ranks = route.hosts.iter().filter_map(|pattern| match pattern {
            HostPattern::Exact(name) => (name == host).then_some(usize::MAX),
            HostPattern::Suffix(suffix) => {
                (host.len() > suffix.len() && host.ends_with(suffix.as_str())).then_some(suffix.len())
            }
        });
        if route.hosts.is_empty() { vec![0] } else { ranks.collect() }
    };
    let host_rank = |route: &Route| host_ranks(route).into_iter().max();
    let path_rank = |route: &Route| match &route.path {
        PathPattern::Exact(exact) => (exact == path).then_some((2, 0, 0)),
        PathPattern::Regex(regex) => {
            let same = |other: &Route| matches!(&other.path, PathPattern::Regex(r) if r.as_str() == regex.as_str());
            // A route stands among those of every host it names, though only the most specific one ranks it.
            let rank = host_rank(route)?;
            let first = routes.iter().position(|other| same(other) && host_ranks(other).contains(&rank))?;
            regex.is_match(path).then_some((1, regex.as_str().len(), usize::MAX - first))
        }
        PathPattern::Prefix(prefix) => {
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
            let rest = path.strip_prefix(prefix)?;
            (rest.is_empty() || rest.starts_with('/') || prefix.is_empty()).then_some((0, prefix.len(), 0))
        }
    };
    let rank = |(index, route): (usize, &Route)| {
        let host_and_path = (host_rank(route)?, path_rank(route)?);
        let methods = route.methods.is_empty() || route.methods.iter().any(|m| m == request.method());
        let has = |(name, value): &(String, String)| {
            request.fields.iter().any(|f| f.name == name.as_bytes() && f.value == value.as_bytes())
        };
        let conditions = usize::from(!route.methods.is_empty()) + route.headers.len();
        (methods && route.headers.iter().all(has)).then_some((host_and_path, conditions, usize::MAX - index))
    };
    routes.iter().enumerate().filter_map(rank).max().map(|(.., index)| usize::MAX - index)
}

fn some_route() -> impl Strategy<Value = Route> {
    let hosts = proptest::sample::subsequence(vec!["a", "b.a", "c.b.a", "*.a", "*.b.a"], 0..3);
    let path = prop_oneof![
        "(/[ab]{1,2}){0,3}/?".prop_map(|text| prefix(if text.is_empty() { "/" } else { &text })),
        "(/[ab]{1,2}){1,3}/?".prop_map(|text| exact(&text)),
        proptest::sample::select(vec!["^/a", "^/b", "/a$", "b", "^/a+/", "^/[ab]+$"]).prop_map(regex),
    ];
    let methods = proptest::sample::subsequence(vec!["GET".to_owned(), "POST".to_owned()], 0..2);
    let header = |name: &str| (name.to_owned(), "1".to_owned());
    let headers = proptest::sample::subsequence(vec![header("x"), header("y")], 0..=2);
    (hosts, path, methods, headers).prop_map(|(hosts, path, methods, headers)| Route {
        methods,
        headers,
        ..route(&hosts, path)
    })
}

fn some_request() -> impl Strategy<Value = RequestHead> {
    let host = proptest::sample::select(vec!["a", "B.a", "c.b.a.:80", "d.b.a", "x.a", "", "."]);
    let fields = proptest::sample::subsequence(vec!["x", "y"], 0..=2);
    (host, "(/[ab]{0,2}){1,4}", proptest::sample::select(vec!["GET", "POST"]), fields).prop_map(
        |(host, target, method, fields)| {
            let mut head = request(method, host, &target);
            fields.iter().for_each(|name| head.fields.append(name.as_bytes(), b"1"));
            head
        },
    )
}

proptest! {
    #[test]
    fn the_tables_agree_with_a_comparison_of_all_routes(
        routes in proptest::collection::vec(some_route(), 0..24),
        requests in proptest::collection::vec(some_request(), 1..16),
    ) {
        let router = Router::new(&routes);

        for request in &requests {
            prop_assert_eq!(router.route(request), route_naively(&routes, request), "for {:?}", request);
        }
    }
}
