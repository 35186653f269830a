//! A retry policy decides about an attempt that failed.

mod given;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use staunch::config::Settings;
use staunch::upstream::retry::{EndedAttempt, Failure, MethodKind, Outcome};

use given::{exchange, used};

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    let attempt = EndedAttempt {
        outcome: Outcome::Failed(Failure::Reset),
        endpoint: 1,
        attempt: 0,
        method: MethodKind::Safe,
        sent: true,
        elapsed: Duration::from_millis(3),
        remaining: Some(Duration::from_secs(30)),
        budget: 10,
        retry_after: None,
        random: 0x5eed,
    };
    for name in ["standard", "backoff"] {
        let policy = used(name, &Settings::default()).retry(0).expect("a good policy").into_policy();
        let mut exchange = exchange();
        assert!(policy.decide(&mut exchange, attempt).is_some(), "{name} tries again");
        group.bench_function(name, |bencher| bencher.iter(|| policy.decide(&mut exchange, attempt)));
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
