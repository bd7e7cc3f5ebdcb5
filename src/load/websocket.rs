//! The client's end of a WebSocket, as far as a load needs it.
//!
//! Owns the opening handshake and the frames that a server sends, read where they lie: nothing is
//! copied, and a connection has nothing to remember but a frame that came in part. A message in
//! several fragments is taken for a fault, since no server of this protocol sends one. Pure.

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::base::limits::{MAX_FRAME_RANGE, WEBSOCKET_CONTROL_MAX};
use crate::wire::http::{Subprotocol, accept_key};
use crate::wire::websocket::Opcode;

/// The longest payload that is taken. What is written in JSON may be longer than its frame by so
/// much.
const PAYLOAD_MAX: u64 = 6 * MAX_FRAME_RANGE.1 as u64;
/// Header fields of a response that are looked at.
const FIELDS_MAX: usize = 32;

/// What is wrong with what a server sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not open the WebSocket, but answers with this status.
    Status(u16),
    /// The answer to the handshake is none.
    Handshake(&'static str),
    /// A frame that a server must not send.
    Frame(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Status(status) => write!(f, "no WebSocket was opened: HTTP {status}"),
            Fault::Handshake(what) | Fault::Frame(what) => f.write_str(what),
        }
    }
}

/// The key of a connection's handshake: 16 bytes in Base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u8; 24]);

impl Key {
    /// That of connection `index` in the run `run`.
    pub fn of(run: u32, index: u32) -> Key {
        let mut random = fastrand::Rng::with_seed(u64::from(run) << 32 | u64::from(index));
        let mut key = [0; 24];
        let length = STANDARD.encode_slice(random.u128(..).to_be_bytes(), &mut key);
        assert_eq!(length, Ok(24), "16 bytes are 24 in Base64");
        Key(key)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("Base64 is ASCII")
    }
}

/// The mask of all frames of connection `index`. A mask keeps proxies from being fooled, of which
/// there are none here; one that stays the same is as much work for the server.
pub fn mask(index: u32) -> [u8; 4] {
    (index + 1).wrapping_mul(0x9E37_79B9).to_be_bytes()
}

/// Appends the request for a WebSocket.
pub fn append_handshake(out: &mut Vec<u8>, host: SocketAddr, subprotocol: Subprotocol, key: &Key) {
    let (key, subprotocol) = (key.as_str(), subprotocol.name());
    write!(
        out,
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    )
    .expect("a vector takes all bytes");
}

/// Reads the response, and says how many bytes it has. `Ok(None)` asks for more.
///
/// # Errors
/// What is missing in it.
pub fn handshake(
    bytes: &[u8],
    subprotocol: Subprotocol,
    key: &Key,
) -> Result<Option<usize>, Fault> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let used = match response.parse(bytes) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Fault::Handshake("the answer is no HTTP response")),
    };
    if response.code != Some(101) {
        return Err(Fault::Status(response.code.unwrap_or(0)));
    }
    let value = |name: &str| {
        let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.map_or(&b""[..], |field| field.value)
    };
    let is = |name: &str, wanted: &[u8]| value(name).eq_ignore_ascii_case(wanted);
    if !is("upgrade", b"websocket") || !is("connection", b"upgrade") {
        return Err(Fault::Handshake("the response upgrades to something else"));
    }
    if value("sec-websocket-accept") != accept_key(key.as_str()) {
        return Err(Fault::Handshake("the accept key is wrong"));
    }
    if value("sec-websocket-protocol") != subprotocol.name().as_bytes() {
        return Err(Fault::Handshake("another subprotocol was chosen"));
    }
    if !value("sec-websocket-extensions").is_empty() {
        return Err(Fault::Handshake("an extension was chosen that nobody asked for"));
    }
    Ok(Some(used))
}

/// One frame of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is; never a continuation.
    pub opcode: Opcode,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Takes the frame at the head of `bytes`, and says how many bytes it took. `Ok(None)` asks for
/// more.
///
/// # Errors
/// [`Fault::Frame`] for what a server must not send (RFC 6455 section 5), and for fragments.
pub fn frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Fault> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(Fault::Frame("a reserved bit is set"));
    }
    let opcode = match first & 0x0F {
        0x1 => Opcode::Text,
        0x2 => Opcode::Binary,
        0x8 => Opcode::Close,
        0x9 => Opcode::Ping,
        0xA => Opcode::Pong,
        0x0 => return Err(Fault::Frame("a message in fragments")),
        _ => return Err(Fault::Frame("a reserved opcode")),
    };
    if first & 0x80 == 0 {
        return Err(Fault::Frame("a message in fragments"));
    }
    if second & 0x80 != 0 {
        return Err(Fault::Frame("a server's frame with a mask"));
    }
    let (length, least, rest) = match second {
        126 => match rest.split_first_chunk::<2>() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), 126, rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk::<8>() {
            Some((length, rest)) => (u64::from_be_bytes(*length), 1 << 16, rest),
            None => return Ok(None),
        },
        short => (u64::from(*short), 0, rest),
    };
    if length < least {
        return Err(Fault::Frame("a length that is not written in its shortest form"));
    }
    if length > PAYLOAD_MAX || opcode.is_control() && length > WEBSOCKET_CONTROL_MAX as u64 {
        return Err(Fault::Frame("a frame that is too long"));
    }
    let Some((payload, behind)) = rest.split_at_checked(length as usize) else { return Ok(None) };
    Ok(Some((Frame { opcode, payload }, bytes.len() - behind.len())))
}

/// The code of a close frame; none where it is empty.
pub fn close_code(payload: &[u8]) -> Option<u16> {
    payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::{Endpoint, Origins, append_switching, request, upgrade};
    use crate::wire::websocket::{Kind, append_close, append_message, append_ping};

    fn opened(subprotocol: Subprotocol, key: &Key) -> Vec<u8> {
        let mut asked = Vec::new();
        append_handshake(&mut asked, "127.0.0.1:8080".parse().unwrap(), subprotocol, key);
        let (request, used) = request(&asked, 8_192).unwrap().unwrap();
        assert_eq!((used, request.path), (asked.len(), "/ws"));
        let upgrade = upgrade(&request, Endpoint::Chat, &Origins::same(), false).unwrap();
        assert_eq!(upgrade.chosen, Some(subprotocol));
        let mut answer = Vec::new();
        append_switching(&mut answer, &upgrade);
        answer
    }

    #[test]
    fn a_handshake_that_the_server_takes_is_taken_from_it() {
        for subprotocol in [Subprotocol::Json, Subprotocol::Bin] {
            let key = Key::of(7, 9);
            let mut answer = opened(subprotocol, &key);
            let length = answer.len();
            answer.extend_from_slice(b"\x81\x00");
            for split in 0..length {
                assert_eq!(handshake(&answer[..split], subprotocol, &key), Ok(None));
            }
            assert_eq!(handshake(&answer, subprotocol, &key), Ok(Some(length)));
            let others = Fault::Handshake("the accept key is wrong");
            assert_eq!(handshake(&answer, subprotocol, &Key::of(7, 8)), Err(others));
        }
        let (key, others) = (Key::of(1, 1), Fault::Handshake("another subprotocol was chosen"));
        let answer = opened(Subprotocol::Json, &key);
        assert_eq!(handshake(&answer, Subprotocol::Bin, &key), Err(others));
        let refused = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(handshake(refused, Subprotocol::Json, &key), Err(Fault::Status(503)));
        assert!(handshake(b"* welcome\r\n", Subprotocol::Json, &key).is_err());
    }

    #[test]
    fn frames_of_every_length_are_taken_whole_or_not_at_all() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let mut bytes = Vec::new();
            let payload = vec![b'x'; length];
            append_message(&mut bytes, Kind::Text, |out| out.extend_from_slice(&payload));
            for split in (0..bytes.len().min(12)).chain([bytes.len() - 1]) {
                assert_eq!(frame(&bytes[..split]), Ok(None));
            }
            let whole = bytes.len();
            bytes.push(0x81);
            let expected = Frame { opcode: Opcode::Text, payload: &payload };
            assert_eq!(frame(&bytes), Ok(Some((expected, whole))));
        }
    }

    #[test]
    fn control_frames_are_understood() {
        let mut bytes = Vec::new();
        append_ping(&mut bytes, b"abc");
        let first = bytes.len();
        append_close(&mut bytes, Some(4_408), "silent for too long");
        let (ping, used) = frame(&bytes).unwrap().unwrap();
        assert_eq!((ping, used), (Frame { opcode: Opcode::Ping, payload: b"abc" }, first));
        let (close, _) = frame(&bytes[used..]).unwrap().unwrap();
        assert_eq!(close_code(close.payload), Some(4_408));
        assert_eq!(close_code(b""), None);
    }

    #[test]
    fn what_no_server_may_send_is_a_fault() {
        for bytes in [
            &b"\xC1\x00"[..],
            b"\x83\x00",
            b"\x01\x00",
            b"\x80\x00",
            b"\x81\x80\0\0\0\0",
            b"\x81\x7E\x00\x7D",
            b"\x81\x7F\0\0\0\0\0\0\xFF\xFF",
            b"\x81\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            b"\x89\x7E\x00\x7E",
        ] {
            assert!(matches!(frame(bytes), Err(Fault::Frame(_))), "{bytes:X?}");
        }
    }

    #[test]
    fn keys_and_masks_differ_from_connection_to_connection() {
        assert_ne!(Key::of(1, 1), Key::of(1, 2));
        assert_ne!(Key::of(1, 1), Key::of(2, 1));
        assert_eq!(Key::of(1, 1), Key::of(1, 1));
        assert!((0..1_000).all(|index| mask(index) != mask(index + 1) && mask(index) != [0; 4]));
    }
}
