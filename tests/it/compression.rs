//! permessage-deflate (RFC 7692) over real sockets: the negotiation, which messages are compressed, which input is
//! rejected, and that a publication is compressed once for all subscribers.

use crate::common::raw::upgrade_with;
use crate::common::{BINARY, CONTINUATION, Client, Frame, PING, PONG, Raw, Server, TEXT, frame, frame_part};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::json;

const ON: (&str, &str) = ("websocket.compression", "true");
const RSV1: u8 = 0x40;
const OFFER: &str = "permessage-deflate; client_max_window_bits";

fn deflated(message: &[u8]) -> Vec<u8> {
    deflated_by(&mut Compress::new(Compression::new(6), false), message)
}

fn deflated_by(compress: &mut Compress, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 100);
    compress.compress_vec(message, &mut out, FlushCompress::Sync).unwrap();
    out.truncate(out.len() - 4);
    out
}

fn inflated(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    let whole = [message, &[0, 0, 0xff, 0xff]].concat();
    Decompress::new(false).decompress_vec(&whole, &mut out, FlushDecompress::Sync).unwrap();
    out
}

/// An open WebSocket, and the server's response to the offer.
fn open(server: &Server, path: &str, offer: &str) -> (Raw, Option<String>) {
    let mut raw = Raw::connect(server);
    raw.send(upgrade_with(path, &[("Sec-WebSocket-Extensions", offer)]).as_bytes());
    let head = raw.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let extensions = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: ")).map(str::to_owned);
    (raw, extensions)
}

fn text(n: usize) -> Vec<u8> {
    "all the same, and again ".bytes().cycle().take(n).collect()
}

/// The message of the next frame, inflated if it is compressed.
fn message(raw: &mut Raw) -> (bool, Vec<u8>) {
    let (compressed, Frame { payload, .. }) = raw.extended_frame();
    (compressed, if compressed { inflated(&payload) } else { payload })
}

#[test]
fn extension_is_negotiated_only_on_request() {
    let server = Server::start();
    assert_eq!(open(&server, "/echo", OFFER).1, None, "off by default");
    let server = Server::with(&[ON]);
    assert_eq!(open(&server, "/echo", "permessage-deflate; nonsense").1, None);
    let mut raw = Raw::open(&server, "/echo");
    raw.send(&frame(RSV1 | TEXT, &deflated(b"x")));
    assert!(raw.frame().is_close(1002), "RSV1 means nothing here");
}

#[test]
fn echo_is_compressed_above_min_bytes() {
    let server = Server::with(&[ON]);
    let (mut raw, extensions) = open(&server, "/echo", OFFER);
    let extensions = extensions.expect("the offer contains it");
    assert_eq!(extensions, "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    for n in [0, 1, 255, 256, 5_000, 65_536] {
        let sent = text(n);
        raw.send(&frame(RSV1 | TEXT, &deflated(&sent)));
        assert_eq!(message(&mut raw), (n >= 256, sent.clone()), "{n}");
        // Uncompressed messages are accepted as well.
        raw.send(&frame(TEXT, &sent));
        assert_eq!(message(&mut raw), (n >= 256, sent), "{n}");
    }
    // A message that deflate does not make smaller is sent uncompressed.
    let mut noise = vec![0; 3_000];
    fastrand::Rng::with_seed(5).fill(&mut noise);
    raw.send(&frame(RSV1 | BINARY, &deflated(&noise)));
    assert_eq!(message(&mut raw), (false, noise));
}

#[test]
fn compressed_message_may_arrive_in_fragments_and_byte_by_byte() {
    let server = Server::with(&[ON]);
    let (mut raw, _) = open(&server, "/echo", OFFER);
    let (sent, key) = (text(700), [1, 2, 3, 4]);
    let packed = deflated(&sent);
    let (first, last) = packed.split_at(packed.len() / 2);
    raw.send(&frame_part(RSV1 | TEXT, false, first, key));
    raw.send(&frame(PING, b"between"));
    assert_eq!(raw.frame(), Frame::new(PONG, "between"));
    raw.send(&frame_part(CONTINUATION, false, b"", key));
    raw.send_byte_by_byte(&frame_part(CONTINUATION, true, last, key));
    assert_eq!(message(&mut raw), (true, sent));
}

#[test]
fn reserved_bits_bad_data_bad_text_and_bombs_close_with_their_codes() {
    let server = Server::with(&[ON, ("websocket.decompressed_message_size_limit", "10000")]);
    let bomb = deflated(&vec![b'x'; 10_001]);
    let cut = deflated("ä".repeat(300).as_bytes()[..599].as_ref());
    for (what, bytes, code) in [
        (
            "RSV1 on a continuation",
            [frame_part(RSV1 | TEXT, false, &deflated(b"ab"), [0; 4]), frame(RSV1, b"")].concat(),
            1002,
        ),
        ("RSV1 on a ping", frame(RSV1 | PING, b""), 1002),
        ("RSV2", frame(0x20 | TEXT, b""), 1002),
        ("no DEFLATE data", frame(RSV1 | BINARY, &[0xff; 9]), 1007),
        ("half a character", frame(RSV1 | TEXT, &cut), 1007),
        ("more than may be", frame(RSV1 | BINARY, &bomb), 1009),
    ] {
        let (mut raw, _) = open(&server, "/echo", OFFER);
        raw.send(&bytes);
        assert!(raw.frame().is_close(code), "{what}");
        raw.expect_end();
    }
    let (mut raw, _) = open(&server, "/echo", OFFER);
    raw.send(&frame(RSV1 | BINARY, &deflated(&vec![b'x'; 10_000])));
    assert_eq!(message(&mut raw).1.len(), 10_000, "the others are served");
}

#[test]
fn many_small_bombs_in_one_read_are_all_answered() {
    let server = Server::with(&[ON]);
    let (mut raw, _) = open(&server, "/echo", OFFER);
    let one = frame(RSV1 | BINARY, &deflated(&vec![b'x'; 60_000]));
    raw.send(&one.repeat(200));
    for _ in 0..200 {
        assert_eq!(message(&mut raw).1.len(), 60_000);
    }
    assert_eq!(server.metric("corecast_spill_bytes", ""), 0);
}

#[test]
fn context_takeover_follows_the_setting_and_contexts_are_freed() {
    let both = [
        ON,
        ("websocket.compression_server_takeover", "true"),
        ("websocket.compression_client_takeover", "true"),
        ("websocket.compression_contexts_max", "1"),
    ];
    let server = Server::with(&both);
    let (mut raw, extensions) = open(&server, "/echo", OFFER);
    assert_eq!(extensions.as_deref(), Some("permessage-deflate"));
    let (mut ours, mut theirs) = (Compress::new(Compression::new(6), false), Decompress::new(false));
    let sent = text(2_000);
    let mut lengths = Vec::new();
    for _ in 0..3 {
        raw.send(&frame(RSV1 | TEXT, &deflated_by(&mut ours, &sent)));
        let (compressed, Frame { payload, .. }) = raw.extended_frame();
        assert!(compressed);
        lengths.push(payload.len());
        let mut out = Vec::with_capacity(1 << 16);
        let whole = [&payload[..], &[0, 0, 0xff, 0xff]].concat();
        theirs.decompress_vec(&whole, &mut out, FlushDecompress::Sync).unwrap();
        assert_eq!(out, sent);
    }
    assert!(lengths[1] < lengths[0], "the second refers to the first: {lengths:?}");
    // Past the bound, which each of the two shards has, the server compresses without contexts.
    let others: Vec<_> = (0..8).map(|_| open(&server, "/echo", OFFER)).collect();
    let without =
        others.iter().filter(|(_, accepted)| accepted.as_ref().is_some_and(|text| text.contains("server_no_context")));
    assert!(without.count() >= 7);
    assert!((1..=2).contains(&server.metric("corecast_deflate_contexts", "")));
    drop(others);
    drop(raw);
    server.wait_for_metric("corecast_deflate_contexts", "", |contexts| contexts == 0);
}

#[test]
fn one_deflate_serves_all_subscribers_of_a_window() {
    let server = Server::with(&[&crate::common::PLAIN[..], &[ON]].concat());
    let path = "/connection/websocket";
    let subscribe = |raw: &mut Raw| {
        raw.send(&frame(TEXT, br#"{"id":1,"connect":{}}"#));
        assert!(String::from_utf8(message(raw).1).unwrap().contains(r#""id":1"#));
        raw.send(&frame(TEXT, br#"{"id":2,"subscribe":{"channel":"news"}}"#));
        assert!(String::from_utf8(message(raw).1).unwrap().contains(r#""id":2"#));
    };
    let mut all: Vec<Raw> = (0..20).map(|_| open(&server, path, OFFER).0).collect();
    let mut small: Vec<Raw> =
        (0..3).map(|_| open(&server, path, "permessage-deflate; server_max_window_bits=10").0).collect();
    let mut plain = Client::connect(&server);
    plain.subscribe("news");
    all.iter_mut().chain(&mut small).for_each(subscribe);
    let before = server.metric("corecast_deflates_total", "");
    let long = "the same words, the same words, ".repeat(40);
    for n in 0..5 {
        server.api("publish", &json!({"channel": "news", "data": {"n": n, "text": long}}));
    }
    server.api("publish", &json!({"channel": "news", "data": {"n": 5}}));
    for raw in all.iter_mut().chain(&mut small) {
        for n in 0..6 {
            let (compressed, bytes) = message(raw);
            let push: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(push["push"]["pub"]["data"]["n"], n);
            assert_eq!(compressed, n < 5, "short messages are not compressed");
        }
    }
    for n in 0..6 {
        assert_eq!(plain.publication().1["n"], n);
    }
    assert_eq!(server.metric("corecast_deflates_total", "") - before, 5 * 2, "one deflate per publication and window");
}
