//! Whether the server still answers, and how quickly.
//!
//! Owns the ping under way, the smoothed round trip and the instant at which something is due.
//! Pure. Never writes a frame: [`Core`](super::core::Core) does what [`Beat`] says.

/// A timer that fires so much later than it was due was held back with the whole process, and
/// proves nothing about the server.
const LATE_US: u64 = 1_000_000;

/// What is to be done when the pulse is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing yet.
    Wait,
    /// Send a PING of this number.
    Ping(u32),
    /// Nothing was heard for too long.
    Dead,
}

/// A round trip, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// This one.
    pub sample_us: u64,
    /// The average, in which a new sample counts an eighth (RFC 6298 section 2).
    pub smoothed_us: u64,
}

/// The watch over one connection.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    every_us: u64,
    timeout_us: u64,
    seq: u32,
    sent_us: u64,
    /// Nothing was heard since the last ping.
    unheard: bool,
    /// The PONG of the last ping is still to come.
    awaiting: bool,
    due_us: u64,
    forgiven: bool,
    smoothed_us: Option<u64>,
}

impl Pulse {
    /// A watch that pings `every_us` and waits `timeout_us` for anything.
    pub fn new(every_us: u64, timeout_us: u64) -> Pulse {
        Pulse {
            every_us,
            timeout_us,
            seq: 0,
            sent_us: 0,
            unheard: false,
            awaiting: false,
            due_us: 0,
            forgiven: false,
            smoothed_us: None,
        }
    }

    /// When something is due.
    pub fn due_us(&self) -> u64 {
        self.due_us
    }

    /// The smoothed round trip; none before the first PONG.
    pub fn smoothed_us(&self) -> Option<u64> {
        self.smoothed_us
    }

    /// What is to be done at `now_us`.
    pub fn beat(&mut self, now_us: u64) -> Beat {
        if now_us < self.due_us {
            return Beat::Wait;
        }
        if self.unheard {
            if !self.forgiven && now_us > self.due_us.saturating_add(LATE_US) {
                // The answer may lie in the socket, behind this very timer.
                self.forgiven = true;
                self.due_us = now_us + LATE_US;
                return Beat::Wait;
            }
            return Beat::Dead;
        }
        self.seq = self.seq.wrapping_add(1);
        (self.unheard, self.awaiting, self.forgiven) = (true, true, false);
        self.sent_us = now_us;
        self.due_us = now_us.saturating_add(self.timeout_us);
        Beat::Ping(self.seq)
    }

    /// Anything came.
    pub fn heard(&mut self) {
        self.unheard = false;
    }

    /// Nothing can be heard by our own doing; that is not held against the server.
    pub fn pause(&mut self, now_us: u64) {
        self.due_us = self.due_us.max(now_us.saturating_add(self.timeout_us));
    }

    /// Ask at once whether it is still there.
    pub fn hurry(&mut self, now_us: u64) {
        if !self.awaiting {
            self.due_us = now_us;
        }
    }

    /// The PONG of ping `seq` came.
    pub fn pong(&mut self, now_us: u64, seq: u32) -> Option<RoundTrip> {
        if !self.awaiting || seq != self.seq {
            return None;
        }
        self.awaiting = false;
        self.due_us = now_us.saturating_add(self.every_us);
        let sample_us = now_us.saturating_sub(self.sent_us);
        let before = self.smoothed_us.unwrap_or(sample_us);
        let smoothed_us = before - before / 8 + sample_us / 8;
        let smoothed_us = if self.smoothed_us.is_none() { sample_us } else { smoothed_us };
        self.smoothed_us = Some(smoothed_us);
        Some(RoundTrip { sample_us, smoothed_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    #[test]
    fn a_server_that_answers_lives_and_its_round_trips_are_smoothed() {
        let mut pulse = Pulse::new(10 * S, 10 * S);
        assert_eq!(pulse.beat(0), Beat::Ping(1));
        assert_eq!(pulse.pong(80_000, 2), None, "nobody asked");
        let first = pulse.pong(80_000, 1).unwrap();
        assert_eq!(first, RoundTrip { sample_us: 80_000, smoothed_us: 80_000 });
        pulse.heard();
        assert_eq!(pulse.pong(90_000, 1), None, "once");
        assert_eq!(pulse.beat(10 * S), Beat::Wait);
        assert_eq!(pulse.beat(10 * S + 80_000), Beat::Ping(2));
        let second = pulse.pong(10 * S + 240_000, 2).unwrap();
        assert_eq!(second, RoundTrip { sample_us: 160_000, smoothed_us: 90_000 });
    }

    #[test]
    fn silence_behind_a_ping_is_death_and_any_word_is_life() {
        let mut pulse = Pulse::new(10 * S, 10 * S);
        assert_eq!(pulse.beat(0), Beat::Ping(1));
        pulse.heard();
        assert_eq!(pulse.beat(10 * S), Beat::Ping(2), "no PONG, but something else");
        assert_eq!(pulse.beat(20 * S), Beat::Dead);
    }

    #[test]
    fn a_process_that_slept_looks_once_more() {
        let mut pulse = Pulse::new(10 * S, 10 * S);
        assert_eq!(pulse.beat(0), Beat::Ping(1));
        assert_eq!(pulse.beat(500 * S), Beat::Wait);
        assert_eq!(pulse.beat(501 * S), Beat::Dead);
        let mut woken = Pulse::new(10 * S, 10 * S);
        assert_eq!(woken.beat(0), Beat::Ping(1));
        assert_eq!(woken.beat(500 * S), Beat::Wait);
        woken.heard();
        assert_eq!(woken.beat(501 * S), Beat::Ping(2));
    }
}
