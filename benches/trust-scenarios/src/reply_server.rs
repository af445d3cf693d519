//! The server of one attack by large replies, and the backend of its rpc commands.

use corecast_load::RunError;
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Bytes of the backend's answer: nearly the most that the server takes.
const ANSWER_BYTES: usize = 1_000_000;

pub struct Limits {
    pub shards: usize,
    pub backlog_bytes: u64,
}

pub struct ReplyServer {
    child: Child,
    config: PathBuf,
    pub client: SocketAddr,
}

impl ReplyServer {
    pub fn start(program: &Path, limits: &Limits) -> Result<Self, RunError> {
        let backend = start_backend()?;
        let options = json!({
            "presence": true, "history_size": 300, "history_ttl": "600s",
            "allow_recovery": true, "allow_positioning": true,
            "allow_subscribe_for_client": true, "allow_publish_for_client": true, "allow_history_for_client": true,
            "allow_presence_for_client": true, "allow_subscribe_for_anonymous": true, "allow_publish_for_anonymous": true,
            "allow_history_for_anonymous": true, "allow_presence_for_anonymous": true,
        });
        let config = json!({
            "client": {"allow_anonymous_connect_without_token": true},
            "websocket": {"message_size_limit": 128 << 10},
            "engine": {"backlog_bytes_max": limits.backlog_bytes},
            "channel": {"without_namespace": options},
            "rpc": {"proxy": {"endpoint": format!("http://{backend}")}, "without_namespace": {"proxy_enabled": true}},
        });
        let file = std::env::temp_dir().join(format!("corecast-replies-{}.json", std::process::id()));
        std::fs::write(&file, config.to_string())?;
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"])
            .arg(&file)
            .args(["--shards", &limits.shards.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let Some(log) = child.stderr.take() else { return Err(RunError("the server has no log".into())) };
        let mut lines = BufReader::new(log).lines().map_while(Result::ok);
        let address = lines.by_ref().find_map(|line| Some(line.split_once("clients connect to ")?.1.trim().to_owned()));
        let Some(client) = address.and_then(|at| at.parse().ok()) else {
            child.kill()?;
            return Err(RunError(format!("{} did not start", program.display())));
        };
        // Its log is read to the end, so that it never blocks.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, config: file, client })
    }

    /// The resident memory of the process.
    pub fn memory_bytes(&self) -> Result<u64, RunError> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let Some(line) = line else { return Err(RunError("the server has ended".into())) };
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }
}

impl Drop for ReplyServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.config);
    }
}

/// A web server that answers every request with a large result.
fn start_backend() -> Result<SocketAddr, RunError> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    let body = format!(r#"{{"result":{{"data":"{}"}}}}"#, "r".repeat(ANSWER_BYTES));
    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let response = response.clone();
            // The end of the connection is the end of its thread.
            std::thread::spawn(move || answer(stream, &response));
        }
    });
    Ok(at)
}

fn answer(stream: TcpStream, response: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut body_bytes = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                body_bytes = value.trim().parse().unwrap_or(0);
            }
        }
        reader.by_ref().take(body_bytes).read_to_end(&mut Vec::new())?;
        writer.write_all(response.as_bytes())?;
    }
}
