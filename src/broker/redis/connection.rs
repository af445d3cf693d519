//! One connection to a Redis server: commands go out in order, values come in in order.
//!
//! The client crate encodes and decodes. Its own connections are not used: an acknowledgement of a subscription must be seen in
//! its place among the messages, with RESP2 too, and a reconnect must not be hidden.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use redis::{Cmd, Parser, Value};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket, with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Written bytes are removed from the front of the buffer when so many have gathered.
const WRITTEN_BYTES_MAX: usize = 256 << 10;

pub(super) struct Connection {
    stream: Box<dyn Stream>,
    parser: Parser,
    out: Vec<u8>,
    /// Bytes of `out` that the stream has taken.
    written: usize,
    is_flushed: bool,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, parser: Parser::new(), out: Vec::new(), written: 0, is_flushed: true }
    }

    /// Queues a command. `next` sends it.
    pub(super) fn push(&mut self, command: &Cmd) {
        command.write_packed_command(&mut self.out);
    }

    /// Bytes that the stream has not taken yet.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.out.len() - self.written
    }

    /// The next value that the server sends. Sends what is queued meanwhile. Nothing is lost if it is dropped.
    pub(super) async fn next(&mut self) -> io::Result<Value> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// A value that has arrived in whole already.
    pub(super) fn next_arrived(&mut self) -> io::Result<Option<Value>> {
        match value_of(self.parser.parse_value(Arrived), true) {
            Poll::Ready(value) => value.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Value>> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        let Self { stream, parser, .. } = self;
        let mut socket = Socket { stream: &mut **stream, cx, is_pending: false };
        let parsed = parser.parse_value(&mut socket);
        value_of(parsed, socket.is_pending)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent_bytes() > 0 {
            self.is_flushed = false;
            let taken = ready!(Pin::new(&mut *self.stream).poll_write(cx, &self.out[self.written..]))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += taken;
            if self.unsent_bytes() == 0 {
                self.out.clear();
                self.written = 0;
            } else if self.written > WRITTEN_BYTES_MAX {
                self.out.drain(..self.written);
                self.written = 0;
            }
        }
        if !self.is_flushed {
            ready!(Pin::new(&mut *self.stream).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads from a stream as far as it has bytes now.
struct Socket<'a, 'b, 'c> {
    stream: &'a mut dyn Stream,
    cx: &'b mut Context<'c>,
    is_pending: bool,
}

impl Read for Socket<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.stream).poll_read(self.cx, &mut buffer) {
            Poll::Ready(Ok(())) => Ok(buffer.filled().len()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => {
                self.is_pending = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }
}

/// Has no bytes: the parser uses those that it has.
struct Arrived;

impl Read for Arrived {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// `is_pending`: an error of the reader means that bytes are missing.
fn value_of(parsed: redis::RedisResult<Value>, is_pending: bool) -> Poll<io::Result<Value>> {
    match parsed {
        Ok(Value::Attribute { data, .. }) => Poll::Ready(Ok(*data)),
        Ok(value) => Poll::Ready(Ok(value)),
        Err(error) if is_pending && error.is_io_error() => Poll::Pending,
        Err(error) => Poll::Ready(Err(io::Error::other(error.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const VALUES: &[u8] = b"+OK\r\n:7\r\n$-1\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\n\r\n\r\n\r\n>2\r\n+pong\r\n$0\r\n\r\n-MOVED 1 a:1\r\n%1\r\n+a\r\n:1\r\n";

    async fn read_all(connection: &mut Connection) -> Vec<Value> {
        let mut values = Vec::new();
        while let Ok(value) = connection.next().await {
            values.push(value);
            while let Ok(Some(value)) = connection.next_arrived() {
                values.push(value);
            }
        }
        values
    }

    #[tokio::test]
    async fn values_are_read_whole_and_split_at_every_byte() {
        let expected = {
            let (stream, mut server) = tokio::io::duplex(4096);
            server.write_all(VALUES).await.expect("there is room");
            drop(server);
            read_all(&mut Connection::new(Box::new(stream))).await
        };
        assert_eq!((expected.len(), &expected[0], &expected[1]), (7, &Value::Okay, &Value::Int(7)));
        for split in 1..VALUES.len() {
            let (stream, mut server) = tokio::io::duplex(4096);
            let write = async move {
                server.write_all(&VALUES[..split]).await.expect("there is room");
                tokio::task::yield_now().await;
                server.write_all(&VALUES[split..]).await.expect("there is room");
            };
            let mut connection = Connection::new(Box::new(stream));
            let (values, ()) = tokio::join!(read_all(&mut connection), write);
            assert_eq!(values, expected, "{split}");
        }
    }

    #[tokio::test]
    async fn commands_are_sent_while_no_value_comes() {
        let (stream, mut server) = tokio::io::duplex(16);
        let mut connection = Connection::new(Box::new(stream));
        connection.push(redis::cmd("PUBLISH").arg("channel").arg(&[b'x'; 1000][..]));
        assert_eq!(connection.unsent_bytes(), 1039);
        let serve = async {
            let mut bytes = vec![0; 1039];
            server.read_exact(&mut bytes).await.expect("all of it is sent");
            server.write_all(b":1\r\n").await.expect("there is room");
            bytes
        };
        let (value, sent) = tokio::join!(connection.next(), serve);
        assert_eq!((value.expect("a number"), connection.unsent_bytes()), (Value::Int(1), 0));
        assert!(sent.starts_with(b"*3\r\n$7\r\nPUBLISH\r\n"));
    }

    #[tokio::test]
    async fn malformed_bytes_and_the_end_are_errors() {
        for bytes in [&b"?\r\n"[..], b":x\r\n", b"$3\r\nabcd\r\n", b"*2\r\n+a\r\n", b"$5\r\nab", b""] {
            let (stream, mut server) = tokio::io::duplex(64);
            server.write_all(bytes).await.expect("there is room");
            drop(server);
            assert!(Connection::new(Box::new(stream)).next().await.is_err(), "{bytes:?}");
        }
    }
}
