//! How requests and events are written as frames.
//!
//! Owns the writing of every type's fields, in the order of the wire contract. Never allocates but
//! what the caller's buffer grows by. Called through [`native`](super) by the heart, the load tools
//! and the tests.

use byteorder::{BigEndian, ByteOrder};

use super::{Flags, MAGIC, direct_payload_len, kind, message_payload_len, seal};
use crate::base::limits::{FRAME_CRC, FRAME_HEADER, ROSTER_MAX};
use crate::wire::message::{Event, Heartbeat, Hello, OkFlags, Request, Welcome};

/// Appends the frame of a client's request, with a checksum where `crc` says so. A HELLO that asks
/// for checksums carries one itself.
///
/// # Panics
/// If a string is longer than its length field can say.
pub fn encode_request(out: &mut Vec<u8>, request: &Request<'_>, crc: bool) {
    let crc = crc || matches!(request, Request::Hello(Hello { crc: true, .. }));
    let (kind, flags) = head_of_request(request);
    let mut draft = Draft::begin(out, kind, flags);
    match *request {
        Request::Hello(hello) => {
            draft.u8(hello.version).u16(hello.heartbeat_s);
            draft.u64(hello.session).u64(hello.resume_key).str8(hello.user).str16(hello.token)
        }
        Request::Ping(heartbeat) | Request::Pong(heartbeat) => draft.heartbeat(&heartbeat),
        Request::Bye { code, reason } => draft.u16(code).str16(reason),
        Request::Echo(bytes) => draft.bytes(bytes),
        Request::Join { reference, epoch, since, room, notify: _ } => {
            draft.u32(reference.0).u32(epoch.0).u64(since.0).str8(room)
        }
        Request::Leave { reference, room } | Request::Who { reference, room } => {
            draft.u32(reference.0).str8(room)
        }
        Request::Publish { reference, room, body, echo: _ } => {
            draft.u32(reference.0).str8(room).bytes(body)
        }
        Request::Direct { reference, user, body } => draft.u32(reference.0).str8(user).bytes(body),
        Request::Ack { id } => draft.u64(id),
        Request::History { reference, room, since, limit } => {
            draft.u32(reference.0).str8(room).u64(since.0).u16(limit)
        }
    };
    draft.finish(crc);
}

/// Appends the frame of a server's event, with a checksum where `crc` says so.
///
/// # Panics
/// If a string is longer than its length field can say, or a roster has more than
/// [`ROSTER_MAX`] names.
pub fn encode_event(out: &mut Vec<u8>, event: &Event<'_>, crc: bool) {
    let (kind, flags) = head_of_event(event);
    let mut draft = Draft::begin(out, kind, flags);
    match *event {
        Event::Message { epoch, seq, time_ms, room, from, body, replay: _ } => {
            // The event that every member gets: its fixed fields go in one piece.
            draft.out.reserve(message_payload_len(room, from, body.len()) + FRAME_CRC);
            let mut fixed = [0; 4 + 8 + 8];
            BigEndian::write_u32(&mut fixed[..4], epoch.0);
            BigEndian::write_u64(&mut fixed[4..12], seq.0);
            BigEndian::write_u64(&mut fixed[12..], time_ms);
            draft.bytes(&fixed).str8(room).str8(from).bytes(body)
        }
        Event::Welcome(welcome) => draft.welcome(&welcome),
        Event::Ping(heartbeat) | Event::Pong(heartbeat) => draft.heartbeat(&heartbeat),
        Event::Bye { code, reason } => draft.u16(code).str16(reason),
        Event::Echo(bytes) => draft.bytes(bytes),
        Event::Ok { reference, flags, epoch, seq } => {
            draft.u32(reference.0).u8(ok_bits(flags)).u32(epoch.0).u64(seq.0)
        }
        Event::Error { reference, code, text } => {
            draft.u32(reference.0).u16(code as u16).str16(text)
        }
        Event::Direct { id, time_ms, from, body, replay: _ } => {
            draft.out.reserve(direct_payload_len(from, body.len()) + FRAME_CRC);
            draft.u64(id).u64(time_ms).str8(from).bytes(body)
        }
        Event::Presence { kind, total, room, user } => {
            draft.u8(kind as u8).u32(total).str8(room).str8(user)
        }
        Event::Roster { reference, room: _, total, users } => {
            let count = users.count();
            assert!(count <= ROSTER_MAX, "a roster of {count} names");
            draft.u32(reference.0).u32(total).u16(count as u16).bytes(users.encoded())
        }
        Event::GoAway { reconnect_after_ms, reason, address } => {
            draft.u32(reconnect_after_ms).str16(reason).str16(address)
        }
        Event::Gap { epoch, from, to, room } => draft.u32(epoch.0).u64(from.0).u64(to.0).str8(room),
        Event::Tempo { heartbeat_s, timeout_s } => draft.u16(heartbeat_s).u16(timeout_s),
    };
    draft.finish(crc);
}

fn ok_bits(flags: OkFlags) -> u8 {
    u8::from(flags.gap) | u8::from(flags.queued) << 1 | u8::from(flags.duplicate) << 2
}

fn head_of_request(request: &Request<'_>) -> (u8, Flags) {
    let none = Flags::NONE;
    match *request {
        Request::Hello(_) => (kind::HELLO, none),
        Request::Ping(_) => (kind::PING, none),
        Request::Pong(_) => (kind::PONG, none),
        Request::Bye { .. } => (kind::BYE, none),
        Request::Echo(_) => (kind::ECHO, none),
        Request::Join { notify, .. } => (kind::JOIN, none.with(Flags::NOTIFY, notify)),
        Request::Leave { .. } => (kind::LEAVE, none),
        Request::Publish { echo, .. } => (kind::PUBLISH, none.with(Flags::ECHO, echo)),
        Request::Direct { .. } => (kind::DIRECT, none),
        Request::Ack { .. } => (kind::ACK, none),
        Request::History { .. } => (kind::HISTORY, none),
        Request::Who { .. } => (kind::WHO, none),
    }
}

fn head_of_event(event: &Event<'_>) -> (u8, Flags) {
    let none = Flags::NONE;
    match *event {
        Event::Welcome(_) => (kind::WELCOME, none),
        Event::Ping(_) => (kind::PING, none),
        Event::Pong(_) => (kind::PONG, none),
        Event::Bye { .. } => (kind::BYE, none),
        Event::Echo(_) => (kind::ECHO, none),
        Event::Ok { .. } => (kind::OK, none),
        Event::Error { .. } => (kind::ERROR, none),
        Event::Message { replay, .. } => (kind::MESSAGE, none.with(Flags::REPLAY, replay)),
        Event::Direct { replay, .. } => (kind::DIRECT_MESSAGE, none.with(Flags::REPLAY, replay)),
        Event::Presence { .. } => (kind::PRESENCE, none),
        Event::Roster { .. } => (kind::ROSTER, none),
        Event::GoAway { .. } => (kind::GOAWAY, none),
        Event::Gap { .. } => (kind::GAP, none),
        Event::Tempo { .. } => (kind::TEMPO, none),
    }
}

/// A frame under construction at the end of a buffer.
struct Draft<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
}

impl<'o> Draft<'o> {
    fn begin(out: &'o mut Vec<u8>, kind: u8, flags: Flags) -> Draft<'o> {
        let start = out.len();
        let [high, low] = [(flags.0 >> 8) as u8, flags.0 as u8];
        out.extend_from_slice(&[MAGIC, kind, high, low, 0, 0, 0, 0]);
        Draft { out, start }
    }

    fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        let mut bytes = [0; 2];
        BigEndian::write_u16(&mut bytes, value);
        self.bytes(&bytes)
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        let mut bytes = [0; 4];
        BigEndian::write_u32(&mut bytes, value);
        self.bytes(&bytes)
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        let mut bytes = [0; 8];
        BigEndian::write_u64(&mut bytes, value);
        self.bytes(&bytes)
    }

    fn str8(&mut self, text: &str) -> &mut Self {
        let length = u8::try_from(text.len()).expect("a str8 has at most 255 bytes");
        self.u8(length).bytes(text.as_bytes())
    }

    fn str16(&mut self, text: &str) -> &mut Self {
        let length = u16::try_from(text.len()).expect("a str16 has at most 65,535 bytes");
        self.u16(length).bytes(text.as_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    fn heartbeat(&mut self, heartbeat: &Heartbeat) -> &mut Self {
        self.u32(heartbeat.node.0).u64(heartbeat.time_ms).u8(heartbeat.status).u32(heartbeat.seq)
    }

    fn welcome(&mut self, welcome: &Welcome<'_>) -> &mut Self {
        self.u8(welcome.version).u32(welcome.node.0);
        self.u64(welcome.session).u64(welcome.resume_key);
        self.u16(welcome.heartbeat_s).u16(welcome.timeout_s).u32(welcome.max_frame);
        self.u8(u8::from(welcome.resumed)).str8(welcome.user)
    }

    /// Writes the payload's length, and the checksum where one is wanted.
    fn finish(self, crc: bool) {
        let payload = self.out.len() - self.start - FRAME_HEADER;
        let payload = u32::try_from(payload).expect("a payload is shorter than 4 GiB");
        BigEndian::write_u32(&mut self.out[self.start + 4..self.start + 8], payload);
        if crc {
            seal(self.out, self.start);
        }
    }
}
