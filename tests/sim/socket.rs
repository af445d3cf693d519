//! A connection in memory: a `Pipe` between the test's client and the server's `Socket`, which is a `Source`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;

use corecast::engine::net::source::Source;
use rustix::io::Errno;

#[derive(Default)]
pub struct Pipe {
    /// What the client sent and the server has not read.
    pub to_server: VecDeque<u8>,
    /// What the server wrote and the client has not read.
    pub to_client: Vec<u8>,
    /// Bytes that the server may still write before it would block.
    pub room: usize,
    /// The server got "would block" or a short write: the next room is a writable edge.
    pub blocked: bool,
    /// The source takes every write whole, as TLS does with a record, and buffers what the pipe has no room for.
    pub buffers: bool,
    pub buffer: Vec<u8>,
    /// The client sends no more.
    pub client_ended: bool,
    /// The connection was reset: every call fails.
    pub reset: bool,
    /// The server's FIN, and its close.
    pub server_ended: bool,
    pub server_closed: bool,
}

/// The server's end.
pub struct Socket(pub Rc<RefCell<Pipe>>);

impl Pipe {
    /// Moves buffered bytes into the pipe as far as there is room.
    fn flush(&mut self) -> Result<(), Errno> {
        if self.reset {
            return Err(Errno::PIPE);
        }
        let n = self.buffer.len().min(self.room);
        self.room -= n;
        let sent: Vec<u8> = self.buffer.drain(..n).collect();
        self.to_client.extend(sent);
        self.blocked |= !self.buffer.is_empty();
        if self.buffer.is_empty() { Ok(()) } else { Err(Errno::AGAIN) }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.borrow_mut().server_closed = true;
    }
}

impl Socket {
    fn take(&mut self, max: usize) -> Result<Vec<u8>, Errno> {
        let mut pipe = self.0.borrow_mut();
        if pipe.reset {
            return Err(Errno::CONNRESET);
        }
        let n = max.min(pipe.to_server.len());
        match n {
            0 if pipe.client_ended => Ok(Vec::new()),
            0 => Err(Errno::AGAIN),
            _ => Ok(pipe.to_server.drain(..n).collect()),
        }
    }
}

impl Source for Socket {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let bytes = self.take(into.len())?;
        into[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn read_spare(&mut self, into: &mut Vec<u8>) -> Result<usize, Errno> {
        let bytes = self.take(into.capacity() - into.len())?;
        into.extend_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut pipe = self.0.borrow_mut();
        assert!(!pipe.server_ended, "nothing is written behind the FIN");
        if pipe.reset {
            return Err(Errno::PIPE);
        }
        if pipe.buffers {
            pipe.flush()?;
            pipe.buffer.extend_from_slice(bytes);
            let _ = pipe.flush();
            return if pipe.buffer.is_empty() { Ok(bytes.len()) } else { Err(Errno::INPROGRESS) };
        }
        let n = bytes.len().min(pipe.room);
        pipe.room -= n;
        pipe.to_client.extend_from_slice(&bytes[..n]);
        pipe.blocked |= n < bytes.len();
        if n == 0 && !bytes.is_empty() { Err(Errno::AGAIN) } else { Ok(n) }
    }

    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        if self.0.borrow().buffers {
            return self.write(&slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>());
        }
        let mut written = 0;
        for slice in slices {
            match self.write(slice) {
                Ok(n) if n == slice.len() => written += n,
                Ok(n) => return Ok(written + n),
                Err(error) if written == 0 => return Err(error),
                Err(_) => return Ok(written),
            }
        }
        Ok(written)
    }

    fn shutdown_write(&mut self) {
        let mut pipe = self.0.borrow_mut();
        assert!(pipe.buffer.is_empty() || pipe.reset, "buffered bytes are sent before the FIN");
        pipe.server_ended = true;
    }

    fn wants_write(&self) -> bool {
        !self.0.borrow().buffer.is_empty()
    }

    fn push(&mut self) -> Result<(), Errno> {
        self.0.borrow_mut().flush()
    }
}
