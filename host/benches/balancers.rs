//! An endpoint is picked: by plugins, and by the host's own round robin, which says what crossing over to one costs.

mod given;

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fastrand::Rng;
use staunch::config::Settings;
use staunch::plugins::{Member, ReadyBalancer};
use staunch::upstream::balancer::{FeedbackKind, Pick, PickContext, Sample};
use staunch::upstream::endpoint::{Endpoint, EndpointId, Loads};
use staunch::upstream::round_robin::RoundRobin;
use tokio::time::Instant;

use given::{exchange, table, text, used};

const SIZES: [u32; 3] = [3, 100, 1000];
/// Between two requests to one worker.
const BETWEEN: Duration = Duration::from_micros(20);

fn picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for size in SIZES {
        let endpoints: Vec<_> = (0..size).map(endpoint).collect();
        let mut native = RoundRobin::new(endpoints.len());
        group.bench_function(BenchmarkId::new("round-robin, native", size), |bencher| {
            bencher.iter(|| native.pick(&endpoints, |_| true));
        });
        for (name, settings) in [
            ("round-robin", Settings::default()),
            ("least-connections", Settings::default()),
            ("peak-ewma", Settings::default()),
            ("maglev", table([("key", text("client-address"))])),
        ] {
            let mut worker = Worker::new(name, &settings, &endpoints);
            // A table is made anew beside the picks, see the plugin.
            (0..2000).for_each(|_| worker.attempt());
            group.bench_function(BenchmarkId::new(name, size), |bencher| bencher.iter(|| worker.attempt()));
        }
    }
}

/// One worker's balancer, and what its upstream knows.
struct Worker {
    balancer: ReadyBalancer,
    exchange: staunch::http::facts::Exchange,
    now: Instant,
    rng: Rng,
}

impl Worker {
    fn new(name: &str, settings: &Settings, endpoints: &[Endpoint]) -> Self {
        let loads = Arc::new(Loads::new(1, endpoints.len()));
        for endpoint in endpoints {
            loads.set(0, endpoint.id, endpoint.id % 7, Duration::from_millis(1 + u64::from(endpoint.id % 5)));
        }
        let members = endpoints.iter().map(|endpoint| Member { endpoint: endpoint.clone(), ready: true }).collect();
        let balancer = used(name, settings).balancer(0, members, loads).expect("a good balancer");
        Self { balancer, exchange: exchange(), now: Instant::now(), rng: Rng::with_seed(1) }
    }

    /// A pick, and what the balancer wants to hear of the attempt.
    fn attempt(&mut self) {
        self.now += BETWEEN;
        let needs = self.balancer.needs();
        let key = (!needs.key.is_empty()).then(|| self.rng.u64(..1 << 53));
        let context = PickContext { key, random: self.rng.u64(..), now: self.now, attempt: 0, previous: None };
        let balancer = self.balancer.as_balancer();
        let Pick::Endpoint(endpoint) = balancer.pick(&mut self.exchange, context) else { panic!("no endpoint") };
        if needs.feedback == Some(FeedbackKind::EveryAttempt) {
            let latency = Duration::from_micros(self.rng.u64(500..1500));
            balancer.observe(Sample { endpoint, latency, status: 200, failed: false, penalty: 0 });
        }
    }
}

fn endpoint(id: EndpointId) -> Endpoint {
    Endpoint {
        id,
        address: format!("10.0.{}.{}:80", id >> 8, id & 255).into(),
        weight: 1 + id % 3,
        priority: 0,
        zone: None,
        labels: Vec::new(),
        down: false,
    }
}

criterion_group!(benches, picks);
criterion_main!(benches);
