//! The client's core against a server of the contract, in one thread under a seed: whatever is
//! lost under way, nothing is missing and nothing comes twice.
//!
//! `CB_SEED=123 cargo test --test client_core one_seed` repeats one run.

#[path = "client/refusals.rs"]
mod refusals;
#[path = "client/script.rs"]
mod script;
#[path = "client/server.rs"]
mod server;
#[path = "client/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use corebeat::base::ids::{Epoch, NodeId, Ref};
use corebeat::client::{
    Acknowledge, Answer, Code, Config, Event, GapReason, JoinOptions, RequestError, Resend, Seq,
    State,
};
use corebeat::wire::message::{self as wire, Heartbeat};
use script::{Said, Script};
use world::World;

const SEEDS: u64 = 100;

/// Each message of the room was told once and in its order, unless it is the client's own, or was
/// told to be missing.
fn check_room(world: &World) {
    let places: Vec<(u32, u64)> = world.heard.iter().map(|heard| (heard.0, heard.1)).collect();
    let distinct: BTreeSet<(u32, u64)> = places.iter().copied().collect();
    assert_eq!(distinct.len(), places.len(), "nothing comes twice: {places:?}");
    let epoch = world.server.epoch;
    let joined = world.joined.expect("the room was joined");
    let joined_at = if joined.0 == epoch { joined.1 } else { 0 };
    let placed = world
        .outcomes
        .iter()
        .filter_map(|(body, outcome)| Some((outcome.clone().ok()?, body.as_str())));
    let placed: BTreeMap<(u32, u64), &str> = placed.collect();
    for (number, said) in (1..).zip(&world.server.room) {
        let body = String::from_utf8(said.body.clone()).unwrap();
        if let Some(heard) = world.heard.iter().find(|heard| (heard.0, heard.1) == (epoch, number))
        {
            assert_eq!(heard.2, body);
            continue;
        }
        let told =
            world.gaps.iter().any(|gap| gap.0 == epoch && gap.1 <= number && number <= gap.2);
        let own = placed.get(&(epoch, number)) == Some(&body.as_str());
        let what = format!("{body} at {number} of {epoch}; {:?}; {places:?}", world.gaps);
        assert!(own || told || number <= joined_at, "{what}");
    }
}

/// What was said is in the room once, where its answer says, and is told to its author only where
/// no answer says that. Bodies repeat, so they are counted.
fn check_publishes(world: &World) {
    let epoch = world.server.epoch;
    let is_ours = |number: u64, body: &str| {
        let said = &world.server.room[number as usize - 1];
        said.from == "ann" && said.body == body.as_bytes()
    };
    let mut placed = BTreeSet::new();
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (body, outcome) in &world.outcomes {
        let (answered, uncertain) = counts.entry(body).or_default();
        match outcome {
            Ok(place) => {
                *answered += 1;
                assert!(placed.insert(*place), "{place:?} is the place of two messages");
                assert!(place.0 == epoch && is_ours(place.1, body), "{body} is not at {place:?}");
            }
            Err(RequestError::Uncertain) => *uncertain += 1,
            Err(other) => panic!("{body}: {other}"),
        }
    }
    for (body, (answered, uncertain)) in counts {
        let times = (1..=world.server.room.len() as u64).filter(|&number| is_ours(number, body));
        let times = times.count();
        let most = answered + uncertain;
        assert!((answered..=most).contains(&times), "{body} was said {times} times, not {most}");
        let told = world.heard.iter().filter(|heard| is_ours(heard.1, body));
        let told: Vec<(u32, u64)> = told.map(|heard| (heard.0, heard.1)).collect();
        let known = told.iter().find(|place| placed.contains(place));
        assert_eq!(known, None, "{body} was told to its author, who knew it");
        // Whoever is not sure whether it was said may learn it from the room.
        assert!(told.len() <= uncertain, "{body} was told {told:?} to its author");
    }
}

fn run(seed: u64, habits: impl Fn(&mut World, u32)) -> World {
    let mut world = World::new(seed, Resend::WithinSession);
    for step in 0..3_000 {
        habits(&mut world, step);
        world.step(false);
    }
    world.rest();
    world
}

/// How often its session was resumed.
fn cuts(seed: u64) -> u64 {
    let world = run(seed, |_, _| {});
    check_room(&world);
    check_publishes(&world);
    let uncertain = world.uncertain();
    assert_eq!(uncertain, 0, "sessions were never lost");
    assert!(world.gaps.is_empty(), "all was kept: {:?}", world.gaps);
    let in_order: Vec<u64> = world.heard.iter().map(|heard| heard.1).collect();
    assert!(in_order.is_sorted(), "{in_order:?}");
    assert!(world.server.directs.is_empty(), "all direct messages are acknowledged");
    let distinct: BTreeSet<&String> = world.directs.iter().collect();
    assert_eq!(distinct.len(), world.directs.len(), "no direct message comes twice");
    assert!(world.cuts > 0, "nothing was cut");
    world.server.resumed
}

#[test]
fn connections_are_cut_anywhere_and_nothing_is_lost_or_doubled() {
    let resumed: u64 = (0..SEEDS).map(cuts).sum();
    assert!(resumed > 10 * SEEDS, "{resumed} sessions were resumed");
}

#[test]
fn sessions_are_lost_and_what_is_uncertain_is_told() {
    let mut uncertain = 0;
    for seed in 0..SEEDS {
        let world = run(seed, |world, step| {
            if step % 500 == 499 {
                world.restart();
            }
        });
        check_room(&world);
        check_publishes(&world);
        assert!(world.gaps.is_empty(), "all was kept: {:?}", world.gaps);
        uncertain += world.uncertain();
    }
    assert!(uncertain > SEEDS as usize / 10, "{uncertain} answers were lost with a session");
}

#[test]
fn what_a_history_no_longer_has_is_told() {
    let mut told = 0;
    for seed in 0..SEEDS {
        let world = run(seed, |world, step| {
            let head = world.server.room.len();
            if step % 100 == 0 {
                world.server.kept_from = head.saturating_sub(3);
            }
            if step == 1_500 {
                world.restart();
                world.server.begin_epoch();
            }
        });
        check_room(&world);
        told += world.gaps.len();
    }
    assert!(told > SEEDS as usize, "{told} gaps");
}

#[test]
fn who_chooses_to_resend_loses_nothing_with_a_session() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, Resend::Always);
        for step in 0..2_000 {
            if step % 500 == 499 {
                world.restart();
            }
            world.step(false);
        }
        world.rest();
        let mut placed = BTreeSet::new();
        for (body, outcome) in &world.outcomes {
            let place = outcome.as_ref().unwrap_or_else(|error| panic!("{body}: {error}"));
            assert!(placed.insert(*place), "{place:?} is the place of two messages");
            let said = &world.server.room[place.1 as usize - 1];
            assert_eq!(said.body, body.as_bytes(), "{body} is not at {place:?}");
        }
    }
}

#[test]
fn one_seed() {
    if let Some(seed) = std::env::var("CB_SEED").ok().and_then(|seed| seed.parse().ok()) {
        cuts(seed);
    }
}

#[test]
fn ten_tries_a_quiet_period_and_each_address_in_its_turn() {
    let mut script = Script::new("one,two");
    for round in 0..2 {
        for attempt in 0..10 {
            let expected = if (round + attempt) % 2 == 0 { "one:8080" } else { "two:8080" };
            assert_eq!(script.dialed().as_deref(), Some(expected), "try {attempt}");
            script.lose();
            let (us, quiet) = script.waits().unwrap();
            assert!(us <= 32_000_000 && us <= 1_000_000 << attempt && !quiet);
            script.pass_ms(us.div_ceil(1_000));
        }
        assert!(script.dialed().is_some(), "the tenth wait is over");
        script.lose();
        assert_eq!(script.waits(), Some((300_000_000, true)));
        script.pass_ms(300_000);
    }
    // A success resets all of that, and is where the session is.
    script.welcome(false);
    script.lose();
    let (us, quiet) = script.waits().unwrap();
    assert!(us <= 1_000_000 && !quiet);
    script.pass_ms(1_000);
    assert!(script.dialed().is_some());
}

#[test]
fn a_connection_without_a_welcome_is_given_up() {
    let mut script = Script::new("one");
    script.dialed();
    script.core.connected(script.now);
    script.pass_ms(9_999);
    assert!(script.waits().is_none());
    script.pass_ms(1);
    assert!(script.hung_up() && script.waits().is_some());
}

#[test]
fn a_server_that_does_not_answer_is_left_and_any_word_is_an_answer() {
    let mut script = Script::in_lobby(40);
    let pong = |seq| wire::Event::Pong(Heartbeat { seq, ..Heartbeat::default() });
    script.now.us += 80_000;
    script.say(&pong(1));
    assert_eq!(script.core.round_trip_us(), Some(80_000));
    script.pass_ms(10_000);
    assert_eq!(script.said(), [Said::Ping(2)]);
    script.message(41, false);
    script.pass_ms(10_000);
    assert_eq!(script.said(), [Said::Ping(3)], "a message is life");
    script.pass_ms(10_000);
    assert!(script.hung_up() && script.waits().is_some());
}

#[test]
fn pings_of_the_server_are_answered() {
    let mut script = Script::in_lobby(0);
    script.said();
    let ping = Heartbeat { node: NodeId(3), time_ms: 77, status: 2, seq: 9 };
    script.say(&wire::Event::Ping(ping));
    let answer = Heartbeat { node: NodeId(0), status: 0, ..ping };
    assert_eq!(script.said(), [Said::Pong(answer)]);
}

#[test]
fn a_goaway_is_honoured_silence_then_its_time_then_its_address() {
    let mut script = Script::in_lobby(0);
    script.said();
    let (reason, address) = ("upgrade", "three:9");
    script.say(&wire::Event::GoAway { reconnect_after_ms: 500, reason, address });
    script.core.publish("lobby", b"later", false, script.now).unwrap();
    assert_eq!(script.said(), [], "nothing more is asked of it");
    script.lose();
    assert_eq!(script.waits(), Some((500_000, false)));
    script.pass_ms(500);
    assert_eq!(script.dialed().as_deref(), Some("three:9"));
    script.lose();
    script.pass_ms(1_000);
    assert_ne!(
        script.dialed().as_deref(),
        Some("three:9"),
        "it failed, and was no address of ours"
    );
}

#[test]
fn what_will_never_do_ends_the_client() {
    for (code, ends) in [(Code::Unauthorized, true), (Code::Conflict, true), (Code::Timeout, false)]
    {
        let mut script = Script::new("one");
        script.core.publish("lobby", b"x", false, script.now).unwrap();
        script.dialed();
        script.core.connected(script.now);
        script.say(&wire::Event::Error { reference: Ref(0), code, text: "no" });
        script.lose();
        assert_eq!(matches!(script.core.state(), State::Closed { .. }), ends, "{code:?}");
        let told = |event: &Event| matches!(event, Event::Answered(_, Err(RequestError::Closed)));
        assert_eq!(script.events().iter().any(told), ends, "what waits is told");
    }
}

#[test]
fn a_hole_is_asked_for_once_and_told_if_it_cannot_be_filled() {
    let mut script = Script::in_lobby(40);
    script.said();
    script.message(43, false);
    let [Said::Join { reference, epoch: 7, since: 40 }] = script.said()[..] else {
        panic!("it asks for what follows 40");
    };
    script.ok(reference, 7, 43);
    (41..=43).for_each(|seq| script.message(seq, true));
    assert_eq!(script.told(), [41, 42, 43]);
    script.message(46, false);
    let reference = script.reference_of_join();
    script.ok(reference, 7, 46);
    script.message(46, true);
    let events = script.events();
    let gap = events.iter().find_map(|event| match event {
        Event::Gap(gap) => Some((gap.from.0, gap.to.0, gap.reason)),
        _ => None,
    });
    assert_eq!(gap, Some((44, 45, GapReason::NotKept)));
    assert!(matches!(events.last(), Some(Event::Message(message)) if message.place.seq.0 == 46));
    assert_eq!(script.said(), [], "it does not ask again");
}

#[test]
fn rooms_come_before_what_is_repeated_under_its_ref() {
    let mut script = Script::in_lobby(40);
    script.said();
    script.core.publish("lobby", b"arrived", false, script.now).unwrap();
    let [Said::Publish { reference: first, .. }] = script.said()[..] else {
        panic!("it is sent at once");
    };
    script.lose();
    script.core.publish("lobby", b"offline", false, script.now).unwrap();
    script.pass_ms(1_000);
    script.welcome(true);
    let said = script.said();
    let joins = |said: &&Said| matches!(said, Said::Join { since: 40, epoch: 7, .. });
    assert_eq!(said.iter().filter(joins).count(), 1, "{said:?}");
    assert!(!said.iter().any(|said| matches!(said, Said::Publish { .. })), "{said:?}");
    let Some(&Said::Join { reference, .. }) = said.iter().find(joins) else { unreachable!() };
    script.ok(reference, 7, 40);
    let said = script.said();
    assert_eq!(said[0], Said::Publish { reference: first, body: b"arrived".to_vec() });
    assert!(matches!(&said[1], Said::Publish { body, .. } if body == b"offline"), "{said:?}");
}

#[test]
fn direct_messages_are_acknowledged_when_they_are_taken_and_told_once() {
    let mut script = Script::in_lobby(0);
    script.said();
    let direct = |id| wire::Event::Direct { id, time_ms: 1, from: "bob", body: b"x", replay: true };
    script.say(&direct(1));
    script.say(&direct(2));
    assert_eq!(script.said(), [], "nobody has them yet");
    assert_eq!(script.events().len(), 2);
    assert_eq!(script.said(), [Said::Ack(2)], "one acknowledgement is enough");
    script.say(&direct(2));
    assert!(script.events().is_empty());
    assert_eq!(script.said(), [Said::Ack(2)], "the server did not hear it");
}

#[test]
fn who_acknowledges_by_hand_does_so_when_it_has_stored_them() {
    let mut config = Config::new("one", "ann").unwrap();
    config.acknowledge = Acknowledge::ByHand;
    let mut script = Script::with(config).into_lobby(0);
    script.said();
    let direct = |id| wire::Event::Direct { id, time_ms: 1, from: "bob", body: b"x", replay: true };
    script.say(&direct(1));
    script.say(&direct(2));
    assert_eq!(script.events().len(), 2);
    assert_eq!(script.said(), [], "taken is not stored");
    script.core.acknowledge(1);
    assert_eq!(script.said(), [Said::Ack(1)]);
    script.say(&direct(1));
    script.say(&direct(2));
    assert!(script.events().is_empty(), "none is told twice");
    assert_eq!(script.said(), [Said::Ack(1)], "the server did not hear it of the first one");
    script.core.acknowledge(2);
    script.lose();
    script.pass_ms(1_000);
    script.welcome(true);
    script.say(&direct(2));
    assert!(script.events().iter().all(|event| !matches!(event, Event::Direct(_))));
    assert!(script.said().contains(&Said::Ack(2)), "the connection was lost before it was said");
}

#[test]
fn an_answer_may_be_taken_ahead_of_what_waits() {
    let mut script = Script::in_lobby(0);
    script.said();
    let ticket = script.core.publish("lobby", b"x", false, script.now).unwrap();
    let [Said::Publish { reference, .. }] = script.said()[..] else { panic!("it is sent") };
    script.say(&wire::Event::Direct { id: 1, time_ms: 1, from: "b", body: b"x", replay: false });
    script.ok(reference, 7, 1);
    script.message(2, false);
    assert!(matches!(script.core.poll_answer(ticket, script.now), Some(Ok(Answer::Sent(_)))));
    assert_eq!(script.core.poll_answer(ticket, script.now), None, "once");
    assert_eq!(script.said(), [], "nobody has taken the direct message");
    assert_eq!(script.events().len(), 2);
    assert_eq!(script.said(), [Said::Ack(1)]);
}

#[test]
fn what_a_closed_connection_did_not_take_is_not_said_on_the_next() {
    let mut script = Script::in_lobby(0);
    script.said();
    script.core.publish("lobby", b"x", false, script.now).unwrap();
    let half = script.core.outgoing().len() / 2;
    script.core.wrote(half);
    script.core.close();
    assert!(script.hung_up());
    script.core.start(script.now);
    // Whole frames, of which the first is the hello.
    script.welcome(false);
}

#[test]
fn what_was_missed_of_earlier_epochs_is_told_though_a_history_is_asked_for() {
    let mut script = Script::in_lobby(40);
    script.said();
    script.lose();
    script.core.history("lobby", Seq(0), 0, script.now).unwrap();
    script.pass_ms(1_000);
    script.welcome(true);
    let reference = script.reference_of_join();
    script.events();
    script.ok(reference, 9, 2);
    let [Said::History { reference }] = script.said()[..] else { panic!("now it is asked") };
    let replay = [(7, 41), (7, 42), (8, 1), (9, 1), (9, 2)];
    replay.iter().for_each(|&(epoch, seq)| script.message_of(epoch, seq, true));
    let history = [(6, 5), (7, 40), (7, 41), (8, 1), (9, 1)];
    history.iter().for_each(|&(epoch, seq)| script.message_of(epoch, seq, true));
    script.ok(reference, 9, 2);
    let events = script.events();
    let told = events.iter().filter_map(|event| match event {
        Event::Message(message) => Some((message.place.epoch.0, message.place.seq.0)),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<(u32, u64)>>(), replay, "each once, and none of the history");
}

#[test]
fn durations_may_be_as_long_as_they_like() {
    let mut config = Config::new("one", "ann").unwrap();
    let longest = std::time::Duration::MAX;
    (config.connect_timeout, config.ping_every, config.pong_timeout) = (longest, longest, longest);
    (config.backoff_first, config.backoff_longest, config.quiet) = (longest, longest, longest);
    config.backoff_tries = 0;
    let mut script = Script::with(config);
    script.pass_ms(1_000_000);
    script.welcome(false);
    script.pass_ms(1_000_000_000);
    script.lose();
    assert!(matches!(script.waits(), Some((us, true)) if us > 1 << 60));
    script.pass_ms(1_000_000_000);
    assert!(script.dialed().is_none());
}

#[test]
fn a_server_that_counts_beyond_all_numbers_is_left() {
    let mut script = Script::in_lobby(40);
    script.message(u64::MAX, false);
    assert!(script.hung_up() && script.waits().is_some());
    let mut script = Script::new("one");
    script.core.join("lobby", JoinOptions::default(), script.now).unwrap();
    script.welcome(false);
    let reference = script.reference_of_join();
    script.ok(reference, 7, u64::MAX);
    assert!(script.hung_up());
}

#[test]
fn a_gap_that_names_nothing_takes_nothing_away() {
    let mut script = Script::in_lobby(2);
    let (epoch, room) = (Epoch(7), "lobby");
    script.say(&wire::Event::Gap { epoch, from: Seq(9), to: Seq(5), room });
    script.say(&wire::Event::Gap { epoch: Epoch(0), from: Seq(9), to: Seq(5), room: "" });
    script.message(3, false);
    let events = script.events();
    assert!(matches!(&events[..], [Event::Message(message)] if message.place.seq == Seq(3)));
}

#[test]
fn an_answer_without_an_end_is_not_kept_whole() {
    const LONGEST: usize = 1_000;
    let mut script = Script::in_lobby(0);
    script.said();
    script.core.history("lobby", Seq(0), 0, script.now).unwrap();
    let [Said::History { reference }] = script.said()[..] else { panic!("it asks") };
    (1..=3 * LONGEST as u64).for_each(|seq| script.message(seq, true));
    script.ok(reference, 7, 3 * LONGEST as u64);
    let answer = script.events().into_iter().find_map(|event| match event {
        Event::Answered(_, Ok(Answer::History(history))) => Some(history.messages.len()),
        _ => None,
    });
    assert_eq!(answer, Some(LONGEST));
}

#[test]
fn a_program_that_takes_nothing_is_sent_nothing_more() {
    let mut script = Script::in_lobby(0);
    let mut seq = 0;
    while !script.core.is_full() {
        seq += 1;
        script.message(seq, false);
    }
    script.message(seq + 1, false);
    script.pass_ms(60_000);
    assert!(!script.hung_up(), "the silence is our own");
    let told = script.told();
    assert!(told.is_sorted() && told.len() as u64 == seq + 1, "none is lost: {}", told.len());
}
