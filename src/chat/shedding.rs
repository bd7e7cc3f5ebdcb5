//! What is left out under pressure, and who is let in all the same.
//!
//! Owns what a shard was told of its worker's [`Pressure`], the refusal of hellos that begin
//! sessions, and that of questions which can wait. Never sheds a message that was accepted, and
//! never measures: the shell does. Called by the greeting ([`requests`](super::requests)), by the
//! homes and by HTTP.
//!
//! Whoever comes back to a session that lives is let in however strained the worker is: its rooms,
//! its messages and its place are here already, and refusing it costs more than serving it.

use crate::base::counters::CloseReason;
use crate::base::ids::{ConnId, Ref};
use crate::base::limits::{
    REFUSED_RECONNECT_AFTER_MS, SHED_RETRY_AFTER_MS, STATS_PERIOD_STRAINED_MS,
};
use crate::base::pressure::{Level, Pressure, Readings};
use crate::base::time::{Mono, Now};
use crate::wire::message::Code;

use super::shard::Shard;

/// What a home answers under pressure to the question who is in a room.
pub(super) const NO_ROSTERS: &str = "overloaded: no rosters; try again later";

/// What a shard knows of the pressure that its worker is under.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strain {
    /// The levels.
    pub pressure: Pressure,
    /// Whether any of them is above calm. Every heartbeat asks.
    pub is_felt: bool,
    /// What they were judged by.
    pub readings: Readings,
    /// Some worker of the server is overloaded, this one or another.
    pub somewhere: bool,
    /// When the numbers of all workers may be gathered again.
    stats_from: Mono,
}

impl Shard {
    /// The pressure that the worker is under from now on, and what it was judged by.
    pub fn note_pressure(&mut self, pressure: Pressure, readings: Readings) {
        let pauses = pressure.pauses_accepting();
        if pauses && !self.strain.pressure.pauses_accepting() {
            self.counters.overload_pauses += 1;
        }
        self.counters.strained_now = u64::from(pressure.level() >= Level::Strained);
        self.counters.overloaded_now = u64::from(pauses);
        self.strain.is_felt = pressure.level() > Level::Calm;
        (self.strain.pressure, self.strain.readings) = (pressure, readings);
    }

    /// Whether any worker of the server is overloaded: clients had better go elsewhere.
    pub fn note_overload_somewhere(&mut self, is_so: bool) {
        self.strain.somewhere = is_so;
    }

    /// So many times the kernel had nothing to accept a connection with, and so many were closed
    /// for that.
    pub fn note_accept_failures(&mut self, failures: u64, closed: u64) {
        self.counters.accept_failures += failures;
        self.counters.accept_closed += closed;
    }

    /// Refuses a connection that would begin a session, if the worker is under pressure.
    pub(super) fn refuses_newcomer(&mut self, conn: ConnId, now: Now) -> bool {
        if !self.strain.pressure.refuses_newcomers() {
            return false;
        }
        self.counters.overload_refused += 1;
        let (earliest, latest) = REFUSED_RECONNECT_AFTER_MS;
        let after_ms = self.dice.u32(earliest..=latest);
        let text = format!("overloaded: no new sessions; try again in {after_ms} ms");
        let reason = CloseReason::Overloaded;
        self.refuse_hello(conn, (Code::Unavailable, reason), &text, Some(after_ms), now);
        true
    }

    /// Refuses to tell who is in a room, if the worker is overloaded.
    pub(super) fn refuses_roster(&mut self, conn: ConnId, reference: Ref, now: Now) -> bool {
        if !self.strain.pressure.refuses_rosters() {
            return false;
        }
        self.counters.shed_rosters += 1;
        let (earliest, latest) = SHED_RETRY_AFTER_MS;
        let after_ms = self.dice.u32(earliest..=latest);
        let text = format!("overloaded: no rosters; try again in {after_ms} ms");
        self.refuse(conn, reference, Code::Unavailable, &text, now);
        true
    }

    /// How long the numbers of all workers are not gathered yet, in milliseconds; none where
    /// they are, after which it takes longer until the next time.
    pub(super) fn withholds_statistics(&mut self, now: Now) -> Option<u64> {
        if !self.strain.pressure.thins_statistics() {
            return None;
        }
        let wait_ms = self.strain.stats_from.since_ms(now.mono);
        if wait_ms == 0 {
            self.strain.stats_from = now.mono + STATS_PERIOD_STRAINED_MS;
            return None;
        }
        self.counters.shed_statistics += 1;
        Some(wait_ms)
    }
}
