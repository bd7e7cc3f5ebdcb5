//! A worker that can bear no more: who is let in, and what is left out and made good for later.

use corebeat::base::counters::CloseReason;
use corebeat::base::limits::{
    PRESENCE_PERIOD_MS, REFUSED_RECONNECT_AFTER_MS, STATS_PERIOD_STRAINED_MS,
};
use corebeat::base::pressure::{Level, Pressure};
use corebeat::chat::drain::Readiness;
use corebeat::chat::shard::Holdings;
use corebeat::wire::message::{Event, Hello, Request};
use corebeat::wire::native;
use serde_json::Value;

use super::ear::{BIN, JSON, get};
use super::speech::{hello, join, join_notify, leave, ping, publish, who};
use super::world::{Client, Fate, ROOMS, SHARDS, World};

const CALM: Pressure = Pressure { descriptors: Level::Calm, memory: Level::Calm, lag: Level::Calm };
const STRAINED: Pressure = Pressure { lag: Level::Strained, ..CALM };
const OVERLOADED: Pressure = Pressure { memory: Level::Overloaded, ..CALM };
/// What frees no descriptor is done as ever.
const FULL: Pressure = Pressure { descriptors: Level::Overloaded, ..CALM };

/// The text of the ERROR that a client got, and the time of its GOAWAY.
fn refusal(bytes: &[u8]) -> (String, u32) {
    let (mut rest, mut text, mut time) = (bytes, String::new(), 0);
    while let Some((frame, used)) = native::frame(rest, usize::MAX).unwrap() {
        match native::event(&frame).unwrap().expect("a known type") {
            Event::Error { text: told, .. } => text = told.to_owned(),
            Event::GoAway { reconnect_after_ms, .. } => time = reconnect_after_ms,
            _ => {}
        }
        rest = &rest[used..];
    }
    (text, time)
}

#[test]
fn newcomers_are_refused_in_every_dialect_and_told_why_and_when_to_come_back() {
    for pressure in [STRAINED, OVERLOADED, FULL] {
        let mut world = World::new();
        world.presses(pressure);
        let native = world.greet(0, hello("ann"));
        assert_eq!(world.heard(native), ["error 0: 503", "goaway"]);
        let (text, after_ms) = refusal(&world.raw(native));
        assert!(text.starts_with("overloaded: ") && text.contains(&after_ms.to_string()), "{text}");
        let (earliest, latest) = REFUSED_RECONNECT_AFTER_MS;
        assert!((earliest..=latest).contains(&after_ms));
        assert_eq!(world.fate(native), Fate::HalfClosed);
        for subprotocol in [JSON, BIN] {
            let web = world.websocket(1, "/ws", subprotocol);
            world.say(web, Request::Hello(hello("ann")));
            assert_eq!(world.heard(web), ["error 0: 503", "goaway", "close 1013"]);
        }
        for line in ["/nick ann", "hello?", "/who"] {
            let text = world.text_connection(2);
            world.types(text, line);
            let heard = world.heard(text);
            assert!(heard.len() == 1 && heard[0].starts_with("! 503 overloaded: "), "{heard:?}");
            assert_eq!(world.fate(text), Fate::HalfClosed);
        }
        let counters = world.counters();
        assert_eq!(counters.closed_for(CloseReason::Overloaded), 6);
        assert_eq!((counters.overload_refused, counters.welcomed), (6, 0));
        assert_eq!(counters.published, 0, "what was said behind a refused greeting is not done");
        world.pass_ms(60_000);
        assert_eq!(world.holdings(), vec![Holdings::default(); SHARDS]);
    }
}

#[test]
fn refused_newcomers_come_back_at_different_times_and_are_let_in_when_it_is_over() {
    let mut world = World::new();
    world.presses(STRAINED);
    let mut times = Vec::new();
    for _ in 0..20 {
        let client = world.greet(0, hello("ann"));
        times.push(refusal(&world.raw(client)).1);
    }
    times.sort_unstable();
    times.dedup();
    assert!(times.len() > 15, "{times:?}");
    world.presses(CALM);
    world.native(0, "ann");
}

#[test]
fn who_comes_back_to_a_session_is_let_in_in_every_dialect_and_misses_nothing() {
    for pressure in [STRAINED, OVERLOADED, FULL] {
        for shard in 0..SHARDS {
            let mut world = World::new();
            let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
            for (reference, room) in (1..).zip(ROOMS) {
                world.say(ann, join(reference, room));
            }
            world.vanishes(ann);
            world.presses(pressure);
            world.say(bob, publish(0, "porch", "meanwhile"));
            let native = world.comes_back(shard, ann);
            assert_eq!(world.heard(native), ["resumed ann", "again [porch 1] bob: meanwhile"]);
            let (session, resume_key) = world.session(ann);
            for subprotocol in [JSON, BIN] {
                let web = world.websocket(shard, "/ws", subprotocol);
                world.say(web, Request::Hello(Hello { session, resume_key, ..hello("ann") }));
                assert_eq!(world.heard(web)[0], "resumed ann");
            }
            let counters = world.counters();
            assert_eq!((counters.overload_resumed, counters.resumed), (3, 3));
            assert_eq!(counters.overload_refused, 0);
        }
    }
}

#[test]
fn who_comes_back_to_no_session_is_a_newcomer() {
    let mut world = World::with(|config| config.limits.resume_window_ms = 1_000);
    let ann = world.native(0, "ann");
    world.vanishes(ann);
    world.pass_ms(5_000);
    world.presses(STRAINED);
    let late = world.comes_back(1, ann);
    assert_eq!(world.heard(late), ["error 0: 503", "goaway"], "it was given up");
    let (session, _) = world.session(ann);
    let thief = world.greet(2, Hello { session, resume_key: 1, ..hello("ann") });
    assert_eq!(world.heard(thief), ["error 0: 503", "goaway"], "the key is wrong");
    let counters = world.counters();
    assert_eq!((counters.overload_refused, counters.resumes_denied), (2, 1));
    world.pass_ms(60_000);
    assert_eq!(world.holdings(), vec![Holdings::default(); SHARDS]);
}

#[test]
fn whoever_is_there_goes_on_and_no_accepted_message_is_left_out() {
    for pressure in [STRAINED, OVERLOADED, FULL] {
        for room in ROOMS {
            let mut world = World::new();
            let members = [(0, "ann"), (1, "bob"), (2, "cat")].map(|(s, u)| world.native(s, u));
            for member in members {
                world.say(member, join(1, room));
            }
            world.hush();
            world.presses(pressure);
            for reference in 2..52 {
                world.say(members[0], publish(reference, room, "hi"));
            }
            world.say(members[1], join(2, "elsewhere"));
            world.say(members[1], leave(3, "elsewhere"));
            assert_eq!(world.heard(members[0]).len(), 50);
            assert_eq!(world.heard(members[1]).len(), 52);
            assert_eq!(world.heard(members[2]).len(), 50);
            let counters = world.counters();
            assert_eq!((counters.published, counters.delivered), (50, 100));
            assert_eq!((counters.shed, counters.refused), (0, 0));
        }
    }
}

#[test]
fn comings_and_goings_are_told_as_totals_under_pressure() {
    for room in ROOMS {
        let mut world = World::new();
        let (watcher, ann) = (world.native(0, "watcher"), world.native(1, "ann"));
        world.say(watcher, join_notify(0, room));
        world.presses(STRAINED);
        for _ in 0..20 {
            world.say(ann, join(0, room));
            world.say(ann, leave(0, room));
        }
        world.say(ann, join(0, room));
        assert!(world.heard(watcher).is_empty(), "the total is owed");
        world.pass_ms(PRESENCE_PERIOD_MS);
        assert_eq!(world.heard(watcher), [format!("many in {room}, now 2")]);
        let counters = world.counters();
        assert!(counters.shed_presence > 0 && counters.shed_presence <= counters.presence_folded);
        world.presses(CALM);
        world.say(ann, leave(0, room));
        assert_eq!(world.heard(watcher), [format!("ann left {room}, now 1")], "it is over");
    }
}

#[test]
fn totals_wait_for_the_end_of_an_overload_and_are_right_then() {
    for room in ROOMS {
        let mut world = World::new();
        let (watcher, ann) = (world.native(0, "watcher"), world.native(1, "ann"));
        world.answers_pings(watcher);
        world.answers_pings(ann);
        world.say(watcher, join_notify(0, room));
        world.presses(OVERLOADED);
        world.say(ann, join(0, room));
        world.pass_ms(20 * PRESENCE_PERIOD_MS);
        world.say(ann, publish(0, room, "messages go on"));
        assert_eq!(world.heard(watcher), [format!("[{room} 1] ann: messages go on")]);
        world.presses(CALM);
        world.pass_ms(PRESENCE_PERIOD_MS);
        assert_eq!(world.heard(watcher), [format!("many in {room}, now 2")]);
        assert!(world.counters().shed_presence >= 20, "each time that it was put off");
    }
}

#[test]
fn a_room_whose_total_waits_is_not_forgotten_and_leaves_nothing_behind() {
    let mut world = World::with(|config| config.limits.history_count = 0);
    let ann = world.native(1, "ann");
    for room in ROOMS {
        world.say(ann, join(0, room));
    }
    world.presses(OVERLOADED);
    world.vanishes(ann);
    world.pass_ms(200_000);
    world.presses(CALM);
    world.pass_ms(200_000);
    assert_eq!(world.holdings(), vec![Holdings::default(); SHARDS]);
}

#[test]
fn nobody_is_told_online_or_offline_under_pressure_but_the_rooms_get_their_totals() {
    let mut world = World::new();
    let (watcher, ann) = (world.native(0, "watcher"), world.native(1, "ann"));
    world.say(watcher, join_notify(0, "porch"));
    world.say(ann, join(0, "porch"));
    world.hush();
    world.presses(STRAINED);
    world.vanishes(ann);
    world.pass_ms(10_000);
    assert_eq!(world.heard(watcher), ["many in porch, now 1"]);
    let back = world.comes_back(2, ann);
    world.pass_ms(1_000);
    assert_eq!(world.heard(back), ["resumed ann"]);
    assert_eq!(world.heard(watcher), ["many in porch, now 2"]);
}

#[test]
fn rosters_are_refused_while_overloaded_wherever_that_is() {
    for (shard, room) in (0..SHARDS).zip(ROOMS) {
        let mut world = World::new();
        let ann = world.native(0, "ann");
        let text = world.text(0, "eve");
        world.say(ann, join(0, room));
        world.presses_on(shard, STRAINED);
        world.say(ann, who(1, room));
        assert_eq!(world.heard(ann).len(), 1, "a strained one tells it");
        world.presses_on(shard, OVERLOADED);
        world.say(ann, who(2, room));
        assert_eq!(world.heard(ann), ["error 2: 503"], "home {shard}");
        world.hush();
        world.presses(OVERLOADED);
        world.types(text, "/who");
        let heard = world.heard(text);
        assert!(heard.len() == 1 && heard[0].starts_with("! 503 overloaded: "), "{heard:?}");
        assert_eq!((world.counters().shed_rosters, world.fate(text)), (2, Fate::Open));
        world.presses(CALM);
        world.say(ann, who(3, room));
        assert!(world.heard(ann)[0].starts_with("roster 3"), "it is over");
        world.say(ann, Request::Bye { code: 0, reason: "" });
        assert_eq!(world.counters().closed_for(CloseReason::Bye), 1, "no answer is waited for");
    }
}

fn look(world: &mut World, client: Client) -> (u16, Option<u64>) {
    world.send(client, get("/stats").as_bytes());
    let reply = world.responses(client).remove(0);
    (reply.status, reply.field("Retry-After").map(|seconds| seconds.parse().unwrap()))
}

#[test]
fn the_numbers_are_told_less_often_under_pressure_and_tell_of_it() {
    let mut world = World::with(|config| config.web.numbers = true);
    let browser = world.browser(0);
    for _ in 0..3 {
        assert_eq!(look(&mut world, browser), (200, None));
    }
    world.presses(STRAINED);
    assert_eq!(look(&mut world, browser), (200, None), "the first is served");
    for left_s in [5, 4, 3, 2, 1] {
        assert_eq!(look(&mut world, browser), (503, Some(left_s)));
        world.pass_ms(STATS_PERIOD_STRAINED_MS / 5);
    }
    world.send(browser, get("/stats").as_bytes());
    let stats: Value = serde_json::from_slice(&world.responses(browser)[0].body).expect("JSON");
    assert_eq!(stats["workers"][0]["pressure"]["level"], "strained");
    assert_eq!(stats["workers"][0]["pressure"]["shed_statistics"], 5);
    world.presses(FULL);
    assert_eq!(look(&mut world, browser), (200, None), "numbers take no descriptors");
}

#[test]
fn readyz_says_no_while_any_worker_is_overloaded() {
    let mut world = World::new();
    world.note_readiness(Readiness::Ready);
    let ask = |world: &mut World, shard: usize| {
        let browser = world.browser(shard);
        world.send(browser, get("/readyz").as_bytes());
        let reply = world.responses(browser).remove(0);
        (reply.status, reply.text().to_owned())
    };
    world.presses_on(1, STRAINED);
    assert_eq!(ask(&mut world, 1), (200, "ready\n".to_owned()), "it serves");
    world.presses_on(1, FULL);
    for shard in 0..SHARDS {
        assert_eq!(ask(&mut world, shard), (503, "overloaded\n".to_owned()));
    }
    assert_eq!(world.counters().overloaded_now, 1);
    world.note_readiness(Readiness::Draining);
    assert_eq!(ask(&mut world, 0), (503, "draining\n".to_owned()), "for good");
    world.note_readiness(Readiness::Ready);
    world.presses_on(1, CALM);
    assert_eq!(ask(&mut world, 0), (200, "ready\n".to_owned()));
    let counters = world.counters();
    assert_eq!((counters.overloaded_now, counters.strained_now), (0, 0));
    assert_eq!(counters.overload_pauses, 1);
}

#[test]
fn heartbeats_say_that_the_server_is_busy() {
    let mut world = World::new();
    let ann = world.native(0, "ann");
    let status = |world: &mut World| {
        world.raw(ann);
        world.say(ann, ping(1, 0));
        world.last_event(ann, |event| match event {
            Event::Pong(pong) => pong.status,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(status(&mut world), 0);
    world.presses(STRAINED);
    assert_eq!(status(&mut world), 1);
    world.presses(CALM);
    assert_eq!(status(&mut world), 0);
}
