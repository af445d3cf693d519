//! Runs over several hosts: an agent on each host waits for coordinators that know the key, and starts a worker process for every
//! connection of one.
//!
//! Both sides send a nonce and prove over both nonces that they know the key (HMAC-SHA-256); the key itself is never sent. The
//! connection then becomes the standard input and output of the worker process, and the agent no longer takes part.
//! Invariants: before the proof, at most `HELLO_BYTES_MAX` are read within `HELLO_TIMEOUT`; there are never more than
//! `--parts-max` connections.

use crate::RunError;
use crate::args::message_options::variable;
use crate::distributed::coordinator_protocol::{receive, send};
use crate::distributed::remote_workers::RemoteWorker;
use aws_lc_rs::{hmac, rand};
use clap::Args;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// The limit on a message before the other side has proved that it knows the key.
const HELLO_BYTES_MAX: usize = 1024;
/// The time for the proof.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A shorter key can be guessed.
const KEY_BYTES_MIN: usize = 16;
/// The silence after which a connection is probed.
const KEEPALIVE: Duration = Duration::from_secs(15);
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Debug, Args)]
pub struct Agent {
    /// The address for coordinators; port 0 lets the system choose
    #[arg(long, default_value = "0.0.0.0:7000", value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// The environment variable with the key, of 16 bytes or more
    #[arg(long, value_name = "VAR")]
    pub key_env: String,
    /// Worker processes that this host carries at a time
    #[arg(long, default_value_t = 256)]
    pub parts_max: usize,
}

/// The agent's greeting. The coordinator then sends its nonce and its proof, and the agent answers with its proof or an error.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    version: String,
    nonce: String,
}

/// The key in an environment variable.
pub fn key(option: &str, name: &str) -> Result<hmac::Key, RunError> {
    let text = variable(option, name)?;
    if text.len() < KEY_BYTES_MIN {
        return Err(RunError(format!("{option}: {name} has {} bytes and needs {KEY_BYTES_MIN}", text.len())));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))
}

fn nonce() -> io::Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("no random numbers"))?;
    Ok(HEXLOWER.encode(&bytes))
}

/// The text that a side signs. It is valid for one side and one exchange only.
fn text(side: &str, agent: &str, coordinator: &str) -> Vec<u8> {
    format!("corecast-load {VERSION} {side} {agent} {coordinator}").into_bytes()
}

fn prove(key: &hmac::Key, side: &str, agent: &str, coordinator: &str) -> String {
    HEXLOWER.encode(hmac::sign(key, &text(side, agent, coordinator)).as_ref())
}

fn is_proof(mac: &str, key: &hmac::Key, side: &str, agent: &str, coordinator: &str) -> bool {
    let mac = HEXLOWER.decode(mac.as_bytes()).unwrap_or_default();
    hmac::verify(key, &text(side, agent, coordinator), &mac).is_ok()
}

fn configure(stream: &TcpStream, timeout: Option<Duration>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(timeout)?;
    stream.set_write_timeout(timeout)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Runs the agent until it is ended.
pub fn run(args: &Agent) -> Result<u8, RunError> {
    let key = Arc::new(key("--key-env", &args.key_env)?);
    let listener = TcpListener::bind(args.listen).map_err(|e| RunError(format!("--listen {}: {e}", args.listen)))?;
    eprintln!("corecast-load: agent waits for coordinators on {}", listener.local_addr()?);
    // Each connection holds a reference.
    let connections = Arc::new(());
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if Arc::strong_count(&connections) > args.parts_max {
            eprintln!("corecast-load: rejected a connection: already {} (--parts-max)", args.parts_max);
            continue;
        }
        let (key, connection) = (key.clone(), connections.clone());
        std::thread::spawn(move || {
            let peer = stream.peer_addr().map_or_else(|_| "unknown address".into(), |addr| addr.to_string());
            if let Err(e) = serve(stream, &key) {
                eprintln!("corecast-load: {peer}: {e}");
            }
            drop(connection);
        });
    }
    Ok(0)
}

fn serve(stream: TcpStream, key: &hmac::Key) -> io::Result<()> {
    configure(&stream, Some(HELLO_TIMEOUT))?;
    let ours = nonce()?;
    send(&mut &stream, &Hello { version: VERSION.into(), nonce: ours.clone() })?;
    let (theirs, mac): (String, String) = receive(&mut &stream, HELLO_BYTES_MAX)?;
    if !is_proof(&mac, key, "coordinator", &ours, &theirs) {
        send(&mut &stream, &Err::<String, _>("the key is another one"))?;
        return Err(io::Error::other("rejected: it does not know the key"));
    }
    send(&mut &stream, &Ok::<_, String>(prove(key, "agent", &ours, &theirs)))?;
    configure(&stream, None)?;
    let output = OwnedFd::from(stream.try_clone()?);
    let mut command = Command::new(std::env::current_exe()?);
    let mut child =
        command.arg("part").stdin(Stdio::from(OwnedFd::from(stream))).stdout(Stdio::from(output)).spawn()?;
    // The process must hold the only ends of the connection.
    drop(command);
    child.wait().map(|_| ())
}

/// Connects to the agent of a host and returns the worker process that it starts.
pub fn connect(host: &str, number: usize, key: &hmac::Key) -> Result<RemoteWorker, RunError> {
    let error = |reason: String| RunError(format!("--hosts {host}: {reason}"));
    let addr = host.to_socket_addrs().map_err(|e| error(e.to_string()))?.next();
    let addr = addr.ok_or_else(|| error("the host has no address".into()))?;
    let stream = TcpStream::connect_timeout(&addr, HELLO_TIMEOUT).map_err(|e| error(e.to_string()))?;
    authenticate(&stream, key).map_err(error)?;
    Ok(RemoteWorker::on_host(format!("host {host}, process {number}"), stream)?)
}

fn authenticate(stream: &TcpStream, key: &hmac::Key) -> Result<(), String> {
    configure(stream, Some(HELLO_TIMEOUT)).map_err(|e| e.to_string())?;
    let mut stream = stream;
    let no_agent = |e: io::Error| format!("no agent answers there ({e})");
    let hello: Hello = receive(&mut stream, HELLO_BYTES_MAX).map_err(no_agent)?;
    if hello.version != VERSION {
        return Err(format!("its agent has version {}, this program {VERSION}", hello.version));
    }
    let nonce = nonce().map_err(|e| e.to_string())?;
    let mac = prove(key, "coordinator", &hello.nonce, &nonce);
    send(&mut stream, &(&nonce, mac)).map_err(no_agent)?;
    let proof: Result<String, String> = receive(&mut stream, HELLO_BYTES_MAX).map_err(no_agent)?;
    if !is_proof(&proof?, key, "agent", &hello.nonce, &nonce) {
        return Err("its agent does not know the key".into());
    }
    configure(stream, None).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proof_is_valid_for_one_key_one_side_and_one_exchange() {
        let [key, other] = ["a", "b"].map(|text| hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()));
        let mac = prove(&key, "agent", "1", "2");
        assert!(is_proof(&mac, &key, "agent", "1", "2"));
        assert!(!is_proof(&mac, &other, "agent", "1", "2") && !is_proof(&mac, &key, "coordinator", "1", "2"));
        assert!(!is_proof(&mac, &key, "agent", "2", "2") && !is_proof(&mac, &key, "agent", "1", "3"));
        assert!(!is_proof("", &key, "agent", "1", "2") && !is_proof("x", &key, "agent", "1", "2"));
    }

    #[test]
    fn nonces_differ() {
        assert_ne!(nonce().unwrap(), nonce().unwrap());
    }
}
