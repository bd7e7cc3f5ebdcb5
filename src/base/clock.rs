//! The only place that reads time.
//!
//! Owns the origin of the monotonic scale. Never decides anything by the time it reads: a worker
//! reads it once a turn and hands the [`Now`] to its shard.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::time::{Mono, Now};

/// The process's clocks. Copies share one origin, so their readings compare across workers.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose monotonic scale starts here.
    pub fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Both clocks, read now.
    ///
    /// A wall clock set before 1970 reads as 1970: it is only ever shown, never counted with.
    pub fn now(&self) -> Now {
        self.now_and_us().0
    }

    /// Both clocks, and the monotonic one in microseconds too, to measure short times.
    pub fn now_and_us(&self) -> (Now, u64) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let elapsed = self.origin.elapsed();
        let mono = Mono(elapsed.as_millis() as u64);
        (Now { mono, wall_ms: wall.as_millis() as u64 }, elapsed.as_micros() as u64)
    }

    /// Microseconds since the scale's start.
    pub fn us(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }
}
