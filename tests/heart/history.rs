//! What was said: JOIN with `since`, HISTORY and `/history`, and how long it is kept.

use corebeat::base::ids::{Epoch, Ref, Seq};
use corebeat::base::limits::ROOM_IDLE_MS;
use corebeat::wire::message::{Event, Request};

use super::speech::{
    frames, history, join, join_notify, join_since, leave, publish, publish_echo, who,
};
use super::world::{Client, Fate, ROOMS, World};

/// Says the numbers of a range in a room, one message each turn.
fn count(world: &mut World, speaker: Client, room: &str, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        world.say(speaker, publish(0, room, &format!("{number}")));
    }
}

/// What a room's messages of these numbers are in words, told again.
fn again(room: &str, numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|number| format!("again [{room} {number}] speaker: {number}")).collect()
}

/// Whether each place up to `last` was told once, in order, as a message or within a gap; and how
/// many were told as gaps.
fn judge_places(heard: &[String], room: &str, after: u64, last: u64) -> u64 {
    let (mut next, mut lost) = (after + 1, 0);
    for words in heard {
        let words = words.strip_prefix("again ").unwrap_or(words);
        if let Some(rest) = words.strip_prefix(&format!("[{room} ")) {
            assert_eq!(rest.split(']').next().unwrap().parse(), Ok(next), "{heard:#?}");
            next += 1;
        } else if let Some(rest) = words.strip_prefix(&format!("gap in {room}: ")) {
            let (from, to) = rest.split_once(" to ").unwrap();
            assert_eq!(from.parse(), Ok(next), "{heard:#?}");
            let to: u64 = to.parse().unwrap();
            (lost, next) = (lost + to + 1 - next, to + 1);
        }
    }
    assert_eq!(next, last + 1, "{heard:#?}");
    lost
}

fn epoch_of(world: &mut World, client: Client, room: &str) -> u32 {
    world.say(client, join(99, room));
    world.last_event(client, |event| match event {
        Event::Ok { epoch: Epoch(epoch), .. } => epoch,
        other => panic!("{other:?}"),
    })
}

#[test]
fn who_joins_since_a_message_gets_what_followed_it_and_then_what_is_new() {
    for room in ROOMS {
        for dialect in 0..3 {
            let mut world = World::new();
            let speaker = world.native(0, "speaker");
            count(&mut world, speaker, room, 1..=5);
            let ann = match dialect {
                0 => world.native(1, "ann"),
                1 => world.json(1, "ann"),
                _ => world.bin(1, "ann"),
            };
            world.say(ann, join_since(1, room, 0, 2));
            count(&mut world, speaker, room, 6..=6);
            let mut expected = vec!["ok 1: 5".to_owned()];
            expected.extend(again(room, 3..6));
            expected.push(format!("[{room} 6] speaker: 6"));
            assert_eq!(world.heard(ann), expected);
        }
    }
}

#[test]
fn a_gap_is_said_exactly_if_part_is_gone() {
    for room in ROOMS {
        let mut world = World::with(|config| config.limits.history_count = 3);
        let (speaker, ann) = (world.native(0, "speaker"), world.native(1, "ann"));
        let epoch = epoch_of(&mut world, speaker, room);
        count(&mut world, speaker, room, 1..=10);
        for (epoch, since, gap, replayed) in [
            (0, 7, "", 8..11),
            (epoch, 7, "", 8..11),
            (epoch, 10, "", 11..11),
            (0, 6, " gap", 8..11),
            (epoch, 1, " gap", 8..11),
            (0, 11, " gap", 11..11),
            (epoch ^ 1, 9, " gap", 8..11),
        ] {
            world.hush();
            world.say(ann, join_since(1, room, epoch, since));
            let mut expected = vec![format!("ok 1: 10{gap}")];
            expected.extend(again(room, replayed));
            assert_eq!(world.heard(ann), expected, "since {since} in {epoch}");
            world.say(ann, leave(0, room));
        }
    }
}

#[test]
fn without_a_history_a_gap_is_said_where_something_is_missed() {
    let mut world = World::with(|config| config.limits.history_count = 0);
    let (speaker, ann) = (world.native(0, "speaker"), world.native(1, "ann"));
    world.say(speaker, join(0, "porch"));
    count(&mut world, speaker, "porch", 1..=4);
    world.say(ann, join_since(1, "porch", 0, 4));
    world.say(ann, join_since(2, "porch", 0, 3));
    world.say(ann, history(3, "porch", 0, 0));
    world.say(ann, history(4, "porch", 4, 0));
    assert_eq!(world.heard(ann), ["ok 1: 4", "ok 2: 4 gap", "ok 3: 4 gap", "ok 4: 4"]);
    count(&mut world, speaker, "porch", 5..=5);
    assert_eq!(world.heard(ann), ["[porch 5] speaker: 5"]);
}

#[test]
fn ones_own_messages_are_replayed_and_a_ref_of_0_asks_for_no_ok() {
    let mut world = World::new();
    let ann = world.native(0, "ann");
    world.send(
        ann,
        &frames(&[join(1, "porch"), publish(0, "porch", "a"), publish(0, "porch", "b")]),
    );
    assert_eq!(world.heard(ann), ["ok 1: 0"]);
    world.say(ann, join_since(0, "porch", 0, 1));
    assert_eq!(world.heard(ann), ["again [porch 2] ann: b"]);
}

#[test]
fn a_member_that_joins_again_is_given_all_that_follows_once() {
    for room in ROOMS {
        let mut world = World::new();
        let (speaker, ann) = (world.native(0, "speaker"), world.native(2, "ann"));
        world.say(ann, join(1, room));
        count(&mut world, speaker, room, 1..=3);
        world.hush();
        let requests = [join_since(2, room, 0, 1), publish_echo(3, room, "4"), who(4, room)];
        world.send(ann, &frames(&requests));
        count(&mut world, speaker, room, 5..=5);
        let heard = world.heard(ann);
        let place = heard.iter().position(|words| words.starts_with("ok 2: ")).expect("an OK");
        judge_places(&heard[place..], room, 1, 5);
        assert!(heard.contains(&"roster 4 of 1: ann".to_owned()), "it is one member");
    }
}

/// A world in which a page holds some dozen short messages, and an outbox some pages.
fn small_pages(kept: usize) -> World {
    World::with(move |config| {
        config.limits.max_outbound = 16 << 10;
        config.limits.history_count = kept;
    })
}

#[test]
fn a_long_replay_waits_for_its_reader_and_nothing_is_missing_or_told_twice() {
    for room in ROOMS {
        let mut world = small_pages(1_000);
        let speaker = world.native(0, "speaker");
        count(&mut world, speaker, room, 1..=900);
        let slow = world.native(1, "slow");
        world.stops_reading(slow);
        world.say(slow, join_since(1, room, 0, 100));
        for number in 901..=1_000 {
            count(&mut world, speaker, room, number..=number);
            world.reads(slow, 700);
        }
        assert_eq!(world.fate(slow), Fate::Open, "a long replay does not fill the outbox");
        world.reads(slow, usize::MAX);
        let mut heard = world.heard(slow);
        assert_eq!(heard.remove(0), "ok 1: 900");
        assert_eq!(judge_places(&heard, room, 100, 1_000), 0);
        count(&mut world, speaker, room, 1_001..=1_001);
        assert_eq!(world.heard(slow), [format!("[{room} 1001] speaker: 1001")], "it is live");
        assert!(world.counters().replayed >= 800);
    }
}

#[test]
fn what_is_lost_while_it_is_being_replayed_is_told_as_a_gap() {
    for room in ROOMS {
        let mut world = small_pages(200);
        let speaker = world.native(0, "speaker");
        count(&mut world, speaker, room, 1..=200);
        let slow = world.native(1, "slow");
        world.stops_reading(slow);
        world.say(slow, join_since(1, room, 0, 1));
        count(&mut world, speaker, room, 201..=600);
        world.reads(slow, usize::MAX);
        count(&mut world, speaker, room, 601..=601);
        let mut heard = world.heard(slow);
        assert_eq!(heard.remove(0), "ok 1: 200", "nothing was gone yet");
        let lost = judge_places(&heard, room, 1, 601);
        assert!((1..400).contains(&lost), "{lost}");
        let gaps = heard.iter().filter(|words| words.starts_with("gap")).count();
        assert_eq!(gaps, 1);
        assert_eq!(heard.last().unwrap(), &format!("[{room} 601] speaker: 601"));
    }
}

#[test]
fn a_replay_is_given_up_when_its_member_leaves_and_begun_anew_when_it_joins_again() {
    for room in ROOMS {
        let mut world = small_pages(1_000);
        let speaker = world.native(0, "speaker");
        count(&mut world, speaker, room, 1..=800);
        let slow = world.native(1, "slow");
        world.stops_reading(slow);
        world.say(slow, join_since(1, room, 0, 1));
        world.say(slow, leave(2, room));
        world.reads(slow, usize::MAX);
        let heard = world.heard(slow);
        assert_eq!(heard.last().unwrap(), "ok 2: 0");
        judge_places(&heard, room, 1, heard.len() as u64 - 1);
        count(&mut world, speaker, room, 801..=802);
        assert!(world.heard(slow).is_empty(), "it is no member");
        // A replay in the place of another one, and live messages only in the place of that.
        world.stops_reading(slow);
        world.say(slow, join_since(3, room, 0, 1));
        world.say(slow, join_since(4, room, 0, 10));
        world.say(slow, join(5, room));
        count(&mut world, speaker, room, 803..=803);
        world.reads(slow, usize::MAX);
        let heard = world.heard(slow);
        let ok = |reference: u32| {
            let words = format!("ok {reference}: 802");
            heard.iter().position(|heard| *heard == words).expect("an OK")
        };
        let (first, second, third) = (ok(3), ok(4), ok(5));
        judge_places(&heard[first..second], room, 1, (second - first) as u64);
        judge_places(&heard[second..third], room, 10, 9 + (third - second) as u64);
        assert_eq!(heard[third + 1..], [format!("[{room} 803] speaker: 803")]);
    }
}

#[test]
fn who_hangs_up_in_the_middle_of_a_replay_leaves_nothing_behind() {
    for room in ROOMS {
        let mut world = small_pages(1_000);
        let speaker = world.native(0, "speaker");
        count(&mut world, speaker, room, 1..=800);
        let slow = world.native(1, "slow");
        world.stops_reading(slow);
        world.say(slow, join_since(1, room, 0, 1));
        world.vanishes(slow);
        world.pass_ms(3_000);
        let last = world.native(2, "last");
        world.say(last, join_since(1, room, 0, 799));
        assert_eq!(world.heard(last), ["ok 1: 800".to_owned(), again(room, 800..801).remove(0)]);
        world.say(last, who(2, room));
        assert_eq!(world.heard(last), ["roster 2 of 1: last"]);
        assert_eq!(world.holdings()[1].replays, 0);
    }
}

#[test]
fn comings_and_goings_during_a_long_replay_are_told_as_a_total_behind_it() {
    let mut world = small_pages(1_000);
    let speaker = world.native(0, "speaker");
    count(&mut world, speaker, "porch", 1..=800);
    let slow = world.native(1, "slow");
    world.stops_reading(slow);
    let (reference, epoch, since, room) = (Ref(1), Epoch(0), Seq(1), "porch");
    world.say(slow, Request::Join { reference, epoch, since, room, notify: true });
    let others = [0, 1, 2].map(|shard| world.native(shard, &format!("other-{shard}")));
    for other in others {
        world.say(other, join(0, "porch"));
    }
    world.reads(slow, usize::MAX);
    let heard = world.heard(slow);
    assert_eq!(heard.last().unwrap(), "many in porch, now 4");
    world.say(others[0], leave(0, "porch"));
    assert_eq!(world.heard(slow), ["other-0 left porch, now 3"]);
}

#[test]
fn a_short_replay_tells_no_total() {
    let mut world = World::new();
    let (speaker, ann) = (world.native(0, "speaker"), world.native(1, "ann"));
    count(&mut world, speaker, "porch", 1..=2);
    world.say(ann, join_notify(0, "porch"));
    let (reference, epoch, since, room) = (Ref(1), Epoch(0), Seq(1), "porch");
    world.say(ann, Request::Join { reference, epoch, since, room, notify: true });
    assert_eq!(world.heard(ann), ["ok 1: 2", "again [porch 2] speaker: 2"]);
}

#[test]
fn a_listing_needs_no_membership_and_its_ok_comes_last() {
    for room in ROOMS {
        let mut world = World::with(|config| config.limits.history_count = 6);
        let (speaker, ann) = (world.native(0, "speaker"), world.native(1, "ann"));
        count(&mut world, speaker, room, 1..=4);
        for (since, limit, replayed) in
            [(0, 0, 1..5), (0, 2, 1..3), (2, 0, 3..5), (2, 1, 3..4), (4, 9, 5..5)]
        {
            world.say(ann, history(1, room, since, limit));
            let mut expected = again(room, replayed);
            expected.push("ok 1: 4".to_owned());
            assert_eq!(world.heard(ann), expected, "since {since}, {limit} at most");
        }
        count(&mut world, speaker, room, 5..=10);
        for (since, gap, replayed) in
            [(0, " gap", 5..11), (3, " gap", 5..11), (4, "", 5..11), (11, " gap", 11..11)]
        {
            world.say(ann, history(0, room, since, 0));
            assert_eq!(world.heard(ann), again(room, replayed.clone()), "no OK for a ref of 0");
            world.say(ann, history(1, room, since, 0));
            let mut expected = again(room, replayed);
            expected.push(format!("ok 1: 10{gap}"));
            assert_eq!(world.heard(ann), expected, "since {since}");
        }
    }
}

#[test]
fn a_listing_of_more_than_a_page_goes_on_behind_its_last_message() {
    let mut world = small_pages(1_000);
    let (speaker, ann) = (world.native(0, "speaker"), world.json(1, "ann"));
    count(&mut world, speaker, "porch", 1..=300);
    let (mut since, mut pages) = (0, 0);
    while since < 300 {
        world.say(ann, history(7, "porch", since, 200));
        let mut heard = world.heard(ann);
        assert_eq!(heard.pop().unwrap(), "ok 7: 300");
        let last = since + heard.len() as u64;
        judge_places(&heard, "porch", since, last);
        (since, pages) = (last, pages + 1);
    }
    assert!(pages > 5, "{pages}");
}

#[test]
fn what_comes_live_behind_a_listing_is_beyond_its_head() {
    for room in ROOMS {
        let mut world = World::with(|config| config.limits.fan_out_budget = 1);
        let (speaker, ann) = (world.native(0, "speaker"), world.native(2, "ann"));
        world.say(ann, join(0, room));
        let crowd: Vec<Client> = (0..9).map(|n| world.native(2, &format!("crowd-{n}"))).collect();
        for member in crowd {
            world.say(member, join(0, room));
        }
        let body = frames(&[publish(0, room, "1"), publish(0, room, "2")]);
        world.send(speaker, &body);
        world.say(ann, history(1, room, 1, 0));
        world.say(speaker, publish(0, room, "3"));
        let heard = world.heard(ann);
        let ok = heard.iter().position(|words| words.starts_with("ok 1")).expect("an OK");
        assert_eq!(heard[ok], "ok 1: 2");
        assert_eq!(heard[ok + 1..], [format!("[{room} 3] speaker: 3")]);
    }
}

#[test]
fn many_listings_at_a_time_are_refused_and_none_fills_the_outbox() {
    let mut world = World::new();
    let (speaker, ann) = (world.native(0, "speaker"), world.native(1, "ann"));
    let body = "x".repeat(60_000);
    for _ in 0..4 {
        world.say(speaker, publish(0, "attic", &body));
    }
    world.stops_reading(ann);
    world.send(ann, &frames(&vec![history(1, "attic", 0, 0); 40]));
    assert_eq!(world.fate(ann), Fate::Open);
    world.reads(ann, usize::MAX);
    let heard = world.heard(ann);
    let told = |words: &str| heard.iter().filter(|heard| *heard == words).count();
    assert_eq!((told("ok 1: 4"), told("error 1: 429")), (8, 32));
    world.say(ann, history(2, "attic", 3, 0));
    assert_eq!(world.heard(ann).last().unwrap(), "ok 2: 4");
}

#[test]
fn what_cannot_be_listed_is_refused() {
    let mut world = World::new();
    let ann = world.native(0, "ann");
    for (room, code) in [("nowhere", 404), ("*", 403), ("$all", 403), ("a b", 400)] {
        world.say(ann, history(1, room, 0, 0));
        assert_eq!(world.heard(ann), [format!("error 1: {code}")], "{room}");
        world.say(ann, history(0, room, 0, 0));
        assert_eq!(world.heard(ann), [format!("error 0: {code}")], "{room}");
    }
    world.say(ann, join_since(2, "*", 0, 1));
    assert_eq!(world.heard(ann), ["error 2: 403"]);
    assert_eq!(world.fate(ann), Fate::Open);
}

#[test]
fn a_person_reads_the_last_messages_and_goes_on_live() {
    let mut world = World::new();
    let (speaker, ann) = (world.native(0, "speaker"), world.text(1, "ann"));
    world.hush();
    count(&mut world, speaker, "lobby", 1..=30);
    world.hush();
    for (line, first) in [("/history", 11), ("/history 3", 28), ("/history 100", 1)] {
        world.types(ann, line);
        let expected: Vec<String> = (first..=30).map(|n| format!("[lobby] speaker: {n}")).collect();
        assert_eq!(world.heard(ann), expected, "{line}");
    }
    world.types(ann, "/history 0");
    assert_eq!(world.heard(ann), ["! 400 usage: /history [N]"]);
    count(&mut world, speaker, "lobby", 31..=31);
    assert_eq!(world.heard(ann), ["[lobby] speaker: 31"]);
}

#[test]
fn what_is_too_old_is_not_told_and_its_room_is_forgotten_in_the_end() {
    for room in ROOMS {
        let mut world = World::with(|config| config.limits.history_age_ms = 600_000);
        let (speaker, ann) = (world.native(0, "speaker"), world.native(1, "ann"));
        for client in [speaker, ann] {
            world.answers_pings(client);
        }
        let epoch = epoch_of(&mut world, ann, room);
        world.say(ann, leave(0, room));
        count(&mut world, speaker, room, 1..=1);
        world.pass_ms(400_000);
        count(&mut world, speaker, room, 2..=2);
        world.pass_ms(300_000);
        world.hush();
        world.say(ann, history(1, room, 0, 0));
        let expected = [again(room, 2..3).remove(0), "ok 1: 2 gap".to_owned()];
        assert_eq!(world.heard(ann), expected, "a room lives on while something of it is kept");
        world.pass_ms(600_000 + 150_000 + 2 * ROOM_IDLE_MS);
        world.hush();
        world.say(ann, history(1, room, 0, 0));
        assert_eq!(world.heard(ann), ["error 1: 404"]);
        assert_ne!(epoch_of(&mut world, ann, room), epoch);
        world.hush();
        world.say(ann, join_since(1, room, epoch, 2));
        assert_eq!(world.heard(ann), ["ok 1: 0 gap"]);
    }
}

#[test]
fn where_there_are_too_many_rooms_the_longest_idle_one_without_members_gives_way() {
    let mut world = World::with(|config| config.limits.max_rooms = 3);
    let mut rooms = (0..).map(|n| format!("room-{n}"));
    // Rooms at home on one shard, which may have three of them, the one for everybody perhaps
    // among them.
    let speaker = world.native(0, "speaker");
    let mut kept: Vec<String> = Vec::new();
    while world.counters().rooms_evicted < 3 {
        let room = rooms.next().unwrap();
        kept.push(room);
        let (room, reference) = (kept.last().unwrap(), kept.len() as u32);
        world.say(speaker, publish(reference, room, "hi"));
        world.pass_ms(10);
        assert_eq!(world.heard(speaker), [format!("ok {reference}: 1")]);
    }
    let mut gone = Vec::new();
    for room in &kept {
        world.say(speaker, history(1, room, 0, 0));
        if world.heard(speaker) == ["error 1: 404"] {
            gone.push(room.clone());
        }
    }
    assert_eq!(gone.len(), 3);
    assert!(gone.contains(&kept[0]) || gone.contains(&kept[1]) || gone.contains(&kept[2]));
    // Rooms with members stay.
    let mut refused = 0;
    for n in 0..20 {
        world.say(speaker, join(1, &format!("full-{n}")));
        refused += usize::from(world.heard(speaker) == ["error 1: 503"]);
    }
    assert!(refused >= 20 - 9, "{refused}");
}

#[test]
fn where_all_histories_take_too_much_the_oldest_ones_give_way() {
    let mut world = World::with(|config| {
        config.limits.history_memory = 100_000;
        config.limits.history_count = 20;
    });
    let speaker = world.native(0, "speaker");
    let body = "x".repeat(500);
    for n in 0..600 {
        world.say(speaker, publish(0, &format!("room-{n}"), &body));
        world.say(speaker, publish(0, "porch", &body));
        world.pass_ms(10);
    }
    assert!(world.counters().histories_dropped > 10);
    world.say(speaker, history(1, "room-0", 0, 0));
    assert_eq!(world.heard(speaker), ["ok 1: 1 gap"], "the room and its order live on");
    world.say(speaker, history(2, "room-599", 0, 0));
    assert_eq!(world.heard(speaker).len(), 2);
    world.say(speaker, history(3, "porch", 0, 0));
    assert!(world.heard(speaker).len() > 2, "it was spoken in all the time");
}
