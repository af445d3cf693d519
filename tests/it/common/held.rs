//! A backend over HTTP that answers when its test says so.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

use serde_json::Value;

use super::PATIENCE;

/// A backend that holds its answers.
pub struct Held {
    at: SocketAddr,
    requests: mpsc::Receiver<(Value, TcpStream)>,
}

impl Held {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("bound");
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sender = sender.clone();
                std::thread::spawn(move || read_request(stream).map(|request| sender.send(request)));
            }
        });
        Self { at, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.at)
    }

    /// Waits for the next request: its body, and where its answer goes.
    pub fn request(&self) -> (Value, TcpStream) {
        self.requests.recv_timeout(PATIENCE).expect("a request")
    }
}

fn read_request(mut stream: TcpStream) -> Option<(Value, TcpStream)> {
    let mut received = Vec::new();
    loop {
        let mut bytes = [0; 4096];
        let n = stream.read(&mut bytes).ok().filter(|&n| n > 0)?;
        received.extend(&bytes[..n]);
        let text = String::from_utf8_lossy(&received).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some((serde_json::from_str(body).unwrap_or(Value::Null), stream));
        }
    }
}

/// Sends an answer.
pub fn answer(mut stream: TcpStream, body: &Value) {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).expect("the server waits for it");
}
