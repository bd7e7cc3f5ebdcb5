//! All scenarios, as hard as the machine can, again and again, as a table.
//!
//! Owns the long run behind `scripts/soak.sh`: which scenarios, for how long, and a line for each
//! round of each. Scenarios whose server is an ordinary one share it, with the same honest clients,
//! from the first round to the last. A scenario that fails is told, and the run goes on.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::stage::{Own, Row, Scenario, Size, Stage};

const HEAD: &str = "\
round  scenario          connections   took   memory MiB: before, peak, after   descriptors   \
worst delay   verdict
";

/// Plays them in turns until the time is over, each at least once. Returns whether all was well.
pub(crate) fn play_for(time: Duration, scenarios: &[&Scenario]) -> bool {
    let began = Instant::now();
    let mut is_well = true;
    let mut shared: Option<Stage> = None;
    print!("{HEAD}");
    for round in 1.. {
        for scenario in scenarios {
            let played = catch_unwind(AssertUnwindSafe(|| play(scenario, &mut shared)));
            match played {
                Ok(row) => print!("{}", line(round, &row)),
                Err(panic) => {
                    is_well = false;
                    // What it left behind is not to be held against the next one.
                    shared = None;
                    println!("{round:5}  {:60}  FAILED: {}", scenario.name, words_of(&*panic));
                }
            }
            if round > 1 && began.elapsed() > time {
                return is_well & ends_well(shared);
            }
        }
        if began.elapsed() > time {
            return is_well & ends_well(shared);
        }
    }
    unreachable!("time passes")
}

/// Plays one, on the shared server where it needs none of its own.
fn play(scenario: &Scenario, shared: &mut Option<Stage>) -> Row {
    let own = (scenario.server)();
    if own.is_nothing() {
        let stage = shared.get_or_insert_with(|| Stage::open(Size::Full, Own::default()));
        return stage.play(scenario);
    }
    let stage = Stage::open(Size::Full, own);
    let row = stage.play(scenario);
    stage.close();
    row
}

/// Whether the server that all rounds were played on ends in order.
fn ends_well(shared: Option<Stage>) -> bool {
    let ended = catch_unwind(AssertUnwindSafe(|| shared.map(Stage::close)));
    if let Err(panic) = &ended {
        println!("the shared server: FAILED: {}", words_of(&**panic));
    }
    ended.is_ok()
}

fn line(round: usize, row: &Row) -> String {
    let [before, peak, after] = row.resident.map(|bytes| bytes as f64 / f64::from(1 << 20));
    let memory = format!("{before:.1}, {peak:.1}, {after:.1}");
    let descriptors = format!("{}, {}", row.descriptors[0], row.descriptors[1]);
    let mut line = format!(
        "{round:5}  {:16}  {:11}  {:4.0} s  {memory:>32}  {descriptors:>12}  {:>8.0} ms   ok\n",
        row.scenario,
        row.connections,
        row.took.as_secs_f32(),
        row.worst_delay.as_secs_f64() * 1e3,
    );
    let _ = writeln!(line, "       {}", row.told);
    line
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}
