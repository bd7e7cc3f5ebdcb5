//! One timing wheel for all connections of a core.
//!
//! Owns what happens when a connection's timer fires. Life touches no timer: it is a store to the
//! connection, and the timer finds out.

use corebeat::base::ids::ConnId;
use corebeat::base::time::Mono;
use corebeat::chat::heartbeat::{Beat, Tempo, beat};
use corebeat::wire::message::Code;

use super::common::dialect::Dialect;
use super::connection::State;
use super::core::Core;

impl Core {
    /// Phase: all that is due.
    pub(super) fn expire(&mut self) {
        self.expire_homes();
        while let Some((tick, conn)) = self.wheel.pop_due(self.now.mono.tick()) {
            if self.connections.get(conn).is_some_and(|connection| connection.armed == tick) {
                self.fire(conn);
            }
        }
    }

    /// Arms a connection's timer for `at`. One armed before becomes stale.
    pub(super) fn arm_at(&mut self, conn: ConnId, at: Mono) {
        self.wheel.advance(self.now.mono.tick());
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.armed = self.wheel.arm(conn, at.tick_at_or_after());
        }
    }

    /// Looks at a connection somewhere within its first interval: a herd that came at once
    /// is spread.
    pub(super) fn arm_first_look(&mut self, conn: ConnId) {
        let now = self.now.mono;
        if let Some(tempo) = self.connections.get(conn).map(|connection| connection.tempo) {
            self.arm_between(conn, now + tempo.earliest_ping_ms(), now + tempo.interval_ms());
        }
    }

    fn arm_between(&mut self, conn: ConnId, from: Mono, to: Mono) {
        self.wheel.advance(self.now.mono.tick());
        let dice = self.dice.u64(..);
        if let Some(connection) = self.connections.get_mut(conn) {
            let (from, to) = (from.tick_at_or_after(), to.tick_at_or_after());
            connection.armed = self.wheel.arm_levelled(conn, from, to.max(from), dice);
        }
    }

    fn fire(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn) else {
            return;
        };
        let silent_ms = self.now.mono.since_low_ms(connection.heard);
        let tempo = connection.tempo;
        let limits = &self.service.limits;
        match connection.state {
            State::Closing => self.doom(conn),
            _ if connection.marks.ended => self.close(conn),
            State::Live(Dialect::Text) => {
                let (most, text) = (limits.text_idle_timeout_ms, "nothing was typed for too long");
                self.wait_or_close(conn, silent_ms, most, text);
            }
            State::Live(_) => self.heartbeat(conn, silent_ms, tempo),
            _ => {
                let (most, text) = (limits.handshake_timeout_ms, "the hello came too late");
                self.wait_or_close(conn, silent_ms, most, text);
            }
        }
    }

    fn wait_or_close(&mut self, conn: ConnId, silent_ms: u64, most_ms: u64, text: &str) {
        match most_ms.checked_sub(silent_ms) {
            None | Some(0) => self.time_out(conn, text),
            Some(left_ms) => self.arm_at(conn, self.now.mono + left_ms),
        }
    }

    fn time_out(&mut self, conn: ConnId, text: &str) {
        self.fail_with(conn, Code::Timeout, text);
    }

    fn heartbeat(&mut self, conn: ConnId, silent_ms: u64, tempo: Tempo) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        match beat(tempo, silent_ms, connection.probes) {
            Beat::Wait { from_ms, to_ms } => {
                let heard_at = self.now.mono - silent_ms;
                self.arm_between(conn, heard_at + from_ms, heard_at + to_ms);
            }
            Beat::Ping { again_in_ms } => {
                connection.probes += 1;
                self.pings = self.pings.wrapping_add(1);
                let ping = self.service.ping(self.pings, self.now);
                self.tell(conn, &ping, true);
                self.arm_at(conn, self.now.mono + again_in_ms);
            }
            Beat::Hold { again_in_ms } => self.arm_at(conn, self.now.mono + again_in_ms),
            Beat::GiveUp if connection.marks.paused => self.close_slow_reader(conn),
            Beat::GiveUp => self.time_out(conn, "heartbeat timeout"),
        }
    }
}
