//! How requests and events are written as objects.
//!
//! Owns the names and the order of the members. Never allocates but what the caller's buffer grows
//! by. Called through [`json`](super) by the heart, the load tools and the tests.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::wire::decimal::append_decimal;
use crate::wire::message::{Event, Heartbeat, Hello, Names, PresenceKind, Request, Welcome};

/// Appends the object of a server's event.
pub fn encode_event(out: &mut Vec<u8>, event: &Event<'_>) {
    let mut draft = Draft { out };
    match *event {
        Event::Message { epoch, seq, time_ms, room, from, body, replay } => {
            draft.out.reserve(room.len() + from.len() + body.len() + 128);
            draft.op("message").text("room", room).text("from", from);
            draft.number("epoch", epoch.0.into()).number("seq", seq.0);
            draft.number("time_ms", time_ms).body(body).flag("replay", replay)
        }
        Event::Direct { id, time_ms, from, body, replay } => {
            draft.op("direct").text("from", from).number("id", id).number("time_ms", time_ms);
            draft.body(body).flag("replay", replay)
        }
        Event::Welcome(welcome) => draft.welcome(&welcome),
        Event::Ping(heartbeat) => draft.op("ping").heartbeat(&heartbeat),
        Event::Pong(heartbeat) => draft.op("pong").heartbeat(&heartbeat),
        Event::Bye { code, reason } => {
            draft.op("bye").number("code", code.into()).text("reason", reason)
        }
        Event::Echo(bytes) => draft.op("echo").body(bytes),
        Event::Ok { reference, flags, epoch, seq } => {
            draft.op("ok").number("ref", reference.0.into());
            draft.number("epoch", epoch.0.into()).number("seq", seq.0).flag("gap", flags.gap);
            draft.flag("queued", flags.queued).flag("duplicate", flags.duplicate)
        }
        Event::Error { reference, code, text } => {
            draft.op("error").number("ref", reference.0.into());
            draft.number("code", code as u64).text("text", text)
        }
        Event::Presence { kind, total, room, user } => {
            draft.op("presence").text("kind", kind_name(kind)).text("room", room);
            draft.text("user", user).number("total", total.into())
        }
        Event::Roster { reference, room, total, users } => {
            draft.op("roster").number("ref", reference.0.into()).text("room", room);
            draft.number("total", total.into()).names(users)
        }
        Event::GoAway { reconnect_after_ms, reason, address } => {
            draft.op("goaway").number("reconnect_after_ms", reconnect_after_ms.into());
            draft.text("reason", reason).text("address", address)
        }
        Event::Gap { epoch, from, to, room } => {
            draft.op("gap").text("room", room).number("epoch", epoch.0.into());
            draft.number("from", from.0).number("to", to.0)
        }
        Event::Tempo { heartbeat_s, timeout_s } => {
            draft.op("tempo").number("heartbeat_s", heartbeat_s.into());
            draft.number("timeout_s", timeout_s.into())
        }
    };
    draft.plain("}");
}

/// Appends the object of a client's request. What is empty, zero or false and may be missing is
/// left out.
pub fn encode_request(out: &mut Vec<u8>, request: &Request<'_>) {
    let mut draft = Draft { out };
    match *request {
        Request::Hello(hello) => draft.hello(&hello),
        Request::Ping(heartbeat) => draft.op("ping").heartbeat(&heartbeat),
        Request::Pong(heartbeat) => draft.op("pong").heartbeat(&heartbeat),
        Request::Bye { code, reason } => {
            draft.op("bye").number("code", code.into()).text("reason", reason)
        }
        Request::Echo(bytes) => draft.op("echo").body(bytes),
        Request::Join { reference, epoch, since, room, notify } => {
            draft.op("join").reference(reference.0).text("room", room);
            draft.unless_zero("epoch", epoch.0.into()).unless_zero("since", since.0);
            draft.flag("notify", notify)
        }
        Request::Leave { reference, room } => {
            draft.op("leave").reference(reference.0).text("room", room)
        }
        Request::Publish { reference, room, body, echo } => {
            draft.op("publish").reference(reference.0).text("room", room).body(body);
            draft.flag("echo", echo)
        }
        Request::Direct { reference, user, body } => {
            draft.op("direct").reference(reference.0).text("user", user).body(body)
        }
        Request::Ack { id } => draft.op("ack").number("id", id),
        Request::History { reference, room, since, limit } => {
            draft.op("history").reference(reference.0).text("room", room);
            draft.number("since", since.0).number("limit", limit.into())
        }
        Request::Who { reference, room } => {
            draft.op("who").reference(reference.0).text("room", room)
        }
    };
    draft.plain("}");
}

fn kind_name(kind: PresenceKind) -> &'static str {
    match kind {
        PresenceKind::Joined => "joined",
        PresenceKind::Left => "left",
        PresenceKind::Online => "online",
        PresenceKind::Offline => "offline",
        PresenceKind::Many => "many",
    }
}

/// An object under construction at the end of a buffer.
struct Draft<'o> {
    out: &'o mut Vec<u8>,
}

impl Draft<'_> {
    fn plain(&mut self, text: &str) -> &mut Self {
        self.out.extend_from_slice(text.as_bytes());
        self
    }

    fn op(&mut self, name: &str) -> &mut Self {
        self.plain("{\"op\":\"").plain(name).plain("\"")
    }

    fn member(&mut self, name: &str) -> &mut Self {
        self.plain(",\"").plain(name).plain("\":")
    }

    fn number(&mut self, name: &str, number: u64) -> &mut Self {
        self.member(name);
        append_decimal(self.out, number);
        self
    }

    fn unless_zero(&mut self, name: &str, number: u64) -> &mut Self {
        if number == 0 { self } else { self.number(name, number) }
    }

    fn reference(&mut self, reference: u32) -> &mut Self {
        self.unless_zero("ref", reference.into())
    }

    fn flag(&mut self, name: &str, set: bool) -> &mut Self {
        if set { self.member(name).plain("true") } else { self }
    }

    fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.member(name).string(text)
    }

    /// A string with its quotes. Control characters, quotes and backslashes are escaped (RFC 8259
    /// section 7), in the shorter form where there is one; all else is written as it is.
    fn string(&mut self, text: &str) -> &mut Self {
        self.plain("\"");
        let bytes = text.as_bytes();
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| needs_escape(*byte)) {
            self.out.extend_from_slice(&rest[..at]);
            self.escape(rest[at]);
            rest = &rest[at + 1..];
        }
        self.out.extend_from_slice(rest);
        self.plain("\"")
    }

    fn escape(&mut self, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0C => b'f',
            b'\r' => b'r',
            _ => {
                let (high, low) = (DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]);
                self.out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
                return;
            }
        };
        self.out.extend_from_slice(&[b'\\', short]);
    }

    /// What was said: as it is where it is text, else in Base64.
    fn body(&mut self, bytes: &[u8]) -> &mut Self {
        if let Ok(text) = simdutf8::basic::from_utf8(bytes) {
            return self.text("body", text);
        }
        self.member("body_b64").plain("\"");
        let start = self.out.len();
        let length = bytes.len().div_ceil(3) * 4;
        self.out.resize(start + length, 0);
        let written = STANDARD.encode_slice(bytes, &mut self.out[start..]);
        assert_eq!(written, Ok(length), "Base64 is four thirds as long");
        self.plain("\"")
    }

    /// An identity of 64 bits, as a string of 16 hexadecimal digits.
    fn identity(&mut self, name: &str, identity: u64) -> &mut Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 16];
        for (place, digit) in digits.iter_mut().enumerate() {
            *digit = DIGITS[(identity >> (60 - 4 * place)) as usize & 15];
        }
        self.member(name).plain("\"").out.extend_from_slice(&digits);
        self.plain("\"")
    }

    fn heartbeat(&mut self, heartbeat: &Heartbeat) -> &mut Self {
        self.number("seq", heartbeat.seq.into()).number("time_ms", heartbeat.time_ms);
        self.number("node", heartbeat.node.0.into()).number("status", heartbeat.status.into())
    }

    fn hello(&mut self, hello: &Hello<'_>) -> &mut Self {
        self.op("hello").text("user", hello.user);
        if !hello.token.is_empty() {
            self.text("token", hello.token);
        }
        for (name, identity) in [("session", hello.session), ("resume_key", hello.resume_key)] {
            if identity != 0 {
                self.identity(name, identity);
            }
        }
        self.unless_zero("heartbeat_s", hello.heartbeat_s.into())
    }

    fn welcome(&mut self, welcome: &Welcome<'_>) -> &mut Self {
        self.op("welcome").text("user", welcome.user);
        self.identity("session", welcome.session).identity("resume_key", welcome.resume_key);
        self.number("heartbeat_s", welcome.heartbeat_s.into());
        self.number("timeout_s", welcome.timeout_s.into()).number("node", welcome.node.0.into());
        self.number("max_frame", welcome.max_frame.into()).member("resumed");
        self.plain(if welcome.resumed { "true" } else { "false" })
    }

    fn names(&mut self, names: Names<'_>) -> &mut Self {
        self.member("users").plain("[");
        for (index, name) in names.iter().enumerate() {
            if index > 0 {
                self.plain(",");
            }
            self.string(name);
        }
        self.plain("]")
    }
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}
