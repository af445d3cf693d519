//! One connection before the others: it finds out where channels stand, and publishes what those who come back have missed.
//!
//! Blocking and one question after the other: it belongs to no measurement.

use crate::net::Target;
use crate::net::deflate::{Deflate, Inflater};
use crate::net::frame;
use crate::protocols::{self, Dialect, Since};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Time for any one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket, or TLS on one.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

pub struct Herald<'a> {
    socket: Box<dyn Stream>,
    inflater: Inflater,
    deflate: Deflate,
    held: Vec<u8>,
    dialect: &'a Dialect,
    number: usize,
    id: u64,
}

impl<'a> Herald<'a> {
    /// Connects as user `number`.
    pub fn enter(target: &Target, dialect: &'a Dialect, number: usize) -> Result<Self, String> {
        let socket = TcpStream::connect_timeout(&target.addr, PATIENCE).map_err(|e| e.to_string())?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        let socket: Box<dyn Stream> = match &target.tls {
            Some(tls) => Box::new(rustls::StreamOwned::new(tls.session()?, socket)),
            None => Box::new(socket),
        };
        let (inflater, deflate, held) = (Inflater::new(), target.deflate, Vec::new());
        let mut herald = Self { socket, inflater, deflate, held, dialect, number, id: protocols::CONNECT_ID };
        herald.socket.write_all(&target.request).map_err(|e| e.to_string())?;
        let head = loop {
            match frame::response(&herald.held, deflate.is_on()).map_err(|fault| fault.to_string())? {
                Some(head) => break head,
                None => herald.read()?,
            }
        };
        herald.held.drain(..head);
        herald.ask(&protocols::json::greeting(dialect, number, &[]), protocols::CONNECT_ID)?;
        Ok(herald)
    }

    /// Subscribes to a channel and says where it stands.
    pub fn subscribe(&mut self, channel: &str) -> Result<Since, String> {
        self.id += 1;
        let reply =
            self.ask(&protocols::json::subscribe(self.dialect, self.number, self.id, channel, None), self.id)?;
        let result = &reply["subscribe"];
        if result["positioned"] != true {
            return Err(format!("{channel} has no positions: its namespace needs history and allow_recovery"));
        }
        let epoch = result["epoch"].as_str().unwrap_or_default().to_string();
        Ok(Since { epoch, offset: result["offset"].as_u64().unwrap_or(0) })
    }

    pub fn publish(&mut self, channel: &str, data: &str) -> Result<(), String> {
        self.id += 1;
        let command = json!({ "id": self.id, "publish": { "channel": channel, "data": data } });
        self.ask(&command.to_string(), self.id).map(drop)
    }

    /// Sends a message and waits for the reply to command `id`.
    fn ask(&mut self, message: &str, id: u64) -> Result<Value, String> {
        let mut out = Vec::new();
        frame::put_masked(&mut out, frame::TEXT, fastrand::u32(..).to_ne_bytes(), &[message.as_bytes()]);
        self.socket.write_all(&out).map_err(|e| e.to_string())?;
        loop {
            while let Some(body) = self.frame()? {
                for line in protocols::lines(&body) {
                    let reply = protocols::reply(line).map_err(|fault| fault.to_string())?;
                    if reply["id"] == id {
                        return if reply["error"].is_null() { Ok(reply) } else { Err(reply["error"].to_string()) };
                    }
                }
            }
            self.read()?;
        }
    }

    /// The next whole frame's payload, if it is there.
    fn frame(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some(header) = frame::header(&self.held, self.deflate.is_on()).map_err(|fault| fault.to_string())? else {
            return Ok(None);
        };
        if self.held.len() < header.total() {
            return Ok(None);
        }
        let body = self.held[header.head..header.total()].to_vec();
        self.held.drain(..header.total());
        if header.opcode == frame::CLOSE {
            let code = body.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
            return Err(format!(
                "closed by code {code} {}",
                String::from_utf8_lossy(body.get(2..).unwrap_or_default())
            ));
        }
        if header.compressed {
            let message = self.inflater.message(&body, self.deflate == Deflate::Fresh);
            return message.map(Some).map_err(|fault| fault.to_string());
        }
        Ok(Some(body))
    }

    fn read(&mut self) -> Result<(), String> {
        let mut room = [0; 16 * 1024];
        match self.socket.read(&mut room) {
            Ok(0) => Err("closed by the server".into()),
            Ok(n) => {
                self.held.extend_from_slice(&room[..n]);
                Ok(())
            }
            Err(e) => Err(e.to_string()),
        }
    }
}
