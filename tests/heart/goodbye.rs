//! How connections and servers end in peace: BYE, a half-close, the drain.

use corebeat::base::counters::CloseReason;
use corebeat::base::limits::{DRAIN_HELLO_MS, DRAIN_SETTLE_MS, LINGER_MS, RECONNECT_AFTER_MS};
use corebeat::chat::drain::{DrainPlan, Readiness};
use corebeat::wire::message::{Event, Hello, Request};

use super::ear::upgrade;
use super::speech::{frames, hello, join, leave, publish, who};
use super::world::{Client, Fate, ROOMS, World};

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
    assert_eq!(world.fate(silent), Fate::Open, "its hello may be on the way");
    world.pass_ms(DRAIN_HELLO_MS);
    assert_eq!(world.fate(silent), Fate::Closed(CloseReason::Draining));
    world.pass_ms(LINGER_MS + 100);
    assert_eq!(world.counters().goaways, 32);
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
fn a_drain_in_steps_small_or_large_reaches_everybody() {
    for budget in [3, usize::MAX] {
        let mut world = World::with(|config| config.limits.timer_budget = budget);
        let clients: Vec<_> = (0..40).map(|number| world.native(number % 3, "ann")).collect();
        world.drain("enough");
        world.pass_ms(DRAIN_SETTLE_MS);
        for client in clients {
            assert_eq!(world.heard(client), ["goaway"]);
            assert_eq!(world.fate(client), Fate::HalfClosed);
        }
    }
}

/// Waits of GOAWAYs as they come, each with the time at which it was heard.
fn goaways(world: &mut World, clients: &[Client], for_ms: u64) -> Vec<(usize, u64, u64)> {
    let mut told = Vec::new();
    for ms in 0..for_ms {
        for (number, &client) in clients.iter().enumerate() {
            world.each_event(client, |event| {
                if let Event::GoAway { reconnect_after_ms, .. } = event {
                    told.push((number, ms, ms + u64::from(reconnect_after_ms)));
                }
            });
        }
        world.pass_ms(1);
    }
    told
}

#[test]
fn a_drain_with_a_rate_tells_evenly_and_serves_whoever_was_not_told() {
    for room in ROOMS {
        let mut world = World::new();
        // All on one shard, whose order of slots is the order of their coming.
        let clients: Vec<_> =
            (0..50).map(|number| world.native(0, &format!("c{number}"))).collect();
        let (first, last) = (clients[0], clients[49]);
        world.say(last, join(0, room));
        world.hush();
        world.drain_by(DrainPlan::over(5_000, "upgrade", "10.0.0.2:8080"));
        let told = goaways(&mut world, &clients, 4_000);
        assert_eq!(told.len(), 40, "ten a second, the first at once");
        for (expected, &(number, at_ms, _)) in told.iter().enumerate() {
            assert_eq!(number, expected, "in the order of their coming");
            assert!(at_ms.abs_diff(expected as u64 * 100) <= 2, "{number} was told at {at_ms}");
        }
        assert_ne!(world.fate(first), Fate::Open);
        assert_eq!(world.fate(clients[36]), Fate::HalfClosed);
        assert_eq!(world.fate(clients[38]), Fate::Open, "it has a moment left");
        world.say(clients[45], publish(1, room, "still served"));
        assert_eq!(world.heard(last), [format!("[{room} 1] c45: still served")]);
        assert_eq!(goaways(&mut world, &clients, 1_300).len(), 10);
        assert!(clients.iter().all(|&client| world.fate(client) != Fate::Open));
    }
}

#[test]
fn whoever_is_told_last_is_never_to_come_back_first() {
    for over_ms in [0, 2_000, 9_000] {
        let mut world = World::with(|config| config.limits.timer_budget = 7);
        let clients: Vec<_> =
            (0..60).map(|number| world.native(0, &format!("c{number}"))).collect();
        world.hush();
        world.drain_by(DrainPlan::over(over_ms, "upgrade", ""));
        let told = goaways(&mut world, &clients, over_ms + 100);
        assert_eq!(told.len(), 60);
        let returns: Vec<u64> = told.iter().map(|&(_, _, back_ms)| back_ms).collect();
        assert!(returns.is_sorted(), "{returns:?}");
        let (earliest, latest) = RECONNECT_AFTER_MS;
        let (earliest, latest) = (u64::from(earliest), u64::from(latest));
        let window = (latest - earliest).max(over_ms);
        // Each sixtieth of the time has its one.
        for (number, &back_ms) in returns.iter().enumerate() {
            let from = earliest + window * number as u64 / 60;
            assert!((from..=from + window / 60 + 2).contains(&back_ms), "{number}: {back_ms}");
        }
    }
}

#[test]
fn a_drain_names_the_address_to_go_to_in_every_dialect() {
    let mut world = World::new();
    let (native, text) = (world.native(0, "ann"), world.text(1, "bob"));
    world.hush();
    world.drain_by(DrainPlan::over(0, "upgrade", "10.0.0.2:8080"));
    world.last_event(native, |event| {
        assert!(matches!(event, Event::GoAway { address: "10.0.0.2:8080", .. }), "{event:?}");
    });
    let line = world.heard(text).remove(0);
    assert!(line.ends_with(" to 10.0.0.2:8080"), "{line}");
}

#[test]
fn a_hello_on_its_way_is_answered_and_then_sent_on() {
    let mut world = World::new();
    let (native, text, never) = (world.connect(0), world.text_connection(1), world.connect(0));
    world.drain("enough");
    world.pass_ms(DRAIN_SETTLE_MS + 500);
    world.send(native, &frames(&[Request::Hello(hello("ann")), join(1, ROOMS[0])]));
    world.send(text, b"/nick bob\n");
    let heard = world.heard(native);
    assert_eq!(heard, ["welcome ann", "goaway", "ok 1: 0"]);
    let told = |line: &String| line.starts_with("* the server is going away");
    assert!(world.heard(text).iter().any(told));
    assert_eq!((world.fate(native), world.fate(text)), (Fate::Open, Fate::Open));
    world.pass_ms(DRAIN_SETTLE_MS);
    assert_eq!((world.fate(native), world.fate(text)), (Fate::HalfClosed, Fate::HalfClosed));
    world.pass_ms(DRAIN_HELLO_MS);
    assert_eq!(world.fate(never), Fate::Closed(CloseReason::Draining));
}

#[test]
fn a_hello_before_its_turn_is_told_once() {
    let mut world = World::new();
    let clients: Vec<_> = (0..10).map(|_| world.connect(0)).collect();
    world.drain_by(DrainPlan::over(1_000, "enough", ""));
    world.pass_ms(50);
    world.send(clients[9], &frames(&[Request::Hello(hello("ann"))]));
    assert_eq!(world.heard(clients[9]), ["welcome ann"], "it is served until its turn");
    world.pass_ms(1_000);
    assert_eq!(world.heard(clients[9]), ["goaway"]);
}

#[test]
fn readiness_is_told_apart_from_health() {
    let mut world = World::new();
    let ask = |world: &mut World, path: &str| {
        let client = world.browser(0);
        world.send(client, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let mut responses = world.responses(client);
        let response = responses.remove(0);
        (response.status, String::from_utf8(response.body).unwrap())
    };
    assert_eq!(ask(&mut world, "/readyz"), (503, "starting\n".to_owned()));
    world.note_readiness(Readiness::Ready);
    assert_eq!(ask(&mut world, "/readyz"), (200, "ready\n".to_owned()));
    world.note_readiness(Readiness::Draining);
    assert_eq!(ask(&mut world, "/readyz"), (503, "draining\n".to_owned()));
    assert_eq!(ask(&mut world, "/healthz"), (200, "ok\n".to_owned()));
    world.note_readiness(Readiness::Ready);
    world.drain("enough");
    assert_eq!(ask(&mut world, "/readyz"), (503, "draining\n".to_owned()));
}

#[test]
fn whoever_becomes_an_echo_while_the_server_drains_does_not_hold_it_up() {
    let mut world = World::new();
    let echo = world.browser(0);
    let ask = upgrade("/echo", "", "");
    let (begin, rest) = ask.as_bytes().split_at(20);
    world.send(echo, begin);
    world.drain("closing time");
    world.pass_ms(DRAIN_SETTLE_MS + 1);
    assert_eq!(world.fate(echo), Fate::Open, "its request is on the way");
    world.send(echo, rest);
    world.switch(echo, "");
    world.pass_ms(DRAIN_HELLO_MS);
    assert_eq!(world.counters().closed_for(CloseReason::Draining), 1);
}
