//! The client's core against a server of the contract, in one thread under a seed: whatever is
//! lost under way, nothing is missing and nothing comes twice.
//!
//! `CB_SEED=123 cargo test --test client_core one_seed` repeats one run.

#[path = "client/server.rs"]
mod server;
#[path = "client/world.rs"]
mod world;

use std::collections::BTreeSet;

use corebeat::client::{RequestError, Resend};
use world::World;

const SEEDS: u64 = 200;

/// Each message of the room was told once and in its order, unless it is the client's own, or was
/// told to be missing.
fn check_room(world: &World) {
    let places: Vec<(u32, u64)> = world.heard.iter().map(|heard| (heard.0, heard.1)).collect();
    let distinct: BTreeSet<(u32, u64)> = places.iter().copied().collect();
    assert_eq!(distinct.len(), places.len(), "nothing comes twice: {places:?}");
    let epoch = world.server.epoch;
    let joined = world.joined.expect("the room was joined");
    let joined_at = if joined.0 == epoch { joined.1 } else { 0 };
    for (number, said) in (1..).zip(&world.server.room) {
        let body = String::from_utf8(said.body.clone()).unwrap();
        if let Some(heard) = world.heard.iter().find(|heard| (heard.0, heard.1) == (epoch, number))
        {
            assert_eq!(heard.2, body);
            continue;
        }
        let told =
            world.gaps.iter().any(|gap| gap.0 == epoch && gap.1 <= number && number <= gap.2);
        let own = world.outcome.get(&body) == Some(&Ok(number));
        let what = format!("{body} at {number} of {epoch}; {:?}; {places:?}", world.gaps);
        assert!(own || told || number <= joined_at, "{what}");
    }
}

fn check_publishes(world: &World) {
    for (body, outcome) in &world.outcome {
        let times = world.server.room.iter().filter(|said| said.body == body.as_bytes()).count();
        match outcome {
            Ok(_) => assert_eq!(times, 1, "{body} was said {times} times"),
            Err(RequestError::Uncertain) => assert!(times <= 1, "{body} was said {times} times"),
            Err(other) => panic!("{body}: {other}"),
        }
        let heard = world.heard.iter().filter(|heard| heard.2 == *body).count();
        // Whoever is not sure whether it was said may learn it from the room.
        let most = usize::from(outcome.is_err());
        assert!(heard <= most, "{body} was told {heard} times to its author");
    }
}

fn run(seed: u64, habits: impl Fn(&mut World, u32)) -> World {
    let mut world = World::new(seed, Resend::WithinSession);
    for step in 0..3_000 {
        habits(&mut world, step);
        world.step(false);
    }
    world.rest();
    world
}

/// How often its session was resumed.
fn cuts(seed: u64) -> u64 {
    let world = run(seed, |_, _| {});
    check_room(&world);
    check_publishes(&world);
    let uncertain = world.outcome.values().filter(|outcome| outcome.is_err()).count();
    assert_eq!(uncertain, 0, "sessions were never lost");
    assert!(world.gaps.is_empty(), "all was kept: {:?}", world.gaps);
    let in_order: Vec<u64> = world.heard.iter().map(|heard| heard.1).collect();
    assert!(in_order.is_sorted(), "{in_order:?}");
    assert!(world.server.directs.is_empty(), "all direct messages are acknowledged");
    let distinct: BTreeSet<&String> = world.directs.iter().collect();
    assert_eq!(distinct.len(), world.directs.len(), "no direct message comes twice");
    assert!(world.cuts > 0, "nothing was cut");
    world.server.resumed
}

#[test]
fn connections_are_cut_anywhere_and_nothing_is_lost_or_doubled() {
    let resumed: u64 = (0..SEEDS).map(cuts).sum();
    assert!(resumed > 10 * SEEDS, "{resumed} sessions were resumed");
}

#[test]
fn sessions_are_lost_and_what_is_uncertain_is_told() {
    let mut uncertain = 0;
    for seed in 0..SEEDS {
        let world = run(seed, |world, step| {
            if step % 500 == 499 {
                world.restart();
            }
        });
        check_room(&world);
        check_publishes(&world);
        assert!(world.gaps.is_empty(), "all was kept: {:?}", world.gaps);
        uncertain += world.outcome.values().filter(|outcome| outcome.is_err()).count();
    }
    assert!(uncertain > SEEDS as usize / 10, "{uncertain} answers were lost with a session");
}

#[test]
fn what_a_history_no_longer_has_is_told() {
    let mut told = 0;
    for seed in 0..SEEDS {
        let world = run(seed, |world, step| {
            let head = world.server.room.len();
            if step % 100 == 0 {
                world.server.kept_from = head.saturating_sub(3);
            }
            if step == 1_500 {
                world.restart();
                world.server.begin_epoch();
            }
        });
        check_room(&world);
        told += world.gaps.len();
    }
    assert!(told > SEEDS as usize, "{told} gaps");
}

#[test]
fn who_chooses_to_resend_loses_nothing_with_a_session() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, Resend::Always);
        for step in 0..2_000 {
            if step % 500 == 499 {
                world.restart();
            }
            world.step(false);
        }
        world.rest();
        for (body, outcome) in &world.outcome {
            assert!(outcome.is_ok(), "{body}: {outcome:?}");
            let said = world.server.room.iter().filter(|said| said.body == body.as_bytes()).count();
            assert!(said >= 1, "{body} was never said");
        }
    }
}

#[test]
fn one_seed() {
    if let Some(seed) = std::env::var("CB_SEED").ok().and_then(|seed| seed.parse().ok()) {
        cuts(seed);
    }
}
