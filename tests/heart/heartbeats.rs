//! Signs of life, pings, probes and the reaping of the silent.

use corebeat::base::counters::CloseReason;
use corebeat::base::time::TICK_MS;
use corebeat::chat::heartbeat::HeartbeatPolicy;
use corebeat::wire::message::{Event, Hello, Request};

use super::speech::{frames, hello, join, ping, publish};
use super::world::{Client, Fate, NODE, World};

const INTERVAL_MS: u64 = 30_000;
const TIMEOUT_MS: u64 = 90_000;
/// A quarter of what lies between interval and timeout.
const PROBE_GAP_MS: u64 = (TIMEOUT_MS - INTERVAL_MS) / 4;

/// When the client was pinged since it was last asked, counted from `start_ms`.
fn pings(world: &mut World, client: Client, start_ms: u64) -> Vec<u64> {
    let heard = world.heard_when(client);
    let pings = heard.into_iter().filter(|(_, words)| words == "ping");
    pings.map(|(at_ms, _)| at_ms - start_ms).collect()
}

fn mono_ms(world: &World) -> u64 {
    world.now().mono.0
}

/// A client whose levelled first ping is behind it, and which was heard just now.
fn settled(world: &mut World, shard: usize) -> Client {
    let ann = world.native(shard, "ann");
    world.answers_pings(ann);
    world.pass_ms(INTERVAL_MS + TICK_MS);
    world.stops_answering(ann);
    world.say(ann, Request::Echo(b"here"));
    world.hush();
    ann
}

#[test]
fn the_silent_are_pinged_probed_twice_and_closed_at_the_timeout() {
    for shard in [0, 1, 2] {
        let mut world = World::new();
        let ann = settled(&mut world, shard);
        let start_ms = mono_ms(&world);
        world.pass_ms(TIMEOUT_MS - 1);
        assert_eq!(world.fate(ann), Fate::Open, "nobody is closed early");
        let pings = pings(&mut world, ann, start_ms);
        assert_eq!(pings.len(), 3, "{pings:?}");
        let earliest_ms = INTERVAL_MS - INTERVAL_MS / 8;
        assert!((earliest_ms..=INTERVAL_MS + TICK_MS).contains(&pings[0]), "{pings:?}");
        for two in pings.windows(2) {
            let gap_ms = two[1] - two[0];
            assert!((PROBE_GAP_MS..=PROBE_GAP_MS + TICK_MS).contains(&gap_ms), "{pings:?}");
        }
        world.pass_ms(TICK_MS + 1);
        assert_eq!(world.heard(ann), ["error 0: 408"]);
        assert_eq!(world.fate(ann), Fate::HalfClosed);
        assert_eq!(world.counters().closed_for(CloseReason::HeartbeatTimeout), 1);
        assert_eq!(world.counters().probes, 2);
    }
}

#[test]
fn a_new_connection_that_never_answers_is_closed_at_the_timeout_too() {
    for _ in 0..3 {
        let mut world = World::new();
        let clients: Vec<Client> = (0..30).map(|n| world.native(n % 3, "ann")).collect();
        world.pass_ms(TIMEOUT_MS - 1);
        assert!(clients.iter().all(|client| world.fate(*client) == Fate::Open));
        world.pass_ms(TICK_MS + 1);
        assert!(clients.iter().all(|client| world.fate(*client) == Fate::HalfClosed));
    }
}

#[test]
fn the_heartbeat_that_was_granted_is_the_one_that_is_kept() {
    let mut world = World::new();
    let hello = Hello { heartbeat_s: 5, ..hello("ann") };
    let ann = world.greet(0, hello);
    world.heard(ann);
    world.pass_ms(15_000 - 1);
    assert_eq!(world.fate(ann), Fate::Open);
    world.pass_ms(TICK_MS + 1);
    assert_eq!(world.fate(ann), Fate::HalfClosed);
}

#[test]
fn a_heartbeat_longer_than_the_wheel_is_kept_as_well() {
    let mut world = World::new();
    let ann = world.greet(0, Hello { heartbeat_s: 600, ..hello("ann") });
    world.pass_ms(1_800_000 - 1);
    assert_eq!(world.fate(ann), Fate::Open);
    world.pass_ms(TICK_MS + 1);
    assert_eq!(world.fate(ann), Fate::HalfClosed);
}

#[test]
fn a_live_client_that_answers_is_pinged_once_an_interval_and_never_closed() {
    let mut world = World::new();
    let clients: Vec<Client> = (0..60).map(|n| world.native(n % 3, "ann")).collect();
    let start_ms = mono_ms(&world);
    for client in &clients {
        world.answers_pings(*client);
    }
    world.pass_ms(20 * INTERVAL_MS);
    for client in clients {
        assert_eq!(world.fate(client), Fate::Open);
        let pings = pings(&mut world, client, start_ms);
        assert!(pings[0] <= INTERVAL_MS + TICK_MS, "the first comes within the interval");
        let range = INTERVAL_MS - INTERVAL_MS / 8..=INTERVAL_MS + TICK_MS;
        assert!(pings.windows(2).all(|two| range.contains(&(two[1] - two[0]))), "{pings:?}");
    }
    assert_eq!(world.counters().probes, 0);
    assert_eq!(world.counters().pings, world.counters().pongs);
}

#[test]
fn a_ping_tells_the_node_the_time_and_a_number() {
    let mut world = World::new();
    let ann = settled(&mut world, 1);
    let mut numbers = Vec::new();
    for _ in 0..3 {
        world.raw(ann);
        while world.heard(ann).is_empty() {
            world.pass_ms(TICK_MS);
        }
        let wall_ms = world.now().wall_ms;
        let pong = world.last_event(ann, |event| match event {
            Event::Ping(ping) => {
                assert_eq!((ping.node, ping.status), (NODE, 0));
                assert!((wall_ms - TICK_MS..=wall_ms).contains(&ping.time_ms));
                ping
            }
            other => panic!("{other:?}"),
        });
        numbers.push(pong.seq);
        world.say(ann, Request::Pong(pong));
    }
    assert!(numbers.windows(2).all(|two| two[0] < two[1]), "{numbers:?}");
}

#[test]
fn any_complete_frame_is_life() {
    let requests = [
        Request::Echo(b""),
        Request::Ack { id: 1 },
        Request::Pong(Default::default()),
        ping(1, 1),
        publish(0, "attic", "hi"),
        join(1, "$refused"),
    ];
    for request in requests {
        let mut world = World::new();
        let ann = settled(&mut world, 0);
        for _ in 0..6 {
            world.pass_ms(INTERVAL_MS - INTERVAL_MS / 8 - 2 * TICK_MS);
            world.say(ann, request);
        }
        assert_eq!(world.fate(ann), Fate::Open);
        let mut heard = world.heard(ann);
        heard.retain(|words| words == "ping");
        assert!(heard.is_empty(), "who is heard is not pinged: {request:?}");
    }
    let mut world = World::new();
    let ann = settled(&mut world, 0);
    for _ in 0..10 {
        world.pass_ms(20_000);
        world.send(ann, &super::speech::frame(0x7E, 1 << 15, b"skipped, yet life"));
    }
    assert!(world.heard(ann).is_empty());
}

#[test]
fn half_a_frame_is_no_life() {
    let mut world = World::new();
    let ann = settled(&mut world, 0);
    let long = vec![0; 1_000];
    let bytes = frames(&[Request::Echo(&long)]);
    for byte in &bytes[..TIMEOUT_MS as usize / 1_000] {
        assert_eq!(world.fate(ann), Fate::Open);
        world.send(ann, &[*byte]);
        world.pass_ms(1_000);
    }
    world.pass_ms(TICK_MS);
    assert_eq!(world.heard(ann), ["ping", "ping", "ping", "error 0: 408"]);
}

#[test]
fn a_late_answer_to_the_last_probe_saves_the_connection() {
    let mut world = World::new();
    let ann = settled(&mut world, 2);
    world.pass_ms(TIMEOUT_MS - 1);
    world.say(ann, Request::Pong(Default::default()));
    world.pass_ms(TIMEOUT_MS - 1);
    assert_eq!(world.fate(ann), Fate::Open, "its silence began anew");
    world.pass_ms(TICK_MS + 1);
    assert_eq!(world.fate(ann), Fate::HalfClosed);
}

#[test]
fn a_text_client_is_never_pinged_and_lives_from_line_to_line() {
    let mut world = World::new();
    let (ann, half) = (world.text(0, "ann"), world.text(1, "half"));
    world.hush();
    world.pass_ms(299_000);
    world.types(ann, "");
    world.send(half, b"no end");
    assert!(world.heard(ann).is_empty());
    world.pass_ms(1_000 + TICK_MS);
    let heard = world.heard(half);
    assert!(heard[0].starts_with("! 408 "), "{heard:?}");
    assert_eq!(world.fate(half), Fate::HalfClosed);
    world.hush();
    world.pass_ms(299_000 - TICK_MS - 1);
    assert_eq!(world.fate(ann), Fate::Open);
    assert!(world.heard(ann).is_empty());
    world.pass_ms(TICK_MS + 1);
    assert_eq!(world.fate(ann), Fate::HalfClosed);
    assert_eq!(world.counters().closed_for(CloseReason::TextIdle), 2);
}

#[test]
fn a_hello_must_be_complete_in_time() {
    let openings: [(&[u8], bool, bool); 5] = [
        (b"", false, true),
        (b"GE", true, true),
        (&[0xFB], false, false),
        (&[0xFB, 0x01, 0, 0, 0, 0], false, false),
        (b"/nick an", true, false),
    ];
    for (bytes, is_text, silent) in openings {
        let mut world = World::new();
        let client = if is_text { world.text_connection(0) } else { world.connect(0) };
        world.pass_ms(5_000);
        world.send(client, bytes);
        world.pass_ms(5_000 - 1);
        assert_eq!(world.fate(client), Fate::Open);
        world.pass_ms(TICK_MS + 1);
        let heard = world.heard(client);
        if silent {
            assert!(heard.is_empty(), "what it would understand is not known: {heard:?}");
            assert_eq!(world.fate(client), Fate::Closed(CloseReason::HandshakeTimeout));
        } else {
            assert!(heard.len() == 1 && heard[0].contains("408"), "{heard:?}");
            assert_eq!(world.fate(client), Fate::HalfClosed);
        }
        assert_eq!(world.counters().closed_for(CloseReason::HandshakeTimeout), 1);
    }
}

#[test]
fn after_the_server_slept_the_living_are_spared_and_the_dead_are_reaped_once_more() {
    for asleep_ms in [TIMEOUT_MS, 2 * TIMEOUT_MS, 3_600_000, 400_000_000] {
        let mut world = World::new();
        let clients: Vec<Client> = (0..300).map(|n| world.native(n % 3, "ann")).collect();
        let (living, dead) = clients.split_at(150);
        for client in living {
            world.answers_pings(*client);
        }
        world.pass_ms(40_000);
        world.hush();
        world.suspend_ms(asleep_ms);
        let start_ms = mono_ms(&world);
        assert!(clients.iter().all(|client| world.fate(*client) == Fate::Open));
        world.pass_ms(TIMEOUT_MS - 1);
        for client in &clients {
            assert_eq!(world.fate(*client), Fate::Open, "everybody has a fresh chance");
            assert!(!pings(&mut world, *client, start_ms).is_empty(), "and was asked");
        }
        world.pass_ms(INTERVAL_MS);
        assert!(dead.iter().all(|client| world.fate(*client) != Fate::Open), "{asleep_ms}");
        world.pass_ms(5 * TIMEOUT_MS);
        assert!(living.iter().all(|client| world.fate(*client) == Fate::Open), "{asleep_ms}");
        assert!(world.counters().amnesties > 0);
    }
}

#[test]
fn after_the_server_slept_those_who_type_or_greet_have_a_fresh_chance_too() {
    let mut world = World::new();
    let (ann, slow) = (world.text(0, "ann"), world.connect(0));
    world.suspend_ms(3_600_000);
    assert_eq!((world.fate(ann), world.fate(slow)), (Fate::Open, Fate::Open));
    world.pass_ms(9_000);
    world.say(slow, Request::Hello(hello("slow")));
    assert_eq!(world.heard(slow), ["welcome slow"]);
    world.pass_ms(290_000);
    assert_eq!(world.fate(ann), Fate::Open);
    world.pass_ms(1_000 + TICK_MS);
    assert_eq!(world.fate(ann), Fate::HalfClosed);
}

/// 10,000 hellos in one instant, as after a restart of the server or of a switch in front of it. In
/// each interval, the pings of the fullest tick over the mean.
fn most_pings_to_mean(heartbeat: HeartbeatPolicy) -> Vec<f64> {
    let mut world = World::with(|config| {
        config.heartbeat = heartbeat;
        config.limits.max_connections = 10_000;
    });
    for number in 0..10_000 {
        let client = world.native(number % 2, "ann");
        world.answers_pings(client);
    }
    let ticks = usize::from(heartbeat.interval_s) * 1_000 / TICK_MS as usize;
    let mut per_tick = Vec::new();
    let mut pings = world.counters().pings;
    for _ in 0..4 * ticks {
        world.pass_ms(TICK_MS);
        per_tick.push(world.counters().pings - pings);
        pings = world.counters().pings;
    }
    assert_eq!(world.counters().probes, 0);
    let ratio = |interval: &[u64]| {
        let (most, sum) = (interval.iter().max().unwrap(), interval.iter().sum::<u64>());
        // Nobody is pinged later than an interval after the last time. The emptier ticks of its
        // last eighth are chosen, so some are pinged before it is over, and those whose turn would
        // have been early in one interval are pinged at the end of the one before: up to two in a
        // hundred, which is what it costs that no tick is a fifth above the mean.
        assert!(sum >= 9_800, "only {sum} pings in an interval");
        *most as f64 * ticks as f64 / sum as f64
    };
    per_tick.chunks(ticks).map(ratio).collect()
}

#[test]
fn a_herd_of_hellos_never_pings_as_a_herd() {
    for (interval_s, timeout_s) in [(30, 90), (5, 10)] {
        let policy = HeartbeatPolicy { interval_s, timeout_s, ..HeartbeatPolicy::default() };
        let ratios = most_pings_to_mean(policy);
        assert_eq!(ratios.len(), 4);
        assert!(ratios.iter().all(|ratio| *ratio <= 1.2), "{interval_s} s: {ratios:?}");
    }
}
