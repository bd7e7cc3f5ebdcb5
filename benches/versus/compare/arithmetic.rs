//! The arithmetic of repeated measurements.
//!
//! Owns medians, spreads, ratios of paired rounds, the words for a difference, the judgement of a
//! target, and the rule by which a measurement is discarded. Pure: knows no clock, process or file.
//! The bench `versus` calls it, and `tests/compare.rs` holds it.

/// The share of the machine that others may use during a measurement.
pub(crate) const OTHERS_SHARE_MAX: f64 = 0.10;

/// What repeated figures have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) lowest: f64,
    /// The largest.
    pub(crate) highest: f64,
    /// How many.
    pub(crate) rounds: usize,
}

impl Spread {
    /// Of figures in any order; none where there is no figure.
    pub(crate) fn of(figures: &[f64]) -> Option<Spread> {
        let mut sorted = figures.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (&lowest, &highest) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        };
        Some(Spread { median, lowest, highest, rounds: sorted.len() })
    }

    /// Whether `figure` lies between the lowest and the highest, both included.
    pub(crate) fn holds(&self, figure: f64) -> bool {
        (self.lowest..=self.highest).contains(&figure)
    }
}

/// The ratios of figures that were measured in the same round. Rounds in which one of the two is
/// missing, or the second is 0, are left out.
pub(crate) fn paired_ratios(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Vec<f64> {
    let ratio = |(ours, theirs): (&Option<f64>, &Option<f64>)| {
        let (ours, theirs) = ((*ours)?, (*theirs)?);
        (theirs != 0.0).then(|| ours / theirs)
    };
    ours.iter().zip(theirs).filter_map(ratio).collect()
}

/// Which figures one would rather have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    /// The lower ones.
    Lower,
    /// The higher ones.
    Higher,
}

/// How ours stands to theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// Better in every round.
    Better,
    /// Worse in every round.
    Worse,
    /// Some rounds say so and some say otherwise.
    WithinNoise,
    /// There is a single round, which shows no noise.
    OneRound,
}

impl Difference {
    /// What the ratios of paired rounds say.
    pub(crate) fn of(ratios: &Spread, better: Better) -> Difference {
        if ratios.rounds < 2 {
            return Difference::OneRound;
        }
        if ratios.holds(1.0) {
            return Difference::WithinNoise;
        }
        match (ratios.median < 1.0) == (better == Better::Lower) {
            true => Difference::Better,
            false => Difference::Worse,
        }
    }

    /// In plain words.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Difference::Better => "better",
            Difference::Worse => "worse",
            Difference::WithinNoise => "within the noise",
            Difference::OneRound => "one round",
        }
    }
}

/// On which side of its bound a target lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The bound or less.
    AtMost,
    /// The bound or more.
    AtLeast,
}

/// How a target fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The median lies on the right side of the bound.
    Met,
    /// It does not.
    Missed,
    /// The median lies on the right side, and some round on the other.
    MetWithinNoise,
    /// The median does not, but some round does.
    MissedWithinNoise,
    /// There is a single round, on the right side or not: no evidence of either.
    OneRound,
}

impl Outcome {
    /// What the figures of all rounds say of a bound.
    pub(crate) fn of(figures: &Spread, side: Side, bound: f64) -> Outcome {
        let right = |figure: f64| match side {
            Side::AtMost => figure <= bound,
            Side::AtLeast => figure >= bound,
        };
        if figures.rounds < 2 {
            return Outcome::OneRound;
        }
        let split = right(figures.lowest) != right(figures.highest);
        match (right(figures.median), split) {
            (true, false) => Outcome::Met,
            (true, true) => Outcome::MetWithinNoise,
            (false, false) => Outcome::Missed,
            (false, true) => Outcome::MissedWithinNoise,
        }
    }

    /// Whether the median lies on the right side; none of a single round.
    pub(crate) fn is_met(self) -> Option<bool> {
        match self {
            Outcome::Met | Outcome::MetWithinNoise => Some(true),
            Outcome::Missed | Outcome::MissedWithinNoise => Some(false),
            Outcome::OneRound => None,
        }
    }

    /// In plain words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Outcome::Met => "met",
            Outcome::Missed => "missed",
            Outcome::MetWithinNoise => "met, not in every round",
            Outcome::MissedWithinNoise => "missed, not in every round",
            Outcome::OneRound => "one round, no evidence",
        }
    }
}

/// The whole machine at an instant. Times are processor time since it began, in seconds, summed
/// over all processors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct MachineTime {
    /// Not idle, time that the hypervisor kept included.
    pub(crate) busy_s: f64,
    /// Idle.
    pub(crate) idle_s: f64,
    /// Used by this process and by its children that have ended.
    pub(crate) own_s: f64,
}

/// The share of the machine that others used between two instants, from 0 to 1.
pub(crate) fn share_of_others(before: &MachineTime, after: &MachineTime) -> f64 {
    let busy_s = after.busy_s - before.busy_s;
    let all_s = busy_s + after.idle_s - before.idle_s;
    let others_s = busy_s - (after.own_s - before.own_s);
    if all_s > 0.0 { (others_s / all_s).clamp(0.0, 1.0) } else { 0.0 }
}

/// Whether a measurement during which others used such a share of the machine is discarded.
pub(crate) fn is_disturbed(share: f64) -> bool {
    share > OTHERS_SHARE_MAX
}

/// How often measurements may still be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    left: u32,
    /// Measurements that were discarded.
    pub(crate) discarded: u32,
    /// Measurements that were disturbed too, and kept, because the allowance was used up.
    pub(crate) kept_disturbed: u32,
}

impl Allowance {
    /// At most so many repetitions.
    pub(crate) fn new(repetitions: u32) -> Allowance {
        Allowance { left: repetitions, discarded: 0, kept_disturbed: 0 }
    }

    /// A measurement was disturbed or not, and there is time for another or not. Whether it is
    /// discarded and has to be repeated.
    pub(crate) fn discards(&mut self, disturbed: bool, has_time: bool) -> bool {
        if !disturbed {
            return false;
        }
        if self.left == 0 || !has_time {
            self.kept_disturbed += 1;
            return false;
        }
        self.left -= 1;
        self.discarded += 1;
        true
    }
}
