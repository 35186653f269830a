//! Heads of HTTP/1, read and written.

mod given;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use staunch::http::h1::{
    self, BodyKind, ConnectionOption, Encoding, RequestOptions, ResponseOptions, request_body, response_body,
};
use staunch::http::head::{RequestHead, ResponseHead};

use given::{LIMITS, REQUEST, RESPONSE, large};

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    for (name, bytes) in [("small", REQUEST.to_vec()), ("large", large(REQUEST))] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let mut head = RequestHead::default();
        group.bench_function(format!("read/{name}"), |bencher| {
            bencher.iter(|| {
                let length = h1::parse_request(black_box(&bytes), &LIMITS, &mut head);
                (length.expect("a good request"), request_body(&head))
            });
        });
        h1::parse_request(&bytes, &LIMITS, &mut head).expect("a good request");
        let options = RequestOptions { fallback_host: "origin", connection: ConnectionOption::Implied };
        let mut output = Vec::new();
        group.bench_function(format!("write/{name}"), |bencher| {
            bencher.iter(|| {
                output.clear();
                h1::encode_request(&mut output, black_box(&head), Encoding::None, options);
                output.len()
            });
        });
    }
}

fn responses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("response");
    for (name, bytes) in [("small", RESPONSE.to_vec()), ("large", large(RESPONSE))] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let mut head = ResponseHead::default();
        group.bench_function(format!("read/{name}"), |bencher| {
            bencher.iter(|| {
                let length = h1::parse_response(black_box(&bytes), &LIMITS, &mut head);
                (length.expect("a good response"), response_body(&head, "GET"))
            });
        });
        h1::parse_response(&bytes, &LIMITS, &mut head).expect("a good response");
        let encoding = Encoding::for_response(&head, BodyKind::Length(1432), head.version);
        let options = ResponseOptions { date: b"Sun, 06 Nov 1994 08:49:37 GMT", connection: ConnectionOption::Implied };
        let mut output = Vec::new();
        group.bench_function(format!("write/{name}"), |bencher| {
            bencher.iter(|| {
                output.clear();
                h1::encode_response(&mut output, black_box(&head), encoding, options);
                output.len()
            });
        });
    }
}

criterion_group!(benches, requests, responses);
criterion_main!(benches);
