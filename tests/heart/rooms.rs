//! JOIN, LEAVE, PUBLISH and WHO, in rooms at home on every shard.

use corebeat::base::limits::ROOM_IDLE_MS;
use corebeat::wire::message::{Event, Request};
use corebeat::wire::native::message_payload_len;

use super::speech::{frames, join, join_notify, leave, publish, publish_echo, who};
use super::world::{BEGINNING_MS, Fate, ROOMS, World};

#[test]
fn members_on_every_shard_hear_a_message_and_its_sender_does_not() {
    for room in ROOMS {
        let mut world = World::new();
        let members = [0, 1, 2].map(|shard| world.native(shard, &format!("user-{shard}")));
        for member in members {
            world.say(member, join(1, room));
            assert_eq!(world.heard(member), ["ok 1: 0"]);
        }
        for (place, sender) in members.into_iter().enumerate() {
            world.say(sender, publish(2, room, "hi"));
            let seq = place + 1;
            for member in members {
                let expected = if member == sender {
                    format!("ok 2: {seq}")
                } else {
                    format!("[{room} {seq}] user-{place}: hi")
                };
                assert_eq!(world.heard(member), [expected]);
            }
        }
    }
}

#[test]
fn all_members_see_one_order_counted_from_one() {
    for room in ROOMS {
        let mut world = World::new();
        let listeners = [0, 1, 2].map(|shard| world.native(shard, &format!("ear-{shard}")));
        for listener in listeners {
            world.say(listener, join(0, room));
        }
        let speakers = [0, 1, 2].map(|shard| world.native(shard, &format!("mouth-{shard}")));
        for round in 0..5 {
            for speaker in speakers {
                let body = format!("{round}");
                world.send(speaker, &frames(&[publish(0, room, &body), publish(0, room, "2nd")]));
            }
        }
        let heard = world.heard(listeners[0]);
        assert_eq!(heard.len(), 30);
        for (index, line) in heard.iter().enumerate() {
            assert!(line.starts_with(&format!("[{room} {}] ", index + 1)), "{line}");
        }
        assert_eq!(world.heard(listeners[1]), heard);
        assert_eq!(world.heard(listeners[2]), heard);
    }
}

#[test]
fn a_message_tells_its_epoch_its_time_and_any_bytes() {
    for room in ROOMS {
        let mut world = World::new();
        let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
        world.say(bob, join(1, room));
        let epoch = world.last_event(bob, |event| match event {
            Event::Ok { epoch, .. } => epoch,
            other => panic!("{other:?}"),
        });
        assert_ne!(epoch.0, 0);
        world.pass_ms(5_000);
        let body = [0, 0xFB, b'\n', 0xFF];
        let reference = corebeat::base::ids::Ref(9);
        world.say(ann, Request::Publish { reference, room, body: &body, echo: false });
        world.last_event(bob, |event| match event {
            Event::Message { epoch: told, time_ms, body: told_body, replay, .. } => {
                assert_eq!((told, time_ms), (epoch, BEGINNING_MS + 5_000));
                assert_eq!((told_body, replay), (&body[..], false));
            }
            other => panic!("{other:?}"),
        });
        world.last_event(ann, |event| match event {
            Event::Ok { epoch: told, .. } => assert_eq!(told, epoch),
            other => panic!("{other:?}"),
        });
    }
}

#[test]
fn an_empty_body_is_a_message() {
    for room in ROOMS {
        let mut world = World::new();
        let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
        world.say(bob, join(0, room));
        world.say(ann, publish(0, room, ""));
        assert_eq!(world.heard(bob), [format!("[{room} 1] ann: ")]);
    }
}

#[test]
fn a_ref_of_0_asks_for_no_answer_on_success_and_gets_one_on_refusal() {
    for room in ROOMS {
        let mut world = World::new();
        let ann = world.native(1, "ann");
        world.say(ann, join(0, room));
        world.say(ann, join(0, room));
        world.say(ann, publish(0, room, "hi"));
        world.say(ann, publish(0, room, "hi"));
        world.say(ann, leave(0, room));
        assert!(world.heard(ann).is_empty());
        world.say(ann, leave(0, room));
        assert_eq!(world.heard(ann), ["error 0: 404"]);
        assert_eq!(world.fate(ann), Fate::Open);
    }
}

#[test]
fn a_room_without_members_counts_its_messages_and_one_may_publish_without_joining() {
    for room in ROOMS {
        let mut world = World::new();
        let (ann, bob) = (world.native(0, "ann"), world.native(2, "bob"));
        world.say(ann, publish(1, room, "nobody hears"));
        world.say(ann, publish(2, room, "nobody hears"));
        assert_eq!(world.heard(ann), ["ok 1: 1", "ok 2: 2"]);
        world.say(bob, join(1, room));
        assert_eq!(world.heard(bob), ["ok 1: 2"], "the head, and nothing of what preceded it");
        world.say(ann, publish(3, room, "heard"));
        assert_eq!(world.heard(bob), [format!("[{room} 3] ann: heard")]);
    }
}

#[test]
fn a_room_forgotten_begins_again_in_another_epoch() {
    for room in ROOMS {
        let mut world = World::with(|config| config.limits.history_count = 0);
        let ann = world.native(0, "ann");
        world.answers_pings(ann);
        let mut epochs = Vec::new();
        for _ in 0..2 {
            world.say(ann, publish(0, room, "first"));
            world.say(ann, join(1, room));
            world.last_event(ann, |event| match event {
                Event::Ok { epoch, seq, .. } => {
                    assert_eq!(seq.0, 1);
                    epochs.push(epoch);
                }
                other => panic!("{other:?}"),
            });
            world.say(ann, leave(0, room));
            world.pass_ms(2 * ROOM_IDLE_MS + 1_000);
            world.hush();
        }
        assert!(epochs[0] < epochs[1], "{epochs:?}");
    }
}

#[test]
fn echo_gives_the_sender_its_own_message_in_its_place() {
    for room in ROOMS {
        let mut world = World::new();
        let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
        world.say(ann, join(0, room));
        world.say(bob, join(0, room));
        let said = [
            publish(0, room, "silent"),
            publish_echo(0, room, "aloud"),
            publish(0, room, "silent again"),
            publish_echo(0, room, "aloud again"),
        ];
        world.send(ann, &frames(&said));
        let loud = [format!("[{room} 2] ann: aloud"), format!("[{room} 4] ann: aloud again")];
        assert_eq!(world.heard(ann), loud);
        assert_eq!(world.heard(bob).len(), 4);
        world.say(ann, leave(0, room));
        world.say(ann, publish_echo(0, room, "from outside"));
        assert!(world.heard(ann).is_empty(), "echo goes to a member only");
    }
}

#[test]
fn another_session_of_the_sender_hears_the_message() {
    for room in ROOMS {
        let mut world = World::new();
        let (desk, phone) = (world.native(0, "ann"), world.native(1, "ann"));
        world.say(desk, join(0, room));
        world.say(phone, join(0, room));
        world.say(desk, publish(0, room, "hi"));
        assert!(world.heard(desk).is_empty());
        assert_eq!(world.heard(phone), [format!("[{room} 1] ann: hi")]);
    }
}

#[test]
fn whoever_left_hears_nothing_and_may_come_back() {
    for room in ROOMS {
        let mut world = World::new();
        let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
        world.say(bob, join(1, room));
        world.say(bob, leave(2, room));
        assert_eq!(world.heard(bob), ["ok 1: 0", "ok 2: 0"]);
        world.say(ann, publish(0, room, "missed"));
        assert!(world.heard(bob).is_empty());
        world.say(bob, join(3, room));
        world.say(ann, publish(0, room, "heard"));
        assert_eq!(world.heard(bob), ["ok 3: 1".to_owned(), format!("[{room} 2] ann: heard")]);
    }
}

#[test]
fn requests_in_one_breath_are_all_answered_and_leave_no_member_behind() {
    for room in ROOMS {
        let mut world = World::new();
        let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
        world.send(ann, &frames(&[join(1, room), leave(2, room), join(3, room), leave(4, room)]));
        let mut heard = world.heard(ann);
        heard.sort_unstable();
        assert_eq!(heard, ["ok 1: 0", "ok 2: 0", "ok 3: 0", "ok 4: 0"]);
        world.say(bob, publish(1, room, "gone?"));
        assert!(world.heard(ann).is_empty());
        world.send(ann, &frames(&[join(5, room), join(6, room), publish(7, room, "in")]));
        assert_eq!(world.heard(ann), ["ok 5: 1", "ok 6: 1", "ok 7: 2"]);
    }
}

#[test]
fn joining_twice_is_one_membership_with_the_last_notify() {
    for room in ROOMS {
        let mut world = World::new();
        let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
        let comings = |world: &mut World| {
            world.say(bob, join(0, room));
            world.say(bob, leave(0, room));
            world.heard(ann).len()
        };
        world.say(ann, join(1, room));
        world.say(ann, publish(0, room, "one"));
        assert_eq!(world.heard(ann), ["ok 1: 0"]);
        assert_eq!(comings(&mut world), 0);
        world.say(ann, join_notify(2, room));
        assert_eq!(world.heard(ann), ["ok 2: 1"], "the head again");
        assert_eq!(comings(&mut world), 2);
        world.say(ann, join(3, room));
        world.heard(ann);
        assert_eq!(comings(&mut world), 0);
        world.say(bob, publish(0, room, "once"));
        assert_eq!(world.heard(ann), [format!("[{room} 2] bob: once")]);
        world.say(ann, leave(4, room));
        world.say(bob, publish(0, room, "not at all"));
        assert_eq!(world.heard(ann), ["ok 4: 0"], "one leave ends it");
    }
}

#[test]
fn leaving_a_room_one_is_not_in_is_refused() {
    for room in ROOMS {
        let mut world = World::new();
        let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
        world.say(bob, join(0, room));
        world.say(ann, leave(5, room));
        world.say(ann, leave(6, "never-heard-of"));
        assert_eq!(world.heard(ann), ["error 5: 404", "error 6: 404"]);
        assert_eq!(world.fate(ann), Fate::Open);
    }
}

#[test]
fn a_room_name_that_breaks_the_rules_is_refused_with_its_ref() {
    let long = "x".repeat(65);
    for (room, code) in [("", 400), ("a b", 400), ("a\n", 400), (&long, 400), ("$room", 403)] {
        let mut world = World::new();
        let ann = world.native(0, "ann");
        world.say(ann, join(1, room));
        world.say(ann, publish(2, room, "hi"));
        world.say(ann, who(3, room));
        let expected = [1, 2, 3].map(|reference| format!("error {reference}: {code}"));
        assert_eq!(world.heard(ann), expected, "{room:?}");
        world.say(ann, leave(4, room));
        assert_eq!(world.heard(ann).len(), 1);
        assert_eq!(world.fate(ann), Fate::Open);
    }
}

#[test]
fn a_connection_may_be_in_so_many_rooms_and_no_more() {
    let mut world = World::with(|config| config.limits.max_rooms_per_connection = 2);
    let ann = world.native(0, "ann");
    world.say(ann, join(1, "attic"));
    world.say(ann, join(2, "porch"));
    world.say(ann, join(3, "lobby"));
    world.say(ann, join(4, "porch"));
    assert_eq!(world.heard(ann), ["ok 1: 0", "ok 2: 0", "error 3: 429", "ok 4: 0"]);
    world.say(ann, leave(5, "attic"));
    world.say(ann, join(6, "lobby"));
    assert_eq!(world.heard(ann), ["ok 5: 0", "ok 6: 0"]);
    let impatient = world.native(0, "bob");
    world.send(impatient, &frames(&[join(1, "attic"), join(2, "porch"), join(3, "lobby")]));
    let mut heard = world.heard(impatient);
    heard.sort_unstable();
    assert_eq!(heard, ["error 3: 429", "ok 1: 0", "ok 2: 0"], "pending joins count");
}

#[test]
fn a_server_keeps_so_many_rooms_and_no_more() {
    // The room of everybody is one of them, on the shard that is its home.
    let mut world = World::with(|config| config.limits.max_rooms = 1);
    let ann = world.native(0, "ann");
    let mut refused = 0;
    for number in 0..30 {
        let room = format!("room-{number}");
        world.say(ann, join(1, &room));
        let answer = world.heard(ann).remove(0);
        if answer == "error 1: 503" {
            refused += 1;
            world.say(ann, leave(2, &room));
            assert_eq!(world.heard(ann), ["error 2: 404"], "a refused join is no membership");
        } else {
            assert_eq!(answer, "ok 1: 0");
        }
    }
    assert_eq!(refused, 28);
}

#[test]
fn a_body_whose_message_would_be_too_long_is_refused_and_the_connection_lives() {
    for room in ROOMS {
        let mut world = World::with(|config| config.limits.max_frame = 1_024);
        let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
        world.say(bob, join(0, room));
        let fits = "x".repeat(1_024 - message_payload_len(room, "ann", 0));
        world.say(ann, publish(1, room, &fits));
        world.say(ann, publish(2, room, &format!("{fits}x")));
        world.say(ann, publish(2, room, "short"));
        assert_eq!(world.heard(ann), ["ok 1: 1", "error 2: 413", "ok 2: 2"]);
        assert_eq!(world.heard(bob).len(), 2);
    }
}

#[test]
fn who_names_each_user_once() {
    for room in ROOMS {
        let mut world = World::new();
        let ann = world.native(0, "ann");
        world.say(ann, who(1, room));
        assert_eq!(world.heard(ann), ["error 1: 404"], "no such room");
        for (shard, user) in [(0, "bob"), (1, "cat"), (2, "cat"), (2, "dan")] {
            let member = world.native(shard, user);
            world.say(member, join(0, room));
        }
        world.say(ann, who(2, room));
        assert_eq!(world.heard(ann), ["roster 2 of 3: bob cat dan"]);
    }
}

#[test]
fn a_roster_names_a_thousand_at_most_and_as_many_as_a_frame_holds() {
    for (max_frame, names) in [(64 << 10, 1_000), (1_024, (1_024 - 10) / 10)] {
        for room in ["attic", "lobby"] {
            let mut world = World::with(|config| config.limits.max_frame = max_frame);
            let ann = world.native(0, "ann");
            for number in 0..1_100 {
                let member = world.native(number % 3, &format!("user-{number:04}"));
                world.say(member, join(0, room));
            }
            world.say(ann, who(1, room));
            world.last_event(ann, |event| match event {
                Event::Roster { total, users, .. } => {
                    assert_eq!((total, users.count()), (1_100, names));
                }
                other => panic!("{other:?}"),
            });
        }
    }
}
