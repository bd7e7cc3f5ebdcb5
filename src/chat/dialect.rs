//! What a live session speaks, as far as it is rendered differently.
//!
//! Owns the list of dialects and how each says an event. Never decides what is said, nor to whom:
//! [`egress`](super::egress) and [`fan_out`](super::fan_out) do.

use crate::wire::message::Event;
use crate::wire::websocket::{self, Kind};
use crate::wire::{json, line, native};

use super::session::Compression;

/// The dialects a live session can speak.
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
    /// As [`Dialect::Json`], compressed where it pays.
    JsonDeflate,
    /// As [`Dialect::Bin`], compressed where it pays.
    BinDeflate,
    /// As [`Dialect::BinCrc`], compressed where it pays.
    BinCrcDeflate,
}

/// How many dialects are not spoken on a WebSocket. They come first.
pub const PLAIN_DIALECTS: usize = 3;
/// How many are.
pub const WEB_DIALECTS: usize = 6;
const _: () = assert!(Dialect::BinCrcDeflate as usize == PLAIN_DIALECTS + WEB_DIALECTS - 1);

impl Dialect {
    /// Appends `event` as this dialect says it to one connection, which may be nothing.
    pub fn encode(self, out: &mut Vec<u8>, event: &Event<'_>) {
        match self {
            Dialect::Native => native::encode_event(out, event, false),
            Dialect::NativeCrc => native::encode_event(out, event, true),
            Dialect::Text => line::encode_event(out, event),
            web => web.encode_message(out, event),
        }
    }

    /// Appends `event` as a WebSocket message. A PING is the protocol's own, so that a browser
    /// answers it even while it has put the page to sleep.
    ///
    /// What one connection alone is told is never compressed: that is a client's free choice for
    /// every message (RFC 7692 section 6.1), and it would not be shared with anybody.
    #[inline(never)]
    fn encode_message(self, out: &mut Vec<u8>, event: &Event<'_>) {
        if let Event::Ping(ping) = event {
            return websocket::append_ping(out, &native::heartbeat_bytes(ping));
        }
        websocket::append_message(out, self.kind(), |out| self.encode_payload(out, event));
    }

    /// Appends the payload of the WebSocket message that says `event`.
    pub(super) fn encode_payload(self, out: &mut Vec<u8>, event: &Event<'_>) {
        if self.is_json() {
            json::encode_event(out, event);
        } else {
            native::encode_event(out, event, self.has_crc());
        }
    }

    /// Whether it is spoken on a WebSocket.
    pub fn is_web(self) -> bool {
        self.kind_if_web().is_some()
    }

    /// Whether it is spoken on a WebSocket as JSON.
    pub fn is_json(self) -> bool {
        self.kind_if_web() == Some(Kind::Text)
    }

    /// Whether its frames carry checksums.
    pub fn has_crc(self) -> bool {
        matches!(self, Dialect::NativeCrc | Dialect::BinCrc | Dialect::BinCrcDeflate)
    }

    /// Whether its messages may be compressed.
    pub fn compression(self) -> Compression {
        match self {
            Dialect::JsonDeflate | Dialect::BinDeflate | Dialect::BinCrcDeflate => {
                Compression::Deflate
            }
            _ => Compression::Off,
        }
    }

    /// The same dialect with checksums, for a client whose HELLO asks for them.
    #[must_use]
    pub fn with_crc(self) -> Dialect {
        match self {
            Dialect::Native => Dialect::NativeCrc,
            Dialect::Bin => Dialect::BinCrc,
            Dialect::BinDeflate => Dialect::BinCrcDeflate,
            other => other,
        }
    }

    /// What its WebSocket messages are.
    ///
    /// # Panics
    /// If it is not spoken on a WebSocket.
    pub fn kind(self) -> Kind {
        self.kind_if_web().expect("only a WebSocket has messages")
    }

    fn kind_if_web(self) -> Option<Kind> {
        match self {
            Dialect::Native | Dialect::NativeCrc | Dialect::Text => None,
            Dialect::Json | Dialect::JsonDeflate => Some(Kind::Text),
            Dialect::Bin | Dialect::BinCrc | Dialect::BinDeflate | Dialect::BinCrcDeflate => {
                Some(Kind::Binary)
            }
        }
    }
}
