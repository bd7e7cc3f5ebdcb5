//! When to ping and when to give a peer up.
//!
//! Owns the decision, as functions of plain numbers. Never arms a timer or sends a byte: the shard
//! asks [`beat`] when a connection's timer fires, and does what it says.
//!
//! The schedule for interval I and timeout T, with g = (T − I) / 4:
//!
//! ```text
//! silence   0 ······ 7/8 I ─ I ──── I+g ──── I+2g ─────────────── T
//!                     └ ping ┘      probe    probe              close
//! ```
//!
//! A ping may go out up to an eighth of the interval early, so that the wheel can choose an emptier
//! slot; that keeps connections that were opened in one instant from ever pinging in one instant.
//! The last two quarters are left for the answer to travel: a lost segment is sent again after
//! some hundred milliseconds at first, and then twice as late each time.

/// The heartbeat rule of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatPolicy {
    /// A connection silent for so long is pinged.
    pub interval_s: u16,
    /// A connection silent for so long is closed.
    pub timeout_s: u16,
    /// Shortest interval that a client may wish for.
    pub shortest_s: u16,
    /// Longest interval that a client may wish for.
    pub longest_s: u16,
    /// How many times the granted interval a stable connection's may become; 1 leaves all as they
    /// were granted.
    pub stretch: u16,
}

impl HeartbeatPolicy {
    /// The heartbeat of a connection whose HELLO wished for `wish_s` (0 = the server's).
    ///
    /// The timeout keeps the server's proportion to the interval, rounded up.
    pub fn grant(&self, wish_s: u16) -> Tempo {
        if wish_s == 0 {
            return Tempo { heartbeat_s: self.interval_s, timeout_s: self.timeout_s };
        }
        let (shortest, longest) = self.allowed_s();
        self.tempo(wish_s.clamp(shortest, longest))
    }

    /// The shortest and the longest interval that a connection may have.
    pub fn allowed_s(&self) -> (u16, u16) {
        (self.shortest_s.min(self.interval_s), self.longest_s.max(self.interval_s))
    }

    /// The heartbeat with this interval.
    pub fn tempo(&self, heartbeat_s: u16) -> Tempo {
        let timeout = (u32::from(heartbeat_s) * u32::from(self.timeout_s))
            .div_ceil(u32::from(self.interval_s));
        let timeout_s = u16::try_from(timeout).unwrap_or(u16::MAX).max(heartbeat_s + 1);
        Tempo { heartbeat_s, timeout_s }
    }
}

impl Default for HeartbeatPolicy {
    fn default() -> HeartbeatPolicy {
        HeartbeatPolicy { interval_s: 30, timeout_s: 90, shortest_s: 5, longest_s: 600, stretch: 1 }
    }
}

/// The heartbeat of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tempo {
    /// Pinged when silent for so long.
    pub heartbeat_s: u16,
    /// Closed when silent for so long.
    pub timeout_s: u16,
}

impl Tempo {
    /// The interval in milliseconds.
    pub fn interval_ms(self) -> u64 {
        u64::from(self.heartbeat_s) * 1_000
    }

    /// The timeout in milliseconds.
    pub fn timeout_ms(self) -> u64 {
        u64::from(self.timeout_s) * 1_000
    }

    /// Silence after which a ping may go out: an eighth of the interval before it is due.
    pub fn earliest_ping_ms(self) -> u64 {
        self.interval_ms() - self.interval_ms() / 8
    }

    /// Time between one unanswered probe and the next.
    pub fn probe_gap_ms(self) -> u64 {
        (self.timeout_ms() - self.interval_ms()) / 4
    }
}

/// Pings that a silent connection gets before it is closed.
pub const PROBES: u8 = 3;

/// What a connection's timer should do when it fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// It was heard in between: look again when it may have been silent for long enough, between
    /// these two ages of its silence.
    Wait {
        /// Silence at which a ping may go out.
        from_ms: u64,
        /// Silence at which it must.
        to_ms: u64,
    },
    /// Send a PING, and look again after so many milliseconds.
    Ping {
        /// Until the next look.
        again_in_ms: u64,
    },
    /// Every probe is out: look again at the timeout, so many milliseconds from now.
    Hold {
        /// Until the timeout.
        again_in_ms: u64,
    },
    /// It was silent for the whole timeout and answered none of the probes.
    GiveUp,
}

/// Decides for a connection that was silent for `silent_ms` and has been sent `probes` pings in
/// this silence.
///
/// No connection is given up before [`PROBES`] pings, a gap apart, went unanswered: timers that ran
/// late lengthen the schedule, they never shorten it.
pub fn beat(tempo: Tempo, silent_ms: u64, probes: u8) -> Beat {
    if probes == 0 && silent_ms < tempo.earliest_ping_ms() {
        return Beat::Wait { from_ms: tempo.earliest_ping_ms(), to_ms: tempo.interval_ms() };
    }
    if probes < PROBES {
        return Beat::Ping { again_in_ms: tempo.probe_gap_ms() };
    }
    match tempo.timeout_ms().checked_sub(silent_ms) {
        None | Some(0) => Beat::GiveUp,
        Some(again_in_ms) => Beat::Hold { again_in_ms },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDARD: Tempo = Tempo { heartbeat_s: 30, timeout_s: 90 };

    #[test]
    fn a_silent_peer_is_pinged_three_times_and_given_up_at_the_timeout() {
        let mut silent_ms = 30_000;
        let mut pings_at = Vec::new();
        for probes in 0..PROBES {
            let Beat::Ping { again_in_ms } = beat(STANDARD, silent_ms, probes) else {
                panic!("no ping at {silent_ms}");
            };
            pings_at.push(silent_ms);
            silent_ms += again_in_ms;
        }
        assert_eq!(pings_at, [30_000, 45_000, 60_000]);
        assert_eq!(beat(STANDARD, silent_ms, PROBES), Beat::Hold { again_in_ms: 15_000 });
        assert_eq!(beat(STANDARD, 89_999, PROBES), Beat::Hold { again_in_ms: 1 });
        assert_eq!(beat(STANDARD, 90_000, PROBES), Beat::GiveUp);
    }

    #[test]
    fn a_peer_that_was_heard_is_left_alone() {
        let wait = Beat::Wait { from_ms: 26_250, to_ms: 30_000 };
        assert_eq!(beat(STANDARD, 0, 0), wait);
        assert_eq!(beat(STANDARD, 26_249, 0), wait);
        assert!(matches!(beat(STANDARD, 26_250, 0), Beat::Ping { .. }));
    }

    #[test]
    fn a_timer_that_comes_far_too_late_still_probes_before_it_gives_up() {
        for probes in 0..PROBES {
            assert!(matches!(beat(STANDARD, 3_600_000, probes), Beat::Ping { .. }));
        }
    }

    #[test]
    fn wishes_are_granted_within_the_bounds_and_in_proportion() {
        let policy = HeartbeatPolicy::default();
        assert_eq!(policy.grant(0), STANDARD);
        assert_eq!(policy.grant(60), Tempo { heartbeat_s: 60, timeout_s: 180 });
        assert_eq!(policy.grant(1), Tempo { heartbeat_s: 5, timeout_s: 15 });
        assert_eq!(policy.grant(u16::MAX), Tempo { heartbeat_s: 600, timeout_s: 1_800 });
        let quick = HeartbeatPolicy { interval_s: 1, timeout_s: 3, ..policy };
        assert_eq!(quick.grant(1), Tempo { heartbeat_s: 1, timeout_s: 3 });
    }

    #[test]
    fn a_timeout_of_hours_saturates() {
        let slow = HeartbeatPolicy { interval_s: 30, timeout_s: 60_000, ..Default::default() };
        assert_eq!(slow.grant(600).timeout_s, u16::MAX);
    }
}
