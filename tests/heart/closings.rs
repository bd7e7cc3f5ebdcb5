//! What is known of a connection when its end is decided.

use corebeat::base::counters::CloseReason;
use corebeat::base::pressure::{Level, Pressure};
use corebeat::chat::closing::Speech;
use corebeat::chat::heartbeat::HeartbeatPolicy;
use corebeat::wire::message::{Hello, Request};

use super::ear::{BIN, JSON};
use super::speech::{frame, frames, hello, join, publish};
use super::world::{Client, World};

/// Asserts what is known of `client`, whose connection ends.
fn expect(world: &World, client: Client, reason: CloseReason, speech: Speech, user: Option<&str>) {
    let closing = world.closing(client);
    assert_eq!((closing.reason, closing.speech), (reason, speech));
    assert_eq!(closing.user.as_deref(), user, "{reason:?}");
}

#[test]
fn each_way_to_end_has_its_reason_what_was_spoken_and_who_it_was() {
    let mut world = World::new();
    let names = ["bye", "end", "broken", "large", "lost", "back"];
    let [bye, end, broken, large, lost, back] = names.map(|name| world.native(0, name));
    let mute = world.connect(0);
    let tls = world.connect(0);
    let (quits, browser) = (world.text(0, "quits"), world.browser(0));
    let (json, bin) = (world.json(0, "json"), world.bin(0, "bin"));
    let echo = world.websocket(0, "/echo", "");
    let nameless = world.connect(0);

    world.say(bye, Request::Bye { code: 0, reason: "" });
    world.half_closes(end);
    world.send(broken, &frame(0xEE, 0x4000, b"no such flag"));
    world.send(large, &frame(1, 0, &[0; 70_000]));
    world.vanishes(lost);
    let second = world.comes_back(1, back);
    world.send(tls, b"\x16\x03\x01\x02\x00");
    world.types(quits, "/quit");
    world.send(browser, b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    world.vanishes(json);
    world.vanishes(bin);
    world.vanishes(echo);
    world.send(nameless, &frames(&[Request::Hello(hello("with space"))]));
    world.pass_ms(60_000);

    expect(&world, bye, CloseReason::Bye, Speech::Native, Some("bye"));
    expect(&world, end, CloseReason::PeerClosed, Speech::Native, Some("end"));
    expect(&world, broken, CloseReason::Malformed, Speech::Native, Some("broken"));
    expect(&world, large, CloseReason::TooLarge, Speech::Native, Some("large"));
    expect(&world, lost, CloseReason::SocketError, Speech::Native, Some("lost"));
    expect(&world, back, CloseReason::Superseded, Speech::Native, Some("back"));
    expect(&world, mute, CloseReason::HandshakeTimeout, Speech::Nothing, None);
    expect(&world, tls, CloseReason::UnservedDialect, Speech::Nothing, None);
    expect(&world, quits, CloseReason::Bye, Speech::Text, Some("quits"));
    expect(&world, browser, CloseReason::Served, Speech::Http, None);
    expect(&world, json, CloseReason::SocketError, Speech::Json, Some("json"));
    expect(&world, bin, CloseReason::SocketError, Speech::Bin, Some("bin"));
    expect(&world, echo, CloseReason::SocketError, Speech::Echo, None);
    expect(&world, nameless, CloseReason::Refused, Speech::Native, None);

    let typist = world.text(2, "typist");
    world.pass_ms(301_000);
    expect(&world, typist, CloseReason::TextIdle, Speech::Text, Some("typist"));
    expect(&world, second, CloseReason::HeartbeatTimeout, Speech::Native, Some("back"));
    let last = world.native(0, "last");
    world.drain("maintenance");
    world.pass_ms(5_000);
    expect(&world, last, CloseReason::Draining, Speech::Native, Some("last"));
}

#[test]
fn who_is_not_let_in_is_known_by_the_name_that_it_wanted() {
    let mut world = World::with(|config| config.limits.max_sessions_per_user = 1);
    world.native(0, "ann");
    for (strained, reason) in [(false, CloseReason::OverLimit), (true, CloseReason::Overloaded)] {
        let memory = if strained { Level::Strained } else { Level::Calm };
        world.presses(Pressure { memory, ..Pressure::default() });
        let native = world.greet(1, hello("ann"));
        let [json, bin] = [JSON, BIN].map(|speech| world.websocket(2, "/ws", speech));
        world.say(json, Request::Hello(hello("ann")));
        world.say(bin, Request::Hello(hello("ann")));
        let text = world.text_connection(0);
        world.types(text, "/nick ann");
        let speeches = [Speech::Native, Speech::Json, Speech::Bin, Speech::Text];
        for (client, speech) in [native, json, bin, text].into_iter().zip(speeches) {
            expect(&world, client, reason, speech, Some("ann"));
        }
    }
    world.pass_ms(1_000);
    let again = world.greet(1, hello(""));
    expect(&world, again, CloseReason::Overloaded, Speech::Native, None);
}

#[test]
fn silence_counts_from_the_last_whole_frame_to_the_decision() {
    let mut world = World::new();
    let (ann, bob) = (world.native(0, "ann"), world.native(0, "bob"));
    world.say(ann, Request::Echo(b"here"));
    world.pass_ms(4_000);
    world.send(ann, &frame(1, 0, b"half of it")[..9]);
    world.pass_ms(1_000);
    world.vanishes(ann);
    assert_eq!(world.closing(ann).silent_ms, 5_000);
    world.pass_ms(200_000);
    let silent_ms = world.closing(bob).silent_ms;
    assert!((90_000..=90_100).contains(&silent_ms), "{silent_ms}");
}

#[test]
fn the_queue_is_what_waited_before_it_was_cut() {
    let mut world = World::with(|config| config.limits.max_outbound = 64 << 10);
    let (speaker, slow) = (world.native(0, "speaker"), world.native(1, "slow"));
    let lost = world.native(1, "lost");
    for member in [slow, lost] {
        world.say(member, join(0, "porch"));
    }
    world.stops_reading(slow);
    world.stops_reading(lost);
    let body = "x".repeat(1_000);
    for _ in 0..20 {
        world.say(speaker, publish(0, "porch", &body));
    }
    world.vanishes(lost);
    let queued = world.closing(lost).queued;
    assert!((20_000..22_000).contains(&queued), "{queued}");
    for _ in 0..60 {
        world.say(speaker, publish(0, "porch", &body));
    }
    let queued = world.closing(slow).queued;
    assert!(queued > 64 << 10, "{queued}");
    assert_eq!(world.closing(slow).reason, CloseReason::SlowReader);
    world.vanishes(speaker);
    assert_eq!(world.closing(speaker).queued, 0);
}

#[test]
fn the_round_trip_is_known_where_heartbeats_adapt() {
    for (stretch, known) in [(1, false), (4, true)] {
        let mut world = World::with(|config| config.heartbeat.stretch = stretch);
        let ann = world.native(0, "ann");
        world.answers_pings(ann);
        world.pass_ms(40_000);
        world.vanishes(ann);
        assert_eq!(world.closing(ann).heartbeat_ms.is_some(), known);
    }
}

#[test]
fn the_kernel_is_told_of_a_heartbeat_that_is_not_the_servers_own() {
    let policy = HeartbeatPolicy::default();
    let mut world = World::new();
    let usual = world.native(0, "usual");
    let asking = |heartbeat_s| Hello { heartbeat_s, ..hello("quick") };
    let same = world.greet(0, asking(policy.interval_s));
    let quick = world.greet(0, asking(10));
    let typist = world.text(0, "typist");
    assert_eq!([usual, same, typist].map(|client| world.patience_s(client)), [None; 3]);
    assert_eq!(world.patience_s(quick), Some(30), "the granted timeout");
}
