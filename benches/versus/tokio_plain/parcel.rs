//! What is queued for connections, encoded.
//!
//! Owns the two forms that it has: bytes for those that speak TCP, and tungstenite's messages for
//! WebSockets. Either is shared by all who get it. Never queues.

use bytes::Bytes;
use corebeat::wire::message::Event;
use corebeat::wire::native;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::common::dialect::Dialect;

/// Something for connections of one dialect.
#[derive(Clone, Debug)]
pub enum Parcel {
    /// Whole frames or lines.
    Frames(Bytes),
    /// A WebSocket message.
    Message(Message),
}

impl Parcel {
    /// `event` in `dialect`, which may have no words for it. A WebSocket's ping is the protocol's
    /// own, which a browser answers by itself.
    pub fn of(dialect: Dialect, event: &Event<'_>) -> Option<Parcel> {
        if let (Event::Ping(ping), Some(_)) = (event, dialect.opcode()) {
            let heartbeat = native::heartbeat_bytes(ping).to_vec();
            return Some(Parcel::Message(Message::Ping(heartbeat.into())));
        }
        let mut bytes = Vec::with_capacity(64);
        dialect.encode(&mut bytes, event);
        let bytes = Some(Bytes::from(bytes)).filter(|bytes| !bytes.is_empty())?;
        Some(match dialect.opcode() {
            None => Parcel::Frames(bytes),
            Some(Data::Text) => {
                let text = Utf8Bytes::try_from(bytes).expect("what was encoded as text is text");
                Parcel::Message(Message::Text(text))
            }
            Some(_) => Parcel::Message(Message::Binary(bytes)),
        })
    }

    /// Bytes that count against the bound of a queue.
    pub fn len(&self) -> usize {
        match self {
            Parcel::Frames(frames) => frames.len(),
            Parcel::Message(message) => message.len(),
        }
    }
}

/// The close frame with that code.
pub fn close(code: u16) -> Message {
    Message::Close(Some(CloseFrame { code: code.into(), reason: Utf8Bytes::default() }))
}
