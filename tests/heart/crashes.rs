//! What outlives a crash: shards are thrown away at every boundary between two commits and made
//! anew from what was committed, and clients judge.

use std::collections::{BTreeMap, BTreeSet};

use corebeat::base::ids::{Epoch, Seq};
use corebeat::base::limits::ROOM_IDLE_MS;
use corebeat::chat::holdings::Holdings;
use corebeat::chat::record::Durability;
use corebeat::wire::message::{Code, Event, Request};
use corebeat::wire::native;

use super::speech::{ack, direct, hello, history, join, publish};
use super::world::{Client, ROOMS, SHARDS, World};

/// Users that are away while they are written to.
const AWAY: [&str; 3] = ["ghost", "spook", "wraith"];

type Place = (Epoch, Seq);

fn world(durability: Durability) -> World {
    World::with(|config| config.durability = Some(durability))
}

/// All that clients were told, over all lives of the process.
#[derive(Default)]
struct Ledger {
    places: BTreeMap<(&'static str, Place), String>,
    promised: BTreeMap<(&'static str, Place), String>,
    queued: BTreeMap<(&'static str, u64), String>,
    /// What was struck for certain.
    struck: BTreeMap<&'static str, u64>,
    /// What was asked, by request number, and not answered.
    asked: BTreeMap<u32, (&'static str, String)>,
    refused: BTreeSet<String>,
    /// Direct messages that this life of the process refused, or told their users.
    refused_now: BTreeSet<String>,
    told_now: BTreeSet<String>,
    last_reference: u32,
}

impl Ledger {
    fn next(&mut self, to: &'static str, what: &str) -> (u32, String) {
        self.last_reference += 1;
        let body = format!("{what} {}", self.last_reference);
        self.asked.insert(self.last_reference, (to, body.clone()));
        (self.last_reference, body)
    }

    fn saw(&mut self, room: &'static str, place: Place, body: &str) {
        let earlier = self.places.insert((room, place), body.to_owned());
        assert!(earlier.is_none_or(|earlier| earlier == body), "{room} {place:?} names two");
    }

    /// Takes in what a client was told.
    fn take(&mut self, world: &mut World, client: Client) {
        let raw = world.raw(client);
        world.heard(client);
        for_each(&raw, |event| match event {
            Event::Ok { reference, flags, epoch, seq } => {
                let Some((to, body)) = self.asked.remove(&reference.0) else { return };
                if flags.queued {
                    self.queued.insert((to, seq.0), body);
                } else if epoch != Epoch(0) {
                    self.saw(to, (epoch, seq), &body);
                    self.promised.insert((to, (epoch, seq)), body);
                }
            }
            Event::Error { reference, code, .. } => {
                assert_eq!(code, Code::Unavailable);
                let (_, body) = self.asked.remove(&reference.0).expect("it was asked");
                assert!(!self.told_now.contains(&body), "{body} was heard, and is refused");
                self.refused_now.insert(body.clone());
                self.refused.insert(body);
            }
            Event::Message { epoch, seq, room, body, .. } => {
                let room = ROOMS.into_iter().find(|name| *name == room).expect("one of the rooms");
                let body = std::str::from_utf8(body).unwrap();
                assert!(!self.refused.contains(body), "{body} was refused, and is heard");
                self.saw(room, (epoch, seq), body);
            }
            _ => {}
        });
    }

    /// Asks each room what it kept, and holds it against what was promised.
    fn check_rooms(&mut self, world: &mut World) {
        let reader = world.native(0, "reader");
        for room in ROOMS {
            world.raw(reader);
            world.say(reader, join(u32::MAX, room));
            world.say(reader, history(u32::MAX, room, 0, 0));
            let (raw, mut kept) = (world.raw(reader), BTreeMap::new());
            for_each(&raw, |event| {
                if let Event::Message { epoch, seq, body, .. } = event {
                    let body = String::from_utf8(body.to_vec()).unwrap();
                    kept.insert((epoch, seq), body);
                }
            });
            let bodies: BTreeSet<&String> = kept.values().collect();
            assert_eq!(bodies.len(), kept.len(), "{room}: a message stands at two places");
            for (place, body) in &kept {
                self.saw(room, *place, body);
            }
            for ((_, place), body) in self.promised.iter().filter(|((of, _), _)| *of == room) {
                assert_eq!(kept.get(place), Some(body), "{room} lost {place:?}");
            }
        }
        world.heard(reader);
        world.say(reader, Request::Bye { code: 0, reason: "" });
    }

    /// Lets a user come and hear what waits, and acknowledge some of it.
    fn visit(&mut self, world: &mut World, shard: usize, user: &'static str, acks: bool) {
        let client = world.greet(shard, hello(user));
        let mut told = BTreeMap::new();
        let raw = world.raw(client);
        world.heard(client);
        for_each(&raw, |event| {
            if let Event::Direct { id, body, .. } = event {
                let body = String::from_utf8(body.to_vec()).unwrap();
                assert!(!self.refused_now.contains(&body), "{body} was refused, and is heard");
                self.told_now.insert(body.clone());
                let last = told.insert(id, body);
                assert!(last.is_none(), "{user} was told {id} twice");
            }
        });
        let struck = self.struck.get(user).copied().unwrap_or(0);
        assert!(told.keys().all(|id| *id > struck), "{user}: what was ACKed came again");
        for ((_, id), body) in self.queued.iter().filter(|((of, _), _)| *of == user) {
            assert!(*id <= struck || told.get(id) == Some(body), "{user}'s {id} was lost");
        }
        if acks && let Some(id) = told.keys().nth(told.len() / 2).copied() {
            world.say(client, Request::Ack { id });
            let home = world.home_of(user).index();
            world.commits(home, world.waiting(home), true);
            self.struck.insert(user, id);
        }
        world.say(client, Request::Bye { code: 0, reason: "" });
    }
}

fn for_each(mut raw: &[u8], mut each: impl FnMut(Event<'_>)) {
    while let Some((frame, length)) = native::frame(raw, usize::MAX).expect("frames") {
        each(native::event(&frame).expect("frames of the server").expect("known ones"));
        raw = &raw[length..];
    }
}

/// One life after the other, all as chance will have it.
fn live(seed: u64, durability: Durability) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut world = world(durability);
    let mut ledger = Ledger::default();
    let torn = durability == Durability::None;
    let mut failures = 2;
    for life in 0..4 {
        let names = ["ann", "bob", "cat"].map(|name| format!("{name}-{life}"));
        let clients: Vec<Client> =
            names.iter().map(|name| world.native(dice.usize(..SHARDS), name)).collect();
        for client in &clients[1..] {
            for room in ROOMS {
                world.say(*client, join(u32::MAX, room));
            }
        }
        for _ in 0..dice.usize(5..60) {
            let client = clients[dice.usize(..clients.len())];
            let shard = dice.usize(..SHARDS);
            match dice.u32(..100) {
                0..45 => {
                    let room = ROOMS[dice.usize(..ROOMS.len())];
                    let (reference, body) = ledger.next(room, "said");
                    world.say(client, publish(reference, room, &body));
                }
                45..60 => {
                    let user = AWAY[dice.usize(..AWAY.len())];
                    let (reference, body) = ledger.next(user, "sent");
                    world.say(client, direct(reference, user, &body));
                }
                60..90 => {
                    let waiting = world.waiting(shard);
                    world.commits(shard, dice.usize(..=waiting), dice.u32(..4) > 0);
                }
                90..93 if failures > 0 => {
                    failures -= 1;
                    let leaked = dice.usize(..=world.waiting(shard));
                    world.fails(shard, leaked);
                }
                _ => ledger.visit(&mut world, shard, AWAY[dice.usize(..AWAY.len())], true),
            }
            clients.iter().for_each(|client| ledger.take(&mut world, *client));
        }
        if torn {
            // Nothing was promised; that no place names two messages is what is left.
            ledger.promised.clear();
            ledger.queued.clear();
        }
        ledger.asked.clear();
        world.crashes(torn);
        ledger.refused_now.clear();
        ledger.told_now.clear();
        ledger.check_rooms(&mut world);
        AWAY.into_iter().for_each(|user| ledger.visit(&mut world, 0, user, false));
    }
}

/// As many lives as the environment wants, or `usual`.
fn runs(usual: u64) -> u64 {
    std::env::var("CB_CRASHES").map_or(usual, |runs| runs.parse().expect("a number"))
}

#[test]
fn nothing_that_was_acknowledged_is_lost_and_no_place_names_two_messages() {
    for seed in 0..runs(60) {
        live(seed, Durability::Batch);
    }
}

#[test]
fn without_waiting_places_are_not_given_twice_either() {
    for seed in 0..runs(40) {
        live(seed, Durability::None);
    }
}

/// Speaks and writes, one request after the other. Returns the speaker.
fn script(world: &mut World, ledger: &mut Ledger) -> Client {
    let ann = world.native(1, "ann");
    for round in 0..4 {
        for (room, user) in ROOMS.into_iter().zip(AWAY) {
            let (reference, body) = ledger.next(room, "said");
            world.say(ann, publish(reference, room, &body));
            let (reference, body) = ledger.next(user, "sent");
            world.say(ann, direct(reference, user, &body));
        }
        if round == 2 {
            world.fails(1, 1);
        }
    }
    ann
}

#[test]
fn a_crash_at_every_boundary_between_two_commits() {
    let mut total = 0;
    for told in [true, false] {
        for shard in 0..SHARDS {
            for boundary in 0.. {
                let (mut world, mut ledger) = (world(Durability::Sync), Ledger::default());
                let ann = script(&mut world, &mut ledger);
                if boundary > world.waiting(shard) {
                    break;
                }
                for count in std::iter::repeat_n(1, boundary) {
                    world.commits(shard, count, told);
                }
                ledger.take(&mut world, ann);
                ledger.asked.clear();
                world.crashes(false);
                ledger.check_rooms(&mut world);
                AWAY.into_iter().for_each(|user| ledger.visit(&mut world, 2, user, false));
                total += 1;
            }
        }
    }
    assert!(total > 40, "{total} boundaries");
}

#[test]
fn nobody_hears_of_a_message_before_it_is_written() {
    let mut world = world(Durability::Batch);
    let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
    world.say(bob, join(1, ROOMS[2]));
    world.hush();
    world.say(ann, publish(1, ROOMS[2], "hello"));
    world.say(ann, direct(2, "ghost", "psst"));
    let cat = world.native(2, "cat");
    world.say(cat, join(1, ROOMS[2]));
    assert!(world.heard(ann).is_empty() && world.heard(bob).is_empty());
    let joined = world.heard(cat);
    assert!(joined[0] == "ok 1: 0", "the head is what is written: {joined:?}");
    let ghost = world.native(2, "ghost");
    world.say(ghost, ack(1_000));
    assert!(world.heard(ghost).is_empty(), "it may fail yet");
    world.commits_all();
    assert_eq!(world.heard(ann).len(), 2);
    assert_eq!((world.heard(bob).len(), world.heard(cat).len()), (1, 1));
    assert_eq!(world.heard(ghost).len(), 1, "{ghost:?} came before the write, and is told now");
}

#[test]
fn who_comes_while_messages_are_written_is_told_each_when_it_is_and_then_all_at_once() {
    let mut world = world(Durability::Sync);
    let ann = world.native(0, "ann");
    let home = world.home_of("ghost").index();
    for reference in 1..=3 {
        world.say(ann, direct(reference, "ghost", "psst"));
    }
    let ghost = world.native(1, "ghost");
    for _ in 0..2 {
        world.commits(home, 1, true);
        assert_eq!(world.heard(ghost).len(), 1);
        assert!(world.heard(ann)[0].ends_with(" queued"));
    }
    // The user is there, though earlier messages go first: the sender is not told otherwise.
    world.say(ann, direct(4, "ghost", "psst"));
    world.fails(home, 0);
    assert_eq!(world.heard(ann), ["error 3: 503", "error 4: 503"]);
    assert!(world.heard(ghost).is_empty(), "what was refused is not heard");
    world.commits_all();
    world.say(ann, direct(5, "ghost", "psst"));
    assert_eq!(world.heard(ghost).len(), 1, "it has come so far that it is told live");
    let answer = world.heard(ann);
    assert!(answer.len() == 1 && !answer[0].ends_with(" queued"), "{answer:?}");
}

#[test]
fn a_user_who_is_there_is_not_said_to_be_offline_while_earlier_messages_go_first() {
    let mut world = world(Durability::Sync);
    let (ann, typist) = (world.native(0, "ann"), world.text(0, "typist"));
    world.say(ann, direct(1, "ghost", "psst"));
    let ghost = world.native(1, "ghost");
    world.say(ann, direct(2, "ghost", "psst"));
    world.types(typist, "/msg ghost psst");
    world.commits_all();
    let answers = world.heard(ann);
    assert!(answers[0].ends_with(" queued") && !answers[1].ends_with(" queued"), "{answers:?}");
    assert!(world.heard(typist).is_empty(), "nobody is offline");
    assert_eq!(world.heard(ghost).len(), 3);
}

#[test]
fn a_failed_write_is_refused_and_the_room_begins_another_epoch() {
    let mut world = world(Durability::Batch);
    let ann = world.native(0, "ann");
    let place = |world: &mut World, reference| {
        world.say(ann, publish(reference, ROOMS[1], "hello"));
        world.commits_all();
        let place = world.last_event(ann, |event| match event {
            Event::Ok { epoch, seq, .. } => (epoch, seq),
            other => panic!("{other:?}"),
        });
        world.hush();
        place
    };
    let (epoch, seq) = place(&mut world, 1);
    assert_eq!(seq, Seq(1));
    world.say(ann, publish(2, ROOMS[1], "lost"));
    world.fails(1, 0);
    assert_eq!(world.heard(ann), ["error 2: 503"]);
    world.say(ann, publish(3, ROOMS[1], "too early"));
    assert_eq!(world.heard(ann), ["error 3: 503"]);
    world.hush();
    world.commits_all();
    let (other, seq) = place(&mut world, 4);
    assert_ne!(other, epoch);
    assert_eq!(seq, Seq(1));
    assert_eq!(world.counters().epochs_renewed, 1);
}

#[test]
fn what_gave_way_to_a_message_that_was_not_written_is_told_to_be_gone() {
    let mut world = World::with(|config| {
        config.durability = Some(Durability::Batch);
        config.limits.offline_count = 1;
        config.limits.max_outbound = 8 << 10;
    });
    let home = world.home_of("bob").index();
    let ann = world.native(0, "ann");
    world.say(ann, direct(0, "bob", &"one".repeat(2_000)));
    world.commits_all();
    let bob = world.connect(1);
    world.stops_reading(bob);
    world.say(bob, Request::Hello(hello("bob")));
    world.say(ann, direct(7, "bob", "two"));
    world.fails(home, 0);
    world.commits_all();
    assert_eq!(world.heard(ann), ["error 7: 503"]);
    world.reads(bob, usize::MAX);
    assert!(world.heard(bob)[1].starts_with("again [ann -> you] one"));
    let phone = world.greet(2, hello("bob"));
    assert_eq!(world.heard(phone), ["welcome bob", "gap in : #1 to #1"]);
    let desk = world.greet(0, hello("bob"));
    assert_eq!(world.heard(desk), ["welcome bob"], "it is told once");
}

#[test]
fn a_session_that_goes_on_is_told_what_is_gone_of_the_epoch_it_knew_and_of_the_next_one() {
    for (home, room) in ROOMS.into_iter().enumerate() {
        let mut world = World::with(|config| {
            config.durability = Some(Durability::Batch);
            config.limits.history_count = 2;
        });
        let (ann, speaker) = (world.native(0, "ann"), world.native(1, "speaker"));
        world.say(ann, join(0, room));
        let say = |world: &mut World, body| {
            world.say(speaker, publish(0, room, body));
            world.commits_all();
        };
        say(&mut world, "one");
        say(&mut world, "two");
        assert_eq!(world.heard(ann).len(), 2);
        // Nobody knows how much of that has come to her.
        world.loses_last(ann, 10_000);
        world.vanishes(ann);
        world.say(speaker, publish(0, room, "not written"));
        world.fails(home, 0);
        world.commits_all();
        for body in ["another one", "another two", "another three"] {
            say(&mut world, body);
        }
        let ann = world.comes_back(2, ann);
        let expected = [
            "resumed ann".to_owned(),
            format!("gap in {room}: 1 to 2"),
            format!("gap in {room}: 1 to 1"),
            format!("again [{room} 2] speaker: another two"),
            format!("again [{room} 3] speaker: another three"),
        ];
        assert_eq!(world.heard(ann), expected);
    }
}

#[test]
fn what_is_dropped_and_what_is_acknowledged_leaves_the_disk() {
    let mut world = World::with(|config| {
        config.durability = Some(Durability::Batch);
        config.limits.history_count = 3;
        config.limits.offline_count = 2;
    });
    let ann = world.native(0, "ann");
    for reference in 0..40 {
        world.say(ann, publish(0, ROOMS[0], "hello"));
        world.say(ann, direct(reference, "ghost", "psst"));
        world.commits_all();
    }
    // Three messages, two direct ones, and what the user is to be told to be missing.
    assert_eq!(world.stored_keys(), 3 + 2 + 1);
    let ghost = world.greet(0, hello("ghost"));
    world.say(ghost, Request::Ack { id: u64::MAX });
    world.commits_all();
    assert_eq!(world.stored_keys(), 3);
    world.say(ann, Request::Bye { code: 0, reason: "" });
    world.say(ghost, Request::Bye { code: 0, reason: "" });
    world.pass_ms(2 * 86_400_000);
    world.commits_all();
    assert_eq!(world.stored_keys(), 0, "a room that is forgotten leaves nothing");
}

#[test]
fn what_was_struck_while_the_disk_failed_is_struck_again() {
    let mut world = World::with(|config| {
        config.durability = Some(Durability::Batch);
        config.limits.history_count = 3;
    });
    let ann = world.native(0, "ann");
    for _ in 0..3 {
        world.say(ann, publish(0, ROOMS[0], "hello"));
        world.commits_all();
    }
    let home = world.home_of(ROOMS[0]).index();
    world.say(ann, publish(0, ROOMS[0], "hello"));
    world.commits(home, 1, true);
    assert_eq!((world.stored_keys(), world.waiting(home)), (4, 1), "the oldest is to be struck");
    world.fails(home, 0);
    world.commits_all();
    assert_eq!(world.stored_keys(), 3);
}

#[test]
fn a_room_that_nobody_was_ever_in_is_forgotten_in_the_end() {
    for durability in [Durability::None, Durability::Batch] {
        for history_count in [0, 1_000] {
            let mut world = World::with(|config| {
                config.durability = Some(durability);
                config.limits.history_count = history_count;
                config.limits.history_age_ms = 60_000;
            });
            let ann = world.native(0, "ann");
            world.answers_pings(ann);
            let empty = world.holdings();
            for (room, reference) in ROOMS.into_iter().zip(1..) {
                world.say(ann, publish(reference, room, "is anybody there?"));
            }
            world.commits_all();
            let made: usize = world.holdings().iter().map(|held| held.home_rooms).sum();
            assert_eq!(made, ROOMS.len());
            for _ in 0..4 {
                world.pass_ms(60_000 + ROOM_IDLE_MS);
                world.commits_all();
            }
            let rooms = |held: &Holdings| (held.home_rooms, held.history_bytes);
            assert!(world.holdings().iter().map(rooms).eq(empty.iter().map(rooms)));
            assert_eq!(world.stored_keys(), 0, "nothing is stored of what is forgotten");
        }
    }
}
