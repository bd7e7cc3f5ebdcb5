//! The room `*`: every connection.

use corebeat::wire::message::{Hello, Request};

use super::speech::{frames, hello, join, leave, publish, publish_echo, who};
use super::world::{Fate, World};

#[test]
fn it_reaches_every_live_session_of_all_shards_and_dialects() {
    let mut world = World::new();
    let natives = [0, 1, 2].map(|shard| world.native(shard, &format!("native-{shard}")));
    let checked =
        [0, 1, 2].map(|shard| world.greet(shard, Hello { crc: true, ..hello("checked") }));
    let texts = [0, 1, 2].map(|shard| world.text(shard, &format!("text-{shard}")));
    let silent = [0, 1, 2].map(|shard| world.connect(shard));
    world.hush();
    for sender in natives {
        world.say(sender, publish(1, "*", "fire"));
    }
    for (index, client) in natives.into_iter().enumerate() {
        let mut heard = world.heard(client);
        heard.retain(|words| !words.starts_with("ok 1: "));
        assert_eq!(heard.len(), 2, "all but its own");
        assert!(heard.iter().all(|words| !words.contains(&format!("native-{index}"))));
    }
    for client in checked {
        let expected = [0, 1, 2].map(|s| format!("[* {}] native-{s}: fire", s + 1));
        assert_eq!(world.heard(client), expected);
    }
    for client in texts {
        assert_eq!(world.heard(client), [0, 1, 2].map(|s| format!("[*] native-{s}: fire")));
    }
    for client in silent {
        assert!(world.heard(client).is_empty(), "who has not been welcomed hears nothing");
        assert_eq!(world.fate(client), Fate::Open);
    }
}

#[test]
fn its_messages_are_counted_echoed_and_known_by_their_refs() {
    let mut world = World::new();
    let ann = world.native(0, "ann");
    world.send(ann, &frames(&[publish(1, "*", "a"), publish(2, "*", "b"), publish(1, "*", "a")]));
    let mut heard = world.heard(ann);
    heard.sort_unstable();
    assert_eq!(heard, ["ok 1: 1", "ok 1: 1 duplicate", "ok 2: 2"]);
    world.say(ann, publish_echo(0, "*", "c"));
    assert_eq!(world.heard(ann), ["[* 3] ann: c"]);
}

#[test]
fn publishing_to_it_can_be_forbidden() {
    let mut world = World::with(|config| config.publish_everyone = false);
    let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
    world.say(ann, publish(1, "*", "fire"));
    assert_eq!(world.heard(ann), ["error 1: 403"]);
    assert!(world.heard(bob).is_empty());
    assert_eq!(world.fate(ann), Fate::Open);
}

#[test]
fn it_cannot_be_joined_left_or_listed() {
    let mut world = World::new();
    let ann = world.native(0, "ann");
    world.say(ann, join(1, "*"));
    world.say(ann, who(2, "*"));
    world.say(ann, leave(3, "*"));
    assert_eq!(world.heard(ann), ["error 1: 403", "error 2: 403", "error 3: 404"]);
    let bob = world.text(1, "bob");
    world.types(bob, "/join *");
    assert!(world.heard(bob)[0].starts_with("! 403 "));
    world.types(bob, "hi");
    world.say(ann, Request::Echo(b"quiet"));
    assert_eq!(world.heard(ann), ["echo quiet"], "a text line goes to the lobby, not to everybody");
}
