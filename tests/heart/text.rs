//! The text dialect: what a person types and reads.

use corebeat::base::counters::CloseReason;
use corebeat::base::limits::LINGER_MS;

use super::speech::{join, join_notify, publish};
use super::world::{Fate, World};

/// The greeting of a client whose first line is `line`, wherever it is connected.
fn greeting(shard: usize, line: &str) -> (World, Vec<String>) {
    let mut world = World::new();
    let client = world.text_connection(shard);
    world.send(client, line.as_bytes());
    let heard = world.heard(client);
    assert_eq!(world.fate(client), Fate::Open);
    (world, heard)
}

#[test]
fn a_first_line_names_the_user_or_is_said_by_a_guest() {
    for shard in [0, 1, 2] {
        let guest = format!("* welcome guest-{}", shard + 1);
        let alone = "* you are in lobby, alone so far";
        assert_eq!(greeting(shard, "/nick ann\n").1, ["* welcome ann", alone]);
        assert_eq!(greeting(shard, "/nick ann\r\n").1, ["* welcome ann", alone]);
        assert_eq!(greeting(shard, "\n").1, [guest.as_str(), alone]);
        assert_eq!(greeting(shard, "hello\n").1, [guest.as_str(), alone]);
        let (_, mut heard) = greeting(shard, "/who\n");
        heard.sort_unstable();
        let roster = format!("* lobby (1): guest-{}", shard + 1);
        assert_eq!(heard, [roster.as_str(), guest.as_str(), alone]);
        let (_, heard) = greeting(shard, "/nick $root\n");
        assert!(heard[0].starts_with("! 403 "), "{heard:?}");
        assert_eq!(heard[1..], [guest.as_str(), alone]);
        let (_, heard) = greeting(shard, "/nick two words\n");
        assert!(heard[0].starts_with("! 400 "), "{heard:?}");
        assert_eq!(heard[1..], [guest.as_str(), alone]);
        let (_, heard) = greeting(shard, "/nick\n");
        assert!(heard.contains(&"! 400 usage: /nick NAME".to_owned()), "{heard:?}");
    }
}

#[test]
fn the_hosts_of_text_clients_are_probed_by_the_kernel_and_no_others() {
    let mut world = World::new();
    let (ann, bob) = (world.text(0, "ann"), world.native(0, "bob"));
    assert!(world.is_probed(ann));
    assert!(!world.is_probed(bob));
}

#[test]
fn two_text_clients_and_a_native_one_share_the_lobby() {
    let mut world = World::new();
    let (ann, bob) = (world.text(0, "ann"), world.text(1, "bob"));
    assert_eq!(world.heard(ann), ["* bob joined lobby"]);
    let cat = world.native(2, "cat");
    world.say(cat, join_notify(1, "lobby"));
    world.hush();
    world.types(ann, "hello there");
    assert!(world.heard(ann).is_empty());
    assert_eq!(world.heard(bob), ["[lobby] ann: hello there"]);
    assert_eq!(world.heard(cat), ["[lobby 1] ann: hello there"]);
    world.say(cat, publish(2, "lobby", "two\nlines and a \u{1b}[31mcolour"));
    let one_line = "[lobby] cat: two lines and a  [31mcolour";
    assert_eq!(world.heard(ann), [one_line]);
    assert_eq!(world.heard(bob), [one_line]);
}

#[test]
fn lines_end_with_lf_or_crlf_and_empty_ones_say_nothing() {
    let mut world = World::new();
    let (ann, bob) = (world.text(0, "ann"), world.text(1, "bob"));
    world.hush();
    world.send(ann, b"one\r\n\r\n\ntwo\nthr");
    assert_eq!(world.heard(bob), ["[lobby] ann: one", "[lobby] ann: two"]);
    world.send(ann, b"ee\n");
    assert_eq!(world.heard(bob), ["[lobby] ann: three"]);
    assert!(world.heard(ann).is_empty());
}

#[test]
fn a_new_nick_is_told_to_every_room_and_not_to_oneself() {
    for shard in [0, 1, 2] {
        let mut world = World::new();
        let (ann, bob) = (world.text(shard, "ann"), world.text(1, "bob"));
        let cat = world.native(0, "cat");
        world.say(cat, join_notify(0, "attic"));
        world.types(ann, "/join attic");
        world.hush();
        world.types(ann, "/nick anna");
        assert_eq!(world.heard(bob), ["* ann left lobby", "* anna joined lobby"]);
        assert_eq!(world.heard(cat), ["ann left attic, now 1", "anna joined attic, now 2"]);
        assert_eq!(world.heard(ann), ["* you are anna now"]);
        world.types(ann, "hi");
        assert_eq!(world.heard(cat), ["[attic 1] anna: hi"]);
        world.types(bob, "/msg ann are you there");
        assert_eq!(world.heard(bob), ["* ann is offline, and will be told"], "it was the old name");
        world.types(bob, "/msg anna are you there");
        assert_eq!(world.heard(ann), ["[bob -> you] are you there"]);
        world.vanishes(ann);
        assert_eq!(world.heard(bob), ["* anna left lobby"]);
    }
}

#[test]
fn a_nick_in_the_same_breath_as_a_join_is_not_told_to_oneself_either() {
    for room in super::world::ROOMS {
        let mut world = World::new();
        let (ann, bob) = (world.text(0, "ann"), world.text(1, "bob"));
        world.types(bob, &format!("/join {room}"));
        world.hush();
        world.send(ann, format!("/join {room}\n/nick anna\n").as_bytes());
        let heard = world.heard(ann);
        assert!(heard.iter().all(|line| line.starts_with("* you are ")), "{heard:?}");
        assert!(world.heard(bob).contains(&format!("* anna joined {room}")));
    }
}

#[test]
fn a_bad_or_unchanged_nick_changes_nothing() {
    let mut world = World::new();
    let (ann, bob) = (world.text(0, "ann"), world.text(1, "bob"));
    world.hush();
    for (nick, code) in [("$ann", 403), ("a b", 400), (&"x".repeat(65), 400)] {
        world.types(ann, &format!("/nick {nick}"));
        assert!(world.heard(ann)[0].starts_with(&format!("! {code} ")), "{nick}");
    }
    world.types(ann, "/nick ann");
    assert!(world.heard(bob).is_empty());
    world.types(ann, "still ann");
    assert_eq!(world.heard(bob), ["[lobby] ann: still ann"]);
}

#[test]
fn lines_go_to_the_room_joined_last_and_back_after_leaving_it() {
    for room in ["attic", "porch"] {
        let mut world = World::new();
        let ann = world.text(1, "ann");
        let (lobby, other) = (world.native(0, "lobby-ear"), world.native(2, "room-ear"));
        world.say(lobby, join(0, "lobby"));
        world.say(other, join(0, room));
        world.hush();
        world.types(ann, &format!("/join {room}"));
        assert_eq!(world.heard(ann), [format!("* you are in {room}, 2 members")]);
        world.types(ann, "hi");
        assert_eq!(world.heard(other), [format!("[{room} 1] ann: hi")]);
        world.say(other, publish(0, "lobby", "still a member there"));
        assert_eq!(world.heard(ann), ["[lobby] room-ear: still a member there"]);
        world.types(ann, "/leave");
        assert_eq!(world.heard(ann), [format!("* you left {room}; your lines go to lobby")]);
        world.types(ann, "back");
        assert_eq!(world.heard(lobby)[1..], ["[lobby 2] ann: back"]);
        world.types(ann, "/leave");
        assert_eq!(world.heard(ann), ["* you left lobby; /join ROOM to enter another"]);
        for line in ["hi", "/who", "/leave"] {
            world.types(ann, line);
            assert!(world.heard(ann)[0].starts_with("! 404 "), "{line}: one is in no room");
        }
        assert!(world.heard(other).is_empty());
        world.types(ann, &format!("/join {room}"));
        world.types(ann, "again");
        assert_eq!(world.heard(other), [format!("[{room} 2] ann: again")]);
    }
}

#[test]
fn a_text_client_stays_within_the_bounds_of_rooms() {
    let mut world = World::with(|config| config.limits.max_rooms_per_connection = 2);
    let (ann, bob) = (world.text(0, "ann"), world.native(1, "bob"));
    world.say(bob, join(0, "attic"));
    world.types(ann, "/join attic");
    world.types(ann, "/join porch");
    assert!(world.heard(ann)[1].starts_with("! 429 "));
    world.types(ann, "hi");
    assert_eq!(world.heard(bob), ["[attic 1] ann: hi"], "the current room is still the last good");
}

#[test]
fn a_private_message_reaches_every_session_of_its_user_on_any_shard() {
    for shard in [0, 1, 2] {
        for user in ["bob", "ben", "bea", "bo"] {
            let mut world = World::new();
            let ann = world.text(0, "ann");
            let (typing, native) = (world.text(shard, user), world.native(2, user));
            let other = world.native(shard, "other");
            world.hush();
            world.types(ann, &format!("/msg {user}   psst:  quiet "));
            assert_eq!(world.heard(typing), ["[ann -> you] psst:  quiet"]);
            assert_eq!(world.heard(native), ["[ann -> you] psst:  quiet"]);
            assert!(world.heard(other).is_empty());
            assert!(world.heard(ann).is_empty());
        }
    }
}

#[test]
fn a_direct_message_has_an_id_that_grows_and_a_time() {
    let mut world = World::new();
    let (ann, bob) = (world.text(0, "ann"), world.native(1, "bob"));
    let mut ids = Vec::new();
    for _ in 0..3 {
        world.pass_ms(100);
        world.types(ann, "/msg bob psst");
        let wall_ms = world.now().wall_ms;
        world.last_event(bob, |event| match event {
            corebeat::wire::message::Event::Direct { id, time_ms, replay, .. } => {
                assert_eq!((time_ms, replay), (wall_ms, false));
                ids.push(id);
            }
            other => panic!("{other:?}"),
        });
    }
    assert!(ids.is_sorted() && ids[0] < ids[2] && ids[0] > 0, "{ids:?}");
}

#[test]
fn a_private_message_to_a_bad_name_is_refused() {
    let mut world = World::new();
    let ann = world.text(0, "ann");
    let cases = [("$root", 403), (&*"x".repeat(65), 400)];
    for (user, code) in cases {
        world.types(ann, &format!("/msg {user} psst"));
        assert!(world.heard(ann)[0].starts_with(&format!("! {code} ")), "{user}");
    }
    assert_eq!(world.fate(ann), Fate::Open);
}

#[test]
fn each_command_has_its_answer() {
    let mut world = World::new();
    let (ann, bob) = (world.text(0, "ann"), world.text(1, "bob"));
    world.hush();
    let answer = |world: &mut World, line: &str| {
        world.types(ann, line);
        let mut heard = world.heard(ann);
        assert_eq!(heard.len(), 1, "{line}: {heard:?}");
        heard.remove(0)
    };
    assert_eq!(answer(&mut world, "/ping"), "pong");
    let roster = answer(&mut world, "/who");
    assert!(["* lobby (2): ann, bob", "* lobby (2): bob, ann"].contains(&roster.as_str()));
    for line in ["/history", "/history 10"] {
        assert_eq!(answer(&mut world, line), "* nothing is kept of what was said in lobby");
    }
    for (line, usage) in [
        ("/history ten", "/history [N]"),
        ("/join", "/join ROOM"),
        ("/nick  ", "/nick NAME"),
        ("/msg bob", "/msg USER TEXT"),
        ("/msg", "/msg USER TEXT"),
        ("/leave lobby", "/leave"),
        ("/who lobby", "/who"),
    ] {
        assert_eq!(answer(&mut world, line), format!("! 400 usage: {usage}"));
    }
    for line in ["/dance", "/PING", "/", "//"] {
        assert!(answer(&mut world, line).starts_with("! 400 "), "{line}");
    }
    world.types(ann, "/help");
    let help = world.heard(ann);
    for command in ["nick", "join", "leave", "msg", "who", "history", "ping", "help", "quit"] {
        let wanted = format!("* /{command}");
        assert!(help.iter().any(|line| line.starts_with(&wanted)), "{wanted}");
    }
    assert!(world.heard(bob).is_empty(), "commands are not said to others");
}

#[test]
fn quit_says_bye_and_hangs_up() {
    let mut world = World::new();
    let (ann, bob) = (world.text(0, "ann"), world.text(1, "bob"));
    world.hush();
    world.send(ann, b"last words\n/quit\nnever said\n");
    assert_eq!(world.heard(ann), ["* bye"]);
    assert_eq!(world.heard(bob), ["[lobby] ann: last words", "* ann left lobby"]);
    assert_eq!(world.fate(ann), Fate::HalfClosed);
    world.half_closes(ann);
    assert_eq!(world.fate(ann), Fate::Closed(CloseReason::Bye));
}

#[test]
fn what_is_not_utf8_closes_as_the_first_line_and_is_dropped_later() {
    let mut world = World::new();
    let first = world.text_connection(0);
    world.send(first, b"caf\xE9\n");
    let heard = world.heard(first);
    assert!(heard.len() == 1 && heard[0].starts_with("! 400 "), "{heard:?}");
    assert_eq!(world.fate(first), Fate::HalfClosed);
    let (ann, bob) = (world.text(0, "ann"), world.text(1, "bob"));
    world.hush();
    world.send(ann, b"caf\xE9\ncaf\xC3\xA9\n");
    let heard = world.heard(ann);
    assert!(heard.len() == 1 && heard[0].starts_with("! 400 "), "{heard:?}");
    assert_eq!(world.heard(bob), ["[lobby] ann: café"]);
    assert_eq!(world.fate(ann), Fate::Open);
}

#[test]
fn a_line_longer_than_max_frame_is_told_and_closes() {
    for ended in [true, false] {
        for is_first in [true, false] {
            let mut world = World::with(|config| config.limits.max_frame = 1_024);
            let ann = if is_first { world.text_connection(0) } else { world.text(0, "ann") };
            let mut line = vec![b'x'; 1_025];
            line.extend_from_slice(if ended { b"\n" } else { b"y" });
            world.send(ann, &line);
            let heard = world.heard(ann);
            assert!(heard.len() == 1 && heard[0].starts_with("! 413 "), "{heard:?}");
            assert_eq!(world.fate(ann), Fate::HalfClosed);
            world.pass_ms(LINGER_MS + 100);
            assert_eq!(world.fate(ann), Fate::Closed(CloseReason::TooLarge));
        }
    }
}

#[test]
fn a_line_whose_message_would_be_too_long_is_refused_and_the_next_one_is_heard() {
    let mut world = World::with(|config| config.limits.max_frame = 1_024);
    let (ann, bob) = (world.text(0, "ann"), world.text(1, "bob"));
    world.hush();
    world.types(ann, &"x".repeat(1_024));
    world.types(ann, "short");
    let heard = world.heard(ann);
    assert!(heard.len() == 1 && heard[0].starts_with("! 413 "), "{heard:?}");
    assert_eq!(world.heard(bob), ["[lobby] ann: short"]);
}
