//! What is said between a client and the server, whatever the dialect.
//!
//! Owns the vocabulary: [`Request`] from a client, [`Event`] from the server, and the codes of the
//! contract. Never encodes: [`native`](super::native), [`json`](super::json) and
//! [`line`](super::line) do.

use super::json::Member;
use crate::base::ids::{Epoch, NodeId, Ref, Seq};

/// Codes of ERROR, as the wire contract numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum Code {
    /// The bytes are not what the dialect allows.
    Malformed = 400,
    /// The token is missing or wrong.
    Unauthorized = 401,
    /// The request is not allowed.
    Forbidden = 403,
    /// There is no such room or user.
    NotFound = 404,
    /// Silent for too long, or the hello came too late.
    Timeout = 408,
    /// The name is in use, where a user may have one session only.
    Conflict = 409,
    /// Larger than a limit.
    TooLarge = 413,
    /// Too fast, or too many.
    TooMany = 429,
    /// The outbound queue is full: the reader is too slow.
    SlowReader = 431,
    /// Overloaded or draining.
    Unavailable = 503,
}

impl Code {
    /// The code of that number. One that version 1 does not name is read by its class, as HTTP
    /// clients do (RFC 9110 section 15): 400 to 499 as [`Code::Malformed`], all others as
    /// [`Code::Unavailable`].
    pub fn of_number(number: u16) -> Code {
        match number {
            401 => Code::Unauthorized,
            403 => Code::Forbidden,
            404 => Code::NotFound,
            408 => Code::Timeout,
            409 => Code::Conflict,
            413 => Code::TooLarge,
            429 => Code::TooMany,
            431 => Code::SlowReader,
            400..=499 => Code::Malformed,
            _ => Code::Unavailable,
        }
    }
}

/// The 17 bytes of PING and PONG: who, when, how it feels, and a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// The sender's node; 0 from a client.
    pub node: NodeId,
    /// The sender's wall clock in milliseconds since 1970; PONG returns PING's.
    pub time_ms: u64,
    /// 0 normal, 1 busy, 2 failing.
    pub status: u8,
    /// The sender's number of this PING; PONG returns it.
    pub seq: u32,
}

/// What a client asks for. Borrowed from the bytes it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// The first words of a client that is a program.
    Hello(Hello<'a>),
    /// Asks for a PONG.
    Ping(Heartbeat),
    /// Answers a PING.
    Pong(Heartbeat),
    /// The client will hang up.
    Bye {
        /// Why, as a number of the client's choice or one of [`Code`].
        code: u16,
        /// Why, in words.
        reason: &'a str,
    },
    /// Asks for the same bytes back.
    Echo(&'a [u8]),
    /// Become a member of a room.
    Join {
        /// The request's number.
        reference: Ref,
        /// The life of the room's history that `since` counts in.
        epoch: Epoch,
        /// 0 for live messages only, else replay what follows this one.
        since: Seq,
        /// The room.
        room: &'a str,
        /// Tell me of joins and leaves in this room (flag `NOTIFY`).
        notify: bool,
    },
    /// Stop being a member of a room.
    Leave {
        /// The request's number.
        reference: Ref,
        /// The room.
        room: &'a str,
    },
    /// Say something in a room.
    Publish {
        /// The request's number.
        reference: Ref,
        /// The room; `*` is every connection.
        room: &'a str,
        /// What is said: any bytes.
        body: &'a [u8],
        /// The sender wants its own message too (flag `ECHO`).
        echo: bool,
    },
    /// Say something to one user.
    Direct {
        /// The request's number.
        reference: Ref,
        /// The user.
        user: &'a str,
        /// What is said: any bytes.
        body: &'a [u8],
    },
    /// Every direct message up to this id has arrived.
    Ack {
        /// The id of the last one.
        id: u64,
    },
    /// Ask for messages of the past.
    History {
        /// The request's number.
        reference: Ref,
        /// The room.
        room: &'a str,
        /// Those that follow this one.
        since: Seq,
        /// At most so many.
        limit: u16,
    },
    /// Ask who is in a room.
    Who {
        /// The request's number.
        reference: Ref,
        /// The room.
        room: &'a str,
    },
}

/// The first words of a client that is a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The contract's version, 1.
    pub version: u8,
    /// The heartbeat interval the client wishes for, in seconds; 0 for the server's.
    pub heartbeat_s: u16,
    /// The session to resume; 0 for a new one.
    pub session: u64,
    /// The proof that the session is the client's.
    pub resume_key: u64,
    /// The user's name; empty lets the server name a guest.
    pub user: &'a str,
    /// What proves the user.
    pub token: &'a str,
    /// Send `CRC` on every frame (flag `CRC` of the frame that carried this).
    pub crc: bool,
}

/// The answer to a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// The contract's version, 1.
    pub version: u8,
    /// This server's node.
    pub node: NodeId,
    /// The session's identity.
    pub session: u64,
    /// What proves that it is yours.
    pub resume_key: u64,
    /// The connection's heartbeat interval in seconds.
    pub heartbeat_s: u16,
    /// The connection is closed after so many seconds of silence.
    pub timeout_s: u16,
    /// Largest payload the server takes and sends.
    pub max_frame: u32,
    /// Whether an earlier session goes on.
    pub resumed: bool,
    /// The user's name, given or granted.
    pub user: &'a str,
}

/// What a PRESENCE event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PresenceKind {
    /// The user joined the room.
    Joined = 1,
    /// The user left the room.
    Left = 2,
    /// The user came online.
    Online = 3,
    /// The user went offline.
    Offline = 4,
    /// Many joined or left; only the total is told.
    Many = 5,
}

/// The flags of an OK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OkFlags {
    /// Part of what was asked for is no longer kept.
    pub gap: bool,
    /// The direct message waits for an offline user.
    pub queued: bool,
    /// The request was a repetition; nothing was done twice.
    pub duplicate: bool,
}

/// What the server tells a client. Borrowed from whoever tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The answer to a hello.
    Welcome(Welcome<'a>),
    /// Asks for a PONG.
    Ping(Heartbeat),
    /// Answers a PING.
    Pong(Heartbeat),
    /// The server will hang up.
    Bye {
        /// Why, as a number.
        code: u16,
        /// Why, in words.
        reason: &'a str,
    },
    /// The same bytes back.
    Echo(&'a [u8]),
    /// A request was done.
    Ok {
        /// The request's number.
        reference: Ref,
        /// What else there is to say of it.
        flags: OkFlags,
        /// The room's epoch, 0 where no room is meant.
        epoch: Epoch,
        /// The message's place, or the room's last one.
        seq: Seq,
    },
    /// A request was refused, or (with [`Ref::NONE`]) the connection is.
    Error {
        /// The request's number.
        reference: Ref,
        /// Why, as a number.
        code: Code,
        /// Why, in words.
        text: &'a str,
    },
    /// A message of a room.
    Message {
        /// The life of the room's history.
        epoch: Epoch,
        /// The message's place in it.
        seq: Seq,
        /// When the room's home took it, in milliseconds since 1970.
        time_ms: u64,
        /// The room.
        room: &'a str,
        /// Who said it.
        from: &'a str,
        /// What was said.
        body: &'a [u8],
        /// It comes from history (flag `REPLAY`).
        replay: bool,
    },
    /// A direct message.
    Direct {
        /// Its number, for ACK.
        id: u64,
        /// When the server took it, in milliseconds since 1970.
        time_ms: u64,
        /// Who said it.
        from: &'a str,
        /// What was said.
        body: &'a [u8],
        /// It comes from the offline queue (flag `REPLAY`).
        replay: bool,
    },
    /// Somebody came or went.
    Presence {
        /// What happened.
        kind: PresenceKind,
        /// Members of the room now; 0 for online and offline.
        total: u32,
        /// The room; empty for online and offline.
        room: &'a str,
        /// The user; empty for [`PresenceKind::Many`].
        user: &'a str,
    },
    /// Who is in a room.
    Roster {
        /// The request's number.
        reference: Ref,
        /// The room, which native frames do not carry.
        room: &'a str,
        /// Members of the room now.
        total: u32,
        /// Some or all of their names.
        users: Names<'a>,
    },
    /// Hang up and come back later.
    GoAway {
        /// How much later.
        reconnect_after_ms: u32,
        /// Why, in words.
        reason: &'a str,
        /// Where to; empty for the same.
        address: &'a str,
    },
    /// These messages were not sent to you.
    Gap {
        /// The life of the room's history.
        epoch: Epoch,
        /// The first one missing.
        from: Seq,
        /// The last one missing.
        to: Seq,
        /// The room.
        room: &'a str,
    },
    /// The heartbeat of this connection from now on.
    Tempo {
        /// The interval in seconds.
        heartbeat_s: u16,
        /// Closed after so many seconds of silence.
        timeout_s: u16,
    },
}

/// A list of names as ROSTER carries it: each a length byte and its UTF-8, one after the other.
///
/// Kept encoded, so that neither writing nor reading a roster needs a table of strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names<'a> {
    encoded: &'a [u8],
}

impl<'a> Names<'a> {
    /// The names in `encoded`, which must be whole: see [`Names::push`] and [`Names::check`].
    pub fn new(encoded: &'a [u8]) -> Names<'a> {
        Names { encoded }
    }

    /// Whether `encoded` holds exactly `count` names.
    ///
    /// # Errors
    /// [`WireError::Truncated`] where a name reaches beyond the bytes, [`WireError::Utf8`] where
    /// one is not UTF-8. On success the number of bytes that the names take.
    pub fn check(encoded: &[u8], count: usize) -> Result<usize, WireError> {
        let mut at = 0;
        for _ in 0..count {
            let length = usize::from(*encoded.get(at).ok_or(WireError::Truncated)?);
            let name = encoded.get(at + 1..at + 1 + length).ok_or(WireError::Truncated)?;
            simdutf8::basic::from_utf8(name).map_err(|_| WireError::Utf8)?;
            at += 1 + length;
        }
        Ok(at)
    }

    /// Appends one name of at most 255 bytes to a list under construction.
    pub fn push(encoded: &mut Vec<u8>, name: &str) {
        let length = u8::try_from(name.len()).expect("a name has at most 64 bytes");
        encoded.push(length);
        encoded.extend_from_slice(name.as_bytes());
    }

    /// The encoded list.
    pub fn encoded(self) -> &'a [u8] {
        self.encoded
    }

    /// How many names the list holds.
    pub fn count(self) -> usize {
        self.iter().count()
    }

    /// The names in their order.
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        let mut rest = self.encoded;
        std::iter::from_fn(move || {
            let (&length, tail) = rest.split_first()?;
            let (name, tail) = tail.split_at(usize::from(length));
            rest = tail;
            Some(std::str::from_utf8(name).expect("a list of names is checked when it is made"))
        })
    }
}

/// What was wrong with bytes that a peer sent. Every one ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireError {
    /// A frame does not begin with the magic byte.
    Magic,
    /// The payload is longer than the limit.
    TooLong,
    /// The checksum does not match.
    Crc,
    /// A field reaches beyond the payload.
    Truncated,
    /// A string is not UTF-8.
    Utf8,
    /// An unknown type without the flag `OPTIONAL`.
    UnknownType,
    /// HELLO speaks another version.
    Version,
    /// A message is not one JSON object, or has a member twice.
    Json,
    /// A member of a JSON object is missing, or holds what it must not.
    Member(Member),
    /// An unknown `op` without `"optional":true`.
    UnknownOp,
}

impl WireError {
    /// The code that the peer is told.
    pub fn code(self) -> Code {
        match self {
            WireError::TooLong => Code::TooLarge,
            _ => Code::Malformed,
        }
    }

    /// The reason in words.
    pub fn text(self) -> &'static str {
        match self {
            WireError::Magic => "a frame must begin with FB",
            WireError::TooLong => "the frame is longer than max_frame",
            WireError::Crc => "the checksum does not match",
            WireError::Truncated => "a field reaches beyond the payload",
            WireError::Utf8 => "a string is not UTF-8",
            WireError::UnknownType => "unknown frame type",
            WireError::Version => "only version 1 is spoken here",
            WireError::Json => "a message must be one JSON object with each member once",
            WireError::Member(member) => member.text(),
            WireError::UnknownOp => "unknown op",
        }
    }
}
