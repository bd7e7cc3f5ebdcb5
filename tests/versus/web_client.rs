//! A WebSocket client for the conversations, in either subprotocol, framed by tungstenite.
//!
//! Owns the opening handshake, and both ways of saying and hearing the same. Never uses the
//! server's own codecs: what both got wrong would look right.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::FrameSocket;
use tungstenite::protocol::frame::coding::OpCode;
use tungstenite::{Error, Message, WebSocket};

use crate::common::{self, Frame, GUARD, frame};
use crate::{FLAG_ECHO, FLAG_NOTIFY, flagged, named};

/// What is spoken on a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Json,
    Bin,
}

impl Kind {
    /// Both.
    pub(crate) const ALL: [Kind; 2] = [Kind::Json, Kind::Bin];

    fn subprotocol(self) -> &'static str {
        match self {
            Kind::Json => "corebeat.v1.json",
            Kind::Bin => "corebeat.v1.bin",
        }
    }
}

/// What came from the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    /// An event, in the form that it has in JSON, as far as the tests look at it.
    Event(Value),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16),
    End,
}

/// A client on a WebSocket. tungstenite answers pings and closes while it waits for something.
pub(crate) struct Web {
    pub(crate) socket: WebSocket<TcpStream>,
    kind: Kind,
}

impl Web {
    /// Connects, and says nothing.
    pub(crate) fn connect(address: SocketAddr, kind: Kind) -> Web {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.set_write_timeout(Some(GUARD)).unwrap();
        stream.set_nodelay(true).unwrap();
        Web::over(stream, kind)
    }

    /// Makes a WebSocket of a connection.
    pub(crate) fn over(stream: TcpStream, kind: Kind) -> Web {
        let address = stream.peer_addr().unwrap();
        let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
        let name = kind.subprotocol().parse().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", name);
        let (socket, response) = tungstenite::client(request, stream).expect("an upgrade");
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], kind.subprotocol());
        Web { socket, kind }
    }

    /// Connects and says hello.
    pub(crate) fn greet(address: SocketAddr, kind: Kind, user: &str) -> Web {
        let mut client = Web::connect(address, kind);
        client.hello(user);
        client
    }

    /// Says hello.
    pub(crate) fn hello(&mut self, user: &str) {
        self.say(&json!({"op": "hello", "user": user}));
        let welcome = self.expect("welcome");
        assert_eq!(welcome["user"], user);
    }

    /// Connects, says hello and joins `room`.
    pub(crate) fn enter(address: SocketAddr, kind: Kind, user: &str, room: &str) -> Web {
        let mut client = Web::greet(address, kind, user);
        client.say(&json!({"op": "join", "ref": 1, "room": room}));
        client.expect("ok");
        client
    }

    /// Says a request that is given as JSON.
    pub(crate) fn say(&mut self, request: &Value) {
        let message = self.message(request);
        self.socket.send(message).expect("the server reads");
    }

    /// A request as a message.
    pub(crate) fn message(&self, request: &Value) -> Message {
        match self.kind {
            Kind::Json => Message::text(request.to_string()),
            Kind::Bin => Message::binary(native(request)),
        }
    }

    /// What comes next.
    pub(crate) fn next(&mut self) -> Heard {
        match self.socket.read() {
            Ok(Message::Text(text)) => {
                assert_eq!(self.kind, Kind::Json);
                Heard::Event(serde_json::from_str(&text).expect("JSON"))
            }
            Ok(Message::Binary(bytes)) => {
                assert_eq!(self.kind, Kind::Bin);
                Heard::Event(event(&bytes))
            }
            Ok(Message::Ping(payload)) => Heard::Ping(payload.to_vec()),
            Ok(Message::Pong(payload)) => Heard::Pong(payload.to_vec()),
            Ok(Message::Close(frame)) => Heard::Close(frame.expect("a code").code.into()),
            Ok(Message::Frame(frame)) => unreachable!("{frame}"),
            Err(Error::ConnectionClosed) => Heard::End,
            Err(error) => panic!("{error}"),
        }
    }

    /// What comes next, but for pings.
    pub(crate) fn next_but_pings(&mut self) -> Heard {
        loop {
            match self.next() {
                Heard::Ping(_) => {}
                other => return other,
            }
        }
    }

    /// The next event, which must be of this kind.
    pub(crate) fn expect(&mut self, op: &str) -> Value {
        match self.next_but_pings() {
            Heard::Event(event) if event["op"] == op => event,
            other => panic!("{op} was expected, not {other:?}"),
        }
    }

    /// Place, sender and body of the next event, a message.
    pub(crate) fn heard_message(&mut self) -> (u64, String, String) {
        let event = self.expect("message");
        let text = |member: &str| event[member].as_str().expect(member).to_owned();
        (event["seq"].as_u64().unwrap(), text("from"), text("body"))
    }

    /// The number and the place of the next event, an OK.
    pub(crate) fn heard_ok(&mut self) -> (u64, u64) {
        let ok = self.expect("ok");
        (ok["ref"].as_u64().unwrap(), ok["seq"].as_u64().unwrap())
    }

    /// Says something that comes back: whatever was sent before has been dealt with then.
    pub(crate) fn echo(&mut self, body: &str) {
        self.say(&json!({"op": "echo", "body": body}));
        assert_eq!(self.expect("echo")["body"], body);
    }

    /// An ERROR of the connection, and the close frame behind it.
    pub(crate) fn expect_failure(&mut self, code: u64, close: u16) {
        assert_eq!(self.expect("error")["code"], code);
        assert_eq!(self.next_but_pings(), Heard::Close(close));
        assert_eq!(self.next_but_pings(), Heard::End);
    }

    /// What it gets from here on, unanswered: pairs of opcode and payload until the end.
    pub(crate) fn unanswered(self) -> impl Iterator<Item = (OpCode, Vec<u8>)> {
        let mut frames = FrameSocket::new(self.socket.into_inner());
        std::iter::from_fn(move || {
            let frame = frames.read(None).expect("a frame or the end in time")?;
            Some((frame.header().opcode, frame.payload().to_vec()))
        })
    }
}

/// A request as a native frame.
fn native(request: &Value) -> Vec<u8> {
    let text = |member: &str| request[member].as_str().unwrap_or_default();
    let reference = request["ref"].as_u64().unwrap_or_default() as u32;
    let bytes = match text("op") {
        "hello" => common::hello(text("user")),
        "join" => common::join(reference, text("room")),
        "leave" => named(crate::LEAVE, reference, text("room")),
        "publish" => common::publish(reference, text("room"), text("body").as_bytes()),
        "echo" => frame(common::ECHO, text("body").as_bytes()),
        "bye" => frame(0x04, &[0; 4]),
        other => panic!("{other} is not said here"),
    };
    let flag = |bytes, member: &str, flag| match request[member].as_bool() {
        Some(true) => flagged(bytes, flag),
        _ => bytes,
    };
    flag(flag(bytes, "echo", FLAG_ECHO), "notify", FLAG_NOTIFY)
}

/// The one native frame of a message, in the form that it has in JSON.
pub(crate) fn event(bytes: &[u8]) -> Value {
    assert_eq!(bytes[0], 0xFB);
    let payload = &bytes[8..];
    assert_eq!(bytes[4..8], (payload.len() as u32).to_be_bytes(), "one frame in each message");
    let u32_at = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_be_bytes(payload[at..at + 8].try_into().unwrap());
    let str8_at = |at: usize| {
        String::from_utf8(payload[at + 1..][..usize::from(payload[at])].to_vec()).unwrap()
    };
    match bytes[1] {
        common::WELCOME => json!({"op": "welcome", "user": str8_at(30)}),
        common::ECHO => json!({"op": "echo", "body": String::from_utf8_lossy(payload)}),
        common::OK if payload[4] & 4 == 0 => {
            json!({"op": "ok", "ref": u32_at(0), "seq": u64_at(9)})
        }
        common::OK => json!({"op": "ok", "ref": u32_at(0), "seq": u64_at(9), "duplicate": true}),
        common::ERROR => {
            json!({"op": "error", "ref": u32_at(0), "code": u32_at(2) as u16})
        }
        common::MESSAGE => {
            let flags = u16::from_be_bytes([bytes[2], bytes[3]]);
            let frame = Frame { kind: bytes[1], flags, payload: payload.to_vec() };
            let (seq, from, body) = frame.message();
            let body = String::from_utf8(body).unwrap();
            json!({"op": "message", "seq": seq, "from": from, "body": body})
        }
        crate::PRESENCE => {
            let kind = ["", "joined", "left", "online", "offline", "many"][usize::from(payload[0])];
            let user = str8_at(6 + usize::from(payload[5]));
            json!({"op": "presence", "kind": kind, "total": u32_at(1), "user": user})
        }
        common::GOAWAY => json!({"op": "goaway"}),
        other => panic!("type {other:#04X} is not heard here"),
    }
}
