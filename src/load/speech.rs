//! What a simulated client says and understands, in each dialect.
//!
//! Owns the few requests that a load needs and the few things in the server's words that it looks
//! for. Never keeps state or judges: [`Peer`](super::peer::Peer) and the
//! [`Ledger`](super::ledger::Ledger) do. Pure; all codecs are those of [`wire`](crate::wire).

use std::fmt;

use super::config::Dialect;
use super::{scan, websocket};
use crate::base::ids::{Epoch, Ref, Seq};
use crate::base::limits::MAX_FRAME_RANGE;
use crate::wire::message::{Event, Heartbeat, Hello, Request, WireError};
use crate::wire::websocket::{Opcode, append_masked};
use crate::wire::{json, line, native};

/// The longest frame or line that is taken: the most that a server can be configured to send.
const FRAME_MAX: usize = MAX_FRAME_RANGE.1;
/// The number of the one request that wants an answer.
const JOIN_REF: Ref = Ref(1);

/// What a client heard, as far as the load cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The hello was taken.
    Welcome(Welcomed),
    /// The join was done; the room's last message so far, where the dialect tells.
    Joined {
        /// Its number, which the next message's exceeds by one.
        head: Option<u32>,
    },
    /// A text client's lines go to this room now.
    Inside(&'a str),
    /// A message of the room.
    Message {
        /// Its place in the room's order, where the dialect tells.
        seq: Option<u32>,
        /// What was said.
        body: &'a [u8],
        /// It was said before, and comes out of the room's history.
        replay: bool,
    },
    /// The answer to an echo, with its bytes where the dialect returns them.
    Echo(Option<&'a [u8]>),
    /// Asks for a PONG.
    Ping(Heartbeat),
    /// Asks for a WebSocket's pong with the same payload.
    PingFrame(&'a [u8]),
    /// The server closes the WebSocket, with a code or without.
    Closed(Option<u16>),
    /// So many messages were not sent to this client.
    Gap(u32),
    /// A request or the connection was refused.
    Refused(u16),
    /// The server goes away.
    GoAway,
    /// Nothing that matters here.
    Other,
}

/// The session that a server begins or goes on with. All zero where the dialect has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Welcomed {
    /// Its identity.
    pub session: u64,
    /// What it is resumed with.
    pub key: u64,
    /// Whether it is the one that was asked for.
    pub resumed: bool,
}

/// The name of a room.
pub fn room_name(run: u32, room: u32) -> String {
    format!("b{run:08x}-{room}")
}

/// The name of a connection's user.
pub fn user_name(run: u32, index: u32) -> String {
    format!("{:04x}{index:x}", run & 0xFFFF)
}

/// What is wrong with a server's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They are not of the dialect.
    Wire(WireError),
    /// They are not of a WebSocket.
    WebSocket(websocket::Fault),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Wire(error) => f.write_str(error.text()),
            Fault::WebSocket(fault) => fault.fmt(f),
        }
    }
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Fault {
        Fault::Wire(error)
    }
}

impl From<websocket::Fault> for Fault {
    fn from(fault: websocket::Fault) -> Fault {
        Fault::WebSocket(fault)
    }
}

/// Says things in one dialect, for all connections of a thread.
#[derive(Debug)]
pub struct Voice {
    dialect: Dialect,
    /// Where the payload of a frame is written before it is masked.
    payload: Vec<u8>,
}

impl Voice {
    /// One that speaks `dialect`.
    pub fn new(dialect: Dialect) -> Voice {
        Voice { dialect, payload: Vec::new() }
    }

    /// Appends all that client `index` says at first: who it is, and the room that it wants to be
    /// in.
    pub fn enter(
        &mut self,
        out: &mut Vec<u8>,
        index: u32,
        user: &str,
        room: Option<&str>,
        heartbeat_s: u16,
    ) {
        let crc = self.dialect == Dialect::NativeCrc;
        let hello = Hello { version: native::VERSION, heartbeat_s, user, crc, ..Hello::default() };
        self.say(out, index, &Request::Hello(hello));
        if let Some(room) = room {
            self.join(out, index, room);
        }
    }

    /// Appends the hello of client `index` that goes on with a session of its own.
    pub fn resume(
        &mut self,
        out: &mut Vec<u8>,
        index: u32,
        user: &str,
        welcomed: Welcomed,
        heartbeat_s: u16,
    ) {
        let crc = self.dialect == Dialect::NativeCrc;
        let (session, resume_key) = (welcomed.session, welcomed.key);
        let hello = Hello {
            version: native::VERSION,
            heartbeat_s,
            session,
            resume_key,
            user,
            crc,
            ..Hello::default()
        };
        self.say(out, index, &Request::Hello(hello));
    }

    /// Appends a request to be let into a room.
    pub fn join(&mut self, out: &mut Vec<u8>, index: u32, room: &str) {
        let (epoch, since) = (Epoch(0), Seq(0));
        let join = Request::Join { reference: JOIN_REF, epoch, since, room, notify: false };
        self.say(out, index, &join);
    }

    /// Appends a message to a room, which for a text client is the one it is in.
    pub fn publish(&mut self, out: &mut Vec<u8>, index: u32, room: &str, body: &[u8]) {
        let request = Request::Publish { reference: Ref::NONE, room, body, echo: false };
        self.say(out, index, &request);
    }

    /// Appends a request to return these bytes. A text client can only ask for `pong`.
    pub fn echo(&mut self, out: &mut Vec<u8>, index: u32, body: &[u8]) {
        self.say(out, index, &Request::Echo(body));
    }

    /// Appends the answer to a PING. In text there is none to answer.
    pub fn pong(&mut self, out: &mut Vec<u8>, index: u32, ping: Heartbeat) {
        let pong = Heartbeat { node: Default::default(), status: 0, ..ping };
        self.say(out, index, &Request::Pong(pong));
    }

    /// Appends the answer to a WebSocket's ping, with the same payload.
    pub fn pong_frame(&mut self, out: &mut Vec<u8>, index: u32, payload: &[u8]) {
        append_masked(out, Opcode::Pong, websocket::mask(index), payload);
    }

    fn say(&mut self, out: &mut Vec<u8>, index: u32, request: &Request<'_>) {
        self.payload.clear();
        let opcode = match self.dialect {
            Dialect::Native => return native::encode_request(out, request, false),
            Dialect::NativeCrc => return native::encode_request(out, request, true),
            Dialect::Text => return say_line(out, request),
            Dialect::WebSocketJson => {
                json::encode_request(&mut self.payload, request);
                Opcode::Text
            }
            Dialect::WebSocketBin => {
                native::encode_request(&mut self.payload, request, false);
                Opcode::Binary
            }
        };
        append_masked(out, opcode, websocket::mask(index), &self.payload);
    }
}

/// Appends a request as a line, where there is one for it.
fn say_line(out: &mut Vec<u8>, request: &Request<'_>) {
    let words: [&[u8]; 3] = match *request {
        // A text client starts in the lobby, where all of them would meet.
        Request::Hello(hello) => [b"/nick ", hello.user.as_bytes(), b"\n/leave\n"],
        Request::Join { room, .. } => [b"/join ", room.as_bytes(), b"\n"],
        Request::Publish { body, .. } => [body, b"\n", b""],
        Request::Echo(_) => [b"/ping\n", b"", b""],
        _ => return,
    };
    words.into_iter().for_each(|words| out.extend_from_slice(words));
}

/// Takes what is at the head of `bytes`, hands what it means to `each`, and says how many bytes it
/// took. `Ok(None)` asks for more. A frame of a WebSocket may mean several things; `each` says
/// whether the rest is to be heard.
///
/// # Errors
/// What is wrong with the server's bytes.
pub fn hear(
    dialect: Dialect,
    bytes: &[u8],
    mut each: impl FnMut(Heard<'_>) -> bool,
) -> Result<Option<usize>, Fault> {
    match dialect {
        Dialect::Text => {
            let Some((line, used)) = line::line(bytes, FRAME_MAX)? else { return Ok(None) };
            each(hear_line(line));
            Ok(Some(used))
        }
        Dialect::Native | Dialect::NativeCrc => {
            let Some((frame, used)) = native::frame(bytes, FRAME_MAX)? else { return Ok(None) };
            each(meaning(native::event(&frame)?));
            Ok(Some(used))
        }
        Dialect::WebSocketJson | Dialect::WebSocketBin => {
            let Some((frame, used)) = websocket::frame(bytes)? else { return Ok(None) };
            hear_frame(dialect, frame, &mut each)?;
            Ok(Some(used))
        }
    }
}

fn hear_frame(
    dialect: Dialect,
    frame: websocket::Frame<'_>,
    each: &mut impl FnMut(Heard<'_>) -> bool,
) -> Result<(), Fault> {
    let payload = frame.payload;
    match (frame.opcode, dialect) {
        (Opcode::Text, Dialect::WebSocketJson) => return hear_object(payload, each),
        (Opcode::Binary, Dialect::WebSocketBin) => return hear_frames(payload, each),
        (Opcode::Ping, _) => each(Heard::PingFrame(payload)),
        (Opcode::Pong, _) => each(Heard::Other),
        (Opcode::Close, _) => each(Heard::Closed(websocket::close_code(payload))),
        _ => return Err(websocket::Fault::Frame("a message of the other kind").into()),
    };
    Ok(())
}

fn hear_object(message: &[u8], each: &mut impl FnMut(Heard<'_>) -> bool) -> Result<(), Fault> {
    let text = std::str::from_utf8(message).map_err(|_| WireError::Utf8)?;
    if let Some((seq, body)) = scan::message(text) {
        each(Heard::Message { seq: Some(seq as u32), body, replay: false });
    } else {
        each(meaning(json::object(message)?.event()?));
    }
    Ok(())
}

fn hear_frames(message: &[u8], each: &mut impl FnMut(Heard<'_>) -> bool) -> Result<(), Fault> {
    let mut rest = message;
    while !rest.is_empty() {
        let Some((frame, used)) = native::frame(rest, FRAME_MAX)? else {
            return Err(websocket::Fault::Frame("a message that ends within a frame").into());
        };
        if !each(meaning(native::event(&frame)?)) {
            return Ok(());
        }
        rest = &rest[used..];
    }
    Ok(())
}

/// What an event means to a load.
fn meaning(event: Option<Event<'_>>) -> Heard<'_> {
    match event {
        Some(Event::Message { seq, body, replay, .. }) => {
            Heard::Message { seq: Some(seq.0 as u32), body, replay }
        }
        Some(Event::Ping(heartbeat)) => Heard::Ping(heartbeat),
        Some(Event::Echo(bytes)) => Heard::Echo(Some(bytes)),
        Some(Event::Welcome(welcome)) => Heard::Welcome(Welcomed {
            session: welcome.session,
            key: welcome.resume_key,
            resumed: welcome.resumed,
        }),
        Some(Event::Ok { reference: JOIN_REF, seq, .. }) => {
            Heard::Joined { head: Some(seq.0 as u32) }
        }
        Some(Event::Gap { from, to, .. }) => Heard::Gap((to.0 - from.0.min(to.0) + 1) as u32),
        Some(Event::Error { code, .. }) => Heard::Refused(code as u16),
        Some(Event::GoAway { .. }) => Heard::GoAway,
        _ => Heard::Other,
    }
}

fn hear_line(line: &[u8]) -> Heard<'_> {
    let Ok(text) = std::str::from_utf8(line) else { return Heard::Other };
    if text.starts_with('[') {
        return match text.split_once("] ").and_then(|(_, said)| said.split_once(": ")) {
            Some((_, body)) => Heard::Message { seq: None, body: body.as_bytes(), replay: false },
            None => Heard::Other,
        };
    }
    if text == "pong" {
        return Heard::Echo(None);
    }
    if let Some(error) = text.strip_prefix("! ") {
        let code = error.split(' ').next().and_then(|code| code.parse().ok());
        return Heard::Refused(code.unwrap_or(0));
    }
    let Some(notice) = text.strip_prefix("* ") else { return Heard::Other };
    if let Some(place) = notice.strip_prefix("you are in ") {
        return Heard::Inside(place.split(',').next().unwrap_or(place));
    }
    if let Some((count, _)) = notice.split_once(" not sent to you").filter(|_| is_gap(notice)) {
        let count = count.split(' ').next().and_then(|count| count.parse().ok());
        return Heard::Gap(count.unwrap_or(1));
    }
    match notice {
        notice if notice.starts_with("welcome ") => Heard::Welcome(Welcomed::default()),
        notice if notice.starts_with("the server is going away") => Heard::GoAway,
        _ => Heard::Other,
    }
}

fn is_gap(notice: &str) -> bool {
    notice.starts_with(|first: char| first.is_ascii_digit()) && notice.contains(" message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{Code, OkFlags, Welcome};
    use crate::wire::websocket::{Inbound, Item, Kind, Role, Rules, append_message};

    fn said_by_server(dialect: Dialect, event: Event<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let crc = dialect == Dialect::NativeCrc;
        match dialect {
            Dialect::WebSocketJson => {
                append_message(&mut out, Kind::Text, |out| json::encode_event(out, &event));
            }
            Dialect::WebSocketBin => {
                append_message(&mut out, Kind::Binary, |out| {
                    native::encode_event(out, &event, false);
                });
            }
            _ => native::encode_event(&mut out, &event, crc),
        }
        out
    }

    /// Checks that all of `bytes` is heard, as this.
    fn assert_heard(dialect: Dialect, bytes: &[u8], expected: &[Heard<'_>]) {
        let mut expected = expected.iter();
        let used = hear(dialect, bytes, |heard| {
            assert_eq!(Some(&heard), expected.next());
            true
        });
        assert_eq!(used, Ok(Some(bytes.len())));
        assert_eq!(expected.next(), None);
    }

    #[test]
    fn what_a_server_says_is_understood_in_every_binary_dialect() {
        let message = Event::Message {
            epoch: Epoch(1),
            seq: Seq(7),
            time_ms: 1,
            room: "r",
            from: "u",
            body: b"hi",
            replay: false,
        };
        let ping = Heartbeat { seq: 5, ..Heartbeat::default() };
        let welcome = Welcome {
            version: 1,
            node: Default::default(),
            session: 1,
            resume_key: 2,
            heartbeat_s: 30,
            timeout_s: 90,
            max_frame: 65_536,
            resumed: false,
            user: "u",
        };
        let ok = |reference, seq| Event::Ok {
            reference: Ref(reference),
            flags: OkFlags::default(),
            epoch: Epoch(1),
            seq: Seq(seq),
        };
        let refused = Event::Error { reference: Ref(0), code: Code::SlowReader, text: "slow" };
        let gap = Event::Gap { epoch: Epoch(1), from: Seq(3), to: Seq(5), room: "r" };
        for (event, heard) in [
            (message, Heard::Message { seq: Some(7), body: b"hi", replay: false }),
            (Event::Ping(ping), Heard::Ping(ping)),
            (Event::Echo(b"xy"), Heard::Echo(Some(b"xy"))),
            (
                Event::Welcome(welcome),
                Heard::Welcome(Welcomed { session: 1, key: 2, resumed: false }),
            ),
            (ok(1, 41), Heard::Joined { head: Some(41) }),
            (ok(2, 41), Heard::Other),
            (refused, Heard::Refused(431)),
            (gap, Heard::Gap(3)),
        ] {
            for dialect in Dialect::ALL.into_iter().filter(|dialect| *dialect != Dialect::Text) {
                let bytes = said_by_server(dialect, event);
                assert_heard(dialect, &bytes, &[heard]);
                for split in 0..bytes.len() {
                    assert_eq!(hear(dialect, &bytes[..split], |_| panic!("early")), Ok(None));
                }
            }
        }
    }

    #[test]
    fn what_a_text_server_prints_is_understood() {
        for (line, heard) in [
            ("* welcome ann", Heard::Welcome(Welcomed::default())),
            ("* you are in b1-0, alone so far", Heard::Inside("b1-0")),
            ("* you are in lobby, 12 members", Heard::Inside("lobby")),
            ("[b1-0] ann: cb: x", Heard::Message { seq: None, body: b"cb: x", replay: false }),
            ("pong", Heard::Echo(None)),
            ("! 431 the reader is too slow", Heard::Refused(431)),
            ("* 12 messages of b1-0 were not sent to you: 8 to 19", Heard::Gap(12)),
            ("* 1 message of b1-0 was not sent to you: 8", Heard::Gap(1)),
            ("* the server is going away; come back now", Heard::GoAway),
            ("* bob joined b1-0", Heard::Other),
            ("* you left lobby; /join ROOM to enter another", Heard::Other),
        ] {
            let bytes = format!("{line}\n");
            assert_heard(Dialect::Text, bytes.as_bytes(), &[heard]);
        }
    }

    #[test]
    fn a_websocket_is_kept_alive_and_closed_by_frames() {
        for dialect in [Dialect::WebSocketJson, Dialect::WebSocketBin] {
            assert_heard(dialect, b"\x89\x02hb", &[Heard::PingFrame(b"hb")]);
            assert_heard(dialect, b"\x8A\x00", &[Heard::Other]);
            assert_heard(dialect, b"\x88\x02\x03\xF5", &[Heard::Closed(Some(1_013))]);
            assert_heard(dialect, b"\x88\x00", &[Heard::Closed(None)]);
            let mut pong = Vec::new();
            Voice::new(dialect).pong_frame(&mut pong, 5, b"hb");
            let masked: Vec<u8> =
                b"hb".iter().zip(websocket::mask(5)).map(|(byte, mask)| byte ^ mask).collect();
            assert_eq!(pong, [&[0x8A, 0x82][..], &websocket::mask(5), &masked].concat());
        }
        let other = Err(websocket::Fault::Frame("a message of the other kind").into());
        assert_eq!(hear(Dialect::WebSocketJson, b"\x82\x00", |_| true), other);
        assert_eq!(hear(Dialect::WebSocketBin, b"\x81\x00", |_| true), other);
    }

    #[test]
    fn a_binary_message_may_hold_several_frames_and_no_half_ones() {
        let mut frames = Vec::new();
        native::encode_event(&mut frames, &Event::Echo(b"a"), false);
        native::encode_event(&mut frames, &Event::Echo(b"b"), false);
        let message = |frames: &[u8]| {
            let mut out = Vec::new();
            append_message(&mut out, Kind::Binary, |out| out.extend_from_slice(frames));
            out
        };
        let two = message(&frames);
        let dialect = Dialect::WebSocketBin;
        assert_heard(dialect, &two, &[Heard::Echo(Some(b"a")), Heard::Echo(Some(b"b"))]);
        assert_eq!(
            hear(dialect, &two, |heard| heard != Heard::Echo(Some(b"a"))),
            Ok(Some(two.len()))
        );
        let half = message(&frames[..frames.len() - 1]);
        assert!(hear(dialect, &half, |_| true).is_err());
    }

    #[test]
    fn a_client_enters_in_one_breath() {
        let mut text = Vec::new();
        Voice::new(Dialect::Text).enter(&mut text, 0, "ann", Some("den"), 0);
        assert_eq!(text, b"/nick ann\n/leave\n/join den\n");
        let mut bytes = Vec::new();
        Voice::new(Dialect::NativeCrc).enter(&mut bytes, 0, "ann", Some("den"), 25);
        let (hello, used) = native::frame(&bytes, FRAME_MAX).unwrap().unwrap();
        let hello = native::request(&hello).unwrap().unwrap();
        assert!(matches!(
            hello,
            Request::Hello(Hello { user: "ann", heartbeat_s: 25, crc: true, .. })
        ));
        let (join, rest) = native::frame(&bytes[used..], FRAME_MAX).unwrap().unwrap();
        let join = native::request(&join).unwrap().unwrap();
        assert!(matches!(join, Request::Join { room: "den", reference: JOIN_REF, .. }));
        assert_eq!(used + rest, bytes.len());
    }

    #[test]
    fn what_goes_over_a_websocket_is_masked_and_means_the_same() {
        for dialect in [Dialect::WebSocketJson, Dialect::WebSocketBin] {
            let mut bytes = Vec::new();
            Voice::new(dialect).publish(&mut bytes, 3, "den", b"hi");
            let rules = Rules { role: Role::Server, max_message: 1_000, deflate: false };
            let mut payload = Vec::new();
            let (item, used) =
                Inbound::default().next(&bytes, &mut payload, &rules).unwrap().unwrap();
            assert_eq!(used, bytes.len());
            assert!(matches!(item, Item::Data { first: true, last: true, .. }));
            let publish =
                Request::Publish { reference: Ref::NONE, room: "den", body: b"hi", echo: false };
            if dialect == Dialect::WebSocketJson {
                assert_eq!(json::object(&payload).unwrap().request(), Ok(Some(publish)));
            } else {
                let (frame, _) = native::frame(&payload, FRAME_MAX).unwrap().unwrap();
                assert_eq!(native::request(&frame), Ok(Some(publish)));
            }
        }
    }

    #[test]
    fn a_pong_returns_what_the_ping_carried() {
        let ping = Heartbeat { node: crate::base::ids::NodeId(9), time_ms: 77, status: 1, seq: 3 };
        let mut out = Vec::new();
        Voice::new(Dialect::Native).pong(&mut out, 0, ping);
        let (frame, _) = native::frame(&out, FRAME_MAX).unwrap().unwrap();
        let Some(Request::Pong(pong)) = native::request(&frame).unwrap() else { panic!() };
        assert_eq!((pong.time_ms, pong.seq, pong.node.0), (77, 3, 0));
        out.clear();
        Voice::new(Dialect::Text).pong(&mut out, 0, ping);
        assert!(out.is_empty());
    }
}
