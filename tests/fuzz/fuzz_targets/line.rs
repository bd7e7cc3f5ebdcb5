//! Arbitrary bytes as lines of a text client, and as whatever an event may hold: no panic, a line
//! is the same however its bytes arrive, and an event is one line that commands no terminal.
#![no_main]

use corebeat::wire::{line, native};
use libfuzzer_sys::fuzz_target;

const MAX_LINE: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    check_lines(bytes);
    if let [kind, payload @ ..] = bytes {
        check_event(*kind, payload);
    }
    let mut notice = Vec::new();
    line::encode_notice(&mut notice, &String::from_utf8_lossy(bytes));
    check_one_line(&notice);
});

fn check_lines(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some((found, length))) = line::line(rest, MAX_LINE) {
        assert!(found.len() <= MAX_LINE && !found.contains(&b'\n'));
        assert!(rest[..length].ends_with(b"\n"));
        for split in 0..length {
            assert_eq!(line::line(&rest[..split], MAX_LINE), Ok(None));
        }
        if let Ok(text) = std::str::from_utf8(found) {
            let _ = line::command(text);
        }
        rest = &rest[length..];
    }
    if line::line(rest, MAX_LINE).is_err() {
        assert!(rest.len() > MAX_LINE);
    }
}

/// Any event that a native frame can carry, printed.
fn check_event(kind: u8, payload: &[u8]) {
    let frame = native::Frame { kind, flags: native::Flags::NONE, payload };
    let Ok(Some(event)) = native::event(&frame) else { return };
    let mut out = Vec::new();
    line::encode_event(&mut out, &event);
    if !out.is_empty() {
        check_one_line(&out);
    }
}

fn check_one_line(out: &[u8]) {
    let text = std::str::from_utf8(out).expect("a line is UTF-8");
    let text = text.strip_suffix('\n').expect("a line has an end");
    assert!(!text.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')));
}
