//! Bytes that the native dialect does not allow: an ERROR, and the end.

use corebeat::base::counters::CloseReason;
use corebeat::base::limits::LINGER_MS;
use corebeat::wire::message::Request;
use corebeat::wire::native::{self, kind};

use super::speech::{frame, frames, hello, join, publish};
use super::world::{Fate, World};

fn str8(text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![text.len() as u8];
    bytes.extend_from_slice(text);
    bytes
}

fn with_ref(reference: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = reference.to_be_bytes().to_vec();
    bytes.extend_from_slice(rest);
    bytes
}

/// Every kind of mistake that a greeted client can make, and the code that it is told.
fn mistakes() -> Vec<(&'static str, Vec<u8>, u16)> {
    let mut bad_crc = Vec::new();
    native::encode_request(&mut bad_crc, &Request::Echo(b"hi"), true);
    *bad_crc.last_mut().unwrap() ^= 1;
    let mut long = frame(kind::ECHO, 0, b"");
    long[4..8].copy_from_slice(&(64_u32 * 1_024 + 1).to_be_bytes());
    let mut endless = frame(kind::ECHO, 0, b"");
    endless[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    let bad_name = with_ref(1, &str8(b"\xFF\xFE"));
    vec![
        ("magic", b"GET / HTTP/1.1\r\n".to_vec(), 400),
        ("crc", bad_crc, 400),
        ("one byte too long", long, 413),
        ("far too long", endless, 413),
        ("unknown type", frame(0x7E, 0, b""), 400),
        ("type 0", frame(0, 0, b""), 400),
        ("a server's type", frame(kind::WELCOME, 0, b""), 400),
        ("short PING", frame(kind::PING, 0, &[0; 16]), 400),
        ("short PONG", frame(kind::PONG, 0, &[]), 400),
        ("short BYE", frame(kind::BYE, 0, &[0]), 400),
        ("short JOIN", frame(kind::JOIN, 0, &[0; 16]), 400),
        ("short room", frame(kind::LEAVE, 0, &with_ref(1, b"\x05four")), 400),
        ("short PUBLISH", frame(kind::PUBLISH, 0, &with_ref(1, b"")), 400),
        ("short DIRECT", frame(kind::DIRECT, 0, &[1, 2, 3]), 400),
        ("short ACK", frame(kind::ACK, 0, &[0; 7]), 400),
        ("short HISTORY", frame(kind::HISTORY, 0, &with_ref(1, &str8(b"attic"))), 400),
        ("short WHO", frame(kind::WHO, 0, &[]), 400),
        ("UTF-8 of PUBLISH", frame(kind::PUBLISH, 0, &bad_name), 400),
        ("UTF-8 of WHO", frame(kind::WHO, 0, &bad_name), 400),
        ("UTF-8 of DIRECT", frame(kind::DIRECT, 0, &bad_name), 400),
    ]
}

#[test]
fn a_malformed_frame_gets_an_error_then_a_half_close_then_the_close() {
    for (mistake, bytes, code) in mistakes() {
        let mut world = World::new();
        let ann = world.native(0, "ann");
        let mut bytes = bytes;
        bytes.extend(frames(&[Request::Echo(b"not heard any more")]));
        world.send(ann, &bytes);
        assert_eq!(world.heard(ann), [format!("error 0: {code}")], "{mistake}");
        assert_eq!(world.fate(ann), Fate::HalfClosed, "{mistake}");
        world.send(ann, &frames(&[Request::Echo(b"nor this")]));
        world.pass_ms(LINGER_MS - 100);
        assert_eq!(world.fate(ann), Fate::HalfClosed, "it may still be reading: {mistake}");
        world.pass_ms(200);
        assert!(matches!(world.fate(ann), Fate::Closed(_)), "{mistake}");
        assert!(world.heard(ann).is_empty(), "{mistake}");
        let expected = if code == 413 { CloseReason::TooLarge } else { CloseReason::Malformed };
        assert_eq!(world.counters().closed_for(expected), 1, "{mistake}");
    }
}

#[test]
fn a_peer_that_hangs_up_on_its_error_is_closed_at_once() {
    let mut world = World::new();
    let ann = world.native(0, "ann");
    world.send(ann, &frame(0x7E, 0, b""));
    assert_eq!(world.fate(ann), Fate::HalfClosed);
    world.half_closes(ann);
    assert_eq!(world.fate(ann), Fate::Closed(CloseReason::Malformed));
}

#[test]
fn what_preceded_the_mistake_is_done_and_answered() {
    let mut world = World::new();
    let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
    world.say(bob, join(1, "attic"));
    let mut bytes = frames(&[publish(1, "attic", "before"), Request::Echo(b"before")]);
    bytes.extend(frame(0x7E, 0, b""));
    bytes.extend(frames(&[publish(2, "attic", "behind")]));
    world.send(ann, &bytes);
    let heard = world.heard(ann);
    assert_eq!(heard, ["ok 1: 1", "echo before", "error 0: 400"]);
    assert_eq!(world.heard(bob), ["ok 1: 0", "[attic 1] ann: before"]);
}

#[test]
fn a_mistake_in_the_first_frame_is_told_too() {
    let truncated = frame(kind::HELLO, 0, &[1, 0, 0]);
    let mut utf8 = frames(&[Request::Hello(hello("ann"))]);
    let name_at = utf8.len() - 2 - 3;
    utf8[name_at] = 0xFF;
    let mut crc = Vec::new();
    native::encode_request(&mut crc, &Request::Hello(hello("ann")), true);
    *crc.last_mut().unwrap() ^= 1;
    let mut long = frame(kind::HELLO, 0, b"");
    long[4..8].copy_from_slice(&(64_u32 * 1_024 + 1).to_be_bytes());
    let cases = [(truncated, 400), (utf8, 400), (crc, 400), (long, 413)];
    for (bytes, code) in cases {
        let mut world = World::new();
        let client = world.connect(0);
        world.send(client, &bytes);
        assert_eq!(world.heard(client), [format!("error 0: {code}")]);
        assert_eq!(world.fate(client), Fate::HalfClosed);
    }
}

#[test]
fn a_frame_is_taken_however_it_is_cut() {
    let bytes = frames(&[
        Request::Hello(hello("ann")),
        join(1, "attic"),
        publish(2, "attic", "hello"),
        Request::Echo(b""),
        Request::Echo(b"end"),
    ]);
    for piece in [1, 2, 3, 7, 8, 9, 11, 64] {
        let mut world = World::new();
        let ann = world.connect(0);
        for part in bytes.chunks(piece) {
            world.send(ann, part);
        }
        let expected = ["welcome ann", "ok 1: 0", "ok 2: 1", "echo ", "echo end"];
        assert_eq!(world.heard(ann), expected, "pieces of {piece}");
    }
}
