//! tokio-tungstenite on one core: an echo server at /echo, and a broadcast of every message to /pub to all other
//! connections.
//!
//! Written like the examples of the library: one task per connection, a broadcast channel between them. A subscriber's
//! task takes all waiting messages before it flushes, so that several messages need few writes.

use clap::Parser;
use corecast_peers::{Place, around};
use futures_util::{SinkExt, StreamExt};
use std::io;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};
use tokio_tungstenite::WebSocketStream;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Error, Message, Utf8Bytes};

/// An echo and broadcast server on tokio-tungstenite.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    place: Place,
    /// Bytes of a published frame's payload
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Bytes of a delivered frame, header included
    #[arg(long, default_value_t = 112)]
    frame_bytes: usize,
}

/// Publications that a subscriber may lag before it is disconnected.
const BEHIND_MAX: usize = 4096;

type Bus = broadcast::Sender<Utf8Bytes>;

fn main() -> io::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: Args) -> io::Result<()> {
    let listener = TcpListener::bind(args.place.listen).await?;
    args.place.prepare_and_announce(listener.local_addr()?);
    let (bus, _) = broadcast::channel(BEHIND_MAX);
    let around = Arc::new(around(args.frame_bytes, args.size));
    loop {
        let (socket, _) = listener.accept().await?;
        let (bus, around) = (bus.clone(), around.clone());
        tokio::spawn(async move {
            // An error of a connection ends only its own task.
            let _ = connection(socket, bus, &around).await;
        });
    }
}

#[allow(clippy::result_large_err)] // the shape of tungstenite's callback
async fn connection(socket: TcpStream, bus: Bus, around: &(String, String)) -> Result<(), Error> {
    socket.set_nodelay(true)?;
    let mut path = String::new();
    let mut inbox = None;
    // A subscriber receives everything that is published after the response to its upgrade.
    let look = |request: &Request, response: Response| {
        path = request.uri().path().to_string();
        inbox = Some(bus.subscribe());
        Ok(response)
    };
    let socket = tokio_tungstenite::accept_hdr_async(socket, look).await?;
    match (path.as_str(), inbox) {
        ("/echo", _) => echo(socket).await,
        ("/pub", _) => publish(socket, bus, around).await,
        (_, Some(inbox)) => subscribe(socket, inbox).await,
        (_, None) => Ok(()),
    }
}

async fn echo(mut socket: WebSocketStream<TcpStream>) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn publish(mut socket: WebSocketStream<TcpStream>, bus: Bus, around: &(String, String)) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        if let Message::Text(text) = message? {
            // Without a subscriber this is not an error.
            let _ = bus.send(Utf8Bytes::from(format!("{}{text}{}", around.0, around.1)));
        }
    }
    Ok(())
}

async fn subscribe(
    mut socket: WebSocketStream<TcpStream>,
    mut inbox: broadcast::Receiver<Utf8Bytes>,
) -> Result<(), Error> {
    loop {
        tokio::select! {
            publication = inbox.recv() => {
                let mut next = match publication {
                    Ok(text) => Some(text),
                    Err(RecvError::Closed | RecvError::Lagged(_)) => return Ok(()),
                };
                while let Some(text) = next {
                    socket.feed(Message::Text(text)).await?;
                    next = match inbox.try_recv() {
                        Ok(text) => Some(text),
                        Err(TryRecvError::Empty) => None,
                        Err(TryRecvError::Closed | TryRecvError::Lagged(_)) => return Ok(()),
                    };
                }
                socket.flush().await?;
            }
            message = socket.next() => match message {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
        }
    }
}
