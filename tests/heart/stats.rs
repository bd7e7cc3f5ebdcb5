//! `/stats`: the numbers of all shards, told by one.

use corebeat::base::counters::CloseReason;
use corebeat::base::limits::STATS_ASKERS_MAX;
use serde_json::Value;

use super::ear::get;
use super::speech::{join, ping, publish};
use super::world::{Client, Fate, SHARDS, World};

fn counting() -> World {
    World::with(|config| config.web.numbers = true)
}

fn look(world: &mut World, client: Client) -> Value {
    world.send(client, get("/stats").as_bytes());
    let replies = world.responses(client);
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0].field("Content-Type"), Some("application/json"));
    assert_eq!(replies[0].field("Cache-Control"), Some("no-store"));
    serde_json::from_slice(&replies[0].body).expect("JSON")
}

/// The sum of a number over the workers.
fn sum(stats: &Value, name: &str) -> u64 {
    let workers = stats["workers"].as_array().expect("a list");
    workers.iter().map(|worker| worker[name].as_u64().expect(name)).sum()
}

#[test]
fn the_numbers_of_all_shards_are_told_together() {
    let mut world = counting();
    let (ann, bob, eve) = (world.native(0, "ann"), world.json(1, "bob"), world.text(2, "eve"));
    world.bin(2, "ben");
    for member in [ann, bob] {
        world.say(member, join(0, "porch"));
    }
    world.say(bob, publish(0, "porch", "hi"));
    world.say(ann, ping(1, 2));
    world.vanishes(eve);
    world.answers_pings(ann);
    world.answers_pings(bob);
    world.pass_ms(31_000);
    let browser = world.browser(1);
    let stats = look(&mut world, browser);
    let ids: Vec<u64> =
        stats["workers"].as_array().unwrap().iter().map(|w| w["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [0, 1, 2]);
    assert_eq!(stats["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(stats["time_ms"], world.now().wall_ms);
    for (name, number) in [
        ("connections", 4),
        ("native", 1),
        ("text", 0),
        ("websocket", 2),
        ("rooms", 2),
        ("users", 3),
        ("published", 1),
        ("delivered", 1),
        ("opened", 5),
        ("welcomed", 4),
        ("upgrades", 2),
    ] {
        assert_eq!(sum(&stats, name), number, "{name}");
    }
    assert_eq!(stats["workers"][2]["closed"]["socket_error"], 1);
    assert_eq!(stats["workers"][2]["limited"].as_object().map(|limited| limited.len()), Some(0));
    for (worker, wheel) in (0..SHARDS).map(|worker| (worker, &stats["workers"][worker]["wheel"])) {
        let occupancy = wheel["occupancy"].as_array().unwrap();
        let entries: u64 = occupancy.iter().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!((occupancy.len(), entries), (64, wheel["armed"].as_u64().unwrap()), "{worker}");
    }
    let trips = |worker: &Value| -> u64 {
        worker["round_trip_ms"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum()
    };
    let trips: u64 = stats["workers"].as_array().unwrap().iter().map(trips).sum();
    assert_eq!(trips, sum(&stats, "pongs"));
    assert!(trips >= 2);
    assert_eq!(stats["round_trip_bounds_ms"].as_array().unwrap().len(), 16);
}

#[test]
fn an_answer_waits_for_the_slowest_shard_and_so_does_what_was_asked_behind_it() {
    let mut world = counting();
    let (ann, bob) = (world.browser(0), world.browser(0));
    world.stall(2);
    world.send(ann, format!("{}{}", get("/stats"), get("/healthz")).as_bytes());
    world.send(bob, get("/stats").as_bytes());
    assert!(world.responses(ann).is_empty());
    assert!(!world.wants_input(ann));
    world.pass_ms(60_000);
    assert_eq!(world.fate(ann), Fate::Open, "it waits for us, not we for it");
    world.go_on();
    assert_eq!(world.responses(ann).len(), 2);
    assert_eq!(world.responses(bob).len(), 1);
    assert!(world.wants_input(ann));
}

#[test]
fn whoever_left_meanwhile_harms_nobody() {
    let mut world = counting();
    let clients: Vec<Client> = (0..4).map(|_| world.browser(0)).collect();
    world.stall(1);
    for client in &clients {
        world.send(*client, get("/stats").as_bytes());
    }
    world.vanishes(clients[0]);
    world.browser(0);
    world.half_closes(clients[1]);
    world.drain("maintenance");
    world.pass_ms(1_000);
    assert_eq!(world.fate(clients[3]), Fate::HalfClosed, "the drain does not wait for it");
    world.go_on();
    assert!(world.responses(clients[3]).is_empty());
    assert_eq!(world.fate(clients[0]), Fate::Closed(CloseReason::SocketError));
    world.pass_ms(5_000);
    assert!(matches!(world.fate(clients[1]), Fate::Closed(_)));
}

#[test]
fn too_many_questions_at_a_time_are_refused() {
    let mut world = World::with(|config| {
        config.web.numbers = true;
        config.limits.max_connections = 2 * STATS_ASKERS_MAX;
    });
    world.stall(1);
    for _ in 0..STATS_ASKERS_MAX {
        let client = world.browser(0);
        world.send(client, get("/stats").as_bytes());
    }
    let late = world.browser(0);
    world.send(late, get("/stats").as_bytes());
    assert_eq!(world.responses(late)[0].status, 503);
    assert_eq!(world.fate(late), Fate::Open);
}

#[test]
fn only_the_head_is_sent_to_those_who_want_no_more() {
    let mut world = counting();
    let ann = world.browser(2);
    world.send(ann, b"HEAD /stats HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n");
    let raw = String::from_utf8(world.raw(ann)).unwrap();
    assert!(raw.starts_with("HTTP/1.1 200 OK\r\n") && raw.ends_with("\r\n\r\n"), "{raw}");
    assert_eq!(world.fate(ann), Fate::HalfClosed);
}
