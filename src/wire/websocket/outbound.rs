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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::websocket::deflate::Inflater;

    #[test]
    fn a_message_of_every_size_has_the_shortest_header_and_its_payload_whole() {
        let short = if cfg!(miri) { 120..130 } else { 0..300 };
        for length in short.chain([65_534, 65_535, 65_536, 65_537, 100_000]) {
            let payload: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut out = b"before".to_vec();
            append_message(&mut out, Kind::Binary, |out| out.extend_from_slice(&payload));
            let mut expected = b"before".to_vec();
            append_header(&mut expected, Opcode::Binary, true, false, length as u64);
            let header = expected.len() - 6;
            expected.extend_from_slice(&payload);
            assert!(out == expected, "{length} bytes");
            assert_eq!(
                header,
                if length < 126 {
                    2
                } else if length < 65_536 {
                    4
                } else {
                    10
                }
            );
        }
    }

    #[test]
    fn the_length_of_a_header_may_be_any() {
        let header = |length| {
            let mut out = Vec::new();
            append_header(&mut out, Opcode::Text, false, true, length);
            out
        };
        assert_eq!(header(125), [0x41, 125]);
        assert_eq!(header(0xFFFF), [0x41, 126, 0xFF, 0xFF]);
        assert_eq!(header(u64::MAX >> 1)[2..], [0x7F, 255, 255, 255, 255, 255, 255, 255]);
    }

    #[test]
    fn a_message_is_compressed_where_that_makes_it_shorter() {
        let mut deflater = Deflater::default();
        let lengths = [0, 1, 2, 20, 125, 126, 127, 200, 5_000, 65_535, 65_536, 300_000];
        for length in lengths.into_iter().take(if cfg!(miri) { 8 } else { 12 }) {
            let payload = vec![b'a'; length];
            let mut out = b"before".to_vec();
            append_compressed(&mut out, Kind::Text, &payload, &mut deflater);
            let frame = &out[6..];
            let size = if frame[1] == 126 { 4 } else { 2 };
            if length < 5 {
                assert_eq!((frame[0], &frame[size..]), (0x81, &payload[..]), "{length} bytes");
                continue;
            }
            assert_eq!(frame[0], 0xC1);
            let mut read = Vec::new();
            Inflater::default().inflate(&frame[size..], &mut read, length).unwrap();
            assert!(read == payload && frame.len() < 2 + length, "{length} bytes");
        }
        let noise = |at: u64| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
        let noise: Vec<u8> = (1..1_000).map(noise).collect();
        for payload in [&noise[..100], &noise] {
            let (mut compressed, mut plain) = (Vec::new(), Vec::new());
            append_compressed(&mut compressed, Kind::Binary, payload, &mut deflater);
            append_message(&mut plain, Kind::Binary, |out| out.extend_from_slice(payload));
            assert!(compressed == plain || compressed.len() < plain.len());
        }
    }

    #[test]
    fn a_reason_is_cut_at_a_character_and_an_empty_close_has_none() {
        let mut out = Vec::new();
        append_close(&mut out, Some(close::NORMAL), &"ü".repeat(100));
        assert_eq!(out[..4], [0x88, 2 + 122, 0x03, 0xE8]);
        assert_eq!(std::str::from_utf8(&out[4..]).unwrap(), "ü".repeat(61));
        out.clear();
        append_close(&mut out, None, "unheard");
        assert_eq!(out, [0x88, 0]);
    }

    #[test]
    #[should_panic(expected = "must not stand in a frame")]
    fn a_code_that_is_only_for_an_end_to_tell_itself_is_not_sent() {
        append_close(&mut Vec::new(), Some(1006), "");
    }

    #[test]
    #[should_panic(expected = "at most 125 bytes")]
    fn a_long_ping_is_not_sent() {
        append_ping(&mut Vec::new(), &[0; 126]);
    }
}
