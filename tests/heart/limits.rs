//! What clients may do, and how they are told that it was too much.

use corebeat::base::counters::CloseReason;
use corebeat::base::limits::{Limits, REFUSED_PAUSE_MS, REFUSED_RECONNECT_AFTER_MS};
use corebeat::chat::drain::Readiness;
use corebeat::chat::excess::Excess;
use corebeat::chat::shard::Holdings;
use corebeat::wire::message::{Event, Request};
use corebeat::wire::native;

use super::ear::{JSON, closing, get, upgrade};
use super::speech::{direct, frames, hello, history, join, leave, ping, publish, who};
use super::world::{Client, Fate, ROOMS, SHARDS, World};

fn world_with(change: impl Fn(&mut Limits)) -> World {
    World::with(|config| change(&mut config.limits))
}

/// Ten messages a second, and `burst` at once.
fn slow_world(burst: u64) -> World {
    world_with(|limits| (limits.message_rate, limits.message_burst) = (10, burst))
}

/// The texts of the errors that a native client got, and the times of its GOAWAYs.
fn told(world: &mut World, client: Client) -> (Vec<String>, Vec<u32>) {
    let raw = world.raw(client);
    let (mut rest, mut texts, mut times) = (&raw[..], Vec::new(), Vec::new());
    while let Some((frame, used)) = native::frame(rest, usize::MAX).unwrap() {
        match native::event(&frame).unwrap().expect("a known type") {
            Event::Error { text, .. } => texts.push(text.to_owned()),
            Event::GoAway { reconnect_after_ms, address: "", .. } => times.push(reconnect_after_ms),
            _ => {}
        }
        rest = &rest[used..];
    }
    (texts, times)
}

#[test]
fn requests_beyond_the_rate_are_refused_with_the_wait_and_the_connection_lives() {
    let mut world = slow_world(3);
    let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
    world.say(bob, join(0, "lobby"));
    world.hush();
    let asked = [1, 2, 3, 4, 5].map(|reference| publish(reference, "lobby", "hi"));
    world.send(ann, &frames(&asked));
    let mut heard = world.heard(ann);
    heard.sort_unstable();
    assert_eq!(heard, ["error 4: 429", "error 5: 429", "ok 1: 1", "ok 2: 2", "ok 3: 3"]);
    let (texts, _) = told(&mut world, ann);
    assert!(
        texts[0].contains("--message-rate") && texts[0].ends_with("again in 100 ms"),
        "{texts:?}"
    );
    assert_eq!((world.fate(ann), world.heard(bob).len()), (Fate::Open, 3));
    assert_eq!(world.counters().limited_messages, 2);
    world.pass_ms(REFUSED_PAUSE_MS);
    world.say(ann, publish(4, "lobby", "again, with the same ref"));
    assert_eq!(world.heard(ann), ["ok 4: 4"]);
    world.pass_ms(10_000);
    world.send(
        ann,
        &frames(&[publish(6, "lobby", "hi"), who(7, "lobby"), history(8, "lobby", 0, 1)]),
    );
    assert!(world.heard(ann).iter().all(|words| !words.starts_with("error")), "the burst is back");
}

#[test]
fn every_request_with_an_answer_is_limited_and_nothing_else_is_refused() {
    for request in
        [join(9, "lobby"), publish(9, "lobby", "hi"), who(9, "lobby"), direct(9, "bob", "hi")]
    {
        let mut world = slow_world(1);
        let ann = world.native(0, "ann");
        world.say(ann, publish(0, "attic", "hi"));
        world.say(ann, request);
        assert_eq!(world.heard(ann), ["error 9: 429"], "{request:?}");
    }
    let mut world = slow_world(2);
    let ann = world.native(0, "ann");
    world.say(ann, join(1, "lobby"));
    world.say(ann, publish(0, "attic", "hi"));
    world.hush();
    let more =
        [ping(1, 0), Request::Echo(b"still"), leave(2, "lobby"), Request::Pong(Default::default())];
    world.send(ann, &frames(&more));
    assert_eq!(world.heard(ann), ["pong 1 of 0", "echo still", "ok 2: 0"]);
    assert!(!world.wants_input(ann), "but what follows has to wait");
    world.say(ann, Request::Bye { code: 0, reason: "" });
    world.pass_ms(1_000);
    assert_eq!(world.counters().closed_for(CloseReason::Bye), 1);
}

#[test]
fn whoever_goes_on_asking_too_fast_is_read_seldom_and_gets_the_rate() {
    let mut world = slow_world(5);
    let ann = world.native(0, "ann");
    let flood = frames(&vec![publish(0, "attic", "hi"); 500]);
    for _ in 0..100 {
        world.send(ann, &flood);
        world.pass_ms(100);
    }
    let published = world.counters().published;
    assert!((100..=106).contains(&published), "{published} in ten seconds");
    assert!(world.counters().limited_reads <= 101);
    assert_eq!(world.fate(ann), Fate::Open);
}

#[test]
fn text_clients_are_told_in_words() {
    let mut world = slow_world(2);
    let ann = world.text(0, "ann");
    for _ in 0..3 {
        world.types(ann, "hi");
    }
    let heard = world.heard(ann);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].starts_with("! 429 too fast: 10 messages a second and 2 at once"));
    world.pass_ms(200);
    world.types(ann, "hi");
    assert!(world.heard(ann).is_empty());
    assert_eq!(world.counters().published, 3);
}

#[test]
fn browsers_are_told_when_to_ask_again() {
    let mut world = slow_world(1);
    let ann = world.browser(0);
    world.send(ann, (get("/healthz") + &get("/healthz")).as_bytes());
    let replies = world.responses(ann);
    assert_eq!([replies[0].status, replies[1].status], [200, 429]);
    assert_eq!(replies[1].field("Retry-After"), Some("1"));
    world.pass_ms(100);
    world.send(ann, get("/healthz").as_bytes());
    assert_eq!(world.responses(ann)[0].status, 200, "the connection lives");
}

#[test]
fn bytes_beyond_the_rate_are_taken_more_slowly_and_all_of_them_in_order() {
    let mut world = world_with(|limits| (limits.byte_rate, limits.byte_burst) = (100_000, 100_000));
    let ann = world.native(0, "ann");
    let body = "x".repeat(1_000);
    let said: Vec<Request<'_>> = (1..=1_000).map(|r| publish(r, "attic", &body)).collect();
    world.send(ann, &frames(&said));
    let at_once = world.heard(ann).len();
    assert!((90..=200).contains(&at_once), "{at_once}");
    assert!(!world.wants_input(ann));
    for _ in 0..6 {
        world.pass_ms(1_000);
    }
    let later = world.heard(ann);
    assert!((620..=750).contains(&(at_once + later.len())), "{at_once} and {}", later.len());
    world.pass_ms(6_000);
    let all = at_once + later.len() + world.heard(ann).len();
    assert_eq!(all, 1_000, "none was lost, none refused");
    assert!(world.wants_input(ann));
    assert!(world.counters().limited_reads > 0);
}

#[test]
fn silence_is_not_held_against_whoever_is_left_unread() {
    let mut world = world_with(|limits| (limits.byte_rate, limits.byte_burst) = (600, 600));
    let ann = world.native(0, "ann");
    world.answers_pings(ann);
    let body = vec![b'x'; 60_000];
    world.send(ann, &frames(&[Request::Echo(&body), Request::Echo(&body)]));
    world.pass_ms(99_000);
    let echoes = world.heard(ann).iter().filter(|words| words.starts_with("echo")).count();
    assert_eq!(echoes, 1, "the second frame is not read for 100 s");
    assert_eq!(world.fate(ann), Fate::Open);
    world.pass_ms(200_000);
    assert_eq!(world.fate(ann), Fate::Open);
    assert_eq!(world.counters().probes, 0);
}

#[test]
fn whoever_is_too_fast_and_paused_pays_before_it_is_read_again() {
    let mut world = World::with(|config| {
        config.limits.max_outbound = 64 << 10;
        (config.limits.byte_rate, config.limits.byte_burst) = (1_000, 50_000);
    });
    let ann = world.native(0, "ann");
    world.stops_reading(ann);
    let body = vec![b'x'; 1_000];
    world.send(ann, &frames(&vec![Request::Echo(&body); 100]));
    let taken = world.counters().bytes_in;
    assert!(taken > 60_000, "it owes some seconds: {taken}");
    for _ in 0..20 {
        // What it reads makes room for answers, and does not pay.
        world.reads(ann, 10_000);
        assert!(!world.wants_input(ann));
        assert_eq!(world.counters().bytes_in, taken);
    }
    assert_eq!(world.holdings()[0].slowed, 1, "it is on the list once");
    world.pass_ms((taken - 50_000) / 2);
    assert!(!world.wants_input(ann), "half of it is not all of it");
    assert_eq!(world.holdings()[0].slowed, 1);
    world.reads(ann, usize::MAX);
    world.pass_ms(60_000);
    assert!(world.wants_input(ann));
    assert_eq!(world.heard(ann).iter().filter(|words| words.starts_with("echo")).count(), 100);
}

#[test]
fn whoever_is_too_fast_and_does_not_read_is_no_less_a_slow_reader() {
    let mut world = World::with(|config| {
        config.limits.max_outbound = 64 << 10;
        (config.limits.byte_rate, config.limits.byte_burst) = (10, 50_000);
    });
    let ann = world.native(0, "ann");
    world.stops_reading(ann);
    world.send(ann, &frames(&vec![Request::Echo(&[b'x'; 1_000]); 100]));
    world.pass_ms(91_000);
    assert_eq!(world.counters().closed_for(CloseReason::SlowReader), 1);
}

#[test]
fn an_answer_of_other_shards_does_not_pay_for_whoever_is_too_fast() {
    let slow = |limits: &mut Limits| (limits.byte_rate, limits.byte_burst) = (10, 10);
    let mut world = World::with(|config| {
        config.web.numbers = true;
        slow(&mut config.limits);
    });
    let browser = world.browser(0);
    for round in 0..5 {
        world.send(browser, get("/stats").as_bytes());
        assert_eq!(world.responses(browser).len(), usize::from(round == 0), "round {round}");
        assert!(!world.wants_input(browser), "the numbers have come, and it owes a while");
    }
    assert_eq!(world.holdings()[0].slowed, 1);

    for asks_home in [false, true] {
        let mut world = world_with(|limits| {
            slow(limits);
            limits.max_sessions_per_user = usize::from(asks_home);
        });
        let first = world.greet(0, hello("ann"));
        let ann = match asks_home {
            true => first,
            false => world.comes_back(1, first),
        };
        assert!(!world.heard(ann).is_empty(), "it is answered");
        assert!(!world.wants_input(ann), "and what follows has to wait: {asks_home}");
        world.pass_ms(60_000);
        assert!(world.wants_input(ann));
    }
}

#[test]
fn who_is_left_unread_can_be_closed_and_leaves_nothing_behind() {
    let mut world = world_with(|limits| {
        (limits.byte_rate, limits.byte_burst) = (10, 10);
        limits.resume_window_ms = 0;
    });
    let (ann, bob) = (world.native(0, "ann"), world.native(1, "bob"));
    world.send(ann, &[0xFB; 3]);
    world.send(bob, &frames(&vec![ping(0, 0); 100]));
    assert!(!world.wants_input(bob));
    world.vanishes(ann);
    world.drain("closing time");
    world.half_closes(bob);
    world.pass_ms(120_000);
    let nothing = vec![Holdings::default(); SHARDS];
    assert_eq!(world.holdings(), nothing);
}

#[test]
fn a_room_takes_as_many_members_as_it_may() {
    for room in ROOMS {
        let mut world = world_with(|limits| limits.max_members_per_room = 2);
        let [ann, bob, eve] = [(0, "ann"), (1, "bob"), (2, "ann")].map(|(s, u)| world.native(s, u));
        world.say(ann, join(1, room));
        world.say(bob, join(1, room));
        world.say(eve, join(1, room));
        world.say(bob, join(2, room));
        assert_eq!(
            world.heard(eve),
            ["error 1: 429"],
            "a second session of a user is a member too"
        );
        assert_eq!(world.heard(bob), ["ok 1: 0", "ok 2: 0"], "to join again is no further member");
        let (texts, _) = told(&mut world, eve);
        assert!(texts[0].contains("--max-members-per-room"), "{texts:?}");
        world.say(bob, leave(3, room));
        world.say(eve, join(2, room));
        assert_eq!(world.heard(eve), ["ok 2: 0"]);
        assert_eq!(world.counters().limited_members, 1);
        assert!(world.holdings().iter().all(|holdings| holdings.refused_joins == 0));
    }
}

#[test]
fn a_member_that_comes_back_finds_its_place_in_a_full_room() {
    let mut world = world_with(|limits| limits.max_members_per_room = 1);
    let ann = world.native(0, "ann");
    world.say(ann, join(1, "porch"));
    world.vanishes(ann);
    let bob = world.native(1, "bob");
    world.say(bob, join(1, "porch"));
    assert_eq!(world.heard(bob), ["ok 1: 0"]);
    let again = world.comes_back(2, ann);
    world.say(bob, publish(0, "porch", "there you are"));
    assert_eq!(world.heard(again), ["resumed ann", "[porch 1] bob: there you are"]);
}

#[test]
fn memberships_are_bounded_for_one_connection_and_for_all() {
    let mut world = world_with(|limits| {
        (limits.max_rooms_per_connection, limits.max_subscriptions) = (2, 3);
    });
    let (ann, bob) = (world.native(0, "ann"), world.native(0, "bob"));
    for (reference, room) in (1..).zip(["attic", "porch", "lobby"]) {
        world.say(ann, join(reference, room));
    }
    assert_eq!(world.heard(ann), ["ok 1: 0", "ok 2: 0", "error 3: 429"]);
    assert!(told(&mut world, ann).0[0].contains("--max-rooms-per-connection"));
    world.say(bob, join(1, "attic"));
    world.say(bob, join(2, "lobby"));
    assert_eq!(world.heard(bob), ["ok 1: 0", "error 2: 429"]);
    assert!(told(&mut world, bob).0[0].contains("--max-subscriptions"));
    world.say(ann, leave(4, "porch"));
    world.say(bob, join(3, "lobby"));
    assert_eq!(world.heard(bob), ["ok 3: 0"]);
    assert_eq!(world.counters().limited_rooms, 1);
    assert_eq!(world.counters().limited_subscriptions, 1);
    world.say(ann, Request::Bye { code: 0, reason: "" });
    world.say(bob, Request::Bye { code: 0, reason: "" });
    assert_eq!(world.holdings()[0].subscriptions, 0);
}

/// A user whose home is shard `home`.
fn user_of(home: usize) -> &'static str {
    // In the world's first secret these rooms, and so users of the same names, live there.
    ROOMS[home]
}

#[test]
fn a_name_can_be_exclusive() {
    for home in 0..SHARDS {
        let mut world = world_with(|limits| limits.max_sessions_per_user = 1);
        let user = user_of(home);
        let first = world.native(0, user);
        for shard in 0..SHARDS {
            let second = world.greet(shard, hello(user));
            assert_eq!(world.heard(second), ["error 0: 409"], "the welcome was not given");
            assert_eq!(world.fate(second), Fate::HalfClosed);
        }
        assert_eq!(world.counters().closed_for(CloseReason::OverLimit), 3);
        assert_eq!(world.counters().limited_sessions, 3);
        world.say(first, Request::Bye { code: 0, reason: "" });
        world.native(2, user);
    }
}

#[test]
fn beyond_some_sessions_a_user_is_told_when_to_come_back() {
    let mut world = world_with(|limits| limits.max_sessions_per_user = 2);
    world.native(0, "ann");
    world.native(1, "ann");
    let third = world.greet(2, hello("ann"));
    assert_eq!(world.heard(third), ["error 0: 429", "goaway"]);
    let (texts, times) = told(&mut world, third);
    assert!(texts[0].contains("--max-sessions-per-user"), "{texts:?}");
    let (earliest, latest) = REFUSED_RECONNECT_AFTER_MS;
    assert!((earliest..=latest).contains(&times[0]));
    let web = world.websocket(0, "/ws", JSON);
    world.say(web, Request::Hello(hello("ann")));
    assert_eq!(world.heard(web), ["error 0: 429", "goaway", "close 4429"]);
    let person = world.text_connection(1);
    world.types(person, "/nick ann");
    let told = world.heard(person).remove(0);
    assert!(told.starts_with("! 429 ") && told.contains("--max-sessions-per-user"), "{told}");
    let wait = told.rsplit(' ').nth(1).unwrap();
    assert!((earliest..=latest).contains(&wait.parse().unwrap()), "in words: {told}");
    let guest = world.greet(0, hello(""));
    assert_eq!(world.heard(guest), ["welcome guest-1"], "guests have names of their own");
}

#[test]
fn a_resumed_session_is_no_new_one() {
    let mut world = world_with(|limits| limits.max_sessions_per_user = 1);
    let first = world.native(0, "ann");
    let again = world.comes_back(1, first);
    assert_eq!(world.heard(again), ["resumed ann"]);
    let other = world.greet(2, hello("ann"));
    assert_eq!(world.heard(other), ["error 0: 409"]);
    world.vanishes(again);
    let fourth = world.native(2, "ann");
    let fifth = world.comes_back(0, first);
    assert_eq!(world.heard(fifth), ["resumed ann"], "though another has the name meanwhile");
    assert_eq!(world.fate(fourth), Fate::Open);
}

#[test]
fn what_is_said_behind_a_hello_is_done_when_the_home_has_answered() {
    for home in 0..SHARDS {
        let mut world = world_with(|limits| limits.max_sessions_per_user = 1);
        world.stall(home);
        let listener = (home + 1) % SHARDS;
        let ann = world.connect(listener);
        let said = [Request::Hello(hello(user_of(home))), join(1, "attic"), ping(7, 0)];
        world.send_and_half_close(ann, &frames(&said));
        assert!(world.heard(ann).is_empty());
        world.go_on();
        let heard = world.heard(ann);
        let welcome = format!("welcome {}", user_of(home));
        assert_eq!(heard[0], welcome);
        assert!(heard.contains(&"ok 1: 0".to_owned()) && heard.contains(&"pong 7 of 0".to_owned()));
        world.pass_ms(60_000 + 120_000);
        assert_eq!(world.holdings()[home].users, 0);
    }
}

#[test]
fn a_session_that_ends_while_its_home_is_asked_leaves_its_room_to_others() {
    let mut world = world_with(|limits| limits.max_sessions_per_user = 1);
    world.stall(1);
    let ann = world.greet(0, hello(user_of(1)));
    world.vanishes(ann);
    world.go_on();
    assert_eq!(world.holdings()[1].users, 0);
    world.native(2, user_of(1));
    world.stall(1);
    let late = world.greet(0, hello(user_of(1)));
    world.pass_ms(10_000);
    assert_eq!(world.heard(late), ["error 0: 408"], "the hello is not waited for for ever");
    world.go_on();
}

#[test]
fn text_clients_take_names_that_are_free() {
    let mut world = world_with(|limits| limits.max_sessions_per_user = 1);
    let ann = world.text(0, "ann");
    let second = world.text_connection(1);
    world.types(second, "/nick ann");
    assert_eq!(world.heard(second), ["! 409 the name is in use: take another one"]);
    assert_eq!(world.fate(second), Fate::HalfClosed);
    let bob = world.text(2, "bob");
    world.types(bob, "/nick ann");
    let heard = world.heard(bob);
    assert_eq!(heard.last().unwrap(), "! 409 the name is in use: take another one");
    assert_eq!(world.fate(bob), Fate::Open);
    world.types(ann, "/nick anna");
    assert_eq!(world.heard(ann).last().unwrap(), "* you are anna now");
    world.types(bob, "/nick ann");
    assert_eq!(world.heard(bob).last().unwrap(), "* you are ann now");
    world.types(bob, "/nick ann");
    assert_eq!(world.heard(bob), [""; 0], "it has that name");
    let users: usize = world.holdings().iter().map(|holdings| holdings.users).sum();
    assert_eq!(users, 2);
}

#[test]
fn names_are_asked_for_one_at_a_time() {
    let mut world = world_with(|limits| limits.max_sessions_per_user = 2);
    let ann = world.text(0, "ann");
    world.stall(1);
    world.types(ann, &format!("/nick {}", user_of(1)));
    world.types(ann, "/nick eve");
    let heard = world.heard(ann);
    assert!(heard[0].starts_with("! 429 another name is being asked for"), "{heard:?}");
    world.types(ann, "I am ann still");
    world.vanishes(ann);
    world.go_on();
    let users: usize = world.holdings().iter().map(|holdings| holdings.users).sum();
    assert_eq!(users, 0);
}

#[test]
fn a_connection_beyond_a_limit_is_told_in_what_it_speaks() {
    for (excess, status, option) in [
        (Excess::Connections, 503, "--max-connections"),
        (Excess::Address, 429, "--max-connections-per-address"),
    ] {
        let mut world = World::new();
        let native = world.connect(0);
        let text = world.text_connection(0);
        let browser = world.browser(1);
        let web = world.browser(1);
        for client in [native, text, browser, web] {
            world.is_beyond(client, excess);
        }
        assert_eq!(world.holdings().iter().map(|holdings| holdings.held).sum::<usize>(), 4);
        world.say(native, Request::Hello(hello("ann")));
        assert_eq!(world.heard(native), ["error 0: 429", "goaway"]);
        let (texts, times) = told(&mut world, native);
        assert!(texts[0].contains(option) && texts[0].contains(&times[0].to_string()), "{texts:?}");
        world.send(text, b"h");
        let heard = world.heard(text);
        assert!(heard.len() == 1 && heard[0].starts_with("! 429 "), "{heard:?}");
        world.send(browser, get("/").as_bytes());
        let reply = world.responses(browser).remove(0);
        assert_eq!(reply.status, status);
        let seconds: u32 = reply.field("Retry-After").unwrap().parse().unwrap();
        assert!((2..=10).contains(&seconds));
        assert!(reply.text().contains(option));
        world.send(web, upgrade("/ws", JSON, "").as_bytes());
        world.switch(web, JSON);
        assert_eq!(world.heard(web), ["error 0: 429", "goaway", "close 4429"]);
        world.send(web, &closing(4429, ""));
        world.pass_ms(12_000);
        assert_eq!(world.counters().closed_for(CloseReason::OverLimit), 4);
        assert_eq!(world.holdings(), vec![Holdings::default(); SHARDS]);
        let counters = world.counters();
        let counted = (counters.limited_connections, counters.limited_addresses);
        assert_eq!(counted, if status == 503 { (4, 0) } else { (0, 4) });
        assert_eq!(counters.welcomed, 0);
    }
}

#[test]
fn a_probe_of_a_full_server_is_answered_and_a_mute_connection_let_go() {
    let mut world = World::new();
    world.note_readiness(Readiness::Ready);
    let mute = world.connect(0);
    world.is_beyond(mute, Excess::Connections);
    for path in ["/healthz", "/readyz"] {
        let probe = world.browser(0);
        world.is_beyond(probe, Excess::Connections);
        world.send(probe, get(path).as_bytes());
        let reply = world.responses(probe).remove(0);
        assert_eq!((reply.status, reply.field("Connection")), (200, Some("close")), "{path}");
    }
    world.pass_ms(10_000);
    assert_eq!(world.fate(mute), Fate::Closed(CloseReason::HandshakeTimeout));
    world.pass_ms(2_000);
    assert_eq!(world.holdings()[0].held, 0);
}

#[test]
fn refused_connections_are_asked_back_at_different_times() {
    let mut world = World::new();
    let mut times = Vec::new();
    for _ in 0..20 {
        let client = world.connect(0);
        world.is_beyond(client, Excess::Address);
        world.say(client, Request::Hello(hello("ann")));
        times.extend(told(&mut world, client).1);
    }
    times.sort_unstable();
    times.dedup();
    assert!(times.len() > 15, "{times:?}");
}
