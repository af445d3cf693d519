//! The cost in user space of a publication and of an echo: a whole shard, over sockets that accept every write whole.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

#[path = "../stub/mod.rs"]
mod stub;

const SUBSCRIBERS: usize = 1000;

/// From the publisher's frame to the last subscriber's write; the time is for all deliveries together.
fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("hub_publish_to_1000");
    for window in [1, 8] {
        group.throughput(Throughput::Elements((SUBSCRIBERS * window) as u64));
        group.bench_function(BenchmarkId::new("window", window), |b| {
            let mut bench = stub::Room::of(SUBSCRIBERS, window).open();
            b.iter(|| bench.turn(1));
            black_box(bench.delivered());
        });
    }
    group.finish();
}

/// 100 clients with messages of 16 bytes, all readable in one turn.
fn echo(c: &mut Criterion) {
    const CLIENTS: usize = 100;
    let mut group = c.benchmark_group("echo_of_16_bytes");
    for depth in [1, 16] {
        group.throughput(Throughput::Elements((CLIENTS * depth) as u64));
        group.bench_function(BenchmarkId::new("depth", depth), |b| {
            let mut bench = stub::echo(CLIENTS, 16, depth);
            b.iter(|| bench.turn(CLIENTS));
            black_box(bench.delivered());
        });
    }
    group.finish();
}

criterion_group!(benches, publish, echo);
criterion_main!(benches);
