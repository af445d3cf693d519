//! A listener on a path instead of a port: all shards accept from one unix socket.

use std::os::unix::net::UnixStream;

use crate::common::{PATIENCE, Server, SocketPath, command, ws};
use tungstenite::{Message, WebSocket};

fn connect(path: &SocketPath) -> WebSocket<UnixStream> {
    let socket = UnixStream::connect(&path.0).expect("the server listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    tungstenite::client("ws://t/echo", socket).expect("an upgrade").0
}

fn serve(listen: &[&str]) -> Server {
    let mut args = vec!["--admin", "127.0.0.1:0", "--shards", "2", "--oversubscribe"];
    listen.iter().for_each(|at| args.extend(["--listen", at]));
    Server::spawn(command(&args), &[])
}

fn echoes(ws: &mut WebSocket<UnixStream>, text: &str) {
    ws.send(Message::text(text)).unwrap();
    assert_eq!(ws.read().unwrap(), Message::text(text));
}

#[test]
fn unix_socket_echoes() {
    let place = SocketPath::new("echo");
    let server = serve(&[&place.listen()]);
    let mut many: Vec<_> = (0..20).map(|_| connect(&place)).collect();
    for ws in &mut many {
        echoes(ws, "over a path");
        echoes(ws, &"long ".repeat(10_000));
    }
    for mut ws in many {
        ws.close(None).unwrap();
        while ws.read().is_ok() {}
    }
    server.wait_for_metric("corecast_connections", "", |n| n == 0);
    server.wait_for_metric("corecast_connections_closed_total", "reason=\"by_peer\"", |n| n == 20);
}

#[test]
fn port_and_path_are_served_together() {
    let place = SocketPath::new("both");
    let server = serve(&["127.0.0.1:0", &place.listen()]);
    echoes(&mut connect(&place), "path");
    let mut tcp = ws(&server, "/echo");
    tcp.send(Message::text("port")).unwrap();
    assert_eq!(tcp.read().unwrap(), Message::text("port"));
}

#[test]
fn path_of_a_dead_server_is_reused() {
    let place = SocketPath::new("left");
    // Drop kills the server, and its socket file remains.
    drop(serve(&[&place.listen()]));
    assert!(place.0.exists());
    let _server = serve(&[&place.listen()]);
    echoes(&mut connect(&place), "again");
}
