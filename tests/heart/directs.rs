//! Direct messages: told live, queued, replayed, acknowledged.

use corebeat::base::limits::TOLD_MAX;
use corebeat::wire::message::{Event, Hello, Request};

use super::ear::{BIN, JSON};
use super::speech::{DIRECTS_BEGIN, ack, direct, frames, hello, publish};
use super::world::{Client, MAILBOX, ROOMS, SHARDS, World};

/// A sender on one shard and a receiver on another, in every combination.
fn everywhere() -> impl Iterator<Item = (usize, usize)> {
    (0..SHARDS * SHARDS).map(|pair| (pair / SHARDS, pair % SHARDS))
}

fn comes_back(world: &mut World, shard: usize, user: &str) -> (Client, Vec<String>) {
    let client = world.greet(shard, hello(user));
    let mut heard = world.heard(client);
    assert_eq!(heard.remove(0), format!("welcome {user}"), "nothing comes ahead of it");
    (client, heard)
}

#[test]
fn what_comes_for_a_user_who_is_offline_is_replayed_in_order_until_it_is_acknowledged() {
    for (from, to) in everywhere() {
        let mut world = World::new();
        let ann = world.native(from, "ann");
        for reference in 1..=3 {
            world.say(ann, direct(reference, "bob", &format!("psst {reference}")));
        }
        let answers = ["ok 1: #1 queued", "ok 2: #2 queued", "ok 3: #3 queued"];
        assert_eq!(world.heard(ann), answers);
        let all: Vec<String> = (1..=3).map(|n| format!("again [ann -> you] psst {n}")).collect();
        let (bob, heard) = comes_back(&mut world, to, "bob");
        assert_eq!(heard, all);
        world.say(bob, Request::Bye { code: 0, reason: "" });
        let (bob, heard) = comes_back(&mut world, to, "bob");
        assert_eq!(heard, all, "nothing was acknowledged");
        world.say(bob, ack(2));
        world.say(bob, Request::Bye { code: 0, reason: "" });
        let (bob, heard) = comes_back(&mut world, to, "bob");
        assert_eq!(heard, all[2..]);
        world.say(bob, ack(3));
        world.say(bob, Request::Bye { code: 0, reason: "" });
        let (_, heard) = comes_back(&mut world, to, "bob");
        assert!(heard.is_empty(), "{heard:?}");
        assert!(world.holdings().iter().all(|held| held.inboxes == 0 && held.direct_bytes == 0));
        assert_eq!((world.counters().directs_queued, world.counters().directs_acked), (3, 3));
    }
}

#[test]
fn every_dialect_is_told_what_was_queued() {
    for (from, to) in everywhere() {
        let mut world = World::new();
        let ann = world.json(from, "ann");
        world.say(ann, direct(1, "bob", "hör zu"));
        world.say(ann, direct(2, "cat", "hör zu"));
        world.say(ann, direct(3, "dan", "hör zu"));
        assert_eq!(world.heard(ann).len(), 3);
        for (user, subprotocol) in [("bob", JSON), ("cat", BIN)] {
            let client = world.websocket(to, "/ws", subprotocol);
            world.say(client, Request::Hello(hello(user)));
            let expected = [format!("welcome {user}"), "again [ann -> you] hör zu".to_owned()];
            assert_eq!(world.heard(client), expected);
        }
        let mut greeting = hello("dan");
        greeting.crc = true;
        let dan = world.greet(to, greeting);
        assert_eq!(world.heard(dan), ["welcome dan", "again [ann -> you] hör zu"]);
    }
}

#[test]
fn a_text_client_is_told_at_its_hello_and_at_a_new_nick_and_only_once() {
    for (from, to) in everywhere() {
        let mut world = World::new();
        let ann = world.text(from, "ann");
        world.types(ann, "/msg bob psst");
        assert_eq!(world.heard(ann), ["* bob is offline, and will be told"]);
        world.types(ann, "/msg cat pssst");
        world.hush();
        let bob = world.text_connection(to);
        world.types(bob, "/nick bob");
        let heard = world.heard(bob);
        assert_eq!(heard[0], "* welcome bob");
        assert!(heard.contains(&"[ann -> you] psst".to_owned()), "{heard:?}");
        world.types(bob, "/nick cat");
        let heard = world.heard(bob);
        assert!(heard.contains(&"[ann -> you] pssst".to_owned()), "{heard:?}");
        for nick in ["bob", "cat"] {
            world.types(bob, &format!("/nick {nick}"));
            assert_eq!(world.heard(bob), [format!("* you are {nick} now")]);
        }
        assert!(world.holdings().iter().all(|held| held.inboxes == 0));
    }
}

#[test]
fn the_oldest_give_way_and_that_is_said() {
    for (from, to) in everywhere() {
        let mut world = World::with(|config| config.limits.offline_count = 3);
        let ann = world.native(from, "ann");
        for reference in 1..=5 {
            world.say(ann, direct(reference, "bob", &format!("psst {reference}")));
        }
        assert_eq!(world.heard(ann)[4], "ok 5: #5 queued");
        let kept: Vec<String> = (3..=5).map(|n| format!("again [ann -> you] psst {n}")).collect();
        let (bob, heard) = comes_back(&mut world, to, "bob");
        assert_eq!(heard[0], "gap in : #1 to #2");
        assert_eq!(heard[1..], kept);
        world.say(bob, ack(5));
        world.say(bob, Request::Bye { code: 0, reason: "" });
        let (_, heard) = comes_back(&mut world, to, "bob");
        assert!(heard.is_empty(), "{heard:?}");
        assert_eq!(world.counters().directs_dropped, 2);
        for _ in 0..5 {
            world.say(ann, direct(0, "cat", "psst"));
        }
        let cat = world.text_connection(to);
        world.types(cat, "/nick cat");
        let heard = world.heard(cat);
        assert!(heard.contains(&"! 503 2 direct messages were dropped".to_owned()), "{heard:?}");
    }
}

#[test]
fn a_queue_is_bounded_in_bytes_too() {
    let mut world = World::with(|config| config.limits.offline_bytes = 1_000);
    let ann = world.native(0, "ann");
    for reference in 1..=4 {
        world.say(ann, direct(reference, "bob", &"x".repeat(300)));
    }
    world.say(ann, direct(5, "bob", &"x".repeat(1_000)));
    assert_eq!(world.heard(ann)[4], "error 5: 503");
    let (_, heard) = comes_back(&mut world, 1, "bob");
    assert_eq!(heard[0], "gap in : #1 to #2");
    assert_eq!(heard.len(), 3);
}

#[test]
fn what_is_too_old_is_dropped_and_that_is_said_for_as_long_again() {
    const HOUR: u64 = 3_600_000;
    let old = |config: &mut corebeat::chat::config::ShardConfig| {
        config.limits.offline_age_ms = HOUR;
    };
    for (from, to) in everywhere() {
        let mut world = World::with(old);
        let ann = world.text(from, "ann");
        let cat = world.native(from, "cat");
        world.answers_pings(cat);
        world.types(ann, "/msg bob first");
        for _ in 0..60 {
            world.pass_ms(HOUR / 60);
        }
        world.say(cat, direct(1, "bob", "second"));
        world.pass_ms(100);
        assert_eq!(world.counters().directs_expired, 1);
        let (bob, heard) = comes_back(&mut world, to, "bob");
        assert_eq!(heard, ["gap in : #1 to #1", "again [cat -> you] second"]);
        world.vanishes(bob);
        for _ in 0..121 {
            world.pass_ms(HOUR / 60);
        }
        assert!(world.holdings().iter().all(|held| held.inboxes == 0), "nothing is for ever");
    }
}

#[test]
fn a_clock_that_is_set_makes_nothing_too_old_and_keeps_nothing_for_longer() {
    const HOUR: u64 = 3_600_000;
    for jump in [6, -6] {
        let mut world = World::with(|config| config.limits.offline_age_ms = HOUR);
        let cat = world.native(0, "cat");
        world.answers_pings(cat);
        world.say(cat, direct(1, "bob", "before"));
        world.set_clock(jump * HOUR as i64);
        world.say(cat, direct(2, "bob", "behind"));
        world.pass_ms(HOUR / 2);
        let (bob, heard) = comes_back(&mut world, 1, "bob");
        assert_eq!(heard, ["again [cat -> you] before", "again [cat -> you] behind"]);
        world.vanishes(bob);
        world.pass_ms(HOUR / 2 + 1_000);
        assert_eq!(world.counters().directs_expired, 2, "an hour later, whatever the clock says");
    }
}

#[test]
fn nothing_is_kept_where_that_is_switched_off_or_beyond_what_all_may_take() {
    let mut world = World::with(|config| config.limits.offline_count = 0);
    let (ann, eve) = (world.native(0, "ann"), world.text(1, "eve"));
    world.say(ann, direct(1, "bob", "psst"));
    world.say(ann, direct(1, "bob", "psst"));
    assert_eq!(world.heard(ann), ["error 1: 503", "error 1: 503"]);
    world.types(eve, "/msg bob psst");
    assert!(world.heard(eve)[0].starts_with("! 503 the user is offline"));
    world.say(ann, direct(2, "eve", "psst"));
    assert_eq!(world.heard(ann), ["ok 2: #1"]);
    assert_eq!(world.heard(eve), ["[ann -> you] psst"]);

    let mut world = World::with(|config| config.limits.offline_memory = 8_000);
    let ann = world.native(0, "ann");
    let mut reference = 0;
    loop {
        reference += 1;
        world.say(ann, direct(reference, "bob", &"x".repeat(400)));
        match &world.heard(ann)[0] {
            answer if answer.ends_with(" queued") => {}
            answer => break assert_eq!(*answer, format!("error {reference}: 503")),
        }
    }
    assert!((10..20).contains(&reference), "{reference}");
    let (bob, heard) = comes_back(&mut world, 1, "bob");
    assert_eq!(heard.len(), reference as usize - 1, "what was promised is kept");
    world.say(ann, direct(100, "bob", "live"));
    assert_eq!(world.heard(bob), ["[ann -> you] live"], "live messages need no room");
}

#[test]
fn a_repeated_ref_is_a_duplicate_and_not_a_second_message() {
    for (from, to) in everywhere() {
        let mut world = World::new();
        let ann = world.native(from, "ann");
        world.say(ann, direct(7, "bob", "once"));
        world.say(ann, direct(7, "bob", "twice"));
        assert_eq!(world.heard(ann), ["ok 7: #1 queued", "ok 7: #1 duplicate"]);
        world.send(ann, &frames(&[direct(8, "bob", "in one breath"); 3]));
        let once = ["ok 8: #2 queued", "ok 8: #2 duplicate", "ok 8: #2 duplicate"];
        assert_eq!(world.heard(ann), once);
        let (bob, heard) = comes_back(&mut world, to, "bob");
        assert_eq!(heard, ["again [ann -> you] once", "again [ann -> you] in one breath"]);
        world.send(ann, &frames(&[direct(9, "bob", "live"); 2]));
        assert_eq!(world.heard(ann), ["ok 9: #3", "ok 9: #3 duplicate"]);
        assert_eq!(world.heard(bob), ["[ann -> you] live"]);
        world.say(ann, publish(9, "attic", "the same number for another request"));
        assert_eq!(world.heard(ann), ["ok 9: #3 duplicate"]);
    }
}

#[test]
fn each_live_session_is_told_and_an_acknowledgement_is_for_all() {
    for (from, to) in everywhere() {
        let mut world = World::new();
        let ann = world.native(from, "ann");
        world.say(ann, direct(1, "bob", "queued"));
        let (desk, heard) = comes_back(&mut world, to, "bob");
        assert_eq!(heard, ["again [ann -> you] queued"]);
        let (phone, heard) = comes_back(&mut world, (to + 1) % SHARDS, "bob");
        assert_eq!(heard, ["again [ann -> you] queued"]);
        world.say(ann, direct(2, "bob", "live"));
        for session in [desk, phone] {
            assert_eq!(world.heard(session), ["[ann -> you] live"]);
        }
        world.say(phone, ack(2));
        world.say(phone, Request::Bye { code: 0, reason: "" });
        world.say(desk, Request::Bye { code: 0, reason: "" });
        let (_, heard) = comes_back(&mut world, to, "bob");
        assert!(heard.is_empty(), "{heard:?}");
        assert!(world.holdings().iter().all(|held| held.inboxes == 0));
    }
}

#[test]
fn what_comes_too_late_for_a_session_that_says_goodbye_is_queued() {
    for (from, to) in everywhere().filter(|(from, to)| from != to) {
        let mut world = World::new();
        let (ann, bob) = (world.native(from, "ann"), world.native(to, "bob"));
        world.stall(to);
        world.send(bob, &frames(&[Request::Bye { code: 0, reason: "" }]));
        world.say(ann, direct(1, "bob", "wait"));
        world.go_on();
        world.pass_ms(3_000);
        assert_eq!(world.heard(ann).len(), 1);
        let (_, heard) = comes_back(&mut world, to, "bob");
        assert_eq!(heard, ["again [ann -> you] wait"]);
    }
}

#[test]
fn a_client_cannot_acknowledge_what_it_was_not_told() {
    let mut world = World::with(|config| config.limits.max_outbound = 8 << 10);
    let ann = world.native(0, "ann");
    for _ in 0..200 {
        world.say(ann, direct(0, "bob", &"x".repeat(400)));
    }
    let bob = world.connect(1);
    world.stops_reading(bob);
    world.say(bob, Request::Hello(hello("bob")));
    world.say(bob, Request::Ack { id: u64::MAX });
    world.vanishes(bob);
    let (bob, heard) = comes_back(&mut world, 1, "bob");
    assert!(heard.len() >= 30, "{}", heard.len());
    world.say(bob, Request::Ack { id: u64::MAX });
    assert!(world.holdings().iter().all(|held| held.queued_directs == 0));
}

#[test]
fn a_long_replay_waits_for_its_reader_and_new_messages_stay_behind_it() {
    for (from, to) in everywhere() {
        let mut world = World::with(|config| {
            config.limits.max_outbound = 8 << 10;
            config.limits.offline_count = 10_000;
        });
        let ann = world.native(from, "ann");
        for number in 0..1_000 {
            world.say(ann, direct(0, "bob", &format!("psst {number} {}", "x".repeat(100))));
        }
        let bob = world.connect(to);
        world.stops_reading(bob);
        world.say(bob, Request::Hello(hello("bob")));
        for number in 1_000..1_100 {
            world.say(ann, direct(0, "bob", &format!("psst {number}")));
        }
        let mut heard = Vec::new();
        while heard.len() < 1_101 {
            world.reads(bob, 3_000);
            let more = world.heard_whole(bob);
            assert!(!more.is_empty(), "it goes on while it is read: {}", heard.len());
            heard.extend(more);
        }
        world.reads(bob, usize::MAX);
        world.say(ann, direct(0, "bob", "live"));
        heard.extend(world.heard(bob));
        for (number, words) in heard[1..1_101].iter().enumerate() {
            let expected = format!("again [ann -> you] psst {number}");
            assert!(words.starts_with(&expected), "{words} is not {expected}");
        }
        assert_eq!(heard[1_101..], ["[ann -> you] live"]);
        world.last_event(bob, |event| {
            assert!(matches!(event, Event::Direct { id, .. } if id == DIRECTS_BEGIN + 1_101));
        });
    }
}

#[test]
fn one_may_write_to_oneself() {
    let mut world = World::new();
    let ann = world.native(0, "ann");
    world.say(ann, direct(1, "ann", "remember the milk"));
    let mut heard = world.heard(ann);
    heard.sort();
    assert_eq!(heard, ["[ann -> you] remember the milk", "ok 1: #1"]);
}

#[test]
fn bad_names_and_long_messages_are_refused_with_their_ref() {
    let mut world = World::with(|config| config.limits.max_frame = 1_024);
    let ann = world.native(0, "ann");
    for (reference, user) in [(1, ""), (2, "$root"), (3, "a b")] {
        world.say(ann, direct(reference, user, "psst"));
    }
    let most = 1_024 - 8 - 8 - 1 - "ann".len();
    world.say(ann, direct(4, "bob", &"x".repeat(most + 1)));
    world.say(ann, direct(5, "bob", &"x".repeat(most)));
    let answers =
        ["error 1: 400", "error 2: 403", "error 3: 400", "error 4: 413", "ok 5: #1 queued"];
    assert_eq!(world.heard(ann), answers);
}

#[test]
fn live_messages_that_nobody_acknowledges_are_kept_within_bounds() {
    let mut world = World::new();
    let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
    let kept = |world: &World| world.holdings().iter().map(|held| held.direct_bytes).sum::<usize>();
    for _ in 0..TOLD_MAX {
        world.say(ann, direct(0, "bob", "psst"));
    }
    let most = kept(&world);
    for _ in 0..TOLD_MAX {
        world.say(ann, direct(0, "bob", "psst"));
    }
    assert_eq!(kept(&world), most);
    assert_eq!(world.heard(bob).len(), 2 * TOLD_MAX);
    world.say(bob, Request::Bye { code: 0, reason: "" });
    assert_eq!(kept(&world), 0);
}

fn resuming(session: u64, resume_key: u64, user: &str) -> Hello<'_> {
    Hello { session, resume_key, ..hello(user) }
}

/// The session of a client that was just welcomed, and its key.
fn session_of(world: &mut World, client: Client) -> (u64, u64) {
    world.last_event(client, |event| match event {
        Event::Welcome(welcome) => (welcome.session, welcome.resume_key),
        other => panic!("{other:?}"),
    })
}

#[test]
fn what_a_session_that_breaks_had_not_acknowledged_comes_again_when_it_is_resumed() {
    for (from, to) in everywhere() {
        let mut world = World::new();
        let ann = world.native(from, "ann");
        let bob = world.greet(to, hello("bob"));
        let (session, key) = session_of(&mut world, bob);
        for number in 1..=3 {
            world.say(ann, direct(0, "bob", &format!("live {number}")));
        }
        world.say(bob, ack(1));
        world.vanishes(bob);
        world.say(ann, direct(7, "bob", "meanwhile"));
        assert_eq!(world.heard(ann), ["ok 7: #4 queued"]);
        let bob = world.greet((to + 1) % SHARDS, resuming(session, key, "bob"));
        let expected = [
            "resumed bob",
            "again [ann -> you] live 2",
            "again [ann -> you] live 3",
            "again [ann -> you] meanwhile",
        ];
        assert_eq!(world.heard(bob), expected);
        world.say(ann, direct(0, "bob", "live 5"));
        assert_eq!(world.heard(bob), ["[ann -> you] live 5"]);
        world.say(bob, ack(5));
        assert!(world.holdings().iter().all(|held| held.inboxes == 0));
    }
}

#[test]
fn a_refused_acknowledgement_does_not_exist_even_where_mail_is_late() {
    for (from, to) in everywhere() {
        for breaks_meanwhile in [false, true] {
            let mut world = World::with(|config| config.limits.max_mail_staged = 1);
            let home = world.home_of("bob").index();
            let ann = world.native(from, "ann");
            world.say(ann, direct(0, "bob", "one"));
            world.say(ann, direct(0, "bob", "two"));
            let (bob, heard) = comes_back(&mut world, to, "bob");
            assert_eq!(heard.len(), 2);
            world.stall(home);
            // One at a time: what follows a letter that waits in the same breath is refused.
            for _ in 0..=MAILBOX {
                world.say(bob, publish(0, ROOMS[home], "fill"));
            }
            world.say(bob, ack(2));
            if breaks_meanwhile {
                world.vanishes(bob);
            }
            world.go_on();
            let (_, heard) = comes_back(&mut world, to, "bob");
            assert!(heard.is_empty(), "{from} {to} {breaks_meanwhile}: {heard:?}");
        }
    }
}

#[test]
fn an_acknowledgement_that_is_under_way_counts_where_its_session_goes_on_elsewhere() {
    let mut world = World::new();
    let user = (0..).map(|n| format!("u{n}")).find(|name| world.home_of(name).0 == 2).unwrap();
    let (ann, first) = (world.native(0, "ann"), world.native(1, &user));
    world.say(ann, direct(0, &user, "one"));
    assert_eq!(world.heard(first), ["[ann -> you] one"]);
    world.stall(2);
    // They fill the home's mailbox, so that what the two others have for it waits with them. Then
    // the first of them in the order of turns has the session go on, and the second has its ACK.
    for _ in 0..MAILBOX {
        world.say(ann, publish(0, ROOMS[2], "fill"));
    }
    world.say(first, ack(1));
    world.vanishes(first);
    let second = world.comes_back(0, first);
    world.go_on();
    assert_eq!(world.heard(second), [format!("resumed {user}")]);
    world.say(ann, direct(0, &user, "two"));
    assert_eq!(world.heard(second), ["[ann -> you] two"]);
}

#[test]
fn what_one_session_missed_and_another_had_not_acknowledged_is_queued_when_that_one_breaks() {
    for (from, to) in everywhere() {
        let mut world = World::new();
        let ann = world.native(from, "ann");
        let home = world.home_of("bob").index();
        let (desk, _) = comes_back(&mut world, to, "bob");
        let phone_at = (0..SHARDS).find(|shard| *shard != home).expect("there are several");
        let (phone, _) = comes_back(&mut world, phone_at, "bob");
        // The phone's goodbye waits in its home's mailbox behind the message.
        world.stall(home);
        world.say(ann, direct(0, "bob", "one"));
        world.say(phone, Request::Bye { code: 0, reason: "" });
        world.go_on();
        assert_eq!(world.heard(desk), ["[ann -> you] one"]);
        world.vanishes(desk);
        let (_, heard) = comes_back(&mut world, to, "bob");
        assert_eq!(heard, ["again [ann -> you] one"]);
    }
}

#[test]
fn a_session_that_comes_is_told_what_no_other_has_acknowledged() {
    for (from, to) in everywhere() {
        let mut world = World::new();
        let ann = world.native(from, "ann");
        let (desk, _) = comes_back(&mut world, to, "bob");
        for number in 1..=3 {
            world.say(ann, direct(0, "bob", &format!("live {number}")));
        }
        assert_eq!(world.heard(desk).len(), 3);
        world.say(desk, ack(1));
        // Nobody knows whether the desk has the others, or has long been gone.
        let (phone, heard) = comes_back(&mut world, (to + 1) % SHARDS, "bob");
        assert_eq!(heard, ["again [ann -> you] live 2", "again [ann -> you] live 3"]);
        world.say(ann, direct(0, "bob", "live 4"));
        for session in [desk, phone] {
            assert_eq!(world.heard(session), ["[ann -> you] live 4"]);
        }
        world.say(phone, ack(4));
        world.vanishes(desk);
        let (_, heard) = comes_back(&mut world, to, "bob");
        assert!(heard.is_empty(), "the phone has them: {heard:?}");
    }
}

#[test]
fn what_was_told_to_a_session_that_had_just_ended_is_told_to_the_one_that_comes() {
    for (from, ended_at) in everywhere().filter(|(from, ended_at)| from != ended_at) {
        for (says_goodbye, came_at) in [(false, from), (true, from), (false, 3 - from - ended_at)] {
            let mut world = World::new();
            let (ann, first) = (world.native(from, "ann"), world.native(ended_at, "bob"));
            world.stall(ended_at);
            if says_goodbye {
                world.send(first, &frames(&[Request::Bye { code: 0, reason: "" }]));
            } else {
                world.vanishes(first);
            }
            world.say(ann, direct(0, "bob", "psst"));
            let second = world.greet(came_at, hello("bob"));
            world.go_on();
            world.pass_ms(3_000);
            let heard = world.heard(second);
            assert_eq!(heard, ["welcome bob", "again [ann -> you] psst"], "{from} {ended_at}");
        }
    }
}

#[test]
fn what_is_live_waits_behind_a_page_in_hand_whose_messages_have_grown_too_old() {
    const HOUR_MS: u64 = 3_600_000;
    for (from, to) in everywhere() {
        let mut world = World::with(|config| {
            config.limits.max_outbound = 8 << 10;
            config.limits.offline_age_ms = HOUR_MS;
        });
        let ann = world.native(from, "ann");
        world.answers_pings(ann);
        for number in 1..=20 {
            world.say(ann, direct(0, "bob", &format!("{number} {}", "x".repeat(500))));
        }
        world.pass_ms(HOUR_MS - 1_000);
        let bob = world.connect(to);
        world.stops_reading(bob);
        world.say(bob, Request::Hello(hello("bob")));
        world.pass_ms(2_000);
        assert_eq!(world.counters().directs_expired, 20, "none of them is kept");
        world.say(ann, direct(0, "bob", "late"));
        world.reads(bob, usize::MAX);
        let heard = world.heard(bob);
        let (late, others) = heard[1..].split_last().expect("all are told");
        assert!(late.ends_with("[ann -> you] late"), "{late}");
        let expected = (1..=20).map(|number| format!("again [ann -> you] {number} x"));
        assert!(others.iter().zip(expected).all(|(heard, it)| heard.starts_with(&it)), "{heard:?}");
        assert_eq!(others.len(), 20);
    }
}

#[test]
fn what_gives_way_behind_ones_back_is_not_said_to_be_missing() {
    for (from, to) in everywhere() {
        let mut world = World::with(|config| {
            config.limits.max_outbound = 8 << 10;
            config.limits.offline_count = 3;
        });
        let ann = world.native(from, "ann");
        let long = |number: u64| format!("{number} {}", "x".repeat(3_000));
        for number in 1..=5 {
            world.say(ann, direct(0, "bob", &long(number)));
        }
        let bob = world.connect(to);
        world.stops_reading(bob);
        world.say(bob, Request::Hello(hello("bob")));
        // These take the places of the ones that are on their way to him.
        for number in 6..=8 {
            world.say(ann, direct(0, "bob", &long(number)));
        }
        world.reads(bob, usize::MAX);
        let heard = world.heard(bob);
        assert_eq!(heard[1], "gap in : #1 to #2", "{from} {to}");
        let expected = (3..=8).map(|number| format!("again [ann -> you] {number} x"));
        assert!(heard[2..].iter().zip(expected).all(|(heard, it)| heard.starts_with(&it)));
        assert_eq!(heard.len(), 8, "and nothing else is missing");
    }
}
