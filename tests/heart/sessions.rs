//! Sessions that outlive their connections.

use corebeat::base::counters::CloseReason;
use corebeat::base::ids::SessionId;
use corebeat::base::limits::{REF_WINDOW, ROOM_IDLE_MS};
use corebeat::wire::message::{Event, Hello, Request};

use super::ear::{BIN, JSON, closing};
use super::speech::{
    ack, direct, frames, hello, history, join, join_notify, join_since, leave, publish,
    publish_echo, who,
};
use super::world::{Client, Fate, ROOMS, SHARDS, World};

const BYE: Request<'static> = Request::Bye { code: 0, reason: "" };

/// A room with somebody in it who wants presence and can speak there.
fn watched(room: &str) -> (World, Client) {
    let mut world = World::new();
    let watcher = world.native(1, "watcher");
    world.answers_pings(watcher);
    world.say(watcher, join_notify(0, room));
    (world, watcher)
}

fn is_all_given_back(world: &mut World) {
    for holdings in world.holdings() {
        assert_eq!((holdings.kept_sessions, holdings.away_sessions), (0, 0), "{holdings:?}");
        assert_eq!((holdings.unsettled_sessions, holdings.tellings), (0, 0), "{holdings:?}");
        assert_eq!((holdings.sessions, holdings.users), (0, 0), "{holdings:?}");
    }
}

#[test]
fn a_welcome_tells_the_session_and_its_key_which_open_it_again() {
    let mut world = World::new();
    let ann = world.greet(2, hello("ann"));
    let expected = world.session(ann);
    world.last_event(ann, |event| {
        let Event::Welcome(welcome) = event else { panic!("{event:?}") };
        assert_eq!((welcome.session, welcome.resume_key), expected);
        assert!(!welcome.resumed && SessionId::from_bits(welcome.session).is_some());
    });
    world.vanishes(ann);
    let again = world.comes_back(1, ann);
    world.last_event(again, |event| {
        let Event::Welcome(welcome) = event else { panic!("{event:?}") };
        assert_eq!((welcome.session, welcome.resume_key), expected);
        assert!(welcome.resumed);
    });
}

#[test]
fn a_blink_of_the_network_is_no_event_and_loses_nothing() {
    for room in ROOMS {
        for (before, after) in (0..SHARDS).flat_map(|a| (0..SHARDS).map(move |b| (a, b))) {
            let (mut world, watcher) = watched(room);
            let ann = world.native(before, "ann");
            world.say(ann, join(1, room));
            world.say(watcher, publish(0, room, "heard"));
            world.hush();
            world.vanishes(ann);
            world.say(watcher, publish(0, room, "missed"));
            world.say(watcher, publish(0, room, "missed, too"));
            world.pass_ms(2_999);
            let ann = world.comes_back(after, ann);
            world.say(watcher, publish(0, room, "live"));
            let expected = [
                "resumed ann".to_owned(),
                format!("again [{room} 2] watcher: missed"),
                format!("again [{room} 3] watcher: missed, too"),
                format!("[{room} 4] watcher: live"),
            ];
            assert_eq!(world.heard(ann), expected, "from shard {before} to {after}");
            world.pass_ms(10_000);
            world.say(ann, publish(1, room, "here I am"));
            assert_eq!(world.heard(watcher), [format!("[{room} 5] ann: here I am")]);
            assert_eq!(world.counters().resumed, 1);
        }
    }
}

#[test]
fn who_is_away_for_too_long_leaves_and_comes_again() {
    for room in ROOMS {
        let (mut world, watcher) = watched(room);
        let ann = world.native(0, "ann");
        world.say(ann, join_notify(1, room));
        world.hush();
        world.vanishes(ann);
        world.pass_ms(2_999);
        world.say(watcher, who(1, room));
        assert_eq!(world.heard(watcher), ["roster 1 of 2: ann watcher"]);
        world.pass_ms(1);
        assert_eq!(world.heard(watcher), [format!("ann left {room}, now 1"), "ann Offline".into()]);
        world.say(watcher, who(1, room));
        assert_eq!(world.heard(watcher), ["roster 1 of 1: watcher"]);
        world.pass_ms(80_000);
        world.hush();
        let ann = world.comes_back(2, ann);
        let many = format!("many in {room}, now 2");
        assert_eq!(world.heard(ann), ["resumed ann".to_owned(), many]);
        let mut heard = world.heard(watcher);
        heard.sort_unstable();
        assert_eq!(heard, ["ann Online".to_owned(), format!("ann joined {room}, now 2")]);
    }
}

#[test]
fn those_who_meet_a_user_in_several_rooms_are_told_once_that_it_is_offline() {
    let mut world = World::new();
    let watchers: Vec<Client> = (0..SHARDS).map(|shard| world.native(shard, "eve")).collect();
    let (typist, deaf) = (world.text(0, "typist"), world.native(1, "deaf"));
    let ann = world.native(2, "ann");
    for room in ROOMS {
        watchers.iter().for_each(|watcher| world.say(*watcher, join_notify(0, room)));
        world.say(deaf, join(0, room));
        world.say(ann, join(0, room));
    }
    let phone = world.native(1, "ann");
    world.hush();
    let offline = |heard: Vec<String>| heard.iter().filter(|words| *words == "ann Offline").count();
    world.vanishes(ann);
    world.pass_ms(3_000);
    assert_eq!(offline(world.heard(watchers[0])), 0, "she has a phone");
    let ann = world.comes_back(0, ann);
    assert!(!world.heard(watchers[0]).contains(&"ann Online".to_owned()));
    world.say(phone, BYE);
    world.hush();
    world.vanishes(ann);
    world.pass_ms(3_000);
    for watcher in watchers {
        assert_eq!(offline(world.heard(watcher)), 1);
    }
    let typed = world.heard(typist);
    assert_eq!(typed.iter().filter(|line| *line == "* ann is offline").count(), 1, "{typed:?}");
    assert!(world.heard(deaf).is_empty());
}

#[test]
fn crowded_rooms_are_told_of_no_single_user() {
    let mut world = World::with(|config| config.limits.presence_max = 2);
    let watcher = world.native(1, "watcher");
    for (shard, user) in ["ann", "bob", "eve"].into_iter().enumerate() {
        let client = world.native(shard, user);
        world.say(client, join(0, "porch"));
        if user == "eve" {
            world.say(watcher, join_notify(0, "porch"));
            world.pass_ms(1_000);
            world.hush();
            world.vanishes(client);
        }
    }
    world.pass_ms(4_000);
    assert_eq!(world.heard(watcher), ["many in porch, now 3"]);
}

#[test]
fn a_wrong_key_learns_nothing() {
    let (mut world, watcher) = watched("attic");
    let ann = world.native(0, "ann");
    world.say(ann, join(0, "attic"));
    let (session, resume_key) = world.session(ann);
    let guesses = [
        Hello { session, resume_key: resume_key ^ 1, ..hello("ann") },
        Hello { session: session ^ 1, resume_key, ..hello("ann") },
        Hello { session: 0, resume_key, ..hello("ann") },
        Hello { session: u64::MAX, resume_key, ..hello("ann") },
    ];
    world.hush();
    for is_live in [true, false] {
        for guess in guesses {
            let thief = world.greet(1, guess);
            assert_eq!(world.heard(thief), ["welcome ann"]);
            world.say(thief, BYE);
        }
        if is_live {
            world.vanishes(ann);
        }
    }
    assert_eq!(world.counters().resumes_denied, 0);
    assert!(world.heard(watcher).is_empty());
    let ann = world.comes_back(1, ann);
    assert_eq!(world.heard(ann), ["resumed ann"], "it was still there");
}

#[test]
fn another_user_is_not_given_the_session_and_does_not_end_it() {
    let mut world = World::new();
    for shard in 0..SHARDS {
        let ann = world.native(0, "ann");
        let (session, resume_key) = world.session(ann);
        let bob = world.greet(shard, Hello { session, resume_key, ..hello("bob") });
        assert_eq!(world.heard(bob), ["welcome bob"]);
        assert_eq!(world.fate(ann), Fate::Open);
        world.vanishes(ann);
        let bob = world.greet(shard, Hello { session, resume_key, ..hello("bob") });
        assert_eq!(world.heard(bob), ["welcome bob"]);
        let again = world.greet(shard, Hello { session, resume_key, ..hello("ann") });
        assert_eq!(world.heard(again), ["resumed ann"]);
        let bob = world.greet(1, Hello { session, resume_key, ..hello("bob") });
        assert_eq!(world.heard(bob), ["welcome bob"], "she lives away from where it began");
        assert_eq!(world.fate(again), Fate::Open);
    }
    assert_eq!(world.counters().resumes_denied, 9);
}

#[test]
fn who_claims_a_session_takes_it_from_a_connection_that_seems_to_live() {
    for (born, then, last) in [(0, 0, 0), (0, 1, 2), (1, 1, 0), (2, 0, 2), (0, 2, 2)] {
        let (mut world, watcher) = watched("porch");
        let first = world.native(born, "ann");
        world.say(first, join(0, "porch"));
        world.hush();
        let second = world.comes_back(then, first);
        assert_eq!(world.heard(second), ["resumed ann"]);
        assert!(world.heard(first).is_empty(), "it is closed without a word");
        world.half_closes(first);
        assert_eq!(world.fate(first), Fate::Closed(CloseReason::Superseded));
        let third = world.comes_back(last, first);
        assert_eq!(world.heard(third), ["resumed ann"]);
        assert_eq!(world.fate(second), Fate::HalfClosed);
        world.say(watcher, publish(0, "porch", "to the last one"));
        assert_eq!(world.heard(third), ["[porch 1] watcher: to the last one"]);
        world.pass_ms(5_000);
        assert!(world.heard(watcher).is_empty());
        world.say(third, BYE);
        world.say(watcher, BYE);
        world.half_closes(second);
        world.half_closes(third);
        world.half_closes(watcher);
        is_all_given_back(&mut world);
    }
}

#[test]
fn who_said_goodbye_cannot_come_back() {
    let mut world = World::new();
    for shard in 0..SHARDS {
        let ann = world.native(0, "ann");
        world.say(ann, join(0, "attic"));
        let away = world.comes_back(shard, ann);
        assert_eq!(world.heard(away), ["resumed ann"]);
        world.say(away, BYE);
        let late = world.comes_back(shard, ann);
        assert_eq!(
            world.heard(late),
            ["welcome guest-1"].map(|_| format!("welcome guest-{}", shard + 1))
        );
        world.say(late, BYE);
    }
    let broken = world.native(0, "ann");
    world.send(broken, b"no frame");
    let late = world.comes_back(1, broken);
    assert!(world.heard(late)[0].starts_with("welcome guest-"), "a fault ends a session, too");
}

#[test]
fn a_session_is_kept_for_the_window_and_not_longer() {
    let mut world = World::new();
    for shard in 0..SHARDS {
        let ann = world.native(0, "ann");
        world.say(ann, join(0, "porch"));
        world.vanishes(ann);
        world.pass_ms(119_999);
        let again = world.comes_back(shard, ann);
        assert_eq!(world.heard(again), ["resumed ann"]);
        world.vanishes(again);
        world.pass_ms(120_000);
        let late = world.comes_back(shard, ann);
        assert!(world.heard(late)[0].starts_with("welcome guest"));
        world.say(late, BYE);
        world.half_closes(late);
        is_all_given_back(&mut world);
        assert_eq!(world.counters().sessions_expired, shard as u64 + 1);
    }
}

#[test]
fn a_session_whose_time_is_over_leaves_its_rooms_and_what_it_did_not_acknowledge() {
    for (shard, room) in (0..SHARDS).zip(ROOMS) {
        let (mut world, watcher) = watched(room);
        let ann = world.native(shard, "ann");
        world.say(ann, join(0, room));
        for body in ["one", "two", "three"] {
            world.say(watcher, direct(0, "ann", body));
        }
        world.say(ann, ack(1));
        world.hush();
        world.vanishes(ann);
        world.say(watcher, direct(0, "ann", "four"));
        world.pass_ms(119_999);
        let mut told = world.heard(watcher);
        told.retain(|words| words != "ping");
        assert_eq!(told, [format!("ann left {room}, now 1"), "ann Offline".to_owned()]);
        assert_eq!(world.holdings()[shard].kept_sessions, 1);
        world.pass_ms(1);
        assert!(world.heard(watcher).is_empty(), "it is told once");
        world.say(watcher, who(1, room));
        assert_eq!(world.heard(watcher), ["roster 1 of 1: watcher"]);
        let late = world.comes_back((shard + 1) % SHARDS, ann);
        let heard = world.heard(late);
        assert!(heard.len() == 1 && heard[0].starts_with("welcome guest"), "{heard:?}");
        let queued: usize = world.holdings().iter().map(|held| held.queued_directs).sum();
        assert_eq!(queued, 3);
        let again = world.greet((shard + 1) % SHARDS, hello("ann"));
        let expected =
            ["two", "three", "four"].map(|body| format!("again [watcher -> you] {body}"));
        assert_eq!(world.heard(again)[1..], expected);
        world.say(again, ack(4));
        assert!(world.holdings().iter().all(|held| (held.inboxes, held.kept_sessions) == (0, 0)));
    }
}

#[test]
fn without_a_window_who_is_cut_off_leaves_at_once() {
    let mut world = World::with(|config| config.limits.resume_window_ms = 0);
    let (watcher, ann) = (world.native(1, "watcher"), world.native(0, "ann"));
    world.say(watcher, join_notify(0, "porch"));
    world.say(ann, join(0, "porch"));
    world.hush();
    world.vanishes(ann);
    assert_eq!(world.heard(watcher), ["ann left porch, now 1"]);
    let again = world.comes_back(1, ann);
    assert!(world.heard(again)[0].starts_with("welcome guest"));
}

#[test]
fn without_a_grace_who_is_cut_off_leaves_at_once_and_may_come_back() {
    let mut world = World::with(|config| config.limits.presence_grace_ms = 0);
    let (watcher, ann) = (world.native(1, "watcher"), world.native(0, "ann"));
    world.say(watcher, join_notify(0, "porch"));
    world.say(ann, join(0, "porch"));
    world.hush();
    world.vanishes(ann);
    assert_eq!(world.heard(watcher), ["ann left porch, now 1", "ann Offline"]);
    let again = world.comes_back(1, ann);
    assert_eq!(world.heard(again), ["resumed ann"]);
    assert!(world.heard(watcher).contains(&"ann joined porch, now 2".to_owned()));
}

#[test]
fn the_oldest_gives_way_where_too_many_are_kept() {
    let mut world = World::with(|config| config.limits.max_kept_sessions = 2);
    let clients = ["ann", "bob", "eve"].map(|user| world.native(0, user));
    clients.into_iter().for_each(|client| world.vanishes(client));
    assert_eq!(world.holdings()[0].kept_sessions, 2);
    assert_eq!(world.counters().sessions_expired, 1);
    let back = clients.map(|client| world.comes_back(1, client));
    let greetings = back.map(|client| world.heard(client).remove(0));
    assert_eq!(greetings, ["welcome guest-2", "resumed bob", "resumed eve"]);
}

#[test]
fn a_repetition_after_a_resume_is_still_a_repetition() {
    for room in ROOMS {
        let (mut world, watcher) = watched(room);
        let ann = world.native(0, "ann");
        for reference in 1..=REF_WINDOW as u32 {
            world.say(ann, publish(reference, room, "once"));
        }
        world.hush();
        world.vanishes(ann);
        let ann = world.comes_back(2, ann);
        world.say(ann, publish(1, room, "once"));
        world.say(ann, publish(REF_WINDOW as u32, room, "once"));
        let expected = ["resumed ann", "ok 1: 1 duplicate", "ok 1024: 1024 duplicate"];
        assert_eq!(world.heard(ann), expected);
        assert!(world.heard(watcher).is_empty());
    }
}

#[test]
fn a_request_that_was_under_way_is_answered_on_the_next_connection() {
    let (mut world, watcher) = watched("porch");
    let ann = world.native(0, "ann");
    world.say(ann, join(9, "porch"));
    world.hush();
    world.stall(1);
    world.say(ann, publish(1, "porch", "is it said?"));
    world.vanishes(ann);
    assert_eq!(world.holdings()[0].unsettled_sessions, 1, "its answer is under way");
    let again = world.comes_back(2, ann);
    assert!(world.heard(again).is_empty(), "nor is it granted before");
    world.send(again, &frames(&[publish(1, "porch", "is it said?")]));
    world.go_on();
    let expected = ["resumed ann", "ok 1: 1 duplicate", "again [porch 1] ann: is it said?"];
    let mut heard = world.heard(again);
    heard.sort_by_key(|words| expected.iter().position(|expected| expected == words));
    assert_eq!(heard, expected);
    assert_eq!(world.heard(watcher), ["[porch 1] ann: is it said?"]);
}

#[test]
fn what_the_kernel_had_not_acknowledged_comes_again_and_no_more_than_that() {
    for room in ROOMS {
        let frame_bytes = 8 + 4 + 8 + 8 + (1 + room.len()) + (1 + "watcher".len()) + 17;
        let cases = [
            (0, 21),
            (1, 20),
            (frame_bytes, 20),
            (frame_bytes + 1, 19),
            (10 * frame_bytes, 11),
            (1_000_000, 1),
        ];
        for (lost_bytes, first) in cases {
            let (mut world, watcher) = watched(room);
            let ann = world.native(0, "ann");
            world.say(ann, join(0, room));
            world.raw(ann);
            for number in 1..=20 {
                world.say(watcher, publish(0, room, &format!("{number:017}")));
            }
            assert_eq!(world.raw(ann).len(), 20 * frame_bytes);
            world.loses_last(ann, lost_bytes);
            world.vanishes(ann);
            let again = world.comes_back(1, ann);
            let heard = world.heard(again);
            let places: Vec<u64> = heard[1..].iter().map(|words| place_of(words)).collect();
            assert_eq!(places, (first..=20).collect::<Vec<u64>>(), "{lost_bytes} were lost");
        }
    }
}

/// The place of a message in its room.
fn place_of(words: &str) -> u64 {
    let end = words.find(']').unwrap_or_else(|| panic!("no message: {words}"));
    let (_, place) = words[..end].rsplit_once(' ').expect("a room and a place");
    place.parse().expect("a number")
}

#[test]
fn its_own_messages_do_not_hide_what_was_lost() {
    let (mut world, watcher) = watched("porch");
    let ann = world.native(0, "ann");
    world.say(ann, join(0, "porch"));
    world.say(watcher, publish(0, "porch", "lost"));
    for _ in 0..50 {
        world.say(ann, publish(0, "porch", "she is not sent what she says"));
    }
    world.loses_last(ann, 10);
    world.vanishes(ann);
    let ann = world.comes_back(1, ann);
    assert_eq!(world.heard(ann)[1], "again [porch 1] watcher: lost");
}

#[test]
fn a_reader_that_was_too_slow_gets_on_its_next_connection_what_it_was_not_sent() {
    for (room, reads) in ROOMS.into_iter().flat_map(|room| [(room, 0), (room, 700)]) {
        let mut world = World::with(|config| config.limits.max_outbound = 4 << 10);
        let (watcher, slow) = (world.native(1, "watcher"), world.native(0, "slow"));
        world.say(slow, join(0, room));
        world.hush();
        world.stops_reading(slow);
        world.reads(slow, reads);
        for number in 1..=100 {
            world.say(watcher, publish(0, room, &format!("{number}: {}", "x".repeat(40))));
        }
        assert_eq!(world.counters().closed_for(CloseReason::SlowReader), 1);
        let last = world.heard_whole(slow).last().map_or(0, |words| place_of(words));
        let again = world.comes_back(2, slow);
        let heard = world.heard(again);
        let places: Vec<u64> = heard[1..].iter().map(|words| place_of(words)).collect();
        assert!(places[0] <= last + 1, "{} follows {last}", places[0]);
        assert!(places[0] + 1 >= last, "no more than the half that was read comes again");
        assert_eq!(places, (places[0]..=100).collect::<Vec<_>>());
    }
}

#[test]
fn a_session_that_falls_silent_is_kept_too() {
    let (mut world, watcher) = watched("attic");
    let ann = world.native(0, "ann");
    world.say(ann, join(0, "attic"));
    world.pass_ms(91_000);
    world.say(watcher, publish(0, "attic", "hello?"));
    let again = world.comes_back(0, ann);
    assert_eq!(world.heard(again), ["resumed ann", "again [attic 1] watcher: hello?"]);
}

#[test]
fn where_part_is_gone_a_gap_says_so() {
    for room in ROOMS {
        let mut world = World::with(|config| config.limits.history_count = 3);
        let (watcher, ann) = (world.native(1, "watcher"), world.native(0, "ann"));
        world.say(ann, join(0, room));
        world.say(watcher, publish(0, room, "1"));
        world.vanishes(ann);
        for number in 2..=8 {
            world.say(watcher, publish(0, room, &number.to_string()));
        }
        let again = world.comes_back(2, ann);
        let mut expected = vec!["resumed ann".to_owned(), format!("gap in {room}: 2 to 5")];
        expected.extend((6..=8).map(|it| format!("again [{room} {it}] watcher: {it}")));
        assert_eq!(world.heard(again), expected);
    }
}

#[test]
fn a_long_replay_that_is_cut_off_goes_on_where_it_was() {
    for room in ROOMS {
        let mut world = World::with(|config| {
            config.limits.max_outbound = 16 << 10;
            config.limits.history_count = 10_000;
        });
        let (watcher, ann) = (world.native(1, "watcher"), world.native(0, "ann"));
        world.say(ann, join(0, room));
        world.vanishes(ann);
        for number in 1..=1_000 {
            world.say(watcher, publish(0, room, &number.to_string()));
        }
        let (mut came_to, mut last) = (0, ann);
        for shard in 0..30 {
            last = world.greet(shard % SHARDS, {
                let (session, resume_key) = world.session(ann);
                Hello { session, resume_key, ..hello("") }
            });
            let stuck = shard < 20;
            if stuck {
                world.stops_reading(last);
            }
            world.say(watcher, publish(0, room, "more"));
            for words in world.heard_whole(last).iter().filter(|words| words.contains('[')) {
                assert!(place_of(words) <= came_to + 1, "{words} follows {came_to}");
                came_to = came_to.max(place_of(words));
            }
            world.vanishes(last);
        }
        assert_eq!(came_to, 1_030);
        let _ = last;
    }
}

#[test]
fn a_room_that_was_left_or_never_entered_is_not_joined_again() {
    let mut world = World::new();
    let ann = world.native(0, "ann");
    world.say(ann, join(1, "attic"));
    world.say(ann, join(2, "porch"));
    world.say(ann, leave(3, "attic"));
    world.stall(1);
    world.say(ann, join(4, "lobby"));
    world.vanishes(ann);
    world.go_on();
    let again = world.comes_back(2, ann);
    world.hush();
    world.say(again, who(5, "porch"));
    world.say(again, leave(6, "attic"));
    assert_eq!(world.heard(again), ["roster 5 of 1: ann", "error 6: 404"]);
}

#[test]
fn a_resumed_session_may_join_again_and_leave_while_it_is_being_let_in() {
    let (mut world, watcher) = watched("porch");
    let ann = world.native(0, "ann");
    world.say(ann, join(1, "porch"));
    world.vanishes(ann);
    world.say(watcher, publish(0, "porch", "missed"));
    let (session, resume_key) = world.session(ann);
    let back = Hello { session, resume_key, ..hello("ann") };
    let both = [Request::Hello(back), join_since(2, "porch", 0, 1), leave(3, "porch")];
    let ann = world.connect(2);
    world.hush();
    world.send(ann, &frames(&both));
    let heard = world.heard(ann);
    assert_eq!(heard.iter().filter(|words| *words == "resumed ann").count(), 1);
    assert!(heard.contains(&"ok 2: 1".to_owned()) && heard.contains(&"ok 3: 0".to_owned()));
    assert_eq!(world.heard(watcher), ["ann left porch, now 1"]);
    world.say(ann, history(4, "porch", 0, 0));
    assert_eq!(world.heard(ann).len(), 2);
}

#[test]
fn a_claimer_that_is_gone_leaves_the_session_to_the_next_one() {
    let mut world = World::new();
    let ann = world.native(1, "ann");
    world.say(ann, join(0, "attic"));
    world.vanishes(ann);
    world.stall(1);
    let hasty = world.comes_back(0, ann);
    let also_hasty = world.comes_back(2, ann);
    world.vanishes(hasty);
    world.vanishes(also_hasty);
    world.go_on();
    assert_eq!(world.holdings()[1].kept_sessions, 1);
    let third = world.comes_back(0, ann);
    assert_eq!(world.heard(third), ["resumed ann"]);
}

#[test]
fn of_two_who_claim_a_session_at_once_the_later_one_keeps_it() {
    let mut world = World::new();
    let ann = world.native(1, "ann");
    world.stall(1);
    let (hasty, later) = (world.comes_back(0, ann), world.comes_back(2, ann));
    world.go_on();
    let (first, second) = (world.heard(hasty), world.heard(later));
    assert_eq!(second, ["resumed ann"]);
    assert!(first == ["resumed ann"] || first[0].starts_with("welcome guest"), "{first:?}");
}

#[test]
fn a_claim_that_is_never_answered_ends_as_a_late_hello() {
    let mut world = World::new();
    let ann = world.native(1, "ann");
    world.vanishes(ann);
    world.stall(1);
    let again = world.comes_back(0, ann);
    assert!(!world.wants_input(again));
    world.suspend_ms(10_000);
    assert_eq!(world.heard(again), ["error 0: 408"]);
    world.go_on();
    assert_eq!(world.holdings()[1].kept_sessions, 1);
}

#[test]
fn in_every_dialect_a_session_goes_on_and_may_change_it() {
    for (subprotocol, shard) in [(JSON, 0), (BIN, 1), (JSON, 2)] {
        let (mut world, watcher) = watched("lobby");
        let ann = world.web(shard, subprotocol, "ann");
        world.say(ann, join(1, "lobby"));
        world.hush();
        world.send(ann, &closing(4_000, "this link seems dead"));
        world.say(watcher, publish(0, "lobby", "missed"));
        let (session, resume_key) = world.session(ann);
        let back = Request::Hello(Hello { session, resume_key, ..hello("ann") });
        let web = world.websocket(1, "/ws", subprotocol);
        world.say(web, back);
        let missed = "again [lobby 1] watcher: missed";
        assert_eq!(world.heard(web), ["resumed ann", missed]);
        world.vanishes(web);
        let native = world.comes_back(0, ann);
        assert_eq!(world.heard(native), ["resumed ann"]);
        world.say(native, publish_echo(7, "lobby", "changed horses"));
        assert_eq!(world.heard(native).len(), 2);
    }
}

#[test]
fn frames_behind_a_hello_wait_for_the_session() {
    let (mut world, _watcher) = watched("porch");
    let ann = world.bin(0, "ann");
    world.vanishes(ann);
    let (session, resume_key) = world.session(ann);
    let back = Request::Hello(Hello { session, resume_key, ..hello("ann") });
    for shard in 0..SHARDS {
        let web = world.websocket(shard, "/ws", BIN);
        let all = frames(&[back, join(1, "porch"), publish_echo(2 + shard as u32, "porch", "hi")]);
        world.send(web, &super::ear::masked(corebeat::wire::websocket::Opcode::Binary, &all));
        let heard = world.heard(web);
        assert_eq!(heard.len(), 4, "{heard:?}");
        assert_eq!(heard[0], "resumed ann");
    }
}

#[test]
fn text_clients_leave_when_they_hang_up() {
    let (mut world, watcher) = watched("lobby");
    let ann = world.text(0, "ann");
    world.hush();
    world.vanishes(ann);
    assert_eq!(world.heard(watcher), ["ann left lobby, now 1"]);
    let late = world.comes_back(1, ann);
    assert!(world.heard(late)[0].starts_with("welcome guest"));
}

#[test]
fn while_the_server_was_away_nobody_is_given_up() {
    let mut world = World::new();
    let ann = world.native(0, "ann");
    world.say(ann, join(0, "attic"));
    world.vanishes(ann);
    world.suspend_ms(600_000);
    let again = world.comes_back(1, ann);
    assert_eq!(world.heard(again), ["resumed ann"]);
}

#[test]
fn when_all_have_expired_nothing_is_left() {
    let mut world = World::new();
    for (number, room) in ROOMS.into_iter().cycle().take(30).enumerate() {
        let client = world.native(number % SHARDS, &format!("user-{}", number % 7));
        world.say(client, join_notify(1, room));
        world.say(client, publish(2, room, "hi"));
        if number % 3 == 0 {
            world.vanishes(client);
            let again = world.comes_back((number + 1) % SHARDS, client);
            world.vanishes(again);
        } else {
            world.vanishes(client);
        }
    }
    world.pass_ms(120_000);
    is_all_given_back(&mut world);
    assert!(world.holdings().iter().all(|holdings| holdings.rooms == 0));
}

#[test]
fn what_waited_is_not_lost_where_the_socket_fails_in_the_turn_of_the_close() {
    for room in ROOMS {
        let (mut world, watcher) = watched(room);
        let ann = world.native(0, "ann");
        world.say(ann, join(1, room));
        world.hush();
        world.stops_reading(ann);
        let said = ["one", "two", "three"];
        for body in said {
            world.say(watcher, publish(0, room, body));
        }
        world.half_closes_and_breaks(ann);
        assert_eq!(world.fate(ann), Fate::Closed(CloseReason::SocketError));
        assert_eq!(world.counters().closed_for(CloseReason::PeerClosed), 1);
        let again = world.comes_back(1, ann);
        let heard = world.heard(again);
        for body in said {
            assert_eq!(heard.iter().filter(|words| words.contains(body)).count(), 1, "{heard:?}");
        }
    }
}

#[test]
fn a_room_that_a_resumed_session_is_not_let_into_again_is_named() {
    let mut world = World::with(|config| {
        config.limits.max_rooms = 2;
        config.limits.history_count = 0;
    });
    let ann = world.native(0, "ann");
    world.say(ann, join(1, "porch"));
    world.vanishes(ann);
    // Long enough for the room to be empty, not for the session to be forgotten.
    world.pass_ms(60_000);
    let bob = world.native(2, "bob");
    for room in rooms_at_home_with("porch", &world) {
        world.say(bob, join(1, &room));
    }
    let again = world.comes_back(1, ann);
    let mut texts = Vec::new();
    world.each_event(again, |event| {
        if let Event::Error { reference, text, .. } = event {
            texts.push((reference.0, text.to_owned()));
        }
    });
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(texts[0].0, 0);
    assert!(texts[0].1.starts_with("you are no longer in porch: too many rooms"), "{texts:?}");
}

/// A few rooms whose home is that of `room`.
fn rooms_at_home_with(room: &str, world: &World) -> Vec<String> {
    let names = (0..).map(|number| format!("room-{number}"));
    names.filter(|name| world.home_of(name) == world.home_of(room)).take(3).collect()
}

#[test]
fn of_a_room_that_began_anew_meanwhile_a_gap_says_what_of_it_is_gone() {
    for room in ROOMS {
        let mut world = World::with(|config| {
            config.limits.history_count = 2;
            config.limits.history_age_ms = 60_000;
            config.limits.resume_window_ms = 3_600_000;
        });
        let (ann, speaker) = (world.native(0, "ann"), world.native(1, "speaker"));
        world.answers_pings(speaker);
        world.say(ann, join(1, room));
        world.say(speaker, publish(0, room, "before"));
        world.vanishes(ann);
        world.pass_ms(60_000 + 60_000 + 3 * ROOM_IDLE_MS);
        for body in ["one", "two", "three", "four"] {
            world.say(speaker, publish(0, room, body));
        }
        let ann = world.comes_back(2, ann);
        let expected = [
            "resumed ann".to_owned(),
            format!("gap in {room}: 1 to 2"),
            format!("again [{room} 3] speaker: three"),
            format!("again [{room} 4] speaker: four"),
        ];
        assert_eq!(world.heard(ann), expected);
    }
}
