//! What a browser makes of the bytes it gets, and how it asks.
//!
//! Owns HTTP responses in parts, WebSocket frames in words, and the requests of such clients. Never
//! touches a shard.

use corebeat::wire::message::Request;
use corebeat::wire::websocket::deflate::Inflater;
use corebeat::wire::websocket::{self, Inbound, Item, Opcode, Role, Rules};
use corebeat::wire::{json, native};

use super::speech::words;

pub(crate) const JSON: &str = "corebeat.v1.json";
pub(crate) const BIN: &str = "corebeat.v1.bin";
/// The key of RFC 6455 section 1.3, and what it is accepted by.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A request for a WebSocket; `more` are further header lines.
pub(crate) fn upgrade(path: &str, subprotocol: &str, more: &str) -> String {
    let protocol = match subprotocol {
        "" => String::new(),
        name => format!("Sec-WebSocket-Protocol: {name}\r\n"),
    };
    format!(
        "GET {path} HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\
         {protocol}{more}\r\n"
    )
}

/// A plain request.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: chat.example\r\n\r\n")
}

/// A masked frame.
pub(crate) fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    websocket::append_masked(&mut bytes, opcode, MASK, payload);
    bytes
}

/// A masked frame that is not the last one of its message.
pub(crate) fn fragment(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = masked(opcode, payload);
    bytes[0] &= 0x7F;
    bytes
}

/// A masked close frame.
pub(crate) fn closing(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    masked(Opcode::Close, &payload)
}

/// One HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The whole responses at the head of `bytes`, none of them to HEAD, and their length.
    pub(super) fn all(bytes: &[u8]) -> (Vec<Reply>, usize) {
        let (mut replies, mut used) = (Vec::new(), 0);
        while let Some((reply, length)) = Reply::first(&bytes[used..]) {
            replies.push(reply);
            used += length;
        }
        (replies, used)
    }

    fn first(bytes: &[u8]) -> Option<(Reply, usize)> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is of ASCII");
        let status = head.strip_prefix("HTTP/1.1 ").expect("a status line")[..3].parse().unwrap();
        let mut reply = Reply { status, head, body: Vec::new() };
        let length = reply.field("Content-Length").map_or(0, |length| length.parse().unwrap());
        reply.body = bytes.get(end..end + length)?.to_vec();
        Some((reply, end + length))
    }

    /// The value of a header field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Whether the connection ends behind it.
    pub(crate) fn is_last(&self) -> bool {
        self.head.contains("\r\nConnection: close\r\n")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

/// How a WebSocket client hears.
#[derive(Debug)]
pub(crate) struct Ear {
    subprotocol: String,
    inbound: Inbound,
    inflater: Inflater,
    message: Vec<u8>,
    /// Whether compressed messages were agreed on.
    deflate: bool,
    finished: bool,
}

impl Ear {
    pub(super) fn new(subprotocol: &str) -> Ear {
        Ear {
            subprotocol: subprotocol.to_owned(),
            inbound: Inbound::default(),
            inflater: Inflater::default(),
            message: Vec::new(),
            deflate: true,
            finished: false,
        }
    }

    /// Puts what `bytes` say into words, and drains what was heard; returns pongs for the pings.
    pub(super) fn take(
        &mut self,
        bytes: &mut Vec<u8>,
        now_ms: u64,
        heard: &mut Vec<(u64, String)>,
    ) -> Vec<u8> {
        let rules = Rules { role: Role::Client, max_message: 1 << 30, deflate: self.deflate };
        let mut pongs = Vec::new();
        let mut used = 0;
        while let Some((item, length)) =
            self.inbound.next(&bytes[used..], &mut self.message, &rules).expect("sound frames")
        {
            assert!(!self.finished, "something came behind the close frame");
            used += length;
            match item {
                Item::Data { last: false, .. } => {}
                Item::Data { compressed, .. } => {
                    let mark = if compressed { "(deflated) " } else { "" };
                    let message = std::mem::take(&mut self.message);
                    let said = self.read(message, compressed);
                    heard.extend(said.into_iter().map(|words| (now_ms, format!("{mark}{words}"))));
                }
                Item::Ping(payload) => {
                    pongs.extend(masked(Opcode::Pong, payload.as_bytes()));
                    assert!(native::heartbeat(payload.as_bytes()).is_some(), "{payload:?}");
                    heard.push((now_ms, "ping".to_owned()));
                }
                Item::Pong(payload) => {
                    heard.push((now_ms, format!("pong frame {}", payload.as_str().unwrap())));
                }
                Item::Close { code, .. } => {
                    self.finished = true;
                    heard.push((now_ms, format!("close {}", code.unwrap_or(1005))));
                }
            }
        }
        bytes.drain(..used);
        pongs
    }

    fn read(&mut self, message: Vec<u8>, compressed: bool) -> Vec<String> {
        let mut plain = Vec::new();
        if compressed {
            self.inflater.inflate(&message, &mut plain, 1 << 30).expect("sound deflate");
        } else {
            plain = message;
        }
        match self.subprotocol.as_str() {
            JSON => {
                let object = json::object(&plain).expect("one object");
                vec![words(&object.event().expect("an event").expect("a known one"))]
            }
            BIN => {
                let (frame, used) = native::frame(&plain, usize::MAX).unwrap().expect("a frame");
                assert_eq!(used, plain.len(), "one frame for each message");
                vec![words(&native::event(&frame).expect("an event").expect("a known one"))]
            }
            _ => vec![format!("echoed {}", String::from_utf8_lossy(&plain))],
        }
    }

    /// A request as one message.
    pub(super) fn encode(&self, request: &Request<'_>, crc: bool) -> Vec<u8> {
        let mut payload = Vec::new();
        if self.subprotocol == BIN {
            native::encode_request(&mut payload, request, crc);
            masked(Opcode::Binary, &payload)
        } else {
            json::encode_request(&mut payload, request);
            masked(Opcode::Text, &payload)
        }
    }
}
