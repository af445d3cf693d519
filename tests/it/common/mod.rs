//! A server of the built program for one test, ended with it; and its peers: `Client` speaks the message protocol over
//! tungstenite, `Raw` is a bare socket for what a well-kept library would never send.
//!
//! Everything waits for its event with one deadline, `PATIENCE`; nothing else is timed. Ports are the kernel's choice.

pub mod backend;
mod client;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod raw;
pub mod tls;

pub use client::{Client, ws, ws_at};
pub use raw::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, Raw, TEXT, frame, frame_part};

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long any one event may take before a test fails: far more than it needs on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The API key of every server here.
pub const KEY: &str = "the-key-of-the-tests";
/// Channels that keep nothing and tell nothing of who is there.
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
    /// Where clients connect, in the order of the listeners.
    pub clients: Vec<SocketAddr>,
    pub admin: SocketAddr,
    log: Log,
}

impl Server {
    /// Open to all, on two shards.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// As `start`, with settings by their names, such as `("client.ping_interval", "1s")`.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let mut command = command(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2"]);
        command.env("CORECAST_OVERSUBSCRIBE", "true");
        Self::spawn(command, settings)
    }

    pub fn spawn(command: Command, settings: &[(&str, &str)]) -> Self {
        Self::spawn_told(command, settings, Stdio::null())
    }

    /// With a place for what it says on stdout.
    pub fn spawn_told(mut command: Command, settings: &[(&str, &str)], stdout: Stdio) -> Self {
        for (name, value) in settings {
            command.env(format!("CORECAST_{}", name.to_uppercase().replace('.', "_")), value);
        }
        let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().expect("the program runs");
        let log = Log::of(child.stderr.take().expect("stderr is piped"));
        let client = log.wait_for("clients connect to ");
        let admin = log.wait_for("admin address: http");
        // A unix socket is no address, and its test knows its path.
        let address = |at: &str| at.trim().trim_start_matches("tls:").parse().ok();
        let clients = client.split(',').map(|at| address(at).unwrap_or(([127, 0, 0, 1], 0).into()));
        let clients: Vec<SocketAddr> = clients.collect();
        let admin = admin.trim_start_matches('s').trim_start_matches("://");
        let admin = admin.split('/').next().and_then(|at| at.parse().ok()).expect("an address");
        Self { child, client: clients[0], clients, admin, log }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid");
        kill_process(pid, signal).expect("the server is there to be told");
    }

    /// Files and sockets that the process has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }

    /// Memory of its own that the process holds (RssAnon).
    pub fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux says it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Waits for the process to end by itself.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        wait_for_exit(&mut self.child)
    }

    pub fn wait_for_log(&self, words: &str) -> String {
        self.log.wait_for(words)
    }

    /// What it has said so far.
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

    /// A number of `/metrics`, summed over the shards and those labels that `labels` leaves open.
    pub fn metric(&self, name: &str, labels: &str) -> u64 {
        let (_, text) = self.http("GET", "/metrics", &[], "");
        let samples = text.lines().filter_map(|line| line.rsplit_once(' '));
        let ours = samples.filter(|(series, _)| series.split('{').next() == Some(name) && series.contains(labels));
        let values: Vec<f64> = ours.map(|(_, value)| value.parse().expect("a number")).collect();
        assert!(!values.is_empty(), "{name} is not in:\n{text}");
        values.iter().sum::<f64>() as u64
    }

    /// Asks for a metric until it is `wanted`.
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

/// A path for a unix socket of one test, whose socket is gone when the test ends.
pub struct SocketPath(pub PathBuf);

impl SocketPath {
    pub fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("corecast-{}-{name}.sock", std::process::id())))
    }

    pub fn text(&self) -> &str {
        self.0.to_str().expect("a path of text")
    }

    /// As a listener.
    pub fn listen(&self) -> String {
        format!("unix:{}", self.text())
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `corecast serve --dev` with nothing inherited from the shell that runs the tests.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
    command.args(["serve", "--dev"]).args(args).env_clear().env("CORECAST_HTTP_API_KEY", KEY);
    command
}

pub fn wait_for_exit(child: &mut Child) -> ExitStatus {
    until(|| "the process does not end".into(), || child.try_wait().expect("a child of ours"))
}

/// Asks again until there is an answer.
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
    let mut socket = connect(at);
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    socket.write_all(head.as_bytes()).expect("the head is taken");
    socket.write_all(body.as_bytes()).expect("the body is taken");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer of UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// A socket whose every wait has the deadline.
pub fn connect(at: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(at).expect("the server listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    socket.set_nodelay(true).expect("TCP");
    socket
}

/// What a server has said on stderr so far.
#[derive(Clone)]
struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Log {
    fn of(stderr: impl Read + Send + 'static) -> Self {
        let log = Self(Arc::default());
        let copy = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                copy.0.0.lock().expect("nobody panics with it").push(line);
                copy.0.1.notify_all();
            }
        });
        log
    }

    fn lines(&self) -> Vec<String> {
        self.0.0.lock().expect("nobody panics with it").clone()
    }

    /// The rest of the first line that has `words` in it.
    fn wait_for(&self, words: &str) -> String {
        let find = |lines: &[String]| lines.iter().find_map(|line| Some(line.split_once(words)?.1.to_owned()));
        let (lines, changed) = &*self.0;
        let lines = lines.lock().expect("nobody panics with it");
        let (lines, _) = changed.wait_timeout_while(lines, PATIENCE, |lines| find(lines).is_none()).expect("as above");
        find(&lines).unwrap_or_else(|| panic!("the server never said {words:?}:\n{}", lines.join("\n")))
    }
}
