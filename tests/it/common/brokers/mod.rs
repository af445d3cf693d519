//! Real servers for tests: Redis, Valkey, NATS, a Redis Cluster, a Sentinel group, Centrifugo, and several Corecast
//! processes. Each has a folder and ports of its own, and ends with its test.
//!
//! `tools/servers/setup` installs the programs. A test whose program is missing fails, and says so.

mod nats;
mod nodes;
mod redis;
mod redis_cluster;
mod redis_sentinel;
mod relay;

pub use nats::NatsServer;
pub use nodes::Node;
pub use redis::{RedisKind, RedisServer};
pub use redis_cluster::RedisCluster;
pub use redis_sentinel::SentinelGroup;
pub use relay::RedisRelay;

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use super::until;

/// Ports below those that the kernel gives to outgoing connections: a restarted server gets its port again.
const PORTS: std::ops::Range<u16> = 10_000..20_000;
/// Where the second port of a Redis Cluster's server is.
const BUS_PORT_OFFSET: u16 = 10_000;

/// A port without a listener, and the one of the cluster bus that belongs to it.
pub fn free_port() -> u16 {
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    until(
        || "no free port".into(),
        || Some(fastrand::u16(PORTS)).filter(|&port| is_free(port) && is_free(port + BUS_PORT_OFFSET)),
    )
}

/// A program that `tools/servers/setup` installs, or that is in the path.
fn program(name: &str) -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("CORECAST_CACHE").or_else(|| {
        Some(variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?.join("corecast"))
    });
    let installed = cache.map(|cache| cache.join("servers").join(name));
    let in_path = std::env::var_os("PATH");
    let in_path = in_path.iter().flat_map(std::env::split_paths).map(|folder| folder.join(name));
    let found = installed.into_iter().chain(in_path).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: run tools/servers/setup, which installs it"))
}

/// A folder that is removed with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("corecast-{}-{name}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder takes folders");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path of text")
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path of text").to_owned()
    }

    fn clear(&self) {
        std::fs::remove_dir_all(&self.0).expect("the folder can be removed");
        std::fs::create_dir_all(&self.0).expect("the temporary folder takes folders");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process of a server, which can be started again with the same arguments.
struct Process {
    program: PathBuf,
    arguments: Vec<String>,
    folder: Folder,
    child: Option<Child>,
}

impl Process {
    fn start(name: &str, folder: Folder, arguments: Vec<String>) -> Self {
        let mut process = Self { program: program(name), arguments, folder, child: None };
        process.start_again();
        process
    }

    fn start_again(&mut self) {
        assert!(self.child.is_none(), "the process has ended");
        let log = File::options().create(true).append(true).open(self.log_file()).expect("a log file");
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.folder.0).env_clear().stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
        self.child = Some(command.spawn().expect("the program runs"));
    }

    fn log_file(&self) -> PathBuf {
        self.folder.0.join("log")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).expect("a pid");
        kill_process(pid, signal).expect("the server runs");
    }

    /// Whether it ended by itself.
    fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().expect("a child of this process").is_some())
    }

    /// Ends it in order.
    fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.wait_for_exit();
    }

    fn wait_for_exit(&mut self) {
        let mut child = self.child.take().expect("it runs");
        super::wait_for_exit(&mut child);
    }

    /// kill -9.
    fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a child of this process");
        let status = child.wait().expect("a child of this process");
        assert_eq!(status.signal(), Some(9), "it ran until now");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let name = self.program.file_name().map(Path::new).unwrap_or(&self.program);
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("the end of {}'s log:", name.display());
            last.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}
