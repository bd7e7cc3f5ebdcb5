//! Time as plain numbers, handed in from outside.
//!
//! Owns the two clocks' types and the tick of the timing wheel. Never reads a clock: [`clock`]
//! does, once a turn, and everything below it receives a [`Now`].
//!
//! [`clock`]: crate::base::clock

use std::ops::{Add, Sub};

/// Length of one tick of the timing wheel, in milliseconds.
///
/// A tenth of a second is fine enough for heartbeats counted in seconds and coarse enough that an
/// idle core wakes at most ten times a second, and then only for occupied slots.
pub const TICK_MS: u64 = 100;

/// A point on the monotonic clock: milliseconds since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// Milliseconds from `earlier` to `self`, or 0 where `earlier` is later.
    pub fn since_ms(self, earlier: Mono) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The tick in which this point lies.
    pub fn tick(self) -> Tick {
        Tick((self.0 / TICK_MS) as u32)
    }

    /// The first tick that begins at or after this point, so that a timer never fires early.
    pub fn tick_at_or_after(self) -> Tick {
        Tick(self.0.div_ceil(TICK_MS) as u32)
    }

    /// The low 32 bits, which [`Mono::since_low_ms`] turns back into an age.
    pub fn low(self) -> u32 {
        self.0 as u32
    }

    /// Milliseconds since the point whose low 32 bits were kept.
    ///
    /// Exact for ages below 2^32 ms (49 days). A connection's silence is bounded by its timeout,
    /// hours at the very most, so four bytes per connection are enough.
    pub fn since_low_ms(self, low: u32) -> u64 {
        u64::from((self.0 as u32).wrapping_sub(low))
    }
}

impl Add<u64> for Mono {
    type Output = Mono;

    fn add(self, ms: u64) -> Mono {
        Mono(self.0 + ms)
    }
}

impl Sub<u64> for Mono {
    type Output = Mono;

    fn sub(self, ms: u64) -> Mono {
        Mono(self.0.saturating_sub(ms))
    }
}

/// A tick of the timing wheel: [`TICK_MS`] milliseconds, counted from the start of the process.
///
/// 32 bits last 13 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u32);

impl Tick {
    /// The instant at which this tick begins.
    pub fn starts_at(self) -> Mono {
        Mono(u64::from(self.0) * TICK_MS)
    }
}

impl Add<u32> for Tick {
    type Output = Tick;

    fn add(self, ticks: u32) -> Tick {
        Tick(self.0 + ticks)
    }
}

/// What a turn of the loop knows of the time: both clocks, read once at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, for every deadline and age.
    pub mono: Mono,
    /// Wall clock in milliseconds since 1970 (UTC), for what people and peers are told.
    pub wall_ms: u64,
}

impl Now {
    /// This instant moved on by `ms` on both clocks.
    pub fn plus_ms(self, ms: u64) -> Now {
        Now { mono: self.mono + ms, wall_ms: self.wall_ms + ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_rounds_up_to_a_tick_and_the_present_rounds_down() {
        assert_eq!(Mono(199).tick(), Tick(1));
        assert_eq!(Mono(199).tick_at_or_after(), Tick(2));
        assert_eq!(Mono(200).tick_at_or_after(), Tick(2));
        assert_eq!(Tick(2).starts_at(), Mono(200));
    }

    #[test]
    fn an_age_survives_the_wrap_of_its_low_half() {
        let heard = Mono(u64::from(u32::MAX) - 10);
        let now = heard + 90_000;
        assert_eq!(now.since_low_ms(heard.low()), 90_000);
    }
}
