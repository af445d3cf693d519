//! Runs over several hosts: an agent waits on each for a coordinator that knows the key, and gives every one that does a
//! process of its own that carries a part.
//!
//! Plan: both sides send a nonce and prove over both that they know the key (HMAC-SHA-256), which itself never travels. Then the
//! connection is the standard input and output of the part's process, and the agent is out of it.
//! Invariants: until the proof nothing is read beyond `HELLO_BYTES_MAX` and `HELLO_TIME`; there are never more than
//! `--parts-max` connections at a time.

use crate::distributed::coordinator_protocol;
use crate::distributed::remote_workers::{Offset, Part};
use crate::runs::Refusal;
use aws_lc_rs::{hmac, rand};
use clap::Args;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Bytes of a message before the other side has proved anything.
const HELLO_BYTES_MAX: usize = 1024;
/// How long the other side may take to prove it.
const HELLO_TIME: Duration = Duration::from_secs(5);
/// A key below this many bytes can be guessed.
const KEY_BYTES_MIN: usize = 16;
/// After how much silence a connection is asked whether it still stands.
const KEEPALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub struct Agent {
    /// Where coordinators connect; port 0 lets the system choose
    #[arg(long, default_value = "0.0.0.0:7000", value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// The variable that holds the key, of 16 bytes or more
    #[arg(long, value_name = "VAR")]
    pub key_env: String,
    /// Parts that this host carries at a time
    #[arg(long, default_value_t = 256)]
    pub parts_max: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    version: String,
    nonce: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Proof {
    nonce: String,
    mac: String,
}

/// The agent's proof, or why there is none.
#[derive(Debug, Serialize, Deserialize)]
struct Verdict {
    mac: Option<String>,
    why: Option<String>,
}

/// The key that a variable holds.
pub fn key(option: &str, name: &str) -> Result<hmac::Key, Refusal> {
    let text = std::env::var(name).map_err(|_| Refusal(format!("{option}: {name} is not set")))?;
    if text.len() < KEY_BYTES_MIN {
        return Err(Refusal(format!("{option}: {name} has {} bytes and needs {KEY_BYTES_MIN}", text.len())));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))
}

fn nonce() -> io::Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("no random numbers"))?;
    Ok(HEXLOWER.encode(&bytes))
}

/// What a side proves its key over. Neither can be the other's, nor another talk's.
fn text(side: &str, agent: &str, coordinator: &str) -> Vec<u8> {
    format!("corecast-load {} {side} {agent} {coordinator}", env!("CARGO_PKG_VERSION")).into_bytes()
}

fn prove(key: &hmac::Key, side: &str, agent: &str, coordinator: &str) -> String {
    HEXLOWER.encode(hmac::sign(key, &text(side, agent, coordinator)).as_ref())
}

fn proves(key: &hmac::Key, side: &str, agent: &str, coordinator: &str, mac: &str) -> bool {
    let mac = HEXLOWER.decode(mac.as_bytes()).unwrap_or_default();
    hmac::verify(key, &text(side, agent, coordinator), &mac).is_ok()
}

fn set_up(stream: &TcpStream, limit: Option<Duration>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(limit)?;
    stream.set_write_timeout(limit)?;
    // A host that fell silent for ever is noticed.
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

// ---- the agent

/// Waits for coordinators until it is ended.
pub fn run(args: &Agent) -> Result<u8, Refusal> {
    let key = Arc::new(key("--key-env", &args.key_env)?);
    let listener = TcpListener::bind(args.listen).map_err(|e| Refusal(format!("--listen {}: {e}", args.listen)))?;
    eprintln!("corecast-load: agent waits for coordinators on {}", listener.local_addr()?);
    let busy = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if busy.load(Relaxed) >= args.parts_max {
            eprintln!("corecast-load: turned one away: {} parts are carried already (--parts-max)", args.parts_max);
            continue;
        }
        busy.fetch_add(1, Relaxed);
        let (key, busy) = (key.clone(), busy.clone());
        std::thread::spawn(move || {
            let from = stream.peer_addr().map_or_else(|_| "one who left".into(), |addr| addr.to_string());
            if let Err(e) = serve(stream, &key) {
                eprintln!("corecast-load: {from}: {e}");
            }
            busy.fetch_sub(1, Relaxed);
        });
    }
    Ok(0)
}

fn serve(stream: TcpStream, key: &hmac::Key) -> io::Result<()> {
    set_up(&stream, Some(HELLO_TIME))?;
    let ours = nonce()?;
    let mut talk = &stream;
    coordinator_protocol::say(&mut talk, &Hello { version: env!("CARGO_PKG_VERSION").into(), nonce: ours.clone() })?;
    let Proof { nonce: theirs, mac } = coordinator_protocol::hear(&mut talk, HELLO_BYTES_MAX)?;
    if !proves(key, "coordinator", &ours, &theirs, &mac) {
        coordinator_protocol::say(&mut talk, &Verdict { mac: None, why: Some("the key is another one".into()) })?;
        return Err(io::Error::other("refused: it does not know the key"));
    }
    coordinator_protocol::say(&mut talk, &Verdict { mac: Some(prove(key, "agent", &ours, &theirs)), why: None })?;
    set_up(&stream, None)?;
    let output = OwnedFd::from(stream.try_clone()?);
    let mut part = Command::new(std::env::current_exe()?);
    let mut child = part.arg("part").stdin(Stdio::from(OwnedFd::from(stream))).stdout(Stdio::from(output)).spawn()?;
    // Its ends of the connection must be the only ones.
    drop(part);
    child.wait().map(|_| ())
}

// ---- the coordinator

/// Meets the agent of a host, and gives the part that it carries.
pub fn meet(host: &str, number: usize, key: &hmac::Key) -> Result<Part, Refusal> {
    let wrong = |why: String| Refusal(format!("--hosts {host}: {why}"));
    let addr = host.to_socket_addrs().map_err(|e| wrong(e.to_string()))?.next();
    let addr = addr.ok_or_else(|| wrong("the host has no address".into()))?;
    let stream = TcpStream::connect_timeout(&addr, HELLO_TIME).map_err(|e| wrong(e.to_string()))?;
    greet(&stream, key).map_err(wrong)?;
    let reader = stream.try_clone()?;
    let mut part = Part::new(format!("host {host}, process {number}"), Box::new(reader), Box::new(stream));
    part.clock = Some(Offset::default());
    Ok(part)
}

fn greet(stream: &TcpStream, key: &hmac::Key) -> Result<(), String> {
    set_up(stream, Some(HELLO_TIME)).map_err(|e| e.to_string())?;
    let mut talk = stream;
    let no_agent = |e: io::Error| format!("no agent answers there ({e})");
    let hello: Hello = coordinator_protocol::hear(&mut talk, HELLO_BYTES_MAX).map_err(no_agent)?;
    let (theirs, ours) = (hello.version, env!("CARGO_PKG_VERSION"));
    if theirs != ours {
        return Err(format!("its agent is version {theirs} and this is {ours}"));
    }
    let nonce = nonce().map_err(|e| e.to_string())?;
    let mac = prove(key, "coordinator", &hello.nonce, &nonce);
    coordinator_protocol::say(&mut talk, &Proof { nonce: nonce.clone(), mac }).map_err(no_agent)?;
    let verdict: Verdict = coordinator_protocol::hear(&mut talk, HELLO_BYTES_MAX).map_err(no_agent)?;
    match verdict.mac {
        Some(mac) if proves(key, "agent", &hello.nonce, &nonce, &mac) => {}
        Some(_) => return Err("its agent does not know the key".into()),
        None => return Err(verdict.why.unwrap_or_else(|| "its agent refused".into())),
    }
    set_up(stream, None).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_of_one_key_one_side_and_one_talk() {
        let [key, other] = ["a", "b"].map(|text| hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()));
        let mac = prove(&key, "agent", "1", "2");
        assert!(proves(&key, "agent", "1", "2", &mac));
        assert!(!proves(&other, "agent", "1", "2", &mac) && !proves(&key, "coordinator", "1", "2", &mac));
        assert!(!proves(&key, "agent", "2", "2", &mac) && !proves(&key, "agent", "1", "3", &mac));
        assert!(!proves(&key, "agent", "1", "2", "") && !proves(&key, "agent", "1", "2", "x"));
    }

    #[test]
    fn nonces_differ() {
        assert_ne!(nonce().unwrap(), nonce().unwrap());
    }
}
