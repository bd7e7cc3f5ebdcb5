//! The task that writes to one connection.
//!
//! Owns the sending half of the socket. What has queued up while it was away leaves in one write.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::codec::{Encoder, FramedWrite};

use super::peer::Peer;

/// Bytes gathered for one write.
const GATHERED: usize = 8 << 10;
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

type Sink = FramedWrite<OwnedWriteHalf, Copy>;

/// Writes what is queued for `peer` until the end is queued, or until too much waits. Closing the
/// half tells the client that no more will come.
pub async fn write(
    half: OwnedWriteHalf,
    mut queue: UnboundedReceiver<Option<Bytes>>,
    peer: Arc<Peer>,
) {
    let mut sink = FramedWrite::with_capacity(half, Copy, BUFFER);
    sink.set_backpressure_boundary(GATHERED);
    let overflow = peer.writer_bell.notified();
    tokio::pin!(overflow);
    let ended = tokio::select! {
        ended = drain(&mut sink, &mut queue, &peer) => ended,
        () = &mut overflow => Ok(()),
    };
    if ended.is_ok() && peer.has_overflowed() {
        // What the sink holds has begun to be sent; all that is queued behind it is dropped.
        let _ = sink.send(peer.last_word()).await;
    }
}

async fn drain(
    sink: &mut Sink,
    queue: &mut UnboundedReceiver<Option<Bytes>>,
    peer: &Peer,
) -> io::Result<()> {
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
