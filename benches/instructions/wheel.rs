//! What the timing wheel does, counted.

use std::hint::black_box;

use corebeat::base::ids::ConnId;
use corebeat::base::time::{Mono, Tick};
use corebeat::base::wheel::Wheel;

use super::measured;

const ENTRIES: usize = 100_000;
const INTERVAL: u32 = 300;

/// One entry armed, among 100,000 in random order over 300 ticks.
pub(crate) fn arm() -> usize {
    let (mut wheel, now, plan) = warm_wheel();
    measured(|| arm_all(&mut wheel, now, &plan));
    plan.len()
}

/// One of those entries fired, its share of looking for the next tick included.
pub(crate) fn fire() -> usize {
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

// Both functions are called through pointers that the compiler cannot see through: whether it puts
// something so small in line depends on who else calls it, and that is not what is to be judged.

fn arm_all(wheel: &mut Wheel, now: Tick, plan: &[(ConnId, u32)]) {
    let arm: fn(&mut Wheel, ConnId, Tick) -> Tick = black_box(Wheel::arm);
    for (conn, ahead) in plan {
        black_box(arm(wheel, *conn, now + *ahead));
    }
}

fn fire_all(wheel: &mut Wheel, now: &mut Tick) {
    let pop_due: fn(&mut Wheel, Tick) -> Option<(Tick, ConnId)> = black_box(Wheel::pop_due);
    while !wheel.is_empty() {
        *now = *now + 1;
        while let Some(fired) = pop_due(wheel, *now) {
            black_box(fired);
        }
    }
}
