//! What comes in on a WebSocket, and what goes out, counted.

use corebeat::wire::websocket::{
    Inbound, Item, Kind, Opcode, Role, Rules, append_masked, append_message, apply_mask,
};

use super::measured;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const RULES: Rules = Rules { role: Role::Server, max_message: 1 << 20, deflate: false };
const ROUNDS: usize = 20;

/// 1 KiB of a frame of 64 KiB unmasked in place.
pub(crate) fn unmask_kib() -> usize {
    let mut payload = vec![0x2A; 64 << 10];
    for _ in 0..ROUNDS {
        measured(|| apply_mask(&mut payload, MASK));
    }
    ROUNDS * 64
}

/// 1 KiB of a text message of 64 KiB read: copied, unmasked and checked. A third of its characters
/// is not ASCII.
pub(crate) fn read_text_kib() -> usize {
    let text = "heü".repeat(16 << 10);
    assert_eq!(text.len(), 64 << 10);
    let mut bytes = Vec::new();
    append_masked(&mut bytes, Opcode::Text, MASK, text.as_bytes());
    let (mut inbound, mut out) = (Inbound::default(), Vec::with_capacity(text.len()));
    for _ in 0..ROUNDS {
        out.clear();
        let next = measured(|| inbound.next(&bytes, &mut out, &RULES));
        assert!(matches!(next, Ok(Some((Item::Data { last: true, .. }, _)))));
    }
    assert_eq!(out, text.as_bytes());
    ROUNDS * 64
}

/// One text message of 64 bytes read.
pub(crate) fn read_message() -> usize {
    let mut bytes = Vec::new();
    append_masked(&mut bytes, Opcode::Text, MASK, &[b'a'; 64]);
    let (mut inbound, mut out) = (Inbound::default(), Vec::with_capacity(64));
    for _ in 0..ROUNDS {
        out.clear();
        let next = measured(|| inbound.next(&bytes, &mut out, &RULES));
        assert!(matches!(next, Ok(Some((Item::Data { last: true, .. }, 70)))));
    }
    ROUNDS
}

/// One message of 200 bytes written behind its header.
pub(crate) fn write_message() -> usize {
    let mut out = Vec::with_capacity(256);
    for _ in 0..ROUNDS {
        out.clear();
        measured(|| {
            append_message(&mut out, Kind::Text, |out| out.extend_from_slice(&[b'a'; 200]))
        });
    }
    assert_eq!(out.len(), 204);
    ROUNDS
}
