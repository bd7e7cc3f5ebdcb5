//! Bytes to requests for `tokio_util`: a [`Decoder`] over `corebeat::wire`.
//!
//! Owns which dialect a connection speaks, until it becomes a WebSocket. Never understands a
//! request.

use bytes::{Buf, Bytes, BytesMut};
use corebeat::base::clock::Clock;
use corebeat::base::limits::{FRAME_CRC, FRAME_HEADER};
use corebeat::wire::line;
use corebeat::wire::message::WireError;
use corebeat::wire::native::{self, Flags};
use corebeat::wire::sniff::{Sniffed, sniff};
use std::io;
use tokio_tungstenite::tungstenite;
use tokio_util::codec::Decoder;

use super::common::websocket::{self, Answer};

/// What a client sent: one whole frame, line, request or message.
#[derive(Debug)]
pub enum Inbound {
    /// A native frame.
    Frame {
        /// Its type.
        kind: u8,
        /// Its flags.
        flags: Flags,
        /// Its payload.
        payload: Bytes,
    },
    /// A line of text without its end; not known to be UTF-8.
    Line(Bytes),
    /// An HTTP request, as it is to be answered.
    Request(Answer),
    /// A WebSocket message or control frame.
    Message(tungstenite::Message),
}

/// Why no more can be read.
#[derive(Debug)]
pub enum Broken {
    /// The socket failed.
    Socket,
    /// The bytes are not what the dialect allows.
    Wire(WireError),
    /// The frames are not what RFC 6455 allows.
    WebSocket(tungstenite::Error),
    /// TLS, which is not spoken here.
    Unserved,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Broken {
        Broken::Socket
    }
}

/// The decoder of one connection.
#[derive(Debug)]
pub struct Codec {
    dialect: Sniffed,
    max_frame: usize,
    clock: Clock,
}

impl Codec {
    /// A decoder that has seen nothing.
    pub fn new(max_frame: usize, clock: Clock) -> Codec {
        Codec { dialect: Sniffed::Undecided, max_frame, clock }
    }

    fn frame(&self, source: &mut BytesMut) -> Result<Option<Inbound>, Broken> {
        let Some((frame, length)) = native::frame(source, self.max_frame).map_err(Broken::Wire)?
        else {
            if let Some(header) = source.first_chunk::<FRAME_HEADER>() {
                let payload = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                let whole = FRAME_HEADER + payload as usize + FRAME_CRC;
                source.reserve(whole - source.len().min(whole));
            }
            return Ok(None);
        };
        let (kind, flags) = (frame.kind, frame.flags);
        let end = FRAME_HEADER + frame.payload.len();
        let payload = source.split_to(length).freeze().slice(FRAME_HEADER..end);
        Ok(Some(Inbound::Frame { kind, flags, payload }))
    }

    fn line(&self, source: &mut BytesMut) -> Result<Option<Inbound>, Broken> {
        let Some((line, used)) = line::line(source, self.max_frame).map_err(Broken::Wire)? else {
            return Ok(None);
        };
        let length = line.len();
        Ok(Some(Inbound::Line(source.split_to(used).freeze().slice(..length))))
    }

    fn request(&self, source: &mut BytesMut) -> Option<Inbound> {
        let (answer, used) = websocket::answer(source, self.clock.now().wall_ms)?;
        source.advance(used);
        Some(Inbound::Request(answer))
    }
}

impl Decoder for Codec {
    type Item = Inbound;
    type Error = Broken;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Inbound>, Broken> {
        if self.dialect == Sniffed::Undecided {
            self.dialect = sniff(source);
        }
        match self.dialect {
            Sniffed::Undecided => Ok(None),
            Sniffed::Native => self.frame(source),
            Sniffed::Text => self.line(source),
            Sniffed::Http => Ok(self.request(source)),
            Sniffed::Tls => Err(Broken::Unserved),
        }
    }

    /// Half a frame at the end of the stream is nobody's request.
    fn decode_eof(&mut self, source: &mut BytesMut) -> Result<Option<Inbound>, Broken> {
        self.decode(source)
    }
}
