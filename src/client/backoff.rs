//! When to try again.
//!
//! Owns how often in a row it failed, and how long to wait therefore. Pure: chance comes from a
//! seed. [`Core`](super::core::Core) asks.

use super::config::Config;
use super::core::us_of;

/// The wait before the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// How long, in microseconds.
    pub us: u64,
    /// So many tries have failed in a row.
    pub attempt: u32,
    /// It is the long wait behind the last of a series of tries.
    pub quiet: bool,
}

/// Waits that double up to a bound, with full jitter: each is anything from nothing to its bound,
/// so that the clients of a server that went down do not come back at the same instant.
#[derive(Debug)]
pub struct Backoff {
    first_us: u64,
    longest_us: u64,
    tries: u32,
    quiet_us: u64,
    failed: u32,
    chance: fastrand::Rng,
}

impl Backoff {
    /// As `config` says, with chance drawn from `seed`.
    pub fn new(config: &Config, seed: u64) -> Backoff {
        Backoff {
            first_us: us_of(config.backoff_first),
            longest_us: us_of(config.backoff_longest),
            tries: config.backoff_tries,
            quiet_us: us_of(config.quiet),
            failed: 0,
            chance: fastrand::Rng::with_seed(seed),
        }
    }

    /// A try failed.
    pub fn fail(&mut self) -> Wait {
        if self.failed >= self.tries {
            let attempt = self.failed + 1;
            self.failed = 0;
            return Wait { us: self.quiet_us, attempt, quiet: true };
        }
        let doubled = self.first_us.saturating_mul(1 << self.failed.min(32));
        self.failed += 1;
        let us = self.chance.u64(0..=doubled.min(self.longest_us));
        Wait { us, attempt: self.failed, quiet: false }
    }

    /// A try succeeded, or somebody asked not to wait.
    pub fn reset(&mut self) {
        self.failed = 0;
    }

    /// So many tries have failed in a row.
    pub fn failed(&self) -> u32 {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "it counts, and takes hours")]
    fn bounds_double_from_one_to_thirty_two_seconds_and_then_it_is_quiet() {
        let config = Config::new("a", "").unwrap();
        let mut longest = [0; 10];
        let mut shortest = [u64::MAX; 10];
        for seed in 0..2_000 {
            let mut backoff = Backoff::new(&config, seed);
            for n in 0..10 {
                let wait = backoff.fail();
                assert_eq!((wait.attempt, wait.quiet), (n as u32 + 1, false));
                longest[n] = longest[n].max(wait.us);
                shortest[n] = shortest[n].min(wait.us);
            }
            let quiet = backoff.fail();
            assert_eq!(quiet, Wait { us: 300_000_000, attempt: 11, quiet: true });
            assert_eq!(backoff.fail().attempt, 1, "the tries begin anew");
        }
        for (n, bound) in [1, 2, 4, 8, 16, 32, 32, 32, 32, 32].into_iter().enumerate() {
            let bound = bound * 1_000_000;
            assert!(longest[n] <= bound && longest[n] > bound / 100 * 99, "try {n}");
            assert!(shortest[n] < bound / 100, "full jitter reaches down to nothing");
        }
    }

    #[test]
    fn success_begins_anew() {
        let config = Config::new("a", "").unwrap();
        let mut backoff = Backoff::new(&config, 7);
        for _ in 0..9 {
            backoff.fail();
        }
        backoff.reset();
        assert!(backoff.fail().us <= 1_000_000);
        assert_eq!(backoff.failed(), 1);
    }
}
