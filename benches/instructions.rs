//! The work whose instructions `scripts/instructions.sh` counts under callgrind.
//!
//! Owns the cases. Run as `instructions CASE`, it prepares and warms one up, calls [`measured`]
//! once, and prints how many operations that was; without a case it prints the names of all.
//! Counts repeat exactly, because everything here is seeded and nothing waits, sleeps or reads a
//! clock. Never measures time.
//!
//! To add a case, write a function that hands the work to [`measured`] and returns how often it did
//! what its doc comment says, put it into [`CASES`], and run `scripts/instructions.sh --record`.

use std::hint::black_box;
use std::process::ExitCode;

use corebeat::base::ids::ConnId;
use corebeat::base::time::{Mono, Tick};
use corebeat::base::wheel::Wheel;

/// A name and the function that runs the case and returns its number of operations.
type Case = (&'static str, fn() -> usize);

const CASES: &[Case] = &[("wheel_arm", wheel_arm), ("wheel_fire", wheel_fire)];

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).filter(|argument| !argument.starts_with("--"));
    let Some(wanted) = wanted else {
        CASES.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let Some((_, run)) = CASES.iter().find(|(name, _)| *name == wanted) else {
        eprintln!("no case is named {wanted}");
        return ExitCode::FAILURE;
    };
    println!("{}", run());
    ExitCode::SUCCESS
}

/// Callgrind counts from the entry of this function to its end, by its name.
#[inline(never)]
fn measured<R>(work: impl FnOnce() -> R) -> R {
    black_box(work())
}

/// Entries of the wheel's cases, and the ticks over which their deadlines lie.
const ENTRIES: usize = 100_000;
const INTERVAL: u32 = 300;

/// One entry armed, among 100,000 in random order over the interval.
fn wheel_arm() -> usize {
    let (mut wheel, mut now, plan) = warm_wheel();
    measured(|| arm_all(&mut wheel, now, &plan));
    fire_all(&mut wheel, &mut now);
    plan.len()
}

/// One entry fired, its share of looking for the next tick included.
fn wheel_fire() -> usize {
    let (mut wheel, mut now, plan) = warm_wheel();
    arm_all(&mut wheel, now, &plan);
    measured(|| fire_all(&mut wheel, &mut now));
    plan.len()
}

/// An empty wheel whose pool has seen the peak, the present, and who arms how many ticks ahead.
fn warm_wheel() -> (Wheel, Tick, Vec<(ConnId, u32)>) {
    let mut rng = fastrand::Rng::with_seed(1);
    let plan: Vec<_> =
        (0..ENTRIES).map(|slot| (ConnId::new(slot, 1), rng.u32(1..=INTERVAL))).collect();
    let mut wheel = Wheel::new(Mono(0));
    let mut now = Tick(0);
    for _ in 0..3 {
        arm_all(&mut wheel, now, &plan);
        fire_all(&mut wheel, &mut now);
    }
    (wheel, now, plan)
}

fn arm_all(wheel: &mut Wheel, now: Tick, plan: &[(ConnId, u32)]) {
    for (conn, ahead) in plan {
        black_box(wheel.arm(*conn, now + *ahead));
    }
}

fn fire_all(wheel: &mut Wheel, now: &mut Tick) {
    while !wheel.is_empty() {
        *now = *now + 1;
        while let Some(fired) = wheel.pop_due(*now) {
            black_box(fired);
        }
    }
}
