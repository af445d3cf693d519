//! A panic on one shard ends the whole process with a message, so that no server runs without a shard.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use corecast::engine::config::EngineConfig;
use corecast::engine::mailbox::Batch;
use corecast::engine::net::listener::Address;
use corecast::engine::threads::{self, Plan};
use corecast::engine::{App, Context, EngineClose, Flow, Message, Route};
use corecast::ids::ConnId;
use corecast::ws::Request;

/// Set in the child process, which is this test run as a server.
const CHILD: &str = "CORECAST_TEST_CHILD";

/// An app with a bug.
struct Faulty;

impl App for Faulty {
    type Mail = Infallible;
    type Request = Infallible;

    fn route(&mut self, _: &mut Context<Infallible>, _: &Request<'_>) -> Route {
        panic!("an invariant did not hold")
    }

    fn open(&mut self, _: &mut Context<Infallible>, _: ConnId, _: u8) {}

    fn message(&mut self, _: &mut Context<Infallible>, _: ConnId, _: Message<'_>) -> Flow {
        Flow::Done
    }

    fn mail(&mut self, _: &mut Context<Infallible>, _: &mut Batch<Infallible>, _: &mut u32) {}

    fn request(&mut self, _: &mut Context<Infallible>, request: Infallible) {
        match request {}
    }

    fn close_reason(&self, _: ConnId, _: EngineClose) -> (u16, &'static str) {
        (1001, "")
    }
}

fn serve_forever() {
    let plan = Plan {
        listen: vec![Address::Tcp("127.0.0.1:0".parse().expect("an address"))],
        options: Vec::new(),
        tls: None,
        cores: vec![None, None],
        config: EngineConfig { connections_max: 16, ..EngineConfig::default() },
        join: false,
    };
    let engine = threads::start(&plan, |_| Faulty).expect("a port is free");
    println!("\nbound {}", engine.bound[0]);
    engine.join();
}

#[test]
fn panic_on_one_shard_ends_the_process_with_a_message() {
    if std::env::var_os(CHILD).is_some() {
        return serve_forever();
    }
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "shard_panic::panic_on_one_shard_ends_the_process_with_a_message", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let bound = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("bound ").map(str::to_owned))
        .expect("it prints its address");
    let mut client = TcpStream::connect(&bound).expect("it listens");
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("it takes a request");
    let status = child.wait().expect("it ends");
    assert!(!status.success());
    let mut stderr = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
    assert!(stderr.contains("an invariant did not hold"), "{stderr}");
    assert!(stderr.contains("the whole process ends with it"), "{stderr}");
}
