//! The cost of the mailboxes: a message in a batch within one thread, and a round trip between two threads.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use corecast::engine::mailbox::{Bounds, Endpoint, Span, Wake, mesh};
use corecast::ids::ShardId;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

#[derive(Clone, Copy)]
struct TestMessage {
    number: u64,
    text: Span,
}

/// Every shard is awake.
struct NeverAsleep;

impl Wake for NeverAsleep {
    fn wake(&self) {}
}

/// A thread that waits by parking.
struct Parked(Thread);

impl Wake for Parked {
    fn wake(&self) {
        self.0.unpark();
    }
}

const BOUNDS: Bounds = Bounds { mailbox_batches_max: 256 };

/// Post, dispatch, receive, next and recycle, per message of 16 bytes. In both directions, so that memory is recycled.
fn message(c: &mut Criterion) {
    let mut group = c.benchmark_group("mailbox_message");
    for count in [1, 8, 64, 512] {
        group.throughput(Throughput::Elements(2 * count));
        group.bench_function(BenchmarkId::new("batch_of", count), |b| {
            let mut ends = mesh::<TestMessage, _>(vec![NeverAsleep, NeverAsleep], BOUNDS);
            b.iter(|| {
                for from in 0..2 {
                    let to = ShardId(1 - from);
                    let end = &mut ends[usize::from(from)];
                    for number in 0..count {
                        let text = end.put(to, b"sixteen bytes it");
                        end.post(to, TestMessage { number, text });
                    }
                    black_box(end.dispatch());
                    let end = &mut ends[to.index()];
                    let mut batch = end.receive().expect("what was dispatched");
                    while let Some(note) = batch.next() {
                        black_box((note.number, batch.bytes(note.text)));
                    }
                    end.recycle(batch);
                }
            });
        });
    }
    group.finish();
}

fn send<W: Wake>(end: &mut Endpoint<TestMessage, W>, to: u16, number: u64) {
    let text = end.put(ShardId(to), b"sixteen bytes it");
    end.post(ShardId(to), TestMessage { number, text });
    end.dispatch();
}

/// The next message; polls `patience` times before it sleeps.
fn await_one<W: Wake>(end: &mut Endpoint<TestMessage, W>, patience: u32, ended: &AtomicBool) -> Option<u64> {
    loop {
        for _ in 0..=patience {
            if let Some(mut batch) = end.receive() {
                let number = batch.next().map(|note| note.number);
                end.recycle(batch);
                return number;
            }
            std::hint::spin_loop();
        }
        if ended.load(Ordering::Relaxed) {
            return None;
        }
        if end.may_sleep() {
            thread::park_timeout(Duration::from_millis(100));
            end.awake();
        }
    }
}

/// A round trip between two threads: both awake, and both asleep in between.
fn round_trip(c: &mut Criterion) {
    let mut group = c.benchmark_group("mailbox_round_trip");
    for (name, patience) in [("awake", 10_000), ("asleep", 0)] {
        group.bench_function(name, |b| {
            let ended = Arc::new(AtomicBool::new(false));
            let (give, get) = crossbeam_channel::bounded::<Endpoint<TestMessage, Parked>>(1);
            let peer = {
                let ended = Arc::clone(&ended);
                thread::spawn(move || {
                    let Ok(mut end) = get.recv() else { return };
                    while let Some(number) = await_one(&mut end, patience, &ended) {
                        send(&mut end, 0, number);
                    }
                })
            };
            let wakers = vec![Parked(thread::current()), Parked(peer.thread().clone())];
            let [mut end, other] = mesh(wakers, BOUNDS).try_into().unwrap_or_else(|_| unreachable!("two wakers"));
            give.send(other).unwrap_or_else(|_| unreachable!("the peer waits for its end"));
            let mut number = 0;
            b.iter(|| {
                number += 1;
                send(&mut end, 1, number);
                assert_eq!(await_one(&mut end, patience, &ended), Some(number));
            });
            ended.store(true, Ordering::Relaxed);
            peer.thread().unpark();
            peer.join().expect("the peer ends");
        });
    }
    group.finish();
}

criterion_group!(benches, message, round_trip);
criterion_main!(benches);
