//! A backend that is killed during calls, absent, hanging, or breaking off its response: every call gets its error, the
//! circuit opens and closes again, nothing leaks, and clients that need no backend are not affected.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{Client, Server, until};
use serde_json::json;

const ANSWER: u8 = 0;
const HANG: u8 = 1;
const HALF: u8 = 2;

/// A stand-in for the operator's backend process.
#[derive(Default)]
struct State {
    mode: AtomicU8,
    calls: AtomicUsize,
    dead: AtomicU8,
    open: Mutex<Vec<TcpStream>>,
}

struct Backend {
    state: Arc<State>,
    at: SocketAddr,
}

impl Backend {
    fn start(at: SocketAddr, mode: u8) -> Self {
        // The port may still be in use by the previous process for a moment.
        let listener = until(|| format!("{at} stays taken"), || TcpListener::bind(at).ok());
        let at = listener.local_addr().expect("it is bound");
        let state = Arc::new(State { mode: AtomicU8::new(mode), ..State::default() });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.dead.load(SeqCst) == 1 {
                    return;
                }
                shared
                    .open
                    .lock()
                    .expect("never poisoned: no code panics while holding the lock")
                    .push(stream.try_clone().expect("a socket"));
                let state = Arc::clone(&shared);
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Self { state, at }
    }

    /// Like the kernel for a killed process: every socket is reset, and the port is closed.
    fn kill(self) {
        self.state.dead.store(1, SeqCst);
        for stream in self.state.open.lock().expect("never poisoned: no code panics while holding the lock").drain(..) {
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        // The loop sees the flag and drops its listener.
        let _ = TcpStream::connect(self.at);
        until(|| "it goes on listening".into(), || TcpStream::connect(self.at).err());
    }
}

fn serve(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut received = Vec::new();
    loop {
        let mut bytes = [0; 4096];
        let n = stream.read(&mut bytes)?;
        if n == 0 {
            return Ok(());
        }
        received.extend(&bytes[..n]);
        let text = String::from_utf8_lossy(&received).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        received.clear();
        state.calls.fetch_add(1, SeqCst);
        let answer = "{\"result\":{\"data\":{\"from\":\"backend\"}}}";
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        match state.mode.load(SeqCst) {
            ANSWER => stream.write_all(format!("{head}{answer}").as_bytes())?,
            HALF => {
                stream.write_all(format!("{head}{}", &answer[..answer.len() / 2]).as_bytes())?;
                return Ok(());
            }
            _ => {}
        }
    }
}

fn unused_address() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn call() -> serde_json::Value {
    json!({"rpc": {"method": "m", "data": {}}})
}

/// Meanwhile, calls of clients that need no backend are answered.
fn assert_honest_is_served(honest: &mut [Client; 2]) {
    let [one, other] = honest;
    assert!(one.ask(json!({"publish": {"channel": "c", "data": {}}}))["publish"].is_object());
    assert_eq!(other.publication().0, "c");
}

fn circuit(server: &Server, open: u64) {
    server.wait_for_metric("corecast_backend_circuit_open", "proxy=\"rpc.proxy\"", |n| n == open);
}

#[test]
fn killed_absent_hanging_and_aborting_backends_are_isolated() {
    let backend = Backend::start(unused_address(), ANSWER);
    let at = backend.at;
    let server = Server::with(&[
        ("rpc.proxy.endpoint", &format!("http://{at}/rpc")),
        ("rpc.proxy.timeout", "2s"),
        ("rpc.proxy.retries_max", "0"),
        ("rpc.proxy.breaker_failures", "20"),
        ("rpc.proxy.breaker_open", "500ms"),
        ("rpc.without_namespace.proxy_enabled", "true"),
    ]);
    let mut honest = [Client::connect(&server), Client::connect(&server)];
    honest[1].subscribe("c");
    let mut callers: Vec<Client> = (0..20).map(|_| Client::connect(&server)).collect();
    callers.iter_mut().for_each(|client| assert_eq!(client.ask(call())["rpc"]["data"]["from"], "backend"));
    let (descriptors, memory) = (server.descriptors(), server.memory_bytes());

    // Killed while 20 calls are in flight.
    backend.state.mode.store(HANG, SeqCst);
    let before = backend.state.calls.load(SeqCst);
    callers.iter_mut().for_each(|client| drop(client.send(call()).to_string()));
    until(|| "the calls did not arrive".into(), || (backend.state.calls.load(SeqCst) >= before + 20).then_some(()));
    assert_honest_is_served(&mut honest);
    backend.kill();
    for client in &mut callers {
        assert_eq!(client.next()["error"]["code"], 100);
    }
    circuit(&server, 1);
    // While the circuit is open no call waits; without a listener every call fails.
    for _ in 0..10 {
        callers.iter_mut().for_each(|client| assert_eq!(client.refused(call()), 100));
    }
    assert_honest_is_served(&mut honest);

    // The backend breaks off its responses, then sends none: both are failures.
    let half = Backend::start(at, HALF);
    until(
        || "it is never asked".into(),
        || {
            assert_eq!(callers[0].refused(call()), 100);
            (half.state.calls.load(SeqCst) > 0).then_some(())
        },
    );
    half.state.mode.store(HANG, SeqCst);
    let asked = half.state.calls.load(SeqCst);
    until(
        || "it is never asked".into(),
        || {
            assert_eq!(callers[1].refused(call()), 100);
            (half.state.calls.load(SeqCst) > asked).then_some(())
        },
    );
    assert_honest_is_served(&mut honest);

    // The backend works again.
    half.state.mode.store(ANSWER, SeqCst);
    until(|| "the circuit stays open".into(), || callers[2].ask(call())["rpc"].is_object().then_some(()));
    circuit(&server, 0);
    callers.iter_mut().for_each(|client| assert_eq!(client.ask(call())["rpc"]["data"]["from"], "backend"));
    server.wait_for_metric("corecast_backend_in_flight", "proxy=\"rpc.proxy\"", |n| n == 0);
    until(
        || format!("{} descriptors are open, {descriptors} were", server.descriptors()),
        || (server.descriptors() <= descriptors + 2).then_some(()),
    );
    assert!(server.memory_bytes() <= memory + (16 << 20), "{} bytes, {memory} before", server.memory_bytes());
}
