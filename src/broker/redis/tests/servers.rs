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
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("corecast-redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder takes folders");
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.into()).collect();
        let program = program(name);
        let child = spawn(&program, &folder, &arguments);
        let server = Self { child, folder, program, arguments };
        server.wait_until_ready();
        server
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    pub(super) fn config(&self) -> Redis {
        Redis::at(Endpoint::Unix(self.socket()))
    }

    fn wait_until_ready(&self) {
        let start = Instant::now();
        while self.try_ask::<String>(&["PING"]).is_err() {
            assert!(start.elapsed() < PATIENCE, "{} does not start", self.program.display());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// One command of the test itself.
    pub(super) fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
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
        self.wait_until_ready();
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

fn spawn(program: &Path, folder: &Path, more: &[String]) -> Child {
    let socket = folder.join("redis.sock");
    let mut command = Command::new(program);
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(socket);
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
