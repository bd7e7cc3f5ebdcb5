//! The hashed timing wheel of one worker.
//!
//! Owns, for every timer, the connection that is to be looked at and the tick at which it is; that
//! is all. A slot is a tick modulo [`SLOTS`], found by hashing the deadline, after scheme 6 of G.
//! Varghese and T. Lauck, "Hashed and Hierarchical Timing Wheels" (SOSP 1987), with one difference:
//! no entry ever waits for a later revolution. What lies beyond the horizon is put into the
//! farthest slot and fires early; its owner sees that its deadline has not come and arms again.
//!
//! Never stores a deadline and never cancels. The owner keeps the tick of its one live entry as
//! [`Wheel::arm`] returned it; an entry that fires with another tick, or for a connection that is
//! gone, is stale and is dropped by the owner. So a connection that shows life touches no wheel.
//!
//! Called by the shard of its worker: [`Wheel::advance`] at the start of a turn, the arming
//! functions at any time, [`Wheel::pop_due`] in the timer phase until the turn's budget is used up.
//!
//! # Memory
//! Entries are 8 bytes, packed into chunks of [`CHUNK_ENTRIES`] that slots take from one pool and
//! give back as soon as they are drained. The pool grows to the most chunks that were ever in use
//! at once (the entries' peak, plus at most one partly filled chunk per occupied slot) and keeps
//! them: arming allocates only while a new peak is being reached, firing never does.

use std::collections::VecDeque;

use super::ids::ConnId;
use super::time::{Mono, Tick};

/// Slots of the wheel, each a tick long: some 102 seconds.
pub const SLOTS: usize = 1_024;
/// How many ticks ahead of the cursor an entry may lie. The cursor's own slot is always empty, so
/// no two ticks of that range share a slot.
pub const HORIZON: u32 = SLOTS as u32 - 1;

/// Entries in one chunk: with the link to the next chunk they fill two cache lines.
pub const CHUNK_ENTRIES: usize = 15;
/// How many slots [`Wheel::arm_levelled`] compares. Each takes 16 bits of the dice, half of which
/// the next one takes too: neighbours that share the small half of one and the large half of the
/// other choose as evenly as strangers.
const CANDIDATES: u32 = 8;
/// Bits of the dice from one candidate to the next.
const DRAW_BITS: u32 = u64::BITS / CANDIDATES;

const WORD_BITS: usize = u64::BITS as usize;
const WORDS: usize = SLOTS / WORD_BITS;
/// The index that ends a chain of chunks.
const END: u32 = u32::MAX;

const _: () = assert!(SLOTS.is_power_of_two() && SLOTS.is_multiple_of(WORD_BITS));
const _: () = assert!(SLOTS <= 1 << 16, "16 bits of dice reach every slot");
const _: () = assert!(u64::BITS.is_multiple_of(CANDIDATES));
const _: () = assert!(size_of::<Chunk>() == 128);

/// Timers of one worker. See the [module](self) for what it promises.
pub struct Wheel {
    /// Entries of ticks up to and including this one are due or gone; every slot holds a tick of
    /// `cursor + 1 ..= cursor + HORIZON`.
    cursor: Tick,
    slots: Box<[List; SLOTS]>,
    /// One bit per slot: whether it holds anything.
    occupied: [u64; WORDS],
    /// What the last advance found due and nobody has popped yet, in the order of ticks. It is
    /// filled only while it is empty, so it never holds more than [`HORIZON`] lists.
    due: VecDeque<DueList>,
    pool: Pool,
    len: usize,
}

impl Wheel {
    /// An empty wheel whose cursor stands at the tick of `now`.
    pub fn new(now: Mono) -> Wheel {
        Wheel {
            cursor: now.tick(),
            slots: Box::new([List::EMPTY; SLOTS]),
            occupied: [0; WORDS],
            due: VecDeque::with_capacity(SLOTS),
            pool: Pool { chunks: Vec::new(), free: END },
            len: 0,
        }
    }

    /// Arms `conn` for `at` and returns the tick really armed, which the owner keeps.
    ///
    /// `at` is clamped to the [`HORIZON`] ticks behind the cursor: what is overdue comes with the
    /// next tick, what is too far comes early. The cursor is where the wheel last looked for due
    /// entries, so an entry armed while others are being popped never fires among them.
    #[must_use = "the owner tells its live entry from stale ones by this tick"]
    pub fn arm(&mut self, conn: ConnId, at: Tick) -> Tick {
        let tick = self.clamp(at);
        self.put(conn, tick);
        tick
    }

    /// Arms `conn` in one of the emptier slots of `from..=to`, both clamped as by [`Wheel::arm`],
    /// and returns the tick chosen.
    ///
    /// Of a few slots drawn with `dice`, a random number of the caller's, the emptiest wins. That
    /// keeps the fullest slot within a few entries of the mean (Y. Azar et al., "Balanced
    /// Allocations", 1994), where a single draw would leave herds.
    ///
    /// # Panics
    /// If `from` is later than `to`.
    #[must_use = "the owner tells its live entry from stale ones by this tick"]
    pub fn arm_levelled(&mut self, conn: ConnId, from: Tick, to: Tick, dice: u64) -> Tick {
        assert!(from <= to, "the window of {conn:?} ends before it begins");
        let (from, to) = (self.clamp(from), self.clamp(to));
        let width = to.0 - from.0 + 1;
        let candidate = |draw: u32| {
            let sixteen_bits = dice.rotate_right(DRAW_BITS * draw) as u32 & 0xFFFF;
            from + ((sixteen_bits * width) >> 16)
        };
        let mut emptiest = candidate(0);
        for draw in 1..CANDIDATES {
            let other = candidate(draw);
            if self.slots[index(other)].len < self.slots[index(emptiest)].len {
                emptiest = other;
            }
        }
        self.put(conn, emptiest);
        emptiest
    }

    /// Moves the cursor to `now`, so that what is armed from here on is clamped relative to it, and
    /// makes everything up to `now` due.
    ///
    /// Costs as much as there are occupied slots on the way, however far the way. Does nothing
    /// while entries that an earlier advance found due are still to be popped: they come first, and
    /// until then the cursor stays, so that a worker that is behind does not fall into a loop.
    pub fn advance(&mut self, now: Tick) {
        if !self.due.is_empty() || now <= self.cursor {
            return;
        }
        while let Some(tick) = self.first_occupied().filter(|tick| *tick <= now) {
            let list = std::mem::replace(&mut self.slots[index(tick)], List::EMPTY);
            self.occupied[index(tick) / WORD_BITS] &= !(1 << (index(tick) % WORD_BITS));
            self.due.push_back(DueList { tick, list });
            self.cursor = tick;
        }
        self.cursor = now;
    }

    /// The next entry due at or before `now`, with the tick it was armed for; `None` when there is
    /// none.
    ///
    /// Ticks come in order; the order within a tick is not defined. Popping may stop at any entry
    /// and go on at a later `now`. Every entry is popped once: armed again meanwhile, it comes at a
    /// later tick than the `now` at which the entries now being popped were found due.
    pub fn pop_due(&mut self, now: Tick) -> Option<(Tick, ConnId)> {
        if self.due.is_empty() {
            self.advance(now);
        }
        let due = self.due.front_mut()?;
        debug_assert!(due.tick <= now, "time ran backwards");
        let fired = (due.tick, self.pool.pop(&mut due.list));
        if due.list.len == 0 {
            self.due.pop_front();
        }
        self.len -= 1;
        Some(fired)
    }

    /// The earliest occupied tick.
    pub fn next_due(&self) -> Option<Tick> {
        self.due.front().map(|due| due.tick).or_else(|| self.first_occupied())
    }

    /// Entries armed and not yet popped, stale ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is armed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries of each tick: first of those that are due and not yet popped, then of each of the
    /// [`HORIZON`] ticks behind the cursor, empty ones too.
    pub fn occupancy(&self) -> impl Iterator<Item = (Tick, usize)> + '_ {
        let due = self.due.iter().map(|due| (due.tick, due.list.len as usize));
        let ahead = (1..=HORIZON).map(|distance| {
            let tick = self.cursor + distance;
            (tick, self.slots[index(tick)].len as usize)
        });
        due.chain(ahead)
    }

    fn clamp(&self, at: Tick) -> Tick {
        at.clamp(self.cursor + 1, self.cursor + HORIZON)
    }

    fn put(&mut self, conn: ConnId, tick: Tick) {
        // Were this violated, the entry would share its slot with another revolution's.
        debug_assert!(tick > self.cursor && tick.0 - self.cursor.0 <= HORIZON);
        let slot = index(tick);
        self.pool.push(&mut self.slots[slot], conn);
        self.occupied[slot / WORD_BITS] |= 1 << (slot % WORD_BITS);
        self.len += 1;
    }

    /// The earliest tick behind the cursor whose slot holds something.
    fn first_occupied(&self) -> Option<Tick> {
        let start = index(self.cursor + 1);
        let mut bits = self.occupied[start / WORD_BITS] & (!0 << (start % WORD_BITS));
        // The word of the start is looked at twice: above its bit first, whole at the end.
        for step in 0..=WORDS {
            let word = (start / WORD_BITS + step) % WORDS;
            if step > 0 {
                bits = self.occupied[word];
            }
            if bits != 0 {
                let found = word * WORD_BITS + bits.trailing_zeros() as usize;
                let distance = found.wrapping_sub(start) % SLOTS;
                return Some(self.cursor + 1 + distance as u32);
            }
        }
        None
    }
}

/// The slot of a tick.
fn index(tick: Tick) -> usize {
    tick.0 as usize % SLOTS
}

/// Entries of one tick: a chain of chunks, all full but the newest, which is the first.
#[derive(Clone, Copy)]
struct List {
    newest: u32,
    len: u32,
}

impl List {
    const EMPTY: List = List { newest: END, len: 0 };
}

/// What is still to be popped of a tick that has come.
struct DueList {
    tick: Tick,
    list: List,
}

/// Entries of one slot, side by side. How many there are follows from the length of the list.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Chunk {
    entries: [ConnId; CHUNK_ENTRIES],
    /// The chunk filled before this one, or the next free one.
    next: u32,
}

/// All chunks of the wheel, in use or free.
struct Pool {
    chunks: Vec<Chunk>,
    /// First of the chain of free chunks. The last one given back is the first taken, because it is
    /// the likeliest to be in the cache.
    free: u32,
}

impl Pool {
    fn push(&mut self, list: &mut List, conn: ConnId) {
        let place = list.len as usize % CHUNK_ENTRIES;
        if place == 0 {
            list.newest = self.take(list.newest);
        }
        self.chunks[list.newest as usize].entries[place] = conn;
        list.len += 1;
    }

    /// Takes the newest entry out of `list`, which has one.
    fn pop(&mut self, list: &mut List) -> ConnId {
        list.len -= 1;
        let place = list.len as usize % CHUNK_ENTRIES;
        let chunk = &mut self.chunks[list.newest as usize];
        let conn = chunk.entries[place];
        if place == 0 {
            let drained = list.newest;
            list.newest = std::mem::replace(&mut chunk.next, self.free);
            self.free = drained;
        }
        conn
    }

    /// A chunk without entries, linked to `next`.
    fn take(&mut self, next: u32) -> u32 {
        let taken = self.free;
        if let Some(chunk) = self.chunks.get_mut(taken as usize) {
            self.free = std::mem::replace(&mut chunk.next, next);
            return taken;
        }
        self.grow(next)
    }

    #[cold]
    fn grow(&mut self, next: u32) -> u32 {
        let added = self.chunks.len() as u32;
        assert!(added < END, "the pool of the wheel outgrew its indices");
        self.chunks.push(Chunk { entries: [ConnId::from_bits(0); CHUNK_ENTRIES], next });
        added
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Steele, Lea and Flood's SplitMix64: enough randomness for a test, the same in every run.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^ (mixed >> 31)
        }

        fn below(&mut self, bound: u32) -> u32 {
            (self.roll() % u64::from(bound)) as u32
        }
    }

    fn conn(number: usize) -> ConnId {
        ConnId::new(number, 0)
    }

    fn pop_all(wheel: &mut Wheel, now: Tick) -> Vec<(Tick, ConnId)> {
        std::iter::from_fn(|| wheel.pop_due(now)).collect()
    }

    fn free_chunks(wheel: &Wheel) -> usize {
        let mut count = 0;
        let mut index = wheel.pool.free;
        while let Some(chunk) = wheel.pool.chunks.get(index as usize) {
            index = chunk.next;
            count += 1;
        }
        count
    }

    /// What the wheel promises, without a wheel.
    struct Model {
        cursor: u32,
        /// Ticks up to here were found due together; what is armed later is not among them.
        due: BTreeMap<u32, Vec<ConnId>>,
        waiting: BTreeMap<u32, Vec<ConnId>>,
    }

    impl Model {
        fn arm(&mut self, conn: ConnId, at: Tick) -> Tick {
            let tick = at.0.max(self.cursor + 1).min(self.cursor + HORIZON);
            self.waiting.entry(tick).or_default().push(conn);
            Tick(tick)
        }

        fn advance(&mut self, now: Tick) {
            if self.due.is_empty() && now.0 > self.cursor {
                let later = self.waiting.split_off(&(now.0 + 1));
                self.due = std::mem::replace(&mut self.waiting, later);
                self.cursor = now.0;
            }
        }

        fn next_due(&self) -> Option<Tick> {
            self.due.keys().chain(self.waiting.keys()).min().map(|tick| Tick(*tick))
        }

        /// Checks what the wheel popped and takes it out.
        fn popped(&mut self, fired: Option<(Tick, ConnId)>, now: Tick) {
            self.advance(now);
            let Some((tick, conn)) = fired else {
                assert!(self.due.is_empty(), "the wheel kept {:?} back", self.due);
                return;
            };
            let (first, entries) = self.due.iter_mut().next().expect("something was due");
            assert_eq!(*first, tick.0, "ticks came out of order");
            let place = entries.iter().position(|entry| *entry == conn).expect("it was armed");
            entries.swap_remove(place);
            if entries.is_empty() {
                self.due.pop_first();
            }
        }

        fn len(&self) -> usize {
            self.due.values().chain(self.waiting.values()).map(Vec::len).sum()
        }
    }

    /// How far a random step of time goes: mostly a tick or two, at times an hour.
    fn random_step(dice: &mut Dice) -> u32 {
        match dice.below(20) {
            0 => 36_000 + dice.below(100_000),
            1 => dice.below(3 * SLOTS as u32),
            2..=9 => dice.below(4),
            _ => 0,
        }
    }

    fn random_deadline(dice: &mut Dice, now: Tick) -> Tick {
        match dice.below(8) {
            0 => Tick(now.0.saturating_sub(dice.below(2_000))),
            1 => now + dice.below(100_000),
            _ => now + dice.below(400),
        }
    }

    fn compare_with_the_model(seed: u64) {
        let mut dice = Dice(seed);
        let mut now = Tick(dice.below(5_000));
        let mut wheel = Wheel::new(now.starts_at());
        let mut model = Model { cursor: now.0, due: BTreeMap::new(), waiting: BTreeMap::new() };
        let mut number = 0;
        for _ in 0..300 {
            now = now + random_step(&mut dice);
            for _ in 0..dice.below(60) {
                let at = random_deadline(&mut dice, now);
                assert_eq!(wheel.arm(conn(number), at), model.arm(conn(number), at));
                number += 1;
            }
            if dice.below(3) == 0 {
                wheel.advance(now);
                model.advance(now);
            }
            for _ in 0..dice.below(120) {
                let fired = wheel.pop_due(now);
                model.popped(fired, now);
                // Some owners arm again as soon as they fired, also for a tick that has passed.
                if let Some((tick, conn)) = fired.filter(|_| dice.below(2) == 0) {
                    let at = random_deadline(&mut dice, tick);
                    assert_eq!(wheel.arm(conn, at), model.arm(conn, at));
                }
            }
            assert_eq!(wheel.next_due(), model.next_due());
            assert_eq!(wheel.len(), model.len());
        }
        assert_eq!(wheel.occupancy().map(|(_, len)| len).sum::<usize>(), model.len());
        while !wheel.is_empty() {
            now = now + 1;
            model.popped(wheel.pop_due(now), now);
        }
        assert_eq!((wheel.next_due(), model.len()), (None, 0));
        assert_eq!(free_chunks(&wheel), wheel.pool.chunks.len(), "a chunk leaked");
    }

    #[test]
    #[cfg_attr(miri, ignore = "it compares every tick, and takes hours")]
    fn arms_pops_and_jumps_agree_with_a_sorted_map() {
        for seed in 0..100 {
            compare_with_the_model(seed);
        }
    }

    #[test]
    fn an_entry_fires_at_its_tick_and_not_before() {
        let mut wheel = Wheel::new(Mono(12_345));
        assert_eq!(wheel.arm(conn(1), Tick(130)), Tick(130));
        assert_eq!(wheel.next_due(), Some(Tick(130)));
        assert_eq!(wheel.pop_due(Tick(129)), None);
        assert_eq!(wheel.pop_due(Tick(130)), Some((Tick(130), conn(1))));
        assert_eq!(wheel.pop_due(Tick(130)), None);
        assert_eq!(wheel.next_due(), None);
        assert!(wheel.is_empty());
    }

    #[test]
    fn what_is_overdue_comes_next_and_what_is_too_far_comes_early() {
        let mut wheel = Wheel::new(Mono(0));
        assert_eq!(wheel.arm(conn(1), Tick(0)), Tick(1));
        assert_eq!(wheel.arm(conn(2), Tick(1_000_000)), Tick(HORIZON));
        assert_eq!(pop_all(&mut wheel, Tick(HORIZON - 1)), [(Tick(1), conn(1))]);
        assert_eq!(pop_all(&mut wheel, Tick(HORIZON)), [(Tick(HORIZON), conn(2))]);
    }

    #[test]
    fn an_entry_armed_again_while_popping_fires_once_a_turn() {
        let mut wheel = Wheel::new(Mono(0));
        for number in 0..100 {
            let _ = wheel.arm(conn(number), Tick(5));
        }
        let mut fired = 0;
        while let Some((tick, conn)) = wheel.pop_due(Tick(9)) {
            assert_eq!(wheel.arm(conn, tick), Tick(10));
            fired += 1;
        }
        assert_eq!((fired, wheel.len()), (100, 100));
        assert_eq!(wheel.next_due(), Some(Tick(10)));
    }

    #[test]
    fn a_drain_interrupted_by_a_budget_goes_on_later_and_loses_nothing() {
        let mut wheel = Wheel::new(Mono(0));
        for number in 0..100 {
            let _ = wheel.arm(conn(number), Tick(3));
        }
        let _ = wheel.arm(conn(100), Tick(4));
        for _ in 0..40 {
            assert!(wheel.pop_due(Tick(3)).is_some());
        }
        // Time passes by more than a revolution before the rest is popped. A new entry for the same
        // slot, one revolution later, must not mix with it.
        let late = Tick(3 + SLOTS as u32);
        assert_eq!(wheel.next_due(), Some(Tick(3)));
        assert_eq!(wheel.arm(conn(101), late), Tick(3 + HORIZON));
        let rest = pop_all(&mut wheel, late);
        assert_eq!(rest.len(), 62);
        assert!(rest[..60].iter().all(|(tick, _)| *tick == Tick(3)));
        assert_eq!(rest[60..], [(Tick(4), conn(100)), (Tick(3 + HORIZON), conn(101))]);
    }

    #[test]
    fn after_hours_of_suspension_every_entry_fires_once_and_is_armed_relative_to_now() {
        let mut wheel = Wheel::new(Mono(0));
        for number in 0..1_000 {
            let _ = wheel.arm(conn(number), Tick(1 + number as u32 % 300));
        }
        let now = Tick(5 * 36_000);
        let mut fired = 0;
        while let Some((_, conn)) = wheel.pop_due(now) {
            assert_eq!(wheel.arm(conn, now + 300), now + 300);
            fired += 1;
        }
        assert_eq!(fired, 1_000);
    }

    #[test]
    fn a_wheel_that_slept_is_advanced_before_it_is_armed() {
        let mut wheel = Wheel::new(Mono(0));
        wheel.advance(Tick(500_000));
        assert_eq!(wheel.arm(conn(0), Tick(500_300)), Tick(500_300));
        // An advance never steps over what is due.
        wheel.advance(Tick(500_400));
        wheel.advance(Tick(500_500));
        assert_eq!(wheel.next_due(), Some(Tick(500_300)));
        assert_eq!(pop_all(&mut wheel, Tick(500_500)), [(Tick(500_300), conn(0))]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "it counts, and takes hours")]
    fn the_earliest_tick_is_found_from_every_place_of_the_cursor() {
        for start in 0..SLOTS as u32 + 70 {
            for distance in [1, 2, 63, 64, 65, 511, 960, 1_000, HORIZON - 1, HORIZON] {
                let mut wheel = Wheel::new(Tick(start).starts_at());
                let armed = wheel.arm(conn(0), Tick(start + distance));
                assert_eq!((wheel.next_due(), armed.0), (Some(armed), start + distance));
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "it counts, and takes hours")]
    fn drained_chunks_serve_again_and_the_pool_stays_at_its_peak() {
        let mut wheel = Wheel::new(Mono(0));
        let mut peak = 0;
        for round in 0..10 {
            let now = Tick(round * 300);
            for number in 0..20_000 {
                let _ = wheel.arm(conn(number), now + 1 + number as u32 % 300);
            }
            if round == 0 {
                peak = wheel.pool.chunks.len();
            }
            assert_eq!(pop_all(&mut wheel, now + 300).len(), 20_000);
        }
        assert_eq!(wheel.pool.chunks.len(), peak);
        assert_eq!(free_chunks(&wheel), peak);
        assert_eq!(peak, 300 * 67_usize.div_ceil(CHUNK_ENTRIES));
    }

    /// Fullest tick over the mean of `counts`.
    fn peak_to_mean(counts: &[usize]) -> f64 {
        let fullest = counts.iter().max().copied().unwrap_or(0) as f64;
        fullest * counts.len() as f64 / counts.iter().sum::<usize>() as f64
    }

    #[test]
    #[cfg_attr(miri, ignore = "it counts, and takes hours")]
    fn simultaneous_connects_are_levelled_over_the_window() {
        for window in [50, 150, 300] {
            for seed in 0..5 {
                let mut dice = Dice(seed);
                let mut wheel = Wheel::new(Mono(1_000_000));
                let from = Mono(1_000_000).tick() + 1;
                let to = from + (window - 1);
                for number in 0..10_000 {
                    let tick = wheel.arm_levelled(conn(number), from, to, dice.roll());
                    assert!((from..=to).contains(&tick));
                }
                let ticks: Vec<usize> = wheel.occupancy().map(|(_, len)| len).collect();
                let levelled = peak_to_mean(&ticks[..window as usize]);
                assert!(levelled <= 1.15, "{levelled} over {window} ticks, seed {seed}");
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "it counts, and takes hours")]
    fn heartbeats_stay_levelled_over_many_rounds() {
        for interval in [50, 150, 300] {
            for seed in 0..2 {
                let mut dice = Dice(seed);
                let mut wheel = Wheel::new(Mono(0));
                for number in 0..10_000 {
                    let _ = wheel.arm_levelled(conn(number), Tick(1), Tick(interval), dice.roll());
                }
                let mut fired = Vec::new();
                for now in (1..=20 * interval).map(Tick) {
                    let mut count = 0;
                    while let Some((tick, conn)) = wheel.pop_due(now) {
                        let to = tick + interval;
                        let from = Tick(to.0 - interval / 8);
                        let _ = wheel.arm_levelled(conn, from, to, dice.roll());
                        count += 1;
                    }
                    fired.push(count);
                }
                let levelled = peak_to_mean(&fired);
                assert!(levelled <= 1.2, "{levelled} at {interval} ticks, seed {seed}");
            }
        }
    }
}
