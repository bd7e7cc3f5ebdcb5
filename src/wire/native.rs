//! The native dialect: binary frames.
//!
//! Owns the frame: magic, type, flags, length, payload and optional checksum, as the wire contract
//! lays them out. What a payload means is read in `decode` and written in `encode`. Never keeps
//! bytes: a decoder borrows from the slice it is given, an encoder appends to the buffer it is
//! given. Never judges a name or a request. The heart, the load tools and the tests call it.

mod decode;
mod encode;

use byteorder::{BigEndian, ByteOrder};

pub use self::decode::{event, heartbeat, request};
pub use self::encode::{encode_event, encode_request};
use super::message::{Heartbeat, WireError};
use crate::base::ids::{Epoch, Position, Seq};
use crate::base::limits::{FRAME_CRC, FRAME_HEADER};

/// The first byte of every frame. It can begin neither a UTF-8 line nor an HTTP method.
pub const MAGIC: u8 = 0xFB;
/// The version of the contract that HELLO and WELCOME carry.
pub const VERSION: u8 = 1;

/// Bytes of a heartbeat: the payload of PING and PONG, and of a WebSocket's ping.
pub const HEARTBEAT: usize = 17;

/// A heartbeat as PING and PONG carry it.
pub fn heartbeat_bytes(heartbeat: &Heartbeat) -> [u8; HEARTBEAT] {
    let mut bytes = [0; HEARTBEAT];
    BigEndian::write_u32(&mut bytes[..4], heartbeat.node.0);
    BigEndian::write_u64(&mut bytes[4..12], heartbeat.time_ms);
    bytes[12] = heartbeat.status;
    BigEndian::write_u32(&mut bytes[13..], heartbeat.seq);
    bytes
}

/// The second byte of a frame: its type.
pub mod kind {
    /// From the client: the first frame.
    pub const HELLO: u8 = 0x01;
    /// Both ways: asks for a PONG.
    pub const PING: u8 = 0x02;
    /// Both ways: answers a PING.
    pub const PONG: u8 = 0x03;
    /// Both ways: the sender will hang up.
    pub const BYE: u8 = 0x04;
    /// Both ways: bytes to return, and the bytes returned.
    pub const ECHO: u8 = 0x05;
    /// From the client: become a member of a room.
    pub const JOIN: u8 = 0x10;
    /// From the client: stop being a member.
    pub const LEAVE: u8 = 0x11;
    /// From the client: say something in a room.
    pub const PUBLISH: u8 = 0x12;
    /// From the client: say something to one user.
    pub const DIRECT: u8 = 0x13;
    /// From the client: direct messages up to an id have arrived.
    pub const ACK: u8 = 0x14;
    /// From the client: ask for messages of the past.
    pub const HISTORY: u8 = 0x15;
    /// From the client: ask who is in a room.
    pub const WHO: u8 = 0x16;
    /// From the server: the answer to HELLO.
    pub const WELCOME: u8 = 0x81;
    /// From the server: a request was done.
    pub const OK: u8 = 0x90;
    /// From the server: a request, or the connection, was refused.
    pub const ERROR: u8 = 0x91;
    /// From the server: a message of a room.
    pub const MESSAGE: u8 = 0x92;
    /// From the server: a direct message. Another type than the client's [`DIRECT`].
    pub const DIRECT_MESSAGE: u8 = 0x93;
    /// From the server: somebody came or went.
    pub const PRESENCE: u8 = 0x94;
    /// From the server: who is in a room.
    pub const ROSTER: u8 = 0x95;
    /// From the server: hang up and come back later.
    pub const GOAWAY: u8 = 0x96;
    /// From the server: messages that were not sent.
    pub const GAP: u8 = 0x97;
    /// From the server: the heartbeat from now on.
    pub const TEMPO: u8 = 0x98;
}

/// The flags of a frame. Bits without a name are carried and ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);
    /// A checksum follows the payload. In HELLO: send one with every frame.
    pub const CRC: Flags = Flags(1);
    /// PUBLISH: the sender gets its own message too.
    pub const ECHO: Flags = Flags(2);
    /// JOIN: tell me of joins and leaves in this room.
    pub const NOTIFY: Flags = Flags(4);
    /// MESSAGE and DIRECT: it comes from history or from the offline queue.
    pub const REPLAY: Flags = Flags(8);
    /// A receiver that does not know the type skips the frame.
    pub const OPTIONAL: Flags = Flags(1 << 15);

    /// Whether every bit of `other` is set.
    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and, where `set`, those of `other`.
    #[must_use]
    pub fn with(self, other: Flags, set: bool) -> Flags {
        if set { Flags(self.0 | other.0) } else { self }
    }
}

/// One frame, taken apart but not yet understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The type, one of [`kind`] or not.
    pub kind: u8,
    /// The flags.
    pub flags: Flags,
    /// The payload, without header and checksum.
    pub payload: &'a [u8],
}

/// Takes the frame at the head of `bytes`, and says how many bytes it took with its checksum.
/// `Ok(None)` asks for more bytes.
///
/// A bad peer is told apart as early as can be: the magic at the first byte, the length at the
/// eighth. No length that a header can hold makes an offset overflow.
///
/// # Errors
/// [`WireError::Magic`], [`WireError::TooLong`] for a payload of more than `max_frame` bytes, and
/// [`WireError::Crc`].
pub fn frame(bytes: &[u8], max_frame: usize) -> Result<Option<(Frame<'_>, usize)>, WireError> {
    match bytes.first() {
        None => return Ok(None),
        Some(&MAGIC) => {}
        Some(_) => return Err(WireError::Magic),
    }
    let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER>() else {
        return Ok(None);
    };
    let length = BigEndian::read_u32(&header[4..8]) as usize;
    if length > max_frame {
        return Err(WireError::TooLong);
    }
    let Some((payload, rest)) = rest.split_at_checked(length) else {
        return Ok(None);
    };
    let flags = Flags(BigEndian::read_u16(&header[2..4]));
    let found = Frame { kind: header[1], flags, payload };
    if !flags.contains(Flags::CRC) {
        return Ok(Some((found, FRAME_HEADER + length)));
    }
    let Some(checksum) = rest.first_chunk::<FRAME_CRC>() else {
        return Ok(None);
    };
    if crc32fast::hash(&bytes[..FRAME_HEADER + length]) != BigEndian::read_u32(checksum) {
        return Err(WireError::Crc);
    }
    Ok(Some((found, FRAME_HEADER + length + FRAME_CRC)))
}

/// Appends a copy of a run of whole frames without checksums, each given its checksum. Renders for
/// clients with `CRC` what was encoded once for all others.
///
/// # Panics
/// If `frames` is not such a run.
pub fn append_with_crc(out: &mut Vec<u8>, frames: &[u8]) {
    let mut rest = frames;
    while !rest.is_empty() {
        let Ok(Some((plain, length))) = frame(rest, usize::MAX) else {
            panic!("what is given a checksum is a run of whole frames");
        };
        assert!(!plain.flags.contains(Flags::CRC), "the frame has a checksum already");
        let (head, tail) = rest.split_at(length);
        let start = out.len();
        out.extend_from_slice(head);
        seal(out, start);
        rest = tail;
    }
}

/// Sets the flag `REPLAY` of a frame without checksum.
pub fn mark_replay(frame: &mut [u8]) {
    frame[3] |= Flags::REPLAY.0 as u8;
}

/// The epoch and the place of a MESSAGE frame, which the server has encoded itself.
///
/// # Panics
/// If it is shorter than a MESSAGE.
pub fn message_position(frame: &[u8]) -> Position {
    let epoch = BigEndian::read_u32(&frame[FRAME_HEADER..]);
    let seq = BigEndian::read_u64(&frame[FRAME_HEADER + 4..]);
    Position { epoch: Epoch(epoch), seq: Seq(seq) }
}

/// Where the name of the room begins in a MESSAGE frame: a byte for its length, the name, a byte
/// for the length of the sender's, and that name.
pub const MESSAGE_ROOM: usize = FRAME_HEADER + 4 + 8 + 8;

/// Bytes of a MESSAGE's payload whose body is `body_len` long, for the check against `max_frame`.
pub fn message_payload_len(room: &str, from: &str, body_len: usize) -> usize {
    4 + 8 + 8 + 1 + room.len() + 1 + from.len() + body_len
}

/// Bytes of the payload of a server's DIRECT whose body is `body_len` long.
pub fn direct_payload_len(from: &str, body_len: usize) -> usize {
    8 + 8 + 1 + from.len() + body_len
}

/// The id and the time of a server's DIRECT, given as a whole frame.
///
/// # Panics
/// If the frame is too short to be one.
pub fn direct_id_and_time(frame: &[u8]) -> (u64, u64) {
    let fields = &frame[FRAME_HEADER..FRAME_HEADER + 16];
    (BigEndian::read_u64(&fields[..8]), BigEndian::read_u64(&fields[8..]))
}

/// Sets the flag `CRC` of the frame that begins at `start` and ends the buffer, and appends the
/// checksum.
fn seal(out: &mut Vec<u8>, start: usize) {
    out[start + 3] |= Flags::CRC.0 as u8;
    let mut checksum = [0; FRAME_CRC];
    BigEndian::write_u32(&mut checksum, crc32fast::hash(&out[start..]));
    out.extend_from_slice(&checksum);
}
