//! WebSocket frames by tungstenite, without a buffer for each connection.
//!
//! Owns the way from received bytes through tungstenite to messages, and from events to frames
//! under tungstenite's headers. A frame is waited for where all input waits; tungstenite gets it
//! when it is whole, and so has nothing left of it afterwards: between messages one context serves
//! all connections of a core. Never touches a socket.

use std::io::{self, Cursor, ErrorKind, Read, Write};

use corebeat::base::limits::Limits;
use corebeat::wire::message::Event;
use corebeat::wire::native;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame, FrameHeader, Utf8Bytes};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::common::dialect::Dialect;
use super::common::websocket;

/// Bytes that tungstenite takes from a frame at once. It fills so many with zeros first.
const READ_BUFFER: usize = 512;

/// What one whole frame led to.
pub enum Step {
    /// A message, or a control frame, is complete.
    Message(Message),
    /// The peer's close frame was answered.
    Closed,
    /// The message goes on in a further frame: the context belongs to the connection until then.
    Fragment,
}

/// tungstenite for as long as a message takes.
#[derive(Debug)]
pub struct Assembler {
    context: Box<WebSocketContext>,
}

impl Assembler {
    /// One that is between messages.
    pub fn new(limits: &Limits) -> Assembler {
        let config = websocket::config(limits, READ_BUFFER, 0);
        Assembler { context: Box::new(WebSocketContext::new(Role::Server, Some(config))) }
    }

    /// Takes the one frame that `frame` holds, and writes what answers it to `answers`.
    ///
    /// # Errors
    /// What tungstenite has against it. The assembler is of no use any more.
    pub fn take(&mut self, frame: &[u8], answers: &mut Vec<u8>) -> Result<Step, Error> {
        let mut pipe = Pipe { input: frame, output: answers };
        match self.context.read(&mut pipe) {
            Ok(Message::Close(_)) => match self.context.flush(&mut pipe) {
                Ok(()) | Err(Error::ConnectionClosed) => Ok(Step::Closed),
                Err(error) => Err(error),
            },
            Ok(message) => {
                if message.is_ping() {
                    self.context.flush(&mut pipe)?;
                }
                Ok(Step::Message(message))
            }
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(Step::Fragment),
            Err(error) => Err(error),
        }
    }
}

/// The length of the frame at the head of `bytes`, once all of it has come.
///
/// # Errors
/// What tungstenite has against its header, and a payload that is longer than the limit.
pub fn whole_frame(bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Error> {
    let mut head = Cursor::new(bytes);
    let Some((_, payload)) = FrameHeader::parse(&mut head)? else {
        return Ok(None);
    };
    let max_size = websocket::longest_message(limits);
    let size = usize::try_from(payload).unwrap_or(usize::MAX);
    if size > max_size {
        return Err(CapacityError::MessageTooLong { size, max_size }.into());
    }
    let length = head.position() as usize + size;
    Ok((length <= bytes.len()).then_some(length))
}

/// What tungstenite reads from and writes to: memory.
struct Pipe<'a> {
    input: &'a [u8],
    output: &'a mut Vec<u8>,
}

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends `event` as `dialect` has it, in a WebSocket message where that is one.
pub fn append_event(out: &mut Vec<u8>, dialect: Dialect, event: &Event<'_>) {
    match (dialect.opcode(), event) {
        (None, _) => dialect.encode(out, event),
        (Some(_), Event::Ping(ping)) => {
            append(out, Frame::ping(native::heartbeat_bytes(ping).to_vec()))
        }
        (Some(opcode), _) => append_message(out, opcode, |out| dialect.encode(out, event)),
    }
}

/// Appends a message whose payload `encode` writes.
pub fn append_message(out: &mut Vec<u8>, opcode: Data, encode: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    encode(out);
    let length = (out.len() - start) as u64;
    let mut head = [0; 16];
    let header = FrameHeader { opcode: OpCode::Data(opcode), ..FrameHeader::default() };
    header.format(length, &mut &mut head[..]).expect("memory takes all of it");
    out.splice(start..start, head[..header.len(length)].iter().copied());
}

/// Appends a close frame with that code.
pub fn append_close(out: &mut Vec<u8>, code: u16) {
    append(out, Frame::close(Some(CloseFrame { code: code.into(), reason: Utf8Bytes::default() })));
}

fn append(out: &mut Vec<u8>, frame: Frame) {
    frame.format(out).expect("memory takes all of it");
}
