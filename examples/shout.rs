//! An app of your own on the engine: every text comes back in capitals, on every core of the machine.
//!
//! `cargo run --release --example shout`, then connect to ws://127.0.0.1:8001/ with any WebSocket client.

use std::convert::Infallible;

use corecast::engine::config::EngineConfig;
use corecast::engine::mailbox::Batch;
use corecast::engine::net::affinity;
use corecast::engine::net::listener::Address;
use corecast::engine::threads::{self, Plan};
use corecast::engine::{App, Context, EngineClose, Flow, Message, Route};
use corecast::ids::ConnId;
use corecast::ws::{CloseCode, Request};

struct Shout;

impl App for Shout {
    type Mail = Infallible;
    type Request = Infallible;

    fn route(&mut self, _: &mut Context<Infallible>, _: &Request<'_>) -> Route {
        Route::Upgrade { protocol: None, route: 0 }
    }

    fn open(&mut self, _: &mut Context<Infallible>, _: ConnId, _: u8) {}

    fn message(&mut self, _: &mut Context<Infallible>, _: ConnId, message: Message<'_>) -> Flow {
        message.payload.make_ascii_uppercase();
        Flow::Reflect
    }

    fn mail(&mut self, _: &mut Context<Infallible>, _: &mut Batch<Infallible>, _: &mut u32) {}

    fn request(&mut self, _: &mut Context<Infallible>, request: Infallible) {
        match request {}
    }

    fn close_reason(&self, _: ConnId, _: EngineClose) -> (u16, &'static str) {
        (CloseCode::GoingAway.code(), "bye")
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plan = Plan {
        listen: vec![Address::Tcp("127.0.0.1:8001".parse()?)],
        manners: Vec::new(),
        tls: None,
        cores: affinity::usable_cores().into_iter().map(Some).collect(),
        limits: EngineConfig { connections_max: 10_000, ..EngineConfig::default() },
        join: false,
    };
    let engine = threads::start(&plan, |_shard| Shout)?;
    println!("shouting on {} cores at {}", plan.cores.len(), engine.bound[0]);
    engine.join();
    Ok(())
}
