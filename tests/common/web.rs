//! A WebSocket client for tests, written from RFC 6455 and RFC 7692 alone.
//!
//! Owns the opening handshake, frames in any shape that a test wants to send, and a reader that
//! holds the server to the rules: no mask, shortest lengths, fragments in order, text in UTF-8.
//! Never uses the server's own codec.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::GUARD;

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;
/// The bit of a frame's first byte that says that it is the message's last one.
pub const FIN: u8 = 0x80;
/// The bit that says that the message is compressed.
pub const RSV1: u8 = 0x40;

/// The mask of every frame, so that a test can cut a masked payload where it wants.
pub const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// The key of RFC 6455 section 1.3 and the answer that it asks for.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The header of a frame from a client: any first byte, the shortest form of the length, the mask.
pub fn header(first: u8, length: usize) -> Vec<u8> {
    let mut header = vec![first];
    match length {
        0..126 => header.push(0x80 | length as u8),
        126..65_536 => {
            header.push(0x80 | 126);
            header.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            header.push(0x80 | 127);
            header.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    header.extend_from_slice(&MASK);
    header
}

/// Bytes under the mask, from its first byte on.
pub fn masked(payload: &[u8]) -> Vec<u8> {
    payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
}

/// A frame from a client.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [header(first, payload.len()), masked(payload)].concat()
}

/// A close frame from a client.
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes()[..], reason.as_bytes()].concat())
}

/// A message as permessage-deflate sends it, with a window of its own.
pub fn deflated(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + message.len() / 8 + 64);
    let mut context = Compress::new(Compression::default(), false);
    context.compress_vec(message, &mut out, FlushCompress::Sync).unwrap();
    assert_eq!(context.total_in(), message.len() as u64);
    let length = out.strip_suffix(&[0x00, 0x00, 0xFF, 0xFF]).expect("a flush").len();
    out.truncate(length);
    out
}

fn inflated(message: &[u8]) -> Vec<u8> {
    let input = [message, &[0x00, 0x00, 0xFF, 0xFF]].concat();
    let (mut context, mut out) = (Decompress::new(false), Vec::new());
    while context.total_in() < input.len() as u64 || out.len() == out.capacity() {
        out.reserve(out.len() + 1_024);
        let rest = &input[context.total_in() as usize..];
        context.decompress_vec(rest, &mut out, FlushDecompress::Sync).expect("compressed data");
    }
    out
}

/// What the server said.
#[derive(Clone, PartialEq, Eq)]
pub enum Heard {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    /// The server closed its side, behind whole frames.
    End,
}

impl std::fmt::Debug for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, bytes) = match self {
            Heard::Text(bytes) => ("Text", bytes),
            Heard::Binary(bytes) => ("Binary", bytes),
            Heard::Pong(bytes) => ("Pong", bytes),
            Heard::Close(code) => return write!(f, "Close({code:?})"),
            Heard::End => return write!(f, "End"),
        };
        let shown = bytes[..bytes.len().min(40)].escape_ascii();
        write!(f, "{name}({} bytes: {shown})", bytes.len())
    }
}

/// A message of which fragments came.
struct Half {
    opcode: u8,
    compressed: bool,
    payload: Vec<u8>,
}

/// A WebSocket.
pub struct Web {
    pub stream: TcpStream,
    /// The head of the answer to the handshake.
    pub head: String,
    received: Vec<u8>,
    /// Where, in what was received, the next frame begins.
    at: usize,
    half: Option<Half>,
}

impl Web {
    /// Opens a WebSocket; `headers` are further lines of the request, each with its end.
    pub fn open(address: SocketAddr, path: &str, headers: &str) -> Web {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.set_write_timeout(Some(GUARD)).unwrap();
        let (head, received) = (String::new(), Vec::new());
        let mut web = Web { stream, head, received, at: 0, half: None };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\
             {headers}\r\n"
        );
        web.stream.write_all(request.as_bytes()).unwrap();
        let end = loop {
            let end = web.received.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None => assert!(web.receive(), "the connection ended in the handshake"),
            }
        };
        web.head = String::from_utf8(web.received.drain(..end).collect()).unwrap();
        assert!(web.head.starts_with("HTTP/1.1 101 "), "{}", web.head);
        assert_eq!(web.header("Sec-WebSocket-Accept"), Some(ACCEPT));
        web
    }

    /// A header of the answer to the handshake.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    /// Sends bytes in one write. A server that has failed the connection reads no more, so that
    /// this may not arrive; what it said before is still read.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Reads once; false at the end of the stream.
    fn receive(&mut self) -> bool {
        if self.at > 64 << 10 {
            self.received.drain(..self.at);
            self.at = 0;
        }
        let end = self.received.len();
        self.received.resize(end + (128 << 10), 0);
        let length = loop {
            match self.stream.read(&mut self.received[end..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome.expect("bytes or an orderly end"),
            }
        };
        self.received.truncate(end + length);
        length > 0
    }

    /// The bytes from the next frame on, at least so many; none at the end of the stream.
    fn at_least(&mut self, length: usize) -> Option<&[u8]> {
        while self.received.len() - self.at < length {
            if !self.receive() {
                assert_eq!(self.received.len(), self.at, "the end comes inside of a frame");
                return None;
            }
        }
        Some(&self.received[self.at..])
    }

    /// The first byte and the payload of the next frame; none at the end of the stream.
    pub fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let bytes = self.at_least(2)?;
        let (first, second) = (bytes[0], bytes[1]);
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let (size, length) = match second {
            126 => {
                let bytes = self.at_least(4)?;
                (4, u64::from(u16::from_be_bytes([bytes[2], bytes[3]])))
            }
            127 => {
                let bytes = self.at_least(10)?;
                (10, u64::from_be_bytes(bytes[2..10].try_into().unwrap()))
            }
            short => (2, u64::from(short)),
        };
        let shortest = if length < 126 {
            2
        } else if length < 65_536 {
            4
        } else {
            10
        };
        assert_eq!(size, shortest, "a length is in its shortest form");
        let end = size + usize::try_from(length).unwrap();
        let payload = self.at_least(end)?[size..end].to_vec();
        self.at += end;
        Some((first, payload))
    }

    /// What comes next; fragments of a message are put together. Pings are passed over without an
    /// answer, which may not stand inside of the frame that a test is about to send.
    pub fn next(&mut self) -> Heard {
        loop {
            let Some((first, payload)) = self.next_frame() else { return Heard::End };
            let (opcode, fin) = (first & 0x0F, first & FIN != 0);
            assert_eq!(first & 0x30, 0, "reserved bits");
            if opcode >= 8 {
                assert!(fin && first & RSV1 == 0 && payload.len() <= 125, "a control frame");
                match control(opcode, payload) {
                    None => continue,
                    Some(heard) => return heard,
                }
            }
            if let Some(heard) = self.fragment(first, payload) {
                return heard;
            }
        }
    }

    /// Puts a fragment to the message that is under way, which may end with it.
    fn fragment(&mut self, first: u8, payload: Vec<u8>) -> Option<Heard> {
        let opcode = first & 0x0F;
        match &mut self.half {
            None => {
                assert!(opcode == TEXT || opcode == BINARY, "opcode {opcode} begins a message");
                let compressed = first & RSV1 != 0;
                assert!(!compressed || self.header("Sec-WebSocket-Extensions").is_some());
                self.half = Some(Half { opcode, compressed, payload });
            }
            Some(half) => {
                assert_eq!(first & (RSV1 | 0x0F), CONTINUATION, "a message is under way");
                half.payload.extend_from_slice(&payload);
            }
        }
        if first & FIN == 0 {
            return None;
        }
        let Half { opcode, compressed, mut payload } = self.half.take()?;
        if compressed {
            payload = inflated(&payload);
        }
        if opcode == TEXT {
            assert!(std::str::from_utf8(&payload).is_ok(), "text is UTF-8");
            return Some(Heard::Text(payload));
        }
        Some(Heard::Binary(payload))
    }

    /// Reads fragments until so much of a message has come, and gives back what has.
    pub fn part(&mut self, length: usize) -> Vec<u8> {
        loop {
            if let Some(half) = &self.half
                && half.payload.len() >= length
            {
                return half.payload.clone();
            }
            let (first, payload) = self.next_frame().expect("a fragment");
            if first == FIN | PING {
                continue;
            }
            assert_eq!(self.fragment(first, payload), None, "the message is not to end yet");
        }
    }
}

/// What a control frame says; nothing of a ping.
fn control(opcode: u8, payload: Vec<u8>) -> Option<Heard> {
    match opcode {
        PING => None,
        PONG => Some(Heard::Pong(payload)),
        CLOSE => match payload.split_first_chunk() {
            None => {
                assert!(payload.is_empty(), "half a close code");
                Some(Heard::Close(None))
            }
            Some((code, reason)) => {
                assert!(std::str::from_utf8(reason).is_ok(), "a reason is UTF-8");
                Some(Heard::Close(Some(u16::from_be_bytes(*code))))
            }
        },
        _ => panic!("opcode {opcode}"),
    }
}
