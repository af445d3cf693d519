//! Between a server and its Redis: passes everything on, and on demand keeps PUB/SUB messages back, or the answer to one script.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub struct RedisRelay {
    at: SocketAddr,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    swallows_messages: AtomicBool,
    cuts_next_answer: AtomicBool,
    swallowed: AtomicUsize,
    cut: AtomicUsize,
    connections: AtomicUsize,
}

impl RedisRelay {
    pub fn start(redis_port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let at = listener.local_addr().expect("it is bound");
        let faults = Arc::<Faults>::default();
        let shared = Arc::clone(&faults);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let Ok(redis) = TcpStream::connect((Ipv4Addr::LOCALHOST, redis_port)) else { continue };
                let faults = Arc::clone(&shared);
                std::thread::spawn(move || relay(&client, &redis, &faults));
            }
        });
        Self { at, faults }
    }

    /// As a value of `engine.redis.address`.
    pub fn address(&self) -> String {
        format!("redis://{}", self.at)
    }

    /// Keeps back what PUB/SUB delivers. Everything else passes: the answers to subscribes and to PING, too.
    pub fn swallow_messages(&self, swallows: bool) {
        self.faults.swallows_messages.store(swallows, Ordering::Relaxed);
    }

    /// Ends the connection of the next script before its answer, when Redis has carried it out.
    pub fn cut_next_answer(&self) {
        self.faults.cuts_next_answer.store(true, Ordering::Relaxed);
    }

    pub fn swallowed(&self) -> usize {
        self.faults.swallowed.load(Ordering::Relaxed)
    }

    /// Answers that were cut.
    pub fn cut(&self) -> usize {
        self.faults.cut.load(Ordering::Relaxed)
    }

    pub fn connections(&self) -> usize {
        self.faults.connections.load(Ordering::Relaxed)
    }
}

fn relay(client: &TcpStream, redis: &TcpStream, faults: &Arc<Faults>) {
    let (Ok(mut from_client), Ok(mut to_redis)) = (client.try_clone(), redis.try_clone()) else { return };
    let is_cut = Arc::<AtomicBool>::default();
    let (shared, cutting) = (Arc::clone(faults), Arc::clone(&is_cut));
    std::thread::spawn(move || {
        let mut bytes = [0; 64 << 10];
        while let Ok(count @ 1..) = from_client.read(&mut bytes) {
            let runs_script = contains(&bytes[..count], b"EVAL");
            if runs_script && shared.cuts_next_answer.swap(false, Ordering::Relaxed) {
                cutting.store(true, Ordering::Relaxed);
            }
            if to_redis.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = to_redis.shutdown(Shutdown::Write);
    });
    answers(client, redis, faults, &is_cut);
    let _ = client.shutdown(Shutdown::Both);
    let _ = redis.shutdown(Shutdown::Both);
}

/// Passes whole values on, up to the end of either side.
fn answers(mut client: &TcpStream, mut redis: &TcpStream, faults: &Faults, is_cut: &AtomicBool) {
    let (mut received, mut bytes) = (Vec::new(), [0; 64 << 10]);
    while let Ok(count @ 1..) = redis.read(&mut bytes) {
        received.extend(&bytes[..count]);
        // Redis has answered, so the script has run.
        if is_cut.load(Ordering::Relaxed) {
            faults.cut.fetch_add(1, Ordering::Relaxed);
            return;
        }
        while let Some(length) = value_bytes(&received) {
            let value: Vec<u8> = received.drain(..length).collect();
            let is_message = [&b"\r\nmessage\r\n"[..], b"\r\nsmessage\r\n"].iter().any(|word| {
                // The word is the first element, behind the head of the array and its own length.
                value.windows(word.len()).take(24).any(|window| window == *word)
            });
            if is_message && faults.swallows_messages.load(Ordering::Relaxed) {
                faults.swallowed.fetch_add(1, Ordering::Relaxed);
            } else if client.write_all(&value).is_err() {
                return;
            }
        }
    }
}

/// The length of the first whole value of RESP2 or RESP3.
fn value_bytes(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&bytes[1..line - 2]).ok()?.parse::<i64>().ok();
    match bytes[0] {
        b'$' | b'=' | b'!' => match number()? {
            ..0 => Some(line),
            length => Some(line + length as usize + 2).filter(|end| *end <= bytes.len()),
        },
        kind @ (b'*' | b'>' | b'~' | b'%') => {
            let count = number()?.max(0) * if kind == b'%' { 2 } else { 1 };
            let mut end = line;
            for _ in 0..count {
                end += value_bytes(&bytes[end..])?;
            }
            Some(end)
        }
        _ => Some(line),
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}
