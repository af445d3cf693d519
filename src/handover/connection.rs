//! Runs the link between the two processes of a handover: it writes what the link queues, and handles what arrives.
//!
//! A peer process that reads nothing for `STUCK_TIMEOUT` is given up; the bytes that still wait for it are then counted as
//! lost. What a peer process has sent before it ended is handled in any case.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::link::{FrameQueue, Link, LocalShards};
use super::transfer::Transfer;
use super::wire::{self, FrameKind};
use crate::messaging::handover_message::is_stamped;
use crate::messaging::{Forwarded, HandoverPeer, PeerOrder};

/// How long the peer process may take no bytes while some wait for it.
const STUCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes gathered for one write.
const WRITE_BYTES: usize = 256 * 1024;
/// Bytes that are received at once, and messages that a shard gets at once.
const READ_BYTES: usize = 256 * 1024;
const MESSAGES_MAX: usize = 256;

/// How far the new process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// It serves clients.
    Ready,
    /// It has done so for its trial time.
    Proven,
}

/// A connected link, before it runs.
pub(crate) struct Connection {
    pub stream: UnixStream,
    /// Bytes that were read already and not handled.
    pub received: BytesMut,
    pub link: Arc<Link>,
    pub frames: FrameQueue,
    pub transfer: Transfer,
}

impl Connection {
    /// Runs the link until either process ends it, then makes the shards stop forwarding. `on_progress` is called when the
    /// peer process says how far it is.
    pub(crate) async fn run(self, shards: &impl LocalShards, on_progress: impl FnMut(Progress)) -> io::Result<()> {
        let Self { stream, received, link, frames, transfer } = self;
        let (input, output) = stream.into_split();
        let result = tokio::select! {
            result = read_frames((input, received), shards, &link, transfer, on_progress) => result,
            result = write_frames(output, frames, &link) => result,
        };
        shards.set_peer(None).await;
        if link.order() == PeerOrder::GivesAway {
            shards.open_log().await;
        }
        let lost = link.waiting_bytes.load(Ordering::Relaxed) as u64;
        link.stats.handover_lost_bytes.fetch_add(lost, Ordering::Relaxed);
        if lost > 0 {
            log::warn!("handover: {lost} bytes of publications did not reach the peer process, which is gone");
        }
        result
    }
}

async fn write_frames(mut output: OwnedWriteHalf, mut frames: FrameQueue, link: &Link) -> io::Result<()> {
    while let Some(mut bytes) = frames.recv().await {
        while bytes.len() < WRITE_BYTES
            && let Ok(more) = frames.try_recv()
        {
            bytes.extend_from_slice(&more);
        }
        let mut rest = &*bytes;
        while !rest.is_empty() {
            let written = match timeout(STUCK_TIMEOUT, output.write(rest)).await.map_err(|_| stuck())? {
                // The peer process has ended: what it has sent is read first, and then this wait ends.
                Err(error) if has_ended(&error) => std::future::pending().await,
                written => written?,
            };
            rest = &rest[written..];
            link.waiting_bytes.fetch_sub(written, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn has_ended(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn stuck() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the peer process read nothing for {STUCK_TIMEOUT:?}"))
}

/// Handles frames until the peer process closes the link, which is not an error.
async fn read_frames(
    (mut input, mut received): (OwnedReadHalf, BytesMut),
    shards: &impl LocalShards,
    link: &Arc<Link>,
    mut transfer: Transfer,
    mut on_progress: impl FnMut(Progress),
) -> io::Result<()> {
    let stats = &link.stats;
    let mut messages = Vec::new();
    loop {
        while let Some((kind, body)) = wire::take_frame(&mut received)? {
            if kind == FrameKind::Message {
                stats.handover_received.fetch_add(u64::from(is_stamped(&body)), Ordering::Relaxed);
                messages.push(body.to_vec());
                if messages.len() >= MESSAGES_MAX {
                    pass(shards, &mut messages).await?;
                }
                continue;
            }
            pass(shards, &mut messages).await?;
            match kind {
                FrameKind::Publication => {
                    let channel = Forwarded::unpack(&body).ok_or_else(wire::unknown_frame)?.channel.to_owned();
                    stats.handover_received.fetch_add(1, Ordering::Relaxed);
                    shards.publish_forwarded(&channel, body.to_vec()).await;
                }
                FrameKind::Call => {
                    shards.call_forwarded(serde_json::from_slice(&body).map_err(|_| wire::unknown_frame())?);
                }
                FrameKind::Ready => {
                    link.set_ahead(link.order() == PeerOrder::GivesAway);
                    on_progress(Progress::Ready);
                }
                FrameKind::Proven => on_progress(Progress::Proven),
                FrameKind::Copied | FrameKind::Switch | FrameKind::Switched => {
                    transfer.step(kind, shards, link).await?;
                }
                FrameKind::Refused => {
                    let why = String::from_utf8_lossy(&body).into_owned();
                    return Err(io::Error::new(io::ErrorKind::ConnectionRefused, why));
                }
                FrameKind::Hello
                | FrameKind::ListenSockets
                | FrameKind::Go
                | FrameKind::Welcome
                | FrameKind::Message => {
                    return Err(wire::unknown_frame());
                }
            }
        }
        pass(shards, &mut messages).await?;
        received.reserve(READ_BYTES);
        match input.read_buf(&mut received).await {
            Ok(0) => return Ok(()),
            // It ended before it had read everything.
            Err(error) if has_ended(&error) => return Ok(()),
            read => _ = read?,
        }
    }
}

async fn pass(shards: &impl LocalShards, messages: &mut Vec<Vec<u8>>) -> io::Result<()> {
    if messages.is_empty() || shards.pass_messages(std::mem::take(messages)).await {
        return Ok(());
    }
    Err(wire::unknown_frame())
}
