//! One NATS server.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;

use rustix::process::Signal;

use super::{Folder, Process, free_port};
use crate::common::until;

pub struct NatsServer {
    pub port: u16,
    process: Process,
}

impl NatsServer {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more arguments, such as `["--user", "a", "--pass", "b"]`.
    pub fn start_with(more: &[&str]) -> Self {
        until(
            || "the server does not start".into(),
            || {
                let (port, folder) = (free_port(), Folder::new("nats"));
                let port_text = port.to_string();
                let arguments = ["-a", "127.0.0.1", "-p", &port_text];
                let arguments = arguments.iter().chain(more).map(|&argument| argument.to_owned()).collect();
                let mut server = Self { port, process: Process::start("nats-server", folder, arguments) };
                server.wait_until_ready().then_some(server)
            },
        )
    }

    /// False: the process has ended.
    fn wait_until_ready(&mut self) -> bool {
        until(
            || "the server does not get ready".into(),
            || {
                if self.process.has_ended() {
                    return Some(false);
                }
                let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
                let mut line = String::new();
                BufReader::new(stream).read_line(&mut line).ok()?;
                line.starts_with("INFO ").then_some(true)
            },
        )
    }

    /// As a value of `broker.nats.url`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Starts it again after `kill` or `stop`, on the same port.
    pub fn start_again(&mut self) {
        self.process.start_again();
        assert!(self.wait_until_ready(), "its port is free");
    }
}
