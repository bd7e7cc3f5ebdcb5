//! Closes as the log tells them: one line for each kind and second.
//!
//! Owns how many connections ended for which reason since that reason was last told, and one of
//! them as an example. Never logs by itself. Each worker gathers a [`CloseTally`], the steward puts
//! them together in a [`CloseLog`] and writes what it says is due.

use std::fmt;

use log::Level;

use super::close_record::CloseRecord;
use crate::base::counters::CloseReason;
use crate::base::time::Mono;

/// A reason is told at most once in so many milliseconds.
pub const CLOSE_LOG_PERIOD_MS: u64 = 1_000;

/// Connections that ended for one reason.
#[derive(Clone, Debug)]
pub struct CloseGroup {
    count: u64,
    /// The first of them.
    example: CloseRecord,
}

impl CloseGroup {
    /// How loudly it is told: what ends connections every day is no warning, and HTTP clients that
    /// got what they asked for were not dropped at all.
    pub fn level(&self) -> Level {
        match self.example.reason() {
            CloseReason::Served | CloseReason::HttpIdle => Level::Debug,
            CloseReason::Bye
            | CloseReason::PeerClosed
            | CloseReason::Reset
            | CloseReason::Unacknowledged
            | CloseReason::HeartbeatTimeout
            | CloseReason::HandshakeTimeout
            | CloseReason::FrameTimeout
            | CloseReason::TextIdle
            | CloseReason::Draining
            | CloseReason::Cut
            | CloseReason::Superseded => Level::Info,
            CloseReason::SocketError
            | CloseReason::Malformed
            | CloseReason::TooLarge
            | CloseReason::SlowReader
            | CloseReason::StalledReader
            | CloseReason::WorkerPanicked
            | CloseReason::OverLimit
            | CloseReason::Overloaded
            | CloseReason::UnservedDialect
            | CloseReason::Refused => Level::Warn,
        }
    }
}

impl fmt::Display for CloseGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.example.reason().name();
        match self.count {
            1 => write!(f, "1 connection closed: {reason}: {}", self.example),
            count => write!(f, "{count} connections closed: {reason}, such as {}", self.example),
        }
    }
}

/// What ended since somebody was last told: one group for each reason.
#[derive(Clone, Debug, Default)]
pub struct CloseTally {
    groups: Vec<CloseGroup>,
}

impl CloseTally {
    /// Counts one more.
    pub fn count(&mut self, record: &CloseRecord) {
        match self.of(record.reason()) {
            Some(group) => group.count += 1,
            None => self.groups.push(CloseGroup { count: 1, example: record.clone() }),
        }
    }

    /// Whether nothing ended.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    fn of(&mut self, reason: CloseReason) -> Option<&mut CloseGroup> {
        self.groups.iter_mut().find(|group| group.example.reason() == reason)
    }

    fn add(&mut self, other: CloseTally) {
        for group in other.groups {
            match self.of(group.example.reason()) {
                Some(mine) => mine.count += group.count,
                None => self.groups.push(group),
            }
        }
    }
}

/// What is to be told, and when what was told last.
#[derive(Debug, Default)]
pub struct CloseLog {
    untold: CloseTally,
    told_at: [Option<Mono>; CloseReason::ALL.len()],
}

impl CloseLog {
    /// Takes in what ended.
    pub fn add(&mut self, tally: CloseTally) {
        self.untold.add(tally);
    }

    /// The next line that is due. Call until `None`.
    pub fn poll(&mut self, now: Mono) -> Option<CloseGroup> {
        let due = |group: &CloseGroup| self.due_at(group) <= now;
        let index = self.untold.groups.iter().position(due)?;
        let group = self.untold.groups.remove(index);
        self.told_at[group.example.reason() as usize] = Some(now);
        Some(group)
    }

    /// When [`CloseLog::poll`] has something to tell; `None` where nothing waits.
    pub fn deadline(&self) -> Option<Mono> {
        self.untold.groups.iter().map(|group| self.due_at(group)).min()
    }

    /// All that waits, due or not: nothing will follow.
    pub fn drain(&mut self) -> Vec<CloseGroup> {
        std::mem::take(&mut self.untold.groups)
    }

    fn due_at(&self, group: &CloseGroup) -> Mono {
        let told = self.told_at[group.example.reason() as usize];
        told.map_or(Mono(0), |at| at + CLOSE_LOG_PERIOD_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::super::close_record::samples::record;
    use super::*;

    fn tally(closes: &[(CloseReason, &str)]) -> CloseTally {
        let mut tally = CloseTally::default();
        for (reason, user) in closes {
            tally.count(&record(*reason, user));
        }
        tally
    }

    fn told(log: &mut CloseLog, now: u64) -> Vec<String> {
        let lines = std::iter::from_fn(|| log.poll(Mono(now))).map(|group| group.to_string());
        // The numbers of the example are the record's business.
        lines.map(|line| line.split(" at ").next().unwrap().to_owned()).collect()
    }

    #[test]
    fn each_reason_has_one_line_a_second_with_its_count_and_its_first_as_example() {
        use CloseReason::{Bye, Reset};
        let mut log = CloseLog::default();
        assert_eq!(log.deadline(), None);
        log.add(tally(&[(Bye, "ann")]));
        assert_eq!(log.deadline(), Some(Mono(0)), "the first is told at once");
        assert_eq!(told(&mut log, 5_000), ["1 connection closed: bye: ann"]);
        log.add(tally(&[(Bye, "bob"), (Bye, "cid"), (Reset, "dan")]));
        log.add(tally(&[(Bye, "eve"), (Reset, "fay")]));
        assert_eq!(told(&mut log, 5_001), ["2 connections closed: reset, such as dan"]);
        assert_eq!(log.deadline(), Some(Mono(6_000)));
        assert_eq!(told(&mut log, 5_999), [] as [&str; 0]);
        assert_eq!(told(&mut log, 6_000), ["3 connections closed: bye, such as bob"]);
        assert_eq!(log.deadline(), None);
        log.add(tally(&[(Bye, "gus")]));
        assert_eq!(log.drain().len(), 1, "at the end nothing is kept back");
        assert_eq!(log.deadline(), None);
    }

    #[test]
    fn what_is_no_drop_is_quiet_and_what_somebody_can_mend_is_loud() {
        let level = |reason| tally(&[(reason, "ann")]).groups[0].level();
        assert_eq!(level(CloseReason::Served), Level::Debug);
        assert_eq!(level(CloseReason::HeartbeatTimeout), Level::Info);
        assert_eq!(level(CloseReason::SlowReader), Level::Warn);
    }
}
