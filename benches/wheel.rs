//! What the timing wheel costs: `cargo bench --bench wheel`.
//!
//! Owns the wall-clock figures of arming and firing at a million entries, the proof that neither
//! allocates after warm-up, and the figures of levelling. The exact, repeatable figures are
//! instruction counts and belong to `benches/instructions/`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use corebeat::base::ids::ConnId;
use corebeat::base::time::{Mono, Tick};
use corebeat::base::wheel::Wheel;

const ENTRIES: usize = 1_000_000;
const INTERVAL: u32 = 300;
const WARM_UP_ROUNDS: usize = 3;
const ROUNDS: usize = 15;
const TARGET_NS: f64 = 30.0;

/// The system's allocator, counting how often it is asked for memory.
struct CountingAllocator;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract;
// counting touches no memory that it hands out.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises about `layout` are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` came from the system's allocator with this layout, as all of ours does.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as for `dealloc`, and the caller's promises about `new_size` are handed on.
        unsafe { System.realloc(memory, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() {
    let mut bench = Bench::new();
    for _ in 0..WARM_UP_ROUNDS {
        bench.round();
    }
    bench.forget_figures();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..ROUNDS {
        bench.round();
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;

    println!("Timing wheel, {ENTRIES} entries, deadlines in random order over {INTERVAL} ticks");
    println!("{ROUNDS} rounds after {WARM_UP_ROUNDS} of warm-up, nanoseconds per entry\n");
    println!("{:<44} {:>7} {:>7} {:>7}", "", "median", "min", "max");
    bench.arm.print("arm");
    bench.fire.print("fire");
    bench.levelled.print("arm_levelled over the whole interval");
    bench.beat.print("fire and arm again in the last eighth");
    println!("\nallocations after warm-up: {allocations}");
    assert_eq!(allocations, 0, "arming and firing must not allocate after warm-up");
    for (name, figure) in [("arming", &mut bench.arm), ("firing", &mut bench.fire)] {
        let verdict = if figure.median() <= TARGET_NS { "met" } else { "MISSED" };
        println!("target of {TARGET_NS} ns for {name}: {verdict}");
    }

    println!("\n10,000 connections at once: fullest tick over the mean tick\n");
    println!("{:<16} {:>12} {:>12}", "interval, ticks", "first pings", "20 rounds");
    for interval in [50, 150, 300] {
        let (first, later) = levelling(interval);
        println!("{interval:<16} {first:>12.3} {later:>12.3}");
    }
}

/// One figure, measured once a round.
#[derive(Default)]
struct Figure {
    ns: Vec<f64>,
}

impl Figure {
    fn with_room() -> Figure {
        Figure { ns: Vec::with_capacity(WARM_UP_ROUNDS + ROUNDS) }
    }

    fn measure(&mut self, work: impl FnOnce()) {
        let start = Instant::now();
        work();
        self.ns.push(start.elapsed().as_nanos() as f64 / ENTRIES as f64);
    }

    fn median(&mut self) -> f64 {
        self.ns.sort_by(f64::total_cmp);
        self.ns[self.ns.len() / 2]
    }

    fn print(&mut self, name: &str) {
        let median = self.median();
        let (min, max) = (self.ns[0], self.ns[self.ns.len() - 1]);
        println!("{name:<44} {median:>7.1} {min:>7.1} {max:>7.1}");
    }
}

struct Bench {
    wheel: Wheel,
    now: Tick,
    /// Connections in the order in which they arm, and how many ticks ahead they do.
    plan: Vec<(ConnId, u32)>,
    dice: Vec<u64>,
    arm: Figure,
    fire: Figure,
    levelled: Figure,
    beat: Figure,
}

impl Bench {
    fn new() -> Bench {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut plan: Vec<_> =
            (0..ENTRIES).map(|slot| (ConnId::new(slot, 1), rng.u32(1..=INTERVAL))).collect();
        rng.shuffle(&mut plan);
        Bench {
            wheel: Wheel::new(Mono(0)),
            now: Tick(0),
            plan,
            dice: (0..ENTRIES).map(|_| rng.u64(..)).collect(),
            arm: Figure::with_room(),
            fire: Figure::with_room(),
            levelled: Figure::with_room(),
            beat: Figure::with_room(),
        }
    }

    fn forget_figures(&mut self) {
        for figure in [&mut self.arm, &mut self.fire, &mut self.levelled, &mut self.beat] {
            figure.ns.clear();
        }
    }

    fn round(&mut self) {
        let Bench { wheel, now, plan, dice, .. } = self;
        self.arm.measure(|| {
            for (conn, ahead) in plan.iter() {
                black_box(wheel.arm(*conn, *now + *ahead));
            }
        });
        self.fire.measure(|| fire_all(wheel, now));
        self.levelled.measure(|| {
            for ((conn, _), dice) in plan.iter().zip(dice.iter()) {
                black_box(wheel.arm_levelled(*conn, *now + 1, *now + INTERVAL, *dice));
            }
        });
        self.beat.measure(|| {
            for dice in dice.iter() {
                let (tick, conn) = next(wheel, now);
                let to = tick + INTERVAL;
                black_box(wheel.arm_levelled(conn, Tick(to.0 - INTERVAL / 8), to, *dice));
            }
        });
        assert_eq!(wheel.len(), ENTRIES);
        fire_all(wheel, now);
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

/// The next entry, however far time must go for it.
fn next(wheel: &mut Wheel, now: &mut Tick) -> (Tick, ConnId) {
    loop {
        if let Some(fired) = wheel.pop_due(*now) {
            return fired;
        }
        *now = *now + 1;
    }
}

/// Fullest over mean tick, of the first pings of a mass connect and over twenty heartbeats of all.
fn levelling(interval: u32) -> (f64, f64) {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut wheel = Wheel::new(Mono(0));
    for slot in 0..10_000 {
        let conn = ConnId::new(slot, 1);
        let _ = wheel.arm_levelled(conn, Tick(1), Tick(interval), rng.u64(..));
    }
    let first: Vec<usize> = wheel.occupancy().map(|(_, len)| len).take(interval as usize).collect();
    let mut fired = Vec::new();
    for now in (1..=20 * interval).map(Tick) {
        let mut count = 0;
        while let Some((tick, conn)) = wheel.pop_due(now) {
            let to = tick + interval;
            let _ = wheel.arm_levelled(conn, Tick(to.0 - interval / 8), to, rng.u64(..));
            count += 1;
        }
        fired.push(count);
    }
    (peak_to_mean(&first), peak_to_mean(&fired))
}

fn peak_to_mean(counts: &[usize]) -> f64 {
    let fullest = counts.iter().max().copied().unwrap_or(0) as f64;
    fullest * counts.len() as f64 / counts.iter().sum::<usize>() as f64
}
