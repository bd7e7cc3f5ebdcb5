//! Repeated refs: nothing is done twice.

use super::speech::{frames, join, publish};
use super::world::{ROOMS, World};

#[test]
fn a_repeated_publish_is_answered_with_the_place_of_the_first() {
    for room in ROOMS {
        let mut world = World::new();
        let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
        world.say(bob, join(0, room));
        world.say(ann, publish(7, room, "once"));
        world.say(ann, publish(8, room, "other"));
        world.say(ann, publish(7, room, "twice"));
        assert_eq!(world.heard(ann), ["ok 7: 1", "ok 8: 2", "ok 7: 1 duplicate"]);
        let once = [format!("[{room} 1] ann: once"), format!("[{room} 2] ann: other")];
        assert_eq!(world.heard(bob), once);
        assert_eq!(world.counters().duplicates, 1);
    }
}

#[test]
fn a_repetition_that_overtakes_the_answer_gets_its_own() {
    for room in ROOMS {
        let mut world = World::new();
        let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
        world.say(bob, join(0, room));
        world.send(ann, &frames(&[publish(7, room, "once"); 3]));
        let answers = ["ok 7: 1", "ok 7: 1 duplicate", "ok 7: 1 duplicate"];
        assert_eq!(world.heard(ann), answers);
        assert_eq!(world.heard(bob), [format!("[{room} 1] ann: once")]);
    }
}

#[test]
fn a_ref_is_remembered_for_the_next_1023_and_not_for_the_next_1024() {
    for room in ROOMS {
        let mut world = World::new();
        let ann = world.native(0, "ann");
        for reference in 1..=1_024 {
            world.say(ann, publish(reference, room, "hi"));
        }
        world.heard(ann);
        world.say(ann, publish(1, room, "hi"));
        assert_eq!(world.heard(ann), ["ok 1: 1 duplicate"]);
        world.say(ann, publish(1_025, room, "hi"));
        world.say(ann, publish(2, room, "hi"));
        world.say(ann, publish(1, room, "hi"));
        assert_eq!(world.heard(ann), ["ok 1025: 1025", "ok 2: 2 duplicate", "ok 1: 1026"]);
    }
}

#[test]
fn refs_belong_to_a_session_and_cover_all_rooms() {
    let mut world = World::new();
    let (ann, bob) = (world.native(0, "ann"), world.native(0, "bob"));
    world.say(ann, publish(7, "attic", "hi"));
    world.say(bob, publish(7, "attic", "hi"));
    world.say(ann, publish(7, "porch", "another room, the same request"));
    assert_eq!(world.heard(ann), ["ok 7: 1", "ok 7: 1 duplicate"]);
    assert_eq!(world.heard(bob), ["ok 7: 2"]);
}

#[test]
fn refs_may_come_in_any_order() {
    let mut world = World::new();
    let ann = world.native(0, "ann");
    for reference in [5, 3, u32::MAX, 4, 3, u32::MAX] {
        world.say(ann, publish(reference, "porch", "hi"));
    }
    let max = u32::MAX;
    let expected = [
        "ok 5: 1".to_owned(),
        "ok 3: 2".to_owned(),
        format!("ok {max}: 3"),
        "ok 4: 4".to_owned(),
        "ok 3: 2 duplicate".to_owned(),
        format!("ok {max}: 3 duplicate"),
    ];
    assert_eq!(world.heard(ann), expected);
}

#[test]
fn a_refused_ref_may_be_tried_again() {
    let mut world = World::with(|config| {
        config.limits.max_rooms = 2;
        config.limits.max_frame = 1_024;
    });
    let ann = world.native(0, "ann");
    world.say(ann, publish(1, "$reserved", "hi"));
    world.say(ann, publish(1, "porch", &"x".repeat(1_010)));
    world.say(ann, publish(1, "porch", "hi"));
    assert_eq!(world.heard(ann), ["error 1: 403", "error 1: 413", "ok 1: 1"]);
    // Fill every home, so that a home itself refuses; then make the request where there is room.
    world.say(ann, join(0, "porch"));
    for number in 0..30 {
        world.say(ann, join(0, &format!("room-{number}")));
    }
    world.heard(ann);
    world.send(ann, &frames(&[publish(2, "one-too-many", "hi"), publish(2, "one-too-many", "hi")]));
    assert_eq!(world.heard(ann), ["error 2: 503", "error 2: 503"]);
    world.say(ann, publish(2, "porch", "hi"));
    assert_eq!(world.heard(ann), ["ok 2: 2"]);
}
