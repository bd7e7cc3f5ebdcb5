//! What a peer sends, taken apart as it arrives.
//!
//! Owns the header of a frame and the rules about their order. Never gathers: a payload is handed
//! on as it comes, and what is held between two calls has the size of a header. Called through
//! [`websocket`](super) by the heart, the load tools and the tests.

use byteorder::{BigEndian, ByteOrder};

use super::{Control, Item, Kind, Opcode, Role, Rules, Utf8Stream, WebError, apply_mask, close};
use crate::base::limits::WEBSOCKET_CONTROL_MAX;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_AND_3: u8 = 0x30;
const OPCODE: u8 = 0x0F;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;

/// One connection's incoming frames. Between two messages it is the default value.
#[derive(Debug, Default)]
pub struct Inbound {
    message: Option<Message>,
}

/// The message that is under way, and the frame of it that is.
#[derive(Debug)]
struct Message {
    kind: Kind,
    compressed: bool,
    /// A piece of it was handed on.
    begun: bool,
    /// The frame is the message's last one.
    fin: bool,
    /// The mask, as the next byte of the frame meets it.
    mask: [u8; 4],
    /// Bytes of the frame that have not come yet.
    missing: u64,
    /// Bytes of the message up to the end of the frame, by the frames' headers.
    length: u64,
    /// The state of its text.
    utf8: Utf8Stream,
}

/// The fields of a frame's header.
struct Header {
    fin: bool,
    compressed: bool,
    opcode: Opcode,
    length: u64,
    mask: [u8; 4],
    /// Bytes of the header itself.
    size: usize,
}

impl Inbound {
    /// Whether no message is under way, so that this may be dropped and made anew.
    pub fn is_idle(&self) -> bool {
        self.message.is_none()
    }

    /// Takes what comes next from the head of `bytes`, and says how many bytes that were. The
    /// payload of a message is appended to `out` without its mask, as much of it as there is.
    /// `Ok(None)` has taken nothing and asks for more bytes: a header with the first byte of its
    /// payload, or a whole control frame, at most 139 bytes together.
    ///
    /// # Errors
    /// What the peer did wrong, as soon as a byte shows it. Nothing can be read behind it, and what
    /// was appended to `out` in this call is to be thrown away.
    pub fn next(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        rules: &Rules,
    ) -> Result<Option<(Item, usize)>, WebError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if self.message.as_ref().is_some_and(|message| message.missing > 0) {
            return self.piece(bytes, out).map(Some);
        }
        let Some(header) = self.header(bytes, rules)? else { return Ok(None) };
        let payload = &bytes[header.size..];
        if header.opcode.is_control() {
            return control(&header, payload);
        }
        if payload.is_empty() && header.length > 0 {
            return Ok(None);
        }
        self.begin_frame(&header);
        let (item, used) = self.piece(payload, out)?;
        Ok(Some((item, header.size + used)))
    }

    /// Reads a header and judges each field when its byte is there.
    fn header(&self, bytes: &[u8], rules: &Rules) -> Result<Option<Header>, WebError> {
        let first = bytes[0];
        let (fin, compressed) = (first & FIN != 0, first & RSV1 != 0);
        let opcode = Opcode::from_number(first & OPCODE).ok_or(WebError::ReservedOpcode)?;
        // Only the first frame of a message says that it is compressed (RFC 7692 section 6).
        let may_say_compressed = rules.deflate && matches!(opcode, Opcode::Text | Opcode::Binary);
        if first & RSV2_AND_3 != 0 || (compressed && !may_say_compressed) {
            return Err(WebError::ReservedBit);
        }
        match (opcode, &self.message) {
            (Opcode::Continuation, None) => return Err(WebError::NothingToContinue),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(WebError::MessageUnderWay),
            _ if opcode.is_control() && !fin => return Err(WebError::ControlFragmented),
            _ => {}
        }
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        match (rules.role, second & MASKED != 0) {
            (Role::Server, false) => return Err(WebError::NotMasked),
            (Role::Client, true) => return Err(WebError::Masked),
            _ => {}
        }
        let Some((length, behind)) = payload_length(second & LENGTH, &bytes[2..], opcode)? else {
            return Ok(None);
        };
        if !opcode.is_control() {
            self.check_message_length(length, compressed, rules)?;
        }
        let (mask, behind) = match (rules.role, behind.split_first_chunk()) {
            (Role::Client, _) => ([0; 4], behind),
            (Role::Server, Some((&mask, behind))) => (mask, behind),
            (Role::Server, None) => return Ok(None),
        };
        let size = bytes.len() - behind.len();
        Ok(Some(Header { fin, compressed, opcode, length, mask, size }))
    }

    /// Whether the message with a further frame of `length` bytes is still one that is taken.
    fn check_message_length(
        &self,
        length: u64,
        compressed: bool,
        rules: &Rules,
    ) -> Result<(), WebError> {
        let (before, compressed) = match &self.message {
            Some(message) => (message.length, message.compressed),
            None => (0, compressed),
        };
        let most = rules.max_message as u64;
        // Deflate stores what it cannot compress, with five bytes for each stored block.
        let most = if compressed { most + most / 256 + 64 } else { most };
        if length > most.saturating_sub(before) { Err(WebError::TooLarge) } else { Ok(()) }
    }

    /// Takes note of a frame whose header was judged.
    fn begin_frame(&mut self, header: &Header) {
        let kind = if header.opcode == Opcode::Text { Kind::Text } else { Kind::Binary };
        let message = self.message.get_or_insert(Message {
            kind,
            compressed: header.compressed,
            begun: false,
            fin: false,
            mask: [0; 4],
            missing: 0,
            length: 0,
            utf8: Utf8Stream::default(),
        });
        message.fin = header.fin;
        message.mask = header.mask;
        message.missing = header.length;
        message.length += header.length;
    }

    /// Hands on what there is of the payload of the frame that is under way.
    fn piece(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(Item, usize), WebError> {
        let message = self.message.as_mut().expect("a frame is under way");
        let taken = usize::try_from(message.missing).unwrap_or(usize::MAX).min(bytes.len());
        let start = out.len();
        out.extend_from_slice(&bytes[..taken]);
        let piece = &mut out[start..];
        if message.mask != [0; 4] {
            message.mask = apply_mask(piece, message.mask);
        }
        message.missing -= taken as u64;
        let last = message.fin && message.missing == 0;
        if message.kind == Kind::Text && !message.compressed {
            message.utf8.push(piece).map_err(|_| WebError::Utf8)?;
            if last && !message.utf8.is_complete() {
                return Err(WebError::Utf8);
            }
        }
        let first = !std::mem::replace(&mut message.begun, true);
        let (kind, compressed) = (message.kind, message.compressed);
        if last {
            self.message = None;
        }
        Ok((Item::Data { kind, first, last, compressed }, taken))
    }
}

/// The length of a payload, whose seven bits in the second byte and whose further bytes are given,
/// and what follows it. `Ok(None)` asks for more bytes.
fn payload_length(
    short: u8,
    behind: &[u8],
    opcode: Opcode,
) -> Result<Option<(u64, &[u8])>, WebError> {
    if opcode.is_control() && usize::from(short) > WEBSOCKET_CONTROL_MAX {
        return Err(WebError::ControlTooLong);
    }
    let (length, least, behind) = match short {
        126 => {
            let Some((bytes, behind)) = behind.split_first_chunk::<2>() else { return Ok(None) };
            (u64::from(BigEndian::read_u16(bytes)), 126, behind)
        }
        127 => {
            // The first byte alone tells a length of 2^63 and more.
            if behind.first().is_some_and(|byte| byte & 0x80 != 0) {
                return Err(WebError::Length);
            }
            let Some((bytes, behind)) = behind.split_first_chunk::<8>() else { return Ok(None) };
            (BigEndian::read_u64(bytes), 1 << 16, behind)
        }
        short => (u64::from(short), 0, behind),
    };
    if length < least { Err(WebError::Length) } else { Ok(Some((length, behind))) }
}

/// Takes a control frame whose header was judged.
fn control(header: &Header, payload: &[u8]) -> Result<Option<(Item, usize)>, WebError> {
    let length = header.length as usize;
    let Some(payload) = payload.get(..length) else { return Ok(None) };
    let mut content = Control::new(payload);
    let _ = apply_mask(content.as_mut_bytes(), header.mask);
    let item = match header.opcode {
        Opcode::Ping => Item::Ping(content),
        Opcode::Pong => Item::Pong(content),
        _ => closing(content.as_bytes())?,
    };
    Ok(Some((item, header.size + length)))
}

/// Reads the payload of a close frame (RFC 6455 section 5.5.1).
fn closing(payload: &[u8]) -> Result<Item, WebError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        let code = None;
        let reason = Control::new(b"");
        return if payload.is_empty() {
            Ok(Item::Close { code, reason })
        } else {
            Err(WebError::CloseTruncated)
        };
    };
    let code = BigEndian::read_u16(code);
    if !close::may_be_sent(code) {
        return Err(WebError::CloseCode);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(WebError::Utf8);
    }
    Ok(Item::Close { code: Some(code), reason: Control::new(reason) })
}
