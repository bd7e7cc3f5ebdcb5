//! Arbitrary bytes as what a terminal sends: no panic, and the same keys in however many pieces
//! they come, but for an escape at the end of a piece, which is a key.
#![no_main]

use corebeat::terminal::keys::{Key, Keys};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let whole = Keys::default().feed(bytes);
    assert!(whole.iter().all(is_possible));
    let mut keys = Keys::default();
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    for (at, &byte) in bytes.iter().enumerate() {
        piece.push(byte);
        let ends = at % (usize::from(first) + 1) == 0 || at + 1 == bytes.len();
        if ends && (byte != 0x1B || at + 1 == bytes.len()) {
            pieces.extend(keys.feed(&piece));
            piece.clear();
        }
    }
    assert_eq!(pieces, whole);
});

fn is_possible(key: &Key) -> bool {
    match key {
        Key::Character(found) => !found.is_ascii_control(),
        Key::Control(letter) => letter.is_ascii_lowercase(),
        Key::Alt(found) => !found.is_control(),
        _ => true,
    }
}
