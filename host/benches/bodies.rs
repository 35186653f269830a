//! Bodies of HTTP/1, taken out of their framing and framed anew.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use staunch::http::h1::{BodyDecoder, BodyEncoder, BodyKind, Encoding};

const SIZES: [usize; 2] = [200, 64 * 1024];
/// Bytes of a chunk, as servers write them.
const CHUNK: usize = 8 * 1024;

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for size in SIZES {
        let body = vec![b'x'; size];
        group.throughput(Throughput::Bytes(size as u64));
        for (name, kind, input) in
            [("length", BodyKind::Length(size as u64), body.clone()), ("chunked", BodyKind::Chunked, chunked(&body))]
        {
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| decoded(kind, black_box(&input)));
            });
        }
    }
}

/// Bytes of the body in `input`.
fn decoded(kind: BodyKind, mut input: &[u8]) -> usize {
    let mut decoder = BodyDecoder::of_response(kind);
    let mut length = 0;
    while !decoder.is_done() {
        let decoded = decoder.decode(input).expect("a good body");
        length += decoded.data.len();
        input = &input[decoded.consumed..];
    }
    length
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for size in SIZES {
        let body = vec![b'x'; size];
        group.throughput(Throughput::Bytes(size as u64));
        for (name, encoding) in [("length", Encoding::Length(size as u64)), ("chunked", Encoding::Chunked)] {
            let mut output = Vec::new();
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| {
                    output.clear();
                    encoded(encoding, black_box(&body), &mut output);
                    output.len()
                });
            });
        }
    }
}

fn encoded(encoding: Encoding, body: &[u8], output: &mut Vec<u8>) {
    let mut encoder = BodyEncoder::new(encoding);
    for piece in body.chunks(CHUNK) {
        encoder.data(output, piece).expect("a body of its length");
    }
    encoder.end(output, None).expect("a body of its length");
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    encoded(Encoding::Chunked, body, &mut output);
    output
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
