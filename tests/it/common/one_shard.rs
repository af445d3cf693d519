//! One shard of the server in the test's own thread, with one client over a socket in memory, and turns one by one.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::fuzz::session::socket::{Pipe, Socket};
use corecast::engine::config::EngineConfig;
use corecast::engine::log_ring::LogRing;
use corecast::engine::mailbox::{self, Wake};
use corecast::engine::{Readiness, Shard, Wait};
use corecast::ids::ConnId;
use corecast::messaging::{Messaging, PATH, Settings};
use corecast::pubsub::Placement;
use corecast::ws::Opcode;
use corecast::ws::encode::client_frame;

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

pub struct OneShard {
    pub shard: Shard<Messaging, Socket>,
    pipe: Rc<RefCell<Pipe>>,
    conn: ConnId,
}

impl OneShard {
    /// The client has upgraded, in JSON.
    pub fn new(settings: Settings, limits: EngineConfig) -> Self {
        let messaging = Messaging::new(Arc::new(settings), Placement::new(1, [7; 16]), 1);
        let wakers = vec![Box::new(Silent) as Box<dyn Wake>];
        let mail = mailbox::mesh(wakers, mailbox::Bounds { mailbox_batches_max: 64 }).pop().expect("one endpoint");
        let (log_ring, _) = LogRing::new(mail.me());
        let mut shard = Shard::new(messaging, mail, Arc::new(limits), log_ring, 0);
        let pipe = Rc::new(RefCell::new(Pipe { room: usize::MAX, ..Pipe::default() }));
        let Ok(conn) = shard.adopt(Socket(Rc::clone(&pipe))) else { panic!("there is room") };
        let mut one = Self { shard, pipe, conn };
        let upgrade = format!(
            "GET {PATH} HTTP/1.1\r\nHost: link\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        one.pipe.borrow_mut().to_server.extend(upgrade.into_bytes());
        one.run();
        one.received();
        one
    }

    /// Commands in one frame, and the turn that reads them.
    pub fn send(&mut self, commands: &str) -> Wait {
        let mut frame = Vec::new();
        client_frame(&mut frame, Opcode::Text, commands.as_bytes(), [1, 2, 3, 4]);
        self.pipe.borrow_mut().to_server.extend(frame);
        self.turn()
    }

    pub fn turn(&mut self) -> Wait {
        self.shard.begin(0);
        self.shard.event(self.conn, Readiness { readable: true, ..Readiness::default() });
        self.shard.end()
    }

    /// Turns until the shard has nothing to do.
    pub fn run(&mut self) {
        for _ in 0..10_000 {
            if self.turn() != Wait::No {
                return;
            }
        }
        panic!("the shard does not become idle");
    }

    /// What the client got since the last call.
    pub fn received(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pipe.borrow_mut().to_client)).into_owned()
    }
}
