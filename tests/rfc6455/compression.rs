//! Sections 12 and 13: permessage-deflate with data of different kinds, lengths and fragments, and
//! with different offers.

use super::case::{End, finish, heard};
use crate::common::process::Corebeat;
use crate::common::web::{
    BINARY, CONTINUATION, FIN, Heard, PING, RSV1, TEXT, Web, deflated, frame,
};

const OFFER: &str = "permessage-deflate; client_max_window_bits";
const KEPT: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// Messages of a length, and the length of the fragments that they are sent in; 0 for one frame.
const SHAPES: [(usize, usize); 10] = [
    (16, 0),
    (64, 0),
    (256, 0),
    (1_024, 0),
    (8_192, 0),
    (65_536, 0),
    (131_072, 0),
    (8_192, 256),
    (131_072, 4_096),
    (131_072, 32_768),
];

/// What is compressed: the data of subsections 12.1 to 12.5.
fn data(kind: usize, length: usize) -> (u8, Vec<u8>) {
    let mut random = fastrand::Rng::with_seed(length as u64);
    let (opcode, unit): (u8, &[u8]) = match kind {
        1 => (TEXT, br#"{"op":"message","room":"lobby","from":"bob","seq":42,"body":"hi"},"#),
        2 => return (BINARY, (0..length).map(|_| random.u8(..)).collect()),
        3 => (TEXT, b"Habe nun, ach! Philosophie, Juristerei und Medizin durchaus studiert. "),
        4 => (TEXT, b"<tr><td class=\"n\">17</td><td>lobby</td></tr>\n"),
        _ => return (BINARY, (0..length).map(|_| random.u8(..4)).collect()),
    };
    (opcode, unit.iter().copied().cycle().take(length).collect())
}

fn open(server: &Corebeat, offer: &str) -> Web {
    Web::open(server.address, "/echo", &format!("Sec-WebSocket-Extensions: {offer}\r\n"))
}

/// A message as a client sends it compressed, in fragments of that length.
fn compressed(opcode: u8, message: &[u8], fragment: usize) -> Vec<u8> {
    let payload = deflated(message);
    let pieces: Vec<&[u8]> = payload.chunks(fragment.max(1)).collect();
    if fragment == 0 {
        return frame(FIN | RSV1 | opcode, &payload);
    }
    let numbered = (1..=pieces.len()).zip(&pieces);
    let frames = numbered.map(|(number, piece)| {
        let first = if number == 1 { RSV1 | opcode } else { CONTINUATION };
        frame(first | if number == pieces.len() { FIN } else { 0 }, piece)
    });
    frames.collect::<Vec<_>>().concat()
}

fn exchange(web: &mut Web, id: &str, kind: usize, (length, fragment): (usize, usize)) {
    let (opcode, message) = data(kind, length);
    let expected = heard(opcode, &message);
    let compressed = compressed(opcode, &message, fragment);
    // A message need not be compressed because it may be.
    let plain = frame(FIN | opcode, &message);
    for bytes in [&compressed, &plain, &compressed] {
        web.send(bytes);
        assert_eq!(web.next(), expected, "case {id}");
    }
}

#[test]
fn compressed_messages_of_every_kind_come_back() {
    let server = Corebeat::start(&["--workers", "2", "--deflate", "on"]);
    for kind in 1..=5 {
        for (index, shape) in (1..).zip(SHAPES) {
            let id = format!("12.{kind}.{index}");
            let mut web = open(&server, OFFER);
            assert_eq!(web.header("Sec-WebSocket-Extensions"), Some(KEPT), "case {id}");
            exchange(&mut web, &id, kind, shape);
            finish(web, End::Clean, &id);
        }
    }
}

#[test]
fn every_offer_is_answered_with_what_is_kept_to() {
    let server = Corebeat::start(&["--workers", "2", "--deflate", "on"]);
    let window = |bits: u8| format!("{KEPT}; server_max_window_bits={bits}");
    let takeover = "server_no_context_takeover";
    let offers = [
        (OFFER.to_owned(), KEPT.to_owned()),
        (format!("{OFFER}; {takeover}"), KEPT.to_owned()),
        (format!("{OFFER}; server_max_window_bits=9"), window(9)),
        (format!("{OFFER}; server_max_window_bits=15"), window(15)),
        (format!("{OFFER}; {takeover}; server_max_window_bits=9"), window(9)),
        (format!("{OFFER}; {takeover}; server_max_window_bits=15"), window(15)),
        (
            format!("{OFFER}; {takeover}; server_max_window_bits=9, {OFFER}; {takeover}, {OFFER}"),
            window(9),
        ),
    ];
    for (section, (offer, answer)) in (1..).zip(offers) {
        for (index, shape) in (1..).zip(SHAPES) {
            let id = format!("13.{section}.{index}");
            let mut web = open(&server, &offer);
            assert_eq!(web.header("Sec-WebSocket-Extensions"), Some(&answer[..]), "case {id}");
            exchange(&mut web, &id, 1 + index % 5, shape);
            finish(web, End::Clean, &id);
        }
    }
}

#[test]
fn what_is_wrong_in_a_compressed_message_fails_the_connection() {
    let server = Corebeat::start(&["--workers", "1", "--deflate", "on"]);
    let text = |bytes: &[u8]| frame(FIN | RSV1 | TEXT, &deflated(bytes));
    for (what, bytes, code) in [
        ("no compressor wrote it", frame(FIN | RSV1 | TEXT, &[0xFF; 8]), 1007),
        ("it is not UTF-8", text(b"\xED\xA0\x80"), 1007),
        ("a character is not ended", text(b"\xE2\x82"), 1007),
        ("a bomb", text(&vec![0; 8 << 20]), 1009),
        (
            "a continuation says that it is compressed",
            { [frame(RSV1 | TEXT, b""), frame(FIN | RSV1 | CONTINUATION, b"")].concat() },
            1002,
        ),
        ("a ping says that it is compressed", frame(FIN | RSV1 | PING, b""), 1002),
        ("RSV2", frame(FIN | 0x20 | TEXT, b""), 1002),
    ] {
        let mut web = open(&server, OFFER);
        web.send(&bytes);
        finish(web, End::Failed(code), what);
    }
}

#[test]
fn nothing_is_agreed_on_where_it_is_off_or_cannot_be_met() {
    let on = Corebeat::start(&["--workers", "1", "--deflate", "on"]);
    let off = Corebeat::start(&["--workers", "1"]);
    let unmet = "permessage-deflate; server_max_window_bits=7, permessage-deflate; unknown";
    for (server, offer) in [(&off, OFFER), (&on, unmet)] {
        let mut web = open(server, offer);
        assert_eq!(web.header("Sec-WebSocket-Extensions"), None);
        web.send(&frame(FIN | TEXT, b"plain"));
        assert_eq!(web.next(), Heard::Text(b"plain".to_vec()));
        web.send(&compressed(TEXT, b"compressed", 0));
        finish(web, End::Failed(1002), offer);
    }
}
