//! Readers that are slow or do not read at all.

use corebeat::base::counters::CloseReason;
use corebeat::base::limits::LINGER_MS;
use corebeat::wire::message::Request;

use super::speech::{frames, join, join_notify, publish, who};
use super::world::{Client, Fate, ROOMS, World};

const MAX_OUTBOUND: usize = 64 << 10;

fn small_outboxes() -> World {
    World::with(|config| config.limits.max_outbound = MAX_OUTBOUND)
}

/// Says `count` kibibytes in a room, one message each turn.
fn talk(world: &mut World, speaker: Client, room: &str, count: usize) {
    let body = "x".repeat(1_000);
    for _ in 0..count {
        world.say(speaker, publish(0, room, &body));
    }
}

#[test]
fn a_slow_reader_is_told_431_and_closed_and_nobody_else_notices() {
    for room in ROOMS {
        let mut world = small_outboxes();
        let speaker = world.native(0, "speaker");
        let slow = world.native(1, "slow");
        let typist = world.text(1, "typist");
        let brisk = world.native(1, "brisk");
        for member in [slow, brisk] {
            world.say(member, join(0, room));
        }
        world.types(typist, &format!("/join {room}"));
        world.hush();
        world.stops_reading(slow);
        talk(&mut world, speaker, room, 60);
        assert_eq!(world.fate(slow), Fate::Open, "what fits is kept for it");
        talk(&mut world, speaker, room, 20);
        assert_eq!(world.counters().closed_for(CloseReason::SlowReader), 1);
        world.reads(slow, usize::MAX);
        let heard = world.heard(slow);
        assert_eq!(heard.last().unwrap(), "error 0: 431", "the last word, on a whole frame");
        assert_eq!(world.fate(slow), Fate::HalfClosed);
        talk(&mut world, speaker, room, 20);
        assert!(world.heard(slow).is_empty());
        let count = |world: &mut World, client| world.heard(client).len();
        assert_eq!(count(&mut world, brisk), 100);
        assert!(world.heard(typist).iter().filter(|line| line.starts_with('[')).count() == 100);
        world.pass_ms(3_000);
        world.say(brisk, who(1, room));
        assert_eq!(world.heard(brisk), ["roster 1 of 2: brisk typist"]);
    }
}

#[test]
fn a_slow_reader_in_the_middle_of_a_frame_gets_the_rest_of_it_before_the_last_word() {
    let mut world = small_outboxes();
    let (speaker, slow) = (world.native(0, "speaker"), world.native(1, "slow"));
    world.say(slow, join(0, "porch"));
    world.reads(slow, 500);
    talk(&mut world, speaker, "porch", 80);
    world.reads(slow, usize::MAX);
    let heard = world.heard(slow);
    assert_eq!(heard.len(), 2);
    assert!(heard[0].starts_with("[porch 1] speaker: "));
    assert_eq!(heard[1], "error 0: 431");
}

#[test]
fn whoever_overflows_several_times_in_one_turn_still_gets_its_last_word() {
    for room in ROOMS {
        let mut world = World::with(|config| config.limits.max_outbound = 16 << 10);
        let (speaker, slow) = (world.native(0, "speaker"), world.native(1, "slow"));
        world.say(slow, join_notify(0, room));
        world.stops_reading(slow);
        let body = "x".repeat(30_000);
        // Presence between messages ends a batch, so that there are three pieces of news at once.
        let all = [publish(0, room, &body), join(0, room), publish(0, room, &body)];
        world.send(speaker, &frames(&all));
        world.reads(slow, usize::MAX);
        assert_eq!(world.heard(slow), ["error 0: 431"]);
        assert_eq!(world.fate(slow), Fate::HalfClosed);
        assert_eq!(world.counters().closed_for(CloseReason::SlowReader), 1);
    }
}

#[test]
fn a_slow_reader_that_never_reads_is_dropped() {
    let mut world = small_outboxes();
    let (speaker, slow) = (world.native(0, "speaker"), world.native(0, "slow"));
    world.say(slow, join(0, "attic"));
    world.stops_reading(slow);
    talk(&mut world, speaker, "attic", 80);
    world.pass_ms(LINGER_MS + 100);
    assert_eq!(world.fate(slow), Fate::Closed(CloseReason::SlowReader));
}

#[test]
fn whoever_asks_faster_than_it_reads_is_not_read_until_it_has_read() {
    let mut world = small_outboxes();
    let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
    world.say(bob, join(0, "lobby"));
    world.stops_reading(ann);
    let body = vec![b'x'; 1_000];
    let mut asked = vec![Request::Echo(&body); 100];
    asked.push(publish(1, "lobby", "all was asked"));
    world.send(ann, &frames(&asked));
    assert!(!world.wants_input(ann), "its requests stay where they are");
    assert!(world.heard(bob).is_empty());
    assert_eq!(world.fate(ann), Fate::Open, "it is slowed down, not closed");
    let mut answers = 0;
    while !world.wants_input(ann) {
        world.reads(ann, 10_080);
        answers += world.heard_whole(ann).len();
        assert!(answers <= 100);
    }
    assert!(answers > 10, "it goes on once most is read, and not before: {answers}");
    world.reads(ann, usize::MAX);
    answers += world.heard(ann).len();
    assert_eq!(answers, 101, "every request was done once");
    assert_eq!(world.heard(bob), ["[lobby 1] ann: all was asked"]);
}

#[test]
fn reading_is_the_life_of_a_paused_connection() {
    let mut world = small_outboxes();
    let ann = world.native(0, "ann");
    world.stops_reading(ann);
    let body = vec![b'x'; 1_000];
    world.send(ann, &frames(&vec![Request::Echo(&body); 60]));
    assert!(!world.wants_input(ann));
    for _ in 0..10 {
        world.pass_ms(80_000);
        assert_eq!(world.fate(ann), Fate::Open);
        world.reads(ann, 100);
        assert!(!world.wants_input(ann));
    }
    world.pass_ms(91_000);
    assert_eq!(world.counters().closed_for(CloseReason::SlowReader), 1, "it stopped reading");
    world.reads(ann, usize::MAX);
    assert_eq!(world.heard(ann).last().unwrap(), "error 0: 431");
}

#[test]
fn what_was_asked_before_a_half_close_is_answered_even_if_reading_was_paused() {
    let mut world = small_outboxes();
    let ann = world.native(0, "ann");
    world.stops_reading(ann);
    let body = vec![b'x'; 1_000];
    world.send_and_half_close(ann, &frames(&vec![Request::Echo(&body); 200]));
    assert!(!world.wants_input(ann));
    world.reads(ann, usize::MAX);
    assert_eq!(world.heard(ann).len(), 200);
    assert_eq!(world.fate(ann), Fate::Closed(CloseReason::PeerClosed));
}

/// The bytes that a reader takes before it meets the first PING.
fn bytes_before_ping(world: &mut World, client: Client) -> usize {
    world.pass_ms(31_000);
    world.raw(client);
    let mut bytes = 0;
    loop {
        world.reads(client, 1_000);
        if world.heard_whole(client).iter().any(|words| words == "ping") {
            return bytes;
        }
        bytes += 1_000;
        assert!(bytes < 2 * MAX_OUTBOUND, "no ping at all");
    }
}

#[test]
fn a_ping_overtakes_the_messages_that_wait() {
    let mut world = small_outboxes();
    let (speaker, slow) = (world.native(0, "speaker"), world.native(1, "slow"));
    world.say(slow, join(0, "porch"));
    world.reads(slow, 500);
    talk(&mut world, speaker, "porch", 60);
    assert!(bytes_before_ping(&mut world, slow) < 3_000);
}

#[test]
fn a_ping_overtakes_the_answers_that_wait() {
    let mut world = small_outboxes();
    let ann = world.native(0, "ann");
    world.reads(ann, 500);
    let body = vec![b'x'; 1_000];
    world.send(ann, &frames(&vec![Request::Echo(&body); 30]));
    assert!(bytes_before_ping(&mut world, ann) < 5_000);
}

#[test]
fn pongs_keep_their_order_ahead_of_data() {
    let mut world = small_outboxes();
    let (speaker, ann) = (world.native(0, "speaker"), world.native(1, "ann"));
    world.say(ann, join(0, "porch"));
    world.hush();
    world.stops_reading(ann);
    talk(&mut world, speaker, "porch", 5);
    for number in 1..=4 {
        world.say(ann, super::speech::ping(number, 0));
    }
    world.reads(ann, usize::MAX);
    let mut heard = world.heard(ann);
    assert!(heard[4].starts_with("pong 4"), "ahead of the other messages: {heard:?}");
    heard.retain(|words| words.starts_with("pong"));
    assert_eq!(heard, [1, 2, 3, 4].map(|number| format!("pong {number} of 0")));
}
