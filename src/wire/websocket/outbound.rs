//! What is sent: headers, and the frames that are short enough to be written whole.
//!
//! Owns the shortest form of a header. Never splits a message by itself, and never masks what a
//! server sends. Called through [`websocket`](super) by the heart, the load tools and the tests.

use super::deflate::Deflater;
use super::{Kind, Opcode, apply_mask, close};
use crate::base::limits::WEBSOCKET_CONTROL_MAX;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;

/// Appends the header of a server's frame with a payload of `length` bytes. `compressed` is set on
/// the first frame of a compressed message and on no other.
pub fn append_header(out: &mut Vec<u8>, opcode: Opcode, fin: bool, compressed: bool, length: u64) {
    let (header, size) = header(opcode, fin, compressed, length);
    out.extend_from_slice(&header[..size]);
}

/// Appends the header of a frame that carries one piece of a message of this kind.
pub fn append_fragment(out: &mut Vec<u8>, kind: Kind, first: bool, last: bool, length: u64) {
    let opcode = if first { kind.opcode() } else { Opcode::Continuation };
    append_header(out, opcode, last, false, length);
}

/// Appends a server's message in one frame. `payload` appends what it says, once, to the same
/// buffer, so that nothing is written twice; it must only append.
pub fn append_message(out: &mut Vec<u8>, kind: Kind, payload: impl FnOnce(&mut Vec<u8>)) {
    // Four bytes are the header of most messages. Of shorter ones there is little to move, and
    // longer ones are few.
    const USUAL: usize = 4;
    let start = out.len();
    out.extend_from_slice(&[0; USUAL]);
    payload(out);
    let length = out.len() - start - USUAL;
    let (header, size) = header(kind.opcode(), true, false, length as u64);
    if size > USUAL {
        out.extend_from_slice(&[0; 14][..size - USUAL]);
    }
    if size != USUAL {
        out.copy_within(start + USUAL..start + USUAL + length, start + size);
        out.truncate(start + size + length);
    }
    out[start..start + size].copy_from_slice(&header[..size]);
}

/// Appends a server's message in one frame, compressed where that makes it shorter.
pub fn append_compressed(out: &mut Vec<u8>, kind: Kind, payload: &[u8], deflater: &mut Deflater) {
    // The header has the size of the longest that is possible, since no more bytes are sent
    // compressed than plain.
    let (_, size) = header(kind.opcode(), true, true, payload.len() as u64);
    let start = out.len();
    out.extend_from_slice(&[0; 14][..size]);
    deflater.deflate(payload, out);
    let length = out.len() - start - size;
    if length >= payload.len() {
        out.truncate(start);
        append_header(out, kind.opcode(), true, false, payload.len() as u64);
        out.extend_from_slice(payload);
        return;
    }
    let (header, shorter) = header(kind.opcode(), true, true, length as u64);
    out.copy_within(start + size.., start + shorter);
    out.truncate(start + shorter + length);
    out[start..start + shorter].copy_from_slice(&header[..shorter]);
}

/// Appends a server's ping.
///
/// # Panics
/// If the payload has more than [`WEBSOCKET_CONTROL_MAX`] bytes.
pub fn append_ping(out: &mut Vec<u8>, payload: &[u8]) {
    append_control(out, Opcode::Ping, payload);
}

/// Appends a server's pong, with the payload of the ping that it answers.
///
/// # Panics
/// If the payload has more than [`WEBSOCKET_CONTROL_MAX`] bytes.
pub fn append_pong(out: &mut Vec<u8>, payload: &[u8]) {
    append_control(out, Opcode::Pong, payload);
}

/// Appends a server's close frame: without a code an empty one, which has no reason either. A
/// reason that is too long is cut at a character.
///
/// # Panics
/// If the code must not stand in a frame ([`close::may_be_sent`]).
pub fn append_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let Some(code) = code else {
        return append_control(out, Opcode::Close, b"");
    };
    assert!(close::may_be_sent(code), "{code} must not stand in a frame");
    let reason = &reason[..reason.floor_char_boundary(WEBSOCKET_CONTROL_MAX - 2)];
    append_header(out, Opcode::Close, true, false, 2 + reason.len() as u64);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Appends a whole frame of a client: a message, or a control frame. A mask is to be drawn for each
/// frame anew, so that nobody can foretell the bytes that pass a proxy (RFC 6455 section 10.3).
///
/// # Panics
/// If it is a control frame whose payload has more than [`WEBSOCKET_CONTROL_MAX`] bytes.
pub fn append_masked(out: &mut Vec<u8>, opcode: Opcode, mask: [u8; 4], payload: &[u8]) {
    check_control(opcode, payload);
    let (mut header, size) = header(opcode, true, false, payload.len() as u64);
    header[1] |= MASKED;
    out.extend_from_slice(&header[..size]);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    let _ = apply_mask(&mut out[start..], mask);
}

fn append_control(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    check_control(opcode, payload);
    append_header(out, opcode, true, false, payload.len() as u64);
    out.extend_from_slice(payload);
}

fn check_control(opcode: Opcode, payload: &[u8]) {
    let fits = !opcode.is_control() || payload.len() <= WEBSOCKET_CONTROL_MAX;
    assert!(fits, "a control frame carries at most {WEBSOCKET_CONTROL_MAX} bytes");
}

/// A header without a mask, and how many of its bytes are used: the fewest that can tell the
/// length.
fn header(opcode: Opcode, fin: bool, compressed: bool, length: u64) -> ([u8; 10], usize) {
    let mut header = [0; 10];
    header[0] = opcode as u8 | if fin { FIN } else { 0 } | if compressed { RSV1 } else { 0 };
    let size = match length {
        0..126 => {
            header[1] = length as u8;
            2
        }
        126..0x1_0000 => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&length.to_be_bytes());
            10
        }
    };
    (header, size)
}
