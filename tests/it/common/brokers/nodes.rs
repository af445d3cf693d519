//! Servers for clients, as nodes of one cluster: Corecast, and Centrifugo itself. Both read one configuration, in
//! Centrifugo's format.

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Folder, Process, free_port};
use crate::common::{Client, KEY, Server, http, until, ws_at};

/// A running Centrifugo.
struct CentrifugoServer {
    at: SocketAddr,
    process: Process,
}

impl CentrifugoServer {
    /// `config` needs neither an address nor an API key.
    fn start(config: &Value) -> Self {
        until(|| "the server does not start".into(), || Self::try_start(config))
    }

    fn try_start(config: &Value) -> Option<Self> {
        let (port, folder) = (free_port(), Folder::new("centrifugo"));
        let mut config = config.clone();
        config["http_server"] = json!({"address": "127.0.0.1", "port": port.to_string()});
        config["http_api"]["key"] = json!(KEY);
        config["health"] = json!({"enabled": true});
        let file = folder.file("config.json");
        std::fs::write(&file, config.to_string()).expect("the folder takes files");
        let at = ([127, 0, 0, 1], port).into();
        let mut server = Self { at, process: Process::start("centrifugo", folder, vec!["--config".into(), file]) };
        server.wait_until_ready().then_some(server)
    }

    /// False: another process took the port in the meantime.
    fn wait_until_ready(&mut self) -> bool {
        until(
            || "the server does not get ready".into(),
            || {
                if self.process.has_ended() {
                    let log = self.process.log();
                    assert!(log.contains("address already in use"), "{log}");
                    return Some(false);
                }
                std::net::TcpStream::connect(self.at).ok()?;
                (http(self.at, "GET", "/health", &[], "").0 == 200).then_some(true)
            },
        )
    }

    fn log(&self) -> String {
        self.process.log()
    }
}

enum Program {
    Corecast(Server),
    Centrifugo(CentrifugoServer),
}

/// A node of either program.
pub struct Node {
    pub client: SocketAddr,
    pub api_address: SocketAddr,
    program: Program,
}

impl Node {
    /// A Corecast on two shards. What `config` leaves out has Centrifugo's default.
    pub fn corecast(config: &Value) -> Self {
        Self::corecast_with(config, &[])
    }

    /// With settings of its own besides, such as `("handover.trial_time", "0s")`.
    pub fn corecast_with(config: &Value, settings: &[(&str, &str)]) -> Self {
        Self::spawn(config, settings, None)
    }

    /// The next process of a Corecast, which takes its listeners over.
    pub fn take_over(&self, config: &Value, settings: &[(&str, &str)]) -> Self {
        Self::spawn(config, settings, Some(self))
    }

    fn spawn(config: &Value, settings: &[(&str, &str)], old: Option<&Self>) -> Self {
        let folder = Folder::new("corecast");
        let file = folder.file("config.json");
        std::fs::write(&file, config.to_string()).expect("the folder takes files");
        let at = |address: fn(&Self) -> SocketAddr| old.map_or("127.0.0.1:0".into(), |old| address(old).to_string());
        let (listen, admin) = (at(|old| old.client), at(|old| old.api_address));
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_corecast"));
        command.args(["serve", "--config", &file, "--listen", &listen, "--admin", &admin, "--shards", "2"]);
        if old.is_some() {
            command.arg("--takeover");
        }
        command.env_clear().env("CORECAST_HTTP_API_KEY", KEY).env("CORECAST_OVERSUBSCRIBE", "true");
        let server = Server::spawn(command, settings);
        Self { client: server.client, api_address: server.admin, program: Program::Corecast(server) }
    }

    pub fn centrifugo(config: &Value) -> Self {
        let server = CentrifugoServer::start(config);
        Self { client: server.at, api_address: server.at, program: Program::Centrifugo(server) }
    }

    /// The Corecast that this node is.
    pub fn server(&self) -> &Server {
        match &self.program {
            Program::Corecast(server) => server,
            Program::Centrifugo(_) => panic!("this node is a Centrifugo"),
        }
    }

    /// The answer of the server API, which may contain an error.
    pub fn call(&self, method: &str, body: &Value) -> Value {
        let (status, body) =
            http(self.api_address, "POST", &format!("/api/{method}"), &[("X-API-Key", KEY)], &body.to_string());
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// The result of the server API.
    pub fn api(&self, method: &str, body: &Value) -> Value {
        let mut answer = self.call(method, body);
        assert!(answer["result"].is_object(), "{method} {body}: {answer}");
        answer["result"].take()
    }

    /// Waits until it can reach the broker, with publications to a channel.
    pub fn wait_until_publishing(&self, channel: &str) {
        let publish = || self.call("publish", &json!({"channel": channel, "data": {}}));
        until(|| "it does not reach its broker".into(), || publish()["result"].is_object().then_some(()));
    }

    /// An open WebSocket without a command.
    pub fn fresh_client(&self) -> Client {
        Client::over(ws_at(self.client, "/connection/websocket"))
    }

    /// A client without a token: its connect reply, too.
    pub fn connect(&self, connect: &Value) -> (Client, Value) {
        let mut client = self.fresh_client();
        let mut reply = client.ask(json!({"connect": connect}));
        assert!(reply["connect"].is_object(), "{reply}");
        let reply = reply["connect"].take();
        (client, reply)
    }

    pub fn log(&self) -> String {
        match &self.program {
            Program::Corecast(server) => server.log().join("\n"),
            Program::Centrifugo(server) => server.log(),
        }
    }

    pub fn signal(&self, signal: Signal) {
        match &self.program {
            Program::Corecast(server) => server.signal(signal),
            Program::Centrifugo(server) => server.process.signal(signal),
        }
    }

    /// Waits until it ends by itself.
    pub fn wait_for_exit(&mut self) {
        match &mut self.program {
            Program::Corecast(server) => _ = server.wait_for_exit(),
            Program::Centrifugo(server) => server.process.wait_for_exit(),
        }
    }

    /// kill -9.
    pub fn kill(mut self) {
        match &mut self.program {
            Program::Corecast(server) => {
                server.signal(Signal::KILL);
                server.wait_for_exit();
            }
            Program::Centrifugo(server) => server.process.kill(),
        }
    }
}
