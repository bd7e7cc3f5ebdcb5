//! WebSocket: RFC 6455 frames and messages, and their compression by RFC 7692.
//!
//! Owns the grammar on both ends of a connection: [`Inbound`] takes apart what a peer sends, piece
//! by piece as it arrives, and the `append_…` functions write what is sent. Never does the opening
//! handshake ([`http`](super::http) does), never gathers a message, and never answers by itself: a
//! ping, a close and an error are told to the caller, who knows what else is on its way out. The
//! heart, the load tools and the tests call it.
//!
//! A frame is written once and may be sent to any number of peers, because a server's frames are
//! not masked. An [`Inbound`] between two messages holds nothing, and can be dropped.

pub mod deflate;
mod inbound;
mod mask;
mod outbound;
mod utf8;

pub use self::inbound::Inbound;
pub use self::mask::apply_mask;
pub use self::outbound::{
    append_close, append_compressed, append_fragment, append_header, append_masked, append_message,
    append_ping, append_pong,
};
pub use self::utf8::{NotUtf8, Utf8Stream};
use crate::base::limits::WEBSOCKET_CONTROL_MAX;

/// What a message is made of (RFC 6455 section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

impl Kind {
    /// The opcode of the first frame of such a message.
    pub fn opcode(self) -> Opcode {
        match self {
            Kind::Text => Opcode::Text,
            Kind::Binary => Opcode::Binary,
        }
    }
}

/// What a frame is, as its low four bits of the first byte tell (RFC 6455 section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further frame of the message that is under way.
    Continuation = 0x0,
    /// The first frame of a text message.
    Text = 0x1,
    /// The first frame of a binary message.
    Binary = 0x2,
    /// The sender's last frame.
    Close = 0x8,
    /// Asks for a pong with the same payload.
    Ping = 0x9,
    /// Answers a ping, or is a sign of life.
    Pong = 0xA,
}

impl Opcode {
    /// The opcode of that number, unless it is one of the reserved ones.
    fn from_number(number: u8) -> Option<Opcode> {
        Some(match number {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            _ => return None,
        })
    }

    /// Whether frames of this kind may come between the fragments of a message, and are short and
    /// whole (RFC 6455 section 5.5).
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// Which end of the connection reads. A client masks what it sends, a server does not, and each is
/// held to it (RFC 6455 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// This is the server: what it reads must be masked.
    Server,
    /// This is the client: what it reads must not be masked.
    Client,
}

/// What was agreed in the handshake, and what is the most that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Which end reads.
    pub role: Role,
    /// Most bytes of one message, over all its fragments. Of a compressed one these are the bytes
    /// before compression; the compressed ones may be a few more, since what cannot be compressed
    /// grows a little.
    pub max_message: usize,
    /// Whether permessage-deflate was agreed on, so that a message may be compressed.
    pub deflate: bool,
}

/// What came next on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A piece of a message; its payload was appended to the caller's buffer. Pieces follow how
    /// bytes arrive and have nothing to do with the peer's fragments, except that an empty fragment
    /// is an empty piece.
    Data {
        /// What the message is.
        kind: Kind,
        /// It is the message's first piece.
        first: bool,
        /// It is the message's last piece: the message is complete, and a text message that was
        /// not compressed is UTF-8.
        last: bool,
        /// The message is compressed: all its pieces together are what
        /// [`Inflater::inflate`](deflate::Inflater::inflate) takes, and UTF-8 has still to be
        /// checked of what that gives.
        compressed: bool,
    },
    /// A ping, to be answered by a pong with the same payload.
    Ping(Control),
    /// A pong, asked for or not.
    Pong(Control),
    /// The peer's last frame. Whatever follows is not to be read.
    Close {
        /// Why, by a number that may stand in a frame; none where the frame is empty.
        code: Option<u16>,
        /// Why, in words: UTF-8, possibly empty.
        reason: Control,
    },
}

/// The payload of a control frame, at most 125 bytes, by value.
#[derive(Clone, Copy)]
pub struct Control {
    length: u8,
    bytes: [u8; WEBSOCKET_CONTROL_MAX],
}

impl Control {
    /// A copy of `bytes`.
    ///
    /// # Panics
    /// If there are more than [`WEBSOCKET_CONTROL_MAX`].
    pub fn new(bytes: &[u8]) -> Control {
        let mut control = Control { length: bytes.len() as u8, bytes: [0; _] };
        control.bytes[..bytes.len()].copy_from_slice(bytes);
        control
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn as_mut_bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[..usize::from(self.length)]
    }

    /// The bytes as text; the reason of a close always is.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()).ok()
    }
}

impl PartialEq for Control {
    fn eq(&self, other: &Control) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Control {}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

/// Close codes that the server uses (RFC 6455 section 7.4.1 and its registry).
pub mod close {
    /// The purpose was fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The end goes away: a server that stops, a page that is left.
    pub const GOING_AWAY: u16 = 1001;
    /// A frame was not what the protocol allows.
    pub const PROTOCOL: u16 = 1002;
    /// A kind of message that this end does not take.
    pub const UNSUPPORTED: u16 = 1003;
    /// The bytes of a message are not what its kind says: text that is not UTF-8.
    pub const INVALID: u16 = 1007;
    /// A message broke a rule that has no other code.
    pub const POLICY: u16 = 1008;
    /// A message is larger than this end takes.
    pub const TOO_LARGE: u16 = 1009;
    /// This end met a condition that it did not expect.
    pub const INTERNAL: u16 = 1011;
    /// The server starts anew; come back.
    pub const RESTART: u16 = 1012;
    /// The server is overloaded; come back later.
    pub const TRY_AGAIN_LATER: u16 = 1013;

    /// Whether a code may stand in a frame: 1000 to 1003, 1007 to 1014, and from 3000 to 4999 what
    /// libraries and applications agree on. 1004 is reserved; 1005, 1006 and 1015 are for an end to
    /// tell itself what happened without a frame.
    pub fn may_be_sent(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// How a peer broke the protocol. The connection fails with [`WebError::close_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WebError {
    /// A reserved bit is set that no extension gives a meaning to.
    ReservedBit,
    /// A reserved opcode.
    ReservedOpcode,
    /// A client's frame without a mask.
    NotMasked,
    /// A server's frame with a mask.
    Masked,
    /// A length written in more bytes than it needs, or with its highest bit set.
    Length,
    /// A control frame of more than 125 bytes.
    ControlTooLong,
    /// A control frame without FIN.
    ControlFragmented,
    /// A continuation where no message is under way.
    NothingToContinue,
    /// A new message where one is under way.
    MessageUnderWay,
    /// A close frame with one byte, which is half a code.
    CloseTruncated,
    /// A close code that must not stand in a frame.
    CloseCode,
    /// Text, or the reason of a close, that is not UTF-8.
    Utf8,
    /// A compressed message that no compressor wrote.
    Compression,
    /// A message of more bytes than are taken.
    TooLarge,
}

impl WebError {
    /// All of them, in the order of their definition.
    pub const ALL: [WebError; 14] = [
        WebError::ReservedBit,
        WebError::ReservedOpcode,
        WebError::NotMasked,
        WebError::Masked,
        WebError::Length,
        WebError::ControlTooLong,
        WebError::ControlFragmented,
        WebError::NothingToContinue,
        WebError::MessageUnderWay,
        WebError::CloseTruncated,
        WebError::CloseCode,
        WebError::Utf8,
        WebError::Compression,
        WebError::TooLarge,
    ];

    /// The code that tells it to the peer (RFC 6455 section 7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            WebError::Utf8 | WebError::Compression => close::INVALID,
            WebError::TooLarge => close::TOO_LARGE,
            _ => close::PROTOCOL,
        }
    }

    /// The same in words, short enough for the reason of a close frame.
    pub fn text(self) -> &'static str {
        match self {
            WebError::ReservedBit => "a reserved bit is set",
            WebError::ReservedOpcode => "a reserved opcode",
            WebError::NotMasked => "a frame from a client must be masked",
            WebError::Masked => "a frame from a server must not be masked",
            WebError::Length => "a length is not written in its shortest form",
            WebError::ControlTooLong => "a control frame is longer than 125 bytes",
            WebError::ControlFragmented => "a control frame is fragmented",
            WebError::NothingToContinue => "a continuation without a message",
            WebError::MessageUnderWay => "a new message before the end of the last one",
            WebError::CloseTruncated => "a close code of one byte",
            WebError::CloseCode => "a close code that must not be sent",
            WebError::Utf8 => "text that is not UTF-8",
            WebError::Compression => "a compressed message that cannot be read",
            WebError::TooLarge => "the message is too large",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_that_may_stand_in_a_frame_are_those_of_the_registry() {
        let sendable = [1000..=1003, 1007..=1014, 3000..=4999];
        for code in (0..=u16::MAX).step_by(if cfg!(miri) { 7 } else { 1 }) {
            let expected = sendable.iter().any(|range| range.contains(&code));
            assert_eq!(close::may_be_sent(code), expected, "{code}");
        }
    }

    #[test]
    fn every_error_has_a_sendable_code_and_a_reason_that_fits_a_close_frame() {
        for error in WebError::ALL {
            assert!(close::may_be_sent(error.close_code()));
            assert!(!error.text().is_empty() && error.text().len() <= WEBSOCKET_CONTROL_MAX - 2);
        }
        assert_eq!(WebError::Utf8.close_code(), 1007);
        assert_eq!(WebError::TooLarge.close_code(), 1009);
        assert_eq!(WebError::Length.close_code(), 1002);
    }

    #[test]
    fn a_control_payload_is_the_bytes_it_was_made_of() {
        let longest = [7; WEBSOCKET_CONTROL_MAX];
        assert_eq!(Control::new(&longest).as_bytes(), longest);
        assert_eq!(Control::new(b"bye").as_str(), Some("bye"));
        assert_eq!(Control::new(&[0xFF]).as_str(), None);
        assert_ne!(Control::new(b"a"), Control::new(b"ab"));
        assert_eq!(format!("{:?}", Control::new(b"a\xFF\"")), "\"a\\xff\\\"\"");
    }
}
