//! Limits per client address, and where the address comes from: the socket, or a trusted proxy.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use crate::common::{Frame, PATIENCE, Raw, Server, TEXT, command, frame, stream};
use socket2::{Domain, Socket, Type};

const NO_EXEMPTIONS: (&str, &str) = ("limits.exempt", "[]");
const TWO_EACH: (&str, &str) = ("limits.connections_per_address", "2");

fn request(fields: &str) -> String {
    format!(
        "GET /echo HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{fields}\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// A socket with one of the many loopback addresses of this machine.
fn from(address: &str, server: SocketAddr) -> Raw {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let address: IpAddr = address.parse().expect("an address");
    socket.bind(&SocketAddr::new(address, 0).into()).expect("an address of this machine");
    socket.connect(&server.into()).expect("the server listens");
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    Raw(socket)
}

/// Opens a WebSocket, with these bytes before the request and these header fields in it. Returns the socket and the
/// status of the response.
fn open(mut raw: Raw, before: &[u8], fields: &str) -> (Raw, u16) {
    // The server rejects a connection before it reads a byte.
    let _ = raw.0.write_all(&[before, request(fields).as_bytes()].concat());
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(raw.0.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let status = head.split(' ').nth(1).map_or(0, |status| status.parse().expect("a status"));
    assert_eq!(status == 429, head.contains("\r\nRetry-After: "), "{head}");
    (raw, status)
}

fn echoes(raw: &mut Raw) {
    raw.send(&frame(TEXT, b"here"));
    assert_eq!(raw.frame(), Frame::new(TEXT, "here"));
}

fn refusals(server: &Server, reason: &str) -> u64 {
    server.metric("corecast_connections_refused_total", &format!("reason=\"{reason}\""))
}

#[test]
fn any_address_serves_both_families_and_counts_their_clients_apart() {
    let mut command = command(&["--listen", "[::]:0", "--admin", "127.0.0.1:0", "--shards", "1"]);
    command.env("CORECAST_OVERSUBSCRIBE", "true");
    let server = Server::spawn(command, &[NO_EXEMPTIONS, TWO_EACH]);
    let at = |ip: [u8; 4]| SocketAddr::from((ip, server.client.port()));
    // Within an IPv6 address they would share one /64.
    let mut held = Vec::new();
    for address in ["127.0.0.2", "127.0.0.2", "127.0.0.3"] {
        let (raw, status) = open(from(address, at([127, 0, 0, 1])), b"", "");
        assert_eq!(status, 101, "{address}");
        held.push(raw);
    }
    assert_eq!(open(from("127.0.0.2", at([127, 0, 0, 1])), b"", "").1, 429);
    if server.client.is_ipv6() {
        let socket = TcpStream::connect(("::1", server.client.port())).expect("IPv6 is served");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let (mut raw, status) = open(Raw(socket), b"", "");
        assert_eq!(status, 101);
        echoes(&mut raw);
    }
    held.iter_mut().for_each(echoes);
}

/// A server whose only listener requires the PROXY header.
fn behind_a_proxy(settings: &[(&str, &str)]) -> Server {
    let mut command = command(&["--listen", "proxy:127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1"]);
    command.env("CORECAST_OVERSUBSCRIBE", "true");
    Server::spawn(command, settings)
}

fn line(address: &str) -> Vec<u8> {
    format!("PROXY TCP4 {address} 127.0.0.1 4711 80\r\n").into_bytes()
}

#[test]
fn connections_per_address_are_limited_across_shards() {
    let server = Server::with(&[NO_EXEMPTIONS, TWO_EACH]);
    let connect = |address| open(from(address, server.client), b"", "");
    let mut held: Vec<_> = (0..2).map(|_| connect("127.0.0.2")).collect();
    assert!(held.iter().all(|(_, status)| *status == 101));
    for _ in 0..5 {
        assert!([429, 0].contains(&connect("127.0.0.2").1));
    }
    let (mut other, status) = connect("127.0.0.3");
    assert_eq!(status, 101);
    echoes(&mut other);
    assert_eq!(refusals(&server, "address"), 5);
    assert_eq!(server.metric("corecast_limit_reached_total", "limits.connections_per_address"), 5);
    assert!(server.wait_for_log("limit limits.connections_per_address reached 1 times").contains("127.0.0.2"));
    held.pop();
    server.wait_for_metric("corecast_connections", "", |n| n == 2);
    assert_eq!(connect("127.0.0.2").1, 101);
}

#[test]
fn handshakes_per_address_are_rate_limited() {
    let limits = [("limits.handshakes_per_address", "1"), ("limits.handshakes_per_address_burst", "3"), NO_EXEMPTIONS];
    let server = Server::with(&limits);
    let connect = |address| open(from(address, server.client), b"", "").1;
    let passed = (0..9).filter(|_| connect("127.0.0.2") == 101).count();
    // Three at once, and those that the rate has allowed since.
    assert!((3..9).contains(&passed), "{passed}");
    assert_eq!(connect("127.0.0.3"), 101);
    assert_eq!(refusals(&server, "address_rate"), 9 - passed as u64);
    crate::common::until(|| "it is never due again".into(), || (connect("127.0.0.2") == 101).then_some(()));
}

#[test]
fn loopback_is_exempt_by_default() {
    let server = Server::with(&[TWO_EACH]);
    let held: Vec<_> = (0..9).map(|_| open(from("127.0.0.2", server.client), b"", "")).collect();
    assert!(held.iter().all(|(_, status)| *status == 101));
}

#[test]
fn proxy_header_sets_the_client_address() {
    let server = behind_a_proxy(&[NO_EXEMPTIONS, TWO_EACH]);
    let connect = |before: &[u8]| open(from("127.0.0.1", server.client), before, "");
    let mut held: Vec<_> = (0..2).map(|_| connect(&line("203.0.113.9"))).collect();
    held.iter_mut().for_each(|(raw, status)| {
        assert_eq!(*status, 101);
        echoes(raw);
    });
    assert_eq!(connect(&line("203.0.113.9")).1, 429);
    // The same address in the binary form.
    let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    binary.extend([203, 0, 113, 9, 127, 0, 0, 1, 0x12, 0x67, 0, 80]);
    assert_eq!(connect(&binary).1, 429);
    binary[16..20].copy_from_slice(&[203, 0, 113, 10]);
    let (mut other, status) = connect(&binary);
    assert_eq!(status, 101);
    echoes(&mut other);
    assert!(server.wait_for_log("limit limits.connections_per_address reached 1 times").contains("203.0.113.9"));
}

#[test]
fn proxy_header_may_arrive_byte_by_byte() {
    let server = behind_a_proxy(&[]);
    let mut raw = from("127.0.0.1", server.client);
    raw.0.set_nodelay(true).expect("TCP");
    raw.send_byte_by_byte(&line("203.0.113.9"));
    raw.send_byte_by_byte(request("").as_bytes());
    raw.take_upgrade();
    echoes(&mut raw);
    let (mut glued, status) = open(from("127.0.0.1", server.client), b"PROXY UNKNOWN\r\n", "");
    assert_eq!(status, 101);
    echoes(&mut glued);
}

#[test]
fn connection_without_the_required_proxy_header_is_closed_and_counted() {
    let server = behind_a_proxy(&[("engine.upgrade_timeout", "200ms")]);
    for before in [&b""[..], b"PROXY TCP4 nowhere\r\n", b"\r\n\r\n\0\r\nQUIT\n\x11"] {
        let (_, status) = open(from("127.0.0.1", server.client), before, "");
        assert_eq!(status, 0, "{before:?}");
    }
    // A header that arrives late, and a connection that closes before the header is complete.
    let mut late = from("127.0.0.1", server.client);
    late.send(b"PROXY TCP4 ");
    let mut gone = from("127.0.0.1", server.client);
    gone.send(b"PROXY TCP4 ");
    gone.0.shutdown(std::net::Shutdown::Write).expect("a socket");
    assert!(late.rest().map_or(true, |rest| rest.is_empty()), "an end or a reset without a response");
    server.wait_for_metric("corecast_connections_refused_total", "proxy_header", |n| n == 5);
    let (mut raw, status) = open(from("127.0.0.1", server.client), &line("203.0.113.9"), "");
    assert_eq!(status, 101);
    echoes(&mut raw);
}

#[test]
fn proxy_header_on_a_plain_listener_is_rejected() {
    let server = Server::start();
    assert_eq!(open(from("127.0.0.1", server.client), &line("203.0.113.9"), "").1, 400);
}

#[test]
fn forwarded_for_of_a_trusted_proxy_names_the_client_and_others_are_ignored() {
    let server = Server::with(&[NO_EXEMPTIONS, TWO_EACH, ("limits.trusted_proxies", "127.0.0.1, 10.0.0.0/8")]);
    let connect = |peer, fields: &str| open(from(peer, server.client), b"", fields);
    let held: Vec<_> = ["9.9.9.9, 203.0.113.9", "1.2.3.4, 203.0.113.9, 10.0.0.1"]
        .map(|chain| connect("127.0.0.1", &format!("X-Forwarded-For: {chain}\r\n")))
        .into_iter()
        .collect();
    assert!(held.iter().all(|(_, status)| *status == 101));
    assert_eq!(connect("127.0.0.1", "X-Forwarded-For: 203.0.113.9\r\n").1, 429);
    assert_eq!(connect("127.0.0.1", "X-Forwarded-For: 203.0.113.10\r\n").1, 101);
    // The address of an untrusted peer is its own, whatever header it sends.
    let untrusted: Vec<_> =
        (0..3).map(|n| connect("127.0.0.2", &format!("X-Forwarded-For: 198.51.100.{n}\r\n"))).collect();
    let passed = untrusted.iter().filter(|(_, status)| *status == 101).count();
    assert_eq!(passed, 2);
}

/// A request for a session that does not exist, whose body is sent when the server has read the head.
fn ask_in_two_parts(raw: &mut Raw, fields: &[(&str, &str)]) -> u16 {
    let body = br#"{"session":"s","node":"n","data":""}"#;
    let request = stream::request("POST", "/emulation", &[&[("Expect", "100-continue")], fields].concat(), body);
    let (head, body) = request.split_at(request.len() - body.len());
    raw.send(head);
    assert_eq!(raw.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    raw.send(body);
    stream::read_response(&mut raw.0).0
}

/// Connections of a trusted proxy count for the clients of their requests.
fn trusting_server() -> Server {
    let trusted = ("limits.trusted_proxies", "127.0.0.1");
    Server::with(&[NO_EXEMPTIONS, TWO_EACH, trusted, ("http_stream.enabled", "true")])
}

#[test]
fn request_that_is_read_in_parts_counts_once_and_until_its_answer() {
    let server = trusting_server();
    let connect = |fields: &str| open(from("127.0.0.1", server.client), b"", fields);
    let mut upstream = from("127.0.0.1", server.client);
    for (fields, name) in [(&[][..], ""), (&[("X-Forwarded-For", "203.0.113.9")], "X-Forwarded-For: 203.0.113.9\r\n")] {
        for _ in 0..5 {
            assert_eq!(ask_in_two_parts(&mut upstream, fields), 404);
        }
        // Nothing of the answered requests counts.
        let held: Vec<_> = (0..2).map(|_| connect(name)).collect();
        assert!(held.iter().all(|(_, status)| *status == 101), "{name}");
        assert_eq!(connect(name).1, 429, "{name}");
    }
    assert_eq!(refusals(&server, "address"), 2);
}

#[test]
fn each_request_of_a_proxy_names_its_own_client() {
    let server = trusting_server();
    let mut upstream = from("127.0.0.1", server.client);
    assert_eq!(ask_in_two_parts(&mut upstream, &[("X-Forwarded-For", "203.0.113.9")]), 404);
    let name = "X-Forwarded-For: 203.0.113.10\r\n";
    let held: Vec<_> = (0..2).map(|_| open(from("127.0.0.1", server.client), b"", name)).collect();
    assert!(held.iter().all(|(_, status)| *status == 101));
    assert_eq!(ask_in_two_parts(&mut upstream, &[("X-Forwarded-For", "203.0.113.11")]), 404);
    upstream.send(&stream::request("POST", "/emulation", &[("X-Forwarded-For", "203.0.113.10")], b"{}"));
    assert_eq!(stream::read_response(&mut upstream.0).0, 429);
    assert!(server.wait_for_log("limit limits.connections_per_address reached 1 times").contains("203.0.113.10"));
}
