//! A stub between the driver and a server, which loses what a test wants lost.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::servers::Server;
use crate::config::{Endpoint, Redis};

/// What the stub does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Mode {
    Pass,
    /// Lets no message of a channel through. Commands and acknowledgements pass.
    SwallowMessages,
    /// Forwards the next script call, waits for its answer and cuts the connection instead of passing it on. Then it lets no
    /// connection in until the mode changes.
    LoseAnswer,
    /// The same before the call reaches the server.
    LoseRequest,
    /// Lets no connection in.
    Away,
}

pub(super) struct Stub {
    socket: PathBuf,
    mode: Arc<AtomicU8>,
}

impl Stub {
    pub(super) fn before(server: &Server) -> Self {
        let socket = server.socket().with_file_name("stub.sock");
        let listener = UnixListener::bind(&socket).expect("the folder takes sockets");
        let mode = Arc::new(AtomicU8::new(Mode::Pass as u8));
        let (target, shared) = (server.socket(), Arc::clone(&mode));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&target)) else { return };
                if shared.load(Ordering::SeqCst) != Mode::Away as u8 {
                    serve(client, server, &shared);
                }
            }
        });
        Self { socket, mode }
    }

    pub(super) fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    pub(super) fn is(&self, mode: Mode) -> bool {
        self.mode.load(Ordering::SeqCst) == mode as u8
    }

    pub(super) fn config(&self) -> Redis {
        Redis::at(Endpoint::Unix(self.socket.clone()))
    }
}

fn serve(client: UnixStream, server: UnixStream, mode: &Arc<AtomicU8>) {
    let loses = Arc::new(AtomicBool::new(false));
    let clone = |stream: &UnixStream| stream.try_clone().expect("a descriptor");
    let (mut from_client, mut to_server) = (clone(&client), clone(&server));
    let (is, losing) = (Arc::clone(mode), Arc::clone(&loses));
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_client.read(&mut buffer) {
            let calls_script = contains(&buffer[..count], b"EVAL");
            if calls_script && is.load(Ordering::SeqCst) == Mode::LoseRequest as u8 {
                is.store(Mode::Away as u8, Ordering::SeqCst);
                break;
            }
            if calls_script && is.load(Ordering::SeqCst) == Mode::LoseAnswer as u8 {
                losing.store(true, Ordering::SeqCst);
            }
            if to_server.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        _ = to_server.shutdown(Shutdown::Both);
        _ = from_client.shutdown(Shutdown::Both);
    });
    let (mut from_server, mut to_client, is) = (server, client, Arc::clone(mode));
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_server.read(&mut buffer) {
            let swallows = is.load(Ordering::SeqCst) == Mode::SwallowMessages as u8;
            if swallows && contains(&buffer[..count], b"$7\r\nmessage\r\n") {
                continue;
            }
            if loses.load(Ordering::SeqCst) {
                is.store(Mode::Away as u8, Ordering::SeqCst);
                break;
            }
            if to_client.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        _ = to_client.shutdown(Shutdown::Both);
        _ = from_server.shutdown(Shutdown::Both);
    });
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(bytes, part).is_some()
}
