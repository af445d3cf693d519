//! A client of the client protocol in JSON, over tungstenite.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::{Value, json};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

use super::{PATIENCE, Server, connect};

/// An open WebSocket of tungstenite after its handshake.
pub fn ws(server: &Server, path: &str) -> WebSocket<TcpStream> {
    ws_at(server.client, path)
}

/// The same at any address of a server.
pub fn ws_at(at: SocketAddr, path: &str) -> WebSocket<TcpStream> {
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let url = format!("ws://{at}{path}");
    let (ws, _) = tungstenite::client::client_with_config(url, connect(at), Some(config)).expect("an upgrade");
    ws
}

pub struct Client<S = TcpStream> {
    pub ws: WebSocket<S>,
    /// Messages of a received frame that were not read yet.
    waiting: VecDeque<Value>,
    /// The shard of the connection, as the server reports it.
    pub shard: u64,
    id: u64,
    /// Whether to answer the server's pings.
    pub pongs: bool,
}

impl Client {
    /// The WebSocket is open; no command was sent.
    pub fn fresh(server: &Server) -> Self {
        Self::over(ws(server, "/connection/websocket"))
    }

    /// Connected by a connect command.
    pub fn connect(server: &Server) -> Self {
        let mut client = Self::fresh(server);
        let reply = client.ask(json!({"connect": {}}));
        client.shard = reply["connect"]["data"]["shard"].as_u64().expect("with --dev the reply contains the shard");
        client
    }

    /// Two connections, one on each of the two shards.
    pub fn pair(server: &Server) -> [Self; 2] {
        // The kernel spreads connections by a hash of their ports, so a few tries are enough.
        let mut first = Self::connect(server);
        for _ in 0..200 {
            let mut second = Self::connect(server);
            if first.shard != second.shard {
                if first.shard == 1 {
                    std::mem::swap(&mut first, &mut second);
                }
                return [first, second];
            }
        }
        panic!("200 connections came to one shard");
    }
}

impl<S: Read + Write> Client<S> {
    /// A client over an open WebSocket.
    pub fn over(ws: WebSocket<S>) -> Self {
        Self { ws, waiting: VecDeque::new(), shard: u64::MAX, id: 0, pongs: true }
    }

    pub fn send_text(&mut self, text: impl Into<String>) {
        self.ws.send(Message::text(text.into())).expect("the server accepts the message");
    }

    /// Sends a command under the next id, which it returns.
    pub fn send(&mut self, mut command: Value) -> u64 {
        self.id += 1;
        command["id"] = json!(self.id);
        self.send_text(command.to_string());
        self.id
    }

    /// Sends a command and returns its reply, which must be the next message.
    pub fn ask(&mut self, command: Value) -> Value {
        let id = self.send(command);
        let reply = self.next();
        assert_eq!(reply["id"], json!(id), "{reply}");
        reply
    }

    pub fn subscribe(&mut self, channel: &str) {
        let reply = self.ask(json!({"subscribe": {"channel": channel}}));
        assert!(reply["subscribe"].is_object(), "{reply}");
    }

    /// The error code of a command that must be rejected.
    pub fn refused(&mut self, command: Value) -> u64 {
        let reply = self.ask(command);
        reply["error"]["code"].as_u64().unwrap_or_else(|| panic!("no error: {reply}"))
    }

    /// The next message of the server: a reply or a push. Answers and skips pings if `pongs` is set.
    pub fn next(&mut self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = self.waiting.pop_front() {
                if value != json!({}) || !self.pongs {
                    return value;
                }
                assert!(Instant::now() < deadline, "nothing but pings");
                self.send_text("{}");
                continue;
            }
            match self.ws.read().expect("the connection stays open") {
                Message::Text(text) => {
                    let messages = text.trim_end().split('\n');
                    self.waiting.extend(messages.map(|one| serde_json::from_str::<Value>(one).expect("JSON")));
                }
                Message::Close(close) => panic!("closed: {close:?}"),
                _ => {}
            }
        }
    }

    /// The next message, which must be a publication: its channel and data.
    pub fn publication(&mut self) -> (String, Value) {
        let mut push = self.next();
        let channel = push["push"]["channel"].as_str().unwrap_or_else(|| panic!("no publication: {push}")).to_owned();
        (channel, push["push"]["pub"]["data"].take())
    }

    /// Code and reason of the server's close frame; skips everything before it.
    pub fn closed(&mut self) -> (u16, String) {
        loop {
            match self.ws.read() {
                Ok(Message::Close(Some(close))) => return (close.code.into(), close.reason.as_str().to_owned()),
                Ok(Message::Close(None)) => panic!("a close frame without a code"),
                Ok(_) => {}
                Err(error) => panic!("no close frame: {error}"),
            }
        }
    }
}
