//! Section 2: pings and pongs.

use super::case::{Act, Case, Cut, End, OCTETS, case, run};
use crate::common::web::{FIN, Heard, PING, PONG, frame};

/// A ping that is answered with its payload.
fn answered(id: &str, cut: Cut, payload: &[u8]) -> Case {
    case(id, cut, &[frame(FIN | PING, payload)], [Heard::Pong(payload.to_vec())], End::Clean)
}

/// A pong that nobody asked for, and what is heard behind it.
fn unsolicited(id: &str, payload: &[u8]) -> Case {
    let acts = vec![Act::Send(frame(FIN | PONG, payload)), Act::Silence];
    Case { id: id.to_owned(), acts, end: End::Clean }
}

fn ten(id: &str, cut: Cut) -> Case {
    let payloads: Vec<Vec<u8>> = (0..10).map(|n| format!("payload-{n}").into_bytes()).collect();
    let pings: Vec<Vec<u8>> = payloads.iter().map(|payload| frame(FIN | PING, payload)).collect();
    case(id, cut, &pings, payloads.into_iter().map(Heard::Pong), End::Clean)
}

#[test]
fn pings_are_answered_and_pongs_are_not() {
    let pong_and_ping = [frame(FIN | PONG, b"unasked for"), frame(FIN | PING, b"ping payload")];
    let cases = vec![
        answered("2.1", Cut::Once, b""),
        answered("2.2", Cut::Once, b"Hello, world!"),
        answered("2.3", Cut::Once, &[0x00, 0xFF, 0xFE, 0xFD, 0xFC, 0xFB, 0x00, 0xFF]),
        answered("2.4", Cut::Once, &[0xFE; 125]),
        case("2.5", Cut::Once, &[frame(FIN | PING, &[0xFE; 126])], [], End::Failed(1002)),
        answered("2.6", OCTETS, &[0xFE; 125]),
        unsolicited("2.7", b""),
        unsolicited("2.8", b"unasked for"),
        case("2.9", Cut::Once, &pong_and_ping, [Heard::Pong(b"ping payload".to_vec())], End::Clean),
        ten("2.10", Cut::Frames),
        ten("2.11", OCTETS),
    ];
    run(cases, 11);
}
