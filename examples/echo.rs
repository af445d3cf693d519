//! An application on the engine: it echoes every message, on every core of the host.
//!
//! `cargo run --release --example echo`, then connect to ws://127.0.0.1:8001/ with any WebSocket client.

use std::convert::Infallible;

use corecast::engine::{App, ConnId, Context, Flow, Message, Server};

struct Echo;

impl App for Echo {
    type Mail = Infallible;
    type Request = Infallible;

    fn message(&mut self, _: &mut Context<Infallible>, _: ConnId, _: Message<'_>) -> Flow {
        Flow::Reflect
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: std::net::SocketAddr = "127.0.0.1:8001".parse()?;
    let server = Server::builder().listen(address).start(|_shard| Echo)?;
    println!("echo on {} shards at ws://{}/", server.shards(), server.addresses()[0]);
    server.join();
    Ok(())
}
