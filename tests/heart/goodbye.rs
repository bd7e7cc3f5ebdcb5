//! How connections and servers end in peace: BYE, a half-close, the drain.

use corebeat::base::counters::CloseReason;
use corebeat::base::limits::{DRAIN_SETTLE_MS, LINGER_MS, RECONNECT_AFTER_MS};
use corebeat::wire::message::{Event, Hello, Request};

use super::speech::{frames, hello, join, leave, publish, who};
use super::world::{Fate, ROOMS, World};

#[test]
fn bye_is_answered_by_the_end_of_what_was_asked() {
    let mut world = World::new();
    let ann = world.native(0, "ann");
    let bye = Request::Bye { code: 0, reason: "done" };
    world.send(ann, &frames(&[Request::Echo(b"first"), bye, Request::Echo(b"not any more")]));
    assert_eq!(world.heard(ann), ["echo first"]);
    assert_eq!(world.fate(ann), Fate::HalfClosed);
    world.half_closes(ann);
    assert_eq!(world.fate(ann), Fate::Closed(CloseReason::Bye));
}

#[test]
fn what_was_asked_before_a_goodbye_is_answered_first() {
    for room in ROOMS {
        let mut world = World::new();
        let ann = world.native(0, "ann");
        let bye = Request::Bye { code: 0, reason: "" };
        world.send(ann, &frames(&[join(1, room), who(2, room), bye, join(3, room)]));
        let heard = world.heard(ann);
        assert_eq!(heard.len(), 2, "{room}: {heard:?}");
        assert!(heard[0].starts_with("ok 1") && heard[1].starts_with("roster 2"), "{heard:?}");
        assert_eq!(world.fate(ann), Fate::HalfClosed);
    }
    let mut world = World::new();
    let bob = world.text(0, "bob");
    world.send(bob, b"/who\n/quit\nnever said\n");
    assert_eq!(world.heard(bob), ["* lobby (1): bob", "* bye"]);
}

#[test]
fn answers_in_flight_still_arrive_after_a_half_close() {
    for room in ROOMS {
        let questions = [
            vec![join(1, room)],
            vec![join(1, room), join(2, room)],
            vec![join(1, room), leave(2, room)],
            vec![publish(1, room, "hi"), publish(1, room, "hi")],
            vec![join(1, room), publish(2, room, "hi"), who(3, room)],
            vec![Request::Echo(b"hi")],
        ];
        for asked in questions {
            let mut world = World::new();
            let ann = world.native(0, "ann");
            world.send_and_half_close(ann, &frames(&asked));
            assert_eq!(world.heard(ann).len(), asked.len(), "{room}: {asked:?}");
            assert_eq!(world.fate(ann), Fate::Closed(CloseReason::PeerClosed), "{asked:?}");
        }
    }
}

#[test]
fn a_member_asking_again_is_answered_after_a_half_close() {
    for room in ROOMS {
        let mut world = World::new();
        let ann = world.native(0, "ann");
        world.say(ann, join(1, room));
        world.send_and_half_close(ann, &frames(&[join(2, room)]));
        assert_eq!(world.heard(ann), ["ok 1: 0", "ok 2: 0"]);
        assert_eq!(world.fate(ann), Fate::Closed(CloseReason::PeerClosed));
    }
}

#[test]
fn a_text_client_that_says_one_thing_and_hangs_up_is_heard() {
    let mut world = World::new();
    let bob = world.text(1, "bob");
    let ann = world.text_connection(0);
    world.send_and_half_close(ann, b"/nick ann\nhello\n");
    let expected = ["* ann joined lobby", "[lobby] ann: hello", "* ann left lobby"];
    assert_eq!(world.heard(bob), expected);
    assert_eq!(world.heard(ann)[0], "* welcome ann");
    assert_eq!(world.fate(ann), Fate::Closed(CloseReason::PeerClosed));
}

#[test]
fn a_text_client_that_asks_and_hangs_up_reads_its_answer() {
    for shard in [0, 1, 2] {
        for (line, answer) in [("/who", "* lobby ("), ("/msg nobody hi", "* nobody is offline")] {
            let mut world = World::new();
            let ann = world.text(shard, "ann");
            world.send_and_half_close(ann, format!("{line}\n").as_bytes());
            let heard = world.heard(ann);
            assert!(heard.len() == 1 && heard[0].starts_with(answer), "{line}: {heard:?}");
        }
    }
}

#[test]
fn whoever_hangs_up_without_a_word_is_closed() {
    let mut world = World::new();
    let (silent, live) = (world.connect(0), world.native(0, "ann"));
    world.half_closes(silent);
    world.half_closes(live);
    assert_eq!(world.fate(silent), Fate::Closed(CloseReason::PeerClosed));
    assert_eq!(world.fate(live), Fate::Closed(CloseReason::PeerClosed));
    assert!(world.heard(live).is_empty());
}

#[test]
fn a_drain_tells_every_dialect_when_to_come_back() {
    let mut world = World::new();
    let natives: Vec<_> = (0..30).map(|number| world.native(number % 3, "ann")).collect();
    let crc = world.greet(1, Hello { crc: true, ..hello("crc") });
    let text = world.text(2, "bob");
    let silent = world.connect(0);
    world.hush();
    world.drain("the server restarts");
    let mut waits = Vec::new();
    for client in natives.iter().copied().chain([crc]) {
        world.last_event(client, |event| match event {
            Event::GoAway { reconnect_after_ms, reason, address } => {
                assert_eq!((reason, address), ("the server restarts", ""));
                waits.push(reconnect_after_ms);
            }
            other => panic!("{other:?}"),
        });
    }
    let (earliest, latest) = RECONNECT_AFTER_MS;
    assert!(waits.iter().all(|wait| (earliest..=latest).contains(wait)), "{waits:?}");
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 20, "they do not all come back at once: {waits:?}");
    let line = world.heard(text).remove(0);
    assert!(line.starts_with("* the server is going away: the server restarts; "), "{line}");
    world.pass_ms(DRAIN_SETTLE_MS);
    for client in natives.into_iter().chain([crc, text]) {
        assert_eq!(world.fate(client), Fate::HalfClosed);
    }
    assert_eq!(world.fate(silent), Fate::Closed(CloseReason::Draining));
    world.pass_ms(LINGER_MS + 100);
    assert_eq!(world.counters().closed_for(CloseReason::Draining), 33);
    assert!(world.holdings().iter().all(|holdings| holdings.sessions == 0));
}

#[test]
fn what_a_draining_server_accepted_is_delivered_before_it_hangs_up() {
    for room in ROOMS {
        let mut world = World::new();
        let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
        world.say(bob, join(0, room));
        world.drain("enough");
        world.say(ann, publish(1, room, "just in time"));
        assert_eq!(world.fate(ann), Fate::Open);
        world.pass_ms(DRAIN_SETTLE_MS);
        assert_eq!(world.heard(ann), ["goaway", "ok 1: 1"]);
        let expected = ["goaway".to_owned(), format!("[{room} 1] ann: just in time")];
        assert_eq!(world.heard(bob), expected);
        assert_eq!(world.fate(bob), Fate::HalfClosed);
    }
}

#[test]
fn a_drain_in_small_steps_reaches_everybody() {
    let mut world = World::with(|config| config.limits.timer_budget = 3);
    let clients: Vec<_> = (0..40).map(|number| world.native(number % 3, "ann")).collect();
    world.drain("enough");
    world.pass_ms(DRAIN_SETTLE_MS);
    for client in clients {
        assert_eq!(world.heard(client), ["goaway"]);
        assert_eq!(world.fate(client), Fate::HalfClosed);
    }
}
