//! How much of something may happen in a time.
//!
//! Owns the generic cell rate algorithm (GCRA), in its form of "virtual scheduling": ITU-T I.371,
//! annex A. A bucket is one number, the time at which the next unit is due at the agreed rate; a
//! unit may come before that by as much as the burst allows. Nothing has to be refilled, so a
//! bucket that nobody uses costs nothing but its eight bytes. Never acts on what it finds: whoever
//! asks does.

use super::time::Mono;

/// Times are counted in parts of a millisecond, of which there are two to the power of this. Fine
/// enough for rates of a gigabyte a second, and 64 bits of it last eight years.
const FRACTION_BITS: u32 = 26;
/// The longest time that a burst may be worth: half a year.
const TOLERANCE_MAX: u64 = u64::MAX >> 4;
/// The largest rate that is told from others.
pub const RATE_MAX: u64 = 1 << 32;

/// So many units a second, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Time between two units.
    increment: u64,
    /// Time that a whole burst is worth.
    tolerance: u64,
}

/// When the next unit is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket(u64);

/// Units came too early: they conform after this time at the earliest, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFast {
    /// At least 1.
    pub wait_ms: u64,
}

impl Rate {
    /// A rate to which everything conforms.
    pub const UNLIMITED: Rate = Rate { increment: 0, tolerance: TOLERANCE_MAX };

    /// `per_second` units a second, or any number where that is 0; and up to `burst` at once.
    pub fn new(per_second: u64, burst: u64) -> Rate {
        if per_second == 0 {
            return Rate::UNLIMITED;
        }
        let increment = ((1_000 << FRACTION_BITS) / per_second.min(RATE_MAX)).max(1);
        Rate { increment, tolerance: increment.saturating_mul(burst.max(1)).min(TOLERANCE_MAX) }
    }

    /// Whether everything conforms.
    pub fn is_unlimited(&self) -> bool {
        self.increment == 0
    }

    /// Takes `units` out of the bucket if they conform, and none otherwise.
    ///
    /// # Errors
    /// How long to wait, where they do not.
    #[inline(always)]
    pub fn take(&self, bucket: &mut Bucket, units: u64, now: Mono) -> Result<(), TooFast> {
        let next = self.after(bucket, units, now);
        if next > latest(now, self.tolerance) {
            return Err(self.too_fast(next, now));
        }
        bucket.0 = next;
        Ok(())
    }

    /// Takes `units` out of the bucket, which have come already, whether or not they conform.
    ///
    /// # Errors
    /// How long to wait before the next ones, where they do not.
    #[inline(always)]
    pub fn charge(&self, bucket: &mut Bucket, units: u64, now: Mono) -> Result<(), TooFast> {
        let next = self.after(bucket, units, now);
        bucket.0 = next;
        if next > latest(now, self.tolerance) { Err(self.too_fast(next, now)) } else { Ok(()) }
    }

    /// Whether `units` would conform; the bucket stays as it is.
    ///
    /// # Errors
    /// How long to wait, where they do not.
    pub fn look(&self, bucket: Bucket, units: u64, now: Mono) -> Result<(), TooFast> {
        self.take(&mut { bucket }, units, now)
    }

    #[inline(always)]
    fn after(&self, bucket: &Bucket, units: u64, now: Mono) -> u64 {
        bucket.0.max(now.0 << FRACTION_BITS) + units * self.increment
    }

    #[cold]
    fn too_fast(&self, next: u64, now: Mono) -> TooFast {
        let early = next - latest(now, self.tolerance);
        TooFast { wait_ms: early.div_ceil(1 << FRACTION_BITS) }
    }
}

/// Where a bucket may stand now.
#[inline(always)]
fn latest(now: Mono, tolerance: u64) -> u64 {
    (now.0 << FRACTION_BITS) + tolerance
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many single units conform at one instant.
    fn at_once(rate: Rate, bucket: &mut Bucket, now: Mono) -> usize {
        (0..1_000_000).take_while(|_| rate.take(bucket, 1, now).is_ok()).count()
    }

    #[test]
    fn a_full_bucket_lets_its_burst_through_and_not_one_more() {
        for burst in [1, 2, 50] {
            assert_eq!(
                at_once(Rate::new(10, burst), &mut Bucket::default(), Mono(7)),
                burst as usize
            );
        }
    }

    #[test]
    fn it_fills_at_its_rate_and_never_beyond_the_burst() {
        let (rate, mut bucket) = (Rate::new(10, 5), Bucket::default());
        assert_eq!(at_once(rate, &mut bucket, Mono(1_000)), 5);
        assert_eq!(rate.take(&mut bucket, 1, Mono(1_000)), Err(TooFast { wait_ms: 100 }));
        assert_eq!(rate.take(&mut bucket, 1, Mono(1_099)), Err(TooFast { wait_ms: 1 }));
        assert_eq!(at_once(rate, &mut bucket, Mono(1_100)), 1);
        assert_eq!(at_once(rate, &mut bucket, Mono(1_400)), 3);
        assert_eq!(at_once(rate, &mut bucket, Mono(1_000_000)), 5);
    }

    #[test]
    #[cfg_attr(miri, ignore = "it counts, and takes hours")]
    fn over_a_long_time_the_rate_conforms() {
        for per_second in [1, 3, 1_000, 7_777, 1_000_000] {
            let (rate, mut bucket) =
                (Rate::new(per_second, 1 + per_second / 100), Bucket::default());
            let spell = |from: u64| (from..from + 1_000).map(Mono);
            for now in spell(50_000) {
                at_once(rate, &mut bucket, now);
            }
            let conformed: usize = spell(51_000).map(|now| at_once(rate, &mut bucket, now)).sum();
            let expected = per_second as usize;
            let slack = 1 + expected / 10_000;
            assert!(conformed.abs_diff(expected) <= slack, "{conformed} of {expected}");
        }
    }

    #[test]
    fn what_does_not_conform_takes_nothing_and_the_wait_it_is_told_suffices() {
        let (rate, mut bucket) = (Rate::new(3, 1), Bucket::default());
        assert!(rate.take(&mut bucket, 1, Mono(0)).is_ok());
        for _ in 0..100 {
            assert_eq!(rate.take(&mut bucket, 1, Mono(0)), Err(TooFast { wait_ms: 334 }));
        }
        assert!(rate.look(bucket, 1, Mono(333)).is_err());
        assert!(rate.look(bucket, 1, Mono(334)).is_ok());
        assert!(rate.take(&mut bucket, 1, Mono(334)).is_ok());
    }

    #[test]
    fn what_has_come_is_charged_as_a_debt() {
        let (rate, mut bucket) = (Rate::new(1_000, 1_000), Bucket::default());
        assert!(rate.charge(&mut bucket, 1_000, Mono(0)).is_ok());
        assert_eq!(rate.charge(&mut bucket, 64_000, Mono(0)), Err(TooFast { wait_ms: 64_000 }));
        assert_eq!(rate.look(bucket, 0, Mono(63_000)), Err(TooFast { wait_ms: 1_000 }));
        assert!(rate.look(bucket, 0, Mono(64_000)).is_ok());
    }

    #[test]
    fn no_rate_and_the_largest_numbers_overflow_nothing() {
        let mut bucket = Bucket::default();
        let late = Mono(8 * 365 * 86_400_000);
        assert!(Rate::new(0, 0).is_unlimited());
        assert!(Rate::UNLIMITED.charge(&mut bucket, u64::from(u32::MAX), late).is_ok());
        let slowest = Rate::new(1, u64::MAX);
        assert!(slowest.charge(&mut bucket, 16 << 20, late).is_ok());
        assert!(Rate::new(u64::MAX, u64::MAX).take(&mut Bucket::default(), 1 << 30, late).is_ok());
    }

    #[test]
    #[cfg_attr(miri, ignore = "it counts, and takes hours")]
    fn a_byte_rate_is_met_within_two_in_a_hundred() {
        for per_second in [200_000_u64, 1 << 20, 64 << 20, 1 << 30] {
            let (rate, mut bucket) = (Rate::new(per_second, per_second), Bucket::default());
            let mut bytes: u64 = 0;
            for now in (1_000..3_000).map(Mono) {
                while rate.take(&mut bucket, 1_000, now).is_ok() {
                    bytes += 1_000;
                }
            }
            let expected = 3 * per_second;
            assert!(bytes.abs_diff(expected) < expected / 50, "{bytes} of {expected}");
        }
    }
}
