//! WebSockets, as far as both twins have them alike.
//!
//! Owns which request becomes a WebSocket, what a message asks for, and how what is wrong is put
//! into a close code. Never frames a message and never keeps one: tungstenite does.

use std::borrow::Cow;
use std::ops::ControlFlow;

use corebeat::base::limits::{FRAME_CRC, FRAME_HEADER, HTTP_HEAD_BYTES, Limits};
use corebeat::wire::http::{self, Endpoint, Exchange, Origins, Subprotocol, Upgrade};
use corebeat::wire::message::{Code, Request, WireError};
use corebeat::wire::{json, native};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::dialect::Dialect;

/// The peer's mistake in the protocol (RFC 6455 section 7.4.1), for which the contract has 400.
const PROTOCOL_ERROR: u16 = 1002;
/// Text that is not UTF-8.
const NOT_UTF_8: u16 = 1007;

/// How a connection ends that was not at fault: it said goodbye.
pub const GOODBYE: u16 = 1000;
/// How a connection ends when the server stops.
pub const GOING_AWAY: u16 = 1001;

/// The bounds for tungstenite, a read buffer of so many bytes, and the bytes beyond which it writes
/// before it is told to flush.
pub fn config(limits: &Limits, read_buffer: usize, write_buffer: usize) -> WebSocketConfig {
    let longest = Some(longest_message(limits));
    WebSocketConfig::default()
        .read_buffer_size(read_buffer)
        .write_buffer_size(write_buffer)
        .max_message_size(longest)
        .max_frame_size(longest)
}

/// Most bytes of a message: a native frame of the largest kind.
pub fn longest_message(limits: &Limits) -> usize {
    FRAME_HEADER + limits.max_frame + FRAME_CRC
}

/// What became of a request.
#[derive(Debug)]
pub enum Answer {
    /// It becomes a WebSocket, on which this is spoken.
    Switch(Upgrade, Dialect),
    /// The response to it ends the connection.
    Refuse(Vec<u8>),
}

/// Takes a request from the head of `bytes`; says how many bytes it took. `None` asks for more.
/// Twins have `/ws` and nothing else.
pub fn answer(bytes: &[u8], now_ms: u64) -> Option<(Answer, usize)> {
    let mut refusal = Vec::new();
    let (request, used) = match http::request(bytes, HTTP_HEAD_BYTES) {
        Ok(None) => return None,
        Ok(Some(found)) => found,
        Err(error) => {
            http::append_error(&mut refusal, error, Exchange::last(now_ms));
            return Some((Answer::Refuse(refusal), bytes.len()));
        }
    };
    if request.path != "/ws" {
        let exchange = http::Exchange { keep_alive: false, ..http::Exchange::of(&request, now_ms) };
        http::append_text(&mut refusal, http::Status::NotFound, "only /ws is here\n", exchange);
        return Some((Answer::Refuse(refusal), used));
    }
    let answer = match http::upgrade(&request, Endpoint::Chat, &Origins::same(), false) {
        Ok(upgrade) => Answer::Switch(upgrade, spoken(upgrade.subprotocol())),
        Err(error) => {
            http::append_refusal(&mut refusal, error, Exchange::last(now_ms));
            Answer::Refuse(refusal)
        }
    };
    Some((answer, used))
}

fn spoken(subprotocol: Subprotocol) -> Dialect {
    match subprotocol {
        Subprotocol::Json => Dialect::Json,
        Subprotocol::Bin => Dialect::Bin,
    }
}

/// Why a connection ends.
#[derive(Debug)]
pub struct Complaint {
    /// The code of its ERROR.
    pub code: Code,
    /// The words of its ERROR.
    pub text: Cow<'static, str>,
    /// The code of its close frame.
    pub close: u16,
}

impl Complaint {
    /// Bytes that are not what the contract allows.
    fn malformed(text: &'static str) -> Complaint {
        Complaint { code: Code::Malformed, text: text.into(), close: PROTOCOL_ERROR }
    }

    /// Why tungstenite reads no further; `None` where the connection is gone already.
    pub fn of(error: &Error) -> Option<Complaint> {
        let (code, close) = match error {
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return None,
            Error::Protocol(_) => (Code::Malformed, PROTOCOL_ERROR),
            Error::Utf8(_) => (Code::Malformed, NOT_UTF_8),
            Error::Capacity(_) => (Code::TooLarge, close_code(Code::TooLarge)),
            _ => return None,
        };
        Some(Complaint { code, text: error.to_string().into(), close })
    }
}

impl From<WireError> for Complaint {
    fn from(error: WireError) -> Complaint {
        let close = match error {
            WireError::Utf8 => NOT_UTF_8,
            _ => close_code(error.code()),
        };
        Complaint { code: error.code(), text: error.text().into(), close }
    }
}

/// The code of the close frame that follows an ERROR.
pub fn close_code(code: Code) -> u16 {
    match code {
        Code::Malformed => PROTOCOL_ERROR,
        Code::TooLarge => 1009,
        Code::Unavailable => 1013,
        // Private codes (RFC 6455 section 7.4.2) tell what the registered ones cannot.
        other => 4_000 + other as u16,
    }
}

/// A data message, of whichever kind.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// UTF-8.
    Text(&'a str),
    /// Any bytes.
    Binary(&'a [u8]),
}

/// Hands what `data` asks for to `take`, one request after the other until it breaks off; `None`
/// is a request that is to be skipped.
///
/// # Errors
/// What was wrong; the requests before it have been taken.
pub fn requests(
    dialect: Dialect,
    data: Data<'_>,
    max_frame: usize,
    mut take: impl FnMut(Option<&Request<'_>>) -> ControlFlow<()>,
) -> Result<(), Complaint> {
    match (dialect, data) {
        (Dialect::Json, Data::Text(text)) => {
            let object = json::object(text.as_bytes())?;
            let _ = take(object.request()?.as_ref());
            Ok(())
        }
        (Dialect::Json, Data::Binary(_)) => {
            Err(Complaint::malformed("this subprotocol has text messages only"))
        }
        (_, Data::Text(_)) => {
            Err(Complaint::malformed("this subprotocol has binary messages only"))
        }
        (_, Data::Binary(mut bytes)) => {
            while !bytes.is_empty() {
                let found = native::frame(bytes, max_frame)?;
                let (frame, used) = found.ok_or(WireError::Truncated)?;
                if take(native::request(&frame)?.as_ref()).is_break() {
                    break;
                }
                bytes = &bytes[used..];
            }
            Ok(())
        }
    }
}
