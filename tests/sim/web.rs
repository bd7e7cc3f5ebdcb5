//! How a WebSocket client opens its connection, writes messages and reads what it is sent.
//!
//! Owns the handshake, the frames in both directions and the close. What a message means is read
//! as in the native dialect (`frames`). Cuts messages into fragments, pings in between, and
//! compresses, as its own dice say.

use std::collections::VecDeque;

use corebeat::base::counters::CloseReason;
use corebeat::wire::json;
use corebeat::wire::message::{Heartbeat, Request};
use corebeat::wire::native;
use corebeat::wire::websocket::deflate::{Deflater, Inflater};
use corebeat::wire::websocket::{self, Inbound, Item, Kind, Opcode, Role, Rules};

use super::dice::Dice;
use super::ledger::Ledger;
use super::plan::Speech;
use super::visit::Visit;

/// What only a WebSocket client keeps.
#[derive(Debug)]
pub(crate) struct WebSide {
    dice: Dice,
    /// The server agreed to be a WebSocket.
    switched: bool,
    /// The server refused, because the request came too late.
    refused: bool,
    /// It agreed on compression, too.
    deflate: bool,
    inbound: Inbound,
    inflater: Inflater,
    message: Vec<u8>,
    /// Payloads of its own ping frames that were not answered.
    pings: VecDeque<Vec<u8>>,
    /// What it said in its close frame.
    said_close: Option<u16>,
    /// The code of the server's close frame.
    heard_close: Option<u16>,
}

impl WebSide {
    /// The side of a client that decides by `seed`.
    pub(crate) fn new(seed: u64) -> WebSide {
        WebSide {
            dice: Dice::new(seed),
            switched: false,
            refused: false,
            deflate: false,
            inbound: Inbound::default(),
            inflater: Inflater::default(),
            message: Vec::new(),
            pings: VecDeque::new(),
            said_close: None,
            heard_close: None,
        }
    }

    /// The request with which it begins. Some ask for something else first.
    pub(crate) fn opening(&mut self, speech: Speech) -> Vec<u8> {
        let before = self.dice.pick(&["", "", "/healthz", "/stats", "/page"]);
        let mut opening = match before {
            "" => String::new(),
            path => format!("GET {path} HTTP/1.1\r\nHost: sim\r\n\r\n"),
        };
        let name = if speech == Speech::Json { "corebeat.v1.json" } else { "corebeat.v1.bin" };
        let extensions = match self.dice.within(0..=2) {
            0 => "",
            1 => "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
            _ => "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n",
        };
        opening += &format!(
            "GET /ws HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: {name}\r\n{extensions}\r\n"
        );
        opening.into_bytes()
    }

    /// A message in one frame or several.
    fn wrap(&mut self, kind: Kind, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut small = Vec::new();
        let compressed = self.deflate && self.dice.chance(300);
        if compressed {
            Deflater::default().deflate(payload, &mut small);
        }
        let mut rest = if compressed { &small[..] } else { payload };
        let mut opcode = kind.opcode();
        let mut more = if self.dice.chance(200) { self.dice.within(1..=4) } else { 0 };
        loop {
            if self.dice.chance(40) {
                bytes.extend(self.ping());
            }
            let length = if more == 0 { rest.len() } else { self.dice.within(0..=rest.len()) };
            let (part, behind) = rest.split_at(length);
            let start = bytes.len();
            self.frame(&mut bytes, opcode, part);
            bytes[start] &= if more > 0 { 0x7F } else { 0xFF };
            bytes[start] |= if compressed && opcode == kind.opcode() { 0x40 } else { 0 };
            if more == 0 {
                return bytes;
            }
            (rest, opcode, more) = (behind, Opcode::Continuation, more - 1);
        }
    }

    fn frame(&mut self, bytes: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
        let mask = (self.dice.bits() as u32).to_be_bytes();
        websocket::append_masked(bytes, opcode, mask, payload);
    }

    /// A ping frame of its own.
    fn ping(&mut self) -> Vec<u8> {
        let length = self.dice.within(0..=125);
        let payload = self.dice.bytes(length);
        let mut bytes = Vec::new();
        self.frame(&mut bytes, Opcode::Ping, &payload);
        self.pings.push_back(payload);
        bytes
    }

    /// A pong frame that answers a ping of the server.
    pub(crate) fn pong(&mut self, ping: &Heartbeat) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.frame(&mut bytes, Opcode::Pong, &native::heartbeat_bytes(ping));
        bytes
    }

    /// A close frame.
    pub(crate) fn close(&mut self) -> Vec<u8> {
        let code = self.dice.pick(&[1000, 1001, 3000, 4999]);
        let mut payload = u16::to_be_bytes(code).to_vec();
        payload.extend_from_slice("done ✓".as_bytes());
        // The first one is answered; whoever says it again is not listened to.
        self.said_close.get_or_insert(code);
        let mut bytes = Vec::new();
        self.frame(&mut bytes, Opcode::Close, &payload);
        bytes
    }

    /// Something that no WebSocket of this kind allows.
    pub(crate) fn nonsense(&mut self, speech: Speech) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.dice.within(0..=7) {
            0 => bytes.extend_from_slice(b"\x81\x02{}"),
            1 => bytes.extend_from_slice(b"\xC3\x80\0\0\0\0"),
            2 => self.frame(&mut bytes, Opcode::Continuation, b"more"),
            3 => self.frame(&mut bytes, Opcode::Text, b"\xFF"),
            4 if speech == Speech::Json => self.frame(&mut bytes, Opcode::Text, b"{\"op\":7}"),
            4 => self.frame(&mut bytes, Opcode::Binary, b"\xFB\x05\0\0\0\0\0\x09half"),
            5 => bytes.extend_from_slice(b"\x82\xFF\0\0\0\0\xFF\xFF\xFF\xFF\x01\x02\x03\x04"),
            6 => self.frame(&mut bytes, Opcode::Close, b"\x03\xED"),
            _ if speech == Speech::Json => self.frame(&mut bytes, Opcode::Binary, b"{}"),
            _ => self.frame(&mut bytes, Opcode::Text, b"{}"),
        }
        bytes
    }

    /// Takes responses from the head of `inbox` until the connection is a WebSocket.
    fn switch(&mut self, inbox: &mut Vec<u8>) {
        while !self.switched && !self.refused {
            let Some(end) = inbox.windows(4).position(|four| four == b"\r\n\r\n") else {
                return;
            };
            let head = String::from_utf8(inbox[..end + 2].to_vec()).expect("ASCII");
            let field = |name: &str| {
                head.lines().filter_map(|line| line.split_once(": ")).find(|line| line.0 == name)
            };
            let length = field("Content-Length").map_or(0, |line| line.1.parse().expect("bytes"));
            if inbox.len() < end + 4 + length {
                return;
            }
            match &head[..12] {
                "HTTP/1.1 101" => {
                    assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
                    self.deflate = head.contains("permessage-deflate");
                    self.switched = true;
                }
                // 503: the numbers of an overloaded shard.
                "HTTP/1.1 200" | "HTTP/1.1 503" => {}
                "HTTP/1.1 408" => self.refused = true,
                other => panic!("{other} is no answer to what was asked"),
            }
            inbox.drain(..end + 4 + length);
        }
    }
}

impl Visit {
    /// A request as a WebSocket message.
    pub(crate) fn web_message(&mut self, request: &Request<'_>) -> Vec<u8> {
        let mut payload = Vec::new();
        let kind = if self.speech == Speech::Json {
            json::encode_request(&mut payload, request);
            Kind::Text
        } else {
            native::encode_request(&mut payload, request, self.speech.has_crc());
            Kind::Binary
        };
        self.web.as_mut().expect("it speaks on a WebSocket").wrap(kind, &payload)
    }

    /// Reads all whole messages; returns the pings that are to be answered.
    pub(crate) fn read_messages(&mut self, ledger: &mut Ledger, round: u64) -> Vec<Heartbeat> {
        let mut web = self.web.take().expect("it speaks on a WebSocket");
        web.switch(&mut self.inbox);
        let mut pings = Vec::new();
        if web.switched {
            let inbox = std::mem::take(&mut self.inbox);
            let mut used = 0;
            while let Some((item, length)) = web.next(&inbox[used..]) {
                used += length;
                self.take_item(&mut web, item, &mut pings, (ledger, round));
            }
            self.inbox = inbox[used..].to_vec();
        }
        self.web = Some(web);
        pings
    }

    fn take_item(
        &mut self,
        web: &mut WebSide,
        item: Item,
        pings: &mut Vec<Heartbeat>,
        (ledger, round): (&mut Ledger, u64),
    ) {
        assert_eq!(web.heard_close, None, "something came behind the close frame");
        match item {
            Item::Data { last: false, .. } => {}
            Item::Data { kind, compressed, .. } => {
                let mut message = std::mem::take(&mut web.message);
                if compressed {
                    let mut plain = Vec::new();
                    web.inflater.inflate(&message, &mut plain, 1 << 30).expect("sound deflate");
                    message = plain;
                }
                self.read_event(kind, &message, ledger, round);
            }
            Item::Ping(payload) => {
                pings.push(native::heartbeat(payload.as_bytes()).expect("a heartbeat"));
            }
            Item::Pong(payload) => {
                let expected = web.pings.pop_front();
                assert_eq!(expected.as_deref(), Some(payload.as_bytes()), "a pong to no ping");
            }
            Item::Close { code, .. } => web.heard_close = Some(code.expect("it gives a reason")),
        }
    }

    fn read_event(&mut self, kind: Kind, message: &[u8], ledger: &mut Ledger, round: u64) {
        if self.speech == Speech::Json {
            assert_eq!(kind, Kind::Text);
            let object = json::object(message).expect("the server sends objects");
            let event = object.event().expect("the server keeps the contract");
            return self.hear(&event.expect("version 1 defines it"), ledger, round);
        }
        assert_eq!(kind, Kind::Binary);
        let whole = native::frame(message, usize::MAX).expect("the server sends frames");
        let (frame, length) = whole.expect("the server sends whole frames");
        assert_eq!(length, message.len(), "one frame for each message");
        self.check_crc(&frame);
        let event = native::event(&frame).expect("the server keeps the contract");
        self.hear(&event.expect("version 1 defines it"), ledger, round);
    }

    /// Judges the last frame of a connection that ended for `reason`, and of which all was read.
    pub(crate) fn judge_close(&self, reason: Option<CloseReason>) {
        let Some(web) = self.web.as_ref().filter(|web| web.switched) else {
            return;
        };
        let expected: &[u16] = match reason {
            Some(CloseReason::Bye) => &[1000],
            Some(CloseReason::PeerClosed) => &[1000],
            Some(CloseReason::HeartbeatTimeout | CloseReason::HandshakeTimeout) => &[4408],
            Some(CloseReason::FrameTimeout) => &[4408],
            Some(CloseReason::SlowReader | CloseReason::StalledReader) => &[4431],
            Some(CloseReason::OverLimit) => &[4409, 4429],
            Some(CloseReason::Overloaded | CloseReason::WorkerPanicked) => &[1013],
            Some(CloseReason::Malformed) => &[1002, 1007],
            Some(CloseReason::TooLarge) => &[1009],
            Some(CloseReason::Draining) => &[1001],
            Some(CloseReason::Refused) => &[1008],
            other => panic!("visit {} ended for {other:?}", self.id),
        };
        let heard = web.heard_close.unwrap_or_else(|| panic!("visit {}: no close frame", self.id));
        let is_answer = matches!(reason, Some(CloseReason::Bye | CloseReason::PeerClosed));
        let answers = is_answer && web.said_close == Some(heard);
        assert!(answers || expected.contains(&heard), "visit {}: {heard} {reason:?}", self.id);
    }

    /// Whether it sent a close frame, which does not wait for answers.
    pub(crate) fn said_close(&self) -> bool {
        self.web.as_ref().is_some_and(|web| web.said_close.is_some())
    }

    /// Whether it is no WebSocket yet, as far as it knows.
    pub(crate) fn is_fetching(&self) -> bool {
        self.web.as_ref().is_some_and(|web| !web.switched)
    }

    /// Whether its own ping frames were all answered.
    pub(crate) fn has_its_pongs(&self) -> bool {
        self.web.as_ref().is_none_or(|web| web.pings.is_empty())
    }
}

impl WebSide {
    fn next(&mut self, bytes: &[u8]) -> Option<(Item, usize)> {
        let rules = Rules { role: Role::Client, max_message: 1 << 30, deflate: self.deflate };
        self.inbound.next(bytes, &mut self.message, &rules).expect("the server sends sound frames")
    }
}
