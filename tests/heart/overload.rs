//! More work than there is room or time for: what is refused, what is shed, and how it is told.

use corebeat::wire::message::Request;

use super::speech::{frames, join, join_notify, leave, publish};
use super::world::{Client, Fate, MAILBOX, ROOMS, World};

/// The places of the messages that a member of `room` was given, in order, and of those that it was
/// told it was not given.
fn told_places(heard: &[String], room: &str) -> (Vec<u64>, Vec<u64>) {
    let (mut given, mut lost) = (Vec::new(), Vec::new());
    for words in heard {
        if let Some(rest) = words.strip_prefix(&format!("[{room} ")) {
            given.push(rest.split(']').next().unwrap().parse().unwrap());
        } else if let Some(rest) = words.strip_prefix(&format!("gap in {room}: ")) {
            let (from, to) = rest.split_once(" to ").unwrap();
            lost.extend(from.parse::<u64>().unwrap()..=to.parse().unwrap());
        }
        let order = given.iter().chain(&lost).max().unwrap_or(&0);
        assert_eq!(
            given.len() + lost.len(),
            *order as usize,
            "in order, none unmentioned: {heard:?}"
        );
    }
    (given, lost)
}

#[test]
fn a_room_with_too_much_news_in_one_turn_sheds_messages_and_tells_which() {
    for room in ROOMS {
        let mut world = World::with(|config| config.limits.max_room_queue = 4);
        let (speaker, member) = (world.native(0, "speaker"), world.native(1, "member"));
        world.say(member, join_notify(0, room));
        // Comings and goings between messages give each message a batch of its own.
        let once = [publish(0, room, "hi"), join(0, room), publish(0, room, "hi"), leave(0, room)];
        world.send(speaker, &frames(&once.repeat(10)));
        world.say(speaker, publish(0, room, "the last one"));
        let heard = world.heard(member);
        let (given, lost) = told_places(&heard, room);
        assert!(!lost.is_empty() && given.len() >= 3, "{heard:?}");
        assert_eq!(heard.last(), Some(&format!("[{room} 21] speaker: the last one")));
        assert!(world.counters().shed >= lost.len() as u64, "on the speaker's shard as well");
        assert_eq!(world.fate(member), Fate::Open);
    }
}

fn staged(letters: usize) -> World {
    World::with(|config| config.limits.max_mail_staged = letters)
}

#[test]
fn requests_to_a_worker_that_does_not_keep_up_are_refused_and_the_accepted_ones_done() {
    let mut world = staged(8);
    let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
    world.say(bob, join(0, "porch"));
    world.stall(1);
    for reference in 1..=40 {
        world.say(ann, publish(reference, "porch", "hi"));
    }
    let refused = world.heard(ann);
    assert_eq!(refused.len(), 40 - 8 - MAILBOX, "what the mailbox and the stage do not hold");
    assert!(refused.iter().all(|words| words.ends_with(": 503")), "{refused:?}");
    world.say(ann, Request::Echo(b"alive"));
    world.say(ann, publish(41, "attic", "elsewhere all is well"));
    assert_eq!(world.heard(ann), ["echo alive", "ok 41: 1"]);
    world.go_on();
    assert_eq!(world.heard(ann).len(), 8 + MAILBOX, "the answers to the accepted ones");
    assert_eq!(told_places(&world.heard(bob), "porch").0.len(), 8 + MAILBOX);
    world.say(ann, publish(40, "porch", "again"));
    let seq = 8 + MAILBOX + 1;
    assert_eq!(world.heard(ann), [format!("ok 40: {seq}")], "a refused ref may be used again");
}

#[test]
fn messages_to_a_worker_that_does_not_keep_up_are_shed_and_told() {
    let mut world = staged(8);
    let (ann, near, far) =
        (world.native(0, "ann"), world.native(0, "near"), world.native(1, "far"));
    for member in [near, far] {
        world.say(member, join(0, "attic"));
    }
    world.stall(1);
    for _ in 0..40 {
        world.say(ann, publish(0, "attic", "hi"));
    }
    assert_eq!(told_places(&world.heard(near), "attic").0.len(), 40, "others hear all of it");
    world.go_on();
    world.say(ann, publish(0, "attic", "the last one"));
    let heard = world.heard(far);
    let (given, lost) = told_places(&heard, "attic");
    assert_eq!(given.len(), 8 + MAILBOX + 1, "{heard:?}");
    assert_eq!(lost.len(), 40 - 8 - MAILBOX);
    assert_eq!(heard.last().unwrap(), "[attic 41] ann: the last one");
    assert_eq!(world.counters().shed, lost.len() as u64);
}

#[test]
fn a_leave_is_never_refused_and_never_lost() {
    let mut world = staged(2);
    let (ann, watcher) = (world.native(0, "ann"), world.native(1, "watcher"));
    world.say(watcher, join_notify(0, "porch"));
    world.say(ann, join(1, "porch"));
    world.hush();
    world.stall(1);
    for _ in 0..20 {
        world.say(ann, publish(0, "porch", "hi"));
    }
    world.send(ann, &frames(&[Request::Bye { code: 0, reason: "" }]));
    world.go_on();
    assert_eq!(world.heard(watcher).last().unwrap(), "ann left porch, now 1");
}

#[test]
fn a_backlog_of_fan_out_delays_no_ping() {
    let mut world = World::with(|config| config.limits.fan_out_budget = 1);
    let speaker = world.native(0, "speaker");
    let members: Vec<Client> = (0..50).map(|_| world.native(0, "member")).collect();
    for member in &members {
        world.say(*member, join(0, "attic"));
    }
    let start_ms = world.now().mono.0;
    world.hush();
    for _ in 0..305 {
        world.hurry_ms(100, speaker, &frames(&[publish(0, "attic", "hi")]));
    }
    let mut messages = 0;
    for member in members {
        let heard = world.heard_when(member);
        let ping = heard.iter().find(|(_, words)| words == "ping").expect("a ping");
        assert!(ping.0 - start_ms <= 30_100, "within the interval");
        messages += heard.iter().filter(|(_, words)| words.starts_with("[attic")).count();
    }
    assert!(messages < 1_000, "the fan-out is far behind: {messages} of 15,000");
}
