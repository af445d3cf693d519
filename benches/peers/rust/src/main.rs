//! fastwebsockets on one core: an echo server at /echo, and a broadcast of every message to /pub to all other
//! connections.
//!
//! Written like the examples of the library: the upgrade by hyper, one task per connection, a broadcast channel between
//! them. The library writes each frame by itself, so several messages need as many writes.

use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{
    FragmentCollector, FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError, WebSocketWrite,
};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::io;
use tokio::net::TcpListener;
use tokio::sync::broadcast::{self, error::RecvError};

/// Publications that a subscriber may lag before it is disconnected.
const BEHIND_MAX: usize = 4096;

type Bus = broadcast::Sender<Bytes>;

fn main() -> io::Result<()> {
    let Some(listen) = std::env::args().nth(1) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: fastwebsockets-peer ADDRESS:PORT"));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(serve(&listen))
}

async fn serve(listen: &str) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let (bus, _) = broadcast::channel(BEHIND_MAX);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let bus = bus.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, bus.clone()));
            // An error of a connection ends only its own task.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).with_upgrades().await;
        });
    }
}

async fn answer(mut request: Request<Incoming>, bus: Bus) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = upgrade(&mut request)?;
    let path = request.uri().path().to_string();
    // A subscriber receives everything that is published after the response to its upgrade.
    let inbox = bus.subscribe();
    tokio::spawn(async move {
        let _ = match path.as_str() {
            "/echo" => echo(upgraded).await,
            "/pub" => publish(upgraded, bus).await,
            _ => subscribe(upgraded, inbox).await,
        };
    });
    Ok(response)
}

async fn echo(upgraded: UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(upgraded.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

async fn publish(upgraded: UpgradeFut, bus: Bus) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(upgraded.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            // Without a subscriber this is not an error.
            OpCode::Text => drop(bus.send(Bytes::copy_from_slice(&frame.payload))),
            _ => {}
        }
    }
}

/// Reads and writes are separate halves: a cancelled read would lose its bytes.
async fn subscribe(upgraded: UpgradeFut, mut inbox: broadcast::Receiver<Bytes>) -> Result<(), WebSocketError> {
    let (reader, mut writer) = upgraded.await?.split(tokio::io::split);
    let mut reader = FragmentCollectorRead::new(reader);
    // Frames that the library sends by itself (pongs, closes) go through this channel.
    let (asks, mut asked) = tokio::sync::mpsc::channel::<(OpCode, Vec<u8>)>(4);
    let read = async move {
        loop {
            let mut answer = |frame: Frame<'_>| {
                let ask = (frame.opcode, frame.payload.to_vec());
                let asks = asks.clone();
                async move { asks.send(ask).await }
            };
            let frame = reader.read_frame(&mut answer).await?;
            if frame.opcode == OpCode::Close {
                return Ok::<(), WebSocketError>(());
            }
        }
    };
    let mut read = Box::pin(read);
    loop {
        tokio::select! {
            publication = inbox.recv() => match publication {
                Ok(text) => write(&mut writer, OpCode::Text, &text).await?,
                Err(RecvError::Closed | RecvError::Lagged(_)) => return Ok(()),
            },
            Some((opcode, payload)) = asked.recv() => write(&mut writer, opcode, &payload).await?,
            ended = &mut read => return ended,
        }
    }
}

async fn write<S: tokio::io::AsyncWrite + Unpin>(
    writer: &mut WebSocketWrite<S>,
    opcode: OpCode,
    payload: &[u8],
) -> Result<(), WebSocketError> {
    writer.write_frame(Frame::new(true, opcode, None, Payload::Borrowed(payload))).await
}
