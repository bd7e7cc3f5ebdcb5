//! Members that do not read, in rooms whose messages may be dropped: which are, and how it is told.

use std::sync::Arc;

use corebeat::base::counters::CloseReason;
use corebeat::base::limits::NOTICE_BYTES;
use corebeat::chat::config::ShardConfig;
use corebeat::chat::overflow::{Overflow, OverflowPolicies};
use corebeat::wire::message::Request;

use super::speech::{
    direct, frames, hello, join, join_notify, join_since, leave, ping, publish, who,
};
use super::world::{Client, Fate, ROOMS, World};

const MAX_OUTBOUND: usize = 64 << 10;
/// Messages of a kibibyte, more than three outboxes full.
const MANY: u64 = 220;

/// A world with small outboxes, where all rooms have one policy.
fn world_of(overflow: Overflow) -> World {
    world_with(OverflowPolicies::new(overflow), |_| ())
}

fn world_with(policies: OverflowPolicies, change: impl Fn(&mut ShardConfig)) -> World {
    let policies = Arc::new(policies);
    World::with(|config| {
        config.limits.max_outbound = MAX_OUTBOUND;
        config.overflow = Arc::clone(&policies);
        config.web.deflate = true;
        change(config);
    })
}

/// The dialects that a member can be told a gap in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    Native,
    NativeCrc,
    Text,
    Json,
    Bin,
}

const SPEECHES: [Speech; 5] =
    [Speech::Native, Speech::NativeCrc, Speech::Text, Speech::Json, Speech::Bin];

/// A member of a room that hears nothing else and has heard nothing yet.
fn member(world: &mut World, speech: Speech, room: &str) -> Client {
    let client = match speech {
        Speech::Native => world.native(1, "slow"),
        Speech::NativeCrc => {
            let client =
                world.greet(1, corebeat::wire::message::Hello { crc: true, ..hello("slow") });
            world.hush();
            client
        }
        Speech::Text => world.text(1, "slow"),
        Speech::Json => world.json(1, "slow"),
        Speech::Bin => world.bin(1, "slow"),
    };
    if speech == Speech::Text {
        world.types(client, &format!("/join {room}"));
    } else {
        world.say(client, join(0, room));
    }
    world.hush();
    client
}

/// Says the messages `numbers` in a room, one each turn.
fn count(world: &mut World, speaker: Client, room: &str, numbers: std::ops::RangeInclusive<u64>) {
    let rest = "x".repeat(1_000);
    for number in numbers {
        world.say(speaker, publish(0, room, &format!("{number} {rest}")));
    }
}

/// What a member was told of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Message(u64),
    Gap(u64, u64),
}

/// Reads messages that say their own numbers, and gaps, in any dialect.
fn told(heard: &[String], room: &str) -> Vec<Told> {
    let number = |text: &str| text.parse::<u64>().unwrap();
    let read = |words: &String| {
        let words = words.strip_prefix("(deflated) ").unwrap_or(words);
        if let Some(rest) = words.strip_prefix(&format!("[{room}")) {
            let body = rest.split_once(": ").unwrap().1;
            return Some(Told::Message(number(body.split(' ').next().unwrap())));
        }
        let of_room = format!(" of {room} w");
        let range = match words.strip_prefix(&format!("gap in {room}: ")) {
            Some(range) => range,
            None if words.contains(&of_room) => words.split_once(" to you: ").unwrap().1,
            None => return None,
        };
        let (from, to) = range.split_once(" to ").unwrap_or((range, range));
        Some(Told::Gap(number(from), number(to)))
    };
    heard.iter().filter_map(read).collect()
}

/// Asserts that messages and gaps follow one another without a hole, from `first` to `last`.
fn assert_whole(told: &[Told], first: u64, last: u64) {
    let mut next = first;
    for item in told {
        let (from, to) = match *item {
            Told::Message(number) => (number, number),
            Told::Gap(from, to) => (from, to),
        };
        assert!(from == next && to >= from, "{item:?} where {next} was due: {told:?}");
        next = to + 1;
    }
    assert_eq!(next, last + 1, "{told:?}");
}

fn gaps(told: &[Told]) -> Vec<(u64, u64)> {
    let gap = |item: &Told| match *item {
        Told::Gap(from, to) => Some((from, to)),
        Told::Message(_) => None,
    };
    told.iter().filter_map(gap).collect()
}

/// What a member is told that read nothing while `MANY` messages were said.
fn overflowed(overflow: Overflow, speech: Speech, room: &str) -> (World, Client, Client) {
    let mut world = world_of(overflow);
    let speaker = world.native(0, "speaker");
    let slow = member(&mut world, speech, room);
    world.raw(slow);
    world.stops_reading(slow);
    count(&mut world, speaker, room, 1..=MANY);
    assert_eq!(world.fate(slow), Fate::Open);
    world.reads(slow, usize::MAX);
    (world, speaker, slow)
}

#[test]
fn the_oldest_give_way_and_are_named_in_every_dialect() {
    for speech in SPEECHES {
        for room in ROOMS {
            let (mut world, speaker, slow) = overflowed(Overflow::DropOldest, speech, room);
            let bytes = world.raw(slow).len();
            assert!(bytes <= MAX_OUTBOUND && bytes > MAX_OUTBOUND / 2, "{bytes} waited");
            let told = told(&world.heard(slow), room);
            assert_whole(&told, 1, MANY);
            let Told::Gap(1, to) = told[0] else {
                panic!("the gap comes first: {told:?}");
            };
            assert_eq!(gaps(&told).len(), 1, "{speech:?}: {told:?}");
            assert_eq!(world.counters().overflow_drop_oldest, to);
            count(&mut world, speaker, room, MANY + 1..=MANY + 1);
            assert_eq!(self::told(&world.heard(slow), room), [Told::Message(MANY + 1)]);
        }
    }
}

#[test]
fn the_newest_give_way_and_are_named_in_every_dialect() {
    for speech in SPEECHES {
        let (mut world, speaker, slow) = overflowed(Overflow::DropNewest, speech, "porch");
        count(&mut world, speaker, "porch", MANY + 1..=MANY + 1);
        let bytes = world.raw(slow).len();
        assert!(bytes <= MAX_OUTBOUND + 2_000 && bytes > MAX_OUTBOUND / 2, "{bytes} waited");
        let told = told(&world.heard(slow), "porch");
        assert_whole(&told, 1, MANY + 1);
        let gaps = gaps(&told);
        assert_eq!(gaps.len(), 1, "{speech:?}: {told:?}");
        assert!(gaps[0].0 > 50, "what waited is kept: {gaps:?}");
        assert!(gaps[0].1 >= MANY - 1, "at most one had room behind it: {gaps:?}");
        assert_eq!(world.counters().overflow_drop_newest, gaps[0].1 - gaps[0].0 + 1);
    }
}

#[test]
fn all_but_the_latest_give_way_and_are_named_in_every_dialect() {
    for speech in SPEECHES {
        let mut world = world_of(Overflow::LatestOnly);
        let speaker = world.native(0, "speaker");
        let slow = member(&mut world, speech, "lobby");
        world.stops_reading(slow);
        let mut last = 0;
        while world.counters().overflow_latest_only == 0 {
            last += 1;
            count(&mut world, speaker, "lobby", last..=last);
        }
        assert_eq!(world.counters().overflow_latest_only, last - 1);
        world.reads(slow, usize::MAX);
        let told = told(&world.heard(slow), "lobby");
        assert_eq!(told, [Told::Gap(1, last - 1), Told::Message(last)], "{speech:?}");
    }
}

#[test]
fn whatever_was_begun_is_sent_to_its_end_before_the_gap() {
    for overflow in [Overflow::DropOldest, Overflow::LatestOnly] {
        for bytes in [1, 500, 1_037, 1_500, 3_000] {
            let mut world = world_of(overflow);
            let speaker = world.native(0, "speaker");
            let slow = member(&mut world, Speech::Native, "attic");
            world.reads(slow, bytes);
            count(&mut world, speaker, "attic", 1..=MANY);
            world.reads(slow, usize::MAX);
            let told = told(&world.heard(slow), "attic");
            assert_whole(&told, 1, MANY);
            assert_eq!(told[0], Told::Message(1));
            assert_eq!(gaps(&told).len(), 1, "{told:?}");
        }
    }
}

#[test]
fn a_batch_gives_way_message_by_message() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::LatestOnly] {
        let mut world = world_of(overflow);
        let speaker = world.native(0, "speaker");
        let slow = member(&mut world, Speech::Native, "attic");
        world.reads(slow, 300);
        let rest = "x".repeat(500);
        let bodies: Vec<String> = (1..=400).map(|number| format!("{number} {rest}")).collect();
        for forty in bodies.chunks(40) {
            let all: Vec<_> = forty.iter().map(|body| publish(0, "attic", body)).collect();
            world.send(speaker, &frames(&all));
        }
        world.reads(slow, usize::MAX);
        let told = told(&world.heard(slow), "attic");
        assert_whole(&told, 1, 400);
        assert_eq!(told[0], Told::Message(1), "it was begun");
        assert_eq!(gaps(&told).len(), 1, "{overflow:?}: {told:?}");
    }
}

/// Policies for the three rooms, in their order.
fn three(policies: [Overflow; 3]) -> OverflowPolicies {
    let mut all = OverflowPolicies::default();
    for (room, overflow) in ROOMS.into_iter().zip(policies) {
        all.set(room, overflow);
    }
    all
}

#[test]
fn each_room_has_its_own_gap_where_several_overflow_together() {
    let policies = three([Overflow::DropOldest, Overflow::DropNewest, Overflow::LatestOnly]);
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut world = world_with(policies.clone(), |_| ());
        let speaker = world.native(0, "speaker");
        let slow = world.native(2, "slow");
        for room in ROOMS {
            world.say(slow, join(0, room));
        }
        world.stops_reading(slow);
        for number in 1..=MANY {
            for room in order {
                count(&mut world, speaker, ROOMS[room], number..=number);
            }
        }
        assert_eq!(world.fate(slow), Fate::Open);
        world.reads(slow, usize::MAX);
        let heard = world.heard(slow);
        for room in ROOMS {
            let told = told(&heard, room);
            assert_whole(&told, 1, MANY);
            // Where others make room the newest have some again, and are told again.
            let most = if room == "porch" { 20 } else { 1 };
            assert!((1..=most).contains(&gaps(&told).len()), "{room}: {told:?}");
        }
        let is_kept = |room| told(&heard, room).contains(&Told::Message(MANY));
        assert!(is_kept("attic") && is_kept("lobby"));
    }
}

#[test]
fn who_does_not_read_is_closed_when_what_may_not_be_dropped_is_too_much() {
    let mut world = world_with(
        three([Overflow::DropOldest, Overflow::Disconnect, Overflow::DropNewest]),
        |_| (),
    );
    let speaker = world.native(0, "speaker");
    let slow = world.native(1, "slow");
    for room in ROOMS {
        world.say(slow, join(0, room));
    }
    world.stops_reading(slow);
    count(&mut world, speaker, "attic", 1..=MANY);
    count(&mut world, speaker, "lobby", 1..=MANY);
    count(&mut world, speaker, "porch", 1..=60);
    assert_eq!(world.fate(slow), Fate::Open, "the others gave way to what may not be dropped");
    count(&mut world, speaker, "porch", 61..=70);
    assert_eq!(world.counters().closed_for(CloseReason::SlowReader), 1);
    assert_eq!(world.counters().overflow_disconnect, 1);
    world.reads(slow, usize::MAX);
    assert_eq!(world.heard(slow).last().unwrap(), "error 0: 431");
}

#[test]
fn direct_messages_are_not_dropped_by_the_policy_of_a_room() {
    let mut world = world_of(Overflow::DropOldest);
    let speaker = world.native(0, "speaker");
    let slow = member(&mut world, Speech::Native, "attic");
    world.stops_reading(slow);
    count(&mut world, speaker, "attic", 1..=MANY);
    let body = "x".repeat(1_000);
    for _ in 0..60 {
        world.say(speaker, direct(0, "slow", &body));
    }
    assert_eq!(world.fate(slow), Fate::Open);
    for _ in 0..10 {
        world.say(speaker, direct(0, "slow", &body));
    }
    assert_eq!(world.counters().closed_for(CloseReason::SlowReader), 1);
}

#[test]
fn ones_own_messages_are_no_loss() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::LatestOnly] {
        let mut world = world_of(overflow);
        let speaker = world.native(0, "speaker");
        let slow = member(&mut world, Speech::Native, "attic");
        world.stops_reading(slow);
        let own = [4, 5, 9];
        for number in 1..=MANY {
            let who = if own.contains(&number) { slow } else { speaker };
            count(&mut world, who, "attic", number..=number);
        }
        world.reads(slow, usize::MAX);
        let mut told = told(&world.heard(slow), "attic");
        for number in own {
            let is_named = |gap: &(u64, u64)| (gap.0..=gap.1).contains(&number);
            assert!(!gaps(&told).iter().any(is_named), "{number} is not missing: {told:?}");
            let behind = told.iter().position(|item| match *item {
                Told::Message(other) => other > number,
                Told::Gap(from, _) => from > number,
            });
            told.insert(behind.unwrap(), Told::Message(number));
        }
        assert_whole(&told, 1, MANY);
    }
}

#[test]
fn answers_stay_between_the_messages_that_they_stand_between() {
    // Also where the second stay begins with the message behind the last of the first one.
    for said_between in [0, 10] {
        let mut world = world_of(Overflow::DropOldest);
        let speaker = world.native(0, "speaker");
        let slow = member(&mut world, Speech::Native, "porch");
        world.stops_reading(slow);
        count(&mut world, speaker, "porch", 1..=10);
        world.say(slow, leave(1, "porch"));
        let head = 10 + said_between;
        count(&mut world, speaker, "porch", 11..=head);
        world.say(slow, join(2, "porch"));
        count(&mut world, speaker, "porch", head + 1..=MANY);
        world.reads(slow, usize::MAX);
        let heard = world.heard(slow);
        let joined = format!("ok 2: {head}");
        assert_eq!(heard[..3], ["gap in porch: 1 to 10", "ok 1: 0", &joined]);
        let told = told(&heard[3..], "porch");
        assert!(matches!(told[0], Told::Gap(first, _) if first == head + 1), "{told:?}");
        assert_whole(&told, head + 1, MANY);
    }
}

#[test]
fn comings_and_goings_that_were_dropped_give_way_to_the_total() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::LatestOnly] {
        let mut world = world_of(overflow);
        let speaker = world.native(0, "speaker");
        let slow = world.native(1, "slow");
        world.say(slow, join_notify(0, "lobby"));
        world.hush();
        world.stops_reading(slow);
        for number in 0..MANY / 2 {
            world.say(speaker, join(0, "lobby"));
            count(&mut world, speaker, "lobby", 2 * number + 1..=2 * number + 2);
            world.say(speaker, leave(0, "lobby"));
        }
        world.say(speaker, join(0, "lobby"));
        world.reads(slow, usize::MAX);
        let heard = world.heard(slow);
        assert_whole(&told(&heard, "lobby"), 1, MANY);
        let folded = world.counters().presence_folded;
        let single = heard.iter().filter(|words| words.starts_with("speaker ")).count() as u64;
        assert_eq!(single + folded, MANY + 1, "{overflow:?}");
        assert!(folded > 10);
        let totals = |words: &&String| words.contains("lobby") && !words.starts_with('[');
        let last = heard.iter().rfind(totals).unwrap();
        assert!(last.contains('2'), "the last word is what is: {last}");
    }
}

#[test]
fn what_was_asked_for_of_the_past_is_not_dropped() {
    let mut world = world_of(Overflow::DropOldest);
    let speaker = world.native(0, "speaker");
    count(&mut world, speaker, "attic", 1..=12);
    let slow = world.native(1, "slow");
    world.stops_reading(slow);
    world.say(slow, join_since(1, "attic", 9, 1));
    count(&mut world, speaker, "attic", 13..=MANY);
    world.reads(slow, usize::MAX);
    let heard = world.heard(slow);
    let again: Vec<&String> = heard.iter().filter(|words| words.starts_with("again ")).collect();
    assert_eq!(heard.iter().position(|words| words.starts_with("ok 1")), Some(0));
    assert!(again.len() >= 11, "{}", again.len());
}

#[test]
fn everybody_is_told_what_everybody_missed() {
    let mut policies = OverflowPolicies::default();
    policies.set("*", Overflow::DropOldest);
    let mut world = world_with(policies, |_| ());
    let (speaker, slow) = (world.native(0, "speaker"), world.native(1, "slow"));
    world.stops_reading(slow);
    count(&mut world, speaker, "*", 1..=MANY);
    world.reads(slow, usize::MAX);
    let told = told(&world.heard(slow), "*");
    assert_whole(&told, 1, MANY);
    assert_eq!(gaps(&told).len(), 1);
}

/// A session of a room in which the oldest give way, which was told a gap and read it.
fn told_of_a_gap() -> (World, Client, Client) {
    let mut world = world_of(Overflow::DropOldest);
    let speaker = world.native(0, "speaker");
    let slow = member(&mut world, Speech::Native, "attic");
    world.stops_reading(slow);
    count(&mut world, speaker, "attic", 1..=MANY);
    world.reads(slow, usize::MAX);
    assert_whole(&told(&world.heard(slow), "attic"), 1, MANY);
    (world, speaker, slow)
}

#[test]
fn a_gap_that_was_told_is_not_told_again_to_a_session_that_goes_on() {
    let (mut world, speaker, slow) = told_of_a_gap();
    world.vanishes(slow);
    let back = world.comes_back(2, slow);
    count(&mut world, speaker, "attic", MANY + 1..=MANY + 1);
    let heard = world.heard(back);
    assert_eq!(heard[0], "resumed slow");
    assert_eq!(told(&heard, "attic"), [Told::Message(MANY + 1)]);
}

#[test]
fn a_gap_that_was_lost_with_the_connection_is_made_good() {
    let mut world = world_of(Overflow::DropOldest);
    let speaker = world.native(0, "speaker");
    let slow = member(&mut world, Speech::Native, "attic");
    world.reads(slow, 2_500);
    count(&mut world, speaker, "attic", 1..=MANY);
    world.heard_whole(slow);
    world.loses_last(slow, 100);
    world.vanishes(slow);
    let back = world.comes_back(2, slow);
    let heard: Vec<String> =
        world.heard(back).iter().map(|words| words.replace("again ", "")).collect();
    let told = told(&heard, "attic");
    assert_eq!(gaps(&told), [], "all of it is still kept");
    let Told::Message(first) = told[0] else { panic!("{told:?}") };
    assert!(first <= 3, "what may not have arrived comes again: {first}");
    assert_whole(&told, first, MANY);
}

#[test]
fn the_same_gap_is_not_left_when_room_was_made_many_times() {
    let mut world = world_of(Overflow::DropNewest);
    let speaker = world.native(0, "speaker");
    let slow = member(&mut world, Speech::Json, "attic");
    world.stops_reading(slow);
    count(&mut world, speaker, "attic", 1..=100);
    let mut heard = Vec::new();
    for round in 0..20 {
        world.reads(slow, 3_000);
        heard.extend(world.heard_whole(slow));
        let first = 101 + 10 * round;
        count(&mut world, speaker, "attic", first..=first + 9);
    }
    world.reads(slow, usize::MAX);
    heard.extend(world.heard(slow));
    let told = told(&heard, "attic");
    assert_whole(&told, 1, 300);
    assert!(gaps(&told).len() > 5, "room came and went: {told:?}");
}

#[test]
fn errors_and_heartbeats_come_behind_the_next_frame_of_a_batch() {
    let mut world = world_of(Overflow::DropOldest);
    let speaker = world.native(0, "speaker");
    let slow = member(&mut world, Speech::Native, "attic");
    world.reads(slow, 300);
    let body = "x".repeat(500);
    world.send(speaker, &frames(&vec![publish(0, "attic", &body); 40]));
    world.say(slow, who(1, "*"));
    world.say(slow, leave(2, "nowhere"));
    world.say(slow, ping(3, 7));
    world.say(slow, publish(4, "attic", "mine"));
    world.reads(slow, usize::MAX);
    let heard = world.heard(slow);
    assert!(heard[0].starts_with("[attic 1]"));
    assert_eq!(heard[1..5], ["error 1: 403", "error 2: 404", "pong 3 of 7", "ok 4: 41"]);
    assert!(heard[5].starts_with("[attic 2]"));
    assert_eq!(heard.len(), 44);
}

#[test]
fn answers_whose_place_says_something_keep_it() {
    let mut world = world_of(Overflow::DropOldest);
    let speaker = world.native(0, "speaker");
    let slow = member(&mut world, Speech::Native, "attic");
    world.stops_reading(slow);
    count(&mut world, speaker, "attic", 1..=3);
    world.say(slow, join(1, "attic"));
    world.say(slow, who(2, "attic"));
    count(&mut world, speaker, "attic", 4..=4);
    world.say(slow, leave(3, "attic"));
    world.reads(slow, usize::MAX);
    let heard = world.heard(slow);
    assert_eq!(told(&heard[..3], "attic").len(), 3);
    assert_eq!(heard[3..5], ["ok 1: 3", "roster 2 of 1: slow"]);
    assert!(heard[5].starts_with("[attic 4]"));
    assert_eq!(heard[6], "ok 3: 0");
}

#[test]
fn a_notice_has_its_room() {
    let mut world = world_of(Overflow::DropNewest);
    let name = "\"".repeat(64);
    let speaker = world.native(0, "speaker");
    let slow = member(&mut world, Speech::Json, &name);
    world.stops_reading(slow);
    for number in 1..=MANY {
        count(&mut world, speaker, &name, number..=number);
    }
    world.raw(slow);
    world.reads(slow, usize::MAX);
    let gap = world.raw(slow).windows(4).filter(|bytes| bytes == b"\"gap").count();
    assert_eq!(gap, 1);
    assert!(world.raw(slow).len() <= MAX_OUTBOUND + NOTICE_BYTES);
    world.say(slow, Request::Echo(b"alive"));
    assert_eq!(world.heard(slow).last().unwrap(), "echo alive");
}
