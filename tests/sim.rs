//! The deterministic simulation.
//!
//! Several shards, many clients and the kernel between them in one thread, with a clock and an
//! order of events that a seed fixes. An oracle knows from outside what every client must see. A
//! failure names the seed and the step; the same seed fails in the same way again:
//!
//! ```text
//! CB_SEED=123 cargo test --test sim one_seed -- --nocapture
//! ```

mod sim {
    pub(crate) mod client;
    pub(crate) mod dice;
    pub(crate) mod epilogue;
    pub(crate) mod frames;
    pub(crate) mod ledger;
    pub(crate) mod letters;
    pub(crate) mod lines;
    pub(crate) mod lives;
    pub(crate) mod mailroom;
    pub(crate) mod network;
    pub(crate) mod oracle;
    pub(crate) mod panics;
    pub(crate) mod plan;
    #[path = "../common/shelf.rs"]
    pub(crate) mod shelf;
    pub(crate) mod stay;
    pub(crate) mod store;
    pub(crate) mod visit;
    pub(crate) mod web;
    pub(crate) mod wishes;
    pub(crate) mod worker;
    pub(crate) mod world;
}

use sim::plan::Plan;
use sim::world::{run, run_plan};

/// Seeds of each test of the default run.
const SHARE: u64 = 100;

fn variable(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")),
        Err(_) => default,
    }
}

fn run_share(share: u64) {
    for seed in share * SHARE..(share + 1) * SHARE {
        run(seed);
    }
}

#[test]
fn the_first_hundred_seeds_keep_the_contract() {
    run_share(0);
}

#[test]
fn the_second_hundred_seeds_keep_the_contract() {
    run_share(1);
}

#[test]
fn the_third_hundred_seeds_keep_the_contract() {
    run_share(2);
}

#[test]
fn one_seed_keeps_the_contract() {
    let seed = variable("CB_SEED", 1_000);
    let outcome = match variable("CB_KILL", 0) {
        0 => run(seed),
        commit => run_plan(Plan::killed_behind(seed, commit)),
    };
    println!("{outcome:#?}");
}

/// In `CB_CRASHES` worlds, one after the other, the server and its store are killed behind each
/// commit of the storm: directs, acknowledgements, resumes and histories are under way.
#[test]
fn a_kill_behind_any_commit_keeps_the_contract() {
    let first = variable("CB_SEED", 4);
    for seed in first..first + variable("CB_CRASHES", 1) {
        let kills =
            (1..).take_while(|commit| run_plan(Plan::killed_behind(seed, *commit)).lives > 1);
        let kills = kills.count();
        println!("seed {seed}: {kills} commits");
        assert!(kills > 20, "{kills} commits");
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 2_000..2_005 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

/// What `scripts/sweep.sh` runs: `CB_COUNT` seeds from `CB_START` on, and a line for each failure.
/// It ends when `CB_FAILURES` seeds failed.
#[test]
#[ignore = "it takes as long as it is told to"]
fn sweep() {
    let (start, count) = (variable("CB_START", 0), variable("CB_COUNT", 1_000));
    let most = variable("CB_FAILURES", u64::MAX);
    let failed: Vec<u64> = (start..start + count)
        .filter(|seed| std::panic::catch_unwind(|| run(*seed)).is_err())
        .take(usize::try_from(most).unwrap_or(usize::MAX))
        .collect();
    for seed in &failed {
        println!("failing seed: {seed}");
    }
    assert!(failed.is_empty(), "{} of {count} seeds failed", failed.len());
}
