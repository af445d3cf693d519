//! The codec in nanoseconds: `cargo bench -p corecast-bench --bench codec [-- FILTER]`.
//!
//! Unmasking and decoding work in place, so the same buffer is decoded repeatedly: the masks are ASCII, which keeps
//! ASCII text ASCII on every second pass; for other text each pass gets a fresh copy, made outside of the measured
//! time.

use corecast::ws::{Decoder, Event, Opcode, Refusal, RequestBounds, Step, encode, parse_header, unmask, upgrade};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
const MESSAGE_BYTES_MAX: usize = 1 << 20;
const SIZES: [usize; 4] = [16, 256, 4 * 1024, 64 * 1024];

fn client_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::client_frame(&mut out, opcode, payload, MASK);
    out
}

/// Decodes all of `bytes`; returns the bytes of the messages, so that the work is not optimized away.
fn decode_all(decoder: &mut Decoder, mut bytes: &mut [u8]) -> usize {
    let mut payload_bytes = 0;
    while !bytes.is_empty() {
        match decoder.decode(bytes, MESSAGE_BYTES_MAX).expect("the stream is valid") {
            Step::Frame { consumed, event } => {
                payload_bytes += match event {
                    Some(Event::Message { payload, .. }) => payload.len(),
                    Some(Event::Assembled { payload, .. }) => payload.len(),
                    _ => 0,
                };
                bytes = &mut bytes[consumed..];
            }
            Step::Partial { .. } => break,
        }
    }
    payload_bytes
}

fn headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("header");
    for (name, payload_bytes) in [("7 bits", 16), ("16 bits", 1000), ("64 bits", 70_000)] {
        let frame = client_frame(Opcode::Binary, &vec![0; payload_bytes]);
        group.bench_function(name, |b| b.iter(|| parse_header(black_box(&frame))));
    }
    group.finish();
}

fn masks(c: &mut Criterion) {
    let mut group = c.benchmark_group("unmask");
    for size in SIZES {
        let mut bytes = vec![b'x'; size + 1];
        group.throughput(Throughput::Bytes(size as u64));
        // As in a receive buffer, where payloads rarely begin at an aligned address.
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| unmask(black_box(&mut bytes[1..]), black_box(MASK), 0))
        });
    }
    group.finish();
}

fn text(c: &mut Criterion) {
    let mut group = c.benchmark_group("text");
    for size in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        let mut ascii = client_frame(Opcode::Text, &vec![b'x'; size]);
        let mut decoder = Decoder::new();
        group.bench_function(BenchmarkId::new("ascii", size), |b| {
            b.iter(|| decode_all(&mut decoder, black_box(&mut ascii)))
        });
        let letters = "naïve 日本 🦀 plain ".chars().cycle();
        let payload: String = letters.scan(0, |bytes, letter| within(bytes, letter, size)).collect();
        let mixed = client_frame(Opcode::Text, payload.as_bytes());
        group.bench_function(BenchmarkId::new("mixed", size), |b| {
            b.iter_batched_ref(|| mixed.clone(), |mixed| decode_all(&mut decoder, mixed), BatchSize::SmallInput)
        });
    }
    group.finish();
}

/// `letter`, as long as the letters so far stay within `size` bytes.
fn within(bytes: &mut usize, letter: char, size: usize) -> Option<char> {
    *bytes += letter.len_utf8();
    (*bytes <= size).then_some(letter)
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for (name, opcode) in [("binary of 16", Opcode::Binary), ("text of 16", Opcode::Text), ("ping of 16", Opcode::Ping)]
    {
        let mut frame = client_frame(opcode, b"sixteen bytes ok");
        let mut decoder = Decoder::new();
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |b| b.iter(|| decode_all(&mut decoder, black_box(&mut frame))));
    }
    let mut train = client_frame(Opcode::Text, b"sixteen bytes ok").repeat(1000);
    let mut decoder = Decoder::new();
    group.throughput(Throughput::Elements(1000));
    group.bench_function("train of 1,000 texts of 16", |b| b.iter(|| decode_all(&mut decoder, black_box(&mut train))));

    let (stream, frames) = mixed_stream();
    group.throughput(Throughput::Elements(frames));
    group.bench_function("mixed stream", |b| {
        b.iter_batched_ref(|| stream.clone(), |stream| decode_all(&mut decoder, stream), BatchSize::LargeInput)
    });
    group.finish();
}

/// A typical mix of clients: short texts, some longer, some binary, pings, and a few fragments.
fn mixed_stream() -> (Vec<u8>, u64) {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut stream = Vec::new();
    let mut frames = 0;
    let mut add = |opcode, fin: bool, payload: &[u8]| {
        let mut frame = client_frame(opcode, payload);
        frame[0] = if fin { frame[0] } else { frame[0] & 0x7f };
        stream.extend_from_slice(&frame);
        frames += 1;
    };
    for _ in 0..1000 {
        let length = rng.usize(10..200);
        match rng.u8(..20) {
            0..10 => add(Opcode::Text, true, &vec![b'x'; length]),
            10..14 => add(Opcode::Text, true, "größer ".repeat(length / 8).as_bytes()),
            14..17 => add(Opcode::Binary, true, &vec![0xff; 10 * length]),
            17..19 => add(Opcode::Pong, true, b"1234"),
            _ => {
                add(Opcode::Text, false, b"first, ");
                add(Opcode::Ping, true, b"");
                add(Opcode::Continuation, true, b"last");
            }
        }
    }
    (stream, frames)
}

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    let mut out = Vec::with_capacity(128 * 1024);
    for size in [16, 256, 64 * 1024] {
        let payload = vec![b'x'; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("frame", size), |b| {
            b.iter(|| {
                out.clear();
                encode::frame(black_box(&mut out), Opcode::Text, black_box(&payload));
            })
        });
        group.bench_function(BenchmarkId::new("frame_with", size), |b| {
            b.iter(|| {
                out.clear();
                encode::frame_with(black_box(&mut out), Opcode::Text, |out| out.extend_from_slice(black_box(&payload)));
            })
        });
    }
    group.finish();
}

const UPGRADE: &[u8] = b"GET /connection/websocket?cf_protocol=json HTTP/1.1\r\n\
    Host: chat.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: */*\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Origin: https://chat.example.com\r\n\
    Sec-WebSocket-Protocol: centrifuge-json\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Connection: keep-alive, Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    Upgrade: websocket\r\n\r\n";

fn upgrades(c: &mut Criterion) {
    let mut group = c.benchmark_group("upgrade");
    let mut out = Vec::with_capacity(1024);
    group.bench_function("parse", |b| b.iter(|| upgrade::parse(black_box(UPGRADE), &RequestBounds::DEFAULT).is_ok()));
    group.bench_function("parse and accept", |b| {
        b.iter(|| {
            out.clear();
            let request = upgrade::parse(black_box(UPGRADE), &RequestBounds::DEFAULT).expect("valid").expect("whole");
            let upgrade = request.upgrade.expect("an upgrade");
            corecast::ws::accept(&mut out, upgrade.key, upgrade.protocols().next(), None);
            out.len()
        })
    });
    group.bench_function("refuse", |b| {
        b.iter(|| {
            out.clear();
            Refusal::NotFound.write(black_box(&mut out));
        })
    });
    group.finish();
}

criterion_group!(codec, headers, masks, text, decode, encoding, upgrades);
criterion_main!(codec);
