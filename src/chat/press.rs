//! WebSocket messages that go to many.
//!
//! Owns the rendering of room messages and other news for WebSockets, header included, and the
//! compressor that those share who agreed on compression. Never knows who receives them. Called by
//! the [`batch`](super::batch) module's pool, once for each dialect that has a member.

use crate::base::limits::COMPRESSED_MESSAGE_MIN;
use crate::wire::message::Event;
use crate::wire::websocket::deflate::Deflater;
use crate::wire::{json, native, websocket};

use super::batch::{Batch, Frames, message_of};
use super::dialect::Dialect;
use super::session::Compression;

/// What a shard renders WebSocket messages with.
#[derive(Debug, Default)]
pub struct Press {
    deflater: Deflater,
    /// A message before it is compressed.
    plain: Vec<u8>,
}

impl Press {
    /// Renders each frame of a batch as a WebSocket message of its own, so that whoever wrote it
    /// can be left out.
    #[inline(never)]
    pub fn render_batch(&mut self, frames: &mut Frames, batch: &Batch, dialect: Dialect) {
        for index in 0..batch.frames.count() {
            let frame = batch.frames.frame(index);
            frames.push(|out| {
                self.message(out, dialect, |out| match dialect {
                    Dialect::Bin | Dialect::BinDeflate => out.extend_from_slice(frame),
                    _ if dialect.has_crc() => native::append_with_crc(out, frame),
                    _ => json::encode_event(out, &message_of(frame)),
                });
            });
        }
    }

    /// Renders an event in any dialect.
    pub fn render_event(&mut self, out: &mut Vec<u8>, event: &Event<'_>, dialect: Dialect) {
        match dialect.compression() {
            Compression::Off => dialect.encode(out, event),
            Compression::Deflate => {
                self.message(out, dialect, |out| dialect.encode_payload(out, event));
            }
        }
    }

    fn message(&mut self, out: &mut Vec<u8>, dialect: Dialect, payload: impl FnOnce(&mut Vec<u8>)) {
        if dialect.compression() == Compression::Off {
            return websocket::append_message(out, dialect.kind(), payload);
        }
        self.plain.clear();
        payload(&mut self.plain);
        if self.plain.len() < COMPRESSED_MESSAGE_MIN {
            let plain = &self.plain;
            websocket::append_message(out, dialect.kind(), |out| out.extend_from_slice(plain));
        } else {
            let deflater = &mut self.deflater;
            websocket::append_compressed(out, dialect.kind(), &self.plain, deflater);
        }
    }
}
