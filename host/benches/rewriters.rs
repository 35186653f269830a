//! A rewriter with an edit on either side.

mod given;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use staunch::config::Setting;
use staunch::filters::Flow;

use given::{exchange, table, text, used};

fn edits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("set-headers");
    let set = |name, value| Setting::Table(table([("set", Setting::Table(table([(name, text(value))])))]));
    let settings =
        table([("request", set("x-request-id", "$request_id")), ("response", set("x-upstream", "$upstream"))]);
    let filter = used("set-headers", &settings).rewriter(0).expect("a good rewriter").into_filter();
    assert!(
        filter.on_request(&mut exchange()) == Flow::Continue && filter.on_response(&mut exchange()) == Flow::Continue
    );

    group.bench_function("on-request", |bencher| {
        bencher.iter_batched_ref(exchange, |exchange| filter.on_request(exchange), BatchSize::SmallInput);
    });
    group.bench_function("on-response", |bencher| {
        bencher.iter_batched_ref(exchange, |exchange| filter.on_response(exchange), BatchSize::SmallInput);
    });
}

criterion_group!(benches, edits);
criterion_main!(benches);
