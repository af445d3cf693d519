//! The built program as a server of one test, which ends with the test; and two clients: `Client` speaks the client
//! protocol over tungstenite, `Raw` is a bare socket for bytes that a library would not send.
//!
//! Every wait is for an event and has one deadline, `PATIENCE`; nothing else depends on time. The kernel chooses the
//! ports.

pub mod backend;
pub mod brokers;
mod client;
pub mod follow;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod held;
pub mod log_dir;
pub mod one_shard;
pub mod raw;
pub mod stream;
pub mod tls;
pub mod web;

pub use client::{Client, ws, ws_at};
pub use raw::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, Raw, TEXT, frame, frame_part};

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use corecast::auth::Hash;
use corecast::auth::sign::SigningKey;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long any one event may take before a test fails: far more than it needs on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The API key of every server in the tests.
pub const KEY: &str = "the-key-of-the-tests";
/// Settings of channels without history, presence or join and leave pushes.
pub const PLAIN: [(&str, &str); 4] = [
    ("channel.without_namespace.history_size", "0"),
    ("channel.without_namespace.history_ttl", "0s"),
    ("channel.without_namespace.presence", "false"),
    ("channel.without_namespace.join_leave", "false"),
];

/// A running server.
pub struct Server {
    child: Child,
    pub client: SocketAddr,
    /// The addresses for clients, in the order of the listeners.
    pub clients: Vec<SocketAddr>,
    pub admin: SocketAddr,
    log: Log,
}

impl Server {
    /// Starts a server with `--dev` on two shards.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Like `start`, with settings by name, such as `("client.ping_interval", "1s")`.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        Self::spawn(server_command(None, "2"), settings)
    }

    /// A server that another process can take over from; it takes over from `old` itself.
    pub fn with_handover(socket: &SocketPath, shards: &str, old: Option<&Self>, settings: &[(&str, &str)]) -> Self {
        let mut command = server_command(old.map(|old| (old.client, old.admin)), shards);
        if old.is_some() {
            command.arg("--takeover");
        }
        let handover = [("handover.socket", socket.text()), ("handover.trial_time", "0s")];
        Self::spawn(command, &[&handover, settings].concat())
    }

    pub fn spawn(command: Command, settings: &[(&str, &str)]) -> Self {
        Self::spawn_with_stdout(command, settings, Stdio::null())
    }

    /// Like `spawn`, with stdout redirected.
    pub fn spawn_with_stdout(mut command: Command, settings: &[(&str, &str)], stdout: Stdio) -> Self {
        for (name, value) in settings {
            command.env(format!("CORECAST_{}", name.to_uppercase().replace('.', "_")), value);
        }
        let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().expect("the program runs");
        let log = Log::of(child.stderr.take().expect("stderr is piped"));
        let client = log.wait_for("clients connect to ");
        let admin = log.wait_for("admin address: http");
        // A unix socket has no address; its test knows the path.
        let address = |at: &str| at.trim().trim_start_matches("proxy:").trim_start_matches("tls:").parse().ok();
        let clients = client.split(',').map(|at| address(at).unwrap_or(([127, 0, 0, 1], 0).into()));
        let clients: Vec<SocketAddr> = clients.collect();
        let admin = admin.trim_start_matches('s').trim_start_matches("://");
        let admin = admin.split('/').next().and_then(|at| at.parse().ok()).expect("an address");
        Self { child, client: clients[0], clients, admin, log }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid");
        kill_process(pid, signal).expect("the server runs");
    }

    /// The number of open descriptors of the process.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }

    /// The anonymous memory of the process (RssAnon).
    pub fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux reports it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Waits until the process exits.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        wait_for_exit(&mut self.child)
    }

    /// Sends a signal again and again until the process exits: right after the first one it would be the same signal.
    pub fn signal_until_exit(&mut self, signal: Signal) -> ExitStatus {
        until(
            || "the process does not end".into(),
            || {
                self.signal(signal);
                self.child.try_wait().expect("a child of this process")
            },
        )
    }

    pub fn wait_for_log(&self, words: &str) -> String {
        self.log.wait_for(words)
    }

    /// The lines of its log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// One HTTP request to the admin address: status and body.
    pub fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        http(self.admin, method, path, headers, body)
    }

    pub fn api(&self, method: &str, body: &Value) -> Value {
        let (status, body) = self.http("POST", &format!("/api/{method}"), &[("X-API-Key", KEY)], &body.to_string());
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// A value of `/metrics`, summed over the shards and all labels that `labels` does not fix.
    pub fn metric(&self, name: &str, labels: &str) -> u64 {
        let (_, text) = self.http("GET", "/metrics", &[], "");
        let samples = text.lines().filter_map(|line| line.rsplit_once(' '));
        let matching = samples.filter(|(series, _)| series.split('{').next() == Some(name) && series.contains(labels));
        let values: Vec<f64> = matching.map(|(_, value)| value.parse().expect("a number")).collect();
        assert!(!values.is_empty(), "{name} is not in:\n{text}");
        values.iter().sum::<f64>() as u64
    }

    /// Reads a metric until it is `wanted`.
    pub fn wait_for_metric(&self, name: &str, labels: &str, wanted: impl Fn(u64) -> bool) -> u64 {
        until(
            || format!("{name}{{{labels}}} stays at {}", self.metric(name, labels)),
            || Some(self.metric(name, labels)).filter(|&value| wanted(value)),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log.lines().join("\n"));
        }
    }
}

/// A path for the unix socket of one test; the socket file is removed when the test ends.
pub struct SocketPath(pub PathBuf);

impl SocketPath {
    pub fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("corecast-{}-{name}.sock", std::process::id())))
    }

    pub fn text(&self) -> &str {
        self.0.to_str().expect("a path of text")
    }

    /// As a value of `listen`.
    pub fn listen(&self) -> String {
        format!("unix:{}", self.text())
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `corecast serve --dev` without the environment of the shell that runs the tests.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
    command.args(["serve", "--dev"]).args(args).env_clear().env("CORECAST_HTTP_API_KEY", KEY);
    command
}

/// The program with so many shards, which may share cores. `at`: the addresses for clients and for the server API, else the
/// kernel chooses.
pub fn server_command(at: Option<(SocketAddr, SocketAddr)>, shards: &str) -> Command {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let (listen, admin) = at.unwrap_or((any, any));
    let mut command = command(&["--listen", &listen.to_string(), "--admin", &admin.to_string(), "--shards", shards]);
    command.env("CORECAST_OVERSUBSCRIBE", "true");
    command
}

/// A token with these claims, by a secret.
pub fn token(secret: &str, claims: &Value) -> String {
    SigningKey::secret(Hash::S256, secret).sign(&claims.to_string(), None).expect("a secret signs")
}

pub fn wait_for_exit(child: &mut Child) -> ExitStatus {
    until(|| "the process does not end".into(), || child.try_wait().expect("a child of this process"))
}

/// Repeats `ask` until it returns a value.
pub fn until<T>(complaint: impl Fn() -> String, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{}", complaint());
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn http(at: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    try_http(at, method, path, headers, body).expect("an answer")
}

/// The same with a server that may be gone.
pub fn try_http(
    at: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<(u16, String)> {
    let mut socket = try_connect(at)?;
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    socket.write_all((head + body).as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok((status, if is_chunked { unchunked(body).ok_or(io::ErrorKind::InvalidData)? } else { body.to_owned() }))
}

/// The body of a chunked message, without trailers.
fn unchunked(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (length, rest) = chunks.split_once("\r\n")?;
        let length = usize::from_str_radix(length, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.push_str(rest.get(..length)?);
        chunks = rest.get(length + 2..)?;
    }
}

/// A socket whose reads and writes have the deadline.
pub fn connect(at: SocketAddr) -> TcpStream {
    try_connect(at).expect("the server listens")
}

fn try_connect(at: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(at)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// The lines that a server has written to stderr so far.
#[derive(Clone)]
struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Log {
    fn of(stderr: impl Read + Send + 'static) -> Self {
        let log = Self(Arc::default());
        let copy = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                copy.0.0.lock().expect("never poisoned: no code panics while holding the lock").push(line);
                copy.0.1.notify_all();
            }
        });
        log
    }

    fn lines(&self) -> Vec<String> {
        self.0.0.lock().expect("never poisoned: no code panics while holding the lock").clone()
    }

    /// The rest of the first line that contains `words`.
    fn wait_for(&self, words: &str) -> String {
        let find = |lines: &[String]| lines.iter().find_map(|line| Some(line.split_once(words)?.1.to_owned()));
        let (lines, changed) = &*self.0;
        let lines = lines.lock().expect("never poisoned: no code panics while holding the lock");
        let (lines, _) = changed.wait_timeout_while(lines, PATIENCE, |lines| find(lines).is_none()).expect("as above");
        find(&lines).unwrap_or_else(|| panic!("the server did not log {words:?}:\n{}", lines.join("\n")))
    }
}
