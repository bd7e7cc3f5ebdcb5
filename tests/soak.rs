//! Abuse of the real program, beside honest clients who must notice nothing.
//!
//! Each scenario is played small here, in seconds; `scripts/soak.sh` plays the same ones as hard as
//! the machine can, for minutes or hours. After each the server must be at the level before:
//! connections, descriptors, sessions, memory; every connection must have ended for a reason that
//! it should have had; and honest clients of all dialects, who talk all the time, must have missed
//! nothing, in order, and must not have been closed.

mod common;

#[path = "soak/arrival.rs"]
mod arrival;
#[path = "soak/bytes.rs"]
mod bytes;
#[path = "soak/churn.rs"]
mod churn;
#[path = "soak/clocks.rs"]
mod clocks;
#[path = "soak/crowd.rs"]
mod crowd;
#[path = "soak/gauge.rs"]
mod gauge;
#[path = "soak/machine.rs"]
mod machine;
#[path = "soak/memory.rs"]
mod memory;
#[path = "soak/panic.rs"]
mod panic;
#[path = "soak/patience.rs"]
mod patience;
#[path = "soak/peer.rs"]
mod peer;
#[path = "soak/places.rs"]
mod places;
#[path = "soak/population.rs"]
mod population;
#[path = "soak/speech.rs"]
mod speech;
#[path = "soak/stage.rs"]
mod stage;
#[path = "soak/table.rs"]
mod table;

use std::time::Duration;

use stage::{Scenario, Size, Stage};

/// Every scenario, in the order of a long run.
const SCENARIOS: [&Scenario; 12] = [
    &patience::SLOWLORIS,
    &patience::HALF_OPEN,
    &churn::RESETS,
    &bytes::RANDOM,
    &bytes::ONE_BY_ONE,
    &bytes::LENGTHS,
    &churn::CHURN,
    &machine::SUSPENDED,
    &machine::DESCRIPTORS,
    &clocks::CLOCKS,
    &memory::MEMORY,
    &panic::WORKER_PANIC,
];

/// What `scripts/soak.sh` runs: `SOAK_SECONDS` long, those that `SOAK_SCENARIOS` names with blanks
/// between them, or all.
#[test]
#[ignore = "takes minutes and the whole machine: scripts/soak.sh"]
fn full_size() {
    let setting = |name: &str| std::env::var(name).unwrap_or_default();
    let seconds = setting("SOAK_SECONDS").parse().expect("SOAK_SECONDS is a number");
    let chosen = setting("SOAK_SCENARIOS");
    let known = SCENARIOS.map(|scenario| scenario.name);
    for name in chosen.split_whitespace() {
        assert!(known.contains(&name), "{name} is none of {known:?}");
    }
    let is_chosen = |scenario: &&&Scenario| {
        chosen.trim().is_empty() || chosen.split_whitespace().any(|name| name == scenario.name)
    };
    let scenarios: Vec<&Scenario> = SCENARIOS.iter().filter(is_chosen).copied().collect();
    assert!(table::play_for(Duration::from_secs(seconds), &scenarios), "see the table");
}

/// Plays a scenario on a server of its own, small.
fn play(scenario: &Scenario) {
    let stage = Stage::open(Size::Small, (scenario.server)());
    let row = stage.play(scenario);
    let mib = row.resident.map(|bytes| bytes as f64 / f64::from(1 << 20));
    println!(
        "{}: {} connections in {:?}: {}; {mib:.1?} MiB, {:?} descriptors, worst delay {:?}",
        row.scenario, row.connections, row.took, row.told, row.descriptors, row.worst_delay
    );
    stage.close();
}

#[test]
fn half_frames_that_never_end_are_given_up_in_time() {
    play(&patience::SLOWLORIS);
}

#[test]
fn clients_that_vanished_are_found_and_forgotten() {
    play(&patience::HALF_OPEN);
}

#[test]
fn bytes_by_chance_end_only_whoever_sent_them() {
    play(&bytes::RANDOM);
}

#[test]
fn conversations_arrive_byte_by_byte() {
    play(&bytes::ONE_BY_ONE);
}

#[test]
fn lengths_beyond_all_bounds_are_refused_and_never_allocated() {
    play(&bytes::LENGTHS);
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    play(&churn::CHURN);
}

#[test]
fn a_flood_of_resets_leaves_nothing_behind() {
    play(&churn::RESETS);
}

#[test]
fn a_stopped_process_goes_on_where_it_was() {
    play(&machine::SUSPENDED);
}

#[test]
fn who_comes_when_no_descriptor_is_left_waits_for_one() {
    play(&machine::DESCRIPTORS);
}

#[test]
fn clocks_that_jump_close_nobody_and_make_nothing_too_old() {
    play(&clocks::CLOCKS);
}

// The program that is built beside these tests has the drill where they have debug assertions.
#[cfg(debug_assertions)]
#[test]
fn a_worker_that_panics_takes_nobody_else_with_it() {
    play(&panic::WORKER_PANIC);
}

#[test]
fn memory_suffices_for_all_that_the_bounds_allow() {
    play(&memory::MEMORY);
}

#[test]
fn memory_that_cannot_be_had_ends_the_process_with_one_line() {
    memory::takes_all();
}
