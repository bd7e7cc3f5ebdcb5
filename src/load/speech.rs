//! What a simulated client says and understands, in each dialect.
//!
//! Owns the few requests that a load needs and the few things in the server's words that it looks
//! for. Never keeps state or judges: [`Peer`](super::peer::Peer) and the
//! [`Ledger`](super::ledger::Ledger) do. Pure; all codecs are those of [`wire`](crate::wire).

use super::config::Dialect;
use crate::base::ids::{Epoch, Ref, Seq};
use crate::base::limits::MAX_FRAME_RANGE;
use crate::wire::message::{Event, Heartbeat, Hello, Request, WireError};
use crate::wire::{line, native};

/// The longest frame or line that is taken: the most that a server can be configured to send.
const FRAME_MAX: usize = MAX_FRAME_RANGE.1;
/// The number of the one request that wants an answer.
const JOIN_REF: Ref = Ref(1);

/// What a client heard, as far as the load cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The hello was taken.
    Welcome,
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
    },
    /// The answer to an echo, with its bytes where the dialect returns them.
    Echo(Option<&'a [u8]>),
    /// Asks for a PONG.
    Ping(Heartbeat),
    /// So many messages were not sent to this client.
    Gap(u32),
    /// A request or the connection was refused.
    Refused(u16),
    /// The server goes away.
    GoAway,
    /// Nothing that matters here.
    Other,
}

/// The name of a room.
pub fn room_name(run: u32, room: u32) -> String {
    format!("b{run:08x}-{room}")
}

/// The name of a connection's user.
pub fn user_name(run: u32, index: u32) -> String {
    format!("{:04x}{index:x}", run & 0xFFFF)
}

/// Appends all that a client says at first: who it is, and the room that it wants to be in.
pub fn enter(
    out: &mut Vec<u8>,
    dialect: Dialect,
    user: &str,
    room: Option<&str>,
    heartbeat_s: u16,
) {
    if dialect == Dialect::Text {
        // A text client starts in the lobby, where all of them would meet.
        for words in ["/nick ", user, "\n/leave\n"] {
            out.extend_from_slice(words.as_bytes());
        }
        for words in room.iter().flat_map(|room| ["/join ", room, "\n"]) {
            out.extend_from_slice(words.as_bytes());
        }
        return;
    }
    let crc = dialect == Dialect::NativeCrc;
    let hello = Hello { version: native::VERSION, heartbeat_s, user, crc, ..Hello::default() };
    native::encode_request(out, &Request::Hello(hello), crc);
    if let Some(room) = room {
        let join = Request::Join {
            reference: JOIN_REF,
            epoch: Epoch(0),
            since: Seq(0),
            room,
            notify: false,
        };
        native::encode_request(out, &join, crc);
    }
}

/// Appends a message to a room, which for a text client is the one it is in.
pub fn publish(out: &mut Vec<u8>, dialect: Dialect, room: &str, body: &[u8]) {
    if dialect == Dialect::Text {
        out.extend_from_slice(body);
        out.push(b'\n');
        return;
    }
    let request = Request::Publish { reference: Ref::NONE, room, body, echo: false };
    native::encode_request(out, &request, dialect == Dialect::NativeCrc);
}

/// Appends a request to return these bytes. A text client can only ask for `pong`.
pub fn echo(out: &mut Vec<u8>, dialect: Dialect, body: &[u8]) {
    if dialect == Dialect::Text {
        out.extend_from_slice(b"/ping\n");
        return;
    }
    native::encode_request(out, &Request::Echo(body), dialect == Dialect::NativeCrc);
}

/// Appends the answer to a PING. In text there is none to answer.
pub fn pong(out: &mut Vec<u8>, dialect: Dialect, ping: Heartbeat) {
    if dialect == Dialect::Text {
        return;
    }
    let pong = Heartbeat { node: Default::default(), status: 0, ..ping };
    native::encode_request(out, &Request::Pong(pong), dialect == Dialect::NativeCrc);
}

/// Takes what is at the head of `bytes`, and says how many bytes it took. `Ok(None)` asks for more.
///
/// # Errors
/// What is wrong with the server's bytes.
pub fn hear(dialect: Dialect, bytes: &[u8]) -> Result<Option<(Heard<'_>, usize)>, WireError> {
    if dialect == Dialect::Text {
        let Some((line, used)) = line::line(bytes, FRAME_MAX)? else { return Ok(None) };
        return Ok(Some((hear_line(line), used)));
    }
    let Some((frame, used)) = native::frame(bytes, FRAME_MAX)? else { return Ok(None) };
    let heard = match native::event(&frame)? {
        Some(Event::Message { seq, body, .. }) => Heard::Message { seq: Some(seq.0 as u32), body },
        Some(Event::Ping(heartbeat)) => Heard::Ping(heartbeat),
        Some(Event::Echo(bytes)) => Heard::Echo(Some(bytes)),
        Some(Event::Welcome(_)) => Heard::Welcome,
        Some(Event::Ok { reference: JOIN_REF, seq, .. }) => {
            Heard::Joined { head: Some(seq.0 as u32) }
        }
        Some(Event::Gap { from, to, .. }) => Heard::Gap((to.0 - from.0.min(to.0) + 1) as u32),
        Some(Event::Error { code, .. }) => Heard::Refused(code as u16),
        Some(Event::GoAway { .. }) => Heard::GoAway,
        _ => Heard::Other,
    };
    Ok(Some((heard, used)))
}

fn hear_line(line: &[u8]) -> Heard<'_> {
    let Ok(text) = std::str::from_utf8(line) else { return Heard::Other };
    if text.starts_with('[') {
        return match text.split_once("] ").and_then(|(_, said)| said.split_once(": ")) {
            Some((_, body)) => Heard::Message { seq: None, body: body.as_bytes() },
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
        notice if notice.starts_with("welcome ") => Heard::Welcome,
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

    fn native_event(event: Event<'_>, crc: bool) -> Vec<u8> {
        let mut out = Vec::new();
        native::encode_event(&mut out, &event, crc);
        out
    }

    #[test]
    fn what_a_native_server_says_is_understood() {
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
            (message, Heard::Message { seq: Some(7), body: b"hi" }),
            (Event::Ping(ping), Heard::Ping(ping)),
            (Event::Echo(b"xy"), Heard::Echo(Some(b"xy"))),
            (Event::Welcome(welcome), Heard::Welcome),
            (ok(1, 41), Heard::Joined { head: Some(41) }),
            (ok(2, 41), Heard::Other),
            (refused, Heard::Refused(431)),
            (gap, Heard::Gap(3)),
        ] {
            for (dialect, crc) in [(Dialect::Native, false), (Dialect::NativeCrc, true)] {
                let bytes = native_event(event, crc);
                assert_eq!(hear(dialect, &bytes), Ok(Some((heard, bytes.len()))));
                assert_eq!(hear(dialect, &bytes[..bytes.len() - 1]), Ok(None));
            }
        }
    }

    #[test]
    fn what_a_text_server_prints_is_understood() {
        for (line, heard) in [
            ("* welcome ann", Heard::Welcome),
            ("* you are in b1-0, alone so far", Heard::Inside("b1-0")),
            ("* you are in lobby, 12 members", Heard::Inside("lobby")),
            ("[b1-0] ann: cb: x", Heard::Message { seq: None, body: b"cb: x" }),
            ("pong", Heard::Echo(None)),
            ("! 431 the reader is too slow", Heard::Refused(431)),
            ("* 12 messages of b1-0 were not sent to you", Heard::Gap(12)),
            ("* 1 message of b1-0 was not sent to you", Heard::Gap(1)),
            ("* the server is going away; come back now", Heard::GoAway),
            ("* bob joined b1-0", Heard::Other),
            ("* you left lobby; /join ROOM to enter another", Heard::Other),
        ] {
            let bytes = format!("{line}\n");
            assert_eq!(hear(Dialect::Text, bytes.as_bytes()), Ok(Some((heard, bytes.len()))));
        }
    }

    #[test]
    fn a_client_enters_in_one_breath() {
        let mut text = Vec::new();
        enter(&mut text, Dialect::Text, "ann", Some("den"), 0);
        assert_eq!(text, b"/nick ann\n/leave\n/join den\n");
        let mut bytes = Vec::new();
        enter(&mut bytes, Dialect::NativeCrc, "ann", Some("den"), 25);
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
    fn a_pong_returns_what_the_ping_carried() {
        let ping = Heartbeat { node: crate::base::ids::NodeId(9), time_ms: 77, status: 1, seq: 3 };
        let mut out = Vec::new();
        pong(&mut out, Dialect::Native, ping);
        let (frame, _) = native::frame(&out, FRAME_MAX).unwrap().unwrap();
        let Some(Request::Pong(pong)) = native::request(&frame).unwrap() else { panic!() };
        assert_eq!((pong.time_ms, pong.seq, pong.node.0), (77, 3, 0));
        out.clear();
        super::pong(&mut out, Dialect::Text, ping);
        assert!(out.is_empty());
    }
}
