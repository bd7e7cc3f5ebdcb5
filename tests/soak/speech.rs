//! What an honest client says and hears, in each dialect.
//!
//! Owns the bytes: requests in, what came out, a piece at a time. Written from the wire contract
//! alone, and never the server's own codec. The [`crowd`](super::crowd) uses it.

use serde_json::{Value, json};

use super::common::web;
use super::common::{self, ERROR, GAP, GOAWAY, MESSAGE, OK, PING, PONG, frame};
use super::places::Place;

/// DIRECT, in both directions by two numbers.
const DIRECT_REQUEST: u8 = 0x13;
const DIRECT: u8 = 0x93;
const ACK: u8 = 0x14;
/// The flag of a PUBLISH whose sender wants it too.
const ECHO: u16 = 2;
/// The flag of what comes from a history or a queue.
const REPLAY: u16 = 8;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Native,
    Text,
    Json,
    Binary,
}

/// What a client is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Said in a room, at this place where the dialect tells it, and now or before.
    Message { room: String, from: String, place: Option<Place>, body: String, is_replay: bool },
    /// Said to it alone, now or before.
    Direct { from: String, id: Option<u64>, body: String, is_replay: bool },
    /// Its request was done.
    Done { reference: u32 },
    /// Its probe came back.
    Probed,
    /// It is asked whether it lives; this is the answer.
    Asked { answer: Vec<u8> },
    /// From this place on it will not be told of a room.
    Missed { room: String, from: Place },
    /// Its request was refused, or, as number 0, itself.
    Refused { reference: u32, code: u16, text: String },
    /// It is to go, and to come back so much later.
    GoAway { after_ms: u32 },
    /// Its WebSocket is closed with this code.
    Closing { code: u16 },
    /// What no honest client should be told.
    Trouble(String),
    /// Comings and goings, and whatever else concerns nobody here.
    Other,
}

impl Dialect {
    /// `body` to `room`.
    pub(crate) fn publish(self, reference: u32, room: &str, body: &str) -> Vec<u8> {
        match self {
            Dialect::Native | Dialect::Binary => {
                let mut bytes = common::publish(reference, room, body.as_bytes());
                bytes[2..4].copy_from_slice(&ECHO.to_be_bytes());
                self.wrapped(&bytes)
            }
            Dialect::Json => self.object(&json!({
                "op": "publish", "ref": reference, "room": room, "body": body, "echo": true,
            })),
            Dialect::Text => format!("{body}\n").into_bytes(),
        }
    }

    /// `body` to `user`.
    pub(crate) fn direct(self, reference: u32, user: &str, body: &str) -> Vec<u8> {
        match self {
            Dialect::Native | Dialect::Binary => {
                let mut payload = reference.to_be_bytes().to_vec();
                payload.push(user.len() as u8);
                payload.extend_from_slice(user.as_bytes());
                payload.extend_from_slice(body.as_bytes());
                self.wrapped(&frame(DIRECT_REQUEST, &payload))
            }
            Dialect::Json => {
                self.object(&json!({"op": "direct", "ref": reference, "user": user, "body": body}))
            }
            Dialect::Text => format!("/msg {user} {body}\n").into_bytes(),
        }
    }

    /// Every direct message up to `id` has arrived.
    pub(crate) fn acknowledge(self, id: u64) -> Vec<u8> {
        match self {
            Dialect::Native | Dialect::Binary => self.wrapped(&frame(ACK, &id.to_be_bytes())),
            Dialect::Json => self.object(&json!({"op": "ack", "id": id})),
            Dialect::Text => Vec::new(),
        }
    }

    /// What comes back when all that was said before has been dealt with.
    pub(crate) fn probe(self) -> Vec<u8> {
        match self {
            Dialect::Native | Dialect::Binary => self.wrapped(&frame(common::ECHO, b"?")),
            Dialect::Json => self.object(&json!({"op": "ping", "seq": 1})),
            Dialect::Text => b"/ping\n".to_vec(),
        }
    }

    /// Whether these are the last words to one whose worker panicked: why, when to come back, which
    /// the text says alone where the dialect has no GOAWAY, and nothing else.
    pub(crate) fn is_sent_away(self, words: &[Heard]) -> bool {
        use Heard::{Closing, GoAway, Refused};
        match (self, words) {
            (Dialect::Text, [Refused { reference: 0, code: 503, .. }]) => true,
            (Dialect::Native, [Refused { reference: 0, code: 503, .. }, GoAway { after_ms }])
            | (
                Dialect::Json | Dialect::Binary,
                [
                    Refused { reference: 0, code: 503, .. },
                    GoAway { after_ms },
                    Closing { code: 1013 },
                ],
            ) => (2_000..=10_000).contains(after_ms),
            _ => false,
        }
    }

    /// Whether requests are answered by their numbers.
    pub(crate) fn is_answered(self) -> bool {
        self != Dialect::Text
    }

    fn wrapped(self, frames: &[u8]) -> Vec<u8> {
        match self {
            Dialect::Binary => web::frame(web::FIN | web::BINARY, frames),
            _ => frames.to_vec(),
        }
    }

    fn object(self, object: &Value) -> Vec<u8> {
        web::frame(web::FIN | web::TEXT, object.to_string().as_bytes())
    }

    /// Takes the next whole piece out of what was received, and says what it told.
    pub(crate) fn hear(self, received: &mut Vec<u8>) -> Option<Vec<Heard>> {
        match self {
            Dialect::Native => Some(vec![heard_frame(take_frame(received)?)]),
            Dialect::Text => Some(vec![heard_line(&take_line(received)?)]),
            Dialect::Json | Dialect::Binary => {
                let (first, payload) = take_web_frame(received)?;
                Some(self.heard_web(first, payload))
            }
        }
    }

    fn heard_web(self, first: u8, mut payload: Vec<u8>) -> Vec<Heard> {
        match first & !web::FIN {
            web::PING => {
                let answer = web::frame(web::FIN | web::PONG, &payload);
                vec![Heard::Asked { answer }]
            }
            web::TEXT => vec![heard_object(&payload)],
            web::BINARY => {
                let frames = std::iter::from_fn(|| take_frame(&mut payload));
                frames.map(heard_frame).collect()
            }
            web::CLOSE => {
                let code = payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
                vec![Heard::Closing { code }]
            }
            other => vec![Heard::Trouble(format!("a WebSocket frame {other}"))],
        }
    }
}

/// Type, flags and payload of a native frame.
fn take_frame(received: &mut Vec<u8>) -> Option<(u8, u16, Vec<u8>)> {
    let header = received.first_chunk::<8>()?;
    let (kind, flags) = (header[1], u16::from_be_bytes([header[2], header[3]]));
    let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
    if received.len() < 8 + length {
        return None;
    }
    let payload = received.drain(..8 + length).skip(8).collect();
    Some((kind, flags, payload))
}

fn take_line(received: &mut Vec<u8>) -> Option<String> {
    let end = received.iter().position(|&byte| byte == b'\n')?;
    let line: Vec<u8> = received.drain(..=end).collect();
    Some(String::from_utf8_lossy(&line[..end]).into_owned())
}

/// The first byte and the payload of a WebSocket frame, which a server does not mask.
fn take_web_frame(received: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (&first, &second) = (received.first()?, received.get(1)?);
    let (size, length) = match second {
        126 => (4, u16::from_be_bytes(received.get(2..4)?.try_into().unwrap()).into()),
        127 => (10, u64::from_be_bytes(received.get(2..10)?.try_into().unwrap()) as usize),
        short => (2, usize::from(short)),
    };
    if received.len() < size + length {
        return None;
    }
    let payload = received.drain(..size + length).skip(size).collect();
    Some((first, payload))
}

fn heard_frame((kind, flags, payload): (u8, u16, Vec<u8>)) -> Heard {
    let u64_at = |at: usize| u64::from_be_bytes(payload[at..at + 8].try_into().unwrap());
    let u32_at = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
    let str8_at = |at: usize| -> (String, usize) {
        let end = at + 1 + usize::from(payload[at]);
        (String::from_utf8_lossy(&payload[at + 1..end]).into_owned(), end)
    };
    let rest = |at: usize| String::from_utf8_lossy(&payload[at..]).into_owned();
    let is_replay = flags & REPLAY != 0;
    if is_replay && !matches!(kind, MESSAGE | DIRECT) {
        return Heard::Trouble(format!("a replay, type {kind:#x}"));
    }
    match kind {
        MESSAGE => {
            let (room, end) = str8_at(20);
            let (from, end) = str8_at(end);
            let (place, body) = (Some((u32_at(0), u64_at(4))), rest(end));
            Heard::Message { room, from, place, body, is_replay }
        }
        DIRECT => {
            let (from, end) = str8_at(16);
            Heard::Direct { from, id: Some(u64_at(0)), body: rest(end), is_replay }
        }
        OK => Heard::Done { reference: u32_at(0) },
        PING => Heard::Asked { answer: frame(PONG, &payload) },
        common::ECHO => Heard::Probed,
        ERROR => {
            let code = u16::from_be_bytes([payload[4], payload[5]]);
            Heard::Refused { reference: u32_at(0), code, text: rest(6) }
        }
        GAP => Heard::Missed { room: str8_at(20).0, from: (u32_at(0), u64_at(4)) },
        GOAWAY => Heard::GoAway { after_ms: u32_at(0) },
        _ => Heard::Other,
    }
}

fn heard_object(text: &[u8]) -> Heard {
    let Ok(object) = serde_json::from_slice::<Value>(text) else {
        return Heard::Trouble(format!("no JSON: {}", text.escape_ascii()));
    };
    let word = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| object[name].as_u64().unwrap_or_default();
    let is_replay = object["replay"] == true;
    match object["op"].as_str() {
        Some("message") => Heard::Message {
            room: word("room"),
            from: word("from"),
            place: Some((number("epoch") as u32, number("seq"))),
            body: word("body"),
            is_replay,
        },
        Some("direct") => {
            let (from, body) = (word("from"), word("body"));
            Heard::Direct { from, id: Some(number("id")), body, is_replay }
        }
        Some("ok") => Heard::Done { reference: number("ref") as u32 },
        Some("pong") => Heard::Probed,
        Some("error") => Heard::Refused {
            reference: number("ref") as u32,
            code: number("code") as u16,
            text: word("text"),
        },
        Some("gap") => {
            let from = (number("epoch") as u32, number("from"));
            Heard::Missed { room: word("room"), from }
        }
        Some("goaway") => Heard::GoAway { after_ms: number("reconnect_after_ms") as u32 },
        _ => Heard::Other,
    }
}

fn heard_line(line: &str) -> Heard {
    let tagged = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    match tagged {
        Some((tag, body)) if tag.ends_with(" -> you") => Heard::Direct {
            from: tag.trim_end_matches(" -> you").to_owned(),
            id: None,
            body: body.to_owned(),
            is_replay: false,
        },
        Some((room, said)) => match said.split_once(": ") {
            Some((from, body)) => Heard::Message {
                room: room.to_owned(),
                from: from.to_owned(),
                place: None,
                body: body.to_owned(),
                is_replay: false,
            },
            None => Heard::Trouble(line.to_owned()),
        },
        None if line.starts_with("! ") => {
            let (code, text) = line[2..].split_once(' ').unwrap_or_default();
            let code = code.parse().unwrap_or_default();
            Heard::Refused { reference: 0, code, text: text.to_owned() }
        }
        None if line == "pong" => Heard::Probed,
        None => Heard::Other,
    }
}
