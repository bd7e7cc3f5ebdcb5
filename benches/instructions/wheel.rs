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
