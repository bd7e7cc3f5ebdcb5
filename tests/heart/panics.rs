//! A worker panics: its shard is thrown away and another one begins in its place, and whoever is
//! elsewhere goes on.

use std::collections::BTreeSet;

use corebeat::base::counters::CloseReason;
use corebeat::chat::record::Durability;
use corebeat::wire::message::{Event, Hello, Request};

use super::speech::{
    ack, direct, hello, history, join, join_notify, join_since, leave, publish, publish_echo, who,
};
use super::world::{Client, Fate, MAILBOX, ROOMS, SHARDS, World};

const BYE: Request<'static> = Request::Bye { code: 0, reason: "" };

/// A member of each of the rooms on every shard, who wants presence.
fn members(world: &mut World) -> Vec<Client> {
    let names = ["ann", "bob", "cat"];
    let all: Vec<Client> = (0..SHARDS).map(|shard| world.native(shard, names[shard])).collect();
    for client in &all {
        for room in ROOMS {
            world.say(*client, join_notify(0, room));
        }
    }
    world.hush();
    all
}

#[test]
fn connections_of_the_worker_are_told_in_their_dialect_and_others_are_not_told_anything() {
    let mut world = World::new();
    let victims = [
        world.native(1, "native"),
        world.text(1, "text"),
        world.json(1, "json"),
        world.bin(1, "bin"),
    ];
    let browser = world.browser(1);
    let others = [world.native(0, "ann"), world.text(2, "bob")];
    world.hush();
    world.panics_and_settles(1);
    let [native, text, json, bin] = victims.map(|client| world.heard(client));
    assert_eq!(native, ["error 0: 503", "goaway"]);
    assert!(text.len() == 1 && text[0].starts_with("! 503 "), "{text:?}");
    assert!(text[0].ends_with(" in 500 ms"), "and when to come back: {text:?}");
    for web in [json, bin] {
        assert_eq!(web[..2], ["error 0: 503", "goaway"]);
        assert!(web[2].contains("1013"), "{web:?}");
    }
    assert!(world.responses(browser).is_empty(), "one that has asked for nothing is told nothing");
    for victim in victims {
        assert_eq!(world.fate(victim), Fate::Closed(CloseReason::WorkerPanicked));
    }
    assert_eq!(world.heard(others[0]), [""; 0]);
    let left = world.heard(others[1]);
    assert_eq!(left, ["* text left lobby"], "the home of the lobby saw it go");
}

#[test]
fn rooms_with_other_homes_go_on_in_their_order() {
    let mut world = World::new();
    let all = members(&mut world);
    world.say(all[1], publish(1, "porch", "one"));
    world.hush();
    world.panics_and_settles(0);
    world.say(all[1], publish(2, "porch", "two"));
    let heard = world.heard(all[2]);
    let of = |room: &str| heard.iter().filter(|words| words.contains(room)).collect::<Vec<_>>();
    assert_eq!(of("porch"), ["ann left porch, now 2", "[porch 2] bob: two"]);
    assert_eq!(of("lobby"), ["ann left lobby, now 2"]);
}

#[test]
fn members_elsewhere_stay_in_rooms_whose_home_it_was() {
    let mut world = World::new();
    let all = members(&mut world);
    world.say(all[1], publish(1, "attic", "one"));
    let before = world.last_event(all[2], |event| {
        let Event::Message { epoch, .. } = event else { panic!("{event:?}") };
        epoch
    });
    world.panics_and_settles(0);
    world.hush();
    world.say(all[1], publish(2, "attic", "two"));
    world.last_event(all[2], |event| {
        let Event::Message { epoch, seq, .. } = event else { panic!("{event:?}") };
        assert_ne!(epoch, before, "what the epoch had is lost");
        assert_eq!(seq.0, 1);
    });
    world.hush();
    world.say(all[2], who(3, "attic"));
    assert_eq!(world.heard(all[2]), ["roster 3 of 2: bob cat"]);
    let dan = world.native(0, "dan");
    world.say(dan, join(1, "attic"));
    world.say(all[2], publish(4, "attic", "three"));
    assert_eq!(world.heard(dan), ["ok 1: 1", "[attic 2] cat: three"]);
}

#[test]
fn what_was_asked_of_it_is_asked_again_or_refused() {
    let mut world = World::new();
    let user = (0..).map(|n| format!("u{n}")).find(|name| world.home_of(name).0 == 0).unwrap();
    let ann = world.native(1, "ann");
    world.say(ann, join(1, "attic"));
    world.hush();
    world.stall(0);
    for request in [
        publish(2, "attic", "x"),
        who(3, "attic"),
        history(4, "attic", 0, 0),
        direct(5, &user, "x"),
        join(6, "attic"),
    ] {
        world.say(ann, request);
    }
    let bob = world.native(2, "bob");
    world.say(bob, join(1, "attic"));
    assert_eq!(world.heard(bob), [""; 0]);
    world.panics(0);
    world.go_on();
    let heard: BTreeSet<String> = world.heard(ann).into_iter().collect();
    for expected in ["error 2: 503", "error 3: 503", "error 4: 503", "error 5: 503", "error 6: 503"]
    {
        assert!(heard.contains(expected), "{expected}: {heard:?}");
    }
    assert_eq!(world.heard(bob), ["ok 1: 0"], "a join that was not answered is made again");
    world.say(ann, publish(2, "attic", "again"));
    assert_eq!(world.heard(bob), ["[attic 1] ann: again"]);
}

#[test]
fn a_session_elsewhere_is_resumed_and_one_of_the_worker_begins_anew() {
    for before in 0..SHARDS {
        for after in 0..SHARDS {
            let mut world = World::new();
            let ann = world.native(before, "ann");
            for room in ROOMS {
                world.say(ann, join(0, room));
            }
            world.vanishes(ann);
            world.panics_and_settles(0);
            let again = world.comes_back(after, ann);
            let heard = world.heard(again);
            let is_resumed = before != 0;
            assert_eq!(heard[0].starts_with("resumed"), is_resumed, "{before} {after}: {heard:?}");
            let eve = world.native(2, "eve");
            for room in ROOMS {
                world.say(eve, who(1, room));
                let expected = match (is_resumed, world.heard(eve).remove(0)) {
                    (true, roster) => (roster, "roster 1 of 1: ann"),
                    // The room may be forgotten, and is empty where it is not.
                    (false, roster) if roster == "error 1: 404" => (roster, "error 1: 404"),
                    (false, roster) => (roster, "roster 1 of 0: "),
                };
                assert_eq!(expected.0, expected.1, "{before} {after} {room}");
            }
        }
    }
}

#[test]
fn a_session_that_was_born_there_and_lives_elsewhere_can_still_be_claimed() {
    let mut world = World::new();
    let first = world.native(0, "ann");
    world.say(first, join(0, "porch"));
    world.vanishes(first);
    let second = world.comes_back(1, first);
    assert!(world.heard(second)[0].starts_with("resumed"));
    world.panics_and_settles(0);
    let third = world.comes_back(2, first);
    assert!(world.heard(third)[0].starts_with("resumed"));
    assert_eq!(world.fate(second), Fate::HalfClosed);
}

#[test]
fn users_whose_home_it_was_are_reached_and_what_was_kept_comes_back_from_the_store() {
    for durability in [None, Some(Durability::Batch)] {
        let mut world = World::with(|config| config.durability = durability);
        let named = |world: &World, prefix: &str| {
            let mut names = (0..).map(|n| format!("{prefix}{n}"));
            names.find(|name| world.home_of(name).0 == 0).unwrap()
        };
        let (here, away) = (named(&world, "here"), named(&world, "away"));
        let (ann, receiver) = (world.native(1, "ann"), world.native(2, &here));
        world.say(ann, join(1, "attic"));
        world.say(ann, direct(2, &away, "kept"));
        world.say(ann, publish(3, "attic", "said"));
        if durability.is_some() {
            world.commits_all();
        }
        world.hush();
        world.panics_and_settles(0);
        let is_kept = durability.is_some();
        let expected = if is_kept { vec![] } else { vec!["gap in attic: 2 to 2"] };
        assert_eq!(world.heard(ann), expected);
        world.say(ann, direct(4, &here, "psst"));
        assert_eq!(world.heard(receiver), ["[ann -> you] psst"]);
        let comer = world.greet(1, hello(&away));
        let kept = world.heard(comer).contains(&"again [ann -> you] kept".to_owned());
        assert_eq!(kept, is_kept);
        world.hush();
        world.say(comer, join_since(1, "attic", 0, 0));
        world.say(comer, history(2, "attic", 0, 0));
        let said = world.heard(comer).contains(&"again [attic 1] ann: said".to_owned());
        assert_eq!(said, is_kept);
    }
}

#[test]
fn what_a_session_was_told_of_those_that_wait_does_not_come_to_it_once_more() {
    let mut world = World::with(|config| config.durability = Some(Durability::Batch));
    let user = (0..).map(|n| format!("u{n}")).find(|name| world.home_of(name).0 == 0).unwrap();
    let ann = world.native(1, "ann");
    world.say(ann, direct(1, &user, "one"));
    world.commits_all();
    world.hush();
    let bob = world.greet(2, hello(&user));
    assert!(world.heard(bob).contains(&"again [ann -> you] one".to_owned()));
    world.panics_and_settles(0);
    world.say(ann, direct(2, &user, "two"));
    assert_eq!(world.heard(bob), ["[ann -> you] two"], "on one connection the ids grow");
    let eve = world.greet(1, hello(&user));
    let heard = world.heard(eve);
    assert!(heard.contains(&"again [ann -> you] one".to_owned()), "it is still kept: {heard:?}");
}

#[test]
fn everybody_is_told_that_what_was_said_to_all_may_be_missing() {
    for durability in [None, Some(Durability::Batch)] {
        let mut world = World::with(|config| config.durability = durability);
        let home = usize::from(world.home_of("*").0);
        let [ann, bob] = [1, 2].map(|next| world.native((home + next) % SHARDS, "ann"));
        world.say(ann, publish_echo(0, "*", "one"));
        if durability.is_some() {
            world.commits_all();
        }
        assert_eq!(world.heard(bob), ["[* 1] ann: one"]);
        world.panics_and_settles(home);
        world.say(ann, publish_echo(0, "*", "two"));
        if durability.is_some() {
            world.commits_all();
        }
        assert_eq!(world.heard(bob), ["gap in *: 2 to 2", "[* 1] ann: two"], "{durability:?}");
    }
}

#[test]
fn what_is_being_handed_over_is_neither_lost_nor_said_to_be() {
    let mut world = World::with(|config| config.limits.fan_out_budget = 1);
    let ann = world.native(1, "ann");
    let members = ["bob", "cat", "dan"].map(|name| world.native(2, name));
    members.iter().for_each(|member| world.say(*member, join(0, "attic")));
    world.hush();
    world.utters(ann, publish(0, "attic", "one"));
    (0..SHARDS).for_each(|_| [1, 0, 2].into_iter().for_each(|shard| world.turns(shard)));
    world.utters(ann, publish(0, "attic", "two"));
    [1, 0, 2].into_iter().for_each(|shard| world.turns(shard));
    world.panics_and_settles(0);
    for member in members {
        let heard = world.heard(member);
        let expected = ["[attic 1] ann: one", "[attic 2] ann: two", "gap in attic: 3 to 3"];
        assert_eq!(heard, expected);
    }
}

#[test]
fn several_in_a_row_and_two_at_once_are_survived() {
    let mut world = World::new();
    let all = members(&mut world);
    for shard in [0, 2, 0, 2] {
        world.panics_and_settles(shard);
    }
    world.panics(0);
    world.panics(2);
    world.panics_and_settles(0);
    world.hush();
    let eve = world.native(2, "eve");
    for room in ROOMS {
        world.say(eve, who(1, room));
        assert_eq!(world.heard(eve), ["roster 1 of 1: bob"], "{room}");
        world.say(eve, publish(0, room, "hi"));
        let heard = world.heard(all[1]);
        assert!(heard.last().unwrap().ends_with("eve: hi"), "{heard:?}");
        world.hush();
    }
    assert!(world.holdings().iter().all(|holdings| holdings.open_counts == 0));
}

#[test]
fn a_member_that_is_reported_for_two_views_counts_once() {
    let mut world = World::new();
    let (ann, bob) = (world.native(1, "ann"), world.native(2, "bob"));
    world.say(ann, join(0, ROOMS[2]));
    world.say(bob, join(0, ROOMS[2]));
    // The home's mailbox is full, so that what is reported of ann after the first panic waits.
    world.stall(2);
    for _ in 0..MAILBOX {
        world.say(ann, publish(0, ROOMS[2], "fill"));
    }
    world.panics(0);
    world.turns(0);
    world.turns(1);
    // In the order of turns, the home hears of the second panic first.
    world.panics(0);
    world.go_on();
    world.say(ann, leave(0, ROOMS[2]));
    world.hush();
    world.say(bob, who(1, ROOMS[2]));
    assert_eq!(world.heard(bob), ["roster 1 of 1: bob"]);
}

/// What a random story does next.
fn happens(
    world: &mut World,
    dice: &mut fastrand::Rng,
    clients: &mut Vec<Client>,
    gone: &mut Vec<Client>,
) {
    let room = ROOMS[dice.usize(..SHARDS)];
    let pick = |dice: &mut fastrand::Rng, from: &[Client]| {
        (!from.is_empty()).then(|| from[dice.usize(..from.len())])
    };
    let names = ["ann", "bob", "cat", "dan", "eve"];
    let (user, client) = (names[dice.usize(..names.len())], pick(dice, clients));
    let reference = dice.u32(0..40);
    let Some(client) = client.filter(|_| dice.u8(..8) > 0) else {
        let shard = dice.usize(..SHARDS);
        let comer = match pick(dice, gone).filter(|_| dice.bool()) {
            Some(first) => {
                let (session, resume_key) = world.session(first);
                world.greets(shard, Hello { session, resume_key, ..hello("") })
            }
            None => world.greets(shard, hello(user)),
        };
        return clients.push(comer);
    };
    match dice.u8(..24) {
        0..=5 => world.utters(client, join_notify(reference, room)),
        6 => world.utters(client, join_since(reference, room, 0, 1)),
        7..=8 => world.utters(client, leave(reference, room)),
        9..=12 => world.utters(client, publish(reference, room, "x")),
        13 => world.utters(client, who(reference, room)),
        14 => world.utters(client, history(reference, room, 0, 5)),
        15..=16 => world.utters(client, direct(reference, user, "psst")),
        17 => world.utters(client, ack(1_000)),
        18 => world.utters(client, BYE),
        19..=20 => {
            clients.retain(|other| *other != client);
            gone.push(client);
            world.breaks(client);
        }
        21 => world.panics(dice.usize(..SHARDS)),
        // Its mailbox fills, and what others have for it waits with them.
        22 if dice.bool() => world.stall(dice.usize(..SHARDS)),
        22 => {
            world.go_on();
            world.pass_ms(dice.u64(..4_000));
        }
        _ => (0..SHARDS).for_each(|shard| world.turns(shard)),
    }
}

#[test]
fn whatever_happens_around_panics_rosters_are_right_and_nothing_is_left_behind() {
    let stories = std::env::var("CB_PANICS").map_or(100, |count| count.parse().unwrap());
    for seed in 0..stories {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut world = World::with(|config| {
            config.limits.max_sessions_per_user = usize::from(seed % 3 == 0) * 3;
            config.limits.max_members_per_room = usize::from(seed % 4 == 0) * 3;
            config.limits.history_count = if seed % 2 == 0 { 0 } else { 10 };
        });
        let (mut clients, mut gone) = (Vec::new(), Vec::new());
        for _ in 0..150 {
            happens(&mut world, &mut dice, &mut clients, &mut gone);
            if dice.bool() {
                world.turns(dice.usize(..SHARDS));
            }
            if dice.u8(..6) == 0 {
                world.panics(dice.usize(..SHARDS));
            }
        }
        world.go_on();
        clients.iter().for_each(|client| world.answers_pings(*client));
        world.pass_ms(5_000);
        let probe = world.native(1, "probe");
        for room in ROOMS {
            world.hush();
            world.say(probe, publish_echo(0, room, "probe"));
            let here = clients.iter().filter(|client| {
                let heard = world.heard(**client);
                heard.iter().any(|words| words.ends_with("probe: probe"))
            });
            let members: Vec<Client> = here.copied().collect();
            let names: BTreeSet<String> =
                members.iter().map(|client| world.user_of(*client)).collect();
            world.hush();
            world.say(probe, who(7, room));
            let names: Vec<String> = names.into_iter().collect();
            let expected = format!("roster 7 of {}: {}", names.len(), names.join(" "));
            assert_eq!(world.heard(probe), [expected], "seed {seed}, {room}, {members:?}");
        }
        for client in clients.into_iter().chain([probe]) {
            if !matches!(world.fate(client), Fate::Closed(_)) {
                world.vanishes(client);
            }
        }
        world.pass_ms(600_000);
        for holdings in world.holdings() {
            let left = (holdings.sessions, holdings.rooms, holdings.users, holdings.subscriptions);
            assert_eq!(left, (0, 0, 0, 0), "seed {seed}: {holdings:?}");
            let kept =
                (holdings.kept_sessions, holdings.away_sessions, holdings.unsettled_sessions);
            assert_eq!(kept, (0, 0, 0), "seed {seed}: {holdings:?}");
            let under_way = (holdings.questions, holdings.open_counts, holdings.replays);
            assert_eq!(under_way, (0, 0, 0), "seed {seed}: {holdings:?}");
            assert_eq!(holdings.refused_joins, 0, "seed {seed}: {holdings:?}");
        }
    }
}
