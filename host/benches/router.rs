//! A request becomes a route, among few and many.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use staunch::config::{Action, HostPattern, PathPattern, Route};
use staunch::http::head::RequestHead;
use staunch::router::Router;

const SIZES: [usize; 3] = [1, 100, 10_000];

/// Routes for as many hosts.
fn hosts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hosts");
    for size in SIZES {
        let route = |number| Route { hosts: vec![HostPattern::Exact(host(number))], ..Route::new(Action::Upstream(0)) };
        let router = Router::new(&(0..size).map(route).collect::<Vec<_>>());
        let last = request(&host(size - 1), "/api/items/42?page=2");
        assert_eq!(router.route(&last), Some(size - 1));
        group.bench_function(BenchmarkId::new("found", size), |bencher| {
            bencher.iter(|| router.route(black_box(&last)));
        });
        let unknown = request("unknown.test", "/api/items/42?page=2");
        assert_eq!(router.route(&unknown), None);
        group.bench_function(BenchmarkId::new("unknown", size), |bencher| {
            bencher.iter(|| router.route(black_box(&unknown)));
        });
    }
}

/// Routes for as many prefixes of any host.
fn prefixes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prefixes");
    for size in SIZES {
        let prefix = |number| PathPattern::Prefix(format!("/api/v{number}/"));
        let route = |number| Route { path: prefix(number), ..Route::new(Action::Upstream(0)) };
        let router = Router::new(&(0..size).map(route).collect::<Vec<_>>());
        let last = request("shop.test", &format!("/api/v{}/items/42?page=2", size - 1));
        assert_eq!(router.route(&last), Some(size - 1));
        group.bench_function(BenchmarkId::new("found", size), |bencher| {
            bencher.iter(|| router.route(black_box(&last)));
        });
    }
}

fn host(number: usize) -> String {
    format!("shop-{number}.test")
}

fn request(authority: &str, target: &str) -> RequestHead {
    let mut head = RequestHead::default();
    head.set_method("GET");
    head.set_authority(authority);
    head.set_path_and_query(target);
    head
}

criterion_group!(benches, hosts, prefixes);
criterion_main!(benches);
