//! What the connections of a twin are told things in.
//!
//! Owns the list of dialects and what an event is in each. Never frames a WebSocket message:
//! tungstenite does, as each twin has it.

use corebeat::wire::message::Event;
use corebeat::wire::{json, line, native};
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

/// What a connection is told things in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Native frames without a checksum.
    Native,
    /// Native frames, each with a checksum.
    NativeCrc,
    /// Lines of text.
    Text,
    /// JSON objects, each a WebSocket text message.
    Json,
    /// Native frames without a checksum, each a binary WebSocket message.
    Bin,
    /// Native frames with a checksum, each a binary WebSocket message.
    BinCrc,
}

/// How many dialects there are: the length of a table of renderings.
pub const DIALECTS: usize = 6;

impl Dialect {
    /// Appends what `event` is in it: a frame, a line, or the payload of a WebSocket message. It
    /// may be nothing.
    pub fn encode(self, out: &mut Vec<u8>, event: &Event<'_>) {
        match self {
            Dialect::Native | Dialect::Bin => native::encode_event(out, event, false),
            Dialect::NativeCrc | Dialect::BinCrc => native::encode_event(out, event, true),
            Dialect::Text => line::encode_event(out, event),
            Dialect::Json => json::encode_event(out, event),
        }
    }

    /// The same of an event that is at hand as a native frame without a checksum.
    pub fn encode_frame(self, out: &mut Vec<u8>, frame: &[u8]) {
        match self {
            Dialect::Native | Dialect::Bin => out.extend_from_slice(frame),
            Dialect::NativeCrc | Dialect::BinCrc => native::append_with_crc(out, frame),
            Dialect::Text | Dialect::Json => {
                let whole = native::frame(frame, usize::MAX).ok().flatten();
                let (frame, _) = whole.expect("what was encoded is a whole frame");
                let event = native::event(&frame).ok().flatten();
                self.encode(out, &event.expect("what was encoded is an event"));
            }
        }
    }

    /// What its WebSocket messages are, if it is spoken on a WebSocket.
    pub fn opcode(self) -> Option<Data> {
        match self {
            Dialect::Native | Dialect::NativeCrc | Dialect::Text => None,
            Dialect::Json => Some(Data::Text),
            Dialect::Bin | Dialect::BinCrc => Some(Data::Binary),
        }
    }

    /// The same dialect with checksums, for a client whose HELLO asks for them.
    #[must_use]
    pub fn with_crc(self) -> Dialect {
        match self {
            Dialect::Native => Dialect::NativeCrc,
            Dialect::Bin => Dialect::BinCrc,
            other => other,
        }
    }
}
