//! Frames that do not complete and readers that take nothing.

use corebeat::base::counters::CloseReason;
use corebeat::base::ids::{ConnId, NodeId, ShardId};
use corebeat::base::limits::{LINGER_MS, Limits};
use corebeat::base::time::{Mono, Now, TICK_MS};
use corebeat::chat::config::{ShardConfig, WebConfig};
use corebeat::chat::heartbeat::HeartbeatPolicy;
use corebeat::chat::shard::{Shard, Verdict};
use corebeat::wire::message::Request;
use corebeat::wire::websocket::Opcode;

use super::ear::{fragment, masked};
use super::speech::{frames, hello, join, ping, publish};
use super::world::{Client, Fate, World};

const FRAME_MS: u64 = 20_000;
const WRITE_MS: u64 = 10_000;

fn world() -> World {
    World::with(|config| {
        config.limits.frame_timeout_ms = FRAME_MS;
        config.limits.write_timeout_ms = WRITE_MS;
    })
}

#[test]
fn a_frame_that_does_not_complete_in_time_ends_its_connection() {
    let mut world = world();
    let ann = world.native(0, "ann");
    world.pass_ms(1_234);
    let bytes = frames(&[ping(1, 0), ping(2, 0)]);
    for byte in &bytes[..20] {
        world.send(ann, &[*byte]);
        world.pass_ms(900);
    }
    world.pass_ms(FRAME_MS - 20 * 900 - 1);
    assert_eq!(world.fate(ann), Fate::Open);
    world.pass_ms(1);
    assert_eq!(world.heard(ann), ["error 0: 408"]);
    world.pass_ms(2_100);
    assert_eq!(world.fate(ann), Fate::Closed(CloseReason::FrameTimeout));
    let again = world.comes_back(1, ann);
    assert_eq!(world.heard(again), ["resumed ann"], "it may have been its network");
}

#[test]
fn each_frame_has_the_whole_time() {
    let mut world = world();
    let ann = world.native(0, "ann");
    let bytes = frames(&[ping(1, 0), ping(2, 0), ping(3, 0), ping(4, 0)]);
    let size = bytes.len() / 4;
    // Each of these ends a frame and begins the next one.
    let mut before = 0;
    for end in [5, size + 5, 2 * size + 5, 3 * size + 5, 4 * size] {
        world.send(ann, &bytes[before..end]);
        before = end;
        world.pass_ms(FRAME_MS - 1);
        assert_eq!(world.fate(ann), Fate::Open, "up to {end}");
    }
    assert_eq!(world.heard(ann).iter().filter(|words| words.starts_with("pong")).count(), 4);
    world.pass_ms(FRAME_MS);
    assert_eq!(world.holdings()[0].waits, 0, "nobody is waited for");
}

#[test]
fn a_websocket_message_must_complete_too_whatever_comes_in_between() {
    let mut world = world();
    let ann = world.json(0, "ann");
    let mut bytes = fragment(Opcode::Text, br#"{"op":"#);
    bytes.extend(fragment(Opcode::Continuation, br#""who""#));
    for byte in &bytes {
        world.send(ann, &[*byte]);
        world.pass_ms(100);
    }
    world.send(ann, &masked(Opcode::Ping, b"alive"));
    world.pass_ms(FRAME_MS - 100 * bytes.len() as u64 - 1);
    assert_eq!(world.heard(ann), ["pong frame alive"]);
    // A message begins with its first byte behind the header.
    world.pass_ms(701);
    assert_eq!(world.heard(ann), ["error 0: 408", "close 4408"]);
    assert_eq!(world.counters().closed_for(CloseReason::FrameTimeout), 1);
}

#[test]
fn a_websocket_that_completes_its_messages_is_left_alone() {
    let mut world = world();
    let ann = world.json(0, "ann");
    for _ in 0..10 {
        world.send(ann, &fragment(Opcode::Text, br#"{"op":"pi"#));
        world.pass_ms(FRAME_MS - 1);
        world.send(ann, &masked(Opcode::Continuation, br#"ng"}"#));
        world.pass_ms(1);
    }
    assert_eq!(world.fate(ann), Fate::Open);
}

#[test]
fn a_long_message_to_an_echo_has_the_time_for_each_piece() {
    let mut world = world();
    let ann = world.websocket(0, "/echo", "");
    let whole = masked(Opcode::Binary, &[b'x'; 100]);
    for part in whole.chunks(20) {
        world.send(ann, part);
        world.pass_ms(FRAME_MS - 1);
        assert_eq!(world.fate(ann), Fate::Open);
    }
    world.send(ann, &whole[..50]);
    world.pass_ms(FRAME_MS);
    assert_ne!(world.fate(ann), Fate::Open);
}

#[test]
fn a_person_may_type_a_line_slowly() {
    let mut world = world();
    let ann = world.text(0, "ann");
    for byte in b"a long thought" {
        world.send(ann, &[*byte]);
        world.pass_ms(FRAME_MS - 1);
    }
    assert_eq!(world.fate(ann), Fate::Open);
}

#[test]
fn a_suspended_server_gives_frames_their_time_again() {
    let mut world = world();
    let ann = world.native(0, "ann");
    world.send(ann, &frames(&[ping(1, 0)])[..5]);
    world.suspend_ms(3_600_000);
    world.send(ann, &frames(&[ping(1, 0)])[5..]);
    assert_eq!(world.heard(ann).last().unwrap(), "pong 1 of 0");
    world.send(ann, &frames(&[ping(2, 0)])[..5]);
    world.suspend_ms(3_600_000);
    world.pass_ms(FRAME_MS - 1);
    assert_eq!(world.fate(ann), Fate::Open);
    world.pass_ms(1);
    assert_ne!(world.fate(ann), Fate::Open);
}

#[test]
fn a_frame_whose_rest_is_left_unread_here_is_not_held_against_anybody() {
    let mut world = World::with(|config| {
        config.limits.frame_timeout_ms = FRAME_MS;
        (config.limits.byte_rate, config.limits.byte_burst) = (1_000, 1_000);
    });
    let ann = world.native(0, "ann");
    let body = vec![b'x'; 50_000];
    world.send(ann, &frames(&[Request::Echo(&body), Request::Echo(&body)]));
    world.pass_ms(2 * FRAME_MS);
    assert!(!world.wants_input(ann));
    assert_eq!(world.fate(ann), Fate::Open);
    world.pass_ms(60_000);
    assert_eq!(world.heard(ann).iter().filter(|words| words.starts_with("echo")).count(), 2);
}

/// A member that reads nothing of what waits for it, while the heartbeat would let it live.
fn stuck(world: &mut World) -> Client {
    let (speaker, slow) = (world.native(0, "speaker"), world.native(1, "slow"));
    world.say(slow, join(0, "porch"));
    world.stops_reading(slow);
    world.say(speaker, publish(0, "porch", "hi"));
    slow
}

#[test]
fn a_reader_that_is_stuck_several_times_in_one_instant_has_the_whole_time() {
    let mut world = world();
    let (speaker, slow) = (world.native(0, "speaker"), world.native(1, "slow"));
    world.say(slow, join(0, "porch"));
    world.stops_reading(slow);
    world.say(speaker, publish(0, "porch", &"x".repeat(1_000)));
    for _ in 0..5 {
        world.reads(slow, 10);
    }
    world.pass_ms(WRITE_MS - 100);
    assert_eq!(world.fate(slow), Fate::Open);
    world.pass_ms(WRITE_MS);
    assert_eq!(world.counters().closed_for(CloseReason::StalledReader), 1);
}

#[test]
fn a_reader_that_takes_nothing_is_closed() {
    let mut world = world();
    let slow = stuck(&mut world);
    let mut passed_ms = 0;
    while world.fate(slow) == Fate::Open && passed_ms < 60_000 {
        world.pass_ms(1_000);
        // Its own frames are no sign that it reads.
        world.say(slow, Request::Pong(Default::default()));
        passed_ms += 1_000;
    }
    let latest_ms = WRITE_MS + WRITE_MS / 2 + LINGER_MS + 1_000;
    assert!((WRITE_MS..=latest_ms).contains(&passed_ms), "{passed_ms}");
    assert_eq!(world.counters().closed_for(CloseReason::StalledReader), 1);
}

#[test]
fn a_reader_that_was_closed_for_taking_nothing_can_learn_why() {
    let mut world = world();
    let slow = stuck(&mut world);
    while world.counters().closed_for(CloseReason::StalledReader) == 0 {
        world.pass_ms(1_000);
    }
    world.reads(slow, usize::MAX);
    assert_eq!(world.heard(slow).last().unwrap(), "error 0: 431");
}

#[test]
fn a_reader_that_takes_a_little_now_and_then_is_only_slow() {
    let mut world = world();
    let slow = stuck(&mut world);
    for _ in 0..20 {
        world.pass_ms(WRITE_MS - TICK_MS);
        assert_eq!(world.fate(slow), Fate::Open);
        world.say(slow, Request::Pong(Default::default()));
        world.reads(slow, 1);
    }
    world.reads(slow, usize::MAX);
    world.pass_ms(2 * WRITE_MS);
    assert_eq!(world.fate(slow), Fate::Open, "nothing waits any more");
}

#[test]
fn what_its_kernel_acknowledges_counts_as_taken_although_there_is_no_room() {
    let mut world = world();
    let slow = stuck(&mut world);
    for left in (1..=20).rev() {
        world.loses_last(slow, left * 1_000);
        world.pass_ms(WRITE_MS / 2);
        world.say(slow, Request::Pong(Default::default()));
        assert_eq!(world.fate(slow), Fate::Open, "the kernel's buffer empties slowly");
    }
    world.pass_ms(2 * WRITE_MS);
    assert_eq!(world.counters().closed_for(CloseReason::StalledReader), 1);
}

/// Many frames in halves leave no more entries than connections, whoever delays them.
#[test]
fn the_list_of_frames_is_bounded_by_the_connections() {
    let now = Now { mono: Mono(1_000), wall_ms: 1_790_000_000_000 };
    let config = ShardConfig {
        shard: ShardId(0),
        shards: 1,
        node: NodeId(1),
        limits: Limits { message_rate: 0, ..Limits::default() },
        heartbeat: HeartbeatPolicy::default(),
        seed: 1,
        secret: [1, 2],
        publish_everyone: true,
        overflow: Default::default(),
        durability: None,
        web: WebConfig::default(),
    };
    let mut shard = Shard::new(config, now);
    let [slow, busy] = [ConnId::new(0, 1), ConnId::new(1, 1)];
    for conn in [slow, busy] {
        shard.open(conn, now);
        shard.receive(conn, &frames(&[Request::Hello(hello("ann"))]), now);
    }
    shard.receive(slow, &frames(&[ping(0, 0)])[..3], now);
    let run = frames(&[ping(0, 0), ping(0, 0)]);
    let (head, tail) = run.split_at(30);
    for round in 0..10_000 {
        let now = now.plus_ms(round % 7);
        shard.receive(busy, head, now);
        shard.receive(busy, tail, now);
        assert!(shard.holdings().waits <= 2_000, "{}", shard.holdings().waits);
    }
    while let Some(verdict) = shard.poll_verdict() {
        assert!(matches!(verdict, Verdict::ProbeHost(_)), "{verdict:?}");
    }
}
