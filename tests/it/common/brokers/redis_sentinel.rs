//! A master, its replica, and three sentinels that watch them.

use super::{Folder, Process, RedisKind, RedisServer, free_port};
use crate::common::until;

/// The name of the master in the sentinels.
pub const MASTER_NAME: &str = "tests";

pub struct SentinelGroup {
    pub servers: [RedisServer; 2],
    sentinels: Vec<(u16, Process)>,
}

impl SentinelGroup {
    pub fn start(kind: RedisKind) -> Self {
        let master = RedisServer::start(kind);
        let master_port = master.port.to_string();
        let replica = RedisServer::start_with(kind, &["--replicaof", "127.0.0.1", &master_port]);
        until(
            || "the replica does not follow".into(),
            || replica.info("master_link_status").filter(|status| status == "up"),
        );
        let sentinels = (0..3).map(|_| start_sentinel(kind, &master_port)).collect();
        let group = Self { servers: [master, replica], sentinels };
        group.wait_until_complete();
        group
    }

    /// As a value of `engine.redis.address`.
    pub fn address(&self) -> String {
        let others: Vec<_> = self.sentinels[1..].iter().map(|(port, _)| format!("&addr=127.0.0.1:{port}")).collect();
        let (port, _) = self.sentinels[0];
        format!("redis+sentinel://127.0.0.1:{port}?sentinel_master_name={MASTER_NAME}{}", others.concat())
    }

    pub fn sentinel_ports(&self) -> Vec<u16> {
        self.sentinels.iter().map(|(port, _)| *port).collect()
    }

    /// The number of the server that the sentinels call master.
    pub fn master(&self) -> usize {
        self.try_master().expect("a sentinel names one of the servers")
    }

    fn try_master(&self) -> Option<usize> {
        let (_, port): (String, u16) = self.ask(0, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME]);
        self.servers.iter().position(|server| server.port == port)
    }

    /// Has the replica promoted, and returns its number when it is a master and the sentinels say so.
    pub fn fail_over(&self) -> usize {
        let before = self.master();
        let () = self.ask(0, &["SENTINEL", "FAILOVER", MASTER_NAME]);
        self.wait_for_master(1 - before)
    }

    /// Waits until this server is the master.
    pub fn wait_for_master(&self, number: usize) -> usize {
        until(
            || format!("server {number} does not become the master"),
            || {
                let is_named = self.try_master() == Some(number);
                let role = self.servers[number].info("role");
                (is_named && role.as_deref() == Some("master")).then_some(number)
            },
        )
    }

    /// Waits until each sentinel knows the replica and the other sentinels.
    pub fn wait_until_complete(&self) {
        for at in 0..self.sentinels.len() {
            until(
                || "the sentinels do not find each other".into(),
                || {
                    let known = |what: &str| self.try_ask::<Vec<redis::Value>>(at, &["SENTINEL", what, MASTER_NAME]);
                    let count = known("REPLICAS").ok()?.len() + known("SENTINELS").ok()?.len();
                    (count == self.sentinels.len()).then_some(())
                },
            );
        }
    }

    fn ask<T: redis::FromRedisValue>(&self, sentinel: usize, words: &[&str]) -> T {
        self.try_ask(sentinel, words).expect("an answer of the sentinel")
    }

    fn try_ask<T: redis::FromRedisValue>(&self, sentinel: usize, words: &[&str]) -> redis::RedisResult<T> {
        let (port, _) = self.sentinels[sentinel];
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query(&mut client.get_connection()?)
    }
}

fn start_sentinel(kind: RedisKind, master_port: &str) -> (u16, Process) {
    until(
        || "the sentinel does not start".into(),
        || {
            let (port, folder) = (free_port(), Folder::new("sentinel"));
            let config = format!(
                "port {port}\nbind 127.0.0.1\nsentinel monitor {MASTER_NAME} 127.0.0.1 {master_port} 2\n\
                 sentinel down-after-milliseconds {MASTER_NAME} 500\nsentinel failover-timeout {MASTER_NAME} 3000\n"
            );
            let file = folder.file("sentinel.conf");
            std::fs::write(&file, config).expect("the folder takes files");
            let mut process = Process::start(kind.program(), folder, vec![file, "--sentinel".into()]);
            let is_ready = until(
                || "the sentinel does not get ready".into(),
                || {
                    let is_open = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
                    if process.has_ended() { Some(false) } else { is_open.then_some(true) }
                },
            );
            is_ready.then_some((port, process))
        },
    )
}
