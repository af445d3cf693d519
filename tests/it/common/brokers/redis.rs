//! One Redis or Valkey server.

use std::time::Duration;

use redis::{Commands, Connection, FromRedisValue, RedisResult};
use rustix::process::Signal;

use super::{Folder, Process, free_port};
use crate::common::{PATIENCE, until};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RedisKind {
    /// The newest of the distribution, 7.0 or later.
    Redis,
    /// The oldest that is supported.
    Redis62,
    Valkey,
}

impl RedisKind {
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Redis62 => "redis-server-6.2",
            Self::Valkey => "valkey-server",
        }
    }
}

/// It keeps its data on disk, in its folder.
pub struct RedisServer {
    pub port: u16,
    process: Process,
}

impl RedisServer {
    pub fn start(kind: RedisKind) -> Self {
        Self::start_with(kind, &[])
    }

    /// With more arguments, such as `["--requirepass", "secret"]`.
    pub fn start_with(kind: RedisKind, arguments: &[&str]) -> Self {
        until(|| "the server does not start".into(), || Self::try_start(kind, arguments))
    }

    /// `None` if another process took the port in the meantime.
    fn try_start(kind: RedisKind, more: &[&str]) -> Option<Self> {
        let (port, folder) = (free_port(), Folder::new("redis"));
        let socket = folder.file("redis.sock");
        let port_text = port.to_string();
        let mut arguments = vec!["--port", &port_text, "--bind", "127.0.0.1", "--dir", folder.path()];
        arguments.extend(["--unixsocket", &socket, "--save", "", "--appendonly", "yes"]);
        if kind != RedisKind::Redis62 {
            arguments.extend(["--enable-debug-command", "yes"]);
        }
        arguments.extend(more);
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        let mut server = Self { port, process: Process::start(kind.program(), folder, arguments) };
        server.wait_until_ready().then_some(server)
    }

    /// False: the process has ended.
    fn wait_until_ready(&mut self) -> bool {
        until(
            || "the server does not get ready".into(),
            || {
                if self.process.has_ended() {
                    return Some(false);
                }
                let ping = self.try_connect().and_then(|mut connection| connection.ping::<String>());
                // A password is asked for only by one that is ready.
                let ready = match ping {
                    Ok(answer) => answer == "PONG",
                    Err(error) => error.code() == Some("NOAUTH"),
                };
                ready.then_some(true)
            },
        )
    }

    /// As a value of `engine.redis.address`.
    pub fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The path of its unix socket.
    pub fn socket_path(&self) -> String {
        self.process.folder.file("redis.sock")
    }

    fn try_connect(&self) -> RedisResult<Connection> {
        let client = redis::Client::open(self.address())?;
        let connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    /// A connection of the test's own.
    pub fn connection(&self) -> Connection {
        self.try_connect().expect("the server accepts")
    }

    /// Sends one command, such as `["CLIENT", "KILL", "TYPE", "pubsub"]`, and returns its answer.
    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    pub fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(word);
        });
        command.query(&mut self.try_connect()?)
    }

    /// A field of INFO.
    pub fn info(&self, field: &str) -> Option<String> {
        let info: String = self.try_ask(&["INFO", "everything"]).ok()?;
        info.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.to_owned()))
    }

    /// How often it has run a command, also for a script.
    pub fn calls(&self, command: &str) -> u64 {
        let line = self.info(&format!("cmdstat_{command}")).unwrap_or_default();
        let count = line.split(',').find_map(|field| field.strip_prefix("calls="));
        count.map_or(0, |count| count.parse().expect("a number"))
    }

    /// Stops it as SIGSTOP does: its sockets stay open, and nothing answers.
    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Blocks it for so long, as a slow command does. Returns at once.
    pub fn block_for(&self, time: Duration) {
        let mut connection = self.connection();
        let mut command = redis::cmd("DEBUG");
        command.arg("SLEEP").arg(time.as_secs_f64());
        connection.send_packed_command(&command.get_packed_command()).expect("the server reads");
        // The answer comes when the time is over: the connection is kept open until then.
        std::thread::spawn(move || connection.recv_response());
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends it in order, with its data on disk.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Starts it again after `kill` or `stop`, on the same port.
    pub fn start_again(&mut self) {
        self.process.start_again();
        assert!(self.wait_until_ready(), "its port is free");
    }

    /// The same, without its data.
    pub fn start_again_empty(&mut self) {
        self.process.folder.clear();
        self.start_again();
    }
}
