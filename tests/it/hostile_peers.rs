//! Hostile peers: silent, slow, resetting, flooding, or never reading. Honest clients are served in the meantime;
//! afterwards sockets, slots and memory are free again.

use crate::common::raw::upgrade_request;
use crate::common::{
    BINARY, CLOSE, CONTINUATION, Client, Frame, PING, PONG, Raw, Server, TEXT, frame, frame_part, until,
};
use serde_json::json;

/// No channel and no client of the test remains, and a new client is served.
fn assert_nothing_left(server: &Server, descriptors: usize) {
    for gauge in ["connections", "subscriptions", "channels", "backlog_bytes", "spill_bytes"] {
        server.wait_for_metric(&format!("corecast_{gauge}"), "", |n| n == 0);
    }
    // One more may be a connection to the admin address that is being closed.
    until(
        || format!("{} descriptors are open, {descriptors} were", server.descriptors()),
        || (server.descriptors() <= descriptors + 1).then_some(()),
    );
    assert_honest_is_served(server);
}

fn assert_honest_is_served(server: &Server) {
    let mut raw = Raw::open(server, "/echo");
    raw.send(&frame(TEXT, b"echo"));
    assert_eq!(raw.frame(), Frame::new(TEXT, "echo"));
    raw.send(&frame(CLOSE, &1000u16.to_be_bytes()));
    assert!(raw.frame().is_close(1000));
    raw.expect_end();
}

fn plain(more: &[(&str, &str)]) -> Server {
    Server::with(&[&crate::common::PLAIN[..], more].concat())
}

#[test]
fn thousands_of_half_open_handshakes_time_out() {
    let server = plain(&[("engine.upgrade_timeout", "2s"), ("engine.linger_timeout", "100ms")]);
    let descriptors = server.descriptors();
    let head = upgrade_request("/echo");
    let mut half: Vec<Raw> = Vec::new();
    for n in 0..1_500 {
        let mut raw = Raw::connect(&server);
        raw.send(&head.as_bytes()[..[0, 1, head.len() / 2][n % 3]]);
        half.push(raw);
        if n % 100 == 0 {
            assert_honest_is_served(&server);
        }
    }
    server.wait_for_metric("corecast_connections_refused_total", "reason=\"timeout\"", |n| n == 1_500);
    let answered = half.iter_mut().filter_map(|raw| raw.rest().ok()).filter(|rest| rest.starts_with(b"HTTP/1.1 408 "));
    assert_eq!(answered.count(), 1_500, "each gets a response");
    drop(half);
    assert_nothing_left(&server, descriptors);
}

#[test]
fn slow_heads_of_many_connections_are_bounded_and_ordinary_ones_are_served() {
    const BOUND: u64 = 1024 * 1024;
    let server = plain(&[("engine.pending_heads_bytes_max", "1MiB"), ("engine.upgrade_timeout", "60s")]);
    let descriptors = server.descriptors();
    let start = format!("GET /echo HTTP/1.1\r\nHost: t\r\nCookie: {}", "c".repeat(20_000));
    let slow: Vec<Raw> = (0..200)
        .map(|_| {
            let mut raw = Raw::connect(&server);
            // In pieces, so that the kept head grows.
            start.as_bytes().chunks(6_000).for_each(|piece| raw.send(piece));
            raw
        })
        .collect();
    let refused = "corecast_connections_refused_total";
    server.wait_for_metric(refused, "reason=\"full\"", |n| n >= 200 - 2 * BOUND / 20_000);
    assert!(server.metric("corecast_limit_reached_total", "engine.pending_heads_bytes_max") > 0);
    assert!(server.metric("corecast_spill_bytes", "") <= 2 * BOUND);
    let head = upgrade_request("/echo");
    for _ in 0..10 {
        let mut honest = Raw::connect(&server);
        honest.send(&head.as_bytes()[..100]);
        honest.send(&head.as_bytes()[100..]);
        honest.take_upgrade();
    }
    drop(slow);
    assert_nothing_left(&server, descriptors);
}

#[test]
fn byte_by_byte_sessions_of_many_clients_are_served() {
    let server = plain(&[]);
    let descriptors = server.descriptors();
    let close = frame(CLOSE, &1000u16.to_be_bytes());
    let session = [upgrade_request("/echo").into_bytes(), frame(TEXT, "grüße".as_bytes()), close].concat();
    let mut many: Vec<Raw> = (0..100).map(|_| Raw::connect(&server)).collect();
    for byte in session.chunks(1) {
        many.iter_mut().for_each(|raw| raw.send(byte));
    }
    for raw in &mut many {
        raw.take_upgrade();
        assert_eq!(raw.frame(), Frame::new(TEXT, "grüße"));
        assert!(raw.frame().is_close(1000));
        raw.expect_end();
    }
    drop(many);
    assert_nothing_left(&server, descriptors);
}

#[test]
fn resets_at_any_time_free_the_connections() {
    let server = plain(&[("client.queue_max_size", "64KiB")]);
    let descriptors = server.descriptors();
    let head = upgrade_request("/echo");
    let mut listener = Client::connect(&server);
    listener.subscribe("news");
    for round in 0..100 {
        let mut upgrading = Raw::connect(&server);
        upgrading.send(&head.as_bytes()[..head.len() - 1 - round]);
        upgrading.reset();
        let mut framing = Raw::open(&server, "/echo");
        framing.send(&frame(BINARY, &[7; 40_000])[..1 + 390 * round]);
        framing.reset();
        // With unread echoes.
        let mut unread = Raw::open(&server, "/echo");
        unread.send(&frame(BINARY, &[7; 60_000]));
        unread.reset();
        // In the middle of a fan-out.
        let mut subscriber = Raw::open(&server, "/connection/websocket");
        subscriber.send(&frame(TEXT, b"{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}"));
        server.api("publish", &json!({"channel": "news", "data": round}));
        subscriber.reset();
        assert_eq!(listener.publication().1, json!(round));
    }
    drop(listener);
    assert_nothing_left(&server, descriptors);
}

#[test]
fn floods_of_control_frames_and_empty_fragments_are_bounded() {
    let server = plain(&[]);
    let descriptors = server.descriptors();
    // A client that sends pings must read the pongs; this one reads them after it has sent all pings, as far as the
    // bound allows.
    let mut pings = Raw::open(&server, "/echo");
    for _ in 0..20 {
        pings.send(&frame(PING, b"p").repeat(1_000));
        for _ in 0..1_000 {
            assert_eq!(pings.frame(), Frame::new(PONG, "p"));
        }
    }
    let mut pongs = Raw::open(&server, "/echo");
    pongs.send(&frame(PONG, &[b'p'; 125]).repeat(20_000));
    pongs.send(&frame(TEXT, b"still here"));
    assert_eq!(pongs.frame(), Frame::new(TEXT, "still here"));
    let mut fragments = Raw::open(&server, "/echo");
    fragments.send(&frame_part(TEXT, false, b"a", [0; 4]));
    fragments.send(&frame_part(CONTINUATION, false, b"", [0; 4]).repeat(65_536));
    fragments.send(&frame_part(CONTINUATION, true, b"b", [0; 4]));
    assert_eq!(fragments.frame(), Frame::new(TEXT, "ab"));
    // An endless message, up to the bound.
    let mut endless = Raw::open(&server, "/echo");
    endless.send(&frame_part(BINARY, false, b"", [0; 4]));
    endless.send(&frame_part(CONTINUATION, false, &[0; 1024], [0; 4]).repeat(65));
    assert!(endless.frame().is_close(1009));
    drop((pings, pongs, fragments, endless));
    assert_nothing_left(&server, descriptors);
}

#[test]
fn subscribers_that_never_read_are_bounded_during_fan_out() {
    const HONEST: usize = 40;
    const SILENT: usize = 40;
    const BOUND: u64 = 64 * 1024;
    let bounds = [("client.queue_max_size", "64KiB"), ("engine.close_timeout", "1s"), ("engine.linger_timeout", "1s")];
    let server = plain(&bounds);
    let descriptors = server.descriptors();
    let silent: Vec<Raw> = (0..SILENT)
        .map(|_| {
            let mut raw = Raw::open(&server, "/connection/websocket");
            raw.send(&frame(TEXT, b"{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}"));
            raw
        })
        .collect();
    let mut honest: Vec<Client> = (0..HONEST).map(|_| Client::connect(&server)).collect();
    honest.iter_mut().for_each(|client| client.subscribe("news"));
    server.wait_for_metric("corecast_subscriptions", "", |n| n == (HONEST + SILENT) as u64);
    let text = "x".repeat(32 * 1024);
    let mut most = 0;
    for n in 0..400 {
        server.api("publish", &json!({"channel": "news", "data": {"n": n, "text": text}}));
        for client in &mut honest {
            assert_eq!(client.publication().1["n"], json!(n));
        }
        if n % 20 == 0 {
            most = most.max(server.metric("corecast_backlog_bytes", ""));
        }
    }
    // A queue accepts one item beyond its bound.
    assert!(most <= SILENT as u64 * (BOUND + 2 * 33 * 1024), "{most} bytes waited");
    server.wait_for_metric("corecast_connections_closed_total", "reason=\"slow\"", |n| n == SILENT as u64);
    drop((silent, honest));
    assert_nothing_left(&server, descriptors);
}

#[test]
fn ten_thousand_connects_and_disconnects_leak_no_memory() {
    let server = plain(&[]);
    let descriptors = server.descriptors();
    let mut channel = 0;
    let mut come_and_go = |rounds: usize| {
        for _ in 0..rounds {
            // Clients that connect and disconnect together, each with its own channel and the common one.
            let mut clients: Vec<Raw> = (0..50).map(|_| Raw::open(&server, "/connection/websocket")).collect();
            for raw in &mut clients {
                channel += 1;
                let commands = format!(
                    "{{\"id\":1,\"connect\":{{}}}}\n{{\"id\":2,\"subscribe\":{{\"channel\":\"own{channel}\"}}}}\n\
                     {{\"id\":3,\"subscribe\":{{\"channel\":\"all\"}}}}\n{{\"id\":4,\"unsubscribe\":{{\"channel\":\"all\"}}}}"
                );
                raw.send(&frame(TEXT, commands.as_bytes()));
            }
            for raw in &mut clients {
                while !String::from_utf8_lossy(&raw.frame().payload).contains("\"id\":4") {}
            }
        }
        server.wait_for_metric("corecast_connections", "", |n| n == 0);
        server.memory_bytes()
    };
    let warm = come_and_go(20);
    let after = come_and_go(180);
    // Ten times as many use the memory that the first thousand needed.
    assert!(after < warm + 4 * 1024 * 1024, "{warm} bytes, then {after}");
    assert_nothing_left(&server, descriptors);
}

#[test]
fn floods_of_publications_between_shards_are_bounded() {
    let server = plain(&[
        ("engine.mailbox_batches_max", "2"),
        ("engine.mail_bytes_max", "64KiB"),
        ("engine.turn_bytes_max", "64KiB"),
        // Mail that does not fit into the other shard's mailbox is sent later from this shard.
        ("channel.without_namespace.history_size", "100"),
        ("channel.without_namespace.history_ttl", "10s"),
        ("channel.without_namespace.history_meta_ttl", "10s"),
    ]);
    let mut honest = Client::pair(&server);
    honest[1].subscribe("echo");
    let (descriptors, memory) = (server.descriptors(), server.memory_bytes());
    let mut floods: Vec<Raw> = (0..30).map(|_| Raw::open(&server, "/connection/websocket")).collect();
    std::thread::scope(|scope| {
        for (n, raw) in floods.iter_mut().enumerate() {
            scope.spawn(move || {
                raw.send(&frame(TEXT, b"{\"id\":1,\"connect\":{}}"));
                for i in 0..200 {
                    // Channels of both home shards: half of the publications to a shard are for the other one.
                    let data = json!({"channel": format!("flood{}", (n + i) % 16), "data": "f".repeat(6_000)});
                    raw.send(&frame(TEXT, json!({"id": i + 2, "publish": data}).to_string().as_bytes()));
                }
            });
        }
        for n in 0..50 {
            let reply = honest[0].ask(json!({"publish": {"channel": "echo", "data": n}}));
            assert!(reply["publish"].is_object(), "{reply}");
            assert_eq!(honest[1].publication().1, n);
            assert!(server.memory_bytes() <= memory + (32 << 20), "{} bytes, {memory} before", server.memory_bytes());
        }
    });
    server.wait_for_metric("corecast_publications_total", "", |n| n >= 30 * 200 + 50);
    drop((floods, honest));
    assert_nothing_left(&server, descriptors);
}
