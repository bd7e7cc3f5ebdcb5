//! Chat over WebSockets: JSON and native frames in messages.

use corebeat::base::counters::CloseReason;
use corebeat::base::limits::{DRAIN_HELLO_MS, DRAIN_SETTLE_MS, WEBSOCKET_CONTROL_MAX};
use corebeat::base::time::TICK_MS;
use corebeat::wire::message::{Event, Hello, Request};
use corebeat::wire::native;
use corebeat::wire::websocket::{Opcode, append_masked};

use super::ear::{ACCEPT, BIN, JSON, closing, fragment, masked, upgrade};
use super::speech::{
    direct, frames, hello, join, join_notify, leave, ping, publish, publish_echo, who,
};
use super::world::{Client, Fate, ROOMS, World};

const SUBPROTOCOLS: [&str; 2] = [JSON, BIN];
const HANDSHAKE_MS: u64 = 10_000;
const TIMEOUT_MS: u64 = 90_000;

/// A message of the kind that the subprotocol does not have.
fn wrong_kind(subprotocol: &str) -> Vec<u8> {
    masked(if subprotocol == JSON { Opcode::Binary } else { Opcode::Text }, b"{}")
}

fn text(payload: &str) -> Vec<u8> {
    masked(Opcode::Text, payload.as_bytes())
}

fn binary(payload: &[u8]) -> Vec<u8> {
    masked(Opcode::Binary, payload)
}

#[test]
fn an_upgrade_and_the_first_messages_may_be_cut_anywhere() {
    let mut bytes = upgrade("/ws", JSON, "").into_bytes();
    bytes.extend(text(r#"{"op":"hello","user":"ann"}"#));
    bytes.extend(masked(Opcode::Ping, b"here"));
    bytes.extend(fragment(Opcode::Text, br#"{"op":"join","ref":1,"#));
    bytes.extend(masked(Opcode::Continuation, br#""room":"lobby"}"#));
    bytes.extend(text(r#"{"op":"who","ref":2,"room":"lobby"}"#));
    let expected = ["welcome ann", "pong frame here", "ok 1: 0", "roster 2 of 1: ann"];
    for cut in 0..bytes.len() {
        let mut world = World::new();
        let ann = world.browser(2);
        world.send(ann, &bytes[..cut]);
        world.send(ann, &bytes[cut..]);
        let reply = world.switch(ann, JSON);
        assert_eq!(reply.field("Sec-WebSocket-Accept"), Some(ACCEPT));
        assert_eq!(reply.field("Sec-WebSocket-Protocol"), Some(JSON));
        assert_eq!(world.heard(ann), expected, "cut at {cut}");
    }
    let mut world = World::new();
    let ann = world.browser(0);
    for byte in bytes {
        world.send(ann, &[byte]);
    }
    world.switch(ann, JSON);
    assert_eq!(world.heard(ann), ["welcome ann", "pong frame here", "ok 1: 0", expected[3]]);
}

#[test]
fn a_welcome_precedes_all_events_whatever_was_pinged_before() {
    for subprotocol in SUBPROTOCOLS {
        let mut world = World::new();
        let ann = world.websocket(0, "/ws", subprotocol);
        world.stops_reading(ann);
        for _ in 0..20 {
            world.send(ann, &masked(Opcode::Ping, &[b'x'; WEBSOCKET_CONTROL_MAX]));
        }
        world.say(ann, Request::Hello(hello("ann")));
        world.say(ann, ping(1, 2));
        world.reads(ann, usize::MAX);
        let heard = world.heard(ann);
        let events: Vec<&String> =
            heard.iter().filter(|words| !words.starts_with("pong frame")).collect();
        assert_eq!(events, ["welcome ann", "pong 1 of 2"]);
    }
}

#[test]
fn json_is_spoken_where_nothing_was_asked_for() {
    let mut world = World::new();
    let ann = world.browser(0);
    world.send(ann, upgrade("/ws", "", "").as_bytes());
    assert_eq!(world.switch(ann, JSON).field("Sec-WebSocket-Protocol"), None);
    world.send(ann, &text(r#"{"op":"hello"}"#));
    assert_eq!(world.heard(ann), ["welcome guest-1"]);
}

#[test]
fn all_dialects_of_a_room_hear_the_same_in_the_same_order() {
    for room in ROOMS {
        let mut world = World::new();
        let mut members: Vec<Client> = Vec::new();
        for shard in [0, 1, 2] {
            members.push(world.native(shard, "native"));
            members.push(world.json(shard, "json"));
            members.push(world.bin(shard, "bin"));
            let sealed = world.websocket(shard, "/ws", BIN);
            world.wants_crc(sealed);
            world.say(sealed, Request::Hello(Hello { crc: true, ..hello("sealed") }));
            assert_eq!(world.heard(sealed), ["welcome sealed"]);
            members.push(sealed);
        }
        for member in &members {
            world.say(*member, join(0, room));
        }
        let mut said = Vec::new();
        for (seq, member) in (1..).zip(&members) {
            world.say(*member, publish_echo(0, room, &format!("word {seq} \u{1F600} \"\\\n")));
            said.push(format!("{seq}"));
        }
        let heard: Vec<Vec<String>> = members.iter().map(|member| world.heard(*member)).collect();
        assert_eq!(heard[0].len(), said.len());
        assert!(heard.iter().all(|words| *words == heard[0]), "{room}: {heard:?}");
        world.say(members[1], publish(7, room, "not to me"));
        assert_eq!(world.heard(members[1]), [format!("ok 7: {}", said.len() + 1)]);
        assert_eq!(world.heard(members[2]).len(), 1);
    }
}

#[test]
fn presence_rosters_direct_messages_and_refs_are_as_on_native_frames() {
    for subprotocol in SUBPROTOCOLS {
        let mut world = World::new();
        let (ann, eve) = (world.web(0, subprotocol, "ann"), world.text(1, "eve"));
        world.say(ann, join_notify(1, "lobby"));
        let bob = world.native(2, "bob");
        world.say(bob, join_notify(0, "lobby"));
        assert_eq!(world.heard(ann), ["ok 1: 0", "bob joined lobby, now 3"]);
        world.say(ann, who(2, "lobby"));
        assert_eq!(world.heard(ann), ["roster 2 of 3: ann bob eve"]);
        world.types(eve, "/msg ann psst");
        assert_eq!(world.heard(ann), ["[eve -> you] psst"]);
        for _ in 0..2 {
            world.say(ann, publish(3, "lobby", "once"));
        }
        assert_eq!(world.heard(ann), ["ok 3: 1", "ok 3: 1 duplicate"]);
        assert_eq!(world.heard(bob), ["[lobby 1] ann: once"]);
        world.say(ann, direct(4, "bob", "psst"));
        world.say(ann, join(5, "*"));
        world.say(ann, ping(6, 7));
        world.say(ann, Request::Echo(b"back"));
        world.say(ann, leave(8, "lobby"));
        let expected = ["ok 4: #2", "error 5: 403", "pong 6 of 7", "echo back", "ok 8: 0"];
        assert_eq!(world.heard(ann), expected);
        assert_eq!(world.heard(bob), ["[ann -> you] psst", "ann left lobby, now 2"]);
    }
}

#[test]
fn a_hello_must_follow_the_upgrade_in_time() {
    for subprotocol in SUBPROTOCOLS {
        let mut world = World::new();
        let ann = world.browser(0);
        world.pass_ms(HANDSHAKE_MS - 1_000);
        world.send(ann, upgrade("/ws", subprotocol, "").as_bytes());
        world.switch(ann, subprotocol);
        for _ in 0..9 {
            world.pass_ms(1_000);
            world.send(ann, &masked(Opcode::Ping, b""));
            assert_eq!(world.heard(ann), ["pong frame "]);
        }
        world.pass_ms(999);
        assert_eq!(world.fate(ann), Fate::Open, "its time begins with the upgrade");
        world.pass_ms(TICK_MS + 1);
        assert_eq!(world.heard(ann), ["error 0: 408", "close 4408"]);
        assert_eq!(world.fate(ann), Fate::HalfClosed);
        assert_eq!(world.counters().closed_for(CloseReason::HandshakeTimeout), 1);
    }
}

#[test]
fn a_suspended_server_gives_a_hello_its_time_anew() {
    let mut world = World::new();
    let ann = world.websocket(0, "/ws", JSON);
    world.suspend_ms(60_000);
    assert_eq!(world.fate(ann), Fate::Open);
    world.pass_ms(HANDSHAKE_MS + TICK_MS);
    assert_eq!(world.heard(ann), ["error 0: 408", "close 4408"]);
}

/// What is sent, the error that is told first, and the code of the close.
type Blunder = (Vec<u8>, &'static str, &'static str);

fn blunders(subprotocol: &str) -> Vec<Blunder> {
    let mut unmasked = masked(Opcode::Text, b"{}");
    unmasked[1] &= 0x7F;
    let mut reserved = masked(Opcode::Text, b"{}");
    reserved[0] |= 0x40;
    let mut blunders = vec![
        (unmasked, "error 0: 400", "close 1002"),
        (reserved, "error 0: 400", "close 1002"),
        (masked(Opcode::Continuation, b""), "error 0: 400", "close 1002"),
        (fragment(Opcode::Ping, b""), "error 0: 400", "close 1002"),
        (masked(Opcode::Close, b"x"), "error 0: 400", "close 1002"),
        (closing(1005, ""), "error 0: 400", "close 1002"),
        (wrong_kind(subprotocol), "error 0: 400", "close 1002"),
    ];
    let mut too_long = Vec::new();
    append_masked(&mut too_long, Opcode::Ping, [1; 4], &[0; WEBSOCKET_CONTROL_MAX]);
    too_long[1] += 1;
    blunders.push((too_long, "error 0: 400", "close 1002"));
    if subprotocol == JSON {
        for wrong in ["", "{", "[]", "7", r#"{"op":"fly"}"#, r#"{"op":"join","ref":1}"#, "{}{}"] {
            blunders.push((text(wrong), "error 0: 400", "close 1002"));
        }
        blunders.push((text(r#"{"op":"hello"}"#), "error 0: 400", "close 1002"));
        blunders.push((masked(Opcode::Text, b"\"\xFF"), "error 0: 400", "close 1007"));
        blunders.push((fragment(Opcode::Text, b"\"\xC0"), "error 0: 400", "close 1007"));
        blunders.push((text(&" ".repeat(4_097)), "error 0: 413", "close 1009"));
    } else {
        let echo = frames(&[Request::Echo(b"x")]);
        blunders.push((binary(b""), "error 0: 400", "close 1002"));
        blunders.push((binary(&echo[..8]), "error 0: 400", "close 1002"));
        blunders.push((binary(&[&echo[..], &echo[..5]].concat()), "echo x", "close 1002"));
        blunders.push((binary(b"hello"), "error 0: 400", "close 1002"));
        let mut not_text = frames(&[join(1, "lobby")]);
        *not_text.last_mut().unwrap() = 0xFF;
        blunders.push((binary(&not_text), "error 0: 400", "close 1007"));
        blunders.push((binary(&vec![0; 4_096 + 13]), "error 0: 413", "close 1009"));
        let mut long = frames(&[Request::Echo(b"")]);
        long[6] = 0x20;
        blunders.push((binary(&long), "error 0: 413", "close 1009"));
    }
    blunders
}

#[test]
fn what_is_no_request_is_told_and_closed_with_its_code() {
    for subprotocol in SUBPROTOCOLS {
        for (bytes, first, last) in blunders(subprotocol) {
            let mut world = World::with(|config| config.limits.max_frame = 4_096);
            let (ann, bob) = (world.web(0, subprotocol, "ann"), world.native(0, "bob"));
            world.say(ann, join(0, "lobby"));
            world.say(bob, join_notify(0, "lobby"));
            world.send(ann, &bytes);
            let heard = world.heard(ann);
            let shown: Vec<u8> = bytes.iter().copied().take(40).collect();
            assert_eq!(heard.first().map(String::as_str), Some(first), "{shown:x?}");
            assert_eq!(heard.last().map(String::as_str), Some(last), "{shown:x?}");
            assert_eq!(world.fate(ann), Fate::HalfClosed);
            let large = if last == "close 1009" { 1 } else { 0 };
            assert_eq!(world.counters().closed_for(CloseReason::TooLarge), large);
            assert_eq!(world.counters().closed_for(CloseReason::Malformed), 1 - large);
            assert_eq!(world.heard(bob), ["ann left lobby, now 1"]);
        }
    }
}

#[test]
fn nothing_but_hello_comes_first() {
    for subprotocol in SUBPROTOCOLS {
        let mut world = World::new();
        let ann = world.websocket(0, "/ws", subprotocol);
        world.say(ann, join(1, "lobby"));
        assert_eq!(world.heard(ann), ["error 0: 400", "close 1002"]);
        let bob = world.websocket(0, "/ws", subprotocol);
        world.say(bob, Request::Hello(hello("$root")));
        assert_eq!(world.heard(bob), ["error 0: 403", "close 1008"]);
        assert_eq!(world.counters().closed_for(CloseReason::Refused), 1);
    }
}

#[test]
fn a_message_of_the_greatest_length_is_taken_whole_or_in_fragments() {
    let mut world = World::with(|config| config.limits.max_frame = 4_096);
    let (ann, bob) = (world.json(0, "ann"), world.bin(0, "bob"));
    let mut object = br#"{"op":"echo","body":"x"}"#.to_vec();
    object.resize(4_096, b' ');
    world.send(ann, &masked(Opcode::Text, &object));
    for part in [&object[..1], &object[1..4_000]] {
        let opcode = if part.len() == 1 { Opcode::Text } else { Opcode::Continuation };
        world.send(ann, &fragment(opcode, part));
    }
    world.send(ann, &masked(Opcode::Continuation, &object[4_000..]));
    assert_eq!(world.heard(ann), ["echo x", "echo x"]);
    world.say(bob, Request::Echo(&[b'y'; 4_096]));
    assert_eq!(world.heard(bob).len(), 1);
    world.send(ann, &fragment(Opcode::Text, &object));
    world.send(ann, &fragment(Opcode::Continuation, b" "));
    assert_eq!(world.heard(ann), ["error 0: 413", "close 1009"]);
}

#[test]
fn a_binary_message_may_hold_several_frames() {
    let mut world = World::new();
    let ann = world.websocket(1, "/ws", BIN);
    let asked = [Request::Hello(hello("ann")), join(1, "lobby"), who(2, "lobby")];
    world.send(ann, &binary(&frames(&asked)));
    assert_eq!(world.heard(ann), ["welcome ann", "ok 1: 0", "roster 2 of 1: ann"]);
    let bye = Request::Bye { code: 0, reason: "" };
    world.send(ann, &binary(&frames(&[Request::Echo(b"a"), bye, Request::Echo(b"b")])));
    assert_eq!(world.heard(ann), ["echo a", "close 1000"]);
    world.half_closes(ann);
    assert_eq!(world.fate(ann), Fate::Closed(CloseReason::Bye));
}

#[test]
fn a_message_full_of_requests_is_read_as_fast_as_the_answers_are() {
    let mut world = World::with(|config| config.limits.max_outbound = 64 << 10);
    let ann = world.bin(0, "ann");
    let requests: Vec<Request<'_>> = (0..1_500).map(|seq| ping(seq, 0)).collect();
    world.stops_reading(ann);
    for _ in 0..4 {
        world.send(ann, &binary(&frames(&requests)));
    }
    assert!(!world.wants_input(ann));
    assert_eq!(world.fate(ann), Fate::Open);
    for _ in 0..400 {
        world.reads(ann, 1_000);
    }
    world.reads(ann, usize::MAX);
    let heard = world.heard(ann);
    assert_eq!(heard.len(), 4 * 1_500);
    let expected: Vec<String> = (0..1_500).map(|seq| format!("pong {seq} of 0")).collect();
    assert!(heard.chunks(1_500).all(|answers| answers == expected));
    assert_eq!(world.counters().messages_in, 4 * 1_500 + 1);
}

#[test]
fn a_reader_that_is_too_slow_is_told_431_and_closed_with_4431() {
    for subprotocol in SUBPROTOCOLS {
        let mut world = World::with(|config| config.limits.max_outbound = 64 << 10);
        let (speaker, slow) = (world.native(0, "speaker"), world.web(1, subprotocol, "slow"));
        world.say(slow, join(0, "lobby"));
        world.reads(slow, 10);
        let body = "x".repeat(1_000);
        for _ in 0..80 {
            world.say(speaker, publish(0, "lobby", &body));
        }
        world.reads(slow, usize::MAX);
        let heard = world.heard(slow);
        assert_eq!(heard[heard.len() - 2..], ["error 0: 431", "close 4431"]);
        assert_eq!(world.fate(slow), Fate::HalfClosed);
    }
}

#[test]
fn silence_is_met_with_the_protocols_own_pings() {
    for subprotocol in SUBPROTOCOLS {
        let mut world = World::new();
        let ann = world.web(0, subprotocol, "ann");
        let bob = world.web(1, subprotocol, "bob");
        world.answers_pings(ann);
        world.pass_ms(TIMEOUT_MS + TICK_MS);
        assert_eq!(world.fate(ann), Fate::Open);
        assert!(world.heard(ann).iter().all(|words| words == "ping"));
        let heard = world.heard(bob);
        assert_eq!(heard[heard.len() - 2..], ["error 0: 408", "close 4408"]);
        assert!(heard[..heard.len() - 2].iter().all(|words| words == "ping"), "{heard:?}");
        assert_eq!(world.counters().closed_for(CloseReason::HeartbeatTimeout), 1);
        world.pass_ms(20 * TIMEOUT_MS);
        assert_eq!(world.fate(ann), Fate::Open, "whoever answers is never closed");
        let counters = world.counters();
        assert_eq!((counters.pongs > 30, counters.round_trip_ms), (true, 0));
    }
}

#[test]
fn pings_of_both_layers_are_answered_in_their_own() {
    let mut world = World::new();
    let (ann, bob) = (world.json(0, "ann"), world.bin(0, "bob"));
    world.send(ann, &masked(Opcode::Ping, &[b'x'; WEBSOCKET_CONTROL_MAX]));
    world.send(ann, &text(r#"{"op":"ping","seq":3,"time_ms":9}"#));
    assert_eq!(world.heard(ann), [format!("pong frame {}", "x".repeat(125)), "pong 3 of 9".into()]);
    world.say(bob, ping(3, 9));
    world.last_message(bob, |event| {
        let Event::Pong(pong) = event else { panic!("{event:?}") };
        assert_eq!((pong.node, pong.seq), (super::world::NODE, 3));
    });
    world.send(ann, &masked(Opcode::Pong, b"unasked"));
    assert!(world.heard(ann).is_empty());
    assert_eq!((world.counters().pings_answered, world.counters().pongs), (3, 0));
}

#[test]
fn a_close_is_answered_with_its_own_code() {
    for (bytes, answer, reason) in [
        (closing(1000, "done"), "close 1000", CloseReason::Bye),
        (closing(1001, ""), "close 1001", CloseReason::PeerClosed),
        (closing(4999, "\u{1F600}"), "close 4999", CloseReason::PeerClosed),
        (masked(Opcode::Close, b""), "close 1005", CloseReason::PeerClosed),
    ] {
        let mut world = World::new();
        let (ann, bob) = (world.json(0, "ann"), world.native(0, "bob"));
        world.say(ann, join(0, "lobby"));
        world.say(bob, join_notify(0, "lobby"));
        world.send(ann, &[&bytes[..], &text("no longer read")].concat());
        assert_eq!(world.heard(ann), [answer]);
        let is_kept = reason == CloseReason::PeerClosed;
        assert_eq!(world.heard(bob).is_empty(), is_kept, "only 1000 says goodbye");
        world.pass_ms(3_000);
        let told: &[&str] = if is_kept { &["ann left lobby, now 1", "ann Offline"] } else { &[] };
        assert_eq!(world.heard(bob), told);
        world.half_closes(ann);
        assert_eq!(world.fate(ann), Fate::Closed(reason));
        assert_eq!(world.counters().websocket_closes, 1);
    }
}

#[test]
fn a_drain_says_goaway_and_closes_with_1001() {
    let mut world = World::new();
    let (ann, bob) = (world.json(0, "ann"), world.bin(1, "bob"));
    let late = world.websocket(2, "/ws", JSON);
    world.drain("maintenance");
    assert_eq!(world.heard(ann), ["goaway"]);
    assert_eq!(world.heard(bob), ["goaway"]);
    world.pass_ms(DRAIN_SETTLE_MS);
    assert_eq!(world.heard(ann), ["close 1001"]);
    assert_eq!(world.heard(bob), ["close 1001"]);
    assert!(world.heard(late).is_empty(), "its hello may be on the way");
    world.pass_ms(DRAIN_HELLO_MS);
    assert_eq!(world.heard(late), ["close 1001"]);
}

#[test]
fn lost_messages_are_told_as_a_gap() {
    for subprotocol in SUBPROTOCOLS {
        let mut world = World::with(|config| {
            config.limits.max_mail_staged = 2;
            config.limits.max_room_queue = 1_000;
        });
        let (speaker, ann) = (world.native(0, "speaker"), world.web(1, subprotocol, "ann"));
        world.say(ann, join(0, "attic"));
        world.stall(1);
        for _ in 0..20 {
            world.say(speaker, publish(0, "attic", "hi"));
        }
        world.go_on();
        let heard = world.heard(ann);
        let gaps = heard.iter().filter(|words| words.starts_with("gap in attic")).count();
        assert!(gaps > 0 && heard.len() < 20, "{heard:?}");
    }
}

#[test]
fn what_many_hear_is_compressed_for_those_who_agreed() {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    for subprotocol in SUBPROTOCOLS {
        let mut world = World::with(|config| config.web.deflate = true);
        let plain = world.web(0, subprotocol, "plain");
        let ann = world.browser(0);
        world.send(ann, upgrade("/ws", subprotocol, offer).as_bytes());
        let reply = world.switch(ann, subprotocol);
        let agreed = reply.field("Sec-WebSocket-Extensions").expect("it was offered");
        assert!(agreed.contains("server_no_context_takeover"), "{agreed}");
        world.say(ann, Request::Hello(hello("ann")));
        assert_eq!(world.heard(ann), ["welcome ann"], "said to one, and so not compressed");
        for member in [plain, ann] {
            world.say(member, join(0, "lobby"));
        }
        let body = "to be or not to be, ".repeat(20);
        for seq in 1..=3 {
            world.say(plain, publish_echo(0, "lobby", &body));
            let words = format!("[lobby {seq}] plain: {body}");
            assert_eq!(world.heard(ann), [format!("(deflated) {words}")]);
            assert_eq!(world.heard(plain), [words]);
        }
    }
}

#[test]
fn a_compressed_message_is_read_and_a_bomb_is_not() {
    use corebeat::wire::websocket::deflate::Deflater;
    let compressed = |payload: &[u8]| {
        let mut small = Vec::new();
        Deflater::default().deflate(payload, &mut small);
        let mut bytes = masked(Opcode::Text, &small);
        bytes[0] |= 0x40;
        bytes
    };
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let object = br#"{"op":"echo","body":"again and again and again and again"}"#;
    for (payload, heard) in [
        (&object[..], &["echo again and again and again and again"][..]),
        (&[b' '; 200_000], &["error 0: 413", "close 1009"]),
        (b"\"\xFF\"", &["error 0: 400", "close 1007"]),
    ] {
        let mut world = World::with(|config| config.web.deflate = true);
        let ann = world.browser(0);
        world.send(ann, upgrade("/ws", JSON, offer).as_bytes());
        world.switch(ann, JSON);
        world.say(ann, Request::Hello(hello("ann")));
        world.hush();
        let bytes = compressed(payload);
        world.send(ann, &bytes[..3]);
        world.send(ann, &bytes[3..]);
        assert_eq!(world.heard(ann), heard);
        if heard.len() == 2 {
            assert_eq!(world.fate(ann), Fate::HalfClosed);
        }
    }
    let mut world = World::new();
    let ann = world.json(0, "ann");
    world.send(ann, &compressed(object));
    assert_eq!(world.heard(ann), ["error 0: 400", "close 1002"], "it was not agreed on");
}

#[test]
fn a_frame_for_native_clients_is_the_payload_for_binary_ones() {
    let mut world = World::new();
    let (native_one, bin) = (world.native(0, "native"), world.bin(0, "bin"));
    for member in [native_one, bin] {
        world.say(member, join(0, "lobby"));
    }
    world.hush();
    world.say(native_one, publish_echo(0, "lobby", "hi"));
    let (frame, message) = (world.raw(native_one), world.raw(bin));
    assert_eq!(message[..2], [0x82, frame.len() as u8]);
    assert_eq!(message[2..], frame);
    assert!(native::frame(&frame, usize::MAX).is_ok());
}
