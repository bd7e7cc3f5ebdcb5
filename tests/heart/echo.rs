//! `/echo`: what is sent comes back.

use corebeat::base::counters::CloseReason;
use corebeat::base::limits::ECHO_MESSAGE_MAX;
use corebeat::base::time::TICK_MS;
use corebeat::wire::websocket::deflate::Deflater;
use corebeat::wire::websocket::{Opcode, append_masked};

use super::ear::{closing, fragment, masked, upgrade};
use super::world::{Client, Fate, World};

fn echo(world: &mut World) -> Client {
    world.websocket(0, "/echo", "")
}

#[test]
fn messages_come_back_whole_and_in_order() {
    let mut world = World::new();
    let ann = echo(&mut world);
    world.send(ann, &masked(Opcode::Text, "grüße".as_bytes()));
    world.send(ann, &masked(Opcode::Binary, b""));
    world.send(ann, &fragment(Opcode::Text, b"one "));
    world.send(ann, &masked(Opcode::Ping, b"!"));
    world.send(ann, &fragment(Opcode::Continuation, b""));
    world.send(ann, &masked(Opcode::Continuation, b"two"));
    let heard = world.heard(ann);
    assert_eq!(heard, ["echoed grüße", "echoed ", "pong frame !", "echoed one two"]);
    assert_eq!((world.counters().echoes, world.counters().messages_in), (3, 3));
}

#[test]
fn a_large_message_is_returned_as_it_arrives_and_never_kept() {
    let mut world = World::with(|config| config.limits.max_outbound = 256 << 10);
    let ann = echo(&mut world);
    let payload: Vec<u8> = (0..3_000_000u32).map(|n| b'a' + (n % 26) as u8).collect();
    world.stops_reading(ann);
    world.send(ann, &masked(Opcode::Binary, &payload));
    assert!(!world.wants_input(ann), "it does not read, so it is not read from");
    assert_eq!(world.fate(ann), Fate::Open);
    for _ in 0..1_000 {
        world.reads(ann, 4_000);
    }
    world.reads(ann, usize::MAX);
    let heard = world.heard(ann);
    assert_eq!(heard.len(), 1);
    assert!(heard[0].strip_prefix("echoed ").unwrap().as_bytes() == payload);
}

#[test]
fn even_the_smallest_outbox_returns_everything() {
    let mut world = World::with(|config| {
        config.limits.max_frame = 1 << 10;
        config.limits.max_outbound = 2 << 10;
    });
    let ann = echo(&mut world);
    world.send(ann, &masked(Opcode::Text, &[b'x'; 60_000]));
    assert_eq!(world.heard(ann)[0].len(), "echoed ".len() + 60_000);
    assert_eq!(world.fate(ann), Fate::Open);
}

#[test]
fn wrong_text_fails_at_its_first_wrong_byte() {
    for cut in 0..3 {
        let mut world = World::new();
        let ann = echo(&mut world);
        let mut bytes = masked(Opcode::Text, b"ok \xE2\x82");
        bytes[1] += 60;
        world.send(ann, &bytes[..bytes.len() - cut]);
        assert_eq!(world.fate(ann), Fate::Open, "it may become a euro sign");
        let mut bytes = masked(Opcode::Text, b"ok \xE2\x28");
        bytes[1] += 60;
        let bob = echo(&mut world);
        world.send(bob, &bytes[..bytes.len() - cut]);
        let closed = cut == 0;
        assert_eq!(world.heard(bob).last().map(String::as_str), closed.then_some("close 1007"));
    }
}

#[test]
fn mistakes_are_closed_without_an_event() {
    let mut too_large = Vec::new();
    append_masked(&mut too_large, Opcode::Binary, [0; 4], &[0; 1 << 16]);
    too_large[2..10].copy_from_slice(&(ECHO_MESSAGE_MAX as u64 + 1).to_be_bytes());
    for (bytes, last, reason) in [
        (masked(Opcode::Continuation, b""), "close 1002", CloseReason::Malformed),
        (masked(Opcode::Text, b"\xFF"), "close 1007", CloseReason::Malformed),
        (too_large, "close 1009", CloseReason::TooLarge),
        (closing(3_000, ""), "close 3000", CloseReason::Bye),
    ] {
        let mut world = World::new();
        let ann = echo(&mut world);
        world.send(ann, &bytes);
        assert_eq!(world.heard(ann), [last]);
        world.half_closes(ann);
        assert_eq!(world.fate(ann), Fate::Closed(reason));
    }
}

#[test]
fn an_echo_is_kept_by_its_pongs() {
    let mut world = World::new();
    let (ann, bob) = (echo(&mut world), echo(&mut world));
    world.answers_pings(ann);
    world.pass_ms(90_000 + TICK_MS);
    assert_eq!(world.fate(ann), Fate::Open);
    assert_eq!(world.heard(bob).last().map(String::as_str), Some("close 4408"));
    assert_eq!(world.counters().closed_for(CloseReason::HeartbeatTimeout), 1);
}

#[test]
fn a_message_that_trickles_in_keeps_its_sender_alive() {
    let mut world = World::new();
    let ann = echo(&mut world);
    let bytes = masked(Opcode::Binary, &[7; 100]);
    world.send(ann, &bytes[..7]);
    for byte in &bytes[7..] {
        world.pass_ms(20_000);
        world.send(ann, &[*byte]);
    }
    assert_eq!(world.fate(ann), Fate::Open);
}

#[test]
fn a_compressed_message_comes_back_as_what_it_says() {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n";
    let mut world = World::with(|config| config.web.deflate = true);
    let ann = world.browser(0);
    world.send(ann, upgrade("/echo", "", offer).as_bytes());
    let agreed = world.switch(ann, "");
    assert!(agreed.field("Sec-WebSocket-Extensions").is_some());
    let payload = "again and again ".repeat(10_000);
    let mut small = Vec::new();
    Deflater::default().deflate(payload.as_bytes(), &mut small);
    let (first, rest) = small.split_at(small.len() / 2);
    for _ in 0..2 {
        let mut bytes = fragment(Opcode::Text, first);
        bytes[0] |= 0x40;
        bytes.extend(masked(Opcode::Continuation, rest));
        world.send(ann, &bytes);
        assert_eq!(world.heard(ann), [format!("echoed {payload}")]);
    }
    let mut bomb = Vec::new();
    Deflater::default().deflate(&vec![0; 2 << 20], &mut bomb);
    let mut bytes = masked(Opcode::Binary, &bomb);
    bytes[0] |= 0x40;
    world.send(ann, &bytes);
    assert_eq!(world.heard(ann), ["close 1009"]);
}
