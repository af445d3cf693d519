//! A socket that exists in memory only: the client's end is the test's, the server's end is a `Source`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;

use corecast::engine::net::source::Source;
use rustix::io::Errno;

#[derive(Default)]
pub struct Wire {
    /// What the client sent and the server has not read.
    pub to_server: VecDeque<u8>,
    /// What the server wrote and the client has not read.
    pub to_client: Vec<u8>,
    /// Bytes that the server may still write before it would block.
    pub room: usize,
    /// The server was told "would block", or took less than it wanted: an edge is owed.
    pub blocked: bool,
    /// The source takes all that it is given, as TLS does with a record, and keeps what does not leave.
    pub keeps: bool,
    pub inside: Vec<u8>,
    /// The client sends no more.
    pub client_ended: bool,
    /// The connection was reset: every call fails.
    pub reset: bool,
    /// The server's FIN, and its close.
    pub server_ended: bool,
    pub server_closed: bool,
}

/// The server's end.
pub struct Socket(pub Rc<RefCell<Wire>>);

impl Wire {
    /// What is kept leaves as far as there is room.
    fn let_go(&mut self) -> Result<(), Errno> {
        if self.reset {
            return Err(Errno::PIPE);
        }
        let n = self.inside.len().min(self.room);
        self.room -= n;
        let gone: Vec<u8> = self.inside.drain(..n).collect();
        self.to_client.extend(gone);
        self.blocked |= !self.inside.is_empty();
        if self.inside.is_empty() { Ok(()) } else { Err(Errno::AGAIN) }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.borrow_mut().server_closed = true;
    }
}

impl Socket {
    fn take(&mut self, max: usize) -> Result<Vec<u8>, Errno> {
        let mut wire = self.0.borrow_mut();
        if wire.reset {
            return Err(Errno::CONNRESET);
        }
        let n = max.min(wire.to_server.len());
        match n {
            0 if wire.client_ended => Ok(Vec::new()),
            0 => Err(Errno::AGAIN),
            _ => Ok(wire.to_server.drain(..n).collect()),
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
        let mut wire = self.0.borrow_mut();
        assert!(!wire.server_ended, "nothing is written behind our FIN");
        if wire.reset {
            return Err(Errno::PIPE);
        }
        if wire.keeps {
            wire.let_go()?;
            wire.inside.extend_from_slice(bytes);
            let _ = wire.let_go();
            return if wire.inside.is_empty() { Ok(bytes.len()) } else { Err(Errno::INPROGRESS) };
        }
        let n = bytes.len().min(wire.room);
        wire.room -= n;
        wire.to_client.extend_from_slice(&bytes[..n]);
        wire.blocked |= n < bytes.len();
        if n == 0 && !bytes.is_empty() { Err(Errno::AGAIN) } else { Ok(n) }
    }

    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        if self.0.borrow().keeps {
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
        let mut wire = self.0.borrow_mut();
        assert!(wire.inside.is_empty() || wire.reset, "what was taken leaves before our FIN");
        wire.server_ended = true;
    }

    fn wants_write(&self) -> bool {
        !self.0.borrow().inside.is_empty()
    }

    fn push(&mut self) -> Result<(), Errno> {
        self.0.borrow_mut().let_go()
    }
}
