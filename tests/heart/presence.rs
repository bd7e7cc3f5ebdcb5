//! Who comes and who goes.

use corebeat::base::limits::PRESENCE_PERIOD_MS;

use corebeat::wire::message::Request;

use super::speech::{join, join_notify, leave, publish, publish_echo, who};
use super::world::{Client, ROOMS, World};

#[test]
fn joins_and_leaves_are_told_to_notify_members_and_text_clients_only() {
    let room = "lobby";
    for shard in [0, 1, 2] {
        let mut world = World::new();
        let watcher = world.native(0, "watcher");
        let member = world.native(1, "member");
        let outsider = world.native(2, "outsider");
        let typist = world.text(1, "typist");
        world.say(watcher, join_notify(0, room));
        world.say(member, join(0, room));
        world.hush();
        let ann = world.native(shard, "ann");
        world.say(ann, join(0, room));
        world.say(ann, leave(0, room));
        assert_eq!(world.heard(watcher), ["ann joined lobby, now 4", "ann left lobby, now 3"]);
        assert_eq!(world.heard(typist), ["* ann joined lobby", "* ann left lobby"]);
        assert!(world.heard(member).is_empty());
        assert!(world.heard(outsider).is_empty());
        assert!(world.heard(ann).is_empty());
    }
}

#[test]
fn nobody_is_told_of_himself() {
    for room in ROOMS {
        for shard in [0, 1, 2] {
            let mut world = World::new();
            let (desk, phone) = (world.native(shard, "ann"), world.native(1, "ann"));
            world.say(desk, join_notify(1, room));
            world.say(phone, join_notify(1, room));
            world.say(phone, leave(2, room));
            world.say(desk, leave(2, room));
            world.say(desk, join_notify(3, room));
            assert_eq!(world.heard(desk), ["ok 1: 0", "ok 2: 0", "ok 3: 0"]);
            assert_eq!(world.heard(phone), ["ok 1: 0", "ok 2: 0"]);
        }
    }
}

#[test]
fn a_user_with_two_sessions_comes_once_and_goes_once() {
    for room in ROOMS {
        let mut world = World::new();
        let watcher = world.native(0, "watcher");
        world.say(watcher, join_notify(0, room));
        let (desk, phone) = (world.native(1, "ann"), world.native(2, "ann"));
        world.say(desk, join(0, room));
        world.say(phone, join(0, room));
        assert_eq!(world.heard(watcher), [format!("ann joined {room}, now 2")]);
        world.say(desk, leave(0, room));
        assert!(world.heard(watcher).is_empty());
        world.say(phone, Request::Bye { code: 0, reason: "" });
        assert_eq!(world.heard(watcher), [format!("ann left {room}, now 1")]);
    }
}

#[test]
fn however_a_connection_ends_its_user_leaves_every_room() {
    let endings: [fn(&mut World, Client); 4] = [
        |world, client| world.vanishes(client),
        |world, client| world.half_closes(client),
        |world, client| world.send(client, b"no frame"),
        |world, _| world.pass_ms(91_000),
    ];
    for end in endings {
        let mut world = World::new();
        let watcher = world.native(1, "watcher");
        world.answers_pings(watcher);
        let ann = world.native(0, "ann");
        for room in ROOMS {
            world.say(watcher, join_notify(0, room));
            world.say(ann, join(0, room));
        }
        world.hush();
        end(&mut world, ann);
        world.pass_ms(3_000);
        let mut heard = world.heard(watcher);
        heard.retain(|words| words != "ping" && words != "ann Offline");
        heard.sort_unstable();
        let mut expected = ROOMS.map(|room| format!("ann left {room}, now 1"));
        expected.sort_unstable();
        assert_eq!(heard, expected);
    }
}

#[test]
fn presence_keeps_its_place_among_messages() {
    for room in ROOMS {
        let mut world = World::new();
        let watcher = world.native(2, "watcher");
        world.say(watcher, join_notify(0, room));
        let ann = world.native(1, "ann");
        let requests = [
            publish(0, room, "from outside"),
            join(0, room),
            publish(0, room, "from inside"),
            leave(0, room),
            publish(0, room, "from outside again"),
        ];
        world.send(ann, &super::speech::frames(&requests));
        let expected = [
            format!("[{room} 1] ann: from outside"),
            format!("ann joined {room}, now 2"),
            format!("[{room} 2] ann: from inside"),
            format!("ann left {room}, now 1"),
            format!("[{room} 3] ann: from outside again"),
        ];
        assert_eq!(world.heard(watcher), expected);
    }
}

#[test]
fn a_crowded_room_tells_its_total_once_a_second() {
    for room in ROOMS {
        let mut world = World::with(|config| config.limits.presence_max = 4);
        let watcher = world.native(0, "watcher");
        world.say(watcher, join_notify(0, room));
        let crowd: Vec<Client> =
            (0..12).map(|number| world.native(number % 3, &format!("user-{number}"))).collect();
        for member in &crowd[..3] {
            world.say(*member, join(0, room));
        }
        let single: Vec<String> =
            (0..3).map(|n| format!("user-{n} joined {room}, now {}", n + 2)).collect();
        assert_eq!(world.heard(watcher), single, "up to presence_max each one is told");
        for member in &crowd[3..8] {
            world.say(*member, join(0, room));
            world.pass_ms(10);
        }
        assert!(world.heard(watcher).is_empty(), "the total is owed");
        world.pass_ms(PRESENCE_PERIOD_MS);
        assert_eq!(world.heard(watcher), [format!("many in {room}, now 9")]);
        world.pass_ms(10 * PRESENCE_PERIOD_MS);
        assert!(world.heard(watcher).is_empty(), "nothing happened, nothing is told");
    }
}

#[test]
fn totals_come_at_most_once_a_second_however_many_come_and_go() {
    for room in ROOMS {
        let mut world = World::with(|config| config.limits.presence_max = 4);
        let watcher = world.native(1, "watcher");
        let crowd: Vec<Client> =
            (0..6).map(|number| world.native(number % 3, &format!("user-{number}"))).collect();
        for member in &crowd {
            world.say(*member, join(0, room));
        }
        world.say(watcher, join_notify(0, room));
        world.pass_ms(PRESENCE_PERIOD_MS);
        world.hush();
        for _ in 0..50 {
            world.say(crowd[5], leave(0, room));
            world.pass_ms(50);
            world.say(crowd[5], join(0, room));
            world.pass_ms(50);
        }
        let told: Vec<(u64, String)> = world.heard_when(watcher);
        assert!((4..=6).contains(&told.len()), "{told:?}");
        assert!(told.windows(2).all(|two| two[1].0 - two[0].0 >= PRESENCE_PERIOD_MS), "{told:?}");
        assert!(told.iter().all(|(_, words)| words.starts_with("many in ")), "{told:?}");
        world.pass_ms(PRESENCE_PERIOD_MS);
        world.hush();
        for member in &crowd[..4] {
            world.say(*member, leave(0, room));
        }
        world.pass_ms(PRESENCE_PERIOD_MS);
        assert_eq!(world.heard(watcher), [format!("many in {room}, now 3")], "a total sums up");
        world.say(crowd[5], leave(0, room));
        assert_eq!(world.heard(watcher), [format!("user-5 left {room}, now 2")], "and it is over");
    }
}

#[test]
fn a_total_keeps_its_place_among_messages() {
    for room in ROOMS {
        let mut world = World::with(|config| config.limits.presence_max = 1);
        let (watcher, ann) = (world.native(0, "watcher"), world.native(1, "ann"));
        world.say(watcher, join_notify(0, room));
        world.say(ann, join(0, room));
        world.say(ann, publish(0, room, "before"));
        world.pass_ms(PRESENCE_PERIOD_MS);
        world.say(ann, publish(0, room, "behind"));
        let expected = [
            format!("[{room} 1] ann: before"),
            format!("many in {room}, now 2"),
            format!("[{room} 2] ann: behind"),
        ];
        assert_eq!(world.heard(watcher), expected);
    }
}

#[test]
fn a_text_client_reads_a_total_as_a_line() {
    let mut world = World::with(|config| config.limits.presence_max = 1);
    let (ann, bob) = (world.text(0, "ann"), world.text(1, "bob"));
    world.pass_ms(PRESENCE_PERIOD_MS);
    assert_eq!(world.heard(ann), ["* lobby has 2 members"]);
    assert_eq!(world.heard(bob), ["* lobby has 2 members"]);
}

#[test]
fn when_all_is_gone_nothing_is_held() {
    let mut world = World::with(|config| config.limits.history_age_ms = 60_000);
    let clients: Vec<Client> = (0..9)
        .map(|number| {
            let shard = number % 3;
            if number < 6 {
                world.native(shard, &format!("user-{number}"))
            } else {
                world.text(shard, &format!("user-{number}"))
            }
        })
        .collect();
    for client in &clients[..6] {
        for room in ROOMS {
            world.say(*client, join_notify(1, room));
            world.say(*client, publish_echo(2, room, "hi"));
            world.say(*client, who(3, room));
        }
    }
    for client in clients {
        world.vanishes(client);
    }
    world.pass_ms(400_000);
    for holdings in world.holdings() {
        assert_eq!(holdings, corebeat::chat::shard::Holdings::default());
    }
}
