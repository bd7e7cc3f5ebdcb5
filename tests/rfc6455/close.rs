//! Section 7: the closing handshake.

use super::case::{Act, Case, Cut, End, case, heard, run};
use crate::common::web::{BINARY, CLOSE, CONTINUATION, FIN, PING, TEXT, close, frame};

const HELLO: &[u8] = b"Hello World!";

/// Frames of which the close is answered with 1000, and nothing behind it.
fn answered(id: &str, frames: &[Vec<u8>]) -> Case {
    case(id, Cut::Once, frames, [], End::Answered(Some(1000)))
}

/// A close with this payload.
fn closing(id: impl Into<String>, payload: &[u8], end: End) -> Case {
    case(id, Cut::Once, &[frame(FIN | CLOSE, payload)], [], end)
}

fn with_code(id: impl Into<String>, code: u16, end: End) -> Case {
    closing(id, &code.to_be_bytes(), end)
}

fn what_comes_around_a_close() -> Vec<Case> {
    let hello = || frame(FIN | TEXT, HELLO);
    let long = vec![b'*'; 256 << 10];
    let mut unfinished: Vec<Act> = Cut::Frames
        .writes(&[frame(TEXT, b"fragment1"), close(1000, ""), frame(FIN | CONTINUATION, b"2")])
        .collect();
    unfinished.push(Act::HearPart(b"fragment1".to_vec()));
    vec![
        case(
            "7.1.1",
            Cut::Once,
            &[hello(), close(1000, "")],
            [heard(TEXT, HELLO)],
            End::Answered(Some(1000)),
        ),
        answered("7.1.2", &[close(1000, ""), close(1000, "")]),
        answered("7.1.3", &[close(1000, ""), frame(FIN | PING, b"")]),
        answered("7.1.4", &[close(1000, ""), hello()]),
        Case { id: "7.1.5".to_owned(), acts: unfinished, end: End::Answered(Some(1000)) },
        case(
            "7.1.6",
            Cut::Once,
            &[frame(FIN | BINARY, &long), close(1000, ""), frame(FIN | PING, b"")],
            [heard(BINARY, &long)],
            End::Answered(Some(1000)),
        ),
    ]
}

fn what_a_close_carries() -> Vec<Case> {
    let reasoned = |reason: &[u8]| [&1000_u16.to_be_bytes()[..], reason].concat();
    vec![
        closing("7.3.1", b"", End::Answered(None)),
        closing("7.3.2", b"a", End::Failed(1002)),
        closing("7.3.3", &reasoned(b""), End::Answered(Some(1000))),
        closing("7.3.4", &reasoned(HELLO), End::Answered(Some(1000))),
        closing("7.3.5", &reasoned(&[b'*'; 123]), End::Answered(Some(1000))),
        closing("7.3.6", &reasoned(&[b'*'; 124]), End::Failed(1002)),
        // "κόσμε", a surrogate, "edited".
        closing("7.5.1", &reasoned(b"\xCE\xBA\xE1\xBD\xB9\xED\xA0\x80edited"), End::Failed(1007)),
    ]
}

#[test]
fn a_close_is_answered_with_its_code_or_refused() {
    let mut cases = what_comes_around_a_close();
    cases.extend(what_a_close_carries());
    let good = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
    cases.extend(
        (1..).zip(good).map(|(index, code)| {
            with_code(format!("7.7.{index}"), code, End::Answered(Some(code)))
        }),
    );
    let bad = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];
    cases.extend(
        (1..)
            .zip(bad)
            .map(|(index, code)| with_code(format!("7.9.{index}"), code, End::Failed(1002))),
    );
    cases.push(with_code("7.13.1", 5000, End::Failed(1002)));
    cases.push(closing("7.13.2", &65_536_u32.to_be_bytes(), End::Failed(1002)));
    run(cases, 37);
}
