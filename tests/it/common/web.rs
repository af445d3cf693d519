//! A web server for the built program to call: a key set's endpoint, or the application's backend. It answers each request
//! as the test says, or closes the connection without an answer.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// Status and body; `None` closes the connection.
pub type Answer = Option<(u16, String)>;

pub struct Web {
    pub url: String,
    /// The paths of the requests so far.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Web {
    /// `answer` gets path and body of each request.
    pub fn start(answer: impl Fn(&str, &str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Self { url, seen }
    }

    /// How many requests for this path were received.
    pub fn count(&self, path: &str) -> usize {
        let seen = self.seen.lock().expect("never poisoned: no code panics while holding the lock");
        seen.iter().filter(|one| *one == path).count()
    }
}

/// One request per connection; a connection without a whole request gets no answer.
fn serve(mut stream: TcpStream, log: &Mutex<Vec<String>>, answer: &dyn Fn(&str, &str) -> Answer) {
    let Some((path, body)) = read_request(&mut stream) else { return };
    log.lock().expect("never poisoned: no code panics while holding the lock").push(path.clone());
    let Some((status, text)) = answer(&path, &body) else { return };
    let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", text.len());
    let _ = stream.write_all((head + &text).as_bytes());
}

fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut received = Vec::new();
    loop {
        let mut bytes = [0; 4096];
        let n = stream.read(&mut bytes).ok().filter(|&n| n > 0)?;
        received.extend(&bytes[..n]);
        let text = String::from_utf8_lossy(&received);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok();
        if body.len() >= head.lines().find_map(length).unwrap_or(0) {
            let path = head.split(' ').nth(1)?.to_owned();
            return Some((path, body.to_owned()));
        }
    }
}

/// A result in the form of a backend's response.
pub fn result(result: Value) -> Answer {
    Some((200, serde_json::json!({ "result": result }).to_string()))
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}
