//! The server of this repository, started for a test, and the tool run against it.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The server program, in the folder of the tool. It is built here if the tests of this package alone are run.
fn program() -> PathBuf {
    let tool = Path::new(crate::TOOL);
    let server = tool.with_file_name("corecast");
    if !server.exists() {
        let release = tool.parent().is_some_and(|folder| folder.ends_with("release"));
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--package", "corecast", "--bin", "corecast"]).args(release.then_some("--release"));
        assert!(build.status().unwrap().success(), "the server could not be built");
    }
    server
}

pub struct Server {
    pub child: Child,
    pub client: SocketAddr,
    pub admin: SocketAddr,
}

impl Server {
    /// With more settings and command-line words.
    pub fn start_with(name: &str, more: &Value, words: &[&str]) -> Self {
        let options = json!({
            "presence": true, "history_size": 100, "history_ttl": "300s",
            "allow_recovery": true, "allow_positioning": true,
            "allow_subscribe_for_client": true, "allow_publish_for_client": true,
            "allow_subscribe_for_anonymous": true, "allow_publish_for_anonymous": true,
        });
        let bare = json!({"name": "bare", "allow_subscribe_for_client": true, "allow_publish_for_client": true});
        let mut config = json!({
            "client": {"token": {"hmac_secret_key": "the-secret"}},
            "http_api": {"key": "the-key"},
            "channel": {"without_namespace": options, "namespaces": [bare]},
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.json"));
        std::fs::write(&file, config.to_string()).unwrap();
        let mut child = Command::new(program())
            .args(["serve", "--shards", "1", "--config"])
            .arg(file)
            .args(if config["listen"].is_null() { &["--listen", "127.0.0.1:0"][..] } else { &[] })
            .args(if words.contains(&"--admin") { &[][..] } else { &["--admin", "127.0.0.1:0"] })
            .args(words)
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address = |words: &str| {
            let line = lines.find(|line| line.as_ref().unwrap().contains(words)).expect("the server starts").unwrap();
            let rest = line.split(words).nth(1).unwrap();
            rest.trim_start_matches("tls:").split([' ', ',', '/']).next().unwrap().parse().unwrap()
        };
        let (client, admin) = (address("clients connect to "), address("admin address: http://"));
        // Its log is read to the end, so that it never blocks.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, client, admin }
    }

    pub fn url(&self) -> String {
        format!("ws://{}/connection/websocket", self.client)
    }

    /// Reads the counters until they are as wanted.
    pub fn wait_for_metrics(&self, wanted: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut socket = TcpStream::connect(self.admin).unwrap();
            socket.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            let mut text = String::new();
            socket.read_to_string(&mut text).unwrap();
            if wanted(&text) {
                return;
            }
            assert!(Instant::now() < deadline, "the counters stay at: {text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.admin)
    }

    /// Runs the tool; returns its exit code and its object.
    pub fn load(&self, args: &[&str]) -> (i32, Value) {
        let output = Command::new(crate::TOOL)
            .args(args)
            .args(["--server-pid", &self.child.id().to_string(), "--json", "--quiet"])
            .args(["--server-metrics", &self.metrics_url()])
            .env("SECRET", "the-secret")
            .env("KEY", "the-key")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text} {output:?}"));
        (output.status.code().unwrap(), value)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Why a run is void, except for a core that was not busy enough for a throughput.
pub fn faults(result: &Value) -> Vec<&str> {
    let reasons = result["void"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap());
    reasons.filter(|reason| !reason.starts_with("as a throughput")).collect()
}

/// Settings without tokens: every connection is accepted.
pub fn open_to_all() -> Value {
    json!({"client": {"allow_anonymous_connect_without_token": true}})
}

/// A server with TLS, and the options with which the tool trusts it.
pub fn secure(name: &str, more: Value) -> (Server, String, [String; 2]) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let folder_name = folder.to_str().unwrap().into();
    corecast_load::runs::certificate::run(&corecast_load::args::Certificate { folder: folder_name }).unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let mut more = more;
    more["tls"] = json!({"cert_pem_file": file("cert.pem"), "key_pem_file": file("key.pem")});
    more["listen"] = json!(["tls:127.0.0.1:0"]);
    let server = Server::start_with(name, &more, &[]);
    let url = format!("wss://{}/connection/websocket", server.client);
    (server, url, ["--tls-ca".into(), file("cert.pem")])
}
