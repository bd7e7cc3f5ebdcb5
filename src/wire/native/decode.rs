//! What the payload of a frame means.
//!
//! Owns the reading of every type's fields, in the order of the wire contract. Bytes behind the
//! last field that version 1 defines are ignored, so that fields can be added. Never judges what it
//! read. Called through [`native`](super) by the heart, the load tools and the tests.

use byteorder::{BigEndian, ByteOrder};

use super::{Flags, Frame, VERSION, kind};
use crate::base::ids::{Epoch, NodeId, Ref, Seq};
use crate::base::limits::ROSTER_MAX;
use crate::wire::message::{
    Code, Event, Heartbeat, Hello, Names, OkFlags, PresenceKind, Request, Welcome, WireError,
};

/// What a frame from a client asks for. `Ok(None)` is a frame of unknown type that carries
/// [`Flags::OPTIONAL`] and is to be skipped; types that only a server sends are unknown here.
///
/// # Errors
/// [`WireError::Truncated`], [`WireError::Utf8`], [`WireError::UnknownType`], and
/// [`WireError::Version`] for a HELLO of another version, whatever follows its first byte.
// Inlined, because it is on the way of every native frame, and is called in two places.
#[inline(always)]
pub fn request<'a>(frame: &Frame<'a>) -> Result<Option<Request<'a>>, WireError> {
    let mut fields = Fields { rest: frame.payload };
    let request = match frame.kind {
        kind::HELLO => Request::Hello(fields.hello(frame.flags)?),
        kind::PING => Request::Ping(fields.heartbeat()?),
        kind::PONG => Request::Pong(fields.heartbeat()?),
        kind::BYE => Request::Bye { code: fields.u16()?, reason: fields.str16()? },
        kind::ECHO => Request::Echo(frame.payload),
        kind::JOIN => Request::Join {
            reference: Ref(fields.u32()?),
            epoch: Epoch(fields.u32()?),
            since: Seq(fields.u64()?),
            room: fields.str8()?,
            notify: frame.flags.contains(Flags::NOTIFY),
        },
        kind::LEAVE => Request::Leave { reference: Ref(fields.u32()?), room: fields.str8()? },
        kind::PUBLISH => Request::Publish {
            reference: Ref(fields.u32()?),
            room: fields.str8()?,
            body: fields.rest,
            echo: frame.flags.contains(Flags::ECHO),
        },
        kind::DIRECT => Request::Direct {
            reference: Ref(fields.u32()?),
            user: fields.str8()?,
            body: fields.rest,
        },
        kind::ACK => Request::Ack { id: fields.u64()? },
        kind::HISTORY => Request::History {
            reference: Ref(fields.u32()?),
            room: fields.str8()?,
            since: Seq(fields.u64()?),
            limit: fields.u16()?,
        },
        kind::WHO => Request::Who { reference: Ref(fields.u32()?), room: fields.str8()? },
        _ => return unknown(frame),
    };
    Ok(Some(request))
}

/// What a frame from the server tells. `Ok(None)` is to be skipped: a frame of unknown type that
/// carries [`Flags::OPTIONAL`], or a PRESENCE of a kind that version 1 does not name.
///
/// A ROSTER frame does not carry its room, so `room` is empty. An ERROR code that version 1 does
/// not name is read by its class, as HTTP clients do (RFC 9110 section 15): 400 to 499 as
/// [`Code::Malformed`], all others as [`Code::Unavailable`].
///
/// # Errors
/// [`WireError::Truncated`], [`WireError::Utf8`], [`WireError::UnknownType`],
/// [`WireError::Version`] for a WELCOME of another version, and [`WireError::TooLong`] for a ROSTER
/// of more names than the contract allows.
pub fn event<'a>(frame: &Frame<'a>) -> Result<Option<Event<'a>>, WireError> {
    let mut fields = Fields { rest: frame.payload };
    let replay = frame.flags.contains(Flags::REPLAY);
    let event = match frame.kind {
        kind::WELCOME => Event::Welcome(fields.welcome()?),
        kind::PING => Event::Ping(fields.heartbeat()?),
        kind::PONG => Event::Pong(fields.heartbeat()?),
        kind::BYE => Event::Bye { code: fields.u16()?, reason: fields.str16()? },
        kind::ECHO => Event::Echo(frame.payload),
        kind::OK => fields.ok()?,
        kind::ERROR => Event::Error {
            reference: Ref(fields.u32()?),
            code: Code::of_number(fields.u16()?),
            text: fields.str16()?,
        },
        kind::MESSAGE => Event::Message {
            epoch: Epoch(fields.u32()?),
            seq: Seq(fields.u64()?),
            time_ms: fields.u64()?,
            room: fields.str8()?,
            from: fields.str8()?,
            body: fields.rest,
            replay,
        },
        kind::DIRECT_MESSAGE => Event::Direct {
            id: fields.u64()?,
            time_ms: fields.u64()?,
            from: fields.str8()?,
            body: fields.rest,
            replay,
        },
        kind::PRESENCE => return fields.presence(),
        kind::ROSTER => fields.roster()?,
        kind::GOAWAY => Event::GoAway {
            reconnect_after_ms: fields.u32()?,
            reason: fields.str16()?,
            address: fields.str16()?,
        },
        kind::GAP => Event::Gap {
            epoch: Epoch(fields.u32()?),
            from: Seq(fields.u64()?),
            to: Seq(fields.u64()?),
            room: fields.str8()?,
        },
        kind::TEMPO => Event::Tempo { heartbeat_s: fields.u16()?, timeout_s: fields.u16()? },
        _ => return unknown(frame),
    };
    Ok(Some(event))
}

/// The heartbeat at the head of `payload`, if it is long enough for one.
pub fn heartbeat(payload: &[u8]) -> Option<Heartbeat> {
    Fields { rest: payload }.heartbeat().ok()
}

fn unknown<T>(frame: &Frame<'_>) -> Result<Option<T>, WireError> {
    if frame.flags.contains(Flags::OPTIONAL) { Ok(None) } else { Err(WireError::UnknownType) }
}

/// The fields of a payload that are still to be read.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, WireError> {
        Ok(BigEndian::read_u16(self.take(2)?))
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        Ok(BigEndian::read_u32(self.take(4)?))
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        Ok(BigEndian::read_u64(self.take(8)?))
    }

    fn str8(&mut self) -> Result<&'a str, WireError> {
        let length = usize::from(self.u8()?);
        self.text(length)
    }

    fn str16(&mut self) -> Result<&'a str, WireError> {
        let length = usize::from(self.u16()?);
        self.text(length)
    }

    fn text(&mut self, length: usize) -> Result<&'a str, WireError> {
        simdutf8::basic::from_utf8(self.take(length)?).map_err(|_| WireError::Utf8)
    }

    fn heartbeat(&mut self) -> Result<Heartbeat, WireError> {
        Ok(Heartbeat {
            node: NodeId(self.u32()?),
            time_ms: self.u64()?,
            status: self.u8()?,
            seq: self.u32()?,
        })
    }

    fn hello(&mut self, flags: Flags) -> Result<Hello<'a>, WireError> {
        Ok(Hello {
            version: self.version()?,
            heartbeat_s: self.u16()?,
            session: self.u64()?,
            resume_key: self.u64()?,
            user: self.str8()?,
            token: self.str16()?,
            crc: flags.contains(Flags::CRC),
        })
    }

    /// Another version may lay out all that follows in another way, so this is told first.
    fn version(&mut self) -> Result<u8, WireError> {
        let version = self.u8()?;
        if version == VERSION { Ok(version) } else { Err(WireError::Version) }
    }

    fn welcome(&mut self) -> Result<Welcome<'a>, WireError> {
        Ok(Welcome {
            version: self.version()?,
            node: NodeId(self.u32()?),
            session: self.u64()?,
            resume_key: self.u64()?,
            heartbeat_s: self.u16()?,
            timeout_s: self.u16()?,
            max_frame: self.u32()?,
            resumed: self.u8()? & 1 != 0,
            user: self.str8()?,
        })
    }

    fn ok(&mut self) -> Result<Event<'a>, WireError> {
        let reference = Ref(self.u32()?);
        let bits = self.u8()?;
        let flags = OkFlags { gap: bits & 1 != 0, queued: bits & 2 != 0, duplicate: bits & 4 != 0 };
        Ok(Event::Ok { reference, flags, epoch: Epoch(self.u32()?), seq: Seq(self.u64()?) })
    }

    fn presence(&mut self) -> Result<Option<Event<'a>>, WireError> {
        let number = self.u8()?;
        let (total, room, user) = (self.u32()?, self.str8()?, self.str8()?);
        let kind = match number {
            1 => PresenceKind::Joined,
            2 => PresenceKind::Left,
            3 => PresenceKind::Online,
            4 => PresenceKind::Offline,
            5 => PresenceKind::Many,
            _ => return Ok(None),
        };
        Ok(Some(Event::Presence { kind, total, room, user }))
    }

    fn roster(&mut self) -> Result<Event<'a>, WireError> {
        let (reference, total) = (Ref(self.u32()?), self.u32()?);
        let count = usize::from(self.u16()?);
        if count > ROSTER_MAX {
            return Err(WireError::TooLong);
        }
        let length = Names::check(self.rest, count)?;
        let users = Names::new(self.take(length)?);
        Ok(Event::Roster { reference, room: "", total, users })
    }
}
