//! Sections 3 and 4: reserved bits and reserved opcodes.

use super::case::{Case, Cut, End, OCTETS, case, heard, run};
use crate::common::web::{BINARY, CLOSE, FIN, PING, TEXT, close, frame};

const HELLO: &[u8] = b"Hello, world!";

/// The frame is all that is sent.
fn alone(id: &str, bad: Vec<u8>) -> Case {
    case(id, Cut::Once, &[bad], [], End::Failed(1002))
}

/// A good message comes first, and is answered; the ping behind the frame is not.
fn between(id: &str, cut: Cut, bad: Vec<u8>) -> Case {
    let frames = [frame(FIN | TEXT, HELLO), bad, frame(FIN | PING, b"unanswered")];
    case(id, cut, &frames, [heard(TEXT, HELLO)], End::Failed(1002))
}

fn reserved(bits: u8, opcode: u8) -> Vec<u8> {
    frame(FIN | bits << 4 | opcode, HELLO)
}

#[test]
fn a_reserved_bit_fails_the_connection() {
    let mut goodbye = close(1000, "");
    goodbye[0] |= 0x70;
    let cases = vec![
        alone("3.1", reserved(1, TEXT)),
        between("3.2", Cut::Once, reserved(2, TEXT)),
        between("3.3", Cut::Frames, reserved(3, TEXT)),
        between("3.4", OCTETS, reserved(4, TEXT)),
        alone("3.5", reserved(5, BINARY)),
        alone("3.6", reserved(6, PING)),
        alone("3.7", goodbye),
    ];
    run(cases, 7);
}

#[test]
fn a_reserved_opcode_fails_the_connection() {
    assert_eq!(CLOSE, 0x8, "the control opcodes begin here");
    let cases = [(1, 3), (2, 11)].into_iter().flat_map(|(section, first)| {
        [
            alone(&format!("4.{section}.1"), frame(FIN | first, b"")),
            alone(&format!("4.{section}.2"), frame(FIN | (first + 1), b"reserved")),
            between(&format!("4.{section}.3"), Cut::Once, frame(FIN | (first + 2), b"")),
            between(&format!("4.{section}.4"), Cut::Once, frame(FIN | (first + 3), b"reserved")),
            between(&format!("4.{section}.5"), OCTETS, frame(FIN | (first + 4), b"reserved")),
        ]
    });
    run(cases.collect(), 10);
}
