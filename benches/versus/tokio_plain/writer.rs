//! The task that writes to one connection.
//!
//! Owns the sending half of the socket. What has queued up while it was away leaves in one write.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use corebeat::wire::message::Code;
use futures_util::{Sink, SinkExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::codec::{Encoder, FramedWrite};

use super::common::websocket;
use super::parcel::{Parcel, close};
use super::peer::Peer;
use super::web::WebSink;

/// Bytes gathered for one write.
pub const GATHERED: usize = 8 << 10;
/// Memory of a connection that never had so much to gather.
const BUFFER: usize = 512;

/// Frames are encoded once for all members; what is left is to copy them.
#[derive(Debug)]
struct Copy;

impl Encoder<Bytes> for Copy {
    type Error = io::Error;

    fn encode(&mut self, frames: Bytes, buffer: &mut BytesMut) -> io::Result<()> {
        buffer.extend_from_slice(&frames);
        Ok(())
    }
}

/// What waits in a queue, and counts against its bound.
trait Queued {
    fn len(&self) -> usize;
}

impl Queued for Bytes {
    fn len(&self) -> usize {
        Bytes::len(self)
    }
}

impl Queued for Message {
    fn len(&self) -> usize {
        Message::len(self)
    }
}

/// Writes what is queued for `peer` until the end is queued, or until too much waits, and gives the
/// half back. Dropping it closes it, which tells the client that no more will come.
pub async fn write(
    half: OwnedWriteHalf,
    mut queue: UnboundedReceiver<Option<Bytes>>,
    peer: Arc<Peer>,
) -> OwnedWriteHalf {
    let mut sink = FramedWrite::with_capacity(half, Copy, BUFFER);
    sink.set_backpressure_boundary(GATHERED);
    if drain_unless_overflowing(&mut sink, &mut queue, &peer).await
        && let Some(Parcel::Frames(frames)) = peer.last_word()
    {
        let _ = sink.send(frames).await;
    }
    sink.into_inner()
}

/// As [`write`], to a WebSocket.
pub async fn write_messages(
    mut sink: WebSink,
    mut queue: UnboundedReceiver<Option<Message>>,
    peer: Arc<Peer>,
) -> WebSink {
    if drain_unless_overflowing(&mut sink, &mut queue, &peer).await
        && let Some(Parcel::Message(message)) = peer.last_word()
    {
        let _ = sink.feed(message).await;
        let _ = sink.send(close(websocket::close_code(Code::SlowReader))).await;
    }
    sink
}

/// Writes until the end, or until too much waits. Returns whether the last word is to be said: what
/// the sink holds has begun to be sent; all that is queued behind it is dropped.
async fn drain_unless_overflowing<S, T>(
    sink: &mut S,
    queue: &mut UnboundedReceiver<Option<T>>,
    peer: &Peer,
) -> bool
where
    S: Sink<T> + Unpin,
    T: Queued,
{
    let overflow = peer.writer_bell.notified();
    tokio::pin!(overflow);
    let ended = tokio::select! {
        ended = drain(sink, queue, peer) => ended.is_ok(),
        () = &mut overflow => true,
    };
    ended && peer.has_overflowed()
}

async fn drain<S, T>(
    sink: &mut S,
    queue: &mut UnboundedReceiver<Option<T>>,
    peer: &Peer,
) -> Result<(), S::Error>
where
    S: Sink<T> + Unpin,
    T: Queued,
{
    while let Some(Some(first)) = queue.recv().await {
        let mut gathered = first.len();
        sink.feed(first).await?;
        let mut ends = false;
        while let Ok(next) = queue.try_recv() {
            let Some(next) = next else {
                ends = true;
                break;
            };
            gathered += next.len();
            sink.feed(next).await?;
        }
        sink.flush().await?;
        peer.sent(gathered);
        if ends {
            break;
        }
    }
    Ok(())
}
