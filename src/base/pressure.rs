//! How near a worker is to what it can bear, and what follows from it.
//!
//! Owns the marks at which a reading begins and ceases to matter, the three levels between them,
//! and which work is left out at which level. Never reads anything: the worker does, and tells its
//! shard by [`Pressure`] and [`Readings`].
//!
//! ```text
//!  Calm ── at or above `soft` ──▶ Strained ── at or above `high` ──▶ Overloaded
//!    ◀────── below `low` ──────────┘   ◀────── below `soft` ──────────┘
//! ```
//!
//! A level begins higher than it ends, so that a reading that moves about a mark does not move the
//! level with it (Schmitt trigger).

/// How much of something is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// There is enough.
    #[default]
    Calm,
    /// There is little left: what can wait has to.
    Strained,
    /// There is next to nothing left: nobody is accepted.
    Overloaded,
}

impl Level {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Calm => "calm",
            Level::Strained => "strained",
            Level::Overloaded => "overloaded",
        }
    }
}

/// Where the levels of one reading begin and end, in the reading's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// Strain ends below it.
    pub low: u64,
    /// Strain begins here, and overload ends below it.
    pub soft: u64,
    /// Overload begins here.
    pub high: u64,
}

impl Watermarks {
    /// Marks that no reading comes to.
    pub const OFF: Watermarks = Watermarks { low: u64::MAX, soft: u64::MAX, high: u64::MAX };

    /// Whether they rise, so that each level ends below where it begins.
    pub fn are_in_order(&self) -> bool {
        self.low < self.soft && self.soft < self.high
    }

    /// The level that follows `before` at this reading.
    pub fn judge(&self, before: Level, reading: u64) -> Level {
        if *self == Watermarks::OFF {
            return Level::Calm;
        }
        let is_held = |level: Level, from: u64| before >= level && reading >= from;
        if reading >= self.high || is_held(Level::Overloaded, self.soft) {
            Level::Overloaded
        } else if reading >= self.soft || is_held(Level::Strained, self.low) {
            Level::Strained
        } else {
            Level::Calm
        }
    }
}

/// What a worker reads of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// Open descriptors of its table, in per cent of the limit on open files.
    pub descriptors_percent: u64,
    /// Memory in use, in per cent of what may be used.
    pub memory_percent: u64,
    /// How long what arrives has to wait for the loop, in microseconds. See [`Lag`].
    pub lag_us: u64,
}

/// The levels of a worker's readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Of its descriptors.
    pub descriptors: Level,
    /// Of the memory.
    pub memory: Level,
    /// Of its loop.
    pub lag: Level,
}

impl Pressure {
    /// The worst of the three, which decides who is let in.
    pub fn level(self) -> Level {
        self.descriptors.max(self.of_work())
    }

    /// The worse of those that work makes worse, which decides what is left out: it would free no
    /// descriptor.
    pub fn of_work(self) -> Level {
        self.memory.max(self.lag)
    }

    /// Nobody is accepted: who comes waits in the kernel.
    pub fn pauses_accepting(self) -> bool {
        self.level() >= Level::Overloaded
    }

    /// A hello that begins a session is refused; one that goes on with a session is not.
    pub fn refuses_newcomers(self) -> bool {
        self.level() >= Level::Strained
    }

    /// Comings and goings are told as totals.
    pub fn folds_presence(self) -> bool {
        self.of_work() >= Level::Strained
    }

    /// The numbers of all workers are gathered less often.
    pub fn thins_statistics(self) -> bool {
        self.of_work() >= Level::Strained
    }

    /// Totals are told when it is over.
    pub fn withholds_totals(self) -> bool {
        self.of_work() >= Level::Overloaded
    }

    /// Nobody is told who is in a room.
    pub fn refuses_rosters(self) -> bool {
        self.of_work() >= Level::Overloaded
    }
}

/// Time in which the lag follows what happens, in microseconds.
const LAG_WINDOW_US: u64 = 1_000_000;
/// However long a turn was, it counts no more than this much of time. So one turn in which the
/// machine stood still is no overload.
const TURN_COUNTS_US: u64 = 250_000;

/// How long a loop makes wait what arrives at any time: an exponentially weighted mean over about
/// the last second, in which a turn counts with its length for as long as it lasted, and sleep with
/// nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lag(f64);

impl Lag {
    /// The loop slept for so long, and then had a turn of so long.
    pub fn note(&mut self, slept_us: u64, turn_us: u64) {
        let window = LAG_WINDOW_US as f64;
        self.0 *= window / (window + slept_us as f64);
        let counts = turn_us.min(TURN_COUNTS_US) as f64;
        self.0 += (turn_us as f64 - self.0) * counts / (window + counts);
    }

    /// The lag, in microseconds.
    pub fn us(self) -> u64 {
        self.0 as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Watermarks = Watermarks { low: 10, soft: 20, high: 30 };

    fn levels(readings: &[u64]) -> Vec<Level> {
        let mut level = Level::Calm;
        let judged = readings.iter().map(|reading| {
            level = MARKS.judge(level, *reading);
            level
        });
        judged.collect()
    }

    #[test]
    fn a_level_ends_lower_than_it_begins() {
        use Level::{Calm, Overloaded, Strained};
        assert_eq!(levels(&[19, 20, 10, 9]), [Calm, Strained, Strained, Calm]);
        assert_eq!(
            levels(&[20, 29, 30, 20, 19]),
            [Strained, Strained, Overloaded, Overloaded, Strained]
        );
        assert_eq!(
            levels(&[30, 10, 20, 30, 9]),
            [Overloaded, Strained, Strained, Overloaded, Calm]
        );
        assert_eq!(levels(&[u64::MAX, 0]), [Overloaded, Calm]);
    }

    #[test]
    fn a_reading_that_moves_about_a_mark_does_not_move_the_level() {
        let about = |mark: u64| -> Vec<u64> { (0..50).map(|n| mark - 1 + n % 3).collect() };
        for (mark, changes) in [(10, 0), (20, 1), (30, 2)] {
            let levels = levels(&[&[0], &about(mark)[..]].concat());
            let changed = levels.windows(2).filter(|two| two[0] != two[1]).count();
            assert_eq!(changed, changes, "{mark}: {levels:?}");
        }
    }

    #[test]
    fn marks_that_are_off_are_never_come_to() {
        for before in [Level::Calm, Level::Strained, Level::Overloaded] {
            assert_eq!(Watermarks::OFF.judge(before, u64::MAX), Level::Calm);
        }
        assert!(!Watermarks::OFF.are_in_order() && MARKS.are_in_order());
    }

    #[test]
    fn newcomers_are_refused_before_accepting_pauses_and_frills_go_before_both_end() {
        let strained = Pressure { lag: Level::Strained, ..Pressure::default() };
        assert!(strained.refuses_newcomers() && !strained.pauses_accepting());
        assert!(strained.folds_presence() && strained.thins_statistics());
        assert!(!strained.withholds_totals() && !strained.refuses_rosters());
        let overloaded = Pressure { memory: Level::Overloaded, ..Pressure::default() };
        assert!(overloaded.pauses_accepting() && overloaded.refuses_newcomers());
        assert!(overloaded.folds_presence() && overloaded.thins_statistics());
        assert!(overloaded.withholds_totals() && overloaded.refuses_rosters());
        let full = Pressure { descriptors: Level::Overloaded, ..Pressure::default() };
        assert!(full.pauses_accepting() && !full.folds_presence(), "it would free none");
        assert!(!full.thins_statistics() && !full.refuses_rosters());
        assert_eq!(Pressure::default().level(), Level::Calm);
        assert!(!Pressure::default().refuses_newcomers());
    }

    #[test]
    fn the_lag_is_that_of_the_turns_where_they_follow_one_another() {
        let mut lag = Lag::default();
        (0..100).for_each(|_| lag.note(0, 100_000));
        assert!((99_000..=100_000).contains(&lag.us()), "{lag:?}");
        (0..100_000).for_each(|_| lag.note(0, 100));
        assert!((100..200).contains(&lag.us()), "short turns of a busy loop delay nobody: {lag:?}");
    }

    #[test]
    fn a_loop_that_sleeps_half_of_the_time_makes_wait_half_as_long() {
        let mut lag = Lag::default();
        (0..1_000).for_each(|_| lag.note(20_000, 20_000));
        assert!((9_000..11_000).contains(&lag.us()), "{lag:?}");
    }

    #[test]
    fn the_lag_ends_while_the_loop_sleeps_and_only_wakes_to_look() {
        let mut lag = Lag::default();
        (0..100).for_each(|_| lag.note(0, 2_000_000));
        assert!(lag.us() > 1_900_000);
        (0..100).for_each(|_| lag.note(100_000, 20));
        assert!(lag.us() < 200, "{lag:?}");
    }

    #[test]
    fn one_turn_in_which_the_machine_stood_still_is_no_overload() {
        let mut lag = Lag::default();
        lag.note(0, 4_000_000);
        assert!(lag.us() <= 800_000, "{lag:?}");
    }
}
