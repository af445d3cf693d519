//! Servers of the tests, each on a unix socket in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use redis::FromRedisValue;

use crate::config::{Endpoint, Redis};

/// For everything that is not measured.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The supported kinds: the oldest and the newest Redis of the test machine, and Valkey.
pub(super) const PROGRAMS: [&str; 3] = ["redis-server-6.2", "redis-server", "valkey-server"];

/// In the arguments: the next one is the file of a sentinel.
const SENTINEL_MARK: &str = "sentinel file";

pub(super) struct Server {
    child: Child,
    folder: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Server {
    pub(super) fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    pub(super) fn start_with(name: &str, arguments: &[&str]) -> Self {
        Self::try_start(name, arguments).unwrap_or_else(|| panic!("{name} does not start"))
    }

    fn try_start(name: &str, arguments: &[&str]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("corecast-redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder takes folders");
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.into()).collect();
        let program = program(name);
        let child = spawn(&program, &folder, &arguments);
        let mut server = Self { child, folder, program, arguments };
        server.wait_until_ready().then_some(server)
    }

    /// On a TCP port as well, with arguments that depend on it and on a second free port.
    pub(super) fn start_tcp(name: &str, arguments: impl Fn(u16, u16) -> Vec<String>) -> (Self, u16) {
        let start = Instant::now();
        loop {
            let ports = [free_port(), free_port()];
            let mut all = vec!["--port".to_owned(), ports[0].to_string()];
            all.extend(arguments(ports[0], ports[1]));
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            // The port may be taken by now: then the server has ended.
            if let Some(server) = Self::try_start(name, &all) {
                return (server, ports[0]);
            }
            assert!(start.elapsed() < PATIENCE, "{name} does not start");
        }
    }

    /// A sentinel, which writes to its file.
    pub(super) fn start_sentinel(file: &str) -> (Self, u16) {
        Self::start_tcp("redis-server", |_, _| vec![SENTINEL_MARK.to_owned(), file.to_owned()])
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    pub(super) fn config(&self) -> Redis {
        Redis::at(Endpoint::Unix(self.socket()))
    }

    /// False: it has ended.
    fn wait_until_ready(&mut self) -> bool {
        let start = Instant::now();
        while self.try_ask::<redis::Value>(&["PING"]).is_err() {
            if self.child.try_wait().expect("a child of this process").is_some() {
                return false;
            }
            assert!(start.elapsed() < PATIENCE, "{} does not start", self.program.display());
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// One command of the test itself.
    pub(super) fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    pub(super) fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(format!("unix://{}", self.socket().display()))?;
        let mut connection = client.get_connection_with_timeout(PATIENCE)?;
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| _ = command.arg(word));
        match command.query(&mut connection) {
            // A password is asked for only by a server that is ready.
            Err(error) if error.code() == Some("NOAUTH") && words == ["PING"] => {
                redis::from_redis_value(redis::Value::Okay).map_err(Into::into)
            }
            answer => answer,
        }
    }

    pub(super) fn kill(&mut self) {
        self.child.kill().expect("a child of this process");
        self.child.wait().expect("a child of this process");
        _ = std::fs::remove_file(self.socket());
    }

    pub(super) fn start_again(&mut self) {
        self.child = spawn(&self.program, &self.folder, &self.arguments);
        assert!(self.wait_until_ready(), "it starts again");
    }

    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("the server runs");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A port of the kernel's choice that is free now.
pub(super) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback has ports");
    listener.local_addr().expect("it is bound").port()
}

fn spawn(program: &Path, folder: &Path, more: &[String]) -> Child {
    let socket = folder.join("redis.sock");
    let mut command = Command::new(program);
    let is_sentinel = more.iter().position(|argument| argument == SENTINEL_MARK);
    if let Some(at) = is_sentinel {
        command.arg(&more[at + 1]).arg("--sentinel");
    }
    command.args(["--port", "0", "--unixsocket"]).arg(socket);
    if is_sentinel.is_none() {
        command.args(["--save", "", "--appendonly", "no"]);
    }
    let more = &more[..is_sentinel.unwrap_or(more.len())];
    command.args(more).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the program runs")
}

/// From the folder of `tools/servers/setup`, or from the path.
fn program(name: &str) -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("CORECAST_CACHE").or_else(|| {
        Some(variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?.join("corecast"))
    });
    let installed = cache.map(|cache| cache.join("servers").join(name)).filter(|path| path.exists());
    let on_path = || {
        let path = variable("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.exists())
    };
    installed.or_else(on_path).unwrap_or_else(|| panic!("{name} is missing: run tools/servers/setup"))
}
