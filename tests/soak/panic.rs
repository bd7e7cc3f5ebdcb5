//! A worker that panics, again and again, while the others live.
//!
//! The drill that makes one panic is compiled into programs with debug assertions alone.

use super::common::{Native, eventually, frame};
use super::crowd::{self, Crowd};
use super::population::{self, Population, Tally};
use super::stage::{Outcome, Own, Scenario, Stage};

/// Workers panic in turn. Their connections are told so and closed, everybody else's live and get
/// their heartbeats, who was sent away comes back, and then everybody hears everybody again.
pub(crate) const WORKER_PANIC: Scenario =
    Scenario { name: "worker-panic", server: own, run: worker_panic };

/// Where there is a program with the drill, if the one that the other scenarios are played on has
/// none.
const PROGRAM: &str = "COREBEAT_WITH_DRILL";
const WHO: u8 = 0x16;
const ROSTER: u8 = 0x95;

fn own() -> Own {
    Own { program: std::env::var(PROGRAM).ok(), ..Own::default() }
}

fn worker_panic(stage: &Stage) -> Outcome {
    let (count, panics) = (stage.size.of(200, 4_000), stage.size.of(4, 8));
    let population = Population::settle(stage.server.address, count);
    let mut sent_away = 0;
    for number in 0..panics {
        sent_away += one_panic(stage, &population, count, number % 2);
        expect_all_together(stage, &population, count, number as u32 + 1);
    }
    let refused = population.tally(0).refused;
    drop(population);
    Outcome {
        ends: vec![
            (sent_away, vec!["worker_panicked"]),
            ((count + panics) as u64, vec!["peer_closed", "reset"]),
        ],
        told: vec![format!("{panics} panics"), format!("{refused} requests refused meanwhile")],
    }
}

/// One worker panics. Its connections are closed, as many as the server says, and the others live,
/// are pinged, and their requests are answered. Returns how many were closed.
fn one_panic(stage: &Stage, population: &Population, count: usize, worker: usize) -> u64 {
    let before = stage.gauge.counters();
    let honest = stage.crowd.bear_panic(|| {
        population.talk_while(|| panic_now(stage, worker));
        population.count_anew();
    });
    let counted = stage.gauge.counters().since(&before);
    assert_eq!(counted.of("worker_panics"), 1);
    let all = counted.of("closed_worker_panicked");
    let away = (all - honest) as usize;
    // The kernel chooses by chance, and those who come back from one worker are on both.
    assert!((count / 8..=count - count / 8).contains(&away), "{away} of {count} were sent away");
    let is_over =
        |tally: &Tally| tally.sent_away == away && tally.fewest_pings > 0 && tally.unanswered == 0;
    let tally = await_tally(population, 0, "the others live, and are pinged and answered", is_over);
    assert_eq!(tally.there + away, count, "who was not sent away is there");
    all
}

/// Has a worker panic, which has begun anew when this returns.
///
/// # Panics
/// If the program cannot be told to.
fn panic_now(stage: &Stage, worker: usize) {
    let answer = stage.gauge.ask(&format!("panic {worker}"));
    assert!(
        answer.iter().any(|line| line.contains(r#""panics""#)),
        "this program has no drill: name one that was built with debug assertions as {PROGRAM}, or \
         let scripts/soak.sh build it"
    );
    stage.server.wait_for_line(&format!("worker {worker} panicked: an operator wants to see it"));
    stage.server.wait_for_line(&format!("worker {worker} has begun anew"));
}

/// Who was sent away comes back, and is in its rooms with all others.
fn expect_all_together(stage: &Stage, population: &Population, count: usize, roll: u32) {
    population.come_back();
    population.call_roll(roll);
    let heard = |tally: &Tally| tally.deaf == 0 && tally.unanswered == 0;
    let tally = await_tally(population, roll, "everybody hears what is said in its room", heard);
    assert_eq!(tally.there, count);
    let mut visitor = Native::greet(stage.server.address, "visitor");
    for room in crowd::ROOMS {
        expect_roster(&mut visitor, room, Crowd::CONNECTIONS as usize);
    }
    for room in population::ROOMS {
        expect_roster(&mut visitor, room, count / population::ROOMS.len());
    }
    stage.expect_undisturbed();
}

/// Until they are so.
fn await_tally(
    population: &Population,
    roll: u32,
    what: &str,
    is_so: impl Fn(&Tally) -> bool,
) -> Tally {
    let mut tally = Tally::default();
    eventually(what, || {
        tally = population.tally(roll);
        let first: Vec<&String> = tally.troubles.iter().take(5).collect();
        assert!(first.is_empty(), "{} troubles, such as {first:?}", tally.troubles.len());
        is_so(&tally)
    });
    tally
}

/// Until a room has so many members. Names that were there only through the worker go one by one.
fn expect_roster(visitor: &mut Native, room: &str, count: usize) {
    eventually("the roster has whoever is there", || {
        let mut payload = 1_u32.to_be_bytes().to_vec();
        payload.push(room.len() as u8);
        payload.extend_from_slice(room.as_bytes());
        visitor.send(&frame(WHO, &payload));
        let total = visitor.expect(ROSTER).payload[4..8].try_into().unwrap();
        u32::from_be_bytes(total) as usize == count
    });
}
