//! First bytes, HELLO and WELCOME.

use corebeat::base::counters::CloseReason;
use corebeat::base::ids::NodeId;
use corebeat::chat::heartbeat::HeartbeatPolicy;
use corebeat::wire::message::{Event, Heartbeat, Hello, Request};
use corebeat::wire::native::{self, Flags, kind};

use super::speech::{
    frame, frames, hello, join, join_notify, leave, ping, publish, publish_echo, who,
};
use super::world::{BEGINNING_MS, Fate, NODE, ROOMS, World};

#[test]
fn first_bytes_decide_the_dialect_however_they_are_cut() {
    let mut hello_frame = Vec::new();
    native::encode_request(&mut hello_frame, &Request::Hello(hello("ann")), false);
    let openings: [(&[u8], bool, &str); 7] = [
        (&hello_frame, false, "welcome ann"),
        (b"/nick ann\n", true, "* welcome ann"),
        (b"hello\r\n", true, "* welcome guest-1"),
        (b"GETting on\n", true, "* welcome guest-1"),
        (b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n", true, "HTTP/1.1 200 OK\r"),
        (b"HEAD /nowhere HTTP/1.0\r\n\r\n", true, "HTTP/1.1 404 Not Found\r"),
        (b"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", true, "HTTP/1.1 204 No Content\r"),
    ];
    for (bytes, is_text, first) in openings {
        for cut in 0..bytes.len() {
            let mut world = World::new();
            let client = if is_text { world.text_connection(0) } else { world.connect(0) };
            world.send(client, &bytes[..cut]);
            world.send(client, &bytes[cut..]);
            assert_eq!(world.heard(client)[0], first, "cut at {cut}");
        }
    }
}

#[test]
fn tls_is_closed_without_a_word() {
    let mut world = World::new();
    let client = world.connect(0);
    world.send(client, &[0x16, 0x03, 0x01]);
    assert_eq!(world.fate(client), Fate::Closed(CloseReason::UnservedDialect));
    assert!(world.heard(client).is_empty());
}

#[test]
fn a_welcome_tells_the_session_the_heartbeat_and_the_limits() {
    let mut world = World::with(|config| config.limits.max_frame = 4_096);
    let mut sessions = Vec::new();
    for shard in [0, 0, 1] {
        let ann = world.greet(shard, hello("ann"));
        world.last_event(ann, |event| {
            let Event::Welcome(welcome) = event else {
                panic!("{event:?}");
            };
            assert_eq!((welcome.version, welcome.node, welcome.user), (1, NODE, "ann"));
            assert_eq!((welcome.heartbeat_s, welcome.timeout_s), (30, 90));
            assert_eq!((welcome.max_frame, welcome.resumed), (4_096, false));
            assert_ne!(welcome.resume_key, 0);
            assert_ne!(welcome.resume_key, welcome.session, "the key is no part of the name");
            sessions.push(welcome.session);
        });
    }
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), 3, "every session has an identity of its own");
    assert_ne!(sessions[0], 0, "0 asks for a new session");
}

#[test]
fn guests_are_named_by_the_server_each_another_name_on_every_shard() {
    let mut world = World::new();
    let mut names = Vec::new();
    for shard in [0, 1, 2, 0, 1, 2] {
        let native = world.greet(shard, hello(""));
        names.extend(world.heard(native));
        let text = world.text_connection(shard);
        world.types(text, "");
        names.push(world.heard(text).remove(0).replace("* ", ""));
    }
    assert!(names.iter().all(|name| name.starts_with("welcome guest-")), "{names:?}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 12);
}

#[test]
fn a_wish_of_heartbeat_is_granted_within_the_bounds() {
    let policy = HeartbeatPolicy {
        interval_s: 30,
        timeout_s: 90,
        shortest_s: 5,
        longest_s: 600,
        stretch: 1,
    };
    for (wish, granted) in
        [(0, (30, 90)), (60, (60, 180)), (1, (5, 15)), (5, (5, 15)), (65_535, (600, 1_800))]
    {
        let mut world = World::with(|config| config.heartbeat = policy);
        let ann = world.greet(0, Hello { heartbeat_s: wish, ..hello("ann") });
        world.last_event(ann, |event| {
            let Event::Welcome(welcome) = event else {
                panic!("{event:?}");
            };
            assert_eq!((welcome.heartbeat_s, welcome.timeout_s), granted, "a wish of {wish}");
        });
    }
}

#[test]
fn hello_is_said_once() {
    let mut world = World::new();
    let ann = world.native(0, "ann");
    world.say(ann, Request::Hello(hello("ann")));
    assert_eq!(world.heard(ann), ["error 0: 400"]);
    assert_eq!(world.fate(ann), Fate::HalfClosed);
}

#[test]
fn nothing_precedes_hello() {
    for request in [ping(1, 2), join(1, "attic"), publish(1, "attic", "hi"), Request::Echo(b"hi")] {
        let mut world = World::new();
        let client = world.connect(0);
        world.send(client, &frames(&[request, Request::Hello(hello("ann"))]));
        assert_eq!(world.heard(client), ["error 0: 400"], "{request:?}");
        assert_eq!(world.fate(client), Fate::HalfClosed);
    }
}

#[test]
fn an_optional_frame_of_unknown_type_is_skipped_wherever_it_stands() {
    let mut world = World::new();
    let client = world.connect(0);
    let optional = frame(0x7E, Flags::OPTIONAL.0, b"from the future");
    let mut bytes = optional.clone();
    bytes.extend(frames(&[Request::Hello(hello("ann"))]));
    bytes.extend(&optional);
    bytes.extend(frames(&[Request::Echo(b"hi")]));
    world.send(client, &bytes);
    assert_eq!(world.heard(client), ["welcome ann", "echo hi"]);
}

#[test]
fn a_name_that_breaks_the_rules_ends_the_hello() {
    let long = "x".repeat(65);
    for (name, code) in [
        ("a b", 400),
        ("tab\tbed", 400),
        ("bell\u{7}", 400),
        ("non\u{a0}breaking", 400),
        (long.as_str(), 400),
        ("$root", 403),
    ] {
        let mut world = World::new();
        let client = world.greet(0, hello(name));
        assert_eq!(world.heard(client), [format!("error 0: {code}")], "{name:?}");
        assert_eq!(world.fate(client), Fate::HalfClosed);
        assert_eq!(world.counters().closed_for(CloseReason::Refused), 1);
    }
    let mut world = World::new();
    let name = "日本語の名前-and-64-bytes-are-enough-for-anybody-012345678";
    assert_eq!(name.len(), 64);
    world.native(0, name);
}

#[test]
fn another_version_is_refused_whatever_follows_it() {
    for payload in [&[2][..], &[0], &[2, 0, 0, 0xFF, 0xFF]] {
        let mut world = World::new();
        let client = world.connect(0);
        world.send(client, &frame(kind::HELLO, 0, payload));
        assert_eq!(world.heard(client), ["error 0: 400"]);
        assert_eq!(world.fate(client), Fate::HalfClosed);
    }
}

#[test]
fn fields_added_behind_the_last_one_are_ignored() {
    let mut world = World::new();
    let client = world.connect(0);
    let mut payload = frames(&[Request::Hello(hello("ann"))])[8..].to_vec();
    payload.extend(b"a field of version 1.1");
    world.send(client, &frame(kind::HELLO, 0b0111_0000, &payload));
    assert_eq!(world.heard(client), ["welcome ann"], "unknown flags are ignored too");
}

/// The world checks that every frame has a sound checksum for whoever asked for them, and none for
/// whoever did not; here each kind of event gets its turn.
#[test]
fn who_says_hello_with_a_checksum_gets_one_on_every_frame() {
    for room in ROOMS {
        let mut world = World::new();
        let crc = world.greet(0, Hello { crc: true, ..hello("crc") });
        let ann = world.native(1, "ann");
        world.say(crc, join_notify(1, room));
        world.say(ann, join(1, room));
        world.say(ann, publish(2, room, "to both"));
        world.say(ann, publish(3, "*", "to all"));
        world.say(crc, publish_echo(2, room, "mine"));
        world.say(crc, publish(2, room, "again"));
        world.say(crc, who(3, room));
        world.say(crc, ping(4, 5));
        world.say(crc, Request::Echo(b"echo"));
        world.say(crc, leave(5, "nowhere"));
        world.say(crc, leave(6, room));
        world.drain("enough");
        let expected = [
            "welcome crc".to_owned(),
            "ok 1: 0".to_owned(),
            format!("ann joined {room}, now 2"),
            format!("[{room} 1] ann: to both"),
            "[* 1] ann: to all".to_owned(),
            format!("[{room} 2] crc: mine"),
            "ok 2: 2".to_owned(),
            "ok 2: 2 duplicate".to_owned(),
            "roster 3 of 2: ann crc".to_owned(),
            "pong 4 of 5".to_owned(),
            "echo echo".to_owned(),
            "error 5: 404".to_owned(),
            "ok 6: 0".to_owned(),
            "goaway".to_owned(),
        ];
        let mut heard = world.heard(crc);
        // Whether the answer or the echoed message comes first is not promised.
        heard[5..7].sort_unstable();
        assert_eq!(heard, expected);
    }
}

#[test]
fn frames_with_and_without_a_checksum_are_both_taken() {
    let mut world = World::new();
    let ann = world.native(0, "ann");
    let mut bytes = Vec::new();
    native::encode_request(&mut bytes, &Request::Echo(b"with"), true);
    native::encode_request(&mut bytes, &Request::Echo(b"without"), false);
    world.send(ann, &bytes);
    assert_eq!(world.heard(ann), ["echo with", "echo without"]);
}

#[test]
fn a_pong_returns_the_time_and_the_number_and_tells_the_node() {
    let mut world = World::new();
    let ann = world.native(0, "ann");
    world.raw(ann);
    let (seq, time_ms) = (u32::MAX - 1, u64::MAX - 2);
    let sent = Heartbeat { node: NodeId(99), time_ms, status: 2, seq };
    world.say(ann, Request::Ping(sent));
    world.last_event(ann, |event| {
        let status = 0;
        assert_eq!(event, Event::Pong(Heartbeat { node: NODE, time_ms, status, seq }));
    });
    assert_eq!(world.counters().pings_answered, 1);
}

#[test]
fn a_pong_of_a_client_tells_the_round_trip() {
    let mut world = World::new();
    let ann = world.native(0, "ann");
    let pong = |time_ms| Heartbeat { time_ms, ..Heartbeat::default() };
    world.pass_ms(250);
    world.say(ann, Request::Pong(pong(BEGINNING_MS + 50)));
    world.say(ann, Request::Pong(pong(u64::MAX)));
    world.say(ann, Request::Pong(pong(0)));
    assert!(world.heard(ann).is_empty(), "a PONG is not answered");
    assert_eq!((world.counters().pongs, world.counters().round_trip_ms), (3, 200));
}

#[test]
fn an_echo_returns_the_same_bytes_from_none_to_max_frame() {
    let mut world = World::with(|config| config.limits.max_frame = 2_048);
    let ann = world.native(0, "ann");
    world.raw(ann);
    let all_bytes: Vec<u8> = (0..2_048).map(|number| number as u8).collect();
    for length in [0, 1, 2_047, 2_048] {
        world.say(ann, Request::Echo(&all_bytes[..length]));
        world.last_event(ann, |event| assert_eq!(event, Event::Echo(&all_bytes[..length])));
    }
}
