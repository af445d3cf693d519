//! A log that cannot be written loses lines and has no other effect: on a full disk, into a closed pipe, and into a
//! pipe without a reader.

use std::fs::OpenOptions;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use crate::common::{PATIENCE, SocketPath, command, until, wait_for_exit};
use rustix::process::{Pid, Signal, kill_process};
use tungstenite::{Message, WebSocket};

/// Trace lines for one connection have some hundred bytes, and a pipe holds 64 KiB.
const CONNECTIONS: usize = 500;

/// A server whose log the test cannot read; the test finds it by its path.
struct UnreadServer {
    child: Child,
    path: SocketPath,
}

impl UnreadServer {
    fn start(name: &str, stderr: impl Into<Stdio>, stdout: impl Into<Stdio>) -> Self {
        let path = SocketPath::new(name);
        let mut command =
            command(&["--listen", &path.listen(), "--admin", "127.0.0.1:0", "--shards", "2", "--oversubscribe"]);
        command.env("CORECAST_LOG", "trace");
        let child = command.stderr(stderr).stdout(stdout).spawn().expect("the program runs");
        let server = Self { child, path };
        until(|| "the server does not listen".into(), || UnixStream::connect(&server.path.0).ok());
        server
    }

    fn serves(&self) {
        for n in 0..CONNECTIONS {
            let socket = UnixStream::connect(&self.path.0).expect("the server listens");
            socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let mut ws: WebSocket<UnixStream> = tungstenite::client("ws://t/echo", socket).expect("an upgrade").0;
            let message = Message::text(format!("message {n}"));
            ws.send(message.clone()).unwrap();
            assert_eq!(ws.read().unwrap(), message);
        }
    }

    fn ends(mut self) {
        kill_process(Pid::from_raw(self.child.id() as i32).expect("a pid"), Signal::TERM).expect("it runs");
        assert!(wait_for_exit(&mut self.child).success());
    }
}

impl Drop for UnreadServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn full_log_disk_does_not_stop_the_server() {
    let full = || OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let server = UnreadServer::start("full", full(), full());
    server.serves();
    server.ends();
}

#[test]
fn closed_log_pipe_does_not_stop_the_server() {
    let mut server = UnreadServer::start("closed", Stdio::piped(), Stdio::piped());
    drop((server.child.stderr.take(), server.child.stdout.take()));
    server.serves();
    server.ends();
}

#[test]
fn unread_log_pipe_does_not_stop_the_server() {
    let server = UnreadServer::start("unread", Stdio::piped(), Stdio::null());
    server.serves();
    server.ends();
}
